//! Kernel parameters of `/proc/sys`: the files of sysctl.d, who wins among them, and what is known about a key.
//!
//! The reading follows systemd-sysctl (sysctl.d(5), systemd's src/sysctl/sysctl.c), because that is what runs at boot.

use std::{collections::BTreeMap, fmt};

use super::{
    conf_d::{self, Fragment, Place, SYSCTL_DIRS},
    glob,
    kernel::KernelVersion,
};
use crate::host::path::AbsPath;

/// The first line of each file that belongs to vprov alone.
pub const HEADER: &str = "# Managed by vprov. Changes made here are overwritten.\n";

/// The name of a kernel parameter, or a pattern of names, in one form whatever separators it was written with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// Why a text is no kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing is left after the separators.
    #[error("the name of a kernel parameter is empty")]
    Empty,
    /// The name holds what no file below /proc/sys has, or what sysctl.d cannot express.
    #[error("`{0}` is no kernel parameter: {1}")]
    Invalid(String, &'static str),
}

impl Key {
    /// Reads a name as sysctl.d(5) does: after a first `.` dots separate and slashes stand for dots, after a first `/`
    /// slashes separate and dots are literal.
    ///
    /// # Errors
    /// If the name is empty, leads outside of /proc/sys or cannot stand in a file of sysctl.d.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let wrong = |why| Err(KeyError::Invalid(text.into(), why));
        let dotted = text.find(['.', '/']).is_some_and(|at| text.as_bytes().get(at) == Some(&b'.'));
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        };
        let path: String = if dotted { text.chars().map(swap).collect() } else { text.into() };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let Some(first) = parts.first() else { return Err(KeyError::Empty) };
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong("a name holds no white space");
        }
        // With a slash before it, it would be read as a name, but not as the dotted name that stands for it.
        if text.contains('=') || [text, first].iter().any(|text| text.starts_with(['#', ';', '-'])) {
            return wrong("it would not be read as a name");
        }
        if parts.contains(&"..") {
            return wrong("`..` leads outside of /proc/sys");
        }
        if first.contains('.') {
            return wrong("its first part holds a dot");
        }
        if text.len() > 1024 {
            return wrong("it is longer than 1024 bytes");
        }
        Ok(Self(parts.join("/")))
    }

    /// Returns the name below /proc/sys, with slashes.
    #[must_use]
    pub fn slashed(&self) -> &str {
        &self.0
    }

    /// Returns the file of the parameter; `None` for a pattern.
    #[must_use]
    pub fn proc_path(&self) -> Option<AbsPath> {
        (!self.is_glob()).then(|| AbsPath::new(format!("/proc/sys/{}", self.0)).ok()).flatten()
    }

    /// Tells whether the name is a pattern (glob(7)).
    #[must_use]
    pub fn is_glob(&self) -> bool {
        glob::is_pattern(&self.0)
    }

    /// Tells whether this pattern names `key`; a pattern that glob(7) would not take names only itself.
    #[must_use]
    pub fn matches(&self, key: &Self) -> bool {
        if !self.is_glob() {
            return self == key;
        }
        glob::matches(&self.0, &key.0, false)
    }
}

impl fmt::Display for Key {
    /// Writes the name with dots, or with slashes where a part holds a dot (`net/ipv4/conf/eth0.5/forwarding`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('.') { f.write_str(&self.0) } else { f.write_str(&self.0.replace('/', ".")) }
    }
}

/// One line of a file of sysctl.d that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The parameter or pattern.
    pub key: Key,
    /// The value; `None` for `-key`, which keeps patterns off the parameter.
    pub value: Option<String>,
    /// `-key = value`: a failed write is no failure.
    pub ignore_failure: bool,
    /// The line, from 1.
    pub line: usize,
}

/// What a file of sysctl.d says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SysctlFile {
    /// The assignments in the order of the file.
    pub assignments: Vec<Assignment>,
    /// The lines that systemd-sysctl complains about and skips, each with the reason.
    pub faults: Vec<(usize, String)>,
}

