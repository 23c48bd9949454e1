//! A change that goes over several hosts: who is touched when, when it stops, and how it is gone on with.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    lab::{self, Host, Lab},
    program::{Env, Output},
};

/// Some hosts and the world of the runs against them.
struct Fleet {
    env: Env,
    hosts: Vec<Host>,
}

const FILE: &str = "      - file: { path: /etc/app.conf, content: \"a = 1\\n\" }\n";

impl Fleet {
    fn new(n: usize) -> Option<Fleet> {
        Some(Fleet { hosts: Lab::get()?.hosts(n), env: Env::new() })
    }

    /// Declares what all hosts are, with `rollout` in one line.
    fn declare(&self, rollout: &str, resources: &str) {
        let groups = format!("rollout: {rollout}\ngroups:\n  all:\n    hosts: [\"lab*\"]\n    resources:\n{resources}");
        self.env.write("hosts.yaml", lab::inventory(&self.hosts) + &groups);
    }

    fn apply(&self, more: &[&str]) -> Output {
        self.env.vprov(["apply", "--yes"].into_iter().chain(more.iter().copied()))
    }

    fn name(&self, at: usize) -> &str {
        &self.hosts[at].name
    }

    /// Whether each host has the file.
    fn touched(&self) -> Vec<bool> {
        self.hosts.iter().map(|host| host.path("/etc/app.conf").exists()).collect()
    }

