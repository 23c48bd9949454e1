//! tuned: which profile is active, and what it sets that vprov may set too (tuned.conf(5), tuned-main.conf(5)).

use std::collections::BTreeMap;

use super::sysctl::Key;
use crate::host::path::AbsPath;

/// The file with the names of the active profiles.
pub const ACTIVE_PROFILE: &str = "/etc/tuned/active_profile";

/// The unit of the daemon; without it a profile is only a name.
pub const UNIT: &str = "tuned.service";

/// Reads the file of the active profiles: their names in the order in which they apply.
#[must_use]
pub fn active_profiles(content: &str) -> Vec<String> {
    let named = |word: &&str| word.len() <= 128 && !word.contains('/') && !word.starts_with('.');
    content.split_whitespace().filter(named).take(16).map(Into::into).collect()
}

/// Returns where the file of a profile may lie, the one that counts first. Since tuned 2.23 profiles have a directory
/// of their own.
#[must_use]
pub fn profile_files(name: &str) -> Vec<AbsPath> {
    let directories = ["/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned"];
    directories.iter().filter_map(|directory| AbsPath::new(format!("{directory}/{name}/tuned.conf")).ok()).collect()
}

/// What a profile says, as far as it touches what vprov declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The profiles that it is made from; they apply before it.
    pub include: Vec<String>,
    /// Kernel parameters with dots, and `transparent_hugepages` and `elevator`, each with its value.
    pub settings: BTreeMap<String, String>,
}

impl Profile {
    /// Reads the file of a profile.
    #[must_use]
    pub fn parse(name: &str, content: &[u8]) -> Self {
        let mut profile = Self { name: name.into(), ..Self::default() };
        let mut section = String::new();
        for line in String::from_utf8_lossy(content).lines().map(str::trim) {
            if let Some(inner) = line.strip_prefix('[') {
                section = inner.split(']').next().unwrap_or_default().trim().to_owned();
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) else { continue };
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            let name = match (section.as_str(), key) {
                ("main", "include") => {
                    profile.include.extend(value.split([',', ' ']).filter(|word| !word.is_empty()).map(Into::into));
                    continue;
                }
                ("sysctl", key) => Key::new(key).map_or_else(|_| key.to_owned(), |key| key.to_string()),
                ("vm", "transparent_hugepages" | "transparent_hugepage") => "transparent_hugepages".into(),
                ("disk", "elevator") => "elevator".into(),
                _ => continue,
            };
            profile.settings.insert(name, value.into());
        }
        profile
    }

    /// Returns what is known of a profile that tuned ships, for a host whose files were not read
    /// (redhat-performance/tuned, profiles/*/tuned.conf); old versions say other values.
    #[must_use]
    pub fn shipped(name: &str) -> Option<Self> {
        let (include, settings): (&[&str], &[(&str, &str)]) = match name {
            "throughput-performance" => {
                (&[], &[("vm.swappiness", "10"), ("vm.dirty_ratio", "40"), ("vm.dirty_background_ratio", "10")])
            }
            "virtual-host" => (&["throughput-performance"], &[("vm.dirty_background_ratio", "5")]),
            "virtual-guest" => (&["throughput-performance"], &[("vm.dirty_ratio", "30"), ("vm.swappiness", "30")]),
            "network-throughput" => (&["throughput-performance"], &[]),
            "latency-performance" => {
                (&[], &[("vm.swappiness", "10"), ("vm.dirty_ratio", "10"), ("vm.dirty_background_ratio", "3")])
            }
            "network-latency" => {
                (&["latency-performance"], &[("transparent_hugepages", "never"), ("kernel.numa_balancing", "0")])
            }
            _ => return None,
        };
        Some(Self {
            name: name.into(),
            include: include.iter().map(|name| (*name).into()).collect(),
            settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        })
    }
}

/// Something that an active profile sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What is set: a kernel parameter with dots, `transparent_hugepages` or `elevator`.
    pub name: String,
    /// The value.
    pub value: String,
    /// The profile that sets it, an active one or one that it includes.
    pub profile: String,
}

