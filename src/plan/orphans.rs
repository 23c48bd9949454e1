//! What was declared once and is no more: found by the ledger of the host, and taken back where that is wished.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    catalog::Catalog,
    host::{
        ledger::{Ledger, Record},
        path::AbsPath,
        run::NOT_SHOWN,
    },
    resource::{AnyResource, Cannot, Declaration, Seen, memory::NOT_KEPT},
};

/// Something that was declared once and is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orphan {
    /// The kind that declared it, and the thing.
    pub address: Address,
    /// How it stands.
    pub standing: Standing,
}

/// How something stands that is declared no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", deny_unknown_fields)]
pub enum Standing {
    /// As vprov left it: `--prune` takes it back.
    Untouched,
    /// As it was before it was declared: `--prune` forgets it.
    AsBefore,
    /// Somebody changed it since: it is left as it is.
    Changed,
    /// Nobody knows.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// A record of something that is declared no more, as resources that can be asked.
pub struct Found<'a> {
    record: &'a Record,
    made: Result<Made, String>,
}

struct Made {
    left: Box<dyn AnyResource>,
    before: Box<dyn AnyResource>,
}

/// Finds the records of things that no resource is about any more. What stands above something that a resource is about belongs to
/// it.
#[must_use]
pub fn find<'a>(ledger: &'a Ledger, catalog: &Catalog, seen: &Seen) -> Vec<Found<'a>> {
    let things: Vec<String> = catalog.entries.iter().flat_map(|entry| entry.resource.things(seen)).collect();
    let paths: Vec<AbsPath> = things.iter().filter_map(|thing| AbsPath::new(thing.as_str()).ok()).collect();
    let is_declared = |name: &String| {
        // Below a root no value of the kernel is asked for.
        let is_about =
            |path: AbsPath| paths.iter().any(|declared| declared.is_within(&path)) || (seen.offline && path.is_live());
        things.contains(name) || AbsPath::new(name.as_str()).is_ok_and(is_about)
    };
    let orphans = ledger.records.iter().filter(|(name, _)| !is_declared(name));
    orphans.map(|(_, record)| Found { record, made: made(record) }).collect()
}

fn made(record: &Record) -> Result<Made, String> {
    let resource = |value: &serde_json::Value| {
        serde_json::from_value::<Declaration>(value.clone()).map_err(|error| error.to_string())?.resource()
    };
    Ok(Made { left: resource(&record.left)?, before: resource(&record.before)? })
}

impl<'a> Found<'a> {
    /// Returns the resources that must be asked to know how it stands.
    pub fn resources(&self) -> impl Iterator<Item = &dyn AnyResource> {
        self.made.iter().flat_map(|made| [&*made.left, &*made.before])
    }

    /// Tells how it stands.
    #[must_use]
    pub fn orphan(&self, seen: &Seen) -> Orphan {
        let standing = match &self.made {
            Err(reason) if self.record.sensitive && reason != NOT_KEPT => {
                Standing::Unknown { reason: NOT_SHOWN.into() }
            }
            Err(reason) => Standing::Unknown { reason: reason.clone() },
            Ok(made) => match (made.left.stands(seen), made.before.stands(seen)) {
                // A part of a thing may be on both sides; then nothing is left to do.
                (_, Ok(true)) => Standing::AsBefore,
                (Ok(true), _) => Standing::Untouched,
                (Err(Cannot::Unknown(reason)), _) => Standing::Unknown { reason },
                _ => Standing::Changed,
            },
        };
        Orphan { address: self.record.address.clone(), standing }
    }

    /// Returns what takes it back.
    fn into_before(self) -> Option<(&'a Record, Box<dyn AnyResource>)> {
        Some((self.record, self.made.ok()?.before))
    }
}

/// Adds to the catalog what takes orphans back, where nobody touched them; returns whether that is anything.
pub fn adopt(catalog: &mut Catalog, found: Vec<Found>, orphans: &[Orphan]) -> bool {
    let mut by_name: BTreeMap<String, Found> =
        found.into_iter().map(|found| (found.record.address.name.clone(), found)).collect();
    let mut any = false;
    for orphan in orphans.iter().filter(|orphan| matches!(orphan.standing, Standing::Untouched | Standing::AsBefore)) {
        let before = by_name.remove(&orphan.address.name).and_then(Found::into_before);
        if let Some((record, resource)) = before {
            catalog.restore(record.address.clone(), resource, &record.notifies, record.sensitive);
            any = true;
        }
    }
    any
}

/// Returns what the ledger holds that this vprov does not understand.
pub fn unread(ledger: &Ledger) -> impl Iterator<Item = Orphan> {
    ledger.unread.iter().map(|(path, reason)| Orphan {
        address: Address::new("ledger", path.as_str()),
        standing: Standing::Unknown { reason: reason.clone() },
    })
}
