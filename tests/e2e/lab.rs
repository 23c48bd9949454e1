//! The hosts of `tests/lab/light`, `tests/lab/systemd` and `tests/lab/machine`, as tests see them.

use crate::program::{Env, Output};
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// The hosts that `up N` of one of these scripts has started.
pub struct Lab {
    state: PathBuf,
    /// `light`, `systemd` or `machine`.
    script: &'static str,
}

/// One host that this test has for itself: as freshly made, and given back when this value is dropped.
pub struct Host {
    /// `lab3`: its name in the ssh configuration and its own host name.
    pub name: String,
    /// Its address, below 127.0.0.0/8.
    pub address: String,
    /// The port of its sshd.
    pub port: u16,
    /// The private key that opens root and every other user.
    pub key: PathBuf,
    /// An ssh configuration by which `ssh -F … NAME` works with strict host keys.
    pub ssh_config: PathBuf,
    /// The host keys of all hosts of the lab.
    pub known_hosts: PathBuf,
    dir: PathBuf,
    state: PathBuf,
    script: &'static str,
    _lock: File,
}

impl Lab {
    /// The lab that `VPROV_TEST_LAB` names, or nothing after a line `SKIP test: words`.
    pub fn get() -> Option<Lab> {
        Lab::named("light", "VPROV_TEST_LAB")
    }

    /// The lab of systemd hosts that `VPROV_TEST_SYSTEMD` names, or nothing after a line `SKIP test: words`.
    pub fn systemd() -> Option<Lab> {
        Lab::named("systemd", "VPROV_TEST_SYSTEMD")
    }

    /// The lab of machines that `VPROV_TEST_MACHINE` names, or nothing after a line `SKIP test: words`.
    pub fn machine() -> Option<Lab> {
        Lab::named("machine", "VPROV_TEST_MACHINE")
    }

    /// The lab with a machine that boots Xen, named by `VPROV_TEST_XEN`, or nothing after a line `SKIP test: words`.
    pub fn xen() -> Option<Lab> {
        Lab::named("machine", "VPROV_TEST_XEN")
    }

    fn named(script: &'static str, variable: &str) -> Option<Lab> {
        match std::env::var_os(variable) {
            Some(state) => {
                let state = PathBuf::from(state);
                assert!(state.join("ssh_config").exists(), "{variable}={} is no running lab", state.display());
                Some(Lab { state, script })
            }
            None => {
                let why = std::env::var(format!("{variable}_WHY"));
                skip(&why.unwrap_or_else(|_| format!("no test hosts: {variable} is not set; tests/run starts them")));
                None
            }
        }
    }

    /// One fresh host for this test alone.
    pub fn host(&self) -> Host {
        self.hosts(1).remove(0)
    }

    /// Some fresh hosts for this test alone, in the order of their numbers; waits until so many are free.
    pub fn hosts(&self, count: usize) -> Vec<Host> {
        self.take(count, &[])
    }

    /// One fresh host with the layout of a distribution, by its name in `tests/lab/distribution`.
    pub fn host_of(&self, distribution: &str) -> Host {
        self.take(1, &["--distribution", distribution]).remove(0)
    }

    fn take(&self, count: usize, options: &[&str]) -> Vec<Host> {
        let all = self.numbers();
        assert!(count <= all.len(), "this test needs {count} hosts and the lab has {}", all.len());
        let allocation = File::create(self.state.join("allocation")).expect("the lab's directory can be written");
        let taken = loop {
            // All or none under one lock, so that two tests never wait for each other.
            allocation.lock().expect("the allocation can be locked");
            let free: Vec<(u32, File)> =
                all.iter().filter_map(|i| Some((*i, self.try_lock(*i)?))).take(count).collect();
            allocation.unlock().expect("the allocation can be unlocked");
            if free.len() == count {
                break free;
            }
            drop(free);
            thread::sleep(Duration::from_millis(100));
        };
        let options = options.iter().map(|&option| option.to_owned());
        run(self.script, &self.state, "reset", options.chain(taken.iter().map(|(i, _)| i.to_string())));
        taken.into_iter().map(|(i, lock)| self.describe(i, lock)).collect()
    }

