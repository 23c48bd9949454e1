//! The codecs of `os` against the programs that own the formats, as far as this machine has them.
//!
//! A program that is missing makes a test say `SKIP name: what the probe said` on standard error and pass. Everything is
//! written below temporary directories.
#![expect(clippy::disallowed_methods, reason = "these tests run the real programs")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it skips")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use vprov::{
    host::path::AbsPath,
    os::{
        conf_d::{Fragment, SYSCTL_DIRS, TMPFILES_DIRS, UDEV_DIRS, in_order},
        fstab::{Entry, Fstab},
        meminfo::Memory,
        mountinfo, release, swaps,
        sysctl::{self, AtBoot, Key},
        systemd, tmpfiles, udev,
    },
};

/// Runs a program; `None`, after a line that says so, if it cannot be started.
fn run(test: &str, argv: &[&str]) -> Option<Output> {
    match Command::new(argv[0]).args(&argv[1..]).env("LC_ALL", "C").output() {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("SKIP {test}: {}: {error}", argv[0]);
            None
        }
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All files of some directories below a root, as the engine would read them.
fn fragments(root: &Path, dirs: &[&str]) -> Vec<Fragment> {
    let mut found = Vec::new();
    for dir in dirs {
        let Ok(entries) = fs::read_dir(root.join(&dir[1..])) else { continue };
        for entry in entries.flatten() {
            let path = AbsPath::new(format!("{dir}/{}", entry.file_name().to_string_lossy())).unwrap();
            let masked = fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("/dev/null"));
            match fs::read(entry.path()) {
                Ok(_) if masked => found.push(Fragment::masked(path)),
                Ok(content) => found.push(Fragment::new(path, content)),
                Err(_) => {}
            }
        }
    }
    found
}

fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(&path[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// `systemd-analyze cat-config` names each file that it reads in a line `# /path`.
#[test]
fn sysctl_files_are_read_in_systemds_order() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for (path, content) in [
        ("/usr/lib/sysctl.d/50-a.conf", "vm.swappiness=1\n"),
        ("/usr/lib/sysctl.d/99-z.conf", "vm.swappiness=2\n"),
        ("/etc/sysctl.d/99-z.conf", "vm.swappiness=3\n"),
        ("/run/sysctl.d/70-r.conf", "vm.swappiness=4\n"),
        ("/usr/local/lib/sysctl.d/60-l.conf", "vm.swappiness=5\n"),
        ("/usr/lib/sysctl.d/80-off.conf", "vm.swappiness=6\n"),
        ("/etc/sysctl.d/aio-max-nr.conf", "fs.aio-max-nr=7\n"),
        ("/etc/sysctl.d/README", "vm.swappiness=8\n"),
    ] {
        write(root, path, content);
    }
    std::os::unix::fs::symlink("/dev/null", root.join("etc/sysctl.d/80-off.conf")).unwrap();
    let option = format!("--root={}", root.display());
    let argv = ["systemd-analyze", &option, "cat-config", "sysctl.d"];
    let Some(output) = run("sysctl_files_are_read_in_systemds_order", &argv) else { return };
    assert!(output.status.success(), "{output:?}");
    let text = stdout(&output);
    let prefix = root.display().to_string();
    let theirs = text.lines().filter_map(|line| line.strip_prefix("# ")?.strip_prefix(&prefix));
    // A masked name is listed with nothing below it.
    let theirs: Vec<_> = theirs.filter(|path| *path != "/etc/sysctl.d/80-off.conf").collect();
    let files = fragments(root, &SYSCTL_DIRS);
    let ours: Vec<_> = in_order(&SYSCTL_DIRS, ".conf", &files).iter().map(|file| file.path.to_string()).collect();
    assert_eq!(ours, theirs);
}

/// `sysctl --dry-run -p` of procps says each assignment as it reads it.
#[test]
fn a_rendered_sysctl_file_is_read_by_procps() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("90-vprov.conf");
    let wanted: BTreeMap<Key, String> =
        [("vm.swappiness", "35"), ("fs.aio-max-nr", "1048576"), ("kernel.pid_max", "4194304")]
            .map(|(key, value)| (Key::new(key).unwrap(), value.to_owned()))
            .into();
    fs::write(&file, sysctl::render(&wanted).unwrap()).unwrap();
    let argv = ["sysctl", "--dry-run", "-e", "-p", file.to_str().unwrap()];
    let Some(output) = run("a_rendered_sysctl_file_is_read_by_procps", &argv) else { return };
    let expected: Vec<_> = wanted.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let said = stdout(&output);
    let said: Vec<_> = said.lines().collect();
    // A key that this kernel lacks is not said.
    assert!(!said.is_empty() && said.iter().all(|line| expected.iter().any(|wanted| wanted == line)), "{said:?}");
}

