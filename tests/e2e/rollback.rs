//! Runs that are taken back, interrupted, locked out or listed: what costs the most trust if it fails.

use crate::{
    lab::{Host, Lab, inventory},
    program::{Env, Output},
};
use rustix::{fs::XattrFlags, io::Errno};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Everything below a directory but the state of vprov, one line each: type, mode, owner, attributes, time and content of files.
fn tree(root: &Path) -> Vec<String> {
    fn walk(top: &Path, directory: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("a directory can be listed") {
            let path = entry.expect("a directory can be listed").path();
            let name = path.strip_prefix(top).expect("it is below").display().to_string();
            if name.ends_with("var/lib/vprov") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).expect("it can be looked at");
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).expect("a link").display())
            } else if meta.is_file() {
                let content = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
                format!("{}.{:09} {content:?}", meta.mtime(), meta.mtime_nsec())
            } else {
                String::new()
            };
            let mut value = [0; 256];
            let length = rustix::fs::lgetxattr(&path, "user.note", &mut value).unwrap_or(0);
            let note = String::from_utf8_lossy(&value[..length]);
            lines.push(format!("{name} {:o} {}:{} [{note}] {what}", meta.mode(), meta.uid(), meta.gid()));
            if meta.is_dir() {
                walk(top, &path, lines);
            }
        }
    }
    let mut lines = vec![];
    walk(root, root, &mut lines);
    lines.sort();
    lines
}

/// Fails with the lines that differ.
#[track_caller]
fn same(now: &[String], then: &[String]) {
    let only =
        |one: &[String], other: &[String]| one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>();
    assert!(now == then, "now {:#?}\nthen {:#?}", only(now, then), only(then, now));
}

const RESOURCES: &str = r#"
hosts:
  image:
    connection: local
    resources:
      - file: { path: /etc/app.conf, content: "a = 1\n" }
      - file: { path: /etc/app.key, content: "the word is hunter2\n", mode: "0600" }
      - directory: { path: /srv/images, mode: "0711" }
      - symlink: { path: /etc/images, target: /srv/images }
      - sysctl: { name: vm.swappiness, value: 35 }
      - setting: { file: /etc/default/libvirt-guests, key: ON_SHUTDOWN, value: shutdown }
"#;

struct Image {
    env: Env,
    before: Vec<String>,
}

impl Image {
    fn new() -> Image {
        let env = Env::new();
        env.write("hosts.yaml", RESOURCES);
        let app = env.write("root/etc/app.conf", "# the old one\r\n");
        fs::set_permissions(&app, fs::Permissions::from_mode(0o4755)).expect("a mode can be set");
        match rustix::fs::lsetxattr(&app, "user.note", b"mine", XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => panic!("{errno}"),
        }
        let key = env.write("root/etc/app.key", "the word was swordfish\n");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).expect("a mode can be set");
        symlink("/elsewhere", env.dir().join("root/etc/images")).expect("a link can be made");
        env.write("root/etc/default/libvirt-guests", "#ON_SHUTDOWN=suspend\nURIS=default");
        fs::create_dir_all(env.dir().join("root/var/lib")).expect("a directory can be made");
        let before = tree(&env.dir().join("root"));
        Image { env, before }
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        self.env.vprov([command, "hosts.yaml", "--root", "root"].into_iter().chain(more.iter().copied()))
    }

    fn tree(&self) -> Vec<String> {
        tree(&self.env.dir().join("root"))
    }

    /// The names of the runs that are remembered, newest first, each with what became of it.
    fn history(&self) -> Vec<(String, Value)> {
        let output = self.run("history", &["--json"]).exits(0);
        let json: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
        assert_eq!(json["format"], "vprov.history/1");
        let runs = json["hosts"][0]["runs"].as_array().expect("there are runs").clone();
        runs.into_iter().map(|run| (run["run"].as_str().expect("a name").to_owned(), run)).collect()
    }
}

