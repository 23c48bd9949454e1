//! Reading what a plan needs: the only part of planning that asks a host.

use std::collections::BTreeSet;

use crate::{
    facts::Facts,
    host::{Host, HostError, observed::Observed, read::Read, state::Owed},
    resource::{AnyResource, Seen},
};

/// How often resources may ask again, given what they saw. Two is what kinds need; the rest is a guard against a mistake.
const ROUNDS: usize = 6;

/// Asks a host for everything that is not answered yet, each question once, in one message.
///
/// # Errors
/// As [`Host::read`].
pub fn ask(
    host: &mut dyn Host,
    observed: &mut Observed,
    reads: impl IntoIterator<Item = Read>,
) -> Result<(), HostError> {
    let open: BTreeSet<Read> = reads.into_iter().filter(|read| observed.get(read).is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    let open: Vec<Read> = open.into_iter().collect();
    let answers = host.read(&open)?;
    if answers.len() != open.len() {
        return Err(HostError::Protocol(format!("{} answers to {} questions", answers.len(), open.len())));
    }
    for (read, answer) in open.into_iter().zip(answers) {
        observed.put(read, answer);
    }
    Ok(())
}

/// Reads all that resources ask for, in rounds, each one message for all of them.
///
/// # Errors
/// As [`Host::read`]; also if resources never stop asking, which is a mistake in a kind.
pub fn observe(
    host: &mut dyn Host,
    resources: &[&dyn AnyResource],
    facts: &Facts,
    offline: bool,
    observed: &mut Observed,
) -> Result<(), HostError> {
    for _ in 0..ROUNDS {
        let seen = Seen { observed, facts, offline };
        let mut wanted: BTreeSet<Read> = resources.iter().flat_map(|resource| resource.reads(&seen)).collect();
        wanted.insert(Owed::read());
        wanted.retain(|read| observed.get(read).is_none());
        if wanted.is_empty() {
            return Ok(());
        }
        ask(host, observed, wanted)?;
    }
    Err(HostError::Protocol(format!("resources still ask after {ROUNDS} rounds")))
}
