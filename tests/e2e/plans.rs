//! Saved plans: what was reviewed is what is applied, or it is refused with the reason.

use crate::{
    lab::{self, Lab},
    program::{Env, Output},
};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// Two hosts, of which one is below a root; the file is secret, and there is an old one.
const INVENTORY: &str = r#"
vars: { word: hunter2 }
hosts:
  image:
    connection: local
    resources:
      - file: { path: /etc/app.conf, content: "a = {{ 1 + 1 }}\n" }
      - file: { path: /etc/app.key, content: "the word is {{ word }}\n", mode: "0600" }
      - sysctl: { name: vm.swappiness, value: 35 }
  other: { connection: local, resources: [ { file: { path: /etc/other, content: x } } ] }
groups:
  images: { hosts: [image] }
"#;

struct Saved(Env);

impl Saved {
    fn new() -> Saved {
        let saved = Saved(Env::new());
        saved.0.write("hosts.yaml", INVENTORY);
        saved.0.write("root/etc/app.conf", "a = 1\n");
        saved.0.write("root/etc/app.key", "the word is swordfish\n");
        saved.0.run("chmod", ["600", "root/etc/app.key"], "").exits(0);
        saved.vprov("plan hosts.yaml --root root --limit image -o p.vprov").exits(0);
        saved
    }

    fn vprov(&self, command: &str) -> Output {
        self.0.vprov(command.split_whitespace())
    }

    fn root(&self) -> String {
        self.0.run("find", ["root/etc", "-printf", "%p %m %s %T@\n"], "").exits(0).stdout
    }

    fn cat(&self, path: &str) -> String {
        fs::read_to_string(self.0.dir().join(path)).expect("the file is there")
    }

    /// Says what apply and show say of a plan file with other bytes; nothing may be touched.
    fn refuses(&self, bytes: impl AsRef<[u8]>, words: &str) {
        self.0.write("bad.vprov", bytes);
        let before = self.root();
        self.vprov("apply bad.vprov --yes").exits(1).says(words).says("bad.vprov");
        assert_eq!(self.root(), before);
    }
}

