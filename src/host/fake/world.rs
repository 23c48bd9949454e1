//! [`World`]: the files, kernel values and units of a [`super::FakeHost`].

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::systemd::Unit;
use crate::host::{
    bytes::Bytes,
    op::Owner,
    path::AbsPath,
    read::{Answer, Meta, Output, Want},
    state::STATE_DIR,
};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File {
        /// Its content.
        content: Bytes,
        /// Its owner and mode.
        owner: Owner,
        /// Its extended attributes.
        xattrs: BTreeMap<String, Bytes>,
    },
    /// A symbolic link.
    Link {
        /// As written.
        target: String,
    },
    /// A directory.
    Directory {
        /// Its owner and mode.
        owner: Owner,
    },
    /// A device, socket or pipe.
    Special,
    /// Something that this reader may not read.
    Denied,
}

/// A value of the kernel, with how it takes what is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// Anything, shown as written.
    Plain(String),
    /// A number; what is out of range is refused (EINVAL), or brought into it.
    Integer {
        /// The number now.
        value: i128,
        /// The least.
        min: i128,
        /// The most.
        max: i128,
        /// Whether what is out of range is brought into it.
        clamps: bool,
    },
    /// One of several words, shown in brackets.
    Choice {
        /// All of them.
        choices: Vec<String>,
        /// The one now.
        current: String,
    },
    /// A pool of huge pages: the kernel gives what memory it has and reports no error.
    Pool {
        /// The number now.
        value: i128,
        /// The most that there is memory for.
        limit: i128,
    },
    /// A number that sets another value to 0 when it is written, as `dirty_bytes` does `dirty_ratio` (mm/page-writeback.c).
    Coupled {
        /// The number now.
        value: i128,
        /// The other value.
        zeroes: AbsPath,
    },
    /// A number that cannot be changed (EBUSY) while another value is not 0, as ksm's `merge_across_nodes` while
    /// `pages_shared` is not (mm/ksm.c).
    Busy {
        /// The number now.
        value: i128,
        /// The other value.
        unless_zero: AbsPath,
    },
    /// A value that cannot be written.
    ReadOnly(String),
}

impl Live {
    /// A number between two others; anything else is refused.
    #[must_use]
    pub fn integer(value: i128, min: i128, max: i128) -> Self {
        Self::Integer { value, min, max, clamps: false }
    }

    /// A choice; the current one is written in brackets: `always [madvise] never`.
    #[must_use]
    pub fn choice(shown: &str) -> Self {
        let bare = |word: &str| word.trim_matches(['[', ']']).to_string();
        let current = shown.split_whitespace().find(|word| word.starts_with('[')).map(bare).unwrap_or_default();
        Self::Choice { choices: shown.split_whitespace().map(bare).collect(), current }
    }

    /// Returns what a read shows.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Plain(text) | Self::ReadOnly(text) => format!("{text}\n"),
            Self::Integer { value, .. }
            | Self::Pool { value, .. }
            | Self::Coupled { value, .. }
            | Self::Busy { value, .. } => format!("{value}\n"),
            Self::Choice { choices, current } => {
                let show = |word: &String| if word == current { format!("[{word}]") } else { word.clone() };
                let words: Vec<String> = choices.iter().map(show).collect();
                format!("{}\n", words.join(" "))
            }
        }
    }
}

/// The files, kernel values and units of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// What stands at each path, directories included.
    pub nodes: BTreeMap<AbsPath, Node>,
    /// The values of the kernel.
    pub live: BTreeMap<AbsPath, Live>,
    /// What systemd knows of its units, beyond their files.
    pub units: BTreeMap<String, Unit>,
    /// Whether there is a systemd.
    pub has_systemd: bool,
}

impl World {
    /// Makes a world with the usual directories and a systemd without units.
    #[must_use]
    pub fn new() -> Self {
        let mut world = Self { has_systemd: true, ..Self::default() };
        for path in ["/etc", "/boot", "/dev", "/proc", "/sys", "/run", "/tmp", "/usr/lib", "/var/lib"] {
            world.make_directories(&AbsPath::known(path));
        }
        world
    }

