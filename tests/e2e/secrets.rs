//! Secrets: each source of them is used, and no output, journal or command line ever holds one.

use crate::{
    lab::{self, Lab, skip},
    program::{Env, Output},
};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// What must never be said. Each comes from another source.
const CANARIES: [&str; 5] =
    ["canary-age-4711", "canary-sops-4711", "canary-env-4711", "canary-literal-4711", "canary-host-4711"];

/// A stand-in for `sops`, which Debian does not have. As the real one it takes `-d [--output-type json] FILE`, prints the clear text,
/// and for a file that is none of its own ends with 100 and `sops metadata not found`. Its "encryption" is base64.
const SOPS: &str = r#"#!/bin/sh
for file; do :; done
echo run >>"${0%/*}/sops.runs"
grep -q '^data: ' "$file" || { echo "Error unmarshalling input: sops metadata not found" >&2; exit 100; }
sed -n 's/^data: //p' "$file" | base64 -d
"#;

const HOSTS: &str = r#"
vars:
  age_secret: { secret: { age: secrets/word.age, identity: secrets/key.txt } }
  db: { secret: { sops: secrets/db.yaml } }
  port: { secret: { sops: secrets/db.yaml, key: db.port } }
  from_env: { secret: { env: VPROV_TEST_SECRET } }
  url: "postgres://user:{{ db.db.password }}@db"
hosts:
  image:
    connection: local
    resources:
      - file: { path: /etc/open.conf, content: "a = {{ age_secret|trim }}\n" }
      - setting: { file: /etc/default/app, key: URL, value: "{{ url }}" }
      - setting: { file: /etc/default/app, key: PORT, value: "{{ port }}" }
      - file: { path: /etc/env.conf, content: "{{ from_env }}", mode: "0600" }
      - closed: { word: canary-literal-4711 }
      - file: { path: /etc/host.key, content: "other\n" }
      - file: { path: /etc/when.conf, content: "plain\n" }
        when: from_env != ""
      - directory: { path: /srv/plain }
"#;

const MODULE: &str = "parameters: { word: { type: string, required: true, sensitive: true } }\n\
    resources: [ { file: { path: /etc/literal.conf, content: 'w={{ word }}' } } ]\n";

