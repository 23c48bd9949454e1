//! Each family of what vprov is for, on a host with real systemd: applied, judged by the host's own programs, as declared after a boot,
//! and taken back to the host as it was.

use crate::{lab, one::One};

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

impl One {
    /// The name of the disk whose scheduler is this host's own; nothing, told as a skip, if the machine has none.
    pub fn disk(&self) -> Option<String> {
        let command = "findmnt -n -o TARGET | grep -o '/block/[^/]*/queue/scheduler' | cut -d/ -f3";
        let disk = self.host.ssh(command).exits(0).stdout.trim().to_owned();
        if disk.is_empty() {
            lab::skip("this machine has no disk with a scheduler");
            return None;
        }
        Some(disk)
    }
}

#[test]
fn the_command_line_of_linux_is_that_of_the_next_boot() {
    let Some(one) = One::systemd() else { return };
    one.host
        .ssh("sed -i 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX=\"crashkernel=256M\"/' /etc/default/grub && update-grub")
        .exits(0);
    one.reboot();
    let before = one.manifest();
    let old = one.host.ssh("cat /proc/cmdline").exits(0).stdout;
    assert_eq!(one.booted_with(&["crashkernel", "quiet", "hugepages"]), ["crashkernel=256M", "quiet"]);
    one.declare(
        r"
      - hugepages: { default_size: 2M, pages: { 2M: 16, 1G: 1 }, reserve: 1G }
      - transparent_hugepages: { enabled: never }
      - kernel_cmdline: { parameters: [intel_iommu=on], absent: [quiet] }
",
    );
    one.converges();
    // What the kernel can do at once is done; the rest waits, and is told.
    one.shows(&format!("cat {POOL} {THP}"), &["16", "always madvise [never]"]);
    one.shows("cat /proc/cmdline", &[old.trim()]);
    one.is_converged().says("reboot pending: intel_iommu").says("waiting for a reboot");
    one.reboot();
    let ours = ["default_hugepagesz", "hugepage", "transparent", "intel_iommu", "quiet", "crashkernel"];
    assert_eq!(
        one.booted_with(&ours).join(" "),
        "crashkernel=256M default_hugepagesz=2M hugepagesz=1G hugepages=1 hugepagesz=2M hugepages=16 intel_iommu=on \
         transparent_hugepage=never"
    );
    one.shows(&format!("cat {POOL} {THP}"), &["16", "always madvise [never]"]);
    one.is_converged().never_says("reboot");
    one.goes_back(&before);
    one.reboot();
    one.shows("cat /proc/cmdline", &[old.trim()]);
    one.manifest().is_as(&before);
}

#[test]
fn the_command_line_of_xen_is_in_the_menu() {
    let Some(one) = One::systemd() else { return };
    // What Debian's hypervisor package puts into /boot; 20_linux_xen makes entries of it.
    one.host.ssh("echo xen >/boot/xen-4.17-amd64.gz && update-grub").exits(0);
    let before = one.manifest();
    one.declare(
        r#"
      - xen_dom0: { dom0_mem: "4G,max:4G", max_vcpus: "2" }
      - kernel_cmdline: { parameters: [swiotlb=65536] }
"#,
    );
    one.converges();
    let lines = |word: &str| {
        let command = format!("awk '$1 ~ /^{word}/' /boot/grub/grub.cfg | grep -v single");
        let lines = one.host.ssh(&command).exits(0).stdout;
        lines.lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>()
    };
    let hypervisor = lines("multiboot");
    let wanted = |line: &&String| line.contains(" dom0_mem=4G,max:4G ") && line.contains(" dom0_max_vcpus=2 ");
    assert!(hypervisor.iter().any(|line| wanted(&line)), "{hypervisor:?}");
    for kernel in lines("module").iter().filter(|line| line.contains("vmlinuz")).chain(&lines("linux")) {
        assert!(kernel.contains(" swiotlb=65536") && !kernel.contains("dom0"), "{kernel}");
    }
    one.shows("cat /etc/xen/xl.conf", &["autoballoon=\"off\""]);
    one.goes_back(&before);
}

#[test]
fn a_rule_of_tmpfiles_sets_the_scheduler_at_boot() {
    let Some(one) = One::systemd() else { return };
    let Some(disk) = one.disk() else { return };
    let before = one.manifest();
    one.declare(&format!("      - io_scheduler: {{ devices: {{ {disk}: bfq }}, method: tmpfiles }}\n"));
    one.converges();
    let file = format!("/sys/block/{disk}/queue/scheduler");
    let set = || one.shows(&format!("cat {file}"), &["none mq-deadline kyber [bfq]"]);
    set();
    one.shows(&format!("systemd-tmpfiles --cat-config | grep {file}"), &[&format!("w {file} - - - - bfq")]);
    one.reboot();
    set();
    one.is_converged();
    one.goes_back(&before);
    one.reboot();
    one.manifest().is_as(&before);
}

