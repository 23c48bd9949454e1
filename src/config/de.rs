//! A [`Node`] to any type that serde can read, with every error at the value or key concerned.
//!
//! A kind is a plain struct with `#[derive(Deserialize)]` and `#[serde(deny_unknown_fields)]`. A number or boolean is
//! accepted where a string is wanted, spelled as it was written.

use std::{borrow::Cow, fmt};

use serde::{
    de::{self, Deserialize, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::node::{Key, Node, Value};
use crate::diag::{Diagnostic, Diagnostics, Span, suggestion};

/// Reads a value as a type.
///
/// # Errors
/// All unknown keys of a map, or else the first thing that is wrong, each at its place.
pub fn parse<T: DeserializeOwned>(node: &Node) -> Result<T, Diagnostics> {
    T::deserialize(De(node)).map_err(|error| error.placed(node).0.into_iter().map(Problem::into_diagnostic).collect())
}

/// A field that is known to a struct but read from its [`Node`], where its place matters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Skipped;

impl<'de> Deserialize<'de> for Skipped {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// What serde found wrong.
#[derive(Debug)]
struct Error(Vec<Problem>);

#[derive(Debug)]
struct Problem {
    summary: String,
    help: Option<String>,
    /// What was expected, until it is known what was found.
    expected: Option<String>,
    /// Whether it is about a key that the type does not know.
    unknown: Option<&'static [&'static str]>,
    span: Option<Span>,
}

impl Problem {
    fn error(summary: String) -> Error {
        Error(vec![Self { summary, help: None, expected: None, unknown: None, span: None }])
    }

    fn expected(expected: impl fmt::Display) -> Error {
        let mut error = Self::error(String::new());
        error.0[0].expected = Some(expected.to_string());
        error
    }

    fn into_diagnostic(self) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.summary);
        if let Some(span) = self.span {
            diagnostic = diagnostic.at(span);
        }
        match self.help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }
}

impl Error {
    /// Says of everything that has no place yet that it is about this value.
    fn placed(mut self, node: &Node) -> Self {
        for problem in self.0.iter_mut().filter(|problem| problem.span.is_none()) {
            problem.span = Some(node.span);
            if let Some(expected) = problem.expected.take() {
                let (expected, is_integer) = words(&expected);
                problem.summary = format!("expected {expected}, found {}", node.describe());
                problem.help = hint(node, &expected, is_integer);
            }
        }
        self
    }

    fn placed_at_key(mut self, key: &Key) -> Self {
        for problem in self.0.iter_mut().filter(|problem| problem.span.is_none()) {
            problem.span = Some(key.span);
            if let Some(expected) = problem.expected.take() {
                problem.summary = format!("expected {} as key, found `{}`", words(&expected).0, key.text);
            }
        }
        self
    }
}

/// Returns what serde calls a type in words for people, and whether it is an integer.
fn words(expected: &str) -> (Cow<'_, str>, bool) {
    let integer = |words: &'static str| (Cow::Borrowed(words), true);
    match expected {
        "i64" | "i128" | "isize" => integer("an integer"),
        "u64" | "usize" | "u128" => integer("an integer of at least 0"),
        "u8" => integer("an integer from 0 to 255"),
        "i8" => integer("an integer from -128 to 127"),
        "u16" => integer("an integer from 0 to 65535"),
        "i16" => integer("an integer from -32768 to 32767"),
        "u32" => integer("an integer from 0 to 4294967295"),
        "i32" => integer("an integer from -2147483648 to 2147483647"),
        "a nonzero u32" | "a nonzero u64" | "a nonzero usize" | "a nonzero u16" => integer("an integer of at least 1"),
        "f32" | "f64" => ("a number".into(), false),
        "a sequence" => ("a list".into(), false),
        "unit" => ("nothing".into(), false),
        _ if expected.starts_with("struct ") => ("a map".into(), false),
        _ if expected.starts_with("enum ") || expected.starts_with("variant ") => ("a name or a map".into(), false),
        _ if expected.starts_with("a tuple") => ("a list".into(), false),
        other => (other.into(), false),
    }
}

