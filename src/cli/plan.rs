//! `vprov plan`.

use super::{Terminal, Wrong, args::Plan, exit::Exit, saved, session::Session};
use crate::{
    plan::{HostPlan, HostResult},
    report,
};

/// Plans the selected hosts and shows what would change.
pub fn run(args: &Plan, terminal: &Terminal) -> Result<Exit, Wrong> {
    let session = Session::open(&args.documents, &args.reach, None, terminal)?;
    let plans = session.plan(args.wishes);
    terminal.report(&if args.output.json {
        report::json::plan(&plans, args.output.show_sensitive)
    } else {
        report::plan::plan(&plans, terminal.look(&args.output))
    });
    if let Some(path) = &args.out {
        saved::save(path, args, &session, &plans, terminal)?;
    }
    let pending = if args.detailed_exitcode { Exit::Pending } else { Exit::Clean };
    Ok(plans.iter().map(|plan| exit_of(plan, pending)).fold(Exit::Clean, Exit::and))
}

/// Returns what the plan of one host means for the exit code.
pub fn exit_of(plan: &HostPlan, pending: Exit) -> Exit {
    match &plan.result {
        HostResult::Unreachable { .. } => Exit::Unreachable,
        HostResult::Failed { .. } => Exit::Failed,
        HostResult::Planned(planned) => {
            let counts = planned.counts();
            if counts.failed + counts.blocked + counts.unknown > 0 {
                Exit::Failed
            } else if counts.changes > 0 {
                pending
            } else {
                Exit::Clean
            }
        }
    }
}
