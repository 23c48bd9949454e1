//! Input that is wrong: told as `FILE:LINE:COL` with what would be right, exit 1, and nothing is contacted or changed.

use crate::program::{Env, Output};
use std::{fs, path::Path};

/// A project that is wrong, and what must be said about it.
struct Case {
    files: Vec<(&'static str, Vec<u8>)>,
    place: &'static str,
    says: &'static [&'static str],
}

fn case(files: &[(&'static str, &str)], place: &'static str, says: &'static [&'static str]) -> Case {
    let files = files.iter().map(|(name, text)| (*name, text.as_bytes().to_vec())).collect();
    Case { files, place, says }
}

/// A wrong `hosts.yaml`.
fn hosts(text: &str, place: &'static str, says: &'static [&'static str]) -> Case {
    case(&[("hosts.yaml", text)], place, says)
}

/// One host with these entries; the first one stands in line 5.
fn entries(entries: &str, place: &'static str, says: &'static [&'static str]) -> Case {
    hosts(&format!("hosts:\n  h:\n    connection: local\n    resources:\n{}", indent(entries)), place, says)
}

fn indent(entries: &str) -> String {
    entries.lines().map(|line| format!("    {line}\n")).collect()
}

fn check_all(cases: Vec<Case>) {
    let wrong: Vec<String> = cases.iter().flat_map(check).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// Runs `validate`, `plan` and `apply` over a case and returns what is not as it must be.
fn check(case: &Case) -> Vec<String> {
    let env = Env::new();
    for (name, text) in &case.files {
        env.write(name, text);
    }
    env.write("root/etc/fstab", "# untouched\n");
    let before = tree(&env.dir().join("root"));
    let mut wrong = vec![];
    let commands: [&[&str]; 3] = [
        &["validate", "hosts.yaml"],
        &["plan", "hosts.yaml", "--root", "root"],
        &["apply", "hosts.yaml", "--root", "root", "--yes"],
    ];
    for command in commands {
        let output = env.vprov(command);
        for complaint in complaints(case, &output) {
            wrong
                .push(format!("{command:?} of {}: {complaint}\n{output:?}", String::from_utf8_lossy(&case.files[0].1)));
        }
    }
    if tree(&env.dir().join("root")) != before {
        wrong.push(format!("{:?} changed the root", case.files));
    }
    wrong
}

fn complaints(case: &Case, output: &Output) -> Vec<String> {
    let mut wrong = vec![];
    if output.code != 1 {
        wrong.push(format!("exit {} instead of 1", output.code));
    }
    if !output.stderr.lines().any(|line| line.starts_with(&format!("{}: error: ", case.place))) {
        wrong.push(format!("no error at {}", case.place));
    }
    for words in case.says {
        if !output.stderr.contains(words) {
            wrong.push(format!("`{words}` is not said"));
        }
    }
    if !output.stdout.is_empty() || output.stderr.contains("panicked") {
        wrong.push("it went on".into());
    }
    if output.stderr.chars().any(|c| c.is_control() && c != '\n') {
        wrong.push("a control character is written raw".into());
    }
    wrong
}

/// All paths below a directory with the contents of files.
fn tree(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![];
    let mut open = vec![directory.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("a directory can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

#[test]
fn unknown_names_are_told_with_what_was_meant() {
    check_all(vec![
        hosts("hosts: {h: {adress: x}}\n", "hosts.yaml:1:13", &["unknown key `adress`", "did you mean `address`?"]),
        entries(
            "- sysctll: {name: a, value: 1}",
            "hosts.yaml:5:7",
            &["unknown kind or module `sysctll`", "did you mean `sysctl`?"],
        ),
        entries("- swapiness: {value: 3}", "hosts.yaml:5:7", &["unknown kind or module", "did you mean `swappiness`?"]),
        entries(
            "- sysctl: {nam: vm.swappiness, value: 1}",
            "hosts.yaml:5:16",
            &["unknown key `nam`", "did you mean `name`?"],
        ),
        entries(
            "- swappiness: {vlaue: 3}",
            "hosts.yaml:5:20",
            &["the module `swappiness` has no parameter `vlaue`", "did you mean `value`?"],
        ),
        hosts(
            "hosts: {h: {playbooks: [kvm-hots]}}\n",
            "hosts.yaml:1:25",
            &["unknown playbook `kvm-hots`", "did you mean `kvm-host`?"],
        ),
        hosts(
            "hosts: {h: {playbooks: [{kvm-host: {reserve_gbi: 3}}]}}\n",
            "hosts.yaml:1:37",
            &["has no parameter `reserve_gbi`", "did you mean `reserve_gib`?"],
        ),
        hosts(
            "hosts: {kvm1: {}}\ngroups: {g: {hosts: [kvm2]}}\n",
            "hosts.yaml:2:22",
            &["unknown host `kvm2`", "did you mean `kvm1`?"],
        ),
        entries(
            "- sysctl: {name: vm.swappiness, value: '{{ facts.memroy.total }}'}",
            "hosts.yaml:5:54",
            &["unknown fact `facts.memroy`", "did you mean `facts.memory`?"],
        ),
        hosts(
            "vars: {swap: 3}\nhosts: {h: {resources: [{swappiness: {value: '{{ swpa }}'}}]}}\n",
            "hosts.yaml:2:50",
            &["unknown variable `swpa`", "did you mean `swap`?"],
        ),
        entries(
            "- file: {path: /etc/a, content: x}\n  name: base\n- file: {path: /etc/b, content: x}\n  requires: [bsae]",
            "hosts.yaml:8:18",
            &["no resource has the name `bsae`", "did you mean `base`?"],
        ),
        entries(
            "- file: {path: /etc/a, content: x}\n  name: base\n- file: {path: /etc/b, content: x}\n  notify: bsae",
            "hosts.yaml:8:15",
            &["no resource has the name `bsae`", "did you mean `base`?"],
        ),
    ]);
}

#[test]
fn wrong_types_and_ranges_are_told() {
    check_all(vec![
        entries(
            "- sysctl: {name: vm.swappiness, value: 250}",
            "hosts.yaml:5:44",
            &["`vm.swappiness` is `250`, but takes an integer from 0 to 200"],
        ),
        entries("- swappiness: {value: 250}", "hosts.yaml:5:27", &["250 is above the maximum of 200"]),
        entries("- swappiness: {value: lots}", "hosts.yaml:5:27", &["expected an integer, found the string `lots`"]),
        entries("- hugepages: -1", "hosts.yaml:5:18", &["expected a map of parameters, found the integer `-1`"]),
        entries(
            "- hugepages: {pages: {1G: -1}}",
            "hosts.yaml:5:31",
            &["`pages`: the integer `-1` does not match", "how many pages of each size"],
        ),
        entries(
            "- kernel_cmdline: {parameters: ['hugepages=-1']}",
            "hosts.yaml:5:37",
            &["`hugepages=-1` is no count of pages"],
        ),
        entries("- sysctl: {name: vm.nr_hugepages, value: -1}", "hosts.yaml:5:46", &["takes an integer from 0 to"]),
        entries("- xen_dom0: {dom0_mem: 10%+1G}", "hosts.yaml:5:28", &["`10%+1G`", "as `1G+10%`"]),
        entries(
            "- kernel_cmdline: {target: xen, parameters: ['dom0_mem=10%+1G']}",
            "hosts.yaml:5:50",
            &["Xen takes `1G+10%`, not `10%+1G`"],
        ),
        entries(
            "- kernel_cmdline: {parameters: ['dom0_mem=4G']}",
            "hosts.yaml:5:37",
            &["belongs to Xen's line", "`target: xen`"],
        ),
        entries(
            "- transparent_hugepages: {enabled: sometimes}",
            "hosts.yaml:5:40",
            &["expected one of `always`, `madvise`, `never`, found the string `sometimes`"],
        ),
        entries("- transparent_hugepages: sometimes", "hosts.yaml:5:30", &["expected a map of parameters"]),
        entries(
            "- kernel_cmdline: {parameters: ['transparent_hugepage=sometimes']}",
            "hosts.yaml:5:37",
            &["one of `always`, `madvise`, `never`"],
        ),
        entries("- file: {path: [a], content: x}", "hosts.yaml:5:20", &["expected a string, found a list"]),
        entries("- file: {path: /a, content: x, mode: '0999'}", "hosts.yaml:5:42", &["`0999` is no mode"]),
        entries("- service: {name: a, enabled: maybe}", "hosts.yaml:5:35", &["expected a boolean"]),
        entries("- command: {argv: 'ls -l', creates: /x}", "hosts.yaml:5:23", &["expected a list"]),
        entries("- file: {path: etc/a, content: x}", "hosts.yaml:5:20", &["a path on a host begins with `/`"]),
        entries("- mount: {path: mnt, source: 'n:/x', fstype: nfs}", "hosts.yaml:5:21", &["`mnt` is a relative path"]),
        entries("- nfs_mount: {source: 'n:/x', path: mnt}", "hosts.yaml:5:41", &["`mnt` is a relative path"]),
        entries("- file: {path: /etc/../a, content: x}", "hosts.yaml:5:20", &["a `..` component"]),
        hosts(
            "hosts: {h: {playbooks: [{kvm-host: {reserve_gib: 1}}]}}\n",
            "hosts.yaml:1:50",
            &["below the minimum of 2"],
        ),
        case(
            &[
                ("hosts.yaml", "hosts: {h: {connection: local, resources: [{m: {}}]}}\n"),
                ("modules/m.yaml", "parameters:\n  n: {type: integer, default: many}\nresources: []\n"),
            ],
            "modules/m.yaml:2:31",
            &["wrong default: `n`: expected an integer"],
        ),
    ]);
}

#[test]
fn no_syntax_gets_into_the_boot_loader() {
    let quoted = ["'a=1;reboot'", "'a=$(id)'", "'a=`id`'", "'a=\"b\"'", "\"a='b'\""];
    let mut cases: Vec<Case> = quoted
        .into_iter()
        .map(|value| {
            entries(
                &format!("- kernel_cmdline: {{parameters: [{value}]}}"),
                "hosts.yaml:5:37",
                &["would be syntax in the boot loader's files"],
            )
        })
        .collect();
    cases.push(entries(
        "- kernel_cmdline: {parameters: [\"a=1\\nb\"]}",
        "hosts.yaml:5:37",
        &["a line break stands in the parameter"],
    ));
    cases.push(entries("- kernel_cmdline: {absent: ['a;b']}", "hosts.yaml:5:33", &["would be syntax"]));
    check_all(cases);
}

#[test]
fn what_is_no_yaml_or_no_template_is_told() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
        d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nhosts: {h: {}}\n";
    check_all(vec![
        hosts("hosts:\n\th: {}\n", "hosts.yaml:2:2", &["a tab stands in the indentation"]),
        hosts("hosts:\n  h: {}\n  h: {}\n", "hosts.yaml:3:3", &["the key `h` stands twice"]),
        entries(
            "- sysctl: {name: vm.swappiness, value: {{ x }}}",
            "hosts.yaml:5:44",
            &["a template without quotes", "quote the template: `\"{{ x }}\"`"],
        ),
        entries("- sysctl: {name: vm.swappiness, value: '{{ 1 + }}'}", "hosts.yaml:5:44", &["expression syntax"]),
        entries("- file: {path: /etc/a, content: '{% if %}'}", "hosts.yaml:5:37", &["template syntax"]),
        entries("- file: {path: /etc/a, content: x}\n  when: 'true and'", "hosts.yaml:6:13", &["expression syntax"]),
        hosts("hosts:\n  kvm[12-01]: {}\n", "hosts.yaml:2:7", &["the range `12-01` runs backward"]),
        hosts(
            "hosts: {h: {}}\ngroups:\n  a: {groups: [b]}\n  b: {groups: [a]}\n",
            "hosts.yaml:3:16",
            &["the group `a` is inside itself: a > b > a"],
        ),
        hosts(bomb, "hosts.yaml:5:29", &["aliases expand to more than 100000 values"]),
        Case {
            files: vec![("hosts.yaml", b"hosts:\n  h\xff: {}\n".to_vec())],
            place: "hosts.yaml:2:4",
            says: &["the file is not UTF-8"],
        },
        hosts("hosts:\n  h: {vars: {a: '\0'}}\n", "hosts.yaml:2:18", &["unexpected character"]),
        hosts(&format!("hosts: {}{}\n", "[".repeat(5000), "]".repeat(5000)), "hosts.yaml:1:263", &["recursion limit"]),
        hosts("", "hosts.yaml:1:1", &["the inventory is empty"]),
        entries("- file: {path: \"/etc/a\\e[31m\", content: x}", "hosts.yaml:5:20", &["holds a control character"]),
    ]);
}

#[test]
fn contradictions_are_told_before_a_host_is_asked() {
    check_all(vec![
        entries(
            "- file: {path: /etc/a, content: x}\n  name: a\n  requires: [b]\n- file: {path: /etc/b, content: x}\n  name: b\n  requires: [a]",
            "hosts.yaml:10:18",
            &["resources wait for each other: file[/etc/a] → file[/etc/b] → file[/etc/a]", "hosts.yaml:7:18"],
        ),
        entries(
            "- file: {path: /etc/a, content: x}\n- file: {path: /etc/a, content: y}",
            "hosts.yaml:5:7",
            &["declared twice for `/etc/a`", "hosts.yaml:6:7"],
        ),
        entries(
            "- file: {path: /etc/a, content: x}\n- directory: {path: /etc/a}",
            "hosts.yaml:6:7",
            &["two resources provide /etc/a", "hosts.yaml:5:7"],
        ),
        entries(
            "- swappiness: {value: 1}\n- sysctl: {name: vm.swappiness, value: 2}",
            "hosts.yaml:5:7",
            &["declared twice for `vm.swappiness`", "hosts.yaml:6:7"],
        ),
        entries(
            "- kernel_cmdline: {parameters: [swiotlb=1]}\n- kernel_cmdline: {parameters: [swiotlb=2]}",
            "hosts.yaml:5:7",
            &["declared twice for `linux:swiotlb`", "hosts.yaml:6:7"],
        ),
        entries(
            "- setting: {file: /etc/default/x, key: A, value: 1}\n- setting: {file: /etc/default/x, key: A, value: 2}",
            "hosts.yaml:5:7",
            &["declared twice for `/etc/default/x:A`"],
        ),
        entries(
            "- file: {path: /etc/a, content: x, source: y}",
            "hosts.yaml:5:48",
            &["`content` and `source` exclude each other"],
        ),
        hosts(
            "hosts: {h: {resources: [{swappiness: {value: 1}}]}}\ngroups: {g: {hosts: [h], resources: [{swappiness: {value: 2}}]}}\n",
            "hosts.yaml:1:26",
            &["say `override: true` beside the host's entry", "hosts.yaml:2:39"],
        ),
    ]);
}

#[test]
fn what_only_facts_can_tell_is_no_contradiction() {
    let env = Env::new();
    let either = "hosts:\n  h:\n    connection: local\n    vars: {name: '{{ facts.hostname }}'}\n    resources:\n\
        \x20   - file: {path: /etc/a, content: x}\n      when: name == 'x'\n\
        \x20   - file: {path: /etc/a, content: y}\n      when: name != 'x'\n\
        \x20   - file: {path: '/etc/{{ name }}', content: z}\n      name: z\n\
        \x20   - file: {path: /etc/b, content: x}\n      requires: z\n";
    env.write("hosts.yaml", either);
    env.write("root/etc/hostname", "x\n");
    env.vprov(["validate", "hosts.yaml"]).exits(0);
    env.vprov(["plan", "--root", "root", "--detailed-exitcode"]).exits(2).says("+++ /etc/x");
}

#[test]
fn a_wrong_command_line_is_told() {
    let env = Env::new();
    env.write("hosts.yaml", "hosts: {kvm1: {connection: local}, kvm2: {}}\ngroups: {kvm: {hosts: [kvm1]}}\n");
    let check = |args: &[&str], words: &str| {
        let output = env.vprov(args).exits(1);
        assert!(output.stderr.contains(words) && output.stdout.is_empty(), "{args:?}: {output:?}");
    };
    check(&["validate", "none.yaml"], "cannot read `none.yaml`: there is no such file");
    check(&["validate", "--limit", "kvm3"], "--limit:1:1: error: unknown host or group `kvm3`");
    check(&["validate", "--limit", "!kvm*"], "the limit selects no host");
    check(&["validate", "--limit", "kvm[2-1]"], "--limit:1:5: error: the range `2-1` runs backward");
    check(&["validate", "--set", "x"], "--set:1:1: error: `x` is not `key=value`");
    check(&["validate", "--set", "x=1"], "nothing uses a variable of this name");
    check(&["validate", "--modules", "none"], "--modules: `none` is no directory");
    check(&["plan", "--root", "."], "--root stands for exactly one host, and 2 are selected");
    check(&["plan", "--root", "none", "--limit", "kvm1"], "--root: `none` is no directory");
    check(&["plan", "--nope"], "unexpected argument '--nope'");
    check(&["apply", "--limit", "kvm1"], "say --yes to go without");
    check(&["explain", "sysctll"], "did you mean `sysctl`?");
}
