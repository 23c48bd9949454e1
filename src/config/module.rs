//! Module and playbook files: typed parameters, docs, and the resources made from them.

use std::{fmt, sync::Arc};

use regex_automata::meta::Regex;
use serde::Deserialize;

use super::{
    body::Body,
    de,
    expr::Template,
    node::{Map, Node, Value},
    size,
};
use crate::{
    diag::{Diagnostic, Diagnostics, SourceMap, Span},
    host::path::AbsPath,
};

/// A module or a playbook.
#[derive(Clone, Debug)]
pub struct Module {
    /// The name: that of its file.
    pub name: String,
    /// Which of both.
    pub class: Class,
    /// The place of the whole file.
    pub span: Span,
    /// What it is for.
    pub description: String,
    /// The sections of the guide that it follows.
    pub guide: Option<String>,
    /// Its parameters in the order of the file.
    pub parameters: Vec<Parameter>,
    /// Its resources.
    pub body: Body,
    /// Whether it is part of this program.
    pub is_embedded: bool,
}

/// What a file of this form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A resource type written in YAML.
    Module,
    /// A body for hosts and groups, without required parameters.
    Playbook,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Module => "module",
            Self::Playbook => "playbook",
        })
    }
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// Text; a number or boolean is taken as it is written.
    String,
    /// An integer, bounded by `min` and `max`.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A size such as `512M` or `1G`, or bytes; bounded by `min` and `max`. It stays as it was written.
    Size,
    /// An absolute path of the host.
    Path,
    /// A list.
    List,
    /// A map.
    Map,
    /// One of `values`.
    Enum,
}

/// A parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The name.
    pub name: String,
    /// The place of the name.
    pub span: Span,
    /// The type.
    pub kind: ParameterType,
    /// The value where none is given. It may hold expressions of facts and of the parameters before it.
    pub default: Option<Template>,
    /// Whether a value must be given.
    pub required: bool,
    /// The least integer, or size in bytes.
    pub min: Option<i128>,
    /// The greatest integer, or size in bytes.
    pub max: Option<i128>,
    /// What an `enum` may be.
    pub values: Vec<String>,
    /// What a string, or each value of a list or map, must match as a whole (a regular expression), with its text.
    pub pattern: Option<(String, Regex)>,
    /// What it is for.
    pub description: String,
    /// Whether its value is never shown.
    pub sensitive: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    description: String,
    #[serde(default)]
    guide: Option<String>,
    // Both are read from the nodes, which know their places.
    #[serde(default, rename = "parameters")]
    _parameters: de::Skipped,
    #[serde(default, rename = "resources")]
    _resources: de::Skipped,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declaration {
    #[serde(rename = "type")]
    kind: ParameterType,
    #[serde(default, rename = "default")]
    _default: de::Skipped,
    #[serde(default)]
    required: bool,
    #[serde(default, rename = "min")]
    _min: de::Skipped,
    #[serde(default, rename = "max")]
    _max: de::Skipped,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    pattern: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    sensitive: bool,
}

/// Names that no parameter and no variable has, as expressions use them otherwise.
pub const RESERVED: [&str; 3] = ["facts", "host", "item"];

