//! JSON Schemas of the files that people write, with every kind and module and its parameters, so that an editor
//! completes them and shows their manual. Made from the types themselves; `schemas/` holds them and a test says when stale.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::{
    config::{
        expr::Template,
        module::{Module, Parameter, ParameterType},
    },
    resource::KINDS,
};

/// Makes a schema that completes these modules.
pub type Make = fn(&[&Module]) -> Value;

/// The file names below `schemas/`, each with what makes its content.
pub const FILES: &[(&str, Make)] =
    &[("hosts.schema.json", hosts), ("playbook.schema.json", playbook), ("module.schema.json", module)];

/// Makes the schema of `hosts.yaml`.
#[must_use]
pub fn hosts(modules: &[&Module]) -> Value {
    let scope = json!({
        "vars": { "type": "object", "description": "Variables, by name." },
        "ssh": { "$ref": "#/$defs/ssh" },
        "playbooks": {
            "type": "array",
            "description": "Playbooks by name, or `{NAME: {parameter: value}}`.",
            "items": { "anyOf": [{ "type": "string" }, { "type": "object", "maxProperties": 1 }] },
        },
        "resources": { "$ref": "#/$defs/resources" },
    });
    let host = with(
        &scope,
        &json!({
            "address": { "type": "string", "description": "The address or name to connect to. Unset: the host's name." },
            "connection": { "enum": ["ssh", "local"], "description": "`local` is this machine, without ssh." },
        }),
    );
    let group = with(
        &scope,
        &json!({
            "hosts": { "type": "array", "items": { "type": "string" }, "description": "Names, ranges (`kvm[01-12]`) and globs (`kvm*`)." },
            "groups": { "type": "array", "items": { "type": "string" }, "description": "Groups that belong to this one." },
        }),
    );
    let by_name = |properties: &Value, description: &str| {
        json!({
            "type": "object",
            "description": description,
            "additionalProperties": {
                "anyOf": [{ "type": "null" }, { "type": "object", "additionalProperties": false, "properties": properties }],
            },
        })
    };
    document(
        "vprov: hosts.yaml",
        json!({
            "vars": scope["vars"],
            "ssh": { "$ref": "#/$defs/ssh" },
            "hosts": by_name(&host, "Hosts by name; a name may hold ranges."),
            "groups": by_name(&group, "Groups by name."),
            "on_failure": {
                "enum": ["keep", "rollback"],
                "description": "What becomes of a host whose run fails: what was done stays, or is taken back at once.",
            },
            "rollout": rollout(),
        }),
        &[],
        modules,
    )
}

/// Makes the schema of a playbook.
#[must_use]
pub fn playbook(modules: &[&Module]) -> Value {
    document("vprov: a playbook", body(), &["resources"], modules)
}

/// Makes the schema of a module.
#[must_use]
pub fn module(modules: &[&Module]) -> Value {
    document("vprov: a module", body(), &["resources"], modules)
}

fn document(title: &str, properties: Value, required: &[&str], modules: &[&Module]) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    let mut generator = settings.into_generator();
    let mut entry = Map::new();
    for kind in KINDS {
        entry.insert(kind.name.into(), templated((kind.schema)(&mut generator).to_value(), kind.secrets));
    }
    for module in modules {
        entry.insert(module.name.clone(), call(module));
    }
    let one_of: Vec<Value> = entry.keys().map(|name| json!({ "required": [name] })).collect();
    for (name, schema) in beside() {
        entry.insert(name, schema);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
        "$defs": {
            "ssh": ssh(),
            "secret": secret(),
            "resources": { "type": "array", "items": { "$ref": "#/$defs/entry" } },
            "entry": { "type": "object", "additionalProperties": false, "properties": entry, "oneOf": one_of },
        },
    })
}

fn with(first: &Value, second: &Value) -> Value {
    let both = first.as_object().into_iter().chain(second.as_object()).flatten();
    Value::Object(both.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn ssh() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "How hosts are reached. What is unset comes from ~/.ssh/config.",
        "properties": {
            "user": { "type": "string", "description": "The user to log in as." },
            "port": { "type": "integer", "minimum": 1, "maximum": 65535, "description": "The port." },
            "identity_file": { "type": "string", "description": "A private key of this machine." },
            "config_file": { "type": "string", "description": "A file in place of ~/.ssh/config." },
            "proxy_jump": { "type": "string", "description": "A jump host, as `ssh -J` takes it." },
            "become": { "type": "boolean", "description": "Become root by sudo." },
            "executor": { "type": "string", "description": "A vprov that is installed on the host, used instead of an upload." },
        },
    })
}

