//! Command lines of the Linux kernel and of Xen: tokens, what they mean together, and edits that leave foreign tokens alone.
//!
//! A line is never compared as a whole: boot loaders add words of their own (`BOOT_IMAGE=`, `root=`), so only the keys that
//! are managed are compared, each group of keys as an ordered list ([`Group`]).

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

/// Most characters of one parameter that vprov writes (x86 kernels take 2,048 for the whole line, asm/setup.h).
const MAX_PARAMETER: usize = 1024;

/// Names of the parameters that form one ordered block (mm/hugetlb.c).
const HUGE_PAGE_NAMES: [&str; 3] = ["default_hugepagesz", "hugepagesz", "hugepages"];

/// Names that only Xen reads (xen-command-line); on the kernel's line they do nothing.
const XEN_ONLY: [&str; 4] = ["dom0_mem", "dom0_max_vcpus", "dom0_vcpus_pin", "dom0_nodes"];

/// Names that only Linux reads; Xen ignores them.
const LINUX_ONLY: [&str; 6] =
    ["default_hugepagesz", "hugepagesz", "hugepages", "transparent_hugepage", "numa_balancing", "isolcpus"];

/// Names that may stand on a line more than once, each occurrence with an effect (kernel-parameters.txt).
const REPEATABLE: [&str; 6] = ["console", "earlycon", "iommu", "intel_iommu", "pci", "hugepagesz"];

/// Whose command line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The Linux kernel, on a Xen host the one of dom0.
    Linux,
    /// The Xen hypervisor.
    Xen,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux => "linux",
            Self::Xen => "xen",
        })
    }
}

/// One parameter of a command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The token as it stands on the line, quotes included.
    pub text: String,
    /// The name with `-` as `_` (kernel/params.c: `parameq`).
    pub name: String,
    /// What follows the first `=`, quotes removed (lib/cmdline.c: `next_arg`).
    pub value: Option<String>,
}

impl Token {
    /// Takes one token as it stands on a line.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let unquoted = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
            None => text,
        };
        let (name, value) = match unquoted.find('=') {
            Some(at) if at > 0 => {
                let value = &unquoted[at + 1..];
                let value = match value.strip_prefix('"') {
                    Some(rest) => rest.strip_suffix('"').unwrap_or(rest),
                    None => value,
                };
                (&unquoted[..at], Some(value.to_owned()))
            }
            _ => (unquoted, None),
        };
        Self { text: text.to_owned(), name: name.replace('-', "_"), value }
    }

    /// Returns the group that the token is compared and replaced with.
    #[must_use]
    pub fn group(&self) -> Group {
        Group::of(&self.name)
    }

    /// Returns a form in which two tokens of one meaning are equal: sizes in bytes, names with `_`.
    #[must_use]
    pub fn canonical(&self) -> String {
        let Some(value) = &self.value else { return self.name.clone() };
        let value = match self.name.as_str() {
            "hugepagesz" | "default_hugepagesz" => size(value).map(|bytes| bytes.to_string()),
            "dom0_mem" => Dom0Mem::parse(value).ok().map(|memory| memory.canonical()),
            _ => None,
        }
        .unwrap_or_else(|| value.clone());
        format!("{}={value}", self.name)
    }
}

/// Parameters that are compared and replaced together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// `default_hugepagesz`, `hugepagesz` and `hugepages`: one ordered block.
    HugePages,
    /// All occurrences of one name, in their order.
    Name(String),
}

impl Group {
    /// Returns the group of a parameter name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let name = name.replace('-', "_");
        if HUGE_PAGE_NAMES.contains(&name.as_str()) { Self::HugePages } else { Self::Name(name) }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HugePages => "hugepages",
            Self::Name(name) => name,
        })
    }
}

/// A command line cut into tokens, with every byte between them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CommandLine {
    /// Each token with the white space before it.
    tokens: Vec<(String, Token)>,
    /// White space at the end, or ` -- ` and all that follows it, which belongs to init.
    rest: String,
}

impl CommandLine {
    /// Cuts a line into tokens. Any text is a command line.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0;
        loop {
            let tail = &line[at..];
            let Some(begin) = tail.find(|c: char| !is_space(c)) else {
                return Self { tokens, rest: tail.to_owned() };
            };
            let mut quoted = false;
            let word = &tail[begin..];
            let end = word
                .find(|c: char| {
                    quoted ^= c == '"';
                    !quoted && is_space(c)
                })
                .unwrap_or(word.len());
            let text = &word[..end];
            if text == "--" {
                return Self { tokens, rest: tail.to_owned() };
            }
            tokens.push((tail[..begin].to_owned(), Token::new(text)));
            at += begin + end;
        }
    }

    /// Returns the kernel's tokens in their order; those after ` -- ` are init's and not among them.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().map(|(_, token)| token)
    }

    /// Returns the tokens of one group in their order.
    #[must_use]
    pub fn group(&self, group: &Group) -> Vec<Token> {
        self.tokens().filter(|token| token.group() == *group).cloned().collect()
    }

    /// Removes the tokens that `gone` names, and puts `new` where the first of them stood, else at the end.
    fn replace(&mut self, gone: impl Fn(&Token) -> bool, new: &[Token]) {
        let place = self.tokens.iter().position(|(_, token)| gone(token));
        let mut kept = Vec::with_capacity(self.tokens.len() + new.len());
        // White space of a removed token goes with it, but for that at the begin of the line.
        let mut lead = None;
        let insert = |kept: &mut Vec<(String, Token)>, lead: &mut Option<String>, first: Option<&str>| {
            for (index, token) in new.iter().enumerate() {
                let space = match (index, kept.is_empty(), first) {
                    (0, true, _) => lead.take().or(first.map(str::to_owned)).unwrap_or_default(),
                    (0, false, Some(first)) => first.to_owned(),
                    _ => " ".to_owned(),
                };
                kept.push((space, token.clone()));
            }
        };
        for (index, (space, token)) in std::mem::take(&mut self.tokens).into_iter().enumerate() {
            if Some(index) == place {
                insert(&mut kept, &mut lead, Some(&space));
            }
            if gone(&token) {
                if kept.is_empty() && lead.is_none() {
                    lead = Some(space);
                }
            } else if kept.is_empty() {
                kept.push((lead.take().unwrap_or(space), token));
            } else {
                kept.push((space, token));
            }
        }
        if place.is_none() {
            insert(&mut kept, &mut lead, None);
        }
        self.tokens = kept;
        if !self.rest.is_empty() && !self.rest.starts_with(is_space) && !self.tokens.is_empty() {
            self.rest.insert(0, ' ');
        }
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (space, token) in &self.tokens {
            write!(f, "{space}{}", token.text)?;
        }
        f.write_str(&self.rest)
    }
}

