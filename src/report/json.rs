//! The same facts as the text, as JSON. The first key is `format`; additions keep its number.

use serde::Serialize;
use serde_json::{Value, json};

use super::redact;
use crate::{
    apply::HostApplied,
    facts::Facts,
    plan::{self, HostPlan},
    report::applied::Closing,
};

/// The format of the result of an apply.
pub const APPLY_FORMAT: &str = "vprov.apply/1";
/// The format of facts.
pub const FACTS_FORMAT: &str = "vprov.facts/1";
/// The format of what `validate` found.
pub const VALIDATE_FORMAT: &str = "vprov.validate/1";

#[derive(Serialize)]
struct PlanDocument<'a> {
    format: &'static str,
    vprov: &'static str,
    hosts: &'a [HostPlan],
}

/// Writes plans. Secrets are replaced unless they were asked for.
#[must_use]
pub fn plan(plans: &[HostPlan], show_sensitive: bool) -> String {
    let redacted: Vec<HostPlan>;
    let hosts = if show_sensitive {
        plans
    } else {
        redacted = plans.iter().cloned().map(redact::host).collect();
        &redacted
    };
    pretty(&PlanDocument { format: plan::FORMAT, vprov: env!("CARGO_PKG_VERSION"), hosts })
}

/// Writes the result of an apply. Secrets are replaced unless they were asked for.
#[must_use]
pub fn applied(results: &[HostApplied], closing: &Closing, show_sensitive: bool) -> String {
    let redacted: Vec<HostApplied>;
    let hosts = if show_sensitive {
        results
    } else {
        redacted = results.iter().cloned().map(redact::applied).collect();
        &redacted
    };
    let mut document = json!({ "format": APPLY_FORMAT, "vprov": env!("CARGO_PKG_VERSION"), "hosts": hosts });
    if let Some(run) = &closing.run {
        document["run"] = json!(run);
    }
    if closing.before > 0 {
        document["ended_before"] = json!(closing.before);
    }
    if let Some(stopped) = &closing.stopped {
        document["rollout"] = json!(stopped);
        document["rollout"]["left"] = json!(closing.left);
    }
    pretty(&document)
}

/// Writes facts, or why there are none, by host.
#[must_use]
pub fn facts(results: &[(String, Result<Facts, String>)]) -> String {
    let hosts: Vec<Value> = results
        .iter()
        .map(|(host, result)| match result {
            Ok(facts) => json!({ "host": host, "facts": facts }),
            Err(error) => json!({ "host": host, "error": error }),
        })
        .collect();
    pretty(&json!({ "format": FACTS_FORMAT, "vprov": env!("CARGO_PKG_VERSION"), "hosts": hosts }))
}

/// Writes any value that is plain data.
#[must_use]
pub fn pretty(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("reports are plain data with text keys");
    text.push('\n');
    text
}
