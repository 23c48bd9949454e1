//! A run is taken back from its journal alone, newest operation first; doing so is a run itself.

use super::{
    apply::{is_left_for_boot, value},
    journal::{self, Inverse, Journal, NoLock, Past, PastIntent, Saved},
    stage::{self, Acted, Staged, StepError},
    tree::{Tree, TreeError},
    write::{self, Attributes, Content, Xattr},
};
use crate::host::{
    HostError,
    bytes::Bytes,
    matcher::Matcher,
    op::{Form, Op, Undo},
    path::AbsPath,
    run::{RolledBack, RunId},
};

/// Takes a run back, see [`crate::host::Host::rollback`].
///
/// Files, links, directories and values come first, newest first; then the programs that undo others; then derived files are
/// made again. What somebody changed since the run is left as it is and told.
///
/// # Errors
/// Fails if there is no such run, if it was taken back already, or if another run holds the lock.
pub fn rollback(tree: &Tree, run: &RunId) -> Result<RolledBack, HostError> {
    let result = take_back(tree, run);
    if tree.seam.is_cut() { Err(HostError::Unreachable("cut".into())) } else { result }
}

fn take_back(tree: &Tree, run: &RunId) -> Result<RolledBack, HostError> {
    let refused = |error: TreeError| HostError::Refused(error.to_string());
    // First without the lock: a run that does not exist must not make its directory.
    journal::past(tree, run).map_err(HostError::Refused)?;
    let chance = u16::try_from(write::chance() & 0xffff).unwrap_or(0);
    let own = RunId::new(u64::try_from(journal::now()).unwrap_or(0), chance);
    let by = format!("rollback of {run}");
    let _lock = match journal::lock(tree, &own, &by) {
        Ok(lock) => lock,
        Err(NoLock::Held(holder)) => return Err(HostError::Refused(format!("another run holds the lock: {holder}"))),
        Err(NoLock::Failed(error)) => return Err(refused(error)),
    };
    journal::clear_cut_runs(tree).map_err(refused)?;
    let past = journal::past(tree, run).map_err(HostError::Refused)?;
    if past.is_taken_back(tree) {
        return Err(HostError::Refused(format!("the run `{run}` was taken back already")));
    }
    let mut back = Back {
        tree,
        past: &past,
        own: &own,
        by: &by,
        run,
        journal: None,
        refused: vec![],
        told: RolledBack::default(),
    };
    let intents: Vec<&PastIntent> = past.intents.iter().rev().collect();
    let inverses: Vec<(&PastIntent, &Inverse)> =
        intents.iter().flat_map(|intent| intent.inverses.iter().rev().map(|inverse| (*intent, inverse))).collect();
    for (intent, inverse) in &inverses {
        back.files(intent, inverse);
    }
    back.forgive();
    for (intent, inverse) in &inverses {
        back.programs(intent, inverse);
    }
    let mut derived: Vec<&AbsPath> = vec![];
    for (intent, inverse) in &inverses {
        if let Inverse::Derive { path, .. } = inverse
            && !derived.contains(&path)
        {
            derived.push(path);
            back.derived(intent, inverse);
        }
    }
    let Back { journal, told, .. } = back;
    journal::settle_run(tree, run).map_err(refused)?;
    if !past.intents.is_empty() {
        past.set_taken_back(tree, &own).map_err(refused)?;
    }
    if let Some(earlier) = &past.takes_back
        && let Ok(earlier) = journal::past(tree, earlier)
    {
        earlier.unset_taken_back(tree).map_err(refused)?;
    }
    if let Some(journal) = journal {
        journal::clear_stage(tree, journal.directory()).map_err(refused)?;
        journal.end(tree, told.left.is_empty()).map_err(refused)?;
    }
    Ok(told)
}