/// Reads a file of sysctl.d; what is no UTF-8 becomes U+FFFD, which no kernel parameter holds.
#[must_use]
pub fn parse(content: &[u8]) -> SysctlFile {
    let mut file = SysctlFile::default();
    for (at, line) in String::from_utf8_lossy(content).split('\n').enumerate() {
        let (at, line) = (at + 1, line.trim_matches([' ', '\t', '\r']));
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let (bare, minus) = line.strip_prefix('-').map_or((line, false), |rest| (rest, true));
        let (key, value) = match bare.split_once('=') {
            Some((key, value)) => (key, Some(value.trim_matches([' ', '\t', '\r']).to_owned())),
            None if minus => (bare, None),
            None => {
                file.faults.push((at, "the line is no assignment".into()));
                continue;
            }
        };
        match Key::new(key) {
            Ok(key) => {
                let ignore_failure = minus && value.is_some();
                file.assignments.push(Assignment { key, value, ignore_failure, line: at });
            }
            Err(error) => file.faults.push((at, error.to_string())),
        }
    }
    file
}

/// What the next boot does to a parameter, as far as the files of sysctl.d decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtBoot {
    /// No file names the parameter.
    Unset,
    /// The last line that names the parameter is `-key`: nothing is written.
    Excluded(Place),
    /// The value that is written, and the line that says so.
    Set {
        /// The value.
        value: String,
        /// The deciding line.
        place: Place,
        /// The pattern that named the parameter, if it was not named itself.
        pattern: Option<Key>,
    },
}

/// Returns what the files decide for a parameter at boot.
///
/// The last line that names the parameter itself wins and keeps patterns off; else the last pattern wins
/// (systemd's src/sysctl/sysctl.c, `apply_all`: a repeated pattern moves to the end only when its value changes).
#[must_use]
pub fn at_boot(files: &[Fragment], key: &Key) -> AtBoot {
    let mut explicit: Option<AtBoot> = None;
    let mut patterns: Vec<(Key, Option<String>, Place)> = Vec::new();
    for file in conf_d::in_order(&SYSCTL_DIRS, ".conf", files) {
        for Assignment { key: named, value, line, .. } in parse(file.content.as_deref().unwrap_or_default()).assignments
        {
            let place = Place { path: file.path.clone(), line };
            if named == *key {
                explicit = Some(match value {
                    Some(value) => AtBoot::Set { value, place, pattern: None },
                    None => AtBoot::Excluded(place),
                });
            } else if named.matches(key) {
                match patterns.iter().position(|(pattern, ..)| *pattern == named) {
                    Some(at) if patterns[at].1 == value => continue,
                    Some(at) => drop(patterns.remove(at)),
                    None => {}
                }
                patterns.push((named, value, place));
            }
        }
    }
    if let Some(explicit) = explicit {
        return explicit;
    }
    match patterns.into_iter().rev().find(|(_, value, _)| value.is_some()) {
        Some((pattern, Some(value), place)) => AtBoot::Set { value, place, pattern: Some(pattern) },
        _ => AtBoot::Unset,
    }
}

/// A line of somebody else's file that decides instead of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The line.
    pub place: Place,
    /// The value that it gives; `None` if it keeps the parameter from being set.
    pub value: Option<String>,
}

/// Returns the line that decides for a parameter at boot if it stands in another file than `our_file` and gives
/// another value than ours; `files` are those that the plan leaves behind, ours included.
#[must_use]
pub fn later_override(files: &[Fragment], our_file: &AbsPath, key: &Key) -> Option<Override> {
    let ours = files.iter().find(|file| file.path == *our_file)?;
    let said = parse(ours.content.as_deref()?).assignments.into_iter().rev().find(|said| said.key == *key)?;
    let (place, value) = match at_boot(files, key) {
        AtBoot::Unset => return None,
        AtBoot::Excluded(place) => (place, None),
        AtBoot::Set { value, place, .. } => (place, Some(value)),
    };
    let same = match (&said.value, &value) {
        (Some(ours), Some(theirs)) => same_value(ours, theirs),
        (ours, theirs) => ours == theirs,
    };
    (place.path != *our_file && !same).then_some(Override { place, value })
}

