//! Documents and the facts of one host to the declarations of that host: pure and for many hosts at once.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use minijinja::value::{Serde, Value as Jinja};

use super::{
    Project,
    body::{Body, Entry},
    declared::{Declared, Level},
    expr::{self, Names, Scope, Template, jinja_of},
    inventory::{HostSpec, Profile},
    module::Module,
    node::{Key, Map, Node, Taint, Value},
    secret::{Secret, Secrets},
    vars::Var,
};
use crate::diag::{Diagnostic, Diagnostics, Span};

/// The greatest number of resources of one host, and of entries looked at to get them.
const MAX_DECLARED: usize = 10_000;

/// A `requires` or `notify` whose name is looked up when all resources of the host are known.
#[derive(Debug)]
struct Reference {
    name: String,
    span: Span,
    /// What may stand before the name, innermost body first.
    prefixes: Arc<[String]>,
    /// Whether the name belongs to an entry that this host does not have.
    is_known: bool,
}

impl Project {
    /// Returns what is declared for a host with these facts. Parameters of kinds are not checked here: their kinds do that
    /// when they read them.
    ///
    /// # Errors
    /// Everything that is wrong on this host, with its name.
    pub fn expand(&self, host: &HostSpec, facts: &serde_json::Value) -> Result<Vec<Declared>, Diagnostics> {
        let mut expander = Expander::new(self, host, facts);
        expander.run();
        expander.resolve();
        expander.diagnostics.for_host(&host.name).or(()).map_err(sorted)?;
        Ok(expander.declared)
    }

    /// Returns what is declared for a host whatever its facts are: entries that look at facts are left out. Also tells
    /// whether one of those says `override: true`, since then a contradiction among the others may be none.
    ///
    /// # Errors
    /// Everything that is wrong without looking at facts.
    pub fn expand_without_facts(&self, host: &HostSpec) -> Result<(Vec<Declared>, bool), Diagnostics> {
        let mut expander = Expander { no_facts: true, ..Expander::new(self, host, &serde_json::Value::Null) };
        expander.run();
        expander.resolve();
        expander.diagnostics.for_host(&host.name).or(()).map_err(sorted)?;
        Ok((expander.declared, expander.left_override))
    }
}

fn sorted(mut diagnostics: Diagnostics) -> Diagnostics {
    diagnostics.sort();
    diagnostics
}

/// `facts` and `host`, which all expressions of a host see.
#[derive(Debug)]
struct Base {
    facts: Jinja,
    host: Jinja,
    secrets: Arc<Secrets>,
}

impl Base {
    fn value(&self, name: &str) -> Option<Jinja> {
        match name {
            "facts" => Some(self.facts.clone()),
            "host" => Some(self.host.clone()),
            _ => None,
        }
    }
}

fn base_taint(name: &str) -> Taint {
    Taint { facts: name == "facts", sensitive: false }
}

/// Variables of the inventory as expressions see them.
#[derive(Debug)]
struct VariableNames {
    base: Arc<Base>,
    values: HashMap<String, Evaluated>,
    all: Arc<Profile>,
}

impl Names for VariableNames {
    fn value(&self, name: &str) -> Option<Jinja> {
        self.values.get(name).map(Evaluated::jinja).or_else(|| self.base.value(name))
    }
    fn taint(&self, name: &str) -> Taint {
        self.values.get(name).map_or_else(|| base_taint(name), |value| value.node().deep_taint())
    }
    fn names(&self) -> Vec<String> {
        ["facts", "host"].into_iter().map(str::to_owned).chain(self.all.vars.keys().cloned()).collect()
    }
    fn secret(&self, secret: &Secret) -> Result<Node, Diagnostic> {
        self.base.secrets.value(secret)
    }
}

/// Parameters of a playbook or module as expressions see them.
#[derive(Debug)]
struct ParameterNames {
    base: Arc<Base>,
    module: Arc<Module>,
    /// In the order of the parameters; the first ones while defaults are evaluated.
    values: Vec<(Jinja, Taint)>,
}

