//! On a machine that boots: what vprov wrote is what GRUB boots, what systemd applies and what the kernel then reports.

use crate::{
    lab::{self, Host, Lab},
    program::{Env, Output},
};
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
};

/// Each family in one profile.
const PROFILE: &str = r"
      - hugepages: { default_size: 2M, pages: { 2M: 24 }, reserve: 512M }
      - transparent_hugepages: { enabled: madvise, defrag: defer }
      - io_scheduler: { devices: { vdb: none } }
      - io_scheduler: { devices: { vdc: none }, method: tmpfiles }
      - swappiness: { value: 35 }
      - sysctl: { name: vm.dirty_ratio, value: 15 }
      - aio_max_nr: { value: 1048576 }
      - ksm: { enabled: true, pages_to_scan: 500 }
      - nfs_mount:
          source: 127.0.0.1:/srv/images
          path: /mnt/images
          options: [hard, noatime, vers=4.2, x-systemd.requires=nfs-server.service]
";

/// What the other programs of the host show when the profile is in force.
const IN_FORCE: &[(&str, &str)] = &[
    ("cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "24"),
    ("cat /sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    ("cat /sys/kernel/mm/transparent_hugepage/defrag", "always [defer] defer+madvise madvise never"),
    ("cat /sys/block/vdb/queue/scheduler", "[none] mq-deadline"),
    ("cat /sys/block/vdc/queue/scheduler", "[none] mq-deadline"),
    ("cat /sys/block/vda/queue/scheduler", "[mq-deadline] none"),
    ("sysctl -n vm.swappiness vm.dirty_ratio fs.aio-max-nr", "35 15 1048576"),
    ("cat /sys/kernel/mm/ksm/run /sys/kernel/mm/ksm/pages_to_scan", "1 500"),
    ("findmnt -n -o SOURCE,FSTYPE /mnt/images", "127.0.0.1:/srv/images nfs4"),
    ("findmnt -n -o OPTIONS /mnt/images | tr , '\\n' | grep -xE 'hard|noatime|vers=4.2'", "noatime vers=4.2 hard"),
    ("echo 1 >/mnt/images/written && cat /srv/images/written && rm /srv/images/written", "1"),
    ("systemctl is-system-running", "running"),
];

/// The parameters that the profile puts on the kernel's command line.
const PARAMETERS: &str = "default_hugepagesz=2M hugepagesz=2M hugepages=24 transparent_hugepage=madvise";

/// One machine, and the world of the runs against it.
struct One {
    host: Host,
    env: Env,
}

impl One {
    fn of(lab: Option<Lab>) -> Option<One> {
        let host = lab?.host();
        let env = host.env();
        Some(One { host, env })
    }

    /// Declares the machine to have these resources, and nothing else.
    fn declare(&self, resources: &str) {
        let host = std::slice::from_ref(&self.host);
        let group = format!("groups:\n  all_of_them:\n    hosts: [\"machine*\"]\n    resources:\n{resources}");
        self.env.write("hosts.yaml", lab::inventory(host) + &group);
    }

    #[track_caller]
    fn apply(&self) -> Output {
        self.env.vprov(["apply", "--yes"]).exits(0)
    }

    /// There is nothing to change, and nothing waits for a boot.
    #[track_caller]
    fn is_in_force(&self) {
        let output = self.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.");
        output.never_says("waiting for a reboot").never_says("interrupted");
    }

    /// Compares what each command prints on the machine, whatever the white space between words.
    #[track_caller]
    fn shows(&self, expected: &[(&str, &str)]) {
        for (command, words) in expected {
            let output = self.host.ssh(command);
            assert_eq!(output.stdout.split_whitespace().collect::<Vec<_>>().join(" "), *words, "{command}: {output:?}");
        }
    }

    /// The command line that the kernel was booted with.
    #[track_caller]
    fn command_line(&self) -> String {
        self.host.ssh("cat /proc/cmdline").exits(0).stdout
    }

    /// Everything below /etc and /boot with type, mode, owner, target, attributes and content; of the menu, which is generated, the
    /// lines that boot something.
    #[track_caller]
    fn manifest(&self) -> Vec<String> {
        let command = "cd / && find etc boot -xdev -printf '%p %y %m %U:%G %l\\n' && \
            find etc boot -xdev -type f ! -name grub.cfg -exec sha256sum {} + && getfattr -R -h -d -m - etc boot && \
            grep -E '^[[:space:]]*(linux|initrd|menuentry|submenu)' boot/grub/grub.cfg";
        let output = self.host.ssh(command).exits(0).stdout;
        let mut lines: Vec<String> = output.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Takes back what the last run did.
    #[track_caller]
    fn roll_back(&self) {
        self.env.vprov(["rollback", "--yes"]).exits(0).says("taken back");
    }

    /// The name that the kernel gave to this boot.
    #[track_caller]
    fn boot(&self) -> String {
        self.host.ssh("cat /proc/sys/kernel/random/boot_id").exits(0).stdout
    }

    /// Applies, and cuts the power as soon as this command line ends on the machine; then has it boot.
    #[track_caller]
    fn apply_with_a_power_cut(&self, when: &str) {
        let mut watch = Command::new("ssh")
            .arg("-F")
            .arg(&self.host.ssh_config)
            .args([&self.host.name, &format!("{when}; echo now")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh starts");
        let out = watch.stdout.take().expect("stdout is piped");
        thread::scope(|scope| {
            let cut = scope.spawn(|| self.env.vprov(["apply", "--yes"]));
            let said = BufReader::new(out).lines().next();
            self.host.lab("kill");
            watch.wait().expect("ssh ends");
            let applied = cut.join().expect("the run ends");
            assert_eq!(said.and_then(Result::ok).as_deref(), Some("now"), "{when}: {applied:?}");
            applied.exits(4);
        });
        self.host.lab("start");
    }
}

/// Fails with the lines that differ.
#[track_caller]
fn same(now: &[String], then: &[String]) {
    let only =
        |one: &[String], other: &[String]| one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>();
    assert!(now == then, "now {:#?}\nthen {:#?}", only(now, then), only(then, now));
}

#[test]
fn a_profile_outlives_a_boot_goes_back_by_another_and_converges_after_a_power_cut() {
    let Some(one) = One::of(Lab::machine()) else { return };
    let (before, old_line) = (one.manifest(), one.command_line());
    let boot = one.boot();

    // What would not boot is refused, and nothing is written.
    one.declare("      - hugepages: { pages: { 2M: 480 } }\n      - swappiness: { value: 35 }\n");
    one.env.vprov(["plan"]).exits(3).says("might not boot");
    one.declare("      - kernel_cmdline: { parameters: [hugepagesz=2M hugepages=480] }\n");
    one.env.vprov(["apply", "--yes"]).exits(3).says("might not boot");
    same(&one.manifest(), &before);

    // What a server exports has an owner and a mode that are not those of the mount point.
    one.host.ssh("chown games:games /srv/images && chmod 2775 /srv/images").exits(0);

    // Forward. What the kernel takes while it runs is in force at once, the command line after a boot.
    one.declare(PROFILE);
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says(PARAMETERS);
    one.apply();
    let output = one.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.");
    output.says("1 waiting for a reboot").says("reboot pending");
    assert_eq!(one.command_line(), old_line);
    one.host.lab("reboot");
    assert_ne!(one.boot(), boot);
    one.shows(IN_FORCE);
    assert!(one.command_line().contains(PARAMETERS), "{}", one.command_line());
    one.is_in_force();

    // Back.
    one.roll_back();
    same(&one.manifest(), &before);
    one.host.lab("reboot");
    assert_eq!(one.command_line(), old_line);
    same(&one.manifest(), &before);
    one.shows(&[
        ("cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages /sys/kernel/mm/ksm/run", "0 0"),
        ("cat /sys/block/vdb/queue/scheduler", "[mq-deadline] none"),
        ("sysctl -n vm.swappiness", "60"),
        ("findmnt -n /mnt/images", ""),
        ("systemctl is-system-running", "running"),
    ]);

    // Forward again; the power fails between the write of the drop-in and the new menu.
    let hold = "#!/bin/sh\\n[ ! -e /run/hold ] || { touch /run/held; sleep 3600; }\\n";
    let install =
        format!("printf '{hold}' >/etc/grub.d/99_hold && chmod 755 /etc/grub.d/99_hold && touch /run/hold && sync");
    one.host.ssh(&install).exits(0);
    one.apply_with_a_power_cut("until [ -e /run/held ]; do sleep 1; done");
    assert_eq!(one.command_line(), old_line, "the menu is still the old one");
    one.shows(&[("grep -c hugepages=24 /etc/default/grub.d/99-vprov.cfg", "1")]);
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says("! interrupted: run ");
    one.apply();
    let output = one.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.");
    output.says("1 waiting for a reboot").never_says("interrupted");
    one.shows(&[("grep -c 'linux.* hugepages=24 ' /boot/grub/grub.cfg", "3"), ("sysctl -n vm.swappiness", "35")]);
}

#[test]
#[ignore = "long: boots twenty times"]
fn a_power_cut_at_any_of_twenty_records_of_a_run_is_followed_by_an_apply_that_converges_or_a_rollback() {
    let Some(one) = One::of(Lab::machine()) else { return };
    let before = one.manifest();
    one.declare(PROFILE);
    one.apply();
    let runs = "cd /var/lib/vprov/runs && set -- *";
    let output = one.host.ssh(&format!("{runs} && wc -l <$1/journal")).exits(0);
    let records: usize = output.stdout.trim().parse().expect("wc prints a number");
    one.roll_back();
    same(&one.manifest(), &before);
    for cut in 0..20 {
        // The first two and the last records are no cut of a run.
        let record = 3 + cut * (records - 5) / 19;
        let old = one.host.ssh(&format!("{runs} && echo \"${{!#}}\"")).exits(0).stdout;
        let when = format!(
            "{runs}; while [ \"${{!#}}\" = {} ]; do sleep 0.1; set -- *; done; \
            until mapfile -t lines 2>/dev/null <${{!#}}/journal && [ ${{#lines[@]}} -ge {record} ]; do sleep 0.02; done",
            old.trim()
        );
        one.apply_with_a_power_cut(&when);
        let left = one.host.ssh(&format!("{runs} && tail -n 1 \"${{!#}}/journal\"")).exits(0).stdout;
        eprintln!("cut {cut}: record {record} of {records}; on the disk the last is {left}");
        one.env.vprov(["plan"]).exits(0).says("! interrupted: run ");
        if cut % 2 == 0 {
            one.apply();
            one.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.").never_says("interrupted");
            one.roll_back();
        }
        one.roll_back();
        same(&one.manifest(), &before);
    }
}

#[test]
#[ignore = "long: boots Xen"]
fn the_share_of_dom0_is_what_xen_has_after_a_reboot() {
    let Some(one) = One::of(Lab::xen()) else { return };
    let before = one.manifest();
    let shares = "xl info | sed -n 's/^xen_commandline *: //p' | grep -o 'dom0_[^ ]*'";
    one.shows(&[(shares, "")]);
    one.declare("      - xen_dom0: { dom0_mem: '400M,max:400M', max_vcpus: '1' }\n");
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says("dom0_mem=400M,max:400M");
    one.apply();
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.").says("1 waiting for a reboot");
    one.host.lab("reboot");
    one.shows(&[
        (shares, "dom0_mem=400M,max:400M dom0_max_vcpus=1"),
        ("xl list | awk '$1 == \"Domain-0\" { print $3, $4 }'", "400 1"),
        ("systemctl is-system-running", "running"),
    ]);
    one.is_in_force();
    one.roll_back();
    same(&one.manifest(), &before);
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says("dom0_mem=400M,max:400M");
}