    fn numbers(&self) -> Vec<u32> {
        let entries = std::fs::read_dir(self.state.join("hosts")).expect("the lab has hosts");
        let mut numbers: Vec<u32> =
            entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    fn try_lock(&self, i: u32) -> Option<File> {
        let file = File::create(self.state.join(format!("hosts/{i}/lock"))).expect("the host has a directory");
        match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Error(error)) => panic!("host {i} cannot be locked: {error}"),
        }
    }

    fn describe(&self, i: u32, lock: File) -> Host {
        let dir = self.state.join(format!("hosts/{i}"));
        let read =
            |name: &str| std::fs::read_to_string(dir.join(name)).expect("a host has its files").trim().to_owned();
        Host {
            name: read("name"),
            address: read("address"),
            port: read("port").parse().expect("a port is a number"),
            key: self.state.join("key"),
            ssh_config: self.state.join("ssh_config"),
            known_hosts: self.state.join("known_hosts"),
            dir: dir.clone(),
            state: self.state.clone(),
            script: self.script,
            _lock: lock,
        }
    }
}

impl Host {
    /// Where a file of the host lies as this machine sees it. An absolute symbolic link there leads into this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.join("root").join(path.trim_start_matches('/'))
    }

    /// The text of a file of the host, read past vprov and ssh.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path} of {}: {error}", self.name))
    }

    /// Puts a file on the host, past vprov and ssh.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path(path), text).unwrap_or_else(|error| panic!("{path} of {}: {error}", self.name));
    }

    /// Runs a command line on the host by the real ssh, as root.
    pub fn ssh(&self, command: &str) -> Output {
        self.ssh_as("root", command)
    }

    /// Runs a command line on the host by the real ssh, as one of its users.
    pub fn ssh_as(&self, user: &str, command: &str) -> Output {
        let config = self.ssh_config.to_str().expect("the lab's directory is UTF-8");
        self.env().run("ssh", ["-F", config, "-l", user, &self.name, command], "")
    }

    /// A world for runs against this host. A machine has a processor of software alone, so that what takes a second on others may
    /// take minutes there.
    pub fn env(&self) -> Env {
        match self.script {
            "machine" => Env::new().limit(Duration::from_mins(15)),
            _ => Env::new(),
        }
    }

    /// Ends all processes of the host: its address refuses connections from now on.
    pub fn stop(&self) {
        self.lab("stop");
    }

    /// Has the lab's script do something with this host.
    pub fn lab(&self, command: &str) {
        run(self.script, &self.state, command, [self.number()]);
    }

    /// Gives the link of a systemd host a queue of tc(8), as `netem delay 50ms loss 3%`; `none` takes it away.
    pub fn shape(&self, queue: &str) {
        let words = queue.split_whitespace().map(str::to_owned);
        run(self.script, &self.state, "shape", std::iter::once(self.number()).chain(words));
    }

    fn number(&self) -> String {
        self.name.trim_start_matches(char::is_alphabetic).to_owned()
    }
}

/// A `hosts.yaml` with these hosts; what follows `groups:` or the like is for the caller to add.
pub fn inventory(hosts: &[Host]) -> String {
    let first = hosts.first().expect("an inventory has hosts");
    let mut text = format!(
        "ssh: {{ user: root, identity_file: {}, config_file: {} }}\nhosts:\n",
        first.key.display(),
        first.ssh_config.display()
    );
    for host in hosts {
        text.push_str(&format!("  {}: {{ address: {}, ssh: {{ port: {} }} }}\n", host.name, host.address, host.port));
    }
    text
}

/// Says on standard error that this test does not run here, in the form that `tests/run` counts.
pub fn skip(words: &str) {
    eprintln!("SKIP {}: {words}", thread::current().name().unwrap_or("?"));
}

/// Whether `tests/lab/probe` finds something on this machine; if not, its words are told as a skip.
pub fn probe(feature: &str) -> bool {
    let output = script("probe").arg(feature).output().expect("the lab's script starts");
    let words = String::from_utf8_lossy(&output.stdout);
    let why = words.trim().strip_prefix(&format!("{feature} no: "));
    why.inspect(|why| skip(why)).is_none()
}

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name))
}

fn run(name: &str, state: &Path, command: &str, hosts: impl IntoIterator<Item = String>) {
    let output = script(name).arg("--state").arg(state).arg(command).args(hosts).output();
    let output = output.expect("the lab's script starts");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}
