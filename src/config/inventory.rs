//! `hosts.yaml`: hosts, ranges of hosts, groups of groups, and what each host gets from them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

use super::{
    body::Body,
    de,
    module::{check_name, map_of},
    node::{Key, Map, Node, Value},
    range,
    rollout::Rollout,
    vars::{Layer, Var, Vars, layered},
};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span};

/// The depth of the host's own settings.
const HOST_DEPTH: u32 = u32::MAX - 1;

/// The depth of `--set`.
const SET_DEPTH: u32 = u32::MAX;

/// How a host is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// Over SSH.
    #[default]
    Ssh,
    /// It is the machine that vprov runs on.
    Local,
}

/// How SSH is used for a host. What is not set is up to the user's own ssh_config(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// The user to log in as.
    pub user: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The private key.
    pub identity_file: Option<String>,
    /// The configuration file of ssh instead of `~/.ssh/config`.
    pub config_file: Option<String>,
    /// The hosts to go through, as `ProxyJump` of ssh_config(5) has them.
    pub proxy_jump: Option<String>,
    /// Whether to become root by sudo.
    #[serde(rename = "become")]
    pub r#become: bool,
    /// An installed vprov on the host that is used instead of an upload.
    pub executor: Option<String>,
}

/// A host.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// The name.
    pub name: Arc<str>,
    /// The place of the name or range.
    pub span: Span,
    /// The name or address to connect to; the host's name where there is none.
    pub address: Option<Arc<str>>,
    /// Everything else, shared by all hosts with the same settings and groups.
    pub profile: Arc<Profile>,
}

impl HostSpec {
    /// Returns the name or address to connect to.
    #[must_use]
    pub fn target(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.name)
    }

    /// Returns how the host is reached.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.profile.connection
    }

    /// Returns how SSH is used.
    #[must_use]
    pub fn ssh(&self) -> &Ssh {
        &self.profile.ssh
    }
}

/// What hosts with the same settings and groups have in common.
#[derive(Debug)]
pub struct Profile {
    /// How they are reached.
    pub connection: Connection,
    /// How SSH is used.
    pub ssh: Ssh,
    /// The groups, outer before inner.
    pub groups: Vec<Membership>,
    /// The variables, `--set` included.
    pub vars: Vars,
    /// The playbooks, each once, in the order of groups and lists.
    pub playbooks: Vec<PlaybookUse>,
    /// The resources of groups and of the host itself.
    pub bodies: Vec<Inline>,
}

/// A group that a host is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub name: Arc<str>,
    /// How deep it lies in other groups; 0 for a group in no other.
    pub depth: u32,
}

/// A playbook that a host gets.
#[derive(Clone, Debug)]
pub struct PlaybookUse {
    /// The name, with its place.
    pub name: Key,
    /// Parameters given where the playbook is named.
    pub params: Vars,
}

/// Resources written in the inventory.
#[derive(Clone, Debug)]
pub struct Inline {
    /// The group, with its depth; `None` for the host itself.
    pub group: Option<Membership>,
    /// The resources.
    pub body: Arc<Body>,
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// The name.
    pub name: Arc<str>,
    /// The place of the name.
    pub span: Span,
    /// How deep it lies in other groups.
    pub depth: u32,
    settings: Settings,
    patterns: Vec<(String, Span)>,
    members: Vec<(String, Span)>,
    /// Groups that this one is in, itself included.
    within: BTreeSet<usize>,
}

/// What becomes of a host whose run fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// What was done stays.
    #[default]
    Keep,
    /// The run is taken back at once.
    Rollback,
}

/// All hosts.
#[derive(Debug, Default)]
pub struct Inventory {
    hosts: Vec<Arc<HostSpec>>,
    by_name: HashMap<Arc<str>, usize>,
    groups: Vec<Group>,
    /// Hosts of each group by position, itself and the groups in it.
    members: Vec<Vec<usize>>,
    /// What becomes of a host whose run fails.
    pub on_failure: OnFailure,
    /// How a change goes over the hosts.
    pub rollout: Rollout,
    /// All names of variables that are set anywhere, with their places.
    pub(super) variables: Vec<Key>,
}