/// This machine's own files decide something, and what is read as set is what the line says.
#[test]
fn this_machines_sysctl_files_are_understood() {
    let files = fragments(Path::new("/"), &SYSCTL_DIRS);
    for file in in_order(&SYSCTL_DIRS, ".conf", &files) {
        let parsed = sysctl::parse(file.content.as_deref().unwrap());
        assert_eq!(parsed.faults, [], "{}", file.path);
        for said in parsed.assignments.iter().filter(|said| !said.key.is_glob()) {
            assert_ne!(sysctl::at_boot(&files, &said.key), AtBoot::Unset, "{}", said.key);
        }
    }
}

#[track_caller]
fn tmpfiles_status(test: &str, dir: &Path, content: &str) -> Option<i32> {
    let file = dir.join("judged.conf");
    fs::write(&file, content).unwrap();
    let argv = tmpfiles::verify(&AbsPath::new(file.to_str().unwrap()).unwrap());
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    run(test, &argv)?.status.code()
}

/// A line is broken for us exactly if it is for systemd-tmpfiles (exit status 65).
#[test]
fn tmpfiles_lines_are_judged_alike() {
    let test = "tmpfiles_lines_are_judged_alike";
    let dir = tempfile::tempdir().unwrap();
    for line in [
        "w /sys/a - - - - madvise",
        "w /sys/a",
        "w /sys/a - - - - -",
        "w /sys/a - - - - \\x2d",
        "d! \"/run/my dir\" 0755 root root 10d -",
        "d \"/run/my dir",
        "? /x",
        "w x - - - - 1",
        "w+ /x - - - - 50%%",
        "L /run/x - - - - ../y",
        "r! /tmp/.X[0-9]*-lock",
    ] {
        let Some(status) = tmpfiles_status(test, dir.path(), &format!("{line}\n")) else { return };
        assert_eq!(tmpfiles::parse(line.as_bytes()).faults.is_empty(), status == 0, "{line}: {status}");
    }
}

/// What a rule of ours says is what systemd-tmpfiles writes, escapes included.
#[test]
fn tmpfiles_write_what_the_rules_say() {
    let test = "tmpfiles_write_what_the_rules_say";
    let dir = tempfile::tempdir().unwrap();
    for (at, value) in
        ["madvise", "a b", " x ", "50%", "-", "a\\b", "a\nb\n", "# c", "\"q\" 'r'", "é"].iter().enumerate()
    {
        let target = dir.path().join(format!("my file {at}%"));
        fs::write(&target, "").unwrap();
        let rule = tmpfiles::Rule::write(&AbsPath::new(target.to_str().unwrap()).unwrap(), value);
        let conf = dir.path().join("ours.conf");
        fs::write(&conf, tmpfiles::render(&[rule]).unwrap()).unwrap();
        let argv = tmpfiles::create(&AbsPath::new(conf.to_str().unwrap()).unwrap());
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let Some(output) = run(test, &argv) else { return };
        assert!(output.status.success(), "{value:?}: {output:?}");
        assert_eq!(fs::read_to_string(&target).unwrap(), *value);
    }
}

