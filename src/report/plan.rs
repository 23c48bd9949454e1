//! A plan as text: hosts that read the same are shown once, what needs nothing is not shown.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    diff, redact,
    text::{Look, Tone, count, shown, wrap},
};
use crate::{
    config::fold,
    host::{
        op::Op,
        run::{NOT_SHOWN, utc},
        state::Unfinished,
    },
    plan::{
        Change, Counts, HostPlan, HostResult, Planned, ResourcePlan, Verdict,
        file::PlanFile,
        is_metadata,
        orphans::{Orphan, Standing},
    },
    resource::{Disruption, Remark, state::Action},
};

/// How wide text below a resource is, behind its indentation of six: diffs alone are wider than 80 columns.
const WIDTH: usize = 74;

/// Writes the plans of a fleet, hosts with the same plan as one, and a summary.
#[must_use]
pub fn plan(plans: &[HostPlan], look: Look) -> String {
    let mut groups: BTreeMap<String, (usize, Vec<&HostPlan>)> = BTreeMap::new();
    for (at, plan) in plans.iter().enumerate() {
        groups.entry(body(plan, look)).or_insert_with(|| (at, vec![])).1.push(plan);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, (at, _))| *at);
    let mut out = String::new();
    for (body, (_, members)) in groups {
        let quiet = body.is_empty() && !look.verbose;
        if quiet {
            continue;
        }
        let names: Vec<&str> = members.iter().map(|plan| plan.host.as_str()).collect();
        look.put(&mut out, Tone::Heading, &shown(&fold::fold(names.iter().copied()).join(",")));
        if names.len() > 1 {
            look.put(&mut out, Tone::Faint, &format!("  ({} hosts with the same plan)", names.len()));
        }
        if let Some(HostResult::Planned(planned)) = members.first().map(|plan| &plan.result) {
            let counts = host_counts(planned.counts());
            if !counts.is_empty() {
                look.put(&mut out, Tone::Faint, &format!("  {counts}"));
            }
        }
        out.push('\n');
        out.push_str(&body);
        out.push('\n');
    }
    summary(&mut out, plans, look);
    out
}

/// Says in a line where a saved plan comes from.
#[must_use]
pub fn origin(file: &PlanFile) -> String {
    let about = &file.about;
    let at = utc(i64::try_from(about.at).unwrap_or(i64::MAX));
    let from = match about.sources.as_slice() {
        [] => String::new(),
        [only] => format!(", from {}", shown(&only.name)),
        [first, others @ ..] => format!(", from {} and {}", shown(&first.name), count(others.len(), "other file")),
    };
    format!("Plan of {at} by {}, vprov {}{from}\n", shown(&about.by), shown(&file.vprov))
}

/// Writes what is shown below the name of a host.
fn body(plan: &HostPlan, look: Look) -> String {
    let mut out = String::new();
    match &plan.result {
        HostResult::Planned(planned) => {
            if let Some(left) = &planned.interrupted {
                put_interrupted(&mut out, look, left);
            }
            for resource in &planned.resources {
                put_resource(&mut out, look, resource);
            }
            for orphan in &planned.orphaned {
                put_orphan(&mut out, look, orphan);
            }
            if let Some(place) = &planned.uploaded {
                note(&mut out, look, &format!("the executor was uploaded to {place} for this plan"));
            }
            if !planned.probes.is_empty() && look.verbose {
                note(&mut out, look, &format!("ran while planning, read-only: {}", planned.probes.join("; ")));
            }
        }
        HostResult::Unreachable { error } => put_failure(&mut out, look, "unreachable", error),
        HostResult::Failed { error } => put_failure(&mut out, look, "failed", error),
    }
    out
}

fn put_interrupted(out: &mut String, look: Look, left: &Unfinished) {
    out.push_str("  ");
    look.put(
        out,
        Tone::Notice,
        &shown(&format!("! interrupted: run {} by {}, begun {}", left.run, left.by, utc(left.at))),
    );
    out.push('\n');
    let text = format!(
        "it did not come to its end, or goes on still; what it did stays, what is left is part of this plan, and \
         `vprov rollback --run {}` takes it back",
        left.run
    );
    detail(out, look, Tone::Plain, &text);
}