impl ParameterNames {
    fn find(&self, name: &str) -> Option<&(Jinja, Taint)> {
        self.module.parameters.iter().zip(&self.values).find(|(parameter, _)| parameter.name == name).map(|(_, v)| v)
    }
}

impl Names for ParameterNames {
    fn value(&self, name: &str) -> Option<Jinja> {
        self.find(name).map(|(value, _)| value.clone()).or_else(|| self.base.value(name))
    }
    fn taint(&self, name: &str) -> Taint {
        self.find(name).map_or_else(|| base_taint(name), |(_, taint)| *taint)
    }
    fn names(&self) -> Vec<String> {
        let parameters = self.module.parameters.iter().map(|parameter| parameter.name.clone());
        ["facts", "host"].into_iter().map(str::to_owned).chain(parameters).collect()
    }
    fn secret(&self, secret: &Secret) -> Result<Node, Diagnostic> {
        self.base.secrets.value(secret)
    }
}

/// The names around an entry, and `item`.
#[derive(Debug)]
struct ItemNames {
    around: Arc<dyn Names>,
    item: Jinja,
    taint: Taint,
}

impl Names for ItemNames {
    fn value(&self, name: &str) -> Option<Jinja> {
        if name == "item" { Some(self.item.clone()) } else { self.around.value(name) }
    }
    fn taint(&self, name: &str) -> Taint {
        if name == "item" { self.taint } else { self.around.taint(name) }
    }
    fn names(&self) -> Vec<String> {
        let mut names = self.around.names();
        names.push("item".to_owned());
        names
    }
    fn secret(&self, secret: &Secret) -> Result<Node, Diagnostic> {
        self.around.secret(secret)
    }
}

/// The value of a variable.
#[derive(Clone, Debug)]
enum Evaluated {
    /// It is the same for all hosts.
    Fixed(Arc<Var>),
    /// It was computed for this host.
    Computed(Arc<(Node, Jinja)>),
}

impl Evaluated {
    fn node(&self) -> &Node {
        match self {
            Self::Fixed(var) => &var.node,
            Self::Computed(computed) => &computed.0,
        }
    }

    fn jinja(&self) -> Jinja {
        match self {
            Self::Fixed(var) => var.fixed().cloned().unwrap_or_default(),
            Self::Computed(computed) => computed.1.clone(),
        }
    }
}

/// What a body inherits from what it stands in.
struct Frame<'f> {
    level: Level,
    /// The places through which the host came here, outermost first.
    chain: Vec<Span>,
    /// The place outside, while the body is one embedded in the program.
    place: Option<Span>,
    labels: Vec<String>,
    overrides: bool,
    /// Whether there is anything in here follows from a secret.
    sensitive: bool,
    /// How many of the expander's `requires` and `notify` hold for everything in here.
    requires: Vec<usize>,
    notify: Vec<usize>,
    /// What may stand before the names in here, innermost first.
    prefixes: Arc<[String]>,
    bodies: Vec<&'f Body>,
}

struct Expander<'p> {
    project: &'p Project,
    host: &'p HostSpec,
    base: Arc<Base>,
    variables: HashMap<String, Evaluated>,
    open: Vec<String>,
    declared: Vec<Declared>,
    references: Vec<Reference>,
    /// For each of `declared`, the references that it requires and notifies.
    links: Vec<(Vec<usize>, Vec<usize>)>,
    n_entries: usize,
    diagnostics: Diagnostics,
    /// Facts are not known: what looks at them, or at a secret, is left out.
    no_facts: bool,
    /// An entry was left out that says `override: true`.
    left_override: bool,
}