/// Who wins for a path is asked of systemd-tmpfiles itself, which writes.
#[test]
fn the_winner_among_tmpfiles_is_the_real_one() {
    let test = "the_winner_among_tmpfiles_is_the_real_one";
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    write(root, "/data/a", "");
    for cases in [
        vec![("10-ours", "w /data/a - - - - ours"), ("20-b", "w /data/a - - - - later")],
        vec![("10-ours", "w /data/a - - - - ours"), ("05-b", "w /data/a - - - - earlier")],
        vec![("10-ours", "w /data/a - - - - ours"), ("20-b", "w /data/* - - - - glob")],
        vec![("10-ours", "w /data/a - - - - ours"), ("05-b", "w /data/? - - - - glob")],
        vec![
            ("10-ours", "w /data/a - - - - ours"),
            ("20-b", "w /data/{a,b} - - - - glob"),
            ("30-c", "w /data/a - - - - x"),
        ],
    ] {
        let _ = fs::remove_dir_all(root.join("etc"));
        fs::write(root.join("data/a"), "").unwrap();
        for (name, line) in &cases {
            write(root, &format!("/etc/tmpfiles.d/{name}.conf"), &format!("{line}\n"));
        }
        let option = format!("--root={}", root.display());
        let Some(output) = run(test, &["systemd-tmpfiles", &option, "--create", "--prefix=/data"]) else { return };
        assert!(output.status.success(), "{output:?}");
        let files = fragments(root, &TMPFILES_DIRS);
        let ours = tmpfiles::at_boot(&files, &AbsPath::known("/data/a")).unwrap();
        assert_eq!(ours.value, fs::read_to_string(root.join("data/a")).unwrap(), "{cases:?}");
    }
}

/// The vendor's own files hold no fault for us.
#[test]
fn this_machines_tmpfiles_and_udev_rules_are_understood() {
    for file in fragments(Path::new("/"), &TMPFILES_DIRS) {
        let faults = tmpfiles::parse(file.content.as_deref().unwrap_or_default()).faults;
        assert_eq!(faults, [], "{}", file.path);
    }
    for file in fragments(Path::new("/"), &UDEV_DIRS) {
        let text = String::from_utf8(file.content.unwrap_or_default()).unwrap();
        assert_eq!(udev::check(&text), Ok(()), "{}", file.path);
    }
}

/// `udevadm verify` exists since systemd 254.
#[test]
fn our_udev_rules_are_verified() {
    let test = "our_udev_rules_are_verified";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("90-vprov-iosched.rules");
    let rules = [
        udev::scheduler_rule(&udev::Disk::Kernel("sda".into()), "mq-deadline").unwrap(),
        udev::scheduler_rule(&udev::Disk::Wwn("0x5000c500a1b2c3d4".into()), "none").unwrap(),
    ];
    fs::write(&file, udev::render(&rules).unwrap()).unwrap();
    let argv = udev::verify(&AbsPath::new(file.to_str().unwrap()).unwrap());
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let Some(output) = run(test, &argv) else { return };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("Unknown operation") || said.contains("Unknown command verb") {
        eprintln!("SKIP {test}: udevadm verify: {}", said.lines().next().unwrap_or_default());
        return;
    }
    assert!(output.status.success(), "{said}");
}

/// A line is broken for us exactly if libmount says `parse error`.
#[test]
fn fstab_lines_are_judged_alike() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fstab");
    for line in [
        "/dev/sda1 / ext4",
        "/dev/sda1 /",
        "/dev/sda1 / ext4 defaults 0",
        "/dev/sda1 / ext4 defaults 0 1 # c",
        "/dev/sda1 / ext4 defaults # c",
        "/dev/sda1 / ext4 rw, sync 0 0",
        "/dev/sda1 / ext4 defaults 0 1\r",
        "/dev/sda1 / ext4 defaults 0 x",
        "/dev/sda1 / ext4 defaults -1 0",
        "/dev/sda1 / ext4 defaults 0 1 2 3",
        "/dev/sda1 \"/a b\" ext4 defaults",
        "\t# c",
        "",
    ] {
        fs::write(&file, format!("{line}\n")).unwrap();
        let argv = ["findmnt", "--verify", "--tab-file", file.to_str().unwrap()];
        let Some(output) = run("fstab_lines_are_judged_alike", &argv) else { return };
        let broken = String::from_utf8_lossy(&output.stderr).contains("parse error at line");
        assert_eq!(Fstab::parse(format!("{line}\n").as_bytes()).is_err(), broken, "{line:?}: {output:?}");
    }
}

