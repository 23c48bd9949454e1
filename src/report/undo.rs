//! What taking runs back would do and what came of it, as text and JSON.

use serde::Serialize;
use serde_json::json;

use super::{
    applied::put_taken_back,
    diff,
    text::{Look, Tone, count, shown, wrap},
};
use crate::{
    config::fold,
    host::{
        bytes::Bytes,
        read::Answer,
        run::RolledBack,
        undo::{UndoAct, UndoPlan, UndoStep},
    },
    plan::FileChange,
};

/// The format of a rollback.
pub const FORMAT: &str = "vprov.rollback/1";

/// What is told of one host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostUndo {
    /// The host's name in the inventory.
    pub host: String,
    /// What would be done.
    pub plan: Option<UndoPlan>,
    /// What came of it.
    pub result: UndoResult,
}

/// What came of a rollback on one host.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum UndoResult {
    /// There is nothing to take back.
    Nothing {
        /// Why.
        why: String,
    },
    /// Nothing was done yet.
    Planned,
    /// The run was taken back, as far as it could be.
    Done(RolledBack),
    /// Somebody changed something since the run; nothing was done.
    Changed {
        /// What.
        what: Vec<String>,
    },
    /// The host moved since the preview; nothing was done.
    Moved,
    /// Another run holds the host's lock; nothing was done.
    Locked {
        /// Who, and since when.
        holder: String,
    },
    /// vprov was told to stop before this host's turn; nothing was done.
    NotStarted,
    /// It could not be done.
    Failed {
        /// Why.
        error: String,
    },
    /// The host was not reached, or was lost.
    Unreachable {
        /// Why.
        error: String,
    },
}

/// Writes what taking runs back would do; hosts of which the same is told are shown as one.
#[must_use]
pub fn preview(hosts: &[HostUndo], look: Look) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = vec![];
    for host in hosts {
        let body = body(host, look);
        match groups.iter_mut().find(|(text, _)| *text == body) {
            Some((_, names)) => names.push(&host.host),
            None => groups.push((body, vec![&host.host])),
        }
    }
    let mut out = String::new();
    for (body, names) in groups {
        look.put(&mut out, Tone::Heading, &shown(&fold::fold(names.iter().copied()).join(",")));
        out.push_str(&format!("\n{body}\n"));
    }
    out
}

/// Writes what came of it: what could not be taken back, then a line for each host.
#[must_use]
pub fn recap(hosts: &[HostUndo], look: Look) -> String {
    let mut out = String::new();
    for host in hosts {
        if let UndoResult::Done(done) = &host.result {
            let mut details = String::new();
            put_taken_back(&mut details, look, done);
            if !details.is_empty() {
                look.put(&mut out, Tone::Heading, &shown(&host.host));
                out.push_str(&format!("\n{details}\n"));
            }
        }
    }
    let width = hosts.iter().map(|host| host.host.chars().count()).max().unwrap_or(0);
    for host in hosts {
        let (word, tone, text) = line(host);
        out.push_str(&format!("{:<width$}  ", shown(&host.host)));
        look.put(&mut out, tone, &format!("{word:<11}"));
        out.push_str(&format!(" {}\n", shown(text.lines().next().unwrap_or_default())));
    }
    out
}

/// Writes everything as JSON. Contents of files that are not world-readable are replaced unless they were asked for.
#[must_use]
pub fn json(hosts: &[HostUndo], show_sensitive: bool) -> String {
    let mut hosts = hosts.to_vec();
    let steps = hosts.iter_mut().filter_map(|host| host.plan.as_mut()).flat_map(|plan| &mut plan.steps);
    for step in steps.filter(|_| !show_sensitive) {
        redact(step);
    }
    super::json::pretty(&json!({ "format": FORMAT, "vprov": env!("CARGO_PKG_VERSION"), "hosts": hosts }))
}

fn redact(step: &mut UndoStep) {
    match &mut step.act {
        UndoAct::Path { now, then, .. } if step.sensitive || is_closed(now) || is_closed(then) => {
            for answer in [now, then] {
                if let Answer::File { content, digest, .. } = answer {
                    *content = content.take().map(|_| Bytes::from("(sensitive)"));
                    *digest = None;
                }
            }
        }
        UndoAct::Value { now, then, .. } if step.sensitive => {
            *now = now.take().map(|_| "(sensitive)".into());
            *then = "(sensitive)".into();
        }
        UndoAct::Run { argv } if step.sensitive && argv.len() > 1 => {
            argv.truncate(1);
            argv.push("(sensitive)".into());
        }
        _ => {}
    }
}

