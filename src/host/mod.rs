//! The narrow waist: what can be asked of a host, and done to it.
//!
//! A resource compiles to [`read::Read`]s and [`op::Op`]s, both small closed sets of plain data. Everything that stands
//! after planning (plan file, wire, executor, journal, reports) handles these and never names a kind.

pub mod bytes;
pub mod exec;
pub mod fake;
pub mod glob;
pub mod history;
pub mod journal;
pub mod matcher;
pub mod observed;
pub mod op;
pub mod path;
pub mod probe;
pub mod read;
pub mod run;
pub mod state;
pub mod ledger;
pub mod undo;

use run::{Applied, RolledBack, Run, RunId, StepEvent};
use undo::{TakeBack, TookBack, UndoPlan};

/// A host that answers questions and performs operations: in this process, at the other end of a channel, or in memory.
pub trait Host: Send {
    /// Answers a batch of questions, in their order, in one message.
    ///
    /// # Errors
    /// Fails only if the host as a whole cannot be asked; what single questions meet is in their answers.
    fn read(&mut self, reads: &[read::Read]) -> Result<Vec<read::Answer>, HostError>;

    /// Performs a run: lock, check of all guards, then each step with journal, backup and read-back.
    ///
    /// # Errors
    /// Fails only if the host was lost while the run went on; what steps meet is in the outcome.
    fn apply(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError>;

    /// Takes a run back from its journal alone, newest operation first; what somebody changed since is left and told.
    ///
    /// # Errors
    /// Fails if there is no such run or the host is lost.
    fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError>;

    /// Tells what taking a run back would do; changes nothing.
    ///
    /// # Errors
    /// Fails if there is no such run or the host is lost.
    fn undo_plan(&mut self, run: &RunId) -> Result<UndoPlan, HostError> {
        Err(HostError::Refused(format!("this host does not tell what taking `{run}` back would do")))
    }

    /// Takes a run back as it is asked to. Doing so is a run itself.
    ///
    /// # Errors
    /// Fails if there is no such run, if it was taken back already, or if the host is lost.
    fn undo(&mut self, what: &TakeBack) -> Result<TookBack, HostError> {
        self.rollback(&what.run).map(TookBack::Done)
    }

    /// Confirms a run that the host takes back otherwise, see [`Run::confirm_within`].
    ///
    /// # Errors
    /// Fails if no such run waits to be confirmed, or the host is lost.
    fn confirm(&mut self, run: &RunId) -> Result<(), HostError> {
        Err(HostError::Refused(format!("no run `{run}` waits to be confirmed")))
    }
}

/// Why a host as a whole could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No connection came about, or it was lost.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The connection stands, but vprov could not be started or may not do what it must there.
    #[error("{0}")]
    Refused(String),
    /// The other end answered what no executor answers.
    #[error("the executor's answer makes no sense: {0}")]
    Protocol(String),
}
