//! One apply on one host: what is asked for, what is told while it goes on, what came of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{matcher::Expectation, op::Step, path::AbsPath, state::STATE_DIR};
use crate::address::Address;

/// The name of a run: `YYYYMMDDTHHMMSSZ-XXXX`, UTC, four hexadecimal digits of chance behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Makes the name of a run that begins `seconds` after 1970 (UTC).
    #[must_use]
    pub fn new(seconds: u64, chance: u16) -> Self {
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        Self(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z-{chance:04x}"))
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns where a host keeps something of the run.
    #[must_use]
    pub fn place(&self, name: &str) -> AbsPath {
        AbsPath::known(&format!("{STATE_DIR}/runs/{self}/{name}"))
    }
}

/// Returns year, month and day of a day counted from 1970-01-01 (the proleptic Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from 1 March, so that the leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Writes a time in seconds since 1970 as people read it, in UTC.
#[must_use]
pub fn utc(seconds: i64) -> String {
    let Ok(seconds) = u64::try_from(seconds) else { return format!("{seconds} s since 1970") };
    let id = RunId::new(seconds, 0);
    let text = id.as_str();
    format!("{}-{}-{} {}:{}:{} UTC", &text[..4], &text[4..6], &text[6..8], &text[9..11], &text[11..13], &text[13..15])
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() == 21
            && text.bytes().enumerate().all(|(at, byte)| match at {
                8 => byte == b'T',
                15 => byte == b'Z',
                16 => byte == b'-',
                17.. => byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase(),
                _ => byte.is_ascii_digit(),
            });
        if fits { Ok(Self(text.into())) } else { Err(format!("`{text}` is no run like 20260131T235959Z-0a1b")) }
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What an apply is asked to do on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// Who asked for it: user and machine of the controller, for the journal and the lock.
    pub by: String,
    /// The run may cut the host off: unless somebody confirms it within so many seconds after its end, the host takes it back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confirm_within: Option<u32>,
    /// What each resource needs done, in order.
    pub works: Vec<Work>,
}

/// The steps of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The resource.
    pub address: Address,
    /// The earlier works (by their place in the run) whose failure blocks this one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub needs: Vec<usize>,
    /// What to do, in order; the first failure ends the work.
    pub steps: Vec<Step>,
    /// Its values are secret: the journal gets no argument, no value and nothing that a program said.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

/// What stands in the place of words that may hold a secret.
pub const NOT_SHOWN: &str = "what was said is not shown, as the resource is sensitive";

impl Work {
    /// Says in one line what a step does, without values where they are secret.
    #[must_use]
    pub fn describe(&self, step: &Step) -> String {
        if self.sensitive { step.op.describe_hidden() } else { step.op.describe() }
    }
}

/// What came of one work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", deny_unknown_fields)]
pub enum Outcome {
    /// Every step was done and read back, or stood already.
    Done {
        /// Whether any step had to act.
        changed: bool,
    },
    /// The kernel gave less than asked.
    Short {
        /// What was asked.
        wanted: String,
        /// What it gave.
        found: String,
    },
    /// A step failed; the steps before it are done.
    Failed {
        /// Which step, from 0.
        step: usize,
        /// What was done, as [`super::op::Op::describe`] says it.
        action: String,
        /// What the system said.
        error: String,
        /// It was said of a path by the system, which knows no values: it is shown even where values are secret.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        by_system: bool,
    },
    /// An earlier work that this one needs failed.
    Blocked {
        /// That work's place in the run.
        by: usize,
    },
    /// The run was told to stop before this step; the steps before it are done.
    Interrupted {
        /// Which step, from 0.
        step: usize,
    },
    /// The run ended before this work began.
    NotStarted,
}

impl Outcome {
    /// Leaves out values and what programs and checks said: of a resource whose values are secret.
    #[must_use]
    pub fn hidden(self) -> Self {
        match self {
            Self::Short { .. } => Self::Short { wanted: "(sensitive)".into(), found: "(sensitive)".into() },
            Self::Failed { step, action, by_system: false, .. } => {
                Self::Failed { step, action, error: NOT_SHOWN.into(), by_system: false }
            }
            outcome => outcome,
        }
    }
}

/// What is told while a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event", deny_unknown_fields)]
pub enum StepEvent {
    /// A step begins.
    Started {
        /// The work's place in the run.
        work: usize,
        /// The step's place in the work.
        step: usize,
    },
    /// A step is done and read back.
    Done {
        /// The work's place in the run.
        work: usize,
        /// The step's place in the work.
        step: usize,
        /// Whether it had to act.
        changed: bool,
    },
    /// A work ended.
    Ended {
        /// The work's place in the run.
        work: usize,
        /// What came of it.
        outcome: Outcome,
    },
}

/// What came of a whole run on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", deny_unknown_fields)]
pub enum Applied {
    /// The run went through; an outcome for each work.
    Ran {
        /// In the order of the works.
        outcomes: Vec<Outcome>,
    },
    /// The host is not as the plan saw it; nothing was done.
    Stale {
        /// Every guard that does not hold.
        moved: Vec<Moved>,
    },
    /// Another run holds the host's lock; nothing was done.
    Locked {
        /// Who holds it and since when.
        holder: String,
    },
    /// The run could not begin (no space, a read-only file system); nothing was done.
    Refused {
        /// What the system said.
        error: String,
    },
}

/// A guard that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The resource whose plan it guards.
    pub address: Address,
    /// What the plan saw.
    pub expected: Expectation,
    /// What is there, in words.
    pub found: String,
    /// When that was last modified, in seconds since 1970 (UTC), where there is such a time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mtime: Option<i64>,
    /// Its values are secret: no report shows what was expected and found.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

/// What came of taking a run back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolledBack {
    /// What was taken back, newest first, in words.
    pub undone: Vec<String>,
    /// What could not be taken back, with the reason.
    pub left: Vec<String>,
    /// The run that did it; none where nothing had to be done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<RunId>,
    /// It was told to stop before its end; it can be asked for again.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub interrupted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_for_people() {
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
    }

    #[test]
    fn the_name_of_a_run_is_its_time() {
        for (seconds, text) in [
            (0, "19700101T000000Z-00ff"),
            (951_782_400, "20000229T000000Z-00ff"),
            (1_795_488_399, "20261124T024639Z-00ff"),
            (4_107_542_399, "21000228T235959Z-00ff"),
        ] {
            let id = RunId::new(seconds, 0xff);
            assert_eq!(id.as_str(), text);
            assert_eq!(text.parse::<RunId>().unwrap(), id);
        }
        for text in ["", "20261124T024639Z-00f", "../../../../etc/passwd", "20261124T024639Z-00FF"] {
            assert!(text.parse::<RunId>().is_err());
        }
    }
}
