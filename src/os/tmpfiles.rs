//! tmpfiles.d: lines that make files or write values at boot, and who wins among them (tmpfiles.d(5)).
//!
//! The opposite of sysctl.d: of two lines for one path the one in the *earlier* file wins, and the later is ignored as a
//! duplicate. A line with a pattern is another item than one with a path: both run, the later one last.

use super::{
    conf_d::{self, Fragment, Place, TMPFILES_DIRS},
    glob,
};
use crate::host::path::AbsPath;

/// The first line of each file that belongs to vprov alone.
pub const HEADER: &str = "# Managed by vprov. Changes made here are overwritten.\n";

/// One line of tmpfiles.d. A field that is `-` or missing is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The type with its modifiers, for example `w` or `d!`.
    pub kind: String,
    /// The path or pattern, without quotes and escapes. `%%` is a plain `%` here; other specifiers stand as written.
    pub path: String,
    /// The mode.
    pub mode: Option<String>,
    /// The owner.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// The age.
    pub age: Option<String>,
    /// The argument, which is what the line writes for `w` and `f`, without escapes.
    pub argument: Option<String>,
}

impl Rule {
    /// Makes a line that writes a value into an existing file, without a newline behind it.
    #[must_use]
    pub fn write(path: &AbsPath, value: &str) -> Self {
        Self::new("w", path.as_str(), Some(value))
    }

    fn new(kind: &str, path: &str, argument: Option<&str>) -> Self {
        let (kind, path, argument) = (kind.into(), path.into(), argument.map(Into::into));
        Self { kind, path, mode: None, user: None, group: None, age: None, argument }
    }

    /// Tells whether the line writes a value into a file that exists (`w`, also `w+`, `w-`, `w!`).
    #[must_use]
    pub fn writes(&self) -> bool {
        self.kind.starts_with('w')
    }
}

/// What a file of tmpfiles.d says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TmpfilesFile {
    /// The lines with their numbers, from 1.
    pub rules: Vec<(usize, Rule)>,
    /// The lines that systemd-tmpfiles refuses (exit status 65), each with the reason.
    pub faults: Vec<(usize, &'static str)>,
}

/// Reads a file of tmpfiles.d; what is no UTF-8 becomes U+FFFD.
#[must_use]
pub fn parse(content: &[u8]) -> TmpfilesFile {
    let mut file = TmpfilesFile::default();
    for (at, line) in String::from_utf8_lossy(content).split('\n').enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        match parse_line(line) {
            Ok(rule) => file.rules.push((at + 1, rule)),
            Err(why) => file.faults.push((at + 1, why)),
        }
    }
    file
}

fn parse_line(line: &str) -> Result<Rule, &'static str> {
    let mut rest = line;
    let mut fields = Vec::with_capacity(6);
    while fields.len() < 6 {
        let Some((field, after)) = word(rest)? else { break };
        fields.push(field);
        rest = after;
    }
    let mut fields = fields.into_iter();
    let (Some(kind), Some(path)) = (fields.next(), fields.next()) else { return Err("it has no type and path") };
    let mut letters = kind.chars();
    if !letters.next().is_some_and(|letter| "fFwdDevqQpLcbCxXrRtThHaAmzZ".contains(letter)) {
        return Err("its type is unknown");
    }
    if letters.any(|modifier| !"!-+=~^$?".contains(modifier)) {
        return Err("a modifier of its type is unknown");
    }
    if !path.starts_with('/') && !path.starts_with('%') {
        return Err("its path is not absolute");
    }
    let mut field = || fields.next().filter(|field| !field.is_empty() && field != "-");
    let (mode, user, group, age) = (field(), field(), field(), field());
    let raw = Some(rest).filter(|rest| !rest.is_empty() && *rest != "-");
    let argument = match (raw, kind.chars().next()) {
        (None, Some('w')) => return Err("it writes a file, but has no argument"),
        (Some(raw), Some('w' | 'f' | 'F')) => Some(plain_percent(&unescape(raw)?)),
        (raw, _) => raw.map(Into::into),
    };
    Ok(Rule { kind, path: simplified(&plain_percent(&path)), mode, user, group, age, argument })
}