/// findmnt reads back each field of an entry that we wrote, white space and `#` included.
#[test]
fn fstab_entries_are_read_back_by_findmnt() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fstab");
    let mut fstab = Fstab::parse(b"# c\nUUID=1 / ext4 defaults 0 1\n").unwrap();
    let wanted = [("nfs1:/a b", "/mnt/my#im\\ages", "nfs", "ro,hard"), ("LABEL=x", "/tab\there", "xfs", "noatime")];
    for (spec, target, fstype, options) in wanted {
        let options = options.split(',').map(Into::into).collect();
        let (spec, file, fstype) = (spec.into(), target.into(), fstype.into());
        fstab.set(&Entry { spec, file, fstype, options, freq: 0, passno: 0 }).unwrap();
    }
    fs::write(&file, fstab.render()).unwrap();
    let argv = ["findmnt", "-J", "--list", "--tab-file", file.to_str().unwrap()];
    let Some(output) = run("fstab_entries_are_read_back_by_findmnt", &argv) else { return };
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let read = json["filesystems"].as_array().unwrap();
    for (spec, target, fstype, options) in wanted {
        let found = read.iter().find(|entry| entry["target"] == target).unwrap_or_else(|| panic!("{target}: {json}"));
        assert_eq!(
            (&found["source"], &found["fstype"], &found["options"]),
            (&spec.into(), &fstype.into(), &options.into())
        );
    }
}

/// findmnt and we see the same at each mount point of this machine.
#[test]
fn mountinfo_is_read_as_findmnt_reads_it() {
    let Some(output) = run("mountinfo_is_read_as_findmnt_reads_it", &["findmnt", "-J", "--list", "--kernel"]) else {
        return;
    };
    let mounts = mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for entry in json["filesystems"].as_array().unwrap() {
        let target = entry["target"].as_str().unwrap();
        let fits = |mount: &&mountinfo::Mount| mount.target == target && mount.fstype == entry["fstype"];
        assert!(mounts.iter().any(|mount| fits(&mount)), "{target}");
    }
    assert!(mountinfo::at(&mounts, "/").is_some());
}

/// Names of units are those of systemd-escape.
#[test]
fn unit_names_are_those_of_systemd_escape() {
    for path in
        ["/", "/mnt/images", "/mnt/my images", "/.hidden/x-y", "/mnt/é", "/a_b:c.d/e\\f", "/x@y", "/dev/hugepages1G"]
    {
        let argv = ["systemd-escape", "--path", "--suffix=mount", "--", path];
        let Some(output) = run("unit_names_are_those_of_systemd_escape", &argv) else { return };
        assert_eq!(systemd::mount_unit(&AbsPath::known(path)), stdout(&output).trim_end(), "{path}");
    }
    for name in ["libvirtd", "ssh.socket", "/mnt/images", "/dev/sda", "foo.bar", "getty@tty1"] {
        let Some(output) = run("unit_names_are_those_of_systemd_escape", &["systemd-escape", "--mangle", "--", name])
        else {
            return;
        };
        assert_eq!(systemd::unit_name(name).unwrap(), stdout(&output).trim_end(), "{name}");
    }
}