impl Module {
    /// Reads a module or playbook file.
    ///
    /// # Errors
    /// Everything that is wrong with it by itself; names of kinds, modules and variables are checked later.
    pub fn read(name: &str, class: Class, node: &Node, sources: &SourceMap) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        if node.is_null() {
            return Err(Diagnostic::error(format!("the {class} is empty")).at(node.span).into());
        }
        let file: Option<File> = keep(de::parse(node), &mut diagnostics);
        let mut parameters: Vec<Parameter> = Vec::new();
        match node.get("parameters").map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => {}
            Some((Value::Map(map), _)) => {
                for (key, node) in map {
                    match Parameter::read(&key.text, key.span, node, sources) {
                        Ok(parameter) => {
                            if class == Class::Playbook && (parameter.required || parameter.default.is_none()) {
                                diagnostics.push(
                                    Diagnostic::error(format!("the parameter `{key}` of a playbook needs a default"))
                                        .at(key.span)
                                        .help(
                                            "a playbook is given to hosts without parameters; `default: null` is one",
                                        ),
                                );
                            }
                            parameters.push(parameter);
                        }
                        Err(errors) => diagnostics.append(errors),
                    }
                }
            }
            Some((_, node)) => diagnostics.push(
                Diagnostic::error(format!("expected a map of parameters, found {}", node.describe())).at(node.span),
            ),
        }
        let body = match node.get("resources") {
            Some(node) => keep(Body::read(node, sources), &mut diagnostics),
            None => {
                diagnostics.push(Diagnostic::error(format!("the {class} has no `resources`")).at(node.span));
                None
            }
        };
        match (file, body) {
            (Some(file), Some(body)) if !diagnostics.has_errors() => Ok(Self {
                name: name.to_owned(),
                class,
                span: node.span,
                description: file.description,
                guide: file.guide,
                parameters,
                body,
                is_embedded: false,
            }),
            _ => Err(diagnostics),
        }
    }

    /// Returns a parameter.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// Checks the names and, where `of` gives a fixed value, the types of parameters of a call.
    pub(super) fn check_call(&self, call: Span, params: &Template, diagnostics: &mut Diagnostics) {
        let entries: Vec<_> = match params {
            Template::Fixed(node) => node
                .as_map()
                .map(|map| map.iter().map(|(key, node)| (key, false, Some(node))).collect())
                .unwrap_or_default(),
            Template::Map(entries, _) => {
                entries.iter().map(|(key, text, value)| (key, text.is_some(), value.fixed())).collect()
            }
            // All parameters are computed.
            _ => return,
        };
        for (key, is_computed, node) in &entries {
            if *is_computed {
                continue;
            }
            match self.parameter(&key.text) {
                None => diagnostics.push(self.unknown(&key.text, key.span)),
                Some(parameter) => {
                    if let Some(node) = node
                        && let Err(diagnostic) = parameter.check(node)
                    {
                        diagnostics.push(diagnostic);
                    }
                }
            }
        }
        if entries.iter().any(|(_, is_computed, _)| *is_computed) {
            return;
        }
        for parameter in self.parameters.iter().filter(|parameter| parameter.required) {
            if !entries.iter().any(|(key, _, _)| key.text == parameter.name) {
                diagnostics.push(self.missing(parameter, call));
            }
        }
    }

    pub(super) fn unknown(&self, name: &str, span: Span) -> Diagnostic {
        Diagnostic::error(format!("the {} `{}` has no parameter `{name}`", self.class, self.name))
            .at(span)
            .suggest(name, self.parameters.iter().map(|parameter| parameter.name.as_str()))
    }

    pub(super) fn missing(&self, parameter: &Parameter, call: Span) -> Diagnostic {
        let diagnostic =
            Diagnostic::error(format!("`{}` needs the parameter `{}`", self.name, parameter.name)).at(call);
        if parameter.description.is_empty() { diagnostic } else { diagnostic.help(parameter.description.clone()) }
    }
}

