//! `vprov history`.

use super::{
    Terminal, Wrong,
    args::{History, Output},
    exit::Exit,
    session::Session,
};
use crate::{
    host::{HostError, history::history},
    report,
    transport::Mode,
};

/// Lists the runs that the selected hosts remember.
pub fn run(args: &History, terminal: &Terminal) -> Result<Exit, Wrong> {
    let session = Session::open_hosts(&args.documents, &args.reach, None, terminal)?;
    let results = session.each(
        &session.hosts,
        "read",
        |spec| &spec.name,
        |spec, _| {
            let runs = session.connect(spec, Mode::Observe).and_then(|mut host| history(&mut host));
            (spec.name.to_string(), runs)
        },
    );
    let exit = results.iter().map(|(_, result)| match result {
        Ok(_) => Exit::Clean,
        Err(HostError::Unreachable(_)) => Exit::Unreachable,
        Err(_) => Exit::Failed,
    });
    let exit = exit.fold(Exit::Clean, Exit::and);
    let output = Output { json: args.json, show_sensitive: false, verbose: args.verbose };
    terminal.report(&if args.json {
        report::history::json(&results)
    } else {
        report::history::history(&results, terminal.look(&output))
    });
    Ok(exit)
}
