//! The grammar of all bodies: a list of entries, each with one key that names a kind or module, and beside it `when`,
//! `for_each`, `name`, `requires`, `notify` and `override`.

use std::{collections::HashSet, sync::Arc};

use super::{
    expr::{self, Expr, Template},
    node::{Key, Map, Node, Value},
};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span};

/// The keys of an entry beside the one that names a kind or module.
pub const KEYS: [&str; 6] = ["when", "for_each", "name", "requires", "notify", "override"];

/// The resources of a playbook, module, group or host.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The entries in the order of the file.
    pub entries: Vec<Entry>,
    /// The names that entries have, of those that are no templates.
    pub labels: HashSet<String>,
    /// Whether an entry has a name that is a template.
    pub has_computed_labels: bool,
}

/// One entry of a body.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The kind or module, with its place.
    pub kind: Key,
    /// Its parameters; a map.
    pub params: Template,
    /// The condition.
    pub when: Option<Arc<Expr>>,
    /// What is repeated.
    pub for_each: Option<Template>,
    /// The name.
    pub name: Option<Template>,
    /// What must be in place before.
    pub requires: Vec<Template>,
    /// What is told of a change.
    pub notify: Vec<Template>,
    /// Whether it beats another resource that says something else.
    pub overrides: bool,
}

impl Body {
    /// Reads the value of `resources`.
    ///
    /// # Errors
    /// Everything that is wrong with the entries, as far as it can be seen without knowing kinds and modules.
    pub fn read(node: &Node, sources: &SourceMap) -> Result<Self, Diagnostics> {
        let mut body = Self::default();
        let mut diagnostics = Diagnostics::new();
        let list: &[Node] = match &node.value {
            Value::Null => &[],
            Value::Seq(list) => list,
            _ => {
                return Err(Diagnostic::error(format!("expected a list of resources, found {}", node.describe()))
                    .at(node.span)
                    .help("write `resources:` and below it one `- KIND: { … }` for each resource")
                    .into());
            }
        };
        let mut named: Vec<(String, Span, bool)> = Vec::new();
        for node in list {
            let Some(entry) = Entry::read(node, sources, &mut diagnostics) else { continue };
            match &entry.name {
                Some(Template::Fixed(name)) => {
                    let label = name.as_str().unwrap_or_default().to_owned();
                    let is_sure = entry.when.is_none();
                    // Two entries with one name are usual where their conditions exclude each other.
                    if let Some((_, first, _)) =
                        named.iter().find(|(other, _, sure)| *other == label && (*sure || is_sure))
                    {
                        diagnostics.push(
                            Diagnostic::error(format!("the name `{label}` is used twice"))
                                .at(name.span)
                                .label(*first, "first here"),
                        );
                    }
                    named.push((label.clone(), name.span, is_sure));
                    body.labels.insert(label);
                }
                Some(_) => body.has_computed_labels = true,
                None => {}
            }
            body.entries.push(entry);
        }
        if diagnostics.has_errors() { Err(diagnostics) } else { Ok(body) }
    }
}

impl Entry {
    fn read(node: &Node, sources: &SourceMap, diagnostics: &mut Diagnostics) -> Option<Self> {
        let Some(map) = node.as_map() else {
            let mut diagnostic = Diagnostic::error(format!(
                "expected a resource such as `- sysctl: {{ … }}`, found {}",
                node.describe()
            ))
            .at(node.span);
            if let Some(kind) = node.as_str() {
                diagnostic = diagnostic.help(format!("write `- {kind}: {{}}`"));
            }
            diagnostics.push(diagnostic);
            return None;
        };
        let (kind, params) = Self::kind(node, map, diagnostics)?;
        let before = diagnostics.len();
        let mut compile = |node: &Node| match Template::compile(node, sources) {
            Ok(template) => Some(template),
            Err(errors) => {
                diagnostics.append(errors);
                None
            }
        };
        let params = match &params.value {
            Value::Null => compile(&Node::new(Value::Map(Map::default()), kind.span)),
            _ => compile(params),
        };
        let for_each = map.get("for_each").and_then(&mut compile);
        let name = map.get("name").and_then(&mut compile);
        let requires = references(map.get("requires"), &mut compile);
        let notify = references(map.get("notify"), &mut compile);
        let mut entry = Self { kind, params: params?, when: None, for_each, name, requires, notify, overrides: false };
        entry.check(diagnostics);
        if let Some(node) = map.get("when") {
            entry.when = condition(node, sources, diagnostics);
        }
        match map.get("override").map(|node| (&node.value, node)) {
            None => {}
            Some((Value::Bool(value), _)) => entry.overrides = *value,
            Some((_, node)) => diagnostics.push(
                Diagnostic::error(format!("expected `true` or `false`, found {}", node.describe())).at(node.span),
            ),
        }
        (diagnostics.len() == before).then_some(entry)
    }