impl Parameter {
    fn read(name: &str, span: Span, node: &Node, sources: &SourceMap) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        check_name(name, span, "parameter", &mut diagnostics);
        let Some(declaration) = keep(de::parse::<Declaration>(node), &mut diagnostics) else { return Err(diagnostics) };
        let mut parameter = Self {
            name: name.to_owned(),
            span,
            kind: declaration.kind,
            default: None,
            required: declaration.required,
            min: None,
            max: None,
            values: declaration.values,
            pattern: None,
            description: declaration.description,
            sensitive: declaration.sensitive,
        };
        let at = |key: &str| node.as_map().and_then(|map| map.entry(key)).map_or(span, |(key, _)| key.span);
        let is_number = matches!(parameter.kind, ParameterType::Integer | ParameterType::Size);
        for (key, is_min) in [("min", true), ("max", false)] {
            let Some(node) = node.get(key) else { continue };
            let bound = match (parameter.kind, &node.value) {
                (ParameterType::Integer | ParameterType::Size, Value::Int(value)) => Ok(*value),
                (ParameterType::Size, Value::Str(text)) => size::parse(text).map(i128::from),
                _ if !is_number => Err(format!("`{key}` is for `integer` and `size`")),
                _ => Err(format!("expected an integer, found {}", node.describe())),
            };
            match bound {
                Ok(bound) if is_min => parameter.min = Some(bound),
                Ok(bound) => parameter.max = Some(bound),
                Err(words) => diagnostics.push(Diagnostic::error(words).at(node.span)),
            }
        }
        if let (Some(min), Some(max)) = (parameter.min, parameter.max)
            && min > max
        {
            diagnostics.push(Diagnostic::error(format!("`min` {min} is above `max` {max}")).at(at("min")));
        }
        match (parameter.kind, parameter.values.is_empty()) {
            (ParameterType::Enum, true) => {
                diagnostics.push(Diagnostic::error("an `enum` needs `values`").at(span));
            }
            (ParameterType::Enum, false) | (_, true) => {}
            (_, false) => diagnostics.push(Diagnostic::error("`values` is for `enum`").at(at("values"))),
        }
        if let Some(pattern) = declaration.pattern {
            let place = node.get("pattern").map_or(span, |node| node.span);
            if !matches!(parameter.kind, ParameterType::String | ParameterType::List | ParameterType::Map) {
                let words = "`pattern` is for `string`, and for the values of `list` and `map`";
                diagnostics.push(Diagnostic::error(words).at(at("pattern")));
            }
            match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(regex) => parameter.pattern = Some((pattern, regex)),
                Err(error) => diagnostics.push(
                    Diagnostic::error("the pattern is no regular expression")
                        .at(place)
                        .help(std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)),
                ),
            }
        }
        if let Some(default) = node.get("default") {
            if parameter.required {
                diagnostics.push(
                    Diagnostic::error(format!("`{name}` is required and has a default"))
                        .at(at("default"))
                        .help("remove one of both"),
                );
            }
            if let Some(template) = keep(Template::compile(default, sources), &mut diagnostics) {
                if let Some(fixed) = template.fixed()
                    && !fixed.is_null()
                    && !diagnostics.has_errors()
                    && let Err(diagnostic) = parameter.check(fixed)
                {
                    diagnostics
                        .push(Diagnostic { summary: format!("wrong default: {}", diagnostic.summary), ..diagnostic });
                }
                parameter.default = Some(template);
            }
        }
        if diagnostics.has_errors() { Err(diagnostics) } else { Ok(parameter) }
    }

    /// Checks a value. `null` stands for the default, so it is always right but where a value is required.
    ///
    /// # Errors
    /// What is wrong, at the value.
    pub fn check(&self, node: &Node) -> Result<(), Diagnostic> {
        let hidden = self.sensitive || node.deep_taint().sensitive;
        let told = |words: String| {
            let diagnostic = Diagnostic::error(format!("`{}`: {words}", self.name)).at(node.span);
            Err(if self.description.is_empty() {
                diagnostic
            } else {
                diagnostic.help(format!("`{}` is: {}", self.name, self.description))
            })
        };
        let wrong = |words: String| {
            told(if hidden {
                "the value is not one that it takes (not shown, as it is secret)".to_owned()
            } else {
                words
            })
        };
        let expected = |words: &str| told(format!("expected {words}, found {}", self.shown(node)));
        match (self.kind, &node.value) {
            (_, Value::Null) if self.required => expected("a value"),
            (_, Value::Null) | (ParameterType::Boolean, Value::Bool(_)) => Ok(()),
            (ParameterType::List, Value::Seq(list)) => list.iter().try_for_each(|node| self.check_item(node)),
            (ParameterType::Map, Value::Map(map)) => map.iter().try_for_each(|(_, node)| self.check_item(node)),
            (ParameterType::String, _) => match node.scalar_text() {
                None => expected("a string"),
                Some(text) => match &self.pattern {
                    // The description says it better than a long expression.
                    Some((pattern, regex)) if !regex.is_match(text.as_ref()) => match pattern.len() {
                        ..=40 => told(format!("{} does not match `{pattern}`", self.shown(node))),
                        _ => wrong(format!("{} does not have the form that is needed", self.shown(node))),
                    },
                    _ => Ok(()),
                },
            },
            (ParameterType::Integer, Value::Int(value)) => match self.bound(*value) {
                Some(words) => wrong(format!("{value} is {words}")),
                None => Ok(()),
            },
            (ParameterType::Integer, _) => expected("an integer"),
            (ParameterType::Boolean, _) => expected("`true` or `false`"),
            (ParameterType::Size, Value::Int(_) | Value::Str(_)) => {
                let text = node.scalar_text().unwrap_or_default();
                match size::parse(&text) {
                    Err(words) => wrong(words),
                    Ok(bytes) => match self.bound(bytes.into()) {
                        Some(words) => wrong(format!("`{text}` is {words} bytes")),
                        None => Ok(()),
                    },
                }
            }
            (ParameterType::Size, _) => expected("a size such as `512M`"),
            (ParameterType::Path, Value::Str(text)) => match AbsPath::new(text.as_str()) {
                Ok(_) => Ok(()),
                Err(error) => wrong(error.to_string()),
            },
            (ParameterType::Path, _) => expected("an absolute path"),
            (ParameterType::List, _) => expected("a list"),
            (ParameterType::Map, _) => expected("a map"),
            (ParameterType::Enum, _) => {
                let text = node.scalar_text().unwrap_or_default();
                if self.values.iter().any(|value| *value == text) && !text.is_empty() {
                    return Ok(());
                }
                let known = self.values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
                expected(&format!("one of {known}"))
            }
        }
    }

    /// Checks one value of a list or map.
    fn check_item(&self, node: &Node) -> Result<(), Diagnostic> {
        let Some((pattern, regex)) = &self.pattern else { return Ok(()) };
        if node.scalar_text().is_some_and(|text| regex.is_match(text.as_ref())) {
            return Ok(());
        }
        let text = format!("`{}`: {} does not match `{pattern}`", self.name, self.shown(node));
        let diagnostic = Diagnostic::error(text).at(node.span);
        Err(if self.description.is_empty() {
            diagnostic
        } else {
            diagnostic.help(format!("`{}` is: {}", self.name, self.description))
        })
    }

    fn bound(&self, value: i128) -> Option<String> {
        match (self.min, self.max) {
            (Some(min), _) if value < min => Some(format!("below the minimum of {min}")),
            (_, Some(max)) if value > max => Some(format!("above the maximum of {max}")),
            _ => None,
        }
    }

    fn shown(&self, node: &Node) -> String {
        if self.sensitive || node.deep_taint().sensitive { node.kind().to_owned() } else { node.describe() }
    }
}

