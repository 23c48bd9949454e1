//! What a test says a host is: paths with contents, programs with outputs; everything else is absent.

use std::collections::BTreeMap;

use super::{AnyResource, Cannot, Comparison, Kind, Remark, Seen};
use crate::{
    config::yaml,
    diag::SourceMap,
    facts::Facts,
    host::{
        bytes::Bytes,
        observed::{Observed, matches_glob},
        op::{Op, Step},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Meta, Output, Read, Want},
    },
};

/// A host of a test.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What stands where; the directories above exist too.
    pub paths: BTreeMap<AbsPath, Answer>,
    /// What programs answer.
    pub programs: BTreeMap<Vec<String>, Answer>,
    /// The facts.
    pub facts: Facts,
    /// Whether the host is a directory.
    pub offline: bool,
}

impl World {
    /// Makes a host with these files, /etc and a kernel.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut world = Self::default().directory("/etc");
        world.facts.kernel.version = "6.4".into();
        world.facts.boot.id = "this boot".into();
        files.iter().fold(world, |world, (path, content)| world.file(path, content))
    }

    /// Checks what comes of an entry: `converged`, or the action and each step in words, or the reason why not; then the remarks.
    #[track_caller]
    pub fn check(&self, entry: &str, expected: &[&str]) {
        assert_eq!(outcome(&self.compare(entry)), expected, "{entry}");
    }

    /// Makes a host with systemd.
    pub fn systemd() -> Self {
        Self { facts: Facts { init: "systemd".into(), ..Facts::default() }, ..Self::default() }
    }

    /// Says that it is a directory, as `--root` has it.
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// Puts a file of mode 0644 somewhere.
    pub fn file(self, path: &str, content: &str) -> Self {
        self.file_with_mode(path, content, 0o644)
    }

    /// Puts a file somewhere.
    pub fn file_with_mode(self, path: &str, content: &str, mode: u32) -> Self {
        let content = Bytes::from(content);
        let meta = Meta { mode, uid: 0, gid: 0, mtime: 1 };
        self.path(path, Answer::File { meta, digest: Some(content.digest()), content: Some(content) })
    }

    /// Puts a link somewhere.
    pub fn link(self, path: &str, target: &str) -> Self {
        let meta = Meta { mode: 0o777, uid: 0, gid: 0, mtime: 1 };
        self.path(path, Answer::Link { meta, target: target.into() })
    }

    /// Puts a directory somewhere.
    pub fn directory(self, path: &str) -> Self {
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 1 };
        self.path(path, Answer::Directory { meta, names: None })
    }

    /// Puts anything somewhere.
    pub fn path(mut self, path: &str, answer: Answer) -> Self {
        self.paths.insert(AbsPath::known(path), answer);
        self
    }

    /// Says what a probe answers.
    pub fn program(mut self, probe: &Probe, status: i32, stdout: &str) -> Self {
        let output = Output { status, stdout: stdout.into(), stderr: Bytes::default() };
        self.programs.insert(probe.argv(), Answer::Output(output));
        self
    }

    /// Answers a question.
    pub fn answer(&self, read: &Read) -> Answer {
        match read {
            Read::Probe(probe) => self.programs.get(&probe.argv()).cloned().unwrap_or(Answer::Absent),
            Read::Path { path, want, .. } => self.at(path, *want),
            Read::Glob { pattern, want } => {
                let found = self.paths.keys().filter(|path| matches_glob(pattern, path));
                Answer::Paths(found.map(|path| (path.clone(), self.at(path, *want))).collect())
            }
        }
    }

    fn at(&self, path: &AbsPath, want: Want) -> Answer {
        let mut answer = self.paths.get(path).cloned().unwrap_or_else(|| {
            match path.as_str() == "/" || self.paths.keys().any(|below| below.is_within(path)) {
                true => Answer::Directory { meta: Meta { mode: 0o755, uid: 0, gid: 0, mtime: 1 }, names: None },
                false => Answer::Absent,
            }
        });
        if let (Answer::File { digest, content, .. }, Want::Meta) = (&mut answer, want) {
            (*digest, *content) = (None, None);
        }
        answer
    }

    /// Plans one entry as a person writes it, and returns what planning knows.
    pub fn compare(&self, entry: &str) -> Comparison {
        let (resource, observed) = self.read(entry, &[]);
        resource.compare(&Seen { observed: &observed, facts: &self.facts, offline: self.offline })
    }

    /// Plans one entry after some steps of earlier resources.
    pub fn compare_after(&self, steps: &[Step], entry: &str) -> Comparison {
        let (resource, observed) = self.read(entry, steps);
        resource.compare(&Seen { observed: &observed, facts: &self.facts, offline: self.offline })
    }

    /// Returns what happens when the resource of an entry is notified.
    pub fn refresh(&self, entry: &str) -> Vec<String> {
        let (resource, observed) = self.read(entry, &[]);
        shown(&resource.refresh(&Seen { observed: &observed, facts: &self.facts, offline: self.offline }))
    }

    /// Returns the changes that an entry needs, as `name: before -> after`, and what is done; or why it cannot be.
    pub fn plan(&self, entry: &str) -> Result<(Vec<String>, Vec<String>), Cannot> {
        plan_of(self.compare(entry))
    }

    /// Lays files, links, directories and removals of some steps over the host.
    pub fn apply(&mut self, steps: &[Step]) {
        let mut staged = BTreeMap::new();
        for step in steps {
            let mut place = |path: &AbsPath, content: &Bytes, mode| {
                *self = std::mem::take(self).file_with_mode(path.as_str(), &content.lossy(), mode);
            };
            match &step.op {
                Op::Stage { name, source: crate::host::op::Source::Content(content) } => {
                    staged.insert(name.clone(), content.clone());
                }
                Op::Write { path, content, owner } => place(path, content, owner.mode),
                Op::Install { name, path, owner, .. } => {
                    if let Some(content) = staged.get(name) {
                        place(path, content, owner.mode);
                    }
                }
                Op::Link { path, target } => *self = std::mem::take(self).link(path.as_str(), target),
                Op::Directory { path, .. } => *self = std::mem::take(self).directory(path.as_str()),
                Op::Remove { path } => {
                    self.paths.remove(path);
                }
                _ => {}
            }
        }
    }

    fn read(&self, entry: &str, steps: &[Step]) -> (Box<dyn AnyResource>, Observed) {
        let resource = parse(entry).unwrap_or_else(|error| panic!("{entry}: {error}"));
        let observed = self.observe(&*resource, steps);
        (resource, observed)
    }

    /// Answers everything that a resource asks, in rounds.
    pub fn observe(&self, resource: &dyn AnyResource, steps: &[Step]) -> Observed {
        let mut observed = Observed::default();
        loop {
            let mut planned = observed.clone();
            planned.announce(steps);
            let seen = Seen { observed: &planned, facts: &self.facts, offline: self.offline };
            let new: Vec<Read> =
                resource.reads(&seen).into_iter().filter(|read| observed.get(read).is_none()).collect();
            if new.is_empty() {
                return planned;
            }
            for read in new {
                let answer = self.answer(&read);
                observed.put(read, answer);
            }
        }
    }
}

