//! A run is taken back from its journal alone, newest operation first; doing so is a run itself.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

use super::{
    Terms,
    apply::{is_left_for_boot, value},
    journal::{self, Journal, NoLock, Past},
    read::{answer, contents},
    space,
    stage::{self, Acted, Staged, StepError},
    tree::{Tree, TreeError},
    write::{self, Attributes, Content, Xattr},
};
use crate::host::{
    HostError,
    bytes::Bytes,
    journal::{Ending, Inverse, PastIntent, Saved},
    ledger,
    matcher::{Expectation, Matcher},
    op::{Check, Command, Form, Op, Source, Undo},
    path::AbsPath,
    read::{Answer, Meta, Read},
    run::{RolledBack, RunId, utc},
    undo::{Changed, TakeBack, TookBack, UndoAct, UndoPlan, UndoStep},
};

/// The most of one file that a preview shows.
const SHOWN: usize = 1 << 20;

/// The most of all files that a preview shows.
const ALL_SHOWN: usize = 16 << 20;

/// Tells what taking a run back would do, see [`crate::host::Host::undo_plan`].
///
/// # Errors
/// Fails if there is no such run.
pub fn plan(tree: &Tree, run: &RunId) -> Result<UndoPlan, HostError> {
    journal::past(tree, run).map(|past| plan_of(tree, &past)).map_err(HostError::Refused)
}

/// Takes a run back, see [`crate::host::Host::undo`].
///
/// Files, links and values come first, newest first; then the programs that undo others; then the directories that the run made,
/// on which it may have mounted something; then derived files are made again.
///
/// # Errors
/// Fails if there is no such run, if it was taken back already, or as the system does.
pub fn undo(tree: &Tree, terms: &Terms, what: &TakeBack) -> Result<TookBack, HostError> {
    let result = take_back(tree, terms, what);
    if tree.seam.is_cut() { Err(HostError::Unreachable("cut".into())) } else { result }
}

/// The same by a process that holds the lock already.
///
/// # Errors
/// As [`undo`].
pub fn undo_locked(tree: &Tree, terms: &Terms, what: &TakeBack) -> Result<TookBack, HostError> {
    take_back_locked(tree, terms, what, &id_of(what))
}

fn id_of(what: &TakeBack) -> RunId {
    let chance = u16::try_from(write::chance() & 0xffff).unwrap_or(0);
    what.id.clone().unwrap_or_else(|| RunId::new(u64::try_from(journal::now()).unwrap_or(0), chance))
}

fn take_back(tree: &Tree, terms: &Terms, what: &TakeBack) -> Result<TookBack, HostError> {
    let refused = |error: TreeError| HostError::Refused(error.to_string());
    let run = &what.run;
    // First without the lock: a run that does not exist must not make its directory.
    let past = journal::past(tree, run).map_err(HostError::Refused)?;
    space::check(tree, needs(tree, &past)).map_err(HostError::Refused)?;
    let own = id_of(what);
    let _lock = match journal::lock(tree, &own, &what.by, terms) {
        Ok(lock) => lock,
        Err(NoLock::Held(holder)) => return Ok(TookBack::Locked { holder }),
        Err(NoLock::Failed(error)) => return Err(refused(error)),
    };
    take_back_locked(tree, terms, what, &own)
}

