//! Block devices: `/sys/block`.

use std::collections::BTreeMap;

use super::{
    Disk,
    answers::{Answers, matched},
};
use crate::host::read::Read;

const ROTATIONAL: &str = "/sys/block/*/queue/rotational";
const SCHEDULER: &str = "/sys/block/*/queue/scheduler";

pub fn reads() -> Vec<Read> {
    vec![Read::glob(ROTATIONAL), Read::glob(SCHEDULER)]
}

/// Returns the block devices by name.
pub fn disks(answers: Answers) -> BTreeMap<String, Disk> {
    let mut disks: BTreeMap<String, Disk> = BTreeMap::new();
    for (path, text) in answers.glob(ROTATIONAL) {
        disks.entry(matched(ROTATIONAL, path).into()).or_default().rotational = text.trim() == "1";
    }
    for (path, text) in answers.glob(SCHEDULER) {
        let disk = disks.entry(matched(SCHEDULER, path).into()).or_default();
        (disk.schedulers, disk.scheduler) = schedulers(text);
    }
    disks.retain(|name, _| !["loop", "ram"].iter().any(|kind| name.starts_with(kind)));
    disks
}

/// Returns what a device offers and uses; a bare `none` cannot be changed (block/elevator.c, `elv_iosched_show`).
fn schedulers(text: &str) -> (Vec<String>, String) {
    let current = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    let Some(current) = current else { return (vec![], String::new()) };
    let all = text.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned());
    (all.collect(), current.into())
}