impl<'p> Expander<'p> {
    fn new(project: &'p Project, host: &'p HostSpec, facts: &serde_json::Value) -> Self {
        let groups: Vec<&str> = host.profile.groups.iter().map(|group| &*group.name).collect();
        let base = Base {
            facts: Jinja::from(Serde(facts)),
            host: Jinja::from_pairs([
                ("name", Jinja::from(&*host.name)),
                ("address", Jinja::from(host.target())),
                ("groups", Jinja::from(Serde(&groups))),
            ]),
            secrets: Arc::clone(&project.secrets),
        };
        Self {
            project,
            host,
            base: Arc::new(base),
            variables: HashMap::new(),
            open: Vec::new(),
            declared: Vec::new(),
            references: Vec::new(),
            links: Vec::new(),
            n_entries: 0,
            diagnostics: Diagnostics::new(),
            no_facts: false,
            left_override: false,
        }
    }

    /// Tells whether a template cannot be evaluated because facts are not known; then no secret is had either.
    fn is_open(&self, template: &Template, scope: &Scope) -> bool {
        let mut uses_facts = false;
        if self.no_facts {
            uses_facts = template.has_secret();
            template.each_refs(&mut |refs, _| uses_facts |= scope.taint(refs).facts);
        }
        uses_facts
    }

    fn run(&mut self) {
        let profile = Arc::clone(&self.host.profile);
        let top: Arc<[String]> = Arc::new([String::new()]);
        for used in &profile.playbooks {
            // An unknown playbook was told when the project was loaded.
            let Some(playbook) = self.project.library.playbook(&used.name.text) else { continue };
            let Some(scope) = self.playbook(playbook, &used.params) else { continue };
            let frame = Frame {
                level: Level::Playbook,
                chain: vec![used.name.span],
                place: playbook.is_embedded.then_some(used.name.span),
                labels: Vec::new(),
                overrides: false,
                sensitive: false,
                requires: Vec::new(),
                notify: Vec::new(),
                prefixes: Arc::clone(&top),
                bodies: vec![&playbook.body],
            };
            self.body_at(&playbook.body, &scope, &frame);
        }
        for inline in &profile.bodies {
            let Some(scope) = self.inventory_scope(&inline.body) else { continue };
            let level = if inline.group.is_some() { Level::Group } else { Level::Host };
            let frame = Frame {
                level,
                chain: Vec::new(),
                place: None,
                labels: Vec::new(),
                overrides: false,
                sensitive: false,
                requires: Vec::new(),
                notify: Vec::new(),
                prefixes: Arc::clone(&top),
                bodies: vec![&inline.body],
            };
            self.body(&inline.body, &scope, &frame);
        }
    }

    fn tell<T>(&mut self, result: Result<T, Diagnostic>) -> Option<T> {
        result.map_err(|diagnostic| self.diagnostics.push(diagnostic)).ok()
    }

    /// Evaluates a variable and the variables that it is made of.
    fn variable(&mut self, name: &str) -> Result<Option<Evaluated>, Diagnostic> {
        if let Some(value) = self.variables.get(name) {
            return Ok(Some(value.clone()));
        }
        let profile = Arc::clone(&self.host.profile);
        let Some(var) = profile.vars.get(name) else { return Ok(None) };
        if var.template.fixed().is_some() {
            return Ok(Some(Evaluated::Fixed(Arc::clone(var))));
        }
        if self.open.iter().any(|open| open == name) {
            return Err(Diagnostic::error(format!("the variable `{name}` is made of itself")).at(var.template.span()));
        }
        self.open.push(name.to_owned());
        let result = self.template(&var.template);
        self.open.pop();
        let node = result?;
        let jinja = jinja_of(&node);
        let value = Evaluated::Computed(Arc::new((node, jinja)));
        self.variables.insert(name.to_owned(), value.clone());
        Ok(Some(value))
    }

