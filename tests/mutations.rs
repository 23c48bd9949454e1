//! Parsers and spoiled files: the corpus (tests/data/corpus) with bytes changed, cut, repeated and mixed.
//!
//! Whatever comes in, a parser ends without a panic, and either keeps every byte that it was not asked to change or refuses.
//! The cases are the same each time; `tests/run --long` tries many more, from a seed that is printed. A case that fails is
//! written to the temporary directory and named; it belongs into the corpus once it is mended.
#![expect(clippy::disallowed_methods, reason = "these tests read the corpus and keep what failed")]
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says from which seed")]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use vprov::{
    config::{
        Taint,
        expr::{Expr, Template},
        yaml,
    },
    diag::{SourceMap, Span},
    host::{
        journal::{Record, Story},
        path::AbsPath,
        run::RunId,
    },
    os::{
        boot::{
            cmdline::{CommandLine, Request, edit},
            grub_cfg::{GrubCfg, GrubEnv},
            shell::{self, Dialect, Source, Variables},
        },
        conf_d::Fragment,
        fstab::{Entry, Fstab},
        setting::{self, Format, Value},
        sysctl, systemd, tmpfiles, udev,
    },
    transport::wire::{self, Request as Asked, Response},
};

/// How often each file is spoiled; the long run does it so many times more often.
const CASES: usize = 400;
const LONG: usize = 50;

/// The longest file that is made.
const LENGTH: usize = 40_000;

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Numbers from a seed (xorshift64*), the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }

    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let from = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - from).min(200) + 1);
        &bytes[from..from + length]
    }
}

/// What breaks parsers: quotes, ends, escapes, and what is no UTF-8.
const PIECES: &[&[u8]] = &[
    b"\"",
    b"'",
    b"\\",
    b"\\\n",
    b"\r\n",
    b"\n",
    b"\0",
    b"#",
    b"=",
    b"$(",
    b"${",
    b"`",
    b"[",
    b"]",
    b"{{",
    b"}}",
    b"{%",
    b"\t",
    b" ",
    b"\xff",
    b"\xc3\xa4",
    b"\xe2\x80\xae",
    b"\\040",
    b"\\777",
    b"-",
    b"%",
    b"!",
    b"&a ",
    b"*a",
    b"|\n",
    b":",
    b",",
    b"{",
    b"}",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"1e999",
    b"\xef\xbb\xbf",
    b"<<E\n",
    b";",
    b"~",
];