/// Tells whether `/etc/sysctl.conf` is read at boot, given the links of the directories of sysctl.d with their targets.
///
/// Debian 12 and others link it as `99-sysctl.conf`; without such a link systemd-sysctl ignores it (Debian 13), whatever
/// procps' `sysctl --system` does.
pub fn reads_sysctl_conf<'a>(links: impl IntoIterator<Item = (&'a AbsPath, &'a str)>) -> bool {
    links.into_iter().any(|(link, target)| {
        link.file_name().ends_with(".conf")
            && match target {
                "/etc/sysctl.conf" => true,
                "../sysctl.conf" => link.parent().is_some_and(|parent| parent.as_str() == "/etc/sysctl.d"),
                _ => false,
            }
    })
}

/// Tells whether the kernel would show the same value for both: white space is collapsed, and integers are compared by
/// number, for the kernel takes `0x3c` and `074` for 60.
#[must_use]
pub fn same_value(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split_whitespace(), other.split_whitespace());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => match (integer(one), integer(other)) {
                (Some(one), Some(other)) if one == other => {}
                _ => return false,
            },
            _ => return false,
        }
    }
}

/// Reads an integer as the kernel does: `0x` is hexadecimal, a leading `0` octal, `-` negative (lib/kstrtox.c, base 0).
#[must_use]
pub fn integer(text: &str) -> Option<i128> {
    let (digits, sign) = text.strip_prefix('-').map_or((text, 1), |rest| (rest, -1));
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let plain = !digits.is_empty() && digits.len() <= 22 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| i128::from_str_radix(digits, radix).ok()).flatten().map(|number| sign * number)
}

/// Why a value may not be written for a parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A value that sysctl.d cannot carry.
    #[error("the value of `{0}` {1}")]
    Unwritable(Key, &'static str),
    /// A value that the kernel refuses.
    #[error("`{key}` is `{value}`, but takes {takes}")]
    Range {
        /// The parameter.
        key: Key,
        /// The value.
        value: String,
        /// What it takes, for example `an integer from 0 to 200`.
        takes: String,
    },
    /// A parameter that this kernel has no more.
    #[error("`{key}` is gone since Linux {since}: {instead}")]
    Gone {
        /// The parameter.
        key: Key,
        /// The first kernel without it.
        since: KernelVersion,
        /// What to do.
        instead: String,
    },
}

/// Checks a value before it is written for a parameter of a kernel; without a kernel only what holds for all.
///
/// # Errors
/// As [`ValueError`] says.
pub fn check(key: &Key, value: &str, kernel: Option<KernelVersion>) -> Result<(), ValueError> {
    let unwritable = |why| Err(ValueError::Unwritable(key.clone(), why));
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return unwritable("holds a control character");
    }
    if value.len() > 4096 {
        return unwritable("is longer than the 4096 bytes that the kernel takes");
    }
    if value.trim().is_empty() {
        return unwritable("is empty");
    }
    if value.len() > 1 && value.starts_with('"') && value.ends_with('"') {
        return unwritable("is in quotes, which sysctl.d does not know: they would be written to the kernel");
    }
    if value.contains(" #") || value.contains("\t#") {
        return unwritable("holds a comment, which sysctl.d would write to the kernel");
    }
    if let Some((since, instead)) = gone(key)
        && kernel.is_some_and(|kernel| kernel >= since)
    {
        return Err(ValueError::Gone { key: key.clone(), since, instead });
    }
    let Some(range) = range(key, kernel) else { return Ok(()) };
    let takes = format!("an integer from {} to {}", range.0, range.1);
    match integer(value.trim()) {
        Some(number) if (range.0..=range.1).contains(&number) => Ok(()),
        _ => Err(ValueError::Range { key: key.clone(), value: value.into(), takes }),
    }
}

/// Returns the smallest and largest value of the parameters of the mission; `None` for all others.
///
/// - `vm.swappiness`: 200 since Linux 5.8, 100 before (Documentation/admin-guide/sysctl/vm.rst).
/// - `fs.aio-max-nr`: an unsigned long (fs/aio.c). `vm.nr_hugepages`: an unsigned long (mm/hugetlb.c).
/// - `kernel.numa_balancing`: 0 to 3, an OR of 1 and 2 (sysctl/kernel.rst).
/// - `vm.dirty_*ratio`: percents (kernel/sysctl.c).
#[must_use]
pub fn range(key: &Key, kernel: Option<KernelVersion>) -> Option<(i128, i128)> {
    let unsigned_long = i128::from(u64::MAX);
    match key.slashed() {
        "vm/swappiness" if kernel.is_some_and(|kernel| kernel < KernelVersion::new(5, 8)) => Some((0, 100)),
        "vm/swappiness" => Some((0, 200)),
        "fs/aio-max-nr" | "vm/nr_hugepages" | "vm/nr_overcommit_hugepages" => Some((0, unsigned_long)),
        "kernel/numa_balancing" => Some((0, 3)),
        "vm/dirty_ratio" | "vm/dirty_background_ratio" => Some((0, 100)),
        "vm/overcommit_memory" => Some((0, 2)),
        _ => None,
    }
}

