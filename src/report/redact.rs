//! What is left of plans and results where secrets are not to be shown: written once, for every form of report.

use crate::{
    apply::{ApplyResult, HostApplied},
    host::{
        bytes::Bytes,
        matcher::Matcher,
        op::{Check, Command, Op, Source, Undo},
        run::NOT_SHOWN,
    },
    plan::{Change, HostPlan, HostResult, ResourcePlan, Verdict, is_metadata},
    resource::{Remark, state::Field},
};

/// Returns a plan without the values, contents and words of its sensitive resources.
#[must_use]
pub fn host(mut plan: HostPlan) -> HostPlan {
    if let HostResult::Planned(planned) = &mut plan.result {
        planned.resources.iter_mut().for_each(resource);
    }
    plan
}

/// Leaves out the values, contents and words of a resource if it is sensitive.
pub fn resource(resource: &mut ResourcePlan) {
    if !resource.sensitive {
        return;
    }
    resource.remarks.iter_mut().for_each(remark);
    match &mut resource.verdict {
        Verdict::Change(change) => redact_change(change),
        Verdict::Failed { reason, .. } => *reason = NOT_SHOWN.into(),
        Verdict::Deferred { may, .. } => may.iter_mut().for_each(|words| *words = operation(words)),
        _ => {}
    }
}

/// Returns the result of an apply without the values and words of its sensitive resources.
#[must_use]
pub fn applied(mut host: HostApplied) -> HostApplied {
    match &mut host.result {
        ApplyResult::Ran(ran) => {
            for one in ran.outcomes.iter_mut().filter(|one| one.sensitive) {
                one.outcome = one.outcome.clone().hidden();
            }
            for left in ran.left.iter_mut().filter(|left| left.sensitive) {
                left.fields.iter_mut().for_each(field);
                left.cause = NOT_SHOWN.into();
            }
            for told in ran.remarks.iter_mut().filter(|told| told.sensitive) {
                remark(&mut told.remark);
            }
        }
        ApplyResult::Stale { moved } => {
            for one in moved.iter_mut().filter(|one| one.sensitive) {
                if tells(&one.expected.matcher) {
                    one.expected.matcher = Matcher::Present;
                }
                one.found = "(sensitive)".into();
            }
        }
        _ => {}
    }
    host
}

/// Leaves out what a remark about a sensitive resource may tell.
pub fn remark(remark: &mut Remark) {
    match remark {
        Remark::Warning { text, help } => {
            *text = "what is to be said here is not shown, as the resource is sensitive".into();
            *help = Some("--show-sensitive shows it".into());
        }
        Remark::Reboot { desired, configured, running, .. } => {
            for value in [desired, configured, running] {
                *value = "(sensitive)".into();
            }
        }
        Remark::Short { desired, running, .. } => {
            for value in [desired, running] {
                *value = "(sensitive)".into();
            }
        }
    }
}

/// Returns an announced operation without its arguments: what it is and the path or program that it is about.
#[must_use]
pub fn operation(words: &str) -> String {
    // Of `write VALUE to PATH` the path is not among the first words.
    match words.split_once(' ') {
        Some(("write", rest)) if rest.starts_with('`') => "write a value".into(),
        Some((verb, rest)) => format!("{verb} {}", rest.split(' ').next().unwrap_or_default()),
        None => words.into(),
    }
}

fn field(field: &mut Field) {
    for value in [&mut field.before, &mut field.after] {
        if !is_metadata(&field.name) && !value.is_null() {
            *value = "(sensitive)".into();
        }
    }
}

/// Tells whether a matcher over a value would tell it as well as the value itself; the digest of a short secret lets a
/// guess be checked.
fn tells(matcher: &Matcher) -> bool {
    !matches!(matcher, Matcher::Absent | Matcher::Present | Matcher::Directory { .. })
}

fn hide_arguments(command: &mut Command) {
    if command.argv.len() > 1 {
        command.argv.truncate(1);
        command.argv.push("(sensitive)".into());
    }
    command.stdin = command.stdin.take().map(|_| Bytes::from("(sensitive)"));
}

fn redact_change(change: &mut Change) {
    change.fields.iter_mut().for_each(field);
    let hidden = || Bytes::from("(sensitive)");
    for file in &mut change.files {
        file.before = file.before.take().map(|_| hidden());
        file.after = file.after.take().map(|_| hidden());
    }
    for step in &mut change.steps {
        match &mut step.op {
            Op::Write { content, .. } | Op::Stage { source: Source::Content(content), .. } => {
                *content = hidden();
            }
            Op::Link { target, .. } => *target = "(sensitive)".into(),
            Op::Poke { value, .. } => *value = "(sensitive)".into(),
            Op::Stage { source: Source::Stdout(command) | Source::Argument(command), .. }
            | Op::Check(Check::Succeeds(command)) => hide_arguments(command),
            Op::Check(Check::Staged { matcher, .. }) if tells(matcher) => *matcher = Matcher::Present,
            Op::Run { command, undo, .. } => {
                hide_arguments(command);
                if let Undo::Run(command) | Undo::RunWhile { command, .. } = undo {
                    hide_arguments(command);
                }
            }
            _ => {}
        }
        step.guards.retain(|guard| !tells(&guard.matcher));
        step.after.retain(|after| !tells(&after.matcher));
    }
}
