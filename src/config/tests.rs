//! Whole projects: files in, declarations or diagnostics out.
#![expect(clippy::disallowed_methods, reason = "projects of tests are written to a temporary directory")]

use std::{fs, path::Path, sync::Arc};

use serde_json::json;

use super::*;

/// Two kinds, as the language sees them.
struct TestKinds;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TestSysctl {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "value")]
    _value: String,
}

impl Kinds for TestKinds {
    fn names(&self) -> Vec<&'static str> {
        vec!["file", "sysctl", "service"]
    }
    fn check(&self, kind: &str, params: &Node) -> Diagnostics {
        match kind {
            "sysctl" => de::parse::<TestSysctl>(params).err().unwrap_or_default(),
            _ => Diagnostics::new(),
        }
    }
    fn file_parameters(&self, kind: &str) -> &'static [FileParameter] {
        match kind {
            "file" => &[
                FileParameter { parameter: "source", is_template: false },
                FileParameter { parameter: "template", is_template: true },
            ],
            _ => &[],
        }
    }
}

const EMBEDDED: &[(&str, &str)] = &[
    (
        "modules/swappiness.yaml",
        "parameters: { value: { type: integer, required: true, min: 0, max: 200, description: how much to swap } }\n\
         resources: [ { sysctl: { name: vm.swappiness, value: '{{ value }}' } } ]\n",
    ),
    (
        "playbooks/base.yaml",
        "parameters: { swappiness: { type: integer, default: 60 } }\n\
         resources: [ { swappiness: { value: '{{ swappiness }}' } } ]\n",
    ),
];

fn facts() -> serde_json::Value {
    json!({ "hostname": "h", "memory": { "installed_gib": 64 }, "disks": { "sda": { "rotational": true }, "sdb": { "rotational": false } } })
}

fn schema() -> serde_json::Value {
    json!({
        "properties": {
            "hostname": { "type": "string" },
            "memory": { "$ref": "#/$defs/Memory" },
            "disks": { "type": "object", "additionalProperties": { "$ref": "#/$defs/Disk" } },
        },
        "$defs": {
            "Memory": { "properties": { "installed_gib": { "type": "integer" } } },
            "Disk": { "properties": { "rotational": { "type": "boolean" } } },
        },
    })
}

struct Loaded {
    result: Result<(Project, Diagnostics), Diagnostics>,
    sources: Arc<SourceMap>,
    prefix: String,
}

/// Loads files; the first one is `hosts.yaml`.
fn load(files: &[(&str, &str)], set: &[&str]) -> Loaded {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let sources = Arc::new(SourceMap::new());
    let options = LoadOptions {
        set: set.iter().map(|text| (*text).to_owned()).collect(),
        embedded: EMBEDDED,
        facts: Some(schema()),
        modules_dirs: vec![directory.path().join("more")],
    };
    let result = Project::load(&directory.path().join("hosts.yaml"), &options, &TestKinds, &sources);
    Loaded { result, sources, prefix: format!("{}/", directory.path().display()) }
}

impl Loaded {
    fn shown(&self, diagnostics: &Diagnostics) -> String {
        diagnostics.render(&self.sources, false).replace(&self.prefix, "")
    }

    fn project(&self) -> &Project {
        match &self.result {
            Ok((project, _)) => project,
            Err(errors) => panic!("{}", self.shown(errors)),
        }
    }

    fn expand(&self, host: &str) -> Result<Vec<Declared>, String> {
        let project = self.project();
        let host = project.inventory().host(host).unwrap_or_else(|| panic!("no host {host}"));
        project.expand(host, &facts()).map_err(|errors| self.shown(&errors))
    }

    /// Returns the declarations of a host, one in a line.
    fn lines(&self, host: &str) -> Vec<String> {
        let declared = self.expand(host).unwrap_or_else(|errors| panic!("{errors}"));
        declared.iter().map(|one| format!("{} {}", one.kind, serde_json::to_string(&one.params).unwrap())).collect()
    }
}