/// Returns the kernel that dropped a parameter, and what to do instead.
///
/// `kernel.numa_balancing_scan_*` moved to debugfs in 5.13 (kernel/sched/debug.c).
#[must_use]
pub fn gone(key: &Key) -> Option<(KernelVersion, String)> {
    let file = debugfs_instead(key)?;
    let instead = format!(
        "write {file} by a oneshot unit with RequiresMountsFor=/sys/kernel/debug (it fails under kernel lockdown), \
         or use the scheduler plugin of tuned"
    );
    Some((KernelVersion::new(5, 13), instead))
}

/// Returns the file of debugfs that took the place of a parameter.
#[must_use]
pub fn debugfs_instead(key: &Key) -> Option<AbsPath> {
    let name = key.slashed().strip_prefix("kernel/numa_balancing_")?;
    ["scan_delay_ms", "scan_period_min_ms", "scan_period_max_ms", "scan_size_mb"]
        .contains(&name)
        .then(|| AbsPath::new(format!("/sys/kernel/debug/sched/numa_balancing/{name}")).ok())
        .flatten()
}

/// Returns the parameter that the kernel sets to 0 when this one is written (Documentation/admin-guide/sysctl/vm.rst).
#[must_use]
pub fn coupled(key: &Key) -> Option<Key> {
    let other = match key.slashed() {
        "vm/dirty_bytes" => "vm/dirty_ratio",
        "vm/dirty_ratio" => "vm/dirty_bytes",
        "vm/dirty_background_bytes" => "vm/dirty_background_ratio",
        "vm/dirty_background_ratio" => "vm/dirty_background_bytes",
        _ => return None,
    };
    Some(Key(other.into()))
}

