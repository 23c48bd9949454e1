//! What a run tells the outside while it goes on: the whole contract between the pipeline and whoever shows progress.

use serde::Serialize;

use crate::host::run::StepEvent;

/// Something that happened on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The host's name in the inventory.
    pub host: String,
    /// What happened.
    pub what: Happened,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "happened")]
pub enum Happened {
    /// A connection is being made.
    Connecting,
    /// The executor answers.
    Connected,
    /// The facts are known.
    Facts,
    /// Everything that the plan needs is read and compared.
    Planned,
    /// A step of an apply.
    Step(StepEvent),
    /// The host is done.
    Done,
}
