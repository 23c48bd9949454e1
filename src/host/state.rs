//! Where vprov keeps what it must remember on a host. Everything is owned by root and closed to others (0700).

use serde::{Deserialize, Serialize};

use super::{
    bytes::Digest,
    path::AbsPath,
    read::{Answer, Read, Want},
    run::RunId,
};

/// The directory of all state: `executor/SHA256`, `lock`, `ledger`, `owed/`, `short/`, `runs/RUN/`.
pub const STATE_DIR: &str = "/var/lib/vprov";

/// A record of an activation (a restart, a daemon-reload, a regeneration) that a write made due. It is written before the
/// write and removed after the activation, so that a cut between the two never loses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owed {
    /// The activation: the address of the resource that is to be refreshed.
    pub activation: String,
    /// The run that made it due.
    pub run: RunId,
}

impl Owed {
    /// Returns the file that records an activation.
    #[must_use]
    pub fn path(activation: &str) -> AbsPath {
        AbsPath::known(&format!("{STATE_DIR}/owed/{}", Digest::of(activation.as_bytes())))
    }

    /// Asks for all records.
    #[must_use]
    pub fn read() -> Read {
        Read::Glob { pattern: format!("{STATE_DIR}/owed/*"), want: Want::Content }
    }
}

/// A record that the kernel gave less than it was asked for. It holds for one boot: memory that is free after the next one
/// may be enough, so the value is not tried again before that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Short {
    /// The file that was written.
    pub path: AbsPath,
    /// What was written.
    pub wanted: String,
    /// What the kernel shows afterwards.
    pub found: String,
    /// The boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
}

impl Short {
    /// Returns the file that holds the record of a value.
    #[must_use]
    pub fn place(of: &AbsPath) -> AbsPath {
        AbsPath::known(&format!("{STATE_DIR}/short/{}", Digest::of(of.as_str().as_bytes())))
    }

    /// Asks for the record of a value.
    #[must_use]
    pub fn read(of: &AbsPath) -> Read {
        Read::content(Self::place(of))
    }
}

/// What stands in the directory of a run that waits to be confirmed, see [`super::run::Run::confirm_within`].
pub const UNCONFIRMED: &str = "unconfirmed";

/// What stands there while the host takes it back because nobody confirmed it.
pub const TAKING_BACK: &str = "taking-back";

/// What stands in the directory of a run that did not come to its end.
pub const UNFINISHED: [&str; 4] = ["open", "interrupted", UNCONFIRMED, TAKING_BACK];

/// A record of a run that did not come to its end, in `runs/RUN/open` while it goes on or its executor died, in
/// `runs/RUN/interrupted` once that was noticed or the run was told to stop, in `runs/RUN/unconfirmed` while it waits to be confirmed. A later run that ends well removes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// The run.
    pub run: RunId,
    /// Who asked for it.
    pub by: String,
    /// When it began, in seconds since 1970 (UTC), by the clock of the host.
    pub at: i64,
}

impl Unfinished {
    /// Asks for all records.
    #[must_use]
    pub fn reads() -> [Read; 4] {
        UNFINISHED.map(|name| Read::glob(format!("{STATE_DIR}/runs/*/{name}")))
    }

    /// Takes the records out of the answers, oldest run first.
    pub fn decode<'a>(answers: impl IntoIterator<Item = Option<&'a Answer>>) -> Vec<Self> {
        let paths = answers.into_iter().flatten().flat_map(|answer| match answer {
            Answer::Paths(paths) => paths.as_slice(),
            _ => &[],
        });
        let records = paths.filter_map(|(_, answer)| serde_json::from_slice::<Self>(&answer.content()?.0).ok());
        let mut records: Vec<Self> = records.collect();
        records.sort_by(|one, other| (one.at, &one.run).cmp(&(other.at, &other.run)));
        records.dedup();
        records
    }
}
