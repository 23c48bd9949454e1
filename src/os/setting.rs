//! One key in a text file of settings, with each byte kept that the change does not mean.
//!
//! Four formats: assignments of a shell (`/etc/sysconfig`, `/etc/default`), ini files, the files of libvirt and `xl.conf`.

use std::{fmt, ops::Range};

use serde::{Deserialize, Serialize};

use crate::host::path::AbsPath;

/// How a file writes its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `KEY="value"` as a shell reads it, the last assignment wins.
    Shell,
    /// `key = value` below `[section]`, the last assignment wins; the key is written `section.key`.
    Ini,
    /// `key = "text"`, `key = 1` or `key = [ "a", "b" ]`; the *first* assignment wins (libvirt's `virConfGetValue`).
    Libvirt,
    /// As libvirt, with escapes in texts; the last assignment wins (xl.conf(5), libxlu's `xlu_cfg_get_string`).
    Xl,
}

impl Format {
    /// Returns the format of a file that is known by its path.
    #[must_use]
    pub fn of(path: &AbsPath) -> Option<Self> {
        let (directory, name) = (path.parent()?, path.file_name());
        match directory.as_str() {
            "/etc/sysconfig" | "/etc/default" => Some(Self::Shell),
            "/etc/libvirt" if name.ends_with(".conf") => Some(Self::Libvirt),
            "/etc/xen" if name == "xl.conf" => Some(Self::Xl),
            _ => None,
        }
    }

    fn first_wins(self) -> bool {
        self == Self::Libvirt
    }

    fn separator(self) -> &'static str {
        if self == Self::Libvirt { " = " } else { "=" }
    }
}

/// A value of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A text; the only kind that shell and ini files have.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A list of texts.
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::List(items) => f.write_str(&items.join(", ")),
        }
    }
}

/// What a file says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value; `None` if only a shell could tell it (`$`, backtick), or if it is of no kind that vprov writes.
    pub value: Option<Value>,
    /// The line that decides, from 1.
    pub line: usize,
    /// The lines that assign the key too, without effect.
    pub void: Vec<usize>,
}

/// Why a key cannot be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// The name cannot stand in such a file.
    #[error("`{0}` is no key of such a file: {1}")]
    Key(String, &'static str),
    /// The value cannot stand in such a file.
    #[error("the value `{0}` {1}")]
    Value(String, &'static str),
    /// The file is not what its program takes, or holds what vprov does not edit.
    #[error("line {line}: {why}")]
    Broken {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// Returns what a file says of a key, `None` if nothing.
///
/// # Errors
/// If the key is no key or the file cannot be read.
pub fn get(format: Format, content: &[u8], key: &str) -> Result<Option<Found>, SettingError> {
    let file = File::parse(format, content)?;
    let wanted = Name::parse(format, key)?;
    let all: Vec<&Assignment> = file.of(&wanted).collect();
    let Some(deciding) = deciding(format, &all) else { return Ok(None) };
    let void = all.iter().filter(|other| other.line != deciding.line).map(|other| other.line).collect();
    Ok(Some(Found { value: deciding.value.clone(), line: deciding.line, void }))
}

/// Gives a key a value and returns the new content: the assignment that decides is changed in place; without one the new
/// line stands behind the last commented one of the key (`#key = default`), else at the end of its section or of the file.
/// A file that says the same already is returned as it is.
///
/// # Errors
/// If the key or value cannot stand in such a file, or the file cannot be read.
pub fn set(format: Format, content: &[u8], key: &str, value: &Value) -> Result<Vec<u8>, SettingError> {
    let file = File::parse(format, content)?;
    let wanted = Name::parse(format, key)?;
    let all: Vec<&Assignment> = file.of(&wanted).collect();
    let new = match deciding(format, &all) {
        Some(assignment) if assignment.value.as_ref().is_some_and(|present| same(format, present, value)) => {
            write(format, value, Quote::Double)?;
            return Ok(content.to_vec());
        }
        Some(Assignment { unclear: true, line, .. }) => {
            return Err(SettingError::Broken { line: *line, why: "more than this assignment stands on the line" });
        }
        Some(assignment) => {
            let text = write(format, value, Quote::of(&content[assignment.span.clone()]))?;
            spliced(content, assignment.span.clone(), text.as_bytes())
        }
        None => file.inserted(content, &wanted, &write(format, value, Quote::Double)?),
    };
    // The edit is read again, so that a file never says something else than was asked for.
    match get(format, &new, key)? {
        Some(Found { value: Some(read), .. }) if same(format, &read, value) => Ok(new),
        _ => Err(SettingError::Value(value.to_string(), "would not be read back as it is")),
    }
}

/// Removes all assignments of a key, each with its line, and returns the new content; comments stay.
///
/// # Errors
/// If the key is no key, the file cannot be read, or more than the assignment stands on a line.
pub fn unset(format: Format, content: &[u8], key: &str) -> Result<Vec<u8>, SettingError> {
    let file = File::parse(format, content)?;
    let wanted = Name::parse(format, key)?;
    let mut new = content.to_vec();
    for assignment in file.of(&wanted).collect::<Vec<_>>().into_iter().rev() {
        if assignment.unclear {
            let why = "more than this assignment stands on the line";
            return Err(SettingError::Broken { line: assignment.line, why });
        }
        new = spliced(&new, assignment.whole.clone(), b"");
    }
    Ok(new)
}

/// Shell and ini know only texts; so `8` and `"8"` are one there.
fn same(format: Format, one: &Value, other: &Value) -> bool {
    match format {
        Format::Shell | Format::Ini => one.to_string() == other.to_string(),
        Format::Libvirt | Format::Xl => one == other,
    }
}

fn deciding<'a>(format: Format, all: &[&'a Assignment]) -> Option<&'a Assignment> {
    if format.first_wins() { all.first().copied() } else { all.last().copied() }
}

