//! What the ledger keeps of a change: how a thing is left, and what was there before, each as something that can be declared.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    AnyResource, Kind, Seen,
    restored::{Restored, Was},
};
use crate::{
    config::yaml,
    diag::SourceMap,
    host::{
        matcher::{Matcher, choice},
        op::{Form, Op, Source, Step},
        path::AbsPath,
        read::{Answer, Read},
    },
};

/// Why what was there before cannot be brought back where it was left out.
pub const NOT_KEPT: &str = "declared once and no more; what was there before is secret, so it was not kept";

/// Something that can be declared: a kind with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// The kind.
    pub kind: String,
    /// Its parameters.
    pub params: Value,
}

/// What is kept of one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// The thing: a path, or what a kind calls a part of a file or system that it shares with others.
    pub thing: String,
    /// How the change leaves it.
    pub left: Declaration,
    /// What was there before.
    pub before: Declaration,
    /// What was there before is not taken back as a whole, so it is only kept where a record of it stands already.
    pub only_if_known: bool,
    /// The attributes are independent of each other: one that is managed later is added to what was there before.
    pub by_attribute: bool,
}

impl Declaration {
    /// Makes a declaration of a kind.
    #[must_use]
    pub fn new(kind: &str, params: Value) -> Self {
        Self { kind: kind.into(), params }
    }

    /// Makes the declaration of what stands at a path.
    #[must_use]
    pub fn path(path: &AbsPath, was: Was) -> Self {
        let restored = Restored { path: path.clone(), was };
        Self::new(<Restored as super::Resource>::KIND, json!(restored))
    }

    /// Leaves out what was there, unless that was nothing: a plan holds no secret that it does not need to act.
    pub fn withhold(&mut self) {
        let is_absent = self.params["was"] == "absent" || self.params["ensure"] == "absent";
        if !is_absent {
            self.params = Value::Null;
        }
    }

    /// Makes the resource that is declared.
    ///
    /// # Errors
    /// Says why it makes no sense to this vprov.
    pub fn resource(&self) -> Result<Box<dyn AnyResource>, String> {
        if self.params.is_null() {
            return Err(NOT_KEPT.into());
        }
        if self.kind == <Restored as super::Resource>::KIND {
            let restored: Restored = serde_json::from_value(self.params.clone()).map_err(|error| error.to_string())?;
            return Ok(Box::new(restored));
        }
        let kind = Kind::find(&self.kind).ok_or_else(|| format!("there is no kind `{}`", self.kind))?;
        let node = yaml::read("ledger", &self.params.to_string(), &SourceMap::new());
        let node = node.map_err(|error| error.summary.clone())?;
        (kind.parse)(&node)
            .map_err(|errors| errors.iter().map(|error| error.summary.as_str()).collect::<Vec<_>>().join("; "))
    }
}

impl Memory {
    /// Makes what is kept of a thing.
    #[must_use]
    pub fn new(thing: impl Into<String>, left: Declaration, before: Declaration) -> Self {
        Self { thing: thing.into(), left, before, only_if_known: false, by_attribute: false }
    }
}

/// Returns what is kept of the paths and values that steps change. Of a file that others share only its coming into being is.
#[must_use]
pub fn of_steps(seen: &Seen, steps: &[Step], is_shared: bool) -> Vec<Memory> {
    let mut memories: Vec<Memory> = vec![];
    let mut staged: Vec<(&str, &crate::host::bytes::Bytes)> = vec![];
    for step in steps {
        let entry = |path: &AbsPath| Was::of(seen.get(&Read::entry(path.clone())));
        let (path, before, left) = match &step.op {
            Op::Stage { name, source: Source::Content(content) } => {
                staged.push((name, content));
                continue;
            }
            Op::Poke { path, value, form } if !step.after.is_empty() => {
                if let Some(memory) = of_value(seen, step, path, value, *form) {
                    put(&mut memories, memory);
                }
                continue;
            }
            Op::Write { path, content, owner } => {
                (path, entry(path), Was::File { digest: content.digest(), owner: *owner, content: None })
            }
            Op::Install { name, path, owner, derived: false } => {
                let Some((_, content)) = staged.iter().rev().find(|(staged, _)| staged == name) else { continue };
                (path, entry(path), Was::File { digest: content.digest(), owner: *owner, content: None })
            }
            Op::Link { path, target } => (path, entry(path), Was::Link { target: target.clone() }),
            // A directory is read through a link, as it is used.
            Op::Directory { path, owner } => {
                (path, Was::of(seen.get(&Read::exists(path.clone()))), Was::Directory { owner: *owner })
            }
            Op::Remove { path } => (path, entry(path), Was::Absent),
            Op::Chmod { path, owner } => match entry(path) {
                Some(before @ Was::File { digest, .. }) => {
                    (path, Some(before), Was::File { digest, owner: *owner, content: None })
                }
                before => (path, before, Was::Directory { owner: *owner }),
            },
            _ => continue,
        };
        let Some(before) = before else { continue };
        let only_if_known = is_shared && before != Was::Absent;
        let memory = Memory {
            only_if_known,
            ..Memory::new(path.as_str(), Declaration::path(path, left), Declaration::path(path, before))
        };
        put(&mut memories, memory);
    }
    memories
}

/// Of several changes of one thing, what was there before the first and how the last leaves it.
fn put(memories: &mut Vec<Memory>, memory: Memory) {
    match memories.iter_mut().find(|known| known.thing == memory.thing) {
        Some(known) => known.left = memory.left,
        None => memories.push(memory),
    }
}

fn of_value(seen: &Seen, step: &Step, path: &AbsPath, value: &str, form: Form) -> Option<Memory> {
    let Answer::File { content: Some(content), .. } = seen.get(&Read::content(path.clone())) else { return None };
    let shown = content.text()?;
    let old = match form {
        Form::Plain => shown.trim(),
        Form::Choice => choice(shown)?,
    };
    let compare = step.after.iter().find(|after| after.read.path() == Some(path)).and_then(|after| {
        Some(match after.matcher {
            Matcher::Bytes(_) => "exact",
            Matcher::Words(_) => "words",
            Matcher::Integer(_) => "integer",
            Matcher::Choice(_) => "choice",
            Matcher::AtLeast(_) => "at_least",
            Matcher::Size(_) => "size",
            _ => return None,
        })
    });
    let of = |value: &str, compare: Option<&str>| {
        let mut params = json!({ "path": path, "value": value });
        if let Some(compare) = compare {
            params["compare"] = json!(compare);
        }
        if step.may_fall_short {
            params["partial"] = json!(true);
        }
        Declaration::new("kernel_value", params)
    };
    // What was there is put back exactly, whatever would have been enough.
    let exactly = compare.filter(|compare| *compare != "at_least");
    Some(Memory::new(path.as_str(), of(value, compare), of(old, exactly)))
}