/// Takes the next field: quotes group and disappear, `\` is an escape of C, or protects the next character where it is
/// none (systemd's `extract_first_word`; systemd 252 protects always).
fn word(text: &str) -> Result<Option<(String, &str)>, &'static str> {
    let text = text.trim_start_matches([' ', '\t']);
    if text.is_empty() {
        return Ok(None);
    }
    let (mut raw, mut quote) = (String::new(), None);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\\', _) => {
                raw.push(c);
                raw.extend(chars.next().map(|(_, escaped)| escaped));
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => quote = Some(c),
            (' ' | '\t', None) => return Ok(Some((field(&raw), text[at..].trim_start_matches([' ', '\t'])))),
            (c, _) => raw.push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    Ok(Some((field(&raw), "")))
}

fn field(raw: &str) -> String {
    unescape(raw).unwrap_or_else(|_| {
        let mut chars = raw.chars();
        let mut text = String::with_capacity(raw.len());
        while let Some(c) = chars.next() {
            text.extend(if c == '\\' { chars.next() } else { Some(c) });
        }
        text
    })
}

/// Resolves escapes of C as systemd's `cunescape` does.
fn unescape(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "an escape with a backslash is unknown";
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let (letter, after) = rest.split_first().ok_or(WRONG)?;
        let (digits, radix) = match letter {
            b'x' => (after.get(..2), 16),
            b'u' => (after.get(..4), 16),
            b'U' => (after.get(..8), 16),
            b'0'..=b'7' => (rest.get(..3), 8),
            _ => (None, 0),
        };
        if radix > 0 {
            let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or(WRONG)?;
            let code = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, radix).ok());
            let code = code.filter(|code| *code != 0).ok_or(WRONG)?;
            match letter {
                b'u' | b'U' => {
                    let c = char::from_u32(code).ok_or(WRONG)?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => bytes.push(u8::try_from(code).map_err(|_| WRONG)?),
            }
            rest = &rest[digits.len() + usize::from(radix == 16)..];
            continue;
        }
        bytes.push(match letter {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b's' => b' ',
            b'\\' | b'"' | b'\'' => *letter,
            _ => return Err(WRONG),
        });
        rest = after;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn plain_percent(text: &str) -> String {
    text.replace("%%", "%")
}

fn simplified(path: &str) -> String {
    AbsPath::new(path).map_or_else(|_| path.to_owned(), |path| path.to_string())
}

/// Why a rule cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {field} `{value}` cannot stand in a tmpfiles rule")]
pub struct RuleError {
    /// Which field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
}

/// Writes a file of tmpfiles.d that is wholly ours: the header and one line for each rule, in the given order, which is
/// the order in which systemd-tmpfiles writes.
///
/// # Errors
/// If a field would not be read back as it is.
pub fn render(rules: &[Rule]) -> Result<String, RuleError> {
    let mut text = HEADER.to_owned();
    for rule in rules {
        text.push_str(&render_rule(rule)?);
        text.push('\n');
    }
    Ok(text)
}

/// Writes one rule as a line, without a newline behind it.
///
/// # Errors
/// If a field would not be read back as it is.
pub fn render_rule(rule: &Rule) -> Result<String, RuleError> {
    let fields = [("mode", &rule.mode), ("owner", &rule.user), ("group", &rule.group), ("age", &rule.age)];
    let mut line = format!("{} {}", rule.kind, escape_path(&rule.path));
    let written = [rule.mode.is_some(), rule.user.is_some(), rule.group.is_some(), rule.age.is_some()];
    let needed =
        if rule.argument.is_some() { 4 } else { written.iter().rposition(|is| *is).map_or(0, |last| last + 1) };
    for (name, field) in fields.iter().take(needed) {
        let value = field.as_deref().unwrap_or("-");
        if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c.is_control() || "\\\"'".contains(c)) {
            return Err(RuleError { field: name, value: value.into() });
        }
        line.push(' ');
        line.push_str(value);
    }
    if let Some(argument) = &rule.argument {
        line.push(' ');
        line.push_str(&if rule.kind.starts_with(['w', 'f', 'F']) {
            escape_argument(argument)
        } else {
            argument.clone()
        });
    }
    // What is read back decides, so that nothing is written that means something else.
    match parse_line(line.trim_matches([' ', '\t', '\r'])) {
        Ok(read) if read == *rule && !line.contains(['\n', '\0']) => Ok(line),
        _ => Err(RuleError { field: "path or argument", value: line }),
    }
}

/// Quotes a path where needed. systemd 252 knows no other escapes in a path than those of quotes and backslashes; newer
/// ones read all of C's there.
fn escape_path(path: &str) -> String {
    let plain = path.replace('%', "%%");
    if !plain.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c)) {
        return plain;
    }
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

