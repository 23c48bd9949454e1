//! The numbers of a plan over all hosts.

use std::collections::BTreeMap;

use super::{plan::sign, text::count};
use crate::plan::{Counts, HostPlan, HostResult, Planned};

/// What a host is, in one word; where several hold, the first of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was not reached.
    Unreachable,
    /// It, or a resource of it, cannot be planned.
    Failed,
    /// Something of it may not be read.
    Unknown,
    /// It changes.
    Changes,
    /// It is as declared but for a reboot.
    Reboot,
    /// It is as declared.
    Declared,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Unreachable, Self::Failed, Self::Unknown, Self::Changes, Self::Reboot, Self::Declared];

    /// Returns the state of a host.
    #[must_use]
    pub fn of(plan: &HostPlan) -> Self {
        let HostResult::Planned(planned) = &plan.result else {
            let is_failed = matches!(plan.result, HostResult::Failed { .. });
            return if is_failed { Self::Failed } else { Self::Unreachable };
        };
        let counts = planned.counts();
        match counts {
            _ if counts.failed + counts.blocked > 0 => Self::Failed,
            _ if counts.unknown > 0 => Self::Unknown,
            _ if counts.changes + counts.deferred > 0 => Self::Changes,
            _ if counts.reboot > 0 => Self::Reboot,
            _ => Self::Declared,
        }
    }

    /// Returns a sign, the word for people, and the word for programs.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Unreachable => ("×", "unreachable", "unreachable"),
            Self::Failed => ("!", "failed", "failed"),
            Self::Unknown => ("?", "not fully readable", "unknown"),
            Self::Changes => ("~", "changes", "changes"),
            Self::Reboot => ("↻", "waiting for a reboot", "reboot"),
            Self::Declared => ("=", "as declared", "declared"),
        }
    }
}

/// The numbers of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// All hosts.
    pub hosts: usize,
    /// Hosts on which something changes.
    pub changed: usize,
    /// Changes by the word of their action.
    pub actions: BTreeMap<&'static str, usize>,
    /// Hosts by what else is to be said of them, with the words; none of them is 0.
    pub others: Vec<(usize, &'static str)>,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(plans: &[HostPlan]) -> Self {
        let planned = || {
            plans.iter().filter_map(|plan| match &plan.result {
                HostResult::Planned(planned) => Some(planned),
                _ => None,
            })
        };
        let mut actions = BTreeMap::new();
        for (_, change) in planned().flat_map(Planned::changes) {
            *actions.entry(sign(change.action).1).or_default() += 1;
        }
        let counts: Vec<Counts> = planned().map(Planned::counts).collect();
        let hosts = |wanted: fn(&Counts) -> bool| counts.iter().filter(|counts| wanted(counts)).count();
        let results = |wanted: fn(&HostResult) -> bool| plans.iter().filter(|plan| wanted(&plan.result)).count();
        let mut others = vec![
            (hosts(|counts| counts.changes + counts.failed + counts.unknown + counts.blocked == 0), "as declared"),
            (hosts(|counts| counts.reboot > 0), "waiting for a reboot"),
            (hosts(|counts| counts.unknown > 0), "not fully readable (needs root)"),
            (hosts(|counts| counts.orphaned > 0), "with what is declared no more"),
            (hosts(|counts| counts.failed > 0), "with failures"),
            (results(|result| matches!(result, HostResult::Failed { .. })), "failed"),
            (results(|result| matches!(result, HostResult::Unreachable { .. })), "unreachable"),
        ];
        others.retain(|(n, _)| *n > 0);
        Self { hosts: plans.len(), changed: hosts(|counts| counts.changes > 0), actions, others }
    }

    /// Writes what changes, as `2 to create, 1 to change on 3 hosts`; `None` where nothing does.
    #[must_use]
    pub fn changes(&self) -> Option<String> {
        let words: Vec<String> = ["create", "change", "remove", "refresh", "run", "forget"]
            .iter()
            .filter_map(|word| self.actions.get(word).map(|n| format!("{n} to {word}")))
            .collect();
        (self.changed > 0).then(|| format!("{} on {}", words.join(", "), count(self.changed, "host")))
    }

    /// Writes the rest, as `3 hosts as declared, 1 unreachable`; empty where there is none.
    #[must_use]
    pub fn rest(&self) -> String {
        let words = self.others.iter().map(|(n, word)| match *word {
            "as declared" => format!("{} as declared", count(*n, "host")),
            word => format!("{n} {word}"),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}
