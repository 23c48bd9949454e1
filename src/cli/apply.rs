//! `vprov apply`.

use super::{
    Terminal, Wrong,
    args::{Allow, Apply, Resume},
    exit::Exit,
    plan::exit_of,
    prompt,
    record::{self, Record},
    rollout::{Wish, carry_out, changes},
    run::hear_signals,
    saved,
};
use crate::{
    apply::Allowed,
    plan::HostPlan,
    report::{self, text::count},
    rollout::record::Past,
};

/// Plans, shows the plan, asks, applies exactly it, and tells what came of it.
pub fn run(args: &Apply, terminal: &Terminal) -> Result<Exit, Wrong> {
    let can_ask = prompt::can_ask();
    if !can_ask && (!args.yes || args.rollout.ask) {
        let words = match args.yes {
            false => "apply asks before it changes anything, and this is no terminal: say --yes to go without",
            true => "--ask asks before each further batch, and this is no terminal",
        };
        return Err(Wrong::Words(words.into()));
    }
    let of = std::fs::canonicalize(&args.documents.hosts).unwrap_or_else(|_| args.documents.hosts.clone());
    let of = of.to_string_lossy().into_owned();
    let resumed = args.rollout.resume.as_ref().map(|run| resume(run, &of)).transpose()?;
    let left = resumed.as_ref().map(|(_, past)| past.left(args.rollout.retry_failed));
    let (session, plans) = saved::begin(args, left.as_ref(), terminal)?;
    let rules = args.rollout.over(session.rollout(), args.yes, resumed.as_ref().map(|(_, past)| &past.head.rules));
    let wish = Wish {
        allowed: Allowed { guest_visible: args.allow.contains(&Allow::GuestVisible) },
        wishes: args.wishes,
        confirm_within: args.confirm_timeout,
        rollback_on_failure: args.rollback_on_failure || session.rolls_back_on_failure(),
        retry_failed: args.rollout.retry_failed,
        events: args.events.clone(),
        profile: args.profile,
        ..Wish::new(of, rules, args.reach.parallel)
    };
    if !args.output.json {
        terminal.report(&report::plan::plan(&plans, terminal.look(&args.output)));
    }
    if !args.yes && !is_wanted(&plans)? {
        terminal.note("nothing was changed");
        return Ok(plans.iter().map(|plan| exit_of(plan, Exit::Clean)).fold(Exit::Clean, Exit::and));
    }
    hear_signals(&session.stop)?;
    carry_out(&session, &plans, &wish, resumed, &args.output, terminal)
}

/// Takes up a record.
fn resume(run: &Resume, of: &str) -> Result<(Record, Past), String> {
    let directory =
        record::directory().ok_or("there is no record of any run: neither XDG_STATE_HOME nor HOME is set")?;
    let run = match run {
        Resume::Last => None,
        Resume::Run(run) => Some(run),
    };
    Record::resume(&directory, run, of)
}

/// Asks whether what the plans change is to be done.
fn is_wanted(plans: &[HostPlan]) -> Result<bool, Wrong> {
    let steps: usize = plans.iter().map(changes).sum();
    if steps == 0 {
        return Ok(true);
    }
    let hosts = plans.iter().filter(|plan| changes(plan) > 0).count();
    let question = format!("\nApply {} on {}?", count(steps, "change"), count(hosts, "host"));
    prompt::confirm(&question).map_err(|error| Wrong::Words(format!("no answer could be read: {error}")))
}
