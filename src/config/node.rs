//! [`Node`]: a value of a YAML file that knows where it stands and what it was computed from.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::diag::Span;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// The place: the scalar, or the first byte of a list or map.
    pub span: Span,
    /// What the value was computed from.
    pub taint: Taint,
    /// A number or boolean as it was written, where that is not its usual form (`0x10`, `1.50`, `True`).
    written: Option<Box<str>>,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`; `yes` and `no` are strings (YAML 1.2).
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A number with a fraction or exponent.
    Float(f64),
    /// A string.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A map; the order of the file is kept.
    Map(Map),
}

/// A map in the order of the file. No key stands in it twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Key, Node)>);

/// A key with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// The place.
    pub span: Span,
}

/// What a value was computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Taint {
    /// From facts of the host, so another host or another day may give another value.
    pub facts: bool,
    /// From a parameter that is `sensitive`, so it is never shown.
    pub sensitive: bool,
}

impl Taint {
    /// Returns what two values together were computed from.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { facts: self.facts || other.facts, sensitive: self.sensitive || other.sensitive }
    }
}

impl Node {
    /// Returns a value at a place, computed from nothing.
    #[must_use]
    pub fn new(value: Value, span: Span) -> Self {
        Self { value, span, taint: Taint::default(), written: None }
    }

    /// Remembers how a scalar was written, if that is not its usual form.
    #[must_use]
    pub fn written_as(mut self, text: &str) -> Self {
        if self.canonical().is_some_and(|canonical| canonical != text) {
            self.written = Some(text.into());
        }
        self
    }

    /// Returns how a number or boolean was written, where that is not its usual form.
    #[must_use]
    pub fn written(&self) -> Option<&str> {
        self.written.as_deref()
    }

    /// Returns what a map holds under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(key)
    }

    /// Returns the value at the end of a path of keys and, in lists, indices from 0.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match &node.value {
            Value::Map(map) => map.get(step),
            Value::Seq(list) => list.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    /// Returns the place of the value at the end of a path, or of the nearest value above it that exists.
    #[must_use]
    pub fn span_at(&self, path: &[&str]) -> Span {
        (0..=path.len()).rev().find_map(|n| self.at(&path[..n])).map_or(self.span, |node| node.span)
    }

    /// Returns a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    /// Returns a list.
    #[must_use]
    pub fn as_seq(&self) -> Option<&[Self]> {
        if let Value::Seq(list) = &self.value { Some(list) } else { None }
    }

    /// Returns a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(text) = &self.value { Some(text) } else { None }
    }

    /// Tells whether the value is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Returns a scalar as the text that was written, so that `value: 0x10` can be a string; `None` for `null`, a list
    /// or a map.
    #[must_use]
    pub fn scalar_text(&self) -> Option<Cow<'_, str>> {
        match (&self.value, &self.written) {
            (Value::Str(text), _) => Some(Cow::Borrowed(text)),
            (_, Some(written)) => Some(Cow::Borrowed(written)),
            _ => self.canonical().map(Cow::Owned),
        }
    }

    /// Returns what this value and everything in it was computed from.
    #[must_use]
    pub fn deep_taint(&self) -> Taint {
        match &self.value {
            Value::Seq(list) => list.iter().fold(self.taint, |taint, node| taint.and(node.deep_taint())),
            Value::Map(map) => map.iter().fold(self.taint, |taint, (_, node)| taint.and(node.deep_taint())),
            _ => self.taint,
        }
    }

    /// Marks this value and everything in it as computed from something.
    pub fn mark(&mut self, taint: Taint) {
        if taint == Taint::default() {
            return;
        }
        self.taint = self.taint.and(taint);
        match &mut self.value {
            Value::Seq(list) => list.iter_mut().for_each(|node| node.mark(taint)),
            Value::Map(map) => map.0.iter_mut().for_each(|(_, node)| node.mark(taint)),
            _ => {}
        }
    }

    /// Tells whether two values are the same, wherever they stand.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Seq(a), Value::Seq(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_value(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(&key.text).is_some_and(|b| a.same_value(b)))
            }
            (a, b) => a == b,
        }
    }

    /// Returns the type and, of a scalar, the value, for messages: ``the string `ten` ``. A sensitive value is not shown.
    #[must_use]
    pub fn describe(&self) -> String {
        let kind = self.kind();
        match &self.value {
            Value::Null | Value::Seq(_) | Value::Map(_) => kind.to_owned(),
            _ if self.taint.sensitive => kind.to_owned(),
            _ => {
                let text = self.scalar_text().unwrap_or_default();
                let short: String = text.chars().take(60).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("the {} `{short}{dots}`", kind.split_once(' ').map_or(kind, |(_, noun)| noun))
            }
        }
    }

    /// Returns the type with its article.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    fn canonical(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(format!("{value:?}")),
            Value::Str(text) => Some(text.clone()),
            Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }
}

impl Map {
    /// Returns the value under a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// Returns key and value.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&(Key, Node)> {
        self.0.iter().find(|(k, _)| k.text == key)
    }

    /// Iterates in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, (Key, Node)> {
        self.0.iter()
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Key, Node);
    type IntoIter = std::slice::Iter<'a, (Key, Node)>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The value alone, without place and taint.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => serializer.serialize_i64(value),
                (_, Ok(value)) => serializer.serialize_u64(value),
                _ => serializer.serialize_str(&value.to_string()),
            },
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Str(text) => serializer.serialize_str(text),
            Value::Seq(list) => serializer.collect_seq(list),
            Value::Map(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                for (key, node) in map {
                    out.serialize_entry(&key.text, node)?;
                }
                out.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::yaml, diag::SourceMap};

    #[test]
    fn values_are_found_by_path_and_keep_their_spelling() {
        let map = SourceMap::new();
        let node = yaml::read("t.yaml", "pages: { 1G: 4, 2M: 0x10 }\nlist: [a, {b: 1.50}]\n", &map).unwrap();
        assert_eq!(node.at(&["pages", "1G"]).unwrap().value, Value::Int(4));
        assert_eq!(node.at(&["pages", "2M"]).unwrap().scalar_text().unwrap(), "0x10");
        assert_eq!(node.at(&["list", "1", "b"]).unwrap().scalar_text().unwrap(), "1.50");
        assert!(node.at(&["list", "2"]).is_none() && node.at(&["pages", "1G", "x"]).is_none());
        assert_eq!(map.place(node.span_at(&["pages", "2M", "nothing"])), "t.yaml:1:21");
        assert_eq!(serde_json::to_string(&node).unwrap(), r#"{"pages":{"1G":4,"2M":16},"list":["a",{"b":1.5}]}"#);
        assert_eq!(node.get("list").unwrap().describe(), "a list");
        assert_eq!(node.at(&["pages", "2M"]).unwrap().describe(), "the integer `0x10`");
    }
}
