//! The generated `grub.cfg` and the environment block beside it: which entry the next boot takes, and with which command lines.
//!
//! Only what generators write is read: menu entries, submenus, their loader commands and the assignments of `default`. The
//! script is not executed; a variable stays as `${name}` in the words.

use std::{collections::BTreeMap, fmt};

use super::cmdline::{CommandLine, Difference, Request, Target};

/// Most bytes of a `grub.cfg`, and how deep submenus may be nested.
const MAX_FILE: usize = 4 * 1024 * 1024;
const MAX_DEPTH: usize = 16;

/// Why a file is no `grub.cfg` that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrubCfgError {
    /// The file is too large.
    #[error("the file is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// A quotation or block is not closed.
    #[error("line {line}: {what} is not closed")]
    NotClosed {
        /// The line, from 1.
        line: usize,
        /// What begins there.
        what: &'static str,
    },
    /// A `}` closes nothing.
    #[error("line {0}: `}}` closes nothing")]
    ClosesNothing(usize),
    /// Submenus are nested too deep.
    #[error("line {0}: menus are nested too deep")]
    TooDeep(usize),
    /// The environment block has no signature.
    #[error("the file does not begin with `# GRUB Environment Block`")]
    NoEnvironment,
}

/// One item of the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the menu shows.
    pub title: String,
    /// `--id`
    pub id: Option<String>,
    /// `--class`
    pub classes: Vec<String>,
    /// The script below /etc/grub.d that wrote it, by the generator's `### BEGIN` line.
    pub section: Option<String>,
    /// The line of the file, from 1.
    pub line: usize,
    /// What is behind it.
    pub content: Content,
}

/// What a menu item holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Something to boot: each loader command with its words, quotes undone.
    Boot(Vec<Vec<String>>),
    /// More items.
    Submenu(Vec<Entry>),
}

/// A program that is loaded, and its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The file as GRUB names it, without a device.
    pub path: String,
    /// The line as GRUB hands it over.
    pub line: String,
}

impl Entry {
    /// Returns the Linux kernel that the entry boots, on Xen that of dom0.
    #[must_use]
    pub fn linux(&self) -> Option<Loaded> {
        let direct = self.command(&["linux", "linux16", "linuxefi", "xen_linux"]);
        direct.or_else(|| self.xen().and_then(|_| self.command(&["module", "module2", "xen_module"])))
    }

    /// Returns the Xen hypervisor that the entry boots.
    #[must_use]
    pub fn xen(&self) -> Option<Loaded> {
        self.command(&["multiboot", "multiboot2", "xen_hypervisor"])
    }

    /// Tells whether the entry boots Xen, even in a way whose command line is elsewhere (`chainloader` of xen.efi).
    #[must_use]
    pub fn is_xen(&self) -> bool {
        self.classes.iter().any(|class| class == "xen") || self.xen().is_some()
    }

    /// Tells whether the entry is one for repairs, which tuning is kept out of.
    #[must_use]
    pub fn is_recovery(&self) -> bool {
        self.id.as_deref().is_some_and(|id| id.contains("-recovery-")) || self.title.ends_with("(recovery mode)")
    }

    /// Tells whether a script for Linux kernels of this system wrote the entry (`10_linux`, `20_linux_xen`, their copies).
    ///
    /// Entries of a file without section lines count as such.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.section.as_deref().is_none_or(|script| script.contains("linux"))
    }

    /// Returns the line of one target, if the entry loads it by a command that shows it.
    #[must_use]
    pub fn loaded(&self, target: Target) -> Option<Loaded> {
        match target {
            Target::Linux => self.linux(),
            Target::Xen => self.xen(),
        }
    }

    /// Returns the files that the entry's loader commands name, without those on another device.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let Content::Boot(commands) = &self.content else { return Vec::new() };
        let loaders = commands.iter().flat_map(|words| match words.first().map(String::as_str) {
            // Of the others only the first word is a file.
            Some("initrd" | "initrd16" | "initrdefi") => &words[1..],
            _ => words
                .iter()
                .skip(1)
                .position(|word| !word.starts_with("--"))
                .map_or(&[][..], |at| &words[at + 1..at + 2]),
        });
        loaders.filter(|word| word.starts_with('/') && !word.contains('$')).cloned().collect()
    }

    fn command(&self, names: &[&str]) -> Option<Loaded> {
        let Content::Boot(commands) = &self.content else { return None };
        let words = commands.iter().find(|words| names.contains(&words[0].as_str()))?;
        let mut arguments = words[1..].iter().skip_while(|word| word.starts_with("--"));
        let path = arguments.next()?.clone();
        Some(Loaded { path, line: arguments.map(|word| requote(word)).collect::<Vec<_>>().join(" ") })
    }
}

