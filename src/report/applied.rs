//! What came of an apply, as text.

use super::{
    plan::{put_error, put_remarks},
    redact,
    text::{Look, Tone, count, shown},
};
use crate::{
    apply::{ApplyResult, Confirmation, HostApplied, Ran, ResourceRemark, TakenBack},
    config::fold,
    host::run::{Moved, Outcome, RolledBack, RunId, utc},
    rollout::Stopped,
};

/// What is told of a whole rollout beside its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The name of the run, where a record of it is kept.
    pub run: Option<RunId>,
    /// How many hosts had ended before, in a rollout that was gone on with.
    pub before: usize,
    /// How many hosts have had no turn.
    pub left: usize,
    /// How many failed.
    pub failed: usize,
    /// Why hosts are left.
    pub stopped: Option<Stopped>,
}

impl Closing {
    /// Tells whether there is more to say than what came of the hosts.
    #[must_use]
    pub fn is_worth_telling(&self) -> bool {
        self.stopped.is_some() || self.before > 0
    }
}

/// Writes what came of an apply: details of what did not go well, then a line for each host.
#[must_use]
pub fn applied(results: &[HostApplied], closing: &Closing, look: Look) -> String {
    let mut out = String::new();
    let mut groups: Vec<(String, Vec<&str>)> = vec![];
    for result in results {
        let details = details(look, result);
        match groups.iter_mut().find(|(text, _)| *text == details) {
            Some((_, hosts)) => hosts.push(&result.host),
            None => groups.push((details, vec![&result.host])),
        }
    }
    for (details, hosts) in groups.iter().filter(|(details, _)| !details.is_empty()) {
        look.put(&mut out, Tone::Heading, &shown(&fold::fold(hosts.iter().copied()).join(",")));
        out.push_str(&format!("\n{details}\n"));
    }
    let results: Vec<&HostApplied> = results.iter().filter(|result| look.verbose || is_worth_telling(result)).collect();
    let width = results.iter().map(|result| result.host.chars().count()).max().unwrap_or(0);
    for result in results {
        let (word, tone, text) = recap_of(result);
        out.push_str(&format!("{:<width$}  ", shown(&result.host)));
        look.put(&mut out, tone, &format!("{word:<11}"));
        out.push_str(&format!(" {}\n", shown(&text)));
    }
    put_closing(&mut out, look, closing);
    out
}

/// Says in one line what came of a host.
#[must_use]
pub fn words(result: &HostApplied) -> String {
    let (word, _, text) = recap_of(result);
    format!("{word}: {text}")
}

fn put_closing(out: &mut String, look: Look, closing: &Closing) {
    if closing.before > 0 {
        out.push_str(&format!("\n{} ended before and had no further turn.\n", count(closing.before, "host")));
    }
    if let Some(why) = &closing.stopped {
        let why = match why {
            Stopped::Canary { host } => format!("the canary {host} failed"),
            Stopped::Failures { failed, allowed } => format!("{} failed and {allowed} may", count(*failed, "host")),
            Stopped::Asked => "as you wished".into(),
            Stopped::Record { error } => format!("the record of the run cannot be written: {error}"),
        };
        out.push('\n');
        look.put(out, Tone::Bad, "stopped");
        out.push_str(&format!(": {}; {} had no turn.\n", shown(&why), count(closing.left, "host")));
    }
    if let Some(run) = closing.run.as_ref().filter(|_| closing.left > 0 || closing.failed > 0) {
        let retry = if closing.failed > 0 { ", with --retry-failed the failed ones too" } else { "" };
        out.push_str(&format!("To go on: the same command with --resume {run}{retry}.\n"));
    }
}

/// Tells whether anything was done on a host, or could not be.
#[must_use]
pub fn is_worth_telling(result: &HostApplied) -> bool {
    !matches!(result.result, ApplyResult::Nothing) || result.not_planned > 0
}

