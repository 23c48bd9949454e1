//! [`Declared`]: one resource as a host's documents declare it, every expression evaluated, not yet of a kind's type.

use serde::{Deserialize, Serialize};

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
    /// Whether it is there at all follows from a secret, so no value of it is shown.
    pub sensitive: bool,
    /// How strong it is.
    pub level: Level,
    /// The places through which it came: the entry in `hosts.yaml` or a playbook first, the module's own entry last. Never empty.
    pub origin: Vec<Span>,
    /// Where a person wrote it: the last place of `origin` that is not in a file embedded in the program.
    pub place: Span,
}

/// How strong a declaration is, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// Reads declarations as a test writes them: a list of entries `{KIND: {…}, name, requires, notify, override, level}`, where
/// `level` is `playbook`, `group` or `host`.
#[cfg(test)]
pub fn entries(text: &str, sources: &crate::diag::SourceMap) -> Vec<Declared> {
    let list = super::yaml::read("t.yaml", text, sources).unwrap_or_else(|error| panic!("{text}: {}", error.summary));
    let one = |node: &Node| {
        let beside = ["name", "requires", "notify", "override", "level"];
        let map = node.as_map().expect("an entry is a map");
        let (kind, params) = map.iter().find(|(key, _)| !beside.contains(&key.text.as_str())).expect("a kind");
        let names = |key: &str| -> Vec<(String, Span)> {
            let list = node.get(key).and_then(Node::as_seq).unwrap_or_default();
            list.iter().filter_map(|name| Some((name.as_str()?.to_owned(), name.span))).collect()
        };
        Declared {
            kind: kind.text.to_string(),
            kind_span: kind.span,
            params: params.clone(),
            labels: node.get("name").and_then(Node::as_str).map(String::from).into_iter().collect(),
            requires: names("requires"),
            notify: names("notify"),
            overrides: node.get("override").is_some(),
            sensitive: false,
            level: match node.get("level").and_then(Node::as_str) {
                Some("group") => Level::Group,
                Some("playbook") => Level::Playbook,
                _ => Level::Host,
            },
            origin: vec![kind.span],
            place: kind.span,
        }
    };
    list.as_seq().expect("a list of entries").iter().map(one).collect()
}
