//! The distribution and what runs on it: os-release(5), init system, container, tuned, how the system is updated.

use super::{
    Os,
    answers::{Answers, exists, file},
};
use crate::{host::read::Read, os::mountinfo};

const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const MOUNTS: &str = "/proc/self/mountinfo";
const STATUS: &str = "/proc/self/status";
const CONTAINER: &str = "/run/systemd/container";
/// Files that container engines leave: Docker's and Podman's.
const MARKS: [(&str, &str); 2] = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
const HOSTNAME: [&str; 2] = ["/proc/sys/kernel/hostname", "/etc/hostname"];
const SYSTEMD: &str = "/run/systemd/system";
const TRANSACTIONAL: &str = "/usr/sbin/transactional-update";
const TUNED: &str = "/etc/tuned/active_profile";
/// The control group of a running tuned.service, on version 2 and version 1 of control groups.
const TUNED_RUNS: [&str; 2] =
    ["/sys/fs/cgroup/system.slice/tuned.service", "/sys/fs/cgroup/systemd/system.slice/tuned.service"];

pub fn reads() -> Vec<Read> {
    let files = OS_RELEASE.into_iter().chain(HOSTNAME).chain([MOUNTS, STATUS, CONTAINER, TUNED]).map(file);
    let marks = MARKS.iter().map(|(path, _)| *path).chain([SYSTEMD, TRANSACTIONAL]).chain(TUNED_RUNS).map(exists);
    files.chain(marks).collect()
}

/// Returns the distribution, empty where no os-release says one.
pub fn distribution(answers: Answers) -> Os {
    let Some(text) = OS_RELEASE.iter().find_map(|path| answers.text(path)) else { return Os::default() };
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.trim().split_once('=')).filter(|(key, _)| *key == name);
        values.next_back().map(|(_, value)| unquote(value)).unwrap_or_default()
    };
    // os-release(5): an unset ID defaults to `linux`.
    let id = value("ID");
    Os {
        id: if id.is_empty() { "linux".into() } else { id },
        id_like: value("ID_LIKE").split_whitespace().map(String::from).collect(),
        version: value("VERSION_ID"),
        name: value("PRETTY_NAME"),
    }
}

/// Takes the quotes off a value as a shell would (os-release(5)).
fn unquote(value: &str) -> String {
    let value = value.trim();
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.into();
    }
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut plain = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        plain.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    plain
}

/// Returns the host's name.
pub fn hostname(answers: Answers) -> String {
    HOSTNAME.iter().map(|path| answers.value(path)).find(|name| !name.is_empty()).unwrap_or_default()
}

/// Returns the init system.
pub fn init(answers: Answers) -> String {
    if answers.exists(SYSTEMD) { "systemd".into() } else { "other".into() }
}

/// Returns the container engine that the host itself runs in; empty on a machine.
pub fn container(answers: Answers) -> String {
    let named = answers.value(CONTAINER);
    if !named.is_empty() {
        return named;
    }
    MARKS.iter().find(|(path, _)| answers.exists(path)).map(|(_, name)| (*name).into()).unwrap_or_default()
}

/// Tells whether `/` or `/usr` is mounted read-only.
pub fn read_only_root(answers: Answers) -> bool {
    let mounts = mountinfo::parse(answers.text(MOUNTS).unwrap_or_default().as_bytes()).unwrap_or_default();
    ["/", "/usr"]
        .iter()
        .filter_map(|target| mountinfo::at(&mounts, target))
        .any(|mount| mount.options.iter().any(|option| option == "ro"))
}

/// Tells whether the system is updated by transactional-update(8).
pub fn transactional(answers: Answers) -> bool {
    answers.exists(TRANSACTIONAL)
}

/// Returns tuned's profile if tuned runs.
pub fn tuned_profile(answers: Answers) -> String {
    if TUNED_RUNS.iter().any(|path| answers.exists(path)) { answers.value(TUNED) } else { String::new() }
}

/// Returns the effective user (proc(5), `Uid` of `/proc/PID/status`: real, effective, saved, of the file system).
pub fn uid(answers: Answers) -> u32 {
    let line = answers.text(STATUS).and_then(|text| text.lines().find_map(|line| line.strip_prefix("Uid:")));
    line.and_then(|ids| ids.split_whitespace().nth(1)).and_then(|id| id.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_unquoted_as_a_shell_does() {
        for (text, plain) in
            [("sles", "sles"), ("\"15.6\"", "15.6"), ("'a b'", "a b"), (r#""a \"b\" \$c""#, "a \"b\" $c"), ("\"", "\"")]
        {
            assert_eq!(unquote(text), plain, "{text}");
        }
    }
}