fn hint(node: &Node, expected: &str, is_integer: bool) -> Option<String> {
    match &node.value {
        Value::Float(_) if is_integer => Some("in a template, `//` or `|int` gives an integer".to_owned()),
        Value::Str(text) if is_integer && text.parse::<i128>().is_ok() => {
            Some("write it without quotes; in a template, `|int` gives an integer".to_owned())
        }
        Value::Str(text) if expected == "a boolean" => match text.as_str() {
            "yes" | "on" | "y" => Some("write `true`".to_owned()),
            "no" | "off" | "n" => Some("write `false`".to_owned()),
            _ => None,
        },
        Value::Null if expected == "a string" => Some("write `\"\"` for an empty string".to_owned()),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|problem| problem.summary.as_str()).collect();
        f.write_str(&words.join("; "))
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem::error(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Problem::expected(expected.to_string())
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Problem::expected(expected.to_string())
    }

    fn invalid_length(len: usize, expected: &dyn de::Expected) -> Self {
        Problem::error(format!("expected {expected}, found a list of {len}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Problem::error(format!("unknown key `{field}`"));
        error.0[0].help = suggestion(field, expected.iter().copied());
        error.0[0].unknown = Some(expected);
        error
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut error = Problem::error(format!("unknown value `{variant}`"));
        let known = || expected.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        error.0[0].help = Some(match suggestion(variant, expected.iter().copied()) {
            Some(text) if text.starts_with("did") => format!("{text} One of {}", known()),
            _ => format!("write one of {}", known()),
        });
        error
    }

    fn missing_field(field: &'static str) -> Self {
        Problem::error(format!("`{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Problem::error(format!("`{field}` is given twice, perhaps under another name"))
    }
}

/// A value as serde reads it.
struct De<'n>(&'n Node);

impl<'n> De<'n> {
    fn any<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Str(text) => visitor.visit_str(text),
            Value::Seq(list) => visitor.visit_seq(Seq(list.iter())),
            Value::Map(map) => visitor.visit_map(Entries { rest: &map.0, value: None, fields: None }),
        }
    }

    fn text<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.scalar_text() {
            Some(text) => visitor.visit_str(&text),
            None => self.any(visitor),
        }
    }
}

impl<'de> de::Deserializer<'de> for De<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let node = self.0;
        self.any(visitor).map_err(|error| error.placed(node))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let node = self.0;
        self.text(visitor).map_err(|error| error.placed(node))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let node = self.0;
        if node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }.map_err(|error| error.placed(node))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        let node = self.0;
        visitor.visit_newtype_struct(self).map_err(|error| error.placed(node))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let node = self.0;
        match &node.value {
            Value::Map(map) => visitor.visit_map(Entries { rest: &map.0, value: None, fields: Some(fields) }),
            // A struct may also be read from a list, which nobody means here.
            Value::Seq(_) => Err(Problem::expected("a map")),
            _ => self.any(visitor),
        }
        .map_err(|error| error.placed(node))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let node = self.0;
        match &node.value {
            Value::Map(map) => match map.0.as_slice() {
                [(key, value)] => visitor.visit_enum(Variant { key: key.into(), value: Some(value) }),
                _ => Err(Problem::error(format!("expected a map with one key, found one with {}", map.len()))),
            },
            Value::Seq(_) | Value::Null => Err(Problem::expected("a name or a map with one key")),
            _ => {
                let text = node.scalar_text().unwrap_or_default();
                visitor.visit_enum(Variant { key: KeyRef { text: &text, span: node.span }, value: None })
            }
        }
        .map_err(|error| error.placed(node))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier
    }
}

struct Seq<'n>(std::slice::Iter<'n, Node>);

