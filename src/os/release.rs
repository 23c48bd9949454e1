//! `os-release`: which distribution a host runs (os-release(5)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The fields that vprov looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The identifier, for example `debian`, `sles`, `opensuse-leap`; `linux` if the file does not say.
    pub id: String,
    /// The identifiers of the distributions that it is made from, nearest first.
    pub id_like: Vec<String>,
    /// The version, for example `12` or `15.6`; a date on Tumbleweed; empty if there is none.
    pub version_id: String,
    /// The name for people.
    pub pretty_name: String,
}

impl Release {
    /// Reads the file. Lines that are no assignment are skipped, as os-release(5) asks for.
    #[must_use]
    pub fn parse(content: &[u8]) -> Self {
        let text = String::from_utf8_lossy(content);
        let mut fields: BTreeMap<&str, String> = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.split_once('=') {
                fields.insert(name, unquoted(value));
            }
        }
        let mut take = |name: &str| fields.remove(name).unwrap_or_default();
        let id = Some(take("ID")).filter(|id| !id.is_empty()).unwrap_or_else(|| "linux".into());
        let id_like = take("ID_LIKE").split_whitespace().map(Into::into).collect();
        let version_id = take("VERSION_ID");
        let pretty_name = Some(take("PRETTY_NAME")).filter(|name| !name.is_empty()).unwrap_or_else(|| "Linux".into());
        Self { id, id_like, version_id, pretty_name }
    }

    /// Tells whether the distribution is `id` or made from it.
    #[must_use]
    pub fn is_like(&self, id: &str) -> bool {
        self.id == id || self.id_like.iter().any(|other| other == id)
    }

    /// Tells whether the distribution is of SUSE: SLE, Leap, Tumbleweed, MicroOS.
    #[must_use]
    pub fn is_suse(&self) -> bool {
        self.is_like("suse")
            || self.id.starts_with("sle")
            || self.id.starts_with("opensuse")
            || self.id.starts_with("sl-micro")
    }

    /// Tells whether the distribution is Red Hat's or made from it.
    #[must_use]
    pub fn is_rhel(&self) -> bool {
        self.is_like("rhel") || self.is_like("fedora")
    }
}

/// A value is at most one quoted text, in which a backslash protects `"`, `$`, `` ` `` and itself.
fn unquoted(value: &str) -> String {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    if let Some(inner) = quoted('\'') {
        return inner.into();
    }
    let inner = quoted('"').unwrap_or(value);
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('"' | '$' | '`' | '\\')) => text.extend(chars.next()),
            (c, _) => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_of_distributions() {
        // Debian's is captured; the others are written by hand in the form that their distributions ship.
        let debian = Release::parse(include_bytes!("../../tests/data/os-release/debian-12"));
        assert_eq!((debian.id.as_str(), debian.version_id.as_str()), ("debian", "12"));
        assert_eq!(debian.pretty_name, "Debian GNU/Linux 12 (bookworm)");
        let leap = Release::parse(
            b"NAME=\"openSUSE Leap\"\nVERSION=\"15.6\"\nID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\nVERSION_ID=\"15.6\"\n",
        );
        assert_eq!(leap.id_like, ["suse", "opensuse"]);
        assert!(leap.is_suse() && !leap.is_rhel() && leap.version_id == "15.6" && leap.pretty_name == "Linux");
        let alma = Release::parse(
            b"ID='almalinux'\r\n# c\nID_LIKE=\"rhel centos fedora\"\njunk\nPRETTY_NAME=\"a \\\"b\\\" \\$c\"\n",
        );
        assert!(alma.is_rhel() && alma.id == "almalinux" && alma.pretty_name == "a \"b\" $c");
        assert!(Release::parse(b"ID=sles\n").is_suse());
        assert_eq!(Release::parse(b"").id, "linux");
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, line in "[A-Z]{1,3}=[\"'\\\\a]{0,4}") {
            let _ = Release::parse(&content);
            let _ = Release::parse(line.as_bytes());
        }
    }
}
