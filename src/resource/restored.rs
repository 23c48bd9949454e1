//! What stood at a path before vprov changed it, or as vprov left it. The ledger speaks of paths in these words; nobody
//! writes them in YAML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cannot, Handle, Links, Resource, Seen, seen::parents_reads, service::daemon_reload};
use crate::host::{
    bytes::{Bytes, Digest},
    matcher::Matcher,
    op::{Op, Owner, Step},
    path::AbsPath,
    read::{Answer, Read},
};

/// Where an administrator's units are (systemd.unit(5)).
const UNITS: &str = "/etc/systemd/system";

/// A path as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// Where.
    pub path: AbsPath,
    /// What stood there.
    #[schemars(with = "String")]
    pub was: Was,
}

/// What stood at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Was {
    /// Nothing.
    Absent,
    /// A regular file.
    File {
        /// The name of its content.
        digest: Digest,
        /// Owner and mode.
        owner: Owner,
        /// Its content, where it is to be written again.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        content: Option<Bytes>,
    },
    /// A symbolic link.
    Link {
        /// As written.
        target: String,
    },
    /// A directory.
    Directory {
        /// Owner and mode.
        owner: Owner,
    },
}

/// What is managed of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl Was {
    /// Takes what was read of a path itself; `None` for what can neither be told nor put back.
    #[must_use]
    pub fn of(answer: &Answer) -> Option<Self> {
        let owner = |meta: &crate::host::read::Meta| Owner { mode: meta.mode, uid: meta.uid, gid: meta.gid };
        Some(match answer {
            Answer::Absent => Self::Absent,
            Answer::File { meta, content: Some(content), .. } => {
                Self::File { digest: content.digest(), owner: owner(meta), content: Some(content.clone()) }
            }
            Answer::Link { target, .. } => Self::Link { target: target.clone() },
            Answer::Directory { meta, .. } => Self::Directory { owner: owner(meta) },
            _ => return None,
        })
    }

    fn state(&self) -> Option<State> {
        let plain = |kind| State { kind, content: None, mode: None, uid: None, gid: None, target: None };
        let owned = |kind, owner: &Owner| State {
            mode: Some(format!("{:04o}", owner.mode)),
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            ..plain(kind)
        };
        match self {
            Self::Absent => None,
            Self::File { digest, owner, .. } => Some(State { content: Some(*digest), ..owned("file", owner) }),
            Self::Link { target } => Some(State { target: Some(target.clone()), ..plain("link") }),
            Self::Directory { owner } => Some(owned("directory", owner)),
        }
    }
}

impl Resource for Restored {
    const KIND: &'static str = "restored";
    const EXAMPLE: &'static str = "";
    const IN_FILES: &'static [&'static str] = &["content"];
    type State = State;

    fn name(&self) -> String {
        self.path.to_string()
    }

    fn links(&self) -> Links {
        Links {
            provides: vec![Handle::Path(self.path.clone())],
            needs: self.path.parent().map(Handle::Path).into_iter().collect(),
        }
    }

    fn reads(&self, _: &Seen) -> Vec<Read> {
        let mut reads = parents_reads(&self.path);
        reads.push(Read::entry(self.path.clone()));
        reads.push(Read::exists(self.path.clone()));
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let answer = seen.get(&Read::entry(self.path.clone()));
        match (Was::of(answer), answer) {
            (Some(was), _) => Ok(was.state()),
            (None, Answer::Denied) => Err(Cannot::Unknown(format!("{} may not be read by this user", self.path))),
            (None, other) => Err(Cannot::Refused(format!("{} is {}", self.path, other.describe()))),
        }
    }

    fn desired(&self, _: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        Ok(self.was.state())
    }

    fn steps(&self, seen: &Seen, from: Option<&State>, _: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let path = &self.path;
        if let Answer::Directory { names, .. } = seen.get(&Read::entry(path.clone())) {
            let full = names.as_deref().and_then(<[String]>::first).filter(|_| self.was == Was::Absent);
            if let Some(name) = full {
                return Err(Cannot::Refused(format!("{path} is not empty (`{name}`), so it stays")));
            }
            if !matches!(self.was, Was::Absent | Was::Directory { .. }) {
                return Err(Cannot::Refused(format!("{path} is a directory, which is not replaced")));
            }
        }
        let mut steps = if from.is_none() { seen.make_parents(path) } else { vec![] };
        steps.push(match &self.was {
            Was::Absent => seen.remove(path),
            Was::File { digest, owner, .. } if from.is_some_and(|from| from.content == Some(*digest)) => {
                let announced = Matcher::File { digest: *digest, mode: owner.mode, uid: owner.uid, gid: owner.gid };
                seen.guarded(path, Op::Chmod { path: path.clone(), owner: *owner }, announced)
            }
            Was::File { content: Some(content), owner, .. } => seen.write(path, content.clone(), *owner),
            Was::File { content: None, .. } => {
                return Err(Cannot::Refused(format!("nobody kept what stood at {path}")));
            }
            Was::Link { target } => {
                let link = Op::Link { path: path.clone(), target: target.clone() };
                seen.guarded(path, link, Matcher::Link { target: target.clone() })
            }
            Was::Directory { .. } if from.is_some_and(|from| from.kind != "directory") => {
                return Err(Cannot::Refused(format!("{path} is a {}", from.map_or("file", |from| from.kind))));
            }
            Was::Directory { owner } => seen.directory(path, *owner),
        });
        // systemd keeps a unit whose file changed as it was until it is told.
        if path.is_within(&AbsPath::known(UNITS)) && seen.facts.init == "systemd" && !seen.offline {
            steps.push(daemon_reload());
        }
        Ok(steps)
    }

    fn is_sensitive(&self, seen: &Seen) -> bool {
        let closed = |mode: u32| mode & 0o004 == 0;
        let now = matches!(seen.get(&Read::entry(self.path.clone())), Answer::File { meta, .. } if closed(meta.mode));
        now || matches!(&self.was, Was::File { owner, .. } if closed(owner.mode))
    }
}
