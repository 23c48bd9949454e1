//! What a run tells the outside while it goes on: the whole contract between the pipeline and whoever shows progress.

use serde::Serialize;

use crate::{address::Address, host::run::Outcome};

/// Something that happened on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// The host's name in the inventory.
    pub host: String,
    /// What happened.
    #[serde(flatten)]
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
    /// A step of an apply begins.
    Step {
        /// The resource.
        address: Address,
        /// What is done, as [`crate::host::run::Work::describe`] says it.
        action: String,
    },
    /// A resource is done.
    Resource {
        /// The resource.
        address: Address,
        /// What came of it.
        outcome: Outcome,
    },
    /// The host is done.
    Done {
        /// It is as it should be.
        good: bool,
        /// What came of it, in words.
        words: String,
    },
}
