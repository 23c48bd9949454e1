//! Expressions and templates in values, by minijinja: compiled once, evaluated for each host.
//!
//! A string that is exactly one `{{ }}` keeps the type of its value; any other string with `{{`, `{%` or `{#` gives text.
//! What is undefined is an error, never empty text.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{Arc, LazyLock},
};

use minijinja::{
    Environment, ErrorKind, Expression, UndefinedBehavior,
    syntax::SyntaxConfig,
    value::{DynObject, Enumerator, Object, Serde, Value as Jinja, ValueKind},
};

use super::{
    node::{Key, Map, Node, Taint, Value},
    secret::Secret,
    size,
};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, did_you_mean};

/// How many instructions one expression may take.
const FUEL: u64 = 200_000;

/// The greatest length of a text that a template gives, in bytes.
const MAX_TEXT: usize = 4 << 20;

/// The greatest length of one expression in bytes: its nesting, and with it the stack, is bounded by it.
const MAX_EXPRESSION: usize = 4096;

/// The greatest length of a line of a template in bytes: minijinja counts columns in 16 bits.
const MAX_LINE: usize = 60_000;

/// The depth to which values of expressions are taken over.
const MAX_DEPTH: usize = 32;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // The last newline of a file's content is part of it, and a line that holds only a block leaves none.
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).trim_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are those that minijinja has by itself"));
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    // A loop could nest a namespace's value deeper than any stack; `debug` shows what may be secret.
    environment.remove_global("namespace");
    environment.remove_global("debug");
    environment.add_filter("size", filter_size);
    environment.add_filter("kib", filter_kib);
    environment
});

fn filter_size(value: &Jinja) -> Result<i128, minijinja::Error> {
    let wrong = |text: String| minijinja::Error::new(ErrorKind::InvalidOperation, text);
    if let Ok(number) = i128::try_from(value.clone()) {
        return Ok(number);
    }
    let text = value.as_str().ok_or_else(|| wrong("`size` takes a text such as `512M`".to_owned()))?;
    size::parse(text).map(i128::from).map_err(wrong)
}

fn filter_kib(value: &Jinja) -> Result<i128, minijinja::Error> {
    let bytes = filter_size(value)?;
    if bytes % 1024 == 0 {
        Ok(bytes / 1024)
    } else {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{bytes} bytes are no whole number of KiB")))
    }
}

/// Names that each expression knows without any variable.
pub fn globals() -> impl Iterator<Item = &'static str> {
    ENVIRONMENT.globals().map(|(name, _)| name)
}

/// A value that may hold templates, compiled.
#[derive(Clone, Debug)]
pub enum Template {
    /// A value without templates.
    Fixed(Node),
    /// A secret, which is had when the template is evaluated.
    Secret(Arc<Secret>),
    /// A string that is one expression.
    Expr(Arc<Expr>),
    /// A string with templates in it.
    Text(Arc<Text>),
    /// A list with templates in it.
    Seq(Vec<Self>, Span),
    /// A map with templates in it.
    Map(Vec<(Key, Option<Arc<Text>>, Self)>, Span),
}

/// A compiled expression.
pub struct Expr {
    expression: Expression<'static, 'static>,
    refs: Refs,
    span: Span,
}

/// A compiled template that gives text.
pub struct Text {
    /// Its own small environment, as a template borrows the one that holds it.
    environment: Environment<'static>,
    refs: Refs,
    span: Span,
}

/// Paths of names that an expression takes from outside: `facts.memory.total` as three names.
pub type Refs = Vec<Vec<String>>;

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expr").field("span", &self.span).field("refs", &self.refs).finish_non_exhaustive()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("span", &self.span).field("refs", &self.refs).finish_non_exhaustive()
    }
}

