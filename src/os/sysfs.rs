//! Values of sysfs: bracketed choices, lists of CPUs, sizes, and the names that differ between kernels.

use std::collections::BTreeSet;

/// A file that offers words and marks the current one: `always [madvise] never`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The words that the kernel takes, in its order.
    pub offered: Vec<String>,
    /// The word in brackets; `None` if none is marked, as in a scheduler file that reads `none`.
    pub current: Option<String>,
}

impl Choice {
    /// Reads the content of such a file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut choice = Self::default();
        for word in text.split_whitespace() {
            let bare = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
            if let Some(bare) = bare {
                choice.current = Some(bare.into());
            }
            choice.offered.push(bare.unwrap_or(word).into());
        }
        choice
    }

    /// Tells whether the kernel offers a word.
    #[must_use]
    pub fn offers(&self, word: &str) -> bool {
        self.offered.iter().any(|offered| offered == word)
    }
}

/// Returns the name that a device has for a scheduler, as far as it offers it under any name.
///
/// Single-queue kernels say `noop` and `deadline` where multi-queue ones say `none` and `mq-deadline`
/// (linux block/elevator.c; SLE 12 against SLE 15).
#[must_use]
pub fn scheduler_offered(choice: &Choice, wanted: &str) -> Option<String> {
    let other = match wanted {
        "none" => "noop",
        "noop" => "none",
        "mq-deadline" => "deadline",
        "deadline" => "mq-deadline",
        other => other,
    };
    [wanted, other].into_iter().find(|name| choice.offers(name)).map(Into::into)
}

/// Tells whether the scheduler of a device can be changed: a file that is missing, or reads `none` without brackets, says
/// that it cannot (linux block/elevator.c `elv_iosched_show`).
#[must_use]
pub fn scheduler_is_fixed(choice: &Choice) -> bool {
    choice.current.is_none()
}

/// The largest number of a CPU or node that is taken; kernels are built for at most 8192 (`NR_CPUS`).
const MAX_CPU: usize = 65_535;

/// Reads a list of CPUs or nodes as the kernel writes and takes it: `0,2-5`, `0-31:2/8` (two of each eight).
/// `None` if it is no such list.
#[must_use]
pub fn cpu_list(text: &str) -> Option<BTreeSet<usize>> {
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten().filter(|number| *number <= MAX_CPU)
    };
    let mut cpus = BTreeSet::new();
    for part in text.trim().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (range, pattern) = match part.split_once(':') {
            Some((range, pattern)) => (range, Some(pattern.split_once('/')?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        let (used, group) = match pattern {
            Some((used, group)) => (number(used)?, number(group)?),
            None => (1, 1),
        };
        if first > last || group == 0 || used == 0 || used > group {
            return None;
        }
        cpus.extend((first..=last).filter(|cpu| (cpu - first) % group < used));
    }
    Some(cpus)
}

/// Writes a list of CPUs as the kernel does: `0,2-5`.
#[must_use]
pub fn render_cpu_list(cpus: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let parts =
        ranges.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    parts.collect::<Vec<_>>().join(",")
}

/// Reads a size in bytes as the kernel's `memparse` does: a number (decimal, `0x` or `0` octal) with one of `KMGTPE` in
/// either case; what follows is ignored, so that `2M`, `2MB` and `2048kB` are equal (linux lib/cmdline.c).
/// `None` if there is no number, or it does not fit.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => (&text[2..], 16),
        [b'0', b'0'..=b'7', ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let number = u64::from_str_radix(&digits[..end], radix).ok()?;
    let shift = match digits[end..].bytes().next().map(|unit| unit.to_ascii_uppercase()) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => 0,
    };
    number.checked_mul(1 << shift)
}

/// Writes a size in the largest unit that divides it: `1G`, `2M`, `64K`, `1000`.
#[must_use]
pub fn render_size(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let unit = units.into_iter().find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << *shift));
    unit.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Returns the directory of a pool of huge pages below `/sys/kernel/mm/hugepages`: `hugepages-2048kB`
/// (Documentation/admin-guide/mm/hugetlbpage.rst).
#[must_use]
pub fn hugepages_directory(bytes: u64) -> String {
    format!("hugepages-{}kB", bytes / 1024)
}

/// Returns the page size in bytes of such a directory; `None` if the name is another.
#[must_use]
pub fn hugepages_size(directory: &str) -> Option<u64> {
    let digits = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?;
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()?.checked_mul(1024)).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn choices() {
        let thp = Choice::parse("always [madvise] never\n");
        assert_eq!(thp.current.as_deref(), Some("madvise"));
        assert_eq!(thp.offered, ["always", "madvise", "never"]);
        let new = Choice::parse("none [mq-deadline] kyber bfq\n");
        let old = Choice::parse("noop deadline [cfq]\n");
        for (choice, wanted, name) in [
            (&new, "mq-deadline", Some("mq-deadline")),
            (&new, "deadline", Some("mq-deadline")),
            (&new, "noop", Some("none")),
            (&old, "none", Some("noop")),
            (&old, "mq-deadline", Some("deadline")),
            (&old, "bfq", None),
            (&new, "cfq", None),
        ] {
            assert_eq!(scheduler_offered(choice, wanted).as_deref(), name, "{wanted}");
        }
        assert!(scheduler_is_fixed(&Choice::parse("none\n")) && scheduler_is_fixed(&Choice::parse("")));
        assert!(!scheduler_is_fixed(&old));
    }

    #[test]
    fn cpus() {
        for (text, list) in [
            ("0,2-5\n", Some("0,2-5")),
            ("0-3", Some("0-3")),
            ("3,1,2", Some("1-3")),
            ("100-150:2/25", Some("100-101,125-126,150")),
            ("", Some("")),
            ("5-3", None),
            ("a", None),
            ("0-", None),
            ("0-4294967296", None),
            ("0-7:3/2", None),
            ("0-7:1/0", None),
            ("+1", None),
        ] {
            assert_eq!(cpu_list(text).as_ref().map(render_cpu_list).as_deref(), list, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("2M", Some(2 << 20)),
            ("2m", Some(2 << 20)),
            ("2MB", Some(2 << 20)),
            ("2048kB", Some(2 << 20)),
            ("1024M", Some(1 << 30)),
            ("0x10K", Some(16384)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("0G", Some(0)),
            ("4096", Some(4096)),
            ("16E", None),
            ("", None),
            ("M", None),
            ("-1", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
        assert_eq!(hugepages_directory(1 << 30), "hugepages-1048576kB");
        assert_eq!(hugepages_size("hugepages-2048kB"), Some(2 << 20));
        assert_eq!(hugepages_size("hugepages-+1kB"), None);
        for (bytes, text) in
            [(1 << 30, "1G"), (2 << 20, "2M"), (64 << 10, "64K"), (1000, "1000"), (0, "0"), (3 << 40, "3T")]
        {
            assert_eq!(render_size(bytes), text);
            assert_eq!(size(text), Some(bytes));
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text: String, list in "[0-9,:/-]{0,20}") {
            let _ = (Choice::parse(&text), cpu_list(&text), cpu_list(&list), size(&text), hugepages_size(&text));
        }

        #[test]
        fn lists_round_trip(cpus in proptest::collection::btree_set(0usize..300, 0..40)) {
            prop_assert_eq!(cpu_list(&render_cpu_list(&cpus)), Some(cpus));
        }

        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(size(&render_size(bytes)), Some(bytes));
        }
    }
}
