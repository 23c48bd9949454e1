//! `/etc/fstab`, read with each byte kept and edited one entry at a time (fstab(5)).
//!
//! What counts as a broken line is what libmount calls one (util-linux' `findmnt --verify`).

use std::{collections::BTreeMap, ops::Range};

/// One entry, its fields without escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The device, `LABEL=`, `UUID=`, or `SERVER:PATH`.
    pub spec: String,
    /// The mount point, or `none` for swap.
    pub file: String,
    /// The type of the file system.
    pub fstype: String,
    /// The options in their order; empty if the field is missing.
    pub options: Vec<String>,
    /// Whether dump(8) saves it; 0 if missing.
    pub freq: i32,
    /// The order of the check at boot; 0, no check, if missing.
    pub passno: i32,
}

/// Why a text is no fstab that vprov edits, or an entry cannot stand in one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FstabError {
    /// libmount would skip the line.
    #[error("line {line} `{text}` is broken: {why}")]
    Broken {
        /// The line, from 1.
        line: usize,
        /// The line itself, shortened.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// systemd-fstab-generator fails and keeps only the first entry.
    #[error("lines {first} and {second} both mount at `{file}`, of which systemd keeps only the first")]
    Twice {
        /// The mount point.
        file: String,
        /// The first line.
        first: usize,
        /// The second line.
        second: usize,
    },
    /// Another entry has the mount point.
    #[error("line {line} already mounts `{spec}` at `{file}`")]
    Occupied {
        /// The mount point.
        file: String,
        /// What is mounted there.
        spec: String,
        /// The line, from 1.
        line: usize,
    },
    /// The field of a new entry cannot be written.
    #[error("the {field} `{value}` {why}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// An entry and where its fields stand in the line.
type Parsed = (Entry, Vec<Range<usize>>);

#[derive(Clone, Debug)]
struct Line {
    raw: Vec<u8>,
    parsed: Option<Parsed>,
}

/// The file, line by line.
#[derive(Clone, Debug)]
pub struct Fstab {
    lines: Vec<Line>,
}

impl Fstab {
    /// Reads the file.
    ///
    /// # Errors
    /// If a line is broken, or a mount point stands twice: a file that the system itself does not take whole is not edited.
    pub fn parse(content: &[u8]) -> Result<Self, FstabError> {
        let mut lines = Vec::new();
        for (at, raw) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let parsed = parse_line(raw).map_err(|why| {
                let text = String::from_utf8_lossy(raw).trim().chars().take(120).collect();
                FstabError::Broken { line: at + 1, text, why }
            })?;
            lines.push(Line { raw: raw.to_vec(), parsed });
        }
        let mut seen = BTreeMap::new();
        for (at, Line { parsed, .. }) in lines.iter().enumerate() {
            let Some((entry, _)) = parsed else { continue };
            let file = trim(&entry.file);
            if !file.starts_with('/') {
                continue;
            }
            if let Some(first) = seen.insert(file.to_owned(), at + 1) {
                return Err(FstabError::Twice { file: file.into(), first, second: at + 1 });
            }
        }
        Ok(Self { lines })
    }

    /// Returns the entries with their lines, from 1.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.lines.iter().enumerate().filter_map(|(at, line)| Some((at + 1, &line.parsed.as_ref()?.0)))
    }

    /// Returns the entry of a device and mount point, a trailing `/` of either left aside.
    #[must_use]
    pub fn find(&self, spec: &str, file: &str) -> Option<(usize, &Entry)> {
        self.entries().find(|(_, entry)| trim(&entry.spec) == trim(spec) && trim(&entry.file) == trim(file))
    }

    /// Returns the entry of a mount point.
    #[must_use]
    pub fn at(&self, file: &str) -> Option<(usize, &Entry)> {
        self.entries().find(|(_, entry)| trim(&entry.file) == trim(file))
    }

    /// Gives an entry its wanted fields, in place and with its own white space where there is one of the same device and
    /// mount point, else at the end. An entry that says the same already keeps its bytes.
    ///
    /// # Errors
    /// If another device has the mount point, or a field cannot be written.
    pub fn set(&mut self, wanted: &Entry) -> Result<(), FstabError> {
        if let Some((line, entry)) = self.at(&wanted.file)
            && trim(&entry.spec) != trim(&wanted.spec)
            && wanted.file.starts_with('/')
        {
            let (file, spec) = (entry.file.clone(), entry.spec.clone());
            return Err(FstabError::Occupied { file, spec, line });
        }
        match self.find(&wanted.spec, &wanted.file).map(|(line, _)| line - 1) {
            Some(at) => self.rewrite(at, wanted),
            None => self.append(wanted),
        }
    }

    /// Gives the entry of a mount point its wanted fields whatever its device was; appends it where there is none.
    ///
    /// # Errors
    /// If a field cannot be written.
    pub fn replace(&mut self, wanted: &Entry) -> Result<(), FstabError> {
        match self.at(&wanted.file).map(|(line, _)| line - 1) {
            Some(at) => self.rewrite(at, wanted),
            None => self.append(wanted),
        }
    }

    /// Removes the entry of a device and mount point and tells whether there was one.
    pub fn remove(&mut self, spec: &str, file: &str) -> bool {
        let found = self.find(spec, file).map(|(line, _)| line - 1);
        found.map(|at| self.lines.remove(at)).is_some()
    }

    /// Returns the content of the file.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|line| line.raw.iter().copied()).collect()
    }

    fn append(&mut self, wanted: &Entry) -> Result<(), FstabError> {
        let crlf = self.lines.last().is_some_and(|line| line.raw.ends_with(b"\r\n"));
        let end: &[u8] = if crlf { b"\r\n" } else { b"\n" };
        let mut raw = fields(wanted)?.join(" ").into_bytes();
        raw.extend_from_slice(end);
        if let Some(last) = self.lines.last_mut()
            && !last.raw.ends_with(b"\n")
        {
            last.raw.extend_from_slice(end);
        }
        self.lines.push(reparsed(raw));
        Ok(())
    }

    fn rewrite(&mut self, at: usize, wanted: &Entry) -> Result<(), FstabError> {
        let wanted_fields = fields(wanted)?;
        let Some(Line { raw, parsed: Some((entry, spans)) }) = self.lines.get(at) else { return Ok(()) };
        let same = [
            trim(&entry.spec) == trim(&wanted.spec),
            trim(&entry.file) == trim(&wanted.file),
            entry.fstype == wanted.fstype,
            entry.options == wanted.options,
            entry.freq == wanted.freq,
            entry.passno == wanted.passno,
        ];
        let mut needed = same.iter().rposition(|same| !same).map_or(0, |last| last + 1).max(spans.len());
        needed = needed.min(wanted_fields.len());
        let (mut new, mut from) = (Vec::new(), 0);
        for (field, text) in wanted_fields.iter().enumerate().take(needed) {
            match spans.get(field) {
                Some(span) if same[field] => {
                    new.extend_from_slice(&raw[from..span.end]);
                    from = span.end;
                }
                Some(span) => {
                    new.extend_from_slice(&raw[from..span.start]);
                    new.extend_from_slice(text.as_bytes());
                    from = span.end;
                }
                None => {
                    new.push(b' ');
                    new.extend_from_slice(text.as_bytes());
                }
            }
        }
        new.extend_from_slice(&raw[from..]);
        self.lines[at] = reparsed(new);
        Ok(())
    }
}

