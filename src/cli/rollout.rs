//! Carrying plans out over the hosts, whatever they were made from: the rollout, its record, and what is told at the end.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Mutex, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use super::{
    Terminal, Wrong,
    args::{CONFIRM_WITHIN, Output, Wishes},
    exit::Exit,
    health,
    plan::exit_of,
    progress::Progress,
    prompt,
    record::{self, Record},
    run::{Names, by},
    session::Session,
};
use crate::{
    apply::{self, Allowed, ApplyResult, Confirm, HostApplied},
    config::{inventory::HostSpec, rollout::Rollout as Rules},
    event::{Event, Happened},
    facts::Facts,
    fleet::{self, Coming},
    host::{HostError, run::RunId},
    plan::{HostPlan, HostResult},
    report::{
        self,
        applied::{Closing, words},
        text::count,
    },
    rollout::{
        Member, Rollout, Stopped, Turn, order,
        record::{Entry, FORMAT, Head, Past},
    },
    transport::Mode,
};

/// How often the wish to stop is looked for during a pause.
const GLANCE: Duration = Duration::from_millis(100);

/// What is wished beside the plans.
pub struct Wish {
    /// What is allowed beyond the ordinary.
    pub allowed: Allowed,
    /// The names of the runs on the hosts.
    pub names: Names,
    /// Who asks.
    pub by: String,
    /// What is planned beside what is declared.
    pub wishes: Wishes,
    /// How many seconds a host waits to be confirmed that a run may have cut off; 0 for not at all.
    pub confirm_within: u32,
    /// A host is taken back whose run fails.
    pub rollback_on_failure: bool,
    /// How the change goes over the hosts.
    pub rules: Rules,
    /// The hosts that failed have another turn.
    pub retry_failed: bool,
    /// How many hosts are worked on at once, whatever the batch.
    pub parallel: NonZeroUsize,
    /// What is carried out, for the record: the whole path of the inventory, or of a plan.
    pub of: String,
    /// Where each event goes.
    pub events: Option<PathBuf>,
    /// The slowest steps are told at the end.
    pub profile: bool,
}

impl Wish {
    /// Makes the wish to carry plans out with care: nothing extraordinary is allowed.
    pub fn new(of: String, rules: Rules, parallel: NonZeroUsize) -> Self {
        Self {
            allowed: Allowed::default(),
            names: Names::new(),
            by: by(),
            wishes: Wishes::default(),
            confirm_within: CONFIRM_WITHIN,
            rollback_on_failure: false,
            rules,
            retry_failed: false,
            parallel,
            of,
            events: None,
            profile: false,
        }
    }
}