fn take_back_locked(tree: &Tree, terms: &Terms, what: &TakeBack, own: &RunId) -> Result<TookBack, HostError> {
    let refused = |error: TreeError| HostError::Refused(error.to_string());
    let run = &what.run;
    journal::clear_cut_runs(tree).map_err(refused)?;
    let past = journal::past(tree, run).map_err(HostError::Refused)?;
    let plan = plan_of(tree, &past);
    if plan.taken_back_by.is_some() {
        return Err(HostError::Refused(format!("the run `{run}` was taken back already")));
    }
    if what.expects.is_some_and(|expected| expected != plan.digest()) {
        return Ok(TookBack::Moved);
    }
    if what.changed == Changed::Refuse && plan.changed().next().is_some() {
        return Ok(TookBack::Changed { what: plan.changed().map(String::from).collect() });
    }
    let mut back = Back {
        tree,
        terms,
        past: &past,
        own,
        what,
        doubt: Doubt::of(tree, run),
        journal: None,
        refused: vec![],
        is_broken: false,
        told: RolledBack::default(),
    };
    back.take_all();
    let Back { journal, mut told, is_broken, .. } = back;
    if !told.interrupted && !is_broken {
        journal::settle_run(tree, run).map_err(refused)?;
        if !past.story.intents.is_empty() {
            past.set_taken_back(tree, own).map_err(refused)?;
        }
        if let Some(earlier) = &past.story.takes_back
            && let Ok(earlier) = journal::past(tree, earlier)
        {
            earlier.unset_taken_back(tree).map_err(refused)?;
        }
        past.forget_interrupted(tree).map_err(refused)?;
    }
    if let Some(journal) = journal {
        told.run = Some(own.clone());
        journal::clear_stage(tree, journal.directory()).map_err(refused)?;
        let how = match (told.interrupted, told.left.is_empty()) {
            (true, _) => Ending::Interrupted,
            (_, true) => Ending::Done,
            (_, false) => Ending::Failed,
        };
        journal.end(tree, how).map_err(refused)?;
    }
    Ok(TookBack::Done(told))
}

/// Returns what is needed to put everything back that a run saved, and to keep what stands there now.
fn needs(tree: &Tree, past: &Past) -> Vec<space::Need> {
    let mut needs = vec![];
    for inverse in past.story.intents.iter().flat_map(|intent| &intent.inverses) {
        let Some(path) = inverse.file() else { continue };
        if let Inverse::Restore { before: Saved::File { digest, .. }, .. } = inverse {
            needs.push((path.clone(), space::size_of(tree, &past.place_of(*digest))));
        }
        needs.push((journal::state("runs"), space::size_of(tree, path)));
    }
    needs
}

fn plan_of(tree: &Tree, past: &Past) -> UndoPlan {
    let mut preview = Preview {
        tree,
        past,
        doubt: Doubt::of(tree, &past.story.run),
        steps: vec![],
        paths: BTreeMap::new(),
        values: BTreeMap::new(),
        left: ALL_SHOWN,
    };
    let inverses = past.story.inverses();
    let (made, others): (Vec<_>, Vec<_>) = inverses.iter().partition(|(_, inverse)| removes_directory(tree, inverse));
    for (intent, inverse) in others {
        preview.file(intent, inverse);
    }
    for (intent, inverse) in &inverses {
        preview.program(intent, inverse);
    }
    for (intent, inverse) in made {
        preview.file(intent, inverse);
    }
    let mut derived: Vec<&AbsPath> = vec![];
    for (intent, inverse) in &inverses {
        if let Inverse::Derive { path, ops, .. } = inverse
            && !derived.contains(&path)
            && !is_derivation_left(tree, ops)
        {
            derived.push(path);
            let by = ops.iter().filter_map(program_of).map(|command| command.argv.join(" ")).collect();
            preview.push(intent, UndoAct::Generate { path: path.clone(), by }, None);
        }
    }
    let story = &past.story;
    UndoPlan {
        run: story.run.clone(),
        by: story.by.clone(),
        at: story.began.0,
        ended: story.ended.map(|(_, how)| how),
        taken_back_by: past.taken_back_by(tree),
        steps: preview.steps,
    }
}

/// What would be done, found by doing it to what is known of the host instead of to the host.
struct Preview<'a> {
    tree: &'a Tree,
    past: &'a Past,
    doubt: Doubt,
    steps: Vec<UndoStep>,
    /// What would stand at paths, and the step that does it.
    paths: BTreeMap<AbsPath, (Matcher, usize)>,
    /// What values would be, and the step that writes them.
    values: BTreeMap<AbsPath, (String, usize)>,
    /// How much content may still be shown.
    left: usize,
}