fn spoil(chance: &mut Chance, file: &[u8], others: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        match chance.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(chance.below(256)).unwrap(),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, PIECES[chance.below(PIECES.len())].iter().copied())),
            4 => {
                let from = &others[chance.below(others.len())].1;
                let piece = chance.piece(from).to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let piece = chance.piece(&bytes).to_vec();
                let times = 1 + chance.below(40);
                bytes.splice(at..at, piece.repeat(times));
            }
            _ => {
                let end = (at + chance.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes.truncate(LENGTH);
    bytes
}

/// Tries a property on each file of a directory and on what becomes of it; returns how often it held in full, which must not
/// be never: a parser that refuses everything keeps nothing.
fn each(name: &str, long: bool, property: impl Fn(&[u8]) -> bool) {
    let files = corpus(name);
    assert!(!files.is_empty());
    let seed = if long {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        u64::try_from(now & u128::from(u64::MAX)).unwrap() | 1
    } else {
        20_261_125
    };
    if long {
        eprintln!("{name}: seed {seed}");
    }
    let (mut chance, mut full) = (Chance(seed), 0);
    for (file, content) in &files {
        for case in 0..if long { CASES * LONG } else { CASES } {
            let bytes = if case == 0 { content.clone() } else { spoil(&mut chance, content, &files) };
            match catch_unwind(AssertUnwindSafe(|| property(&bytes))) {
                Ok(held) => full += usize::from(held),
                Err(_) => {
                    let kept = std::env::temp_dir().join(format!("vprov-{name}-{file}-{case}"));
                    fs::write(&kept, &bytes).unwrap();
                    panic!("{name}/{file}, case {case}, seed {seed}: kept as {}", kept.display());
                }
            }
        }
    }
    assert!(full > 0, "{name}: every case was refused");
}

fn path(text: &str) -> AbsPath {
    AbsPath::new(text).unwrap()
}

/// Each line of the one content is a line of the other, but for so many.
fn assert_lines_kept(old: &[u8], new: &[u8], but: usize) {
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec());
        lines.collect()
    };
    let (old, new) = (lines(old), lines(new));
    let front = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let back = old[front..].iter().rev().zip(new[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    let changed = old.len() - front - back;
    assert!(
        changed <= but,
        "{changed} lines changed: {:?}",
        String::from_utf8_lossy(&old[front..old.len() - back].join(&b'\n'))
    );
}

fn fstab(bytes: &[u8]) -> bool {
    let Ok(fstab) = Fstab::parse(bytes) else { return false };
    assert_eq!(fstab.render(), bytes);
    let wanted = Entry {
        spec: "nfs9:/new".into(),
        file: "/mnt/new dir".into(),
        fstype: "nfs".into(),
        options: vec!["ro".into(), "hard".into()],
        freq: 0,
        passno: 0,
    };
    let mut edited = fstab.clone();
    if edited.set(&wanted).is_err() {
        return false;
    }
    let content = edited.render();
    assert_lines_kept(bytes, &content, 1);
    let again = Fstab::parse(&content).unwrap();
    assert_eq!(again.find(&wanted.spec, &wanted.file).unwrap().1, &wanted);
    let mut gone = again;
    assert!(gone.remove(&wanted.spec, &wanted.file));
    // Each entry with other options: only its line changes.
    for (line, entry) in fstab.entries() {
        let mut other = entry.clone();
        other.options.push("x-vprov".into());
        let mut edited = fstab.clone();
        if edited.replace(&other).is_ok() {
            let content = edited.render();
            assert_lines_kept(bytes, &content, 1);
            assert!(Fstab::parse(&content).unwrap().entries().any(|(_, entry)| *entry == other), "line {line}");
        }
    }
    true
}

fn settings(format: Format, keys: &[&str], value: &Value, bytes: &[u8]) -> bool {
    let said = |content: &[u8], but: &str| -> Vec<_> {
        let others = keys.iter().filter(|key| **key != but);
        others.map(|key| setting::get(format, content, key).unwrap().map(|found| found.value)).collect()
    };
    let mut full = false;
    for key in keys {
        let before = setting::get(format, bytes, key);
        if let Ok(now) = setting::set(format, bytes, key, value) {
            assert_eq!(setting::set(format, &now, key, value).unwrap(), now, "{key}: twice is once");
            assert_eq!(said(bytes, key), said(&now, key), "{key}: other keys stay");
            // A value may stand on several lines.
            let front = bytes.iter().zip(&now).take_while(|(a, b)| a == b).count();
            assert!(front == bytes.len() || before.unwrap().is_some() || now.len() > bytes.len(), "{key}");
            full = true;
        }
        if let Ok(now) = setting::unset(format, bytes, key) {
            assert_eq!(setting::get(format, &now, key).unwrap(), None, "{key}: gone");
            assert_eq!(said(bytes, key), said(&now, key), "{key}: other keys stay");
        }
    }
    full
}

fn shells(bytes: &[u8]) -> bool {
    let (file, mut full) = (path("/etc/default/grub"), false);
    for dialect in [Dialect::Posix, Dialect::Bash] {
        let variables = Variables::evaluate(&[Source { path: &file, text: bytes }], dialect);
        let name = "GRUB_CMDLINE_LINUX_DEFAULT";
        let _ = variables.get(name);
        let Ok(now) = shell::assign(&file, bytes, name, "one two=3", dialect) else { continue };
        let again = Variables::evaluate(&[Source { path: &file, text: &now }], dialect);
        // A carriage return behind the value is part of it for the shell, and stays.
        assert_eq!(again.get(name).unwrap().unwrap().trim_end_matches('\r'), "one two=3");
        for other in ["GRUB_DEFAULT", "GRUB_TIMEOUT", "GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_XEN_DEFAULT"] {
            if variables.get(other).is_ok_and(|value| value.is_some()) {
                // One that is made of the edited one changes with it.
                assert!(again.get(other).is_ok(), "{other}");
            }
        }
        full = true;
    }
    full
}

fn sysctls(bytes: &[u8]) -> bool {
    let file = sysctl::parse(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(
        file.assignments
            .iter()
            .map(|one| one.line)
            .chain(file.faults.iter().map(|fault| fault.0))
            .all(|at| at <= lines)
    );
    let all = file.assignments.iter().filter(|one| !one.key.is_glob());
    let all = all.filter_map(|one| Some((one.key.clone(), one.value.clone()?))).collect();
    let Ok(text) = sysctl::render(&all) else { return false };
    let again = sysctl::parse(text.as_bytes());
    assert_eq!(again.faults, []);
    assert_eq!(
        again
            .assignments
            .into_iter()
            .map(|one| (one.key, one.value.unwrap()))
            .collect::<std::collections::BTreeMap<_, _>>(),
        all
    );
    let fragment = Fragment::new(path("/etc/sysctl.d/90-vprov.conf"), bytes.to_vec());
    for key in all.keys() {
        let _ = sysctl::at_boot(std::slice::from_ref(&fragment), key);
        let _ = sysctl::check(key, "1", None);
    }
    true
}

fn tmpfiles_rules(bytes: &[u8]) -> bool {
    let file = tmpfiles::parse(bytes);
    let mut full = false;
    for (_, rule) in &file.rules {
        if let Ok(text) = tmpfiles::render_rule(rule) {
            let again = tmpfiles::parse(text.as_bytes());
            assert_eq!((again.rules.len(), again.faults.len()), (1, 0), "{text}");
            assert_eq!(again.rules[0].1, *rule, "{text}");
            full = true;
        }
    }
    let fragment = Fragment::new(path("/etc/tmpfiles.d/x.conf"), bytes.to_vec());
    let _ = tmpfiles::at_boot(std::slice::from_ref(&fragment), &path("/sys/a"));
    full
}

fn grub_menu(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let environment = GrubEnv::parse(&text).unwrap_or_default();
    let Ok(menu) = GrubCfg::parse(&text) else { return false };
    let _ = menu.next_boot(&environment);
    for entry in menu.boot_entries() {
        let _ = (entry.linux(), entry.xen(), entry.files(), entry.is_recovery());
    }
    true
}

fn command_line(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok((request, _)) = Request::new(vprov::os::boot::cmdline::Target::Linux, &["iommu=pt"], &["quiet"]) else {
        return false;
    };
    for line in text.lines() {
        let new = edit(line, &request);
        assert_eq!(edit(&new, &request), new, "twice is once");
        assert!(request.differences(&CommandLine::parse(&new)).is_empty(), "{line} → {new}");
    }
    true
}

fn documents(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let sources = SourceMap::new();
    match yaml::read("x.yaml", &text, &sources) {
        Ok(node) => Template::compile(&node, &sources).is_ok(),
        Err(error) => {
            let _ = format!("{error:?}");
            false
        }
    }
}

fn expressions(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let sources = SourceMap::new();
    let mut full = false;
    for line in text.lines() {
        let id = sources.add("x.yaml", line);
        full |= Expr::compile(line, Span::new(id, 0..line.len()), &sources).is_ok();
        // As a value of YAML, evaluated with no names at all.
        let quoted = serde_json::to_string(line).unwrap();
        let Ok(node) = yaml::read("y.yaml", &quoted, &sources) else { continue };
        if let Ok(template) = Template::compile(&node, &sources) {
            let _ = template.render(&scope(), &sources);
        }
    }
    full
}

fn scope() -> vprov::config::expr::Scope {
    #[derive(Debug)]
    struct Nothing;
    impl vprov::config::expr::Names for Nothing {
        fn value(&self, _: &str) -> Option<minijinja::Value> {
            None
        }

        fn taint(&self, _: &str) -> Taint {
            Taint::default()
        }

        fn names(&self) -> Vec<String> {
            vec![]
        }
    }
    vprov::config::expr::Scope::new(Arc::new(Nothing))
}

fn frames(bytes: &[u8]) -> bool {
    let mut full = false;
    let mut rest = bytes;
    while let Ok(Some(message)) = wire::receive::<Asked>(&mut rest) {
        let body = wire::encode(&message).unwrap();
        let mut framed = vec![];
        wire::send_encoded(&mut framed, &body).unwrap();
        assert_eq!(wire::receive::<Asked>(&mut framed.as_slice()).unwrap(), Some(message));
        full = true;
    }
    // Behind the line that says hello.
    let start = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut rest = &bytes[start..];
    while let Ok(Some(message)) = wire::receive::<Response>(&mut rest) {
        let body = wire::encode(&message).unwrap();
        let mut framed = vec![];
        wire::send_encoded(&mut framed, &body).unwrap();
        assert_eq!(wire::receive::<Response>(&mut framed.as_slice()).unwrap(), Some(message));
        full = true;
    }
    full
}

fn journals(bytes: &[u8]) -> bool {
    let run: RunId = "20261125T232851Z-6f1d".parse().unwrap();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(record) = serde_json::from_slice::<Record>(line) {
            let text = serde_json::to_vec(&record).unwrap();
            assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), record);
        }
    }
    let Ok(story) = Story::decode(&run, bytes) else { return false };
    let _ = story.inverses();
    true
}

