//! Hosts are reached, and each way in which that fails has its own words.

use std::{net::TcpListener, path::Path, sync::Arc, thread};

use vprov::{
    host::{
        Host as _, HostError,
        path::AbsPath,
        read::{Answer, Read},
        run::{Applied, Run, RunId},
    },
    transport::{Connector, Mode, Options, Target, pipes::Pipes, privilege::Password, remote::RemoteHost},
};

use crate::{
    lab::{Host, Lab},
    program::Env,
};

const BINARY: &str = env!("CARGO_BIN_EXE_vprov");

fn options() -> Options {
    Options { binary: BINARY.into(), ..Options::default() }
}

fn connector() -> Connector {
    Connector::new(options())
}

fn with_password(password: &str) -> Connector {
    Connector::new(Options { password: Some(Arc::new(Password::new(password))), ..options() })
}

/// The host as `user`, who becomes root by sudo unless the user is root.
fn target(host: &Host, user: &str) -> Target {
    Target {
        user: Some(user.into()),
        config_file: Some(host.ssh_config.clone()),
        r#become: user != "root",
        ..Target::new(&host.name)
    }
}

#[track_caller]
fn connected(connector: &Connector, target: &Target) -> RemoteHost<Pipes> {
    connector.connect(target, Mode::Observe).unwrap_or_else(|error| panic!("{target:?}: {error}"))
}

#[track_caller]
fn refused(connector: &Connector, target: &Target, words: &str) -> HostError {
    match connector.connect(target, Mode::Observe) {
        Ok(_) => panic!("{target:?} was reached"),
        Err(error) => {
            assert!(error.to_string().contains(words), "{error}");
            error
        }
    }
}

#[track_caller]
fn hostname(host: &mut RemoteHost<Pipes>) -> String {
    let question = Read::content(AbsPath::known("/etc/hostname"));
    let answers = host.read(&[question]).expect("the host answers");
    answers[0].content().expect("there is a host name").lossy().trim().to_owned()
}

#[test]
fn the_executor_is_pushed_once() {
    let Some(lab) = Lab::get() else { return };
    let lab_host = lab.host();
    let target = target(&lab_host, "root");
    let connector = connector();
    let mut first = connected(&connector, &target);
    assert_eq!(first.pushed(), Some("/var/lib/vprov"));
    assert_eq!((first.hello().uid, first.hello().observe), (0, true));
    assert_eq!(hostname(&mut first), lab_host.name);
    let mut second = connector.connect(&target, Mode::Apply).expect("the host is reached again");
    assert_eq!(second.pushed(), None);
    assert!(!second.hello().observe);
    assert_eq!(hostname(&mut second), lab_host.name);
    let run = Run { id: RunId::new(1, 1), by: "test".into(), confirm_within: None, works: vec![] };
    assert!(matches!(first.apply(&run, &mut |_| {}), Err(HostError::Refused(_))), "an observer changes nothing");
    assert!(matches!(second.apply(&run, &mut |_| {}), Ok(Applied::Ran { .. })));
    let listing = lab_host.ssh("cd /var/lib/vprov/executor && ls -ln . */ && ls -A */").exits(0).stdout;
    assert!(!listing.lines().any(|line| line.starts_with('.') && line.len() > 2 && !line.ends_with(':')), "{listing}");
    assert_eq!(
        lab_host.ssh("stat -c '%a %u' /var/lib/vprov /var/lib/vprov/executor/*/vprov").exits(0).stdout,
        "700 0\n700 0\n"
    );
}

#[test]
fn an_executor_that_is_not_trusted_is_not_started() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let target = target(&host, "root");
    assert!(connected(&connector(), &target).pushed().is_some());
    let pushed = |command: &str| {
        host.ssh(command).exits(0);
        connected(&connector(), &target).pushed().map(str::to_owned)
    };
    assert_eq!(pushed("truncate -s 1000 /var/lib/vprov/executor/*/vprov").as_deref(), Some("/var/lib/vprov"));
    assert_eq!(pushed("true"), None);
    assert_eq!(pushed("chmod go+w /var/lib/vprov/executor").as_deref(), Some("/run/vprov"));
    assert_eq!(pushed("chown 1000 /run/vprov; chmod go-w /var/lib/vprov/executor"), None);
    assert_eq!(pushed("mv /var/lib/vprov /var/lib/v; ln -s v /var/lib/vprov; chown 0 /run/vprov"), None);
    host.ssh("chown 1000 /run/vprov").exits(0);
    refused(&connector(), &target, "belongs to somebody else or can be changed by others");
}

#[test]
fn an_installed_executor_is_used_if_it_is_the_same_build() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let installed = Target { executor: Some(AbsPath::known("/usr/local/bin/vprov")), ..target(&host, "root") };
    refused(&connector(), &installed, "there is no file /usr/local/bin/vprov");
    std::fs::copy(BINARY, host.path("/usr/local/bin/vprov")).expect("the binary can be copied");
    assert_eq!(connected(&connector(), &installed).pushed(), None);
    host.ssh("test -e /var/lib/vprov").exits(1);
    host.ssh("printf x >>/usr/local/bin/vprov").exits(0);
    refused(&connector(), &installed, "another build");
    host.ssh("chmod o+w /usr/local/bin").exits(0);
    refused(&connector(), &installed, "can be changed by others");
}