fn rollout() -> Value {
    let amount = |description: &str| {
        let either = [json!({ "type": "integer", "minimum": 0 }), json!({ "type": "string", "pattern": "^[0-9]+%?$" })];
        json!({ "anyOf": either, "description": description })
    };
    let one = |name: &str, value: Value| json!({ "type": "object", "required": [name], "additionalProperties": false, "properties": { name: value } });
    let checks = |description: &str| {
        let command = json!({
            "type": "array", "minItems": 1, "items": { "type": "string" },
            "description": "A program and its arguments; it ends with 0. It runs where nothing can be written.",
        });
        let unit = json!({ "type": "string", "description": "A systemd unit that is active." });
        let port = "A port that takes a connection from this machine.";
        let tcp = json!({ "type": "integer", "minimum": 1, "maximum": 65535, "description": port });
        let any_of = [one("command", command), one("unit", unit), one("tcp", tcp)];
        json!({ "type": "array", "description": description, "items": { "anyOf": any_of } })
    };
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "How a change goes over the hosts.",
        "properties": {
            "order": {
                "type": "string", "pattern": "^(inventory|sorted|reversed|random(:[0-9]+)?)$",
                "description": "In which order: inventory, sorted, reversed, random or random:SEED.",
            },
            "canary": {
                "anyOf": [
                    { "type": "integer", "minimum": 1 },
                    { "type": "string" },
                    { "type": "array", "minItems": 1, "items": { "type": "string" } },
                ],
                "description": "Who goes first: a number, a part (5%), or names of hosts and groups; if one fails, nobody else begins.",
            },
            "batch": amount("How many go together, a number or a part (25%)."),
            "max_failures": amount("How many may fail, a number or a part (10%); with one more, nobody else begins."),
            "pause": { "type": "integer", "minimum": 0, "description": "Seconds between two batches." },
            "ask": { "type": "boolean", "description": "Ask before each further batch." },
            "health": {
                "type": "object",
                "additionalProperties": false,
                "description": "What must hold on a host beside its own asserts.",
                "properties": {
                    "before": checks("Before anything is changed there; else it is left untouched."),
                    "after": checks("After the change; else the host failed."),
                    "within": { "type": "integer", "minimum": 0, "description": "Seconds that a check of `after` has to become true." },
                },
            },
        },
    })
}

fn secret() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["secret"],
        "description": "A value that is never shown, decrypted or read on this machine when it is needed.",
        "properties": {
            "secret": {
                "type": "object",
                "additionalProperties": false,
                "oneOf": [{ "required": ["sops"] }, { "required": ["age"] }, { "required": ["env"] }],
                "properties": {
                    "sops": text("A file that `sops -d` decrypts."),
                    "key": text("The way to a value in a file of SOPS, as `db.password`; without it the whole document."),
                    "age": text("A file that `age -d` decrypts; its whole text."),
                    "identity": text("The identity file of `age`. Unset: the one that SOPS uses."),
                    "env": text("A variable of the environment of vprov."),
                },
            },
        },
    })
}

fn body() -> Value {
    json!({
        "description": { "type": "string", "description": "What it is for." },
        "guide": { "type": ["string", "null"], "description": "The sections of the guide that it follows." },
        "parameters": {
            "type": "object",
            "description": "Parameters by name.",
            "additionalProperties": {
                "type": "object",
                "required": ["type"],
                "additionalProperties": false,
                "properties": {
                    "type": {
                        "enum": ["string", "integer", "boolean", "size", "path", "list", "map", "enum"],
                        "description": "The type. A `size` is `512M`, `1G` or bytes; a `path` is absolute; an `enum` is one of `values`.",
                    },
                    "default": { "description": "The value where none is given." },
                    "required": { "type": "boolean", "description": "A value must be given." },
                    "min": { "description": "The least integer or size." },
                    "max": { "description": "The greatest integer or size." },
                    "values": { "type": "array", "description": "What an `enum` may be." },
                    "pattern": { "type": "string", "description": "What a string must match as a whole (a regular expression)." },
                    "description": { "type": "string", "description": "What it is for." },
                    "sensitive": { "type": "boolean", "description": "Its value is never shown." },
                },
            },
        },
        "resources": { "$ref": "#/$defs/resources" },
    })
}