#[test]
fn what_was_there_before_is_there_again_and_the_rollback_can_be_taken_back() {
    let image = Image::new();
    image.run("rollback", &["--yes"]).exits(0).says("it remembers no run");
    image.run("apply", &["--yes"]).exits(0);
    let applied = image.tree();
    assert_ne!(applied, image.before);

    image.run("rollback", &[]).exits(1).says("say --yes");
    same(&image.tree(), &applied);
    let output = image.run("rollback", &["--yes"]).exits(0);
    let output = output.says("-a = 1").says("+# the old one").says("(sensitive, not shown)").says("image  done ");
    output.never_says("swordfish").never_says("hunter2");
    same(&image.tree(), &image.before);

    let history = image.history();
    let [(back, of_back), (run, of_run)] = &history[..] else { panic!("{history:?}") };
    assert_eq!((&of_run["taken_back_by"], &of_back["takes_back"]), (&back.as_str().into(), &run.as_str().into()));
    image.run("rollback", &["--yes"]).exits(0).says("it remembers no run");
    image.run("rollback", &["--yes", "--run", run]).exits(1).says("no selected host can take back");
    image.run("rollback", &["--yes", "--run", back]).exits(0);
    let without_times = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .map(|line| line.split_whitespace().filter(|word| !word.contains('.') || word.contains('/')).collect())
            .collect()
    };
    assert_eq!(without_times(image.tree()), without_times(applied));
    image.run("plan", &["--detailed-exitcode"]).exits(0);
    // The first run stands again, and is the one that is taken back.
    image.run("rollback", &["--yes"]).exits(0);
    same(&image.tree(), &image.before);
}

#[test]
fn the_playbooks_are_not_needed() {
    let image = Image::new();
    image.run("apply", &["--yes"]).exits(0);
    image.env.write(
        "hosts.yaml",
        "hosts: { image: { connection: local, playbooks: [gone], resources: [ { wrong: {} } ] } }\n",
    );
    image.run("plan", &[]).exits(1);
    image.run("history", &[]).exits(0).says("file[/etc/app.conf]");
    image.run("rollback", &["--yes"]).exits(0);
    same(&image.tree(), &image.before);
}

#[test]
fn what_somebody_changed_since_is_refused_and_with_force_told() {
    let image = Image::new();
    image.run("apply", &["--yes"]).exits(0);
    image.env.write("root/etc/app.conf", "mine\n");
    let edited = image.tree();
    image.run("rollback", &["--yes"]).exits(5).says("`/etc/app.conf` changed since the run").says("refused");
    same(&image.tree(), &edited);
    image.run("rollback", &["--yes", "--force"]).exits(0).says("changed since the run");
    same(&image.tree(), &image.before);
    let back = image.history().remove(0).0;
    image.run("rollback", &["--yes", "--run", &back]).exits(0);
    let text = fs::read_to_string(image.env.dir().join("root/etc/app.conf")).expect("it is there");
    assert_eq!(text, "mine\n", "what --force took away is not lost");
}

#[test]
fn history_lists_what_was_done_and_no_secret() {
    let image = Image::new();
    image.run("history", &[]).exits(0).says("no run is remembered");
    image.run("apply", &["--yes"]).exits(0);
    image.run("history", &[]).exits(0).says("file[/etc/app.key]").says("  done");
    for more in [&["-v"][..], &["--json"]] {
        image.run("history", more).exits(0).says("write /etc/app.key").never_says("hunter2").never_says("swordfish");
    }
    let run = image.history().remove(0).0;
    let journal = image.env.dir().join(format!("root/var/lib/vprov/runs/{run}/journal"));
    let text = fs::read_to_string(&journal).expect("there is a journal");
    fs::write(&journal, text.replace("vprov.journal/1", "vprov.journal/7")).expect("it can be written");
    image.run("history", &[]).exits(0).says("has the format `vprov.journal/7`; this vprov knows `vprov.journal/1`");
    image.run("rollback", &["--yes", "--run", &run]).exits(3).says("has the format `vprov.journal/7`");
}