/// Writes a word as GRUB puts it on a command line (grub-core/lib/cmdline.c).
fn requote(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if matches!(c, '\'' | '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    if word.contains(' ') { format!("\"{out}\"") } else { out }
}

/// The environment block, `grubenv`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GrubEnv(pub BTreeMap<String, String>);

impl GrubEnv {
    /// Reads the block: a signature, `name=value` lines with backslash escapes, and `#` up to its end.
    ///
    /// # Errors
    /// There is no signature.
    pub fn parse(text: &str) -> Result<Self, GrubCfgError> {
        let body = text.strip_prefix("# GRUB Environment Block\n").ok_or(GrubCfgError::NoEnvironment)?;
        let mut variables = BTreeMap::new();
        let mut line = String::new();
        let mut chars = body.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => line.extend(chars.next()),
                '\n' => {
                    if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                        variables.insert(name.to_owned(), value.to_owned());
                    }
                    line.clear();
                }
                c => line.push(c),
            }
        }
        Ok(Self(variables))
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// A menu that was read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GrubCfg {
    /// The items in their order.
    pub entries: Vec<Entry>,
    /// The values that the file gives to `default`, in their order.
    pub defaults: Vec<String>,
    /// Old titles that the file replaces in `default`: what `x${default}` is compared with, and the new value.
    pub corrections: Vec<(String, String)>,
    /// The menu has entries of `/boot/loader/entries` (`blscfg`).
    pub bls: bool,
}

/// Why the next boot's entry was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `next_entry`: for one boot only.
    Once,
    /// `saved_entry`
    Saved,
    /// `GRUB_DEFAULT`
    Default,
}

/// The entry that the next boot takes if nobody touches the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextBoot<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// Titles from the menu down to it.
    pub path: Vec<&'a str>,
    /// Who chose it.
    pub choice: Choice,
    /// What was chosen, if there is no such entry, so that GRUB takes the first one.
    pub missing: Option<String>,
}

/// Why the next boot's entry is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextBootError {
    /// There is nothing to boot.
    #[error("the menu has no entries")]
    NoEntries,
    /// The entries are elsewhere.
    #[error("the menu takes its entries from /boot/loader/entries")]
    Bls,
    /// The default is computed when GRUB runs.
    #[error("the default entry `{0}` is computed by GRUB when it starts")]
    Computed(String),
}

impl GrubCfg {
    /// Reads a generated file.
    ///
    /// # Errors
    /// A quotation or block is not closed, or a limit is passed.
    pub fn parse(text: &str) -> Result<Self, GrubCfgError> {
        if text.len() > MAX_FILE {
            return Err(GrubCfgError::TooLarge);
        }
        Reader { text: text.as_bytes(), at: 0, line: 1, section: None, condition: None }.menu()
    }