    /// Evaluates a template that stands in the inventory.
    fn template(&mut self, template: &Template) -> Result<Node, Diagnostic> {
        if let Some(node) = template.fixed() {
            return Ok(node.clone());
        }
        let mut values = HashMap::new();
        for root in template.roots() {
            if let Some(value) = self.variable(&root)? {
                values.insert(root, value);
            }
        }
        let scope = self.variable_scope(values);
        if self.is_open(template, &scope) {
            let mut node = Node::new(Value::Null, template.span());
            node.mark(Taint { facts: true, sensitive: false });
            return Ok(node);
        }
        template.render(&scope, &self.project.sources)
    }

    fn variable_scope(&self, values: HashMap<String, Evaluated>) -> Scope {
        let all = Arc::clone(&self.host.profile);
        Scope::new(Arc::new(VariableNames { base: Arc::clone(&self.base), values, all }))
    }

    /// Returns the names that resources in the inventory see: of the variables those that they use.
    fn inventory_scope(&mut self, body: &Body) -> Option<(Scope, Arc<dyn Names>)> {
        let mut values = HashMap::new();
        for root in body.roots() {
            let value = self.variable(&root);
            if let Some(value) = self.tell(value)? {
                values.insert(root, value);
            }
        }
        let all = Arc::clone(&self.host.profile);
        let names: Arc<dyn Names> = Arc::new(VariableNames { base: Arc::clone(&self.base), values, all });
        Some((Scope::new(Arc::clone(&names)), names))
    }

    /// Gives a playbook its parameters: what was given with it, else the variables of the same names, else the defaults.
    fn playbook(&mut self, playbook: &Arc<Module>, given: &super::vars::Vars) -> Option<(Scope, Arc<dyn Names>)> {
        let mut values = Vec::with_capacity(playbook.parameters.len());
        let mut is_sound = true;
        for parameter in &playbook.parameters {
            let value = match given.get(&parameter.name) {
                Some(var) if !self.project.is_set(&parameter.name) => match var.template.fixed() {
                    Some(_) => Ok(Some(Evaluated::Fixed(Arc::clone(var)))),
                    None => self.template(&var.template).map(|node| {
                        let jinja = jinja_of(&node);
                        Some(Evaluated::Computed(Arc::new((node, jinja))))
                    }),
                },
                _ => self.variable(&parameter.name),
            };
            let result = value.and_then(|value| {
                if let Some(open) = value.as_ref().filter(|value| self.no_facts && value.node().deep_taint().facts) {
                    return Ok((Jinja::from(()), open.node().deep_taint()));
                }
                if let Some(value) = value.filter(|value| !value.node().is_null()) {
                    parameter.check(value.node())?;
                    return Ok((value.jinja(), value.node().deep_taint()));
                }
                self.default(playbook, parameter, &values)
            });
            match self.tell(result) {
                Some((jinja, taint)) => {
                    values.push((jinja, taint.and(Taint { facts: false, sensitive: parameter.sensitive })));
                }
                None => {
                    is_sound = false;
                    values.push((Jinja::from(()), Taint::default()));
                }
            }
        }
        is_sound.then(|| self.parameter_scope(playbook, values))
    }

    fn default(
        &self,
        module: &Arc<Module>,
        parameter: &super::module::Parameter,
        before: &[(Jinja, Taint)],
    ) -> Result<(Jinja, Taint), Diagnostic> {
        match &parameter.default {
            None => Ok((Jinja::from(()), Taint::default())),
            Some(Template::Fixed(node)) => Ok((jinja_of(node), Taint::default())),
            Some(template) => {
                let (scope, _) = self.parameter_scope(module, before.to_vec());
                if self.is_open(template, &scope) {
                    return Ok((Jinja::from(()), Taint { facts: true, sensitive: false }));
                }
                let node = template.render(&scope, &self.project.sources)?;
                parameter.check(&node)?;
                Ok((jinja_of(&node), node.deep_taint()))
            }
        }
    }

    fn parameter_scope(&self, module: &Arc<Module>, values: Vec<(Jinja, Taint)>) -> (Scope, Arc<dyn Names>) {
        let names: Arc<dyn Names> =
            Arc::new(ParameterNames { base: Arc::clone(&self.base), module: Arc::clone(module), values });
        (Scope::new(Arc::clone(&names)), names)
    }