#[test]
fn only_so_many_runs_are_remembered() {
    let image = Image::new();
    for value in 1..6 {
        image.env.write("hosts.yaml", RESOURCES.replace("a = 1", &format!("a = {value}")));
        image.run("apply", &["--yes", "--keep-runs", "2"]).exits(0);
    }
    assert_eq!(image.history().len(), 2);
    image.run("rollback", &["--yes"]).exits(0).says("+a = 4");
}

#[test]
fn a_host_whose_run_fails_is_taken_back_where_that_is_wished() {
    let image = Image::new();
    image.env.write("hosts.yaml", format!("on_failure: sometimes\n{RESOURCES}"));
    image.run("plan", &[]).exits(1).says("`on_failure` is `keep` or `rollback`");

    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    // The program is on the second host alone.
    hosts[1].ssh("touch /etc/there").exits(0);
    let more = r#"groups:
  all:
    hosts: ["lab*"]
    resources:
      - file: { path: /etc/motd, content: "new\n" }
      - command: { argv: [rm, /etc/there], creates: /etc/nowhere, undo: [rm, -f, /etc/nowhere] }
        requires: ["file[/etc/motd]"]
"#;
    let env = Env::new();
    let before = tree(&hosts[0].path("/etc"));
    for (first, option) in [("on_failure: rollback\n", "--yes"), ("", "--rollback-on-failure")] {
        env.write("hosts.yaml", format!("{first}{}{more}", inventory(&hosts[..1])));
        let output =
            env.vprov(["apply", "hosts.yaml", "--yes", option].into_iter().take(if first.is_empty() { 4 } else { 3 }));
        output.exits(3).says("taken back").says("rm: cannot remove");
        same(&tree(&hosts[0].path("/etc")), &before);
    }
    env.vprov(["history", "hosts.yaml"]).exits(0).says("rolled back by");
    env.write("hosts.yaml", format!("{}{more}", inventory(&hosts)));
    env.vprov(["apply", "hosts.yaml", "--yes"]).exits(3).never_says("taken back");
    assert_eq!((hosts[0].read("/etc/motd"), hosts[1].read("/etc/motd")), ("new\n".into(), "new\n".into()));
    assert!(!hosts[1].path("/etc/there").exists());
}

/// Makes hosts whose second resource takes `seconds`, in a directory of its own.
fn slow(hosts: &[Host], seconds: u32) -> Env {
    let env = Env::new();
    let more = format!(
        r#"groups:
  all:
    hosts: ["lab*"]
    resources:
      - file: {{ path: /etc/first.conf, content: "first\n" }}
      - command: {{ argv: [sh, -c, "sleep {seconds}; touch /etc/slow"], creates: /etc/slow, undo: [rm, -f, /etc/slow] }}
        name: slow
        requires: ["file[/etc/first.conf]"]
      - file: {{ path: /etc/last.conf, content: "last\n" }}
        requires: [slow]
"#
    );
    env.write("hosts.yaml", inventory(hosts) + &more);
    env
}

/// Starts `vprov apply --yes` and waits until the slow step runs on the host; returns its process and what it will say.
fn start<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    env: &'scope Env,
    host: &Host,
) -> (String, thread::ScopedJoinHandle<'scope, Output>) {
    let script = "echo $$ >pid; exec \"$0\" \"$@\"";
    let args = ["-c", script, env!("CARGO_BIN_EXE_vprov"), "apply", "hosts.yaml", "--yes"];
    let running = scope.spawn(move || env.run("sh", args, ""));
    let begun = Instant::now();
    while !journals(host).contains("sleep") {
        assert!(begun.elapsed() < Duration::from_secs(60) && !running.is_finished(), "the slow step does not begin");
        thread::sleep(Duration::from_millis(20));
    }
    (fs::read_to_string(env.dir().join("pid")).expect("it has begun").trim().to_owned(), running)
}

fn journals(host: &Host) -> String {
    let runs = fs::read_dir(host.path("/var/lib/vprov/runs")).into_iter().flatten().flatten();
    runs.filter_map(|run| fs::read_to_string(run.path().join("journal")).ok()).collect()
}

