//! [`Observed`]: everything that was read from one host while planning.

use std::collections::BTreeMap;

use super::{
    bytes::Bytes,
    glob::Pattern,
    op::{Op, Owner, Source, Step},
    path::AbsPath,
    read::{Answer, Meta, Read, Want},
};

/// The answers of one host, by question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    answers: BTreeMap<Read, Answer>,
}

impl Observed {
    /// Returns the answer to a question; `None` if it was not asked yet.
    #[must_use]
    pub fn get(&self, read: &Read) -> Option<&Answer> {
        self.answers.get(read)
    }

    /// Keeps an answer.
    pub fn put(&mut self, read: Read, answer: Answer) {
        self.answers.insert(read, answer);
    }

    /// Returns all questions and answers.
    pub fn iter(&self) -> impl Iterator<Item = (&Read, &Answer)> {
        self.answers.iter()
    }

    /// Lays the announced results of steps over the answers, so that what is planned after them sees the host as it will be.
    ///
    /// Files, links and directories are laid over; what a program or the kernel will do is not known here.
    pub fn announce(&mut self, steps: &[Step]) {
        let mut staged: BTreeMap<&str, &Bytes> = BTreeMap::new();
        for step in steps {
            match &step.op {
                Op::Stage { name, source: Source::Content(content) } => {
                    staged.insert(name, content);
                }
                Op::Write { path, content, owner } => self.place(path, &file(content, *owner)),
                Op::Install { name, path, owner, .. } => {
                    if let Some(content) = staged.get(name.as_str()) {
                        self.place(path, &file(content, *owner));
                    }
                }
                Op::Link { path, target } => {
                    let meta = Meta { mode: 0o777, uid: 0, gid: 0, mtime: Meta::PLANNED };
                    self.place(path, &Answer::Link { meta, target: target.clone() });
                }
                Op::Directory { path, owner } => {
                    self.place(path, &Answer::Directory { meta: meta(*owner), names: None });
                }
                Op::Remove { path } => self.place(path, &Answer::Absent),
                Op::Chmod { path, owner } => {
                    for (read, answer) in &mut self.answers {
                        if let (true, Answer::File { meta: found, .. } | Answer::Directory { meta: found, .. }) =
                            (read.path() == Some(path), answer)
                        {
                            *found = meta(*owner);
                        }
                    }
                }
                Op::Poke { .. } | Op::Run { .. } | Op::Stage { .. } | Op::Check(_) => {}
            }
        }
    }

    /// Takes everything below a directory as not there.
    pub fn forget(&mut self, directory: &str) {
        for (read, answer) in &mut self.answers {
            let is_below = |path: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
            match read {
                Read::Path { path, .. } if is_below(path.as_str()) => *answer = Answer::Absent,
                Read::Glob { pattern, .. } if is_below(pattern) => *answer = Answer::Paths(vec![]),
                _ => {}
            }
        }
    }

    fn place(&mut self, path: &AbsPath, new: &Answer) {
        for (read, answer) in &mut self.answers {
            if let (Read::Path { path: asked, .. }, Answer::Directory { names: Some(names), .. }) = (read, &mut *answer)
                && path.parent().as_ref() == Some(asked)
            {
                names.retain(|name| name != path.file_name());
                if *new != Answer::Absent {
                    let at = names.partition_point(|name| name.as_str() < path.file_name());
                    names.insert(at, path.file_name().into());
                }
            }
            match (read, answer) {
                // What a link points to is not looked up again; a planned link is followed by nobody in the same plan.
                (Read::Path { path: asked, want, .. }, answer) if asked == path => *answer = cut(new, *want),
                (Read::Glob { pattern, want }, Answer::Paths(paths)) if matches_glob(pattern, path) => {
                    paths.retain(|(found, _)| found != path);
                    if *new != Answer::Absent {
                        let at = paths.partition_point(|(found, _)| found < path);
                        paths.insert(at, (path.clone(), cut(new, *want)));
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns how many questions were answered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Tells whether nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

fn meta(owner: Owner) -> Meta {
    Meta { mode: owner.mode, uid: owner.uid, gid: owner.gid, mtime: Meta::PLANNED }
}

fn file(content: &Bytes, owner: Owner) -> Answer {
    Answer::File { meta: meta(owner), digest: Some(content.digest()), content: Some(content.clone()) }
}

/// Leaves of an answer only what a question wanted.
fn cut(answer: &Answer, want: Want) -> Answer {
    let mut answer = answer.clone();
    if let Answer::File { digest, content, .. } = &mut answer {
        if want == Want::Meta {
            *digest = None;
        }
        if want != Want::Content {
            *content = None;
        }
    }
    answer
}

/// Tells whether a path matches a pattern in which no wildcard matches `/`; a pattern that makes no sense matches nothing.
#[must_use]
pub fn matches_glob(pattern: &str, path: &AbsPath) -> bool {
    Pattern::new(pattern).is_some_and(|pattern| pattern.matches(path.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_results_are_what_later_questions_see() {
        let path = AbsPath::known("/etc/sysctl.d/90-vprov.conf");
        let other = AbsPath::known("/etc/sysctl.d/99-z.conf");
        let glob = Read::glob("/etc/sysctl.d/*.conf");
        let mut observed = Observed::default();
        observed.put(Read::entry(path.clone()), Answer::Absent);
        observed.put(Read::exists(path.clone()), Answer::Absent);
        observed.put(glob.clone(), Answer::Paths(vec![(other.clone(), Answer::Denied)]));
        let op = Op::Write { path: path.clone(), content: "a=1\n".into(), owner: Owner::root(0o644) };
        observed.announce(&[Step::new(op)]);
        assert_eq!(observed.get(&Read::entry(path.clone())).unwrap().text(), Some("a=1\n"));
        assert_eq!(observed.get(&Read::exists(path.clone())).unwrap().content(), None);
        let Some(Answer::Paths(paths)) = observed.get(&glob) else { panic!("a glob answers paths") };
        assert_eq!(paths.iter().map(|(path, _)| path).collect::<Vec<_>>(), [&path, &other]);
        observed.announce(&[Step::new(Op::Remove { path: path.clone() })]);
        assert_eq!(observed.get(&Read::entry(path)), Some(&Answer::Absent));
        let Some(Answer::Paths(paths)) = observed.get(&glob) else { panic!("a glob answers paths") };
        assert_eq!(paths.len(), 1);
    }

    #[test]
    fn wildcards_match_no_slash() {
        assert!(matches_glob("/sys/block/*/queue/scheduler", &AbsPath::known("/sys/block/sda/queue/scheduler")));
        assert!(!matches_glob("/etc/*", &AbsPath::known("/etc/a/b")));
        assert!(matches_glob("/etc/[", &AbsPath::known("/etc/[")));
    }
}