fn sysctl(name: &str, value: &str) -> String {
    format!(r#"sysctl {{"name":"{name}","value":{value}}}"#)
}

#[test]
fn bad_input_is_told_at_its_place() {
    let wrong = std::cell::RefCell::new(Vec::new());
    // Files, where and what is told first, and what else is said.
    let check = |files: &[(&str, &str)], place: &str, summary: &str, more: &str| {
        let loaded = load(files, &[]);
        let shown = match &loaded.result {
            Ok((project, _)) => {
                let expanded: Vec<_> =
                    project.hosts().iter().filter_map(|host| loaded.expand(&host.name).err()).collect();
                expanded.first().cloned().unwrap_or_else(|| "accepted".to_owned())
            }
            Err(errors) => {
                let is_error = |d: &&Diagnostic| d.severity == crate::diag::Severity::Error;
                loaded.shown(&errors.iter().filter(is_error).cloned().collect())
            }
        };
        let (found, rest) = shown.split_once(": error: ").unwrap_or(("", &shown));
        if found != place || !rest.starts_with(summary) || !shown.contains(more) {
            wrong.borrow_mut().push(format!("expected {place}: {summary} … {more}, of {files:?}\n{shown}"));
        }
    };
    let hosts = |text: &str, place: &str, summary: &str, more: &str| {
        check(&[("hosts.yaml", text)], &format!("hosts.yaml:{place}"), summary, more);
    };
    let resources = |text: &str, place: &str, summary: &str, more: &str| {
        hosts(&format!("hosts:\n  h:\n    vars: {{ n: 3 }}\n    resources:\n{text}"), place, summary, more);
    };
    let module = |text: &str, place: &str, summary: &str, more: &str| {
        let caller = "hosts: { h: { resources: [ { m: {} } ] } }\n";
        check(&[("hosts.yaml", caller), ("modules/m.yaml", text)], &format!("modules/m.yaml:{place}"), summary, more);
    };

    hosts("", "1:1", "the inventory is empty", "hosts: {");
    hosts("host: {}\n", "1:1", "unknown key `host`", "did you mean `hosts`?");
    hosts("hosts: {}\n", "1:8", "there are no `hosts`", "");
    hosts("hosts:\n  - a\n", "2:3", "expected a map of hosts, found a list", "write `NAME: {}`");
    hosts("hosts: {a: {}}\nrollout: { batch: x }\n", "2:19", "`x` is neither a number of hosts nor a part", "");
    hosts("hosts: {a: {adress: x}}\n", "1:13", "unknown key `adress`", "did you mean `address`?");
    hosts("hosts: {a: {address: -oX}}\n", "1:22", "expected a name or IP address", "");
    hosts("hosts:\n  'a[1-2]': {address: x}\n", "2:23", "one address for 2 hosts", "");
    hosts("hosts: {a: {connection: telnet}}\n", "1:25", "unknown value `telnet`", "one of `ssh`, `local`");
    hosts("hosts: {a: {ssh: {prot: 22}}}\n", "1:19", "unknown key `prot`", "did you mean `port`?");
    hosts("hosts: {a: {ssh: {port: many}}}\n", "1:25", "expected an integer from 0 to 65535", "");
    hosts("hosts: {a: {ssh: {user: '{{ x }}'}}}\n", "1:25", "an SSH setting cannot be a template", "");
    hosts("hosts:\n  kvm[12-01]: {}\n", "2:7", "the range `12-01` runs backward", "");
    hosts("hosts:\n  a[1-3]: {}\n  a2: {}\n", "3:3", "the host `a2` stands twice", "first here");
    hosts("hosts:\n  n[1-100001]: {}\n", "2:5", "the range stands for more than 100000 hosts", "");
    hosts("hosts:\n  a: {}\n  a: {}\n", "3:3", "the key `a` stands twice", "");
    hosts("hosts:\n\ta: {}\n", "2:2", "a tab stands in the indentation", "");
    hosts("hosts: {a: {vars: {x: {{ y }}}}}\n", "1:23", "a template without quotes", "quote the template");
    hosts("hosts: {a: {vars: {facts: 1}}}\n", "1:20", "`facts` cannot be the name of a variable", "");
    hosts(
        "hosts: {a: {vars: {x: '{{ x }}'}, resources: [{sysctl: {name: a, value: '{{ x }}'}}]}}\n",
        "1:23",
        "the variable `x` is made of itself",
        "",
    );
    hosts("hosts: {a: {playbooks: [bsae]}}\n", "1:25", "unknown playbook `bsae`", "did you mean `base`?");
    hosts("hosts: {a: {playbooks: [swappiness]}}\n", "1:25", "unknown playbook `swappiness`", "is a module");
    hosts("hosts: {a: {playbooks: [base, base]}}\n", "1:31", "the playbook `base` stands twice", "");
    hosts(
        "hosts: {a: {playbooks: [{base: {swapiness: 1}}]}}\n",
        "1:33",
        "the playbook `base` has no parameter `swapiness`",
        "did you mean `swappiness`?",
    );
    hosts(
        "hosts: {a: {playbooks: [{base: {swappiness: x}}]}}\n",
        "1:45",
        "`swappiness`: expected an integer, found the string `x`",
        "",
    );
    hosts(
        "hosts: {a: {playbooks: [base]}}\nvars: {swappiness: x}\n",
        "2:20",
        "`swappiness`: expected an integer, found the string `x`",
        "",
    );
    hosts("hosts: {a: {}}\ngroups: {g: {hosts: [b]}}\n", "2:22", "unknown host `b`", "known are `a`");
    hosts("hosts: {a: {}}\ngroups: {g: {hosts: [h]}, h: {}}\n", "2:22", "unknown host `h`", "`h` is a group");
    hosts("hosts: {a: {}}\ngroups: {g: {groups: [k]}}\n", "2:23", "unknown group `k`", "");
    hosts("hosts: {a: {}}\ngroups: {a: {}}\n", "2:10", "`a` is a host", "");
    hosts(
        "hosts: {a: {}}\ngroups:\n  g: {groups: [h]}\n  h: {groups: [i]}\n  i: {groups: [g]}\n",
        "3:16",
        "the group `g` is inside itself: g > h > i > g",
        "a member of `i`",
    );
    hosts(
        "hosts: {a: {resources: [{sysctl: {name: a, value: '{{ x }}'}}]}}\ngroups:\n  g: {hosts: [a], vars: {x: 1}}\n  h: {hosts: [a], vars: {x: 2}}\n",
        "3:26",
        "two groups of one depth give the variable `x` different values",
        "and this one",
    );

    resources("    - sysctll: {}\n", "5:7", "unknown kind or module `sysctll`", "did you mean `sysctl`?");
    resources(
        "    - swapiness: {value: 3}\n",
        "5:7",
        "unknown kind or module `swapiness`",
        "did you mean `swappiness`?",
    );
    resources("    - sysctl: {nam: a, value: 3}\n", "5:16", "unknown key `nam`", "did you mean `name`?");
    resources("    - sysctl: {name: a}\n", "5:15", "`value` is missing", "");
    resources(
        "    - swappiness: {vale: 3}\n",
        "5:7",
        "`swappiness` needs the parameter `value`",
        "the module `swappiness` has no parameter `vale`",
    );
    resources(
        "    - swappiness: {value: 250}\n",
        "5:27",
        "`value`: 250 is above the maximum of 200",
        "how much to swap",
    );
    resources(
        "    - swappiness: {value: '{{ n * 100 }}'}\n",
        "5:27",
        "`value`: 300 is above the maximum of 200",
        "found for host `h`",
    );
    resources("    - swappiness: {value: '{{ m }}'}\n", "5:31", "unknown variable `m`", "");
    resources(
        "    - swappiness: {value: '{{ facts.memroy.x }}'}\n",
        "5:37",
        "unknown fact `facts.memroy`",
        "did you mean `facts.memory`?",
    );
    resources(
        "    - swappiness: {value: '{{ facts.memory.instaled_gib }}'}\n",
        "5:44",
        "unknown fact `facts.memory.instaled_gib`",
        "did you mean `facts.memory.installed_gib`?",
    );
    resources(
        "    - swappiness: {value: '{{ facts.disks.sdc.rotational }}'}\n",
        "5:43",
        "`facts.disks` has no `sdc`",
        "",
    );
    resources("    - swappiness: {value: '{{ n + }}'}\n", "5:27", "expression syntax", "");
    resources("    - swappiness: {value: '{{ n|sice }}'}\n", "5:27", "filter sice is unknown", "");
    resources(
        "    - swappiness: {value: '{{ n / 2 }}'}\n",
        "5:27",
        "`value`: expected an integer, found the number `1.5`",
        "",
    );
    resources(
        "    - swappiness: {value: 3}\n      requires: [basse]\n",
        "6:18",
        "no resource has the name `basse`",
        "",
    );
    resources("    - swappiness: {value: 3}\n      requires: ['sysctll[a]']\n", "6:18", "unknown kind `sysctll`", "");
    resources("    - swappiness: {value: 3}\n      when: item > 3\n", "6:13", "unknown variable `item`", "`for_each`");
    resources("    - file: {path: /a, source: files/nothing}\n", "5:32", "cannot read", "there is no such file");

    module("", "1:1", "the module is empty", "");
    module("parameters: {a: {type: integer, default: x}}\nresources: []\n", "1:42", "wrong default: `a`", "");
    module("resources: [{m: {}}]\n", "1:14", "the module `m` uses itself: m > m", "used by `m`");
    module(
        "resources: [{sysctl: {name: a, value: '{{ n }}'}}]\n",
        "1:43",
        "unknown variable `n`",
        "its own parameters only",
    );
    module(
        "resources: [{sysctl: {name: a, value: 1}, requires: base}]\n",
        "1:53",
        "no resource has the name `base`",
        "",
    );
    check(
        &[("hosts.yaml", "hosts: {h: {}}\n"), ("modules/sysctl.yaml", "resources: []\n")],
        "modules/sysctl.yaml:1:1",
        "the module `sysctl` has the name of a kind",
        "",
    );
    check(
        &[
            ("hosts.yaml", "hosts: {h: {resources: [{a: {}}]}}\n"),
            ("modules/a.yaml", "resources: [{b: {}}]\n"),
            ("modules/b.yaml", "resources: [{a: {}}]\n"),
        ],
        "modules/a.yaml:1:14",
        "the module `a` uses itself: a > b > a",
        "used by `b`",
    );
    check(
        &[
            ("hosts.yaml", "hosts: {h: {playbooks: [p]}}\n"),
            ("playbooks/p.yaml", "resources: [{file: {path: /a, template: t}}]\n"),
            ("playbooks/t", "a\n{{ b + }}\n"),
        ],
        "playbooks/t:2:1",
        "template syntax",
        "named here",
    );
    assert!(wrong.borrow().is_empty(), "{}", wrong.borrow().join("\n"));
}

#[test]
fn what_is_no_text_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts.yaml");
    let check = |content: &[u8], expected: &str| {
        fs::write(&path, content).unwrap();
        let sources = Arc::new(SourceMap::new());
        let errors = Project::load(&path, &LoadOptions::default(), &TestKinds, &sources).unwrap_err();
        let shown = errors.render(&sources, false).replace(&format!("{}/", directory.path().display()), "");
        assert!(shown.starts_with(expected), "{shown}");
    };
    check(b"hosts:\n  a\xff: {}\n", "hosts.yaml:2:4: error: the file is not UTF-8");
    let load = |path: &Path| {
        Project::load(path, &LoadOptions::default(), &TestKinds, &Arc::new(SourceMap::new())).unwrap_err()
    };
    assert!(
        load(&directory.path().join("none.yaml")).iter().next().unwrap().summary.ends_with("there is no such file")
    );
    assert!(load(directory.path()).iter().next().unwrap().summary.ends_with("it is a directory"));
    assert!(load(Path::new("/dev/zero")).iter().next().unwrap().summary.ends_with("no regular file"));
}

