//! `/proc/cpuinfo`: what the processors can do. How many there are, sysfs says better.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What the first processor says of itself; all of a host are alike for vprov.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The maker, for example `GenuineIntel`; empty where the architecture has no such line.
    pub vendor: String,
    /// The model for people.
    pub model: String,
    /// The flags (x86) or features (arm64).
    pub flags: BTreeSet<String>,
}

impl Cpu {
    /// Reads the file.
    #[must_use]
    pub fn parse(content: &[u8]) -> Self {
        let text = String::from_utf8_lossy(content);
        let value = |names: &[&str]| {
            let pairs = text.lines().filter_map(|line| line.split_once(':'));
            pairs.filter(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim().to_owned()).next()
        };
        let flags = value(&["flags", "Features", "features"]).unwrap_or_default();
        Self {
            vendor: value(&["vendor_id"]).unwrap_or_default(),
            model: value(&["model name", "cpu"]).unwrap_or_default(),
            flags: flags.split_whitespace().map(Into::into).collect(),
        }
    }

    /// Tells whether the processor offers hardware virtualization to this kernel: `vmx` of Intel or `svm` of AMD. It is
    /// missing where the firmware switched it off, and in guests without nesting.
    #[must_use]
    pub fn virtualizes(&self) -> bool {
        ["vmx", "svm"].iter().any(|flag| self.flags.contains(*flag))
    }

    /// Tells whether the kernel runs as a guest of a hypervisor, dom0 of Xen included.
    #[must_use]
    pub fn is_guest(&self) -> bool {
        self.flags.contains("hypervisor")
    }

    /// Tells whether the processor has pages of 1 GiB (x86 `pdpe1gb`; guide 4.1.1); the directories of
    /// `/sys/kernel/mm/hugepages` are the better evidence.
    #[must_use]
    pub fn has_1g_pages(&self) -> bool {
        self.flags.contains("pdpe1gb")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn captured_and_other_processors() {
        let guest = Cpu::parse(include_bytes!("../../tests/data/cpuinfo/amd-epyc"));
        assert_eq!((guest.vendor.as_str(), guest.model.as_str()), ("AuthenticAMD", "AMD EPYC"));
        assert!(guest.is_guest() && guest.has_1g_pages() && !guest.virtualizes());
        let intel = Cpu::parse(
            b"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx pse\n\nprocessor\t: 1\nflags\t: svm\n",
        );
        assert!(intel.virtualizes() && !intel.has_1g_pages() && !intel.flags.contains("svm"));
        assert!(Cpu::parse(b"processor : 0\nFeatures : fp asimd\n").flags.contains("asimd"));
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>) {
            let _ = Cpu::parse(&content);
        }
    }
}