/// After a run that did not come to its end: the next plan says so, an apply converges, and nothing is told or due any more.
fn goes_on(env: &Env, host: &Host) {
    env.vprov(["plan", "hosts.yaml"]).exits(0).says("! interrupted: run ");
    env.vprov(["apply", "hosts.yaml", "--yes"]).exits(0);
    env.vprov(["plan", "hosts.yaml", "--detailed-exitcode"]).exits(0).never_says("interrupted");
    assert_eq!(host.read("/etc/last.conf"), "last\n");
    host.ssh("ls -A /var/lib/vprov/owed 2>/dev/null; find / -xdev -name '.vprov-*' 2>/dev/null")
        .exits(0)
        .never_says("vprov-");
}

#[test]
fn ctrl_c_finishes_the_operation_that_runs_and_tells_what_was_not_done() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let hosts = [host];
    let env = slow(&hosts, 3);
    let output = thread::scope(|scope| {
        let (pid, running) = start(scope, &env, &hosts[0]);
        env.run("kill", ["-INT", &pid], "").exits(0);
        running.join().expect("no panic")
    });
    let output = output.exits(130).says("stopping: each host finishes").says("interrupted").says("not started");
    output.says("2 changed");
    assert_eq!(hosts[0].ssh("cat /etc/first.conf; ls /etc/slow").exits(0).stdout, "first\n/etc/slow\n");
    assert!(!hosts[0].path("/etc/last.conf").exists());
    env.vprov(["history", "hosts.yaml"]).exits(0).says("interrupted");
    goes_on(&env, &hosts[0]);
}

#[test]
fn a_second_ctrl_c_ends_vprov_at_once_and_the_host_still_ends_its_operation() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    let env = slow(&hosts, 4);
    let begun = Instant::now();
    let output = thread::scope(|scope| {
        let (pid, running) = start(scope, &env, &hosts[0]);
        env.run("kill", ["-TERM", &pid], "").exits(0);
        thread::sleep(Duration::from_millis(300));
        env.run("kill", ["-INT", &pid], "").exits(0);
        running.join().expect("no panic")
    });
    output.exits(130);
    assert!(!hosts[0].path("/etc/slow").exists() || begun.elapsed() > Duration::from_secs(4));
    while journals(&hosts[0]).matches("\"ended\"").count() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the executor does not end: {}", journals(&hosts[0]));
        thread::sleep(Duration::from_millis(50));
    }
    // The operation that ran was finished and recorded, and nothing began after it.
    assert!(hosts[0].path("/etc/slow").exists() && !hosts[0].path("/etc/last.conf").exists());
    goes_on(&env, &hosts[0]);
}

#[test]
fn an_executor_that_is_killed_leaves_a_run_that_is_told_and_gone_on_with_or_taken_back() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    let env = slow(&hosts, 2);
    let cut = || {
        let output = thread::scope(|scope| {
            let (_, running) = start(scope, &env, &hosts[0]);
            hosts[0].ssh("pkill -9 -x vprov").exits(0);
            running.join().expect("no panic")
        });
        output.exits(4).says("unreachable");
    };
    let before = tree(&hosts[0].path("/etc"));
    cut();
    env.vprov(["history", "hosts.yaml", "-v"]).exits(0).says("did not come to its end").says("(nobody saw its end)");
    thread::sleep(Duration::from_secs(2));
    env.vprov(["rollback", "hosts.yaml", "--yes"]).exits(0);
    same(&tree(&hosts[0].path("/etc")), &before);
    env.vprov(["plan", "hosts.yaml"]).exits(0).never_says("interrupted");
    hosts[0].ssh("rm -r /var/lib/vprov/runs").exits(0);
    cut();
    goes_on(&env, &hosts[0]);
}