fn reparsed(raw: Vec<u8>) -> Line {
    let parsed = parse_line(&raw).expect("a line made from checked fields is a good line");
    Line { raw, parsed }
}

/// Reads one line: `None` if it is blank or a comment.
fn parse_line(raw: &[u8]) -> Result<Option<Parsed>, &'static str> {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let (mut spans, mut at) = (Vec::new(), 0);
    while spans.len() < 6 {
        while raw.get(at).is_some_and(|byte| blank(*byte)) {
            at += 1;
        }
        let start = at;
        while raw.get(at).is_some_and(|byte| !blank(*byte)) {
            at += 1;
        }
        if start == at || (spans.is_empty() && raw[start] == b'#') {
            break;
        }
        spans.push(start..at);
    }
    if spans.is_empty() {
        return Ok(None);
    }
    if raw.contains(&0) {
        return Err("it holds a NUL byte");
    }
    let field = |at: usize| spans.get(at).map(|span: &Range<usize>| unescape(&raw[span.clone()]));
    let (Some(spec), Some(file), Some(fstype)) = (field(0), field(1), field(2)) else {
        return Err("it has fewer than three fields");
    };
    let number = |at: usize| match field(at) {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| "the fields after the options are no numbers: options hold no spaces"),
    };
    let (freq, passno) = (number(4)?, number(5)?);
    let options = field(3).map(|options| split_options(&options)).unwrap_or_default();
    Ok(Some((Entry { spec, file, fstype, options, freq, passno }, spans)))
}