    /// Returns all entries that boot something, submenus entered, in the order of the menu.
    #[must_use]
    pub fn boot_entries(&self) -> Vec<&Entry> {
        fn collect<'a>(entries: &'a [Entry], out: &mut Vec<&'a Entry>) {
            for entry in entries {
                match &entry.content {
                    Content::Boot(_) => out.push(entry),
                    Content::Submenu(entries) => collect(entries, out),
                }
            }
        }
        let mut out = Vec::new();
        collect(&self.entries, &mut out);
        out
    }

    /// Returns the entry that the next boot takes (grub-core/normal/menu.c: `get_entry_number`, `menuentry_eq`).
    ///
    /// # Errors
    /// There are no entries here, or the choice depends on what GRUB finds when it runs.
    pub fn next_boot(&self, environment: &GrubEnv) -> Result<NextBoot<'_>, NextBootError> {
        if self.bls {
            return Err(NextBootError::Bls);
        }
        let (mut spec, choice) = self.default_entry(environment)?;
        for (old, new) in &self.corrections {
            if *old == format!("x{spec}") {
                spec.clone_from(new);
            }
        }
        let (mut entries, mut rest) = (&self.entries[..], spec.as_str());
        let (mut path, mut missing) = (Vec::new(), None);
        loop {
            let (found, below) = find(entries, rest);
            if found.is_none() && !rest.is_empty() {
                missing = Some(spec.clone());
            }
            let entry = entries.get(found.unwrap_or(0)).ok_or(NextBootError::NoEntries)?;
            path.push(entry.title.as_str());
            match &entry.content {
                Content::Boot(_) => return Ok(NextBoot { entry, path, choice, missing }),
                Content::Submenu(inner) => (entries, rest) = (inner, if found.is_some() { below } else { "" }),
            }
        }
    }

    /// Returns the text that names the default entry, and who gave it.
    fn default_entry(&self, environment: &GrubEnv) -> Result<(String, Choice), NextBootError> {
        let once = environment.get("next_entry");
        if !once.is_empty() && self.defaults.iter().any(|value| value == "${next_entry}") {
            return Ok((once.to_owned(), Choice::Once));
        }
        match self.defaults.iter().rfind(|value| *value != "${next_entry}").map(String::as_str) {
            None => Ok((String::new(), Choice::Default)),
            Some("${saved_entry}") => Ok((environment.get("saved_entry").to_owned(), Choice::Saved)),
            Some(value) if value.contains("${") => Err(NextBootError::Computed(value.to_owned())),
            Some(value) => Ok((value.to_owned(), Choice::Default)),
        }
    }

    /// Returns what the entries lack that a generator made for this system's kernels, those for recovery aside.
    ///
    /// On a Xen entry the request for Linux is about the line of dom0's kernel.
    #[must_use]
    pub fn differences(&self, target: Target, request: &Request) -> Vec<EntryDifference> {
        let entries = self.boot_entries();
        let entries = entries.iter().filter(|entry| entry.is_generated() && !entry.is_recovery());
        let differences = entries.filter_map(|entry| {
            let line = CommandLine::parse(&entry.loaded(target)?.line);
            let differences = request.differences(&line);
            (!differences.is_empty()).then(|| EntryDifference { title: entry.title.clone(), target, differences })
        });
        differences.collect()
    }
}

/// What one entry lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDifference {
    /// The entry.
    pub title: String,
    /// Whose line of it.
    pub target: Target,
    /// What is not as wanted.
    pub differences: Vec<Difference>,
}

impl fmt::Display for EntryDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry `{}` ({})", self.title, self.target)?;
        self.differences
            .iter()
            .enumerate()
            .try_for_each(|(index, difference)| write!(f, "{} {difference}", if index == 0 { ":" } else { ";" }))
    }
}

/// Finds what the first part of `a>b` names, and returns the rest.
fn find<'s>(entries: &[Entry], spec: &'s str) -> (Option<usize>, &'s str) {
    // `>>` is a `>` that separates nothing.
    let mut cut = spec.len();
    let bytes = spec.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'>', Some(b'>')) => at += 2,
            (b'>', _) => {
                cut = at;
                break;
            }
            _ => at += 1,
        }
    }
    let (first, rest) = (&spec[..cut], spec.get(cut + 1..).unwrap_or(""));
    let name = first.replace(">>", ">");
    if let Some(number) = strtoul(first) {
        return (number.filter(|number| *number < entries.len()), rest);
    }
    let matches = |entry: &Entry| entry.title == name || entry.id.as_deref() == Some(&name);
    (if name.is_empty() { None } else { entries.iter().position(matches) }, rest)
}

/// Reads the number that a text begins with, as GRUB's `grub_strtoul` with base 0; `None`: there is none, `Some(None)`: too large.
fn strtoul(text: &str) -> Option<Option<usize>> {
    let text = text.trim_start();
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ if text.starts_with('0') => (text, 8),
        _ => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    (end > 0).then(|| usize::from_str_radix(&digits[..end], radix).ok())
}

