//! Answers to questions. Nothing here changes anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::AsFd,
    time::Duration,
};

use rustix::{
    fs::{Dir, FileType, RawMode, Stat},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use super::{
    namespace, process,
    tree::{Place, Tree, words},
};
use crate::host::{
    bytes::{Bytes, Digest},
    glob::{Pattern, component_matches},
    path::AbsPath,
    probe::Probe,
    read::{Answer, Meta, Output, Read, Want},
};

/// The most that is read of one file's content.
pub const FILE_LIMIT: usize = 16 << 20;
/// The most that is read of all files of one batch.
const BATCH_LIMIT: usize = 64 << 20;
/// The most paths that a glob, or names that a directory, may have.
const NAMES_LIMIT: usize = 10_000;
/// How long a probe may take.
const PROBE_TIME: Duration = Duration::from_secs(30);
/// How many items of equal probes are put into one run.
const ITEMS: usize = 500;

/// Answers a batch of questions in their order.
#[must_use]
pub fn answer_all(tree: &Tree, reads: &[Read]) -> Vec<Answer> {
    let mut left = BATCH_LIMIT;
    let mut answers: Vec<Option<Answer>> = reads
        .iter()
        .map(|read| match read {
            Read::Path { path, follow, want } => Some(answer_path(tree, path, *follow, *want, &mut left)),
            Read::Glob { pattern, want } => Some(answer_glob(tree, pattern, *want, &mut left)),
            Read::Probe(_) => None,
        })
        .collect();
    let probes: BTreeSet<&Probe> =
        reads.iter().filter_map(|read| if let Read::Probe(probe) = read { Some(probe) } else { None }).collect();
    if !probes.is_empty() {
        let probed = answer_probes(tree, &probes);
        for (read, answer) in reads.iter().zip(&mut answers) {
            if let Read::Probe(probe) = read {
                *answer = probed.get(probe).cloned();
            }
        }
    }
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Answer::Failed("it was not asked".into()))).collect()
}

/// Answers one question.
#[must_use]
pub fn answer(tree: &Tree, read: &Read) -> Answer {
    answer_all(tree, std::slice::from_ref(read)).pop().unwrap_or(Answer::Absent)
}

fn of_errno(errno: Errno) -> Answer {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Answer::Absent,
        Errno::ACCESS | Errno::PERM => Answer::Denied,
        errno => Answer::Failed(words(errno)),
    }
}

/// Returns owner, mode and time out of what the system tells.
#[must_use]
pub fn meta(stat: &Stat) -> Meta {
    Meta { mode: permissions(stat.st_mode), uid: stat.st_uid, gid: stat.st_gid, mtime: stat.st_mtime }
}

fn permissions(mode: RawMode) -> u32 {
    mode & 0o7777
}

fn answer_path(tree: &Tree, path: &AbsPath, follow: bool, want: Want, left: &mut usize) -> Answer {
    match tree.find(path, follow) {
        Ok(place) => answer_place(&place, path, follow, want, left).unwrap_or_else(of_errno),
        Err(errno) => of_errno(errno),
    }
}

fn answer_place(place: &Place, path: &AbsPath, follow: bool, want: Want, left: &mut usize) -> Result<Answer, Errno> {
    let stat = place.stat(follow)?;
    let meta = meta(&stat);
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => match String::from_utf8(place.link()?) {
            Ok(target) => Answer::Link { meta, target },
            Err(_) => Answer::Failed("the target of the link is no UTF-8".into()),
        },
        FileType::Directory if want == Want::Content => match names(place, follow)? {
            Ok(names) => Answer::Directory { meta, names: Some(names) },
            Err(error) => Answer::Failed(error),
        },
        FileType::Directory => Answer::Directory { meta, names: None },
        FileType::RegularFile if want == Want::Meta => Answer::File { meta, digest: None, content: None },
        FileType::RegularFile => {
            let file = place.open(follow)?;
            let stat = rustix::fs::fstat(&file)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Ok(Answer::Failed("it changed while it was read".into()));
            }
            let meta = self::meta(&stat);
            if want == Want::Digest {
                return Ok(Answer::File { meta, digest: Some(digest(&file)?), content: None });
            }
            let limit = FILE_LIMIT.min(*left);
            match contents(&file, limit) {
                Ok(content) => {
                    *left -= content.len();
                    Answer::File { meta, digest: Some(Digest::of(&content)), content: Some(Bytes(content)) }
                }
                Err(Unread::Errno(errno)) => return Err(errno),
                Err(Unread::TooLong) if limit < FILE_LIMIT => {
                    Answer::Failed(format!("all files asked for at once hold more than {} MiB", BATCH_LIMIT >> 20))
                }
                Err(Unread::TooLong) => Answer::Failed(format!("`{path}` holds more than {} MiB", FILE_LIMIT >> 20)),
            }
        }
        _ => Answer::Special { meta },
    })
}

