//! Local hosts below `--root`, and this machine as a normal user: what a person or a program sees of a plan and an apply.

use crate::{
    lab::skip,
    program::{Env, Output},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::PathBuf,
};

/// One host below a root with something of each kind that works on files alone.
const INVENTORY: &str = r#"
vars: { swappiness: 35 }
hosts:
  image:
    connection: local
    resources:
      - file: { path: /etc/app.conf, content: "a = 1\n" }
      - file: { path: /etc/app.key, content: "the word is hunter2\n", mode: "0600" }
      - directory: { path: /srv/images, mode: "0711" }
      - symlink: { path: /etc/images, target: /srv/images }
      - sysctl: { name: vm.swappiness, value: "{{ swappiness }}" }
      - setting: { file: /etc/default/libvirt-guests, key: ON_SHUTDOWN, value: shutdown }
      - nfs_mount: { source: "nfs1:/exported", path: /mnt/images, options: [hard] }
      - tmpfiles: { name: thp, rules: [ { path: /sys/kernel/mm/transparent_hugepage/enabled, argument: madvise } ] }
      - udev_rule: { name: kvm, rules: [ 'KERNEL=="kvm", MODE="0660"' ] }
"#;

struct Image {
    env: Env,
}

impl Image {
    fn new() -> Image {
        let env = Env::new();
        env.write("hosts.yaml", INVENTORY);
        env.write(
            "root/etc/default/libvirt-guests",
            "# What happens at shutdown\n#ON_SHUTDOWN=suspend\nURIS=default\n",
        );
        env.write("root/etc/fstab", "# <file system> <mount point>\nproc  /proc\tproc defaults 0 0\n");
        Image { env }
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        let args = [command, "hosts.yaml", "--root", "root"].into_iter().chain(more.iter().copied());
        self.env.vprov(args)
    }

