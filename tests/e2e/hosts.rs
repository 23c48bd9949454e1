//! The test hosts themselves are what the other tests take them for.

use crate::{
    lab::{self, Lab},
    program::Env,
};

#[test]
fn every_host_answers_with_strict_host_keys_and_is_one_of_its_own() {
    let Some(lab) = Lab::get() else { return };
    for host in lab.hosts(3) {
        let output = host.ssh("hostname; cat /etc/hostname").exits(0);
        assert_eq!(output.stdout, format!("{0}\n{0}\n", host.name));
        assert_eq!(host.read("/etc/hostname"), format!("{}\n", host.name));
        let known_hosts = host.known_hosts.to_str().expect("the lab's directory is UTF-8");
        Env::new().run("ssh-keygen", ["-F", &host.address, "-f", known_hosts], "").exits(0);
    }
}

#[test]
fn a_host_that_a_test_changed_is_fresh_for_the_next() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    host.write("/etc/mark", "mine\n");
    assert_eq!(host.ssh("cat /etc/mark").exits(0).stdout, "mine\n");
    let number = host.name.clone();
    drop(host);
    for host in lab.hosts(2) {
        let seen = host.ssh("test -e /etc/mark").code;
        assert_eq!(seen, 1, "{} after {number} was changed", host.name);
    }
}

#[test]
fn no_host_writes_the_values_of_this_machine() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    for path in ["/proc/sys/vm/swappiness", "/proc/sys/kernel", "/sys/kernel/mm", "/sys/block"] {
        host.ssh(&format!("test -e {path}")).exits(0);
        host.ssh(&format!("test -w {path}")).exits(1);
    }
}

#[test]
fn a_stopped_host_refuses_connections() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    host.stop();
    let output = host.ssh("true").exits(255);
    assert!(output.stderr.contains("Connection refused"), "{output:?}");
}

#[test]
fn the_users_have_the_rights_that_their_names_say() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let check = |user: &str, command: &str, code: i32, words: &str| {
        let output = host.ssh_as(user, command).exits(code);
        assert!(output.stdout.contains(words) || output.stderr.contains(words), "{user}: {output:?}");
    };
    check("admin", "sudo -n id -u", 0, "0");
    check("pass", "sudo -n id -u", 1, "a password is required");
    check("pass", "echo correct horse | sudo -S id -u", 0, "0");
    check("locked", "echo battery staple | sudo -S id -u", 1, "not in the sudoers file");
    check("requiretty", "sudo -n id -u", 1, "you must have a tty");
    check("noisy", "true", 0, "Welcome to the lab");
    // Fish ends with 0 here although it ran nothing.
    check("fish", "x=1; true", 0, "Unsupported use of '='");
    check("nologin", "true", 1, "not available");
    check("false", "true", 1, "");
}

#[test]
fn the_inventory_has_the_hosts() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let text = lab::inventory(&hosts);
    assert!(text.contains(&hosts[0].name) && text.contains(&hosts[1].address), "{text}");
}