impl Preview<'_> {
    fn push(&mut self, intent: &PastIntent, act: UndoAct, changed: Option<String>) {
        self.steps.push(UndoStep { address: intent.address.clone(), act, sensitive: intent.sensitive, changed });
    }

    fn file(&mut self, intent: &PastIntent, inverse: &Inverse) {
        match inverse {
            Inverse::Restore { path, before, becomes } => self.path(intent, path, before, becomes.as_ref()),
            Inverse::Value { path, form, old: Some(old) } => self.value(intent, path, *form, old),
            Inverse::Value { old: None, .. } => {
                let reason = "the value before could not be read".into();
                self.push(intent, UndoAct::Impossible { action: intent.action.clone(), reason }, None);
            }
            Inverse::Program { .. } | Inverse::Derive { .. } | Inverse::Irreversible => {}
        }
    }

    fn path(&mut self, intent: &PastIntent, path: &AbsPath, before: &Saved, becomes: Option<&Matcher>) {
        if let Some((stands, step)) = self.paths.get_mut(path) {
            *stands = before.matcher();
            let step = *step;
            let old = self.shown_before(before);
            self.steps[step].sensitive |= intent.sensitive;
            if let UndoAct::Path { then, .. } = &mut self.steps[step].act {
                *then = old;
            }
            return;
        }
        let found = journal::fingerprint(self.tree, path);
        if found == before.matcher() || self.past.story.first(path).is_some_and(|first| found == first.matcher()) {
            return;
        }
        let now = self.bounded(answer(self.tree, &Read::entry(path.clone())));
        let changed = self.doubt.changed_since(intent, path, before, becomes, &found).map(|words| {
            format!("{words}{}", now.meta().map_or_else(String::new, |meta| format!(" (modified {})", utc(meta.mtime))))
        });
        // What is mounted there has an owner and a mode of its own; the directory below is seen when it is gone.
        let changed = changed.filter(|_| !is_mounted_on(self.tree, path));
        let then = self.shown_before(before);
        self.paths.insert(path.clone(), (before.matcher(), self.steps.len()));
        self.push(intent, UndoAct::Path { path: path.clone(), now, then }, changed);
    }

    fn value(&mut self, intent: &PastIntent, path: &AbsPath, form: Form, old: &str) {
        if let Some((stands, step)) = self.values.get_mut(path) {
            *stands = old.into();
            let step = *step;
            self.steps[step].sensitive |= intent.sensitive;
            if let UndoAct::Value { then, .. } = &mut self.steps[step].act {
                *then = old.into();
            }
            return;
        }
        let found = value(self.tree, path, form);
        let is_back = found.is_some() && found.as_deref() == self.past.story.first_value(path);
        if is_back || found.as_deref() == Some(old) || is_value_left(self.tree, path, form) {
            return;
        }
        let known = intent.now.iter().find(|(at, _)| at == path).map(|(_, matcher)| matcher);
        let changed = match (&found, known) {
            (Some(found), Some(known)) if !known.matches_text(found) && !self.doubt.0.contains(path) => {
                Some(match intent.sensitive {
                    true => format!("`{path}` changed since the run"),
                    false => {
                        format!("`{path}` changed since the run: it was {}, and now it is `{found}`", known.describe())
                    }
                })
            }
            _ => None,
        };
        self.values.insert(path.clone(), (old.into(), self.steps.len()));
        self.push(intent, UndoAct::Value { path: path.clone(), now: found, then: old.into() }, changed);
    }

    fn program(&mut self, intent: &PastIntent, inverse: &Inverse) {
        match inverse {
            Inverse::Program { undo, stands, .. }
                if !stage::is_left_for_boot(self.tree, undo) && is_standing(self.tree, stands.as_ref()) =>
            {
                self.push(intent, UndoAct::Run { argv: undo.argv.clone() }, None);
            }
            Inverse::Irreversible => {
                let reason = "nothing takes that back".into();
                self.push(intent, UndoAct::Impossible { action: intent.action.clone(), reason }, None);
            }
            _ => {}
        }
    }

    /// Returns what was saved as an answer, with its content where it is not too long.
    fn shown_before(&mut self, saved: &Saved) -> Answer {
        let (meta, link) = match saved {
            Saved::Absent => return Answer::Absent,
            Saved::File { digest, owner, mtime, .. } => {
                let meta = Meta { mode: owner.mode, uid: owner.uid, gid: owner.gid, mtime: mtime.0 };
                let object = self.past.object(self.tree, *digest);
                let content = object.ok().and_then(|object| contents(object, SHOWN).ok()).map(Bytes);
                return self.bounded(Answer::File { meta, digest: Some(*digest), content });
            }
            Saved::Directory { owner, .. } => {
                (Meta { mode: owner.mode, uid: owner.uid, gid: owner.gid, mtime: 0 }, None)
            }
            Saved::Link { target, uid, gid } => (Meta { mode: 0o777, uid: *uid, gid: *gid, mtime: 0 }, Some(target)),
        };
        match link {
            Some(target) => Answer::Link { meta, target: target.clone() },
            None => Answer::Directory { meta, names: None },
        }
    }

    /// Leaves out a content that is too long to be shown, and the names in a directory.
    fn bounded(&mut self, mut answer: Answer) -> Answer {
        match &mut answer {
            Answer::File { content, .. } => {
                let length = content.as_ref().map_or(0, |content| content.0.len());
                if length > SHOWN.min(self.left) {
                    *content = None;
                } else {
                    self.left -= length;
                }
            }
            Answer::Directory { names, .. } => *names = None,
            _ => {}
        }
        answer
    }
}

