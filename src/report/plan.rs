//! A plan as text: hosts that read the same are shown once, what needs nothing is not shown.

use serde_json::Value;

use super::{
    diff,
    group::{self, Group},
    summary::Summary,
    text::{Look, Tone, columns, count, shown, wrap},
};
use crate::{
    host::{op::Op, run::utc, state::Unfinished},
    plan::{
        Change, Counts, HostPlan, HostResult, ResourcePlan, Verdict,
        file::PlanFile,
        is_metadata,
        orphans::{Orphan, Standing},
    },
    resource::{Disruption, Remark, state::Action},
};

/// How wide text below a resource is, behind its indentation of six: diffs alone are wider than 80 columns.
const WIDTH: usize = 74;

/// So many rows of values that differ between hosts of one entry are shown.
const ROWS: usize = 20;

/// Writes the plans of a fleet, hosts with the same plan (but for a few values) as one, and a summary.
#[must_use]
pub fn plan(plans: &[HostPlan], look: Look) -> String {
    let mut out = String::new();
    for group in group::groups(plans, look) {
        let body = body(&group.shown, look);
        if body.is_empty() && !look.verbose {
            continue;
        }
        look.put(&mut out, Tone::Heading, &shown(&group.name()));
        let n = group.members.len();
        match group.columns.len() {
            0 if n == 1 => {}
            0 => look.put(&mut out, Tone::Faint, &format!("  ({n} hosts with the same plan)")),
            values => {
                let words = format!("  ({n} hosts with the same plan but for {})", count(values, "value"));
                look.put(&mut out, Tone::Faint, &words);
            }
        }
        if let HostResult::Planned(planned) = &group.shown.result {
            let counts = host_counts(planned.counts());
            if !counts.is_empty() {
                look.put(&mut out, Tone::Faint, &format!("  {counts}"));
            }
        }
        out.push('\n');
        out.push_str(&body);
        put_values(&mut out, look, &group);
        out.push('\n');
    }
    summary(&mut out, &Summary::of(plans), look);
    out
}

/// Writes which host has which of the values that differ.
fn put_values(out: &mut String, look: Look, group: &Group<'_>) {
    for column in group.columns.iter().filter(|column| group.names_itself(column)) {
        note(out, look, &format!("{} is the name of the host", column.mark));
    }
    let rows = group.rows();
    if rows.is_empty() {
        return;
    }
    let marks = group.columns.iter().filter(|column| !group.names_itself(column)).map(|column| column.mark.clone());
    let mut table: Vec<Vec<String>> = vec![["hosts".to_owned()].into_iter().chain(marks).collect()];
    let shown_rows = if look.verbose { rows.len() } else { ROWS };
    for (hosts, values) in rows.iter().take(shown_rows) {
        let values =
            values.iter().map(|value| if value.is_empty() { "(nothing)".into() } else { shown(value).into_owned() });
        table.push([shown(hosts).into_owned()].into_iter().chain(values).collect());
    }
    for (at, line) in columns(&table).iter().enumerate() {
        out.push_str("  ");
        look.put(out, if at == 0 { Tone::Faint } else { Tone::Plain }, line);
        out.push('\n');
    }
    if rows.len() > shown_rows {
        note(out, look, &format!("and {} more; --verbose shows all", rows.len() - shown_rows));
    }
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
    detail(out, look, Tone::Plain, standing(orphan));
}