fn put_orphan(out: &mut String, look: Look, orphan: &Orphan) {
    out.push_str("  ");
    look.put(out, Tone::Notice, "o orphaned");
    out.push_str(&format!(" {}\n", shown(&orphan.address.to_string())));
    let text = match &orphan.standing {
        Standing::Untouched => "declared once and no more; `--prune` brings back what was there before",
        Standing::AsBefore => "declared once and no more, and as it was before; `--prune` forgets it",
        Standing::Changed => "declared once and no more, but changed since vprov wrote it; it stays as it is",
        Standing::Unknown { reason } => reason,
    };
    detail(out, look, Tone::Plain, text);
}

fn note(out: &mut String, look: Look, text: &str) {
    for line in wrap(&shown(text), 76) {
        out.push_str("  ");
        look.put(out, Tone::Faint, &line);
        out.push('\n');
    }
}

fn put_failure(out: &mut String, look: Look, word: &str, error: &str) {
    out.push_str("  ");
    look.put(out, Tone::Bad, &format!("! {word}"));
    out.push('\n');
    put_error(out, error);
}

/// Writes an error: words are broken at spaces, an excerpt of a file stays as it is.
pub fn put_error(out: &mut String, error: &str) {
    let is_excerpt = error.lines().count() > 1;
    for line in error.lines() {
        let lines = if is_excerpt { vec![shown(line).into_owned()] } else { wrap(&shown(line), WIDTH) };
        for line in lines {
            out.push_str(format!("      {line}").trim_end());
            out.push('\n');
        }
    }
}

fn put_resource(out: &mut String, look: Look, resource: &ResourcePlan) {
    let (sign, word, tone) = match &resource.verdict {
        Verdict::Change(change) => sign(change.action),
        Verdict::Deferred { .. } => ("…", "later", Tone::Notice),
        Verdict::Unknown { .. } => ("?", "unknown", Tone::Notice),
        Verdict::Failed { .. } => ("!", "failed", Tone::Bad),
        Verdict::Blocked { .. } => ("!", "blocked", Tone::Bad),
        Verdict::Unsupported { .. } => ("=", "unsupported", Tone::Faint),
        Verdict::Converged if resource.remarks.is_empty() && !look.verbose => return,
        Verdict::Converged => ("=", "as declared", Tone::Faint),
    };
    out.push_str("  ");
    look.put(out, tone, &format!("{sign} {word:<8}"));
    out.push_str(&format!(" {}", shown(&resource.address.to_string())));
    out.push('\n');
    let hidden = resource.sensitive && !look.show_sensitive;
    match &resource.verdict {
        Verdict::Change(change) => put_change(out, look, resource, change),
        Verdict::Failed { .. } if hidden => detail(out, look, Tone::Plain, NOT_SHOWN),
        Verdict::Unknown { reason } | Verdict::Failed { reason, .. } | Verdict::Unsupported { reason } => {
            detail(out, look, Tone::Plain, reason);
        }
        Verdict::Blocked { by } => detail(out, look, Tone::Plain, &format!("because {by} failed")),
        Verdict::Deferred { because, may } => {
            detail(out, look, Tone::Plain, &format!("decided once {because} is there; at most:"));
            for operation in may {
                let operation = if hidden { &redact::operation(operation) } else { operation };
                detail(out, look, Tone::Faint, &format!("  {operation}"));
            }
        }
        Verdict::Converged => {}
    }
    if !resource.from_facts.is_empty() && matches!(resource.verdict, Verdict::Change(_)) {
        let names: Vec<&str> = resource.from_facts.iter().map(String::as_str).collect();
        detail(out, look, Tone::Faint, &format!("computed from facts: {}", names.join(", ")));
    }
    if !resource.restores.is_empty() {
        let things: Vec<&str> = resource.restores.iter().map(String::as_str).collect();
        detail(out, look, Tone::Plain, &format!("declared no more, so it is as before again: {}", things.join(", ")));
    }
    for over in &resource.overridden {
        detail(out, look, Tone::Faint, &format!("{}: the {} overrides the {}", over.what, over.by, over.over));
    }
    if hidden {
        let mut remarks = resource.remarks.clone();
        remarks.iter_mut().for_each(redact::remark);
        put_remarks(out, look, &remarks);
    } else {
        put_remarks(out, look, &resource.remarks);
    }
}