/// Why a file's content was not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The system's words.
    #[error("{}", words(*.0))]
    Errno(Errno),
    /// It is beyond the limit.
    #[error("it is too long")]
    TooLong,
}

/// Reads to the end, whatever size the file pretends to have (0 in /proc and /sys).
///
/// # Errors
/// Fails as the system does, and on more than `limit` bytes.
pub fn contents(file: impl AsFd, limit: usize) -> Result<Vec<u8>, Unread> {
    let mut content = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Ok(content),
            Ok(length) if content.len() + length > limit => return Err(Unread::TooLong),
            Ok(length) => content.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Unread::Errno(errno)),
        }
    }
}

fn digest(file: impl AsFd) -> Result<Digest, Errno> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Ok(Digest::from_raw(hash.finalize().into())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The sorted names in a directory; the inner error is a limit or a name that is no text.
fn names(place: &Place, follow: bool) -> Result<Result<Vec<String>, String>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(place.open(follow)?)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Ok("." | "..") => {}
            Ok(name) => names.push(name.to_string()),
            Err(_) => return Ok(Err(format!("the name {:?} in it is no UTF-8", entry.file_name().to_string_lossy()))),
        }
        if names.len() > NAMES_LIMIT {
            return Ok(Err(format!("there are more than {NAMES_LIMIT} names in it")));
        }
    }
    names.sort();
    Ok(Ok(names))
}

/// Returns the sorted names in a directory of the tree; none if it cannot be read.
#[must_use]
pub fn names_in(tree: &Tree, directory: &AbsPath) -> Vec<String> {
    let names = tree.find(directory, true).and_then(|place| names(&place, true));
    names.ok().and_then(Result::ok).unwrap_or_default()
}

fn answer_glob(tree: &Tree, pattern: &str, want: Want, left: &mut usize) -> Answer {
    let Some(glob) = Pattern::new(pattern) else {
        return Answer::Failed(format!("`{pattern}` is no absolute pattern"));
    };
    match expand(tree, &glob) {
        Ok(paths) => Answer::Paths(
            paths
                .into_iter()
                .map(|path| {
                    let answer = answer_path(tree, &path, true, want, left);
                    (path, answer)
                })
                .collect(),
        ),
        Err(answer) => answer,
    }
}

fn expand(tree: &Tree, glob: &Pattern) -> Result<Vec<AbsPath>, Answer> {
    let mut found = vec![AbsPath::known("/")];
    for component in glob.components() {
        let mut next = Vec::new();
        for directory in found {
            let mut candidates = vec![component.clone()];
            if Pattern::is_wild(component) {
                let listed = tree.find(&directory, true).and_then(|place| names(&place, true));
                candidates = match listed.map_err(of_errno) {
                    Ok(Ok(names)) => names,
                    Ok(Err(error)) => return Err(Answer::Failed(format!("`{directory}`: {error}"))),
                    Err(Answer::Absent) => continue,
                    Err(answer) => return Err(answer),
                };
                candidates.retain(|name| component_matches(component, name));
            }
            for name in candidates {
                let path = directory.join(&name).map_err(|error| Answer::Failed(error.to_string()))?;
                next.push(path);
            }
            if next.len() > NAMES_LIMIT {
                return Err(Answer::Failed(format!("more than {NAMES_LIMIT} paths match")));
            }
        }
        found = next;
    }
    // The last components may be plain names, which nobody has looked for yet.
    let mut paths = Vec::with_capacity(found.len());
    for path in found {
        match tree.find(&path, false).and_then(|place| place.stat(false)).map_err(of_errno) {
            Ok(_) => paths.push(path),
            Err(Answer::Absent) => {}
            Err(answer) => return Err(answer),
        }
    }
    paths.sort();
    Ok(paths)
}