/// Carries plans out and tells what came of it. `planned` are the plans of the session's hosts, in their order; of a
/// rollout that is gone on with, those of the hosts that have a turn yet.
pub fn carry_out(
    session: &Session,
    planned: &[HostPlan],
    wish: &Wish,
    resumed: Option<(Record, Past)>,
    output: &Output,
    terminal: &Terminal,
) -> Result<Exit, Wrong> {
    let plans: HashMap<&str, (&HostSpec, &HostPlan)> =
        session.hosts.iter().zip(planned).map(|(spec, plan)| (&*spec.name, (&**spec, plan))).collect();
    let (resumed, past) = resumed.unzip();
    let past = past.as_ref();
    let members = match past {
        Some(past) => past.head.members.clone(),
        None => members(session, planned, &wish.rules, terminal)?,
    };
    let name = past.map_or_else(|| wish.names.get(0), |past| past.head.run.clone());
    let before = |member: &Member| past.map_or(Turn::Waiting, |past| past.turn(member, wish.retry_failed));
    let turn = |place: usize| match before(&members[place]) {
        Turn::Waiting => match plans.get(members[place].host.as_str()).map_or(Turn::Bad, |(_, plan)| turn_of(plan)) {
            // The change may have been made, and nobody have seen whether the host is well.
            Turn::Good if past.is_some() && !wish.rules.health.after.is_empty() => Turn::Waiting,
            turn => turn,
        },
        ended => ended,
    };
    let rollout = Rollout::new(members.clone(), &wish.rules, turn);
    let record = match resumed {
        Some(record) => {
            let entry = Entry::Resumed { run: wish.names.get(0), by: wish.by.clone(), retry_failed: wish.retry_failed };
            record.tell(entry).map_err(|error| format!("the record of the run cannot be written: {error}"))?;
            Some(record)
        }
        None if rollout.turns().contains(&Turn::Waiting) && !session.circumstances(Wishes::default()).offline => {
            begin(&members, wish, terminal)?
        }
        None => None,
    };
    let waiting = rollout.turns().iter().filter(|turn| **turn == Turn::Waiting).count();
    let progress = Progress::of_changes(waiting, wish.events.as_deref())
        .map_err(|error| Wrong::Words(format!("--events: {error}")))?;
    let results: Mutex<HashMap<&str, HostApplied>> = Mutex::default();
    let work = |place: usize| -> Result<Turn, Stopped> {
        let Some((spec, plan)) = plans.get(members[place].host.as_str()) else { return Ok(Turn::Bad) };
        if session.stop.load(Ordering::Relaxed) {
            return Ok(Turn::Waiting);
        }
        let host = || plan.host.clone();
        tell(record.as_ref(), Entry::Began { host: host() })?;
        let mut on = |what| progress.tell(&Event { host: plan.host.clone(), what });
        on(Happened::Connecting);
        let result = apply_host(session, spec, plan, wish, &mut on);
        let result = HostApplied { host: host(), not_planned: not_planned(plan), result };
        let turn = turn_after(&result);
        let words = words(&result);
        on(Happened::Done { good: turn == Turn::Good, words: words.clone() });
        results.lock().unwrap_or_else(PoisonError::into_inner).insert(&plan.host, result);
        if turn != Turn::Waiting {
            tell(record.as_ref(), Entry::Ended { host: host(), good: turn == Turn::Good, words })?;
        }
        Ok(turn)
    };
    let between = |coming: Coming| pause(session, &wish.rules, coming, &progress);
    let rollout = fleet::staged(rollout, wish.parallel, between, work);
    progress.end();
    let stopped = rollout.stopped().cloned();
    if let Some(record) = &record
        && let Err(error) = record.tell(Entry::Closed { stopped: stopped.clone() })
    {
        terminal.complain(&format!("the record of the run cannot be written: {error}"));
    }
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let results = with_the_others(results, planned);
    let count_of = |wanted: Turn| rollout.turns().iter().filter(|turn| **turn == wanted).count();
    let closing = Closing {
        run: record.is_some().then_some(name),
        before: members.iter().filter(|member| before(member) != Turn::Waiting).count(),
        left: count_of(Turn::Waiting),
        failed: count_of(Turn::Bad),
        stopped,
    };
    if output.json {
        terminal.report(&report::json::applied(&results, &closing, output.show_sensitive));
    } else if results.iter().any(report::applied::is_worth_telling) || closing.is_worth_telling() {
        terminal.report(&format!("\n{}", report::applied::applied(&results, &closing, terminal.look(output))));
    }
    if wish.profile {
        terminal.note_lines(&progress.profile());
    }
    // What changes does not count here; what could not be planned still fails.
    let planning = planned.iter().map(|plan| exit_of(plan, Exit::Clean));
    let exit = planning.chain(results.iter().map(|result| exit_of_result(&result.result))).fold(Exit::Clean, Exit::and);
    let exit = match &closing.stopped {
        Some(Stopped::Canary { .. } | Stopped::Failures { .. } | Stopped::Record { .. }) => exit.and(Exit::Failed),
        Some(Stopped::Asked) | None => exit,
    };
    // Whoever failed before, and had no further turn, failed still.
    let exit = if members.iter().any(|member| before(member) == Turn::Bad) { exit.and(Exit::Failed) } else { exit };
    Ok(if session.stop.load(Ordering::Relaxed) { Exit::Interrupted } else { exit })
}

/// Puts the hosts on which there is something to do, or that could not be planned, into their order.
fn members(session: &Session, planned: &[HostPlan], rules: &Rules, terminal: &Terminal) -> Result<Vec<Member>, Wrong> {
    let canaries = session.canaries(rules, terminal)?;
    let hosts: Vec<&str> =
        planned.iter().filter(|plan| turn_of(plan) != Turn::Good).map(|plan| plan.host.as_str()).collect();
    Ok(order(&hosts, rules, |host| canaries.contains(host)))
}

fn begin(members: &[Member], wish: &Wish, terminal: &Terminal) -> Result<Option<Record>, Wrong> {
    let Some(directory) = record::directory() else {
        terminal.note("no record of this run is kept: neither XDG_STATE_HOME nor HOME is set");
        return Ok(None);
    };
    let head = Head {
        format: FORMAT.into(),
        vprov: env!("CARGO_PKG_VERSION").into(),
        run: wish.names.get(0),
        by: wish.by.clone(),
        of: wish.of.clone(),
        rules: wish.rules.clone(),
        members: members.to_vec(),
    };
    Ok(Some(Record::begin(&directory, &head)?))
}

fn tell(record: Option<&Record>, entry: Entry) -> Result<(), Stopped> {
    record.map_or(Ok(()), |record| record.tell(entry)).map_err(|error| Stopped::Record { error })
}

