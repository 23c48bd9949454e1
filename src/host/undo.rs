//! Taking a run back: what would be done, what is asked for, what came of it.
//!
//! The preview is made by the executor from the journal and from what stands now, and changes nothing. Its digest goes along
//! with the wish to take the run back, so that what was shown is what is done.

use serde::{Deserialize, Serialize};

use super::{
    HostError,
    bytes::Digest,
    journal::Ending,
    ledger,
    path::AbsPath,
    read::Answer,
    run::{RolledBack, RunId},
};
use crate::address::Address;

/// What taking a run back would do, newest operation first; a path that was changed several times is named once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoPlan {
    /// The run.
    pub run: RunId,
    /// Who asked for it.
    pub by: String,
    /// When it began, in seconds since 1970 (UTC), by the clock of the host.
    pub at: i64,
    /// How it ended; none if nobody saw its end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Ending>,
    /// The run that took it back already.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub taken_back_by: Option<RunId>,
    /// What would be done; empty if all is as it was before the run.
    pub steps: Vec<UndoStep>,
}

/// One thing that would be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoStep {
    /// The resource for which the run did what is taken back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<Address>,
    /// What would be done.
    pub act: UndoAct,
    /// Its values are secret: no report shows them unless it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
    /// What somebody changed since the run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changed: Option<String>,
}

/// What would be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "act", deny_unknown_fields)]
pub enum UndoAct {
    /// What stood at a path is put there again. Contents beyond the limits of a preview are left out.
    Path {
        /// Where.
        path: AbsPath,
        /// What stands there now.
        now: Answer,
        /// What stood there before the run.
        then: Answer,
    },
    /// A value of the kernel is written again.
    Value {
        /// Where.
        path: AbsPath,
        /// The value now, if it can be read.
        now: Option<String>,
        /// The value before the run.
        then: String,
    },
    /// A program is run.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A file is generated again out of what it derives from.
    Generate {
        /// Where.
        path: AbsPath,
        /// The programs that make and check it.
        by: Vec<String>,
    },
    /// Nothing can be done.
    Impossible {
        /// What the run did.
        action: String,
        /// Why it stays.
        reason: String,
    },
}

impl UndoPlan {
    /// Returns the name of what would be done: it changes if and only if that does. Times and the bounds of a preview are no part of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let steps: Vec<UndoStep> = self.steps.iter().map(UndoStep::identity).collect();
        Digest::of(&serde_json::to_vec(&steps).expect("it is plain data with text keys"))
    }

    /// Returns what would be done beside keeping the ledger.
    pub fn deeds(&self) -> impl Iterator<Item = &UndoStep> {
        let keeps = |step: &UndoStep| matches!(&step.act, UndoAct::Path { path, .. } if ledger::is_record(path));
        self.steps.iter().filter(move |step| !keeps(step))
    }

    /// Returns what somebody changed since the run.
    pub fn changed(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.changed.as_deref())
    }
}

impl UndoStep {
    fn identity(&self) -> Self {
        let strip = |answer: &Answer| {
            let mut answer = answer.clone();
            match &mut answer {
                Answer::File { meta, content, .. } => {
                    *content = None;
                    meta.mtime = 0;
                }
                Answer::Link { meta, .. } | Answer::Directory { meta, .. } | Answer::Special { meta } => meta.mtime = 0,
                _ => {}
            }
            answer
        };
        let mut step = self.clone();
        if let UndoAct::Path { now, then, .. } = &mut step.act {
            (*now, *then) = (strip(now), strip(then));
        }
        // It names times.
        step.changed = step.changed.map(|_| String::new());
        step
    }
}

/// A run that is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeBack {
    /// The run.
    pub run: RunId,
    /// The name of the run that does it; the host makes one up where there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<RunId>,
    /// Who asks for it.
    pub by: String,
    /// What becomes of what somebody changed since.
    pub changed: Changed,
    /// The [`UndoPlan::digest`] of what was shown; anything else is not done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expects: Option<Digest>,
}

impl TakeBack {
    /// Takes a run back as far as nobody changed anything since, whatever was shown.
    #[must_use]
    pub fn of(run: &RunId) -> Self {
        let by = format!("rollback of {run}");
        Self { run: run.clone(), id: None, by, changed: Changed::Leave, expects: None }
    }
}

/// What becomes of what somebody changed since the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// Nothing at all is done.
    Refuse,
    /// It is left as it is, and all else is taken back.
    Leave,
    /// It is taken back too; the rollback keeps it, as everything that it changes.
    TakeBack,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", deny_unknown_fields)]
pub enum TookBack {
    /// The run was taken back, as far as it could be.
    Done(RolledBack),
    /// Somebody changed something since the run; nothing was done.
    Changed {
        /// What.
        what: Vec<String>,
    },
    /// What would be done is not what was shown; nothing was done.
    Moved,
    /// Another run holds the host's lock; nothing was done.
    Locked {
        /// Who holds it and since when.
        holder: String,
    },
}

impl TookBack {
    /// Returns what was done, or why nothing was.
    ///
    /// # Errors
    /// Where nothing was done.
    pub fn done(self) -> Result<RolledBack, HostError> {
        match self {
            Self::Done(done) => Ok(done),
            Self::Changed { what } => Err(HostError::Refused(what.join("; "))),
            Self::Moved => Err(HostError::Refused("the host moved since the preview".into())),
            Self::Locked { holder } => Err(HostError::Refused(format!("another run holds the lock: {holder}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{bytes::Bytes, read::Meta};

    #[test]
    fn a_preview_is_known_by_what_it_would_do() {
        let file = |mtime, text: &str, content: bool| Answer::File {
            meta: Meta { mode: 0o644, uid: 0, gid: 0, mtime },
            digest: Some(Bytes::from(text).digest()),
            content: content.then(|| text.into()),
        };
        let plan = |now: Answer| {
            let path = AbsPath::known("/etc/a");
            let act = UndoAct::Path { path, now, then: Answer::Absent };
            let steps = vec![UndoStep { address: None, act, sensitive: false, changed: None }];
            let run = RunId::new(0, 0);
            UndoPlan { run, by: String::new(), at: 0, ended: None, taken_back_by: None, steps }.digest()
        };
        assert_eq!(plan(file(1, "a", true)), plan(file(2, "a", false)));
        assert_ne!(plan(file(1, "a", true)), plan(file(1, "b", true)));
    }
}
