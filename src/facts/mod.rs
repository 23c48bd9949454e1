//! What a host is: typed, documented, read in one round trip, known before any expression is evaluated.
//!
//! [`reads`] is the one batch of questions, [`decode`] makes facts of the answers. What a host does not have, or does not
//! let its user read, is an empty fact and no error; below `--root` only files are there, so all that the kernel would
//! tell is empty.

mod answers;
mod cpu;
mod disks;
mod kernel;
mod memory;
mod os;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::answers::Answers;
use crate::host::{
    observed::Observed,
    read::{Answer, Read},
};

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
    /// The numeric user that vprov reads the host as; 0 is root, and 0 below `--root`.
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
    /// `uname -m`, from `/proc/sys/kernel/arch` or, before Linux 6.1, the program interpreter that is installed.
    pub arch: String,
}

/// How the host boots and booted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The boot loader: `grub-d` (Debian, Ubuntu), `suse-grub2`, `suse-transactional`, `suse-bls`, `rhel-bls`, `grub`, `systemd-boot`,
    /// `ostree`, `grub-legacy`, `zipl`, `ambiguous`, `none`; `unknown` where a file that decides may not be read.
    pub loader: String,
    /// `efi` or `bios`; empty below `--root`.
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
    /// Logical processors that are online; on dom0 those of dom0.
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

/// Why facts could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// A file that every Linux host has could not be read, so what it would say is unknown.
    #[error("cannot read `{path}`: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's words.
        reason: String,
    },
}

/// Returns everything that must be read, in one batch: files, and one program on a Xen host.
#[must_use]
pub fn reads() -> Vec<Read> {
    [os::reads(), kernel::reads(), cpu::reads(), memory::reads(), disks::reads()].concat()
}

/// Makes facts of the answers to [`reads`].
///
/// # Errors
/// Only where a file that is there fails to be read (an I/O error, a limit); what is absent or denied is an empty fact.
pub fn decode(observed: &Observed) -> Result<Facts, FactsError> {
    for read in reads() {
        if let (Some(path), Some(Answer::Failed(reason))) = (read.path(), observed.get(&read)) {
            return Err(FactsError::Unreadable { path: path.to_string(), reason: reason.clone() });
        }
    }
    let answers = Answers(observed);
    let virt = kernel::virt(answers);
    let memory = memory::memory(answers, virt.dom0);
    let (distribution, kernel) = (os::distribution(answers), kernel::kernel(answers));
    let (read_only_root, transactional) = (os::read_only_root(answers), os::transactional(answers));
    Ok(Facts {
        hostname: os::hostname(answers),
        boot: kernel::boot(answers, &distribution, &kernel, read_only_root && transactional),
        os: distribution,
        kernel,
        init: os::init(answers),
        container: os::container(answers),
        numa: memory::numa(answers, memory.total),
        hugepages: memory::huge_pages(answers),
        transparent_hugepages: memory::transparent_huge_pages(answers),
        ksm: memory::ksm(answers),
        virt,
        memory,
        cpu: cpu::cpu(answers),
        disks: disks::disks(answers),
        swap: memory::swap(answers),
        lockdown: kernel::lockdown(answers),
        read_only_root,
        transactional,
        tuned_profile: os::tuned_profile(answers),
        uid: os::uid(answers),
    })
}

