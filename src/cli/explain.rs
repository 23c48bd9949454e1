//! `vprov explain`.

use super::{
    Terminal, Wrong,
    args::{Explain, Output},
    exit::Exit,
    session::library_options,
};
use crate::{
    config::load_library,
    diag::{SourceMap, did_you_mean},
    report::manual,
    resource::{KINDS, Kind},
};

/// Shows the manual of one kind, module or playbook, or the list of all.
pub fn run(args: &Explain, terminal: &Terminal) -> Result<Exit, Wrong> {
    let sources = SourceMap::new();
    let library =
        load_library(&library_options(&args.modules), &sources).map_err(|found| terminal.refuse(&found, &sources))?;
    let modules: Vec<_> = library.all().iter().map(|module| &**module).collect();
    let look = terminal.look(&Output { json: false, show_sensitive: false, verbose: false });
    let Some(name) = &args.name else {
        terminal.report(&manual::list(&modules, look));
        return Ok(Exit::Clean);
    };
    let kind = Kind::find(name).map(|kind| manual::kind(kind, look));
    let named = modules.iter().filter(|module| module.name == *name).map(|module| manual::module(module, look));
    let pages: Vec<String> = kind.into_iter().chain(named).collect();
    if pages.is_empty() {
        let names = KINDS.iter().map(|kind| kind.name).chain(modules.iter().map(|module| module.name.as_str()));
        let near = did_you_mean(name, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Wrong::Words(format!("there is no kind, module or playbook `{name}`{near}")));
    }
    terminal.report(&pages.join("\n"));
    Ok(Exit::Clean)
}