struct Back<'a> {
    tree: &'a Tree,
    past: &'a Past,
    own: &'a RunId,
    by: &'a str,
    run: &'a RunId,
    journal: Option<Journal>,
    /// Values that the kernel did not take, by what was told of them.
    refused: Vec<(String, AbsPath, Form, String)>,
    told: RolledBack,
}

impl Back<'_> {
    fn journal(&mut self) -> Result<&mut Journal, TreeError> {
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => Journal::begin(self.tree, self.own, self.by, Some(self.run))?,
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
            let paths: Vec<AbsPath> = inverses.iter().filter_map(Inverse::file).cloned().collect();
            let number = journal.intent(tree, intent.address.as_ref(), words.clone(), inverses)?;
            match act(tree) {
                Ok(()) => Ok(journal.done(tree, number, &paths)?),
                Err(error) => {
                    let _ = journal.failed(tree, number, &error.to_string());
                    Err(error)
                }
            }
        };
        match attempt() {
            Ok(()) => self.told.undone.push(words),
            Err(error) => self.told.left.push(format!("{words}: {error}")),
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
        let known = intent.now.iter().find(|(at, _)| at == path).map(|(_, matcher)| matcher).or(becomes);
        if found == before.matcher() {
            return;
        }
        if let Some(known) = known
            && *known != found
        {
            let (was, is) = (known.describe(), found.describe());
            self.told.left.push(format!("`{path}` changed since the run: it was {was}, and now it is {is}"));
            return;
        }
        let words = match before {
            Saved::Absent => format!("remove {path}"),
            _ => format!("restore {path}"),
        };
        let past = self.past;
        let becomes = before.matcher();
        self.journaled(
            intent,
            words,
            |journal, tree| {
                let now = journal.save(tree, path)?;
                Ok(vec![Inverse::Restore { path: path.clone(), before: now, becomes: Some(becomes) }])
            },
            |tree| match (before, &found) {
                (Saved::File { digest, owner, .. }, Matcher::File { digest: same, .. }) if digest == same => {
                    Ok(write::set_owner(tree, path, *owner)?)
                }
                _ => Ok(put_back(tree, past, path, before)?),
            },
        );
    }

    fn write_value(&mut self, intent: &PastIntent, path: &AbsPath, form: Form, old: Option<&str>) {
        let tree = self.tree;
        let Some(old) = old else {
            self.told.left.push(format!("{}: the value before could not be read", intent.action));
            return;
        };
        let found = value(tree, path, form);
        if found.as_deref() == Some(old) {
            return;
        }
        let told = self.told.left.len();
        self.journaled(
            intent,
            format!("write `{old}` to {path}"),
            |_, _| Ok(vec![Inverse::Value { path: path.clone(), form, old: found }]),
            |tree| Ok(write::poke(tree, path, old)?),
        );
        if let Some(words) = self.told.left.get(told) {
            self.refused.push((words.clone(), path.clone(), form, old.into()));
        }
    }

    /// Takes back what was told of values that the kernel refused, where they have come back meanwhile: the kernel sets one of
    /// two coupled values (`vm.dirty_bytes`, `vm.dirty_ratio`) to 0 when the other is written, and takes no 0 for it.
    fn forgive(&mut self) {
        for (words, path, form, old) in std::mem::take(&mut self.refused) {
            if value(self.tree, &path, form).as_deref() == Some(old.as_str()) {
                self.told.left.retain(|left| *left != words);
                self.told.undone.push(format!("{path} is `{old}` again"));
            }
        }
    }

    fn programs(&mut self, intent: &PastIntent, inverse: &Inverse) {
        match inverse {
            Inverse::Program { undo, redo } => {
                let run = Op::Run { command: undo.clone(), produces: vec![], undo: Undo::Nothing };
                if is_left_for_boot(self.tree, &run) {
                    return;
                }
                self.journaled(
                    intent,
                    run.describe(),
                    |_, _| Ok(vec![Inverse::Program { undo: redo.clone(), redo: undo.clone() }]),
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
