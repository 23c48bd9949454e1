//! The same facts as the text, as JSON. The first key is `format`; additions keep its number.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    apply::HostApplied,
    facts::Facts,
    host::{
        bytes::Bytes,
        matcher::Matcher,
        op::{Op, Undo},
    },
    plan::{self, Change, HostPlan, HostResult, Verdict},
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
        redacted = plans.iter().cloned().map(redact).collect();
        &redacted
    };
    pretty(&PlanDocument { format: plan::FORMAT, vprov: env!("CARGO_PKG_VERSION"), hosts })
}

/// Writes the result of an apply.
#[must_use]
pub fn applied(results: &[HostApplied], closing: &Closing) -> String {
    let mut document = json!({ "format": APPLY_FORMAT, "vprov": env!("CARGO_PKG_VERSION"), "hosts": results });
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

fn redact(mut plan: HostPlan) -> HostPlan {
    if let HostResult::Planned(planned) = &mut plan.result {
        for resource in planned.resources.iter_mut().filter(|resource| resource.sensitive) {
            if let Verdict::Change(change) = &mut resource.verdict {
                redact_change(change);
            }
        }
    }
    plan
}

fn hide_arguments(argv: &mut Vec<String>) {
    if argv.len() > 1 {
        argv.truncate(1);
        argv.push("(sensitive)".into());
    }
}

fn redact_change(change: &mut Change) {
    let hide = |value: &mut Value| {
        if !value.is_null() {
            *value = "(sensitive)".into();
        }
    };
    for field in change.fields.iter_mut().filter(|field| !plan::is_metadata(&field.name)) {
        hide(&mut field.before);
        hide(&mut field.after);
    }
    let hidden = || Bytes::from("(sensitive)");
    for file in &mut change.files {
        file.before = file.before.take().map(|_| hidden());
        file.after = file.after.take().map(|_| hidden());
    }
    for step in &mut change.steps {
        match &mut step.op {
            Op::Write { content, .. } | Op::Stage { source: crate::host::op::Source::Content(content), .. } => {
                *content = hidden();
            }
            Op::Poke { value, .. } => *value = "(sensitive)".into(),
            Op::Run { command, undo, .. } => {
                hide_arguments(&mut command.argv);
                if let Undo::Run(command) | Undo::RunWhile { command, .. } = undo {
                    hide_arguments(&mut command.argv);
                }
            }
            _ => {}
        }
        // A matcher over a value would tell it as well as the value itself.
        let tells = |matcher: &Matcher| {
            let kept = matches!(
                matcher,
                Matcher::Absent
                    | Matcher::Present
                    | Matcher::File { .. }
                    | Matcher::Link { .. }
                    | Matcher::Directory { .. }
            );
            !kept
        };
        step.guards.retain(|guard| !tells(&guard.matcher));
        step.after.retain(|after| !tells(&after.matcher));
    }
}