/// What somebody wants gone from a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Absent {
    /// Every token of the group.
    Group(Group),
    /// The tokens that are equal to this one, in canonical form.
    Token(String),
}

impl Absent {
    /// Tells whether a token is one of those.
    #[must_use]
    pub fn matches(&self, token: &Token) -> bool {
        match self {
            Self::Group(group) => token.group() == *group,
            Self::Token(canonical) => token.canonical() == *canonical,
        }
    }
}

/// What is wanted of one command line: parameters that must be there and others that must not.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Request {
    parameters: Vec<Token>,
    absent: Vec<Absent>,
}

/// What is not wrong but should be known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// The parameter as it was written.
    pub parameter: String,
    /// One sentence without a final period.
    pub text: String,
}

/// Why a parameter is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The parameter is empty, `--` or begins with `=`.
    #[error("`{0}` is no kernel parameter")]
    NoParameter(String),
    /// The parameter is too long.
    #[error("a parameter of {0} characters is too long; at most {MAX_PARAMETER} are possible")]
    TooLong(usize),
    /// A character would be read as syntax by GRUB or the shell.
    #[error(
        "{character:?} in `{parameter}` would be syntax in the boot loader's files; only letters, digits and `_.,:=/%+@-` are possible"
    )]
    Character {
        /// The parameter as it was written.
        parameter: String,
        /// The first character that is not possible.
        character: char,
    },
    /// The parameter has no effect on the line it was put on.
    #[error("`{name}` belongs to {owner}'s line and does nothing on {other}'s; declare it with `target: {target}`")]
    WrongLine {
        /// The parameter's name.
        name: String,
        /// Who reads the parameter.
        owner: &'static str,
        /// Who does not.
        other: &'static str,
        /// The target that takes it.
        target: Target,
    },
    /// The boot loader writes the parameter itself.
    #[error("`{0}` is written by the boot loader itself")]
    BootLoader(String),
    /// The value is none that the kernel or Xen takes.
    #[error("`{parameter}`: {reason}")]
    Value {
        /// The parameter as it was written.
        parameter: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The huge-page parameters make no valid block together.
    #[error(transparent)]
    HugePages(#[from] HugePageError),
    /// The same parameter is both wanted and not.
    #[error("`{0}` is in `parameters` and in `absent`")]
    Contradiction(String),
    /// One parameter of the huge-page block cannot go alone.
    #[error("`{0}`: huge-page parameters are one ordered block; write `hugepages` without a value to remove all of it")]
    PartOfBlock(String),
}

impl Request {
    /// Checks what was declared for one line.
    ///
    /// `parameters` are in the order in which they shall stand; each of `absent` is a name (all its occurrences) or
    /// `name=value` (that one). A group in `parameters` is owned: other values of it are replaced.
    ///
    /// # Errors
    /// The first parameter that cannot be accepted.
    pub fn new<S: AsRef<str>>(
        target: Target,
        parameters: &[S],
        absent: &[S],
    ) -> Result<(Self, Vec<Advice>), ParameterError> {
        let mut advice = Vec::new();
        let mut tokens = Vec::new();
        for parameter in parameters {
            let token = acceptable(parameter.as_ref())?;
            advice.extend(check_value(target, &token)?);
            tokens.push(token);
        }
        HugePageBlock::parse(tokens.iter().filter(|token| token.group() == Group::HugePages))?;
        for (index, token) in tokens.iter().enumerate() {
            let again = tokens[..index].iter().any(|earlier| earlier.name == token.name);
            if again && token.group() != Group::HugePages && !REPEATABLE.contains(&token.name.as_str()) {
                advice.push(Advice {
                    parameter: token.text.clone(),
                    text: format!("`{}` is given more than once; for most parameters the last one wins", token.name),
                });
            }
        }
        let mut gone = Vec::new();
        for parameter in absent {
            let token = acceptable(parameter.as_ref())?;
            if token.group() == Group::HugePages && token.value.is_some() {
                return Err(ParameterError::PartOfBlock(token.text));
            }
            let entry = match token.value {
                Some(_) => Absent::Token(token.canonical()),
                None => Absent::Group(token.group()),
            };
            if tokens.iter().any(|wanted| entry.matches(wanted)) {
                return Err(ParameterError::Contradiction(token.text));
            }
            gone.push(entry);
        }
        Ok((Self { parameters: tokens, absent: gone }, advice))
    }

    /// Returns the request that takes back this one: each of its parameters is absent, and nothing is wanted.
    #[must_use]
    pub fn reverted(&self) -> Self {
        let absent = self.parameters.iter().map(|token| Absent::Token(token.canonical())).collect();
        Self { parameters: Vec::new(), absent }
    }

    /// Returns the wanted parameters in their order.
    #[must_use]
    pub fn parameters(&self) -> &[Token] {
        &self.parameters
    }

    /// Returns what must not be on the line.
    #[must_use]
    pub fn absent(&self) -> &[Absent] {
        &self.absent
    }

    /// Returns the huge pages that are wanted, to be compared with the memory of the host.
    #[must_use]
    pub fn huge_pages(&self) -> Option<HugePageBlock> {
        let block = HugePageBlock::parse(&self.parameters).ok()?;
        (block != HugePageBlock::default()).then_some(block)
    }

    /// Tells whether nothing is wanted and nothing unwanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.absent.is_empty()
    }

    /// Returns the wanted groups in the order of their first parameter.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut seen = BTreeSet::new();
        self.parameters.iter().map(Token::group).filter(|group| seen.insert(group.clone())).collect()
    }

    /// Returns the wanted tokens of one group in their order.
    #[must_use]
    pub fn group(&self, group: &Group) -> Vec<Token> {
        self.parameters.iter().filter(|token| token.group() == *group).cloned().collect()
    }

    /// Returns what a line lacks; empty when it is as wanted.
    #[must_use]
    pub fn differences(&self, line: &CommandLine) -> Vec<Difference> {
        let groups = self.groups().into_iter().filter_map(|group| {
            let (wanted, found) = (self.group(&group), line.group(&group));
            (!same(&group, &wanted, &found)).then(|| Difference { group, wanted: texts(&wanted), found: texts(&found) })
        });
        let unwanted = line.tokens().filter(|token| self.absent.iter().any(|absent| absent.matches(token)));
        let unwanted =
            unwanted.map(|token| Difference { group: token.group(), wanted: vec![], found: vec![token.text.clone()] });
        groups.chain(unwanted).collect()
    }

    /// Keeps only the groups that `keep` takes; what is absent stays.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Group) -> bool) -> Self {
        let parameters = self.parameters.iter().filter(|token| keep(&token.group())).cloned().collect();
        Self { parameters, absent: self.absent.clone() }
    }

    /// Returns the request that removes the given groups, and what this one wants absent.
    #[must_use]
    pub fn without(&self, groups: &[Group]) -> Self {
        let absent = self.absent.iter().cloned().chain(groups.iter().cloned().map(Absent::Group)).collect();
        Self { parameters: Vec::new(), absent }
    }
}

