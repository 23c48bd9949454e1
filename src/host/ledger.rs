//! What a host remembers of what was declared for it: for each thing that vprov changed, how it left it and what was there
//! before. What is declared no more can so be taken back long after the run that changed it is forgotten.
//!
//! Records are files in `ledger/`, one for each thing, and are written by ordinary operations of the run that changes the thing:
//! guarded, journaled, and taken back with it. What a record says is in the words of the planner, which this layer does not read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    bytes::{Bytes, Digest},
    op::{Op, Owner, Step},
    path::AbsPath,
    read::{Answer, Read},
    state::STATE_DIR,
};
use crate::address::Address;

/// The number of the format of a record.
pub const FORMAT: &str = "vprov.ledger/1";

/// What is remembered of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`FORMAT`].
    pub format: String,
    /// The kind that declared it, and the thing.
    pub address: Address,
    /// How vprov left it.
    pub left: serde_json::Value,
    /// What was there before vprov first changed it.
    pub before: serde_json::Value,
    /// The resources that are refreshed when it changes.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub notifies: BTreeSet<String>,
    /// What is said of it is secret.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

/// The records of a host by the name of the thing; of one that cannot be read, why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// The records that this vprov understands.
    pub records: BTreeMap<String, Record>,
    /// The files that it does not, with the reason.
    pub unread: Vec<(AbsPath, String)>,
    /// The ledger may not be read by this user, so nobody knows.
    pub is_denied: bool,
}

#[derive(Deserialize)]
struct AnyFormat {
    format: String,
}

/// Returns the directory of the records.
#[must_use]
pub fn directory() -> AbsPath {
    AbsPath::known(&format!("{STATE_DIR}/ledger"))
}

/// Returns the file that remembers a thing.
#[must_use]
pub fn place(thing: &str) -> AbsPath {
    AbsPath::known(&format!("{STATE_DIR}/ledger/{}", Digest::of(thing.as_bytes())))
}

/// Tells whether an operation only keeps the ledger.
#[must_use]
pub fn is_kept_by(op: &Op) -> bool {
    op.path().is_some_and(is_record)
}

/// Tells whether a path is that of a record.
#[must_use]
pub fn is_record(path: &AbsPath) -> bool {
    path.as_str().starts_with("/var/lib/vprov/ledger/")
}

impl Ledger {
    /// Asks for all records.
    #[must_use]
    pub fn read() -> Read {
        Read::glob(format!("{STATE_DIR}/ledger/*"))
    }

    /// Takes the records out of the answer.
    #[must_use]
    pub fn decode(answer: Option<&Answer>) -> Self {
        let mut ledger = Self { is_denied: matches!(answer, Some(Answer::Denied)), ..Self::default() };
        let Some(Answer::Paths(paths)) = answer else { return ledger };
        for (path, answer) in paths {
            let Some(content) = answer.content() else {
                ledger.unread.push((path.clone(), format!("it is {}", answer.describe())));
                continue;
            };
            match serde_json::from_slice::<Record>(&content.0) {
                Ok(record) if record.format == FORMAT && place(&record.address.name) == *path => {
                    ledger.records.insert(record.address.name.clone(), record);
                }
                Ok(record) if record.format == FORMAT => {
                    ledger.unread.push((path.clone(), format!("it speaks of `{}`", record.address)));
                }
                result => {
                    let of_other = serde_json::from_slice::<AnyFormat>(&content.0).ok().map(|any| any.format);
                    let words = match (of_other, result) {
                        (Some(format), _) if format != FORMAT => {
                            format!("it has the format `{format}`; this vprov knows `{FORMAT}`")
                        }
                        (_, Err(error)) => error.to_string(),
                        (_, Ok(_)) => "it makes no sense".into(),
                    };
                    ledger.unread.push((path.clone(), words));
                }
            }
        }
        ledger
    }
}

impl Record {
    /// Returns the content of the file.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut line = serde_json::to_vec(self).expect("it is plain data with text keys");
        line.push(b'\n');
        line.into()
    }

    /// Returns the operation that writes the record.
    #[must_use]
    pub fn write(&self) -> Op {
        Op::Write { path: place(&self.address.name), content: self.encode(), owner: Owner::root(0o600) }
    }
}

/// Returns the steps that are more than keeping the ledger.
pub fn deeds(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().filter(|step| !is_kept_by(&step.op))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::read::Meta;

    #[test]
    fn records_are_read_or_named() {
        let record = |format: &str| Record {
            format: format.into(),
            address: Address::new("file", "/etc/a"),
            left: serde_json::json!({"a": 1}),
            before: serde_json::Value::Null,
            notifies: BTreeSet::new(),
            sensitive: false,
        };
        let file = |path: AbsPath, content: Bytes| {
            let meta = Meta { mode: 0o600, uid: 0, gid: 0, mtime: 0 };
            (path, Answer::File { meta, digest: None, content: Some(content) })
        };
        let good = record(FORMAT);
        let own = place("/etc/a");
        let ledger = Ledger::decode(Some(&Answer::Paths(vec![file(own.clone(), good.encode())])));
        assert_eq!((ledger.records.get("/etc/a"), ledger.unread.len()), (Some(&good), 0));
        for (path, content, words) in [
            (place("/etc/b"), good.encode(), "it speaks of `file[/etc/a]`"),
            (own.clone(), record("vprov.ledger/9").encode(), "`vprov.ledger/9`; this vprov knows"),
            (own.clone(), "{\"format\":\"vprov.ledger/9\",\"new\":1}".into(), "`vprov.ledger/9`; this vprov knows"),
            (own, "nonsense".into(), "expected"),
        ] {
            let ledger = Ledger::decode(Some(&Answer::Paths(vec![file(path, content)])));
            assert!(ledger.unread[0].1.contains(words), "{:?}", ledger.unread);
        }
        assert!(Ledger::decode(Some(&Answer::Denied)).is_denied);
        assert_eq!(Ledger::decode(None), Ledger::default());
        assert!(is_kept_by(&good.write()));
    }
}
