//! A run: the lock, all guards, then step by step: guard, backup and intent, act, read back.

use std::collections::BTreeSet;

use super::{
    Terms, confirm,
    journal::{self, Journal, NoLock},
    read::{answer, answer_all},
    retention, space,
    stage::{self, Staged, StepError},
    tree::{Tree, TreeError},
    write::{self, Attributes, Content},
};
use crate::host::{
    HostError,
    journal::{self as record, Ending, Inverse},
    matcher::{Expectation, Matcher, choice},
    op::{Check, Form, Op, Step, Undo},
    path::AbsPath,
    read::{Answer, Read},
    run::{Applied, Moved, Outcome, Run, StepEvent, Work},
};

/// Performs a run, see [`crate::host::Host::apply`].
///
/// # Errors
/// Fails only at the fault seam of tests.
pub fn apply(tree: &Tree, terms: &Terms, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
    let mut session = Session { tree, terms, run, journal: None, on, staged: Staged::default() };
    let applied = session.perform();
    if tree.seam.is_cut() { Err(HostError::Unreachable("cut".into())) } else { Ok(applied) }
}

/// Reads a value of the kernel as it would be written; none if it cannot be read.
#[must_use]
pub fn value(tree: &Tree, path: &AbsPath, form: Form) -> Option<String> {
    let answer = answer(tree, &Read::content(path.clone()));
    let text = answer.text()?;
    match form {
        Form::Plain => Some(text.trim().to_string()),
        Form::Choice => choice(text).map(String::from),
    }
}

/// Tells whether an operation does nothing below a root: what it concerns is the running kernel or a program of the machine.
#[must_use]
pub fn is_left_for_boot(tree: &Tree, op: &Op) -> bool {
    tree.root().is_some()
        && match op {
            Op::Run { command, .. } => stage::is_left_for_boot(tree, command),
            // A plain file stands for a value only where a tree was captured.
            Op::Poke { path, .. } => {
                tree.shows_kernel(path).unwrap_or(true)
                    || matches!(answer(tree, &Read::exists(path.clone())), Answer::Absent)
            }
            _ => false,
        }
}

struct Session<'a> {
    tree: &'a Tree,
    terms: &'a Terms,
    run: &'a Run,
    journal: Option<Journal>,
    on: &'a mut dyn FnMut(&StepEvent),
    staged: Staged,
}

/// How a step ended well.
enum Ended {
    Done { changed: bool },
    Short { wanted: String, found: String },
}