/// What the inventory itself, a group or a host sets.
#[derive(Debug, Default)]
struct Settings {
    vars: Vec<Arc<Var>>,
    ssh: Vec<Arc<Var>>,
    playbooks: Vec<Use>,
    body: Option<Arc<Body>>,
}

#[derive(Debug)]
struct Use {
    name: Key,
    params: Vec<Arc<Var>>,
}

/// What is written for one name or range.
#[derive(Debug)]
struct HostEntry {
    settings: Settings,
    connection: Connection,
    has_settings: bool,
}

/// A pattern of names of hosts.
pub(super) enum Pattern {
    /// A name, or the names of a range.
    Names(Vec<String>),
    /// A glob.
    Glob(GlobMatcher),
}

impl Pattern {
    /// Reads a name, a range or a glob.
    pub(super) fn read(text: &str, span: Span, sources: &SourceMap) -> Result<Self, Diagnostic> {
        if !text.contains(['*', '?']) {
            return names(text, span, sources).map(Self::Names);
        }
        if text.contains('[') {
            return Err(Diagnostic::error("a pattern has a range or a glob, not both").at(span));
        }
        match GlobBuilder::new(text).literal_separator(false).build() {
            Ok(glob) => Ok(Self::Glob(glob.compile_matcher())),
            Err(error) => Err(Diagnostic::error(format!("`{text}` is no pattern: {}", error.kind())).at(span)),
        }
    }
}

/// Expands a name or range at a place.
fn names(text: &str, span: Span, sources: &SourceMap) -> Result<Vec<String>, Diagnostic> {
    range::expand(text).map_err(|error| {
        let shift = sources.slice(span).and_then(|slice| slice.find(text)).unwrap_or(0);
        Diagnostic::error(error.message).at(span.part(error.at.start + shift..error.at.end + shift))
    })
}

/// Returns an inventory without what hosts should be: variables, playbooks and resources.
pub(super) fn reach(node: &Node) -> Node {
    fn without(node: &Node, parts: &[&str]) -> Node {
        let Value::Map(map) = &node.value else { return node.clone() };
        let kept = map.iter().filter(|(key, _)| !["vars", "playbooks", "resources"].contains(&key.text.as_str()));
        let kept = kept.map(|(key, node)| {
            let node = match (&node.value, parts.contains(&key.text.as_str())) {
                (Value::Map(entries), true) => {
                    let entries = entries.iter().map(|(key, entry)| (key.clone(), without(entry, &[])));
                    Node::new(Value::Map(Map(entries.collect())), node.span)
                }
                _ => node.clone(),
            };
            (key.clone(), node)
        });
        Node::new(Value::Map(Map(kept.collect())), node.span)
    }
    without(node, &["hosts", "groups"])
}

impl Inventory {
    /// Reads an inventory. `set` are the variables of `--set`.
    ///
    /// # Errors
    /// Everything that is wrong with it; whether playbooks, kinds and variables exist is checked later.
    pub fn read(node: &Node, set: &[Arc<Var>], sources: &SourceMap) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut reader = Reader { sources, diagnostics: Diagnostics::new() };
        let inventory = reader.inventory(node, set);
        let mut diagnostics = reader.diagnostics;
        diagnostics.sort();
        diagnostics.or(inventory)
    }

    /// Returns all hosts in the order of the file.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<HostSpec>] {
        &self.hosts
    }

    /// Returns a host by its name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Arc<HostSpec>> {
        self.by_name.get(name).and_then(|&at| self.hosts.get(at))
    }

    /// Returns all groups in the order of the file.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns the positions of the hosts of a group, those of the groups in it included.
    pub(super) fn members(&self, group: &str) -> Option<&[usize]> {
        let at = self.groups.iter().position(|other| *other.name == *group)?;
        self.members.get(at).map(Vec::as_slice)
    }

    /// Returns the position of a host.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

struct Reader<'s> {
    sources: &'s SourceMap,
    diagnostics: Diagnostics,
}

