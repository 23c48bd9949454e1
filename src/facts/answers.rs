//! [`Answers`]: what was read for facts. What is absent or may not be read is simply not there.

use crate::host::{
    observed::Observed,
    path::AbsPath,
    read::{Answer, Read, Want},
};

/// The answers of a host, by path.
#[derive(Clone, Copy)]
pub struct Answers<'a>(pub &'a Observed);

impl<'a> Answers<'a> {
    /// Returns the text of a file that was asked for by [`file`].
    pub fn text(self, path: &str) -> Option<&'a str> {
        self.0.get(&file(path))?.text()
    }

    /// Returns the text of a file that holds one value, without white space around it; empty where there is none.
    pub fn value(self, path: &str) -> String {
        self.text(path).unwrap_or_default().trim().to_owned()
    }

    /// Tells whether a path that was asked for by [`exists`] is there. What may not be entered counts as absent.
    pub fn exists(self, path: &str) -> bool {
        self.0.get(&exists(path)).is_some_and(|answer| answer.meta().is_some())
    }

    /// Returns the paths that match a pattern, with the text of each; asked for by [`Read::glob`] or [`names`].
    pub fn glob(self, pattern: &str) -> impl Iterator<Item = (&'a AbsPath, &'a str)> {
        let answer = |want| self.0.get(&Read::Glob { pattern: pattern.into(), want });
        let paths: &[_] = match answer(Want::Content).or_else(|| answer(Want::Meta)) {
            Some(Answer::Paths(paths)) => paths,
            _ => &[],
        };
        paths.iter().map(|(path, answer)| (path, answer.text().unwrap_or_default()))
    }
}

/// Asks for a file.
pub fn file(path: &str) -> Read {
    Read::content(AbsPath::known(path))
}

/// Asks whether a path is there.
pub fn exists(path: &str) -> Read {
    Read::exists(AbsPath::known(path))
}

/// Asks for the paths that match a pattern, without contents.
pub fn names(pattern: &str) -> Read {
    Read::Glob { pattern: pattern.into(), want: Want::Meta }
}

/// Returns the component of a path that matches the first `*` of the pattern by which it was found.
pub fn matched<'a>(pattern: &str, path: &'a AbsPath) -> &'a str {
    let at = pattern.split('/').position(|part| part.contains('*')).unwrap_or(0);
    path.as_str().split('/').nth(at).unwrap_or_default()
}