/// A group of parameters that is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The parameters that it is about.
    pub group: Group,
    /// The tokens that should be there, in order.
    pub wanted: Vec<String>,
    /// The tokens that are there, in order.
    pub found: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |tokens: &[String]| match tokens {
            [] => "nothing".to_owned(),
            tokens => format!("`{}`", tokens.join(" ")),
        };
        write!(f, "{} instead of {}", list(&self.found), list(&self.wanted))
    }
}

/// Changes a line as wanted. Tokens of others keep their bytes and order; a group that already is as wanted is not touched.
///
/// A group that differs is replaced as a whole where its first token stood, else put at the end, before ` -- `.
#[must_use]
pub fn edit(line: &str, request: &Request) -> String {
    let edited = edit_closed(line, request);
    // What would stand behind a quote that is not closed would be part of it; the kernel closes it at the end of the line.
    if edited == line || line.matches('"').count().is_multiple_of(2) {
        edited
    } else {
        edit_closed(&format!("{line}\""), request)
    }
}

fn edit_closed(line: &str, request: &Request) -> String {
    let mut line = CommandLine::parse(line);
    if request.absent.iter().any(|absent| line.tokens().any(|token| absent.matches(token))) {
        line.replace(|token| request.absent.iter().any(|absent| absent.matches(token)), &[]);
    }
    for group in request.groups() {
        let wanted = request.group(&group);
        if !same(&group, &wanted, &line.group(&group)) {
            line.replace(|token| token.group() == group, &wanted);
        }
    }
    line.to_string()
}

/// Tells whether two lists of tokens of one group have one meaning.
fn same(group: &Group, wanted: &[Token], found: &[Token]) -> bool {
    let canonical = |tokens: &[Token]| tokens.iter().map(Token::canonical).collect::<Vec<_>>();
    canonical(wanted) == canonical(found)
        || *group == Group::HugePages
            && !wanted.is_empty()
            && !found.is_empty()
            && matches!(
                (HugePageBlock::parse(wanted), HugePageBlock::parse(found)),
                (Ok(wanted), Ok(found)) if wanted.same_effect(&found)
            )
}

fn texts(tokens: &[Token]) -> Vec<String> {
    tokens.iter().map(|token| token.text.clone()).collect()
}

/// White space as the kernel has it (`isspace`, Latin-1 aside).
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Takes a parameter that vprov is to write, if no boot loader would read syntax in it.
fn acceptable(text: &str) -> Result<Token, ParameterError> {
    if text.len() > MAX_PARAMETER {
        return Err(ParameterError::TooLong(text.len()));
    }
    let possible = |c: char| c.is_ascii_alphanumeric() || "_.,:=/%+@-".contains(c);
    if let Some(character) = text.chars().find(|&c| !possible(c)) {
        return Err(ParameterError::Character { parameter: text.to_owned(), character });
    }
    if text.is_empty() || text.starts_with('=') || text.bytes().all(|byte| byte == b'-') {
        return Err(ParameterError::NoParameter(text.to_owned()));
    }
    Ok(Token::new(text))
}

/// Checks what is known of a parameter's value and place.
fn check_value(target: Target, token: &Token) -> Result<Option<Advice>, ParameterError> {
    let name = token.name.as_str();
    let wrong = |reason: String| Err(ParameterError::Value { parameter: token.text.clone(), reason });
    let one_of = |values: &[&str]| match &token.value {
        Some(value) if values.contains(&value.as_str()) => Ok(None),
        _ => wrong(format!("the value is one of `{}`", values.join("`, `"))),
    };
    let advise = |text: &str| Ok(Some(Advice { parameter: token.text.clone(), text: text.to_owned() }));
    match (target, name) {
        (Target::Linux, name) if XEN_ONLY.contains(&name) => {
            Err(ParameterError::WrongLine { name: name.to_owned(), owner: "Xen", other: "Linux", target: Target::Xen })
        }
        (Target::Xen, name) if LINUX_ONLY.contains(&name) => Err(ParameterError::WrongLine {
            name: name.to_owned(),
            owner: "Linux",
            other: "Xen",
            target: Target::Linux,
        }),
        (_, "BOOT_IMAGE" | "initrd" | "placeholder") => Err(ParameterError::BootLoader(token.text.clone())),
        (Target::Linux, "root" | "ro" | "rw") => {
            advise("the boot loader writes this parameter too; of two the last one wins")
        }
        // mm/huge_memory.c: setup_transparent_hugepage.
        (Target::Linux, "transparent_hugepage") => one_of(&["always", "madvise", "never"]),
        // kernel-parameters.txt.
        (Target::Linux, "numa_balancing") => one_of(&["enable", "disable"]),
        // block/elevator.c: the parameter is only there to warn.
        (Target::Linux, "elevator") => {
            advise("this parameter has no effect since Linux 5.0; use `io_scheduler` for the devices")
        }
        (Target::Xen, "dom0_mem") => match Dom0Mem::parse(token.value.as_deref().unwrap_or("")) {
            Err(error) => wrong(error.to_string()),
            Ok(memory) if !memory.has_units() => {
                wrong("a size without a unit is read as KiB by Xen; write `M` or `G` behind it".into())
            }
            Ok(memory) if memory.max.is_none() => {
                advise("without `max:` dom0 can balloon up to the whole memory; `dom0_mem=4G,max:4G` is the safe form")
            }
            Ok(_) => Ok(None),
        },
        (Target::Xen, "dom0_max_vcpus") => match parse_dom0_max_vcpus(token.value.as_deref().unwrap_or("")) {
            Some(_) => Ok(None),
            None => wrong("the value is a number, or `MIN-MAX` where one of both may be left out".into()),
        },
        _ => Ok(None),
    }
}