#[test]
fn what_was_saved_is_what_is_applied() {
    let saved = Saved::new();
    let mode = fs::metadata(saved.0.dir().join("p.vprov")).expect("the plan is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let planned = saved.vprov("plan hosts.yaml --root root --limit image").exits(0).stdout;
    let shown = saved.vprov("show p.vprov").exits(0).stdout;
    let (origin, rest) = shown.split_once("\n\n").expect("a line of its own says where it comes from");
    assert!(origin.starts_with("Plan of ") && origin.ends_with(", from hosts.yaml"), "{origin}");
    assert!(planned.contains("/etc/app.key: 1 line added, 1 removed (sensitive, not shown)"), "{planned}");
    assert_eq!(rest, planned);
    // The sources are of no concern any more.
    fs::remove_file(saved.0.dir().join("hosts.yaml")).expect("the inventory is there");
    saved.vprov("apply p.vprov --yes").exits(0).says("image  done        3 changed, run ");
    assert_eq!(
        (saved.cat("root/etc/app.conf"), saved.cat("root/etc/app.key")),
        ("a = 2\n".into(), "the word is hunter2\n".into())
    );
    saved.0.write("hosts.yaml", INVENTORY);
    saved.vprov("plan hosts.yaml --root root --limit image --detailed-exitcode").exits(0).says("No changes.");
    saved.vprov("apply p.vprov --yes").exits(0);
}

#[test]
fn a_saved_plan_keeps_no_secret_that_it_does_not_need() {
    let saved = Saved::new();
    let text = saved.cat("p.vprov");
    assert!(!text.contains("swordfish") && text.contains("hunter2"));
    for command in ["show p.vprov", "show p.vprov --json", "show p.vprov -v", "show p.vprov --show-sensitive"] {
        saved.vprov(command).exits(0).never_says("swordfish");
    }
    saved.vprov("show p.vprov --json").exits(0).never_says("hunter2");
}

#[test]
fn a_host_that_moved_since_its_plan_was_saved_is_not_touched() {
    let saved = Saved::new();
    saved.0.write("root/etc/app.conf", "somebody was here\n");
    let before = saved.root();
    saved.vprov("apply p.vprov --yes").exits(5).says("stale").says("/etc/app.conf");
    assert_eq!(saved.root(), before);
}

#[test]
fn a_file_that_is_not_the_plan_that_was_saved_is_refused() {
    let saved = Saved::new();
    let text = saved.cat("p.vprov");
    let version = format!("\"vprov\":\"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains("a = 2") && text.lines().next().is_some_and(|line| line.contains(&version)));
    saved.refuses(text.replace("a = 2", "a = 3"), "it was edited or damaged after it was saved");
    saved.refuses(format!("{text}\n"), "it was edited or damaged");
    saved.refuses(&text[..text.len() / 2], "it is cut short");
    saved.refuses(&text[..60], "it is cut short");
    saved.refuses(text.replacen(&version, "\"vprov\":\"0.0.9\"", 1), "made by vprov 0.0.9");
    saved.refuses(text.replacen("plan-file/1", "plan-file/9", 1), "of the format `vprov.plan-file/9`");
    saved.refuses("hosts: {}\n", "it is no plan");
    saved.refuses("", "it is no plan");
    saved.refuses([0xff; 5000], "it is no plan");
    let json = saved.vprov("plan hosts.yaml --root root --limit image --json").exits(0).stdout;
    saved.refuses(json, "it is what `plan --json` writes");
    saved.vprov("show nothing.vprov").exits(1).says("cannot read `nothing.vprov`: No such file");
    saved.vprov("show root").exits(1).says("it is no regular file");
    // A plan is a plan whatever its name is.
    fs::rename(saved.0.dir().join("p.vprov"), saved.0.dir().join("plan.json")).expect("the plan is there");
    saved.vprov("apply plan.json --yes").exits(0).says("3 changed");
}

#[test]
fn what_would_make_another_plan_is_refused_with_a_saved_one() {
    let saved = Saved::new();
    for option in ["--set word=x", "--modules .", "--root root", "--retry-short"] {
        let word = option.split(' ').next().expect("an option");
        let words = format!("{word} is for planning, and a saved plan is carried out as it is");
        saved.vprov(&format!("apply p.vprov --yes {option}")).exits(1).says(&words);
    }
    saved.vprov("apply p.vprov --yes --limit nobody").exits(1).says("unknown host or group `nobody`");
    saved
        .vprov("apply p.vprov --yes --limit other")
        .exits(1)
        .says("--limit: other of the inventory is not in this plan");
    saved.vprov("show p.vprov --limit image,other").exits(1).says("other of the inventory is not in this plan");
    saved.vprov("apply p.vprov").exits(1).says("say --yes");
    assert_eq!(saved.cat("root/etc/app.conf"), "a = 1\n");
    saved.vprov("apply p.vprov --yes --limit images --parallel 2").exits(0).says("3 changed");
}

#[test]
fn a_plan_that_cannot_be_saved_says_so_and_leaves_what_was_there() {
    let saved = Saved::new();
    saved
        .vprov("plan hosts.yaml --root root --limit image -o none/p.vprov")
        .exits(1)
        .says("cannot save the plan to `none/p.vprov`");
    saved.vprov("plan hosts.yaml --root root --limit image -o root").exits(1).says("cannot save the plan to `root`");
    let names = saved.0.run("sh", ["-c", "ls -A"], "").exits(0).stdout;
    assert_eq!(names, "hosts.yaml\np.vprov\nroot\n");
}

#[test]
fn what_is_decided_on_the_way_must_be_allowed() {
    let Some(lab) = Lab::get() else { return };
    let host = lab.host();
    let env = Env::new();
    let resources = "groups:\n  all:\n    hosts: [\"lab*\"]\n    resources:\n      \
                     - command: { argv: [mkdir, -p, /opt/app], creates: /opt/app }\n      \
                     - file: { path: /opt/app/config, content: x }\n";
    env.write("hosts.yaml", format!("{}{resources}", lab::inventory(std::slice::from_ref(&host))));
    env.vprov(["plan", "hosts.yaml", "-o", "p.vprov"]).exits(0).says("… later");
    let words = "file[/opt/app/config] is decided only once command[mkdir -p /opt/app] is there; say --allow-deferred";
    env.vprov(["apply", "p.vprov", "--yes"]).exits(1).says(words);
    host.ssh("test -e /opt/app").exits(1);
    env.vprov(["apply", "p.vprov", "--yes", "--allow-deferred"]).exits(0);
    assert_eq!(host.read("/opt/app/config"), "x");
}

#[test]
fn a_plan_is_signed_and_only_the_allowed_sign_plans() {
    let saved = Saved::new();
    let key = |name: &str| {
        saved.0.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name], "").exits(0);
        saved.cat(&format!("{name}.pub"))
    };
    let (ours, theirs) = (key("ours"), key("theirs"));
    saved.0.write("allowed", format!("alice@example.net {ours}"));
    saved.0.write("strangers", format!("mallory@example.net {theirs}"));
    let refused = |allowed: &str, words: &str| {
        let before = saved.root();
        let command = format!("apply p.vprov --yes --require-signature {allowed}");
        saved.vprov(&command).exits(1).says("`p.vprov`: ").says(words);
        assert_eq!(saved.root(), before);
    };
    refused("allowed", "it is not signed: there is no `p.vprov.sig`");
    saved.vprov("plan hosts.yaml --root root --limit image -o p.vprov --sign ours").exits(0);
    refused("nothing", "there is no file of allowed signers `nothing`");
    refused("strangers", "its signature is by nobody in `strangers`");
    // A signature over another plan, and one for another purpose.
    fs::rename(saved.0.dir().join("p.vprov.sig"), saved.0.dir().join("kept.sig")).expect("the signature is there");
    saved.vprov("plan hosts.yaml --root root --limit image -o other.vprov --set word=other --sign ours").exits(0);
    fs::copy(saved.0.dir().join("other.vprov.sig"), saved.0.dir().join("p.vprov.sig")).expect("it can be copied");
    refused("allowed", "its signature is not over this plan: ");
    fs::remove_file(saved.0.dir().join("p.vprov.sig")).expect("it is there");
    saved.0.run("ssh-keygen", ["-q", "-Y", "sign", "-f", "ours", "-n", "file", "p.vprov"], "").exits(0);
    refused("allowed", "its signature is not over this plan: ");
    fs::rename(saved.0.dir().join("kept.sig"), saved.0.dir().join("p.vprov.sig")).expect("it is there");
    // Anybody can check it without vprov.
    let check = "ssh-keygen -Y verify -f allowed -I alice@example.net -n vprov-plan -s p.vprov.sig < p.vprov";
    saved.0.run("sh", ["-c", check], "").exits(0);
    saved
        .vprov("apply p.vprov --yes --require-signature allowed")
        .exits(0)
        .says("Signed by alice@example.net")
        .says("3 changed");
    saved.vprov("plan hosts.yaml --root root --limit image --sign ours").exits(1).says("--out");
    let unsigned = saved.vprov("plan hosts.yaml --root root --limit image -o q.vprov --sign nothing").exits(1);
    unsigned.says("--sign: the plan is not saved: ");
    assert!(!saved.0.dir().join("q.vprov").exists() && !saved.0.dir().join("q.vprov.sig").exists());
}

