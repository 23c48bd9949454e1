//! Hosts that are at fault: each fails by name and for itself, and the others go on.

use crate::{
    lab::{self, Host, Lab},
    program::{Env, Output},
};
use std::{fs, thread};

/// Plans and applies some resources on a host that a test has spoiled, beside one that nobody did.
struct Pair {
    env: Env,
    bad: Host,
    good: Host,
}

impl Pair {
    fn new(lab: &Lab, resources: &str) -> Pair {
        let mut hosts = lab.hosts(2);
        let env = Env::new();
        let group = format!("groups:\n  lab:\n    hosts: [\"lab*\"]\n    resources:\n{resources}");
        env.write("hosts.yaml", lab::inventory(&hosts) + &group);
        let good = hosts.remove(1);
        Pair { env, bad: hosts.remove(0), good }
    }

    /// Applies; the good host must be done, the bad one must be told by these words.
    fn apply(&self, words: &[&str]) -> Output {
        let output = self.env.vprov(["apply", "--yes"]).exits(3);
        // Where a line was broken does not matter.
        let said = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in words {
            assert!(said.contains(words), "`{words}` is not said: {output:?}");
        }
        let only = ["plan", "--detailed-exitcode", "--limit", &self.good.name];
        self.env.vprov(only).exits(0);
        output
    }
}

const MOUNT: &str = "      - nfs_mount: { source: 'nfs1:/exported', path: /mnt/images, ensure: present }\n      \
    - file: { path: /etc/other, content: \"x\\n\" }\n";

#[test]
fn a_broken_line_of_fstab_refuses_its_resource_alone() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, MOUNT);
    let broken = "proc /proc proc defaults 0 0\nthis-is-no-entry\n";
    pair.bad.write("/etc/fstab", broken);
    pair.apply(&["! failed mount[/mnt/images]", "/etc/fstab", "2", "this-is-no-entry"]);
    assert_eq!(pair.bad.read("/etc/fstab"), broken);
    assert_eq!(pair.bad.read("/etc/other"), "x\n");
    assert!(pair.good.read("/etc/fstab").contains("nfs1:/exported /mnt/images nfs "));
}

#[test]
fn a_mount_point_that_stands_twice_is_left_alone() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, MOUNT);
    let twice = "a:/x /mnt/images nfs ro 0 0\nb:/y /mnt/images nfs ro 0 0\n";
    pair.bad.write("/etc/fstab", twice);
    pair.apply(&["! failed mount[/mnt/images]", "lines 1 and 2 both mount at `/mnt/images`", "1 not planned"]);
    assert_eq!(pair.bad.read("/etc/fstab"), twice);
    assert_eq!(pair.bad.read("/etc/other"), "x\n");
}

const BOOT: &str = "      - kernel_cmdline: { parameters: [intel_iommu=on] }\n      \
    - file: { path: /etc/other, content: \"x\\n\" }\n";

#[test]
fn a_grub_file_that_is_a_program_is_refused_with_its_line() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, BOOT);
    let program = "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet $(cat /etc/hostname)\"\n";
    pair.bad.write("/etc/default/grub", program);
    let menu = pair.bad.read("/boot/grub/grub.cfg");
    pair.apply(&["! failed kernel_cmdline[boot]", "/etc/default/grub", "$(cat /etc/hostname)"]);
    assert_eq!(pair.bad.read("/etc/default/grub"), program);
    assert_eq!(pair.bad.read("/boot/grub/grub.cfg"), menu);
    pair.bad.ssh("test -e /etc/default/grub.d/99-vprov.cfg").exits(1);
    assert_eq!(pair.bad.read("/etc/other"), "x\n");
}

