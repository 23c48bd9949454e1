//! One host of the lab and the world of the runs against it: what most tests on real hosts are written with.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    lab::{self, Host, Lab},
    manifest::Manifest,
    program::{Env, Output},
};

/// One host, and the world of the runs against it.
pub struct One {
    /// The host.
    pub host: Host,
    /// Where its `hosts.yaml` is.
    pub env: Env,
}

impl One {
    /// A systemd host, or nothing after a line `SKIP test: words`.
    pub fn systemd() -> Option<One> {
        Some(One { host: Lab::systemd()?.host(), env: Env::new() })
    }

    /// The same with the layout of a distribution, by its name in `tests/lab/distribution`.
    pub fn of(distribution: &str) -> Option<One> {
        Some(One { host: Lab::systemd()?.host_of(distribution), env: Env::new() })
    }

    /// Declares the host to have these resources, and nothing else.
    pub fn declare(&self, resources: &str) {
        let host = std::slice::from_ref(&self.host);
        let resources = resources.trim_start_matches('\n');
        let group = format!("groups:\n  one:\n    hosts: [{}]\n    resources:\n{resources}", self.host.name);
        self.env.write("hosts.yaml", lab::inventory(host) + &group);
    }

    /// Plans something, applies it, and finds nothing more to do.
    #[track_caller]
    pub fn converges(&self) -> Output {
        self.converges_by(&["apply", "--yes"])
    }

    /// The same, by these arguments.
    #[track_caller]
    pub fn converges_by(&self, apply: &[&str]) -> Output {
        self.env.vprov(["plan", "--detailed-exitcode"]).exits(2);
        let applied = self.env.vprov(apply).exits(0);
        self.is_converged();
        applied
    }

    /// Finds nothing to do.
    #[track_caller]
    pub fn is_converged(&self) -> Output {
        self.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes.")
    }

    /// Compares what a program on the host prints, line by line, whatever the white space between words.
    #[track_caller]
    pub fn shows(&self, command: &str, lines: &[&str]) {
        let output = self.host.ssh(command);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let found: Vec<String> = output.stdout.lines().map(words).collect();
        assert_eq!(found, lines, "{command}: {output:?}");
    }

    /// The words of the running kernel's command line that begin so.
    pub fn booted_with(&self, prefixes: &[&str]) -> Vec<String> {
        let words = self.host.ssh("cat /proc/cmdline").exits(0).stdout;
        let words = words.split_whitespace().filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
        words.map(str::to_owned).collect()
    }

    /// Boots the host again, as its administrator does.
    pub fn reboot(&self) {
        let born = || self.host.ssh("stat -c %Y /run/systemd; cut -d' ' -f22 /proc/1/stat");
        let before = born().exits(0).stdout;
        self.host.ssh("systemctl reboot");
        self.wait("the host boots again", || {
            let now = born();
            now.code == 0 && now.stdout != before
        });
        self.host.ssh("systemctl is-system-running --wait").says("running");
    }

    /// Waits until something is so, and fails after a minute.
    #[track_caller]
    pub fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How the host is now.
    #[track_caller]
    pub fn manifest(&self) -> Manifest {
        Manifest::of(|command| self.host.ssh(command))
    }

    /// Takes back what the last run did, and finds the host as it was before.
    #[track_caller]
    pub fn goes_back(&self, before: &Manifest) -> Output {
        let undone = self.env.vprov(["rollback", "--yes"]).exits(0);
        self.manifest().is_as(before);
        undone
    }
}