#[test]
fn a_host_that_the_inventory_has_no_more_is_refused() {
    let saved = Saved::new();
    let check = |inventory: &str, words: &str| {
        saved.0.write("now.yaml", inventory);
        saved.vprov("apply p.vprov --yes --inventory now.yaml").exits(1).says(words);
    };
    check("hosts: { other: {} }\n", "the plan is for image, which `now.yaml` does not have any more");
    check(
        "hosts: { image: { address: 192.0.2.7 } }\n",
        "the plan is for image, which `now.yaml` says to reach in another way",
    );
    check("hosts: [\n", "now.yaml:");
    saved.vprov("apply hosts.yaml --yes --inventory hosts.yaml").exits(1).says("--inventory is for a plan");
    saved.vprov("apply hosts.yaml --yes --require-signature x").exits(1).says("--require-signature is for a plan");
    saved.vprov("apply p.vprov --yes --inventory hosts.yaml").exits(0).says("3 changed");
}

#[test]
fn an_unreachable_host_is_in_the_plan_and_stops_no_other() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let env = Env::new();
    let resources = "groups:\n  all:\n    hosts: [\"lab*\"]\n    resources: [ { file: { path: /etc/app.conf, content: \"new\\n\" } } ]\n";
    env.write("hosts.yaml", format!("{}{resources}", lab::inventory(&hosts)));
    hosts[1].stop();
    env.vprov(["plan", "hosts.yaml", "-o", "p.vprov"]).exits(4).says("unreachable");
    env.vprov(["show", "p.vprov"]).exits(0).says("! unreachable").says("+ create   file[/etc/app.conf]");
    fs::remove_file(env.dir().join("hosts.yaml")).expect("the inventory is there");
    let applied = env.vprov(["apply", "p.vprov", "--yes"]).exits(4);
    applied.says("done        1 changed").says("unreachable");
    assert_eq!(hosts[0].read("/etc/app.conf"), "new\n");
}

#[test]
fn a_saved_plan_is_applied_to_real_hosts_and_the_next_plan_is_empty() {
    let Some(lab) = Lab::get() else { return };
    let hosts = lab.hosts(2);
    let env = Env::new();
    let resources = "groups:\n  all:\n    hosts: [\"lab*\"]\n    resources:\n      \
                     - file: { path: /etc/app.conf, content: \"host = {{ facts.hostname }}\\n\" }\n      \
                     - hugepages: { default_size: 1G, pages: { 1G: 1 }, runtime: false }\n";
    env.write("hosts.yaml", format!("{}{resources}", lab::inventory(&hosts)));
    env.vprov(["plan", "hosts.yaml", "-o", "p.vprov"]).exits(0);
    hosts[1].write("/etc/app.conf", "somebody was here\n");
    let applied = env.vprov(["apply", "p.vprov", "--yes"]).exits(5);
    applied.says("done        2 changed").says("stale");
    assert_eq!(hosts[0].read("/etc/app.conf"), format!("host = {}\n", hosts[0].name));
    assert_eq!(hosts[1].read("/etc/app.conf"), "somebody was here\n");
    let limit = hosts[0].name.clone();
    env.vprov(["plan", "hosts.yaml", "--limit", &limit, "--detailed-exitcode"]).exits(0).says("No changes.");
}
