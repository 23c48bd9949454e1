//! Stage 7: carrying a plan out on one host, and reading everything once more.

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    event::Happened,
    host::{
        Host, HostError,
        run::{Applied, Moved, Outcome, RunId},
    },
    plan::{
        Planned, Verdict,
        host::{Circumstances, Compile, PlanError, plan},
    },
    resource::{Disruption, Remark, state::Field},
};

/// What came of applying a plan on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostApplied {
    /// The host's name in the inventory.
    pub host: String,
    /// What came of it.
    pub result: ApplyResult,
}

/// What came of applying a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status", deny_unknown_fields)]
pub enum ApplyResult {
    /// The plan was empty; the host was not touched.
    Nothing,
    /// The run went through.
    Ran(Ran),
    /// The host is not as the plan saw it; it was not touched.
    Stale {
        /// Every guard that does not hold.
        moved: Vec<Moved>,
    },
    /// Another run holds the host's lock; it was not touched.
    Locked {
        /// Who, and since when.
        holder: String,
    },
    /// Nothing was done, for this reason.
    Refused {
        /// Why.
        error: String,
    },
    /// The host was not reached, or was lost while the run went on.
    Unreachable {
        /// Why.
        error: String,
    },
}

/// A run that went through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// Its name, under which the host keeps its journal.
    pub run: RunId,
    /// What came of each resource that the plan changes.
    pub outcomes: Vec<ResourceOutcome>,
    /// What everything looks like when it is read once more.
    pub left: Vec<Left>,
    /// What a person must know afterwards: reboots that are pending, what fell short.
    pub remarks: Vec<(Address, Remark)>,
    /// Why the host could not be read once more, if it could not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unverified: Option<String>,
}

/// What came of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceOutcome {
    /// The resource.
    pub address: Address,
    /// What came of it.
    pub outcome: Outcome,
}

/// A resource that is still not as it should be when everything is read once more, although no step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// The resource.
    pub address: Address,
    /// The attributes that differ: what they are, and what they should be.
    pub fields: Vec<Field>,
    /// The likely cause.
    pub cause: String,
}

impl Ran {
    /// Tells whether every resource is as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let fine = |outcome: &Outcome| matches!(outcome, Outcome::Done { .. } | Outcome::Short { .. });
        self.left.is_empty() && self.unverified.is_none() && self.outcomes.iter().all(|one| fine(&one.outcome))
    }
}

/// What a person allowed beyond the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Changes that guests feel.
    pub guest_visible: bool,
}

/// Returns why a plan is not applied at all, if it is not.
#[must_use]
pub fn refusal(planned: &Planned, allowed: Allowed) -> Option<String> {
    if let Some((address, reason)) = planned.preflight_failures().next() {
        return Some(format!("{address} failed, so nothing is applied here: {reason}"));
    }
    let felt: Vec<String> = planned
        .changes()
        .filter(|(_, change)| change.disturbs == Disruption::Guests)
        .map(|(resource, _)| resource.address.to_string())
        .collect();
    let refused = !felt.is_empty() && !allowed.guest_visible;
    refused.then(|| format!("guests would feel {}; say `--allow guest-visible` if they may", felt.join(", ")))
}

/// Carries a plan out and reads everything once more.
#[must_use]
pub fn apply(
    host: &mut dyn Host,
    planned: &Planned,
    (id, by): (RunId, String),
    compile: &Compile,
    circumstances: Circumstances,
    on: &mut dyn FnMut(Happened),
) -> ApplyResult {
    let run = planned.run(id, by);
    if run.works.is_empty() {
        return ApplyResult::Nothing;
    }
    let outcomes = match host.apply(&run, &mut |event| on(Happened::Step(event.clone()))) {
        Ok(Applied::Ran { outcomes }) => outcomes,
        Ok(Applied::Stale { moved }) => return ApplyResult::Stale { moved },
        Ok(Applied::Locked { holder }) => return ApplyResult::Locked { holder },
        Ok(Applied::Refused { error }) => return ApplyResult::Refused { error },
        Err(HostError::Unreachable(error)) => return ApplyResult::Unreachable { error },
        Err(error) => return ApplyResult::Refused { error: error.to_string() },
    };
    let outcomes: Vec<ResourceOutcome> = run
        .works
        .iter()
        .zip(outcomes)
        .map(|(work, outcome)| ResourceOutcome { address: work.address.clone(), outcome })
        .collect();
    let (left, remarks, unverified) = match plan(host, compile, circumstances, &mut |_| ()) {
        Ok(after) => (left(&after, &outcomes), pending(&after), None),
        Err(PlanError::Host(error)) => (vec![], vec![], Some(error.to_string())),
        Err(PlanError::Documents(_)) => {
            (vec![], vec![], Some("the documents make no sense with the facts that the host has now".into()))
        }
    };
    ApplyResult::Ran(Ran { run: run.id, outcomes, left, remarks, unverified })
}

/// Returns what is not as it should be although nothing failed.
fn left(after: &Planned, outcomes: &[ResourceOutcome]) -> Vec<Left> {
    let failed = |address: &Address| {
        outcomes.iter().any(|one| one.address == *address && !matches!(one.outcome, Outcome::Done { .. }))
    };
    after
        .resources
        .iter()
        .filter(|resource| !failed(&resource.address))
        .filter_map(|resource| {
            let (fields, cause) = match &resource.verdict {
                Verdict::Change(change) => (change.fields.clone(), cause(&resource.remarks, change.because.is_empty())),
                Verdict::Failed { reason, .. } => (vec![], reason.clone()),
                _ => return None,
            };
            // What failed before the run and still does was told by the plan.
            let known = matches!(resource.verdict, Verdict::Failed { .. })
                && !outcomes.iter().any(|one| one.address == resource.address);
            (!known).then(|| Left { address: resource.address.clone(), fields, cause })
        })
        .collect()
}

/// Says why a value may have changed back: what the resource itself knows of others that write it, else the obvious.
fn cause(remarks: &[Remark], by_itself: bool) -> String {
    let told = remarks.iter().find_map(|remark| match remark {
        Remark::Warning { text, .. } => Some(text.clone()),
        _ => None,
    });
    told.unwrap_or_else(|| {
        if by_itself {
            "another program wrote it after vprov did, or the system does not keep it".into()
        } else {
            "an activation is still due".into()
        }
    })
}

fn pending(after: &Planned) -> Vec<(Address, Remark)> {
    let all = after.resources.iter().flat_map(|one| one.remarks.iter().map(move |remark| (&one.address, remark)));
    all.filter(|(_, remark)| !matches!(remark, Remark::Warning { .. }))
        .map(|(address, remark)| (address.clone(), remark.clone()))
        .collect()
}