/// Returns the six fields of an entry as they are written.
fn fields(entry: &Entry) -> Result<[String; 6], FstabError> {
    let wrong = |field, value: &str, why| Err(FstabError::Field { field, value: value.into(), why });
    for (field, value) in [("device", &entry.spec), ("mount point", &entry.file), ("file system type", &entry.fstype)] {
        if value.is_empty() {
            return wrong(field, value, "is empty");
        }
        if value.chars().any(|c| c.is_control() && c != '\t' && c != '\n') {
            return wrong(field, value, "holds a control character");
        }
    }
    for option in &entry.options {
        if option.is_empty() {
            return wrong("option", option, "is empty");
        }
        if option.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return wrong("option", option, "holds white space, which ends the options");
        }
        if split_options(option).len() != 1 {
            return wrong("option", option, "holds a comma outside of quotes");
        }
        if !option.matches('"').count().is_multiple_of(2) {
            return wrong("option", option, "holds a quote that is not closed, in which what follows would be read");
        }
    }
    let options = if entry.options.is_empty() { "defaults".into() } else { entry.options.join(",") };
    Ok([
        escape(&entry.spec),
        escape(&entry.file),
        escape(&entry.fstype),
        escape(&options),
        entry.freq.to_string(),
        entry.passno.to_string(),
    ])
}

/// Splits the options at commas outside of quotes, as libmount does (`context="a:b:c,d"`).
#[must_use]
pub fn split_options(text: &str) -> Vec<String> {
    let mut quoted = false;
    let split = text.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    split.filter(|option| !option.is_empty()).map(Into::into).collect()
}

/// Returns the options that an entry shall have: those that it has, each wanted one in the place of what it replaces or
/// contradicts (`hard` and `soft`, `ro` and `rw`, `vers=` and `nfsvers=`), else at the end. The last of several wanted
/// options of one meaning wins, and `defaults` stays only where nothing else is said or it stood there.
#[must_use]
pub fn merge_options(present: &[String], wanted: &[String]) -> Vec<String> {
    let mut merged = present.to_vec();
    for option in wanted {
        let meaning = meaning(option);
        let place = merged.iter().position(|other| self::meaning(other) == meaning);
        merged.retain(|other| self::meaning(other) != meaning);
        match place {
            Some(at) => merged.insert(at.min(merged.len()), option.clone()),
            None => merged.push(option.clone()),
        }
    }
    merged
}

/// Returns the options without those that mean one of `unwanted` (by name, whatever the value).
#[must_use]
pub fn without_options(present: &[String], unwanted: &[String]) -> Vec<String> {
    let name = |option: &str| option.split('=').next().unwrap_or_default().to_owned();
    let unwanted: Vec<_> = unwanted.iter().map(|option| name(option)).collect();
    present.iter().filter(|option| !unwanted.contains(&name(option))).cloned().collect()
}

