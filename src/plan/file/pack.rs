//! JSON values in which what stands in several places is stored once, named by its content.
//!
//! A stored value is called `{"$": N}`, its place in a pool, and names only values before itself. A key of the data that begins
//! with `$` gets one more.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::host::bytes::Digest;

/// What is shorter than this, in bytes of JSON, is written where it stands.
const SHORT: usize = 40;

/// No single value may unfold to more bytes than this: a few stored values that name each other could fill any memory.
pub const LARGEST: u64 = 256 << 20;

/// Stores values.
#[derive(Debug, Default)]
pub struct Packer {
    /// The stored values as text, each after all that it names.
    pub pool: Vec<String>,
    places: HashMap<Digest, usize>,
}

impl Packer {
    /// Stores a value and returns what stands for it.
    pub fn pack(&mut self, value: Value) -> Value {
        let packed = match value {
            Value::Array(list) => Value::Array(list.into_iter().map(|one| self.pack(one)).collect()),
            Value::Object(map) => {
                let one = |(key, value): (String, Value)| {
                    let key = if key.starts_with('$') { format!("${key}") } else { key };
                    (key, self.pack(value))
                };
                Value::Object(map.into_iter().map(one).collect())
            }
            Value::String(_) => value,
            short => return short,
        };
        let text = packed.to_string();
        if text.len() < SHORT {
            return packed;
        }
        let place = *self.places.entry(Digest::of(text.as_bytes())).or_insert_with(|| {
            self.pool.push(text);
            self.pool.len() - 1
        });
        json!({ "$": place })
    }
}

/// Values that a [`Packer`] stored.
#[derive(Debug, Default)]
pub struct Pool {
    values: Vec<Value>,
    /// How many bytes, about, each value unfolds to.
    sizes: Vec<u64>,
}

impl Pool {
    /// Takes the pool of a file.
    ///
    /// # Errors
    /// Says which value names one that does not stand before it.
    pub fn new(values: Vec<Value>) -> Result<Self, String> {
        let mut pool = Self { sizes: Vec::with_capacity(values.len()), values };
        for at in 0..pool.values.len() {
            let size = pool.size(&pool.values[at])?;
            pool.sizes.push(size);
        }
        Ok(pool)
    }

    /// Returns about how many bytes a value unfolds to.
    fn size(&self, value: &Value) -> Result<u64, String> {
        if let Some(place) = reference(value) {
            return self.sizes.get(place).copied().ok_or_else(|| format!("`{value}` names nothing before it"));
        }
        let add = |sum: u64, (key, value): (usize, &Value)| Ok(sum.saturating_add(key as u64 + self.size(value)?));
        match value {
            Value::Array(list) => list.iter().map(|one| (1, one)).try_fold(2, add),
            Value::Object(map) => map.iter().map(|(key, one)| (key.len() + 4, one)).try_fold(2, add),
            Value::String(text) => Ok(text.len() as u64 + 2),
            _ => Ok(8),
        }
    }

    /// Returns what a value stands for.
    ///
    /// # Errors
    /// A value that is none of a [`Packer`], or would be too large.
    pub fn unpack(&self, value: &Value) -> Result<Value, String> {
        if self.size(value)? > LARGEST {
            return Err(format!("a value in it unfolds to more than {} MiB", LARGEST >> 20));
        }
        Ok(self.unfold(value))
    }

    fn unfold(&self, value: &Value) -> Value {
        if let Some(stored) = reference(value).and_then(|place| self.values.get(place)) {
            return self.unfold(stored);
        }
        match value {
            Value::Array(list) => list.iter().map(|one| self.unfold(one)).collect(),
            Value::Object(map) => {
                let one = |(key, value): (&String, &Value)| {
                    (key.strip_prefix('$').unwrap_or(key).to_owned(), self.unfold(value))
                };
                Value::Object(map.iter().map(one).collect::<Map<_, _>>())
            }
            plain => plain.clone(),
        }
    }
}

/// Returns the place that a reference names.
fn reference(value: &Value) -> Option<usize> {
    let place = value.as_object()?.get("$")?.as_u64()?;
    usize::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unpacked(pool: &[String], value: &Value) -> Result<Value, String> {
        Pool::new(pool.iter().map(|text| serde_json::from_str(text).unwrap()).collect())?.unpack(value)
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,60}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[$a]{0,3}", inner), 0..5)
                    .prop_map(|list| Value::Object(list.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_survives(value in any_value()) {
            let mut packer = Packer::default();
            let packed = packer.pack(value.clone());
            prop_assert_eq!(unpacked(&packer.pool, &packed).unwrap(), value.clone());
            let n = packer.pool.len();
            prop_assert_eq!(packer.pack(value), packed);
            prop_assert_eq!(packer.pool.len(), n);
        }
    }

    #[test]
    fn a_pool_that_unfolds_without_end_is_refused() {
        let mut pool = vec![json!("x".repeat(100)).to_string()];
        for at in 0..40 {
            pool.push(format!(r#"[{{"$":{at}}},{{"$":{at}}}]"#));
        }
        assert!(unpacked(&pool, &json!({"$": 40})).unwrap_err().contains("more than 256 MiB"));
        assert!(unpacked(&pool, &json!({"$": 3})).is_ok());
        assert!(unpacked(&[r#"{"$":0}"#.into()], &json!({"$": 0})).unwrap_err().contains("names nothing before it"));
        assert!(unpacked(&pool, &json!({"$": 41})).is_err());
    }
}
