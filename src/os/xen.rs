//! Xen as dom0 sees it: `xl info`, `/proc/xen/capabilities`, `/sys/hypervisor`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `xl info` says of the host, which dom0's own /proc does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XlInfo {
    /// The memory of the host in bytes.
    pub total_memory: u64,
    /// The memory that no domain has, in bytes.
    pub free_memory: u64,
    /// The CPUs of the host.
    pub cpus: u64,
    /// The NUMA nodes of the host.
    pub nodes: u64,
    /// The version, for example `4.17.2`.
    pub version: String,
    /// The command line that the hypervisor was started with.
    pub commandline: String,
}

/// An output of `xl info` that lacks a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`xl info` did not tell `{0}`")]
pub struct XlError(pub &'static str);

/// Returns the command.
#[must_use]
pub fn info() -> Vec<String> {
    ["xl", "info"].map(Into::into).into()
}

/// Reads the output of `xl info`; memory is in MiB there.
///
/// # Errors
/// If the memory or the CPUs of the host are missing.
pub fn parse_info(output: &str) -> Result<XlInfo, XlError> {
    let pairs = output.lines().filter_map(|line| line.split_once(':'));
    let fields: BTreeMap<&str, &str> = pairs.map(|(name, value)| (name.trim(), value.trim())).collect();
    let text = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
    let number = |name: &'static str| fields.get(name).and_then(|value| value.parse::<u64>().ok()).ok_or(XlError(name));
    let mebibytes = |name| number(name).and_then(|mib: u64| mib.checked_mul(1 << 20).ok_or(XlError(name)));
    let version = fields.get("xen_version").map_or_else(
        || format!("{}.{}{}", text("xen_major"), text("xen_minor"), text("xen_extra")),
        |version| (*version).to_owned(),
    );
    Ok(XlInfo {
        total_memory: mebibytes("total_memory")?,
        free_memory: mebibytes("free_memory").unwrap_or_default(),
        cpus: number("nr_cpus")?,
        nodes: number("nr_nodes").unwrap_or(1),
        version: if version == "." { String::new() } else { version },
        commandline: text("xen_commandline"),
    })
}

/// Tells whether this is dom0, from `/proc/xen/capabilities`; the file is missing where xenfs is not mounted.
#[must_use]
pub fn controls_domains(capabilities: &str) -> bool {
    capabilities.split_whitespace().any(|word| word == "control_d")
}

/// Tells whether this is dom0, from `/sys/hypervisor/properties/features`: bit 11, `XENFEAT_dom0`, of a hexadecimal
/// number without `0x` (xen public/features.h). `None` if the text is no such number.
#[must_use]
pub fn features_say_dom0(features: &str) -> Option<bool> {
    let digits = features.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(|bits| bits & (1 << 11) != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Written by hand after xl(1) and Xen 4.17.
    const INFO: &str = "host                   : xen01\nrelease                : 6.1.0-18-amd64\nnr_cpus                : 32\n\
        max_cpu_id             : 31\nnr_nodes               : 2\ntotal_memory           : 261886\nfree_memory            : 240000\n\
        xen_major              : 4\nxen_minor              : 17\nxen_extra              : .2\nxen_version            : 4.17.2\n\
        xen_commandline        : placeholder dom0_mem=4G,max:4G loglvl=all guest_loglvl=all:x no-real-mode\n";

    #[test]
    fn outputs() {
        let info = parse_info(INFO).unwrap();
        assert_eq!((info.total_memory, info.cpus, info.nodes), (261_886 << 20, 32, 2));
        assert_eq!(info.version, "4.17.2");
        assert!(
            info.commandline.starts_with("placeholder dom0_mem=4G,max:4G")
                && info.commandline.ends_with("no-real-mode")
        );
        assert_eq!(parse_info("xl: cannot open\n"), Err(XlError("total_memory")));
        assert!(controls_domains("control_d\n") && !controls_domains(""));
        for (features, dom0) in [
            ("00000800\n", Some(true)),
            ("000027f7", Some(false)),
            ("2ff7", Some(true)),
            ("", None),
            ("0x800", None),
            ("x", None),
        ] {
            assert_eq!(features_say_dom0(features), dom0, "{features}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text: String) {
            let _ = (parse_info(&text), controls_domains(&text), features_say_dom0(&text));
        }
    }
}