/// What may stand beside the key that names a kind or module.
fn beside() -> [(String, Value); 6] {
    let names = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    let named = |description: &str| with(&names, &json!({ "description": description }));
    [
        (
            "when".into(),
            json!({ "type": ["string", "boolean"], "description": "A condition: the entry counts where it is true." }),
        ),
        (
            "for_each".into(),
            json!({ "type": ["array", "object", "string"], "description": "The entry is repeated for each item of a list or map; `item` is the item." }),
        ),
        ("name".into(), json!({ "type": "string", "description": "What `requires` and `notify` call the entry." })),
        ("requires".into(), named("What must be converged before: names, or addresses `kind[name]`.")),
        ("notify".into(), named("What is restarted, reloaded or regenerated when this changes: names, or addresses.")),
        (
            "override".into(),
            json!({ "type": "boolean", "description": "It wins over a weaker level: host over group over playbook." }),
        ),
    ]
}

fn call(module: &Module) -> Value {
    let properties: Map<String, Value> = module
        .parameters
        .iter()
        .map(|parameter| (parameter.name.clone(), or_secret(or_template(parameter_schema(parameter)))))
        .collect();
    let required: Vec<&str> = module
        .parameters
        .iter()
        .filter(|parameter| parameter.required)
        .map(|parameter| parameter.name.as_str())
        .collect();
    let guide = module.guide.as_ref().map(|guide| format!(" (guide {guide})")).unwrap_or_default();
    json!({
        "type": ["object", "null"],
        "description": format!("{}{guide}", module.description),
        "additionalProperties": false,
        "properties": properties,
        "required": required,
    })
}

fn parameter_schema(parameter: &Parameter) -> Value {
    let mut schema = match parameter.kind {
        ParameterType::String => json!({ "type": ["string", "number", "boolean"] }),
        ParameterType::Integer => json!({ "type": "integer" }),
        ParameterType::Boolean => json!({ "type": "boolean" }),
        ParameterType::Size => json!({ "type": ["string", "integer"] }),
        ParameterType::Path => json!({ "type": "string", "pattern": "^/" }),
        ParameterType::List => json!({ "type": "array" }),
        ParameterType::Map => json!({ "type": "object" }),
        ParameterType::Enum => json!({ "enum": parameter.values }),
    };
    if let Some(map) = schema.as_object_mut() {
        if !parameter.description.is_empty() {
            map.insert("description".into(), parameter.description.clone().into());
        }
        if parameter.kind == ParameterType::Integer {
            for (key, bound) in [("minimum", parameter.min), ("maximum", parameter.max)] {
                if let Some(bound) = bound.and_then(|bound| i64::try_from(bound).ok()) {
                    map.insert(key.into(), bound.into());
                }
            }
        }
        if let Some(Template::Fixed(node)) = parameter.default.as_ref().filter(|_| !parameter.sensitive) {
            map.insert("default".into(), serde_json::to_value(node).unwrap_or(Value::Null));
        }
    }
    schema
}

/// Lets every parameter of a kind be an expression too, and some a secret.
fn templated(mut schema: Value, secrets: &[&str]) -> Value {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, value) in properties {
            *value = or_template(value.take());
            if secrets.contains(&name.as_str()) {
                *value = or_secret(value.take());
            }
        }
    }
    schema
}

/// Lets a value be a secret.
fn or_secret(mut schema: Value) -> Value {
    let secret = json!({ "$ref": "#/$defs/secret" });
    if let Some(any) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        any.push(secret);
        return schema;
    }
    let description = schema.as_object_mut().and_then(|map| map.shift_remove("description"));
    let mut either = json!({ "anyOf": [schema, secret] });
    if let (Some(description), Some(map)) = (description, either.as_object_mut()) {
        map.insert("description".into(), description);
    }
    either
}

/// Lets a value be an expression: a string that holds `{{`. A string may be one anyway.
fn or_template(mut schema: Value) -> Value {
    let is_text = schema.get("type").is_some_and(|kind| kind == "string") && schema.get("pattern").is_none();
    if is_text {
        return schema;
    }
    let description = schema.as_object_mut().and_then(|map| map.shift_remove("description"));
    let mut either = json!({ "anyOf": [schema, { "type": "string", "pattern": "\\{\\{" }] });
    if let (Some(description), Some(map)) = (description, either.as_object_mut()) {
        map.insert("description".into(), description);
    }
    either
}
