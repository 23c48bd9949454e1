//! What a host is: typed, documented, read in one round trip, known before any expression is evaluated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All facts of a host; `facts.` in an expression.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The name that the kernel has for the host (`/proc/sys/kernel/hostname`).
    pub hostname: String,
    /// The distribution (os-release(5)).
    pub os: Os,
    /// The kernel (uname(2)).
    pub kernel: Kernel,
    /// How the host boots and booted.
    pub boot: Boot,
    /// The init system: `systemd` where `/run/systemd/system` exists, else `other`.
    pub init: String,
    /// The container that the host is itself, as `/run/systemd/container` names it; empty on a machine.
    pub container: String,
    /// What the host can virtualize with.
    pub virt: Virt,
    /// Memory.
    pub memory: Memory,
    /// Processors.
    pub cpu: Cpu,
    /// NUMA nodes in order; one node where the kernel knows no NUMA.
    pub numa: Vec<Node>,
    /// Huge pages.
    pub hugepages: HugePages,
    /// Whether `/sys/kernel/mm/transparent_hugepage` exists; it does not on a Xen PV dom0.
    pub transparent_hugepages: bool,
    /// Whether `/sys/kernel/mm/ksm` exists.
    pub ksm: bool,
    /// Block devices by name, without loop and ram devices.
    pub disks: std::collections::BTreeMap<String, Disk>,
    /// Swap in use.
    pub swap: Swap,
    /// The kernel's lockdown mode: `none`, `integrity`, `confidentiality`; empty where the kernel has none.
    pub lockdown: String,
    /// Whether `/` or `/usr` is read-only.
    pub read_only_root: bool,
    /// Whether the system is updated by transactional-update.
    pub transactional: bool,
    /// The profile that tuned applies; empty where tuned is not active.
    pub tuned_profile: String,
    /// The numeric user that vprov reads the host as; 0 is root.
    pub uid: u32,
}

/// The distribution.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Os {
    /// `ID`, as `debian`, `sles`, `opensuse-leap`.
    pub id: String,
    /// `ID_LIKE`.
    pub id_like: Vec<String>,
    /// `VERSION_ID`, as `12` or `15.6`; empty on a rolling distribution without one.
    pub version: String,
    /// `PRETTY_NAME`.
    pub name: String,
}

/// The kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// The first two numbers of the release, as `6.12`.
    pub version: String,
    /// `uname -m`.
    pub arch: String,
}

/// How the host boots and booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The boot loader's driver: `grub-d`, `suse-grub2`, `rhel-bls`, `suse-bls`, `systemd-boot`, `ostree`, `grub-legacy`, `zipl`, `none`.
    pub loader: String,
    /// `efi` or `bios`.
    pub firmware: String,
    /// The command line of the running kernel.
    pub cmdline: String,
    /// The identity of this boot (`/proc/sys/kernel/random/boot_id`).
    pub id: String,
    /// When the host booted, in seconds since 1970 (UTC).
    pub time: i64,
}

/// What the host can virtualize with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Virt {
    /// Whether KVM is usable: `/dev/kvm` exists.
    pub kvm: bool,
    /// Whether the host runs on Xen (`/sys/hypervisor/type`).
    pub xen: bool,
    /// Whether the host is Xen's dom0.
    pub dom0: bool,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What the kernel manages, in bytes (`MemTotal`); it changes by some MiB with a kernel update.
    pub total: u64,
    /// Installed memory: `total` rounded up to GiB, so that a kernel update does not change it. On dom0 the hypervisor's.
    pub installed_gib: u64,
}

/// Processors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// Logical processors that are online.
    pub online: u64,
    /// Physical cores.
    pub cores: u64,
    /// Sockets.
    pub sockets: u64,
    /// `model name` of the first.
    pub model: String,
    /// `intel`, `amd` or `other`.
    pub vendor: String,
    /// Whether the processor says that it can virtualize (`vmx`, `svm`).
    pub virtualization: bool,
}

/// A NUMA node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its number.
    pub id: u64,
    /// Its memory in bytes.
    pub memory: u64,
    /// Its processors as a list (`0-3,8`).
    pub cpus: String,
}

/// Huge pages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HugePages {
    /// The sizes that the kernel offers, as `2M` and `1G`, smallest first.
    pub sizes: Vec<String>,
    /// The default size of the running kernel (`Hugepagesize` of /proc/meminfo); empty where there is none.
    pub default_size: String,
}

/// A block device.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Whether the kernel takes it for a spinning disk; virtio says so of every disk.
    pub rotational: bool,
    /// The I/O schedulers that it offers; empty where none can be chosen.
    pub schedulers: Vec<String>,
    /// The I/O scheduler in use; empty where there is no choice.
    pub scheduler: String,
}

/// Swap in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// All of it in bytes.
    pub total: u64,
}

impl Facts {
    /// Tells whether this host's kernel is at least `major.minor`; vendors backport, so files are the better evidence.
    #[must_use]
    pub fn kernel_at_least(&self, major: u32, minor: u32) -> bool {
        let mut numbers = self.kernel.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }

    /// Tells whether vprov reads the host as root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}
