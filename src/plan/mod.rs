//! Stage 6: what has to change on a host, as data that names no kind.

pub mod observe;
pub mod build;
pub mod orphans;
pub mod host;
pub mod lines;
pub mod file;

use std::collections::BTreeSet;

use orphans::Orphan;

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    catalog::Overridden,
    facts::Facts,
    host::{
        op::Step,
        run::{NOT_SHOWN, Run, RunId, Work},
        state::Unfinished,
    },
    resource::{
        Disruption, Remark,
        state::{Action, Field},
    },
};

pub use lines::FileChange;

/// The format of a plan in JSON. Additions keep the number.
pub const FORMAT: &str = "vprov.plan/1";

/// The plan of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPlan {
    /// The host's name in the inventory.
    pub host: String,
    /// What planning came to.
    pub result: HostResult,
}

/// What planning one host came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status", deny_unknown_fields)]
pub enum HostResult {
    /// The host was read and compared.
    Planned(Planned),
    /// The host could not be reached.
    Unreachable {
        /// Why.
        error: String,
    },
    /// The host was reached, but its plan could not be made.
    Failed {
        /// Why; several lines where several things are wrong.
        error: String,
    },
}

/// A plan that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// What the host is.
    pub facts: Box<Facts>,
    /// All resources of the host in the order in which they are converged.
    pub resources: Vec<ResourcePlan>,
    /// The executor was uploaded to this place for this plan: the only write of planning.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uploaded: Option<String>,
    /// A run on this host that did not come to its end, and none ended well since: the newest, if there are several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub interrupted: Option<Unfinished>,
    /// What was declared once and is no more, by the ledger of the host; without what this plan takes back.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub orphaned: Vec<Orphan>,
    /// Programs that the user named (`unless`, `assert`) and that ran while planning, where nothing can be written.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub probes: Vec<String>,
}

/// The plan of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourcePlan {
    /// The resource.
    pub address: Address,
    /// What has to be done to it.
    pub verdict: Verdict,
    /// What a person must know beside it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub remarks: Vec<Remark>,
    /// The parameters whose values were computed from facts.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub from_facts: BTreeSet<String>,
    /// The weaker declarations that it overrides.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub overridden: BTreeSet<Overridden>,
    /// The things of the ledger that it takes back, because they are declared no more.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub restores: BTreeSet<String>,
    /// Contents and values are secret: no report shows them unless it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

/// What has to be done to a resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", deny_unknown_fields)]
pub enum Verdict {
    /// Nothing.
    Converged,
    /// A change.
    Change(Change),
    /// What it needs is known only once an earlier resource is there. Apply looks again then, and does at most what is
    /// announced here.
    Deferred {
        /// The earlier resource.
        because: Address,
        /// Every operation that it may become, in words.
        may: Vec<String>,
    },
    /// It may not be read by this user, so nobody knows.
    Unknown {
        /// What may not be read.
        reason: String,
    },
    /// The host has no such thing; nothing is done and nothing is wrong.
    Unsupported {
        /// What is missing.
        reason: String,
    },
    /// It cannot be planned on this host.
    Failed {
        /// Why.
        reason: String,
        /// The failure refuses the whole host.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        preflight: bool,
    },
    /// It comes after one that failed.
    Blocked {
        /// That one.
        by: Address,
    },
}

/// A change of one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What happens to the resource.
    pub action: Action,
    /// The attributes that change.
    pub fields: Vec<Field>,
    /// How.
    pub steps: Vec<Step>,
    /// The places of earlier resources in the plan whose failure blocks this one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub needs: Vec<usize>,
    /// The contents of the files that change, for diffs.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub files: Vec<FileChange>,
    /// What it disturbs.
    pub disturbs: Disruption,
    /// It may cut the controller off: over SSH it is confirmed over a new connection, or the host takes it back.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub connection: bool,
    /// Whether a rollback can take it back.
    pub reversible: bool,
    /// The resources that made it due, where it is refreshed because of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub because: Vec<String>,
}

/// How many resources of a plan have which verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// As they should be.
    pub converged: usize,
    /// To be created, changed, removed, refreshed or run.
    pub changes: usize,
    /// To be looked at again once an earlier change is made.
    pub deferred: usize,
    /// Of the converged and changing ones: waiting for a reboot.
    pub reboot: usize,
    /// With a kernel that gave less than asked.
    pub short: usize,
    /// With warnings.
    pub warnings: usize,
    /// Not readable.
    pub unknown: usize,
    /// Not supported there.
    pub unsupported: usize,
    /// Failed.
    pub failed: usize,
    /// Blocked by failed ones.
    pub blocked: usize,
    /// Things that were declared once and are no more.
    pub orphaned: usize,
}