/// Returns what an option decides: options of one meaning exclude each other (mount(8), nfs(5)).
#[must_use]
pub fn meaning(option: &str) -> String {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let several = [
        "x-systemd.requires",
        "x-systemd.after",
        "x-systemd.before",
        "x-systemd.requires-mounts-for",
        "x-systemd.wanted-by",
    ];
    match (name, value) {
        ("ro" | "rw", None) => "rw".into(),
        ("sync" | "async", None) => "sync".into(),
        ("hard" | "soft" | "softerr", None) => "hard".into(),
        ("fg" | "bg", None) => "fg".into(),
        ("udp" | "tcp" | "rdma" | "proto", _) => "proto".into(),
        ("vers" | "nfsvers", _) | ("v2" | "v3" | "v4" | "v4.0" | "v4.1" | "v4.2", None) => "vers".into(),
        ("atime" | "noatime" | "relatime" | "norelatime" | "strictatime" | "nostrictatime", None) => "atime".into(),
        ("user" | "users" | "owner" | "group" | "nouser", _) => "user".into(),
        (name, Some(_)) if several.contains(&name) => option.into(),
        (name, None) => match name.strip_prefix("no") {
            Some(positive) if !positive.is_empty() && name != "none" => positive.into(),
            _ => name.into(),
        },
        (name, Some(_)) => name.into(),
    }
}

/// Writes a field: white space, `\` and `#` become octal escapes (fstab(5)).
#[must_use]
pub fn escape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            ' ' => text.push_str("\\040"),
            '\t' => text.push_str("\\011"),
            '\n' => text.push_str("\\012"),
            '\\' => text.push_str("\\134"),
            '#' => text.push_str("\\043"),
            c => text.push(c),
        }
    }
    text
}

