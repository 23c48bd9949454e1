//! Values and declarations as plain data without places, for plan files.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{
    declared::{Declared, Level},
    node::{Key, Map, Node, Taint, Value},
};
use crate::diag::{SourceMap, Span};

/// A declaration without places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// See [`Declared::kind`].
    pub kind: String,
    /// See [`Declared::params`], as [`to_data`] writes it.
    pub params: Json,
    /// See [`Declared::labels`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub labels: Vec<String>,
    /// See [`Declared::requires`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub requires: Vec<String>,
    /// See [`Declared::notify`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notify: Vec<String>,
    /// See [`Declared::overrides`].
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub overrides: bool,
    /// See [`Declared::sensitive`].
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
    /// See [`Declared::level`].
    pub level: Level,
}

/// Takes the places out of declarations; their order keeps that of the places, on which the order of merged parts hangs.
#[must_use]
pub fn declarations(mut declared: Vec<Declared>) -> Vec<Declaration> {
    declared.sort_by_key(|one| one.place);
    let names = |list: Vec<(String, Span)>| list.into_iter().map(|(name, _)| name).collect();
    let one = |one: Declared| Declaration {
        kind: one.kind,
        params: to_data(&one.params),
        labels: one.labels,
        requires: names(one.requires),
        notify: names(one.notify),
        overrides: one.overrides,
        sensitive: one.sensitive,
        level: one.level,
    };
    declared.into_iter().map(one).collect()
}

/// Gives declarations places in a source that names them, one in each line, so that a message has something to show.
///
/// # Errors
/// A value that [`to_data`] does not write.
pub fn declared(declarations: Vec<Declaration>, name: &str, sources: &SourceMap) -> Result<Vec<Declared>, String> {
    let lines: Vec<String> = declarations.iter().map(|one| format!("{}\n", one.kind)).collect();
    let source = sources.add(name, lines.concat());
    let mut start = 0;
    let one = |(one, line): (Declaration, &String)| {
        let place = Span::new(source, start..start + line.len() - 1);
        start += line.len();
        let names = |list: Vec<String>| list.into_iter().map(|name| (name, place)).collect();
        Ok(Declared {
            params: from_data(&one.params, place)?,
            kind: one.kind,
            kind_span: place,
            labels: one.labels,
            requires: names(one.requires),
            notify: names(one.notify),
            overrides: one.overrides,
            sensitive: one.sensitive,
            level: one.level,
            origin: vec![place],
            place,
        })
    };
    declarations.into_iter().zip(&lines).map(one).collect()
}

/// Writes a value: what JSON has as itself, a map as `{"map": {…}}`, and what JSON does not have or what is marked as
/// `{"value" | "int" | "float": …, "facts", "sensitive", "written"}`.
#[must_use]
pub fn to_data(node: &Node) -> Json {
    let value = match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Str(text) => json!(text),
        Value::Seq(list) => list.iter().map(to_data).collect(),
        Value::Map(map) => {
            let map = map.iter().map(|(key, node)| (key.text.clone(), to_data(node)));
            json!({ "map": map.collect::<serde_json::Map<_, _>>() })
        }
        Value::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
            (Ok(value), _) => json!(value),
            (_, Ok(value)) => json!(value),
            _ => json!({ "int": value.to_string() }),
        },
        // Not every reader of JSON gives each digit back.
        Value::Float(value) => json!({ "float": format!("{value:?}") }),
    };
    let marks = [("facts", node.taint.facts), ("sensitive", node.taint.sensitive)];
    if node.written().is_none() && !marks.iter().any(|(_, is_set)| *is_set) {
        return value;
    }
    let mut marked = serde_json::Map::from_iter([("value".to_owned(), value)]);
    marked.extend(marks.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| ((*name).to_owned(), Json::Bool(true))));
    marked.extend(node.written().map(|written| ("written".to_owned(), json!(written))));
    Json::Object(marked)
}

/// Reads what [`to_data`] wrote.
///
/// # Errors
/// Says what it does not write.
pub fn from_data(data: &Json, place: Span) -> Result<Node, String> {
    let wrong = || format!("`{}` is no value of a plan file", data.to_string().chars().take(60).collect::<String>());
    let value = match data {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::String(text) => Value::Str(text.clone()),
        Json::Array(list) => Value::Seq(list.iter().map(|data| from_data(data, place)).collect::<Result<_, _>>()?),
        Json::Number(number) => {
            let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            Value::Int(whole.ok_or_else(wrong)?)
        }
        Json::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Json::as_str);
            if let Some(Json::Object(map)) = object.get("map") {
                let entry = |(key, data): (&String, &Json)| {
                    Ok((Key { text: key.clone(), span: place }, from_data(data, place)?))
                };
                Value::Map(Map(map.iter().map(entry).collect::<Result<_, String>>()?))
            } else if let Some(text) = text("int") {
                Value::Int(text.parse().map_err(|_| wrong())?)
            } else if let Some(text) = text("float") {
                Value::Float(text.parse().map_err(|_| wrong())?)
            } else {
                let mut node = from_data(object.get("value").ok_or_else(wrong)?, place)?;
                let is_set = |key: &str| object.get(key) == Some(&Json::Bool(true));
                node.taint = Taint { facts: is_set("facts"), sensitive: is_set("sensitive") };
                return Ok(match text("written") {
                    Some(written) => node.written_as(written),
                    None => node,
                });
            }
        }
    };
    Ok(Node::new(value, place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{declared::entries, yaml};

    #[test]
    fn values_and_declarations_survive() {
        let sources = SourceMap::new();
        let text = "{a: [1, 0x10, -5, 340282366920938463463374607431768211455, 1.50, True, null, ~, 'x'], \
                    map: {value: 1, int: '2', map: {float: 3}}, '': {}}";
        let mut node = yaml::read("t.yaml", text, &sources).unwrap();
        if let Value::Map(map) = &mut node.value {
            map.0[1].1.mark(Taint { facts: true, sensitive: true });
        }
        let place = Span::new(sources.add("x", ""), 0..0);
        let back = from_data(&to_data(&node), place).unwrap();
        assert!(back.same_value(&node));
        assert_eq!(to_data(&back), to_data(&node));
        assert_eq!(back.at(&["a", "1"]).unwrap().scalar_text().unwrap(), "0x10");
        assert!(back.at(&["map", "map", "float"]).unwrap().taint.sensitive);
        for wrong in ["{}", "1.5", r#"{"int":"x"}"#, r#"{"map":1}"#] {
            assert!(from_data(&serde_json::from_str(wrong).unwrap(), place).is_err(), "{wrong}");
        }
        let text = "- sysctl: {name: vm.swappiness, value: 35}\n  name: swap\n  notify: [x]\n  override: true\n\
                    - file: {path: /etc/a}\n  requires: [swap]\n  level: group\n";
        let plain = declarations(entries(text, &sources));
        let again = declarations(declared(plain.clone(), "plan", &sources).unwrap());
        assert_eq!(plain, again);
        assert_eq!((plain[0].labels[0].as_str(), plain[1].requires[0].as_str()), ("swap", "swap"));
    }
}
