//! What can be done to a host: a small closed set of operations.
//!
//! systemd, grub and their like are not operations but codecs that make an argv. So the part that runs as root stays
//! small, and plan file, wire, journal and reports never name a kind.

use serde::{Deserialize, Serialize};

use super::{
    bytes::Bytes,
    ledger,
    matcher::{Expectation, Matcher},
    path::AbsPath,
};

/// Owner and mode of what an operation places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The low 12 bits of the mode.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    /// root:root with this mode.
    #[must_use]
    pub fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Replaces or creates a regular file atomically; extended attributes of a replaced file (SELinux label, ACL) are kept.
    Write {
        /// Where.
        path: AbsPath,
        /// The whole new content.
        content: Bytes,
        /// Owner and mode.
        owner: Owner,
    },
    /// Replaces or creates a symbolic link atomically.
    Link {
        /// Where.
        path: AbsPath,
        /// As it will be written in the link.
        target: String,
    },
    /// Creates a directory whose parent exists, or gives an existing one this owner and mode.
    Directory {
        /// Where.
        path: AbsPath,
        /// Owner and mode.
        owner: Owner,
    },
    /// Removes a file, a link or an empty directory.
    Remove {
        /// Where.
        path: AbsPath,
    },
    /// Gives a file or directory this owner and mode, its content untouched.
    Chmod {
        /// Where.
        path: AbsPath,
        /// Owner and mode.
        owner: Owner,
    },
    /// Writes a value into an existing file of /proc or /sys by one `write` call; undone by writing the old value.
    Poke {
        /// Where.
        path: AbsPath,
        /// The value; a newline is added.
        value: String,
        /// How the old value is read before it is overwritten.
        form: Form,
    },
    /// Runs a program.
    Run {
        /// What to run.
        command: Command,
        /// Files that the program writes: backed up before it runs, restored by a rollback.
        produces: Vec<AbsPath>,
        /// What takes it back.
        undo: Undo,
    },
    /// Puts a content into a private temporary file that later operations of the same resource name by `name`.
    Stage {
        /// The name.
        name: String,
        /// Where the content comes from.
        source: Source,
    },
    /// Fails unless a predicate holds; changes nothing.
    Check(Check),
    /// Replaces or creates a file by a staged one, atomically.
    Install {
        /// The staged file.
        name: String,
        /// Where.
        path: AbsPath,
        /// Owner and mode.
        owner: Owner,
        /// The file is derived from others: a rollback makes it anew instead of restoring it.
        derived: bool,
    },
}

/// How a value of the kernel is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As it is written.
    Plain,
    /// As a list with the current choice in brackets.
    Choice,
}

/// A program with arguments; never a shell. It gets an empty standard input unless `stdin` says otherwise, and a fixed
/// environment (`LC_ALL=C.UTF-8` and a PATH of system directories).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments. With `staged`, each argument that is exactly `{}` becomes the path of the staged file.
    pub argv: Vec<String>,
    /// The staged file that `{}` stands for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub staged: Option<String>,
    /// The standard input.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stdin: Option<Bytes>,
    /// After how many seconds the program and its children are ended.
    pub timeout_s: u32,
    /// What becomes of it under `--root DIR`.
    pub under_root: UnderRoot,
}

impl Command {
    /// Makes a command that is left for boot under `--root` and may take two minutes.
    #[must_use]
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self { argv, staged: None, stdin: None, timeout_s: 120, under_root: UnderRoot::LeftForBoot }
    }

    /// Names the staged file that `{}` stands for.
    #[must_use]
    pub fn with_staged(mut self, name: &str) -> Self {
        self.staged = Some(name.into());
        self
    }

    /// Says what becomes of the command under `--root`.
    #[must_use]
    pub fn under_root(mut self, under_root: UnderRoot) -> Self {
        self.under_root = under_root;
        self
    }

    /// Sets the time limit in seconds.
    #[must_use]
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout_s = seconds;
        self
    }
}

/// What becomes of a program under `--root DIR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnderRoot {
    /// It is not run; the next boot of that root does what it would have done.
    LeftForBoot,
    /// It is run as it is: it reads only the files that it is given.
    AsIs,
    /// This option is put behind the program's name with `=DIR` (`systemctl --root=DIR`).
    Option(String),
}

/// What takes a program's effect back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// Nothing can.
    Irreversible,
    /// Restoring the files that it produced, or nothing at all.
    Nothing,
    /// This program, after the files are restored.
    Run(Command),
    /// This program, where the effect stands: it would fail where the effect never came, or somebody took it back already.
    RunWhile {
        /// What shows the effect.
        stands: Box<Expectation>,
        /// The program.
        command: Command,
    },
}

/// Where a staged content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It is given.
    Content(Bytes),
    /// What a program prints.
    Stdout(Command),
    /// What a program writes into the file that its argument `{}` names.
    Argument(Command),
}