impl<'de> de::SeqAccess<'de> for Seq<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(De(node)).map_err(|error| error.placed(node))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'n> {
    rest: &'n [(Key, Node)],
    value: Option<&'n Node>,
    /// The keys that a struct knows.
    fields: Option<&'static [&'static str]>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(((key, value), rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        self.value = Some(value);
        match seed.deserialize(KeyRef::from(key)) {
            Ok(found) => Ok(Some(found)),
            Err(error) => {
                let is_unknown = error.0.first().is_some_and(|problem| problem.unknown.is_some());
                let mut error = error.placed_at_key(key);
                // The visitor stops here, so the unknown keys that follow are told now.
                if let (true, Some(fields)) = (is_unknown, self.fields) {
                    for (key, _) in rest.iter().filter(|(key, _)| !fields.contains(&key.text.as_str())) {
                        let more = <Error as de::Error>::unknown_field(&key.text, fields).placed_at_key(key);
                        error.0.extend(more.0);
                    }
                }
                Err(error)
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let node = self.value.take().ok_or_else(|| Problem::error("a value was read before its key".to_owned()))?;
        seed.deserialize(De(node)).map_err(|error| error.placed(node))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A key as serde reads it: text, and a number where the type wants one.
#[derive(Clone, Copy)]
struct KeyRef<'n> {
    text: &'n str,
    span: Span,
}

impl<'n> From<&'n Key> for KeyRef<'n> {
    fn from(key: &'n Key) -> Self {
        Self { text: &key.text, span: key.span }
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident: $number:ty,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text.parse::<$number>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_str(self.text),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for KeyRef<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Variant { key: self, value: None })
    }

    numbers! {
        deserialize_i8 => visit_i64: i64,
        deserialize_i16 => visit_i64: i64,
        deserialize_i32 => visit_i64: i64,
        deserialize_i64 => visit_i64: i64,
        deserialize_u8 => visit_u64: u64,
        deserialize_u16 => visit_u64: u64,
        deserialize_u32 => visit_u64: u64,
        deserialize_u64 => visit_u64: u64,
    }

    forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// An enum: a name, or a map with one key.
struct Variant<'n> {
    key: KeyRef<'n>,
    value: Option<&'n Node>,
}

impl<'de, 'n> de::EnumAccess<'de> for Variant<'n> {
    type Error = Error;
    type Variant = Content<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'n>), Error> {
        let key = Key { text: self.key.text.to_owned(), span: self.key.span };
        let name: de::value::StrDeserializer<'_, Error> = self.key.text.into_deserializer();
        let found = seed.deserialize(name).map_err(|error| error.placed_at_key(&key))?;
        Ok((found, Content { name: key, value: self.value }))
    }
}

/// What follows the name of a variant.
struct Content<'n> {
    name: Key,
    value: Option<&'n Node>,
}

impl<'n> Content<'n> {
    fn value(&self) -> Result<De<'n>, Error> {
        let missing = || Problem::error(format!("`{}` needs a value", self.name.text)).placed_at_key(&self.name);
        self.value.map(De).ok_or_else(missing)
    }
}

