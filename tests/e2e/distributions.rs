//! Hosts with the layout of other distributions (`tests/lab/distribution` says what is simulated): which boot driver is chosen, what the
//! generator then writes, what a boot makes of it, the way back, and what is refused.

use crate::{one::One, program::Output};

const TUNING: &str = r"
      - hugepages: { default_size: 2M, pages: { 2M: 16 }, reserve: 1G }
      - transparent_hugepages: { enabled: madvise }
      - kernel_cmdline: { parameters: [intel_iommu=on] }
      - swappiness: { value: 35 }
";
const TUNED: &str = "default_hugepagesz=2M hugepagesz=2M hugepages=16 intel_iommu=on transparent_hugepage=madvise";
const OURS: [&str; 4] = ["default_hugepagesz", "hugepage", "intel_iommu", "transparent"];

/// The lines of a menu that begin with a word, white space as one blank.
fn lines(one: &One, menu: &str, word: &str) -> Vec<String> {
    let menu = one.host.ssh(&format!("cat {menu}")).exits(0).stdout;
    let words = menu.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    words.filter(|line| line.starts_with(word)).collect()
}

/// Declares tuning on a fresh host, finds it in the menu and in the running kernel after a boot, and takes it back.
fn is_tuned_and_goes_back(distribution: &str, loader: &str, menu: &str, first: &str) -> Option<One> {
    let one = One::of(distribution)?;
    one.env.write("hosts.yaml", crate::lab::inventory(std::slice::from_ref(&one.host)));
    one.env.vprov(["facts", "--json"]).exits(0).says(&format!("\"{loader}\""));
    let before = one.manifest();
    let old = one.host.ssh("cat /proc/cmdline").exits(0).stdout;
    assert!(old.contains(first), "{old}");
    one.declare(TUNING);
    one.converges();
    let (recovery, normal): (Vec<_>, Vec<_>) =
        lines(&one, menu, "linux ").into_iter().partition(|line| line.contains(" single"));
    assert!(!recovery.is_empty() && normal.len() > recovery.len(), "{recovery:?} {normal:?}");
    assert!(normal.iter().all(|line| line.contains(&format!("{first} {TUNED}"))), "{normal:?}");
    assert!(!recovery.iter().any(|line| line.contains("hugepage")), "{recovery:?}");
    one.reboot();
    assert_eq!(one.booted_with(&OURS).join(" "), TUNED);
    one.is_converged().never_says("reboot");
    one.goes_back(&before);
    one.reboot();
    one.shows("cat /proc/cmdline", &[&old.split_whitespace().collect::<Vec<_>>().join(" ")]);
    one.manifest().is_as(&before);
    Some(one)
}

/// Plans what the host's boot loader would have to do.
fn plans(one: &One) -> Output {
    one.declare("      - kernel_cmdline: { parameters: [intel_iommu=on] }\n");
    one.env.vprov(["plan", "--detailed-exitcode"])
}

#[test]
fn sles_15() {
    let first = "splash=silent mitigations=auto quiet";
    let menu = "/boot/grub2/grub.cfg";
    let Some(one) = is_tuned_and_goes_back("sles15", "suse-grub2", menu, first) else { return };
    // The one file is edited in place, and the comments of a file of sysconfig stay.
    let before = one.manifest();
    one.host.ssh("cp -a /etc/default/grub /etc/sysconfig/nfs /root/").exits(0);
    one.declare(
        r#"
      - kernel_cmdline: { parameters: [intel_iommu=on] }
      - setting: { file: /etc/sysconfig/nfs, key: USE_KERNEL_NFSD_NUMBER, value: "64" }
"#,
    );
    one.converges();
    let changed = |file: &str, new: &str| {
        let difference = one.host.ssh(&format!("diff /root/$(basename {file}) {file}")).exits(1).stdout;
        let lines: Vec<&str> = difference.lines().filter(|line| line.starts_with(['<', '>'])).collect();
        assert!(lines.len() == 2 && lines[1] == format!("> {new}"), "{difference}");
    };
    changed("/etc/default/grub", &format!("GRUB_CMDLINE_LINUX_DEFAULT=\"{first} intel_iommu=on\""));
    changed("/etc/sysconfig/nfs", "USE_KERNEL_NFSD_NUMBER=\"64\"");
    one.goes_back(&before).says("/usr/sbin/grub2-mkconfig -o");
    // Where entries of the boot loader specification boot the host, the file is not what is edited.
    one.host.ssh("sed -i 's/^LOADER_TYPE=.*/LOADER_TYPE=\"grub2-bls\"/' /etc/sysconfig/bootloader").exits(0);
    plans(&one).exits(3).says("sdbootutil update-all-entries");
    one.host.ssh("sed -i 's/^LOADER_TYPE=.*/LOADER_TYPE=\"grub2\"/' /etc/sysconfig/bootloader").exits(0);
    plans(&one).exits(2);
    // What only a shell could evaluate is not guessed.
    one.host.ssh("echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"$(cat /proc/cmdline)\"' >>/etc/default/grub").exits(0);
    plans(&one).exits(3).says("/etc/default/grub");
}

#[test]
fn leap_15() {
    let first = "splash=silent mitigations=auto quiet";
    let menu = "/boot/grub2/grub.cfg";
    let Some(one) = is_tuned_and_goes_back("leap15", "suse-grub2", menu, first) else { return };
    // The hypervisor's line has its own variable, and what stands there stays.
    one.host.ssh("echo xen >/boot/xen-4.18.5_02-150600.3.23.gz && grub2-mkconfig -o /boot/grub2/grub.cfg").exits(0);
    let before = one.manifest();
    one.declare("      - xen_dom0: { dom0_mem: \"4G,max:4G\" }\n");
    one.converges();
    let xen = lines(&one, menu, "multiboot");
    assert!(xen.iter().any(|line| line.contains(" vga=gfx-1024x768x16 dom0_mem=4G,max:4G")), "{xen:?}");
    assert!(!lines(&one, menu, "linux ").iter().any(|line| line.contains("dom0_mem")));
    one.goes_back(&before);
}

#[test]
fn ubuntu_24_04() {
    let first = "console=tty1 console=ttyS0";
    let menu = "/boot/grub/grub.cfg";
    let Some(one) = is_tuned_and_goes_back("ubuntu2404", "grub-d", menu, first) else { return };
    // A file that is read later than vprov's would take its words away.
    one.host.ssh("echo 'GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"' >/etc/default/grub.d/zz-local.cfg").exits(0);
    plans(&one).exits(3).says("/etc/default/grub.d/zz-local.cfg:1").says("anew");
}