    /// Puts a file of root, mode 0644, with the directories above it.
    ///
    /// # Panics
    /// Panics if the path is no path: a mistake in a test.
    pub fn file(&mut self, path: &str, content: impl Into<Bytes>) -> &mut Self {
        self.place(path, Node::File { content: content.into(), owner: Owner::root(0o644), xattrs: BTreeMap::new() })
    }

    /// Puts a link, with the directories above it.
    ///
    /// # Panics
    /// As [`World::file`].
    pub fn link(&mut self, path: &str, target: &str) -> &mut Self {
        self.place(path, Node::Link { target: target.into() })
    }

    /// Puts anything, with the directories above it.
    ///
    /// # Panics
    /// As [`World::file`].
    pub fn place(&mut self, path: &str, node: Node) -> &mut Self {
        let path = AbsPath::known(path);
        if let Some(parent) = path.parent() {
            self.make_directories(&parent);
        }
        self.nodes.insert(path, node);
        self
    }

    /// Puts a value of the kernel.
    ///
    /// # Panics
    /// As [`World::file`].
    pub fn value(&mut self, path: &str, live: Live) -> &mut Self {
        let path = AbsPath::known(path);
        if let Some(parent) = path.parent() {
            self.make_directories(&parent);
        }
        self.live.insert(path, live);
        self
    }