fn answer_probes(tree: &Tree, probes: &BTreeSet<&Probe>) -> BTreeMap<Probe, Answer> {
    if tree.root().is_some() {
        // What runs is undefined for a tree that is not this machine's.
        return probes.iter().map(|probe| ((*probe).clone(), Answer::Absent)).collect();
    }
    if !rustix::process::geteuid().is_root() {
        return run_probes(probes, None);
    }
    match namespace::read_only(|| run_probes(probes, None)) {
        Ok(answers) => answers,
        Err(error) => run_probes(probes, Some(&error)),
    }
}

/// Runs the probes; those that a person wrote only if nothing says why they may not.
fn run_probes(probes: &BTreeSet<&Probe>, no_users: Option<&str>) -> BTreeMap<Probe, Answer> {
    let mut answers = BTreeMap::new();
    let mut many: BTreeMap<&[String], Vec<&str>> = BTreeMap::new();
    for probe in probes {
        let answer = match (probe, no_users) {
            (probe, _) if !probe.is_allowed() => {
                Answer::Failed(format!("`{}` is not among the programs that change nothing", probe.argv().join(" ")))
            }
            (Probe::User { .. }, Some(error)) => {
                Answer::Failed(format!("it may run only where the file systems are read-only: {error}"))
            }
            (Probe::User { argv } | Probe::Once { argv }, _) => of_run(process::run(argv, None, PROBE_TIME)),
            (Probe::Each { argv, item }, _) => {
                many.entry(argv).or_default().push(item);
                continue;
            }
        };
        answers.insert((*probe).clone(), answer);
    }
    for (argv, items) in many {
        for items in items.chunks(ITEMS) {
            let all: Vec<String> = argv.iter().cloned().chain(items.iter().map(|item| (*item).into())).collect();
            let split = split(of_run(process::run(&all, None, PROBE_TIME)), items.len());
            for (item, answer) in items.iter().zip(split) {
                answers.insert(Probe::Each { argv: argv.into(), item: (*item).into() }, answer);
            }
        }
    }
    answers
}

fn of_run(result: Result<Output, process::ProcessError>) -> Answer {
    match result {
        Ok(output) => Answer::Output(output),
        Err(process::ProcessError::Missing(_)) => Answer::Absent,
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// Gives each of `count` items its block of one run's output.
fn split(answer: Answer, count: usize) -> Vec<Answer> {
    let Answer::Output(output) = answer else { return vec![answer; count] };
    let text = output.stdout.lossy().into_owned();
    let blocks: Vec<&str> = text.strip_suffix('\n').unwrap_or(&text).split("\n\n").collect();
    if blocks.len() == count && (output.status == 0 || count == 1) {
        let block = |block: &&str| {
            let stdout = if block.is_empty() { Bytes::default() } else { format!("{block}\n").into() };
            Answer::Output(Output { status: output.status, stdout, stderr: output.stderr.clone() })
        };
        return blocks.iter().map(block).collect();
    }
    if output.status != 0 {
        return vec![Answer::Output(Output { stdout: Bytes::default(), ..output }); count];
    }
    vec![Answer::Failed(format!("the program answered {} blocks for {count} items", blocks.len())); count]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_one_run_is_split_at_blank_lines() {
        let output =
            |status, stdout: &str| Answer::Output(Output { status, stdout: stdout.into(), stderr: Bytes::default() });
        let check = |status, text: &str, expected: &[Answer]| {
            assert_eq!(split(output(status, text), expected.len()), expected, "{text:?}");
        };
        check(0, "A=1\nB=2\n\nA=3\nB=4\n", &[output(0, "A=1\nB=2\n"), output(0, "A=3\nB=4\n")]);
        check(0, "A=1\n", &[output(0, "A=1\n")]);
        check(1, "", &[output(1, ""), output(1, "")]);
        let failed = Answer::Failed("the program answered 1 blocks for 2 items".into());
        check(0, "A=1\n", &[failed.clone(), failed]);
    }
}
