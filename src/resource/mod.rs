//! What a host should be: the kinds of resources, one file each.
//!
//! A kind is pure. It says what it must read, decodes what was read into its current state, says what it wants, and encodes
//! the way from one to the other as steps. Comparing, showing, redacting and the laws are written once, over the
//! serialised state.

pub mod seen;
pub mod state;
pub mod registry;
pub mod owner;
pub mod scalar;
pub mod own_file;
pub mod restored;
pub mod memory;
pub mod live;
pub mod directory;
pub mod file;
pub mod symlink;
pub mod sysctl;
pub mod kernel_value;
pub mod tmpfiles;
pub mod udev_rule;
pub mod command;
pub mod assert;
pub mod kernel_cmdline;
pub mod mount;
pub mod service;
pub mod setting;
#[cfg(test)]
pub mod world;

use std::{collections::BTreeSet, fmt::Debug};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    address::Address,
    config::{FileParameter, de, node::Node},
    diag::{Diagnostic, Diagnostics},
    host::{op::Step, path::AbsPath, read::Read},
};
pub use memory::{Declaration, Memory};
pub use registry::Registry;
pub use seen::{Cannot, Seen};
pub use state::{Comparison, Difference};

/// A kind of resource. The struct that implements it is what a person writes in YAML; its doc comments are the manual.
pub trait Resource: DeserializeOwned + JsonSchema + Clone + Debug + Send + Sync + 'static {
    /// What a person writes to name the kind.
    const KIND: &'static str;

    /// An entry as a person would write it, parsed by a test and shown by `vprov explain`.
    const EXAMPLE: &'static str;

    /// A failure of this kind refuses the whole host before anything is written.
    const PREFLIGHT: bool = false;

    /// What a change of this kind provides is not known before it is made: what a program creates, what a file system holds.
    const OPAQUE: bool = false;

    /// The parameters that name files beside the YAML file; the kind gets their contents as `content`.
    const FILE_PARAMETERS: &'static [FileParameter] = &[];

    /// The parameters that may hold a secret: their values stand in no name, no message and no command line.
    const SECRETS: &'static [&'static str] = &[];

    /// The files that it writes hold lines of others too, so they are never taken back as a whole.
    const SHARED: bool = false;

    /// The attributes of the state (any part of their dotted name, or `*` for all) that stand in the files which the steps
    /// write: reports leave them to the diff.
    const IN_FILES: &'static [&'static str] = &[];

    /// What is managed, in canonical form: equal states serialise to equal JSON.
    type State: Serialize;

    /// Returns what the kind calls this one.
    fn name(&self) -> String;

    /// Returns what is wrong with what was written, beyond what the types say, without any host.
    fn check(&self) -> Vec<Problem> {
        vec![]
    }

    /// Returns what this resource alone may say something about, with what it says. Two resources of a kind with one key and
    /// different values contradict each other.
    fn claims(&self) -> Vec<Claim> {
        vec![Claim { key: self.name(), value: format!("{self:?}") }]
    }

    /// Gives up one claim, because a stronger resource overrides it; returns whether anything is left.
    fn release(&mut self, key: &str) -> bool {
        let _ = key;
        false
    }

    /// Returns the key by which resources of this kind become one (those of one file); `None` where each stands alone.
    fn merge_key(&self) -> Option<String> {
        None
    }

    /// Takes another resource of the same [`Resource::merge_key`] in.
    fn absorb(&mut self, other: Self) {
        let _ = other;
    }

    /// Returns what it provides and needs, from which the order follows.
    fn links(&self) -> Links {
        Links::default()
    }

    /// Returns what must be read, given what was read so far; asked again until it asks for nothing new.
    fn reads(&self, seen: &Seen) -> Vec<Read>;

    /// Returns the state that was read; `None` for absent.
    ///
    /// # Errors
    /// [`Cannot`] where it may not be read, is not supported there, or makes no sense.
    fn current(&self, seen: &Seen) -> Result<Option<Self::State>, Cannot>;

    /// Returns the state that is wanted; `None` for absent. What was not written is taken over from `current`.
    ///
    /// # Errors
    /// [`Cannot`] where this host cannot be brought there.
    fn desired(&self, seen: &Seen, current: Option<&Self::State>) -> Result<Option<Self::State>, Cannot>;

    /// Returns the way from one state to another.
    ///
    /// # Errors
    /// [`Cannot`] where there is none.
    fn steps(&self, seen: &Seen, from: Option<&Self::State>, to: Option<&Self::State>) -> Result<Vec<Step>, Cannot>;

    /// Returns what is done when a resource that notifies this one changed; it runs once, after the last of them.
    fn refresh(&self, seen: &Seen) -> Vec<Step> {
        let _ = seen;
        vec![]
    }

    /// Returns every operation, in words as [`crate::host::op::Op::describe`] has them, that the resource may need once an
    /// opaque resource before it is there; empty where it cannot wait for one.
    fn may_become(&self) -> Vec<String> {
        vec![]
    }

    /// Returns what the ledger keeps of a change, so that it can be taken back once the resource is declared no more.
    fn remembers(
        &self,
        seen: &Seen,
        from: Option<&Self::State>,
        to: Option<&Self::State>,
        steps: &[Step],
    ) -> Vec<Memory> {
        let _ = (from, to);
        memory::of_steps(seen, steps, Self::SHARED)
    }

    /// Returns the things that it is about, by the names that the ledger has for them: what it provides, and the values of the
    /// kernel that it reads.
    fn things(&self, seen: &Seen) -> BTreeSet<String> {
        things(&self.links(), &self.reads(seen))
    }

    /// Tells whether a host is still as a record of the ledger says that vprov left it.
    ///
    /// # Errors
    /// As [`Resource::current`].
    fn stands(&self, seen: &Seen) -> Result<bool, Cannot> {
        state::compare(self, seen).result.map(|difference| difference.is_none())
    }

    /// Returns what a person must know beside the change: overrides by others, a pending reboot, an absent device.
    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let _ = seen;
        vec![]
    }

    /// Returns what the change from one state to another is called, where that does not follow from which of them is absent.
    fn action(&self, from: Option<&Self::State>, to: Option<&Self::State>) -> Option<state::Action> {
        let _ = (from, to);
        None
    }

    /// Returns what carrying out the change from one state to another disturbs.
    fn disturbs(&self, from: Option<&Self::State>, to: Option<&Self::State>) -> Disruption {
        let _ = (from, to);
        Disruption::Nothing
    }

    /// Returns whether contents that this resource writes are secret, so that no diff shows them.
    fn is_sensitive(&self, seen: &Seen) -> bool {
        let _ = seen;
        false
    }
}

