//! YAML text to a tree of [`Node`]s, each with its place.
//!
//! A file is parsed once. Booleans are those of YAML 1.2, numbers with leading zeros or underscores are strings, merge
//! keys work, and what is ambiguous (a duplicate key, an unknown tag, a second document) is refused.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, MessageFormatter as _, Spanned, UserMessageFormatter};

use super::node::{Key, Map, Node, Value};
use crate::diag::{Diagnostic, SourceId, SourceMap, Span};

/// The greatest size of a file in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// The greatest depth of lists and maps in each other.
pub const MAX_DEPTH: usize = 32;

/// How many values aliases may add to a file.
const MAX_REPLAYED: usize = 100_000;

/// Parses a text that is added to `sources` under `name`.
///
/// # Errors
/// A diagnostic with the exact place of what is no YAML or over a limit.
pub fn read(name: &str, text: &str, sources: &SourceMap) -> Result<Node, Diagnostic> {
    parse(text, sources.add(name, text))
}

/// Parses a text that `source` already holds.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, source: SourceId) -> Result<Node, Diagnostic> {
    if text.len() > MAX_BYTES {
        return Err(
            Diagnostic::error(format!("the file is larger than {} MiB", MAX_BYTES >> 20)).at(Span::new(source, 0..0))
        );
    }
    let parsed: Result<Spanned<Raw>, _> = serde_yaml::from_str_with_options(text, options());
    match parsed {
        Ok(raw) => {
            let mut node = raw.value.at(raw.defined);
            place(&mut node, text, source);
            Ok(node)
        }
        Err(error) => Err(explain(&error, text, source)),
    }
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        // A host may take ten nodes, so this is room for two million; the file's size is bounded as well.
        budget: serde_yaml::budget! {
            max_events: 50_000_000,
            max_nodes: 20_000_000,
            max_depth: MAX_DEPTH,
            max_documents: 1,
            max_aliases: 10_000,
            max_anchors: 10_000,
            max_total_scalar_bytes: MAX_BYTES,
        },
        // What aliases multiply is bounded far below what a file may hold itself.
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: MAX_REPLAYED, max_replay_stack_depth: 16 },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// A node before its source is known.
struct Raw(Value);

impl Raw {
    fn at(self, location: Location) -> Node {
        let span = location.span();
        let start = span.byte_offset().unwrap_or(0) as usize;
        let end = start + span.byte_len().unwrap_or(0) as usize;
        Node::new(self.0, Span::new(SourceId::default(), start..end))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor).map(Self)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        i128::try_from(value).map(Value::Int).map_err(|_| E::custom("the integer is too large"))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Str(text.to_owned()))
    }
    fn visit_string<E: de::Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Str(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Spanned { value, defined, .. }) = seq.next_element::<Spanned<Raw>>()? {
            list.push(value.at(defined));
        }
        Ok(Value::Seq(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let Spanned { value, defined, .. } = map.next_value::<Spanned<Raw>>()?;
            let span = Raw(Value::Null).at(key.defined).span;
            entries.push((Key { text: key.value, span }, value.at(defined)));
        }
        Ok(Value::Map(Map(entries)))
    }
}

/// Says of a whole tree which source it is from, and remembers the spelling of numbers and booleans.
fn place(node: &mut Node, text: &str, source: SourceId) {
    node.span.source = source;
    match &mut node.value {
        Value::Seq(list) => list.iter_mut().for_each(|node| place(node, text, source)),
        Value::Map(map) => {
            for (key, node) in &mut map.0 {
                key.span.source = source;
                place(node, text, source);
            }
        }
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            if let Some(written) = text.get(node.span.start as usize..node.span.end as usize) {
                let node_taken = std::mem::replace(node, Node::new(Value::Null, node.span));
                *node = node_taken.written_as(written);
            }
        }
        Value::Null | Value::Str(_) => {}
    }
}

fn explain(error: &serde_yaml::Error, text: &str, source: SourceId) -> Diagnostic {
    use serde_yaml::{Error, budget::BudgetBreach};

    let inner = innermost(error);
    let location = error.location().or_else(|| inner.location()).unwrap_or(Location::UNKNOWN);
    let mut at = offset(text, location);
    let len = location.span().byte_len().unwrap_or(0) as usize;
    let mut end = text.floor_char_boundary(at + len).max(at);
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let mut help = None;
    let summary = match inner {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` stands twice in this map"),
        Error::DuplicateMappingKey { .. } => "a key stands twice in this map".to_owned(),
        Error::NullIntoString { .. } => "a key must be a string, and this is nothing".to_owned(),
        Error::UnknownAnchor { .. } => "this alias names no anchor of the file".to_owned(),
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            "a second document begins here, and a file holds one".to_owned()
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            format!("lists and maps stand in each other more than {MAX_DEPTH} deep")
        }
        Error::Budget { .. } => "the file is too large".to_owned(),
        Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            format!("aliases expand to more than {MAX_REPLAYED} values, or too deep")
        }
        other => {
            let message = UserMessageFormatter.format_message(other).into_owned();
            if let Some(tag) = message.strip_prefix("unsupported tag ") {
                let tag = tag.trim_matches('`');
                if let Some(found) = text[line..at].rfind(tag) {
                    at = line + found;
                    end = at + tag.len();
                }
                help = Some("a value has no tag; write it in quotes if the text itself begins with `!`");
                format!("unknown tag `{tag}`")
            } else if message.starts_with("tabs disallowed") {
                help = Some("indent with spaces");
                "a tab stands in the indentation".to_owned()
            } else {
                match message.as_str() {
                    "expected string scalar" => "a key must be a string, and this is a list or map".to_owned(),
                    _ => message,
                }
            }
        }
    };
    // `{{` reads as a map in a map, which fails in one of several ways.
    let upto = text[line..].find('\n').map_or(text.len(), |newline| line + newline);
    if let Some(open) = text[line..upto].find("{{").map(|open| line + open)
        && open <= at + 1
        && !matches!(inner, Error::DuplicateMappingKey { .. })
        && !text[line..open].contains(['"', '\'', '#'])
    {
        let close = text[open..upto].find("}}").map_or(upto, |close| open + close + 2);
        return Diagnostic::error("a template without quotes is a map to YAML")
            .at(Span::new(source, open..close))
            .help(format!("quote the template: `\"{}\"`", &text[open..close]));
    }
    let diagnostic = Diagnostic::error(summary).at(Span::new(source, at..end.min(text.len())));
    match help {
        Some(help) => diagnostic.help(help),
        None => diagnostic,
    }
}

