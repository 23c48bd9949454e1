//! Whether there is room for a run, asked before its first write: for the backups, the new contents, and something beside.

use std::collections::BTreeMap;

use rustix::fs::{self, Mode, OFlags};

use super::{journal, tree::Tree};
use crate::host::{
    op::{Op, Source},
    path::AbsPath,
    run::Run,
};

/// What is kept free beside what a run needs: its journal, and directories that grow.
const MARGIN: u64 = 1 << 20;

/// How many bytes are needed below a directory.
pub type Need = (AbsPath, u64);

/// Returns what a run needs: the new contents where they go, and the backups of what stands there.
#[must_use]
pub fn of_run(tree: &Tree, run: &Run) -> Vec<Need> {
    let mut needs: BTreeMap<&AbsPath, (u64, u64)> = BTreeMap::new();
    let mut beside = 0;
    for op in run.works.iter().flat_map(|work| &work.steps).map(|step| &step.op) {
        let size = match op {
            Op::Write { content, .. } => content.0.len() as u64,
            Op::Stage { source: Source::Content(content), .. } => {
                beside += content.0.len() as u64;
                0
            }
            _ => 0,
        };
        let produced = if let Op::Run { produces, .. } = op { produces.as_slice() } else { &[] };
        if !matches!(op, Op::Poke { .. }) {
            for path in op.path().into_iter().chain(produced) {
                let need = needs.entry(path).or_insert_with(|| (size_of(tree, path), 0));
                need.1 = need.1.max(size);
            }
        }
    }
    let backups = needs.values().map(|(old, _)| old).sum::<u64>();
    // What is generated is about as long as what it replaces.
    let news = needs.iter().map(|(path, (old, new))| ((*path).clone(), (*old).max(*new)));
    news.chain([(journal::state("runs"), backups + beside)]).collect()
}

/// Returns the size of a regular file; 0 for anything else.
#[must_use]
pub fn size_of(tree: &Tree, path: &AbsPath) -> u64 {
    let stat = tree.find(path, false).and_then(|place| place.stat(false));
    match stat {
        Ok(stat) if fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::RegularFile => {
            u64::try_from(stat.st_size).unwrap_or(0)
        }
        _ => 0,
    }
}

/// Checks that there is room for what is needed.
///
/// # Errors
/// Says where there is not.
pub fn check(tree: &Tree, needs: impl IntoIterator<Item = Need>) -> Result<(), String> {
    let mut by_device: BTreeMap<u64, (u64, u64, AbsPath)> = BTreeMap::new();
    for (path, bytes) in needs {
        let Some((device, free, directory)) = room(tree, &path) else { continue };
        by_device.entry(device).or_insert((free, MARGIN, directory)).1 += bytes;
    }
    match by_device.into_values().find(|(free, needed, _)| needed > free) {
        None => Ok(()),
        Some((free, needed, directory)) => Err(format!(
            "the file system of `{directory}` has {} KiB left, and the run needs {} KiB for backups and new files",
            free >> 10,
            needed.div_ceil(1 << 10)
        )),
    }
}

/// Returns the file system that a path would lie on, how many bytes are free there, and the directory that says so.
#[expect(clippy::unnecessary_cast, reason = "the types differ between architectures")]
fn room(tree: &Tree, path: &AbsPath) -> Option<(u64, u64, AbsPath)> {
    let mut directory = path.parent()?;
    loop {
        if let Ok(place) = tree.find(&directory, true)
            && let Ok(stat) = place.stat(true)
        {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = place.open(true).or_else(|_| fs::openat(&place, &place.name, flags, Mode::empty())).ok()?;
            let space = fs::fstatvfs(&opened).ok()?;
            // Some file systems (procfs, some network ones) do not tell.
            if space.f_blocks == 0 {
                return None;
            }
            let blocks = if rustix::process::geteuid().is_root() { space.f_bfree } else { space.f_bavail };
            return Some((stat.st_dev as u64, blocks.saturating_mul(space.f_frsize), directory));
        }
        directory = directory.parent()?;
    }
}