/// Reads a number as the kernel's `memparse` does: decimal, `0x` or octal, one of `KMGTPE` in either case.
///
/// Returns the bytes and what follows, which the kernel ignores; `None` if there is no number or it does not fit.
#[must_use]
pub fn memparse(text: &str) -> Option<(u64, &str)> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (digits, 16),
        _ if text.starts_with('0') => (text, 8),
        _ => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let number = u64::from_str_radix(&digits[..end], radix).ok()?;
    let rest = &digits[end..];
    let shift = match rest.bytes().next().map(|byte| byte.to_ascii_uppercase()) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(b'P') => 50,
        Some(b'E') => 60,
        _ => return Some((number, rest)),
    };
    Some((number.checked_mul(1 << shift)?, &rest[1..]))
}

/// Returns the bytes that the kernel reads from a size; `2M`, `2m`, `2MB` and `2048K` are equal.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    memparse(text).map(|(bytes, _)| bytes)
}

/// Writes a size in the largest unit that leaves no fraction, as `memparse` reads it.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    let units = [(60, "E"), (50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K")];
    match units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// How many pages of a size are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageCount {
    /// Spread over the nodes by the kernel.
    Total(u64),
    /// Node and count, in the order written (since Linux 5.16).
    PerNode(Vec<(u32, u64)>),
}

impl PageCount {
    /// Returns the number of pages on all nodes together; `None` if it does not fit.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        match self {
            Self::Total(count) => Some(*count),
            Self::PerNode(nodes) => nodes.iter().try_fold(0u64, |sum, (_, count)| sum.checked_add(*count)),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| (!text.starts_with('+')).then(|| text.parse::<u64>().ok()).flatten();
        if !text.contains(':') {
            return number(text).map(Self::Total);
        }
        let nodes = text.split(',').map(|part| {
            let (node, count) = part.split_once(':')?;
            Some((u32::try_from(number(node)?).ok()?, number(count)?))
        });
        nodes.collect::<Option<_>>().map(Self::PerNode)
    }

    fn write(&self) -> String {
        match self {
            Self::Total(count) => count.to_string(),
            Self::PerNode(nodes) => {
                nodes.iter().map(|(node, count)| format!("{node}:{count}")).collect::<Vec<_>>().join(",")
            }
        }
    }
}

/// One pool of huge pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Bytes of a page; `None` is the default size of the kernel.
    pub size: Option<u64>,
    /// How many pages.
    pub count: PageCount,
}

/// The huge-page parameters of a line, which only mean something together and in order (mm/hugetlb.c: `hugepages_setup`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HugePageBlock {
    /// `default_hugepagesz` in bytes.
    pub default_size: Option<u64>,
    /// The pools in the order written, each size once.
    pub pools: Vec<Pool>,
}

/// Why huge-page parameters make no valid block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HugePageError {
    /// A size is no power of two, or no size.
    #[error("`{0}` names no page size; sizes are powers of two like `2M` or `1G`")]
    Size(String),
    /// A count is no count.
    #[error("`{0}` is no count of pages; write `hugepages=N`, or `hugepages=NODE:N,NODE:N` for single nodes")]
    Count(String),
    /// `default_hugepagesz` stands twice.
    #[error("`{0}` is the second default size; the kernel takes the first and ignores this one")]
    SecondDefault(String),
    /// A size stands twice.
    #[error("`{0}` names a size for the second time; the kernel ignores it and the count behind it")]
    SecondSize(String),
    /// A count follows a count.
    #[error("`{0}` follows another count without a `hugepagesz=` between them; the kernel ignores it")]
    SecondCount(String),
    /// A size has no count behind it.
    #[error("`{0}` has no `hugepages=` behind it; the count belongs to the size that precedes it")]
    NoCount(String),
    /// A node stands twice in one count.
    #[error("`{0}` names a node twice")]
    SecondNode(String),
}