#[test]
fn all_errors_are_told_at_once_in_order() {
    let loaded = load(
        &[("hosts.yaml", "hosts:\n  a: { x: 1 }\n  b: { y: 1, resources: [ { when: 1 } ] }\nvars: { a-b: 1 }\n")],
        &[],
    );
    let errors = loaded.result.as_ref().unwrap_err();
    let lines: Vec<_> =
        loaded.sources.place(errors.iter().next().unwrap().span().unwrap()).chars().rev().take(3).collect();
    assert_eq!(errors.len(), 4, "{}", loaded.shown(errors));
    assert_eq!(lines, ['8', ':', '2']);
}

#[test]
fn a_deeper_layer_wins() {
    let hosts = "vars: { a: 1, b: 1, c: 1, d: 1, e: 1 }\n\
        hosts: { h1: { vars: { d: 4, e: 4 } }, h2: {} }\n\
        groups:\n\
        \x20 outer: { groups: [inner], vars: { b: 2, c: 2, d: 2, e: 2 }, resources: [ { sysctl: { name: out, value: '{{ [a, b, c, d, e] }}' } } ] }\n\
        \x20 inner: { hosts: [h1], vars: { c: 3, d: 3, e: 3 } }\n";
    let loaded = load(&[("hosts.yaml", hosts)], &["e=5"]);
    assert_eq!(loaded.lines("h1"), [sysctl("out", "[1,2,3,4,5]")]);
    assert!(loaded.lines("h2").is_empty());
    let host = loaded.project().inventory().host("h1").unwrap();
    assert_eq!(
        host.profile.groups.iter().map(|group| (&*group.name, group.depth)).collect::<Vec<_>>(),
        [("outer", 0), ("inner", 1)]
    );
}