/// The paths at which an earlier rollback of the run was cut or failed while it acted: what stands there may be halfway.
struct Doubt(BTreeSet<AbsPath>);

impl Doubt {
    fn of(tree: &Tree, run: &RunId) -> Self {
        let attempts = journal::runs(tree).into_iter().filter_map(|(other, _)| journal::past(tree, &other).ok());
        let attempts = attempts.filter(|past| past.story.takes_back.as_ref() == Some(run));
        let intents = attempts.flat_map(|past| past.story.intents);
        let inverses =
            intents.filter(|intent| !matches!(intent.outcome, Some(Ok(())))).flat_map(|intent| intent.inverses);
        Self(inverses.filter_map(|inverse| inverse.path().cloned()).collect())
    }

    /// Says what somebody changed at a path since an operation.
    fn changed_since(
        &self,
        intent: &PastIntent,
        path: &AbsPath,
        before: &Saved,
        becomes: Option<&Matcher>,
        found: &Matcher,
    ) -> Option<String> {
        let known = intent.now.iter().find(|(at, _)| at == path).map(|(_, matcher)| matcher).or(becomes)?;
        // A new content comes with its owner and mode; only where the content stays can those be halfway.
        if self.0.contains(path) && (is_same_content(found, known) || is_same_content(found, &before.matcher())) {
            return None;
        }
        // A part of the digest of a secret would let a guess be checked.
        let words = |matcher: &Matcher| match matcher {
            Matcher::File { mode, uid, gid, .. } if intent.sensitive || mode & 0o004 == 0 => {
                format!("a file of mode {mode:04o}, owner {uid}:{gid}")
            }
            other => other.describe(),
        };
        let (was, mut is) = (words(known), words(found));
        if was == is {
            is.push_str(" and other content");
        }
        (known != found).then(|| format!("`{path}` changed since the run: it was {was}, and now it is {is}"))
    }
}

/// Tells whether two things differ at most in owner and mode.
fn is_same_content(one: &Matcher, other: &Matcher) -> bool {
    match (one, other) {
        (Matcher::File { digest: one, .. }, Matcher::File { digest: other, .. }) => one == other,
        (Matcher::Directory { .. }, Matcher::Directory { .. }) => true,
        _ => one == other,
    }
}

/// Tells whether a directory is to be removed.
fn removes_directory(tree: &Tree, inverse: &Inverse) -> bool {
    let Inverse::Restore { path, before: Saved::Absent, .. } = inverse else { return false };
    matches!(answer(tree, &Read::entry(path.clone())), Answer::Directory { .. })
}