/// What `systemctl --root is-enabled` says of a unit is what its [Install] section says, before and after `enable`.
#[test]
fn units_are_enabled_below_a_root() {
    let test = "units_are_enabled_below_a_root";
    let root = tempfile::tempdir().unwrap();
    let at = AbsPath::new(root.path().to_str().unwrap()).unwrap();
    let say = |argv: Vec<String>| {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        run(test, &argv)
    };
    for (name, unit) in [
        ("plain.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"),
        ("static.service", "[Service]\nExecStart=/bin/true\n"),
        ("also.service", "[Service]\nExecStart=/bin/true\n[Install]\nAlso=plain.service\n"),
        ("folded.service", "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=a.target \\\n# c\n  b.target\n"),
    ] {
        write(root.path(), &format!("/usr/lib/systemd/system/{name}"), unit);
        let Some(output) = say(systemd::is_enabled(Some(&at), name)) else { return };
        let state = systemd::UnitFileState::from_word(stdout(&output).trim());
        assert_eq!(state, systemd::parse_install(unit.as_bytes()).when_disabled(), "{name}: {output:?}");
    }
    for (command, state) in [
        (systemd::enable(Some(&at), "plain.service"), systemd::UnitFileState::Enabled),
        (systemd::disable(Some(&at), "plain.service"), systemd::UnitFileState::Disabled),
        (systemd::mask(Some(&at), "plain.service"), systemd::UnitFileState::Masked),
        (systemd::unmask(Some(&at), "plain.service"), systemd::UnitFileState::Disabled),
    ] {
        let Some(output) = say(command) else { return };
        assert!(output.status.success(), "{output:?}");
        let Some(output) = say(systemd::is_enabled(Some(&at), "plain.service")) else { return };
        assert_eq!(systemd::UnitFileState::from_word(stdout(&output).trim()), state);
    }
}

/// `systemctl show` needs a running systemd.
#[test]
fn running_units_are_shown() {
    let test = "running_units_are_shown";
    let names = ["systemd-journald.service", "no-such-unit.service", "basic.target"];
    let argv = systemd::show(&names);
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let Some(output) = run(test, &argv) else { return };
    if !output.status.success() {
        eprintln!("SKIP {test}: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default());
        return;
    }
    let units = systemd::parse_show_all(&stdout(&output), names.len()).unwrap();
    assert_eq!(units.iter().map(|unit| unit.id.as_str()).collect::<Vec<_>>(), names);
    assert!(units[0].exists() && !units[1].exists());
}

/// A shell reads what we wrote for it, quotes and all.
#[test]
fn shell_settings_are_read_back_by_a_shell() {
    use vprov::os::setting::{Format, Value, get, set};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("conf");
    for before in ["", "KEY=1\n", "KEY='1'\n", "#KEY=\"x\"\nOTHER=2\n", "KEY=\"a\nb\" # c\n"] {
        for value in ["16", "a b", "it's \"$HOME\" `x` \\ !", "", "a#b", "*", "~"] {
            let value = Value::Text(value.into());
            let after = set(Format::Shell, before.as_bytes(), "KEY", &value).unwrap();
            fs::write(&file, &after).unwrap();
            let script = format!(". {}; printf %s \"$KEY\"", file.display());
            let Some(output) = run("shell_settings_are_read_back_by_a_shell", &["sh", "-c", &script]) else { return };
            assert_eq!(Value::Text(stdout(&output)), value, "{before:?} {}", String::from_utf8_lossy(&after));
            assert_eq!(get(Format::Shell, &after, "KEY").unwrap().unwrap().value, Some(value));
        }
    }
}

/// The files of /proc and /etc of this machine are read, and say something.
#[test]
fn this_machines_facts_are_read() {
    let memory = Memory::parse(&fs::read("/proc/meminfo").unwrap()).unwrap();
    assert!(memory.total > 0 && memory.installed_gib() > 0);
    assert!(swaps::parse(&fs::read("/proc/swaps").unwrap()).is_ok());
    if let Ok(content) = fs::read("/etc/os-release") {
        assert_ne!(release::Release::parse(&content).id, "linux");
    }
}