    /// The lines of the newest record: its head, and what happened.
    fn record(&self) -> Vec<Value> {
        let runs = self.env.dir().join(".local/state/vprov/runs");
        let mut names: Vec<_> =
            fs::read_dir(&runs).expect("there are records").map(|e| e.expect("one").path()).collect();
        names.sort();
        let text = fs::read_to_string(names.pop().expect("a record").join("record")).expect("a record is text");
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// The hosts of the newest record in the order in which their turns came, and in which they ended.
    fn events(&self) -> Vec<(String, String)> {
        let of = |line: &Value| Some((line["event"].as_str()?.to_owned(), line["host"].as_str()?.to_owned()));
        self.record().iter().filter_map(of).collect()
    }
}

#[test]
fn a_canary_that_fails_stops_everything_else_before_it_starts() {
    let Some(fleet) = Fleet::new(3) else { return };
    let check = "health: { before: [{ command: [test, '!', -e, /etc/broken] }], after: [{ tcp: 1 }] }";
    fleet.declare(&format!("{{ canary: {}, {check} }}", fleet.name(1)), FILE);
    let output = fleet.apply(&[]).exits(3);
    let canary = fleet.name(1);
    let output = output.says(&format!("stopped: the canary {canary} failed; 2 hosts had no turn"));
    output.says("TCP port 1").says("1 not well");
    assert_eq!(fleet.touched(), [false, true, false]);
    // What failed counts until it is given another turn.
    fleet.declare("{}", FILE);
    fleet.apply(&["--resume", "last"]).exits(3).says(&format!("the canary {canary} failed"));
    assert_eq!(fleet.touched(), [false, true, false]);
    fleet.apply(&["--resume", "last", "--retry-failed"]).exits(0);
    assert_eq!(fleet.touched(), [true; 3]);
    fleet.env.vprov(["plan", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_canary_that_cannot_be_planned_has_failed_too() {
    let Some(fleet) = Fleet::new(3) else { return };
    fleet.declare(&format!("{{ canary: [{}] }}", fleet.name(2)), FILE);
    fleet.hosts[2].stop();
    fleet.apply(&[]).exits(3).says(&format!("the canary {} failed; 2 hosts had no turn", fleet.name(2)));
    assert_eq!(fleet.touched(), [false; 3]);
    fleet.declare("{ canary: lab0 }", FILE);
    fleet.apply(&[]).exits(1).says("unknown host or group `lab0`");
}

#[test]
fn batches_go_one_after_the_other_in_their_order() {
    let Some(fleet) = Fleet::new(5) else { return };
    fleet.declare("{ order: reversed, canary: 1, batch: 40% }", FILE);
    let output = fleet.apply(&["--events", "events", "--profile"]).exits(0);
    // A line for each host that ended, in the order in which they did.
    let lines: Vec<&str> = output.stderr.lines().filter(|line| line.contains(" of 5)")).collect();
    assert_eq!(lines.len(), 5, "{output:?}");
    let first = format!("{}: done: 1 changed", fleet.name(4));
    assert!(lines[0].starts_with(&first) && lines[0].ends_with("(1 of 5)"), "{lines:?}");
    let profile = output.stderr.split_once("where the time went").expect("the slowest steps are told").1;
    assert!(profile.contains("file[/etc/app.conf]: write /etc/app.conf (longest on lab"), "{output:?}");
    let events = fs::read_to_string(fleet.env.dir().join("events")).expect("events are written");
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&events[0]["format"], &events[0]["hosts"]), (&"vprov.events/1".into(), &5.into()));
    let of =
        |host: &str| events.iter().filter(|e| e["host"] == host).map(|e| e["happened"].clone()).collect::<Vec<_>>();
    let told = of(fleet.name(4));
    assert_eq!(told.first().expect("events"), "connecting");
    assert!(told.contains(&"step".into()) && told.contains(&"resource".into()), "{told:?}");
    assert_eq!(told.last().expect("events"), "done");
    assert_eq!(fleet.touched(), [true; 5]);
    let events = fleet.events();
    let place = |what: &str, at: usize| {
        events.iter().position(|(event, host)| event == what && host == fleet.name(at)).expect("it happened")
    };
    // Host 5 is the canary; then 4 and 3; then 2 and 1.
    for (before, after) in [([4, 4], [3, 2]), ([3, 2], [1, 0])] {
        for (one, other) in before.into_iter().flat_map(|one| after.map(|other| (one, other))) {
            assert!(place("ended", one) < place("began", other), "{events:?}");
        }
    }
    let record = fleet.record();
    assert_eq!(record[0]["format"], "vprov.run/1");
    assert_eq!(record.last().expect("lines")["event"], "closed");
    // Nothing to do makes no record.
    fleet.apply(&[]).exits(0);
    assert_eq!(fleet.record(), record);
}

#[test]
fn too_many_failures_stop_it_and_what_failed_has_another_turn() {
    let Some(fleet) = Fleet::new(5) else { return };
    let fit = "health: { before: [{ command: [test, -e, /etc/good] }] }";
    fleet.declare(&format!("{{ batch: 1, max_failures: 1, {fit} }}"), FILE);
    for at in [0, 3, 4] {
        fleet.hosts[at].ssh("touch /etc/good").exits(0);
    }
    let output = fleet.apply(&["--json"]).exits(3);
    let json: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!(json["rollout"]["stopped"], "failures");
    assert_eq!(json["rollout"]["left"], 2);
    let hosts = json["hosts"].as_array().expect("hosts");
    let status: Vec<&str> = hosts.iter().map(|one| one["result"]["status"].as_str().expect("a word")).collect();
    assert_eq!(status, ["ran", "refused", "refused", "not_started", "not_started"]);
    assert_eq!(fleet.touched(), [true, false, false, false, false]);
    // A larger budget lets the others go on; what failed stays as it is.
    fleet.apply(&["--resume", "last", "--max-failures", "2"]).exits(3).says("3 hosts ended before");
    assert_eq!(fleet.touched(), [true, false, false, true, true]);
    for at in [1, 2] {
        fleet.hosts[at].ssh("touch /etc/good").exits(0);
    }
    fleet.apply(&["--resume", "last", "--retry-failed"]).exits(0);
    assert_eq!(fleet.touched(), [true; 5]);
}

#[test]
fn a_controller_that_is_killed_goes_on_without_asking_hosts_twice() {
    let Some(fleet) = Fleet::new(3) else { return };
    let slow = "      - command: { argv: [sh, -c, \"touch /run/began; while test -e /etc/wait; do sleep 0.1; done; touch /etc/done\"], creates: /etc/done }\n";
    fleet.declare("{ batch: 1 }", &format!("{FILE}{slow}"));
    fleet.hosts[1].ssh("touch /etc/wait").exits(0);
    let mut child = Command::new(env!("CARGO_BIN_EXE_vprov"))
        .args(["apply", "--yes"])
        .env_clear()
        .env("HOME", fleet.env.dir())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(fleet.env.dir())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("vprov starts");
    let start = Instant::now();
    while !fleet.hosts[1].path("/run/began").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the second host's turn never came");
        thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let ended: Vec<(String, String)> = fleet.events().into_iter().filter(|(event, _)| event == "ended").collect();
    assert_eq!(ended, [("ended".to_owned(), fleet.name(0).to_owned())]);
    fleet.hosts[1].ssh("rm /etc/wait").exits(0);
    // Who is done is not even contacted: it could not be.
    fleet.hosts[0].stop();
    let start = Instant::now();
    let output = loop {
        // The executor of the killed controller ends its operation, and then its lock.
        let output = fleet.apply(&["--resume", "last"]);
        if output.code == 0 || start.elapsed() > Duration::from_secs(60) {
            break output.exits(0);
        }
        fleet.apply(&["--resume", "last", "--retry-failed"]);
    };
    assert!(output.stdout.contains("ended before"), "{output:?}");
    assert_eq!(fleet.touched()[1..], [true, true]);
    fleet.env.vprov(["plan", "--detailed-exitcode", "--limit", &format!("!{}", fleet.name(0))]).exits(0);
}

#[test]
fn a_rollout_with_every_fault_ends_as_told_is_resumed_to_green_and_taken_back() {
    let Some(fleet) = Fleet::new(6) else { return };
    let (slow, stale, unwell, full, gone) = (0, 1, 2, 3, 4);
    let wait = "touch /run/began; while test -e /etc/wait; do sleep 0.1; done; touch /etc/done";
    let resources = format!(
        "{FILE}      - command: {{ argv: [sh, -c, \"{wait}\"], creates: /etc/done, undo: [rm, /etc/done] }}\n      - file: {{ path: /srv/large, content: \"{}\" }}\n",
        "x".repeat(100_000)
    );
    let health = "health: { after: [{ command: [test, -e, /etc/well] }] }";
    let canary = fleet.name(slow);
    fleet.declare(&format!("{{ canary: {canary}, batch: 50%, max_failures: 4, {health} }}"), &resources);
    for (at, host) in fleet.hosts.iter().enumerate() {
        host.ssh(if at == unwell { "true" } else { "touch /etc/well" }).exits(0);
    }
    fleet.hosts[slow].ssh("touch /etc/wait").exits(0);
    fleet.hosts[full].ssh("mount -t tmpfs -o size=64k none /srv").exits(0);
    fleet.hosts[gone].stop();
    let state =
        |at: usize| fleet.hosts[at].ssh("cd / && find etc srv -type f -exec sha256sum {} + | sort -k2").exits(0).stdout;
    let reached = [slow, stale, unwell, full, 5];
    let before: Vec<String> = reached.iter().map(|at| state(*at)).collect();
    let output = thread::scope(|scope| {
        let applied = scope.spawn(|| fleet.apply(&[]));
        let start = Instant::now();
        while !fleet.hosts[slow].path("/run/began").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "the canary's turn never came");
            thread::sleep(Duration::from_millis(50));
        }
        // It was planned; now it moves before its turn comes.
        fleet.hosts[stale].ssh("echo mine >/etc/app.conf").exits(0);
        fleet.hosts[slow].ssh("rm /etc/wait").exits(0);
        applied.join().expect("the run ends")
    });
    let said: Vec<String> =
        output.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let told = |at: usize, words: &str| {
        let line = format!("{} {words}", fleet.name(at));
        assert!(said.iter().any(|said| said.starts_with(&line)), "`{line}` is not said: {output:?}");
    };
    told(slow, "done 3 changed");
    told(stale, "stale");
    told(unwell, "failed 3 changed, 1 not well");
    told(full, "refused");
    told(gone, "unreachable");
    told(5, "done 3 changed");
    assert_eq!(output.code, 3, "{output:?}");
    // Everything is put right, and the failed have another turn; who is done is not contacted.
    fleet.hosts[stale].ssh("rm /etc/app.conf").exits(0);
    fleet.hosts[full].ssh("umount /srv").exits(0);
    fleet.hosts[gone].lab("reset");
    fleet.hosts[gone].ssh("touch /etc/well").exits(0);
    // The change is there already, and it is looked at again whether the host is well.
    let resumed = fleet.apply(&["--resume", "last", "--retry-failed"]).exits(3);
    resumed.says("it is as declared and not well").says("2 hosts ended before");
    fleet.hosts[unwell].ssh("touch /etc/well").exits(0);
    fleet.apply(&["--resume", "last", "--retry-failed"]).exits(0).says("5 hosts ended before");
    fleet.env.vprov(["plan", "--detailed-exitcode"]).exits(0).says("No changes. 6 hosts as declared");
    fleet.env.vprov(["rollback", "--yes"]).exits(0);
    fleet.hosts[unwell].ssh("rm /etc/well").exits(0);
    fleet.hosts[slow].ssh("touch /etc/wait").exits(0);
    for (at, before) in reached.iter().zip(&before) {
        assert_eq!(&state(*at), before, "{}", fleet.name(*at));
    }
}

