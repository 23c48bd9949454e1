//! tuned: which profile is active, and what it sets that vprov may set too (tuned.conf(5), tuned-main.conf(5)).

use super::sysctl::Key;

/// The file with the names of the active profiles.
pub const ACTIVE_PROFILE: &str = "/etc/tuned/active_profile";

/// The unit of the daemon; without it a profile is only a name.
pub const UNIT: &str = "tuned.service";

/// Reads the file of the active profiles: their names in the order in which they apply.
#[must_use]
pub fn active_profiles(content: &str) -> Vec<String> {
    content.split_whitespace().map(Into::into).collect()
}

/// What the profile sets, if vprov knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What is set: a kernel parameter with dots, or `transparent_hugepages`, `io_scheduler`.
    pub name: &'static str,
    /// The value.
    pub value: &'static str,
    /// The profile that sets it, itself or one that the active one includes.
    pub profile: &'static str,
}

/// The settings of the profiles that tuned ships for servers and hypervisors, as far as they touch what vprov declares
/// (redhat-performance/tuned, profiles/*/tuned.conf).
const SHIPPED: [Setting; 8] = [
    Setting { name: "vm.swappiness", value: "10", profile: "throughput-performance" },
    Setting { name: "vm.dirty_ratio", value: "40", profile: "throughput-performance" },
    Setting { name: "vm.dirty_background_ratio", value: "10", profile: "throughput-performance" },
    Setting { name: "vm.dirty_background_ratio", value: "5", profile: "virtual-host" },
    Setting { name: "vm.dirty_ratio", value: "30", profile: "virtual-guest" },
    Setting { name: "vm.swappiness", value: "30", profile: "virtual-guest" },
    Setting { name: "transparent_hugepages", value: "never", profile: "latency-performance" },
    Setting { name: "vm.swappiness", value: "10", profile: "latency-performance" },
];

/// Returns the profiles that a profile is made from, from the nearest to the farthest, itself first.
#[must_use]
pub fn ancestry(profile: &str) -> Vec<&str> {
    match profile {
        "virtual-host" | "virtual-guest" | "network-throughput" => vec![profile, "throughput-performance"],
        "network-latency" => vec![profile, "latency-performance"],
        profile => vec![profile],
    }
}

/// Returns what an active profile sets for a name; `None` if it is not known to set it.
#[must_use]
pub fn sets(profiles: &[String], name: &str) -> Option<&'static Setting> {
    let name = Key::new(name).map_or_else(|_| name.to_owned(), |key| key.to_string());
    profiles
        .iter()
        .rev()
        .flat_map(|profile| ancestry(profile))
        .find_map(|profile| SHIPPED.iter().find(|setting| setting.profile == profile && setting.name == name))
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
        let profiles = active_profiles("virtual-host\n");
        assert_eq!(profiles, ["virtual-host"]);
        assert_eq!(sets(&profiles, "vm.swappiness").unwrap().value, "10");
        assert_eq!(sets(&profiles, "vm/dirty_background_ratio").unwrap().value, "5");
        assert_eq!(sets(&profiles, "fs.aio-max-nr"), None);
        assert_eq!(sets(&active_profiles(""), "vm.swappiness"), None);
        let latency = sets(&active_profiles("my network-latency"), "transparent_hugepages").unwrap();
        assert!(value_conflict(latency).contains("latency-performance"));
        assert!(sysctl_note(sets(&profiles, "vm.swappiness").unwrap()).contains("reapply_sysctl"));
    }

    proptest! {
        #[test]
        fn no_input_panics(content: String, name: String) {
            let _ = sets(&active_profiles(&content), &name);
        }
    }
}