/// What expressions can see, with what each name was computed from.
pub trait Names: fmt::Debug + Send + Sync + 'static {
    /// Returns the value of a name.
    fn value(&self, name: &str) -> Option<Jinja>;

    /// Returns what the value was computed from.
    fn taint(&self, name: &str) -> Taint;

    /// Returns all names, for "did you mean".
    fn names(&self) -> Vec<String>;

    /// Returns the value of a secret.
    ///
    /// # Errors
    /// It cannot be had.
    fn secret(&self, secret: &Secret) -> Result<Node, Diagnostic> {
        Err(Diagnostic::error("there are no secrets here").at(secret.span()))
    }
}

/// [`Names`] as minijinja looks into them.
#[derive(Debug)]
struct Context(Arc<dyn Names>);

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.0.value(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Jinja> {
        self.0.value(key)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// A scope that is ready for the evaluation of many expressions.
#[derive(Clone, Debug)]
pub struct Scope {
    names: Arc<dyn Names>,
    context: Jinja,
}

impl Scope {
    /// Takes names as a scope.
    pub fn new(names: Arc<dyn Names>) -> Self {
        let context = Jinja::from_dyn_object(DynObject::new(Arc::new(Context(Arc::clone(&names)))));
        Self { names, context }
    }

    /// Returns what a value that uses these names is computed from.
    #[must_use]
    pub fn taint(&self, refs: &Refs) -> Taint {
        refs.iter()
            .filter_map(|path| path.first())
            .fold(Taint::default(), |taint, name| taint.and(self.names.taint(name)))
    }
}

impl Template {
    /// Compiles a value.
    ///
    /// # Errors
    /// All templates that do not parse; `sources` is asked where in a scalar the mistake is.
    pub fn compile(node: &Node, sources: &SourceMap) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let template = Self::build(node, sources, &mut diagnostics);
        if diagnostics.has_errors() { Err(diagnostics) } else { Ok(template) }
    }

    /// Returns the value if it holds no template.
    #[must_use]
    pub fn fixed(&self) -> Option<&Node> {
        if let Self::Fixed(node) = self { Some(node) } else { None }
    }

    /// Returns the place.
    #[must_use]
    pub fn span(&self) -> Span {
        match self {
            Self::Fixed(node) => node.span,
            Self::Secret(secret) => secret.span(),
            Self::Expr(expr) => expr.span,
            Self::Text(text) => text.span,
            Self::Seq(_, span) | Self::Map(_, span) => *span,
        }
    }

    /// Calls a function for the names that each template uses, with the place of the template.
    pub fn each_refs(&self, found: &mut dyn FnMut(&Refs, Span)) {
        match self {
            Self::Fixed(_) | Self::Secret(_) => {}
            Self::Expr(expr) => found(&expr.refs, expr.span),
            Self::Text(text) => found(&text.refs, text.span),
            Self::Seq(list, _) => list.iter().for_each(|template| template.each_refs(found)),
            Self::Map(entries, _) => {
                for (key, text, value) in entries {
                    if let Some(text) = text {
                        found(&text.refs, key.span);
                    }
                    value.each_refs(found);
                }
            }
        }
    }

    /// Calls a function for each secret.
    pub fn each_secret(&self, found: &mut dyn FnMut(&Secret)) {
        match self {
            Self::Secret(secret) => found(secret),
            Self::Seq(list, _) => list.iter().for_each(|template| template.each_secret(found)),
            Self::Map(entries, _) => entries.iter().for_each(|(_, _, value)| value.each_secret(found)),
            Self::Fixed(_) | Self::Expr(_) | Self::Text(_) => {}
        }
    }

    /// Tells whether there is a secret in it.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        let mut has = false;
        self.each_secret(&mut |_| has = true);
        has
    }

    /// Returns the first names of all paths that are used.
    #[must_use]
    pub fn roots(&self) -> BTreeSet<String> {
        let mut roots = BTreeSet::new();
        self.each_refs(&mut |refs, _| roots.extend(refs.iter().filter_map(|path| path.first().cloned())));
        roots
    }

    /// Evaluates all templates.
    ///
    /// # Errors
    /// The first expression that fails.
    pub fn render(&self, scope: &Scope, sources: &SourceMap) -> Result<Node, Diagnostic> {
        Ok(match self {
            Self::Fixed(node) => node.clone(),
            Self::Secret(secret) => scope.names.secret(secret)?,
            Self::Expr(expr) => expr.node(scope, sources)?,
            Self::Text(text) => text.node(scope, sources)?,
            Self::Seq(list, span) => {
                let list: Result<Vec<_>, _> = list.iter().map(|template| template.render(scope, sources)).collect();
                Node::new(Value::Seq(list?), *span)
            }
            Self::Map(entries, span) => {
                let mut map: Vec<(Key, Node)> = Vec::with_capacity(entries.len());
                for (key, text, value) in entries {
                    let text = match text {
                        Some(template) if scope.taint(&template.refs).sensitive => {
                            return Err(Diagnostic::error("a key cannot be made of a secret").at(key.span));
                        }
                        Some(template) => template.text(scope, sources)?,
                        None => key.text.clone(),
                    };
                    if map.iter().any(|(other, _)| other.text == text) {
                        return Err(
                            Diagnostic::error(format!("the key `{text}` stands twice in this map")).at(key.span)
                        );
                    }
                    map.push((Key { text, span: key.span }, value.render(scope, sources)?));
                }
                Node::new(Value::Map(Map(map)), *span)
            }
        })
    }

    fn build(node: &Node, sources: &SourceMap, diagnostics: &mut Diagnostics) -> Self {
        if !has_template(node) {
            return Self::Fixed(node.clone());
        }
        if let Some(secret) = Secret::read(node) {
            return match secret {
                Ok(secret) => Self::Secret(Arc::new(secret)),
                Err(errors) => {
                    diagnostics.append(errors);
                    Self::Fixed(Node::new(Value::Null, node.span))
                }
            };
        }
        match &node.value {
            Value::Str(text) => match single(text) {
                Some(expression) => match Expr::compile(expression, node.span, sources) {
                    Ok(expr) => Self::Expr(Arc::new(expr)),
                    Err(diagnostic) => {
                        diagnostics.push(diagnostic);
                        Self::Fixed(node.clone())
                    }
                },
                None => match Text::compile(text, node.span, sources) {
                    Ok(text) => Self::Text(Arc::new(text)),
                    Err(diagnostic) => {
                        diagnostics.push(diagnostic);
                        Self::Fixed(node.clone())
                    }
                },
            },
            Value::Seq(list) => {
                Self::Seq(list.iter().map(|node| Self::build(node, sources, diagnostics)).collect(), node.span)
            }
            Value::Map(map) => {
                let mut entries = Vec::with_capacity(map.len());
                for (key, value) in map {
                    let mut text = None;
                    if is_template(&key.text) {
                        match Text::compile(&key.text, key.span, sources) {
                            Ok(template) => text = Some(Arc::new(template)),
                            Err(diagnostic) => diagnostics.push(diagnostic),
                        }
                    }
                    entries.push((key.clone(), text, Self::build(value, sources, diagnostics)));
                }
                Self::Map(entries, node.span)
            }
            _ => Self::Fixed(node.clone()),
        }
    }
}