/// Says how a thing stands that was declared once and is no more.
#[must_use]
pub fn standing(orphan: &Orphan) -> &str {
    match &orphan.standing {
        Standing::Untouched => "declared once and no more; `--prune` brings back what was there before",
        Standing::AsBefore => "declared once and no more, and as it was before; `--prune` forgets it",
        Standing::Changed => "declared once and no more, but changed since vprov wrote it; it stays as it is",
        Standing::Unknown { reason } => reason,
    }
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

/// Returns sign, word and tone of what becomes of a resource.
#[must_use]
pub fn resource_words(resource: &ResourcePlan) -> (&'static str, &'static str, Tone) {
    match &resource.verdict {
        Verdict::Change(change) => sign(change.action),
        Verdict::Deferred { .. } => ("…", "later", Tone::Notice),
        Verdict::Unknown { .. } => ("?", "unknown", Tone::Notice),
        Verdict::Failed { .. } => ("!", "failed", Tone::Bad),
        Verdict::Blocked { .. } => ("!", "blocked", Tone::Bad),
        Verdict::Unsupported { .. } => ("=", "unsupported", Tone::Faint),
        Verdict::Converged => ("=", "as declared", Tone::Faint),
    }
}

fn put_resource(out: &mut String, look: Look, resource: &ResourcePlan) {
    if matches!(resource.verdict, Verdict::Converged) && resource.remarks.is_empty() && !look.verbose {
        return;
    }
    let (sign, word, tone) = resource_words(resource);
    out.push_str("  ");
    look.put(out, tone, &format!("{sign} {word:<8}"));
    out.push_str(&format!(" {}", shown(&resource.address.to_string())));
    out.push('\n');
    if let Verdict::Change(change) = &resource.verdict {
        put_fields(out, &fields(resource, change, look));
        for file in &change.files {
            diff::put(out, look, "      ", file, resource.sensitive);
        }
    }
    for (tone, text) in notes(resource, look) {
        detail(out, look, tone, &text);
    }
    put_remarks(out, look, &resource.remarks);
}

/// Returns what is to be said of a resource beside its fields, files and remarks.
#[must_use]
pub fn notes(resource: &ResourcePlan, look: Look) -> Vec<(Tone, String)> {
    let mut notes: Vec<(Tone, String)> = vec![];
    match &resource.verdict {
        Verdict::Change(change) => change_notes(&mut notes, look, resource, change),
        Verdict::Unknown { reason } | Verdict::Failed { reason, .. } | Verdict::Unsupported { reason } => {
            notes.push((Tone::Plain, reason.clone()));
        }
        Verdict::Blocked { by } => notes.push((Tone::Plain, format!("because {by} failed"))),
        Verdict::Deferred { because, may } => {
            notes.push((Tone::Plain, format!("decided once {because} is there; at most:")));
            notes.extend(may.iter().map(|operation| (Tone::Faint, format!("  {operation}"))));
        }
        Verdict::Converged => {}
    }
    if !resource.from_facts.is_empty() && matches!(resource.verdict, Verdict::Change(_)) {
        let names: Vec<&str> = resource.from_facts.iter().map(String::as_str).collect();
        notes.push((Tone::Faint, format!("computed from facts: {}", names.join(", "))));
    }
    if !resource.restores.is_empty() {
        let things: Vec<&str> = resource.restores.iter().map(String::as_str).collect();
        notes.push((Tone::Plain, format!("declared no more, so it is as before again: {}", things.join(", "))));
    }
    for over in &resource.overridden {
        notes.push((Tone::Faint, format!("{}: the {} overrides the {}", over.what, over.by, over.over)));
    }
    notes
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

/// Returns names and values of what changes and stands in no file that is shown.
#[must_use]
pub fn fields(resource: &ResourcePlan, change: &Change, look: Look) -> Vec<[String; 2]> {
    let hidden = resource.sensitive && !look.show_sensitive;
    let told = change.fields.iter().filter(|field| look.verbose || change.files.is_empty() || !field.in_file);
    told.map(|field| {
        let hidden = hidden && !is_metadata(&field.name);
        let value = |value: &Value| if hidden && !value.is_null() { "(sensitive)".into() } else { scalar(value) };
        let change = match (&field.before, &field.after) {
            (Value::Null, after) => value(after),
            (before, after) => format!("{} → {}", value(before), value(after)),
        };
        [shown(&field.name).into_owned(), shown(&change).into_owned()]
    })
    .collect()
}

fn change_notes(notes: &mut Vec<(Tone, String)>, look: Look, resource: &ResourcePlan, change: &Change) {
    let hidden = resource.sensitive && !look.show_sensitive;
    if look.verbose {
        notes.extend(change.steps.iter().map(|step| (Tone::Faint, format!("step: {}", describe(&step.op, hidden)))));
    } else {
        let runs = change.steps.iter().filter(|step| matches!(step.op, Op::Run { .. }));
        notes.extend(runs.map(|step| (Tone::Faint, describe(&step.op, hidden))));
    }
    if !change.because.is_empty() {
        notes.push((Tone::Faint, format!("because of {}", change.because.join(", "))));
    }
    match change.disturbs {
        Disruption::Nothing => {}
        Disruption::Service => notes.push((Tone::Faint, "disturbs: a service of the host".into())),
        Disruption::Guests => {
            notes.push((Tone::Notice, "disturbs: guests feel this; needs --allow guest-visible".into()));
        }
    }
    if change.connection {
        let text =
            "may cut the connection: over SSH it is confirmed over a new one, else the host takes it back by itself";
        notes.push((Tone::Notice, text.into()));
    }
    if !change.reversible {
        notes.push((Tone::Notice, "cannot be rolled back".into()));
    }
}

fn describe(op: &Op, hidden: bool) -> String {
    if hidden { op.describe_hidden() } else { op.describe() }
}

/// Writes names and values, long values broken at spaces.
fn put_fields(out: &mut String, rows: &[[String; 2]]) {
    let width = rows.iter().map(|[name, _]| name.chars().count()).max().unwrap_or(0) + 2;
    for [name, value] in rows {
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
                    .map(|(name, value)| [format!("  {name}"), shown(value).into_owned()]);
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

/// Writes the numbers of one host's plan.
#[must_use]
pub fn host_counts(counts: Counts) -> String {
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

fn summary(out: &mut String, summary: &Summary, look: Look) {
    match summary.changes() {
        None => look.put(out, Tone::Good, "No changes."),
        Some(changes) => {
            look.put(out, Tone::Heading, "Plan:");
            out.push_str(&format!(" {changes}."));
        }
    }
    let rest = summary.rest();
    if !rest.is_empty() {
        out.push_str(&format!(" {rest}."));
    }
    out.push('\n');
}
