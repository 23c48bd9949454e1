//! Over a real sshd: plan, apply and an empty plan for what is in files, judged by other programs, and hosts at fault beside
//! hosts that are not.

use crate::{
    lab::{self, Host, Lab},
    program::{Env, Output},
};
use serde_json::Value;

/// What lasts on a hypervisor, as far as it lies in files: live values cannot be written on the hosts of the lab.
const DECLARED: &str = r#"
      - kernel_cmdline: { parameters: [intel_iommu=on, "default_hugepagesz=2M hugepagesz=2M hugepages=16"], absent: [quiet] }
      - tmpfiles: { name: thp, rules: [ { path: /sys/kernel/mm/transparent_hugepage/enabled, argument: madvise } ], running: false }
      - tmpfiles: { name: ksm, rules: [ { path: /sys/kernel/mm/ksm/run, argument: 1 } ], running: false }
      - udev_rule: { name: iosched, rules: [ 'ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="sd[a-z]", ATTR{queue/scheduler}="mq-deadline"' ] }
      - nfs_mount: { source: "nfs1.example.net:/exported/vm_images", path: /mnt/images, options: [hard, sync], ensure: present }
      - setting: { file: /etc/xen/xl.conf, key: autoballoon, value: "off" }
      - setting: { file: /etc/libvirt/qemu.conf, key: spice_listen, value: "::1" }
      - file: { path: /etc/modules-load.d/vhost.conf, content: "vhost_net\n" }
"#;