impl Session<'_> {
    fn perform(&mut self) -> Applied {
        let is_idle = self.run.works.iter().all(|work| self.is_idle(work));
        if is_idle && !journal::is_any_unfinished(self.tree) {
            return Applied::Ran { outcomes: self.tell_idle() };
        }
        if let Err(error) = space::check(self.tree, space::of_run(self.tree, self.run)) {
            return Applied::Refused { error };
        }
        let lock = match journal::lock(self.tree, &self.run.id, &self.run.by, self.terms) {
            Ok(lock) => lock,
            Err(NoLock::Held(holder)) => return Applied::Locked { holder },
            Err(NoLock::Failed(error)) => return Applied::Refused { error: error.to_string() },
        };
        let moved = self.moved();
        if !moved.is_empty() {
            return Applied::Stale { moved };
        }
        if let Err(error) = journal::clear_cut_runs(self.tree) {
            return Applied::Refused { error: error.to_string() };
        }
        let confirm_within = self.run.confirm_within.filter(|_| self.tree.root().is_none());
        if let Some(within) = confirm_within
            && let Err(error) = confirm::arm(self.tree, self.terms, self.run, within, &lock)
        {
            return Applied::Refused { error };
        }
        let outcomes = self.perform_works();
        let any = |wanted: fn(&Outcome) -> bool| outcomes.iter().any(wanted);
        let how = if any(|outcome| matches!(outcome, Outcome::Interrupted { .. } | Outcome::NotStarted)) {
            Ending::Interrupted
        } else if any(|outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Blocked { .. })) {
            Ending::Failed
        } else {
            Ending::Done
        };
        if let Some(journal) = self.journal.take() {
            let _ = journal::clear_stage(self.tree, journal.directory());
            // What was done is done and recorded; a journal without its last line says only that nobody saw the end.
            let _ = journal.end(self.tree, how);
        } else if confirm_within.is_some() {
            let _ = journal::unset_unconfirmed(self.tree, &self.run.id);
        }
        if how == Ending::Done {
            // These only tidy up; the next run that ends well does it again.
            let _ = journal::forget_interrupted(self.tree);
            let _ = retention::collect(self.tree, self.terms, &self.run.id);
        }
        drop(lock);
        Applied::Ran { outcomes }
    }

    /// Tells of works of which nothing has to act; without the lock nothing may, whatever happened meanwhile.
    fn tell_idle(&mut self) -> Vec<Outcome> {
        let outcome = Outcome::Done { changed: false };
        for (index, work) in self.run.works.iter().enumerate() {
            for step in 0..work.steps.len() {
                (self.on)(&StepEvent::Started { work: index, step });
                (self.on)(&StepEvent::Done { work: index, step, changed: false });
            }
            (self.on)(&StepEvent::Ended { work: index, outcome: outcome.clone() });
        }
        vec![outcome; self.run.works.len()]
    }

    /// Tells whether nothing of a work would act.
    fn is_idle(&self, work: &Work) -> bool {
        work.steps.iter().enumerate().all(|(at, step)| {
            (self.holds(&step.after) && !step.settles.iter().any(|owed| journal::is_owed(self.tree, owed)))
                || self.is_needless(work, at)
        })
    }

    /// Tells whether results were announced and all stand already.
    fn holds(&self, after: &[Expectation]) -> bool {
        !after.is_empty() && self.first_mismatch(after).is_none()
    }

    /// Tells whether a step only prepares a file that is installed already.
    fn is_needless(&self, work: &Work, at: usize) -> bool {
        let prepared = match &work.steps[at].op {
            Op::Stage { name, .. } => name,
            Op::Check(Check::Staged { name, .. } | Check::PathsExist { name, .. }) => name,
            Op::Check(Check::Succeeds(command)) => match &command.staged {
                Some(name) => name,
                None => return false,
            },
            _ => return false,
        };
        work.steps[at..]
            .iter()
            .find(|step| matches!(&step.op, Op::Install { name, .. } if name == prepared))
            .is_some_and(|install| self.holds(&install.after))
    }

    fn first_mismatch<'e>(&self, expected: &'e [Expectation]) -> Option<(&'e Expectation, Answer)> {
        let reads: Vec<Read> = expected.iter().map(|expectation| expectation.read.clone()).collect();
        let answers = answer_all(self.tree, &reads);
        expected.iter().zip(answers).find(|(expectation, answer)| !expectation.matcher.matches(answer))
    }

    /// Returns all guards that do not hold and that no earlier step answers for.
    fn moved(&self) -> Vec<Moved> {
        let mut announced: BTreeSet<&Read> = BTreeSet::new();
        let mut touched: BTreeSet<&AbsPath> = BTreeSet::new();
        let mut guards: Vec<(&Work, &Expectation)> = vec![];
        for work in &self.run.works {
            for step in &work.steps {
                let left = |guard: &&Expectation| {
                    !announced.contains(&guard.read) && !guard.read.path().is_some_and(|path| touched.contains(path))
                };
                if !self.holds(&step.after) {
                    guards.extend(step.guards.iter().filter(left).map(|guard| (work, guard)));
                }
                announced.extend(step.after.iter().map(|after| &after.read));
                touched.extend(step.op.path());
                if let Op::Run { produces, .. } = &step.op {
                    touched.extend(produces);
                }
            }
        }
        let reads: Vec<Read> = guards.iter().map(|(_, guard)| guard.read.clone()).collect();
        let answers = answer_all(self.tree, &reads);
        let failing = guards.into_iter().zip(answers).filter(|((_, guard), answer)| !guard.matcher.matches(answer));
        failing
            .map(|((work, guard), answer)| Moved {
                address: work.address.clone(),
                expected: guard.clone(),
                found: found(&guard.matcher, &answer),
                mtime: answer.meta().map(|meta| meta.mtime),
                sensitive: work.sensitive,
            })
            .collect()
    }

    fn perform_works(&mut self) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(self.run.works.len());
        for (index, work) in self.run.works.iter().enumerate() {
            let failed = |at: &&usize| {
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
            let outcome = if self.is_cancelled() {
                Outcome::NotStarted
            } else if let Some(by) = work.needs.iter().find(failed) {
                Outcome::Blocked { by: *by }
            } else {
                self.perform_work(index, work)
            };
            (self.on)(&StepEvent::Ended { work: index, outcome: outcome.clone() });
            outcomes.push(outcome);
        }
        outcomes
    }

    fn is_cancelled(&self) -> bool {
        self.tree.seam.is_cut() || self.terms.is_cancelled()
    }

    fn perform_work(&mut self, index: usize, work: &Work) -> Outcome {
        let mut outcome = Outcome::Done { changed: false };
        for (at, step) in work.steps.iter().enumerate() {
            if self.is_cancelled() {
                outcome = if at == 0 { Outcome::NotStarted } else { Outcome::Interrupted { step: at } };
                break;
            }
            (self.on)(&StepEvent::Started { work: index, step: at });
            match self.perform_step(work, at) {
                Ok(Ended::Done { changed }) => {
                    (self.on)(&StepEvent::Done { work: index, step: at, changed });
                    if let Outcome::Done { changed: any } = &mut outcome {
                        *any |= changed;
                    }
                }
                Ok(Ended::Short { wanted, found }) => {
                    (self.on)(&StepEvent::Done { work: index, step: at, changed: true });
                    outcome = Outcome::Short { wanted, found };
                }
                Err(error) => {
                    outcome = Outcome::Failed {
                        step: at,
                        action: work.describe(step),
                        error: error.to_string(),
                        by_system: error.is_by_system(),
                    };
                    break;
                }
            }
        }
        self.staged.clear(self.tree);
        outcome
    }

    fn perform_step(&mut self, work: &Work, at: usize) -> Result<Ended, StepError> {
        let step = &work.steps[at];
        if self.holds(&step.after) {
            self.settle(step)?;
            return Ok(Ended::Done { changed: false });
        }
        if self.is_needless(work, at) || self.is_left(&step.op) {
            return Ok(Ended::Done { changed: false });
        }
        if let Some((guard, answer)) = self.first_mismatch(&step.guards) {
            return Err(StepError::Check(stale(guard, &answer)));
        }
        let changed = match &step.op {
            Op::Check(check) => {
                self.staged.check(self.tree, check)?;
                false
            }
            Op::Stage { name, source } => {
                let tree = self.tree;
                let directory = self.journal()?.stage(tree)?;
                self.staged.stage(tree, &directory, name, source)?;
                false
            }
            op => {
                self.change(work, at, op)?;
                true
            }
        };
        if let Some((expected, answer)) = self.first_mismatch(&step.after) {
            let (wanted, found) = (expected.matcher.describe(), found(&expected.matcher, &answer));
            if !step.may_fall_short {
                return Err(StepError::Check(format!("it shows {found} afterwards, not {wanted}")));
            }
            self.settle(step)?;
            if let Op::Poke { path, value, form } = &step.op {
                let found = self::value(self.tree, path, *form).unwrap_or_default();
                journal::remember_short(self.tree, path, value, found)?;
            }
            return Ok(Ended::Short { wanted, found });
        }
        self.settle(step)?;
        Ok(Ended::Done { changed })
    }

    /// Tells whether a step is left for the next boot of a root, or needs what was.
    fn is_left(&self, op: &Op) -> bool {
        match op {
            Op::Check(Check::Staged { name, .. } | Check::PathsExist { name, .. }) | Op::Install { name, .. } => {
                self.staged.is_left(name)
            }
            Op::Check(Check::Succeeds(command)) => {
                command.staged.as_ref().is_some_and(|name| self.staged.is_left(name))
            }
            op => is_left_for_boot(self.tree, op),
        }
    }

    fn settle(&self, step: &Step) -> Result<(), StepError> {
        step.settles.iter().try_for_each(|owed| journal::settle(self.tree, owed)).map_err(StepError::from)
    }

    fn journal(&mut self) -> Result<&mut Journal, TreeError> {
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => Journal::begin(self.tree, &self.run.id, &self.run.by, None)?,
        };
        Ok(self.journal.insert(journal))
    }

    /// Does what changes the host, its intent and backup on the disk before it.
    fn change(&mut self, work: &Work, at: usize, op: &Op) -> Result<(), StepError> {
        let (tree, step) = (self.tree, &work.steps[at]);
        self.refuse_unforeseen_link(step)?;
        self.journal()?;
        let inverses = self.inverses(work, at, op)?;
        let paths: Vec<AbsPath> = inverses.iter().filter_map(Inverse::file).cloned().collect();
        let before: Vec<Matcher> = paths.iter().map(|path| journal::fingerprint(tree, path)).collect();
        let number =
            self.journal()?.intent(tree, Some(&work.address), work.sensitive, work.describe(step), inverses.clone())?;
        let mut owed = vec![];
        for activation in &step.owes {
            if journal::owe(tree, activation, &self.run.id)? {
                owed.push(activation);
            }
        }
        let result = self.act(step);
        match &result {
            Ok(()) => self.journal()?.done(tree, number, journal::stand(tree, &inverses))?,
            Err(error) => {
                let _ = self.journal()?.failed(tree, number, &error.shown(work.sensitive));
                // What was not written makes nothing due.
                let untouched = !matches!(op, Op::Run { .. } | Op::Poke { .. })
                    && paths.iter().map(|path| journal::fingerprint(tree, path)).eq(before);
                if untouched {
                    owed.into_iter().try_for_each(|activation| journal::settle(tree, activation))?;
                }
            }
        }
        result
    }

    /// A link is replaced only where the plan saw it.
    fn refuse_unforeseen_link(&self, step: &Step) -> Result<(), StepError> {
        let (Op::Write { path, .. } | Op::Install { path, .. }) = &step.op else { return Ok(()) };
        let foreseen = step
            .guards
            .iter()
            .any(|guard| guard.read.path() == Some(path) && matches!(guard.matcher, Matcher::Link { .. }));
        match answer(self.tree, &Read::entry(path.clone())) {
            Answer::Link { target, .. } if !foreseen => Err(TreeError::refused(
                path,
                format!(
                    "is a symbolic link to `{target}`, which is neither followed nor replaced unless the plan says so"
                ),
            )
            .into()),
            _ => Ok(()),
        }
    }

    fn inverses(&mut self, work: &Work, at: usize, op: &Op) -> Result<Vec<Inverse>, StepError> {
        let tree = self.tree;
        let becomes = match op {
            Op::Write { content, owner, .. } => Some(record::file(content.digest(), *owner)),
            Op::Install { name, owner, .. } => Some(record::file(self.staged.content(tree, name)?.digest(), *owner)),
            Op::Link { target, .. } => Some(Matcher::Link { target: target.clone() }),
            Op::Remove { .. } => Some(Matcher::Absent),
            _ => None,
        };
        let journal = self.journal()?;
        Ok(match op {
            Op::Install { name, path, derived: true, .. } => {
                let before = journal.save(tree, path)?;
                vec![Inverse::Derive { path: path.clone(), before, ops: derivation(work, at, name) }]
            }
            Op::Write { path, .. }
            | Op::Link { path, .. }
            | Op::Directory { path, .. }
            | Op::Remove { path }
            | Op::Chmod { path, .. }
            | Op::Install { path, .. } => {
                vec![Inverse::Restore { path: path.clone(), before: journal.save(tree, path)?, becomes }]
            }
            Op::Poke { path, form, .. } => {
                vec![Inverse::Value { path: path.clone(), form: *form, old: value(tree, path, *form) }]
            }
            Op::Run { command, produces, undo } => {
                let mut inverses = Vec::with_capacity(produces.len() + 1);
                for path in produces {
                    inverses.push(Inverse::Restore {
                        path: path.clone(),
                        before: journal.save(tree, path)?,
                        becomes: None,
                    });
                }
                match undo {
                    Undo::Irreversible => inverses.push(Inverse::Irreversible),
                    Undo::Nothing => {}
                    Undo::Run(undo) => {
                        inverses.push(Inverse::Program { undo: undo.clone(), redo: command.clone(), stands: None });
                    }
                    Undo::RunWhile { stands, command: undo } => {
                        let stands = Some(Expectation::clone(stands));
                        inverses.push(Inverse::Program { undo: undo.clone(), redo: command.clone(), stands });
                    }
                }
                inverses
            }
            Op::Stage { .. } | Op::Check(_) => vec![],
        })
    }

    fn act(&self, step: &Step) -> Result<(), StepError> {
        let tree = self.tree;
        let path = step.op.path();
        let mut recheck = || {
            let own: Vec<Expectation> = step.guards.iter().filter(|guard| guard.read.path() == path).cloned().collect();
            match self.first_mismatch(&own) {
                Some((guard, answer)) => Err(TreeError::refused(
                    path.map(ToString::to_string).unwrap_or_default(),
                    moved_words(guard, &answer),
                )),
                None => Ok(()),
            }
        };
        match &step.op {
            Op::Write { path, content, owner } => {
                let content = Content::Bytes(&content.0);
                write::place_file(tree, path, content, &Attributes::of(*owner), &mut recheck)?;
            }
            Op::Link { path, target } => write::place_link(tree, path, target, None, &mut recheck)?,
            Op::Directory { path, owner } => write::make_directory(tree, path, *owner, None)?,
            Op::Remove { path } => write::remove(tree, path, &mut recheck)?,
            Op::Chmod { path, owner } => write::set_owner(tree, path, *owner)?,
            Op::Poke { path, value, .. } => write::poke(tree, path, value)?,
            Op::Run { command, .. } => {
                let staged = command.staged.as_deref().map(|name| self.staged.path(name)).transpose()?;
                stage::run(tree, command, staged)?;
            }
            Op::Install { name, path, owner, .. } => self.staged.install(tree, name, path, *owner, &mut recheck)?,
            Op::Stage { .. } | Op::Check(_) => {}
        }
        Ok(())
    }
}