impl Reader<'_> {
    fn inventory(&mut self, node: &Node, set: &[Arc<Var>]) -> Inventory {
        let mut inventory = Inventory::default();
        if node.is_null() {
            let empty = Diagnostic::error("the inventory is empty").at(node.span);
            self.diagnostics
                .push(empty.help("name the hosts under `hosts:`, as in `hosts: { kvm[01-12].example.net: {} }`"));
            return inventory;
        }
        let Some(map) = self.map(node, "a map with `hosts`") else { return inventory };
        self.known(&map, &["vars", "ssh", "hosts", "groups", "on_failure", "rollout"]);
        inventory.on_failure = self.on_failure(map.get("on_failure"));
        inventory.rollout = map.get("rollout").map(|node| self.rollout(node)).unwrap_or_default();
        let top = self.settings(&map);
        match map.get("hosts") {
            // An unknown key is most likely `hosts` itself.
            None if self.diagnostics.has_errors() => {}
            None => self.diagnostics.push(Diagnostic::error("there are no `hosts`").at(node.span)),
            Some(node) => match map_of(node, "a map of hosts") {
                Ok([]) => self.diagnostics.push(Diagnostic::error("there are no `hosts`").at(node.span)),
                Ok(_) => {}
                Err(diagnostic) => self.diagnostics.push(diagnostic.help("write `NAME: {}` for each host")),
            },
        }
        let (entries, mut hosts) = self.hosts(map.get("hosts"));
        for (at, host) in hosts.iter().enumerate() {
            inventory.by_name.insert(Arc::clone(&host.name), at);
        }
        let mut groups = self.groups(map.get("groups"), &inventory.by_name);
        let is_sound = self.nest(&mut groups);
        let direct = self.membership(&groups, &hosts, &inventory.by_name);
        inventory.variables = top
            .vars
            .iter()
            .chain(groups.iter().flat_map(|group| &group.settings.vars))
            .chain(entries.iter().flat_map(|entry| &entry.settings.vars))
            .map(|var| var.key.clone())
            .collect();
        if is_sound {
            inventory.members = vec![Vec::new(); groups.len()];
            let mut profiles: HashMap<(Option<usize>, Vec<usize>), Arc<Profile>> = HashMap::new();
            for (at, host) in hosts.iter_mut().enumerate() {
                let mut within: Vec<usize> = direct
                    .get(&at)
                    .map(|groups_of| groups_of.iter().flat_map(|&group| groups[group].within.iter().copied()).collect())
                    .unwrap_or_default();
                within.sort_unstable_by_key(|&group| (groups[group].depth, group));
                within.dedup();
                for &group in &within {
                    inventory.members[group].push(at);
                }
                let entry = &entries[host.entry];
                let key = (entry.has_settings.then_some(host.entry), within);
                if !profiles.contains_key(&key) {
                    let before = std::mem::take(&mut self.diagnostics);
                    let profile = Arc::new(self.profile(&top, &groups, &key.1, entry, set));
                    let found = std::mem::replace(&mut self.diagnostics, before);
                    self.diagnostics.append(found.for_host(&host.name));
                    profiles.insert(key.clone(), profile);
                }
                let Some(profile) = profiles.get(&key) else { continue };
                inventory.hosts.push(Arc::new(HostSpec {
                    name: Arc::clone(&host.name),
                    span: host.span,
                    address: host.address.clone(),
                    profile: Arc::clone(profile),
                }));
            }
        }
        inventory.groups = groups;
        inventory
    }

    fn map(&mut self, node: &Node, what: &str) -> Option<Map> {
        match map_of(node, what) {
            Ok(entries) => Some(Map(entries.to_vec())),
            Err(diagnostic) => {
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn on_failure(&mut self, node: Option<&Node>) -> OnFailure {
        match node.map(|node| (&node.value, node.span)) {
            None => OnFailure::Keep,
            Some((Value::Str(text), _)) if text == "keep" => OnFailure::Keep,
            Some((Value::Str(text), _)) if text == "rollback" => OnFailure::Rollback,
            Some((_, span)) => {
                let help =
                    "`rollback` takes the run of a host back that fails; `keep`, the default, leaves what was done";
                self.diagnostics.push(Diagnostic::error("`on_failure` is `keep` or `rollback`").at(span).help(help));
                OnFailure::Keep
            }
        }
    }

    fn rollout(&mut self, node: &Node) -> Rollout {
        match de::parse::<Rollout>(node) {
            Ok(rollout) => {
                for problem in rollout.problems() {
                    self.diagnostics.push(Diagnostic::error(problem).at(node.span));
                }
                rollout
            }
            Err(errors) => {
                self.diagnostics.append(errors);
                Rollout::default()
            }
        }
    }

    fn known(&mut self, map: &Map, keys: &[&str]) {
        for (key, _) in map {
            if keys.contains(&key.text.as_str()) {
                continue;
            }
            let diagnostic = Diagnostic::error(format!("unknown key `{key}`")).at(key.span);
            self.diagnostics.push(diagnostic.suggest(&key.text, keys.iter().copied()));
        }
    }

    /// Reads what the inventory itself, groups and hosts have in common.
    fn settings(&mut self, map: &Map) -> Settings {
        let mut settings = Settings::default();
        if let Some(node) = map.get("vars") {
            settings.vars = self.vars(node, "variable");
        }
        if let Some(node) = map.get("ssh")
            && let Some(values) = self.map(node, "a map of SSH settings")
        {
            match de::parse::<Ssh>(&Node::new(Value::Map(values.clone()), node.span)) {
                Ok(_) => {
                    for (key, node) in &values {
                        match Var::new(key.clone(), node, self.sources) {
                            Ok(var) if var.template.fixed().is_some() => settings.ssh.push(var),
                            Ok(var) => self.diagnostics.push(
                                Diagnostic::error("an SSH setting cannot be a template")
                                    .at(var.node.span)
                                    .help("facts are read over SSH, so nothing is known before"),
                            ),
                            Err(errors) => self.diagnostics.append(errors),
                        }
                    }
                }
                Err(errors) => self.diagnostics.append(errors),
            }
        }
        if let Some(node) = map.get("playbooks") {
            settings.playbooks = self.playbooks(node);
        }
        if let Some(node) = map.get("resources") {
            match Body::read(node, self.sources) {
                Ok(body) => settings.body = Some(Arc::new(body)),
                Err(errors) => self.diagnostics.append(errors),
            }
        }
        settings
    }

    fn vars(&mut self, node: &Node, what: &str) -> Vec<Arc<Var>> {
        let Some(map) = self.map(node, &format!("a map of {what}s")) else { return Vec::new() };
        let mut vars = Vec::with_capacity(map.len());
        for (key, node) in &map {
            check_name(&key.text, key.span, what, &mut self.diagnostics);
            match Var::new(key.clone(), node, self.sources) {
                Ok(var) => vars.push(var),
                Err(errors) => self.diagnostics.append(errors),
            }
        }
        vars
    }

    fn playbooks(&mut self, node: &Node) -> Vec<Use> {
        let mut uses: Vec<Use> = Vec::new();
        let list = match &node.value {
            Value::Null => return uses,
            Value::Seq(list) => list.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let expected = "a playbook: its name, or `{ NAME: { parameter: value } }`";
        for node in list {
            match &node.value {
                Value::Str(name) => {
                    uses.push(Use { name: Key { text: name.clone(), span: node.span }, params: Vec::new() });
                }
                Value::Map(map) => {
                    for (name, params) in map {
                        let params = self.vars(params, "parameter");
                        uses.push(Use { name: name.clone(), params });
                    }
                }
                _ => self
                    .diagnostics
                    .push(Diagnostic::error(format!("expected {expected}, found {}", node.describe())).at(node.span)),
            }
        }
        let mut seen: HashMap<&str, Span> = HashMap::new();
        for Use { name, .. } in &uses {
            if let Some(first) = seen.insert(&name.text, name.span) {
                self.diagnostics.push(
                    Diagnostic::error(format!("the playbook `{name}` stands twice in this list"))
                        .at(name.span)
                        .label(first, "first here"),
                );
            }
        }
        uses
    }

    fn hosts(&mut self, node: Option<&Node>) -> (Vec<HostEntry>, Vec<Named>) {
        let mut entries = Vec::new();
        let mut hosts: Vec<Named> = Vec::new();
        let mut seen: HashMap<Arc<str>, Span> = HashMap::new();
        let written = match node.map(|node| map_of(node, "a map of hosts")) {
            Some(Ok(written)) => written,
            _ => return (entries, hosts),
        };
        for (key, node) in written {
            let names = match names(&key.text, key.span, self.sources) {
                Ok(names) => names,
                Err(diagnostic) => {
                    self.diagnostics.push(diagnostic);
                    continue;
                }
            };
            if hosts.len() + names.len() > range::MAX_HOSTS {
                self.diagnostics
                    .push(Diagnostic::error(format!("there are more than {} hosts", range::MAX_HOSTS)).at(key.span));
                break;
            }
            let (entry, address) = self.host(node, names.len());
            entries.push(entry);
            for name in names {
                let name: Arc<str> = name.into();
                if let Some(first) = seen.insert(Arc::clone(&name), key.span) {
                    self.diagnostics.push(
                        Diagnostic::error(format!("the host `{name}` stands twice in the inventory"))
                            .at(key.span)
                            .label(first, "first here"),
                    );
                    continue;
                }
                hosts.push(Named { name, span: key.span, entry: entries.len() - 1, address: address.clone() });
            }
        }
        (entries, hosts)
    }

    fn host(&mut self, node: &Node, n_names: usize) -> (HostEntry, Option<Arc<str>>) {
        let map = self.map(node, "the settings of a host, or `{}`").unwrap_or_default();
        self.known(&map, &["address", "connection", "ssh", "vars", "playbooks", "resources"]);
        let mut address = None;
        if let Some(node) = map.get("address") {
            match node.scalar_text() {
                Some(text) if is_address(&text) => address = Some(Arc::from(&*text)),
                _ => self.diagnostics.push(
                    Diagnostic::error(format!("expected a name or IP address, found {}", node.describe()))
                        .at(node.span),
                ),
            }
            if n_names > 1 {
                let several = Diagnostic::error(format!("one address for {n_names} hosts")).at(node.span);
                self.diagnostics.push(several.help("write the hosts one by one"));
            }
        }
        let connection = map.get("connection").map_or_else(Connection::default, |node| match de::parse(node) {
            Ok(connection) => connection,
            Err(errors) => {
                self.diagnostics.append(errors);
                Connection::default()
            }
        });
        let settings = self.settings(&map);
        let has_settings = map.iter().any(|(key, _)| key.text != "address");
        (HostEntry { settings, connection, has_settings }, address)
    }

    fn groups(&mut self, node: Option<&Node>, hosts: &HashMap<Arc<str>, usize>) -> Vec<Group> {
        let mut groups = Vec::new();
        let Some(map) = node.and_then(|node| self.map(node, "a map of groups")) else { return groups };
        for (key, node) in &map {
            let is_name = |text: &str| {
                !text.is_empty()
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                    && !text.starts_with('-')
            };
            if !is_name(&key.text) {
                self.diagnostics.push(
                    Diagnostic::error(format!("`{key}` is no name of a group"))
                        .at(key.span)
                        .help("a name has letters, digits, `_`, `-` and `.`"),
                );
            }
            if hosts.contains_key(key.text.as_str()) {
                self.diagnostics
                    .push(Diagnostic::error(format!("`{key}` is a host, so no group can have that name")).at(key.span));
            }
            let map = self.map(node, "the settings of a group").unwrap_or_default();
            self.known(&map, &["hosts", "groups", "ssh", "vars", "playbooks", "resources"]);
            let settings = self.settings(&map);
            let patterns = self.texts(map.get("hosts"), "a host, range or pattern");
            let members = self.texts(map.get("groups"), "a group");
            groups.push(Group {
                name: key.text.as_str().into(),
                span: key.span,
                depth: 0,
                settings,
                patterns,
                members,
                within: BTreeSet::new(),
            });
        }
        groups
    }

    fn texts(&mut self, node: Option<&Node>, what: &str) -> Vec<(String, Span)> {
        let list = match node.map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => return Vec::new(),
            Some((Value::Seq(list), _)) => list.as_slice(),
            Some((_, node)) => std::slice::from_ref(node),
        };
        let mut texts = Vec::with_capacity(list.len());
        for node in list {
            match node.scalar_text() {
                Some(text) if !text.is_empty() => texts.push((text.into_owned(), node.span)),
                _ => self
                    .diagnostics
                    .push(Diagnostic::error(format!("expected {what}, found {}", node.describe())).at(node.span)),
            }
        }
        texts
    }

    /// Finds how groups stand in each other; tells whether there is no loop.
    fn nest(&mut self, groups: &mut [Group]) -> bool {
        let index: HashMap<Arc<str>, usize> =
            groups.iter().enumerate().map(|(at, group)| (Arc::clone(&group.name), at)).collect();
        let mut children: Vec<Vec<(usize, Span)>> = Vec::with_capacity(groups.len());
        for group in groups.iter() {
            let mut list = Vec::new();
            for (name, span) in &group.members {
                match index.get(name.as_str()) {
                    Some(&at) => list.push((at, *span)),
                    None => self.diagnostics.push(
                        Diagnostic::error(format!("unknown group `{name}`"))
                            .at(*span)
                            .suggest(name, groups.iter().map(|group| &*group.name)),
                    ),
                }
            }
            children.push(list);
        }
        if let Some(cycle) = cycle(&children) {
            let names: Vec<&str> = cycle.iter().map(|&(at, _)| &*groups[at].name).collect();
            let mut diagnostic =
                Diagnostic::error(format!("the group `{0}` is inside itself: {1} > {0}", names[0], names.join(" > ")));
            for (at, span) in &cycle {
                diagnostic = diagnostic.label(*span, format!("a member of `{}`", groups[*at].name));
            }
            self.diagnostics.push(diagnostic);
            return false;
        }
        // Without a loop each pass settles one more depth, so there are at most as many passes as groups.
        for (at, group) in groups.iter_mut().enumerate() {
            group.within.insert(at);
        }
        let mut changed = true;
        while changed {
            changed = false;
            for (parent, list) in children.iter().enumerate() {
                for &(child, _) in list {
                    let depth = groups[parent].depth + 1;
                    let within = groups[parent].within.clone();
                    let group = &mut groups[child];
                    changed |= group.depth < depth || !within.is_subset(&group.within);
                    group.depth = group.depth.max(depth);
                    group.within.extend(within);
                }
            }
        }
        true
    }

    /// Finds the groups that name each host themselves.
    fn membership(
        &mut self,
        groups: &[Group],
        hosts: &[Named],
        index: &HashMap<Arc<str>, usize>,
    ) -> HashMap<usize, Vec<usize>> {
        let mut direct: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, group) in groups.iter().enumerate() {
            for (text, span) in &group.patterns {
                match Pattern::read(text, *span, self.sources) {
                    Err(diagnostic) => self.diagnostics.push(diagnostic),
                    Ok(Pattern::Glob(glob)) => {
                        let mut any = false;
                        for (host, _) in hosts.iter().enumerate().filter(|(_, host)| glob.is_match(&*host.name)) {
                            direct.entry(host).or_default().push(at);
                            any = true;
                        }
                        if !any {
                            self.diagnostics.push(Diagnostic::warning(format!("`{text}` matches no host")).at(*span));
                        }
                    }
                    Ok(Pattern::Names(names)) => {
                        for name in names {
                            match index.get(name.as_str()) {
                                Some(&host) => direct.entry(host).or_default().push(at),
                                None => {
                                    let diagnostic = Diagnostic::error(format!("unknown host `{name}`")).at(*span);
                                    self.diagnostics.push(if groups.iter().any(|group| *group.name == *name) {
                                        diagnostic.help(format!("`{name}` is a group; name it under `groups:`"))
                                    } else {
                                        diagnostic.suggest(&name, hosts.iter().take(20_000).map(|host| &*host.name))
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
        direct
    }

    fn profile(
        &mut self,
        top: &Settings,
        groups: &[Group],
        within: &[usize],
        entry: &HostEntry,
        set: &[Arc<Var>],
    ) -> Profile {
        let layers = |pick: fn(&Settings) -> &[Arc<Var>]| {
            let mut layers = vec![Layer { depth: 0, vars: pick(top) }];
            layers.extend(
                within.iter().map(|&at| Layer { depth: groups[at].depth + 1, vars: pick(&groups[at].settings) }),
            );
            layers.push(Layer { depth: HOST_DEPTH, vars: pick(&entry.settings) });
            layers
        };
        let mut vars = layers(|settings| &settings.vars);
        vars.push(Layer { depth: SET_DEPTH, vars: set });
        let vars = layered(&vars, "the variable", &mut self.diagnostics);
        let ssh = layered(&layers(|settings| &settings.ssh), "the SSH setting", &mut self.diagnostics);
        let ssh = Map(ssh.into_values().map(|var| (var.key.clone(), var.node.clone())).collect());
        let span = ssh.0.first().map(|(key, _)| key.span);
        let ssh = match span {
            // The parts were checked where they stand.
            Some(span) => de::parse(&Node::new(Value::Map(ssh), span)).unwrap_or_default(),
            None => Ssh::default(),
        };
        let membership = |at: usize| Membership { name: Arc::clone(&groups[at].name), depth: groups[at].depth };
        let levels = within
            .iter()
            .map(|&at| (groups[at].depth + 1, &groups[at].settings, Some(membership(at))))
            .chain([(HOST_DEPTH, &entry.settings, None)]);
        let mut playbooks: Vec<(Key, Vec<(u32, &Use)>)> = Vec::new();
        let mut bodies = Vec::new();
        for (depth, settings, group) in levels {
            for used in &settings.playbooks {
                match playbooks.iter_mut().find(|(name, _)| name.text == used.name.text) {
                    Some((_, uses)) => uses.push((depth, used)),
                    None => playbooks.push((used.name.clone(), vec![(depth, used)])),
                }
            }
            if let Some(body) = &settings.body {
                bodies.push(Inline { group, body: Arc::clone(body) });
            }
        }
        let playbooks = playbooks
            .into_iter()
            .map(|(name, uses)| {
                let layers: Vec<Layer<'_>> =
                    uses.iter().map(|(depth, used)| Layer { depth: *depth, vars: &used.params }).collect();
                PlaybookUse { params: layered(&layers, "the parameter", &mut self.diagnostics), name }
            })
            .collect();
        Profile {
            connection: entry.connection,
            ssh,
            groups: within.iter().map(|&at| membership(at)).collect(),
            vars,
            playbooks,
            bodies,
        }
    }
}

#[derive(Debug)]
struct Named {
    name: Arc<str>,
    span: Span,
    entry: usize,
    address: Option<Arc<str>>,
}

fn is_address(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%[]".contains(c))
}

/// Returns a loop: its nodes in order, each with the place where it names the next one.
pub(super) fn cycle(children: &[Vec<(usize, Span)>]) -> Option<Vec<(usize, Span)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Colour {
        New,
        Open,
        Done,
    }
    let mut colours = vec![Colour::New; children.len()];
    for root in 0..children.len() {
        if colours[root] != Colour::New {
            continue;
        }
        // The way from the root: each node with the number of its next child.
        let mut way: Vec<(usize, usize)> = vec![(root, 0)];
        colours[root] = Colour::Open;
        while let Some(&(node, next)) = way.last() {
            let Some(&(child, _)) = children[node].get(next) else {
                colours[node] = Colour::Done;
                way.pop();
                continue;
            };
            if let Some(last) = way.last_mut() {
                last.1 += 1;
            }
            match colours.get(child) {
                Some(Colour::New) => {
                    colours[child] = Colour::Open;
                    way.push((child, 0));
                }
                Some(Colour::Open) => {
                    let start = way.iter().position(|&(node, _)| node == child)?;
                    return Some(way[start..].iter().map(|&(node, next)| (node, children[node][next - 1].1)).collect());
                }
                _ => {}
            }
        }
    }
    None
}
