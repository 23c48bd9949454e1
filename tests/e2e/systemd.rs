//! On hosts with real systemd and kernel values of their own: what acts live does so, is judged by other programs than vprov,
//! and lasts over a reboot.

use std::thread;

use crate::one::One;

const DEMO: &str = "[Service]\\nExecStart=/bin/sleep infinity\\nExecReload=/bin/sh -c 'echo reloaded >>/run/demo.log'\\nExecStartPost=/bin/sh -c 'echo started >>/run/demo.log'\\n[Install]\\nWantedBy=multi-user.target\\n";

#[test]
fn values_of_the_kernel_are_written_and_last() {
    let Some(one) = One::systemd() else { return };
    let before = one.manifest();
    one.declare(
        r#"
      - swappiness: { value: 35 }
      - sysctl: { name: vm.dirty_ratio, value: 15 }
      - aio_max_nr: { value: 1048576 }
      - transparent_hugepages: { enabled: madvise, defrag: defer, method: tmpfiles }
      - ksm: { enabled: true, pages_to_scan: 1000 }
"#,
    );
    one.converges();
    let judge = |swappiness, dirty, aio, enabled, defrag, run, pages| {
        one.shows("cat /proc/sys/vm/swappiness /proc/sys/vm/dirty_ratio", &[swappiness, dirty]);
        one.shows("sysctl -n fs.aio-max-nr", &[aio]);
        one.shows("cat /sys/kernel/mm/transparent_hugepage/enabled", &[enabled]);
        one.shows("cat /sys/kernel/mm/transparent_hugepage/defrag", &[defrag]);
        one.shows("cat /sys/kernel/mm/ksm/run /sys/kernel/mm/ksm/pages_to_scan", &[run, pages]);
    };
    let defer = "always [defer] defer+madvise madvise never";
    judge("35", "15", "1048576", "always [madvise] never", defer, "1", "1000");
    // The kernel forgets; systemd-sysctl and systemd-tmpfiles write what vprov left for them.
    one.reboot();
    judge("35", "15", "1048576", "always [madvise] never", defer, "1", "1000");
    one.is_converged();
    one.goes_back(&before);
    one.reboot();
    one.manifest().is_as(&before);
    // Somebody else's value is seen and put right.
    one.converges();
    one.host.ssh("sysctl -w vm.swappiness=90; echo never >/sys/kernel/mm/transparent_hugepage/enabled").exits(0);
    one.converges();
    judge("35", "15", "1048576", "always [madvise] never", defer, "1", "1000");
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_value_that_a_later_file_overrides_is_told() {
    let Some(one) = One::systemd() else { return };
    one.host.ssh("echo vm.swappiness=77 >/etc/sysctl.d/99-z.conf").exits(0);
    one.declare("      - swappiness: { value: 35 }\n");
    one.env.vprov(["plan"]).exits(0).says("/etc/sysctl.d/99-z.conf");
    one.env.vprov(["apply", "--yes"]).exits(0);
    one.shows("sysctl -n vm.swappiness", &["35"]);
    one.reboot();
    one.shows("sysctl -n vm.swappiness", &["77"]);
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says("77 → 35");
}

#[test]
fn huge_pages_that_the_kernel_does_not_have_are_told_and_not_tried_again() {
    let Some(one) = One::systemd() else { return };
    let before = one.manifest();
    one.declare("      - hugepages: { default_size: 2M, pages: { 2M: 64, 1G: 1 }, reserve: 1G }\n");
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2);
    let pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    one.env.vprov(["apply", "--yes"]).exits(0).says("1 short").says("the kernel gave `40`");
    one.shows(&format!("cat {pool} /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"), &["40", "1"]);
    one.shows("findmnt -n -o FSTYPE,OPTIONS /dev/hugepages1G", &["hugetlbfs rw,relatime,pagesize=1024M"]);
    one.shows("systemctl is-enabled dev-hugepages1G.mount", &["enabled"]);
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("is 40 of 64");
    one.env.vprov(["plan", "--detailed-exitcode", "--retry-short"]).exits(2).says("40 → 64");
    one.reboot();
    // A boot may give what the last one did not, so it is tried once more.
    one.shows(&format!("cat {pool}"), &["40"]);
    one.shows("findmnt -n -o FSTYPE /dev/hugepages1G", &["hugetlbfs"]);
    one.env.vprov(["plan", "--detailed-exitcode"]).exits(2).says("40 → 64");
    one.goes_back(&before);
}

#[test]
fn a_mount_is_made_and_changed_and_there_after_a_boot() {
    let Some(one) = One::systemd() else { return };
    let declare = |options: &str| {
        one.declare(&format!("      - mount: {{ source: tmpfs, path: /srv/t, fstype: tmpfs, options: {options} }}\n"));
    };
    let shown = |options: &str| one.shows("findmnt -n -o FSTYPE,OPTIONS /srv/t", &[&format!("tmpfs {options}")]);
    declare("[size=1m, mode=0700]");
    one.converges();
    shown("rw,relatime,size=1024k,mode=700");
    one.shows(
        "systemctl show -p ActiveState,NeedDaemonReload srv-t.mount",
        &["ActiveState=active", "NeedDaemonReload=no"],
    );
    declare("[size=2m, mode=0700, noexec]");
    one.converges();
    shown("rw,noexec,relatime,size=2048k,mode=700");
    one.reboot();
    shown("rw,noexec,relatime,size=2048k,mode=700");
    one.is_converged();
    one.declare("      - mount: { path: /srv/t, ensure: absent }\n");
    one.env.vprov(["apply", "--yes"]).exits(3).says("guests would feel mount[/srv/t]");
    one.converges_by(&["apply", "--yes", "--allow", "guest-visible"]);
    one.host.ssh("findmnt /srv/t").exits(1);
    one.host.ssh("grep /srv/t /etc/fstab").exits(1);
}

