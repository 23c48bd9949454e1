//! Who is changed when: the order of hosts, canaries, batches, and when nobody else begins. Pure: it is told what happened
//! and says what may happen next.

pub mod record;

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    config::rollout::{Canary, Order, Rollout as Rules},
    host::bytes::Digest,
};

/// A host of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name in the inventory.
    pub host: String,
    /// It goes first, and nobody else begins if it fails.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub canary: bool,
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its turn has not come, or was given back untouched.
    Waiting,
    /// It is worked on.
    Running,
    /// It is as it should be.
    Good,
    /// It failed.
    Bad,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This member (by its place) begins; it counts as running from now on.
    Start(usize),
    /// Nothing before somebody who runs has ended, or before whoever asks has his answer.
    Wait,
    /// A batch is done, and this one comes next, counted from 0: the caller pauses and asks, then calls
    /// [`Rollout::go_on`] or [`Rollout::stop`].
    Between(usize),
    /// Nobody else begins.
    End,
}

/// Why nobody else begins although there are some left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "stopped", deny_unknown_fields)]
pub enum Stopped {
    /// A canary failed.
    Canary {
        /// The first that did.
        host: String,
    },
    /// More hosts failed than may.
    Failures {
        /// How many failed.
        failed: usize,
        /// How many may.
        allowed: usize,
    },
    /// The person at the terminal, or a signal, wished so.
    Asked,
    /// The record of the run cannot be written.
    Record {
        /// What the system said.
        error: String,
    },
}

/// The state of a rollout.
#[derive(Clone, Debug)]
pub struct Rollout {
    members: Vec<Member>,
    turns: Vec<Turn>,
    /// Parts of the order; canaries are the first.
    batches: Vec<Range<usize>>,
    /// The batch that goes on.
    at: usize,
    /// From here on somebody may wait for his turn.
    from: usize,
    running: usize,
    /// Hosts of this batch may begin.
    is_open: bool,
    /// Somebody pauses or asks.
    is_between: bool,
    allowed: Option<usize>,
    stopped: Option<Stopped>,
}

/// Puts hosts into their order, canaries first. `is_canary` says which hosts were named as such.
#[must_use]
pub fn order(hosts: &[&str], rules: &Rules, is_canary: impl Fn(&str) -> bool) -> Vec<Member> {
    let mut hosts = hosts.to_vec();
    match rules.order {
        Order::Inventory => {}
        Order::Sorted => hosts.sort_unstable(),
        Order::Reversed => hosts.reverse(),
        Order::Random { seed } => {
            hosts.sort_by_cached_key(|host| Digest::of(format!("{seed} {host}").as_bytes()).to_string());
        }
    }
    let first = match &rules.canary {
        Some(Canary::Amount(amount)) => amount.of(hosts.len()).max(1),
        _ => 0,
    };
    let named = matches!(rules.canary, Some(Canary::Hosts(_)));
    let member =
        |(at, host): (usize, &str)| Member { host: host.into(), canary: at < first || (named && is_canary(host)) };
    let mut members: Vec<Member> = hosts.into_iter().enumerate().map(member).collect();
    members.sort_by_key(|member| !member.canary);
    members
}

impl Rollout {
    /// Begins, or goes on with, a rollout. `turn` says where each member stands by its place.
    #[must_use]
    pub fn new(members: Vec<Member>, rules: &Rules, turn: impl Fn(usize) -> Turn) -> Self {
        let all = members.len();
        let canaries = members.iter().filter(|member| member.canary).count();
        let size = rules.batch.map_or(all, |batch| batch.of(all)).max(1);
        let mut batches: Vec<Range<usize>> = vec![];
        if canaries > 0 {
            batches.push(0..canaries);
        }
        batches.extend((canaries..all).step_by(size).map(|start| start..(start + size).min(all)));
        let mut rollout = Self {
            turns: (0..all).map(turn).collect(),
            members,
            batches,
            at: 0,
            from: 0,
            running: 0,
            is_open: true,
            is_between: false,
            allowed: rules.max_failures.map(|amount| amount.of(all)),
            stopped: None,
        };
        rollout.judge();
        rollout
    }

    /// Returns the members in their order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns where each member stands.
    #[must_use]
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// Returns how many batches there are, canaries included.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// Returns how many members of a batch wait for their turn.
    #[must_use]
    pub fn waiting_in(&self, batch: usize) -> usize {
        let of = |batch: &Range<usize>| self.turns[batch.clone()].iter().filter(|turn| **turn == Turn::Waiting).count();
        self.batches.get(batch).map_or(0, of)
    }

    /// Tells why nobody else begins, if some are left.
    #[must_use]
    pub fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref().filter(|_| self.turns.contains(&Turn::Waiting))
    }

    /// Says what may happen next.
    pub fn advance(&mut self) -> Next {
        if self.stopped.is_some() {
            return Next::End;
        }
        while let Some(batch) = self.batches.get(self.at).cloned() {
            self.from = self.from.max(batch.start);
            while self.from < batch.end && self.turns[self.from] != Turn::Waiting {
                self.from += 1;
            }
            if self.from < batch.end {
                if self.is_between {
                    return Next::Wait;
                }
                if !self.is_open {
                    self.is_between = true;
                    return Next::Between(self.at);
                }
                self.turns[self.from] = Turn::Running;
                self.running += 1;
                return Next::Start(self.from);
            }
            if self.running > 0 {
                return Next::Wait;
            }
            self.at += 1;
        }
        Next::End
    }

    /// The pause before a batch is over, and whoever was asked agreed.
    pub fn go_on(&mut self) {
        self.is_between = false;
        self.is_open = true;
    }

    /// Nobody else begins.
    pub fn stop(&mut self, why: Stopped) {
        self.is_between = false;
        self.stopped.get_or_insert(why);
    }

    /// A member that ran has ended: good, bad, or untouched (it waits again then, and nobody else begins).
    pub fn ended(&mut self, place: usize, turn: Turn) {
        self.turns[place] = turn;
        self.running -= 1;
        match turn {
            Turn::Waiting => self.stop(Stopped::Asked),
            Turn::Bad => self.judge(),
            Turn::Good | Turn::Running => {}
        }
        // A batch that an earlier controller did needs no pause after it; one of which something was done here does.
        let end = self.batches.get(self.at).map_or(0, |batch| batch.end);
        if self.running == 0 && !self.turns[self.from.min(end)..end].contains(&Turn::Waiting) {
            self.is_open = false;
        }
    }

    fn judge(&mut self) {
        let bad = || self.turns.iter().zip(&self.members).filter(|(turn, _)| **turn == Turn::Bad);
        let (failed, allowed) = (bad().count(), self.allowed.unwrap_or(usize::MAX));
        let canary = bad().find(|(_, member)| member.canary).map(|(_, member)| member.host.clone());
        if let Some(host) = canary {
            self.stop(Stopped::Canary { host });
        } else if failed > allowed {
            self.stop(Stopped::Failures { failed, allowed });
        }
    }
}

#[cfg(test)]
mod tests;