impl HugePageBlock {
    /// Reads the block from the tokens of a line; tokens of other parameters are passed over.
    ///
    /// # Errors
    /// What the kernel would ignore or give to another size than meant is an error.
    pub fn parse<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> Result<Self, HugePageError> {
        let mut block = Self::default();
        // The `hugepagesz=` that waits for its count, or the default size after `default_hugepagesz=`.
        let mut open: Option<(Option<u64>, &Token)> = None;
        let mut last_was_count = false;
        let mut default_first = None;
        for token in tokens {
            let value = token.value.as_deref().unwrap_or("");
            let page_size = || {
                let bytes = memparse(value).filter(|(bytes, rest)| {
                    bytes.is_power_of_two() && *bytes >= 4096 && matches!(*rest, "" | "B" | "b" | "iB")
                });
                bytes.map(|(bytes, _)| bytes).ok_or_else(|| HugePageError::Size(token.text.clone()))
            };
            match token.name.as_str() {
                "default_hugepagesz" => {
                    let bytes = page_size()?;
                    if block.default_size.is_some() {
                        return Err(HugePageError::SecondDefault(token.text.clone()));
                    }
                    if let Some((_, size)) = open.take() {
                        return Err(HugePageError::NoCount(size.text.clone()));
                    }
                    block.default_size = Some(bytes);
                    // A count that stood first was meant for the default size, which is known only now.
                    if let Some(pool) = block.pools.iter_mut().find(|pool| pool.size.is_none()) {
                        pool.size = Some(bytes);
                        default_first = Some(bytes);
                        let twice = block.pools.iter().filter(|pool| pool.size == Some(bytes)).count() > 1;
                        if twice {
                            return Err(HugePageError::SecondSize(token.text.clone()));
                        }
                    }
                    last_was_count = false;
                }
                "hugepagesz" => {
                    let bytes = page_size()?;
                    if let Some((_, size)) = open.take() {
                        return Err(HugePageError::NoCount(size.text.clone()));
                    }
                    if block.pools.iter().any(|pool| pool.size == Some(bytes)) {
                        return Err(HugePageError::SecondSize(token.text.clone()));
                    }
                    open = Some((Some(bytes), token));
                    last_was_count = false;
                }
                "hugepages" => {
                    let count = PageCount::parse(value).ok_or_else(|| HugePageError::Count(token.text.clone()))?;
                    if let PageCount::PerNode(nodes) = &count {
                        let distinct: BTreeSet<_> = nodes.iter().map(|(node, _)| node).collect();
                        if distinct.len() != nodes.len() {
                            return Err(HugePageError::SecondNode(token.text.clone()));
                        }
                    }
                    if last_was_count {
                        return Err(HugePageError::SecondCount(token.text.clone()));
                    }
                    let size = match open.take() {
                        Some((size, _)) => size,
                        None => block.default_size,
                    };
                    let again = block.pools.iter().any(|pool| pool.size == size);
                    if again || size.is_some() && size == default_first {
                        return Err(HugePageError::SecondCount(token.text.clone()));
                    }
                    block.pools.push(Pool { size, count });
                    last_was_count = true;
                }
                _ => {}
            }
        }
        match open {
            Some((_, size)) => Err(HugePageError::NoCount(size.text.clone())),
            None => Ok(block),
        }
    }

    /// Writes the block: the default size first, then each size with its count.
    #[must_use]
    pub fn parameters(&self) -> Vec<String> {
        let mut parameters = Vec::new();
        // A count without a size must stand before the first size.
        if let Some(pool) = self.pools.iter().find(|pool| pool.size.is_none()) {
            parameters.extend(self.default_size.map(|bytes| format!("default_hugepagesz={}", format_size(bytes))));
            parameters.push(format!("hugepages={}", pool.count.write()));
        } else {
            parameters.extend(self.default_size.map(|bytes| format!("default_hugepagesz={}", format_size(bytes))));
        }
        for pool in &self.pools {
            if let Some(bytes) = pool.size {
                parameters.push(format!("hugepagesz={}", format_size(bytes)));
                parameters.push(format!("hugepages={}", pool.count.write()));
            }
        }
        parameters
    }

    /// Returns the sizes that the block names, in bytes, to be compared with what the host offers.
    #[must_use]
    pub fn sizes(&self) -> BTreeSet<u64> {
        self.default_size.into_iter().chain(self.pools.iter().filter_map(|pool| pool.size)).collect()
    }

    /// Returns the memory that all pools take, in bytes; `kernel_default` is the size where none is named. `None`: too much to
    /// count.
    #[must_use]
    pub fn total_bytes(&self, kernel_default: u64) -> Option<u64> {
        self.pools.iter().try_fold(0u64, |sum, pool| {
            let size = pool.size.or(self.default_size).unwrap_or(kernel_default);
            sum.checked_add(pool.count.total()?.checked_mul(size)?)
        })
    }

    /// Returns the memory that is asked of single nodes, in bytes by node.
    #[must_use]
    pub fn node_bytes(&self, kernel_default: u64) -> Option<std::collections::BTreeMap<u32, u64>> {
        let mut sums = std::collections::BTreeMap::new();
        for pool in &self.pools {
            let size = pool.size.or(self.default_size).unwrap_or(kernel_default);
            if let PageCount::PerNode(nodes) = &pool.count {
                for (node, count) in nodes {
                    let sum: &mut u64 = sums.entry(*node).or_default();
                    *sum = sum.checked_add(count.checked_mul(size)?)?;
                }
            }
        }
        Some(sums)
    }

    /// Tells whether two blocks give the same default size and the same pools, in whatever order they are written.
    #[must_use]
    pub fn same_effect(&self, other: &Self) -> bool {
        let pools = |block: &Self| {
            let mut pools: Vec<_> = block
                .pools
                .iter()
                .map(|pool| {
                    let mut count = pool.count.clone();
                    if let PageCount::PerNode(nodes) = &mut count {
                        nodes.sort_unstable();
                    }
                    (pool.size.or(block.default_size), count.write())
                })
                .collect();
            pools.sort();
            pools
        };
        self.default_size == other.default_size && pools(self) == pools(other)
    }
}

/// One size of `dom0_mem` (xen-command-line: `<sz>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dom0Size {
    /// Bytes; with [`Dom0Size::negative`] what is left to others.
    pub bytes: u64,
    /// The size counts from the host's memory downwards.
    pub negative: bool,
    /// A part of the host's memory that is added, in percent.
    pub percent: Option<u8>,
    /// The size was written with a unit; without one Xen reads KiB.
    pub unit: bool,
}

impl Dom0Size {
    /// Returns the bytes that dom0 gets on a host with that much memory, at least 0.
    #[must_use]
    pub fn resolve(&self, host_bytes: u64) -> u64 {
        let part = u128::from(host_bytes) * u128::from(self.percent.unwrap_or(0)) / 100;
        let part = u64::try_from(part).unwrap_or(u64::MAX);
        if self.negative {
            host_bytes.saturating_sub(self.bytes).saturating_add(part)
        } else {
            self.bytes.saturating_add(part)
        }
    }
}

impl fmt::Display for Dom0Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        match (self.bytes, self.percent) {
            (0, Some(percent)) => write!(f, "{percent}%"),
            (bytes, Some(percent)) => write!(f, "{sign}{}+{percent}%", format_size(bytes)),
            (bytes, None) => write!(f, "{sign}{}", format_size(bytes)),
        }
    }
}