fn spliced(content: &[u8], span: Range<usize>, text: &[u8]) -> Vec<u8> {
    [&content[..span.start], text, &content[span.end..]].concat()
}

/// A key with its section, which only ini files have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    section: String,
    key: String,
}

impl Name {
    /// Reads `key`, and for ini `section.key` or `[section] key`.
    fn parse(format: Format, text: &str) -> Result<Self, SettingError> {
        let (section, key) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((section, key)) if format == Format::Ini => (section.trim(), key.trim()),
            None if format == Format::Ini => text.rsplit_once('.').unwrap_or(("", text)),
            _ => ("", text),
        };
        let wrong = |why| Err(SettingError::Key(text.into(), why));
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match format {
            Format::Ini => {
                if key.is_empty() || key.contains(|c: char| c.is_control() || c.is_whitespace() || "=#;[]".contains(c))
                {
                    return wrong("a key is one word without `=`");
                }
                if section.contains(|c: char| c.is_control() || "[]".contains(c)) {
                    return wrong("a section holds no brackets");
                }
            }
            _ => {
                let first = |byte: u8| byte.is_ascii_alphabetic() || (byte == b'_' && format != Format::Libvirt);
                let word = |byte: u8| word(byte) || (byte == b'.' && format == Format::Xl);
                if !key.bytes().next().is_some_and(first) || !key.bytes().all(word) {
                    return wrong("a key is a letter followed by letters, digits and `_`");
                }
            }
        }
        Ok(Self { section: section.into(), key: key.into() })
    }
}

#[derive(Debug)]
struct Assignment {
    name: Name,
    /// Where the value stands, its quotes included.
    span: Range<usize>,
    /// The statement with its whole lines.
    whole: Range<usize>,
    value: Option<Value>,
    line: usize,
    /// More than the assignment stands on its lines.
    unclear: bool,
}

/// A comment that shows an assignment: the key, what stands before its value, and where its line ends.
#[derive(Debug)]
struct Example {
    name: Name,
    separator: String,
    end: usize,
}

#[derive(Debug)]
struct File {
    format: Format,
    assignments: Vec<Assignment>,
    examples: Vec<Example>,
    /// Where the last line with content of each section ends, in the order of the file; the first is the head.
    sections: Vec<(String, usize)>,
}

impl File {
    fn parse(format: Format, content: &[u8]) -> Result<Self, SettingError> {
        let mut file =
            Self { format, assignments: Vec::new(), examples: Vec::new(), sections: vec![(String::new(), 0)] };
        let (mut at, mut line) = (0, 1);
        while at < content.len() {
            let end = file.statement(content, at, line)?;
            line += content[at..end].iter().filter(|byte| **byte == b'\n').count();
            at = end;
        }
        Ok(file)
    }

    fn of<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Assignment> {
        self.assignments.iter().filter(move |assignment| assignment.name == *name)
    }

