//! What can be asked of a host. No read changes anything.

use serde::{Deserialize, Serialize};

use super::{
    bytes::{Bytes, Digest},
    path::AbsPath,
    probe::Probe,
};

/// One question to a host. Equal questions are asked once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Read {
    /// What stands at a path.
    Path {
        /// The path.
        path: AbsPath,
        /// Whether a symbolic link as last component is followed. What vprov itself places is read without following.
        follow: bool,
        /// How much of a regular file is wanted.
        want: Want,
    },
    /// All paths that match a shell glob (`*`, `?`, `[…]`; none of them matches `/`), links followed, sorted by path.
    Glob {
        /// An absolute pattern.
        pattern: String,
        /// How much of each regular file is wanted.
        want: Want,
    },
    /// A program that changes nothing.
    Probe(Probe),
}

/// How much of a regular file (or of a directory) an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// Kind, owner and mode only.
    Meta,
    /// Also the digest of a file's content.
    Digest,
    /// Also the content of a file, or the names in a directory.
    Content,
}

impl Read {
    /// Asks for a file's content, a link followed: how a configuration file is read.
    #[must_use]
    pub fn content(path: AbsPath) -> Self {
        Self::Path { path, follow: true, want: Want::Content }
    }

    /// Asks for what stands at a path itself, with a file's content: how a managed path is read.
    #[must_use]
    pub fn entry(path: AbsPath) -> Self {
        Self::Path { path, follow: false, want: Want::Content }
    }

    /// Asks only whether and as what a path exists, a link followed.
    #[must_use]
    pub fn exists(path: AbsPath) -> Self {
        Self::Path { path, follow: true, want: Want::Meta }
    }

    /// Asks for all files that match, with their contents.
    #[must_use]
    pub fn glob(pattern: impl Into<String>) -> Self {
        Self::Glob { pattern: pattern.into(), want: Want::Content }
    }

    /// Returns the path that the question is about, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&AbsPath> {
        match self {
            Self::Path { path, .. } => Some(path),
            Self::Glob { .. } | Self::Probe(_) => None,
        }
    }
}

/// What a host answers to one [`Read`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// There is nothing: ENOENT or ENOTDIR; for a probe, no such program.
    Absent,
    /// The host refused to tell (EACCES, EPERM): unknown, which is not absent.
    Denied,
    /// The host could not tell: any other error, in the system's own words, or a limit that was passed.
    Failed(String),
    /// A regular file.
    File {
        /// Owner, mode and time.
        meta: Meta,
        /// The name of the content, where it was wanted.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        digest: Option<Digest>,
        /// The content, where it was wanted.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        content: Option<Bytes>,
    },
    /// A symbolic link that was not followed.
    Link {
        /// Owner, mode and time of the link itself.
        meta: Meta,
        /// Where it points, as written.
        target: String,
    },
    /// A directory.
    Directory {
        /// Owner, mode and time.
        meta: Meta,
        /// The names in it, sorted, where wanted.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        names: Option<Vec<String>>,
    },
    /// A device, socket or pipe.
    Special {
        /// Owner, mode and time.
        meta: Meta,
    },
    /// The paths that match a glob, each with its own answer.
    Paths(Vec<(AbsPath, Answer)>),
    /// What a program printed and how it ended.
    Output(Output),
}

/// Owner, mode and time of what stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Permission bits with set-user-ID, set-group-ID and sticky (the low 12 bits of `st_mode`).
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// When it was last modified, in seconds since 1970 (UTC); [`Meta::PLANNED`] while it is only planned.
    pub mtime: i64,
}

impl Meta {
    /// The time of what an earlier resource of the same plan will place.
    pub const PLANNED: i64 = i64::MIN;

    /// Tells whether it is not there yet, or not so yet: an earlier resource of the same plan will place it.
    #[must_use]
    pub fn is_planned(&self) -> bool {
        self.mtime == Self::PLANNED
    }
}

/// How a program ended and what it printed, each stream up to the executor's limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The exit status; the negative number of the signal that ended it.
    pub status: i32,
    /// The standard output.
    pub stdout: Bytes,
    /// The standard error.
    pub stderr: Bytes,
}

impl Answer {
    /// Returns a file's content, or a program's standard output if it ended with 0.
    #[must_use]
    pub fn content(&self) -> Option<&Bytes> {
        match self {
            Self::File { content, .. } => content.as_ref(),
            Self::Output(Output { status: 0, stdout, .. }) => Some(stdout),
            _ => None,
        }
    }

    /// Returns [`Answer::content`] as text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.content().and_then(Bytes::text)
    }

    /// Returns owner and mode of whatever stands there.
    #[must_use]
    pub fn meta(&self) -> Option<&Meta> {
        match self {
            Self::File { meta, .. }
            | Self::Link { meta, .. }
            | Self::Directory { meta, .. }
            | Self::Special { meta } => Some(meta),
            Self::Absent | Self::Denied | Self::Failed(_) | Self::Paths(_) | Self::Output(_) => None,
        }
    }

    /// Names what stands there for people: `a regular file`, `nothing`, …
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Absent => "nothing".into(),
            Self::Denied => "something that may not be read".into(),
            Self::Failed(error) => format!("something that cannot be read ({error})"),
            Self::File { .. } => "a regular file".into(),
            Self::Link { target, .. } => format!("a symbolic link to `{target}`"),
            Self::Directory { .. } => "a directory".into(),
            Self::Special { .. } => "a device, socket or pipe".into(),
            Self::Paths(paths) => format!("{} paths", paths.len()),
            Self::Output(output) => format!("exit status {}", output.status),
        }
    }
}