/// Checks that a name can be used in an expression.
pub(super) fn check_name(name: &str, span: Span, what: &str, diagnostics: &mut Diagnostics) {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let words = ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"];
    if !is_name || words.contains(&name) {
        diagnostics.push(
            Diagnostic::error(format!("`{name}` is no name of a {what}"))
                .at(span)
                .help("a name has letters, digits and `_`, and is no word of the expression language"),
        );
    } else if RESERVED.contains(&name) {
        diagnostics.push(
            Diagnostic::error(format!("`{name}` cannot be the name of a {what}: expressions know it already")).at(span),
        );
    }
}

fn keep<T>(result: Result<T, Diagnostics>, diagnostics: &mut Diagnostics) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(errors) => {
            diagnostics.append(errors);
            None
        }
    }
}

/// The modules and playbooks that a project can use.
#[derive(Clone, Debug, Default)]
pub struct Library {
    list: Vec<Arc<Module>>,
    index: std::collections::HashMap<(Class, String), usize>,
}

impl Library {
    /// Adds a file, unless an earlier one has its name.
    pub(super) fn add(&mut self, module: Module) {
        let key = (module.class, module.name.clone());
        if !self.index.contains_key(&key) {
            self.index.insert(key, self.list.len());
            self.list.push(Arc::new(module));
        }
    }

    /// Returns a module.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&Arc<Module>> {
        self.get(Class::Module, name)
    }

    /// Returns a playbook.
    #[must_use]
    pub fn playbook(&self, name: &str) -> Option<&Arc<Module>> {
        self.get(Class::Playbook, name)
    }

    /// Returns all modules and playbooks, first those beside `hosts.yaml`, last those of this program.
    #[must_use]
    pub fn all(&self) -> &[Arc<Module>] {
        &self.list
    }

    /// Returns the names of a class.
    pub fn names(&self, class: Class) -> impl Iterator<Item = &str> {
        self.list.iter().filter(move |module| module.class == class).map(|module| module.name.as_str())
    }

    fn get(&self, class: Class, name: &str) -> Option<&Arc<Module>> {
        // The tuple of owned values is what the map is keyed by; names are short.
        self.index.get(&(class, name.to_owned())).and_then(|&at| self.list.get(at))
    }
}

