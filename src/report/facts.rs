//! The facts of hosts, as text.

use serde_json::Value;

use super::text::{Look, Tone, columns, shown};
use crate::facts::Facts;

/// Writes the facts of one host, a line each, named as expressions name them.
#[must_use]
pub fn facts(host: &str, facts: &Facts, look: Look) -> String {
    let mut rows = vec![];
    collect("facts", &facts.to_value(), &mut rows);
    let mut out = String::new();
    look.put(&mut out, Tone::Heading, &shown(host));
    out.push('\n');
    for line in columns(&rows) {
        out.push_str(&format!("  {line}\n"));
    }
    out
}

fn collect(name: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                collect(&format!("{name}.{key}"), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                collect(&format!("{name}[{at}]"), item, rows);
            }
        }
        value => rows.push(vec![shown(name).into_owned(), shown(&value.to_string()).into_owned()]),
    }
}