fn line(host: &HostUndo) -> (&'static str, Tone, String) {
    match &host.result {
        UndoResult::Nothing { why } => ("unchanged", Tone::Faint, why.clone()),
        UndoResult::Planned => ("planned", Tone::Plain, String::new()),
        UndoResult::Done(done) => {
            let run = host.plan.as_ref().map(|plan| format!("run {}", plan.run)).unwrap_or_default();
            let own = done.run.as_ref().map(|own| format!(" by run {own}")).unwrap_or_default();
            let mut text = format!("{run} taken back{own}, {} undone", done.undone.len());
            if !done.left.is_empty() {
                text.push_str(&format!(", {} left", done.left.len()));
            }
            match (done.interrupted, done.left.is_empty()) {
                (true, _) => ("interrupted", Tone::Bad, text),
                (_, true) => ("done", Tone::Good, text),
                (_, false) => ("incomplete", Tone::Bad, text),
            }
        }
        UndoResult::Changed { what } => {
            let text =
                format!("{} changed since the run; untouched; --force takes that back too", count(what.len(), "thing"));
            ("refused", Tone::Bad, text)
        }
        UndoResult::Moved => ("stale", Tone::Bad, "the host moved since the preview; untouched".into()),
        UndoResult::Locked { holder } => ("locked", Tone::Bad, format!("by {holder}; untouched")),
        UndoResult::NotStarted => ("not started", Tone::Notice, "stopped before its turn; untouched".into()),
        UndoResult::Failed { error } => ("failed", Tone::Bad, error.clone()),
        UndoResult::Unreachable { error } => ("unreachable", Tone::Bad, error.clone()),
    }
}

fn body(host: &HostUndo, look: Look) -> String {
    let mut out = String::new();
    match (&host.plan, &host.result) {
        (Some(plan), _) => {
            out.push_str(&format!("  takes back the run {} by {}\n", plan.run, shown(&plan.by)));
            for step in plan.deeds() {
                put_step(&mut out, look, step);
            }
            if plan.deeds().next().is_none() {
                out.push_str("  everything is as it was before that run\n");
            }
        }
        (None, UndoResult::Nothing { why }) => out.push_str(&format!("  {}\n", shown(why))),
        (None, UndoResult::Unreachable { error } | UndoResult::Failed { error }) => {
            out.push_str("  ");
            look.put(&mut out, Tone::Bad, &format!("! {}", shown(error)));
            out.push('\n');
        }
        (None, _) => {}
    }
    out
}

fn put_step(out: &mut String, look: Look, step: &UndoStep) {
    let hidden = step.sensitive && !look.show_sensitive;
    let (sign, word, tone, what) = match &step.act {
        UndoAct::Path { path, then: Answer::Absent, .. } => ("-", "remove", Tone::Bad, path.to_string()),
        UndoAct::Path { path, now: Answer::Absent, .. } => ("+", "restore", Tone::Good, path.to_string()),
        UndoAct::Path { path, .. } => ("~", "restore", Tone::Notice, path.to_string()),
        UndoAct::Value { path, .. } if hidden => ("~", "write", Tone::Notice, format!("{path} (sensitive, not shown)")),
        UndoAct::Value { path, now, then } => {
            let now = now.as_deref().unwrap_or("(not readable)");
            ("~", "write", Tone::Notice, format!("{path}: {now} → {then}"))
        }
        UndoAct::Run { argv } if hidden => {
            let program = argv.first().map_or("", String::as_str);
            (">", "run", Tone::Notice, format!("{program} (arguments not shown)"))
        }
        UndoAct::Run { argv } => (">", "run", Tone::Notice, argv.join(" ")),
        UndoAct::Generate { path, by } => {
            let by = by.first().map(|by| format!(" by {by}")).unwrap_or_default();
            ("*", "generate", Tone::Notice, format!("{path}{by}"))
        }
        UndoAct::Impossible { action, reason } => ("!", "stays", Tone::Bad, format!("{action}: {reason}")),
    };
    out.push_str("  ");
    look.put(out, tone, &format!("{sign} {word:<8}"));
    out.push_str(&format!(" {}", shown(&what)));
    if let Some(address) = &step.address {
        look.put(out, Tone::Faint, &format!("  ({})", shown(&address.to_string())));
    }
    out.push('\n');
    if let UndoAct::Path { path, now, then } = &step.act {
        let (before, after) = (attributes(now), attributes(then));
        if let (Some(before), Some(after)) = (&before, &after)
            && before != after
        {
            out.push_str(&format!("      {} → {}\n", shown(before), shown(after)));
        }
        let is_cut = |answer: &Answer| matches!(answer, Answer::File { content: None, .. });
        if is_cut(now) || is_cut(then) {
            out.push_str("      too long to be shown\n");
        } else {
            let content = |answer: &Answer| answer.content().cloned();
            let change = FileChange { path: path.clone(), before: content(now), after: content(then), withheld: None };
            diff::put(out, look, "      ", &change, step.sensitive || is_closed(now) || is_closed(then));
        }
    }
    if let Some(words) = &step.changed {
        for line in wrap(&shown(&format!("changed since: {words}")), 74) {
            out.push_str("      ");
            look.put(out, Tone::Bad, &line);
            out.push('\n');
        }
    }
}

/// Says what a thing is beside its content.
fn attributes(answer: &Answer) -> Option<String> {
    match answer {
        Answer::File { meta, .. } => Some(format!("file, mode {:04o}, owner {}:{}", meta.mode, meta.uid, meta.gid)),
        Answer::Directory { meta, .. } => {
            Some(format!("directory, mode {:04o}, owner {}:{}", meta.mode, meta.uid, meta.gid))
        }
        Answer::Link { target, .. } => Some(format!("link to {target}")),
        _ => None,
    }
}

/// Tells whether a file is not readable for everybody.
fn is_closed(answer: &Answer) -> bool {
    matches!(answer, Answer::File { meta, .. } if meta.mode & 0o004 == 0)
}