    fn json(&self, command: &str, more: &[&str], code: i32) -> Value {
        let output = self.run(command, &[&["--json"], more].concat()).exits(code);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn path(&self, path: &str) -> PathBuf {
        self.env.dir().join("root").join(path)
    }

    fn cat(&self, path: &str) -> String {
        let path = self.path(path);
        self.env.run("cat", [&path], "").exits(0).stdout
    }
}

#[test]
fn plan_apply_plan() {
    let image = Image::new();
    let before = image.env.run("find", ["root", "-printf", "%p %m %s %T@\n"], "").exits(0).stdout;
    image.run("plan", &["--detailed-exitcode"]).exits(2).says("Plan: 8 to create, 1 to change on 1 host.");
    image.run("plan", &[]).exits(0);
    let after = image.env.run("find", ["root", "-printf", "%p %m %s %T@\n"], "").exits(0).stdout;
    assert_eq!(before, after, "a plan changes nothing");

    image.run("apply", &["--yes"]).exits(0).says("image  done        9 changed, run ");
    assert_eq!(image.cat("etc/app.conf"), "a = 1\n");
    assert_eq!(
        image.cat("etc/fstab"),
        "# <file system> <mount point>\nproc  /proc\tproc defaults 0 0\nnfs1:/exported /mnt/images nfs hard,_netdev,nofail 0 0\n"
    );
    assert_eq!(
        image.cat("etc/default/libvirt-guests"),
        "# What happens at shutdown\n#ON_SHUTDOWN=suspend\nON_SHUTDOWN=\"shutdown\"\nURIS=default\n"
    );
    let stat = |path: &str| image.env.run("stat", ["-c", "%a %u %F", &format!("root/{path}")], "").exits(0).stdout;
    let owner = fs::metadata(image.env.dir()).expect("a directory").uid();
    assert_eq!(stat("etc/app.key"), format!("600 {owner} regular file\n"));
    assert_eq!(stat("srv/images"), format!("711 {owner} directory\n"));
    assert_eq!(image.env.run("readlink", ["root/etc/images"], "").exits(0).stdout, "/srv/images\n");
    let shell = image.env.run("sh", ["-c", ". root/etc/default/libvirt-guests; echo $ON_SHUTDOWN"], "");
    assert_eq!(shell.exits(0).stdout, "shutdown\n");
    assert!(image.cat("etc/sysctl.d/90-vprov.conf").ends_with("\nvm.swappiness = 35\n"));

    image.run("plan", &["--detailed-exitcode"]).exits(0).says("No changes. 1 host as declared.");
    let before = image.env.run("find", ["root/var/lib/vprov"], "").exits(0).stdout;
    image.run("apply", &["--yes"]).exits(0);
    let after = image.env.run("find", ["root/var/lib/vprov"], "").exits(0).stdout;
    assert_eq!(before, after, "a run without operations writes nothing");
}

#[test]
fn a_change_by_somebody_else_is_seen_and_put_right() {
    let image = Image::new();
    image.run("apply", &["--yes"]).exits(0);
    fs::write(image.path("etc/app.conf"), "a = 2\n").expect("the file can be written");
    fs::set_permissions(image.path("etc/app.key"), fs::Permissions::from_mode(0o640)).expect("a mode can be set");
    image
        .run("plan", &["--detailed-exitcode"])
        .exits(2)
        .says("      -a = 2\n      +a = 1\n")
        .says("mode  0640 → 0600")
        .says("Plan: 2 to change on 1 host.");
    image.run("apply", &["--yes"]).exits(0);
    assert_eq!(image.cat("etc/app.conf"), "a = 1\n");
    image.run("plan", &["--detailed-exitcode"]).exits(0);
}

#[test]
fn variables_and_limits_of_the_command_line() {
    let image = Image::new();
    image.run("plan", &["--set", "swappiness=10"]).exits(0).says("+vm.swappiness = 10");
    image
        .run("plan", &["--set", "swappiness=300"])
        .exits(1)
        .says("hosts.yaml:11:")
        .says("takes an integer from 0 to 200");
    image.env.write("hosts.yaml", format!("{INVENTORY}  other: {{ connection: local }}\n"));
    image.run("plan", &[]).exits(1).says("--root stands for exactly one host, and 2 are selected");
    image.run("plan", &["--limit", "ima*"]).exits(0).says("+vm.swappiness = 35");
    image.run("plan", &["--limit", "!image"]).exits(0).says("No changes.").never_says("swappiness");
}

#[test]
fn without_a_terminal_nothing_is_applied_unasked() {
    let image = Image::new();
    image.run("apply", &[]).exits(1).says("say --yes to go without");
    assert!(!image.path("etc/app.conf").exists());
}

#[test]
fn json_says_the_same_as_the_text() {
    let image = Image::new();
    let plan = image.json("plan", &["--detailed-exitcode"], 2);
    assert_eq!(plan.as_object().and_then(|plan| plan.keys().next()).map(String::as_str), Some("format"));
    assert_eq!(plan["format"], "vprov.plan/1");
    let host = &plan["hosts"][0];
    assert_eq!((host["host"].as_str(), host["result"]["status"].as_str()), (Some("image"), Some("planned")));
    let resources = host["result"]["resources"].as_array().expect("a list of resources");
    let changes = resources.iter().filter(|resource| resource["verdict"]["verdict"] == "change").count();
    assert_eq!((resources.len(), changes), (9, 9), "{plan:#}");
    let applied = image.json("apply", &["--yes"], 0);
    assert_eq!((&applied["format"], &applied["hosts"][0]["host"]), (&"vprov.apply/1".into(), &"image".into()));
    let facts = image.json("facts", &[], 0);
    assert_eq!(facts["format"], "vprov.facts/1");
    assert!(facts["hosts"][0]["facts"]["os"].is_object(), "{facts:#}");
    let valid: Value = serde_json::from_str(&image.env.vprov(["validate", "--json"]).exits(0).stdout).expect("JSON");
    assert_eq!((&valid["format"], &valid["valid"]), (&"vprov.validate/1".into(), &true.into()));
    image.env.write("hosts.yaml", "hosts: {h: {adress: x}}\n");
    let wrong: Value = serde_json::from_str(&image.env.vprov(["validate", "--json"]).exits(1).stdout).expect("JSON");
    assert_eq!(wrong["valid"], false);
    let told = &wrong["diagnostics"][0];
    assert_eq!(
        (&told["file"], &told["line"], &told["column"], &told["message"]),
        (&"hosts.yaml".into(), &1.into(), &13.into(), &"unknown key `adress`".into())
    );
}

#[test]
fn secrets_are_counted_and_not_shown() {
    let image = Image::new();
    let check = |words: &str, code: i32| {
        for args in [&["plan"][..], &["plan", "--json"], &["plan", "--verbose"]] {
            image.run(args[0], &args[1..]).exits(code).never_says(words);
        }
    };
    check("hunter2", 0);
    image.run("plan", &[]).exits(0).says("/etc/app.key: 1 line added, 0 removed (sensitive, not shown)");
    image.run("plan", &["--show-sensitive"]).exits(0).says("+the word is hunter2");
    image.run("apply", &["--yes"]).exits(0).never_says("hunter2");
    // What stood there is as secret as what will.
    fs::write(image.path("etc/app.key"), "the word was swordfish\n").expect("the file can be written");
    check("swordfish", 0);
    check("hunter2", 0);
    image.run("apply", &["--yes", "--json"]).exits(0).never_says("hunter2").never_says("swordfish");
    assert_eq!(image.cat("etc/app.key"), "the word is hunter2\n");
}

#[test]
fn the_text_fits_a_terminal_and_has_colours_only_where_they_are_wanted() {
    let image = Image::new();
    let width = |output: &Output| {
        // The lines of diffs are those of files.
        let words = output.stdout.lines().filter(|line| !line.trim_start().starts_with(['+', '-', '@', ' ', '\\']));
        words.map(|line| line.chars().count()).max().unwrap_or(0)
    };
    let plain = image.run("plan", &[]).exits(0);
    assert!(width(&plain) <= 80, "{plain:?}");
    assert!(!plain.stdout.contains('\x1b') && !plain.stderr.contains('\x1b'));
    let coloured = image.run("plan", &["--color", "always"]).exits(0);
    assert!(coloured.stdout.contains("\x1b["));
    let bare: String =
        coloured.stdout.split('\x1b').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
    // The first part has no escape before it.
    assert!(bare.contains("Plan: 8 to create, 1 to change"), "{bare}");
    for command in
        [&["explain"][..], &["explain", "hugepages"], &["explain", "kernel_cmdline"], &["--help"], &["plan", "--help"]]
    {
        let output = image.env.vprov(command).exits(0);
        let longest = output
            .stdout
            .lines()
            .filter(|line| !line.contains("- kernel_cmdline:"))
            .map(|line| line.chars().count())
            .max();
        assert!(longest <= Some(80), "{command:?}: {output:?}");
    }
    image.run("apply", &["--yes"]).exits(0);
    let facts = image.run("facts", &[]).exits(0);
    assert!(!facts.stdout.is_empty());
}

#[test]
fn a_terminal_obeys_no_byte_of_a_file_or_name() {
    let image = Image::new();
    fs::write(image.path("etc/app.conf"), "\x1b]0;owned\x07\u{202e}b\r\n").expect("the file can be written");
    fs::write(image.path("etc/hostname"), "h\x1b[31m\n").expect("the file can be written");
    let output = image.run("plan", &[]).exits(0).says("-\\u{1b}]0;owned\\u{7}\\u{202e}b\\r");
    assert!(
        !output.stdout.contains(|c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}'),
        "{output:?}"
    );
    let facts = image.run("facts", &[]).exits(0);
    assert!(!facts.stdout.contains('\x1b'), "{facts:?}");
    image.run("plan", &["--limit", "a\x1b[31mb"]).exits(1).never_says("\x1b");
    image.run("plan", &["--set", "a\x1b[31m=1"]).exits(1).never_says("\x1b");
    image.env.vprov(["validate", "no\x1b[31mne.yaml"]).exits(1).never_says("\x1b");
    image.env.vprov(["explain", "no\x1b[31mne"]).exits(1).never_says("\x1b");
}

#[test]
fn nothing_outside_of_the_root_is_touched() {
    let image = Image::new();
    let outside = image.env.write("outside/app.conf", "mine\n");
    fs::remove_dir_all(image.path("srv")).ok();
    symlink(image.env.dir().join("outside"), image.path("srv")).expect("a link can be made");
    let output = image.run("apply", &["--yes"]);
    assert_eq!(fs::read_dir(outside.parent().expect("a parent")).expect("a directory").count(), 1, "{output:?}");
    assert_eq!(fs::read_to_string(outside).expect("the file is there"), "mine\n");
}

#[test]
fn a_stranger_between_plan_and_write_is_not_overwritten() {
    let image = Image::new();
    fs::remove_file(image.path("etc/fstab")).expect("the file is there");
    symlink("/etc/passwd", image.path("etc/fstab")).expect("a link can be made");
    fs::create_dir_all(image.path("etc/app.conf")).expect("a directory can be made");
    let output = image.run("apply", &["--yes"]).exits(3);
    assert!(image.path("etc/app.conf").is_dir(), "{output:?}");
    assert!(image.path("etc/fstab").is_symlink(), "{output:?}");
    // The others went on.
    assert_eq!(image.cat("etc/sysctl.d/90-vprov.conf").lines().last(), Some("vm.swappiness = 35"));
}

/// Runs vprov as a user who may do nothing, if this test may become one.
fn as_nobody(env: &Env, args: &[&str]) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        return Some(env.vprov(args));
    }
    let binary = env.dir().join("vprov");
    fs::copy(env!("CARGO_BIN_EXE_vprov"), &binary).expect("the binary can be copied");
    fs::set_permissions(env.dir(), fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    let binary = binary.to_str().expect("temporary directories are UTF-8");
    // Where its run is remembered.
    let state = env.dir().join(".local");
    fs::create_dir_all(&state).expect("a directory can be made");
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).expect("root may give it away");
    let become_nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", binary];
    if env.run("sh", ["-c", "setpriv --reuid=65534 --regid=65534 --clear-groups true"], "").code != 0 {
        skip("setpriv cannot become another user here");
        return None;
    }
    Some(env.run("setpriv", become_nobody.iter().chain(args), ""))
}