/// Waits and asks, as it is wished, before a further batch.
fn pause(session: &Session, rules: &Rules, coming: Coming, progress: &Progress) -> Result<(), Stopped> {
    let is_stopped = || session.stop.load(Ordering::Relaxed);
    let mut left = Duration::from_secs(rules.pause.into());
    while !left.is_zero() && !is_stopped() {
        let part = left.min(GLANCE);
        thread::sleep(part);
        left -= part;
    }
    if is_stopped() {
        return Err(Stopped::Asked);
    }
    if !rules.ask {
        return Ok(());
    }
    let question = format!("Batch {} of {} ({}): go on?", coming.batch + 1, coming.of, count(coming.hosts, "host"));
    // Who went away agrees to nothing more.
    if progress.hidden(|| prompt::confirm(&question)).unwrap_or(false) { Ok(()) } else { Err(Stopped::Asked) }
}

/// Returns where a host stands before anything is done: it waits for its turn if it changes, or if it is to be told that an
/// interrupted run is made up for.
fn turn_of(plan: &HostPlan) -> Turn {
    match &plan.result {
        HostResult::Planned(planned) if changes(plan) > 0 || planned.interrupted.is_some() => Turn::Waiting,
        HostResult::Planned(_) if not_planned(plan) == 0 => Turn::Good,
        _ => Turn::Bad,
    }
}

fn turn_after(result: &HostApplied) -> Turn {
    match &result.result {
        ApplyResult::NotStarted => Turn::Waiting,
        // What was not finished because of a signal has another turn.
        ApplyResult::Ran(ran) if ran.is_interrupted() && !ran.has_failed() => Turn::Waiting,
        other if exit_of_result(other) == Exit::Clean && result.not_planned == 0 => Turn::Good,
        _ => Turn::Bad,
    }
}

/// Puts the hosts on which nothing was done among those on which something was, in the order of the inventory.
fn with_the_others(mut results: HashMap<&str, HostApplied>, plans: &[HostPlan]) -> Vec<HostApplied> {
    let of = |plan: &HostPlan| {
        results.remove(plan.host.as_str()).unwrap_or_else(|| {
            let result = match &plan.result {
                HostResult::Planned(_) if turn_of(plan) == Turn::Waiting => ApplyResult::NotStarted,
                HostResult::Planned(_) => ApplyResult::Nothing,
                HostResult::Unreachable { error } => ApplyResult::Unreachable { error: error.clone() },
                HostResult::Failed { error } => ApplyResult::Refused { error: error.clone() },
            };
            HostApplied { host: plan.host.clone(), result, not_planned: not_planned(plan) }
        })
    };
    plans.iter().map(of).collect()
}

fn not_planned(plan: &HostPlan) -> usize {
    let HostResult::Planned(planned) = &plan.result else { return 0 };
    let counts = planned.counts();
    counts.failed + counts.blocked + counts.unknown
}

/// Returns how many resources of a host are changed.
pub fn changes(plan: &HostPlan) -> usize {
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
    if let Some(error) = apply::refusal(planned, wish.allowed) {
        return ApplyResult::Refused { error };
    }
    let health = &wish.rules.health;
    if turn_of(plan) == Turn::Good {
        let unwell = health::failing(session, spec, &health.after, Duration::from_secs(health.within.into()));
        return match unwell.as_slice() {
            [] => ApplyResult::Nothing,
            unwell => ApplyResult::Refused { error: format!("it is as declared and not well: {}", unwell.join("; ")) },
        };
    }
    let unfit = health::failing(session, spec, &health.before, Duration::ZERO);
    if !unfit.is_empty() {
        return ApplyResult::Refused { error: format!("it was not well before the change: {}", unfit.join("; ")) };
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
    let circumstances = session.circumstances(wish.wishes);
    let anew = |run: &RunId| session.confirm(spec, run, Duration::from_secs(wish.confirm_within.into()));
    let confirm = Confirm { within: wish.confirm_within, anew: &anew };
    let confirm = Some(&confirm).filter(|confirm| confirm.within > 0 && session.can_be_cut_off(spec));
    let mut result = apply::apply(&mut host, planned, (&mut names, &wish.by), &compile, circumstances, confirm, on);
    if let ApplyResult::Ran(ran) = &mut result
        && ran.taken_back.is_none()
    {
        if !ran.has_failed() && !ran.is_interrupted() {
            ran.unwell = health::failing(session, spec, &health.after, Duration::from_secs(health.within.into()));
        }
        if wish.rollback_on_failure && ran.has_failed() {
            ran.taken_back = Some(apply::take_back(&mut host, ran, (&mut names, &wish.by)));
        }
    }
    result
}

fn exit_of_result(result: &ApplyResult) -> Exit {
    match result {
        // Why a host's turn did not come is told, and counts, beside it.
        ApplyResult::Nothing | ApplyResult::NotStarted => Exit::Clean,
        ApplyResult::Ran(ran) if ran.is_clean() => Exit::Clean,
        ApplyResult::Ran(_) | ApplyResult::Refused { .. } | ApplyResult::Locked { .. } => Exit::Failed,
        ApplyResult::Stale { .. } => Exit::Stale,
        ApplyResult::Unreachable { .. } => Exit::Unreachable,
    }
}