fn units(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let _ = (systemd::parse_install(bytes), systemd::parse_show(&text), systemd::parse_show_all(&text, 2));
    let _ = udev::check(&text);
    true
}

const SHELL_KEYS: &[&str] =
    &["ON_BOOT", "ON_SHUTDOWN", "GRUB_DEFAULT", "GRUB_CMDLINE_LINUX_DEFAULT", "START_DELAY", "NEW"];
const INI_KEYS: &[&str] = &["Service.Restart", "Unit.After", "main.summary", "nfsd.threads", "New.key"];
const LIBVIRT_KEYS: &[&str] = &["user", "group", "max_files", "cgroup_device_acl", "new_key"];
const XL_KEYS: &[&str] = &["autoballoon", "claim_mode", "vif.default.script", "list", "new_key"];

macro_rules! properties {
    ($($name:ident, $long:ident: $corpus:literal, $property:expr;)*) => {
        $(
            #[test]
            fn $name() {
                each($corpus, false, $property);
            }

            #[test]
            #[ignore = "long: many more cases"]
            fn $long() {
                each($corpus, true, $property);
            }
        )*
    };
}

properties! {
    fstab_keeps_or_refuses, long_fstab: "fstab", fstab;
    shell_settings_keep_or_refuse, long_shell_settings: "shell", |b| settings(Format::Shell, SHELL_KEYS, &Value::Text("a b".into()), b);
    ini_settings_keep_or_refuse, long_ini_settings: "ini", |b| settings(Format::Ini, INI_KEYS, &Value::Text("a".into()), b);
    libvirt_settings_keep_or_refuse, long_libvirt_settings: "libvirt", |b| settings(Format::Libvirt, LIBVIRT_KEYS, &Value::Text("a".into()), b);
    xl_settings_keep_or_refuse, long_xl_settings: "xl", |b| settings(Format::Xl, XL_KEYS, &Value::Integer(7), b);
    default_grub_keeps_or_refuses, long_default_grub: "shell", shells;
    sysctl_is_read_or_faulted, long_sysctl: "sysctl", sysctls;
    tmpfiles_are_read_or_faulted, long_tmpfiles: "tmpfiles", tmpfiles_rules;
    menus_are_read_or_refused, long_menus: "grub_cfg", grub_menu;
    command_lines_are_edited_once, long_command_lines: "cmdline", command_line;
    documents_are_read_or_refused, long_documents: "yaml", documents;
    expressions_are_evaluated_or_refused, long_expressions: "expressions", expressions;
    frames_are_read_or_refused, long_frames: "frames", frames;
    journals_are_read_or_refused, long_journals: "journal", journals;
    units_are_read_or_refused, long_units: "ini", units;
}