/// Reads a field: `\` with three octal digits is a byte, any other `\` itself; what is no UTF-8 becomes U+FFFD.
#[must_use]
pub fn unescape(field: &[u8]) -> String {
    let (mut bytes, mut at) = (Vec::with_capacity(field.len()), 0);
    while let Some(byte) = field.get(at) {
        let octal = field.get(at + 1..at + 4).filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        let code = octal.map(|digits| digits.iter().fold(0u32, |code, digit| code * 8 + u32::from(digit - b'0')));
        match (byte, code.and_then(|code| u8::try_from(code).ok())) {
            (b'\\', Some(code)) => {
                bytes.push(code);
                at += 4;
            }
            (byte, _) => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn trim(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { path } else { trimmed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REAL: &str = "# /etc/fstab: static file system information.\n\
        UUID=6c1c-aa\t/               ext4    errors=remount-ro 0       1\n\
        \n\
        # swap was on /dev/sda5\n\
        UUID=7d /none none swap sw 0 0\n\
        nfs1:/exported/vm_images/  /mnt/images\tnfs  ro,soft,rsize=8192,_netdev   0 0   # images\n\
        /dev/sr0        /media/cd\\040rom   udf,iso9660 user,noauto     0       0\n";

    fn fixed() -> String {
        REAL.replace("/none none", "none")
    }

    fn entry(spec: &str, file: &str, fstype: &str, options: &str) -> Entry {
        let (spec, file, fstype) = (spec.into(), file.into(), fstype.into());
        Entry { spec, file, fstype, options: split_options(options), freq: 0, passno: 0 }
    }

    #[test]
    fn fields_are_read_without_escapes() {
        let fstab = Fstab::parse(fixed().as_bytes()).unwrap();
        assert_eq!(fstab.entries().map(|(line, _)| line).collect::<Vec<_>>(), [2, 5, 6, 7]);
        let (line, root) = fstab.at("/").unwrap();
        assert_eq!((line, root.passno, root.options.as_slice()), (2, 1, ["errors=remount-ro".to_owned()].as_slice()));
        assert_eq!(fstab.at("/media/cd rom").unwrap().1.spec, "/dev/sr0");
        assert_eq!(fstab.find("nfs1:/exported/vm_images", "/mnt/images/").unwrap().0, 6);
        assert_eq!(fstab.find("UUID=7d", "none").unwrap().0, 5);
    }

    #[test]
    fn lines_that_libmount_skips_are_refused() {
        for (text, line) in [
            ("# c\n/dev/sda1 /\n", Some(2)),
            ("/dev/sda1 / ext4 rw, sync 0 0\n", Some(1)),
            ("/dev/sda1 / ext4 defaults # c\n", Some(1)),
            ("/dev/sda1 / ext4 defaults 0 x\n", Some(1)),
            ("/dev/sda1 \"/a b\" ext4 defaults\n", Some(1)),
            ("/dev/sda1 / ext4\n", None),
            ("/dev/sda1 / ext4 defaults 0\n", None),
            ("/dev/sda1 / ext4 defaults 0 1 # c\n", None),
            ("/dev/sda1 / ext4 defaults 0 1\r\n", None),
            ("/dev/sda1 / ext4 defaults -1 0", None),
            ("", None),
        ] {
            let found = match Fstab::parse(text.as_bytes()) {
                Err(FstabError::Broken { line, .. }) => Some(line),
                Err(other) => panic!("{text:?}: {other}"),
                Ok(fstab) => {
                    assert_eq!(fstab.render(), text.as_bytes());
                    None
                }
            };
            assert_eq!(found, line, "{text:?}");
        }
        let twice = Fstab::parse(b"a:/x /m nfs\n\nb:/y /m/ nfs defaults 0 0\n").unwrap_err();
        assert_eq!(twice, FstabError::Twice { file: "/m".into(), first: 1, second: 3 });
        assert!(Fstab::parse(b"a none swap sw\nb none swap sw\n").is_ok());
    }

    #[track_caller]
    fn sets(before: &str, wanted: &Entry, after: &str) {
        let mut fstab = Fstab::parse(before.as_bytes()).unwrap();
        fstab.set(wanted).unwrap();
        assert_eq!(String::from_utf8(fstab.render()).unwrap(), after);
        fstab.set(wanted).unwrap();
        assert_eq!(String::from_utf8(fstab.render()).unwrap(), after, "setting twice");
        assert_eq!(&Fstab::parse(after.as_bytes()).unwrap().at(&wanted.file).unwrap().1.options, &wanted.options);
    }

    #[test]
    fn an_edit_touches_its_fields_alone() {
        let images = entry("nfs1:/exported/vm_images", "/mnt/images", "nfs", "rw,hard,rsize=8192,_netdev");
        sets(&fixed(), &images, &fixed().replace("ro,soft,", "rw,hard,"));
        let same = entry("nfs1:/exported/vm_images", "/mnt/images", "nfs", "ro,soft,rsize=8192,_netdev");
        sets(&fixed(), &same, &fixed());
        let new = entry("h:/a b", "/mnt/#1", "nfs4", "defaults");
        sets(&fixed(), &new, &(fixed() + "h:/a\\040b /mnt/\\0431 nfs4 defaults 0 0\n"));
        sets("a b c", &entry("h:/x", "/x", "nfs", "ro"), "a b c\nh:/x /x nfs ro 0 0\n");
        sets("a /b c d 0 0\r\n", &entry("h:/x", "/x", "nfs", "ro"), "a /b c d 0 0\r\nh:/x /x nfs ro 0 0\r\n");
        sets("a /b c\n", &entry("a", "/b", "c", "ro,sync"), "a /b c ro,sync\n");
        sets(" a  /b\tc d\r\n", &Entry { passno: 2, ..entry("a", "/b", "c", "d") }, " a  /b\tc d 0 2\r\n");
    }

    #[test]
    fn an_entry_is_removed_whole() {
        let mut fstab = Fstab::parse(fixed().as_bytes()).unwrap();
        assert!(fstab.remove("nfs1:/exported/vm_images", "/mnt/images"));
        assert!(!fstab.remove("nfs1:/exported/vm_images", "/mnt/images"));
        let lines = fixed();
        let expected: String = lines.split_inclusive('\n').filter(|line| !line.starts_with("nfs1")).collect();
        assert_eq!(fstab.render(), expected.as_bytes());
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let mut fstab = Fstab::parse(fixed().as_bytes()).unwrap();
        let spaced = Entry { options: vec!["ro, sync".into()], ..entry("a:/", "/a", "nfs", "") };
        assert!(matches!(fstab.set(&spaced), Err(FstabError::Field { field: "option", .. })));
        let comma = Entry { options: vec!["ro,sync".into()], ..entry("a:/", "/a", "nfs", "") };
        assert!(matches!(fstab.set(&comma), Err(FstabError::Field { field: "option", .. })));
        let open = Entry { options: vec!["so\"ft".into(), "ro".into()], ..entry("a:/", "/a", "nfs", "") };
        assert!(fstab.set(&open).unwrap_err().to_string().contains("a quote that is not closed"));
        let other = entry("nfs2:/x", "/mnt/images", "nfs", "ro");
        assert!(matches!(fstab.set(&other), Err(FstabError::Occupied { line: 6, .. })));
        fstab.replace(&other).unwrap();
        assert_eq!(fstab.at("/mnt/images").unwrap().1.spec, "nfs2:/x");
        assert_eq!(fstab.entries().count(), 4);
    }

    #[test]
    fn options_of_one_meaning_exclude_each_other() {
        for (present, wanted, expected) in [
            ("ro,soft,rsize=8192,_netdev", "hard,sync", "ro,hard,rsize=8192,_netdev,sync"),
            ("defaults", "hard", "defaults,hard"),
            ("", "ro,rw", "rw"),
            ("rsize=1,x,rsize=2", "rsize=3", "rsize=3,x"),
            ("nfsvers=3,tcp", "vers=4.2,proto=rdma", "vers=4.2,proto=rdma"),
            ("noatime,nodiratime,nofail", "relatime,auto", "relatime,nodiratime,nofail,auto"),
            ("noauto,users", "auto", "auto,users"),
            ("x-systemd.requires=a", "x-systemd.requires=b", "x-systemd.requires=a,x-systemd.requires=b"),
            ("context=\"a,b\",ro", "rw", "context=\"a,b\",rw"),
            ("hard", "hard", "hard"),
        ] {
            let merged = merge_options(&split_options(present), &split_options(wanted));
            assert_eq!(merged.join(","), expected);
            assert_eq!(merge_options(&merged, &split_options(wanted)), merged);
        }
        let left = without_options(&split_options("ro,rsize=8192,sync"), &split_options("rsize=1,sync"));
        assert_eq!(left, ["ro"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_kept_or_refused(content in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b" \t\n#/\\041".to_vec())], 0..200)
        ) {
            if let Ok(fstab) = Fstab::parse(&content) {
                prop_assert_eq!(fstab.render(), content);
            }
        }

        #[test]
        fn escapes_round_trip(field in "\\PC{0,20}[ \t\n\\\\#]{0,3}") {
            prop_assert_eq!(unescape(escape(&field).as_bytes()), field);
        }

        #[test]
        fn other_lines_stay(
            lines in proptest::collection::vec("(#[^\r\n]{0,9}|[a-f]{1,3}[ \t]{1,2}/[a-z]{6}[ \t]ext4( ro( 0( 1)?)?)?|[ \t]*)\r?", 0..8),
            options in proptest::collection::vec("[a-z]{1,4}(=[0-9]{1,3})?", 1..4), at in 0usize..8
        ) {
            let content = lines.join("\n");
            let Ok(mut fstab) = Fstab::parse(content.as_bytes()) else { return Ok(()) };
            let entries: Vec<_> = fstab.entries().map(|(line, entry)| (line, entry.clone())).collect();
            let wanted = match entries.get(at) {
                Some((_, entry)) => Entry { options, ..entry.clone() },
                None => Entry { options, ..entry("srv:/x", "/mnt/x", "nfs", "") },
            };
            fstab.set(&wanted).unwrap();
            let after = String::from_utf8(fstab.render()).unwrap();
            let reread = Fstab::parse(after.as_bytes()).unwrap();
            prop_assert_eq!(reread.at(&wanted.file).unwrap().1, &wanted);
            for (number, line) in content.lines().enumerate() {
                if entries.get(at).is_none_or(|(line, _)| line - 1 != number) {
                    prop_assert_eq!(after.lines().nth(number).unwrap().trim_end_matches('\r'), line.trim_end_matches('\r'));
                }
            }
        }
    }
}
