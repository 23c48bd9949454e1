//! KSM, the merging of equal pages: its values in sysfs and the services that change them
//! (Documentation/admin-guide/mm/ksm.rst; guide 4.1.4).

/// The directory of sysfs; it is missing where the kernel was built without `CONFIG_KSM`.
pub const DIRECTORY: &str = "/sys/kernel/mm/ksm";

/// The units that set values of KSM, by the names of the distributions; which are there, the host says.
pub const UNITS: [&str; 2] = ["ksm.service", "ksmtuned.service"];

/// The daemon that sets `run`, `pages_to_scan` and `sleep_millisecs` anew every minute. `ksm.service` sets `run` once, and
/// that it is active says nothing about `run` later.
pub const TUNER: &str = "ksmtuned.service";

/// What `run` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// 0: no page is merged any more; merged ones stay merged.
    Stop,
    /// 1: pages are merged.
    Run,
    /// 2: all merged pages are split, which needs their memory again, and may run out of it.
    Unmerge,
}

impl Run {
    /// Reads the value of `run`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "0" => Some(Self::Stop),
            "1" => Some(Self::Run),
            "2" => Some(Self::Unmerge),
            _ => None,
        }
    }

    /// Returns the value of `run`.
    #[must_use]
    pub fn value(self) -> &'static str {
        match self {
            Self::Stop => "0",
            Self::Run => "1",
            Self::Unmerge => "2",
        }
    }
}

/// Returns the smallest and largest value of a file of KSM (linux mm/ksm.c); `None` for those that vprov does not set.
#[must_use]
pub fn range(file: &str) -> Option<(u64, u64)> {
    match file {
        "run" => Some((0, 2)),
        "pages_to_scan" | "sleep_millisecs" => Some((0, u64::from(u32::MAX))),
        "merge_across_nodes" | "use_zero_pages" | "smart_scan" => Some((0, 1)),
        "max_page_sharing" => Some((2, i32::MAX as u64)),
        _ => None,
    }
}

/// Tells whether the kernel takes a new value of the file only while no page is shared, else EBUSY: then `run` must be 2
/// before, and 1 again behind it (linux mm/ksm.c).
#[must_use]
pub fn needs_unmerge(file: &str) -> bool {
    matches!(file, "merge_across_nodes" | "max_page_sharing")
}

/// Tells whether the kernel refuses to set the file while `advisor_mode` is `scan-time` (linux mm/ksm.c).
#[must_use]
pub fn belongs_to_advisor(file: &str) -> bool {
    file == "pages_to_scan"
}

/// Says why fixed values do not last while the tuner runs.
#[must_use]
pub fn tuner_conflict() -> String {
    format!(
        "{TUNER} is active and rewrites run, pages_to_scan and sleep_millisecs every 60 seconds: stop and disable it, or \
         set its own /etc/ksmtuned.conf instead"
    )
}

/// Says how fast KSM scans; `None` if it pauses so long or so little that no rate can be given.
#[must_use]
pub fn rate(pages_to_scan: u64, sleep_millisecs: u64, memory: u64) -> Option<String> {
    let bytes = u128::from(pages_to_scan) * 4096 * 1000 / u128::from(sleep_millisecs).max(1);
    let hours = (bytes > 0 && sleep_millisecs > 0).then(|| u128::from(memory) / bytes / 3600)?;
    let per_second = bytes / 1_000_000;
    Some(format!("at most {per_second} MB are scanned in a second, all memory in {hours} hours at the earliest"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values() {
        for value in ["0", "1", "2"] {
            assert_eq!(Run::parse(&format!("{value}\n")).unwrap().value(), value);
        }
        assert_eq!(Run::parse("3"), None);
        assert_eq!(range("max_page_sharing").unwrap().0, 2);
        assert!(needs_unmerge("merge_across_nodes") && !needs_unmerge("run") && belongs_to_advisor("pages_to_scan"));
        assert!(tuner_conflict().contains("ksmtuned.service"));
        let slow = rate(1000, 1000, 256 << 30).unwrap();
        assert_eq!(slow, "at most 4 MB are scanned in a second, all memory in 18 hours at the earliest");
        assert_eq!(rate(0, 20, 1), None);
    }

    proptest! {
        #[test]
        fn no_numbers_panic(pages: u64, sleep: u64, memory: u64) {
            let _ = rate(pages, sleep, memory);
        }
    }
}
