//! Planning one host from the first question to the plan.

use super::{Planned, build, observe};
use crate::{
    catalog::Catalog,
    diag::Diagnostics,
    event::Happened,
    facts::{self, Facts},
    graph::Graph,
    host::{
        Host, HostError,
        observed::Observed,
        read::Read,
        state::{Owed, STATE_DIR, Unfinished},
    },
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
    let left = [Owed::read()].into_iter().chain(Unfinished::reads());
    let reads: Vec<Read> = facts::reads().into_iter().chain(left).collect();
    observe::ask(host, &mut observed, reads)?;
    let facts = facts::decode(&observed).map_err(|error| HostError::Refused(error.to_string()))?;
    Ok((facts, observed))
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
    let (catalog, graph) = compile(&facts).map_err(PlanError::Documents)?;
    let offline = circumstances.offline;
    observe::observe(host, &catalog, &facts, offline, &mut observed)?;
    if circumstances.retry_short {
        observed.forget(&format!("{STATE_DIR}/short"));
    }
    let planned = build::build(&catalog, &graph, &facts, offline, observed);
    on(Happened::Planned);
    Ok(planned)
}