#[test]
fn playbooks_take_variables_parameters_and_set() {
    let hosts = "hosts:\n\
        \x20 default: { playbooks: [base] }\n\
        \x20 var: { playbooks: [base], vars: { swappiness: 1 } }\n\
        \x20 given: { playbooks: [ { base: { swappiness: '{{ n + 1 }}' } } ], vars: { swappiness: 1, n: 2 } }\n\
        \x20 fact: { playbooks: [base], vars: { swappiness: '{{ facts.memory.installed_gib // m }}', m: '{{ k }}', k: 8 } }\n";
    let loaded = load(&[("hosts.yaml", hosts)], &[]);
    for (host, value) in [("default", "60"), ("var", "1"), ("given", "3"), ("fact", "8")] {
        assert_eq!(loaded.lines(host), [sysctl("vm.swappiness", value)], "{host}");
    }
    let taint = |host: &str| loaded.expand(host).unwrap()[0].params.get("value").unwrap().taint;
    assert!(taint("fact").facts && !taint("given").facts);
    let loaded = load(&[("hosts.yaml", hosts)], &["swappiness=9"]);
    for host in ["default", "var", "given", "fact"] {
        assert_eq!(loaded.lines(host), [sysctl("vm.swappiness", "9")], "{host}");
    }
    let wrong = load(&[("hosts.yaml", hosts)], &["swapiness=9", "x", "swappiness=[", "1=2"]);
    let shown = wrong.shown(wrong.result.as_ref().unwrap_err());
    for words in ["--set:1:1: error: `x` is not `key=value`", "--set swappiness:1:1: error: ", "`1` is no name"] {
        assert!(shown.contains(words), "{shown}");
    }
    let wrong = load(&[("hosts.yaml", hosts)], &["swapiness=9"]);
    let shown = wrong.shown(wrong.result.as_ref().unwrap_err());
    assert!(
        shown.starts_with("--set:1:1: error: `--set swapiness`: nothing uses")
            && shown.contains("did you mean `swappiness`?"),
        "{shown}"
    );
}