/// Returns the names of paths that are provided and of values that are read.
#[must_use]
pub fn things(links: &Links, reads: &[Read]) -> BTreeSet<String> {
    let provided = links.provides.iter().filter_map(|handle| match handle {
        Handle::Path(path) => Some(path),
        Handle::Unit(_) | Handle::Mount(_) => None,
    });
    let live = reads.iter().filter_map(Read::path).filter(|path| path.is_live());
    provided.chain(live).map(ToString::to_string).collect()
}

/// Whether a thing is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ensure {
    /// It is wanted.
    #[default]
    Present,
    /// It is not wanted.
    Absent,
}

/// Something wrong with one parameter of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The way to the value from the resource's parameters, as `["pages", "1G"]`; empty for the resource as a whole.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Problem {
    /// Makes a problem of one parameter.
    #[must_use]
    pub fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self { path: path.iter().map(|part| (*part).into()).collect(), message: message.into(), help: None }
    }

    /// Says what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Something that one resource alone may decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is decided, unique within the kind: a path, a sysctl key, a kernel parameter.
    pub key: String,
    /// What is decided about it; equal values do not contradict each other.
    pub value: String,
}

/// What a resource provides and needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// What exists once the resource is converged. No two resources provide one thing.
    pub provides: Vec<Handle>,
    /// What must exist before, if anything in the catalog provides it.
    pub needs: Vec<Handle>,
}