impl Expr {
    /// Compiles an expression without braces, as `when` has it.
    ///
    /// # Errors
    /// What does not parse.
    pub fn compile(text: &str, span: Span, sources: &SourceMap) -> Result<Self, Diagnostic> {
        if text.len() > MAX_EXPRESSION {
            return Err(too_long(span));
        }
        let expression = ENVIRONMENT
            .compile_expression_owned(text.to_owned())
            .map_err(|error| explain(&error, span, sources, "expression"))?;
        let refs = refs(expression.undeclared_variables(true));
        Ok(Self { expression, refs, span })
    }

    /// Returns the names that it uses.
    #[must_use]
    pub fn refs(&self) -> &Refs {
        &self.refs
    }

    /// Returns the place.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// Evaluates it as a condition.
    ///
    /// # Errors
    /// What fails or is undefined.
    pub fn is_true(&self, scope: &Scope, sources: &SourceMap) -> Result<bool, Diagnostic> {
        self.eval(scope, sources).map(|value| value.is_true())
    }

    fn node(&self, scope: &Scope, sources: &SourceMap) -> Result<Node, Diagnostic> {
        let value = self.eval(scope, sources)?;
        let mut node = node_of(&value, self.span, MAX_DEPTH).map_err(|words| Diagnostic::error(words).at(self.span))?;
        node.mark(scope.taint(&self.refs));
        Ok(node)
    }

