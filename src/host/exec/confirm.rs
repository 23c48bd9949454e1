//! The confirm timer: a run that may cut the host off is taken back by the host itself, unless the controller comes again.
//!
//! Before the first operation the executor starts this binary once more, in a session of its own and holding the lock, so that it
//! outlives the connection. While the run is not confirmed `runs/RUN/unconfirmed` stands; whoever takes that name away decides:
//! the confirmation removes it, the timer renames it. After a power cut it still stands, and the next one is told.

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use rustix::process::{getppid, setsid};

use super::{
    Terms,
    journal::{self, Lock},
    process, rollback,
    tree::Tree,
    write,
};
use crate::host::{
    HostError,
    run::{Run, RunId},
    state::{TAKING_BACK, UNCONFIRMED},
    undo::{Changed, TakeBack, TookBack},
};

/// What stands there for a moment once it is confirmed.
const CONFIRMED: &str = "confirmed";

/// How often the timer looks whether the run was confirmed.
const GLANCE: Duration = Duration::from_millis(50);

/// Starts the timer of a run before it does anything.
///
/// # Errors
/// Says why there can be none; then nothing may be done.
pub fn arm(tree: &Tree, terms: &Terms, run: &Run, within: u32, lock: &Lock) -> Result<(), String> {
    let Some(program) = &terms.watchdog else {
        return Err("there is no program here for the confirm timer".into());
    };
    let held = lock.share().map_err(|error| format!("the lock cannot be handed over: {error}"))?;
    journal::set_unconfirmed(tree, &run.id, &run.by).map_err(|error| error.to_string())?;
    let own = ["executor".to_string(), "--watch".into(), run.id.to_string(), "--within".into(), within.to_string()];
    start(program, &own, &held).map_err(|error| {
        let _ = journal::unset_unconfirmed(tree, &run.id);
        format!("the confirm timer cannot be started: {error}")
    })
}

fn start(program: &Path, own: &[String], held: &OwnedFd) -> std::io::Result<()> {
    process::detach(&scoped(program, own), held)
        .or_else(|_| process::detach(&plain(Path::new("/proc/self/exe"), own), held))
}

fn plain(program: &Path, own: &[String]) -> Vec<String> {
    [program.display().to_string()].into_iter().chain(own.iter().cloned()).collect()
}

/// Under systemd in a scope of its own, which the end of the login's session does not end.
fn scoped(program: &Path, own: &[String]) -> Vec<String> {
    let scope = ["systemd-run", "--quiet", "--collect", "--scope", "--"].map(String::from);
    scope.into_iter().chain(plain(program, own)).collect()
}

/// Waits until a run has ended, then until it is confirmed or the time is over; then takes it back.
///
/// # Errors
/// Says why it could not be taken back.
pub fn watch(tree: &Tree, terms: &Terms, run: &RunId, within: Duration) -> Result<(), HostError> {
    // It may lead a session already.
    let _ = setsid();
    let executor = getppid();
    process::ready();
    let directory = journal::state(&format!("runs/{run}"));
    let mut left = within;
    while journal::is_marked(tree, &directory, UNCONFIRMED) {
        // A journal that was not begun is that of a run that goes on, too.
        let goes_on = getppid() == executor && !journal::has_ended(tree, run);
        if !goes_on && left.is_zero() {
            break;
        }
        std::thread::sleep(GLANCE);
        if !goes_on {
            left = left.saturating_sub(GLANCE);
        }
    }
    if !journal::decide(tree, run, TAKING_BACK).map_err(|error| HostError::Refused(error.to_string()))? {
        return Ok(());
    }
    let what = TakeBack { by: format!("confirm timer of {run}"), changed: Changed::TakeBack, ..TakeBack::of(run) };
    match rollback::undo_locked(tree, terms, &what)? {
        TookBack::Done(_) => Ok(()),
        other => other.done().map(|_| ()),
    }
}

/// Confirms a run.
///
/// # Errors
/// Fails if it does not wait for that, or not any more.
pub fn confirm(tree: &Tree, run: &RunId) -> Result<(), HostError> {
    match journal::decide(tree, run, CONFIRMED) {
        Ok(true) => {
            let path = journal::state(&format!("runs/{run}/{CONFIRMED}"));
            write::remove(tree, &path, &mut || Ok(())).map_err(|error| HostError::Refused(error.to_string()))
        }
        Ok(false) => Err(HostError::Refused(format!("the run `{run}` is taken back, or waits for no confirmation"))),
        Err(error) => Err(HostError::Refused(error.to_string())),
    }
}
