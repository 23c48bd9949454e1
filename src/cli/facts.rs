//! `vprov facts`.

use super::{
    Terminal, Wrong,
    args::{Facts, Output},
    exit::Exit,
    session::Session,
};
use crate::{host::HostError, report};

/// Shows the facts of the selected hosts.
pub fn run(args: &Facts, terminal: &Terminal) -> Result<Exit, Wrong> {
    let session = Session::open(&args.documents, &args.reach, None, terminal)?;
    let results = session.facts();
    let exit = results.iter().map(|(_, result)| match result {
        Ok(_) => Exit::Clean,
        Err(HostError::Unreachable(_)) => Exit::Unreachable,
        Err(_) => Exit::Failed,
    });
    let exit = exit.fold(Exit::Clean, Exit::and);
    if args.json {
        let results: Vec<_> =
            results.into_iter().map(|(host, result)| (host, result.map_err(|error| error.to_string()))).collect();
        terminal.report(&report::json::facts(&results));
        return Ok(exit);
    }
    let look = terminal.look(&Output { json: false, show_sensitive: false, verbose: false });
    for (host, result) in results {
        match result {
            Ok(facts) => terminal.report(&report::facts::facts(&host, &facts, look)),
            Err(error) => terminal.complain(&format!("{host}: {error}")),
        }
    }
    Ok(exit)
}