/// The operations that make a derived file again: all that prepare it, without what this plan alone asks of it.
fn derivation(work: &Work, at: usize, name: &str) -> Vec<Op> {
    let prepares = |op: &&Op| match op {
        Op::Stage { name: staged, .. } | Op::Check(Check::PathsExist { name: staged, .. }) => staged == name,
        Op::Check(Check::Succeeds(command)) => command.staged.as_deref() == Some(name),
        _ => false,
    };
    let before = work.steps[..at].iter().map(|step| &step.op).filter(prepares);
    before.chain([&work.steps[at].op]).cloned().collect()
}

fn stale(guard: &Expectation, answer: &Answer) -> String {
    let about = guard.read.path().map(|path| format!("`{path}` ")).unwrap_or_default();
    format!("{about}{}", moved_words(guard, answer))
}

fn moved_words(guard: &Expectation, answer: &Answer) -> String {
    format!(
        "changed since the plan: it was {}, and now it is {}",
        guard.matcher.describe(),
        found(&guard.matcher, answer)
    )
}

/// Says what an answer shows where a rule expected something else.
#[must_use]
pub fn found(matcher: &Matcher, answer: &Answer) -> String {
    let identity = matches!(
        matcher,
        Matcher::File { .. } | Matcher::Link { .. } | Matcher::Directory { .. } | Matcher::Absent | Matcher::Present
    );
    match answer {
        Answer::File { digest: Some(_), .. } | Answer::Directory { .. } if identity => {
            Matcher::same_as(answer).describe()
        }
        Answer::File { content: Some(content), .. } if !identity && content.0.len() <= 200 => {
            format!("`{}`", content.lossy().trim().escape_debug())
        }
        Answer::Output(output) if output.status == 0 && output.stdout.0.len() <= 200 => {
            format!("`{}`", output.stdout.lossy().trim().escape_debug())
        }
        other => other.describe(),
    }
}
