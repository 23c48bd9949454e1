//! The examples and the committed schemas: each example is valid, for vprov and for an editor that knows the schemas.
#![expect(clippy::disallowed_methods, reason = "tests start the program and read files")]

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn vprov(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vprov"))
        .args(args)
        .current_dir(ROOT)
        .env("NO_COLOR", "1")
        .output()
        .expect("the program starts")
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The directories below `examples/`.
fn examples() -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join("examples")).expect("there are examples");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    found.retain(|example| example.join("hosts.yaml").exists());
    found.sort();
    found
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return vec![] };
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).expect("the example is YAML")
}

fn schema(name: &str) -> jsonschema::Validator {
    let text = fs::read_to_string(Path::new(ROOT).join("schemas").join(name)).expect("the schema is committed");
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{name} is no schema: {error}"));
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn wrong(schema: &jsonschema::Validator, text: &str) -> Vec<String> {
    schema.iter_errors(&yaml(text)).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn each_example_is_valid_without_a_warning() {
    let examples = examples();
    assert!(examples.len() >= 3, "{examples:?}");
    for example in examples {
        assert!(example.join("README.md").exists(), "{} says nothing", example.display());
        let hosts = example.join("hosts.yaml");
        let output = vprov(&["validate", hosts.to_str().expect("UTF-8")]);
        assert!(output.status.success() && output.stderr.is_empty(), "{}", told(&output));
    }
}

#[test]
fn editors_accept_each_example_and_what_is_embedded() {
    let (hosts, playbook, module) =
        (schema("hosts.schema.json"), schema("playbook.schema.json"), schema("module.schema.json"));
    let mut checked = 0;
    let mut check = |schema: &jsonschema::Validator, path: &Path| {
        let text = fs::read_to_string(path).expect("the file can be read");
        let errors = wrong(schema, &text);
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        checked += 1;
    };
    for directory in examples() {
        check(&hosts, &directory.join("hosts.yaml"));
    }
    for directory in examples().into_iter().chain([PathBuf::from(ROOT)]) {
        // The embedded modules are known to the schemas; those of an example are completed with `--modules`.
        yaml_files(&directory.join("modules")).iter().for_each(|path| check(&module, path));
        let own = yaml_files(&directory.join("modules"));
        let is_plain = directory == Path::new(ROOT) || own.is_empty();
        yaml_files(&directory.join("playbooks")).iter().filter(|_| is_plain).for_each(|path| check(&playbook, path));
    }
    assert!(checked >= 14, "{checked}");
}

#[test]
fn modules_of_ones_own_are_completed_too() {
    let directory = Path::new(ROOT).join("examples/kvm-fleet");
    let output = vprov(&["schema", "playbook", "--modules", directory.to_str().expect("UTF-8")]);
    let own: Value = serde_json::from_slice(&output.stdout).expect("a schema is JSON");
    let own = jsonschema::validator_for(&own).expect("a schema");
    let text = fs::read_to_string(directory.join("playbooks/storage.yaml")).expect("the playbook can be read");
    assert_eq!(wrong(&own, &text), Vec::<String>::new());
    assert_ne!(wrong(&schema("playbook.schema.json"), &text), Vec::<String>::new(), "image_pool is the example's own");
}

#[test]
fn editors_mark_what_is_wrong() {
    let hosts = schema("hosts.schema.json");
    let quickstart =
        fs::read_to_string(Path::new(ROOT).join("examples/quickstart/hosts.yaml")).expect("the quickstart");
    assert_eq!(wrong(&hosts, &quickstart), Vec::<String>::new());
    let resources = |entries: &str| format!("hosts: {{ h: {{ resources: [ {entries} ] }} }}\n");
    for text in [
        quickstart.replace("connection: local", "connection: telnet"),
        quickstart.replace("connection: local", "conection: local"),
        quickstart.replace("aio_max_nr: { value", "aio_max_nr: { vlaue"),
        quickstart.replace("- sysctl:", "- sysctll:"),
        quickstart.replace("name: vm.swappiness", "nam: vm.swappiness"),
        resources("{ swappiness: { value: lots } }"),
        resources("{ swappiness: { value: 250 } }"),
        resources("{ service: { name: a, enabled: 3 } }"),
        resources("{ transparent_hugepages: { enabled: sometimes } }"),
        resources("{ file: { path: /etc/a, ensure: gone } }"),
        resources("{ file: { path: /etc/a, content: x }, swappiness: {} }"),
        "hosts: [a]\n".to_owned(),
    ] {
        assert!(!wrong(&hosts, &text).is_empty(), "accepted:\n{text}");
    }
}

#[test]
fn the_committed_schemas_are_those_of_this_program() {
    let made = tempfile::tempdir().expect("a temporary directory");
    let output = vprov(&["schema", "--out", made.path().to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", told(&output));
    let mut names: Vec<_> =
        fs::read_dir(made.path()).expect("a directory").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["hosts.schema.json", "module.schema.json", "playbook.schema.json"]);
    for name in names {
        let committed = fs::read_to_string(Path::new(ROOT).join("schemas").join(&name)).unwrap_or_default();
        let fresh = fs::read_to_string(made.path().join(&name)).expect("it was written");
        assert!(committed == fresh, "schemas/{} is stale: run `cargo run -- schema --out schemas`", name.display());
    }
}

#[test]
fn the_quickstart_shows_changes_of_this_machine_and_makes_none() {
    let before = fs::metadata("/etc").and_then(|etc| etc.modified()).expect("there is /etc");
    let output = vprov(&["plan", "examples/quickstart/hosts.yaml", "--detailed-exitcode"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("+ create   file[/etc/vprov-quickstart]") && text.contains("Plan: "), "{text}");
    assert!(text.contains("+vm.swappiness = 35") && !text.contains("warning"), "{text}");
    assert!(!Path::new("/etc/vprov-quickstart").exists());
    assert_eq!(fs::metadata("/etc").and_then(|etc| etc.modified()).expect("there is /etc"), before);
    let other = told(&vprov(&["plan", "examples/quickstart/hosts.yaml", "--set", "swappiness=10"]));
    assert!(other.contains("+vm.swappiness = 10"), "{other}");
}

#[test]
fn the_quickstart_is_carried_out_below_a_root() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let root_path = root.path().to_str().expect("UTF-8");
    let run =
        |command: &str, more: &str| vprov(&[command, "examples/quickstart/hosts.yaml", "--root", root_path, more]);
    assert_eq!(run("plan", "--detailed-exitcode").status.code(), Some(2));
    let applied = run("apply", "--yes");
    assert!(applied.status.success(), "{}", told(&applied));
    let written = fs::read_to_string(root.path().join("etc/sysctl.d/90-vprov.conf")).expect("it was written");
    assert!(written.ends_with("\nfs.aio-max-nr = 1048576\nvm.swappiness = 35\n"), "{written}");
    assert!(root.path().join("etc/vprov-quickstart").exists());
    assert_eq!(run("plan", "--detailed-exitcode").status.code(), Some(0));
}

/// The commands of vprov in a text: from its name to what ends a command for a shell, without quotes.
fn commands(text: &str) -> Vec<Vec<String>> {
    let ends = ["\n", ">", "|", ";", "&"];
    text.match_indices("vprov ")
        .filter(|(at, _)| text[..*at].trim_end_matches(' ').ends_with(['\n', '-', '`', '|']))
        .map(|(at, _)| {
            let end = ends.iter().filter_map(|end| text[at..].find(end)).min().unwrap_or(text.len() - at);
            let command = text[at..at + end].split('`').next().unwrap_or_default();
            command.split_whitespace().skip(1).map(|word| word.replace('"', "")).collect()
        })
        .filter(|command: &Vec<String>| !command.is_empty())
        .collect()
}

#[test]
fn the_commands_of_the_ci_examples_exist() {
    let ci = Path::new(ROOT).join("examples/ci");
    for (file, jobs, n) in [("gitlab.yml", &["plan", "apply"][..], 6), ("github.yml", &["jobs"], 6)] {
        let text = fs::read_to_string(ci.join(file)).expect("the example is text");
        let parsed = yaml(&text);
        for job in jobs {
            assert!(parsed[*job].is_object(), "{file} has no `{job}`");
        }
        let commands = commands(&text);
        assert!(commands.len() >= n, "{file}: {commands:?}");
        for command in commands {
            // Help is shown only once everything before it was understood.
            let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
            let output = vprov(&args);
            assert!(output.status.success(), "{file}: {command:?}: {}", told(&output));
        }
    }
}
