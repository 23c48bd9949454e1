//! Saved plans: made of a session, and what an apply begins with in the place of documents.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use rayon::prelude::*;

use super::{
    Terminal, Wrong,
    args::{Apply, Plan},
    run::by,
    session::{Hosts, Session},
};
use crate::{
    config::{LoadOptions, Project, data, fold, inventory::HostSpec},
    diag::{SourceMap, Span},
    plan::{
        HostPlan, HostResult,
        file::{About, Draft, PlanFile, PlanFileError, disk, sign},
    },
    report,
};

/// Saves the plans of all hosts of a session.
///
/// # Errors
/// Says why the file could not be written; what stood there stands there still.
#[expect(clippy::disallowed_methods, reason = "a saved plan says when it was made")]
pub fn save(path: &Path, args: &Plan, session: &Session, plans: &[HostPlan], terminal: &Terminal) -> Result<(), Wrong> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let absolute = |root: &Path| std::path::absolute(root).map(|root| root.display().to_string());
    let about = About {
        at: now.map_or(0, |now| now.as_secs()),
        by: by(),
        sources: session.project().digests(),
        root: session.root().map(absolute).transpose().map_err(|error| format!("--root: {error}"))?,
        retry_short: args.wishes.retry_short,
        inventory: data::to_data(session.project().reach()),
    };
    // Expanding is pure: with the facts of the plan it gives the declarations of the plan.
    let declared = |(spec, plan): (&Arc<HostSpec>, &HostPlan)| match &plan.result {
        HostResult::Planned(planned) => session
            .project()
            .expand(spec, &planned.facts.to_value())
            .map_err(|_| format!("{}: what was planned cannot be declared again", plan.host))
            .map(data::declarations),
        HostResult::Unreachable { .. } | HostResult::Failed { .. } => Ok(vec![]),
    };
    let declared: Vec<_> = session.hosts.par_iter().zip(plans).map(declared).collect::<Result<_, String>>()?;
    let mut draft = Draft::default();
    for (plan, declared) in plans.iter().zip(&declared) {
        draft.add(plan, declared);
    }
    let bytes = draft.finish(&about);
    let save = |path: &Path, bytes: &[u8]| {
        disk::save(path, bytes).map_err(|error| format!("cannot save the plan to `{}`: {error}", path.display()))
    };
    if let Some(key) = &args.sign {
        let signature = sign::sign(&bytes, key).map_err(|said| format!("--sign: the plan is not saved: {said}"))?;
        save(&sign::beside(path), &signature)?;
    }
    save(path, &bytes)?;
    terminal.note(&format!("saved to {0}; `vprov apply {0}` carries out exactly this", path.display()));
    Ok(())
}

/// Opens the session of an apply and returns the plans that it carries out: of the selected hosts, or of those that are left
/// of a rollout that is gone on with.
///
/// # Errors
/// What is wrong with the documents, the plan or the command line.
pub fn begin(
    args: &Apply,
    left: Option<&BTreeSet<&str>>,
    terminal: &Terminal,
) -> Result<(Session, Vec<HostPlan>), Wrong> {
    let path = &args.documents.hosts;
    if !disk::is_plan(path) {
        refuse_for_documents(args)?;
        let mut session = Session::open(&args.documents, &args.reach, Some(&args.running), terminal)?;
        keep_only(&mut session.hosts, left)?;
        let plans = session.plan(args.wishes);
        return Ok((session, plans));
    }
    refuse_options(args)?;
    let bytes = disk::load(path).map_err(|error| wrong(path, &error))?;
    let signer = match &args.require_signature {
        Some(allowed) => {
            let refuse = |words| Wrong::Words(format!("`{}`: {words}", path.display()));
            Some(sign::verify(path, &bytes, allowed).map_err(refuse)?)
        }
        None => None,
    };
    let file = PlanFile::parse(&bytes).map_err(|error| wrong(path, &error))?;
    drop(bytes);
    file.check_version().map_err(|error| wrong(path, &error))?;
    let (project, mut hosts) = select(path, &file, &args.documents.limit, terminal)?;
    keep_only(&mut hosts, left)?;
    if let Some(inventory) = &args.inventory {
        check_inventory(inventory, &hosts, terminal)?;
    }
    let plans = plans(path, &file, &hosts)?;
    if !args.allow_deferred {
        refuse_deferred(&plans)?;
    }
    if !args.output.json {
        terminal.report(&report::plan::origin(&file));
        if let Some(signer) = signer {
            terminal.report(&format!("Signed by {}\n", report::text::shown(&signer)));
        }
        terminal.report("\n");
    }
    let session = Session::new(project, hosts, Some(file), &args.reach, Some(&args.running))?;
    Ok((session, plans))
}

/// Leaves only the hosts that are left of a rollout: the others are not contacted.
fn keep_only(hosts: &mut Hosts, left: Option<&BTreeSet<&str>>) -> Result<(), Wrong> {
    let Some(left) = left else { return Ok(()) };
    hosts.retain(|host| left.contains(&*host.name));
    let found: BTreeSet<&str> = hosts.iter().map(|host| &*host.name).collect();
    match left.iter().find(|name| !found.contains(*name)) {
        Some(gone) => Err(format!("the host `{gone}` of the run is no longer in the inventory").into()),
        None => Ok(()),
    }
}

/// Reads a saved plan.
///
/// # Errors
/// Why the file is none.
pub fn read(path: &Path) -> Result<PlanFile, Wrong> {
    disk::load(path).and_then(|bytes| PlanFile::parse(&bytes)).map_err(|error| wrong(path, &error))
}