/// Tells whether a directory shows another file system than the one above it.
fn is_mounted_on(tree: &Tree, path: &AbsPath) -> bool {
    let device = |path: &AbsPath| tree.find(path, false).and_then(|place| place.stat(true)).map(|stat| stat.st_dev);
    matches!((device(path), path.parent().map(|above| device(&above))), (Ok(own), Some(Ok(above))) if own != above)
}

/// Tells whether what a program did, as far as that can be seen, is there to be taken back.
fn is_standing(tree: &Tree, stands: Option<&Expectation>) -> bool {
    stands.is_none_or(|stands| stands.matcher.matches(&answer(tree, &stands.read)))
}

/// Tells whether nothing can be written to a value below a root.
fn is_value_left(tree: &Tree, path: &AbsPath, form: Form) -> bool {
    is_left_for_boot(tree, &Op::Poke { path: path.clone(), value: String::new(), form })
}

/// Tells whether a derived file is left for the next boot of a root.
fn is_derivation_left(tree: &Tree, ops: &[Op]) -> bool {
    let is_left = |op: &Op| {
        matches!(op, Op::Stage { source: Source::Stdout(command) | Source::Argument(command), .. }
        if stage::is_left_for_boot(tree, command))
    };
    ops.iter().any(is_left)
}

fn program_of(op: &Op) -> Option<&Command> {
    match op {
        Op::Stage { source: Source::Stdout(command) | Source::Argument(command), .. }
        | Op::Check(Check::Succeeds(command)) => Some(command),
        _ => None,
    }
}

struct Back<'a> {
    tree: &'a Tree,
    terms: &'a Terms,
    past: &'a Past,
    own: &'a RunId,
    what: &'a TakeBack,
    doubt: Doubt,
    journal: Option<Journal>,
    /// Values that the kernel did not take, by what was told of them.
    refused: Vec<(String, AbsPath, Form, String, bool)>,
    /// Something failed that may go well another time, such as on a disk that was full: the run is not taken back.
    is_broken: bool,
    told: RolledBack,
}