/// Returns sign, word and tone of an action: a colour never carries meaning alone.
#[must_use]
pub fn sign(action: Action) -> (&'static str, &'static str, Tone) {
    match action {
        Action::Create => ("+", "create", Tone::Good),
        Action::Update => ("~", "change", Tone::Notice),
        Action::Delete => ("-", "remove", Tone::Bad),
        Action::Refresh => ("*", "refresh", Tone::Notice),
        Action::Run => (">", "run", Tone::Notice),
        Action::Forget => ("-", "forget", Tone::Faint),
    }
}

fn put_change(out: &mut String, look: Look, resource: &ResourcePlan, change: &Change) {
    let hidden = resource.sensitive && !look.show_sensitive;
    let rows: Vec<Vec<String>> = change
        .fields
        .iter()
        .filter(|field| look.verbose || change.files.is_empty() || !field.in_file)
        .map(|field| {
            let hidden = hidden && !is_metadata(&field.name);
            let value = |value: &Value| if hidden && !value.is_null() { "(sensitive)".into() } else { scalar(value) };
            let change = match (&field.before, &field.after) {
                (Value::Null, after) => value(after),
                (before, after) => format!("{} → {}", value(before), value(after)),
            };
            vec![shown(&field.name).into_owned(), shown(&change).into_owned()]
        })
        .collect();
    put_fields(out, &rows);
    for file in &change.files {
        diff::put(out, look, "      ", file, resource.sensitive);
    }
    let runs = change.steps.iter().filter(|step| matches!(step.op, Op::Run { .. }));
    for step in change.steps.iter().filter(|_| look.verbose) {
        detail(out, look, Tone::Faint, &format!("step: {}", describe(&step.op, hidden)));
    }
    if !look.verbose {
        for step in runs {
            detail(out, look, Tone::Faint, &describe(&step.op, hidden));
        }
    }
    if !change.because.is_empty() {
        detail(out, look, Tone::Faint, &format!("because of {}", change.because.join(", ")));
    }
    match change.disturbs {
        Disruption::Nothing => {}
        Disruption::Service => detail(out, look, Tone::Faint, "disturbs: a service of the host"),
        Disruption::Guests => {
            detail(out, look, Tone::Notice, "disturbs: guests feel this; needs --allow guest-visible")
        }
    }
    if change.connection {
        let text =
            "may cut the connection: over SSH it is confirmed over a new one, else the host takes it back by itself";
        detail(out, look, Tone::Notice, text);
    }
    if !change.reversible {
        detail(out, look, Tone::Notice, "cannot be rolled back");
    }
}

fn describe(op: &Op, hidden: bool) -> String {
    if hidden { op.describe_hidden() } else { op.describe() }
}

/// Writes names and values, long values broken at spaces.
fn put_fields(out: &mut String, rows: &[Vec<String>]) {
    let width = rows.iter().filter_map(|row| row.first()).map(|name| name.chars().count()).max().unwrap_or(0) + 2;
    for row in rows {
        let [name, value] = row.as_slice() else { continue };
        for (at, line) in wrap(value, WIDTH.saturating_sub(width).max(24)).iter().enumerate() {
            let name = if at == 0 { name.as_str() } else { "" };
            out.push_str(format!("      {name:<width$}{line}").trim_end());
            out.push('\n');
        }
    }
}