fn innermost(error: &serde_yaml::Error) -> &serde_yaml::Error {
    use serde_yaml::Error;

    match error {
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => innermost(error),
        error => error,
    }
}

/// Finds the byte at a location; an error of the scanner has a line and column only.
fn offset(text: &str, location: Location) -> usize {
    if let Some(offset) = location.span().byte_offset() {
        return (offset as usize).min(text.len());
    }
    let (line, column) = (location.line() as usize, location.column() as usize);
    if line == 0 {
        return 0;
    }
    let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum::<usize>();
    let rest = &text[start.min(text.len())..];
    rest.char_indices().nth(column.saturating_sub(1)).map_or(text.len(), |(at, _)| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks where and how a text is refused.
    fn refused(text: &str, place: &str, words: &str) {
        let map = SourceMap::new();
        let error = read("t.yaml", text, &map).unwrap_err();
        let shown = error.render(&map, false);
        assert!(shown.starts_with(&format!("t.yaml:{place}: error: ")), "{text:?}: {shown}");
        assert!(shown.contains(words), "{text:?}: {shown}");
    }

    fn loaded(text: &str, json: &str) {
        let node = read("t.yaml", text, &SourceMap::new()).unwrap();
        assert_eq!(serde_json::to_string(&node).unwrap(), json);
    }

    #[test]
    fn what_is_no_yaml_is_refused_at_its_place() {
        refused("a: 1\na: 2\n", "2:1", "the key `a` stands twice");
        refused("a:\n\t- b\n", "2:2", "a tab stands");
        refused("a: {{ x }}\n", "1:4", "quote the template: `\"{{ x }}\"`");
        refused("b: 1\na: { c: {{ x }} }\n", "2:9", "quote the template");
        refused("{{ x }}", "1:1", "quote the template");
        refused("a: \"x\n", "1:4", "unclosed quote");
        refused("a: !vault x\n", "1:4", "unknown tag `!vault`");
        refused("a: 1\n---\nb: 2\n", "2:1", "a second document");
        refused("a: [1, 2\n", "1:4", "unclosed bracket");
        refused("a: b: c\n", "1:5", "mapping values are not allowed");
        refused("a: *x\n", "1:4", "names no anchor");
        refused("? [a, b]\n: 1\n", "1:3", "a key must be a string");
        refused("null: 4\n", "1:1", "a key must be a string");
        refused("a: .nan\n", "1:4", "not a finite number");
        refused("a: @x\n", "1:4", "unexpected character");
        refused("é: &a [ü]\nö: *b", "2:4", "names no anchor");
    }

    #[test]
    fn scalars_have_the_types_of_yaml_1_2() {
        loaded("", "null");
        loaded(
            "a: 0644\nb: 1_000\nc: 0x1f\nd: yes\ne: ~\nf:\ng: True\n",
            r#"{"a":"0644","b":"1_000","c":31,"d":"yes","e":null,"f":null,"g":true}"#,
        );
        loaded(
            "a: 18446744073709551615\nb: '5'\nc: !!str 5\n1G: 2\n",
            r#"{"a":18446744073709551615,"b":"5","c":"5","1G":2}"#,
        );
        loaded("x: &x {a: 1, b: 1}\ny: {<<: *x, b: 2}\n", r#"{"x":{"a":1,"b":1},"y":{"b":2,"a":1}}"#);
    }

    #[test]
    fn what_multiplies_is_refused_quickly() {
        let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for n in 1..10 {
            laughs += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(","));
        }
        refused(&laughs, "5:38", "aliases expand to more than 100000");
        refused(&format!("{}{}", "[".repeat(40), "]".repeat(40)), "1:33", "more than 32 deep");
        let deep: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        refused(&deep, "33:33", "more than 32 deep");
        refused(&"[".repeat(100_000), "1:256", "");
    }

    #[test]
    fn an_inventory_of_ten_thousand_hosts_is_no_attack() {
        let mut text = String::from("hosts:\n");
        for n in 0..10_000 {
            text += &format!("  h{n}:\n    address: 10.0.0.1\n    vars: {{ a: 1, b: x }}\n    playbooks: [p]\n");
        }
        assert_eq!(
            read("t.yaml", &text, &SourceMap::new()).unwrap().get("hosts").unwrap().as_map().unwrap().len(),
            10_000
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-c]: |[-{}\\[\\],&*!|>'\"%@#?]|\\{\\{|\\}\\}|\n| |\t|\r|é|<<: |&a |\\*a|[0-9.]){0,60}") {
            let map = SourceMap::new();
            if let Err(error) = read("t.yaml", &text, &map) {
                proptest::prop_assert!(error.render(&map, false).starts_with("t.yaml:"));
            }
        }
    }
}
