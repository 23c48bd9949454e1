//! `vprov apply`.

use std::sync::atomic::Ordering;

use super::{
    Terminal, Wrong,
    args::{Allow, Apply},
    exit::Exit,
    plan::exit_of,
    prompt,
    session::Session,
};
use crate::{
    apply::{self, Allowed, ApplyResult, HostApplied},
    config::inventory::HostSpec,
    event::Happened,
    facts::Facts,
    fleet,
    host::{HostError, run::RunId},
    plan::{HostPlan, HostResult},
    report::{self, text::count},
    transport::Mode,
};

/// Plans, shows the plan, asks, applies exactly it, and tells what came of it.
pub fn run(args: &Apply, terminal: &Terminal) -> Result<Exit, Wrong> {
    let can_ask = prompt::can_ask();
    if !args.yes && !can_ask {
        let words = "apply asks before it changes anything, and this is no terminal: say --yes to go without";
        return Err(Wrong::Words(words.into()));
    }
    let session = Session::open(&args.documents, &args.reach, terminal)?;
    let plans = session.plan(args.retry_short);
    if !args.output.json {
        terminal.report(&report::plan::plan(&plans, terminal.look(&args.output)));
    }
    // What changes does not count here; what could not be planned still fails.
    let planning = plans.iter().map(|plan| exit_of(plan, Exit::Clean)).fold(Exit::Clean, Exit::and);
    let work: Vec<(&HostSpec, &HostPlan)> =
        session.hosts.iter().map(|spec| &**spec).zip(&plans).filter(|(_, plan)| changes(plan) > 0).collect();
    let steps = work.iter().map(|(_, plan)| changes(plan)).sum();
    if !work.is_empty() && !args.yes {
        let question = format!("\nApply {} on {}?", count(steps, "change"), count(work.len(), "host"));
        if !prompt::confirm(&question).map_err(|error| Wrong::Words(format!("no answer could be read: {error}")))? {
            terminal.note("nothing was changed");
            return Ok(planning.and(Exit::Clean));
        }
    }
    let allowed = Allowed { guest_visible: args.allow.contains(&Allow::GuestVisible) };
    let by = by();
    let results = session.each(
        &work,
        "applied",
        |(spec, _)| &spec.name,
        |(spec, plan), on| HostApplied {
            host: spec.name.to_string(),
            result: apply_host(&session, spec, plan, allowed, &by, args.retry_short, on),
        },
    );
    if args.output.json {
        terminal.report(&report::json::applied(&results));
    } else if !results.is_empty() {
        terminal.report(&format!("\n{}", report::applied::applied(&results, terminal.look(&args.output))));
    }
    Ok(results.iter().map(|result| exit_of_result(&result.result)).fold(planning, Exit::and))
}

fn changes(plan: &HostPlan) -> usize {
    match &plan.result {
        HostResult::Planned(planned) => planned.changes().count(),
        _ => 0,
    }
}

fn apply_host(
    session: &Session,
    spec: &HostSpec,
    plan: &HostPlan,
    allowed: Allowed,
    by: &str,
    retry_short: bool,
    on: &mut dyn FnMut(Happened),
) -> ApplyResult {
    let HostResult::Planned(planned) = &plan.result else { return ApplyResult::Nothing };
    if session.stop.load(Ordering::Relaxed) {
        return ApplyResult::Refused { error: "interrupted before it began".into() };
    }
    if let Some(error) = apply::refusal(planned, allowed) {
        return ApplyResult::Refused { error };
    }
    let mut host = match session.connect(spec, Mode::Apply) {
        Ok(host) => host,
        Err(HostError::Unreachable(error)) => return ApplyResult::Unreachable { error },
        Err(error) => return ApplyResult::Refused { error: error.to_string() },
    };
    on(Happened::Connected);
    let compile = |facts: &Facts| fleet::on_core(|| session.compile(spec, facts));
    apply::apply(&mut host, planned, (&mut run_id, by), &compile, session.circumstances(retry_short), on)
}

fn exit_of_result(result: &ApplyResult) -> Exit {
    match result {
        ApplyResult::Nothing => Exit::Clean,
        ApplyResult::Ran(ran) if ran.is_clean() => Exit::Clean,
        ApplyResult::Ran(_) | ApplyResult::Refused { .. } | ApplyResult::Locked { .. } => Exit::Failed,
        ApplyResult::Stale { .. } => Exit::Stale,
        ApplyResult::Unreachable { .. } => Exit::Unreachable,
    }
}

/// Makes the name of a run from the time and chance.
#[expect(clippy::disallowed_methods, reason = "a run is named by the time at which it begins")]
fn run_id() -> RunId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut chance = [0; 2];
    // Without chance the time alone still names the run; the host refuses a name that it has.
    let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
    RunId::new(now.map_or(0, |now| now.as_secs()), u16::from_ne_bytes(chance))
}

/// Says who asks: user and machine, for the journal and the lock.
#[expect(clippy::disallowed_methods, reason = "the person at the terminal is named by the environment")]
fn by() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}
