//! The runs that hosts remember, as text and JSON.

use serde_json::{Value, json};

use super::text::{Look, Tone, count, shown};
use crate::host::{
    HostError,
    history::{PastRun, Told},
    journal::Ending,
    run::utc,
};

/// The format of histories.
pub const FORMAT: &str = "vprov.history/1";

/// What a host remembers.
pub type HostHistory = (String, Result<Vec<PastRun>, HostError>);

/// Writes the histories of hosts, newest run first.
#[must_use]
pub fn history(results: &[HostHistory], look: Look) -> String {
    let mut out = String::new();
    for (host, result) in results {
        look.put(&mut out, Tone::Heading, &shown(host));
        out.push('\n');
        match result {
            Ok(runs) if runs.is_empty() => out.push_str("  no run is remembered\n"),
            Ok(runs) => runs.iter().for_each(|run| put_run(&mut out, look, run)),
            Err(error) => {
                out.push_str("  ");
                look.put(&mut out, Tone::Bad, &format!("! {}", shown(&error.to_string())));
                out.push('\n');
            }
        }
        out.push('\n');
    }
    out
}

/// Writes the histories of hosts as JSON.
#[must_use]
pub fn json(results: &[HostHistory]) -> String {
    let hosts: Vec<Value> = results
        .iter()
        .map(|(host, result)| match result {
            Ok(runs) => json!({ "host": host, "runs": runs.iter().map(run_json).collect::<Vec<_>>() }),
            Err(error) => json!({ "host": host, "error": error.to_string() }),
        })
        .collect();
    super::json::pretty(&json!({ "format": FORMAT, "vprov": env!("CARGO_PKG_VERSION"), "hosts": hosts }))
}

fn run_json(run: &PastRun) -> Value {
    let mut document = json!({ "run": run.run, "taken_back_by": run.taken_back_by, "open": run.open });
    let told = match &run.told {
        Ok(told) => json!({
            "by": told.by,
            "began": told.began.0,
            "ended": told.ended.map(|(time, _)| time),
            "ending": told.ended.map(|(_, ending)| ending),
            "takes_back": told.takes_back,
            "operations": told.operations,
        }),
        Err(error) => json!({ "error": error }),
    };
    if let (Value::Object(document), Value::Object(told)) = (&mut document, told) {
        document.extend(told);
    }
    document
}

fn put_run(out: &mut String, look: Look, run: &PastRun) {
    out.push_str("  ");
    look.put(out, Tone::Place, run.run.as_str());
    let told = match &run.told {
        Ok(told) => told,
        Err(words) => {
            out.push_str("  ");
            look.put(out, Tone::Bad, &shown(words));
            out.push('\n');
            return;
        }
    };
    let (word, tone) = ending(run, told);
    out.push_str(&format!("  {}  {}  ", utc(told.began.0), shown(&told.by)));
    look.put(out, tone, &word);
    out.push('\n');
    if let Some(earlier) = &told.takes_back {
        out.push_str(&format!("      takes back {earlier}\n"));
    }
    if look.verbose {
        for operation in &told.operations {
            let about = operation.address.as_ref().map(|address| format!("{address}: ")).unwrap_or_default();
            let behind = match (&operation.error, operation.in_doubt) {
                (Some(error), _) => format!("  failed: {error}"),
                (None, true) => "  (nobody saw its end)".into(),
                (None, false) => String::new(),
            };
            out.push_str(&format!("      {}\n", shown(&format!("{about}{}{behind}", operation.action))));
        }
    } else {
        let addresses = run.addresses();
        for address in addresses.iter().take(20) {
            out.push_str(&format!("      {}\n", shown(&address.to_string())));
        }
        if addresses.len() > 20 {
            out.push_str(&format!("      and {}\n", count(addresses.len() - 20, "resource")));
        }
    }
}

fn ending(run: &PastRun, told: &Told) -> (String, Tone) {
    if let Some(by) = &run.taken_back_by {
        return (format!("rolled back by {by}"), Tone::Faint);
    }
    match told.ended {
        Some((_, Ending::Done)) => ("done".into(), Tone::Good),
        Some((_, Ending::Failed)) => ("failed".into(), Tone::Bad),
        Some((_, Ending::Interrupted)) => ("interrupted".into(), Tone::Bad),
        None if run.open => ("did not come to its end, or goes on".into(), Tone::Notice),
        None => ("interrupted".into(), Tone::Bad),
    }
}
