//! What can be said about documents before any host is asked: names of kinds, modules, parameters, variables, facts and
//! resources.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value as Json;

use super::{
    Kinds, Project,
    body::{Body, Entry, KEYS},
    expand::is_address,
    expr::{self, Refs, Template, find_word},
    inventory::{Profile, cycle},
    module::{Class, Module, RESERVED},
    node::{Node, Value},
};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, did_you_mean};

/// Checks a project whose files were read.
pub(super) fn check(project: &Project, kinds: &dyn Kinds, facts: Option<&Json>) -> Diagnostics {
    let mut names: Vec<&str> = kinds.names();
    let kind_names: HashSet<&str> = names.iter().copied().collect();
    names.extend(project.library.names(Class::Module));
    let mut checker = Checker {
        project,
        kinds,
        kind_names,
        names,
        facts,
        has_unknown_playbook: false,
        diagnostics: Diagnostics::new(),
    };
    checker.recursion();
    for module in project.library.all() {
        checker.module(module);
    }
    checker.inventory();
    checker.diagnostics
}

struct Checker<'p> {
    project: &'p Project,
    kinds: &'p dyn Kinds,
    kind_names: HashSet<&'p str>,
    /// Kinds and modules.
    names: Vec<&'p str>,
    facts: Option<&'p Json>,
    has_unknown_playbook: bool,
    diagnostics: Diagnostics,
}