#[test]
fn users_become_root_as_sudo_lets_them() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let uid = |connector: &Connector, user: &str| connected(connector, &target(&host, user)).hello().uid;
    assert_eq!(uid(&connector(), "root"), 0);
    assert_eq!(uid(&connector(), "admin"), 0);
    assert_eq!(uid(&with_password("correct horse"), "pass"), 0);
    refused(&connector(), &target(&host, "pass"), "--ask-become-pass");
    refused(&connector(), &target(&host, "locked"), "--ask-become-pass");
    refused(&connector(), &target(&host, "requiretty"), "requiretty");
    refused(&with_password("battery staple"), &target(&host, "locked"), "no right to become root");
}

#[test]
fn a_user_who_is_not_root_observes_what_that_user_may() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let plain = Target { r#become: false, ..target(&host, "locked") };
    let connector = connector();
    let mut remote = connected(&connector, &plain);
    assert!(remote.hello().uid != 0 && remote.pushed().is_some_and(|path| path.ends_with("/.cache/vprov")));
    assert_eq!(hostname(&mut remote), host.name);
    let shadow = remote.read(&[Read::content(AbsPath::known("/etc/shadow"))]).expect("the host answers");
    assert_eq!(shadow, [Answer::Denied]);
    assert_eq!(connected(&connector, &plain).pushed(), None);
}

#[test]
fn the_first_rejection_of_a_password_stops_further_hosts() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let connector = with_password("wrong");
    refused(&connector, &target(&hosts[0], "pass"), "rejected the password");
    refused(&connector, &target(&hosts[1], "pass"), "another host rejected it");
    assert!(connector.connect(&target(&hosts[1], "admin"), Mode::Observe).is_ok(), "sudo does not ask everywhere");
    let log = hosts[0].ssh("ps ax").exits(0).stdout;
    assert!(!log.contains("wrong"), "{log}");
}

#[test]
fn a_saved_timestamp_of_sudo_is_enough() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    host.ssh("echo 'Defaults timestamp_type=global' >/etc/sudoers.d/global; chmod 440 /etc/sudoers.d/global").exits(0);
    refused(&connector(), &target(&host, "pass"), "--ask-become-pass");
    host.ssh_as("pass", "echo correct horse | sudo -S true").exits(0);
    assert_eq!(connected(&connector(), &target(&host, "pass")).hello().uid, 0);
    host.ssh_as("pass", "sudo -K").exits(0);
    refused(&connector(), &target(&host, "pass"), "--ask-become-pass");
}

#[test]
fn root_needs_no_sudo() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    host.ssh("chmod 0 /usr/bin/sudo; mv /usr/bin/sudo /usr/bin/no-sudo").exits(0);
    // The ssh configuration says who logs in.
    let unsaid = Target { user: None, r#become: true, ..target(&host, "root") };
    assert_eq!(connected(&connector(), &unsaid).hello().uid, 0);
    refused(&connector(), &target(&host, "admin"), "there is no sudo");
}

#[test]
fn a_host_behind_another_is_reached_through_it() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let behind = Target { proxy_jump: Some(hosts[0].name.clone()), ..target(&hosts[1], "root") };
    let connector = connector();
    assert_eq!(hostname(&mut connected(&connector, &behind)), hosts[1].name);
    drop(connector);
    hosts[0].stop();
    refused(&self::connector(), &behind, "");
}

#[test]
fn login_shells_work_or_are_named() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let plain = |user| Target { r#become: false, ..target(&host, user) };
    connected(&connector(), &plain("fish"));
    refused(&connector(), &plain("noisy"), "the login shell of noisy@lab");
    let noise = refused(&connector(), &plain("noisy"), "prints text before the command runs");
    assert!(noise.to_string().contains("Welcome to the lab"), "{noise}");
    refused(&connector(), &plain("nologin"), "not available");
    refused(&connector(), &plain("false"), "ended (exit status 1) without starting vprov");
}

#[test]
fn a_host_without_room_for_the_executor_says_why() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let target = target(&host, "root");
    host.ssh("mount -t tmpfs -o noexec tmpfs /var/lib").exits(0);
    assert_eq!(connected(&connector(), &target).pushed(), Some("/run/vprov"));
    host.ssh("rm -r /run/vprov; mount -t tmpfs -o size=1m tmpfs /run; mkdir /run/sshd").exits(0);
    refused(&connector(), &target, "No space left on device");
    host.ssh("test -z \"$(find /run/vprov -type f)\"").exits(0);
    host.ssh("umount /run; mount -o remount,ro /run").exits(0);
    let error = refused(&connector(), &target, "Read-only file system");
    assert!(error.to_string().contains("noexec"), "{error}");
}

