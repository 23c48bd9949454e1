//! [`Declared`]: one resource as a host's documents declare it, every expression evaluated, not yet of a kind's type.

use super::node::Node;
use crate::diag::Span;

/// A resource of one host as declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// The kind's name.
    pub kind: String,
    /// Where the kind's name stands.
    pub kind_span: Span,
    /// The parameters.
    pub params: Node,
    /// The names by which `requires` and `notify` may call it: its own `name` and those of the module calls around it.
    pub labels: Vec<String>,
    /// What it requires: a name, or `kind[name]`.
    pub requires: Vec<(String, Span)>,
    /// What it notifies: a name, or `kind[name]`.
    pub notify: Vec<(String, Span)>,
    /// It wins over weaker levels.
    pub overrides: bool,
    /// How strong it is.
    pub level: Level,
    /// The places through which it came: the entry in `hosts.yaml` or a playbook first, the module's own entry last. Never empty.
    pub origin: Vec<Span>,
    /// Where a person wrote it: the last place of `origin` that is not in a file embedded in the program.
    pub place: Span,
}

/// How strong a declaration is, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// By a playbook.
    Playbook,
    /// By `resources` of a group.
    Group,
    /// By `resources` of the host.
    Host,
}

impl Level {
    /// Returns the word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Playbook => "playbook",
            Self::Group => "group",
            Self::Host => "host",
        }
    }
}
