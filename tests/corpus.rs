//! Files as they are on real hosts (tests/data/corpus): one thing is changed, and everything else stays byte for byte.
#![expect(clippy::disallowed_methods, reason = "these tests read the corpus")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use vprov::{
    host::{journal::Story, path::AbsPath, run::RunId},
    os::{
        boot::shell::{self, Dialect},
        fstab::Fstab,
        setting::{self, Format, SettingError, Value},
        sysctl, tmpfiles,
    },
};

fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus").join(name)
}

fn read(name: &str) -> Vec<u8> {
    fs::read(directory(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names(name: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory(name)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The one place where two contents differ: what stood there, and what stands there now.
fn change(old: &[u8], new: &[u8]) -> (String, String) {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let back = old[front..].iter().rev().zip(new[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[front..bytes.len() - back]).into_owned();
    (shown(old), shown(new))
}

/// Sets a key in each file of a directory; each file must be named, and what changes is given as `old → new` of the shortest
/// piece that differs, or `refused: words`.
fn settings(format: Format, at: &str, key: &str, value: &Value, expected: &[(&str, &str, &str)]) {
    let mut all = vec![];
    for name in names(at) {
        let content = read(&format!("{at}/{name}"));
        let result = setting::set(format, &content, key, value);
        let (old, new) = match &result {
            Ok(now) => change(&content, now),
            Err(error) => ("refused".into(), error.to_string()),
        };
        if let Ok(now) = result {
            let again = setting::get(format, &now, key).unwrap().unwrap();
            assert_eq!(again.value.unwrap().to_string(), value.to_string(), "{at}/{name}");
            assert_eq!(setting::set(format, &now, key, value).unwrap(), now, "{at}/{name}");
        }
        all.push((name, old, new));
    }
    let all: Vec<_> = all.iter().map(|(name, old, new)| (name.as_str(), old.as_str(), new.as_str())).collect();
    assert_eq!(all, expected, "{at}");
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

#[test]
fn one_entry_of_fstab() {
    let expected = [
        ("crlf", "", ",hard"),
        ("debian-12", "", "nfs1:/exported /mnt/images nfs ro,hard 0 0\n"),
        ("latin1-no-newline", "soft", "ro,hard"),
        ("open-quote", "sof\"t", "ro,hard"),
        ("sles-11", "", ""),
        ("tabs-and-short-lines", "", ""),
    ];
    assert_eq!(names("fstab"), expected.iter().map(|(name, ..)| (*name).to_owned()).collect());
    for (name, old, new) in expected {
        let content = read(&format!("fstab/{name}"));
        let mut fstab = Fstab::parse(&content).unwrap();
        assert_eq!(fstab.render(), content, "{name}");
        // The entry of that mount point, whatever its device is, gets other options.
        let mut entry = fstab.at("/mnt/images").map_or_else(
            || Fstab::parse(b"nfs1:/exported /mnt/images nfs ro 0 0").unwrap().entries().next().unwrap().1.clone(),
            |(_, entry)| entry.clone(),
        );
        let before: Vec<_> = fstab.entries().map(|(_, entry)| entry.clone()).collect();
        entry.options = vec!["ro".into(), "hard".into()];
        fstab.replace(&entry).unwrap();
        let now = fstab.render();
        let after = Fstab::parse(&now).unwrap();
        let others = |all: &mut dyn Iterator<Item = vprov::os::fstab::Entry>| {
            all.filter(|entry| entry.file.trim_end_matches('/') != "/mnt/images").collect::<Vec<_>>()
        };
        let after_all = others(&mut after.entries().map(|(_, entry)| entry.clone()));
        assert_eq!(after_all, others(&mut before.into_iter()), "{name}");
        assert_eq!(after.at("/mnt/images").unwrap().1.options, ["ro", "hard"], "{name}");
        let lines =
            |content: &[u8]| content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        let kept = lines(&content).iter().filter(|line| lines(&now).contains(line)).count();
        let had = after.entries().count() == Fstab::parse(&content).unwrap().entries().count();
        assert_eq!(kept, lines(&content).len() - usize::from(had), "{name}: only one line changes");
        if !(old.is_empty() && new.is_empty()) {
            assert_eq!(change(&content, &now), (old.into(), new.into()), "{name}");
        }
    }
}

#[test]
fn one_variable_of_a_shell_file() {
    settings(Format::Shell, "shell", "ON_BOOT", &text("start"), SHELL);
}

#[test]
fn one_key_of_an_ini_file() {
    settings(Format::Ini, "ini", "Service.Restart", &text("always"), INI);
}

#[test]
fn one_setting_of_libvirt() {
    settings(Format::Libvirt, "libvirt", "max_files", &Value::Integer(7), LIBVIRT);
}

#[test]
fn one_text_of_libvirt() {
    settings(Format::Libvirt, "libvirt", "user", &text("root"), LIBVIRT_USER);
}

#[test]
fn one_setting_of_xl() {
    settings(Format::Xl, "xl", "autoballoon", &text("off"), XL);
}

#[test]
fn the_kernels_line_of_default_grub() {
    let path = AbsPath::new("/etc/default/grub").unwrap();
    let mut edited = 0;
    for name in names("shell") {
        let content = read(&format!("shell/{name}"));
        let Ok(now) = shell::assign(&path, &content, "GRUB_CMDLINE_LINUX_DEFAULT", "one two", Dialect::Posix) else {
            continue;
        };
        let (old, new) = change(&content, &now);
        assert!(new.contains("one two") && !old.contains('\n'), "{name}: {old:?} {new:?}");
        edited += 1;
    }
    assert!(edited >= 9, "{edited}");
}

#[test]
fn what_sysctl_and_tmpfiles_read() {
    let file = sysctl::parse(&read("sysctl/debian-12"));
    let said: Vec<String> =
        file.assignments.iter().map(|one| format!("{}:{} {:?}", one.line, one.key, one.value)).collect();
    assert_eq!(
        said,
        [
            "10:net.ipv4.conf.all.rp_filter Some(\"1\")",
            "11:net.ipv4.ip_forward Some(\"1\")",
            "12:net.core.default_qdisc Some(\"fq\")",
            "13:net.ipv4.conf.*.accept_redirects None",
            "14:vm.swappiness Some(\"10\")",
            "15:vm.swappiness Some(\"35\")",
            "16:kernel.core_pattern Some(\"|/usr/lib/systemd/systemd-coredump %P %u\")",
        ]
    );
    let file = sysctl::parse(&read("sysctl/crlf-latin1"));
    assert_eq!((file.assignments.len(), file.faults.iter().map(|fault| fault.0).collect::<Vec<_>>()), (2, vec![4]));
    assert_eq!(file.assignments[0].value.as_deref(), Some("1048576"));
    let file = tmpfiles::parse(&read("tmpfiles/mixed.conf"));
    assert_eq!((file.rules.len(), file.faults.len()), (7, 0));
    assert_eq!(
        (file.rules[4].1.path.as_str(), file.rules[4].1.argument.as_deref()),
        ("/etc/with space", Some("\"a b\""))
    );
    let file = tmpfiles::parse(&read("tmpfiles/crlf-latin1.conf"));
    assert_eq!((file.rules.len(), file.faults.iter().map(|fault| fault.0).collect::<Vec<_>>()), (3, vec![4]));
    assert_eq!(file.rules[2].1.argument.as_deref(), Some("35"));
}

#[test]
fn journals_of_format_1_are_read() {
    for (name, intents) in [("apply", 17), ("rollback", 17)] {
        let run: RunId = "20261125T232851Z-6f1d".parse().unwrap();
        let story = Story::decode(&run, &read(&format!("journal/{name}"))).unwrap();
        assert!(story.ended.is_some() && story.intents.iter().all(|intent| intent.outcome == Some(Ok(()))), "{name}");
        assert_eq!((story.intents.len(), story.takes_back.is_some()), (intents, name == "rollback"), "{name}");
    }
}

#[test]
fn a_key_that_no_file_can_have_is_refused() {
    for (format, key) in [(Format::Shell, "A B"), (Format::Ini, "a]b.c"), (Format::Libvirt, "a=b"), (Format::Xl, "")] {
        assert!(matches!(setting::set(format, b"", key, &text("x")), Err(SettingError::Key(..))), "{format:?} {key}");
    }
}

/// File, what stood there, what stands there now.
type Expected = &'static [(&'static str, &'static str, &'static str)];

/// Appended to a file that does not name it.
const NEW: &str = "ON_BOOT=\"start\"\n";

const SHELL: Expected = &[
    ("comments", "", NEW),
    ("continuation", "ignore", "start"),
    ("crlf", "", "ON_BOOT=\"start\"\r\n"),
    ("debian-12", "", NEW),
    ("debian-xen", "", NEW),
    ("dynamic", "", NEW),
    ("empty", "", NEW),
    ("guarded", "", NEW),
    ("latin1-no-newline", "", "\nON_BOOT=\"start\""),
    ("libvirt-guests", "", ""),
    ("quotes", "", NEW),
    ("references", "", NEW),
    ("sles-15", "", NEW),
    ("sysconfig-latin1", "ignore", "start"),
    ("tuned", "", NEW),
    ("ubuntu-cloud", "", NEW),
];

const INI: Expected = &[
    ("app.service", "on-failure", "always"),
    ("crlf.conf", "no", "always"),
    ("duplicates-latin1", "no", "always"),
    ("nfs.conf", "", "Restart=always\n"),
];

/// libvirt itself takes no comment within a list (`virConfParseValue`).
const NO_LIST: &str = "line 1: a value is a text in quotes, a number or a list";

const LIBVIRT: Expected = &[
    ("comment-in-list.conf", "refused", NO_LIST),
    ("crlf-duplicates.conf", "10", "7"),
    ("latin1-no-newline.conf", "1", "7"),
    // The piece between two equal beginnings: a line behind `#max_files`.
    ("qemu.conf", "", "files = 7\nmax_"),
    ("tabs.conf", "", "max_files = 7\n"),
];

const LIBVIRT_USER: Expected = &[
    ("comment-in-list.conf", "refused", NO_LIST),
    // The first one wins, and it says so already.
    ("crlf-duplicates.conf", "", ""),
    ("latin1-no-newline.conf", "", "user = \"root\"\n"),
    ("qemu.conf", "libvirt-qemu", "root"),
    ("tabs.conf", "", ""),
];

const XL: Expected = &[
    // The last one wins.
    ("crlf-duplicates", "0", "\"off\""),
    ("latin1-no-newline", "auto", "off"),
    ("semicolon", "refused", "line 1: two statements stand on one line"),
    ("xl.conf", "", ""),
];