    /// Reads the statement that begins with the line at `at`, and returns where the next line begins.
    fn statement(&mut self, content: &[u8], at: usize, line: usize) -> Result<usize, SettingError> {
        let end = line_end(content, at);
        let start = skip_blanks(content, at);
        let section = self.sections.last().map(|(name, _)| name.clone()).unwrap_or_default();
        let broken = |why| SettingError::Broken { line, why };
        let comments: &[u8] = if self.format == Format::Ini { b"#;" } else { b"#" };
        match content.get(start) {
            None | Some(b'\n' | b'\r') => return Ok(end),
            Some(byte) if comments.contains(byte) => {
                if let Some((key, separator)) = example(&content[start + 1..end]) {
                    self.examples.push(Example { name: Name { section, key }, separator, end });
                    self.touch(end);
                }
                return Ok(end);
            }
            Some(b'[') if self.format == Format::Ini => {
                let inner = &content[start + 1..end];
                let close =
                    inner.iter().position(|byte| *byte == b']').ok_or_else(|| broken("a section is not closed"))?;
                self.sections.push((String::from_utf8_lossy(&inner[..close]).trim().to_owned(), end));
                return Ok(end);
            }
            Some(_) => {}
        }
        let end = match self.format {
            Format::Shell => self.shell(content, at, start, line)?,
            Format::Ini => self.ini(content, at, start, line, section),
            Format::Libvirt | Format::Xl => self.libvirt(content, at, start, line)?,
        };
        self.touch(end);
        Ok(end)
    }

    fn touch(&mut self, end: usize) {
        if let Some((_, last)) = self.sections.last_mut() {
            *last = end;
        }
    }

    /// `KEY=value` of a shell. Lines that are no assignment are left alone, but their quotes may span lines.
    fn shell(&mut self, content: &[u8], at: usize, start: usize, line: usize) -> Result<usize, SettingError> {
        let broken = |why| SettingError::Broken { line, why };
        let mut from = start;
        if content[from..].starts_with(b"export ") {
            from = skip_blanks(content, from + 7);
        }
        let key_end = word_end(content, from);
        let key = String::from_utf8_lossy(&content[from..key_end]).into_owned();
        let is_assignment =
            content.get(key_end) == Some(&b'=') && !key.is_empty() && !key.starts_with(|c: char| c.is_ascii_digit());
        let value_start = if is_assignment { key_end + 1 } else { start };
        let (value_end, text) = shell_word(content, value_start).ok_or_else(|| broken("a quote is not closed"))?;
        let mut rest = skip_blanks(content, value_end);
        let unclear = match content.get(rest) {
            None | Some(b'\n' | b'\r') => false,
            Some(b'#') => rest == value_end,
            Some(_) => true,
        };
        // The rest of the line may hold quotes that go on behind it.
        while !matches!(content.get(rest), None | Some(b'\n')) {
            if content[rest] == b'#'
                && content.get(rest.wrapping_sub(1)).is_some_and(|byte| matches!(byte, b' ' | b'\t'))
            {
                break;
            }
            let (next, _) = shell_word(content, rest).ok_or_else(|| broken("a quote is not closed"))?;
            rest = if next == rest { rest + 1 } else { next };
        }
        let end = line_end(content, rest);
        if is_assignment {
            let name = Name { section: String::new(), key };
            let value = text.map(Value::Text);
            self.assignments.push(Assignment {
                name,
                span: value_start..value_end,
                whole: at..end,
                value,
                line,
                unclear,
            });
        }
        Ok(end)
    }

    /// `key = value` to the end of the line; a `\` there goes on. Other lines are left alone.
    fn ini(&mut self, content: &[u8], at: usize, start: usize, line: usize, section: String) -> usize {
        let mut end = line_end(content, at);
        while trim_end(content, start, end).checked_sub(1).and_then(|last| content.get(last)) == Some(&b'\\')
            && end < content.len()
        {
            end = line_end(content, end);
        }
        if let Some(equals) = content[start..end].iter().position(|byte| *byte == b'=') {
            let key_end = trim_end(content, start, start + equals);
            let value_start = skip_blanks(content, start + equals + 1).min(end);
            let value_end = trim_end(content, value_start, end);
            let name = Name { section, key: String::from_utf8_lossy(&content[start..key_end]).into_owned() };
            let text = std::str::from_utf8(&content[value_start..value_end]).ok();
            let value = text.filter(|text| !text.contains('\n')).map(|text| Value::Text(text.into()));
            let span = value_start..value_end;
            self.assignments.push(Assignment { name, span, whole: at..end, value, line, unclear: false });
        }
        end
    }