#[test]
fn a_generator_that_fails_leaves_the_menu_that_was_there() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, BOOT);
    pair.bad.ssh("printf '#!/bin/sh\\necho broken generator >&2\\nexit 3\\n' >/etc/grub.d/09_broken; chmod 755 /etc/grub.d/09_broken").exits(0);
    let menu = pair.bad.read("/boot/grub/grub.cfg");
    pair.apply(&["! failed kernel_cmdline[boot]", "broken generator"]);
    assert_eq!(pair.bad.read("/boot/grub/grub.cfg"), menu);
    assert_eq!(pair.bad.read("/etc/other"), "x\n");
    // What is left to do is still told, and done once the host is mended.
    pair.env.vprov(["plan", "--detailed-exitcode", "--limit", &pair.bad.name]).exits(2).says("kernel_cmdline[boot]");
    pair.bad.ssh("rm /etc/grub.d/09_broken").exits(0);
    pair.env.vprov(["apply", "--yes", "--limit", &pair.bad.name]).exits(0);
    assert!(pair.bad.read("/boot/grub/grub.cfg").contains(" intel_iommu=on"));
    pair.env.vprov(["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_host_without_a_boot_loader_fails_for_that_resource_alone() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, BOOT);
    pair.bad.ssh("rm -r /boot/grub /etc/default/grub /usr/sbin/grub-mkconfig /usr/sbin/update-grub").exits(0);
    pair.apply(&["! failed kernel_cmdline[boot]", "boot loader"]);
    assert_eq!(pair.bad.read("/etc/other"), "x\n");
}

#[test]
fn huge_pages_beyond_the_memory_are_refused_before_any_write() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let env = Env::new();
    let resources = "groups:\n  lab:\n    hosts: [\"lab*\"]\n    resources:\n      \
        - hugepages: { default_size: 2M, pages: { 2M: 40000000 } }\n      - file: { path: /etc/other, content: x }\n";
    env.write("hosts.yaml", lab::inventory(std::slice::from_ref(&host)) + resources);
    env.vprov(["plan"]).exits(3).says("do not leave the host enough");
    env.vprov(["apply", "--yes"]).exits(3);
    host.ssh("test -e /etc/default/grub.d/99-vprov.cfg -o -e /etc/other").exits(1);
    let by_hand = resources.replace(
        "hugepages: { default_size: 2M, pages: { 2M: 40000000 } }",
        "kernel_cmdline: { parameters: [\"hugepagesz=2M hugepages=40000000\"] }",
    );
    env.write("hosts.yaml", lab::inventory(std::slice::from_ref(&host)) + &by_hand);
    env.vprov(["apply", "--yes"]).exits(3).says("! failed   kernel_cmdline[boot]").says("of the host's");
    host.ssh("test -e /etc/default/grub.d/99-vprov.cfg").exits(1);
}

const FILES: &str = "      - file: { path: /etc/app/big, content: \"{{ 'x' * 300000 }}\" }\n";

#[test]
fn a_full_disk_leaves_what_was_there() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, FILES);
    pair.bad.ssh("mkdir /etc/app; mount -t tmpfs -o size=64k tmpfs /etc/app; echo old >/etc/app/big").exits(0);
    // Seen before anything is written.
    pair.apply(&["refused", "the file system of `/etc/app` has", "KiB left, and the run needs"]);
    assert_eq!(pair.bad.ssh("cat /etc/app/big; ls -A /etc/app").exits(0).stdout, "old\nbig\n");
}

#[test]
fn a_read_only_file_system_is_told() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, FILES);
    pair.bad
        .ssh("mkdir /etc/app; mount -t tmpfs tmpfs /etc/app; echo old >/etc/app/big; mount -o remount,ro /etc/app")
        .exits(0);
    pair.apply(&["! failed file[/etc/app/big]", "Read-only file system"]);
    assert_eq!(pair.bad.ssh("cat /etc/app/big").exits(0).stdout, "old\n");
}

#[test]
fn a_host_whose_root_is_read_only_is_planned_and_refused() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, "      - file: { path: /etc/other, content: \"x\\n\" }\n");
    pair.bad.ssh("mount -o remount,ro /").exits(0);
    pair.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says("/run/vprov");
    pair.apply(&["Read-only file system"]);
    pair.bad.ssh("test -e /etc/other").exits(1);
}

