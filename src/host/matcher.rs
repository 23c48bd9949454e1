//! [`Matcher`]: the closed set of predicates over an answer, for guards, read-backs and checks.
//!
//! Kernel values normalise (`0x3c` is 60, a tab is a space, a choice is shown in brackets), so a plan says by which rule a
//! later read is to be compared; the executor needs no knowledge of a kind.

use serde::{Deserialize, Serialize};

use super::{
    bytes::{Bytes, Digest},
    read::{Answer, Read},
};

/// What a read must answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The question.
    pub read: Read,
    /// The rule.
    pub matcher: Matcher,
}

impl Expectation {
    /// Makes an expectation.
    #[must_use]
    pub fn new(read: Read, matcher: Matcher) -> Self {
        Self { read, matcher }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Matcher {
    /// Nothing stands there.
    Absent,
    /// Something stands there.
    Present,
    /// A regular file of exactly this content, mode and owner.
    File {
        /// Of its content.
        digest: Digest,
        /// The low 12 bits of its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A symbolic link with exactly this target.
    Link {
        /// As written in the link.
        target: String,
    },
    /// A directory of this mode and owner.
    Directory {
        /// The low 12 bits of its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// Exactly this content or output.
    Bytes(Bytes),
    /// These words: leading, trailing and repeated white space does not count.
    Words(String),
    /// This number, written decimal, `0x…` or `0…` (octal), as the kernel's `strtoul` reads it.
    Integer(#[serde(with = "number")] i128),
    /// This word in brackets in a list of choices, as in `always [madvise] never`; or alone.
    Choice(String),
    /// A size in bytes, written with or without one of the suffixes K, M, G, T (kernel lib/cmdline.c, `memparse`).
    Size(u64),
    /// A number not below this.
    AtLeast(#[serde(with = "number")] i128),
    /// A number not above this.
    AtMost(#[serde(with = "number")] i128),
    /// A line `NAME=VALUE` among the lines of an output, with one of these values.
    Property {
        /// The name.
        name: String,
        /// The values that will do.
        values: Vec<String>,
    },
    /// A line whose word at `at` (from 0) is this, as a mount point in mountinfo; with `there: false`, no such line.
    Word {
        /// Which word of the line.
        at: usize,
        /// The word.
        word: String,
        /// Whether there is such a line.
        there: bool,
    },
    /// What a derived file must hold, see [`Lines`].
    Lines(Lines),
}

/// A predicate over the lines of a generated file (a boot configuration): there is a line whose first word is one of
/// `first_words` and which holds none of `except`, and every such line (or one, without `every`) holds `tokens` as a subsequence of its words, in this order
/// and each once, and no word that begins with one of `absent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Only lines between `### BEGIN …/X ###` and `### END …` count whose X, the name of the script that wrote them, contains
    /// this; empty: all lines.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub section: String,
    /// Every line that counts must hold the tokens, not only one.
    pub every: bool,
    /// First words of the lines that count, such as `linux`.
    pub first_words: Vec<String>,
    /// Words that make a line not count, such as `single` of a recovery entry.
    pub except: Vec<String>,
    /// What each line holds, in order.
    pub tokens: Vec<String>,
    /// Words, or beginnings of words when they end in `=`, that no line holds beyond `tokens`.
    pub absent: Vec<String>,
}

impl Matcher {
    /// Returns the rule that an answer satisfies now and would not after a change: what a guard says of what the plan saw.
    ///
    /// A file is known by content, mode and owner, everything else by what stands there; a time is never part of it.
    #[must_use]
    pub fn same_as(answer: &Answer) -> Self {
        match answer {
            Answer::Absent => Self::Absent,
            Answer::File { meta, digest: Some(digest), .. } => {
                Self::File { digest: *digest, mode: meta.mode, uid: meta.uid, gid: meta.gid }
            }
            Answer::Link { target, .. } => Self::Link { target: target.clone() },
            Answer::Directory { meta, .. } => Self::Directory { mode: meta.mode, uid: meta.uid, gid: meta.gid },
            Answer::Output(output) => Self::Bytes(output.stdout.clone()),
            Answer::File { .. } | Answer::Special { .. } | Answer::Paths(_) | Answer::Denied | Answer::Failed(_) => {
                Self::Present
            }
        }
    }

    /// Tells whether an answer satisfies the rule. What could not be read satisfies none but [`Matcher::Present`].
    #[must_use]
    pub fn matches(&self, answer: &Answer) -> bool {
        match self {
            Self::Absent => *answer == Answer::Absent,
            Self::Present => !matches!(answer, Answer::Absent),
            Self::File { digest, mode, uid, gid } => match answer {
                Answer::File { meta, digest: Some(found), .. } => {
                    found == digest && (meta.mode, meta.uid, meta.gid) == (*mode, *uid, *gid)
                }
                _ => false,
            },
            Self::Link { target } => matches!(answer, Answer::Link { target: found, .. } if found == target),
            Self::Directory { mode, uid, gid } => match answer {
                Answer::Directory { meta, .. } => (meta.mode, meta.uid, meta.gid) == (*mode, *uid, *gid),
                _ => false,
            },
            Self::Bytes(bytes) => match answer {
                Answer::Output(output) => output.stdout == *bytes,
                answer => answer.content() == Some(bytes),
            },
            rule => answer.content().is_some_and(|content| rule.matches_text(&content.lossy())),
        }
    }

    /// Tells whether a text satisfies a rule about values; false for the rules about files.
    #[must_use]
    pub fn matches_text(&self, text: &str) -> bool {
        match self {
            Self::Words(words) => text.split_whitespace().eq(words.split_whitespace()),
            Self::Integer(number) => integer(text) == Some(*number),
            Self::AtLeast(bound) => integer(text).is_some_and(|number| number >= *bound),
            Self::AtMost(bound) => integer(text).is_some_and(|number| number <= *bound),
            Self::Choice(word) => choice(text) == Some(word),
            Self::Size(bytes) => size(text) == Some(*bytes),
            Self::Property { name, values } => text.lines().any(|line| {
                line.split_once('=').is_some_and(|(key, value)| key == name && values.iter().any(|want| want == value))
            }),
            Self::Word { at, word, there } => {
                text.lines().any(|line| line.split_whitespace().nth(*at) == Some(word)) == *there
            }
            Self::Lines(lines) => lines.hold_in(text),
            Self::Bytes(bytes) => text.as_bytes() == bytes.0,
            Self::Absent | Self::Present | Self::File { .. } | Self::Link { .. } | Self::Directory { .. } => false,
        }
    }

    /// Returns the value that the rule names, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Absent => "nothing".into(),
            Self::Present => "something".into(),
            Self::File { digest, mode, uid, gid } => {
                format!("a file of mode {mode:04o}, owner {uid}:{gid}, sha256 {:.12}", digest.to_string())
            }
            Self::Link { target } => format!("a link to `{target}`"),
            Self::Directory { mode, uid, gid } => format!("a directory of mode {mode:04o}, owner {uid}:{gid}"),
            Self::Bytes(bytes) => format!("{:?}", bytes.lossy()),
            Self::Words(words) | Self::Choice(words) => format!("`{words}`"),
            Self::Integer(number) => format!("{number}"),
            Self::Size(bytes) => format!("{bytes} bytes"),
            Self::AtLeast(bound) => format!("at least {bound}"),
            Self::AtMost(bound) => format!("at most {bound}"),
            Self::Property { name, values } => format!("{name}={}", values.join(" or ")),
            Self::Word { at, word, there } => {
                format!("{} line with `{word}` as word {}", if *there { "a" } else { "no" }, at + 1)
            }
            Self::Lines(lines) => {
                format!("`{}` on each line that begins with {}", lines.tokens.join(" "), lines.first_words.join(" or "))
            }
        }
    }
}

impl Lines {
    /// Tells whether a text satisfies the predicate.
    #[must_use]
    pub fn hold_in(&self, text: &str) -> bool {
        let mut lines = self.of(text).peekable();
        let there = lines.peek().is_some();
        there && if self.every { lines.all(|line| self.hold_on(line)) } else { lines.any(|line| self.hold_on(line)) }
    }

    /// Returns the lines of a text that count.
    pub fn of<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut counts = self.section.is_empty();
        text.lines().filter(move |line| {
            if let Some(script) = line.strip_prefix("### BEGIN ").filter(|_| !self.section.is_empty()) {
                let script = script.trim_end_matches(['#', ' ']);
                counts = script.rsplit('/').next().is_some_and(|name| name.contains(&self.section));
            } else if line.starts_with("### END ") {
                counts = self.section.is_empty();
            }
            let mut words = line.split_whitespace();
            counts
                && words.next().is_some_and(|first| self.first_words.iter().any(|word| word == first))
                && !words.any(|word| self.except.iter().any(|except| except == word))
        })
    }

    fn hold_on(&self, line: &str) -> bool {
        let mut wanted = self.tokens.iter().peekable();
        let mut rest = Vec::new();
        for word in line.split_whitespace().skip(1) {
            match wanted.peek() {
                Some(token) if *token == word => {
                    wanted.next();
                }
                _ => rest.push(word),
            }
        }
        let unwanted = |word: &&str| {
            self.absent
                .iter()
                .any(|name| if name.ends_with('=') { word.starts_with(name.as_str()) } else { word == name })
        };
        wanted.peek().is_none() && !rest.iter().any(unwanted)
    }
}

/// Reads a number as the kernel writes or takes it: decimal, `0x…` or `0…`, with a sign, white space around it.
#[must_use]
pub fn integer(text: &str) -> Option<i128> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// Returns the current one of a list of choices: the word in brackets, or the only word.
#[must_use]
pub fn choice(text: &str) -> Option<&str> {
    let bracketed = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    bracketed.or_else(|| {
        let mut words = text.split_whitespace();
        words.next().filter(|_| words.next().is_none())
    })
}

/// Reads a size in bytes: a number and at most one of the suffixes K, M, G, T, P in either case.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, shift) = match text.chars().last()?.to_ascii_uppercase() {
        'K' => (&text[..text.len() - 1], 10),
        'M' => (&text[..text.len() - 1], 20),
        'G' => (&text[..text.len() - 1], 30),
        'T' => (&text[..text.len() - 1], 40),
        'P' => (&text[..text.len() - 1], 50),
        _ => (text, 0),
    };
    u64::try_from(integer(digits)?).ok()?.checked_mul(1 << shift)
}

/// How a number stands in JSON: as a number where 64 bits hold it, else as text. serde cannot read an `i128` within a tagged
/// enum, and what stands in a run stands in such.
mod number {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(number: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(number) = i64::try_from(*number) {
            serializer.serialize_i64(number)
        } else if let Ok(number) = u64::try_from(*number) {
            serializer.serialize_u64(number)
        } else {
            serializer.collect_str(number)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = i128;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<i128, E> {
                Ok(number.into())
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<i128, E> {
                Ok(number.into())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<i128, E> {
                text.parse().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_the_kernel_writes_them() {
        let cases = [
            (Matcher::Integer(60), "0x3c\n", true),
            (Matcher::Integer(60), "074", true),
            (Matcher::Integer(60), "60 # c", false),
            (Matcher::Integer(0), "", false),
            (Matcher::Integer(-1), "-1\n", true),
            (Matcher::Words("4096 131072 6291456".into()), "4096\t131072\t6291456\n", true),
            (Matcher::Choice("madvise".into()), "always [madvise] never\n", true),
            (Matcher::Choice("always".into()), "always [madvise] never\n", false),
            (Matcher::Choice("none".into()), "none\n", true),
            (Matcher::AtLeast(4), "3", false),
            (Matcher::AtMost(4), "3", true),
            (Matcher::Size(2 << 20), "2048K", true),
            (Matcher::Size(2 << 20), "2M", true),
            (Matcher::Word { at: 1, word: "/mnt".into(), there: true }, "1 /\n2 /mnt x\n", true),
            (Matcher::Word { at: 1, word: "/mnt".into(), there: false }, "1 /\n2 /mnt x\n", false),
            (Matcher::Word { at: 1, word: "/mnt".into(), there: true }, "", false),
            (Matcher::Property { name: "A".into(), values: vec!["x".into(), "y".into()] }, "B=x\nA=y\n", true),
        ];
        for (matcher, text, expected) in cases {
            assert_eq!(matcher.matches_text(text), expected, "{matcher:?} on {text:?}");
        }
        assert_eq!(integer("--1"), None);
        assert_eq!(integer("0x-1"), None);
        assert_eq!(size("é"), None);
    }

    #[test]
    fn lines_of_a_derived_file() {
        let lines = Lines {
            section: String::new(),
            every: true,
            first_words: vec!["linux".into()],
            except: vec!["single".into()],
            tokens: vec!["hugepagesz=1G".into(), "hugepages=4".into()],
            absent: vec!["hugepages=".into(), "hugepagesz=".into()],
        };
        let check = |text: &str, expected: bool| assert_eq!(lines.hold_in(text), expected, "{text}");
        check("\tlinux /vmlinuz root=/dev/vda quiet hugepagesz=1G hugepages=4\n\tlinux /vmlinuz single\n", true);
        check("linux /v hugepages=4 hugepagesz=1G", false);
        check("linux /v hugepagesz=1G hugepages=4 hugepages=4", false);
        check("linux /v hugepagesz=1G hugepages=4\nlinux /w", false);
        check("# linux", false);
        let one = Lines { every: false, ..lines.clone() };
        assert!(one.hold_in("linux /v hugepagesz=1G hugepages=4\nlinux /w"));
        let section = Lines { section: "linux".into(), ..lines };
        let good = "### BEGIN /etc/grub.d/10_linux ###\nlinux /v hugepagesz=1G hugepages=4\n### END /etc/grub.d/10_linux ###\n";
        let other = "### BEGIN /etc/grub.d/30_os-prober ###\nlinux /w\n### END /etc/grub.d/30_os-prober ###\n";
        assert!(section.hold_in(&format!("{good}{other}")));
        assert!(!section.hold_in(other));
    }
}
