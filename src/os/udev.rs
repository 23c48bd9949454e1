//! udev rules: the one that gives a disk its I/O scheduler, and a check of any rule's form (udev(7)).

use std::collections::BTreeSet;

use crate::host::path::AbsPath;

/// The first line of each file that belongs to vprov alone.
pub const HEADER: &str = "# Managed by vprov. Changes made here are overwritten.\n";

/// What names a disk in a rule, from the least to the most stable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disk {
    /// The name or pattern of the kernel, for example `sda` or `sd[a-z]`; it may be another disk after a boot.
    Kernel(String),
    /// The property `ID_SERIAL`.
    Serial(String),
    /// The property `ID_WWN`.
    Wwn(String),
    /// The name of a device-mapper device.
    DeviceMapper(String),
}

impl Disk {
    fn condition(&self) -> (&'static str, &str) {
        match self {
            Self::Kernel(name) => ("KERNEL", name),
            Self::Serial(serial) => ("ENV{ID_SERIAL}", serial),
            Self::Wwn(wwn) => ("ENV{ID_WWN}", wwn),
            Self::DeviceMapper(name) => ("ENV{DM_NAME}", name),
        }
    }
}

/// Why a rule cannot be written or is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UdevError {
    /// A value that would end its quotes or the line.
    #[error("`{0}` cannot stand in a udev rule: it holds a quote, a backslash, `$`, `%` or a control character")]
    Value(String),
    /// A line that udev would not take.
    #[error("line {line}: {why}")]
    Syntax {
        /// The line, from 1; the first of a continued one.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// Returns the rule that gives a whole disk its I/O scheduler when it appears or changes, unless it has it already.
///
/// # Errors
/// If the name or the scheduler cannot stand in a rule.
pub fn scheduler_rule(disk: &Disk, scheduler: &str) -> Result<String, UdevError> {
    let (key, name) = disk.condition();
    for value in [name, scheduler] {
        if value.is_empty() || value.contains(|c: char| c.is_control() || "\"\\$%".contains(c)) {
            return Err(UdevError::Value(value.into()));
        }
    }
    Ok(format!(
        "ACTION==\"add|change\", SUBSYSTEM==\"block\", ENV{{DEVTYPE}}==\"disk\", {key}==\"{name}\", \
         ATTR{{queue/scheduler}}!=\"{scheduler}\", ATTR{{queue/scheduler}}=\"{scheduler}\""
    ))
}

/// Writes a file of rules that is wholly ours, one rule per line, in the given order, which is that of udev.
///
/// # Errors
/// If a rule holds a newline, or udev would not take one.
pub fn render(rules: &[String]) -> Result<String, UdevError> {
    let mut text = HEADER.to_owned();
    for (at, rule) in rules.iter().enumerate() {
        if rule.contains(['\n', '\r', '\0']) {
            return Err(UdevError::Syntax { line: at + 2, why: "a rule holds a newline".into() });
        }
        text.push_str(rule);
        text.push('\n');
    }
    check(&text)?;
    Ok(text)
}

/// Returns the command that checks a file of rules; `udevadm verify` exists since systemd 254.
#[must_use]
pub fn verify(file: &AbsPath) -> Vec<String> {
    ["udevadm", "verify", "--no-summary", file.as_str()].map(Into::into).into()
}

/// Returns the command that makes udev read its rules again.
#[must_use]
pub fn reload() -> Vec<String> {
    ["udevadm", "control", "--reload"].map(Into::into).into()
}

/// What a key takes: whether it has an attribute in braces, and whether it can be compared and assigned.
struct Form {
    attribute: Attribute,
    compares: bool,
    assigns: bool,
}

#[derive(PartialEq)]
enum Attribute {
    Never,
    Maybe,
    Always,
}

/// Returns the form of a key (udev(7)).
fn form(key: &str) -> Option<Form> {
    use Attribute::{Always, Maybe, Never};
    let (attribute, compares, assigns) = match key {
        "ACTION" | "DEVPATH" | "KERNEL" | "KERNELS" | "SUBSYSTEM" | "SUBSYSTEMS" | "DRIVER" | "DRIVERS" | "TAGS"
        | "PROGRAM" | "RESULT" => (Never, true, key == "PROGRAM"),
        "ATTRS" | "CONST" => (Always, true, false),
        "TEST" => (Maybe, true, false),
        "IMPORT" => (Always, true, true),
        "NAME" | "SYMLINK" | "TAG" => (Never, true, true),
        "ATTR" | "SYSCTL" | "ENV" => (Always, true, true),
        "OWNER" | "GROUP" | "MODE" | "OPTIONS" | "LABEL" | "GOTO" => (Never, false, true),
        "SECLABEL" => (Always, false, true),
        "RUN" => (Maybe, false, true),
        _ => return None,
    };
    Some(Form { attribute, compares, assigns })
}

/// Checks the form of a file of rules: keys, operators, quotes, continued lines, and that each `GOTO` has its `LABEL`
/// further down. It knows less than udev, so a file that passes may still be wrong in what it says.
///
/// # Errors
/// At the first line that udev would not take.
pub fn check(text: &str) -> Result<(), UdevError> {
    let (mut labels, mut jumps) = (BTreeSet::new(), Vec::new());
    for (line, rule) in logical_lines(text) {
        let tokens = tokens(&rule).map_err(|why| UdevError::Syntax { line, why })?;
        for (key, value) in tokens {
            match key {
                "LABEL" => drop(labels.insert((value.to_owned(), line))),
                "GOTO" => jumps.push((value.to_owned(), line)),
                _ => {}
            }
        }
    }
    let lost = jumps.into_iter().find(|(name, from)| !labels.iter().any(|(label, at)| label == name && at > from));
    match lost {
        Some((name, line)) => Err(UdevError::Syntax { line, why: format!("no `LABEL=\"{name}\"` follows its `GOTO`") }),
        None => Ok(()),
    }
}

/// Joins lines that end in `\` and drops comments and blank lines.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let (mut lines, mut open): (_, Option<(usize, String)>) = (Vec::new(), None);
    for (at, raw) in text.lines().enumerate() {
        if open.is_none() && (raw.trim().is_empty() || raw.trim_start().starts_with('#')) {
            continue;
        }
        let (number, mut joined) = open.take().unwrap_or((at + 1, String::new()));
        match raw.strip_suffix('\\') {
            Some(part) => {
                joined.push_str(part);
                open = Some((number, joined));
            }
            None => {
                joined.push_str(raw);
                lines.push((number, joined));
            }
        }
    }
    lines.extend(open);
    lines
}