#[test]
fn hosts_that_cannot_be_used_are_named_beside_the_one_that_can() {
    let Some(lab) = Lab::get() else { return };
    let pair = Pair::new(&lab, "      - file: { path: /etc/other, content: \"x\\n\" }\n");
    let inventory = std::fs::read_to_string(pair.env.dir().join("hosts.yaml")).expect("it was written");
    let with = |user: &str| {
        let ssh = format!("ssh: {{ port: {}", pair.bad.port);
        let own = inventory.replacen(&ssh, &format!("ssh: {{ user: {user}, become: true, port: {}", pair.bad.port), 1);
        pair.env.write("hosts.yaml", own);
        pair.env.vprov(["plan", "--json"])
    };
    for (user, words) in [
        ("noisy", "prints text before the command runs"),
        ("locked", "sudo"),
        ("requiretty", "requiretty"),
        ("nologin", "not available"),
    ] {
        let output = with(user).exits(3).says(words);
        assert!(
            output.stdout.contains("\"status\": \"failed\"") && output.stdout.contains("\"status\": \"planned\""),
            "{output:?}"
        );
    }
}

/// Two vprov on one host at once, again and again: one after the other, or the second is locked out, or the host moved.
#[test]
fn two_at_once_a_hundred_times_leave_one_of_two_states_and_whole_journals() {
    let env = Env::new();
    fs::create_dir_all(env.dir().join("root/etc")).expect("a directory can be made");
    let declare = |name: &str, round: usize| {
        let file = |path: &str| format!("{{ file: {{ path: {path}, content: \"{name} {round}\\n\" }} }}");
        let resources = ["/etc/one", "/etc/two", "/etc/deep/three"].map(file).join(", ");
        let hosts = format!("hosts: {{ image: {{ connection: local, resources: [ {resources} ] }} }}\n");
        env.write(&format!("{name}.yaml"), hosts);
    };
    let apply = |name: &str| env.vprov(["apply", &format!("{name}.yaml"), "--root", "root", "--yes"]);
    let read = |path: &str| fs::read_to_string(env.dir().join("root/etc").join(path)).expect("it is there");
    let (mut refused, names) = (0, ["a", "b"]);
    for round in 0..100 {
        names.iter().for_each(|name| declare(name, round));
        let outputs = thread::scope(|scope| {
            let running = names.map(|name| scope.spawn(move || apply(name)));
            running.map(|one| one.join().expect("the run ends"))
        });
        for output in &outputs {
            assert!(matches!(output.code, 0 | 3 | 5), "{output:?}");
            let said = output.stdout.contains("locked") || output.stdout.contains("moved since the plan; untouched");
            assert!(output.code == 0 || said, "{output:?}");
        }
        let done: Vec<&str> =
            names.iter().zip(&outputs).filter(|(_, output)| output.code == 0).map(|(name, _)| *name).collect();
        assert!(!done.is_empty(), "round {round}: {outputs:?}");
        refused += names.len() - done.len();
        let now = read("one");
        assert!(done.iter().any(|name| now == format!("{name} {round}\n")), "round {round}: {now} by {outputs:?}");
        assert_eq!((read("two"), read("deep/three")), (now.clone(), now), "round {round}: all files are of one run");
    }
    assert!(refused > 0, "in no round were two there at once");
    let history = env.vprov(["history", "a.yaml", "--root", "root", "--json"]).exits(0);
    let history: serde_json::Value = serde_json::from_str(&history.stdout).expect("it is JSON");
    let runs = history["hosts"][0]["runs"].as_array().expect("the runs are listed");
    assert!(runs.len() > 10 && runs.iter().all(|run| run["ending"] == "done"), "{history:#}");
    apply("a").exits(0);
    env.vprov(["plan", "a.yaml", "--root", "root", "--detailed-exitcode"]).exits(0);
}