/// Returns what the active profiles set for a name. Files that were read count, for others what tuned ships.
#[must_use]
pub fn sets(active: &[String], read: &[Profile], name: &str) -> Option<Setting> {
    let wanted = Key::new(name).map_or_else(|_| name.to_owned(), |key| key.to_string());
    active.iter().rev().find_map(|profile| set_by(profile, read, &wanted, 0))
}

/// The nearest wins: a profile before what it includes, and of that the last.
fn set_by(name: &str, read: &[Profile], wanted: &str, depth: usize) -> Option<Setting> {
    if depth > 8 {
        return None;
    }
    let profile = read.iter().find(|profile| profile.name == name).cloned().or_else(|| Profile::shipped(name))?;
    match profile.settings.get(wanted) {
        Some(value) => Some(Setting { name: wanted.into(), value: value.clone(), profile: name.into() }),
        // Each level is short, or the number of steps would grow with the depth.
        None => profile.include.iter().rev().take(4).find_map(|parent| set_by(parent, read, wanted, depth + 1)),
    }
}

/// Says what tuned does to a kernel parameter of ours. tuned writes its own value and then those of /run/sysctl.d,
/// /etc/sysctl.d and /etc/sysctl.conf again (`reapply_sysctl`, on by default), so a file of ours in /etc wins.
#[must_use]
pub fn sysctl_note(setting: &Setting) -> String {
    format!(
        "tuned (profile {}) sets {} to {}, but applies /etc/sysctl.d again behind that unless reapply_sysctl is 0 in \
         /etc/tuned/tuned-main.conf",
        setting.profile, setting.name, setting.value
    )
}

/// Says what tuned does to a value outside of /proc/sys, which it sets later in boot than tmpfiles.d does.
#[must_use]
pub fn value_conflict(setting: &Setting) -> String {
    format!(
        "tuned (profile {}) sets {} to {} later in boot: change the profile, or stop and disable {UNIT}",
        setting.profile, setting.name, setting.value
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn profiles() {
        let active = active_profiles("virtual-host\n");
        assert_eq!(active, ["virtual-host"]);
        assert_eq!(active_profiles("../x .y a"), ["a"]);
        let value =
            |active: &[String], read: &[Profile], name: &str| sets(active, read, name).map(|setting| setting.value);
        assert_eq!(value(&active, &[], "vm.swappiness").as_deref(), Some("10"));
        assert_eq!(value(&active, &[], "vm/dirty_background_ratio").as_deref(), Some("5"));
        assert_eq!(value(&active, &[], "fs.aio-max-nr"), None);
        assert_eq!(value(&[], &[], "vm.swappiness"), None);
        let latency = sets(&active_profiles("my network-latency"), &[], "transparent_hugepages").unwrap();
        assert!(value_conflict(&latency).contains("network-latency"));
        let mine = Profile::parse(
            "mine",
            b"# c\n[main]\nsummary=x = y\ninclude=virtual-host, other\n[sysctl]\nvm.swappiness = \"35\"\n[vm]\n\
              transparent_hugepages=always\n[disk]\nelevator=none\n[bootloader]\ncmdline=a=b\n",
        );
        assert_eq!(mine.include, ["virtual-host", "other"]);
        let (active, read) = (["mine".to_owned()], [mine]);
        assert_eq!(value(&active, &read, "vm.swappiness").as_deref(), Some("35"));
        assert_eq!(value(&active, &read, "transparent_hugepages").as_deref(), Some("always"));
        assert_eq!(value(&active, &read, "elevator").as_deref(), Some("none"));
        let inherited = sets(&active, &read, "vm.dirty_ratio").unwrap();
        assert_eq!(inherited.profile, "throughput-performance");
        assert!(sysctl_note(&inherited).contains("reapply_sysctl"));
        let circle = [Profile::parse("a", b"[main]\ninclude=a,a,a,a,a\n")];
        assert_eq!(value(&["a".to_owned()], &circle, "x"), None);
        assert_eq!(profile_files("mine").last().unwrap().as_str(), "/usr/lib/tuned/mine/tuned.conf");
    }

    proptest! {
        #[test]
        fn no_input_panics(content: String, name: String) {
            let read = [Profile::parse("a", content.as_bytes())];
            let _ = sets(&active_profiles(&content), &read, &name);
            let _ = profile_files(&name);
        }
    }
}