/// Returns the map of a node, or an empty one where it is `null`.
///
/// # Errors
/// What it is instead.
pub(super) fn map_of<'n>(node: &'n Node, what: &str) -> Result<&'n [(super::Key, Node)], Diagnostic> {
    match &node.value {
        Value::Null => Ok(&[]),
        Value::Map(Map(entries)) => Ok(entries),
        _ => Err(Diagnostic::error(format!("expected {what}, found {}", node.describe())).at(node.span)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn check(class: Class, text: &str, expected: &[&str]) {
        let map = SourceMap::new();
        let node = yaml::read("t", text, &map).unwrap();
        let found: Vec<String> = match Module::read("m", class, &node, &map) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(|d| format!("{} {}", map.place(d.span().unwrap()), d.summary)).collect(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_module_file_is_checked_by_itself() {
        let module = |parameters: &str, expected: &[&str]| {
            check(Class::Module, &format!("parameters:\n  {parameters}\nresources: []\n"), expected);
        };
        module("a: { type: string, default: x, description: d }", &[]);
        module(
            "a: { type: integer, min: 1, max: 5, default: 9 }",
            &["t:2:48 wrong default: `a`: 9 is above the maximum of 5"],
        );
        module(
            "a: { type: integer, default: x }",
            &["t:2:32 wrong default: `a`: expected an integer, found the string `x`"],
        );
        module("a: { type: integer, default: '{{ facts.memory.total // 2 }}' }", &[]);
        module(
            "a: { type: size, min: 1M, default: 512K }",
            &["t:2:38 wrong default: `a`: `512K` is below the minimum of 1048576 bytes"],
        );
        module(
            "a: { type: enum, values: [x, y], default: z }",
            &["t:2:45 wrong default: `a`: expected one of `x`, `y`, found the string `z`"],
        );
        module("a: { type: enum }", &["t:2:3 an `enum` needs `values`"]);
        module("a: { type: strin }", &["t:2:14 unknown value `strin`"]);
        module("a: { type: string, defalt: x }", &["t:2:22 unknown key `defalt`"]);
        module("a: { type: string, pattern: '[' }", &["t:2:31 the pattern is no regular expression"]);
        module(
            "a: { type: string, pattern: 'a+', default: aab }",
            &["t:2:46 wrong default: `a`: the string `aab` does not match `a+`"],
        );
        module(
            "a: { type: path, default: etc }",
            &["t:2:29 wrong default: `a`: `etc` is a relative path; a path on a host begins with `/`"],
        );
        module("a: { type: string, min: 3 }", &["t:2:27 `min` is for `integer` and `size`"]);
        module("a: { type: integer, min: 3, max: 1 }", &["t:2:23 `min` 3 is above `max` 1"]);
        module("a: { type: string, required: true, default: x }", &["t:2:38 `a` is required and has a default"]);
        module(
            "facts: { type: string }",
            &["t:2:3 `facts` cannot be the name of a parameter: expressions know it already"],
        );
        module("a-b: { type: string }", &["t:2:3 `a-b` is no name of a parameter"]);
        module(
            "a: { type: boolean, default: yes }",
            &["t:2:32 wrong default: `a`: expected `true` or `false`, found the string `yes`"],
        );
        module("a: { default: x }", &["t:2:6 `type` is missing"]);
        check(Class::Module, "", &["t:1:1 the module is empty"]);
        check(Class::Module, "description: x\n", &["t:1:1 the module has no `resources`"]);
        check(
            Class::Module,
            "resorces: []\n",
            &["t:1:1 unknown key `resorces`", "t:1:1 the module has no `resources`"],
        );
        check(
            Class::Playbook,
            "parameters: { a: { type: string } }\nresources: []\n",
            &["t:1:15 the parameter `a` of a playbook needs a default"],
        );
    }
}
