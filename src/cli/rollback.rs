//! `vprov rollback`.

use std::sync::atomic::Ordering;

use super::{
    Terminal, Wrong,
    args::Rollback,
    exit::Exit,
    prompt,
    run::{Names, by, hear_signals},
    session::Session,
};
use crate::{
    config::inventory::HostSpec,
    host::{
        Host as _, HostError,
        history::{history, newest},
        run::RunId,
        undo::{Changed, TakeBack, TookBack, UndoPlan},
    },
    report::{
        text::count,
        undo::{self, HostUndo, UndoResult},
    },
    transport::Mode,
};

/// Shows what taking a run back would do, asks, does exactly that, and tells what came of it.
pub fn run(args: &Rollback, terminal: &Terminal) -> Result<Exit, Wrong> {
    if !args.yes && !prompt::can_ask() {
        let words = "rollback asks before it changes anything, and this is no terminal: say --yes to go without";
        return Err(Wrong::Words(words.into()));
    }
    let session = Session::open_hosts(&args.documents, &args.reach, Some(&args.running), terminal)?;
    let mut hosts: Vec<HostUndo> =
        session.each(&session.hosts, "read", |spec| &spec.name, |spec, _| preview(&session, spec, args));
    if let Some(run) = &args.run
        && hosts.iter().all(|host| matches!(host.result, UndoResult::Nothing { .. }))
    {
        return Err(Wrong::Words(format!("no selected host can take back a run `{run}`; `vprov history` lists them")));
    }
    let look = terminal.look(&args.output);
    if !args.output.json {
        terminal.report(&undo::preview(&hosts, look));
    }
    let work: Vec<(usize, &HostSpec)> = session
        .hosts
        .iter()
        .enumerate()
        .filter(|(at, _)| matches!(hosts[*at].result, UndoResult::Planned))
        .map(|(at, spec)| (at, &**spec))
        .collect();
    if !work.is_empty() && !args.yes {
        let steps = work.iter().filter_map(|(at, _)| hosts[*at].plan.as_ref()).map(|plan| plan.deeds().count()).sum();
        let question = format!("\nTake back {} on {}?", count(steps, "thing"), count(work.len(), "host"));
        if !prompt::confirm(&question).map_err(|error| Wrong::Words(format!("no answer could be read: {error}")))? {
            terminal.note("nothing was changed");
            return Ok(hosts.iter().map(|host| exit_of(&host.result)).fold(Exit::Clean, Exit::and));
        }
    }
    hear_signals(&session.stop)?;
    let (names, by) = (Names::new(), by());
    let changed = if args.force { Changed::TakeBack } else { Changed::Refuse };
    let results = session.each(
        &work,
        "taken back",
        |(_, spec)| &spec.name,
        |(at, spec), _| {
            let plan = hosts[*at].plan.as_ref()?;
            let what = TakeBack {
                run: plan.run.clone(),
                id: Some(names.get(0)),
                by: by.clone(),
                changed,
                expects: Some(plan.digest()),
            };
            Some((*at, take_back(&session, spec, &what)))
        },
    );
    for (at, result) in results.into_iter().flatten() {
        hosts[at].result = result;
    }
    if args.output.json {
        terminal.report(&undo::json(&hosts, args.output.show_sensitive));
    } else {
        terminal.report(&undo::recap(&hosts, look));
    }
    let exit = hosts.iter().map(|host| exit_of(&host.result)).fold(Exit::Clean, Exit::and);
    Ok(if session.stop.load(Ordering::Relaxed) { Exit::Interrupted } else { exit })
}

fn preview(session: &Session, spec: &HostSpec, args: &Rollback) -> HostUndo {
    let host = spec.name.to_string();
    match plan_of(session, spec, args.run.as_ref()) {
        Ok(Ok(plan)) if !args.force && plan.changed().next().is_some() => {
            let what = plan.changed().map(String::from).collect();
            HostUndo { host, plan: Some(plan), result: UndoResult::Changed { what } }
        }
        Ok(Ok(plan)) => HostUndo { host, plan: Some(plan), result: UndoResult::Planned },
        Ok(Err(why)) => HostUndo { host, plan: None, result: UndoResult::Nothing { why } },
        Err(error) => HostUndo { host, plan: None, result: failed(error) },
    }
}

/// Asks a host what would be done; the inner error says why nothing would.
fn plan_of(session: &Session, spec: &HostSpec, run: Option<&RunId>) -> Result<Result<UndoPlan, String>, HostError> {
    let mut host = session.connect(spec, Mode::Observe)?;
    let runs = history(&mut host)?;
    let found = match run {
        Some(run) => runs.iter().find(|one| one.run == *run),
        None => newest(&runs),
    };
    let Some(found) = found else {
        return Ok(Err(match run {
            Some(run) => format!("it remembers no run {run}"),
            None => "it remembers no run that changed something and is not taken back".into(),
        }));
    };
    if let Some(by) = &found.taken_back_by {
        return Ok(Err(format!("the run {} was taken back by {by}", found.run)));
    }
    host.undo_plan(&found.run).map(Ok)
}

fn take_back(session: &Session, spec: &HostSpec, what: &TakeBack) -> UndoResult {
    if session.stop.load(Ordering::Relaxed) {
        return UndoResult::NotStarted;
    }
    match session.connect(spec, Mode::Apply).and_then(|mut host| host.undo(what)) {
        Ok(TookBack::Done(done)) => UndoResult::Done(done),
        Ok(TookBack::Changed { what }) => UndoResult::Changed { what },
        Ok(TookBack::Moved) => UndoResult::Moved,
        Ok(TookBack::Locked { holder }) => UndoResult::Locked { holder },
        Err(error) => failed(error),
    }
}

fn failed(error: HostError) -> UndoResult {
    match error {
        HostError::Unreachable(error) => UndoResult::Unreachable { error },
        error => UndoResult::Failed { error: error.to_string() },
    }
}

fn exit_of(result: &UndoResult) -> Exit {
    match result {
        UndoResult::Nothing { .. } | UndoResult::Planned => Exit::Clean,
        UndoResult::Done(done) if done.left.is_empty() && !done.interrupted => Exit::Clean,
        UndoResult::Done(done) if done.interrupted => Exit::Interrupted,
        UndoResult::Done(_) | UndoResult::Failed { .. } | UndoResult::Locked { .. } => Exit::Failed,
        UndoResult::NotStarted => Exit::Interrupted,
        UndoResult::Changed { .. } | UndoResult::Moved => Exit::Stale,
        UndoResult::Unreachable { .. } => Exit::Unreachable,
    }
}