    fn eval(&self, scope: &Scope, sources: &SourceMap) -> Result<Jinja, Diagnostic> {
        match self.expression.eval(scope.context.clone()) {
            Ok(value) if value.is_undefined() => Err(undefined(&self.refs, scope, self.span, sources)
                .unwrap_or_else(|| Diagnostic::error("the expression has no value").at(self.span))),
            Ok(value) => Ok(value),
            Err(error) => Err(failed(&error, &self.refs, scope, self.span, sources)),
        }
    }
}

impl Text {
    fn compile(text: &str, span: Span, sources: &SourceMap) -> Result<Self, Diagnostic> {
        if longest(text) > MAX_EXPRESSION {
            return Err(too_long(span));
        }
        if text.lines().any(|line| line.len() > MAX_LINE) {
            return Err(Diagnostic::error(format!("a line of the template is longer than {MAX_LINE} bytes")).at(span));
        }
        let mut environment = ENVIRONMENT.clone();
        environment
            .add_template_owned("t", text.to_owned())
            .map_err(|error| explain(&error, span, sources, "template"))?;
        let template = environment.get_template("t").map_err(|error| explain(&error, span, sources, "template"))?;
        let refs = refs(template.undeclared_variables(true));
        Ok(Self { environment, refs, span })
    }

    fn node(&self, scope: &Scope, sources: &SourceMap) -> Result<Node, Diagnostic> {
        let mut node = Node::new(Value::Str(self.text(scope, sources)?), self.span);
        node.mark(scope.taint(&self.refs));
        Ok(node)
    }

    fn text(&self, scope: &Scope, sources: &SourceMap) -> Result<String, Diagnostic> {
        let rendered = self.environment.get_template("t").and_then(|template| template.render(scope.context.clone()));
        match rendered {
            Ok(text) if text.len() > MAX_TEXT => {
                Err(Diagnostic::error(format!("the text is longer than {} MiB", MAX_TEXT >> 20)).at(self.span))
            }
            Ok(text) => Ok(text),
            Err(error) => Err(failed(&error, &self.refs, scope, self.span, sources)),
        }
    }
}

/// Tells whether a string is a template.
#[must_use]
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|open| text.contains(open))
}

fn has_template(node: &Node) -> bool {
    match &node.value {
        Value::Str(text) => is_template(text),
        Value::Seq(list) => list.iter().any(has_template),
        Value::Map(map) => {
            Secret::is_one(node) || map.iter().any(|(key, node)| is_template(&key.text) || has_template(node))
        }
        _ => false,
    }
}

/// Returns the expression of a string that is exactly one `{{ }}`.
fn single(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let (mut quote, mut depth) = (None, 0_usize);
    let mut bytes = inner.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(_), b'\\') => {
                bytes.next();
            }
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') => depth = depth.checked_sub(1)?,
            (None, b'%') if bytes.peek() == Some(&b'}') => return None,
            (None, _) => {}
        }
    }
    (quote.is_none() && depth == 0).then(|| inner.trim_start_matches(['-', '+']).trim_end_matches('-').trim())
}