#[test]
fn what_may_not_be_read_is_unknown_and_not_absent() {
    let env = Env::new();
    env.write(
        "hosts.yaml",
        "hosts: {localhost: {connection: local, resources: [\
         {file: {path: /etc/shadow, content: x, mode: '0600'}},\n{file: {path: /etc/vprov-test, content: x}}]}}\n",
    );
    let Some(output) = as_nobody(&env, &["plan"]) else { return };
    output
        .exits(3)
        .says("? unknown  file[/etc/shadow]")
        .says("/etc/shadow may not be read by this user")
        .says("+ create   file[/etc/vprov-test]")
        .says("not fully readable (needs root)");
    let Some(output) = as_nobody(&env, &["plan", "--json"]) else { return };
    let plan: Value = serde_json::from_str(&output.exits(3).stdout).expect("JSON");
    let verdicts: Vec<_> = plan["hosts"][0]["result"]["resources"]
        .as_array()
        .expect("a list of resources")
        .iter()
        .map(|resource| resource["verdict"]["verdict"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(verdicts, ["unknown", "change"]);
}

#[test]
fn a_user_who_may_not_write_changes_nothing() {
    let env = Env::new();
    env.write(
        "hosts.yaml",
        "hosts: {localhost: {connection: local, resources: [{file: {path: /etc/vprov-e2e-test, content: x}}]}}\n",
    );
    let Some(output) = as_nobody(&env, &["apply", "--yes"]) else { return };
    let output = output.exits(3);
    assert!(!PathBuf::from("/etc/vprov-e2e-test").exists());
    assert!(output.stdout.contains("ermission denied") || output.stdout.contains("root"), "{output:?}");
}
