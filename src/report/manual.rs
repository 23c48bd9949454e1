//! The manual of kinds, modules and playbooks, made from their types.

use serde_json::Value;

use super::text::{Look, Tone, columns, wrap};
use crate::{
    config::{
        expr::Template,
        module::{Class, Module, Parameter, ParameterType},
    },
    resource::{KINDS, Kind},
};

/// Writes the list of all kinds, modules and playbooks, a line each.
#[must_use]
pub fn list(modules: &[&Module], look: Look) -> String {
    let mut out = String::new();
    let kinds: Vec<_> =
        KINDS.iter().map(|kind| (kind.name.to_string(), first_sentence(&kind_description(kind)))).collect();
    let of = |class: Class| -> Vec<_> {
        let of_class = modules.iter().filter(|module| module.class == class);
        of_class.map(|module| (module.name.clone(), first_sentence(&module.description))).collect()
    };
    for (title, rows) in [("Kinds", kinds), ("Modules", of(Class::Module)), ("Playbooks", of(Class::Playbook))] {
        look.put(&mut out, Tone::Heading, title);
        out.push('\n');
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, text) in rows {
            for (at, line) in wrap(&text, 76_usize.saturating_sub(width)).iter().enumerate() {
                let name = if at == 0 { name.as_str() } else { "" };
                out.push_str(&format!("  {name:<width$}  {line}\n"));
            }
        }
        out.push('\n');
    }
    out.push_str("`vprov explain NAME` shows one of them.\n");
    out
}

/// Writes the manual of a kind.
#[must_use]
pub fn kind(kind: &Kind, look: Look) -> String {
    let schema = schema(kind);
    let mut out = heading(kind.name, "kind", &kind_description(kind), None, look);
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let rows = properties.map(|(name, schema)| Row {
        name: name.clone(),
        what: if required.contains(&name.as_str()) {
            format!("{}, required", type_word(schema))
        } else {
            type_word(schema)
        },
        text: schema["description"].as_str().unwrap_or_default().into(),
    });
    parameters(&mut out, rows.collect(), look);
    example(&mut out, kind.example, look);
    out
}

/// Writes the manual of a module or playbook.
#[must_use]
pub fn module(module: &Module, look: Look) -> String {
    let mut out = heading(&module.name, &module.class.to_string(), &module.description, module.guide.as_deref(), look);
    let rows = module.parameters.iter().map(|parameter| Row {
        name: parameter.name.clone(),
        what: parameter_words(parameter),
        text: parameter.description.clone(),
    });
    parameters(&mut out, rows.collect(), look);
    out
}

struct Row {
    name: String,
    what: String,
    text: String,
}

fn heading(name: &str, class: &str, description: &str, guide: Option<&str>, look: Look) -> String {
    let mut out = String::new();
    look.put(&mut out, Tone::Heading, name);
    out.push_str(&format!("  ({class})\n\n"));
    for line in wrap(description.trim(), 78) {
        out.push_str(&format!("{line}\n"));
    }
    if let Some(guide) = guide {
        out.push_str(&format!("\nSUSE Virtualization Best Practices: {guide}\n"));
    }
    out
}

fn parameters(out: &mut String, rows: Vec<Row>, look: Look) {
    if rows.is_empty() {
        return;
    }
    out.push('\n');
    look.put(out, Tone::Heading, "Parameters");
    out.push('\n');
    let heads: Vec<Vec<String>> = rows.iter().map(|row| vec![row.name.clone(), row.what.clone()]).collect();
    for (head, row) in columns(&heads).iter().zip(&rows) {
        out.push_str(&format!("  {head}\n"));
        for line in wrap(row.text.trim(), 72) {
            out.push_str(&format!("      {line}\n"));
        }
    }
}

fn example(out: &mut String, example: &str, look: Look) {
    out.push('\n');
    look.put(out, Tone::Heading, "Example");
    out.push('\n');
    for (at, line) in example.trim().lines().enumerate() {
        out.push_str(&format!("  {}{line}\n", if at == 0 { "- " } else { "  " }));
    }
}

fn schema(kind: &Kind) -> Value {
    let mut settings = schemars::generate::SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    (kind.schema)(&mut settings.into_generator()).to_value()
}

fn kind_description(kind: &Kind) -> String {
    schema(kind)["description"].as_str().unwrap_or_default().replace('\n', " ")
}

fn first_sentence(text: &str) -> String {
    let text = text.trim();
    text.split_once(". ").map_or(text, |(first, _)| first).trim_end_matches('.').into()
}

/// Says in words what a value may be.
fn type_word(schema: &Value) -> String {
    if let Some(either) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let mut words: Vec<String> = either.iter().map(type_word).filter(|word| word != "null").collect();
        words.dedup();
        return words.join(" or ");
    }
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return word.into();
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
    }
    match &schema["type"] {
        Value::String(word) if word == "array" => "list".into(),
        Value::String(word) if word == "object" => "map".into(),
        Value::String(word) => word.clone(),
        Value::Array(words) => {
            words.iter().filter_map(Value::as_str).filter(|word| *word != "null").collect::<Vec<_>>().join(" or ")
        }
        _ => "any value".into(),
    }
}

fn parameter_words(parameter: &Parameter) -> String {
    let mut words = match parameter.kind {
        ParameterType::Enum => parameter.values.join(" | "),
        kind => serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(Into::into)).unwrap_or_default(),
    };
    match (parameter.min, parameter.max) {
        (Some(min), Some(max)) => words.push_str(&format!(", {min} to {max}")),
        (Some(min), None) => words.push_str(&format!(", at least {min}")),
        (None, Some(max)) => words.push_str(&format!(", at most {max}")),
        (None, None) => {}
    }
    match &parameter.default {
        Some(Template::Fixed(node)) if !node.is_null() && !parameter.sensitive => {
            words.push_str(&format!(", default {}", serde_json::to_string(node).unwrap_or_default()));
        }
        None if parameter.required => words.push_str(", required"),
        _ => {}
    }
    words
}