fn too_long(span: Span) -> Diagnostic {
    Diagnostic::error(format!("the expression is longer than {MAX_EXPRESSION} bytes")).at(span)
}

/// Returns the length of the longest expression in a template, or a greater number.
fn longest(text: &str) -> usize {
    let opens = text.match_indices("{{").chain(text.match_indices("{%")).map(|(at, _)| at);
    let mut opens: Vec<usize> = opens.collect();
    opens.sort_unstable();
    let ends = opens.iter().skip(1).copied().chain([text.len()]);
    let lengths = opens.iter().zip(ends).map(|(&open, end)| {
        let part = &text.as_bytes()[open..end];
        // Without its end it does not parse, but that is found by parsing.
        part.windows(2).rposition(|pair| matches!(pair, b"}}" | b"%}")).map_or(part.len(), |at| at + 2)
    });
    lengths.max().unwrap_or(0)
}

fn refs(found: impl IntoIterator<Item = String>) -> Refs {
    let mut refs: Refs = found.into_iter().map(|path| path.split('.').map(str::to_owned).collect()).collect();
    refs.sort();
    refs
}

/// Explains why an evaluation failed, without any value of a variable, which may be secret.
fn failed(error: &minijinja::Error, refs: &Refs, scope: &Scope, span: Span, sources: &SourceMap) -> Diagnostic {
    // Arithmetic with an undefined value is told as an invalid operation.
    if matches!(error.kind(), ErrorKind::UndefinedError | ErrorKind::InvalidOperation)
        && let Some(diagnostic) = undefined(refs, scope, span, sources)
    {
        return diagnostic;
    }
    if scope.taint(refs).sensitive {
        return Diagnostic::error(format!("expression: {}", error.kind())).at(span);
    }
    explain(error, span, sources, "expression")
}

fn explain(error: &minijinja::Error, span: Span, sources: &SourceMap, what: &str) -> Diagnostic {
    let detail = error.detail().map(str::to_owned);
    let at = error.line().map_or(span, |line| line_of(span, line, sources));
    let detail_or = |words: &str| detail.clone().unwrap_or_else(|| words.to_owned());
    match error.kind() {
        ErrorKind::SyntaxError => {
            Diagnostic::error(format!("{what} syntax: {}", detail_or("it does not parse"))).at(at)
        }
        ErrorKind::OutOfFuel => Diagnostic::error(format!("the {what} takes too many steps")).at(at),
        ErrorKind::UndefinedError => Diagnostic::error(format!("undefined: {}", detail_or("a value"))).at(at),
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction | ErrorKind::UnknownMethod => {
            Diagnostic::error(detail_or(&error.kind().to_string())).at(at)
        }
        kind => Diagnostic::error(match detail {
            Some(detail) => format!("{what}: {detail}"),
            None => format!("{what}: {kind}"),
        })
        .at(at),
    }
}

/// Finds the name that is undefined.
fn undefined(refs: &Refs, scope: &Scope, span: Span, sources: &SourceMap) -> Option<Diagnostic> {
    for path in refs {
        let (root, rest) = path.split_first()?;
        let Some(mut value) = scope.names.value(root) else {
            if globals().any(|name| name == root) {
                continue;
            }
            let names = scope.names.names();
            let diagnostic = Diagnostic::error(format!("unknown variable `{root}`")).at(find_word(span, root, sources));
            return Some(diagnostic.suggest(root, names.iter().map(String::as_str)));
        };
        let mut known = root.clone();
        for step in rest {
            let next = value.get_attr(step).unwrap_or(Jinja::UNDEFINED);
            if next.is_undefined() {
                let keys: Vec<String> = match value.kind() {
                    ValueKind::Map => value.try_iter().map(|keys| keys.take(200).map(|key| key.to_string()).collect()),
                    _ => Ok(Vec::new()),
                }
                .unwrap_or_default();
                let diagnostic =
                    Diagnostic::error(format!("`{known}` has no `{step}`")).at(find_word(span, step, sources));
                return Some(match did_you_mean(step, keys.iter().map(String::as_str)) {
                    Some(meant) => diagnostic.help(format!("did you mean `{known}.{meant}`?")),
                    None => diagnostic,
                });
            }
            known = format!("{known}.{step}");
            value = next;
        }
    }
    None
}