#[test]
fn ksm_is_turned_on_and_off_with_its_service() {
    let Some(one) = One::systemd() else { return };
    // The unit is that of Debian's package ksmtuned; its ksmctl writes 1 or 0 to `run`, as this one does.
    one.host
        .ssh(
            r"cat >/usr/sbin/ksmctl <<'END' && chmod 755 /usr/sbin/ksmctl && cat >/lib/systemd/system/ksm.service <<'END2' && systemctl daemon-reload
#!/bin/sh
case $1 in start) echo 1 ;; stop) echo 0 ;; *) exit 1 ;; esac >/sys/kernel/mm/ksm/run
END
[Unit]
Description=Kernel Samepage Merging
ConditionPathExists=/sys/kernel/mm/ksm

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=-/etc/default/ksm
ExecStart=/usr/sbin/ksmctl start
ExecStop=/usr/sbin/ksmctl stop

[Install]
WantedBy=multi-user.target
END2",
        )
        .exits(0);
    let before = one.manifest();
    let values =
        "cd /sys/kernel/mm/ksm && cat run pages_to_scan sleep_millisecs merge_across_nodes; systemctl is-enabled ksm";
    one.declare(
        "      - ksm: { enabled: true, pages_to_scan: 1000, sleep_millisecs: 50, merge_across_nodes: false }\n",
    );
    one.env.vprov(["apply", "--yes"]).exits(3).says("guests would feel");
    one.converges_by(&["apply", "--yes", "--allow", "guest-visible"]);
    one.shows(values, &["1", "1000", "50", "0", "enabled"]);
    one.reboot();
    one.shows(values, &["1", "1000", "50", "0", "enabled"]);
    one.is_converged();
    let on = one.manifest();
    one.declare("      - ksm: { enabled: false }\n");
    one.converges();
    one.shows(values, &["0", "1000", "50", "0", "disabled"]);
    one.goes_back(&on);
    // The boot has run the service, which stays as it is until the next one.
    one.env.vprov(["rollback", "--yes"]).exits(0);
    one.reboot();
    one.manifest().is_as(&before);
}

#[test]
fn an_nfs_mount_is_in_fstab_and_what_the_kernel_cannot_mount_is_told() {
    let Some(one) = One::systemd() else { return };
    if one.host.ssh("grep -w nfs4 /proc/filesystems").code == 0 {
        return lab::skip("this kernel has an NFS client; the machine of the lab mounts with it");
    }
    let before = one.manifest();
    let declare = |ensure: &str| {
        one.declare(&format!(
            "      - nfs_mount: {{ source: \"nfs1.example.net:/exported/vm_images\", path: /mnt/images, options: [hard, sync], ensure: {ensure} }}\n"
        ));
    };
    declare("present");
    one.converges();
    let in_fstab = "findmnt --tab-file /etc/fstab -no SOURCE,TARGET,FSTYPE,OPTIONS /mnt/images";
    one.shows(in_fstab, &["nfs1.example.net:/exported/vm_images /mnt/images nfs hard,sync,_netdev,nofail"]);
    one.host.ssh("findmnt --verify --tab-file /etc/fstab").exits(0);
    // systemd's own reading of the line.
    one.shows(
        "systemctl show -p What,Type,Options,LoadState,NeedDaemonReload mnt-images.mount",
        &[
            "What=nfs1.example.net:/exported/vm_images",
            "Options=hard,sync,_netdev,nofail",
            "Type=nfs",
            "LoadState=loaded",
            "NeedDaemonReload=no",
        ],
    );
    let present = one.manifest();
    declare("mounted");
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    one.env.vprov(["apply", "--yes"]).exits(3).says("mount");
    one.host.ssh("findmnt /mnt/images").exits(1);
    one.manifest().is_as(&present);
    // What failed left nothing to take back; behind it is the run that did something.
    one.goes_back(&present);
    declare("present");
    one.is_converged();
    one.goes_back(&before);
}

#[test]
fn a_daemon_of_libvirt_runs_with_the_setting() {
    let Some(one) = One::systemd() else { return };
    // Stands in for libvirtd: what it read at its start is told by /run/libvirtd.
    one.host
        .ssh(
            r"mkdir -p /etc/libvirt && printf '# spice_listen = \x220.0.0.0\x22\nuser = \x22root\x22\n' >/etc/libvirt/qemu.conf && chmod 600 /etc/libvirt/qemu.conf &&
cat >/lib/systemd/system/libvirtd.service <<'END' && systemctl daemon-reload && systemctl enable --now libvirtd
[Service]
ExecStartPre=/bin/cp /etc/libvirt/qemu.conf /run/libvirtd
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
END",
        )
        .exits(0);
    let before = one.manifest();
    let process = || one.host.ssh("systemctl show -p MainPID libvirtd").exits(0).stdout;
    let first = process();
    one.declare(
        r#"
      - setting: { file: /etc/libvirt/qemu.conf, key: spice_listen, value: "::1" }
        notify: libvirtd
      - service: { name: libvirtd, running: true, on_notify: restart }
        name: libvirtd
"#,
    );
    one.converges();
    let loaded = "cmp /etc/libvirt/qemu.conf /run/libvirtd && grep ^spice_listen /run/libvirtd";
    one.shows(loaded, &["spice_listen = \"::1\""]);
    let second = process();
    assert_ne!(first, second);
    one.goes_back(&before);
    // A daemon that still ran with what was taken back would be no way back.
    one.host.ssh("cmp /etc/libvirt/qemu.conf /run/libvirtd").exits(0);
    assert_ne!(second, process());
}