impl Back<'_> {
    fn take_all(&mut self) {
        let past = self.past;
        let inverses = past.story.inverses();
        let (made, others): (Vec<_>, Vec<_>) =
            inverses.iter().partition(|(_, inverse)| removes_directory(self.tree, inverse));
        for (intent, inverse) in others {
            if self.is_stopped() {
                return;
            }
            self.files(intent, inverse);
        }
        self.forgive();
        for (intent, inverse) in &inverses {
            if self.is_stopped() {
                return;
            }
            self.programs(intent, inverse);
        }
        for (intent, inverse) in made {
            if self.is_stopped() {
                return;
            }
            self.files(intent, inverse);
        }
        let mut derived: Vec<&AbsPath> = vec![];
        for (intent, inverse) in &inverses {
            if let Inverse::Derive { path, ops, .. } = inverse
                && !derived.contains(&path)
                && !is_derivation_left(self.tree, ops)
            {
                if self.is_stopped() {
                    return;
                }
                derived.push(path);
                self.derived(intent, inverse);
            }
        }
    }

    fn is_stopped(&mut self) -> bool {
        self.told.interrupted |= self.terms.is_cancelled();
        self.told.interrupted
    }

    fn journal(&mut self) -> Result<&mut Journal, TreeError> {
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => Journal::begin(self.tree, self.own, &self.what.by, Some(&self.what.run))?,
        };
        Ok(self.journal.insert(journal))
    }

    /// Does one thing with its intent before and its end after it, and tells what came of it.
    fn journaled(
        &mut self,
        intent: &PastIntent,
        words: String,
        inverses: impl FnOnce(&Journal, &Tree) -> Result<Vec<Inverse>, TreeError>,
        act: impl FnOnce(&Tree) -> Result<(), StepError>,
    ) {
        let tree = self.tree;
        let attempt = || -> Result<(), StepError> {
            let journal = self.journal()?;
            let inverses = inverses(journal, tree)?;
            let (address, sensitive) = (intent.address.as_ref(), intent.sensitive);
            let number = journal.intent(tree, address, sensitive, words.clone(), inverses.clone())?;
            match act(tree) {
                Ok(()) => Ok(journal.done(tree, number, journal::stand(tree, &inverses))?),
                Err(error) => {
                    let _ = journal.failed(tree, number, &error.shown(sensitive));
                    Err(error)
                }
            }
        };
        match attempt() {
            Ok(()) => self.told.undone.push(words),
            Err(error) => {
                self.is_broken |= matches!(&error, StepError::Tree(error) if may_pass(error));
                self.told.left.push(format!("{words}: {}", error.shown(intent.sensitive)));
            }
        }
    }

    fn files(&mut self, intent: &PastIntent, inverse: &Inverse) {
        match inverse {
            Inverse::Restore { path, before, becomes } => self.restore(intent, path, before, becomes.as_ref()),
            Inverse::Value { path, form, old } => self.write_value(intent, path, *form, old.as_deref()),
            Inverse::Program { .. } | Inverse::Derive { .. } | Inverse::Irreversible => {}
        }
    }

    fn restore(&mut self, intent: &PastIntent, path: &AbsPath, before: &Saved, becomes: Option<&Matcher>) {
        let tree = self.tree;
        let found = journal::fingerprint(tree, path);
        if found == before.matcher() || self.past.story.first(path).is_some_and(|first| found == first.matcher()) {
            return;
        }
        if self.what.changed != Changed::TakeBack
            && let Some(words) = self.doubt.changed_since(intent, path, before, becomes, &found)
        {
            self.told.left.push(words);
            return;
        }
        let words = match before {
            Saved::Absent => format!("remove {path}"),
            _ => format!("restore {path}"),
        };
        let past = self.past;
        let becomes = before.matcher();
        let told = self.told.undone.len();
        self.journaled(
            intent,
            words,
            |journal, tree| {
                let now = journal.save(tree, path)?;
                Ok(vec![Inverse::Restore { path: path.clone(), before: now, becomes: Some(becomes) }])
            },
            |tree| {
                match (before, &found) {
                    (Saved::File { digest, owner, .. }, Matcher::File { digest: same, .. }) if digest == same => {
                        write::set_owner(tree, path, *owner)?;
                    }
                    _ => put_back(tree, past, path, before)?,
                }
                match journal::fingerprint(tree, path) {
                    found if found == before.matcher() => Ok(()),
                    found => Err(StepError::Check(format!("it is {} afterwards", found.describe()))),
                }
            },
        );
        // Keeping the ledger is nothing that a person asked for.
        if ledger::is_record(path) {
            self.told.undone.truncate(told);
        }
    }

    fn write_value(&mut self, intent: &PastIntent, path: &AbsPath, form: Form, old: Option<&str>) {
        let tree = self.tree;
        let Some(old) = old else {
            self.told.left.push(format!("{}: the value before could not be read", intent.action));
            return;
        };
        let found = value(tree, path, form);
        let is_back = found.is_some() && found.as_deref() == self.past.story.first_value(path);
        if is_back || found.as_deref() == Some(old) || is_value_left(tree, path, form) {
            return;
        }
        let told = self.told.left.len();
        self.journaled(
            intent,
            if intent.sensitive { format!("write {path}") } else { format!("write `{old}` to {path}") },
            |_, _| Ok(vec![Inverse::Value { path: path.clone(), form, old: found }]),
            |tree| {
                write::poke(tree, path, old)?;
                match value(tree, path, form) {
                    Some(found) if found == old => Ok(()),
                    found => Err(StepError::Check(format!("it shows `{}` afterwards", found.unwrap_or_default()))),
                }
            },
        );
        if let Some(words) = self.told.left.get(told) {
            self.refused.push((words.clone(), path.clone(), form, old.into(), intent.sensitive));
        }
    }

    /// Takes back what was told of values that the kernel refused, where they have come back meanwhile: the kernel sets one of
    /// two coupled values (`vm.dirty_bytes`, `vm.dirty_ratio`) to 0 when the other is written, and takes no 0 for it.
    fn forgive(&mut self) {
        for (words, path, form, old, sensitive) in std::mem::take(&mut self.refused) {
            if value(self.tree, &path, form).as_deref() == Some(old.as_str()) {
                self.told.left.retain(|left| *left != words);
                self.told.undone.push(match sensitive {
                    true => format!("{path} is as it was again"),
                    false => format!("{path} is `{old}` again"),
                });
            }
        }
    }

    fn programs(&mut self, intent: &PastIntent, inverse: &Inverse) {
        match inverse {
            Inverse::Program { undo, redo, stands } => {
                let run = Op::Run { command: undo.clone(), produces: vec![], undo: Undo::Nothing };
                if is_left_for_boot(self.tree, &run) || !is_standing(self.tree, stands.as_ref()) {
                    return;
                }
                self.journaled(
                    intent,
                    if intent.sensitive { run.describe_hidden() } else { run.describe() },
                    |_, _| Ok(vec![Inverse::Program { undo: redo.clone(), redo: undo.clone(), stands: None }]),
                    |tree| stage::run(tree, undo, None).map(|_| ()),
                );
            }
            Inverse::Irreversible => self.told.left.push(format!("{}: nothing takes that back", intent.action)),
            Inverse::Restore { .. } | Inverse::Value { .. } | Inverse::Derive { .. } => {}
        }
    }

    fn derived(&mut self, intent: &PastIntent, inverse: &Inverse) {
        let Inverse::Derive { path, ops, .. } = inverse else { return };
        let tree = self.tree;
        let directory = match self.journal().and_then(|journal| journal.stage(tree)) {
            Ok(directory) => directory,
            Err(error) => {
                self.is_broken |= may_pass(&error);
                self.told.left.push(format!("make {path} again: {error}"));
                return;
            }
        };
        self.journaled(
            intent,
            format!("make {path} again"),
            |journal, tree| {
                let before = journal.save(tree, path)?;
                Ok(vec![Inverse::Derive { path: path.clone(), before, ops: ops.clone() }])
            },
            |tree| {
                let mut staged = Staged::default();
                let result = ops.iter().try_for_each(|op| derive(tree, &mut staged, &directory, op));
                staged.clear(tree);
                result
            },
        );
    }
}