/// Returns the place of a name in a scalar, or else the whole scalar.
#[must_use]
pub fn find_word(span: Span, word: &str, sources: &SourceMap) -> Span {
    let Some(text) = sources.slice(span) else { return span };
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    while let Some(found) = text[at..].find(word).map(|found| at + found) {
        let end = found + word.len();
        let is_whole = !text[..found].ends_with(is_word) && !text[end..].starts_with(is_word);
        if is_whole && !word.is_empty() {
            return span.part(found..end);
        }
        at = end.max(found + 1);
        if !text.is_char_boundary(at) {
            break;
        }
    }
    span
}

/// Returns a line of a block scalar; of any other scalar the whole.
fn line_of(span: Span, line: usize, sources: &SourceMap) -> Span {
    let Some(text) = sources.slice(span) else { return span };
    let mut lines: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        lines.push(start..start + line.trim_end().len());
        start += line.len();
    }
    // The header of a block scalar is no line of its text.
    let skip = usize::from(text.starts_with(['|', '>']));
    match lines.get(line.saturating_sub(1) + skip) {
        Some(range) if lines.len() > 1 => {
            let indent = text[range.clone()].len() - text[range.clone()].trim_start().len();
            span.part(range.start + indent..range.end)
        }
        _ => span,
    }
}

/// Takes a value of an expression over as a node at the place of the expression.
fn node_of(value: &Jinja, span: Span, depth: usize) -> Result<Node, String> {
    let depth = depth.checked_sub(1).ok_or("the value of the expression is nested too deep")?;
    let items =
        |value: &Jinja| value.try_iter().map_err(|_| "the value of the expression cannot be taken over".to_owned());
    let value = match value.kind() {
        ValueKind::Undefined => return Err("a part of the value of the expression is undefined".to_owned()),
        ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            Value::Int(i128::try_from(value.clone()).map_err(|_| "the number is too large".to_owned())?)
        }
        ValueKind::Number => {
            let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
            if !number.is_finite() {
                return Err(format!("the value of the expression is {number}, which is no number to configure"));
            }
            Value::Float(number)
        }
        ValueKind::String => Value::Str(value.as_str().unwrap_or_default().to_owned()),
        ValueKind::Seq | ValueKind::Iterable => {
            let list: Result<Vec<_>, _> = items(value)?.map(|item| node_of(&item, span, depth)).collect();
            Value::Seq(list?)
        }
        ValueKind::Map => {
            let mut map = Vec::new();
            for key in items(value)? {
                let item = value.get_item(&key).unwrap_or(Jinja::UNDEFINED);
                map.push((Key { text: key.to_string(), span }, node_of(&item, span, depth)?));
            }
            Value::Map(Map(map))
        }
        kind => return Err(format!("the value of the expression is a {kind}, which no parameter takes")),
    };
    Ok(Node::new(value, span))
}