impl<'de> de::VariantAccess<'de> for Content<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.value {
            Some(node) if !node.is_null() => {
                Err(Problem::error(format!("`{}` takes no value", self.name.text)).placed(node))
            }
            _ => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        let value = self.value()?;
        let node = value.0;
        seed.deserialize(value).map_err(|error| error.placed(node))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_seq(self.value()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_struct(self.value()?, "", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::{config::yaml, diag::SourceMap, host::path::AbsPath};

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Kind {
        name: String,
        #[serde(default)]
        count: Option<u16>,
        #[serde(default)]
        enabled: Option<Choice>,
        #[serde(default)]
        path: Option<AbsPath>,
        #[serde(default)]
        pages: BTreeMap<String, u64>,
        #[serde(default)]
        nodes: BTreeMap<u32, bool>,
        #[serde(default)]
        list: Vec<String>,
        #[serde(default)]
        source: Option<Source>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    enum Choice {
        Always,
        Madvise,
        Never,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    enum Source {
        Text(String),
        Lines { count: u8 },
    }

    fn wrong(text: &str, found: &[&str]) {
        let map = SourceMap::new();
        let node = yaml::read("t", text, &map).unwrap();
        let errors = parse::<Kind>(&node).unwrap_err();
        let shown: Vec<String> = errors
            .iter()
            .map(|d| format!("{} {} | {}", map.place(d.span().unwrap()), d.summary, d.help.join("; ")))
            .collect();
        let shown: Vec<_> = shown.iter().map(|line| line.trim_end_matches([' ', '|'])).collect();
        assert_eq!(shown, found, "{text}");
    }

    #[test]
    fn plain_structs_are_read() {
        let text = "name: 0x10\ncount: 3\nenabled: never\npath: /etc\npages: {1G: 4}\nnodes: {0: true}\n\
                    list: [1.50, true, x]\nsource: { lines: { count: 3 } }\n";
        let node = yaml::read("t", text, &SourceMap::new()).unwrap();
        let kind: Kind = parse(&node).unwrap();
        let expected = Kind {
            name: "0x10".into(),
            count: Some(3),
            enabled: Some(Choice::Never),
            path: Some(AbsPath::known("/etc")),
            pages: [("1G".into(), 4)].into(),
            nodes: [(0, true)].into(),
            list: vec!["1.50".into(), "true".into(), "x".into()],
            source: Some(Source::Lines { count: 3 }),
        };
        assert_eq!(kind, expected);
    }

    #[test]
    fn errors_stand_at_the_innermost_place() {
        let known = "known are `name`, `count`, `enabled`, `path`, `pages`, `nodes`, `list`, `source`";
        wrong(
            "nam: x\ncount: 1\nzzz: 2\n",
            &["t:1:1 unknown key `nam` | did you mean `name`?", &format!("t:3:1 unknown key `zzz` | {known}")],
        );
        wrong("count: 1\n", &["t:1:1 `name` is missing"]);
        wrong("name: x\ncount: ten\n", &["t:2:8 expected an integer from 0 to 65535, found the string `ten`"]);
        wrong("name: x\ncount: -1\n", &["t:2:8 expected an integer from 0 to 65535, found the integer `-1`"]);
        wrong(
            "name: x\ncount: 2.0\n",
            &[
                "t:2:8 expected an integer from 0 to 65535, found the number `2.0` | in a template, `//` or `|int` gives an integer",
            ],
        );
        wrong(
            "name: x\nenabled: sometimes\n",
            &["t:2:10 unknown value `sometimes` | write one of `always`, `madvise`, `never`"],
        );
        wrong("name: x\npath: etc/x\n", &["t:2:7 `etc/x` is a relative path; a path on a host begins with `/`"]);
        wrong(
            "name: x\npages:\n  1G: 1\n  2M: many\n",
            &["t:4:7 expected an integer of at least 0, found the string `many`"],
        );
        wrong("name: x\nnodes: {a: true}\n", &["t:2:9 expected an integer from 0 to 4294967295 as key, found `a`"]);
        wrong("name: x\nnodes: {1: yes}\n", &["t:2:12 expected a boolean, found the string `yes` | write `true`"]);
        wrong("name: [a]\n", &["t:1:7 expected a string, found a list"]);
        wrong("name:\n", &["t:1:5 expected a string, found nothing | write `\"\"` for an empty string"]);
        wrong("name: x\nlist: a\n", &["t:2:7 expected a list, found the string `a`"]);
        wrong("name: x\nlist: [a, {b: 1}]\n", &["t:2:11 expected a string, found a map"]);
        wrong(
            "name: x\nsource: { lines: { count: 300 } }\n",
            &["t:2:27 expected an integer from 0 to 255, found the integer `300`"],
        );
        wrong("name: x\nsource: { lines: { cont: 3 } }\n", &["t:2:20 unknown key `cont` | did you mean `count`?"]);
        wrong("name: x\nsource: text\n", &["t:2:9 `text` needs a value"]);
        wrong("- x\n", &["t:1:1 expected a map, found a list"]);
        wrong("x\n", &["t:1:1 expected a map, found the string `x`"]);
    }
}