/// The value of `dom0_mem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Dom0Mem {
    /// What dom0 has when it starts.
    pub amount: Option<Dom0Size>,
    /// `min:`
    pub min: Option<Dom0Size>,
    /// `max:`
    pub max: Option<Dom0Size>,
}

/// Why a value is none for `dom0_mem`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dom0MemError {
    /// An item is no size.
    #[error("`{0}` is no size; write like `4G`, `10%` or `1G+10%`, with `min:` or `max:` before it if wanted")]
    Size(String),
    /// The fraction stands before the size.
    #[error("in `{0}` the size stands behind the fraction; Xen takes `1G+10%`, not `10%+1G`")]
    Order(String),
    /// The fraction is 100 percent or more.
    #[error("`{0}` is no fraction below 100 %")]
    Fraction(String),
    /// The same item stands twice.
    #[error("`{0}` is the second of its sort")]
    Twice(String),
}

impl Dom0Mem {
    /// Reads a list of `min:<sz>`, `max:<sz>` and `<sz>`, where `<sz>` is a size or `[size+]fraction%`.
    ///
    /// # Errors
    /// What Xen would not take.
    pub fn parse(value: &str) -> Result<Self, Dom0MemError> {
        let mut memory = Self::default();
        for item in value.split(',') {
            let (place, text) = match item.split_once(':') {
                Some(("min", text)) => (&mut memory.min, text),
                Some(("max", text)) => (&mut memory.max, text),
                _ => (&mut memory.amount, item),
            };
            if place.replace(parse_dom0_size(text)?).is_some() {
                return Err(Dom0MemError::Twice(item.to_owned()));
            }
        }
        Ok(memory)
    }

    /// Tells whether every size was written with a unit.
    #[must_use]
    pub fn has_units(&self) -> bool {
        [self.amount, self.min, self.max].iter().flatten().all(|size| size.unit)
    }

    /// Tells whether a fraction is used, which Xen takes since December 2018 (commit 76a68b902062).
    #[must_use]
    pub fn has_fraction(&self) -> bool {
        [self.amount, self.min, self.max].iter().flatten().any(|size| size.percent.is_some())
    }

    fn canonical(&self) -> String {
        let item = |name: &str, size: &Option<Dom0Size>| size.map(|size| format!("{name}{size}"));
        [item("", &self.amount), item("min:", &self.min), item("max:", &self.max)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(",")
    }
}

fn parse_dom0_size(text: &str) -> Result<Dom0Size, Dom0MemError> {
    let wrong = || Dom0MemError::Size(text.to_owned());
    let fraction = |part: &str| {
        let digits = part.strip_suffix('%').ok_or_else(wrong)?;
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u8>().ok()).flatten();
        number.filter(|percent| *percent < 100).ok_or_else(|| Dom0MemError::Fraction(part.to_owned()))
    };
    let plain = |part: &str| {
        let (negative, digits) = match part.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, part),
        };
        let (bytes, rest) = memparse(digits).ok_or_else(wrong)?;
        let unit = !digits.ends_with(|c: char| c.is_ascii_hexdigit() && !matches!(c, 'b' | 'B'));
        // Xen reads a number without a unit as KiB, and `B` as bytes (xen-command-line: size).
        let bytes = match (rest, unit) {
            ("", true) | ("B" | "b", _) => Some(bytes),
            ("", false) => bytes.checked_mul(1024),
            _ => None,
        };
        Ok(Dom0Size { bytes: bytes.ok_or_else(wrong)?, negative, percent: None, unit })
    };
    match text.split_once('+') {
        Some((first, second)) if first.ends_with('%') && !second.ends_with('%') => {
            Err(Dom0MemError::Order(text.to_owned()))
        }
        Some((first, second)) => Ok(Dom0Size { percent: Some(fraction(second)?), ..plain(first)? }),
        None if text.ends_with('%') => {
            Ok(Dom0Size { bytes: 0, negative: false, percent: Some(fraction(text)?), unit: true })
        }
        None => plain(text),
    }
}