/// Returns a node as a value of expressions.
#[must_use]
pub fn jinja_of(node: &Node) -> Jinja {
    match &node.value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Int(value) => i64::try_from(*value).map_or_else(|_| Jinja::from(*value), Jinja::from),
        Value::Float(value) => Jinja::from(*value),
        Value::Str(text) => Jinja::from(text.as_str()),
        Value::Seq(_) | Value::Map(_) => Jinja::from(Serde(node)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::yaml;

    #[derive(Debug)]
    struct Fixed(BTreeMap<String, Jinja>);

    impl Names for Fixed {
        fn value(&self, name: &str) -> Option<Jinja> {
            self.0.get(name).cloned()
        }
        fn taint(&self, name: &str) -> Taint {
            Taint { facts: name == "facts", sensitive: name == "secret" }
        }
        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }
    }

    fn scope() -> Scope {
        let facts = serde_json::json!({
            "memory": { "total": 68_719_476_736_u64, "installed_gib": 64 },
            "hugepages": { "sizes": ["2M", "1G"] }, "big": u64::MAX, "half": 0.5, "nothing": null,
        });
        let names = [("facts", Jinja::from(Serde(&facts))), ("n", Jinja::from(8)), ("secret", Jinja::from("hunter2"))];
        Scope::new(Arc::new(Fixed(names.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())))
    }

    fn check(template: &str, expected: &str) {
        let map = SourceMap::new();
        let text = serde_json::to_string(template).unwrap();
        let node = yaml::read("t", &text, &map).unwrap();
        let result = Template::compile(&node, &map)
            .map_err(|d| d.render(&map, false))
            .and_then(|t| t.render(&scope(), &map).map_err(|d| d.render(&map, false)));
        match result {
            Ok(node) => assert_eq!(serde_json::to_string(&node).unwrap(), expected, "{template}"),
            Err(shown) => assert!(!expected.is_empty() && shown.contains(expected), "{template}: {shown}"),
        }
    }

    #[test]
    fn one_expression_keeps_its_type() {
        check("{{ facts.memory.installed_gib - n }}", "56");
        check(" {{ 64 // 3 }} ", "21");
        check("{{ 64 / 2 }}", "32.0");
        check("{{ facts.big }}", "18446744073709551615");
        check("{{ n > 3 }}", "true");
        check("{{ facts.hugepages.sizes }}", r#"["2M","1G"]"#);
        check("{{ {'b': 1, 'a': {'c': n}} }}", r#"{"b":1,"a":{"c":8}}"#);
        check("{{ facts.nothing }}", "null");
        check("{{ '}}' }}", r#""}}""#);
        check("{{ n }}-{{ n }}", r#""8-8""#);
        check("a {{ n }}\n", r#""a 8\n""#);
        check("{{ n }}G", r#""8G""#);
        check("{% if n > 3 %}yes{% else %}no{% endif %}", r#""yes""#);
        check("plain { text }", r#""plain { text }""#);
        check("{{ '512M'|size }}", "536870912");
        check("{{ '2M'|kib }}", "2048");
        check("{{ (n ~ 'G')|size // (1024 * 1024) }}", "8192");
        check("{{ '1G' in facts.hugepages.sizes and n }}", "8");
        check("<b>{{ '<&>' }}", r#""<b><&>""#);
        check("{{ facts.memory.nope|default(3) }}", "3");
    }

    #[test]
    fn errors_say_what_and_where() {
        check("{{ facts.memory.instaled_gib - n }}", "t:1:18: error: `facts.memory` has no `instaled_gib`");
        check("{{ facts.memory.instaled_gib - n }}", "did you mean `facts.memory.installed_gib`?");
        check("{{ facts.nope }}", "t:1:11: error: `facts` has no `nope`");
        check("{{ fatcs.memory }}", "t:1:5: error: unknown variable `fatcs`");
        check("x{{ nope }}", "unknown variable `nope`");
        check("{{ n if n > 100 }}", "the expression has no value");
        check("{{ n + }}", "expression syntax: ");
        check("a {{ n", "template syntax: ");
        check("a {% if %}", "template syntax: ");
        check("{{ n|sice }}", "filter sice is unknown");
        check("{{ n // 0 }}", "expression: ");
        check("{{ 'x'|size }}", "`x` is no size");
        check("{{ 1025|kib }}", "no whole number of KiB");
        check("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "too many steps");
        check("{{ secret + 1 }}", "t:1:1: error: expression: ");
    }

    #[test]
    fn no_expression_takes_the_machine() {
        for text in [
            "{{ 'x' * 10000000000000 }}",
            "{{ 'x' * -1 }}",
            "{{ [1] * 10000000000 }}",
            "{{ range(10000000000)|list }}",
            "{{ 'x'|center(10000000000) }}",
            "{{ 'x'|indent(10000000000) }}",
            "{{ 2 ** 100000 }}",
            "{{ 10 ** 38 * 10 }}",
            "{{ -170141183460469231731687303715884105728 // -1 }}",
            "{{ [1]|batch(0)|list }}",
            "{{ [1]|slice(0)|list }}",
            "{{ 'abc'[5:1:-1] }}",
            "{{ 'abc'[::0] }}",
            "{{ 1|round(1000000) }}",
            "{{ facts|tojson }}",
            "{{ '%s'|format(1) }}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{% set x = namespace(a=[]) %}{% for i in range(9999) %}{% set x.a = [x.a, x.a] %}{% endfor %}{{ x.a }}",
            "{% include 'x' %}",
            "{{ self }}",
            "{{ (((((((((((((((((((((((((1))))))))))))))))))))))))) }}",
        ] {
            let map = SourceMap::new();
            let node = Node::new(Value::Str(text.to_owned()), Span::new(map.add("t", text), 0..text.len()));
            let shown = Template::compile(&node, &map)
                .map_err(|d| d.render(&map, false))
                .and_then(|t| t.render(&scope(), &map).map_err(|d| d.render(&map, false)))
                .map_or_else(|shown| shown, |node| node.describe());
            assert!(!shown.is_empty(), "{text}");
        }
        for open in ["(", "[", "{'a':", "-", "not ", "1 if ", "1 + "] {
            let map = SourceMap::new();
            let text = format!("{{{{ {} }}}}", open.repeat(20_000));
            let node = Node::new(Value::Str(text.clone()), Span::new(map.add("t", &*text), 0..text.len()));
            assert!(Template::compile(&node, &map).is_err(), "{open}");
        }
        let map = SourceMap::new();
        let text = format!("{}{{{{ n + }}}}", "\n".repeat(70_000));
        let node = Node::new(Value::Str(text.clone()), Span::new(map.add("t", &*text), 0..text.len()));
        assert!(Template::compile(&node, &map).is_err());
        for open in ["{% if 1 %}", "{% for a in b %}", "{% raw %}", "{{ 1 }}x", "{# "] {
            let map = SourceMap::new();
            let text = open.repeat(5_000);
            let node = Node::new(Value::Str(text.clone()), Span::new(map.add("t", &*text), 0..text.len()));
            assert_eq!(Template::compile(&node, &map).is_ok(), open.ends_with('x'), "{open}");
        }
    }

    #[test]
    fn values_know_what_they_were_computed_from() {
        let map = SourceMap::new();
        let node = yaml::read("t", "a: '{{ facts.big }}'\nb: x{{ secret }}\nc: '{{ [n] }}'\n", &map).unwrap();
        let node = Template::compile(&node, &map).unwrap().render(&scope(), &map).unwrap();
        assert_eq!(node.get("a").unwrap().taint, Taint { facts: true, sensitive: false });
        assert_eq!(node.get("b").unwrap().taint, Taint { facts: false, sensitive: true });
        assert_eq!(node.get("b").unwrap().describe(), "a string");
        assert_eq!(node.get("c").unwrap().deep_taint(), Taint::default());
        assert_eq!(node.deep_taint(), Taint { facts: true, sensitive: true });
    }

    #[test]
    fn a_mistake_in_a_block_is_shown_in_its_line() {
        let map = SourceMap::new();
        let node = yaml::read("t", "a: |\n  one\n  {% if n %}\n  {{ n + }}\n  {% endif %}\n", &map).unwrap();
        let errors = Template::compile(&node, &map).unwrap_err();
        assert!(
            errors.render(&map, false).starts_with("t:4:3: error: template syntax"),
            "{}",
            errors.render(&map, false)
        );
    }
}