/// A thing on a host by which resources are linked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handle {
    /// A file, directory or link. A need is met by whatever provides the path or a directory above it.
    Path(AbsPath),
    /// A systemd unit, with its suffix.
    Unit(String),
    /// A mounted file system.
    Mount(AbsPath),
}

/// What a person must know beside a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "remark", deny_unknown_fields)]
pub enum Remark {
    /// Something works against the resource, or it cannot do all that was asked.
    Warning {
        /// What, naming the file and line or the service.
        text: String,
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        help: Option<String>,
    },
    /// What only a reboot can change differs from what runs.
    Reboot {
        /// The attribute, as `hugepages`.
        attribute: String,
        /// What is wanted.
        desired: String,
        /// What the next boot has as things stand: what the entry that the boot loader will choose says.
        configured: String,
        /// What the kernel has now.
        running: String,
    },
    /// The kernel gave less than was asked, and will not give more before the next boot.
    Short {
        /// The attribute.
        attribute: String,
        /// What was asked.
        desired: String,
        /// What there is.
        running: String,
    },
}

impl Remark {
    /// Makes a warning.
    #[must_use]
    pub fn warning(text: impl Into<String>) -> Self {
        Self::Warning { text: text.into(), help: None }
    }

    /// Makes a warning that says what to do.
    #[must_use]
    pub fn warning_with_help(text: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Warning { text: text.into(), help: Some(help.into()) }
    }
}

/// What a change disturbs, from least to most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Disruption {
    /// Nothing that runs.
    #[default]
    Nothing,
    /// A service of the host.
    Service,
    /// What guests feel; needs `--allow guest-visible`.
    Guests,
}

/// The object-safe face of [`Resource`]; its only implementation is the blanket one below.
pub trait AnyResource: Send + Sync + Debug {
    /// `kind[name]`.
    fn address(&self) -> Address;
    /// See [`Resource::PREFLIGHT`].
    fn is_preflight(&self) -> bool;
    /// See [`Resource::OPAQUE`].
    fn is_opaque(&self) -> bool;
    /// See [`Resource::may_become`].
    fn may_become(&self) -> Vec<String>;
    /// See [`Resource::claims`].
    fn claims(&self) -> Vec<Claim>;
    /// See [`Resource::release`].
    fn release(&mut self, key: &str) -> bool;
    /// See [`Resource::merge_key`].
    fn merge_key(&self) -> Option<String>;
    /// See [`Resource::absorb`]. A resource of another kind is left alone.
    fn absorb(&mut self, other: Box<dyn AnyResource>);
    /// See [`Resource::links`].
    fn links(&self) -> Links;
    /// See [`Resource::reads`].
    fn reads(&self, seen: &Seen) -> Vec<Read>;
    /// Decodes, compares and encodes: everything that planning needs to know of a resource.
    ///
    /// # Errors
    /// As [`Resource::current`].
    fn compare(&self, seen: &Seen) -> Comparison;
    /// See [`Resource::refresh`].
    fn refresh(&self, seen: &Seen) -> Vec<Step>;
    /// See [`Resource::things`].
    fn things(&self, seen: &Seen) -> BTreeSet<String>;
    /// See [`Resource::stands`].
    ///
    /// # Errors
    /// As [`Resource::current`].
    fn stands(&self, seen: &Seen) -> Result<bool, Cannot>;
    /// Returns itself for a downcast to its own type.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any>;
}

impl<R: Resource> AnyResource for R {
    fn address(&self) -> Address {
        Address::new(R::KIND, self.name())
    }
    fn is_preflight(&self) -> bool {
        R::PREFLIGHT
    }
    fn is_opaque(&self) -> bool {
        R::OPAQUE
    }
    fn may_become(&self) -> Vec<String> {
        Resource::may_become(self)
    }
    fn claims(&self) -> Vec<Claim> {
        Resource::claims(self)
    }
    fn release(&mut self, key: &str) -> bool {
        Resource::release(self, key)
    }
    fn merge_key(&self) -> Option<String> {
        Resource::merge_key(self)
    }
    fn absorb(&mut self, other: Box<dyn AnyResource>) {
        if let Ok(other) = other.into_any().downcast::<R>() {
            Resource::absorb(self, *other);
        }
    }
    fn links(&self) -> Links {
        Resource::links(self)
    }
    fn reads(&self, seen: &Seen) -> Vec<Read> {
        Resource::reads(self, seen)
    }
    fn compare(&self, seen: &Seen) -> Comparison {
        state::compare(self, seen)
    }
    fn refresh(&self, seen: &Seen) -> Vec<Step> {
        Resource::refresh(self, seen)
    }
    fn things(&self, seen: &Seen) -> BTreeSet<String> {
        Resource::things(self, seen)
    }
    fn stands(&self, seen: &Seen) -> Result<bool, Cannot> {
        Resource::stands(self, seen)
    }
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any> {
        self
    }
}