#[test]
fn a_system_that_vprov_is_not_for_is_named() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let target = target(&host, "root");
    let pretend = |system: &str| {
        host.write("/usr/local/bin/uname", &format!("#!/bin/sh\necho {system}\n"));
        host.ssh("chmod 755 /usr/local/bin/uname").exits(0);
    };
    pretend("FreeBSD amd64");
    refused(&connector(), &target, "no Linux: it calls itself `FreeBSD amd64`");
    pretend("Linux aarch64");
    refused(&connector(), &target, "--executor-dir");
    let others = Env::new();
    std::fs::copy(BINARY, others.dir().join("vprov-aarch64")).expect("the binary can be copied");
    let connector = Connector::new(Options { executor_dir: Some(others.dir().into()), ..options() });
    assert!(connected(&connector, &target).pushed().is_some());
    pretend("Linux riscv64");
    refused(&connector, &target, "vprov-riscv64");
}

#[test]
fn a_host_that_cannot_be_reached_says_why() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let env = Env::new();
    let config = |name: &str, options: &str| {
        let text = format!("{options}\nInclude {}\n", host.ssh_config.display());
        env.write(name, text)
    };
    let with = |file: &Path| Target { config_file: Some(file.into()), ..target(&host, "root") };

    let other_key = env.dir().join("other");
    let other = other_key.to_str().expect("temporary directories are UTF-8");
    env.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", other], "").exits(0);
    let key = std::fs::read_to_string(other_key.with_extension("pub")).expect("there is a key");
    let known = env.write("changed", format!("[{0}]:{1} {key}\n{0} {key}", host.address, host.port));
    let changed = config("c1", &format!("UserKnownHostsFile {}", known.display()));
    refused(&connector(), &with(&changed), "the host key of");
    refused(&connector(), &with(&changed), "ssh-keygen -R");
    let unknown = config("c2", "UserKnownHostsFile /dev/null");
    refused(&connector(), &with(&unknown), "not known yet");
    refused(&connector(), &target(&host, "nobody-here"), "was not let in");
    refused(&connector(), &with(&config("c4", "NoSuchOption yes")), "ssh configuration is wrong");
    refused(
        &connector(),
        &Target { address: Some("no-such-host.invalid".into()), ..target(&host, "root") },
        "is unknown",
    );
    refused(
        &connector(),
        &Target { address: Some("-oProxyCommand=x".into()), ..target(&host, "root") },
        "no name of a host",
    );

    let closing = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = closing.local_addr().expect("it is bound").port();
    thread::spawn(move || closing.incoming().for_each(drop));
    let closed = Target { address: Some("127.0.0.1".into()), port: Some(port), ..target(&host, "root") };
    refused(&connector(), &closed, "closed the connection");

    host.stop();
    refused(&connector(), &target(&host, "root"), "refused the connection");
}

#[test]
fn an_executor_that_dies_is_told() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let connector = connector();
    let mut remote = connected(&connector, &target(&host, "root"));
    host.ssh("pkill -9 -x vprov").exits(0);
    let question = [Read::content(AbsPath::known("/etc/hostname"))];
    let error = remote.read(&question).expect_err("it is dead");
    assert!(error.to_string().contains("the executor ended before it answered"), "{error}");
    assert!(matches!(remote.read(&question), Err(HostError::Unreachable(_))));
    let mut remote = connected(&connector, &target(&host, "root"));
    host.stop();
    assert!(matches!(remote.read(&question), Err(HostError::Unreachable(_))));
}

#[test]
fn hosts_are_reached_in_parallel_and_leave_nothing_behind() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(3);
    let connector = connector();
    let names: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(|| hostname(&mut connected(&connector, &target(host, "admin")))))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(names.iter().eq(hosts.iter().map(|host| &host.name)), "{names:?}");
    drop(connector);
    for host in &hosts {
        let mut left = String::new();
        for _ in 0..50 {
            left = host.ssh("pgrep -x vprov").stdout;
            if left.is_empty() {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_eq!(left, "", "an executor goes on on {}", host.name);
    }
}

#[test]
fn this_machine_and_a_root_are_reached_without_ssh() {
    let env = Env::new();
    env.write("etc/hostname", "elsewhere\n");
    let root = Target { root: Some(env.dir().into()), ..Target::new("image") };
    let connector = connector();
    let mut remote = connected(&connector, &root);
    assert_eq!((hostname(&mut remote).as_str(), remote.pushed()), ("elsewhere", None));
    let local = Target { local: true, ..Target::new("localhost") };
    let mut remote = connected(&connector, &local);
    let here = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let question = Read::content(AbsPath::known("/etc/hostname"));
    let answer = remote.read(&[question]).expect("this machine answers").remove(0);
    assert_eq!(answer.content().map(|content| content.lossy().into_owned()).unwrap_or_default(), here);
    let nowhere = Target { root: Some(env.dir().join("nowhere")), ..Target::new("image") };
    refused(&connector, &nowhere, "nowhere");
}
