//! A configuration file that belongs to vprov alone, and its neighbours that may say otherwise.

use super::{Cannot, Seen, seen::parents_reads};
use crate::{
    host::{
        op::{Owner, Step},
        path::AbsPath,
        read::{Answer, Read},
    },
    os::conf_d::{self, Fragment},
};

/// Asks for the file and what is above it.
#[must_use]
pub fn reads(path: &AbsPath) -> Vec<Read> {
    let mut reads = parents_reads(path);
    reads.push(Read::entry(path.clone()));
    reads
}

/// Returns the text of the file; `None` where there is none.
///
/// # Errors
/// [`Cannot`] where it may not be read, is no file (a link included) or is no text.
pub fn text<'a>(seen: &Seen<'a>, path: &AbsPath) -> Result<Option<&'a str>, Cannot> {
    let text = |content: &'a crate::host::bytes::Bytes| content.text();
    seen.entry(path)?
        .map(|content| text(content).ok_or_else(|| Cannot::Refused(format!("{path} is no UTF-8 text"))))
        .transpose()
}

/// Returns the steps that give the file a content, mode 0644 for a new one, or remove it for `None`.
#[must_use]
pub fn steps(seen: &Seen, path: &AbsPath, content: Option<String>) -> Vec<Step> {
    let Some(content) = content else { return vec![seen.remove(path)] };
    let mut steps = seen.make_parents(path);
    steps.push(seen.write(path, content, seen.owner_or(path, Owner::root(0o644))));
    steps
}

/// Asks for all files of a family of directories such as [`conf_d::SYSCTL_DIRS`].
pub fn neighbours_reads(dirs: &[&str], suffix: &str) -> impl Iterator<Item = Read> {
    dirs.iter().map(move |dir| Read::glob(format!("{dir}/*{suffix}")))
}

/// Returns all files of a family of directories as they will be once `path` has `content`. A link to `/dev/null`, or to
/// nothing, masks its name.
#[must_use]
pub fn neighbours(seen: &Seen, dirs: &[&str], suffix: &str, path: &AbsPath, content: Option<&str>) -> Vec<Fragment> {
    let mut found = vec![];
    for read in neighbours_reads(dirs, suffix) {
        let Answer::Paths(paths) = seen.get(&read) else { continue };
        for (path, answer) in paths {
            match answer {
                Answer::File { content: Some(content), .. } => {
                    found.push(Fragment::new(path.clone(), content.0.clone()))
                }
                Answer::Special { .. } | Answer::Absent => found.push(Fragment::masked(path.clone())),
                _ => {}
            }
        }
    }
    conf_d::with_file(&found, path, content.map(str::as_bytes))
}