    /// Makes a directory and all above it.
    pub fn make_directories(&mut self, path: &AbsPath) {
        if self.nodes.contains_key(path) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.make_directories(&parent);
        }
        self.nodes.insert(path.clone(), Node::Directory { owner: Owner::root(0o755) });
    }

    /// Returns the content of a file or value, links followed.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let path = AbsPath::new(path).ok()?;
        self.answer(&path, true, Want::Content).text().map(String::from)
    }

    /// Finds the path without links that a path stands for; `None` if a directory on the way is missing. Without `follow` a
    /// link as last component stands for itself.
    #[must_use]
    pub fn resolve(&self, path: &AbsPath, follow: bool) -> Option<AbsPath> {
        let reversed = |text: &str| -> Vec<String> {
            text.split('/').rev().filter(|part| !part.is_empty() && *part != ".").map(String::from).collect()
        };
        let mut todo = reversed(path.as_str());
        let mut here = AbsPath::known("/");
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                here = here.parent().unwrap_or(here);
                continue;
            }
            let next = here.join(&part).ok()?;
            match self.nodes.get(&next) {
                Some(Node::Link { target }) if follow || !todo.is_empty() => {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    if target.starts_with('/') {
                        here = AbsPath::known("/");
                    }
                    todo.extend(reversed(target));
                    continue;
                }
                Some(Node::Directory { .. }) => {}
                _ if todo.is_empty() => {}
                _ => return None,
            }
            here = next;
        }
        Some(here)
    }

    /// Returns the sorted names in a directory (without links on the way).
    #[must_use]
    pub fn names_in(&self, directory: &AbsPath) -> BTreeSet<String> {
        let prefix = if directory.as_str() == "/" { "/".to_string() } else { format!("{directory}/") };
        let from = |path: &AbsPath| -> Option<String> {
            let rest = path.as_str().strip_prefix(&prefix)?;
            (!rest.is_empty() && !rest.contains('/')).then(|| rest.to_string())
        };
        let below = |path: &&AbsPath| path.as_str().starts_with(&prefix);
        let from_prefix = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let nodes = self.nodes.range::<str, _>(from_prefix).map(|(path, _)| path).take_while(below);
        let live = self.live.range::<str, _>(from_prefix).map(|(path, _)| path).take_while(below);
        nodes.chain(live).filter_map(from).collect()
    }

    /// Answers what stands at a path.
    #[must_use]
    pub fn answer(&self, path: &AbsPath, follow: bool, want: Want) -> Answer {
        let Some(path) = self.resolve(path, follow) else { return Answer::Absent };
        let meta = |owner: &Owner| Meta { mode: owner.mode, uid: owner.uid, gid: owner.gid, mtime: 0 };
        let file = |content: &Bytes, owner: &Owner| Answer::File {
            meta: meta(owner),
            digest: (want != Want::Meta).then(|| content.digest()),
            content: (want == Want::Content).then(|| content.clone()),
        };
        if let Some(live) = self.live.get(&path) {
            return file(&live.text().into(), &Owner::root(0o644));
        }
        match self.nodes.get(&path) {
            None => Answer::Absent,
            Some(Node::Denied) => Answer::Denied,
            Some(Node::Special) => Answer::Special { meta: meta(&Owner::root(0o600)) },
            Some(Node::Link { target }) => Answer::Link { meta: meta(&Owner::root(0o777)), target: target.clone() },
            Some(Node::Directory { owner }) => Answer::Directory {
                meta: meta(owner),
                names: (want == Want::Content).then(|| self.names_in(&path).into_iter().collect()),
            },
            Some(Node::File { content, owner, .. }) => file(content, owner),
        }
    }

    /// Writes a value as the kernel takes it.
    ///
    /// # Errors
    /// Fails with the words of the errno that the kernel gives.
    pub fn poke(&mut self, path: &AbsPath, text: &str) -> Result<(), String> {
        let path = self.resolve(path, true).ok_or("No such file or directory")?;
        let number = crate::host::matcher::integer(text).ok_or("Invalid argument");
        let zero = |world: &Self, path: &AbsPath| world.live.get(path).is_none_or(|live| live.text().trim() == "0");
        let is_zero = match self.live.get(&path) {
            Some(Live::Busy { unless_zero, .. }) => zero(self, unless_zero),
            _ => true,
        };
        let mut zeroed = None;
        match self.live.get_mut(&path).ok_or("No such file or directory")? {
            Live::Plain(value) => *value = text.trim().into(),
            Live::Integer { value, min, max, clamps } => {
                let number = number?;
                let fitting = number.clamp(*min, *max);
                if fitting != number && !*clamps {
                    return Err("Invalid argument".into());
                }
                *value = fitting;
            }
            Live::Choice { choices, current } => {
                let word = text.trim();
                if !choices.iter().any(|choice| choice == word) {
                    return Err("Invalid argument".into());
                }
                *current = word.into();
            }
            Live::Pool { value, limit } => *value = number?.clamp(0, *limit),
            Live::Coupled { value, zeroes } => {
                *value = number?;
                zeroed = (*value != 0).then(|| zeroes.clone());
            }
            Live::Busy { value, .. } => {
                let number = number?;
                if number != *value && !is_zero {
                    return Err("Device or resource busy".into());
                }
                *value = number;
            }
            Live::ReadOnly(_) => return Err("Permission denied".into()),
        }
        if let Some(Live::Coupled { value, .. } | Live::Integer { value, .. }) =
            zeroed.and_then(|path| self.live.get_mut(&path))
        {
            *value = 0;
        }
        Ok(())
    }

    /// Says in what two worlds differ; times and the state of vprov do not count.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        fn compare<K: Ord + ToString, V: PartialEq + std::fmt::Debug>(
            a: &BTreeMap<K, V>,
            b: &BTreeMap<K, V>,
            told: &mut Vec<String>,
        ) {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                if a.get(key) != b.get(key) {
                    told.push(format!("{}: {:?} and {:?}", key.to_string(), a.get(key), b.get(key)));
                }
            }
        }
        let state = AbsPath::known(STATE_DIR);
        let own = |world: &Self| -> BTreeMap<AbsPath, Node> {
            let foreign = world.nodes.iter().filter(|(path, _)| !path.is_within(&state));
            foreign.map(|(path, node)| (path.clone(), node.clone())).collect()
        };
        let mut told = vec![];
        compare(&own(self), &own(other), &mut told);
        compare(&self.live, &other.live, &mut told);
        compare(&self.units, &other.units, &mut told);
        told
    }
}