/// Tells whether the system refused what it may do another time.
fn may_pass(error: &TreeError) -> bool {
    let TreeError::System { errno, .. } = error else { return false };
    let passing = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::IO,
        Errno::ROFS,
        Errno::PERM,
        Errno::ACCESS,
        Errno::INTR,
        Errno::NOMEM,
        Errno::MFILE,
        Errno::NFILE,
    ];
    passing.contains(errno)
}

fn derive(tree: &Tree, staged: &mut Staged, directory: &AbsPath, op: &Op) -> Result<(), StepError> {
    match op {
        Op::Stage { name, source } => staged.stage(tree, directory, name, source).map(|_: Acted| ()),
        Op::Check(check) => staged.check(tree, check).map(|_| ()),
        Op::Install { name, .. } if staged.is_left(name) => Ok(()),
        Op::Install { name, path, owner, .. } => staged.install(tree, name, path, *owner, &mut || Ok(())),
        _ => Ok(()),
    }
}

/// Puts back what stood at a path.
fn put_back(tree: &Tree, past: &Past, path: &AbsPath, before: &Saved) -> Result<(), TreeError> {
    let mut free = || Ok(());
    match before {
        Saved::Absent => write::remove(tree, path, &mut free),
        Saved::File { digest, owner, xattrs, mtime } => {
            let content = Content::Copy(past.object(tree, *digest)?, *digest);
            let attributes = Attributes { owner: *owner, xattrs: Some(raw(xattrs)), mtime: Some(*mtime) };
            write::place_file(tree, path, content, &attributes, &mut free)
        }
        Saved::Link { target, uid, gid } => write::place_link(tree, path, target, Some((*uid, *gid)), &mut free),
        Saved::Directory { owner, xattrs } => write::make_directory(tree, path, *owner, Some(&raw(xattrs))),
    }
}

fn raw(xattrs: &[(String, Bytes)]) -> Vec<Xattr> {
    xattrs.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
}
