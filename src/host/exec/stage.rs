//! Programs that change the host, and files that are made aside, checked and then installed.

use std::{collections::BTreeMap, time::Duration};

use super::{
    process::{self, ProcessError},
    read::{self, answer},
    tree::{Tree, TreeError},
    write::{self, Attributes, Content},
};
use crate::host::{
    bytes::Bytes,
    op::{Check, Command, Owner, Source, UnderRoot},
    path::AbsPath,
    read::{Answer, Meta, Read, Want},
    run::NOT_SHOWN,
};

/// Why a step went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// With a file.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// With a program.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A check does not hold.
    #[error("{0}")]
    Check(String),
}

impl StepError {
    /// Tells whether the system said it of a path: such words hold no value.
    #[must_use]
    pub fn is_by_system(&self) -> bool {
        matches!(self, Self::Tree(TreeError::System { .. }))
    }

    /// Returns the words that may be kept and shown.
    #[must_use]
    pub fn shown(&self, sensitive: bool) -> String {
        if sensitive && !self.is_by_system() { NOT_SHOWN.into() } else { self.to_string() }
    }
}

/// Whether something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It was.
    Yes,
    /// It is left for the next boot of the root.
    LeftForBoot,
}

/// What one resource staged, by name; where it was left for boot, without a path.
#[derive(Default)]
pub struct Staged(BTreeMap<String, Option<AbsPath>>);

impl Staged {
    /// Tells whether a name was left for boot.
    #[must_use]
    pub fn is_left(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(None))
    }

    /// Returns where a staged file is.
    ///
    /// # Errors
    /// Fails if nothing was staged under that name.
    pub fn path(&self, name: &str) -> Result<&AbsPath, StepError> {
        match self.0.get(name) {
            Some(Some(path)) => Ok(path),
            _ => Err(StepError::Check(format!("nothing was staged as `{name}`"))),
        }
    }

    /// Makes a file aside.
    ///
    /// # Errors
    /// Fails if the program does or makes no file.
    pub fn stage(&mut self, tree: &Tree, directory: &AbsPath, name: &str, source: &Source) -> Result<Acted, StepError> {
        let path = directory.join(&format!("{}", self.0.len())).expect("a number is a plain name");
        match source {
            Source::Content(content) => put(tree, &path, content)?,
            Source::Stdout(command) => match run(tree, command, Some(&path))? {
                Some(stdout) => put(tree, &path, &stdout)?,
                None => return Ok(self.left(name)),
            },
            Source::Argument(command) => {
                if run(tree, command, Some(&path))?.is_none() {
                    return Ok(self.left(name));
                }
                if !matches!(self::stat(tree, &path), Answer::File { .. }) {
                    return Err(StepError::Check(format!("`{}` made no file", command.argv.join(" "))));
                }
            }
        }
        self.0.insert(name.into(), Some(path));
        Ok(Acted::Yes)
    }

    fn left(&mut self, name: &str) -> Acted {
        self.0.insert(name.into(), None);
        Acted::LeftForBoot
    }

    /// Returns a staged content.
    ///
    /// # Errors
    /// Fails if it cannot be read or is too long.
    pub fn content(&self, tree: &Tree, name: &str) -> Result<Bytes, StepError> {
        let path = self.path(name)?;
        match answer(tree, &Read::entry(path.clone())) {
            Answer::File { content: Some(content), .. } => Ok(content),
            other => Err(StepError::Check(format!("what was staged as `{name}` is {}", other.describe()))),
        }
    }

    /// Checks a predicate.
    ///
    /// # Errors
    /// Fails if it does not hold.
    pub fn check(&self, tree: &Tree, check: &Check) -> Result<Acted, StepError> {
        match check {
            Check::Succeeds(command) => {
                let staged = command.staged.as_deref().map(|name| self.path(name)).transpose()?;
                let ran = run(tree, command, staged)?;
                return Ok(if ran.is_some() { Acted::Yes } else { Acted::LeftForBoot });
            }
            Check::Staged { name, matcher } => {
                let content = self.content(tree, name)?;
                let meta = Meta { mode: 0o600, uid: 0, gid: 0, mtime: 0 };
                let answer = Answer::File { meta, digest: Some(content.digest()), content: Some(content) };
                if !matcher.matches(&answer) {
                    return Err(StepError::Check(format!("the new file lacks {}", matcher.describe())));
                }
            }
            Check::PathsExist { name, first_words, word, below } => {
                let content = self.content(tree, name)?;
                check_paths(&content.lossy(), first_words, *word, below, &|path| {
                    !matches!(stat(tree, path), Answer::Absent)
                })
                .map_err(StepError::Check)?;
            }
        }
        Ok(Acted::Yes)
    }

    /// Puts a staged file in its place.
    ///
    /// # Errors
    /// As [`write::place_file`].
    pub fn install(
        &self,
        tree: &Tree,
        name: &str,
        path: &AbsPath,
        owner: Owner,
        recheck: &mut dyn FnMut() -> Result<(), TreeError>,
    ) -> Result<(), StepError> {
        let content = self.content(tree, name)?;
        Ok(write::place_file(tree, path, Content::Bytes(&content.0), &Attributes::of(owner), recheck)?)
    }

    /// Removes the staged files.
    pub fn clear(&mut self, tree: &Tree) {
        for path in std::mem::take(&mut self.0).into_values().flatten() {
            let _ = write::remove(tree, &path, &mut || Ok(()));
        }
    }
}