/// White space at the ends would be trimmed, and a lone `-` is no argument.
fn escape_argument(argument: &str) -> String {
    let inner = argument.trim_matches(|c: char| c.is_whitespace());
    if inner == "-" && inner.len() == argument.len() {
        return "\\x2d".into();
    }
    let start = argument.len() - argument.trim_start().len();
    let end = start + inner.len();
    let ends = |text: &str| escaped(text, true);
    format!("{}{}{}", ends(&argument[..start]), escaped(inner, false), ends(argument.get(end..).unwrap_or_default()))
}

fn escaped(text: &str, all: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' => escaped.push_str("%%"),
            '\\' => escaped.push_str("\\\\"),
            c if c.is_control() || all => {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escaped.push_str(&format!("\\x{byte:02x}")));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// A line that decides what a file holds after boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The value.
    pub value: String,
    /// The line.
    pub place: Place,
    /// The pattern that named the file, if it was not named itself.
    pub pattern: Option<String>,
}

/// Returns the line that writes a file last at boot, as far as tmpfiles.d decides it: lines run in the order of the file
/// names, and of several lines for the same path or pattern only the first counts.
#[must_use]
pub fn at_boot(files: &[Fragment], path: &AbsPath) -> Option<Written> {
    let mut seen = Vec::new();
    let mut last = None;
    for file in conf_d::in_order(&TMPFILES_DIRS, ".conf", files) {
        for (line, rule) in parse(file.content.as_deref().unwrap_or_default()).rules {
            let literal = rule.path == path.as_str();
            let named = literal || glob::matches(&rule.path, path.as_str(), true);
            if !rule.writes() || !named || seen.contains(&rule.path) {
                continue;
            }
            seen.push(rule.path.clone());
            let (place, value) = (Place { path: file.path.clone(), line }, rule.argument.unwrap_or_default());
            last = Some(Written { value, place, pattern: (!literal).then_some(rule.path) });
        }
    }
    last
}

/// Returns the line of another file that makes the value of ours void: an earlier one for the same path, or a later
/// pattern that names it. `files` are those that the plan leaves behind, ours included.
#[must_use]
pub fn overridden(files: &[Fragment], our_file: &AbsPath, path: &AbsPath) -> Option<Written> {
    let ours = files.iter().find(|file| file.path == *our_file)?;
    let rules = parse(ours.content.as_deref()?).rules;
    let (_, said) = rules.into_iter().find(|(_, rule)| rule.writes() && rule.path == path.as_str())?;
    at_boot(files, path)
        .filter(|written| written.place.path != *our_file && Some(&written.value) != said.argument.as_ref())
}

/// Returns the command that runs the lines of one file now: 65 is an error in the file, 73 a failed write, and a missing
/// file is skipped in silence.
#[must_use]
pub fn create(file: &AbsPath) -> Vec<String> {
    ["systemd-tmpfiles", "--create", file.as_str()].map(Into::into).into()
}