/// Selects hosts of a saved plan. The project has their connections and groups, and nothing that they should be.
///
/// # Errors
/// What is wrong with the selection.
pub fn select(path: &Path, file: &PlanFile, limit: &[String], terminal: &Terminal) -> Result<(Project, Hosts), Wrong> {
    let sources = Arc::new(SourceMap::new());
    let place = Span::new(sources.add(path.display().to_string(), ""), 0..0);
    let senseless = |error| wrong(path, &PlanFileError::Senseless(error));
    let inventory = data::from_data(&file.about.inventory, place).map_err(senseless)?;
    let project = Project::from_reach(inventory, &sources).map_err(|found| terminal.refuse(&found, &sources))?;
    let hosts: Hosts = match limit {
        [] => project.hosts().iter().filter(|host| file.has(&host.name)).cloned().collect(),
        limit => project.select("--limit", &limit.join(",")).map_err(|found| terminal.refuse(&found, &sources))?,
    };
    let others = fold::fold(hosts.iter().map(|host| &*host.name).filter(|host| !file.has(host))).join(",");
    if !others.is_empty() {
        return Err(format!("--limit: {others} of the inventory is not in this plan; plan anew").into());
    }
    Ok((project, hosts))
}

/// Returns the plans of hosts out of a saved plan.
///
/// # Errors
/// What is no plan in it.
pub fn plans(path: &Path, file: &PlanFile, hosts: &Hosts) -> Result<Vec<HostPlan>, Wrong> {
    let selected: BTreeSet<&str> = hosts.iter().map(|host| &*host.name).collect();
    let mut plans = file.plans().map_err(|error| wrong(path, &error))?;
    plans.retain(|plan| selected.contains(plan.host.as_str()));
    if plans.len() < hosts.len() || !plans.iter().zip(hosts).all(|(plan, spec)| plan.host == *spec.name) {
        return Err(wrong(path, &PlanFileError::Senseless("its hosts are not those of its inventory".into())));
    }
    Ok(plans)
}

fn wrong(path: &Path, error: &PlanFileError) -> Wrong {
    Wrong::Words(match error {
        PlanFileError::Unreadable { .. } => error.to_string(),
        error => format!("`{}`: {error}", path.display()),
    })
}

/// Refuses what would make another plan.
fn refuse_options(args: &Apply) -> Result<(), Wrong> {
    let options = [
        ("--set", !args.documents.set.is_empty()),
        ("--modules", !args.documents.modules.is_empty()),
        ("--root", args.reach.root.is_some()),
        ("--retry-short", args.wishes.retry_short),
        ("--prune", args.wishes.prune),
    ];
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            let words = "is for planning, and a saved plan is carried out as it is; give it to `vprov plan -o`";
            Err(format!("{option} {words}").into())
        }
        None => Ok(()),
    }
}

/// Refuses what is about saved plans alone.
fn refuse_for_documents(args: &Apply) -> Result<(), Wrong> {
    let options = [
        ("--require-signature", args.require_signature.is_some()),
        ("--inventory", args.inventory.is_some()),
        ("--allow-deferred", args.allow_deferred),
    ];
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(format!("{option} is for a plan that `vprov plan -o` saved").into()),
        None => Ok(()),
    }
}

/// Refuses hosts that an inventory has no more, or that it says to reach in another way than the plan.
fn check_inventory(path: &Path, hosts: &Hosts, terminal: &Terminal) -> Result<(), Wrong> {
    let sources = Arc::new(SourceMap::new());
    let (project, _) = Project::load_inventory(path, &LoadOptions::default(), &sources)
        .map_err(|found| terminal.refuse(&found, &sources))?;
    let now = |host: &Arc<HostSpec>| project.inventory().host(&host.name);
    let gone = |host: &&Arc<HostSpec>| now(host).is_none();
    let moved = |host: &&Arc<HostSpec>| {
        let reached = |host: &HostSpec| (host.address.clone(), host.connection(), host.ssh().clone());
        now(host).is_some_and(|now| reached(now) != reached(host))
    };
    let names = |hosts: Vec<&Arc<HostSpec>>| fold::fold(hosts.iter().map(|host| &*host.name)).join(",");
    let (gone, moved) = (names(hosts.iter().filter(gone).collect()), names(hosts.iter().filter(moved).collect()));
    let refuse =
        |words: String| Err(format!("the plan is for {words}; plan anew, or choose others with --limit").into());
    match (gone.as_str(), moved.as_str()) {
        ("", "") => Ok(()),
        ("", moved) => refuse(format!("{moved}, which `{}` says to reach in another way", path.display())),
        (gone, _) => refuse(format!("{gone}, which `{}` does not have any more", path.display())),
    }
}

/// Refuses plans that leave something to be decided on the way: nobody has seen what.
fn refuse_deferred(plans: &[HostPlan]) -> Result<(), Wrong> {
    let deferred = plans.iter().filter_map(|plan| match &plan.result {
        HostResult::Planned(planned) => planned.deferred().next().map(|(address, because, _)| (plan, address, because)),
        _ => None,
    });
    let deferred: Vec<_> = deferred.collect();
    let Some((plan, address, because)) = deferred.first() else { return Ok(()) };
    let others = match deferred.len() - 1 {
        0 => String::new(),
        n => format!(", and so on {n} more"),
    };
    let words = "say --allow-deferred if it may become what the plan lists";
    Err(format!("{}: {address} is decided only once {because} is there{others}; {words}", plan.host).into())
}
