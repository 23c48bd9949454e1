//! The executor: the only code that changes a host.
//!
//! It is the same in this process, at the other end of a channel and below `--root DIR`. It knows the closed sets of
//! [`super::read`] and [`super::op`] and nothing of kinds.

mod apply;
mod confirm;
mod journal;
mod namespace;
mod process;
mod read;
mod retention;
mod rollback;
mod space;
mod stage;
mod tree;
mod write;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::tree::{Seam, Tree};
use super::{
    Host, HostError,
    bytes::Digest,
    read::{Answer, Read},
    run::{Applied, RolledBack, Run, RunId, StepEvent},
    undo::{TakeBack, TookBack, UndoPlan},
};

/// How many runs a host remembers if nothing else is said.
pub const KEEP_RUNS: usize = 20;

/// How many bytes all runs together keep if nothing else is said.
pub const KEEP_BYTES: u64 = 512 << 20;

/// How an executor works.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The directory that stands for `/` (`--root DIR`); `None` is this machine itself.
    pub root: Option<PathBuf>,
    /// Only questions are answered; apply and rollback are refused.
    pub observe: bool,
    /// Set from outside to end a run after its current step.
    pub cancel: Option<Arc<AtomicBool>>,
    /// For tests: from this point on (counted from 0, one before each system call that changes something) nothing is
    /// written any more, as if the power were cut.
    pub fail_at: Option<usize>,
    /// How long the host's lock is waited for.
    pub lock_timeout: Duration,
    /// How many runs the host remembers; [`KEEP_RUNS`] if nothing is said.
    pub keep_runs: Option<usize>,
    /// How many bytes all runs together keep; [`KEEP_BYTES`] if nothing is said.
    pub keep_bytes: Option<u64>,
    /// The digest under which this binary lies among the executors; old ones are removed then.
    pub build: Option<Digest>,
    /// The program that is started again as confirm timer; none where there can be none.
    pub watchdog: Option<PathBuf>,
}

/// How runs are done.
struct Terms {
    cancel: Option<Arc<AtomicBool>>,
    lock_timeout: Duration,
    keep_runs: usize,
    keep_bytes: u64,
    build: Option<Digest>,
    watchdog: Option<PathBuf>,
}

impl Terms {
    /// Tells whether the run is to end after its current step.
    fn is_cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::SeqCst))
    }
}

/// The host that this process runs on.
pub struct LocalHost {
    tree: Tree,
    observe: bool,
    terms: Terms,
}

impl LocalHost {
    /// Makes an executor.
    ///
    /// # Errors
    /// Fails if the root is no directory that can be entered.
    pub fn new(settings: Settings) -> Result<Self, HostError> {
        let Settings { root, observe, cancel, fail_at, lock_timeout, keep_runs, keep_bytes, build, watchdog } =
            settings;
        let tree = Tree::open(root, Seam::new(fail_at)).map_err(|error| HostError::Refused(error.to_string()))?;
        let (keep_runs, keep_bytes) = (keep_runs.unwrap_or(KEEP_RUNS), keep_bytes.unwrap_or(KEEP_BYTES));
        let terms = Terms { cancel, lock_timeout, keep_runs, keep_bytes, build, watchdog };
        Ok(Self { tree, observe, terms })
    }

    /// Returns how many points a run could have been cut at so far, see [`Settings::fail_at`].
    #[must_use]
    pub fn points(&self) -> usize {
        self.tree.seam.passed()
    }

    /// Is the confirm timer of a run, which another executor does: takes the run back unless it is confirmed in time. The lock is
    /// held by whoever started this process.
    ///
    /// # Errors
    /// Says why the run could not be taken back.
    pub fn watch(&self, run: &RunId, within: Duration) -> Result<(), HostError> {
        confirm::watch(&self.tree, &self.terms, run, within)
    }

    fn may_change(&self) -> Result<(), HostError> {
        if self.observe { Err(HostError::Refused("this executor only observes".into())) } else { Ok(()) }
    }
}

impl Host for LocalHost {
    fn read(&mut self, reads: &[Read]) -> Result<Vec<Answer>, HostError> {
        Ok(read::answer_all(&self.tree, reads))
    }

    fn apply(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        self.may_change()?;
        apply::apply(&self.tree, &self.terms, run, on)
    }

    fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
        self.undo(&TakeBack::of(run)).and_then(TookBack::done)
    }

    fn undo_plan(&mut self, run: &RunId) -> Result<UndoPlan, HostError> {
        rollback::plan(&self.tree, run)
    }

    fn undo(&mut self, what: &TakeBack) -> Result<TookBack, HostError> {
        self.may_change()?;
        rollback::undo(&self.tree, &self.terms, what)
    }

    fn confirm(&mut self, run: &RunId) -> Result<(), HostError> {
        self.may_change()?;
        confirm::confirm(&self.tree, run)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the files by other means than the executor")]
mod tests;
