//! `vprov show`.

use super::{Terminal, Wrong, args::Show, exit::Exit, saved};
use crate::report;

/// Shows a saved plan; nothing is contacted.
pub fn run(args: &Show, terminal: &Terminal) -> Result<Exit, Wrong> {
    let file = saved::read(&args.plan)?;
    let (_, hosts) = saved::select(&args.plan, &file, &args.limit, terminal)?;
    let plans = saved::plans(&args.plan, &file, &hosts)?;
    let (look, origin) = (terminal.look(&args.output), report::plan::origin(&file));
    terminal.report(&match args {
        Show { markdown: true, .. } => report::markdown::plan(&plans, &origin, look),
        Show { html: true, .. } => report::html::plan(&plans, &origin, look),
        Show { junit: true, .. } => report::junit::plan(&plans, look),
        _ if args.output.json => report::json::plan(&plans, args.output.show_sensitive),
        _ => format!("{origin}\n{}", report::plan::plan(&plans, look)),
    });
    Ok(Exit::Clean)
}
