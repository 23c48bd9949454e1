//! `vprov apply`.

use std::sync::atomic::Ordering;

use super::{
    Terminal, Wrong,
    args::{Allow, Apply},
    exit::Exit,
    plan::exit_of,
    prompt,
    run::{Names, by, hear_signals},
    saved,
    session::Session,
};
use crate::{
    apply::{self, Allowed, ApplyResult, HostApplied},
    config::inventory::HostSpec,
    event::Happened,
    facts::Facts,
    fleet,
    host::HostError,
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
    let (session, plans) = saved::begin(args, terminal)?;
    if !args.output.json {
        terminal.report(&report::plan::plan(&plans, terminal.look(&args.output)));
    }
    // What changes does not count here; what could not be planned still fails.
    let planning = plans.iter().map(|plan| exit_of(plan, Exit::Clean)).fold(Exit::Clean, Exit::and);
    let work: Vec<(&HostSpec, &HostPlan)> =
        session.hosts.iter().map(|spec| &**spec).zip(&plans).filter(|(_, plan)| is_work(plan)).collect();
    let steps: usize = work.iter().map(|(_, plan)| changes(plan)).sum();
    if steps > 0 && !args.yes {
        let hosts = work.iter().filter(|(_, plan)| changes(plan) > 0).count();
        let question = format!("\nApply {} on {}?", count(steps, "change"), count(hosts, "host"));
        if !prompt::confirm(&question).map_err(|error| Wrong::Words(format!("no answer could be read: {error}")))? {
            terminal.note("nothing was changed");
            return Ok(planning.and(Exit::Clean));
        }
    }
    hear_signals(&session.stop)?;
    let wish = Wish {
        allowed: Allowed { guest_visible: args.allow.contains(&Allow::GuestVisible) },
        names: Names::new(),
        by: by(),
        retry_short: args.retry_short,
        rollback_on_failure: args.rollback_on_failure || session.rolls_back_on_failure(),
    };
    let results = session.each(
        &work,
        "applied",
        |(spec, _)| &spec.name,
        |(spec, plan), on| HostApplied {
            host: spec.name.to_string(),
            not_planned: not_planned(plan),
            result: apply_host(&session, spec, plan, &wish, on),
        },
    );
    let results = with_the_others(results, &plans);
    if args.output.json {
        terminal.report(&report::json::applied(&results));
    } else if results.iter().any(report::applied::is_worth_telling) {
        terminal.report(&format!("\n{}", report::applied::applied(&results, terminal.look(&args.output))));
    }
    let exit = results.iter().map(|result| exit_of_result(&result.result)).fold(planning, Exit::and);
    Ok(if session.stop.load(Ordering::Relaxed) { Exit::Interrupted } else { exit })
}

/// What is wished beside the plan.
struct Wish {
    allowed: Allowed,
    names: Names,
    by: String,
    retry_short: bool,
    rollback_on_failure: bool,
}

/// Tells whether an apply has to do with a host: it changes, or is told that an interrupted run is made up for.
fn is_work(plan: &HostPlan) -> bool {
    matches!(&plan.result, HostResult::Planned(planned) if changes(plan) > 0 || planned.interrupted.is_some())
}

/// Puts the hosts on which there was nothing to do among those on which there was, in the order of the inventory.
fn with_the_others(results: Vec<HostApplied>, plans: &[HostPlan]) -> Vec<HostApplied> {
    let mut results = results.into_iter().peekable();
    let mut all = Vec::with_capacity(plans.len());
    for plan in plans {
        if let Some(result) = results.next_if(|result| result.host == plan.host) {
            all.push(result);
            continue;
        }
        let result = match &plan.result {
            HostResult::Planned(_) => ApplyResult::Nothing,
            HostResult::Unreachable { error } => ApplyResult::Unreachable { error: error.clone() },
            HostResult::Failed { error } => ApplyResult::Refused { error: error.clone() },
        };
        all.push(HostApplied { host: plan.host.clone(), result, not_planned: not_planned(plan) });
    }
    all
}

fn not_planned(plan: &HostPlan) -> usize {
    let HostResult::Planned(planned) = &plan.result else { return 0 };
    let counts = planned.counts();
    counts.failed + counts.blocked + counts.unknown
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
    wish: &Wish,
    on: &mut dyn FnMut(Happened),
) -> ApplyResult {
    let HostResult::Planned(planned) = &plan.result else { return ApplyResult::Nothing };
    if session.stop.load(Ordering::Relaxed) {
        return ApplyResult::NotStarted;
    }
    if let Some(error) = apply::refusal(planned, wish.allowed) {
        return ApplyResult::Refused { error };
    }
    let mut host = match session.connect(spec, Mode::Apply) {
        Ok(host) => host,
        Err(HostError::Unreachable(error)) => return ApplyResult::Unreachable { error },
        Err(error) => return ApplyResult::Refused { error: error.to_string() },
    };
    on(Happened::Connected);
    let compile = |facts: &Facts| fleet::on_core(|| session.compile(spec, facts));
    let mut next = 0;
    let mut names = || {
        next += 1;
        wish.names.get(next - 1)
    };
    let circumstances = session.circumstances(wish.retry_short);
    let mut result = apply::apply(&mut host, planned, (&mut names, &wish.by), &compile, circumstances, on);
    if let ApplyResult::Ran(ran) = &mut result
        && wish.rollback_on_failure
        && ran.has_failed()
    {
        ran.taken_back = Some(apply::take_back(&mut host, ran, (&mut names, &wish.by)));
    }
    result
}

fn exit_of_result(result: &ApplyResult) -> Exit {
    match result {
        ApplyResult::Nothing => Exit::Clean,
        ApplyResult::NotStarted => Exit::Interrupted,
        ApplyResult::Ran(ran) if ran.is_clean() => Exit::Clean,
        ApplyResult::Ran(_) | ApplyResult::Refused { .. } | ApplyResult::Locked { .. } => Exit::Failed,
        ApplyResult::Stale { .. } => Exit::Stale,
        ApplyResult::Unreachable { .. } => Exit::Unreachable,
    }
}
