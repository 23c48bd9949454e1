//! What a host remembers of its runs, read from their journals without changing anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Host, HostError,
    journal::{Ending, Story},
    read::{Answer, Read},
    run::RunId,
    state::STATE_DIR,
};
use crate::address::Address;

/// A run that a host remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastRun {
    /// Its name.
    pub run: RunId,
    /// What its journal tells, or why it tells nothing (a format of a later version).
    pub told: Result<Told, String>,
    /// The run that took it back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub taken_back_by: Option<RunId>,
    /// Nobody saw its end: it goes on, or its executor died.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub open: bool,
}

/// What the journal of a run tells. Contents of files are no part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Who asked for it.
    pub by: String,
    /// When it began, in seconds since 1970 (UTC) and nanoseconds, by the clock of the host.
    pub began: (i64, u32),
    /// When and how it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<(i64, Ending)>,
    /// The run that it takes back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub takes_back: Option<RunId>,
    /// What changed the host, oldest first.
    pub operations: Vec<PastOperation>,
}

/// An operation of a past run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastOperation {
    /// The resource.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<Address>,
    /// What was done.
    pub action: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Nobody saw its end: it may have been done or not.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub in_doubt: bool,
}

impl PastRun {
    /// Returns the resources that the run changed, each once, in the order of the first change.
    #[must_use]
    pub fn addresses(&self) -> Vec<&Address> {
        let operations = self.told.as_ref().map_or(&[][..], |told| &told.operations);
        let mut addresses: Vec<&Address> = vec![];
        for address in operations.iter().filter_map(|operation| operation.address.as_ref()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// Reads all runs that a host remembers, newest first.
///
/// # Errors
/// As [`Host::read`], and if the state of vprov may not be read.
pub fn history(host: &mut dyn Host) -> Result<Vec<PastRun>, HostError> {
    let reads = ["journal", "taken-back", "open"].map(|name| Read::glob(format!("{STATE_DIR}/runs/*/{name}")));
    decode(&host.read(&reads)?)
}

fn decode(answers: &[Answer]) -> Result<Vec<PastRun>, HostError> {
    let mut files: Vec<BTreeMap<RunId, &Answer>> = vec![];
    for answer in answers {
        files.push(match answer {
            Answer::Paths(paths) => {
                let of = |path: &str| path.rsplit('/').nth(1)?.parse().ok();
                paths.iter().filter_map(|(path, answer)| Some((of(path.as_str())?, answer))).collect()
            }
            Answer::Absent => BTreeMap::new(),
            Answer::Denied => {
                return Err(HostError::Refused(format!("`{STATE_DIR}` may be read by root alone")));
            }
            other => return Err(HostError::Refused(format!("`{STATE_DIR}/runs` is {}", other.describe()))),
        });
    }
    let [journals, taken, open] = files.as_slice() else {
        return Err(HostError::Protocol(format!("{} answers to 3 questions", answers.len())));
    };
    let mut runs: Vec<PastRun> = journals
        .iter()
        .map(|(run, answer)| PastRun {
            run: run.clone(),
            told: told(run, answer),
            taken_back_by: taken.get(run).and_then(|answer| answer.text()?.trim().parse().ok()),
            open: open.contains_key(run),
        })
        .collect();
    let began = |run: &PastRun| run.told.as_ref().map_or((0, 0), |told| told.began);
    runs.sort_by(|one, other| began(other).cmp(&began(one)).then_with(|| other.run.cmp(&one.run)));
    Ok(runs)
}

fn told(run: &RunId, answer: &Answer) -> Result<Told, String> {
    let Some(content) = answer.content() else { return Err(format!("its journal is {}", answer.describe())) };
    let story = Story::decode(run, &content.0).map_err(|words| format!("its journal{words}"))?;
    let operations = story.intents.into_iter().map(|intent| PastOperation {
        address: intent.address,
        action: intent.action,
        in_doubt: intent.outcome.is_none(),
        error: intent.outcome.and_then(Result::err),
    });
    let operations = operations.collect();
    Ok(Told { by: story.by, began: story.began, ended: story.ended, takes_back: story.takes_back, operations })
}

/// Returns the run that is taken back if none is named: the newest that changed something, is not taken back, and takes none
/// back itself, so that asking again goes further back.
#[must_use]
pub fn newest(runs: &[PastRun]) -> Option<&PastRun> {
    runs.iter().find(|run| {
        run.taken_back_by.is_none()
            && run.told.as_ref().is_ok_and(|told| told.takes_back.is_none() && !told.operations.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{path::AbsPath, read::Meta};

    fn file(run: &str, name: &str, text: &str) -> (AbsPath, Answer) {
        let meta = Meta { mode: 0o600, uid: 0, gid: 0, mtime: 0 };
        let path = AbsPath::known(&format!("{STATE_DIR}/runs/{run}/{name}"));
        (path, Answer::File { meta, digest: None, content: Some(text.into()) })
    }

    fn journal(run: &str, at: i64, rest: &str) -> (AbsPath, Answer) {
        let begun = format!(
            r#"{{"begun":{{"format":"vprov.journal/1","run":"{run}","by":"me@here","at":{at},"ns":7{rest}}}}}"#
        );
        let done = r#"{"intent":{"number":0,"address":"file[a]","action":"write /a","inverses":[]}}"#;
        file(run, "journal", &format!("{begun}\n{done}\n{{\"done\":{{\"number\":0,\"now\":[]}}}}\n"))
    }

    #[test]
    fn the_newest_run_by_the_hosts_clock_comes_first_and_a_rollback_is_not_taken_back_unasked() {
        let [one, two, back] = ["20260101T000000Z-0001", "20250101T000000Z-0002", "20260102T000000Z-0003"];
        let later =
            file("20260103T000000Z-0004", "journal", "{\"begun\":{\"format\":\"vprov.journal/9\",\"new\":1}}\n");
        let journals = Answer::Paths(vec![
            journal(one, 100, ""),
            journal(two, 200, ""),
            journal(back, 300, &format!(r#","takes_back":"{two}""#)),
            later,
        ]);
        let taken = Answer::Paths(vec![file(two, "taken-back", &format!("{back}\n"))]);
        let runs = decode(&[journals, taken, Answer::Paths(vec![])]).unwrap();
        let names: Vec<&str> = runs.iter().map(|run| run.run.as_str()).collect();
        assert_eq!(names, [back, two, one, "20260103T000000Z-0004"]);
        assert_eq!(runs[0].addresses(), [&Address::new("file", "a")]);
        assert_eq!(runs[1].taken_back_by.as_ref().unwrap().as_str(), back);
        assert!(runs[3].told.as_ref().unwrap_err().contains("`vprov.journal/9`; this vprov knows"), "{:?}", runs[3]);
        assert_eq!(newest(&runs).unwrap().run.as_str(), one);
    }

    #[test]
    fn what_may_not_be_read_is_not_empty() {
        assert!(decode(&[Answer::Denied, Answer::Denied, Answer::Denied]).is_err());
        assert_eq!(decode(&[Answer::Absent, Answer::Absent, Answer::Absent]), Ok(vec![]));
    }
}
