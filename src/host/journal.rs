//! What a journal of a run holds, and how it is read. Pure: the executor writes and reads journals where they are, the
//! controller reads them from afar.

use serde::{Deserialize, Serialize};

use super::{
    bytes::{Bytes, Digest},
    matcher::{Expectation, Matcher},
    op::{Command, Form, Op, Owner},
    path::AbsPath,
    run::RunId,
};
use crate::address::Address;

/// The number of the format of a journal.
pub const FORMAT: &str = "vprov.journal/1";

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Record {
    /// The first line.
    Begun {
        /// [`FORMAT`].
        format: String,
        /// The run.
        run: RunId,
        /// Who asked for it.
        by: String,
        /// When, in seconds since 1970 (UTC), by the clock of the host.
        at: i64,
        /// The nanoseconds behind it: runs of one second keep their order.
        ns: u32,
        /// The run that this one takes back.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        takes_back: Option<RunId>,
    },
    /// An operation is about to act.
    Intent {
        /// Its number in the run, from 0.
        number: usize,
        /// The resource.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        address: Option<Address>,
        /// Its values are secret: what takes it back is shown without them.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        sensitive: bool,
        /// What will be done, for people.
        action: String,
        /// What takes it back, in the order in which it was saved.
        inverses: Vec<Inverse>,
    },
    /// It acted.
    Done {
        /// Its number.
        number: usize,
        /// What stands now at the paths of its inverses.
        now: Vec<(AbsPath, Matcher)>,
    },
    /// It failed; it may have acted in part.
    Failed {
        /// Its number.
        number: usize,
        /// Why.
        error: String,
    },
    /// The last line of a run that came to its end.
    Ended {
        /// When, in seconds since 1970 (UTC).
        at: i64,
        /// How.
        how: Ending,
    },
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Nothing failed.
    Done,
    /// Something failed.
    Failed,
    /// It was told to stop, or nobody was there any more to tell.
    Interrupted,
}

/// What takes a part of an operation back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Inverse {
    /// What stood at a path is put there again.
    Restore {
        /// Where.
        path: AbsPath,
        /// What.
        before: Saved,
        /// What the operation will leave there, where that is known beforehand.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        becomes: Option<Matcher>,
    },
    /// A value of the kernel is written again.
    Value {
        /// Where.
        path: AbsPath,
        /// How it is shown.
        form: Form,
        /// The value; none if it could not be read.
        old: Option<String>,
    },
    /// A program is run.
    Program {
        /// The program that takes it back.
        undo: Command,
        /// The program that was run.
        redo: Command,
        /// What shows that there is something to take back; none: it is run in any case.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        stands: Option<Expectation>,
    },
    /// A derived file is made again out of what it derives from.
    Derive {
        /// Where.
        path: AbsPath,
        /// What stood there; kept for people, never put back.
        before: Saved,
        /// How it is made.
        ops: Vec<Op>,
    },
    /// Nothing takes it back.
    Irreversible,
}

impl Inverse {
    /// Returns the file that it is about; a value of the kernel is none.
    #[must_use]
    pub fn file(&self) -> Option<&AbsPath> {
        match self {
            Self::Restore { path, .. } | Self::Derive { path, .. } => Some(path),
            Self::Value { .. } | Self::Program { .. } | Self::Irreversible => None,
        }
    }

    /// Returns the file or value that it is about.
    #[must_use]
    pub fn path(&self) -> Option<&AbsPath> {
        if let Self::Value { path, .. } = self { Some(path) } else { self.file() }
    }
}

/// Returns the rule that a file of this content and owner satisfies.
#[must_use]
pub fn file(digest: Digest, owner: Owner) -> Matcher {
    Matcher::File { digest, mode: owner.mode, uid: owner.uid, gid: owner.gid }
}

/// What stood at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Saved {
    /// Nothing.
    Absent,
    /// A regular file; its content is in `objects/`.
    File {
        /// The name of the content.
        digest: Digest,
        /// Owner and mode.
        owner: Owner,
        /// Extended attributes.
        xattrs: Vec<(String, Bytes)>,
        /// Seconds and nanoseconds of the last modification.
        mtime: (i64, i64),
    },
    /// A symbolic link.
    Link {
        /// As written.
        target: String,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A directory.
    Directory {
        /// Owner and mode.
        owner: Owner,
        /// Extended attributes.
        xattrs: Vec<(String, Bytes)>,
    },
}

