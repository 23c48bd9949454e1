//! Memory: `/proc/meminfo`, NUMA nodes, huge pages, swap; on dom0 what the hypervisor says.

use super::{
    HugePages, Memory, Node, Swap,
    answers::{Answers, exists, file, matched, names},
    cpu,
};
use crate::host::{probe::Probe, read::Read};

const MEMINFO: &str = "/proc/meminfo";
const SWAPS: &str = "/proc/swaps";
const POOLS: &str = "/sys/kernel/mm/hugepages/hugepages-*";
const NODE_MEMORY: &str = "/sys/devices/system/node/node*/meminfo";
const NODE_CPUS: &str = "/sys/devices/system/node/node*/cpulist";
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage";
const KSM: &str = "/sys/kernel/mm/ksm";

pub fn reads() -> Vec<Read> {
    vec![
        file(MEMINFO),
        file(SWAPS),
        names(POOLS),
        Read::glob(NODE_MEMORY),
        Read::glob(NODE_CPUS),
        exists(TRANSPARENT),
        exists(KSM),
        // Dom0's own files know only dom0's memory. Without the program this costs nothing.
        Read::Probe(Probe::once(["xl", "info"])),
    ]
}

/// Returns the memory; `dom0` tells whether the hypervisor's counts.
pub fn memory(answers: Answers, dom0: bool) -> Memory {
    let total = answers.text(MEMINFO).and_then(|text| kib(text, "MemTotal")).unwrap_or(0);
    let installed = if dom0 { hypervisor_total(answers).unwrap_or(total) } else { total };
    Memory { total, installed_gib: installed.div_ceil(1 << 30) }
}

/// Returns `total_memory` of `xl info`, which counts MiB, in bytes (xl(1)).
fn hypervisor_total(answers: Answers) -> Option<u64> {
    let output = answers.0.get(&Read::Probe(Probe::once(["xl", "info"])))?.text()?;
    let mut fields = output.lines().filter_map(|line| line.split_once(':'));
    let (_, mib) = fields.find(|(key, _)| key.trim() == "total_memory")?;
    mib.trim().parse::<u64>().ok()?.checked_mul(1 << 20)
}

/// Returns a field of `/proc/meminfo` or of a node's meminfo, which count KiB, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.split_whitespace().next_back().filter(|key| *key == name).map(|_| value)
    })?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the NUMA nodes in order.
pub fn numa(answers: Answers, total: u64) -> Vec<Node> {
    let number =
        |pattern: &str, path| matched(pattern, path).strip_prefix("node").and_then(|id| id.parse::<u64>().ok());
    let mut nodes: Vec<Node> = answers
        .glob(NODE_MEMORY)
        .filter_map(|(path, text)| {
            let id = number(NODE_MEMORY, path)?;
            let cpus = answers.glob(NODE_CPUS).find(|(path, _)| number(NODE_CPUS, path) == Some(id));
            let cpus = cpus.map_or("", |(_, list)| list.trim()).to_owned();
            Some(Node { id, memory: kib(text, "MemTotal").unwrap_or(0), cpus })
        })
        .collect();
    nodes.sort_by_key(|node| node.id);
    if nodes.is_empty() {
        nodes.push(Node { id: 0, memory: total, cpus: cpu::online(answers) });
    }
    nodes
}

/// Returns the sizes of huge pages: the names below /sys/kernel/mm/hugepages (Documentation/admin-guide/mm/hugetlbpage.rst).
pub fn huge_pages(answers: Answers) -> HugePages {
    let size = |path| matched(POOLS, path).strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok();
    let mut sizes: Vec<u64> = answers.glob(POOLS).filter_map(|(path, _)| size(path)).collect();
    sizes.sort_unstable();
    let default = answers.text(MEMINFO).and_then(|text| kib(text, "Hugepagesize"));
    HugePages {
        sizes: sizes.into_iter().map(short).collect(),
        default_size: default.map(|bytes| short(bytes / 1024)).unwrap_or_default(),
    }
}

/// Writes a size in KiB with the largest suffix that leaves a whole number.
fn short(kib: u64) -> String {
    match kib {
        _ if kib.is_multiple_of(1 << 20) => format!("{}G", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) => format!("{}M", kib >> 10),
        _ => format!("{kib}K"),
    }
}

/// Tells whether there are transparent huge pages.
pub fn transparent_huge_pages(answers: Answers) -> bool {
    answers.exists(TRANSPARENT)
}

/// Tells whether the kernel can merge pages.
pub fn ksm(answers: Answers) -> bool {
    answers.exists(KSM)
}

/// Returns the swap in use: the third column of /proc/swaps, in KiB (proc(5)).
pub fn swap(answers: Answers) -> Swap {
    let lines = answers.text(SWAPS).unwrap_or_default().lines().skip(1);
    let sizes = lines.filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    Swap { total: sizes.fold(0, |sum, kib| sum.saturating_add(kib.saturating_mul(1024))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_short() {
        for (kib, text) in [(2048, "2M"), (1 << 20, "1G"), (64, "64K"), (512 << 10, "512M"), (16 << 20, "16G")] {
            assert_eq!(short(kib), text);
        }
    }
}