    /// `key = value`, where a value is a text, a number or a list. Anything else libvirt and xl refuse, so do we.
    fn libvirt(&mut self, content: &[u8], at: usize, start: usize, line: usize) -> Result<usize, SettingError> {
        let broken = |why| SettingError::Broken { line, why };
        let mut key_end = word_end(content, start);
        // `vif.default.bridge` (xl.conf(5)); libvirt knows no such key.
        while self.format == Format::Xl && key_end > start && content.get(key_end) == Some(&b'.') {
            key_end = word_end(content, key_end + 1);
        }
        let equals = skip_blanks(content, key_end);
        if key_end == start || content.get(equals) != Some(&b'=') {
            return Err(broken("`key = value` is expected"));
        }
        let key = String::from_utf8_lossy(&content[start..key_end]).into_owned();
        let value_start = skip_blanks(content, equals + 1);
        let (value_end, value) = self.literal(content, value_start).map_err(broken)?;
        let rest = skip_blanks(content, value_end);
        let end = line_end(content, value_end);
        let unclear = match content.get(rest) {
            None | Some(b'\n' | b'\r' | b'#') => false,
            Some(b';') => !matches!(content.get(skip_blanks(content, rest + 1)), None | Some(b'\n' | b'\r')),
            Some(_) => return Err(broken("more stands behind the value")),
        };
        if unclear {
            return Err(broken("two statements stand on one line"));
        }
        let name = Name { section: String::new(), key };
        self.assignments.push(Assignment { name, span: value_start..value_end, whole: at..end, value, line, unclear });
        Ok(end)
    }

    /// Reads a value; `None` for one of a kind that vprov does not write, for example a list of lists.
    fn literal(&self, content: &[u8], at: usize) -> Result<(usize, Option<Value>), &'static str> {
        match content.get(at) {
            Some(b'"' | b'\'') => self.text(content, at).map(|(end, text)| (end, text.map(Value::Text))),
            Some(b'[') => self.list(content, at, 0),
            Some(b'-' | b'+' | b'0'..=b'9') => {
                let start = at + usize::from(!content[at].is_ascii_digit());
                let end = word_end(content, start);
                let text = std::str::from_utf8(&content[at..end]).unwrap_or_default();
                match text.strip_prefix('+').unwrap_or(text).parse() {
                    Ok(number) => Ok((end, Some(Value::Integer(number)))),
                    Err(_) if self.format == Format::Xl && end > start => Ok((end, None)),
                    Err(_) => Err("a number is expected"),
                }
            }
            _ => Err("a value is a text in quotes, a number or a list"),
        }
    }

    fn list(&self, content: &[u8], at: usize, depth: usize) -> Result<(usize, Option<Value>), &'static str> {
        if depth > 8 {
            return Err("lists are nested too deeply");
        }
        let (mut items, mut at, mut plain) = (Vec::new(), skip_space(content, at + 1, self.format), true);
        while content.get(at).is_some_and(|byte| *byte != b']') {
            let (end, item) = match content.get(at) {
                Some(b'[') => self.list(content, at, depth + 1).map(|(end, _)| (end, None))?,
                _ => self.literal(content, at)?,
            };
            match item {
                Some(Value::Text(text)) => items.push(text),
                _ => plain = false,
            }
            at = skip_space(content, end, self.format);
            match content.get(at) {
                Some(b',') => at = skip_space(content, at + 1, self.format),
                Some(b']') => break,
                _ => return Err("the items of a list are separated by commas"),
            }
        }
        if content.get(at) != Some(&b']') {
            return Err("a list is not closed");
        }
        Ok((at + 1, plain.then_some(Value::List(items))))
    }

    fn text(&self, content: &[u8], at: usize) -> Result<(usize, Option<String>), &'static str> {
        const OPEN: &str = "a quote is not closed";
        let quote = content[at];
        let rest = &content[at..];
        if self.format == Format::Libvirt && rest.starts_with(b"\"\"\"") && rest.len() > 6 {
            let inner = &rest[3..];
            let close = inner.windows(3).position(|window| window == b"\"\"\"").ok_or(OPEN)?;
            return Ok((at + close + 6, String::from_utf8(inner[..close].to_vec()).ok()));
        }
        let (mut bytes, mut cursor, mut known) = (Vec::new(), at + 1, true);
        loop {
            match content.get(cursor) {
                None | Some(b'\n' | b'\r') => return Err(OPEN),
                Some(byte) if *byte == quote => break,
                Some(b'\\') if self.format == Format::Xl => {
                    match content.get(cursor + 1) {
                        Some(escaped @ (b'"' | b'\'' | b'\\')) => bytes.push(*escaped),
                        Some(b'n') => bytes.push(b'\n'),
                        Some(b't') => bytes.push(b'\t'),
                        Some(b'\n' | b'\r') | None => return Err(OPEN),
                        Some(_) => known = false,
                    }
                    cursor += 2;
                }
                Some(byte) => {
                    bytes.push(*byte);
                    cursor += 1;
                }
            }
        }
        Ok((cursor + 1, String::from_utf8(bytes).ok().filter(|_| known)))
    }

    /// Returns the content with a new line for a key that has none.
    fn inserted(&self, content: &[u8], name: &Name, value: &str) -> Vec<u8> {
        let crlf = content.split_inclusive(|byte| *byte == b'\n').next().is_some_and(|line| line.ends_with(b"\r\n"));
        let newline = if crlf { "\r\n" } else { "\n" };
        let example = self.examples.iter().rev().find(|example| example.name == *name);
        let section = self.sections.iter().rev().find(|(section, _)| *section == name.section).map(|(_, end)| *end);
        let separator = match example {
            // A shell takes no white space there.
            Some(example) if self.format != Format::Shell => example.separator.clone(),
            _ => self.format.separator().to_owned(),
        };
        let line = format!("{}{separator}{value}", name.key);
        let at = match (example, section, self.format) {
            (Some(example), ..) => example.end,
            (None, Some(end), Format::Ini) => end,
            (None, _, _) => content.len(),
        };
        let before = if at > 0 && content[at - 1] != b'\n' { newline } else { "" };
        let head = match section {
            None => format!("{}[{}]{newline}", if content.is_empty() { "" } else { newline }, name.section),
            Some(_) => String::new(),
        };
        // A file without a newline at its end does not get one behind our line where ours takes the place of its last.
        let after = if before.is_empty() || at < content.len() || content.is_empty() { newline } else { "" };
        spliced(content, at..at, format!("{before}{head}{line}{after}").as_bytes())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Quote {
    fn of(present: &[u8]) -> Self {
        match present.first() {
            Some(b'"') => Self::Double,
            Some(b'\'') => Self::Single,
            Some(_) => Self::None,
            None => Self::Double,
        }
    }
}

/// Writes a value, with the quotes that stood there where they are possible.
fn write(format: Format, value: &Value, quote: Quote) -> Result<String, SettingError> {
    let wrong = |why| Err(SettingError::Value(value.to_string(), why));
    let plain = match (format, value) {
        (Format::Shell | Format::Ini, Value::List(_)) => return wrong("is a list, which such a file does not have"),
        (Format::Libvirt | Format::Xl, Value::List(items)) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| write(format, &Value::Text(item.clone()), Quote::Double)).collect();
            return Ok(format!("[ {} ]", items?.join(", ")).replace("[  ]", "[ ]"));
        }
        (Format::Libvirt | Format::Xl, Value::Integer(number)) => return Ok(number.to_string()),
        (_, value) => value.to_string(),
    };
    if plain.contains(|c: char| c.is_control() && c != '\t') {
        return wrong("holds a control character");
    }
    match format {
        Format::Ini if plain.trim() != plain || plain.is_empty() => wrong("is empty or has white space at its ends"),
        Format::Ini if plain.ends_with('\\') => wrong("ends in a backslash, which would join the next line"),
        Format::Ini => Ok(plain),
        Format::Shell => {
            let word = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=".contains(c);
            Ok(match quote {
                Quote::None if !plain.is_empty() && plain.chars().all(word) => plain,
                Quote::Single if !plain.contains('\'') => format!("'{plain}'"),
                _ => format!("\"{}\"", escaped(&plain, "\\\"$`")),
            })
        }
        Format::Libvirt => match (plain.contains('"'), plain.contains('\'')) {
            (false, false) if quote == Quote::Single => Ok(format!("'{plain}'")),
            (false, _) => Ok(format!("\"{plain}\"")),
            (true, false) => Ok(format!("'{plain}'")),
            (true, true) if plain.contains("\"\"\"") || plain.ends_with('"') => {
                wrong("holds quotes that libvirt cannot read")
            }
            (true, true) => Ok(format!("\"\"\"{plain}\"\"\"")),
        },
        Format::Xl if quote == Quote::Single => Ok(format!("'{}'", escaped(&plain, "\\'"))),
        Format::Xl => Ok(format!("\"{}\"", escaped(&plain, "\\\""))),
    }
}