#[test]
fn of_two_at_once_one_is_locked_out_or_waits() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    let env = slow(&hosts, 3);
    let other = Env::new().var("USER", "other");
    other.write(
        "hosts.yaml",
        inventory(&hosts)
            + "groups: { all: { hosts: [\"lab*\"], resources: [ { file: { path: /etc/other, content: x } } ] } }\n",
    );
    thread::scope(|scope| {
        let (_, running) = start(scope, &env, &hosts[0]);
        let out = other.vprov(["apply", "hosts.yaml", "--yes"]).exits(3);
        out.says("locked").says(", run 20").says("since 20").says("untouched");
        assert!(!hosts[0].path("/etc/other").exists());
        other.vprov(["apply", "hosts.yaml", "--yes", "--lock-timeout", "60"]).exits(0);
        running.join().expect("no panic").exits(0);
    });
    assert_eq!(hosts[0].read("/etc/other"), "x");
}

#[test]
fn old_executors_are_removed() {
    let Some(lab) = Lab::get() else { return };
    let hosts = [lab.host()];
    hosts[0].ssh("cd /var/lib && umask 077 && mkdir -p vprov/executor && cd vprov/executor && mkdir a b c && touch a/vprov b/vprov c/vprov && touch -d 2020-01-01 a && touch -d 2021-01-01 b && touch -d 2022-01-01 c").exits(0);
    let env = Env::new();
    let more = "groups: { all: { hosts: [\"lab*\"], resources: [ { file: { path: /etc/x, content: x } } ] } }\n";
    env.write("hosts.yaml", inventory(&hosts) + more);
    env.vprov(["plan", "hosts.yaml"]).exits(0);
    assert_eq!(hosts[0].ssh("ls /var/lib/vprov/executor | wc -l").exits(0).stdout, "4\n", "a plan removes nothing");
    env.vprov(["apply", "hosts.yaml", "--yes"]).exits(0);
    let left = hosts[0].ssh("ls /var/lib/vprov/executor").exits(0).stdout;
    let left: Vec<&str> = left.lines().filter(|name| name.len() < 64).collect();
    assert_eq!(left, ["c"], "the one that runs and the newest other one stay");
    env.vprov(["plan", "hosts.yaml", "--detailed-exitcode"]).exits(0);
}

#[test]
fn a_boot_configuration_is_generated_again_and_all_hosts_are_taken_back_by_one_name() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let env = Env::new();
    let more = r#"groups:
  all:
    hosts: ["lab*"]
    resources:
      - kernel_cmdline: { parameters: [intel_iommu=on] }
      - sysctl: { name: vm.swappiness, value: 35 }
      - file: { path: /etc/app.conf, content: "a\n" }
"#;
    env.write("hosts.yaml", inventory(&hosts) + more);
    let trees = |hosts: &[Host]| -> Vec<Vec<String>> {
        hosts.iter().flat_map(|host| [tree(&host.path("/etc")), tree(&host.path("/boot"))]).collect()
    };
    let grub = |host: &Host| -> Vec<String> {
        // The rest of the menu depends on the language of who makes it.
        let text = host.read("/boot/grub/grub.cfg");
        text.lines().filter(|line| line.trim().starts_with("linux")).map(String::from).collect()
    };
    let (before, menu) = (trees(&hosts), grub(&hosts[0]));
    // Values of the kernel are read-only on these hosts, so that resource fails; all else is done.
    env.vprov(["apply", "hosts.yaml", "--yes"]);
    assert!(hosts.iter().all(|host| grub(host).concat().contains("intel_iommu=on")));
    let output = env.vprov(["rollback", "hosts.yaml", "--yes", "--json"]).exits(0);
    let json: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
    assert_eq!(json["hosts"][0]["plan"]["run"], json["hosts"][1]["plan"]["run"]);
    assert!(json["hosts"][0]["plan"]["steps"].to_string().contains("\"generate\""), "{output:?}");
    assert_eq!(grub(&hosts[0]), menu);
    for (now, then) in trees(&hosts).iter().zip(&before) {
        // What is generated has a new time.
        let but_menu = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| !line.contains("grub.cfg")).cloned().collect()
        };
        same(&but_menu(now), &but_menu(then));
    }
}
