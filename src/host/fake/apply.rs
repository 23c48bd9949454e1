//! Runs and rollbacks of a [`super::FakeHost`], written anew from the meaning of [`crate::host::run::Run`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Defect, FakeHost, Node, World};
use crate::host::{
    HostError,
    bytes::Bytes,
    ledger,
    matcher::{Expectation, Matcher, choice},
    op::{Check, Command, Form, Op, Owner, Source, Step, Undo},
    path::AbsPath,
    read::{Answer, Read, Want},
    run::{Applied, Moved, Outcome, RolledBack, Run, RunId, StepEvent, Work},
    state::{Owed, STATE_DIR, Short},
};

/// What takes an operation back.
#[derive(Clone)]
pub(super) enum Entry {
    File(AbsPath, Option<Node>),
    Value(AbsPath, Form, String),
    Program(Command, Option<Expectation>),
    Derive(AbsPath, Vec<Op>),
    Irreversible(String),
}

type Staged = BTreeMap<String, Bytes>;

/// Why a step did not end well: the host is gone, or the step failed.
enum Stop {
    Host(HostError),
    Step(String),
}

impl From<HostError> for Stop {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<String> for Stop {
    fn from(error: String) -> Self {
        Self::Step(error)
    }
}

impl FakeHost {
    pub(super) fn perform(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        self.point()?;
        if let Some(holder) = &self.lock {
            return Ok(Applied::Locked { holder: holder.clone() });
        }
        let moved = if self.defect == Some(Defect::NoGuard) { vec![] } else { self.moved(run) };
        if !moved.is_empty() {
            return Ok(Applied::Stale { moved });
        }
        let mut outcomes: Vec<Outcome> = vec![];
        for (index, work) in run.works.iter().enumerate() {
            let bad = |at: &&usize| {
                matches!(
                    outcomes.get(**at),
                    Some(
                        Outcome::Failed { .. }
                            | Outcome::Blocked { .. }
                            | Outcome::Interrupted { .. }
                            | Outcome::NotStarted
                    )
                )
            };
            let outcome = match work.needs.iter().find(bad) {
                Some(by) => Outcome::Blocked { by: *by },
                None => self.perform_work(run, index, work, on)?,
            };
            on(&StepEvent::Ended { work: index, outcome: outcome.clone() });
            outcomes.push(outcome);
        }
        Ok(Applied::Ran { outcomes })
    }

    fn fits(&self, expectation: &Expectation) -> bool {
        expectation.matcher.matches(&self.answer(&expectation.read))
    }

    fn stands(&self, step: &Step) -> bool {
        !step.after.is_empty() && step.after.iter().all(|after| self.fits(after))
    }

    fn moved(&self, run: &Run) -> Vec<Moved> {
        let mut announced: BTreeSet<Read> = BTreeSet::new();
        let mut touched: BTreeSet<AbsPath> = BTreeSet::new();
        let mut moved = vec![];
        for work in &run.works {
            for step in &work.steps {
                if !self.stands(step) {
                    for guard in &step.guards {
                        let later = announced.contains(&guard.read)
                            || guard.read.path().is_some_and(|path| touched.contains(path));
                        if !later && !self.fits(guard) {
                            moved.push(Moved {
                                address: work.address.clone(),
                                expected: guard.clone(),
                                found: self.answer(&guard.read).describe(),
                                mtime: None,
                                sensitive: work.sensitive,
                            });
                        }
                    }
                }
                announced.extend(step.after.iter().map(|after| after.read.clone()));
                touched.extend(step.op.path().cloned());
                if let Op::Run { produces, .. } = &step.op {
                    touched.extend(produces.iter().cloned());
                }
            }
        }
        moved
    }

    fn perform_work(
        &mut self,
        run: &Run,
        index: usize,
        work: &Work,
        on: &mut dyn FnMut(&StepEvent),
    ) -> Result<Outcome, HostError> {
        let mut staged = Staged::new();
        let mut any = false;
        let mut short = None;
        for (at, step) in work.steps.iter().enumerate() {
            on(&StepEvent::Started { work: index, step: at });
            match self.perform_step(run, work, at, &mut staged) {
                Ok((changed, fell_short)) => {
                    on(&StepEvent::Done { work: index, step: at, changed });
                    any |= changed;
                    short = fell_short.or(short);
                }
                Err(Stop::Host(error)) => return Err(error),
                Err(Stop::Step(error)) => {
                    return Ok(Outcome::Failed { step: at, action: work.describe(step), error, by_system: false });
                }
            }
        }
        Ok(short.unwrap_or(Outcome::Done { changed: any }))
    }