/// Says which path that a generated file names does not exist, see [`Check::PathsExist`].
///
/// # Errors
/// Names the first such path.
pub fn check_paths(
    text: &str,
    first_words: &[String],
    word: usize,
    below: &[AbsPath],
    exists: &dyn Fn(&AbsPath) -> bool,
) -> Result<(), String> {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.first().is_some_and(|first| first_words.iter().any(|word| word == first)) {
            continue;
        }
        let Some(named) = words.get(word) else {
            return Err(format!("the line `{}` names no path", line.trim()));
        };
        let last = named.rsplit('/').next().unwrap_or(named);
        let candidates = std::iter::once(AbsPath::new(*named))
            .chain(below.iter().flat_map(|directory| [directory.join(named), directory.join(last)]));
        if !candidates.flatten().any(|path| exists(&path)) {
            return Err(format!("`{named}`, which the new file names, does not exist"));
        }
    }
    Ok(())
}

fn stat(tree: &Tree, path: &AbsPath) -> Answer {
    read::answer(tree, &Read::Path { path: path.clone(), follow: true, want: Want::Meta })
}

fn put(tree: &Tree, path: &AbsPath, content: &Bytes) -> Result<(), StepError> {
    let attributes = Attributes::of(write::own(0o600));
    Ok(write::place_file(tree, path, Content::Bytes(&content.0), &attributes, &mut || Ok(()))?)
}

/// Tells whether a command is left for the next boot of the root.
#[must_use]
pub fn is_left_for_boot(tree: &Tree, command: &Command) -> bool {
    tree.root().is_some() && command.under_root == UnderRoot::LeftForBoot
}

/// Runs a command and returns what it printed; `None` if it is left for boot.
///
/// # Errors
/// Fails if it does not end with 0.
pub fn run(tree: &Tree, command: &Command, staged: Option<&AbsPath>) -> Result<Option<Bytes>, StepError> {
    if is_left_for_boot(tree, command) {
        return Ok(None);
    }
    let staged = staged.map(|path| tree.outside(path).to_string_lossy().into_owned());
    let mut argv: Vec<String> = command
        .argv
        .iter()
        .map(|word| match &staged {
            Some(path) if word == "{}" => path.clone(),
            _ => word.clone(),
        })
        .collect();
    if let (Some(root), UnderRoot::Option(option)) = (tree.root(), &command.under_root) {
        argv.insert(argv.len().min(1), format!("{option}={}", root.display()));
    }
    tree.seam.point()?;
    let stdin = command.stdin.as_ref().map(|bytes| bytes.0.as_slice());
    let output = process::succeed(&argv, stdin, Duration::from_secs(command.timeout_s.into()))?;
    Ok(Some(output.stdout))
}