/// A predicate that must hold before a staged file is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// A program ends with 0.
    Succeeds(Command),
    /// A staged file satisfies a rule.
    Staged {
        /// The staged file.
        name: String,
        /// The rule.
        matcher: Matcher,
    },
    /// Every path that a staged file names exists: the `word`th word (from 0) of each line whose first word is one of
    /// `first_words`, at that path, below one of `below`, or by its last component in one of them.
    PathsExist {
        /// The staged file.
        name: String,
        /// First words of the lines that count.
        first_words: Vec<String>,
        /// Which word of the line is the path.
        word: usize,
        /// Directories in which such paths are looked up.
        below: Vec<AbsPath>,
    },
}

/// An operation with what must be true before and after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// What the plan saw; anything else refuses the operation.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub guards: Vec<Expectation>,
    /// What a later read must show. An operation whose announced result already stands is done and is not repeated.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub after: Vec<Expectation>,
    /// The kernel may give less than asked (huge pages): then the resource is *short*, not failed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub may_fall_short: bool,
    /// Activations that this operation makes due; recorded before it acts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub owes: Vec<String>,
    /// Activations that are done when this operation is; their records are removed after it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub settles: Vec<String>,
}

impl Step {
    /// Makes a step without guards or announced results.
    #[must_use]
    pub fn new(op: Op) -> Self {
        Self { op, guards: vec![], after: vec![], may_fall_short: false, owes: vec![], settles: vec![] }
    }

    /// Adds a guard.
    #[must_use]
    pub fn guard(mut self, guard: Expectation) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds an announced result.
    #[must_use]
    pub fn after(mut self, after: Expectation) -> Self {
        self.after.push(after);
        self
    }
}

impl Op {
    /// Returns the path that the operation places, removes or changes, if it is about one.
    #[must_use]
    pub fn path(&self) -> Option<&AbsPath> {
        match self {
            Self::Write { path, .. }
            | Self::Link { path, .. }
            | Self::Directory { path, .. }
            | Self::Remove { path }
            | Self::Chmod { path, .. }
            | Self::Poke { path, .. }
            | Self::Install { path, .. } => Some(path),
            Self::Run { .. } | Self::Stage { .. } | Self::Check(_) => None,
        }
    }

    /// Returns after how many seconds the program that it runs is ended, and the one that checks it; 0 where it runs none.
    #[must_use]
    pub fn timeout_s(&self) -> u64 {
        match self {
            Self::Run { command, .. }
            | Self::Stage { source: Source::Stdout(command) | Source::Argument(command), .. }
            | Self::Check(Check::Succeeds(command)) => command.timeout_s.into(),
            _ => 0,
        }
    }

    /// Tells whether the journal alone can take the operation back.
    #[must_use]
    pub fn is_reversible(&self) -> bool {
        !matches!(self, Self::Run { undo: Undo::Irreversible, .. })
    }

    /// Says in one line what is done where values are secret: as [`Op::describe`], without arguments and values.
    #[must_use]
    pub fn describe_hidden(&self) -> String {
        let program = |command: &Command| command.argv.first().cloned().unwrap_or_default();
        match self {
            Self::Link { path, .. } => format!("link {path}"),
            Self::Poke { path, .. } => format!("write {path}"),
            Self::Run { command, .. } => format!("run {} (arguments not shown)", program(command)),
            Self::Stage { source: Source::Stdout(command) | Source::Argument(command), .. } => {
                format!("generate by {} (arguments not shown)", program(command))
            }
            Self::Check(Check::Succeeds(command)) => format!("check by {} (arguments not shown)", program(command)),
            Self::Check(Check::Staged { .. }) => "check the new content".into(),
            op => op.describe(),
        }
    }

    /// Says in one line what is done, for people; contents are left out.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Write { path, .. } if ledger::is_record(path) => "remember what was there".into(),
            Self::Remove { path } if ledger::is_record(path) => "forget what was there".into(),
            Self::Write { path, .. } => format!("write {path}"),
            Self::Link { path, target } => format!("link {path} to {target}"),
            Self::Directory { path, .. } => format!("make directory {path}"),
            Self::Remove { path } => format!("remove {path}"),
            Self::Chmod { path, owner } => {
                format!("set {path} to mode {:04o}, owner {}:{}", owner.mode, owner.uid, owner.gid)
            }
            Self::Poke { path, value, .. } => format!("write `{value}` to {path}"),
            Self::Run { command, .. } => format!("run {}", command.argv.join(" ")),
            Self::Stage { source: Source::Content(_), .. } => "stage the new content".into(),
            Self::Stage { source: Source::Stdout(command) | Source::Argument(command), .. } => {
                format!("generate by {}", command.argv.join(" "))
            }
            Self::Check(Check::Succeeds(command)) => format!("check by {}", command.argv.join(" ")),
            Self::Check(Check::Staged { matcher, .. }) => format!("check for {}", matcher.describe()),
            Self::Check(Check::PathsExist { .. }) => "check that every file it names exists".into(),
            Self::Install { path, .. } => format!("install {path}"),
        }
    }
}