/// A project with one secret of each source and a root; nothing if `age` is not there.
fn project() -> Option<Env> {
    if !Env::new().run("sh", ["-c", "command -v age && command -v age-keygen"], "").stdout.contains("age-keygen") {
        skip("there is no `age`; tests/setup installs it");
        return None;
    }
    let env = Env::new();
    let home = env.dir().to_str().expect("it is UTF-8").to_owned();
    let path = format!("{home}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    let env = env.var("PATH", &path).var("VPROV_TEST_SECRET", "canary-env-4711");
    let sops = env.write("bin/sops", SOPS);
    fs::set_permissions(sops, fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    env.write("hosts.yaml", HOSTS);
    env.write("modules/closed.yaml", MODULE);
    fs::create_dir(env.dir().join("secrets")).expect("it can be made");
    env.run("age-keygen", ["-o", "secrets/key.txt"], "").exits(0);
    let public = env.run("age-keygen", ["-y", "secrets/key.txt"], "").exits(0).stdout;
    env.run("age", ["-r", public.trim(), "-o", "secrets/word.age"], "canary-age-4711\n").exits(0);
    let clear = r#"{"db":{"password":"canary-sops-4711","port":5432}}"#;
    let hidden = env.run("base64", ["-w0"], clear).exits(0).stdout;
    env.write("secrets/db.yaml", format!("data: {hidden}\n"));
    env.write("root/etc/default/app", "PORT=1\n");
    let key = env.write("root/etc/host.key", "canary-host-4711\n");
    fs::set_permissions(key, fs::Permissions::from_mode(0o640)).expect("its mode can be set");
    Some(env)
}

#[track_caller]
fn quiet(output: Output) -> Output {
    CANARIES.iter().fold(output, |output, canary| output.never_says(canary))
}

fn run(env: &Env, command: &str, more: &[&str]) -> Output {
    env.vprov([command, "hosts.yaml", "--root", "root"].into_iter().chain(more.iter().copied()))
}

/// Looks at the command lines of all processes until told to stop, and returns those with a canary.
struct Watch(Arc<AtomicBool>, thread::JoinHandle<(usize, BTreeSet<String>)>);

impl Watch {
    fn new() -> Watch {
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let watcher = thread::spawn(move || {
            let (mut seen, mut found) = (0, BTreeSet::new());
            while !stop.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
                    let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
                    let line = String::from_utf8_lossy(&line).replace('\0', " ");
                    seen += usize::from(line.contains("vprov"));
                    if CANARIES.iter().any(|canary| line.contains(canary)) {
                        found.insert(line);
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
            (seen, found)
        });
        Watch(done, watcher)
    }

    #[track_caller]
    fn end(self) {
        self.0.store(true, Ordering::SeqCst);
        let (seen, found) = self.1.join().expect("the watcher ends");
        assert!(seen > 0, "the watcher saw no vprov");
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn no_output_holds_a_secret() {
    let Some(env) = project() else { return };
    let watch = Watch::new();
    quiet(run(&env, "validate", &[]).exits(1)); // `validate` knows no --root
    quiet(env.vprov(["validate", "hosts.yaml"]).exits(0));
    assert!(!env.dir().join("bin/sops.runs").exists(), "validate decrypts nothing");
    for more in [&[][..], &["-v"], &["--json"]] {
        let plan = quiet(run(&env, "plan", more).exits(0));
        plan.says("sensitive").says("/etc/open.conf");
    }
    let runs = fs::read_to_string(env.dir().join("bin/sops.runs")).expect("sops ran");
    assert_eq!(runs.lines().count(), 3, "a file is decrypted once for each plan");
    quiet(run(&env, "plan", &["-o", "change.vprov"]).exits(0));
    for form in ["--verbose", "--json", "--markdown", "--html", "--junit"] {
        quiet(env.vprov(["show", "change.vprov", form]).exits(0)).says("/etc/open.conf");
    }
    quiet(run(&env, "plan", &["--json", "--set", "from_env=canary-x"]).exits(0)).says("sensitive");
    let shown = run(&env, "plan", &["--show-sensitive"]).exits(0);
    let shown = CANARIES.iter().fold(shown, |shown, canary| shown.says(canary));
    assert!(shown.stdout.contains("postgres://user:canary-sops-4711@db"), "{shown:?}");
    quiet(run(&env, "apply", &["--yes", "-v"]).exits(0));
    let file = |path: &str| fs::read_to_string(env.dir().join("root").join(path)).expect("it was written");
    assert_eq!(file("etc/open.conf"), "a = canary-age-4711\n");
    assert!(file("etc/default/app").contains("postgres://user:canary-sops-4711@db"), "{}", file("etc/default/app"));
    assert!(file("etc/default/app").contains("5432"), "{}", file("etc/default/app"));
    assert_eq!(file("etc/env.conf"), "canary-env-4711");
    quiet(run(&env, "plan", &["--detailed-exitcode"]).exits(0));

    // Everything changes again, now from one secret to another.
    env.write("hosts.yaml", HOSTS.replace("a = {{", "b = {{").replace("user:", "admin:"));
    env.write("root/etc/host.key", "canary-host-4711\n");
    quiet(run(&env, "plan", &["-v"]).exits(0)).says("1 line added, 1 removed (sensitive, not shown)");
    quiet(run(&env, "apply", &["--yes", "--json"]).exits(0));
    for more in [&[][..], &["-v"], &["--json"]] {
        quiet(run(&env, "history", more).exits(0)).says("/etc/open.conf");
    }
    for run in fs::read_dir(env.dir().join("root/var/lib/vprov/runs")).expect("there are runs").flatten() {
        let journal = fs::read_to_string(run.path().join("journal")).expect("it is text");
        assert!(!CANARIES.iter().any(|canary| journal.contains(canary)), "{journal}");
    }
    // The file itself is world-readable; that its content is secret is in the journal.
    quiet(run(&env, "rollback", &["--yes"]).exits(0)).says("/etc/open.conf").says("(sensitive, not shown)");
    quiet(run(&env, "apply", &["--yes"]).exits(0));
    quiet(run(&env, "rollback", &["--yes", "--json", "-v"]).exits(0));
    watch.end();
}

#[test]
fn no_mistake_says_a_secret() {
    let Some(env) = project() else { return };
    let cases = [
        ("file: { path: '{{ from_env }}' }", "`path` of `file` cannot be made of a secret"),
        ("file: { path: '/{{ age_secret|trim }}' }", "`path` of `file` cannot be made of a secret"),
        ("command: { argv: [a, '{{ from_env }}'], creates: /a }", "`argv` of `command` cannot be made of a secret"),
        ("service: { name: '{{ from_env }}' }", "`name` of `service` cannot be made of a secret"),
        ("symlink: { path: /a, target: '{{ from_env }}' }", "`target` of `symlink` cannot be made of a secret"),
        ("sysctl: { name: vm.swappiness, value: '{{ db }}' }", "not shown, as it is made of a secret"),
        ("setting: { file: /etc/default/a, key: A, value: '{{ db }}' }", "not shown, as it is made of a secret"),
        ("file: { path: /a, content: '{{ db }}' }", ""),
        ("closed: { word: [canary-literal-4711] }", "expected a string, found a list"),
        ("closed: { word: { a: canary-literal-4711 }, wrod: 1 }", "did you mean `word`"),
        ("directory: { path: '/srv/{{ item }}' }\n        for_each: '{{ db.db.password }}'", "expected a list or map"),
        ("directory: { path: '/srv/{{ item.value }}' }\n        for_each: '{{ db.db }}'", "cannot be made of a secret"),
        ("directory: { path: /srv }\n        when: from_env + 1", "expression: "),
        ("directory: { path: /srv }\n        name: '{{ from_env }}'", "a name cannot be made of a secret"),
        ("file: { path: /a, content: '{{ db.db.pasword }}' }", "did you mean `db.db.password`?"),
    ];
    for (entry, words) in cases {
        let (head, _) = HOSTS.split_once("    resources:").expect("there are resources");
        env.write("hosts.yaml", format!("{head}    resources:\n      - {entry}\n"));
        for more in [&[][..], &["--json"], &["-v"]] {
            let output = quiet(run(&env, "plan", more));
            assert!(output.code == 1 || output.code == 3, "{entry}: {output:?}");
            output.says(words);
        }
    }
    let failing = [
        (
            "age: secrets/db.yaml, identity: secrets/key.txt",
            "cannot decrypt `secrets/db.yaml`: `age` failed (exit status 1): ",
        ),
        ("age: secrets/word.age, identity: secrets/db.yaml", "`age` failed (exit status 1): "),
        ("sops: secrets/word.age", "sops metadata not found"),
        (
            "sops: secrets/db.yaml, key: db.pasword",
            "`secrets/db.yaml` has no `db.pasword`; did you mean `db.password`?",
        ),
        ("env: VPROV_TEST_UNSET", "the environment variable `VPROV_TEST_UNSET` is not set"),
    ];
    for (source, words) in failing {
        env.write(
            "hosts.yaml",
            format!(
                "vars: {{ a: {{ secret: {{ {source} }} }} }}\nhosts: {{ h: {{ connection: local, resources: [ \
                 {{ file: {{ path: /a, content: '{{{{ a }}}}' }} }} ] }} }}\n"
            ),
        );
        let output = quiet(run(&env, "plan", &[]).exits(3));
        output.says(words).says("hosts.yaml:1:12: error: ");
    }
}

#[test]
fn a_program_that_fails_says_no_secret() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(1);
    let env = Env::new().var("VPROV_TEST_SECRET", "canary-env-4711");
    let resources = r#"groups:
  lab:
    hosts: ["lab*"]
    vars: { word: { secret: { env: VPROV_TEST_SECRET } } }
    resources:
      - command: { argv: [sh, -c, "cat >&2; exit 7"], stdin: "{{ word }}\n", creates: /nowhere, undo: ["true"] }
      - file: { path: /etc/checked, content: "{{ word }}\n", validate: [sh, -c, "cat $1 >&2; exit 1", sh, "{}"] }
"#;
    env.write("hosts.yaml", lab::inventory(&hosts) + resources);
    let watch = Watch::new();
    quiet(env.vprov(["plan"]).exits(0)).says("run sh (arguments not shown)");
    quiet(env.vprov(["apply", "--yes"]).exits(3)).says("what was said is not shown, as the resource");
    quiet(env.vprov(["apply", "--yes", "--json"]).exits(3)).says("not shown");
    for more in ["-v", "--json"] {
        quiet(env.vprov(["history", more]).exits(0)).says("not shown");
    }
    quiet(env.vprov(["rollback", "--yes", "-v"]).exits(0));
    watch.end();
    env.vprov(["apply", "--yes", "--show-sensitive"]).exits(3).says("canary-env-4711");
}

/// A login shell that writes down what it is given and goes on as a shell.
const SPY: &str = "#!/bin/bash\nenv >>/root/environment\nprintf '%s\\n' \"$@\" >>/root/arguments\n\
    exec /bin/sh \"$@\" < <(tee -a /root/input)\n";

#[test]
fn a_host_gets_nothing_but_its_own() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let spied = &hosts[0];
    spied.write("/spy", SPY);
    fs::set_permissions(spied.path("/spy"), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
    let accounts = spied.read("/etc/passwd");
    let shell: Vec<String> = accounts
        .lines()
        .map(|line| match line.strip_prefix("root:").and_then(|rest| rest.rsplit_once(':')) {
            Some((rest, _)) => format!("root:{rest}:/spy"),
            None => line.to_owned(),
        })
        .collect();
    spied.write("/etc/passwd", &(shell.join("\n") + "\n"));
    let env = Env::new()
        .var("OWN_SECRET", "canary-env-4711")
        .var("OTHER_SECRET", "canary-sops-4711")
        .var("LC_CANARY", "canary-age-4711")
        .var("SSH_AUTH_SOCK", "/run/canary-literal-4711")
        .var("DISPLAY", ":4711");
    // A careless configuration of ssh: everything is forwarded.
    let config = env.write(
        "ssh_config",
        format!(
            "Host *\n  ForwardAgent yes\n  ForwardX11 yes\n  ForwardX11Trusted yes\n  SendEnv LC_* *SECRET\n  IdentitiesOnly yes\n\
             Include {}\n",
            spied.ssh_config.display()
        ),
    );
    let inventory =
        lab::inventory(&hosts).replace(&spied.ssh_config.display().to_string(), &config.display().to_string());
    let secret = |name: &str, at: usize, inventory: &str| {
        let host = &hosts[at];
        let line = format!("  {}: {{ ", host.name);
        inventory.replace(
            &line,
            &format!(
                "{line}resources: [ {{ file: {{ path: /etc/own, content: {{ secret: {{ env: {name} }} }} }} }} ], "
            ),
        )
    };
    let inventory = secret("OTHER_SECRET", 1, &secret("OWN_SECRET", 0, &inventory));
    env.write("hosts.yaml", inventory);
    env.vprov(["apply", "--yes"]).exits(0);
    assert_eq!(spied.read("/etc/own"), "canary-env-4711");
    assert_eq!(hosts[1].read("/etc/own"), "canary-sops-4711");
    let heard = |name: &str| {
        let bytes = fs::read(spied.path(&format!("/root/{name}"))).expect("the spy wrote it down");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (environment, arguments, input) = (heard("environment"), heard("arguments"), heard("input"));
    for name in ["SSH_AUTH_SOCK", "DISPLAY", "OWN_SECRET", "OTHER_SECRET", "canary"] {
        assert!(!environment.contains(name), "{name}: {environment}");
    }
    assert!(!arguments.contains("canary"), "{arguments}");
    for canary in ["canary-sops-4711", "canary-age-4711", "canary-literal-4711"] {
        assert!(!input.contains(canary), "{canary}");
    }
}

/// A login shell that answers the bootstrap as an executor would and then speaks this.
fn evil(speech: &str) -> String {
    format!(
        "#!/bin/bash\nn=$(printf %s \"$2\" | grep -o 'vprov [0-9a-f]\\{{32\\}}' | tail -n 1 | cut -d' ' -f2)\n\
         hello() {{ printf 'VPROV-%s HELLO\\n' \"$n\"; }}\n{speech}\n"
    )
}

#[test]
fn a_hostile_host_fails_alone() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(3);
    let hostile = &hosts[1];
    let accounts = hostile.read("/etc/passwd");
    let shell: Vec<String> = accounts
        .lines()
        .map(|line| match line.strip_prefix("root:").and_then(|rest| rest.rsplit_once(':')) {
            Some((rest, _)) => format!("root:{rest}:/evil"),
            None => line.to_owned(),
        })
        .collect();
    hostile.write("/etc/passwd", &(shell.join("\n") + "\n"));
    let env = Env::new();
    let resources = "groups:\n  lab:\n    hosts: [\"lab*\"]\n    resources: [ { file: { path: /etc/motd, content: \"NUMBER\\n\" } } ]\n";
    let speeches = [
        ("yes", 3, "prints without end"),
        ("yes >&2", 4, "did not start vprov in time"),
        ("while :; do printf ' '; sleep 0.2; done", 4, "did not start vprov in time"),
        ("printf '\\033]0;owned\\007\\033[2J\\n'; hello", 3, "prints text before the command runs"),
        ("hello; printf '\\377\\377\\377\\377'", 3, "a frame of 4294967295 bytes"),
        ("hello; printf '\\0\\0\\0\\4nope'", 3, "none of this language"),
        ("hello; printf '\\0\\0\\1\\0'; while :; do printf ' '; sleep 0.2; done", 4, "took too long to answer"),
        ("hello; printf '\\0\\0\\1\\0{'; exit 3", 4, "ended before it answered"),
        ("echo \"VPROV-$n FAILED \"$'\\033[2J\\033]0;owned\\007'", 3, "\\u{1b}[2J\\u{1b}]0;owned"),
        ("kill -9 $$", 4, "was closed before vprov ran"),
    ];
    for (number, (speech, code, words)) in speeches.into_iter().enumerate() {
        hostile.write("/evil", &evil(speech));
        fs::set_permissions(hostile.path("/evil"), fs::Permissions::from_mode(0o755)).expect("its mode can be set");
        let text = format!("{number}");
        env.write("hosts.yaml", lab::inventory(&hosts) + &resources.replace("NUMBER", &text));
        let output = env.vprov(["apply", "--yes", "--host-timeout", "8"]);
        assert_eq!(output.code, code, "{speech}: {output:?}");
        let output = output.says(words);
        let raw = |c: char| c.is_control() && c != '\n';
        assert!(!output.stdout.contains(raw) && !output.stderr.contains(raw), "{speech}: {output:?}");
        for good in [&hosts[0], &hosts[2]] {
            assert_eq!(good.read("/etc/motd"), format!("{number}\n"), "{speech}: {output:?}");
        }
    }
}