/// Commands whose words are kept.
const LOADERS: [&str; 14] = [
    "linux",
    "linux16",
    "linuxefi",
    "initrd",
    "initrd16",
    "initrdefi",
    "multiboot",
    "multiboot2",
    "module",
    "module2",
    "xen_hypervisor",
    "xen_linux",
    "xen_module",
    "chainloader",
];

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    section: Option<String>,
    /// What the `if` that was read last compares `default` with.
    condition: Option<String>,
}

enum Item {
    Word(String),
    Open,
    Close,
    End,
}

/// A block that is not closed yet.
enum Block {
    Entry(Entry),
    /// A function, whose commands are no part of the menu.
    Function(usize),
}

impl Reader<'_> {
    fn menu(mut self) -> Result<GrubCfg, GrubCfgError> {
        let mut menu = GrubCfg::default();
        let mut blocks: Vec<Block> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        loop {
            let line = self.line;
            let at_end = self.at >= self.text.len();
            match self.item()? {
                Item::Word(word) => words.push(word),
                Item::Open => {
                    if blocks.len() >= MAX_DEPTH {
                        return Err(GrubCfgError::TooDeep(line));
                    }
                    blocks.push(self.open(&std::mem::take(&mut words), line));
                }
                item @ (Item::End | Item::Close) => {
                    self.command(&std::mem::take(&mut words), &mut menu, &mut blocks);
                    if matches!(item, Item::Close) {
                        match blocks.pop().ok_or(GrubCfgError::ClosesNothing(line))? {
                            Block::Function(_) => {}
                            Block::Entry(entry) => match blocks.last_mut() {
                                Some(Block::Entry(Entry { content: Content::Submenu(entries), .. })) => {
                                    entries.push(entry);
                                }
                                Some(_) => {}
                                None => menu.entries.push(entry),
                            },
                        }
                    }
                    if at_end {
                        return match blocks.pop() {
                            None => Ok(menu),
                            Some(Block::Entry(Entry { line, .. }) | Block::Function(line)) => {
                                Err(GrubCfgError::NotClosed { line, what: "a block" })
                            }
                        };
                    }
                }
            }
        }
    }

    /// Reads the words before a `{`.
    fn open(&self, words: &[String], line: usize) -> Block {
        // A keyword like `then` may stand before the command.
        let Some(at) = words.iter().position(|word| matches!(word.as_str(), "menuentry" | "submenu")) else {
            return Block::Function(line);
        };
        let content = match words[at].as_str() {
            "submenu" => Content::Submenu(Vec::new()),
            _ => Content::Boot(Vec::new()),
        };
        let (mut title, mut id, mut classes) = (None, None, Vec::new());
        let mut arguments = words[at + 1..].iter();
        while let Some(word) = arguments.next() {
            match word.as_str() {
                "--id" | "${menuentry_id_option}" => id = arguments.next().cloned(),
                "--class" => classes.extend(arguments.next().cloned()),
                "--users" | "--hotkey" | "--source" => drop(arguments.next()),
                option if option.starts_with("--id=") => id = Some(option[5..].to_owned()),
                option if option.starts_with("--class=") => classes.push(option[8..].to_owned()),
                option if option.starts_with("--") => {}
                text if title.is_none() => title = Some(text.to_owned()),
                _ => {}
            }
        }
        let section = self.section.clone();
        Block::Entry(Entry { title: title.unwrap_or_default(), id, classes, section, line, content })
    }

    fn command(&mut self, words: &[String], menu: &mut GrubCfg, blocks: &mut [Block]) {
        match words {
            [keyword, _, left, _, right, ..] if keyword == "if" && left == "x${default}" => {
                self.condition = Some(right.clone());
            }
            [keyword, assignment, ..] if keyword == "then" && self.condition.is_some() => {
                if let (Some(old), Some(new)) = (self.condition.take(), assignment.strip_prefix("default=")) {
                    menu.corrections.push((old, new.to_owned()));
                    return;
                }
            }
            _ => {}
        }
        let keywords = ["if", "then", "else", "elif", "fi", "do", "done", "!"];
        let begin = words.iter().position(|word| !keywords.contains(&word.as_str())).unwrap_or(words.len());
        let words = &words[begin..];
        let Some(first) = words.first() else { return };
        match blocks.last_mut() {
            None => {
                let assignment = if first == "set" { words.get(1) } else { Some(first) };
                if let Some(value) = assignment.and_then(|word| word.strip_prefix("default=")) {
                    menu.defaults.push(value.to_owned());
                }
                menu.bls |= first == "blscfg";
            }
            Some(Block::Entry(Entry { content: Content::Boot(commands), .. })) if LOADERS.contains(&first.as_str()) => {
                commands.push(words.to_vec());
            }
            Some(_) => {}
        }
    }

    fn item(&mut self) -> Result<Item, GrubCfgError> {
        loop {
            match self.text.get(self.at) {
                None => return Ok(Item::End),
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'\\') if self.text.get(self.at + 1) == Some(&b'\n') => {
                    self.at += 2;
                    self.line += 1;
                }
                Some(b'#') => {
                    let rest = &self.text[self.at..];
                    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    self.comment(end);
                    self.at += end;
                }
                Some(b'\n') => {
                    self.line += 1;
                    self.at += 1;
                    return Ok(Item::End);
                }
                Some(b';' | b'&' | b'|' | b'<' | b'>') => {
                    self.at += 1;
                    return Ok(Item::End);
                }
                Some(brace @ (b'{' | b'}')) => {
                    let item = if *brace == b'{' { Item::Open } else { Item::Close };
                    self.at += 1;
                    return Ok(item);
                }
                Some(_) => return self.word().map(Item::Word),
            }
        }
    }

    /// Takes note of the generator's lines `### BEGIN /etc/grub.d/10_linux ###` and `### END …`.
    fn comment(&mut self, length: usize) {
        let comment = String::from_utf8_lossy(&self.text[self.at..self.at + length]);
        if let Some(script) = comment.strip_prefix("### BEGIN ") {
            let script = script.trim_end().trim_end_matches('#').trim_end();
            self.section = Some(script.rsplit('/').next().unwrap_or(script).to_owned());
        } else if comment.starts_with("### END ") {
            self.section = Some(String::new());
        }
    }

    fn word(&mut self) -> Result<String, GrubCfgError> {
        let mut out: Vec<u8> = Vec::new();
        let begin = self.line;
        let mut quoted = false;
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                if quoted {
                    return Err(GrubCfgError::NotClosed { line: begin, what: "a `\"`" });
                }
                break;
            };
            let next = self.text.get(self.at + 1).copied();
            match byte {
                b'"' => {
                    quoted = !quoted;
                    self.at += 1;
                }
                b'\'' if !quoted => {
                    let rest = &self.text[self.at + 1..];
                    let end = rest.iter().position(|byte| *byte == b'\'');
                    let end = end.ok_or(GrubCfgError::NotClosed { line: begin, what: "a `'`" })?;
                    out.extend_from_slice(&rest[..end]);
                    self.line += rest[..end].iter().filter(|byte| **byte == b'\n').count();
                    self.at += end + 2;
                }
                b'\\' => {
                    match next {
                        Some(b'\n') => self.line += 1,
                        Some(next) if !quoted || matches!(next, b'$' | b'"' | b'\\') => out.push(next),
                        Some(next) => out.extend([b'\\', next]),
                        None => out.push(b'\\'),
                    }
                    self.at += 2;
                }
                b'$' => self.variable(&mut out),
                b' ' | b'\t' | b'\n' | b'\r' | b';' | b'&' | b'|' | b'<' | b'>' | b'{' | b'}' if !quoted => break,
                byte => {
                    self.line += usize::from(byte == b'\n');
                    out.push(byte);
                    self.at += 1;
                }
            }
        }
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    /// Takes `$name` or `${name}` over as `${name}`.
    fn variable(&mut self, out: &mut Vec<u8>) {
        let rest = &self.text[self.at + 1..];
        let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
        let (name, length) = if rest.first() == Some(&b'{') {
            let name = rest[1..].iter().take_while(|byte| **byte != b'}' && **byte != b'\n').count();
            (&rest[1..1 + name], name + 1 + usize::from(rest.get(1 + name) == Some(&b'}')))
        } else {
            let name = rest.iter().take_while(in_name).count();
            (&rest[..name], name)
        };
        if name.is_empty() && length == 0 {
            out.push(b'$');
        } else {
            out.extend_from_slice(b"${");
            out.extend_from_slice(name);
            out.push(b'}');
        }
        self.at += 1 + length;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEBIAN: &str = include_str!("../../../tests/data/grub/cfg/debian-12.cfg");
    const SAVED: &str = include_str!("../../../tests/data/grub/cfg/debian-12-saved.cfg");
    const XEN: &str = include_str!("../../../tests/data/grub/cfg/debian-12-xen.cfg");
    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    fn environment(variables: &[(&str, &str)]) -> GrubEnv {
        GrubEnv(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_menu_of_debian_is_read() {
        let menu = GrubCfg::parse(DEBIAN).unwrap();
        assert_eq!(menu.defaults, ["${next_entry}", "0"]);
        let titles: Vec<_> = menu.entries.iter().map(|entry| entry.title.as_str()).collect();
        assert_eq!(titles, ["Debian GNU/Linux", "Advanced options for Debian GNU/Linux"]);
        let first = &menu.entries[0];
        assert_eq!(first.id.as_deref(), Some(format!("gnulinux-simple-{UUID}").as_str()));
        assert_eq!(first.section.as_deref(), Some("10_linux"));
        let linux = Loaded { path: "/boot/vmlinuz-6.1.0-38-amd64".into(), line: "root=/dev/vda1 ro quiet".into() };
        assert_eq!(first.linux(), Some(linux));
        assert_eq!(first.files(), ["/boot/vmlinuz-6.1.0-38-amd64", "/boot/initrd.img-6.1.0-38-amd64"]);
        let recovery: Vec<_> = menu.boot_entries().iter().map(|entry| entry.is_recovery()).collect();
        assert_eq!(recovery, [false, false, true, false, true]);
    }

    #[test]
    fn the_menu_of_a_xen_host_is_read() {
        let menu = GrubCfg::parse(XEN).unwrap();
        let next = menu.next_boot(&GrubEnv::default()).unwrap();
        assert_eq!(next.entry.title, "Debian GNU/Linux, with Xen hypervisor");
        assert!(next.entry.is_xen() && next.missing.is_none());
        assert_eq!(
            next.entry.xen().unwrap().line,
            "placeholder dom0_mem=4G,max:4G console=com1,vga dom0_max_vcpus=4 ${xen_rm_opts}"
        );
        let linux = next.entry.linux().unwrap();
        assert_eq!(linux.path, "/boot/vmlinuz-6.1.0-38-amd64");
        assert_eq!(linux.line, "placeholder root=/dev/vda1 ro console=tty0 \"foo=a b\" quiet");
        assert_eq!(next.entry.files().len(), 3);
        let xen = menu.boot_entries().iter().filter(|entry| entry.is_xen()).count();
        assert_eq!((menu.boot_entries().len(), xen), (10, 5));
    }

    #[test]
    fn the_next_boot_is_chosen_as_grub_does_it() {
        let advanced = format!("gnulinux-advanced-{UUID}>gnulinux-6.1.0-37-amd64-advanced-{UUID}");
        let older = "Debian GNU/Linux, with Linux 6.1.0-37-amd64";
        let newer = "Debian GNU/Linux, with Linux 6.1.0-38-amd64";
        let cases: &[(&str, &str, &str, Choice, bool)] = &[
            ("", "", "Debian GNU/Linux", Choice::Saved, false),
            ("0", "", "Debian GNU/Linux", Choice::Saved, false),
            ("1", "", newer, Choice::Saved, false),
            ("1>2", "", older, Choice::Saved, false),
            (&advanced, "", older, Choice::Saved, false),
            ("Advanced options for Debian GNU/Linux>2", "", older, Choice::Saved, false),
            ("gone", "", "Debian GNU/Linux", Choice::Saved, true),
            ("1>gone", "", newer, Choice::Saved, true),
            ("9", "", "Debian GNU/Linux", Choice::Saved, true),
            ("0", "1>2", older, Choice::Once, false),
        ];
        let menu = GrubCfg::parse(SAVED).unwrap();
        for (saved, once, title, choice, missing) in cases {
            let next = environment(&[("saved_entry", saved), ("next_entry", once)]);
            let next = menu.next_boot(&next).unwrap();
            let found = (next.entry.title.as_str(), next.choice, next.missing.is_some());
            assert_eq!(found, (*title, *choice, *missing), "{saved} {once}");
        }
        let menu = GrubCfg::parse(DEBIAN).unwrap();
        assert_eq!(menu.next_boot(&environment(&[("saved_entry", "1")])).unwrap().choice, Choice::Default);
        let escaped =
            GrubCfg::parse("set default='a>>b'\nmenuentry x { linux /k }\nmenuentry 'a>b' { linux /k q; }").unwrap();
        assert_eq!(escaped.next_boot(&GrubEnv::default()).unwrap().entry.title, "a>b");
        let corrected = "set default=old\nmenuentry a { linux /k }\nsubmenu b { menuentry c { linux /k }; menuentry d { linux /k } }\n\
                         if [ \"x$default\" = 'xold' ]; then default='b>d'; fi;if [ x$default = no ]; then default=x; fi";
        let corrected = GrubCfg::parse(corrected).unwrap();
        assert_eq!(corrected.next_boot(&GrubEnv::default()).unwrap().path, ["b", "d"]);
        let computed = GrubCfg::parse("set default=\"${x}\"\nmenuentry x { true\n}").unwrap();
        assert!(matches!(computed.next_boot(&GrubEnv::default()), Err(NextBootError::Computed(_))));
        assert_eq!(GrubCfg::parse("").unwrap().next_boot(&GrubEnv::default()), Err(NextBootError::NoEntries));
        let bls = GrubCfg::parse("insmod blscfg\nblscfg\n").unwrap();
        assert_eq!(bls.next_boot(&GrubEnv::default()), Err(NextBootError::Bls));
    }

    #[test]
    fn every_entry_but_recovery_is_compared() {
        let menu = GrubCfg::parse(SAVED).unwrap();
        let request = |parameters: &[&str]| Request::new(Target::Linux, parameters, &[]).unwrap().0;
        let there = request(&["default_hugepagesz=1G", "hugepagesz=1G", "hugepages=4"]);
        assert_eq!(menu.differences(Target::Linux, &there), []);
        let missing = menu.differences(Target::Linux, &request(&["hugepages=9"]));
        assert_eq!(missing.len(), 3);
        assert!(missing[0].to_string().starts_with("entry `Debian GNU/Linux` (linux): `default_hugepagesz=1G"));
        let menu = GrubCfg::parse(XEN).unwrap();
        let xen = Request::new(Target::Xen, &["dom0_max_vcpus=4"], &[]).unwrap().0;
        assert_eq!(menu.differences(Target::Xen, &xen), []);
        assert_eq!(menu.differences(Target::Linux, &request(&["x=1"])).len(), 6);
    }

    #[test]
    fn the_environment_block_is_read() {
        let block = format!("{:#<1024}", "# GRUB Environment Block\nsaved_entry=a>b\nnext_entry=\nx=a\\\\b\\\nc\n");
        let found = GrubEnv::parse(&block).unwrap();
        assert_eq!(found, environment(&[("saved_entry", "a>b"), ("next_entry", ""), ("x", "a\\b\nc")]));
        assert_eq!(GrubEnv::parse("saved_entry=1\n"), Err(GrubCfgError::NoEnvironment));
    }

    #[test]
    fn broken_files_are_told() {
        let cases = [
            ("menuentry 'x' {\n", "line 1: a block is not closed"),
            ("\n}", "line 2: `}` closes nothing"),
            ("menuentry 'x {\n}", "line 1: a `'` is not closed"),
            ("echo \"x", "line 1: a `\"` is not closed"),
            (&"submenu x {\n".repeat(20), "line 17: menus are nested too deep"),
        ];
        for (text, message) in cases {
            assert_eq!(GrubCfg::parse(text).unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), pieces in prop::collection::vec(
            prop::sample::select(vec!["menuentry ", "submenu ", "'t' ", "{", "}", "\n", "linux /k a", "\"", "$x", "${", "\\", "set default=", "1>", "0x", ";"]), 0..24))
        {
            for text in [text, pieces.concat()] {
                if let Ok(menu) = GrubCfg::parse(&text) {
                    let _ = menu.next_boot(&environment(&[("saved_entry", &text), ("next_entry", &text)]));
                    menu.boot_entries().iter().for_each(|entry| drop(entry.files()));
                }
                let _ = GrubEnv::parse(&text);
                find(&[], &text);
            }
        }
    }
}