/// Returns the changes that a comparison found and what is done; or why it cannot be.
pub fn plan_of(comparison: Comparison) -> Result<(Vec<String>, Vec<String>), Cannot> {
    Ok(match comparison.result? {
        None => (vec![], vec![]),
        Some(difference) => {
            let fields = difference.fields.iter();
            let fields = fields.map(|field| format!("{}: {} -> {}", field.name, field.before, field.after)).collect();
            (fields, shown(&difference.steps))
        }
    })
}

/// Returns the operations of steps in words.
pub fn shown(steps: &[Step]) -> Vec<String> {
    steps.iter().map(|step| step.op.describe()).collect()
}

/// Returns what planning came to, in lines.
pub fn outcome(comparison: &Comparison) -> Vec<String> {
    let mut lines = match &comparison.result {
        Ok(None) => vec!["converged".into()],
        Ok(Some(difference)) => {
            let action = format!("{:?}", difference.action).to_lowercase();
            [action].into_iter().chain(shown(&difference.steps)).collect()
        }
        Err(Cannot::Unknown(why)) => vec![format!("unknown: {why}")],
        Err(Cannot::Unsupported(why)) => vec![format!("unsupported: {why}")],
        Err(Cannot::Refused(why)) => vec![format!("refused: {why}")],
    };
    lines.extend(comparison.remarks.iter().map(|remark| match remark {
        Remark::Warning { text, .. } => format!("warning: {text}"),
        Remark::Reboot { attribute, desired, configured, running } => {
            format!("reboot: {attribute} {desired} / {configured} / {running}")
        }
        Remark::Short { attribute, desired, running } => format!("short: {attribute} {desired} / {running}"),
    }));
    lines
}

/// Checks that an entry is refused before any host is asked: `LINE:COLUMN what`, one line for each problem.
#[track_caller]
pub fn wrong(entry: &str, expected: &str) {
    let sources = SourceMap::new();
    let node = yaml::read("t", entry, &sources).unwrap();
    let (key, parameters) = &node.as_map().unwrap().0[0];
    let problems = (Kind::find(&key.text).unwrap().parse)(parameters).unwrap_err();
    let place = |problem: &crate::diag::Diagnostic| problem.span().map(|span| sources.place(span)).unwrap_or_default();
    let line = |problem: &crate::diag::Diagnostic| format!("{} {}", place(problem).replace("t:", ""), problem.summary);
    assert_eq!(problems.iter().map(line).collect::<Vec<_>>().join("\n"), expected, "{entry}");
}

/// Makes a resource of an entry `kind: { … }`; the error is the first complaint.
pub fn parse(entry: &str) -> Result<Box<dyn AnyResource>, String> {
    let sources = SourceMap::new();
    let node = yaml::read("test.yaml", entry, &sources).map_err(|error| error.summary)?;
    let crate::config::node::Value::Map(map) = &node.value else { return Err("an entry is a map".into()) };
    let (key, parameters) = map.0.first().ok_or("an entry names a kind")?;
    let kind = Kind::find(&key.text).ok_or_else(|| format!("no kind `{}`", key.text))?;
    (kind.parse)(parameters).map_err(|errors| {
        let first = errors.into_iter().next();
        first.map_or_else(String::new, |error| error.summary)
    })
}