/// Splits a rule into its keys and values.
fn tokens(rule: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut found = Vec::new();
    let mut rest = rule.trim_matches(|c: char| c.is_whitespace() || c == ',');
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(rest.len());
        let (key, mut after) = rest.split_at(end);
        let Some(form) = form(key) else {
            return Err(format!("`{}` is no key", rest.split(['=', '{', ' ', '!']).next().unwrap_or_default()));
        };
        let mut attribute = None;
        if let Some(inner) = after.strip_prefix('{') {
            let (name, behind) =
                inner.split_once('}').ok_or_else(|| format!("the braces of `{key}` are not closed"))?;
            (attribute, after) = (Some(name), behind);
        }
        match (form.attribute, attribute) {
            (Attribute::Always, None | Some("")) => return Err(format!("`{key}` needs an attribute in braces")),
            (Attribute::Never, Some(_)) => return Err(format!("`{key}` takes no attribute in braces")),
            _ => {}
        }
        let after = after.trim_start();
        let operator = ["==", "!=", "+=", "-=", ":=", "="].into_iter().find(|operator| after.starts_with(operator));
        let operator = operator.ok_or_else(|| format!("`{key}` has no operator"))?;
        let compares = matches!(operator, "==" | "!=");
        if (compares && !form.compares) || (!compares && !form.assigns) {
            return Err(format!("`{key}` does not take `{operator}`"));
        }
        let quoted = after[operator.len()..].trim_start();
        // `e"…"` resolves escapes, `i"…"` ignores case, newer than either is both.
        let quoted = quoted.trim_start_matches(['e', 'i']);
        let body = quoted.strip_prefix('"').ok_or_else(|| format!("the value of `{key}` is not in double quotes"))?;
        let end = closing_quote(body).ok_or_else(|| format!("the quotes of the value of `{key}` are not closed"))?;
        found.push((key, &body[..end]));
        let behind = &body[end + 1..];
        rest = behind.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.len() == behind.len() && !rest.is_empty() {
            return Err(format!("after the value of `{key}` a comma is missing"));
        }
    }
    Ok(found)
}

fn closing_quote(body: &str) -> Option<usize> {
    let mut escaped = false;
    body.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rule_of_a_scheduler() {
        let rule = scheduler_rule(&Disk::Kernel("sda".into()), "mq-deadline").unwrap();
        assert_eq!(
            rule,
            "ACTION==\"add|change\", SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\", KERNEL==\"sda\", \
             ATTR{queue/scheduler}!=\"mq-deadline\", ATTR{queue/scheduler}=\"mq-deadline\""
        );
        let rules = [
            rule,
            scheduler_rule(&Disk::Serial("S1 X".into()), "none").unwrap(),
            scheduler_rule(&Disk::Wwn("0x5000".into()), "none").unwrap(),
            scheduler_rule(&Disk::DeviceMapper("mpatha".into()), "bfq").unwrap(),
        ];
        let text = render(&rules).unwrap();
        assert!(text.starts_with(HEADER) && text.lines().count() == 5);
        for name in ["", "a\"b", "a\nb", "$x"] {
            assert!(scheduler_rule(&Disk::Kernel(name.into()), "none").is_err());
        }
        assert!(render(&["A\nB".into()]).is_err());
    }

    #[test]
    fn the_form_of_rules() {
        for (text, fault) in [
            ("# c\n\nACTION==\"add\", \\\n  KERNEL==\"sd*\", RUN+=\"/bin/x %k\"\n", None),
            ("SUBSYSTEM!=\"block\", GOTO=\"end\"\nTEST==\"a\"\nTEST{0644}==\"b\"\nLABEL=\"end\"\n", None),
            ("IMPORT{program}=\"x\" , ENV{A}=\"1\",\n", None),
            ("KERNEL==\"a\"ENV{B}=\"1\"\n", Some(1)),
            ("\nKERNEL=\"a\"\n", Some(2)),
            ("KERNEL==a\n", Some(1)),
            ("KERNEL==\"a\n", Some(1)),
            ("ATTR==\"a\"\n", Some(1)),
            ("ATTR{a==\"a\"\n", Some(1)),
            ("OWNER==\"a\"\n", Some(1)),
            ("kernel==\"a\"\n", Some(1)),
            ("FOO==\"a\"\n", Some(1)),
            ("LABEL=\"end\"\nGOTO=\"end\"\n", Some(2)),
            ("ENV{A}=e\"a\\\"b\"\n", None),
        ] {
            let found = match check(text) {
                Err(UdevError::Syntax { line, .. }) => Some(line),
                _ => None,
            };
            assert_eq!(found, fault, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text: String, rule in "[A-Z]{1,9}(\\{[a-z]*\\}?)?[=!+]{0,2}e?\"?[ -~é]{0,9}\"?,? ?") {
            let _ = check(&text);
            let _ = check(&rule);
        }
    }
}