    /// Expands a body, and says of what is wrong in one that is embedded where it is used: there a person can mend it.
    fn body_at(&mut self, body: &Body, around: &(Scope, Arc<dyn Names>), frame: &Frame<'_>) {
        let before = std::mem::take(&mut self.diagnostics);
        self.body(body, around, frame);
        let mut found = std::mem::replace(&mut self.diagnostics, before);
        if let Some(place) = frame.place {
            found.stand_at(place);
        }
        self.diagnostics.append(found);
    }

    fn body(&mut self, body: &Body, around: &(Scope, Arc<dyn Names>), frame: &Frame<'_>) {
        for entry in &body.entries {
            let Some(for_each) = &entry.for_each else {
                self.entry(entry, &around.0, false, frame);
                continue;
            };
            if self.is_open(for_each, &around.0) {
                self.left_override |= entry.overrides || frame.overrides;
                continue;
            }
            let rendered = for_each.render(&around.0, &self.project.sources);
            let Some(node) = self.tell(rendered) else { continue };
            let items: Vec<(Jinja, Taint)> = match &node.value {
                Value::Seq(list) => list.iter().map(|node| (jinja_of(node), node.deep_taint())).collect(),
                Value::Map(map) => {
                    let item = |(key, node): &(Key, Node)| {
                        let pairs = [("key", Jinja::from(key.text.as_str())), ("value", jinja_of(node))];
                        (Jinja::from_pairs(pairs), node.deep_taint())
                    };
                    map.iter().map(item).collect()
                }
                _ => {
                    let diagnostic = Diagnostic::error(format!("expected a list or map, found {}", node.describe()));
                    self.diagnostics.push(diagnostic.at(node.span));
                    continue;
                }
            };
            let repeats_secret = node.taint.sensitive;
            for (item, taint) in items {
                let taint = taint.and(node.taint);
                let names = ItemNames { around: Arc::clone(&around.1), item, taint };
                self.entry(entry, &Scope::new(Arc::new(names)), repeats_secret, frame);
            }
        }
    }

    /// Expands an entry once. `repeated` tells whether how often it counts follows from a secret.
    fn entry(&mut self, entry: &Entry, scope: &Scope, repeated: bool, frame: &Frame<'_>) {
        let sources = &self.project.sources;
        self.n_entries += 1;
        if self.n_entries > MAX_DECLARED {
            if self.n_entries == MAX_DECLARED + 1 {
                let diagnostic = Diagnostic::error(format!("the host has more than {MAX_DECLARED} resources"));
                self.diagnostics.push(diagnostic.at(entry.kind.span));
            }
            return;
        }
        if self.no_facts {
            let mut uses_facts = entry.has_secret();
            entry.each_refs(&mut |refs: &expr::Refs, _| uses_facts |= scope.taint(refs).facts);
            if uses_facts {
                self.left_override |= entry.overrides || frame.overrides;
                return;
            }
        }
        match entry.when.as_ref().map_or(Ok(true), |when| when.is_true(scope, sources)) {
            Ok(true) => {}
            Ok(false) => return,
            Err(diagnostic) => return self.diagnostics.push(diagnostic),
        }
        let params = entry.params.render(scope, sources);
        let Some(params) = self.tell(params) else { return };
        let Some(label) = self.label(entry, scope) else { return };
        let mut requires = frame.requires.clone();
        requires.extend(self.references(&entry.requires, scope, frame));
        let mut notify = frame.notify.clone();
        notify.extend(self.references(&entry.notify, scope, frame));
        let mut labels = frame.labels.clone();
        labels.extend(label.as_ref().map(|label| format!("{}{label}", frame.prefixes[0])));
        let overrides = frame.overrides || entry.overrides;
        let follows = entry.when.as_ref().is_some_and(|when| scope.taint(when.refs()).sensitive);
        let sensitive = frame.sensitive || repeated || follows;
        match self.project.module_of(&entry.kind.text) {
            None => {
                let mut params = params;
                if !self.contents(entry, &mut params, scope) {
                    return;
                }
                self.declared.push(Declared {
                    kind: entry.kind.text.clone(),
                    kind_span: entry.kind.span,
                    params,
                    labels,
                    requires: Vec::new(),
                    notify: Vec::new(),
                    overrides,
                    sensitive,
                    level: frame.level,
                    origin: frame.chain.iter().copied().chain([entry.kind.span]).collect(),
                    place: frame.place.unwrap_or(entry.kind.span),
                });
                self.links.push((requires, notify));
            }
            Some(module) => {
                let Some(scope) = self.call(module, entry, &params) else { return };
                let mut chain = frame.chain.clone();
                chain.push(entry.kind.span);
                let mut prefixes = vec![format!("{}#{}/", module.name, self.n_entries)];
                prefixes.extend(frame.prefixes.iter().cloned());
                let mut bodies = frame.bodies.clone();
                bodies.push(&module.body);
                let frame = Frame {
                    level: frame.level,
                    chain,
                    place: module.is_embedded.then(|| frame.place.unwrap_or(entry.kind.span)),
                    labels,
                    overrides,
                    sensitive,
                    requires,
                    notify,
                    prefixes: prefixes.into(),
                    bodies,
                };
                self.body_at(&module.body, &scope, &frame);
            }
        }
    }