fn escaped(text: &str, special: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if special.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Reads the rest of a comment as `key = …`: the key and what stands before the value.
fn example(comment: &[u8]) -> Option<(String, String)> {
    let start = skip_blanks(comment, 0);
    let end =
        start + comment[start..].iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"_-.".contains(byte))?;
    let equals = skip_blanks(comment, end);
    if end == start || comment.get(equals) != Some(&b'=') {
        return None;
    }
    let value = skip_blanks(comment, equals + 1);
    let text = |range: Range<usize>| String::from_utf8_lossy(&comment[range]).into_owned();
    Some((text(start..end), text(end..value)))
}

/// Reads a word of a shell, and returns where it ends and its text; `None` as text if only a shell could tell it, and
/// nothing at all if a quote is not closed.
fn shell_word(content: &[u8], start: usize) -> Option<(usize, Option<String>)> {
    let (mut bytes, mut at, mut known, mut quote) = (Vec::new(), start, true, 0u8);
    loop {
        match (content.get(at), quote) {
            (None, 0) => break,
            (None, _) => return None,
            (Some(byte), quoted) if quoted != 0 && *byte == quoted => quote = 0,
            (Some(byte), b'\'') => bytes.push(*byte),
            (Some(b' ' | b'\t' | b'\n' | b'\r' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')'), 0) => break,
            (Some(byte @ (b'\'' | b'"')), 0) => quote = *byte,
            (Some(b'$' | b'`'), _) => known = false,
            (Some(b'*' | b'?' | b'[' | b'~' | b'{'), 0) => known = false,
            (Some(b'\\'), open) => {
                let next = content.get(at + 1)?;
                match next {
                    b'\n' => {}
                    b'"' | b'\\' | b'$' | b'`' => bytes.push(*next),
                    next if open == 0 => bytes.push(*next),
                    next => bytes.extend([b'\\', *next]),
                }
                at += 1;
            }
            (Some(byte), _) => bytes.push(*byte),
        }
        at += 1;
    }
    // A command in quotes or backticks inside of a value may hold quotes of its own, so what follows it is not known.
    Some((at, String::from_utf8(bytes).ok().filter(|_| known)))
}