    fn perform_step(
        &mut self,
        run: &Run,
        work: &Work,
        at: usize,
        staged: &mut Staged,
    ) -> Result<(bool, Option<Outcome>), Stop> {
        let step = &work.steps[at];
        if self.stands(step) {
            self.settle(step)?;
            return Ok((false, None));
        }
        if self.only_prepares_what_stands(work, at) {
            return Ok((false, None));
        }
        if self.defect != Some(Defect::NoGuard)
            && let Some(guard) = step.guards.iter().find(|guard| !self.fits(guard))
        {
            return Err(Stop::Step(format!("changed since the plan: it was {}", guard.matcher.describe())));
        }
        let changed = match &step.op {
            Op::Check(check) => {
                self.check(check, staged)?;
                false
            }
            Op::Stage { name, source } => {
                let content = self.generate(name, source)?;
                staged.insert(name.clone(), content);
                false
            }
            op => {
                self.refuse_unforeseen_link(step)?;
                let entries = self.entries(work, at, op);
                let intent = entries.len();
                self.journals.entry(run.id.clone()).or_default().extend(entries);
                let journal = format!("{STATE_DIR}/runs/{}/journal", run.id);
                self.world.file(&journal, format!("{intent}\n"));
                self.world.make_directories(&ledger::directory());
                self.point()?;
                let mut owed = vec![];
                if self.defect != Some(Defect::LostNotify) {
                    owed.extend(step.owes.iter().filter(|activation| self.owe(activation, &run.id)));
                }
                self.point()?;
                if let Err(error) = self.act(op, staged) {
                    // What was not written makes nothing due.
                    if !matches!(op, Op::Run { .. } | Op::Poke { .. }) {
                        owed.into_iter().for_each(|activation| drop(self.world.nodes.remove(&Owed::path(activation))));
                    }
                    return Err(Stop::Step(error));
                }
                self.point()?;
                true
            }
        };
        let missed = step.after.iter().find(|after| !self.fits(after));
        if let (Some(after), false) = (missed, self.defect == Some(Defect::SkippedReadBack)) {
            let wanted = after.matcher.describe();
            let answer = self.answer(&after.read);
            let found = answer.text().map_or_else(|| answer.describe(), |text| format!("`{}`", text.trim()));
            if !step.may_fall_short {
                return Err(Stop::Step(format!("it shows {found} afterwards, not {wanted}")));
            }
            self.settle(step)?;
            if let Op::Poke { path, value, form } = &step.op {
                self.remember_short(path, value, *form);
            }
            return Ok((true, Some(Outcome::Short { wanted, found })));
        }
        self.settle(step)?;
        Ok((changed, None))
    }

    fn settle(&mut self, step: &Step) -> Result<(), HostError> {
        for activation in &step.settles {
            self.point()?;
            self.world.nodes.remove(&Owed::path(activation));
        }
        Ok(())
    }

