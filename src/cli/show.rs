//! `vprov show`.

use super::{Terminal, Wrong, args::Show, exit::Exit, saved};
use crate::report;

/// Shows a saved plan; nothing is contacted.
pub fn run(args: &Show, terminal: &Terminal) -> Result<Exit, Wrong> {
    let file = saved::read(&args.plan)?;
    let (_, hosts) = saved::select(&args.plan, &file, &args.limit, terminal)?;
    let plans = saved::plans(&args.plan, &file, &hosts)?;
    terminal.report(&if args.output.json {
        report::json::plan(&plans, args.output.show_sensitive)
    } else {
        format!("{}\n{}", report::plan::origin(&file), report::plan::plan(&plans, terminal.look(&args.output)))
    });
    Ok(Exit::Clean)
}