/// Returns the command that checks a file and writes nothing: 65 is an error in the file.
#[must_use]
pub fn verify(file: &AbsPath) -> Vec<String> {
    ["systemd-tmpfiles", "--create", "--prefix=/nonexistent", file.as_str()].map(Into::into).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

    #[test]
    fn lines() {
        let file = parse(
            b"# c\n\nw /sys/a - - - - madvise\nd! \"/run/my dir\" 0755 root root 10d -\nw+ /x%%y - - - - a%%b\\tc # d\n\
              L /run/l - - - - ../t\nr /tmp/x\r\nw /sys/a\n? /x\nw? /x - - - - 1\nw x - - - - 1\nw /x - - - - \\q\nd \"/x\n",
        );
        let read: Vec<_> = file
            .rules
            .iter()
            .map(|(at, rule)| (*at, rule.kind.as_str(), rule.path.as_str(), rule.argument.as_deref()))
            .collect();
        assert_eq!(
            read,
            [
                (3, "w", "/sys/a", Some("madvise")),
                (4, "d!", "/run/my dir", None),
                (5, "w+", "/x%y", Some("a%b\tc # d")),
                (6, "L", "/run/l", Some("../t")),
                (7, "r", "/tmp/x", None),
                (10, "w?", "/x", Some("1")),
            ]
        );
        assert_eq!(file.rules[1].1.mode.as_deref(), Some("0755"));
        assert_eq!(file.rules[1].1.age.as_deref(), Some("10d"));
        assert_eq!(file.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [8, 9, 11, 12, 13]);
    }

    #[test]
    fn rules_are_written_so_that_they_mean_the_same() {
        for (value, line) in [
            ("madvise", "w /sys/a - - - - madvise"),
            ("a b", "w /sys/a - - - - a b"),
            (" a ", "w /sys/a - - - - \\x20a\\x20"),
            ("50%\\", "w /sys/a - - - - 50%%\\\\"),
            ("-", "w /sys/a - - - - \\x2d"),
            ("a\nb", "w /sys/a - - - - a\\x0ab"),
        ] {
            let rule = Rule::write(&AbsPath::known("/sys/a"), value);
            assert_eq!(render_rule(&rule).unwrap(), line);
            assert_eq!(parse(line.as_bytes()).rules, [(1, rule)]);
        }
        assert!(render_rule(&Rule::write(&AbsPath::known("/sys/a"), "")).is_err());
        assert!(render_rule(&Rule::write(&AbsPath::known("/sys/a"), "\0")).is_err());
        assert!(render_rule(&Rule { user: Some("a b".into()), ..Rule::write(&AbsPath::known("/a"), "1") }).is_err());
        let directory = Rule { mode: Some("0755".into()), ..Rule::new("d", "/run/a b", None) };
        assert_eq!(render(&[directory]).unwrap(), format!("{HEADER}d \"/run/a b\" 0755\n"));
    }

    #[track_caller]
    fn decides(files: &[(&str, &str)], path: &str, expected: Option<(&str, &str)>) {
        let files: Vec<_> = files.iter().map(|(path, text)| Fragment::new(AbsPath::known(path), *text)).collect();
        let written = at_boot(&files, &AbsPath::known(path));
        let written = written.as_ref().map(|written| (written.value.as_str(), written.place.path.as_str()));
        assert_eq!(written, expected);
    }

    #[test]
    fn the_earliest_file_wins() {
        let ours =
            ("/etc/tmpfiles.d/10-vprov-thp.conf", "w /sys/kernel/mm/transparent_hugepage/enabled - - - - madvise\n");
        let vendor = ("/usr/lib/tmpfiles.d/20.conf", "w /sys//kernel/mm/transparent_hugepage/enabled - - - - never\n");
        let earlier = ("/usr/lib/tmpfiles.d/05.conf", vendor.1);
        let late_glob = ("/etc/tmpfiles.d/90.conf", "w /sys/kernel/mm/*/{enabled,defrag} - - - - always\n");
        let early_glob = ("/etc/tmpfiles.d/05.conf", late_glob.1);
        decides(&[ours, vendor], THP, Some(("madvise", ours.0)));
        decides(&[ours, earlier], THP, Some(("never", earlier.0)));
        decides(&[ours, late_glob], THP, Some(("always", late_glob.0)));
        decides(&[ours, early_glob], THP, Some(("madvise", ours.0)));
        decides(&[ours], "/sys/x", None);
        decides(&[earlier, ("/etc/tmpfiles.d/05.conf", "")], THP, None);

        let told = |other: (&str, &str)| {
            let files = [ours, other].map(|(path, text)| Fragment::new(AbsPath::known(path), text));
            overridden(&files, &AbsPath::known(ours.0), &AbsPath::known(THP)).map(|written| written.place.to_string())
        };
        assert_eq!(told(vendor), None);
        assert_eq!(told(earlier).as_deref(), Some("/usr/lib/tmpfiles.d/05.conf:1"));
        assert_eq!(told(late_glob).as_deref(), Some("/etc/tmpfiles.d/90.conf:1"));
        assert_eq!(told(("/etc/tmpfiles.d/05.conf", ours.1)), None);
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, line in "[wfd][!+]? [/a-z\"'\\\\%x0-9 ]{0,20}( -){0,4} [ -~]{0,12}") {
            let _ = parse(&content);
            let _ = parse(line.as_bytes());
            let files = [Fragment::new(AbsPath::known("/etc/tmpfiles.d/1.conf"), line)];
            let _ = at_boot(&files, &AbsPath::known("/a"));
        }

        #[test]
        fn what_is_rendered_is_read_back(path in "(/[^/\\x00-\\x1f\\x7f-\\x9f]{1,8}){1,3}", value in "\\PC{1,12}[ \t\n%\\\\]{0,3}") {
            if let Ok(path) = AbsPath::new(path) {
                let rule = Rule::write(&path, &value);
                if let Ok(line) = render_rule(&rule) {
                    prop_assert_eq!(parse(line.as_bytes()).rules, [(1, rule)]);
                } else {
                    // Only what specifiers or escapes cannot express is refused.
                    prop_assert!(path.as_str().contains("%%") || value.contains("%%"));
                }
            }
        }
    }
}