    fn kind<'n>(node: &Node, map: &'n Map, diagnostics: &mut Diagnostics) -> Option<(Key, &'n Node)> {
        let mut kinds = map.iter().filter(|(key, _)| !KEYS.contains(&key.text.as_str()));
        let Some((kind, params)) = kinds.next() else {
            diagnostics.push(
                Diagnostic::error("the entry names no kind or module")
                    .at(node.span)
                    .help("an entry is `- KIND: { … }`, with `when`, `name` and so on beside KIND"),
            );
            return None;
        };
        let rest: Vec<_> = kinds.collect();
        if rest.is_empty() {
            return Some((kind.clone(), params));
        }
        for (key, _) in rest {
            let diagnostic = Diagnostic::error(format!("unknown key `{key}` beside `{kind}`")).at(key.span);
            diagnostics.push(match crate::diag::did_you_mean(&key.text, KEYS) {
                Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                None => diagnostic.help(format!(
                    "a second resource begins with its own `- `; parameters of `{kind}` are indented deeper than `{kind}`"
                )),
            });
        }
        None
    }

    fn check(&self, diagnostics: &mut Diagnostics) {
        let mut wrong = |template: &Template, is_right: &dyn Fn(&Node) -> bool, expected: &str| {
            if let Some(node) = template.fixed().filter(|node| !is_right(node)) {
                diagnostics
                    .push(Diagnostic::error(format!("expected {expected}, found {}", node.describe())).at(node.span));
            }
            matches!(template, Template::Seq(..) | Template::Map(..)).then_some(template.span())
        };
        let is_text = |node: &Node| node.as_str().is_some_and(|text| !text.is_empty());
        if let Template::Seq(_, span) = &self.params {
            wrong(&Template::Fixed(Node::new(Value::Seq(Vec::new()), *span)), &|_| false, "a map of parameters");
        }
        wrong(&self.params, &|node| node.as_map().is_some(), "a map of parameters");
        if let Some(for_each) = &self.for_each {
            let is_right = |node: &Node| matches!(node.value, Value::Seq(_) | Value::Map(_));
            wrong(for_each, &is_right, "a list or map");
        }
        for template in self.name.iter().chain(&self.requires).chain(&self.notify) {
            if let Some(span) = wrong(template, &is_text, "a name") {
                wrong(&Template::Fixed(Node::new(Value::Seq(Vec::new()), span)), &|_| false, "a name");
            }
        }
    }
}

fn references(node: Option<&Node>, compile: &mut dyn FnMut(&Node) -> Option<Template>) -> Vec<Template> {
    match node {
        None => Vec::new(),
        Some(node) => match &node.value {
            Value::Null => Vec::new(),
            Value::Seq(list) => list.iter().filter_map(compile).collect(),
            _ => compile(node).into_iter().collect(),
        },
    }
}

/// Compiles the value of `when`.
fn condition(node: &Node, sources: &SourceMap, diagnostics: &mut Diagnostics) -> Option<Arc<Expr>> {
    let text = match &node.value {
        Value::Str(text) if expr::is_template(text) => {
            diagnostics.push(
                Diagnostic::error("`when` is an expression itself")
                    .at(node.span)
                    .help("write it without `{{` and `}}`"),
            );
            return None;
        }
        Value::Str(text) => text.as_str(),
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        _ => {
            diagnostics
                .push(Diagnostic::error(format!("expected an expression, found {}", node.describe())).at(node.span));
            return None;
        }
    };
    match Expr::compile(text, node.span, sources) {
        Ok(expr) => Some(Arc::new(expr)),
        Err(diagnostic) => {
            diagnostics.push(diagnostic);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn check(text: &str, expected: &[&str]) {
        let map = SourceMap::new();
        let node = yaml::read("t", text, &map).unwrap();
        let found = match Body::read(&node, &map) {
            Ok(body) => body.entries.iter().map(|entry| entry.kind.text.clone()).collect::<Vec<_>>(),
            Err(errors) => errors.iter().map(|d| format!("{} {}", map.place(d.span().unwrap()), d.summary)).collect(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn bodies_are_read() {
        check("- ksm:\n- sysctl: {name: a, value: 1}\n  when: facts.ksm\n  requires: x\n", &["ksm", "sysctl"]);
        check("", &[]);
        check("a: 1\n", &["t:1:1 expected a list of resources, found a map"]);
        check("- ksm\n", &["t:1:3 expected a resource such as `- sysctl: { … }`, found the string `ksm`"]);
        check("- when: x\n", &["t:1:3 the entry names no kind or module"]);
        check("- ksm: {}\n  whne: x\n", &["t:2:3 unknown key `whne` beside `ksm`"]);
        check("- ksm: {}\n  when: '{{ x }}'\n", &["t:2:9 `when` is an expression itself"]);
        check("- ksm: {}\n  when: 'x +'\n", &["t:2:9 expression syntax: unexpected end of input, expected expression"]);
        check("- ksm: [1]\n", &["t:1:8 expected a map of parameters, found a list"]);
        check("- ksm: ['{{ x }}']\n", &["t:1:8 expected a map of parameters, found a list"]);
        check("- ksm: {}\n  for_each: 3\n", &["t:2:13 expected a list or map, found the integer `3`"]);
        check(
            "- ksm: {}\n  name: [a]\n  requires: [a, {}]\n",
            &["t:2:9 expected a name, found a list", "t:3:17 expected a name, found a map"],
        );
        check("- ksm: {}\n  override: please\n", &["t:2:13 expected `true` or `false`, found the string `please`"]);
        check("- ksm: {}\n  name: a\n- ksm: {}\n  name: a\n", &["t:4:9 the name `a` is used twice"]);
        check("- ksm: {}\n  name: a\n  when: x\n- ksm: {}\n  name: a\n  when: y\n", &["ksm", "ksm"]);
    }
}
