//! [`Seen`]: what a resource may know of its host while it is planned.

use crate::{
    facts::Facts,
    host::{
        bytes::Bytes,
        matcher::{Expectation, Matcher},
        observed::Observed,
        op::{Op, Owner, Step},
        path::AbsPath,
        read::{Answer, Read},
    },
};

/// What was read of a host, with the announced results of everything that is planned before this resource laid over it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The answers.
    pub observed: &'a Observed,
    /// The facts.
    pub facts: &'a Facts,
    /// The host is a directory (`--root`): nothing runs there, no live value and no unit state is managed.
    pub offline: bool,
}

/// Why a resource cannot be planned on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cannot {
    /// Something may not be read by this user; the resource is unknown, which is not absent.
    Unknown(String),
    /// The host has no such thing (a PV dom0 has no transparent huge pages): told, not failed.
    Unsupported(String),
    /// The host cannot be brought to what is asked.
    Refused(String),
}

impl<'a> Seen<'a> {
    /// Returns an answer; what was not asked is a failure in words, never absent.
    #[must_use]
    pub fn get(&self, read: &Read) -> &'a Answer {
        static NOT_ASKED: Answer = Answer::Failed(String::new());
        self.observed.get(read).unwrap_or(&NOT_ASKED)
    }

    /// Tells whether an answer is there already; a kind that reads in rounds asks this.
    #[must_use]
    pub fn has(&self, read: &Read) -> bool {
        self.observed.get(read).is_some()
    }

    /// Returns the content of a file that was read by [`Read::content`]; `None` where there is none.
    ///
    /// # Errors
    /// [`Cannot::Unknown`] where it may not be read, [`Cannot::Refused`] where it cannot or is no file.
    pub fn content(&self, path: &AbsPath) -> Result<Option<&'a Bytes>, Cannot> {
        self.file(path, self.get(&Read::content(path.clone())))
    }

    /// Returns the content of a file as text.
    ///
    /// # Errors
    /// As [`Seen::content`], and [`Cannot::Refused`] where it is no UTF-8.
    pub fn text(&self, path: &AbsPath) -> Result<Option<&'a str>, Cannot> {
        self.content(path)?
            .map(|content| content.text().ok_or_else(|| Cannot::Refused(format!("{path} is no UTF-8 text"))))
            .transpose()
    }

    /// Returns the content of what stands at a path itself, read by [`Read::entry`]; `None` where there is nothing.
    ///
    /// # Errors
    /// As [`Seen::content`]; a link is no file.
    pub fn entry(&self, path: &AbsPath) -> Result<Option<&'a Bytes>, Cannot> {
        self.file(path, self.get(&Read::entry(path.clone())))
    }

    fn file(&self, path: &AbsPath, answer: &'a Answer) -> Result<Option<&'a Bytes>, Cannot> {
        match answer {
            Answer::Absent => Ok(None),
            Answer::File { content: Some(content), .. } => Ok(Some(content)),
            Answer::Denied => Err(Cannot::Unknown(format!("{path} may not be read by this user"))),
            Answer::Failed(error) => Err(Cannot::Refused(format!("{path} cannot be read: {error}"))),
            other => Err(Cannot::Refused(format!("{path} is {}, not a file", other.describe()))),
        }
    }

    /// Makes the step that writes a whole file: guarded by what was read of it with [`Read::entry`], announcing the result.
    #[must_use]
    pub fn write(&self, path: &AbsPath, content: impl Into<Bytes>, owner: Owner) -> Step {
        let content = content.into();
        let announced = Matcher::File { digest: content.digest(), mode: owner.mode, uid: owner.uid, gid: owner.gid };
        self.guarded(path, Op::Write { path: path.clone(), content, owner }, announced)
    }

    /// Makes the step that removes what stands at a path.
    #[must_use]
    pub fn remove(&self, path: &AbsPath) -> Step {
        self.guarded(path, Op::Remove { path: path.clone() }, Matcher::Absent)
    }

    /// Makes the steps that create the directories above a path which do not exist, outermost first, mode 0755 root.
    /// What is above must have been read by [`parents_reads`].
    #[must_use]
    pub fn make_parents(&self, path: &AbsPath) -> Vec<Step> {
        let mut steps = vec![];
        let mut next = path.parent();
        while let Some(parent) = next {
            if !matches!(self.get(&Read::exists(parent.clone())), Answer::Absent) {
                break;
            }
            steps.push(self.directory(&parent, Owner::root(0o755)));
            next = parent.parent();
        }
        steps.reverse();
        steps
    }

    /// Makes the step that creates a directory or changes its mode and owner.
    #[must_use]
    pub fn directory(&self, path: &AbsPath, owner: Owner) -> Step {
        let announced = Matcher::Directory { mode: owner.mode, uid: owner.uid, gid: owner.gid };
        let read = Read::Path { path: path.clone(), follow: true, want: crate::host::read::Want::Meta };
        Step::new(Op::Directory { path: path.clone(), owner })
            .guard(Expectation::new(read.clone(), Matcher::same_as(self.get(&read))))
            .after(Expectation::new(read, announced))
    }

    /// Makes a step about what stands at a path itself, guarded by what was read of it with [`Read::entry`].
    #[must_use]
    pub fn guarded(&self, path: &AbsPath, op: Op, announced: Matcher) -> Step {
        let read = Read::entry(path.clone());
        let guard = Expectation::new(read.clone(), Matcher::same_as(self.get(&read)));
        Step::new(op).guard(guard).after(Expectation::new(read, announced))
    }

    /// Returns owner and mode that a file has now, else those given.
    #[must_use]
    pub fn owner_or(&self, path: &AbsPath, default: Owner) -> Owner {
        match self.get(&Read::entry(path.clone())).meta() {
            Some(meta) => Owner { mode: meta.mode, uid: meta.uid, gid: meta.gid },
            None => default,
        }
    }
}

/// Returns the questions that [`Seen::make_parents`] needs answered.
#[must_use]
pub fn parents_reads(path: &AbsPath) -> Vec<Read> {
    let mut reads = vec![];
    let mut next = path.parent();
    while let Some(parent) = next {
        next = parent.parent();
        reads.push(Read::exists(parent));
    }
    reads
}