/// A kind as the registry knows it.
pub struct Kind {
    /// What a person writes.
    pub name: &'static str,
    /// An entry as a person would write it.
    pub example: &'static str,
    /// Makes the JSON Schema of the parameters; descriptions are the manual.
    pub schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// See [`Resource::FILE_PARAMETERS`].
    pub file_parameters: &'static [FileParameter],
    /// See [`Resource::SECRETS`].
    pub secrets: &'static [&'static str],
    /// Makes a resource of parameters whose expressions are evaluated.
    pub parse: fn(&Node) -> Result<Box<dyn AnyResource>, Diagnostics>,
}

impl Kind {
    const fn of<R: Resource>() -> Self {
        Self {
            name: R::KIND,
            example: R::EXAMPLE,
            schema: |generator| R::json_schema(generator),
            file_parameters: R::FILE_PARAMETERS,
            secrets: R::SECRETS,
            parse: parse::<R>,
        }
    }

    /// Finds a kind by its name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }
}

/// All kinds, in alphabetical order. A new kind is a file, a `mod` line and a line here.
pub const KINDS: &[Kind] = &[
    Kind::of::<assert::Assert>(),
    Kind::of::<command::Command>(),
    Kind::of::<directory::Directory>(),
    Kind::of::<file::File>(),
    Kind::of::<kernel_cmdline::KernelCmdline>(),
    Kind::of::<kernel_value::KernelValue>(),
    Kind::of::<mount::Mount>(),
    Kind::of::<service::Service>(),
    Kind::of::<setting::Setting>(),
    Kind::of::<symlink::Symlink>(),
    Kind::of::<sysctl::Sysctl>(),
    Kind::of::<tmpfiles::Tmpfiles>(),
    Kind::of::<udev_rule::UdevRule>(),
];

fn parse<R: Resource>(node: &Node) -> Result<Box<dyn AnyResource>, Diagnostics> {
    let resource: R = de::parse(node)?;
    let problems = resource.check();
    if problems.is_empty() {
        return Ok(Box::new(resource));
    }
    let mut diagnostics = Diagnostics::default();
    for problem in problems {
        let path: Vec<&str> = problem.path.iter().map(String::as_str).collect();
        let mut diagnostic = Diagnostic::error(problem.message).at(node.span_at(&path));
        diagnostic.help.extend(problem.help);
        diagnostics.push(diagnostic);
    }
    Err(diagnostics)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_kind_has_an_example_that_is_right() {
        for kind in KINDS {
            let resource = world::parse(kind.example).unwrap_or_else(|problem| panic!("{}: {problem}", kind.name));
            assert_eq!(resource.address().kind, kind.name);
            assert!(!resource.address().name.is_empty(), "{} names nothing", kind.name);
        }
        assert!(KINDS.is_sorted_by_key(|kind| kind.name), "kinds stand in alphabetical order");
    }

    #[test]
    fn each_parameter_is_described() {
        for kind in KINDS {
            let schema = (kind.schema)(&mut schemars::SchemaGenerator::default()).to_value();
            let describes = |value: &Value| value.get("description").and_then(Value::as_str).is_some();
            assert!(describes(&schema), "{} has no description", kind.name);
            for (name, parameter) in schema["properties"].as_object().into_iter().flatten() {
                assert!(describes(parameter), "`{name}` of {} has no description", kind.name);
            }
        }
    }
}
