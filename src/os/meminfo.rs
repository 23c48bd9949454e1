//! `/proc/meminfo` and the memory of a node (proc(5), Documentation/filesystems/proc.rst).

use serde::{Deserialize, Serialize};

/// The memory of a host. On a Xen dom0 it is that of dom0, not of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The memory that the kernel manages, in bytes: what is installed less what firmware and kernel keep.
    pub total: u64,
    /// What programs could still get, in bytes; 0 on kernels before 3.14.
    pub available: u64,
    /// All swap, in bytes.
    pub swap_total: u64,
    /// The size of a huge page where nothing names one, in bytes; 0 if the kernel has none.
    pub default_hugepage: u64,
    /// The huge pages of that size, surplus included.
    pub hugepages_total: u64,
    /// Those that nobody uses.
    pub hugepages_free: u64,
    /// Those beyond the configured pool.
    pub hugepages_surplus: u64,
}

/// A file without the line that says how much memory there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("meminfo has no `MemTotal`")]
pub struct NoTotal;

impl Memory {
    /// Reads the file.
    ///
    /// # Errors
    /// If `MemTotal` is missing.
    pub fn parse(content: &[u8]) -> Result<Self, NoTotal> {
        let text = String::from_utf8_lossy(content);
        let value = |name: &str| number(&text, name);
        Ok(Self {
            total: value("MemTotal").ok_or(NoTotal)?,
            available: value("MemAvailable").unwrap_or_default(),
            swap_total: value("SwapTotal").unwrap_or_default(),
            default_hugepage: value("Hugepagesize").unwrap_or_default(),
            hugepages_total: value("HugePages_Total").unwrap_or_default(),
            hugepages_free: value("HugePages_Free").unwrap_or_default(),
            hugepages_surplus: value("HugePages_Surp").unwrap_or_default(),
        })
    }

    /// Returns the installed memory in GiB, rounded up: kernels keep different parts of the same installed memory, so that
    /// counts made from `total` change with an update of the kernel, and counts made from this do not.
    #[must_use]
    pub fn installed_gib(&self) -> u64 {
        self.total.div_ceil(1 << 30)
    }
}

/// Returns the memory of a node in bytes, from `/sys/devices/system/node/nodeN/meminfo`.
#[must_use]
pub fn node_total(content: &[u8]) -> Option<u64> {
    number(&String::from_utf8_lossy(content), "MemTotal")
}

/// Lines are `Name:   1 kB` or `Node 0 Name:   1 kB`; without a unit the number is a count.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        let (head, rest) = line.split_once(':')?;
        (head.split_whitespace().next_back() == Some(name)).then_some(rest)
    })?;
    let mut words = line.split_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    if words.next() == Some("kB") { number.checked_mul(1024) } else { Some(number) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_captured_file() {
        let memory = Memory::parse(include_bytes!("../../tests/data/meminfo/linux-6.18")).unwrap();
        assert_eq!((memory.total, memory.default_hugepage), (24_684_092 * 1024, 2 << 20));
        assert_eq!((memory.swap_total, memory.hugepages_total, memory.installed_gib()), (0, 0, 24));
        assert_eq!(
            node_total(b"\nNode 0 MemTotal:       24684092 kB\nNode 0 MemFree: 1 kB\n"),
            Some(24_684_092 * 1024)
        );
        assert_eq!(Memory::parse(b"MemFree: 1 kB\n"), Err(NoTotal));
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, value in "MemTotal: [0-9]{0,22} ?(kB)?") {
            let _ = (Memory::parse(&content), Memory::parse(value.as_bytes()), node_total(&content));
        }
    }
}