fn line_end(content: &[u8], at: usize) -> usize {
    content[at..].iter().position(|byte| *byte == b'\n').map_or(content.len(), |newline| at + newline + 1)
}

fn skip_blanks(content: &[u8], at: usize) -> usize {
    let at = at.min(content.len());
    at + content[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Skips white space and newlines inside of a list; xl also takes comments there.
fn skip_space(content: &[u8], mut at: usize, format: Format) -> usize {
    loop {
        at += content[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
        if format != Format::Xl || content.get(at) != Some(&b'#') {
            return at;
        }
        at = line_end(content, at);
    }
}

fn word_end(content: &[u8], at: usize) -> usize {
    let at = at.min(content.len());
    at + content[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

fn trim_end(content: &[u8], start: usize, end: usize) -> usize {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    end - content[start..end].iter().rev().take_while(blank).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[track_caller]
    fn sets(format: Format, before: &str, key: &str, value: Value, after: &str) {
        let new = set(format, before.as_bytes(), key, &value).unwrap();
        assert_eq!(String::from_utf8(new.clone()).unwrap(), after);
        assert_eq!(set(format, &new, key, &value).unwrap(), new, "setting twice");
        assert!(same(format, get(format, &new, key).unwrap().unwrap().value.as_ref().unwrap(), &value));
    }

    #[test]
    fn formats_by_path() {
        for (path, format) in [
            ("/etc/sysconfig/nfs", Some(Format::Shell)),
            ("/etc/default/qemu-kvm", Some(Format::Shell)),
            ("/etc/libvirt/qemu.conf", Some(Format::Libvirt)),
            ("/etc/libvirt/qemu/x.xml", None),
            ("/etc/xen/xl.conf", Some(Format::Xl)),
            ("/etc/nfs.conf", None),
        ] {
            assert_eq!(Format::of(&AbsPath::known(path)), format, "{path}");
        }
    }

    #[test]
    fn shell() {
        use Format::Shell;
        // After the file of SUSE's nfs-kernel-server, written by hand.
        let nfs =
            "## Path: Network\r\n# Number of threads\nUSE_KERNEL_NFSD_NUMBER=\"4\"\n\nNFS4_SUPPORT=\"yes\"  # v4\n";
        sets(Shell, nfs, "USE_KERNEL_NFSD_NUMBER", text("16"), &nfs.replace("\"4\"", "\"16\""));
        sets(Shell, nfs, "USE_KERNEL_NFSD_NUMBER", Value::Integer(16), &nfs.replace("\"4\"", "\"16\""));
        sets(Shell, nfs, "NFS4_SUPPORT", text("no"), &nfs.replace("\"yes\"", "\"no\""));
        sets(Shell, nfs, "NEW", text("a b"), &(nfs.to_owned() + "NEW=\"a b\"\r\n"));
        sets(Shell, "A=1\n#B = 2\nC=3\n", "B", text("x"), "A=1\n#B = 2\nB=\"x\"\nC=3\n");
        sets(Shell, "#B=2\nC=3", "B", text("x"), "#B=2\nB=\"x\"\nC=3");
        sets(Shell, "C=3", "B", text("x"), "C=3\nB=\"x\"");
        sets(Shell, "", "B", text("x"), "B=\"x\"\n");
        sets(Shell, "A=1\nA=2\n", "A", text("3"), "A=1\nA=3\n");
        sets(Shell, "export A='1'\n", "A", text("b c"), "export A='b c'\n");
        sets(Shell, "A='1'\n", "A", text("it's $5 \"`\\"), "A=\"it's \\$5 \\\"\\`\\\\\"\n");
        sets(Shell, "A=$B/x\n", "A", text("1"), "A=1\n");
        sets(Shell, "A=\"$(date \"+%s\")\"\n", "A", text("1"), "A=\"1\"\n");
        assert!(matches!(set(Shell, b"A=$(date)\n", "A", &text("2")), Err(SettingError::Broken { line: 1, .. })));
        sets(Shell, "A=\"a\nB=2\"\nB=1\n", "B", text("5"), "A=\"a\nB=2\"\nB=5\n");
        sets(Shell, "A=\n", "A", text("5"), "A=\"5\"\n");
        sets(Shell, "A=a\\\nb\n", "A", text("ab"), "A=a\\\nb\n");
        assert!(matches!(set(Shell, b"A=1 cmd\n", "A", &text("2")), Err(SettingError::Broken { line: 1, .. })));
        assert!(matches!(set(Shell, b"x\nA=1; B=2\n", "A", &text("2")), Err(SettingError::Broken { line: 2, .. })));
        assert!(matches!(get(Shell, b"A=\"1\n", "A"), Err(SettingError::Broken { line: 1, .. })));
        assert!(set(Shell, b"", "A-B", &text("2")).is_err());
        assert!(set(Shell, b"", "A", &text("a\nb")).is_err());
        assert!(set(Shell, b"", "A", &Value::List(vec![])).is_err());
        let found = get(Shell, b"A=1\nB=$A\nA=\"2\" # c\n", "A").unwrap().unwrap();
        assert_eq!(found, Found { value: Some(text("2")), line: 3, void: vec![1] });
        assert_eq!(get(Shell, b"B=$A\n", "B").unwrap().unwrap().value, None);
        let latin = b"# caf\xe9\nA=1\nB=\xe9\n";
        assert_eq!(set(Shell, latin, "A", &text("2")).unwrap(), b"# caf\xe9\nA=2\nB=\xe9\n");
    }

    #[test]
    fn ini() {
        use Format::Ini;
        // After Debian's /etc/nfs.conf, written by hand.
        let nfs = "#\n# comments\n#\n[general]\npipefs-directory=/run/rpc_pipefs\n\n[nfsd]\n# debug=0\n# threads=16\n# host=\n\n[statd]\n# port=0\n";
        sets(Ini, nfs, "nfsd.threads", text("32"), &nfs.replace("# threads=16\n", "# threads=16\nthreads=32\n"));
        sets(
            Ini,
            nfs,
            "[nfsd] threads",
            Value::Integer(32),
            &nfs.replace("# threads=16\n", "# threads=16\nthreads=32\n"),
        );
        sets(Ini, nfs, "nfsd.tcp", text("y"), &nfs.replace("# host=\n", "# host=\ntcp=y\n"));
        sets(Ini, nfs, "lockd.port", text("1"), &(nfs.to_owned() + "\n[lockd]\nport=1\n"));
        sets(Ini, nfs, "general.pipefs-directory", text("/x"), &nfs.replace("/run/rpc_pipefs", "/x"));
        sets(Ini, "a = 1\n[s]\na\t=\t2 \r\n", "s.a", text("3"), "a = 1\n[s]\na\t=\t3 \r\n");
        sets(Ini, "a = 1\n[s]\na = 2\n", "a", text("3"), "a = 3\n[s]\na = 2\n");
        sets(Ini, "[s]\na=1", "s.b", text("3"), "[s]\na=1\nb=3");
        sets(Ini, "[s]\na=1\n[t]\n[s]\na=2\n", "s.a", text("3"), "[s]\na=1\n[t]\n[s]\na=3\n");
        sets(Ini, "", "s.a", text("3"), "[s]\na=3\n");
        assert_eq!(unset(Ini, b"[s]\na=1\\\n  2\nb=1\na=3\n", "s.a").unwrap(), b"[s]\nb=1\n");
        assert!(get(Ini, b"[s\n", "s.a").is_err());
        assert!(set(Ini, b"", "s.a", &text(" x")).is_err());
    }

    #[test]
    fn libvirt() {
        use Format::Libvirt;
        // After libvirt's qemu.conf, written by hand.
        let qemu = "# Master configuration file\n#\n#spice_listen = \"0.0.0.0\"\n\n# hosts\n#hugetlbfs_mount = \"/dev/hugepages\"\n\
            cgroup_device_acl = [\n    \"/dev/null\", \"/dev/full\",\n    \"/dev/kvm\"\n]\nmax_core = 1 # c\n";
        sets(Libvirt, qemu, "spice_listen", text("::1"), &qemu.replace("0.0\"\n", "0.0\"\nspice_listen = \"::1\"\n"));
        sets(Libvirt, qemu, "max_core", Value::Integer(0), &qemu.replace("= 1 #", "= 0 #"));
        sets(Libvirt, qemu, "new", text("a\"b"), &(qemu.to_owned() + "new = 'a\"b'\n"));
        let list = Value::List(vec!["/dev/null".into(), "/dev/full".into(), "/dev/kvm".into()]);
        sets(Libvirt, qemu, "cgroup_device_acl", list, qemu);
        let list = Value::List(vec!["/dev/x".into(), "y".into()]);
        let shorter = "cgroup_device_acl = [ \"/dev/x\", \"y\" ]\nmax_core = 1 # c\n";
        let at = qemu.find("cgroup").unwrap();
        sets(Libvirt, qemu, "cgroup_device_acl", list, &(qemu[..at].to_owned() + shorter));
        sets(Libvirt, "a = \"1\"\na = \"2\"\n", "a", text("3"), "a = \"3\"\na = \"2\"\n");
        sets(Libvirt, "a='1';\n", "a", text("3"), "a='3';\n");
        sets(Libvirt, "a = 1", "b", Value::List(vec![]), "a = 1\nb = [ ]");
        sets(Libvirt, "a = \"\"\"x\ny\"\"\"\nb = 1\n", "b", Value::Integer(2), "a = \"\"\"x\ny\"\"\"\nb = 2\n");
        assert_eq!(get(Libvirt, b"a = 1\na = 2\n", "a").unwrap().unwrap().void, [2]);
        for bad in
            ["a = b\n", "a\n", "a = \"1\n", "a = [ \"1\" \"2\" ]\n", "a = [ \"1\"\n", "a = 1 2\n", "a = 1; b = 2\n"]
        {
            assert!(get(Libvirt, bad.as_bytes(), "a").is_err(), "{bad}");
        }
        assert_eq!(
            unset(Libvirt, qemu.as_bytes(), "cgroup_device_acl").unwrap(),
            [&qemu[..at], "max_core = 1 # c\n"].concat().as_bytes()
        );
    }

    #[test]
    fn xl() {
        use Format::Xl;
        // After Xen's xl.conf, written by hand.
        let conf = "## Global XL config file ##\n\n# Control whether dom0 is ballooned down\n#autoballoon=\"auto\"\n\n#lockfile=\"/x\"\n";
        sets(Xl, conf, "autoballoon", text("off"), &conf.replace("\"auto\"\n", "\"auto\"\nautoballoon=\"off\"\n"));
        sets(Xl, "vif.default.script=\"a\"\n", "vif.default.script", text("b"), "vif.default.script=\"b\"\n");
        sets(Xl, "a='x'\n", "a", text("it's\\"), "a='it\\'s\\\\'\n");
        sets(Xl, "a=\"1\"\na=\"2\"\n", "a", text("3"), "a=\"1\"\na=\"3\"\n");
        sets(Xl, "a=0x10\nb=[ # c\n 'x', ]\n", "b", Value::List(vec!["x".into()]), "a=0x10\nb=[ # c\n 'x', ]\n");
        assert_eq!(get(Xl, b"a=0x10\n", "a").unwrap().unwrap().value, None);
    }

    fn any_format() -> impl Strategy<Value = Format> {
        proptest::sample::select(vec![Format::Shell, Format::Ini, Format::Libvirt, Format::Xl])
    }

    proptest! {
        #[test]
        fn no_input_panics(format in any_format(), content in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"a= \t\n\r\"'\\[],#;$`1".to_vec())], 0..60), key: String) {
            let _ = get(format, &content, &key);
            let _ = set(format, &content, "a", &text("x y"));
            let _ = unset(format, &content, "a");
        }

        #[test]
        fn set_then_get(format in any_format(), value in "\\PC{0,12}", before in
            "(#? ?[abc][ ]?=[ ]?(\"[xy ]{0,3}\"|1)[ \t]?(#c)?\r?\n|# .{0,5}\n|\n){0,6}") {
            let value = text(&value);
            let key = "b";
            if let Ok(after) = set(format, before.as_bytes(), key, &value) {
                let found = get(format, &after, key).unwrap().unwrap();
                prop_assert!(same(format, found.value.as_ref().unwrap(), &value));
                let after = String::from_utf8(after).unwrap();
                let others = |text: &str| -> Vec<String> {
                    text.split_inclusive('\n').filter(|line| !line.trim_start().starts_with('b')).map(Into::into).collect()
                };
                prop_assert_eq!(others(&after), others(&before));
                if get(format, before.as_bytes(), key).unwrap().is_none() {
                    prop_assert_eq!(unset(format, after.as_bytes(), key).unwrap(), before.into_bytes());
                }
            }
        }
    }
}