#[test]
fn the_scheduler_of_a_disk_is_set_and_udev_knows_the_rule() {
    let Some(one) = One::systemd() else { return };
    let Some(disk) = one.disk() else { return };
    let before = one.manifest();
    one.declare(&format!("      - io_scheduler: {{ devices: {{ {disk}: kyber }} }}\n"));
    one.env.vprov(["plan"]).exits(0).says("udevadm control --reload");
    one.converges();
    one.shows(&format!("cat /sys/block/{disk}/queue/scheduler"), &["none mq-deadline [kyber] bfq"]);
    let tested = one.host.ssh(&format!("udevadm test /sys/block/{disk} 2>&1"));
    assert!(tested.stdout.contains(&format!("90-vprov-iosched-{disk}.rules")), "{tested:?}");
    one.goes_back(&before);
    one.declare(&format!("      - io_scheduler: {{ devices: {{ {disk}: deadlock }} }}\n"));
    one.env.vprov(["plan"]).exits(3).says("not `deadlock`");
}

#[test]
fn units_are_started_enabled_masked_and_the_rest_is_refused() {
    let Some(one) = One::systemd() else { return };
    let unit = "[Service]\\nExecStart=/bin/sleep infinity\\n";
    let install = "[Install]\\nWantedBy=multi-user.target\\n";
    one.host
        .ssh(&format!(
            "cd /usr/lib/systemd/system && printf '{unit}' >fixed.service && for u in a b c; do printf '{unit}{install}' >$u.service; done && systemctl daemon-reload && systemctl mask a && systemctl enable --now b c && systemctl mask c"
        ))
        .exits(0);
    one.declare(
        r"
      - service: { name: a, masked: false, enabled: true, running: true }
      - service: { name: b, masked: true, enabled: false, running: false }
      - service: { name: fixed, running: true }
      - service: { name: optional, running: true, optional: true }
",
    );
    one.converges().says("there is no unit `optional.service`");
    one.shows("systemctl is-active a b fixed", &["active", "inactive", "active"]);
    one.shows("systemctl is-enabled a b fixed", &["enabled", "masked", "static"]);
    one.reboot();
    one.shows("systemctl is-active a b fixed", &["active", "inactive", "inactive"]);
    one.converges();
    let refuse = |entry: &str, words: &str| {
        one.declare(&format!("      - service: {entry}\n"));
        one.env.vprov(["plan"]).exits(3).says(words);
    };
    refuse("{ name: fixed, enabled: true }", "cannot be enabled");
    refuse("{ name: missing, running: true }", "there is no unit `missing.service`");
    refuse("{ name: c, running: true }", "is masked");
}

#[test]
fn a_unit_is_reloaded_restarted_and_read_again_as_what_it_needs_changes() {
    let Some(one) = One::systemd() else { return };
    let declare = |content: &str, on_notify: &str, environment: &str, more: &str| {
        one.declare(&format!(
            r#"
      - file: {{ path: /etc/demo.conf, content: "{content}\n" }}
        notify: demo
      - setting: {{ file: /etc/default/demo, key: X, value: "1" }}
        notify: demo
      - file: {{ path: /etc/systemd/system/demo.service, content: "{DEMO}" }}
      - file: {{ path: /etc/systemd/system/demo.service.d/x.conf, content: "[Service]\nEnvironment=A={environment}\n" }}
      - service: {{ name: demo, enabled: true, running: true, on_notify: {on_notify} }}
        name: demo
{more}"#
        ));
    };
    let log = |lines: &[&str]| one.shows("cat /run/demo.log", lines);
    let known = |environment: &str| {
        one.shows(
            "systemctl show -p Environment,NeedDaemonReload demo",
            &[&format!("Environment=A={environment}"), "NeedDaemonReload=no"],
        );
    };
    declare("a", "reload", "1", "");
    one.converges();
    log(&["started"]);
    known("1");
    declare("b", "reload", "1", "");
    one.converges();
    log(&["started", "reloaded"]);
    declare("c", "restart", "2", "");
    one.converges();
    log(&["started", "reloaded", "started"]);
    known("2");
    // What fails between the change and the restart leaves the restart owed.
    declare("d", "restart", "2", "      - command: { argv: [\"false\"], creates: /run/never }\n        notify: demo\n");
    one.env.vprov(["apply", "--yes"]).exits(3);
    log(&["started", "reloaded", "started"]);
    declare("d", "restart", "2", "");
    one.converges();
    log(&["started", "reloaded", "started", "started"]);
}

#[test]
fn a_link_that_is_cut_in_the_middle_of_an_apply_leaves_a_host_that_converges() {
    let Some(one) = One::systemd() else { return };
    one.declare(
        r#"
      - command: { argv: [sh, -c, "touch /run/began; sleep 4; touch /run/done"], creates: /run/done }
        name: slow
      - file: { path: /etc/after, content: "x\n" }
        requires: slow
      - swappiness: { value: 35 }
        requires: slow
"#,
    );
    let (env, host) = (&one.env, &one.host);
    thread::scope(|scope| {
        let applied = scope.spawn(|| env.vprov(["apply", "--yes"]));
        one.wait("the apply begins", || host.ssh("test -e /run/began").code == 0);
        host.lab("cut");
        applied.join().expect("the run ends").exits(4).says("not responding");
        host.lab("join");
    });
    one.wait("the host answers", || host.ssh("test -e /run/done").code == 0);
    env.vprov(["apply", "--yes"]).exits(0);
    one.is_converged();
    one.shows("cat /etc/after /proc/sys/vm/swappiness", &["x", "35"]);
}