/// Writes remarks, each with a word that says what it is.
pub fn put_remarks(out: &mut String, look: Look, remarks: &[Remark]) {
    for remark in remarks {
        match remark {
            Remark::Warning { text, help } => {
                detail(out, look, Tone::Notice, &format!("warning: {text}"));
                if let Some(help) = help {
                    detail(out, look, Tone::Plain, &format!("help: {help}"));
                }
            }
            Remark::Reboot { attribute, desired, configured, running } => {
                detail(out, look, Tone::Notice, &format!("reboot pending: {attribute}"));
                let rows = [("desired", desired), ("configured", configured), ("running", running)]
                    .map(|(name, value)| vec![format!("  {name}"), shown(value).into_owned()]);
                put_fields(out, &rows);
            }
            Remark::Short { attribute, desired, running } => {
                let text = format!(
                    "short: {attribute} is {running} of {desired}; not tried again before the next boot or --retry-short"
                );
                detail(out, look, Tone::Notice, &text);
            }
        }
    }
}

fn detail(out: &mut String, look: Look, tone: Tone, text: &str) {
    for paragraph in text.lines() {
        for line in wrap(&shown(paragraph), WIDTH) {
            detail_line(out, look, tone, &line);
        }
    }
}

fn detail_line(out: &mut String, look: Look, tone: Tone, line: &str) {
    out.push_str("      ");
    look.put(out, tone, line);
    out.push('\n');
}

/// Writes a value of a state in one line.
fn scalar(value: &Value) -> String {
    let text = match value {
        Value::Null => "(none)".into(),
        Value::Array(items) if items.is_empty() => "(none)".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    match text.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

fn host_counts(counts: Counts) -> String {
    let parts = [
        (counts.changes, "change", "changes"),
        (counts.deferred, "decided later", "decided later"),
        (counts.failed, "failed", "failed"),
        (counts.blocked, "blocked", "blocked"),
        (counts.unknown, "unknown", "unknown"),
        (counts.reboot, "reboot pending", "reboots pending"),
        (counts.short, "short", "short"),
        (counts.warnings, "with a warning", "with warnings"),
        (counts.orphaned, "orphaned", "orphaned"),
    ];
    let words =
        parts.iter().filter(|(n, ..)| *n > 0).map(|(n, one, many)| format!("{n} {}", if *n == 1 { one } else { many }));
    words.collect::<Vec<_>>().join(", ")
}

fn summary(out: &mut String, plans: &[HostPlan], look: Look) {
    let planned: Vec<&Planned> = plans
        .iter()
        .filter_map(|plan| match &plan.result {
            HostResult::Planned(planned) => Some(planned),
            _ => None,
        })
        .collect();
    let mut actions: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, change) in planned.iter().flat_map(|planned| planned.changes()) {
        *actions.entry(sign(change.action).1).or_default() += 1;
    }
    let counts: Vec<Counts> = planned.iter().map(|planned| planned.counts()).collect();
    let hosts = |wanted: fn(&Counts) -> bool| counts.iter().filter(|counts| wanted(counts)).count();
    let changed = hosts(|counts| counts.changes > 0);
    let mut parts = vec![];
    if changed == 0 {
        look.put(out, Tone::Good, "No changes.");
    } else {
        look.put(out, Tone::Heading, "Plan:");
        let words: Vec<String> = ["create", "change", "remove", "refresh", "run", "forget"]
            .iter()
            .filter_map(|word| actions.get(word).map(|n| format!("{n} to {word}")))
            .collect();
        out.push_str(&format!(" {} on {}.", words.join(", "), count(changed, "host")));
    }
    let clean = hosts(|counts| counts.changes + counts.failed + counts.unknown + counts.blocked == 0);
    if clean > 0 {
        parts.push(format!("{} as declared", count(clean, "host")));
    }
    for (n, word) in [
        (hosts(|counts| counts.reboot > 0), "waiting for a reboot"),
        (hosts(|counts| counts.unknown > 0), "not fully readable (needs root)"),
        (hosts(|counts| counts.orphaned > 0), "with what is declared no more"),
        (hosts(|counts| counts.failed > 0), "with failures"),
        (plans.iter().filter(|plan| matches!(plan.result, HostResult::Failed { .. })).count(), "failed"),
        (plans.iter().filter(|plan| matches!(plan.result, HostResult::Unreachable { .. })).count(), "unreachable"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    if !parts.is_empty() {
        out.push_str(&format!(" {}.", parts.join(", ")));
    }
    out.push('\n');
}
