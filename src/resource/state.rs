//! The comparison of current and desired state, written once for all kinds over the serialised state.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Cannot, Disruption, Memory, Remark, Resource, Seen};
use crate::host::op::Step;

/// What planning knows of one resource once everything is read.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The change that is needed; `None` where the resource is as it should be.
    pub result: Result<Option<Difference>, Cannot>,
    /// What a person must know beside it.
    pub remarks: Vec<Remark>,
    /// No content of it is shown.
    pub sensitive: bool,
}

/// A change that is needed.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What happens to the resource.
    pub action: Action,
    /// The attributes that change.
    pub fields: Vec<Field>,
    /// How.
    pub steps: Vec<Step>,
    /// What it disturbs.
    pub disturbs: Disruption,
    /// What the ledger keeps of it.
    pub memories: Vec<Memory>,
}

/// What happens to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It was absent and will be there.
    Create,
    /// It changes.
    Update,
    /// It will be absent.
    Delete,
    /// Nothing of it changes, but it is restarted, reloaded or regenerated because something that it depends on did.
    Refresh,
    /// A program that vprov knows nothing about is run.
    Run,
    /// Nothing of it changes: it is as it was before it was declared, and the ledger forgets it.
    Forget,
}

/// One attribute that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The way to the attribute in the state, joined by dots.
    pub name: String,
    /// What it is; `null` for absent.
    pub before: Value,
    /// What it will be; `null` for absent.
    pub after: Value,
    /// It stands in a file that changes, so a diff shows it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub in_file: bool,
}

/// Decodes, compares and encodes one resource.
pub(super) fn compare<R: Resource>(resource: &R, seen: &Seen) -> Comparison {
    Comparison {
        result: difference(resource, seen),
        remarks: resource.remarks(seen),
        sensitive: resource.is_sensitive(seen),
    }
}

fn difference<R: Resource>(resource: &R, seen: &Seen) -> Result<Option<Difference>, Cannot> {
    let current = resource.current(seen)?;
    let desired = resource.desired(seen, current.as_ref())?;
    let mut fields = fields(&json(current.as_ref())?, &json(desired.as_ref())?);
    for field in &mut fields {
        field.in_file = R::IN_FILES.iter().any(|part| *part == "*" || field.name.split('.').any(|name| name == *part));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let action = resource.action(current.as_ref(), desired.as_ref()).unwrap_or(match (&current, &desired) {
        (None, _) => Action::Create,
        (_, None) => Action::Delete,
        _ => Action::Update,
    });
    let steps = resource.steps(seen, current.as_ref(), desired.as_ref())?;
    let disturbs = resource.disturbs(current.as_ref(), desired.as_ref());
    let memories = resource.remembers(seen, current.as_ref(), desired.as_ref(), &steps);
    Ok(Some(Difference { action, fields, steps, disturbs, memories }))
}

fn json<S: Serialize>(state: Option<&S>) -> Result<Value, Cannot> {
    serde_json::to_value(state).map_err(|error| Cannot::Refused(format!("its state cannot be shown: {error}")))
}

/// Returns the leaves in which two states differ, in the order of the states.
#[must_use]
pub fn fields(before: &Value, after: &Value) -> Vec<Field> {
    let mut found = vec![];
    collect("", before, after, &mut found);
    found
}

fn collect(name: &str, before: &Value, after: &Value, found: &mut Vec<Field>) {
    if before == after {
        return;
    }
    let empty = serde_json::Map::new();
    let (old, new) = match (before, after) {
        (Value::Object(old), Value::Object(new)) => (old, new),
        (Value::Null, Value::Object(new)) if !new.is_empty() => (&empty, new),
        (Value::Object(old), Value::Null) if !old.is_empty() => (old, &empty),
        _ => {
            found.push(Field { name: name.into(), before: before.clone(), after: after.clone(), in_file: false });
            return;
        }
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        collect(&name, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_leaves_that_differ_are_fields() {
        let check = |before: Value, after: Value, expected: &[(&str, Value, Value)]| {
            let found: Vec<_> = fields(&before, &after).into_iter().map(|f| (f.name, f.before, f.after)).collect();
            let expected: Vec<_> = expected.iter().map(|(n, b, a)| ((*n).to_string(), b.clone(), a.clone())).collect();
            assert_eq!(found, expected);
        };
        check(json!({"a": 1, "b": {"c": 2}}), json!({"a": 1, "b": {"c": 3}}), &[("b.c", json!(2), json!(3))]);
        check(json!(null), json!({"a": 1}), &[("a", json!(null), json!(1))]);
        check(json!({"a": [1]}), json!(null), &[("a", json!([1]), json!(null))]);
        check(json!({"a": 1}), json!({"a": 1}), &[]);
    }
}