impl Saved {
    /// Returns the rule that what is restored satisfies.
    #[must_use]
    pub fn matcher(&self) -> Matcher {
        match self {
            Self::Absent => Matcher::Absent,
            Self::File { digest, owner, .. } => {
                Matcher::File { digest: *digest, mode: owner.mode, uid: owner.uid, gid: owner.gid }
            }
            Self::Link { target, .. } => Matcher::Link { target: target.clone() },
            Self::Directory { owner, .. } => Matcher::Directory { mode: owner.mode, uid: owner.uid, gid: owner.gid },
        }
    }
}

/// A run as its journal tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Its name.
    pub run: RunId,
    /// Who asked for it.
    pub by: String,
    /// When it began, in seconds since 1970 (UTC) and nanoseconds, by the clock of the host: the order of runs.
    pub began: (i64, u32),
    /// The run that it takes back.
    pub takes_back: Option<RunId>,
    /// What changed the host, oldest first.
    pub intents: Vec<PastIntent>,
    /// When and how it ended; none if nobody saw its end.
    pub ended: Option<(i64, Ending)>,
}

/// An operation of a past run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastIntent {
    /// The resource.
    pub address: Option<Address>,
    /// Its values are secret.
    pub sensitive: bool,
    /// What was done, for people.
    pub action: String,
    /// What takes it back.
    pub inverses: Vec<Inverse>,
    /// What stood at its paths afterwards; none if it did not come to its end.
    pub now: Vec<(AbsPath, Matcher)>,
    /// What came of it; none if nobody saw its end.
    pub outcome: Option<Result<(), String>>,
}

#[derive(Deserialize)]
struct FirstLine {
    begun: FirstRecord,
}

#[derive(Deserialize)]
struct FirstRecord {
    format: String,
}

impl Story {
    /// Reads a journal. A last line that was cut off is left out: what it announces did not begin.
    ///
    /// # Errors
    /// Says where it makes no sense, in words that follow the name of the file; a format of a later version is named.
    pub fn decode(run: &RunId, text: &[u8]) -> Result<Self, String> {
        let mut story =
            Self { run: run.clone(), by: String::new(), began: (0, 0), takes_back: None, intents: vec![], ended: None };
        for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            if !line.ends_with(b"\n") {
                break;
            }
            if at == 0
                && let Ok(FirstLine { begun: FirstRecord { format } }) = serde_json::from_slice(line)
                && format != FORMAT
            {
                return Err(format!(" has the format `{format}`; this vprov knows `{FORMAT}`"));
            }
            let record: Record = serde_json::from_slice(line).map_err(|error| format!(", line {}: {error}", at + 1))?;
            story.take(record).map_err(|words| format!(", line {}: {words}", at + 1))?;
        }
        Ok(story)
    }

    /// Returns what takes the run back, newest first, each with its operation.
    #[must_use]
    pub fn inverses(&self) -> Vec<(&PastIntent, &Inverse)> {
        let intents = self.intents.iter().rev();
        intents.flat_map(|intent| intent.inverses.iter().rev().map(move |inverse| (intent, inverse))).collect()
    }

    /// Returns what stood at a path before the run first changed it.
    #[must_use]
    pub fn first(&self, at: &AbsPath) -> Option<&Saved> {
        self.intents.iter().flat_map(|intent| &intent.inverses).find_map(|inverse| match inverse {
            Inverse::Restore { path, before, .. } if path == at => Some(before),
            _ => None,
        })
    }

    /// Returns a value of the kernel as it was before the run first wrote it.
    #[must_use]
    pub fn first_value(&self, at: &AbsPath) -> Option<&str> {
        self.intents.iter().flat_map(|intent| &intent.inverses).find_map(|inverse| match inverse {
            Inverse::Value { path, old, .. } if path == at => old.as_deref(),
            _ => None,
        })
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        match record {
            Record::Begun { by, at, ns, takes_back, .. } => {
                (self.by, self.began, self.takes_back) = (by, (at, ns), takes_back);
            }
            Record::Intent { address, sensitive, action, inverses, .. } => {
                let (now, outcome) = (vec![], None);
                self.intents.push(PastIntent { address, sensitive, action, inverses, now, outcome });
            }
            Record::Done { number, now } => {
                let intent = self.intent(number)?;
                (intent.now, intent.outcome) = (now, Some(Ok(())));
            }
            Record::Failed { number, error } => self.intent(number)?.outcome = Some(Err(error)),
            Record::Ended { at, how } => self.ended = Some((at, how)),
        }
        Ok(())
    }

    fn intent(&mut self, number: usize) -> Result<&mut PastIntent, String> {
        self.intents.get_mut(number).ok_or_else(|| format!("there is no operation {number}"))
    }
}