#[test]
fn entries_repeat_and_depend() {
    let playbook = "parameters:\n\
        \x20 disks: { type: map, default: { sda: a, sdb: b } }\n\
        \x20 secret: { type: string, default: hunter2, sensitive: true }\n\
        resources:\n\
        \x20 - sysctl: { name: 'disk.{{ item.key }}', value: '{{ item.value }}' }\n\
        \x20   for_each: '{{ disks }}'\n\
        \x20   when: item.key in facts.disks and not facts.disks[item.key].rotational\n\
        \x20   name: 'disk-{{ item.key }}'\n\
        \x20 - pair: { n: 1 }\n\
        \x20   name: first\n\
        \x20   requires: [disk-sdb, 'service[x]']\n\
        \x20 - pair: { n: 2 }\n\
        \x20   notify: first\n\
        \x20   override: true\n\
        \x20 - sysctl: { name: never, value: 1 }\n\
        \x20   when: false\n\
        \x20   name: never\n\
        \x20 - sysctl: { name: last, value: '{{ secret }}' }\n\
        \x20   requires: never\n";
    let module = "parameters: { n: { type: integer, required: true } }\n\
        resources:\n\
        \x20 - sysctl: { name: 'a{{ n }}', value: 1 }\n\
        \x20   name: a\n\
        \x20 - sysctl: { name: 'b{{ n }}', value: 1 }\n\
        \x20   requires: a\n";
    let loaded = load(
        &[
            ("hosts.yaml", "hosts: { h: { playbooks: [p] } }\n"),
            ("playbooks/p.yaml", playbook),
            ("more/modules/pair.yaml", module),
        ],
        &[],
    );
    let declared = loaded.expand("h").unwrap();
    let shown: Vec<String> = declared
        .iter()
        .map(|one| {
            let names = |list: &[(String, crate::diag::Span)]| {
                list.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
            };
            format!(
                "{} labels={} requires={} notify={} override={} places={}",
                one.params.get("name").unwrap().as_str().unwrap(),
                one.labels.join(","),
                names(&one.requires),
                names(&one.notify),
                one.overrides,
                one.origin.len()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "disk.sdb labels=disk-sdb requires= notify= override=false places=2",
            "a1 labels=first,pair#3/a requires=disk-sdb,service[x] notify= override=false places=3",
            "b1 labels=first requires=disk-sdb,service[x],pair#3/a notify= override=false places=3",
            "a2 labels=pair#6/a requires= notify=first override=true places=3",
            "b2 labels= requires=pair#6/a notify=first override=true places=3",
            "last labels= requires= notify= override=false places=2",
        ]
    );
    let secret = declared.last().unwrap().params.get("value").unwrap();
    assert!(secret.taint.sensitive && secret.describe() == "a string");
    assert_eq!(loaded.project().digests().len(), 3);
}

#[test]
fn files_beside_the_document_are_taken_in() {
    let playbook = "parameters: { n: { type: integer, default: 3 } }\n\
        resources:\n\
        \x20 - file: { path: /a, source: files/a }\n\
        \x20 - file: { path: /b, template: 'files/{{ \"b\" }}' }\n";
    let files = [
        ("hosts.yaml", "hosts: { h: { playbooks: [p] } }\n"),
        ("playbooks/p.yaml", playbook),
        ("playbooks/files/a", "{{ as it is }}\n"),
        ("playbooks/files/b", "n = {{ n }}\n{% if n > 2 %}\nmany\n{% endif %}\n"),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let sources = Arc::new(SourceMap::new());
    let (project, _) =
        Project::load(&directory.path().join("hosts.yaml"), &LoadOptions::default(), &TestKinds, &sources).unwrap();
    let declared = project.expand(&project.hosts()[0], &facts()).unwrap();
    assert_eq!(declared[0].params.get("source").unwrap().as_str(), Some("{{ as it is }}\n"));
    assert_eq!(declared[1].params.get("template").unwrap().as_str(), Some("n = 3\nmany\n"));
    assert_eq!(project.digests().len(), 4);
}

#[test]
fn warnings_do_not_stop() {
    let loaded = load(
        &[(
            "hosts.yaml",
            "vars: { swapiness: 1 }\nhosts: { h: { playbooks: [base] } }\ngroups: { g: { hosts: ['z*'] } }\n",
        )],
        &[],
    );
    let (_, warnings) = loaded.result.as_ref().unwrap();
    let shown = loaded.shown(warnings);
    assert!(shown.starts_with("hosts.yaml:1:9: warning: nothing uses the variable `swapiness`"), "{shown}");
    assert!(shown.contains("did you mean `swappiness`?") && shown.contains("`z*` matches no host"), "{shown}");
}

#[test]
fn ten_thousand_hosts_share_what_they_can() {
    let hosts = "hosts:\n  'n[00001-10000]': {}\ngroups: { all_of_them: { hosts: ['*'], playbooks: [base], ssh: { user: admin, become: true } } }\n";
    let loaded = load(&[("hosts.yaml", hosts)], &[]);
    let all = loaded.project().hosts();
    assert_eq!(all.len(), 10_000);
    assert!(all.iter().all(|host| Arc::ptr_eq(&host.profile, &all[0].profile)));
    assert_eq!(all[0].ssh().user.as_deref(), Some("admin"));
    assert!(all[0].ssh().r#become && all[9_999].target() == "n10000");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(200))]
    #[test]
    fn no_document_makes_it_panic(seed in 0_usize..4, cuts in proptest::collection::vec((0_usize..2000, 0_usize..40, "[a-z{}\\[\\]:,'\"| \\n*&!-]{0,6}"), 1..5)) {
        let seeds = [
            "vars: { a: 1 }\nhosts: { 'h[1-3]': { playbooks: [base] }, x: { vars: { b: '{{ a }}' } } }\ngroups: { g: { hosts: ['h*'], vars: { a: 2 }, groups: [k] }, k: { hosts: [x] } }\n",
            "hosts:\n  h:\n    resources:\n    - swappiness: { value: '{{ facts.memory.installed_gib }}' }\n      when: facts.hostname == 'h'\n      for_each: [1, 2]\n      name: 'n{{ item }}'\n    - sysctl: { name: a, value: 2 }\n      requires: n1\n",
            "hosts: { h: { resources: [ { m: { p: 512M } } ] } }\n",
            "hosts: { h: { ssh: { user: a, port: 22 }, connection: local, address: 10.0.0.1 } }\n",
        ];
        let mut text = seeds[seed].to_owned();
        for (at, len, with) in cuts {
            let at = text.floor_char_boundary(at % (text.len() + 1));
            let end = text.floor_char_boundary((at + len).min(text.len()));
            text.replace_range(at..end, &with);
        }
        let module = "parameters: { p: { type: size, default: 1G, min: 1M } }\nresources: [ { sysctl: { name: '{{ p|size }}', value: '{{ p }}' } } ]\n";
        let loaded = load(&[("hosts.yaml", &text), ("modules/m.yaml", module)], &[]);
        match &loaded.result {
            Ok((project, warnings)) => {
                loaded.shown(warnings);
                for host in project.hosts().iter().take(20) {
                    if let Err(errors) = project.expand(host, &facts()) {
                        loaded.shown(&errors);
                    }
                }
            }
            Err(errors) => {
                loaded.shown(errors);
            }
        }
    }
}

#[test]
fn what_is_made_of_a_secret_is_marked_and_stands_in_no_name() {
    // PATH is set wherever tests run; its value is the secret here.
    let playbook = "parameters: { password: { type: string, default: none }, n: { type: integer, default: 1 } }\n\
        resources:\n\
        \x20 - file: { path: /a, content: 'x={{ password }}' }\n\
        \x20 - file: { path: /b, content: plain }\n\
        \x20   when: password != ''\n\
        \x20 - file: { path: '/c/{{ item }}', content: plain }\n\
        \x20   for_each: [1]\n\
        \x20 - file: { path: /d, content: { secret: { env: PATH } } }\n\
        \x20 - file: { path: /e, content: plain }\n";
    let hosts =
        "vars: { first: { secret: { env: PATH } }, password: '{{ first|upper }}' }\nhosts: { h: { playbooks: [p] } }\n";
    let loaded = load(&[("hosts.yaml", hosts), ("playbooks/p.yaml", playbook)], &[]);
    let declared = loaded.expand("h").unwrap();
    let shown: Vec<String> = declared
        .iter()
        .map(|one| {
            let of = |name: &str| one.params.get(name).unwrap().taint.sensitive;
            format!("{} {} {}", one.params.get("path").unwrap().as_str().unwrap(), of("content"), one.sensitive)
        })
        .collect();
    assert_eq!(shown, ["/a true false", "/b false true", "/c/1 false false", "/d true false", "/e false false"]);
    // Without facts no secret is had, and what looks at one is left out.
    let host = loaded.project().hosts()[0].clone();
    let (declared, _) = loaded.project().expand_without_facts(&host).unwrap();
    let paths: Vec<_> = declared.iter().map(|one| one.params.get("path").unwrap().as_str().unwrap()).collect();
    assert_eq!(paths, ["/c/1", "/e"]);

    let check = |entry: &str, words: &str| {
        let playbook =
            format!("parameters: {{ password: {{ type: string, default: none }} }}\nresources:\n  - {entry}\n");
        let hosts = "vars: { password: { secret: { env: PATH } } }\nhosts: { h: { playbooks: [p] } }\n";
        let loaded = load(&[("hosts.yaml", hosts), ("playbooks/p.yaml", &playbook)], &[]);
        let shown = loaded.expand("h").unwrap_err();
        assert!(shown.contains(words) && !shown.contains("/usr/bin"), "{entry}: {shown}");
    };
    check("file: { path: /a }\n    name: '{{ password }}'", "a name cannot be made of a secret");
    check("file: { path: /a }\n    requires: '{{ password }}'", "a name cannot be made of a secret");
    check("file: { path: /a, '{{ password }}': 1 }", "a key cannot be made of a secret");
    check("file: { path: /a, source: '{{ password }}' }", "names a file, so it cannot be made of a secret");
    check("file: { path: /a, content: '{{ password + 1 }}' }", "expression: ");
    check("file: { path: /a, content: '{{ password.nothing }}' }", "`password` has no `nothing`");
    check("file: { path: /a, content: '{{ password|size }}' }", "expression: ");
}

#[test]
fn a_secret_that_a_parameter_does_not_take_is_not_shown() {
    for kind in
        ["integer", "boolean", "size", "list", "map", "enum, values: [a]", "string, pattern: 'x'", "integer, min: 1"]
    {
        let playbook = format!(
            "parameters: {{ password: {{ type: {kind}, default: null }} }}\nresources:\n  - file: {{ path: /a }}\n"
        );
        let hosts = "vars: { password: { secret: { env: PATH } } }\nhosts: { h: { playbooks: [p] } }\n";
        let loaded = load(&[("hosts.yaml", hosts), ("playbooks/p.yaml", &playbook)], &[]);
        let shown = loaded.expand("h").unwrap_err();
        assert!(shown.contains("error: `password`: ") && !shown.contains("/usr/bin"), "{kind}: {shown}");
    }
}

#[test]
fn secrets_are_looked_for_early_and_had_late() {
    let check = |hosts: &str, words: &str| {
        let loaded = load(&[("hosts.yaml", hosts)], &[]);
        let shown = loaded.shown(loaded.result.as_ref().unwrap_err());
        assert!(shown.contains(words), "{hosts}: {shown}");
    };
    let host = "hosts: { h: { resources: [ { file: { path: /a, content: '{{ a }}' } } ] } }\n";
    check(&format!("vars: {{ a: {{ secret: {{ age: none.age }} }} }}\n{host}"), "none.age`: there is no such file");
    check(&format!("vars: {{ a: {{ secret: {{ evn: A }} }} }}\n{host}"), "hosts.yaml:1:24: error: unknown key `evn`");
    let unset = format!("vars: {{ a: {{ secret: {{ env: VPROV_TEST_NEVER_SET }} }} }}\n{host}");
    let loaded = load(&[("hosts.yaml", &unset)], &[]);
    let shown = loaded.expand("h").unwrap_err();
    assert!(shown.contains("1:12: error: the environment variable `VPROV_TEST_NEVER_SET` is not set"), "{shown}");
}