/// A model of `grub-mkconfig` and `grub2-mkconfig` (`-o FILE`, else the standard output): one entry and one recovery entry for each
/// kernel in /boot, with what /etc/default/grub and /etc/default/grub.d/*.cfg say, in their order, as the shell reads it.
pub fn grub_mkconfig(world: &mut World, argv: &[String]) -> Output {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let directory = AbsPath::known("/etc/default/grub.d");
    let snippets = world.names_in(&directory).into_iter().filter(|name| name.ends_with(".cfg"));
    let files =
        std::iter::once("/etc/default/grub".to_string()).chain(snippets.map(|name| format!("{directory}/{name}")));
    for text in files.filter_map(|path| world.text(&path)) {
        for line in text.lines() {
            if let Some((name, value)) = line.trim().split_once('=')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                let value = unquote(value, &variables);
                variables.insert(name.into(), value);
            }
        }
    }
    let get = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let words = |parts: [String; 2]| parts.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let linux = words([get("GRUB_CMDLINE_LINUX"), get("GRUB_CMDLINE_LINUX_DEFAULT")]);
    let xen = words([get("GRUB_CMDLINE_XEN"), get("GRUB_CMDLINE_XEN_DEFAULT")]);
    let replaced = get("GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT");
    let boot = world.names_in(&AbsPath::known("/boot"));
    let kernels: Vec<&String> = boot.iter().filter(|name| name.starts_with("vmlinuz")).rev().collect();
    let mut text = "# generated\n### BEGIN /etc/grub.d/10_linux ###\n".to_string();
    for kernel in &kernels {
        text += &format!("menuentry 'Linux {kernel}' {{\n\tlinux\t/boot/{kernel} root=/dev/vda1 ro {linux}\n}}\n");
        let base = get("GRUB_CMDLINE_LINUX");
        text += &format!(
            "menuentry 'Linux {kernel} (recovery mode)' {{\n\tlinux\t/boot/{kernel} root=/dev/vda1 ro single {base}\n}}\n"
        );
    }
    text += "### END /etc/grub.d/10_linux ###\n### BEGIN /etc/grub.d/20_linux_xen ###\n";
    for hypervisor in boot.iter().filter(|name| name.starts_with("xen") && name.ends_with(".gz")) {
        for kernel in &kernels {
            let line = if replaced.is_empty() { &linux } else { &replaced };
            text += &format!(
                "menuentry 'Xen {hypervisor}, {kernel}' {{\n\tmultiboot2\t/boot/{hypervisor} placeholder {xen}\n\
                 \tmodule2\t/boot/{kernel} placeholder root=/dev/vda1 ro {line}\n}}\n"
            );
        }
    }
    text += "### END /etc/grub.d/20_linux_xen ###\n";
    let output = |status, stdout: Bytes, stderr: &str| Output { status, stdout, stderr: stderr.into() };
    match argv.iter().position(|word| word == "-o").and_then(|at| argv.get(at + 1)) {
        None => output(0, text.into(), ""),
        Some(file) => match AbsPath::new(file.clone()) {
            Ok(file) => {
                world.file(file.as_str(), text);
                output(0, Bytes::default(), "")
            }
            Err(error) => output(1, Bytes::default(), &error.to_string()),
        },
    }
}

/// Reads a value as the shell does: quotes taken away, `$NAME` and `${NAME}` put in outside single quotes.
fn unquote(value: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let mut quote = None;
    let mut rest = value.chars().peekable();
    while let Some(character) = rest.next() {
        match (character, quote) {
            ('\'' | '"', None) => quote = Some(character),
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => text.extend(rest.next()),
            ('$', None | Some('"')) => {
                let braced = rest.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braced {
                    rest.next_if_eq(&'}');
                }
                text += variables.get(&name).map_or("", String::as_str);
            }
            (c, None) if c.is_whitespace() || c == '#' => break,
            (c, _) => text.push(c),
        }
    }
    text
}