    /// Gives a module its parameters.
    fn call(&mut self, module: &Arc<Module>, entry: &Entry, params: &Node) -> Option<(Scope, Arc<dyn Names>)> {
        let before = self.diagnostics.len();
        let empty = Map::default();
        let given = match &params.value {
            Value::Map(map) => map,
            Value::Null => &empty,
            _ => {
                let diagnostic =
                    Diagnostic::error(format!("expected a map of parameters, found {}", params.describe()));
                self.diagnostics.push(diagnostic.at(params.span));
                return None;
            }
        };
        for (key, _) in given {
            if module.parameter(&key.text).is_none() {
                self.diagnostics.push(module.unknown(&key.text, key.span));
            }
        }
        let mut values = Vec::with_capacity(module.parameters.len());
        for parameter in &module.parameters {
            let result = match given.get(&parameter.name).filter(|node| !node.is_null()) {
                Some(node) => parameter.check(node).map(|()| (jinja_of(node), node.deep_taint())),
                None if parameter.required => Err(module.missing(parameter, entry.kind.span)),
                None => self.default(module, parameter, &values),
            };
            let (jinja, taint) = self.tell(result).unwrap_or_else(|| (Jinja::from(()), Taint::default()));
            values.push((jinja, taint.and(Taint { facts: false, sensitive: parameter.sensitive })));
        }
        (self.diagnostics.len() == before).then(|| self.parameter_scope(module, values))
    }