/// Returns the JSON Schema of [`Facts`] without references, against which `facts.x.y` of an expression is checked.
#[must_use]
pub fn tree() -> schemars::Schema {
    let settings =
        schemars::generate::SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Facts>()
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

    /// Returns the facts as expressions see them, below `facts`.
    ///
    /// # Panics
    /// Never: every fact is a string, number, boolean, list or map with text keys.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("facts are plain data with text keys")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};

    use super::*;
    use crate::host::{
        Host as _,
        bytes::Bytes,
        exec::{LocalHost, Settings},
        path::AbsPath,
        probe::Probe,
        read::{Meta, Output},
    };

    #[test]
    fn facts_made_of_anything_do_not_end_the_program() {
        let meta = || Meta { mode: 0o644, uid: 0, gid: 0, mtime: 0 };
        let file = |text: String| Answer::File { meta: meta(), digest: None, content: Some(text.as_str().into()) };
        let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let answers = [
            Answer::Denied,
            Answer::Failed("\x1b]0;owned\x07".into()),
            Answer::Link { meta: meta(), target: "/proc/self".into() },
            Answer::Directory { meta: meta(), names: Some(vec![]) },
            Answer::Paths(vec![(AbsPath::known("/a"), Answer::Absent); 2_000]),
            file("9".repeat(100_000)),
            file("-1\n".repeat(10_000)),
            file(": = \"\\\n\t'{{ x }}' \u{202e}".repeat(1000)),
            file("MemTotal: 18446744073709551616 kB\nprocessor : 99999999999\ncpu9999999999 0\n0-4294967295\n".into()),
            Answer::File { meta: meta(), digest: None, content: Some(Bytes(noise)) },
        ];
        for answer in answers {
            let mut observed = Observed::default();
            for read in reads() {
                observed.put(read, answer.clone());
            }
            // It may be facts or an error; JSON of facts is what plans hold.
            if let Ok(facts) = decode(&observed) {
                assert!(facts.to_value().is_object());
            }
        }
    }

    /// Reads the facts of a tree of captured files below tests/data/facts.
    fn facts_of(host: &str, xl_info: Option<&str>) -> Facts {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/facts").join(host);
        let mut host = LocalHost::new(Settings { root: Some(root), ..Settings::default() }).unwrap();
        let mut observed = observe(&mut host);
        if let Some(stdout) = xl_info {
            let output = Output { status: 0, stdout: stdout.into(), stderr: "".into() };
            observed.put(Read::Probe(Probe::once(["xl", "info"])), Answer::Output(output));
        }
        decode(&observed).unwrap()
    }

    fn observe(host: &mut LocalHost) -> Observed {
        let mut observed = Observed::default();
        for (read, answer) in reads().into_iter().zip(host.read(&reads()).unwrap()) {
            observed.put(read, answer);
        }
        observed
    }

    #[test]
    fn a_kvm_host() {
        let facts = facts_of("kvm", None).to_value();
        let check = |pointer: &str, expected: Value| assert_eq!(facts.pointer(pointer), Some(&expected), "{pointer}");
        check("/hostname", json!("kvm01"));
        check(
            "/os",
            json!({"id": "sles", "id_like": ["suse"], "version": "15.6", "name": "SUSE Linux Enterprise Server 15 SP6"}),
        );
        check("/kernel", json!({"release": "6.4.0-150600.23.7-default", "version": "6.4", "arch": "x86_64"}));
        check("/boot/cmdline", json!("BOOT_IMAGE=/boot/vmlinuz-6.4.0 root=/dev/sda2 quiet"));
        check("/boot/time", json!(1_795_480_000));
        check("/boot/firmware", json!("efi"));
        check("/boot/loader", json!("suse-grub2"));
        check("/init", json!("systemd"));
        check("/container", json!(""));
        check("/virt", json!({"kvm": true, "xen": false, "dom0": false}));
        check("/memory", json!({"total": 134_880_419_840u64, "installed_gib": 126}));
        check(
            "/cpu",
            json!({"online": 4, "cores": 2, "sockets": 2, "model": "Intel(R) Xeon(R) Silver 4314 CPU @ 2.40GHz",
                   "vendor": "intel", "virtualization": true}),
        );
        check("/numa/1", json!({"id": 1, "memory": 67_645_734_912u64, "cpus": "1,3"}));
        check("/hugepages", json!({"sizes": ["2M", "1G"], "default_size": "2M"}));
        check("/transparent_hugepages", json!(true));
        check("/ksm", json!(true));
        check(
            "/disks/sda",
            json!({"rotational": false, "schedulers": ["none", "mq-deadline", "kyber", "bfq"], "scheduler": "mq-deadline"}),
        );
        check("/disks/zram0", json!({"rotational": false, "schedulers": [], "scheduler": ""}));
        assert_eq!(facts.pointer("/disks/loop0"), None);
        check("/swap/total", json!(2_147_479_552));
        check("/lockdown", json!("none"));
        check("/read_only_root", json!(false));
        check("/tuned_profile", json!("virtual-host"));
        check("/uid", json!(1000));
    }

    #[test]
    fn a_dom0_has_the_memory_of_the_hypervisor() {
        let info = "host                   : xen01\ntotal_memory           : 65415\nnr_cpus                : 16\n";
        let facts = facts_of("dom0", Some(info));
        assert_eq!(facts.virt, Virt { kvm: false, xen: true, dom0: true });
        assert_eq!(facts.memory, Memory { total: 4_076_863_488, installed_gib: 64 });
        assert!(!facts.transparent_hugepages && facts.hugepages.sizes.is_empty());
        assert_eq!(facts.numa, [Node { id: 0, memory: 4_076_863_488, cpus: "0-3".into() }]);
        assert_eq!(facts_of("dom0", None).memory.installed_gib, 4);
    }

    #[test]
    fn an_empty_host_has_empty_facts() {
        let facts = decode(&Observed::default()).unwrap();
        assert_eq!((facts.init.as_str(), facts.os.id.as_str(), facts.boot.loader.as_str()), ("other", "", "none"));
        assert!(facts.is_root() && !facts.kernel_at_least(5, 13));
        let mut observed = Observed::default();
        observed.put(answers::file("/proc/meminfo"), Answer::Failed("Input/output error".into()));
        assert_eq!(decode(&observed).unwrap_err().to_string(), "cannot read `/proc/meminfo`: Input/output error");
    }

    #[test]
    fn this_machine_has_facts() {
        let mut host = LocalHost::new(Settings { observe: true, ..Settings::default() }).unwrap();
        let facts = decode(&observe(&mut host)).unwrap();
        assert!(facts.cpu.online > 0 && facts.memory.total > 0 && !facts.kernel.release.is_empty(), "{facts:#?}");
        assert!(!facts.kernel.arch.is_empty() && !facts.boot.id.is_empty(), "{facts:#?}");
    }

    #[test]
    fn each_fact_is_described() {
        let tree = tree().to_value();
        assert_eq!(tree.pointer("/properties/memory/properties/total/type"), Some(&json!("integer")));
        fn described(name: &str, schema: &Value) {
            for (key, value) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert!(value.get("description").is_some(), "{name}.{key} has no description");
                described(&format!("{name}.{key}"), value);
            }
        }
        described("facts", &tree);
    }
}