/// Tells whether a field says who may do what with a thing: that is never secret.
#[must_use]
pub fn is_metadata(field: &str) -> bool {
    matches!(field, "mode" | "uid" | "gid")
}

impl ResourcePlan {
    /// Takes out of a sensitive resource what only shows and does not act: contents and values before and after.
    pub fn withhold(&mut self) {
        let (true, Verdict::Change(change)) = (self.sensitive, &mut self.verdict) else { return };
        change.files.iter_mut().for_each(FileChange::withhold);
        for field in change.fields.iter_mut().filter(|field| !is_metadata(&field.name)) {
            for value in [&mut field.before, &mut field.after].into_iter().filter(|value| !value.is_null()) {
                *value = "(sensitive)".into();
            }
        }
    }

    fn steps_mut(&mut self) -> impl Iterator<Item = &mut Step> {
        match &mut self.verdict {
            Verdict::Change(change) => change.steps.iter_mut(),
            _ => [].iter_mut(),
        }
    }
}

impl Planned {
    /// Counts the verdicts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { orphaned: self.orphaned.len(), ..Counts::default() };
        for resource in &self.resources {
            let count = match &resource.verdict {
                Verdict::Converged => &mut counts.converged,
                Verdict::Change(_) => &mut counts.changes,
                Verdict::Deferred { .. } => &mut counts.deferred,
                Verdict::Unknown { .. } => &mut counts.unknown,
                Verdict::Unsupported { .. } => &mut counts.unsupported,
                Verdict::Failed { .. } => &mut counts.failed,
                Verdict::Blocked { .. } => &mut counts.blocked,
            };
            *count += 1;
            let has = |wanted: fn(&Remark) -> bool| usize::from(resource.remarks.iter().any(wanted));
            counts.reboot += has(|remark| matches!(remark, Remark::Reboot { .. }));
            counts.short += has(|remark| matches!(remark, Remark::Short { .. }));
            counts.warnings += has(|remark| matches!(remark, Remark::Warning { .. }));
        }
        counts
    }

    /// Returns the changes, each with its resource.
    pub fn changes(&self) -> impl Iterator<Item = (&ResourcePlan, &Change)> {
        self.resources.iter().filter_map(|resource| match &resource.verdict {
            Verdict::Change(change) => Some((resource, change)),
            _ => None,
        })
    }

    /// Returns what is looked at again once the changes are made: the resource, what it waits for, what it may become.
    pub fn deferred(&self) -> impl Iterator<Item = (&Address, &Address, &[String])> {
        self.resources.iter().filter_map(|resource| match &resource.verdict {
            Verdict::Deferred { because, may } => Some((&resource.address, because, may.as_slice())),
            _ => None,
        })
    }

    /// Returns the failed preflight checks: while there is one, nothing is applied on this host.
    pub fn preflight_failures(&self) -> impl Iterator<Item = (&Address, &str)> {
        self.resources.iter().filter_map(|resource| match &resource.verdict {
            Verdict::Failed { preflight: true, .. } if resource.sensitive => Some((&resource.address, NOT_SHOWN)),
            Verdict::Failed { reason, preflight: true } => Some((&resource.address, reason.as_str())),
            _ => None,
        })
    }

    /// Returns the run that carries the plan out: exactly its steps, nothing else.
    #[must_use]
    pub fn run(&self, id: RunId, by: String) -> Run {
        self.run_of(id, by, |_, _| true)
    }

    /// Returns the run that carries a part of the plan out.
    #[must_use]
    pub fn run_of(&self, id: RunId, by: String, is_wanted: impl Fn(&Address, &Change) -> bool) -> Run {
        let mut place_in_run = vec![None; self.resources.len()];
        let mut works = vec![];
        for (at, resource) in self.resources.iter().enumerate() {
            let Verdict::Change(change) = &resource.verdict else { continue };
            if !is_wanted(&resource.address, change) {
                continue;
            }
            place_in_run[at] = Some(works.len());
            works.push(Work {
                address: resource.address.clone(),
                needs: change.needs.iter().filter_map(|need| place_in_run.get(*need).copied().flatten()).collect(),
                steps: change.steps.clone(),
                sensitive: resource.sensitive,
            });
        }
        Run { id, by, confirm_within: None, works }
    }
}