/// Writes a file of sysctl.d that is wholly ours: the header and one line for each parameter, in the order of the names.
///
/// # Errors
/// If a value cannot stand in such a file.
pub fn render(assignments: &BTreeMap<Key, String>) -> Result<String, ValueError> {
    let mut text = HEADER.to_owned();
    for (key, value) in assignments {
        check(key, value, None)?;
        text.push_str(&format!("{key} = {}\n", value.trim()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn separators() {
        for (text, slashed, shown) in [
            ("vm.swappiness", "vm/swappiness", "vm.swappiness"),
            ("vm/swappiness", "vm/swappiness", "vm.swappiness"),
            ("/vm/swappiness", "vm/swappiness", "vm.swappiness"),
            (" vm.swappiness ", "vm/swappiness", "vm.swappiness"),
            ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("fs.aio-max-nr", "fs/aio-max-nr", "fs.aio-max-nr"),
        ] {
            assert_eq!(key(text).slashed(), slashed);
            assert_eq!(key(text).to_string(), shown);
            assert_eq!(key(&key(text).to_string()), key(text));
        }
        for text in ["", ".", "/", "a..b c", "vm/../x", "a=b", "#x", "-x", "/a.b/c", "a\nb"] {
            assert!(Key::new(text).is_err(), "{text:?}");
        }
        assert_eq!(key("vm.swappiness").proc_path().unwrap().as_str(), "/proc/sys/vm/swappiness");
        assert_eq!(key("net.*.x").proc_path(), None);
    }

    #[test]
    fn lines() {
        let file = parse(
            b"# c\n ; d\n\nvm.swappiness=35\r\n-net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\nnonsense\n\
              kernel.core_pattern = |/bin/x %p = #1\n\tvm/dirty_ratio =\t 5 \nlast = 1",
        );
        let read: Vec<_> = file
            .assignments
            .iter()
            .map(|said| (said.line, said.key.to_string(), said.value.as_deref(), said.ignore_failure))
            .collect();
        assert_eq!(
            read,
            [
                (4, "vm.swappiness".into(), Some("35"), false),
                (5, "net.ipv4.conf.*.rp_filter".into(), Some("2"), true),
                (6, "net.ipv4.conf.all.rp_filter".into(), None, false),
                (8, "kernel.core_pattern".into(), Some("|/bin/x %p = #1"), false),
                (9, "vm.dirty_ratio".into(), Some("5"), false),
                (10, "last".into(), Some("1"), false),
            ]
        );
        assert_eq!(file.faults, [(7, "the line is no assignment".to_owned())]);
    }

    #[track_caller]
    fn decides(files: &[(&str, &str)], name: &str, expected: Option<(&str, &str, usize)>) {
        let files: Vec<_> = files.iter().map(|(path, text)| Fragment::new(AbsPath::known(path), *text)).collect();
        let found = at_boot(&files, &key(name));
        let found = match &found {
            AtBoot::Set { value, place, .. } => Some((value.as_str(), place.path.as_str(), place.line)),
            _ => None,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn who_wins_at_boot() {
        let ours = ("/etc/sysctl.d/90-vprov.conf", "vm.swappiness = 35\nfs.aio-max-nr = 1048576\n");
        decides(&[ours], "vm.swappiness", Some(("35", ours.0, 1)));
        decides(&[ours], "vm.dirty_ratio", None);
        let guide = ("/etc/sysctl.d/aio-max-nr.conf", "\nfs.aio-max-nr = 131072\n");
        decides(&[guide, ours], "fs.aio-max-nr", Some(("131072", guide.0, 2)));
        let vendor = ("/usr/lib/sysctl.d/99-x.conf", "vm/swappiness = 10");
        decides(&[ours, vendor], "vm.swappiness", Some(("10", vendor.0, 1)));
        let glob = ("/etc/sysctl.d/99-glob.conf", "vm.* = 1\n");
        decides(&[ours, glob], "vm.swappiness", Some(("35", ours.0, 1)));
        decides(&[ours, glob], "vm.dirty_ratio", Some(("1", glob.0, 1)));
        decides(&[ours, glob], "vm.a.b", None);
        let excluded = ("/etc/sysctl.d/10-off.conf", "-vm.dirty_ratio\n");
        decides(&[ours, glob, excluded], "vm.dirty_ratio", None);
        decides(&[ours, ("/etc/sysctl.d/95.conf", "-vm.swappiness")], "vm.swappiness", None);
        let twice = ("/etc/sysctl.d/1.conf", "vm.* = 1\nvm.d* = 2\nvm.* = 1\n");
        decides(&[twice], "vm.dirty_ratio", Some(("2", twice.0, 2)));
        let changed = ("/etc/sysctl.d/1.conf", "vm.* = 1\nvm.d* = 2\nvm.* = 3\n");
        decides(&[changed], "vm.dirty_ratio", Some(("3", changed.0, 3)));
    }

    #[test]
    fn overrides_are_told_only_when_they_differ() {
        let ours = AbsPath::known("/etc/sysctl.d/90-vprov.conf");
        let told = |other: &str, text: &str| {
            let files =
                [Fragment::new(ours.clone(), "vm.swappiness = 60\n"), Fragment::new(AbsPath::known(other), text)];
            later_override(&files, &ours, &key("vm.swappiness")).map(|found| (found.place.to_string(), found.value))
        };
        assert_eq!(told("/etc/sysctl.d/99-a.conf", "vm.swappiness=0x3c"), None);
        assert_eq!(told("/etc/sysctl.d/10-a.conf", "vm.swappiness=1"), None);
        assert_eq!(
            told("/etc/sysctl.d/99-a.conf", "\nvm.swappiness=1"),
            Some(("/etc/sysctl.d/99-a.conf:2".into(), Some("1".into())))
        );
        assert_eq!(told("/etc/sysctl.d/99-a.conf", "-vm.swappiness"), Some(("/etc/sysctl.d/99-a.conf:1".into(), None)));
    }

    #[test]
    fn etc_sysctl_conf_is_read_only_through_a_link() {
        let link = AbsPath::known("/etc/sysctl.d/99-sysctl.conf");
        assert!(reads_sysctl_conf([(&link, "../sysctl.conf")]));
        assert!(reads_sysctl_conf([(&link, "/etc/sysctl.conf")]));
        assert!(!reads_sysctl_conf([(&link, "/dev/null")]));
        assert!(!reads_sysctl_conf([]));
    }

    #[test]
    fn values() {
        for (one, other, same) in [
            ("60", "0x3c", true),
            ("60", " 074\n", true),
            ("4096\t131072\t6291456", "4096 131072 6291456", true),
            ("-1", "-01", true),
            ("60", "61", false),
            ("1 2", "1", false),
            ("a", "A", false),
            ("099", "99", false),
            ("", " ", true),
        ] {
            assert_eq!(same_value(one, other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn known_parameters() {
        let old = Some(KernelVersion::new(4, 12));
        let new = Some(KernelVersion::new(6, 4));
        for (name, value, kernel, good) in [
            ("vm.swappiness", "200", new, true),
            ("vm.swappiness", "201", new, false),
            ("vm.swappiness", "200", old, false),
            ("vm.swappiness", "100", old, true),
            ("vm.swappiness", "-1", None, false),
            ("vm.swappiness", "low", None, false),
            ("fs.aio-max-nr", "1048576", None, true),
            ("kernel.numa_balancing", "3", None, true),
            ("kernel.numa_balancing", "4", None, false),
            ("kernel.numa_balancing_scan_delay_ms", "1000", old, true),
            ("kernel.numa_balancing_scan_delay_ms", "1000", new, false),
            ("kernel.x", "\"64\"", None, false),
            ("kernel.x", "63 # c", None, false),
            ("kernel.x", "a\nb", None, false),
            ("kernel.x", "", None, false),
            ("net.ipv4.tcp_rmem", "4096\t131072 6291456", None, true),
        ] {
            assert_eq!(check(&key(name), value, kernel).is_ok(), good, "{name} {value}");
        }
        let gone = check(&key("kernel.numa_balancing_scan_size_mb"), "256", new).unwrap_err().to_string();
        assert!(
            gone.contains("5.13") && gone.contains("/sys/kernel/debug/sched/numa_balancing/scan_size_mb"),
            "{gone}"
        );
        assert_eq!(coupled(&key("vm.dirty_bytes")), Some(key("vm.dirty_ratio")));
    }

    #[test]
    fn our_file_is_read_as_it_was_meant() {
        let wanted: BTreeMap<_, _> =
            [("vm.swappiness", "35"), ("net/ipv4/conf/eth0.5/forwarding", "1"), ("fs.aio-max-nr", "1048576")]
                .map(|(name, value)| (key(name), value.to_owned()))
                .into();
        let text = render(&wanted).unwrap();
        assert_eq!(
            text,
            format!("{HEADER}fs.aio-max-nr = 1048576\nnet/ipv4/conf/eth0.5/forwarding = 1\nvm.swappiness = 35\n")
        );
        let read: BTreeMap<_, _> =
            parse(text.as_bytes()).assignments.into_iter().map(|said| (said.key, said.value.unwrap())).collect();
        assert_eq!(read, wanted);
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, text: String) {
            let _ = parse(&content);
            let files = [Fragment::new(AbsPath::known("/etc/sysctl.d/1.conf"), content)];
            if let Ok(key) = Key::new(&text) {
                prop_assert_eq!(Key::new(&key.to_string()).unwrap(), key.clone());
                let _ = at_boot(&files, &key);
                let _ = check(&key, &text, None);
            }
            let _ = integer(&text);
        }

        #[test]
        fn what_is_rendered_is_read_back(
            said in proptest::collection::btree_map("[a-z]{1,5}([./][a-z_*-]{1,5}){0,3}", "[!-~]([ -~]{0,20}[!-~])?", 0..6)
        ) {
            let wanted: BTreeMap<_, _> =
                said.into_iter().filter_map(|(name, value)| Some((Key::new(&name).ok()?, value))).collect();
            if let Ok(text) = render(&wanted) {
                let read: BTreeMap<_, _> =
                    parse(text.as_bytes()).assignments.into_iter().map(|said| (said.key, said.value.unwrap())).collect();
                prop_assert_eq!(read, wanted);
            }
        }
    }
}