/// Says what came of a host; what could not even be planned is no success.
fn recap_of(result: &HostApplied) -> (&'static str, Tone, String) {
    let (word, tone, text) = recap(&result.result);
    if result.not_planned == 0 {
        return (word, tone, text);
    }
    let word = if matches!(word, "done" | "unchanged") { "failed" } else { word };
    (word, Tone::Bad, format!("{} not planned, {text}", result.not_planned))
}

fn recap(result: &ApplyResult) -> (&'static str, Tone, String) {
    match result {
        ApplyResult::Nothing => ("unchanged", Tone::Faint, "nothing to do".into()),
        ApplyResult::NotStarted => ("not started", Tone::Notice, "stopped before its turn; untouched".into()),
        ApplyResult::Stale { moved } => {
            ("stale", Tone::Bad, format!("{} moved since the plan; untouched", count(moved.len(), "thing")))
        }
        ApplyResult::Locked { holder } => ("locked", Tone::Bad, format!("by {holder}; untouched")),
        ApplyResult::Refused { error } => ("refused", Tone::Bad, first_line(error)),
        ApplyResult::Unreachable { error } => ("unreachable", Tone::Bad, first_line(error)),
        ApplyResult::Ran(ran) => {
            let of = |wanted: fn(&Outcome) -> bool| ran.outcomes.iter().filter(|one| wanted(&one.outcome)).count();
            let changed = of(|outcome| matches!(outcome, Outcome::Done { changed: true }));
            let mut parts = vec![format!("{changed} changed")];
            for (n, word) in [
                (of(|outcome| matches!(outcome, Outcome::Done { changed: false })), "already done"),
                (of(|outcome| matches!(outcome, Outcome::Short { .. })), "short"),
                (of(|outcome| matches!(outcome, Outcome::Failed { .. })), "failed"),
                (of(|outcome| matches!(outcome, Outcome::Blocked { .. })), "blocked"),
                (of(|outcome| matches!(outcome, Outcome::Interrupted { .. })), "interrupted"),
                (of(|outcome| matches!(outcome, Outcome::NotStarted)), "not started"),
                (ran.left.len(), "not as declared"),
                (ran.unwell.len(), "not well"),
            ] {
                if n > 0 {
                    parts.push(format!("{n} {word}"));
                }
            }
            if ran.confirmation == Some(Confirmation::Confirmed) {
                parts.push("confirmed over a new connection".into());
            }
            parts.push(format!("run {}", ran.run));
            let (word, tone) = match &ran.taken_back {
                Some(TakenBack::Done(done)) if done.left.is_empty() && !done.interrupted => ("taken back", Tone::Bad),
                _ if ran.is_clean() => ("done", Tone::Good),
                _ if ran.is_interrupted() => ("interrupted", Tone::Bad),
                _ => ("failed", Tone::Bad),
            };
            (word, tone, parts.join(", "))
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().into()
}

/// Returns what is told of a host beside its line; hosts of which the same is told are shown as one.
fn details(look: Look, result: &HostApplied) -> String {
    let mut details = String::new();
    match &result.result {
        ApplyResult::Ran(ran) => put_ran(&mut details, look, ran),
        ApplyResult::Stale { moved } => {
            for one in moved {
                put_moved(&mut details, look, one);
            }
        }
        ApplyResult::Refused { error } | ApplyResult::Unreachable { error } if error.lines().count() > 1 => {
            put_error(&mut details, error);
        }
        _ => {}
    }
    details
}

fn put_ran(out: &mut String, look: Look, ran: &Ran) {
    for one in &ran.outcomes {
        let outcome = if one.sensitive && !look.show_sensitive { &one.outcome.clone().hidden() } else { &one.outcome };
        let (word, text) = match outcome {
            Outcome::Done { .. } => continue,
            Outcome::Short { wanted, found } => ("short", format!("wanted {wanted}, the kernel gave {found}")),
            Outcome::Failed { action, error, .. } => ("failed", format!("{action}: {error}")),
            Outcome::Blocked { by } => {
                let by = ran.outcomes.get(*by).map_or_else(|| "an earlier one".into(), |one| one.address.to_string());
                ("blocked", format!("because {by} failed"))
            }
            Outcome::Interrupted { step } => ("interrupted", format!("after {}", count(*step, "step"))),
            Outcome::NotStarted => ("not started", "the run ended before it".into()),
        };
        out.push_str("  ");
        look.put(out, Tone::Bad, &format!("! {word:<8}"));
        out.push_str(&format!(" {}\n", shown(&one.address.to_string())));
        put_error(out, &text);
    }
    for left in &ran.left {
        out.push_str("  ");
        look.put(out, Tone::Bad, "! differs ");
        out.push_str(&format!(" {}\n", shown(&left.address.to_string())));
        let hidden = left.sensitive && !look.show_sensitive;
        for field in &left.fields {
            let text = match hidden {
                true => format!("{} is not as declared (sensitive, not shown)", field.name),
                false => format!("{} is {} again, not {}", field.name, field.before, field.after),
            };
            out.push_str(&format!("      {}\n", shown(&text)));
        }
        if !hidden {
            out.push_str(&format!("      likely cause: {}\n", shown(&left.cause)));
        }
    }
    for words in &ran.unwell {
        out.push_str("  ");
        look.put(out, Tone::Bad, "! not well");
        out.push_str(&format!(" {}\n", shown(words)));
    }
    let mut last = None;
    for ResourceRemark { address, remark, sensitive } in &ran.remarks {
        if last != Some(address) {
            out.push_str(&format!("  = {}\n", shown(&address.to_string())));
            last = Some(address);
        }
        let mut remark = remark.clone();
        if *sensitive && !look.show_sensitive {
            redact::remark(&mut remark);
        }
        put_remarks(out, look, &[remark]);
    }
    if let Some(Confirmation::Missed { error }) = &ran.confirmation {
        out.push_str("  ");
        look.put(out, Tone::Bad, "! not reached over a new connection, so the host takes the run back by itself");
        out.push('\n');
        put_error(out, error);
    }
    match &ran.taken_back {
        Some(TakenBack::Done(done)) => put_taken_back(out, look, done),
        Some(TakenBack::Failed { error }) => {
            out.push_str("  ");
            look.put(out, Tone::Bad, "! the run could not be taken back");
            out.push_str(&format!("\n      {}\n", shown(error)));
        }
        None => {}
    }
    if let Some(error) = &ran.unverified {
        out.push_str("  ");
        look.put(out, Tone::Bad, "! the result could not be read once more");
        out.push_str(&format!("\n      {}\n", shown(error)));
    }
}

/// Writes what came of taking a run back: what could not be, and with `--verbose` what was.
pub fn put_taken_back(out: &mut String, look: Look, done: &RolledBack) {
    for words in done.undone.iter().filter(|_| look.verbose) {
        out.push_str("  ");
        look.put(out, Tone::Good, "< undone  ");
        out.push_str(&format!(" {}\n", shown(words)));
    }
    for words in &done.left {
        out.push_str("  ");
        look.put(out, Tone::Bad, "! left    ");
        out.push_str(&format!(" {}\n", shown(words)));
    }
    if done.interrupted {
        out.push_str("  ");
        look.put(out, Tone::Notice, "! stopped before its end; asking again goes on");
        out.push('\n');
    }
}

fn put_moved(out: &mut String, look: Look, moved: &Moved) {
    out.push_str("  ");
    look.put(out, Tone::Bad, "! moved   ");
    out.push_str(&format!(" {}\n", shown(&moved.address.to_string())));
    let what = moved.expected.read.path().map_or_else(|| "what was read".into(), ToString::to_string);
    let when = moved.mtime.map(|time| format!(", modified {}", utc(time))).unwrap_or_default();
    let text = match moved.sensitive && !look.show_sensitive {
        true => format!("{what} is not what the plan saw (sensitive, not shown){when}"),
        false => {
            format!("{what}: the plan saw {}, now there is {}{when}", moved.expected.matcher.describe(), moved.found)
        }
    };
    out.push_str(&format!("      {}\n", shown(&text)));
}