impl Checker<'_> {
    /// Finds modules that use themselves.
    fn recursion(&mut self) {
        let all = self.project.library.all();
        let at = |name: &str| all.iter().position(|module| module.class == Class::Module && module.name == name);
        let children: Vec<Vec<(usize, Span)>> = all
            .iter()
            .map(|module| {
                let calls =
                    module.body.entries.iter().filter(|entry| !self.kind_names.contains(entry.kind.text.as_str()));
                calls.filter_map(|entry| Some((at(&entry.kind.text)?, entry.kind.span))).collect()
            })
            .collect();
        if let Some(cycle) = cycle(&children) {
            let names: Vec<&str> = cycle.iter().map(|&(at, _)| all[at].name.as_str()).collect();
            let mut diagnostic =
                Diagnostic::error(format!("the module `{0}` uses itself: {1} > {0}", names[0], names.join(" > ")));
            for (at, span) in &cycle {
                diagnostic = diagnostic.label(*span, format!("used by `{}`", all[*at].name));
            }
            self.diagnostics.push(diagnostic);
        }
    }

    fn module(&mut self, module: &Module) {
        if module.class == Class::Module && self.kind_names.contains(module.name.as_str()) {
            self.diagnostics.push(
                Diagnostic::error(format!("the module `{0}` has the name of a kind", module.name))
                    .at(module.span)
                    .help("rename its file"),
            );
        }
        let mut known: BTreeSet<String> = BTreeSet::new();
        let hint = match module.class {
            Class::Playbook => "declare it under `parameters:`; a parameter takes the variable of the same name",
            Class::Module => "a module sees its own parameters only; declare it under `parameters:`",
        };
        for parameter in &module.parameters {
            if let Some(default) = &parameter.default {
                self.secrets(default);
                default.each_refs(&mut |refs, span| {
                    self.refs(refs, span, &known, false, "a default sees facts and the parameters before it");
                });
            }
            known.insert(parameter.name.clone());
        }
        self.body(&module.body, &known, hint, module.class == Class::Module);
    }

    fn inventory(&mut self) {
        let mut used: BTreeSet<String> = BTreeSet::new();
        let mut settable: BTreeSet<String> = BTreeSet::new();
        let mut seen: HashSet<*const Profile> = HashSet::new();
        let mut bodies: HashSet<(*const Body, Vec<&str>)> = HashSet::new();
        for host in self.project.inventory.hosts() {
            let profile = &*host.profile;
            if !seen.insert(std::ptr::from_ref(profile)) {
                continue;
            }
            let before = std::mem::take(&mut self.diagnostics);
            self.profile(profile, &mut used, &mut settable, &mut bodies);
            let found = std::mem::replace(&mut self.diagnostics, before);
            self.diagnostics.append(found);
        }
        let mut variables: Vec<&str> = Vec::new();
        for key in &self.project.inventory.variables {
            variables.push(&key.text);
            // What an unknown playbook takes is not known.
            if !self.has_unknown_playbook && !used.contains(&key.text) && !settable.contains(&key.text) {
                let candidates = used.iter().chain(&settable).map(String::as_str);
                let diagnostic = Diagnostic::warning(format!("nothing uses the variable `{key}`")).at(key.span);
                self.diagnostics.push(match did_you_mean(&key.text, candidates) {
                    Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                    None => diagnostic,
                });
            }
        }
        for var in &self.project.set {
            let name = var.key.text.as_str();
            if !self.has_unknown_playbook
                && !variables.contains(&name)
                && !settable.contains(name)
                && !used.contains(name)
            {
                let known: BTreeSet<&str> =
                    variables.iter().copied().chain(settable.iter().map(String::as_str)).collect();
                self.diagnostics.push(
                    Diagnostic::error(format!("`--set {name}`: nothing uses a variable of this name"))
                        .at(var.key.span)
                        .suggest(name, known),
                );
            }
        }
    }

    fn profile<'p>(
        &mut self,
        profile: &'p Profile,
        used: &mut BTreeSet<String>,
        settable: &mut BTreeSet<String>,
        bodies: &mut HashSet<(*const Body, Vec<&'p str>)>,
    ) {
        let known: BTreeSet<String> = profile.vars.keys().cloned().collect();
        let hint = "set it under `vars:`";
        for var in profile.vars.values().filter(|var| var.template.fixed().is_none()) {
            self.secrets(&var.template);
            used.extend(var.template.roots());
            var.template.each_refs(&mut |refs, span| self.refs(refs, span, &known, false, hint));
        }
        for playbook_use in &profile.playbooks {
            let name = &playbook_use.name;
            let Some(playbook) = self.project.library.playbook(&name.text) else {
                let diagnostic = Diagnostic::error(format!("unknown playbook `{name}`")).at(name.span);
                self.diagnostics.push(match self.project.library.module(&name.text) {
                    Some(_) => diagnostic.help(format!("`{name}` is a module; use it under `resources:`")),
                    None => diagnostic.suggest(&name.text, self.project.library.names(Class::Playbook)).help(format!(
                        "it would be `playbooks/{name}.yaml` beside the inventory or in `--modules DIR`"
                    )),
                });
                self.has_unknown_playbook = true;
                continue;
            };
            for var in playbook_use.params.values() {
                self.secrets(&var.template);
                used.extend(var.template.roots());
                var.template.each_refs(&mut |refs, span| self.refs(refs, span, &known, false, hint));
                match playbook.parameter(&var.key.text) {
                    None => self.diagnostics.push(playbook.unknown(&var.key.text, var.key.span)),
                    Some(parameter) => {
                        if parameter.sensitive {
                            hide(&var.node, &self.project.sources);
                        }
                        if let Some(node) = var.template.fixed()
                            && let Err(diagnostic) = parameter.check(node)
                        {
                            self.diagnostics.push(diagnostic);
                        }
                    }
                }
            }
            for parameter in &playbook.parameters {
                settable.insert(parameter.name.clone());
                if let Some(var) = profile.vars.get(&parameter.name).filter(|_| parameter.sensitive) {
                    hide(&var.node, &self.project.sources);
                }
                let is_given =
                    playbook_use.params.contains_key(&parameter.name) && !self.project.is_set(&parameter.name);
                if let Some(var) = profile.vars.get(&parameter.name).filter(|_| !is_given)
                    && let Some(node) = var.template.fixed()
                    && let Err(diagnostic) = parameter.check(node)
                {
                    self.diagnostics.push(diagnostic.label(parameter.span, format!("of the playbook `{name}`")));
                }
            }
        }
        for inline in &profile.bodies {
            used.extend(inline.body.roots());
            // A body is checked once for each set of variables.
            if bodies.insert((std::ptr::from_ref(&*inline.body), profile.vars.keys().map(String::as_str).collect())) {
                self.body(&inline.body, &known, hint, false);
            }
        }
    }

    fn body(&mut self, body: &Body, known: &BTreeSet<String>, hint: &str, is_module: bool) {
        for entry in &body.entries {
            entry.each_refs(&mut |refs, span| self.refs(refs, span, known, entry.for_each.is_some(), hint));
            for template in [&entry.params].into_iter().chain(&entry.for_each) {
                self.secrets(template);
            }
            let kind = entry.kind.text.as_str();
            if self.kind_names.contains(kind) {
                if let Some(params) = entry.params.fixed() {
                    self.diagnostics.append(self.kinds.check(kind, params));
                }
                self.files(entry);
            } else if let Some(module) = self.project.library.module(kind) {
                self.hide_in_call(module, &entry.params);
                module.check_call(entry.kind.span, &entry.params, &mut self.diagnostics);
            } else {
                let diagnostic = Diagnostic::error(format!("unknown kind or module `{kind}`")).at(entry.kind.span);
                self.diagnostics.push(match did_you_mean(kind, KEYS).filter(|_| entry.params.fixed().is_some()) {
                    Some(meant) if did_you_mean(kind, self.names.iter().copied()).is_none() => {
                        diagnostic.help(format!("did you mean `{meant}` of the entry before?"))
                    }
                    _ => diagnostic.suggest(kind, self.names.iter().copied()),
                });
            }
            self.references(body, entry, is_module);
        }
    }

    /// Lets no excerpt show what is given to sensitive parameters.
    fn hide_in_call(&self, module: &Module, params: &Template) {
        let is_sensitive = |name: &str| module.parameter(name).is_some_and(|parameter| parameter.sensitive);
        let sources = &self.project.sources;
        match params {
            Template::Fixed(node) => {
                let given = node.as_map().into_iter().flatten();
                given.filter(|(key, _)| is_sensitive(&key.text)).for_each(|(_, node)| hide(node, sources));
            }
            Template::Map(entries, _) => {
                let given = entries.iter().filter(|(key, _, _)| is_sensitive(&key.text));
                given.filter_map(|(_, _, value)| value.fixed()).for_each(|node| hide(node, sources));
            }
            _ => {}
        }
    }

    /// Looks for the files of secrets, so that a missing one is told early; nothing is decrypted.
    fn secrets(&mut self, template: &Template) {
        template.each_secret(&mut |secret| {
            if let Err(diagnostic) = self.project.secrets.check(secret) {
                self.diagnostics.push(diagnostic);
            }
        });
    }

    /// Looks for files that parameters name without a template, so that a missing one is told early.
    fn files(&mut self, entry: &Entry) {
        let files = self.project.file_parameters(&entry.kind.text);
        let Some(params) = entry.params.fixed() else { return };
        for file in files {
            if let Some(node) = params.get(file.parameter).filter(|node| !node.is_null())
                && let Err(diagnostic) = self.project.files.content(node, &self.project.sources)
            {
                self.diagnostics.push(diagnostic);
            }
        }
    }

    fn references(&mut self, body: &Body, entry: &Entry, is_module: bool) {
        for template in entry.requires.iter().chain(&entry.notify) {
            let Some((node, name)) = template.fixed().and_then(|node| Some((node, node.as_str()?))) else { continue };
            if is_address(name) {
                let kind = name.split('[').next().unwrap_or_default();
                if !self.kind_names.contains(kind) {
                    self.diagnostics.push(
                        Diagnostic::error(format!("unknown kind `{kind}` in `{name}`"))
                            .at(node.span)
                            .suggest(kind, self.kind_names.iter().copied()),
                    );
                }
                continue;
            }
            let is_own = body.labels.contains(name) || body.has_computed_labels;
            let elsewhere = || {
                let library = &self.project.library;
                let playbooks = library.all().iter().filter(|module| module.class == Class::Playbook);
                let profiles = self.project.inventory.hosts().iter().flat_map(|host| &host.profile.bodies);
                playbooks.map(|playbook| &playbook.body).chain(profiles.map(|inline| &*inline.body))
            };
            if is_own || (!is_module && elsewhere().any(|body| body.labels.contains(name) || body.has_computed_labels))
            {
                continue;
            }
            let own = body.labels.iter().map(String::as_str);
            let known: BTreeSet<&str> = if is_module {
                own.collect()
            } else {
                own.chain(elsewhere().flat_map(|body| &body.labels).map(String::as_str)).collect()
            };
            let diagnostic = Diagnostic::error(format!("no resource has the name `{name}`")).at(node.span);
            self.diagnostics
                .push(diagnostic.suggest(name, known).help("give the resource `name:`, or write `kind[name]`"));
        }
    }

    fn refs(&mut self, refs: &Refs, span: Span, known: &BTreeSet<String>, has_item: bool, hint: &str) {
        for path in refs {
            let Some(root) = path.first() else { continue };
            let sources = &self.project.sources;
            if root == "facts" {
                if let Some(schema) = self.facts {
                    self.fact(schema, path, span);
                }
                continue;
            }
            if root == "host" {
                if let Some(field) =
                    path.get(1).filter(|field| !["name", "address", "groups"].contains(&field.as_str()))
                {
                    let diagnostic = Diagnostic::error(format!("`host` has no `{field}`"));
                    self.diagnostics.push(
                        diagnostic.at(find_word(span, field, sources)).suggest(field, ["name", "address", "groups"]),
                    );
                }
                continue;
            }
            if known.contains(root) || (has_item && root == "item") || expr::globals().any(|name| name == root) {
                continue;
            }
            let diagnostic = Diagnostic::error(format!("unknown variable `{root}`")).at(find_word(span, root, sources));
            let candidates =
                known.iter().map(String::as_str).chain(RESERVED.into_iter().filter(|name| *name != "item" || has_item));
            self.diagnostics.push(if root == "item" {
                diagnostic.help("`item` is known in an entry with `for_each`")
            } else {
                match did_you_mean(root, candidates) {
                    Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                    None => diagnostic.help(hint),
                }
            });
        }
    }

    /// Looks a path of facts up in their JSON Schema, as far as that says what there is.
    fn fact(&mut self, root: &Json, path: &[String], span: Span) {
        let mut schema = root;
        let mut known = "facts".to_owned();
        for step in &path[1..] {
            // A chain of references is short; a loop in them says nothing.
            for _ in 0..8 {
                match schema.get("$ref").and_then(Json::as_str).and_then(|at| root.pointer(at.strip_prefix('#')?)) {
                    Some(next) => schema = next,
                    None => break,
                }
            }
            let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
                match schema.get("additionalProperties").filter(|next| next.is_object()) {
                    Some(next) => {
                        schema = next;
                        known = format!("{known}.{step}");
                        continue;
                    }
                    None => return,
                }
            };
            let Some(next) = properties.get(step) else {
                let diagnostic = Diagnostic::error(format!("unknown fact `{known}.{step}`")).at(find_word(
                    span,
                    step,
                    &self.project.sources,
                ));
                let help = match did_you_mean(step, properties.keys().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{known}.{meant}`?"),
                    None => {
                        let names: Vec<String> = properties.keys().map(|name| format!("`{name}`")).collect();
                        format!("`{known}` has {}", names.join(", "))
                    }
                };
                self.diagnostics.push(diagnostic.help(help));
                return;
            };
            known = format!("{known}.{step}");
            schema = next;
        }
    }
}

/// Lets no excerpt show the scalars of a value.
fn hide(node: &Node, sources: &SourceMap) {
    match &node.value {
        Value::Seq(list) => list.iter().for_each(|node| hide(node, sources)),
        Value::Map(map) => map.iter().for_each(|(_, node)| hide(node, sources)),
        _ => sources.hide(node.span),
    }
}

impl Entry {
    /// Tells whether a secret is written in it.
    pub(super) fn has_secret(&self) -> bool {
        let rest = self.for_each.iter().chain(&self.name).chain(&self.requires).chain(&self.notify);
        self.params.has_secret() || rest.into_iter().any(Template::has_secret)
    }

    /// Calls a function for the names that each expression of this entry uses, with its place.
    pub(super) fn each_refs(&self, found: &mut dyn FnMut(&Refs, Span)) {
        if let Some(when) = &self.when {
            found(when.refs(), when.span());
        }
        self.params.each_refs(found);
        let rest = self.for_each.iter().chain(&self.name).chain(&self.requires).chain(&self.notify);
        rest.for_each(|template| template.each_refs(found));
    }
}
