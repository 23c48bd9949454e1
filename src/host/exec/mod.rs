//! The executor: the only code that changes a host.
//!
//! It is the same in this process, at the other end of a channel and below `--root DIR`. It knows the closed sets of
//! [`super::read`] and [`super::op`] and nothing of kinds.

mod apply;
mod journal;
mod namespace;
mod process;
mod read;
mod rollback;
mod stage;
mod tree;
mod write;

use std::{path::PathBuf, sync::Arc, sync::atomic::AtomicBool};

use self::tree::{Seam, Tree};
use super::{
    Host, HostError,
    read::{Answer, Read},
    run::{Applied, RolledBack, Run, RunId, StepEvent},
};

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
}

/// The host that this process runs on.
pub struct LocalHost {
    tree: Tree,
    observe: bool,
    cancel: Option<Arc<AtomicBool>>,
}

impl LocalHost {
    /// Makes an executor.
    ///
    /// # Errors
    /// Fails if the root is no directory that can be entered.
    pub fn new(settings: Settings) -> Result<Self, HostError> {
        let Settings { root, observe, cancel, fail_at } = settings;
        let tree = Tree::open(root, Seam::new(fail_at)).map_err(|error| HostError::Refused(error.to_string()))?;
        Ok(Self { tree, observe, cancel })
    }

    /// Returns how many points a run could have been cut at so far, see [`Settings::fail_at`].
    #[must_use]
    pub fn points(&self) -> usize {
        self.tree.seam.passed()
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
        apply::apply(&self.tree, self.cancel.as_deref(), run, on)
    }

    fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
        self.may_change()?;
        rollback::rollback(&self.tree, run)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the files by other means than the executor")]
mod tests;