    fn label(&mut self, entry: &Entry, scope: &Scope) -> Option<Option<String>> {
        let Some(name) = &entry.name else { return Some(None) };
        let node = name.render(scope, &self.project.sources);
        let node = self.tell(node)?;
        match node.scalar_text() {
            _ if node.deep_taint().sensitive => {
                self.diagnostics.push(Diagnostic::error("a name cannot be made of a secret").at(node.span));
                None
            }
            Some(text) if !text.is_empty() => Some(Some(text.into_owned())),
            _ => {
                let diagnostic = Diagnostic::error(format!("expected a name, found {}", node.describe())).at(node.span);
                self.diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn references(&mut self, templates: &[Template], scope: &Scope, frame: &Frame<'_>) -> Vec<usize> {
        let mut found = Vec::with_capacity(templates.len());
        for template in templates {
            let node = template.render(scope, &self.project.sources);
            let Some(node) = self.tell(node) else { continue };
            if node.deep_taint().sensitive {
                self.diagnostics.push(Diagnostic::error("a name cannot be made of a secret").at(node.span));
                continue;
            }
            let Some(text) = node.scalar_text().filter(|text| !text.is_empty()) else {
                let diagnostic = Diagnostic::error(format!("expected a name, found {}", node.describe())).at(node.span);
                self.diagnostics.push(diagnostic);
                continue;
            };
            let is_computed = template.fixed().is_none();
            let is_known = frame
                .bodies
                .iter()
                .any(|body| body.labels.contains(&*text) || (is_computed && body.has_computed_labels));
            self.references.push(Reference {
                name: text.into_owned(),
                span: node.span,
                prefixes: Arc::clone(&frame.prefixes),
                is_known,
            });
            found.push(self.references.len() - 1);
        }
        found
    }

    /// Reads the files that parameters of a kind name, and puts their contents in their place.
    fn contents(&mut self, entry: &Entry, params: &mut Node, scope: &Scope) -> bool {
        let files = self.project.file_parameters(&entry.kind.text);
        if files.is_empty() {
            return true;
        }
        let result = self.project.put_contents(files, params, scope);
        // The text of a template may look at facts; that is seen on the host.
        if self.no_facts && result.is_err() {
            return false;
        }
        self.tell(result).is_some()
    }

    /// Finds the names in `requires` and `notify` among those of this host.
    fn resolve(&mut self) {
        let labels: HashSet<&str> =
            self.declared.iter().flat_map(|declared| &declared.labels).map(String::as_str).collect();
        let profile = &self.host.profile;
        let bodies = || {
            let playbooks = profile.playbooks.iter().filter_map(|used| self.project.library.playbook(&used.name.text));
            playbooks.map(|playbook| &playbook.body).chain(profile.bodies.iter().map(|inline| &*inline.body))
        };
        let mut resolved: Vec<Option<(String, Span)>> = Vec::with_capacity(self.references.len());
        let mut wrong = Vec::new();
        for reference in &self.references {
            let name = reference.prefixes.iter().map(|prefix| format!("{prefix}{}", reference.name));
            let found = name.into_iter().find(|name| labels.contains(name.as_str()));
            let found = found.or_else(|| is_address(&reference.name).then(|| reference.name.clone()));
            if found.is_none() && !reference.is_known && !bodies().any(|body| body.labels.contains(&reference.name)) {
                let known: HashSet<&str> =
                    bodies().flat_map(|body| &body.labels).map(String::as_str).chain(labels.iter().copied()).collect();
                let mut known: Vec<&str> = known.into_iter().filter(|name| !name.contains('/')).collect();
                known.sort_unstable();
                wrong.push(
                    Diagnostic::error(format!("no resource has the name `{}`", reference.name))
                        .at(reference.span)
                        .suggest(&reference.name, known),
                );
            }
            resolved.push(found.map(|name| (name, reference.span)));
        }
        self.diagnostics.extend(wrong);
        for (declared, (requires, notify)) in self.declared.iter_mut().zip(&self.links) {
            declared.requires = requires.iter().filter_map(|&at| resolved[at].clone()).collect();
            declared.notify = notify.iter().filter_map(|&at| resolved[at].clone()).collect();
        }
    }
}

/// Tells whether a reference has the form `kind[name]`, which the catalog looks up.
pub(super) fn is_address(name: &str) -> bool {
    name.ends_with(']') && name.find('[').is_some_and(|at| at > 0)
}

impl Body {
    /// Returns the first names of all paths that expressions of this body use.
    #[must_use]
    pub fn roots(&self) -> std::collections::BTreeSet<String> {
        let mut roots = std::collections::BTreeSet::new();
        for entry in &self.entries {
            entry.each_refs(&mut |refs: &expr::Refs, _| {
                roots.extend(refs.iter().filter_map(|path| path.first().cloned()))
            });
        }
        roots
    }
}