fn fleet(env: &Env, hosts: &[Host], resources: &str) {
    let group =
        format!("groups:\n  lab:\n    hosts: [\"lab*\"]\n    resources:\n{}", resources.trim_start_matches('\n'));
    env.write("hosts.yaml", lab::inventory(hosts) + &group);
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The verdict of each resource of a host in a plan.
fn verdicts(plan: &Value, host: &str) -> Vec<(String, String)> {
    let hosts = plan["hosts"].as_array().expect("a list of hosts");
    let found = hosts.iter().find(|one| one["host"] == host).unwrap_or_else(|| panic!("{host} in {plan:#}"));
    let resources = found["result"]["resources"].as_array().unwrap_or_else(|| panic!("{found:#}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    resources.iter().map(|one| (text(&one["address"]), text(&one["verdict"]["verdict"]))).collect()
}

#[test]
fn three_hosts_are_brought_to_the_declared_state() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(3);
    let env = Env::new();
    fleet(&env, &hosts, DECLARED);
    for host in &hosts {
        // A foreign token stays, and an earlier line of fstab as well.
        host.ssh("sed -i 's/^GRUB_CMDLINE_LINUX=.*/GRUB_CMDLINE_LINUX=\"crashkernel=256M\"/' /etc/default/grub && grub-mkconfig -o /boot/grub/grub.cfg").exits(0);
    }
    let first = env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    let folded = first.stdout.lines().next().unwrap_or_default();
    assert!(folded.starts_with("lab[") && folded.contains("(3 hosts with the same plan)"), "{first:?}");
    let first = first.says("the executor was uploaded to /var/lib/vprov for this plan").says("+vhost_net");
    assert_eq!(first.stdout.matches("+vhost_net").count(), 1, "hosts with one plan are shown once: {first:?}");
    env.vprov(["plan"]).exits(0).never_says("uploaded");
    for host in &hosts {
        host.ssh("test -e /etc/modules-load.d/vhost.conf -o -e /etc/default/grub.d/99-vprov.cfg").exits(1);
    }

    env.vprov(["apply", "--yes"]).exits(0);
    for host in &hosts {
        judge(host);
    }
    let second = env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.").says("waiting for a reboot");
    let second = second.says("reboot pending: intel_iommu");
    assert!(second.stdout.contains("configured  intel_iommu=on"), "{second:?}");
    env.vprov(["apply", "--yes"]).exits(0);
}

/// Judges by the distribution's own programs, past vprov.
fn judge(host: &Host) {
    host.ssh("grub-script-check /boot/grub/grub.cfg").exits(0);
    let menu = host.read("/boot/grub/grub.cfg");
    let lines: Vec<&str> = menu.lines().map(str::trim).filter(|line| line.starts_with("linux\t")).collect();
    let (recovery, normal): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(|line| line.contains(" single"));
    assert!(normal.len() >= 3 && recovery.len() >= 2, "{menu}");
    for line in normal {
        assert!(line.contains(" default_hugepagesz=2M hugepagesz=2M hugepages=16"), "{line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(
            words.contains(&"intel_iommu=on") && words.contains(&"crashkernel=256M") && !words.contains(&"quiet"),
            "{line}"
        );
    }
    for line in recovery {
        assert!(!line.contains("hugepages") && line.contains("crashkernel=256M"), "{line}");
    }
    // The generator itself leaves it so.
    assert_eq!(host.ssh("stat -c '%a %U' /boot/grub/grub.cfg").exits(0).stdout, "600 root\n");
    let table = host.ssh("findmnt --tab-file /etc/fstab -no SOURCE,TARGET,FSTYPE,OPTIONS /mnt/images").exits(0).stdout;
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words, ["nfs1.example.net:/exported/vm_images", "/mnt/images", "nfs", "hard,sync,_netdev,nofail"]);
    host.ssh("findmnt --verify --tab-file /etc/fstab").never_says("parse error");
    let tmpfiles = host.ssh("systemd-tmpfiles --cat-config").exits(0).stdout;
    assert!(tmpfiles.contains("w /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise"), "{tmpfiles}");
    host.ssh("systemd-tmpfiles --create --prefix=/nonexistent").exits(0).never_says("vprov");
    let xl = host.ssh("sh -c '. /etc/xen/xl.conf; echo $autoballoon'").exits(0).stdout;
    assert_eq!(xl, "off\n");
    assert!(host.read("/etc/libvirt/qemu.conf").lines().any(|line| line == "spice_listen = \"::1\""));
    assert_eq!(host.read("/etc/modules-load.d/vhost.conf"), "vhost_net\n");
}

#[test]
fn the_hypervisors_line_is_written_where_xen_is_installed() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let env = Env::new();
    // What Debian's hypervisor package puts into /boot; 20_linux_xen makes entries of it.
    host.ssh("echo xen >/boot/xen-4.17-amd64.gz; for v in /boot/config-*; do echo CONFIG_XEN_DOM0=y >>$v; done; grub-mkconfig -o /boot/grub/grub.cfg").exits(0);
    fleet(
        &env,
        std::slice::from_ref(&host),
        "      - xen_dom0: { dom0_mem: \"4G,max:4G\", max_vcpus: \"2\" }\n      - kernel_cmdline: { parameters: [swiotlb=65536] }\n",
    );
    env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    env.vprov(["apply", "--yes"]).exits(0);
    host.ssh("grub-script-check /boot/grub/grub.cfg").exits(0);
    let menu = host.read("/boot/grub/grub.cfg");
    let xen: Vec<&str> = menu.lines().map(str::trim).filter(|line| line.starts_with("multiboot")).collect();
    assert!(!xen.is_empty(), "{menu}");
    let normal: Vec<&&str> = xen.iter().filter(|line| line.contains("dom0_mem")).collect();
    assert!(!normal.is_empty(), "{xen:?}");
    assert!(
        normal.iter().all(|line| line.contains("dom0_mem=4G,max:4G") && line.contains("dom0_max_vcpus=2")),
        "{xen:?}"
    );
    assert!(!menu.lines().any(|line| line.trim().starts_with("linux") && line.contains("dom0_mem")), "{menu}");
    assert_eq!(host.read("/etc/xen/xl.conf"), "autoballoon=\"off\"\n");
    env.vprov(["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_root_on_this_machine_and_a_host_give_the_same_files() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let env = Env::new();
    fleet(&env, std::slice::from_ref(&host), DECLARED);
    let root = env.dir().join("copy");
    let copy = env.run(
        "cp",
        ["-a", "--one-file-system", &format!("{}/.", host.path("/").display()), &root.display().to_string()],
        "",
    );
    copy.exits(0);
    let root = root.to_str().expect("temporary directories are UTF-8");
    env.vprov(["plan", "--root", root, "--detailed-exitcode"]).exits(2);
    env.vprov(["apply", "--root", root, "--yes"]).exits(0);
    env.vprov(["apply", "--yes"]).exits(0);
    for path in [
        "/etc/default/grub",
        "/etc/default/grub.d/99-vprov.cfg",
        "/etc/fstab",
        "/etc/xen/xl.conf",
        "/etc/libvirt/qemu.conf",
        "/etc/tmpfiles.d/10-vprov-thp.conf",
        "/etc/udev/rules.d/90-vprov-iosched.rules",
        "/etc/modules-load.d/vhost.conf",
    ] {
        let there = std::fs::read_to_string(format!("{root}{path}")).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(there, host.read(path), "{path}");
    }
    env.vprov(["plan", "--root", root, "--detailed-exitcode"]).exits(0);
    env.vprov(["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_user_with_sudo_does_the_same_as_root() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let env = Env::new();
    fleet(&env, std::slice::from_ref(&host), DECLARED);
    let inventory = std::fs::read_to_string(env.dir().join("hosts.yaml")).expect("it was written");
    env.write("hosts.yaml", inventory.replace("user: root", "user: admin, become: true"));
    env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    env.vprov(["apply", "--yes"]).exits(0);
    assert_eq!(host.ssh("stat -c '%U %a' /etc/modules-load.d/vhost.conf").exits(0).stdout, "root 644\n");
    env.vprov(["plan", "--detailed-exitcode"]).exits(0);
    env.write("hosts.yaml", inventory.replace("user: root", "user: locked, become: true"));
    env.vprov(["plan"]).exits(3).says("! failed").says("sudo");
    // Without root, what may not be read is unknown.
    env.write("hosts.yaml", inventory.replace("user: root", "user: locked"));
    host.ssh("chmod 600 /boot/grub/grub.cfg").exits(0);
    env.vprov(["plan"]).exits(3).says("? unknown  kernel_cmdline[boot]").says("needs root");
}

#[test]
fn what_one_host_cannot_do_stops_neither_its_other_resources_nor_other_hosts() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(3);
    let env = Env::new();
    // No systemd runs, and /sys and /proc/sys are read-only: what needs them fails alone, with the reason.
    fleet(
        &env,
        &hosts,
        "      - service: { name: ssh, enabled: true }\n      - sysctl: { name: vm.swappiness, value: 37 }\n      \
         - kernel_value: { path: /sys/kernel/mm/ksm/pages_to_scan, value: 777 }\n      \
         - file: { path: /etc/after, content: \"x\\n\" }\n        requires: ['sysctl[vm.swappiness]']\n      \
         - file: { path: /etc/other, content: \"x\\n\" }\n",
    );
    hosts[2].stop();
    let plan = env.vprov(["plan", "--json"]).exits(3);
    let plan = json(&plan);
    assert_eq!(plan["hosts"][2]["result"]["status"], "unreachable");
    let found = verdicts(&plan, &hosts[0].name);
    let verdict = |address: &str| found.iter().find(|(name, _)| name == address).map(|(_, verdict)| verdict.as_str());
    assert_eq!(verdict("service[ssh.service]"), Some("failed"), "{found:?}");
    assert_eq!(verdict("file[/etc/other]"), Some("change"), "{found:?}");
    let text = env.vprov(["plan"]).exits(3).says("`ssh.service` needs systemd, which does not run on this host");
    text.says("refused the connection");

    let applied = env
        .vprov(["apply", "--yes"])
        .exits(3)
        .says("Read-only file system")
        .says("because sysctl[vm.swappiness] failed");
    assert!(applied.stdout.contains("unreachable"), "{applied:?}");
    for host in &hosts[..2] {
        assert_eq!(host.read("/etc/other"), "x\n");
        host.ssh("test -e /etc/after").exits(1);
        assert!(
            host.read("/etc/sysctl.d/90-vprov.conf").contains("vm.swappiness = 37"),
            "the file is written all the same"
        );
    }
    // The parts that could be done are done; the rest is still planned.
    let again = json(&env.vprov(["plan", "--json"]).exits(3));
    let found = verdicts(&again, &hosts[0].name);
    assert!(found.contains(&("file[/etc/other]".into(), "converged".into())), "{found:?}");
}

#[test]
fn exit_codes_of_hosts_are_joined() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let env = Env::new();
    fleet(&env, &hosts, "      - file: { path: /etc/other, content: \"x\\n\" }\n");
    env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    hosts[1].stop();
    env.vprov(["plan", "--detailed-exitcode"])
        .exits(4)
        .says("refused the connection")
        .says("+ create   file[/etc/other]");
    env.vprov(["apply", "--yes"]).exits(4);
    assert_eq!(hosts[0].read("/etc/other"), "x\n");
    let only = format!("!{}", hosts[1].name);
    env.vprov(["plan", "--detailed-exitcode", "--limit", &only]).exits(0);
    // A failed host outweighs one that is unreachable.
    fleet(&env, &hosts, "      - service: { name: ssh, enabled: true }\n");
    env.vprov(["plan", "--detailed-exitcode"]).exits(3);
}