    /// Remembers for this boot that the kernel gave less than was written.
    fn remember_short(&mut self, path: &AbsPath, wanted: &str, form: Form) {
        let boot = self.world.text("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string();
        let found = self.value(path, form);
        let short = Short { path: path.clone(), wanted: wanted.into(), found, boot };
        let text = serde_json::to_string(&short).expect("it has only text");
        self.world.file(Short::place(path).as_str(), text);
    }

    fn value(&self, path: &AbsPath, form: Form) -> String {
        let text = self.world.text(path.as_str()).unwrap_or_default();
        match form {
            Form::Plain => text.trim().to_string(),
            Form::Choice => choice(&text).unwrap_or_default().to_string(),
        }
    }

    /// Records that an activation is due; returns whether that is new.
    fn owe(&mut self, activation: &str, run: &RunId) -> bool {
        let path = Owed::path(activation);
        let new = !self.world.nodes.contains_key(&path);
        if new {
            let owed = Owed { activation: activation.into(), run: run.clone() };
            let text = serde_json::to_string(&owed).expect("it has only text");
            self.world.file(path.as_str(), format!("{text}\n"));
        }
        new
    }

    fn only_prepares_what_stands(&self, work: &Work, at: usize) -> bool {
        let name = match &work.steps[at].op {
            Op::Stage { name, .. } | Op::Check(Check::Staged { name, .. } | Check::PathsExist { name, .. }) => {
                Some(name)
            }
            Op::Check(Check::Succeeds(command)) => command.staged.as_ref(),
            _ => None,
        };
        let install = work.steps[at..]
            .iter()
            .find(|step| matches!(&step.op, Op::Install { name: installed, .. } if Some(installed) == name));
        install.is_some_and(|install| self.stands(install))
    }

    fn refuse_unforeseen_link(&self, step: &Step) -> Result<(), String> {
        let (Op::Write { path, .. } | Op::Install { path, .. }) = &step.op else { return Ok(()) };
        let foreseen =
            |guard: &Expectation| guard.read.path() == Some(path) && matches!(guard.matcher, Matcher::Link { .. });
        match self.world.answer(path, false, Want::Meta) {
            Answer::Link { .. } if !step.guards.iter().any(foreseen) => Err(format!("`{path}` is a symbolic link")),
            _ => Ok(()),
        }
    }

    fn entries(&self, work: &Work, at: usize, op: &Op) -> Vec<Entry> {
        let save = |path: &AbsPath| {
            let real = self.world.resolve(path, false).unwrap_or_else(|| path.clone());
            Entry::File(path.clone(), self.world.nodes.get(&real).cloned())
        };
        match op {
            Op::Install { name, path, derived: true, .. } => {
                let prepares = |op: &&Op| match op {
                    Op::Stage { name: other, .. } | Op::Check(Check::PathsExist { name: other, .. }) => other == name,
                    Op::Check(Check::Succeeds(command)) => command.staged.as_ref() == Some(name),
                    _ => false,
                };
                let ops = work.steps[..at].iter().map(|step| &step.op).filter(prepares).chain([op]).cloned().collect();
                vec![Entry::Derive(path.clone(), ops)]
            }
            Op::Write { path, .. }
            | Op::Link { path, .. }
            | Op::Directory { path, .. }
            | Op::Remove { path }
            | Op::Chmod { path, .. }
            | Op::Install { path, .. } => vec![save(path)],
            Op::Poke { path, form, .. } => vec![Entry::Value(path.clone(), *form, self.value(path, *form))],
            Op::Run { produces, undo, command } => {
                let last = match undo {
                    Undo::Irreversible => Some(Entry::Irreversible(command.argv.join(" "))),
                    Undo::Nothing => None,
                    Undo::Run(command) => Some(Entry::Program(command.clone(), None)),
                    Undo::RunWhile { command, stands } => {
                        Some(Entry::Program(command.clone(), Some(Expectation::clone(stands))))
                    }
                };
                produces.iter().map(save).chain(last).collect()
            }
            Op::Stage { .. } | Op::Check(_) => vec![],
        }
    }

    fn act(&mut self, op: &Op, staged: &Staged) -> Result<(), String> {
        match op {
            Op::Write { path, content, owner } => self.world.replace(path, content.clone(), *owner),
            Op::Install { name, path, owner, .. } => {
                let content = staged.get(name).ok_or_else(|| format!("nothing was staged as `{name}`"))?;
                self.world.replace(path, content.clone(), *owner)
            }
            Op::Link { path, target } => {
                let (path, old) = self.world.holder(path)?;
                match old {
                    Some(Node::Directory { .. } | Node::Special) => Err(format!("`{path}` is no file")),
                    _ => {
                        self.world.nodes.insert(path, Node::Link { target: target.clone() });
                        Ok(())
                    }
                }
            }
            Op::Directory { path, owner } => {
                let (path, old) = self.world.holder(path)?;
                match old {
                    None | Some(Node::Directory { .. }) => {
                        self.world.nodes.insert(path, Node::Directory { owner: *owner });
                        Ok(())
                    }
                    Some(_) => Err(format!("`{path}` is no directory")),
                }
            }
            Op::Remove { path } => {
                let (path, old) = self.world.holder(path)?;
                match old {
                    Some(Node::Directory { .. }) if !self.world.names_in(&path).is_empty() => {
                        Err(format!("cannot remove `{path}`: Directory not empty"))
                    }
                    Some(Node::Special) => Err(format!("`{path}` is a device, socket or pipe")),
                    _ => {
                        self.world.nodes.remove(&path);
                        Ok(())
                    }
                }
            }
            Op::Chmod { path, owner } => {
                let (path, _) = self.world.holder(path)?;
                match self.world.nodes.get_mut(&path) {
                    Some(Node::File { owner: old, .. } | Node::Directory { owner: old }) => {
                        *old = *owner;
                        Ok(())
                    }
                    Some(_) => Err(format!("`{path}` is neither a file nor a directory")),
                    None => Err(format!("cannot look at `{path}`: No such file or directory")),
                }
            }
            Op::Poke { path, value, .. } => {
                self.world.poke(path, value).map_err(|error| format!("`{path}` does not take `{value}`: {error}"))
            }
            Op::Run { command, .. } => {
                let scratch = command.staged.as_ref().map(|name| self.expose(name, staged)).transpose()?;
                let result = self.run(command, scratch.as_ref()).map(|_| ());
                self.forget(scratch);
                result
            }
            Op::Stage { .. } | Op::Check(_) => Ok(()),
        }
    }

    /// Puts a staged content where a program can read it.
    fn expose(&mut self, name: &str, staged: &Staged) -> Result<AbsPath, String> {
        let content = staged.get(name).ok_or_else(|| format!("nothing was staged as `{name}`"))?;
        let path = AbsPath::known(&format!("{STATE_DIR}/stage"));
        self.world.file(path.as_str(), content.clone());
        Ok(path)
    }

    fn forget(&mut self, scratch: Option<AbsPath>) {
        scratch.and_then(|path| self.world.nodes.remove(&path));
    }

    fn generate(&mut self, name: &str, source: &Source) -> Result<Bytes, String> {
        match source {
            Source::Content(content) => Ok(content.clone()),
            Source::Stdout(command) => self.run(command, None),
            Source::Argument(command) => {
                let path = AbsPath::known(&format!("{STATE_DIR}/stage"));
                self.run(command, Some(&path))?;
                match self.world.nodes.remove(&path) {
                    Some(Node::File { content, .. }) => Ok(content),
                    _ => Err(format!("`{name}` was not made")),
                }
            }
        }
    }

    fn check(&mut self, check: &Check, staged: &Staged) -> Result<(), String> {
        match check {
            Check::Succeeds(command) => {
                let scratch = command.staged.as_ref().map(|name| self.expose(name, staged)).transpose()?;
                let result = self.run(command, scratch.as_ref()).map(|_| ());
                self.forget(scratch);
                result
            }
            Check::Staged { name, matcher } => {
                let content = staged.get(name).ok_or_else(|| format!("nothing was staged as `{name}`"))?;
                let holds = match matcher {
                    Matcher::Bytes(bytes) => bytes == content,
                    matcher => matcher.matches_text(&content.lossy()),
                };
                if holds { Ok(()) } else { Err(format!("the new file lacks {}", matcher.describe())) }
            }
            Check::PathsExist { name, first_words, word, below } => {
                let content = staged.get(name).ok_or_else(|| format!("nothing was staged as `{name}`"))?;
                let text = content.lossy().into_owned();
                for line in text.lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    if !words.first().is_some_and(|first| first_words.iter().any(|other| other == first)) {
                        continue;
                    }
                    let named = words.get(*word).copied().unwrap_or("/");
                    let last = named.rsplit('/').next().unwrap_or(named);
                    let mut places = vec![named.to_string()];
                    for directory in below {
                        places.extend([format!("{directory}/{named}"), format!("{directory}/{last}")]);
                    }
                    let exists = |place: &String| {
                        AbsPath::new(place.clone())
                            .is_ok_and(|path| self.world.answer(&path, true, Want::Meta) != Answer::Absent)
                    };
                    if named == "/" || !places.iter().any(exists) {
                        return Err(format!("`{named}`, which the new file names, does not exist"));
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn take_back(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
        self.point()?;
        let entries = match self.journals.remove(run) {
            Some(entries) => entries,
            None => return Err(HostError::Refused(format!("there is no run `{run}`"))),
        };
        let mut told = RolledBack::default();
        for entry in entries.iter().rev() {
            match entry {
                Entry::File(path, before) => {
                    let Some(real) = self.world.resolve(path, false) else { continue };
                    match before {
                        Some(node) => self.world.nodes.insert(real, node.clone()),
                        None if self.world.names_in(&real).is_empty() => self.world.nodes.remove(&real),
                        None => {
                            told.left.push(format!("remove {path}: Directory not empty"));
                            continue;
                        }
                    };
                    told.undone.push(format!("restore {path}"));
                }
                Entry::Value(path, form, old) if self.value(path, *form) == *old => {}
                Entry::Value(path, _, old) => match self.world.poke(path, old) {
                    Ok(()) => told.undone.push(format!("write `{old}` to {path}")),
                    Err(error) => told.left.push(format!("write `{old}` to {path}: {error}")),
                },
                Entry::Irreversible(action) => told.left.push(format!("{action}: nothing takes that back")),
                Entry::Program(..) | Entry::Derive(..) => {}
            }
        }
        for entry in entries.iter().rev() {
            if let Entry::Program(command, stands) = entry {
                if stands.as_ref().is_some_and(|stands| !stands.matcher.matches(&self.answer(&stands.read))) {
                    continue;
                }
                match self.run(command, None) {
                    Ok(_) => told.undone.push(format!("run {}", command.argv.join(" "))),
                    Err(error) => told.left.push(error),
                }
            }
        }
        for entry in entries.iter().rev() {
            if let Entry::Derive(path, ops) = entry {
                match self.derive(ops) {
                    Ok(()) => told.undone.push(format!("make {path} again")),
                    Err(error) => told.left.push(format!("make {path} again: {error}")),
                }
            }
        }
        let owed = self.answer(&Owed::read());
        if let Answer::Paths(paths) = owed {
            for (path, answer) in paths {
                let text = answer.content().map(|content| content.0.clone()).unwrap_or_default();
                if serde_json::from_slice::<Owed>(&text).is_ok_and(|owed| owed.run == *run) {
                    self.world.nodes.remove(&path);
                }
            }
        }
        Ok(told)
    }

    fn derive(&mut self, ops: &[Op]) -> Result<(), String> {
        let mut staged = Staged::new();
        for op in ops {
            match op {
                Op::Stage { name, source } => {
                    let content = self.generate(name, source)?;
                    staged.insert(name.clone(), content);
                }
                Op::Check(check) => self.check(check, &staged)?,
                op => self.act(op, &staged)?,
            }
        }
        Ok(())
    }
}

impl World {
    /// Finds what an operation is about: the path without links on the way, and what stands there.
    fn holder(&self, path: &AbsPath) -> Result<(AbsPath, Option<Node>), String> {
        let real = self.resolve(path, false).filter(|real| real.as_str() != "/");
        let real = real.ok_or_else(|| format!("cannot enter the directory of `{path}`"))?;
        let parent = real.parent().unwrap_or_else(|| real.clone());
        match self.nodes.get(&parent) {
            Some(Node::Directory { .. }) => Ok((real.clone(), self.nodes.get(&real).cloned())),
            _ => Err(format!("cannot enter `{parent}`: No such file or directory")),
        }
    }

    fn replace(&mut self, path: &AbsPath, content: Bytes, owner: Owner) -> Result<(), String> {
        let (path, old) = self.holder(path)?;
        let xattrs = match old {
            Some(Node::Directory { .. }) => return Err(format!("`{path}` is a directory")),
            Some(Node::Special) => return Err(format!("`{path}` is a device, socket or pipe")),
            Some(Node::File { xattrs, .. }) => xattrs,
            _ => BTreeMap::new(),
        };
        self.nodes.insert(path, Node::File { content, owner, xattrs });
        Ok(())
    }
}