#[test]
fn a_run_that_cannot_be_gone_on_with_is_refused_with_the_reason() {
    let env = Env::new();
    env.write(
        "hosts.yaml",
        "hosts: { here: { connection: local, resources: [ { sysctl: { name: vm.swappiness, value: 35 } } ] } }\n",
    );
    let resume = |run: &str| env.vprov(["apply", "--yes", "--resume", run]);
    resume("x").exits(1).says("`x` is no run like");
    resume("last").exits(1).says("there is no record of a run of");
    resume("20260131T235959Z-0a1b").exits(1).says("there is no record of a run `20260131T235959Z-0a1b`");
    let record = ".local/state/vprov/runs/20260131T235959Z-0a1b/record";
    env.write(record, "{\"format\":\"vprov.run/9\"}\n");
    resume("20260131T235959Z-0a1b").exits(1).says("its format is `vprov.run/9`");
    let head = |of: &str, host: &str| {
        format!(
            "{{\"format\":\"vprov.run/1\",\"vprov\":\"0\",\"run\":\"20260131T235959Z-0a1b\",\"by\":\"me\",\"of\":\"{of}\",\"rules\":{{}},\"members\":[{{\"host\":\"{host}\"}}]}}\n"
        )
    };
    env.write(record, head("/elsewhere/hosts.yaml", "here"));
    resume("20260131T235959Z-0a1b").exits(1).says("is one of `/elsewhere/hosts.yaml`");
    let of = fs::canonicalize(env.dir().join("hosts.yaml")).expect("it is there");
    env.write(record, head(of.to_str().expect("UTF-8"), "gone"));
    resume("last").exits(1).says("the host `gone` of the run is no longer in the inventory");
    env.vprov(["apply", "--yes", "--ask"]).exits(1).says("no terminal");
    env.vprov(["apply", "--yes", "--retry-failed"]).exits(1).says("--resume");
}
