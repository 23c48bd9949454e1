//! What a controller writes down of a rollout while it goes on, one JSON object on each line, so that another one goes on
//! where it ended. Text in, text out; `cli/record.rs` keeps it on the disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Member, Stopped, Turn};
use crate::{config::rollout::Rollout as Rules, host::run::RunId};

/// The format of a record. Additions keep the number.
pub const FORMAT: &str = "vprov.run/1";

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: String,
    /// The version that began it.
    pub vprov: String,
    /// Its name, which is also that of the runs on the hosts until it is resumed.
    pub run: RunId,
    /// Who asked for it.
    pub by: String,
    /// What it carries out: the whole path of the inventory, or of a plan.
    pub of: String,
    /// How it goes over the hosts.
    pub rules: Rules,
    /// The hosts in their order.
    pub members: Vec<Member>,
}

/// A further line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in seconds since 1970 (UTC).
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Entry {
    /// A host's turn has come; written before it is contacted to be changed.
    Began {
        /// The host.
        host: String,
    },
    /// A host is done; written before the next one takes its place.
    Ended {
        /// The host.
        host: String,
        /// It is as it should be.
        good: bool,
        /// What came of it, in words.
        words: String,
    },
    /// Another controller goes on.
    Resumed {
        /// The name of the runs on the hosts from now on.
        run: RunId,
        /// Who asked for it.
        by: String,
        /// The hosts that had failed have another turn.
        retry_failed: bool,
    },
    /// The controller came to its end.
    Closed {
        /// Why hosts are left, if some are.
        #[serde(flatten)]
        stopped: Option<Stopped>,
    },
}

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its first line.
    pub head: Head,
    /// Where the hosts stand: those that ended. Whoever only began is in doubt and has another turn.
    pub ended: BTreeMap<String, bool>,
    /// The last controller came to its end.
    pub is_closed: bool,
    /// How many bytes of the record are whole lines. What stands behind them was being written when the controller died.
    pub whole: usize,
}

impl Past {
    /// Reads a record.
    ///
    /// # Errors
    /// Says which line is none of a record.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut lines = text[..whole].split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
        let first = lines.next().ok_or("it is empty: its controller died before any host was contacted")?;
        let format: Format = serde_json::from_slice(first).map_err(|error| format!("line 1: {error}"))?;
        if format.format != FORMAT {
            return Err(format!("its format is `{}`, and this vprov knows `{FORMAT}`", format.format));
        }
        let head: Head = serde_json::from_slice(first).map_err(|error| format!("line 1: {error}"))?;
        let mut past = Self { head, ended: BTreeMap::new(), is_closed: false, whole };
        for (at, line) in lines.enumerate() {
            let line: Line = serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", at + 2))?;
            past.is_closed = matches!(line.entry, Entry::Closed { .. });
            match line.entry {
                Entry::Began { host } => {
                    past.ended.remove(&host);
                }
                Entry::Ended { host, good, .. } => {
                    past.ended.insert(host, good);
                }
                Entry::Resumed { retry_failed: true, .. } => past.ended.retain(|_, good| *good),
                Entry::Resumed { .. } | Entry::Closed { .. } => {}
            }
        }
        Ok(past)
    }

    /// Returns the hosts that have a turn yet.
    #[must_use]
    pub fn left(&self, retry_failed: bool) -> BTreeSet<&str> {
        let waits = |member: &&Member| self.turn(member, retry_failed) == Turn::Waiting;
        self.head.members.iter().filter(waits).map(|member| member.host.as_str()).collect()
    }

    /// Returns where a member stands.
    #[must_use]
    pub fn turn(&self, member: &Member, retry_failed: bool) -> Turn {
        match self.ended.get(&member.host) {
            Some(true) => Turn::Good,
            Some(false) if !retry_failed => Turn::Bad,
            _ => Turn::Waiting,
        }
    }
}

#[derive(Deserialize)]
struct Format {
    format: String,
}

/// Writes a line of a record.
#[must_use]
pub fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("a record is plain data with text keys");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let member = |host: &str| Member { host: host.into(), canary: false };
        Head {
            format: FORMAT.into(),
            vprov: "0".into(),
            run: RunId::new(0, 1),
            by: "me".into(),
            of: "/hosts.yaml".into(),
            rules: Rules::default(),
            members: ["a", "b", "c"].map(member).into(),
        }
    }

    fn told() -> Vec<Entry> {
        let ended = |host: &str, good| Entry::Ended { host: host.into(), good, words: "x".into() };
        let began = |host: &str| Entry::Began { host: host.into() };
        let resumed = Entry::Resumed { run: RunId::new(9, 1), by: "me".into(), retry_failed: true };
        let closed = Entry::Closed { stopped: Some(Stopped::Failures { failed: 1, allowed: 0 }) };
        vec![began("a"), began("b"), ended("b", false), ended("a", true), closed, resumed, began("b"), ended("b", true)]
    }

    #[test]
    fn any_beginning_of_a_record_tells_who_is_done() {
        let mut text = line(&head());
        let mut ends = vec![text.len()];
        for entry in told() {
            text += &line(&Line { at: 1, entry });
            ends.push(text.len());
        }
        let states = ["", "", "", "b-", "a+b-", "a+b-", "a+", "a+", "a+b+"];
        for cut in ends[0]..=text.len() {
            let past = Past::read(&text.as_bytes()[..cut]).unwrap();
            let lines = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(past.whole, ends[lines - 1]);
            let words: String =
                past.ended.iter().map(|(host, good)| format!("{host}{}", if *good { '+' } else { '-' })).collect();
            assert_eq!(words, states[lines - 1], "after {lines} lines");
            assert_eq!(past.is_closed, lines == 6);
        }
        for cut in 0..ends[0] {
            assert!(Past::read(&text.as_bytes()[..cut]).unwrap_err().contains("it is empty"));
        }
    }

    #[test]
    fn what_is_no_record_or_of_a_later_version_is_named() {
        let wrong = |text: &str, words: &str| {
            let error = Past::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        wrong("{\"format\":\"vprov.run/2\",\"new\":1}\n", "its format is `vprov.run/2`");
        wrong("hello\n", "line 1");
        wrong(&format!("{}{{\"at\":1}}\n", line(&head())), "line 2");
    }
}
