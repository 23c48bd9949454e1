//! The kernel, how the host booted, and what it can virtualize with.

use super::{
    Boot, Kernel, Os, Virt,
    answers::{Answers, exists, file},
};
use crate::{
    host::{matcher::choice, read::Read},
    os::{
        boot::{
            driver::BootLoader,
            evidence::{self, System},
        },
        kernel::KernelVersion,
    },
};

const RELEASE: &str = "/proc/sys/kernel/osrelease";
const ARCH: &str = "/proc/sys/kernel/arch";
const CMDLINE: &str = "/proc/cmdline";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const STAT: &str = "/proc/stat";
const EFI: &str = "/sys/firmware/efi";
const FIRMWARE: &str = "/sys/firmware";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const KVM: &str = "/dev/kvm";
const HYPERVISOR: &str = "/sys/hypervisor/type";
const FEATURES: &str = "/sys/hypervisor/properties/features";
const CAPABILITIES: &str = "/proc/xen/capabilities";
/// The program interpreters that each architecture's ABI names: kernels before 6.1 do not tell their architecture in a file.
const INTERPRETERS: [(&str, &str); 7] = [
    ("/lib64/ld-linux-x86-64.so.2", "x86_64"),
    ("/lib/ld-linux-aarch64.so.1", "aarch64"),
    ("/lib64/ld64.so.2", "ppc64le"),
    ("/lib/ld64.so.1", "s390x"),
    ("/lib/ld-linux-riscv64-lp64d.so.1", "riscv64"),
    ("/lib/ld-linux-armhf.so.3", "armv7l"),
    ("/lib/ld-musl-x86_64.so.1", "x86_64"),
];

pub fn reads() -> Vec<Read> {
    let files = [RELEASE, ARCH, CMDLINE, BOOT_ID, STAT, LOCKDOWN, HYPERVISOR, FEATURES, CAPABILITIES].map(file);
    let marks = [EFI, FIRMWARE, KVM].into_iter().chain(INTERPRETERS.iter().map(|(path, _)| *path)).map(exists);
    files.into_iter().chain(marks).chain(evidence::reads()).collect()
}

/// Returns the kernel.
pub fn kernel(answers: Answers) -> Kernel {
    let release = answers.value(RELEASE);
    let version = release.parse::<KernelVersion>().map(|version| version.to_string()).unwrap_or_default();
    let told = answers.value(ARCH);
    let by_abi = INTERPRETERS.iter().find(|(path, _)| answers.exists(path)).map(|(_, arch)| (*arch).to_owned());
    Kernel { release, version, arch: if told.is_empty() { by_abi.unwrap_or_default() } else { told } }
}

/// Returns how the host boots and booted; `transactional` tells whether the root is read-only and updated as a whole.
pub fn boot(answers: Answers, os: &Os, kernel: &Kernel, transactional: bool) -> Boot {
    let system = System { os_id: &os.id, os_like: &os.id_like, arch: &kernel.arch, transactional };
    let loader = match evidence::collect(answers.0, system) {
        Ok(evidence) => BootLoader::detect(&evidence).name(),
        Err(_) => "unknown",
    };
    let time = answers.text(STAT).and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")));
    let firmware = match (answers.exists(FIRMWARE), answers.exists(EFI)) {
        (_, true) => "efi",
        (true, false) => "bios",
        (false, false) => "",
    };
    Boot {
        loader: loader.into(),
        firmware: firmware.into(),
        cmdline: answers.value(CMDLINE),
        id: answers.value(BOOT_ID),
        time: time.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0),
    }
}

/// Returns the kernel's lockdown mode.
pub fn lockdown(answers: Answers) -> String {
    answers.text(LOCKDOWN).and_then(choice).unwrap_or_default().to_owned()
}

/// Returns what the host can virtualize with. Dom0 is told by the hypervisor's feature bit 11 (`XENFEAT_dom0`, Xen's
/// public/features.h), or by `control_d` where xenfs is mounted.
pub fn virt(answers: Answers) -> Virt {
    let xen = answers.value(HYPERVISOR) == "xen";
    let features = u64::from_str_radix(&answers.value(FEATURES), 16).unwrap_or(0);
    let controls =
        answers.text(CAPABILITIES).is_some_and(|text| text.split_whitespace().any(|word| word == "control_d"));
    Virt { kvm: answers.exists(KVM), xen: xen || controls, dom0: controls || (xen && features & (1 << 11) != 0) }
}
