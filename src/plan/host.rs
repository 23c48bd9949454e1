//! Planning one host from the first question to the plan.

use super::{
    Planned, build, observe,
    orphans::{self, Found, Orphan, Standing},
};
use crate::{
    catalog::Catalog,
    diag::Diagnostics,
    event::Happened,
    facts::{self, Facts},
    graph::Graph,
    host::{
        Host, HostError,
        ledger::Ledger,
        observed::Observed,
        read::Read,
        state::{Owed, STATE_DIR, Unfinished},
    },
    resource::{AnyResource, Seen},
};

/// What a host's documents come to once its facts are known: pure, so the caller may do it wherever there is a core free.
pub type Compile<'a> = dyn Fn(&Facts) -> Result<(Catalog, Graph), Diagnostics> + Sync + 'a;

/// What is known of a host before it is asked, and what the person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The host is a directory (`--root`): nothing runs there.
    pub offline: bool,
    /// What fell short is tried again before the next boot.
    pub retry_short: bool,
    /// What was declared once and is no more is taken back.
    pub prune: bool,
}

/// Why a host could not be planned.
#[derive(Debug)]
pub enum PlanError {
    /// The host could not be asked.
    Host(HostError),
    /// Its documents make no sense with its facts.
    Documents(Diagnostics),
}

impl From<HostError> for PlanError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// Reads the facts of a host.
///
/// # Errors
/// As [`Host::read`].
pub fn facts(host: &mut dyn Host) -> Result<(Facts, Observed), HostError> {
    let mut observed = Observed::default();
    // What a cut run left due is asked for with the facts, so that it costs no round.
    let left = [Owed::read(), Ledger::read()].into_iter().chain(Unfinished::reads());
    let reads: Vec<Read> = facts::reads().into_iter().chain(left).collect();
    observe::ask(host, &mut observed, reads)?;
    let facts = facts::decode(&observed).map_err(|error| HostError::Refused(error.to_string()))?;
    Ok((facts, observed))
}

fn resources(catalog: &Catalog) -> Vec<&dyn AnyResource> {
    catalog.entries.iter().map(|entry| &*entry.resource).collect()
}

/// Plans a host.
///
/// # Errors
/// [`PlanError`].
pub fn plan(
    host: &mut dyn Host,
    compile: &Compile,
    circumstances: Circumstances,
    on: &mut dyn FnMut(Happened),
) -> Result<Planned, PlanError> {
    let (facts, mut observed) = facts(host)?;
    on(Happened::Facts);
    let (mut catalog, mut graph) = compile(&facts).map_err(PlanError::Documents)?;
    let offline = circumstances.offline;
    observe::observe(host, &resources(&catalog), &facts, offline, &mut observed)?;
    if circumstances.retry_short {
        observed.forget(&format!("{STATE_DIR}/short"));
    }
    let ledger = Ledger::decode(observed.get(&Ledger::read()));
    let found = orphans::find(&ledger, &catalog, &Seen { observed: &observed, facts: &facts, offline });
    let asked: Vec<&dyn AnyResource> = found.iter().flat_map(Found::resources).collect();
    observe::observe(host, &asked, &facts, offline, &mut observed)?;
    let seen = Seen { observed: &observed, facts: &facts, offline };
    let mut orphaned: Vec<Orphan> = found.iter().map(|found| found.orphan(&seen)).collect();
    if circumstances.prune && orphans::adopt(&mut catalog, found, &orphaned) {
        graph = Graph::build(&catalog).map_err(PlanError::Documents)?;
        observe::observe(host, &resources(&catalog), &facts, offline, &mut observed)?;
        orphaned.retain(|orphan| !matches!(orphan.standing, Standing::Untouched | Standing::AsBefore));
    }
    orphaned.extend(orphans::unread(&ledger));
    let mut planned = build::build(&catalog, &graph, &facts, offline, observed, &ledger);
    planned.orphaned = orphaned;
    on(Happened::Planned);
    Ok(planned)
}
