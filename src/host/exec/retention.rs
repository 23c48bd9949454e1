//! How long runs are remembered: so many of them and so many bytes, and never without the newest that ended well.

use rustix::fs::{self, FileType};

use super::{
    Terms,
    journal::{self, state},
    read, space,
    tree::{Tree, TreeError},
    write,
};
use crate::host::{journal::Ending, path::AbsPath, run::RunId, state::UNFINISHED};

/// How long an executor stays after it was last uploaded, in seconds: another vprov may be about to start it.
const EXECUTOR_STAYS: i64 = 3600;

/// What the directory of a run is called once the run is forgotten.
const GONE: &str = ".gone-";

/// Removes the oldest runs beyond the terms, and executors that nobody starts any more. The lock must be held.
///
/// What stays, whatever the terms say: the run that ends now, the newest that ended well, and those that did not come to
/// their end or cannot be read.
///
/// # Errors
/// Fails as the system does; what is left is removed the next time.
pub fn collect(tree: &Tree, terms: &Terms, own: &RunId) -> Result<(), TreeError> {
    for name in read::names_in(tree, &state("runs")).iter().filter(|name| name.starts_with(GONE)) {
        remove_tree(tree, &state(&format!("runs/{name}")))?;
    }
    let runs = journal::runs(tree);
    let mut kept = runs.len();
    let sizes: Vec<u64> = runs.iter().map(|(_, directory)| size(tree, directory)).collect();
    let mut bytes: u64 = sizes.iter().sum();
    if kept > terms.keep_runs || bytes > terms.keep_bytes {
        let told = runs.into_iter().zip(sizes).filter_map(|((run, directory), size)| {
            let past = journal::past(tree, &run).ok()?;
            let is_open = UNFINISHED.iter().any(|name| journal::is_marked(tree, &directory, name));
            Some((past.story, directory, size, is_open))
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|(story, ..)| story.began);
        let newest = told.iter().rev().find(|(story, ..)| matches!(story.ended, Some((_, Ending::Done))));
        let newest = newest.map(|(story, ..)| story.run.clone());
        for (story, directory, size, is_open) in &told {
            if kept <= terms.keep_runs && bytes <= terms.keep_bytes {
                break;
            }
            if *is_open || story.run == *own || Some(&story.run) == newest.as_ref() {
                continue;
            }
            forget(tree, directory, &story.run)?;
            kept -= 1;
            bytes -= size;
        }
    }
    executors(tree, terms)
}

/// Forgets a run: first its name, so that a cut leaves nothing that looks like a run, then what it holds.
fn forget(tree: &Tree, directory: &AbsPath, run: &RunId) -> Result<(), TreeError> {
    let gone = state(&format!("runs/{GONE}{run}"));
    let (from, to) = (tree.holder(directory)?, tree.holder(&gone)?);
    write::take_name(tree, &from, &to, directory)?;
    remove_tree(tree, &gone)
}

/// Removes a directory with all that is in it; links are removed, not followed.
fn remove_tree(tree: &Tree, directory: &AbsPath) -> Result<(), TreeError> {
    for name in read::names_in(tree, directory) {
        let Ok(path) = directory.join(&name) else { continue };
        let stat = tree.find(&path, false).and_then(|place| place.stat(false));
        match stat {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => remove_tree(tree, &path)?,
            _ => write::remove(tree, &path, &mut || Ok(()))?,
        }
    }
    write::remove(tree, directory, &mut || Ok(()))
}

fn size(tree: &Tree, directory: &AbsPath) -> u64 {
    let files = |directory: &AbsPath| {
        read::names_in(tree, directory).into_iter().filter_map(|name| directory.join(&name).ok()).collect::<Vec<_>>()
    };
    let objects = directory.join("objects").expect("it is a plain name");
    files(directory).iter().chain(&files(&objects)).map(|path| space::size_of(tree, path)).sum()
}

/// Removes executors but the one that runs and the newest other one.
fn executors(tree: &Tree, terms: &Terms) -> Result<(), TreeError> {
    let (Some(build), None) = (&terms.build, tree.root()) else { return Ok(()) };
    let own = build.to_string();
    let mut others: Vec<(i64, AbsPath)> = vec![];
    for name in read::names_in(tree, &state("executor")).iter().filter(|name| **name != own) {
        let directory = state(&format!("executor/{name}"));
        let Ok(stat) = tree.find(&directory, false).and_then(|place: super::tree::Place| place.stat(false)) else {
            continue;
        };
        if fs::FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            others.push((stat.st_mtime, directory));
        }
    }
    others.sort();
    others.pop();
    let now = journal::now();
    for (_, directory) in others.iter().filter(|(mtime, _)| now - mtime > EXECUTOR_STAYS) {
        remove_tree(tree, directory)?;
    }
    Ok(())
}
