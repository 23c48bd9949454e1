//! What is declared no more: listed in each plan, left until it is asked for, and taken back by `--prune`.

use crate::program::{Env, Output};
use serde_json::Value;
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

const APP: &str = "      - file: { path: /etc/app.conf, content: \"a = 1\\n\" }\n";
const REST: &str = "      - file: { path: /srv/new/deep, content: x, mode: \"0600\" }
      - directory: { path: /srv/images, mode: \"0711\" }
      - symlink: { path: /etc/images, target: /srv/images }
      - sysctl: { name: vm.swappiness, value: 35 }
      - sysctl: { name: fs.aio-max-nr, value: 1048576 }
      - setting: { file: /etc/default/libvirt-guests, key: ON_SHUTDOWN, value: shutdown }
";

struct Image(Env);

impl Image {
    fn new() -> Self {
        let env = Env::new();
        let app = env.write("root/etc/app.conf", "# the old one\r\n");
        fs::set_permissions(&app, fs::Permissions::from_mode(0o644)).expect("a mode can be set");
        env.write("root/etc/default/libvirt-guests", "#ON_SHUTDOWN=suspend\nON_SHUTDOWN=\"suspend\"\n");
        std::os::unix::fs::symlink("/elsewhere", env.dir().join("root/etc/images")).expect("a link can be made");
        fs::create_dir_all(env.dir().join("root/var/lib")).expect("a directory can be made");
        Self(env)
    }

    fn declare(&self, resources: &[&str]) {
        let resources = if resources.is_empty() { "      []\n".into() } else { resources.concat() };
        self.0.write("hosts.yaml", format!("hosts:\n  image:\n    connection: local\n    resources:\n{resources}"));
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        self.0.vprov([command, "hosts.yaml", "--root", "root"].into_iter().chain(more.iter().copied()))
    }

    /// Everything below the root but the state of vprov: type and mode, and content or target.
    fn tree(&self) -> BTreeMap<String, String> {
        fn walk(top: &Path, directory: &Path, found: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(directory).expect("a directory can be listed") {
                let path = entry.expect("a directory can be listed").path();
                let name = path.strip_prefix(top).expect("it is below").display().to_string();
                let meta = fs::symlink_metadata(&path).expect("it can be looked at");
                let content = match () {
                    () if name == "var/lib/vprov" => continue,
                    () if meta.is_symlink() => format!("{:?}", fs::read_link(&path)),
                    () if meta.is_file() => format!("{:?}", fs::read_to_string(&path)),
                    () => String::new(),
                };
                found.insert(name, format!("{:o} {content}", meta.permissions().mode()));
                if meta.is_dir() {
                    walk(top, &path, found);
                }
            }
        }
        let root = self.0.dir().join("root");
        let mut found = BTreeMap::new();
        walk(&root, &root, &mut found);
        found
    }

    fn records(&self) -> usize {
        fs::read_dir(self.0.dir().join("root/var/lib/vprov/ledger")).map_or(0, Iterator::count)
    }

    fn orphans(&self) -> Vec<(String, String)> {
        let output = self.run("plan", &["--json"]).exits(0);
        let json: Value = serde_json::from_str(&output.stdout).expect("it is JSON");
        let orphans = json["hosts"][0]["result"]["orphaned"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        orphans.iter().map(|one| (text(&one["address"]), text(&one["standing"]["is"]))).collect()
    }
}

#[test]
fn what_is_declared_no_more_is_listed_and_pruned_and_the_prune_can_be_taken_back() {
    let image = Image::new();
    let before = image.tree();
    image.declare(&[APP, REST]);
    image.run("plan", &[]).exits(0).never_says("orphaned").never_says("remember");
    assert_eq!(image.records(), 0, "planning writes nothing");
    image.run("apply", &["--yes"]).exits(0);
    let applied = image.tree();
    let all = image.records();
    assert!(all > 6, "{all}");
    image.run("plan", &["--prune", "--detailed-exitcode"]).exits(0).never_says("orphaned");

    image.declare(&[REST]);
    assert_eq!(image.orphans(), [("file[/etc/app.conf]".to_owned(), "untouched".to_owned())]);
    let output = image.run("plan", &["--detailed-exitcode"]).exits(0);
    output.says("o orphaned file[/etc/app.conf]").says("`--prune` brings back").says("No changes.");
    image.run("apply", &["--yes"]).exits(0);
    assert_eq!(image.tree(), applied, "nothing is taken back unasked");
    let output = image.run("plan", &["--prune", "--detailed-exitcode", "--show-sensitive"]).exits(2);
    output.says("-a = 1").says("+# the old one").says("declared no more");

    image.declare(&[]);
    assert_eq!(image.orphans().len(), all);
    image.run("apply", &["--yes", "--prune"]).exits(0);
    assert_eq!(image.tree(), before);
    assert_eq!((image.records(), image.orphans()), (0, vec![]));
    image.run("plan", &["--prune", "--detailed-exitcode"]).exits(0).says("No changes.");

    image.run("rollback", &["--yes"]).exits(0).never_says("ledger");
    assert_eq!(image.tree(), applied);
    assert_eq!(image.orphans().len(), all, "the rollback of a prune remembers again");
    image.run("rollback", &["--yes"]).exits(0);
    assert_eq!(image.tree(), before);
    assert_eq!(image.records(), 0, "a rollback of the run that made it takes it out of the ledger");
}

#[test]
fn what_somebody_touched_since_is_told_and_left() {
    let image = Image::new();
    image.declare(&[APP, REST]);
    image.run("apply", &["--yes"]).exits(0);
    image.0.write("root/etc/app.conf", "mine\n");
    image.0.write("root/srv/new/other", "mine too\n");
    image.declare(&[]);
    image.run("plan", &["--prune"]).exits(3).says("changed since vprov wrote it");
    let output = image.run("apply", &["--yes", "--prune", "--show-sensitive"]);
    output.exits(3).says("/srv/new is not empty (`other`), so it stays");
    let tree = image.tree();
    assert!(tree["etc/app.conf"].contains("mine"), "{tree:?}");
    assert!(tree.contains_key("srv/new/other") && !tree.contains_key("srv/new/deep"), "{tree:?}");
    let left: Vec<String> = image.orphans().into_iter().map(|(address, _)| address).collect();
    assert_eq!(left, ["file[/etc/app.conf]", "directory[/srv]", "file[/srv/new]"]);
    // Whoever brings it back by hand has nothing left but to forget it.
    image.0.write("root/etc/app.conf", "# the old one\r\n");
    fs::remove_file(image.0.dir().join("root/srv/new/other")).expect("it can be removed");
    image.run("apply", &["--yes", "--prune"]).exits(0);
    assert_eq!(image.orphans(), []);
}

#[test]
fn what_was_there_before_a_secret_is_not_kept_and_that_is_told() {
    let image = Image::new();
    let key = image.0.write("root/etc/app.key", "swordfish\n");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
    image.declare(&["      - file: { path: /etc/app.key, content: \"hunter2\\n\" }\n"]);
    image.run("apply", &["--yes"]).exits(0);
    image.declare(&[]);
    let output = image.run("plan", &["--prune", "--detailed-exitcode"]).exits(0);
    output.says("what was there before is secret, so it was not").never_says("swordfish").never_says("hunter2");
    image.run("rollback", &["--yes"]).exits(0);
    assert_eq!((fs::read_to_string(&key).expect("it is there").as_str(), image.records()), ("swordfish\n", 0));
}

#[test]
fn what_was_there_first_outlives_the_runs_that_changed_it() {
    let image = Image::new();
    let before = image.tree();
    for number in 0..4 {
        image.declare(&[&format!("      - file: {{ path: /etc/app.conf, content: \"a = {number}\\n\" }}\n")]);
        image.run("apply", &["--yes", "--keep-runs", "1"]).exits(0);
    }
    image.declare(&[]);
    image.run("apply", &["--yes", "--prune", "--keep-runs", "1"]).exits(0);
    assert_eq!(image.tree(), before);
}

#[test]
fn a_record_of_a_later_version_is_named_and_left() {
    let image = Image::new();
    image.declare(&[APP]);
    image.run("apply", &["--yes"]).exits(0);
    image.0.write("root/var/lib/vprov/ledger/later", "{\"format\":\"vprov.ledger/9\",\"more\":1}\n");
    image.run("plan", &["--prune"]).exits(0).says("`vprov.ledger/9`; this vprov knows `vprov.ledger/1`");
}