/// Reads `dom0_max_vcpus`: a number, or `MIN-MAX` with one of both left out; the result is (min, max).
#[must_use]
pub fn parse_dom0_max_vcpus(value: &str) -> Option<(Option<u32>, Option<u32>)> {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    match value.split_once('-') {
        None => number(value).filter(|count| *count > 0).map(|count| (Some(count), Some(count))),
        Some(("", "")) => None,
        Some((min, max)) => {
            let end = |text: &str| if text.is_empty() { Some(None) } else { number(text).map(Some) };
            let (min, max) = (end(min)?, end(max)?);
            let fits = max != Some(0) && min.zip(max).is_none_or(|(min, max)| min <= max);
            fits.then_some((min, max))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(parameters: &[&str], absent: &[&str]) -> Request {
        Request::new(Target::Linux, parameters, absent).unwrap().0
    }

    #[test]
    fn a_line_is_cut_as_the_kernel_does_it() {
        let line =
            CommandLine::parse("BOOT_IMAGE=/vmlinuz  kvm-intel.nested=1 \"p=a b\" q=\"c d\" =x quiet -- single a=b");
        let tokens: Vec<_> = line.tokens().map(|t| (t.name.as_str(), t.value.as_deref())).collect();
        assert_eq!(
            tokens,
            [
                ("BOOT_IMAGE", Some("/vmlinuz")),
                ("kvm_intel.nested", Some("1")),
                ("p", Some("a b")),
                ("q", Some("c d")),
                ("=x", None),
                ("quiet", None),
            ]
        );
    }

    #[test]
    fn sizes_are_those_of_memparse() {
        let cases = [
            ("2M", Some(2 << 20)),
            ("2m", Some(2 << 20)),
            ("2MB", Some(2 << 20)),
            ("2048K", Some(2 << 20)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("1G", Some(1 << 30)),
            ("0x", Some(0)),
            ("", None),
            ("G", None),
            ("99999999999999999999", None),
            ("17E", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), bytes, "{text}");
        }
        for bytes in [0, 1, 1024, 2 << 20, 1 << 30, 3 << 30, 16 << 30, 1536 << 20] {
            assert_eq!(size(&format_size(bytes)), Some(bytes));
        }
    }

    #[test]
    fn an_edit_changes_only_our_tokens() {
        let huge = ["default_hugepagesz=1G", "hugepagesz=1G", "hugepages=4"];
        let block = "default_hugepagesz=1G hugepagesz=1G hugepages=4";
        let cases: &[(&str, &[&str], &[&str], &str)] = &[
            ("", &["a=1"], &[], "a=1"),
            ("  quiet\tsplash ", &["a=1"], &[], "  quiet\tsplash a=1 "),
            ("quiet a=2 splash a=3", &["a=1"], &[], "quiet a=1 splash"),
            ("quiet a=1 splash", &["a=1"], &[], "quiet a=1 splash"),
            ("quiet -- single", &["a=1"], &[], "quiet a=1 -- single"),
            ("-- a=2", &["a=1"], &[], "a=1 -- a=2"),
            ("hugepages=9 quiet hugepagesz=2M hugepages=1", &huge, &[], &format!("{block} quiet")),
            (&format!("{block} x"), &huge, &[], &format!("{block} x")),
            ("default_hugepagesz=1024M hugepages=4 x", &huge, &[], "default_hugepagesz=1024M hugepages=4 x"),
            ("kvm_intel.nested=0", &["kvm-intel.nested=1"], &[], "kvm-intel.nested=1"),
            ("a quiet b", &[], &["quiet"], "a b"),
            ("quiet b", &[], &["quiet"], "b"),
            ("a quiet", &[], &["quiet"], "a"),
            ("quiet", &[], &["quiet"], ""),
            ("console=tty0 x console=ttyS0", &[], &["console=tty0"], "x console=ttyS0"),
            ("x console=ttyS1", &["console=tty0", "console=ttyS0"], &[], "x console=tty0 console=ttyS0"),
            ("x hugepagesz=2M y hugepages=4", &[], &["hugepages"], "x y"),
            ("x=\"a b\"  y  z", &[], &["y"], "x=\"a b\"  z"),
            // Behind a quote that is not closed everything would be one parameter.
            ("x b=\"y z", &["a=1"], &[], "x b=\"y z\" a=1"),
        ];
        for (before, parameters, absent, after) in cases {
            let request = request(parameters, absent);
            assert_eq!(edit(before, &request), *after, "{before}");
            assert_eq!(request.differences(&CommandLine::parse(after)), [], "{before}");
        }
    }

    #[test]
    fn a_request_can_be_taken_back() {
        let request = request(&["a=1", "hugepages=4"], &[]);
        assert_eq!(edit(&edit("x y", &request), &request.reverted()), "x y");
        assert_eq!(edit("x a=2", &request.reverted()), "x a=2");
    }

    #[test]
    fn differences_name_both_sides() {
        let request = request(&["a=1"], &["b"]);
        let texts: Vec<_> =
            request.differences(&CommandLine::parse("a=2 b=3")).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["`a=2` instead of `a=1`", "`b=3` instead of nothing"]);
    }

    #[test]
    fn wrong_parameters_are_refused_with_the_reason() {
        let cases: &[(Target, &str, &str)] = &[
            (Target::Linux, "a;b", "';' in `a;b` would be syntax"),
            (Target::Linux, "a$b", "'$' in"),
            (Target::Linux, "a\"b", "'\"' in"),
            (Target::Linux, "a'b", "'\\'' in"),
            (Target::Linux, "a`b", "'`' in"),
            (Target::Linux, "a\nb", "'\\n' in"),
            (Target::Linux, "a b", "' ' in"),
            (Target::Linux, "ä", "'ä' in"),
            (Target::Linux, "", "no kernel parameter"),
            (Target::Linux, "--", "no kernel parameter"),
            (Target::Linux, "=1", "no kernel parameter"),
            (Target::Linux, "dom0_mem=4G", "`dom0_mem` belongs to Xen's line"),
            (Target::Linux, "dom0-mem=4G", "`dom0_mem` belongs to Xen's line"),
            (Target::Xen, "hugepages=4", "belongs to Linux's line"),
            (Target::Linux, "transparent_hugepage=sometimes", "`always`, `madvise`, `never`"),
            (Target::Linux, "transparent_hugepage", "`always`, `madvise`, `never`"),
            (Target::Linux, "numa_balancing=1", "`enable`, `disable`"),
            (Target::Linux, "BOOT_IMAGE=x", "boot loader itself"),
            (Target::Linux, "hugepages=-1", "is no count"),
            (Target::Linux, "hugepagesz=1G", "has no `hugepages=` behind it"),
            (Target::Linux, "hugepagesz=3M", "names no page size"),
            (Target::Xen, "dom0_mem=10%+1G", "`1G+10%`, not `10%+1G`"),
            (Target::Xen, "dom0_mem=100%", "below 100"),
            (Target::Xen, "dom0_mem=4096", "without a unit is read as KiB"),
            (Target::Xen, "dom0_mem=", "is no size"),
            (Target::Xen, "dom0_mem=4G,max:", "is no size"),
            (Target::Xen, "dom0_mem=4G,8G", "second of its sort"),
            (Target::Xen, "dom0_max_vcpus=4-2", "MIN-MAX"),
            (Target::Xen, "dom0_max_vcpus=-", "MIN-MAX"),
            (Target::Xen, "dom0_max_vcpus=0", "MIN-MAX"),
        ];
        for (target, parameter, reason) in cases {
            let error = Request::new(*target, &[*parameter], &[]).unwrap_err().to_string();
            assert!(error.contains(reason), "{parameter}: {error}");
        }
        assert!(Request::new(Target::Linux, &["a=1"], &["a"]).is_err());
        let huge = request(&["a=1", "hugepages=4"], &[]).huge_pages();
        assert_eq!(huge.and_then(|block| block.total_bytes(2 << 20)), Some(8 << 20));
        assert_eq!(request(&["a=1"], &[]).huge_pages(), None);
        assert!(Request::new(Target::Linux, &[], &["hugepages=4"]).is_err());
    }

    #[test]
    fn right_parameters_are_taken_and_advised_on() {
        let cases: &[(Target, &[&str], &str)] = &[
            (Target::Linux, &["transparent_hugepage=madvise", "numa_balancing=disable", "iommu=pt"], ""),
            (Target::Linux, &["console=tty0", "console=ttyS0,115200n8"], ""),
            (Target::Linux, &["elevator=none"], "no effect"),
            (Target::Linux, &["a=1", "a=2"], "more than once"),
            (Target::Linux, &["root=/dev/sda"], "boot loader writes"),
            (Target::Xen, &["dom0_mem=1G+10%,max:1G+10%", "dom0_max_vcpus=4"], ""),
            (Target::Xen, &["dom0_mem=-512M,max:50%", "dom0_max_vcpus=-4"], ""),
            (Target::Xen, &["dom0_mem=4G"], "without `max:`"),
            (Target::Xen, &["dom0_max_vcpus=2-8", "console=com1,vga"], ""),
        ];
        for (target, parameters, advice) in cases {
            let found = Request::new(*target, parameters, &[]).unwrap().1;
            assert_eq!(found.is_empty(), advice.is_empty(), "{parameters:?}: {found:?}");
            assert!(found.iter().all(|found| found.text.contains(advice)), "{parameters:?}: {found:?}");
        }
    }

    #[test]
    fn huge_pages_are_one_ordered_block() {
        let block = |line: &str| HugePageBlock::parse(CommandLine::parse(line).tokens());
        let good = block("default_hugepagesz=1G hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=512").unwrap();
        assert_eq!(good.total_bytes(2 << 20), Some(5 << 30));
        assert_eq!(good.sizes(), [2 << 20, 1 << 30].into());
        assert_eq!(
            good.parameters().join(" "),
            "default_hugepagesz=1G hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=512"
        );
        let nodes = block("hugepagesz=1G hugepages=0:2,1:3").unwrap();
        assert_eq!(nodes.node_bytes(2 << 20), Some([(0, 2 << 30), (1, 3 << 30)].into()));
        assert_eq!(block("hugepages=8").unwrap().total_bytes(2 << 20), Some(16 << 20));
        assert_eq!(block("hugepages=8 default_hugepagesz=1G").unwrap().total_bytes(2 << 20), Some(8 << 30));
        assert_eq!(block("quiet").unwrap(), HugePageBlock::default());
        let wrong = [
            ("hugepages=4 hugepagesz=1G", "has no `hugepages=` behind it"),
            ("hugepagesz=1G hugepagesz=2M hugepages=4", "has no `hugepages=` behind it"),
            ("hugepages=4 hugepages=5", "follows another count"),
            ("default_hugepagesz=1G hugepages=4 hugepagesz=1G hugepages=4", "second time"),
            ("hugepagesz=1G hugepages=4 hugepagesz=1G hugepages=4", "second time"),
            ("default_hugepagesz=1G default_hugepagesz=2M", "second default"),
            ("hugepagesz=x hugepages=1", "names no page size"),
            ("hugepages=0x4", "is no count"),
            ("hugepages=0:1,0:2", "twice"),
            ("hugepages=+4", "is no count"),
        ];
        for (line, reason) in wrong {
            let error = block(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line}: {error}");
        }
        assert_eq!(block("hugepagesz=1G hugepages=18446744073709551615").unwrap().total_bytes(1), None);
    }

    #[test]
    fn dom0_memory_is_resolved_and_compared() {
        let memory = Dom0Mem::parse("1G+10%,max:4096M").unwrap();
        assert_eq!(memory.amount.unwrap().resolve(100 << 30), 11 << 30);
        assert_eq!(memory.canonical(), "1G+10%,max:4G");
        assert!(memory.has_fraction());
        assert_eq!(Dom0Mem::parse("-2G").unwrap().amount.unwrap().resolve(10 << 30), 8 << 30);
        assert_eq!(Dom0Mem::parse("1048576").unwrap().canonical(), "1G");
        assert_eq!(Token::new("dom0_mem=max:4G,4096M").canonical(), "dom0_mem=4G,max:4G");
    }

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-d](=[0-9]{1,2})?",
            "(default_hugepagesz|hugepagesz)=(2M|1G|x)",
            "hugepages=[0-9]",
            "x=\"[a-c ]{0,4}\"",
            Just("--".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn edits_are_idempotent_and_keep_foreign_tokens(
            words in prop::collection::vec((word(), " {1,3}|\t"), 0..12),
            ours in prop::collection::vec("[a-c](=[0-9])?", 0..4),
            huge in any::<bool>(),
            gone in prop::collection::vec("d|e|x", 0..2),
        ) {
            let line: String = words.iter().flat_map(|(word, space)| [word.as_str(), space.as_str()]).collect();
            let mut ours = ours;
            if huge {
                ours.extend(["hugepagesz=1G".into(), "hugepages=4".into()]);
            }
            let request = Request::new(Target::Linux, &ours, &gone).unwrap().0;
            let once = edit(&line, &request);
            prop_assert_eq!(edit(&once, &request), once.clone());
            let (before, after) = (CommandLine::parse(&line), CommandLine::parse(&once));
            prop_assert_eq!(request.differences(&after), vec![]);
            let groups = request.groups();
            let foreign = |line: &CommandLine| {
                let foreign = |token: &&Token| {
                    !groups.contains(&token.group()) && !request.absent().iter().any(|absent| absent.matches(token))
                };
                line.tokens().filter(foreign).cloned().collect::<Vec<_>>()
            };
            prop_assert_eq!(foreign(&before), foreign(&after));
            prop_assert_eq!(before.rest.trim_start(), after.rest.trim_start());
        }

        #[test]
        fn any_text_is_a_line_and_survives(line in any::<String>(), other in any::<String>()) {
            prop_assert_eq!(CommandLine::parse(&line).to_string(), line.clone());
            prop_assert_eq!(edit(&line, &Request::default()), line);
            let _ = Request::new(Target::Xen, &[other.as_str()], &[]);
            let _ = Dom0Mem::parse(&other);
            let _ = parse_dom0_max_vcpus(&other);
        }
    }
}
