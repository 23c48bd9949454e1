//! Processors: `/proc/cpuinfo`, and `/sys/devices/system/cpu` for what is online and how it hangs together.

use std::collections::BTreeSet;

use super::{
    Cpu,
    answers::{Answers, file},
};
use crate::host::read::Read;

const CPUINFO: &str = "/proc/cpuinfo";
const ONLINE: &str = "/sys/devices/system/cpu/online";
const SIBLINGS: &str = "/sys/devices/system/cpu/cpu*/topology/thread_siblings_list";
const SOCKETS: &str = "/sys/devices/system/cpu/cpu*/topology/physical_package_id";

pub fn reads() -> Vec<Read> {
    vec![file(CPUINFO), file(ONLINE), Read::glob(SIBLINGS), Read::glob(SOCKETS)]
}

/// Returns the list of processors that are online, as `0-15`.
pub fn online(answers: Answers) -> String {
    answers.value(ONLINE)
}

/// Returns the processors. On dom0 they are those that dom0 has.
pub fn cpu(answers: Answers) -> Cpu {
    let info = answers.text(CPUINFO).unwrap_or_default();
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map_or("", |(_, value)| value.trim())
    };
    let listed = info.lines().filter(|line| line.starts_with("processor")).count() as u64;
    let online = count(&online(answers)).unwrap_or(listed);
    // Each core has one list of threads, and each socket one number.
    let distinct = |pattern: &str| answers.glob(pattern).map(|(_, text)| text.trim()).collect::<BTreeSet<_>>().len();
    let flags = field("flags");
    Cpu {
        online,
        cores: match distinct(SIBLINGS) {
            0 => online,
            cores => cores as u64,
        },
        sockets: distinct(SOCKETS).max(1) as u64,
        model: field("model name").to_owned(),
        vendor: match field("vendor_id") {
            "GenuineIntel" => "intel",
            "AuthenticAMD" | "HygonGenuine" => "amd",
            _ => "other",
        }
        .into(),
        virtualization: flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"),
    }
}

/// Counts the processors of a list such as `0-3,8`; `None` if it is none.
fn count(list: &str) -> Option<u64> {
    list.split(',').try_fold(0u64, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        for (list, number) in
            [("0-3,8", Some(5)), ("0", Some(1)), ("", None), ("3-1", None), ("0-18446744073709551615", None)]
        {
            assert_eq!(count(list), number, "{list}");
        }
    }
}
