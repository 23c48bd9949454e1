//! Comparing what was read with what is wanted: graph and observations to a plan, pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Change, FileChange, Planned, ResourcePlan, Verdict};
use crate::{
    address::Address,
    catalog::{Catalog, Entry},
    facts::Facts,
    graph::{Edge, Graph},
    host::{
        bytes::Bytes,
        ledger::{self, Ledger, Record},
        matcher::{Expectation, Matcher},
        observed::Observed,
        op::{Op, Source, Step},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Read},
        state::{Owed, Unfinished},
    },
    os::connection,
    resource::{Cannot, Difference, Disruption, Memory, Remark, Seen, state::Action},
};

/// Builds the plan of one host from what was read of it.
#[must_use]
pub fn build(
    catalog: &Catalog,
    graph: &Graph,
    facts: &Facts,
    offline: bool,
    observed: Observed,
    ledger: &Ledger,
) -> Planned {
    let interrupted = Unfinished::decode(Unfinished::reads().iter().map(|read| observed.get(read))).pop();
    let mut builder = Builder::new(graph, observed, ledger);
    for &at in &graph.order {
        builder.plan(at, catalog, facts, offline);
    }
    builder.drop_unsettled();
    Planned {
        facts: Box::new(facts.clone()),
        probes: builder.user_probes(),
        resources: builder.resources,
        uploaded: None,
        interrupted,
        orphaned: vec![],
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    /// What the host remembers.
    ledger: &'a Ledger,
    /// What was read, with the announced results of everything planned so far laid over it.
    world: Observed,
    resources: Vec<ResourcePlan>,
    /// Where in the plan an entry of the catalog stands.
    place: BTreeMap<usize, usize>,
    /// The changes of the plan that an entry of the catalog comes after, through any chain.
    after: BTreeMap<usize, BTreeSet<usize>>,
    /// The activations that an earlier run left due.
    owed: BTreeSet<String>,
}

impl<'a> Builder<'a> {
    fn new(graph: &'a Graph, mut world: Observed, ledger: &'a Ledger) -> Self {
        let owed = match world.get(&Owed::read()) {
            Some(Answer::Paths(paths)) => paths
                .iter()
                .filter_map(|(_, answer)| serde_json::from_slice::<Owed>(&answer.content()?.0).ok())
                .map(|owed| owed.activation)
                .collect(),
            _ => BTreeSet::new(),
        };
        if let Some(Answer::Paths(records)) = world.get(&Ledger::read()).cloned() {
            for (path, answer) in records {
                world.put(Read::entry(path), answer);
            }
        }
        Self { graph, ledger, world, resources: vec![], place: BTreeMap::new(), after: BTreeMap::new(), owed }
    }

    fn plan(&mut self, at: usize, catalog: &Catalog, facts: &Facts, offline: bool) {
        let entry = &catalog.entries[at];
        let seen = Seen { observed: &self.world, facts, offline };
        let comparison = entry.resource.compare(&seen);
        let sensitive = comparison.sensitive || entry.sensitive;
        let because = self.notifiers(at, &entry.address);
        let verdict = match (self.blocker(at), comparison.result) {
            (Some(by), _) => Verdict::Blocked { by: self.resources[by].address.clone() },
            (None, result) if let Some(deferred) = self.deferral(at, catalog, &result) => deferred,
            (None, Err(Cannot::Unknown(reason))) => Verdict::Unknown { reason },
            (None, Err(Cannot::Unsupported(reason))) => Verdict::Unsupported { reason },
            (None, Err(Cannot::Refused(reason))) => {
                Verdict::Failed { reason, preflight: entry.resource.is_preflight() }
            }
            (None, Ok(difference)) => {
                let refresh = if because.is_empty() { vec![] } else { entry.resource.refresh(&seen) };
                self.change(at, catalog, difference, (refresh, because), sensitive)
            }
        };
        if let Verdict::Change(change) = &verdict {
            self.world.announce(&change.steps);
        }
        let mut remarks = comparison.remarks;
        if !matches!(verdict, Verdict::Change(_) | Verdict::Converged) {
            // What the next boot will have is not known where nothing is changed for it.
            remarks.retain(|remark| matches!(remark, Remark::Warning { .. }));
        }
        self.place.insert(at, self.resources.len());
        self.resources.push(ResourcePlan {
            address: entry.address.clone(),
            verdict,
            remarks,
            from_facts: entry.from_facts.clone(),
            overridden: entry.overridden.clone(),
            restores: entry.restores.clone(),
            sensitive,
        });
    }

    /// Joins what a resource needs by itself with what it needs because others notify it.
    fn change(
        &mut self,
        at: usize,
        catalog: &Catalog,
        difference: Option<Difference>,
        (mut refresh, because): (Vec<Step>, Vec<String>),
        sensitive: bool,
    ) -> Verdict {
        let needs = self.needs(at);
        let restores = &catalog.entries[at].restores;
        if difference.is_none() && refresh.is_empty() && restores.is_empty() {
            self.after.insert(at, needs);
            return Verdict::Converged;
        }
        self.after.insert(at, BTreeSet::from([self.resources.len()]));
        if let Some(last) = refresh.last_mut() {
            last.settles.push(catalog.entries[at].address.to_string());
        }
        let refreshed = !refresh.is_empty();
        let (action, disturbs) = match refreshed {
            true => (Action::Refresh, Disruption::Service),
            false => (Action::Forget, Disruption::Nothing),
        };
        let by_others = Difference { action, fields: vec![], steps: vec![], disturbs, memories: vec![] };
        let Difference { action, fields, mut steps, mut disturbs, memories } = difference.unwrap_or(by_others);
        let owes: Vec<String> = self
            .graph
            .notified_by(at)
            .map(|target| catalog.entries[target].address.to_string())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        for step in steps.iter_mut().filter(|step| !matches!(step.op, Op::Stage { .. } | Op::Check(_))) {
            step.owes.extend(owes.iter().cloned());
        }
        if refreshed {
            disturbs = disturbs.max(Disruption::Service);
        }
        steps.append(&mut refresh);
        // What is remembered is so before anything is done, and forgotten after everything is.
        let mut steps: Vec<Step> =
            self.remember(&catalog.entries[at], memories, (&owes, sensitive)).into_iter().chain(steps).collect();
        for thing in restores {
            let path = ledger::place(thing);
            steps.push(self.keep(Op::Remove { path: path.clone() }, &path, Matcher::Absent));
        }
        Verdict::Change(Change {
            action,
            fields,
            needs: needs.into_iter().collect(),
            files: self.files(&steps),
            disturbs,
            connection: steps.iter().any(|step| connection::may_cut(&step.op)),
            reversible: steps.iter().all(|step| step.op.is_reversible()),
            because: if refreshed { because } else { vec![] },
            steps,
        })
    }

    /// Returns the steps that write into the ledger what a change leaves and what was there before, where that is new.
    fn remember(
        &mut self,
        entry: &Entry,
        memories: Vec<Memory>,
        (notifies, sensitive): (&[String], bool),
    ) -> Vec<Step> {
        // What only takes back is remembered nowhere else.
        if self.ledger.is_denied || (!entry.restores.is_empty() && entry.places.is_empty()) {
            return vec![];
        }
        let mut steps = vec![];
        for mut memory in memories.into_iter().filter(|memory| !entry.restores.contains(&memory.thing)) {
            if sensitive {
                memory.before.withhold();
            }
            let known = self.ledger.records.get(&memory.thing);
            if memory.only_if_known && known.is_none() {
                continue;
            }
            let address =
                known.map_or_else(|| Address::new(&entry.address.kind, &memory.thing), |known| known.address.clone());
            let before = known.map(|known| known.before.clone());
            let record = Record {
                format: ledger::FORMAT.into(),
                address,
                left: json!(memory.left),
                before: match before {
                    Some(known) if memory.by_attribute => joined(known, &json!(memory.before)),
                    Some(known) => known,
                    None => json!(memory.before),
                },
                notifies: notifies.iter().cloned().collect(),
                sensitive: sensitive || known.is_some_and(|known| known.sensitive),
            };
            if known == Some(&record) {
                continue;
            }
            let (path, content) = (ledger::place(&memory.thing), record.encode());
            let announced = Matcher::File { digest: content.digest(), mode: 0o600, uid: 0, gid: 0 };
            steps.push(self.keep(record.write(), &path, announced));
        }
        steps
    }

    /// Makes a step that keeps the ledger.
    fn keep(&mut self, op: Op, path: &AbsPath, announced: Matcher) -> Step {
        let read = Read::entry(path.clone());
        if self.world.get(&read).is_none() {
            self.world.put(read.clone(), Answer::Absent);
        }
        let seen = self.world.get(&read).unwrap_or(&Answer::Absent);
        let guard = Expectation::new(read.clone(), Matcher::same_as(seen));
        Step::new(op).guard(guard).after(Expectation::new(read, announced))
    }

    /// Returns the verdict of a resource that only makes sense once an opaque one before it is there: it lies within what that
    /// one provides, or it cannot be planned on the host as it is now.
    fn deferral(&self, at: usize, catalog: &Catalog, result: &Result<Option<Difference>, Cannot>) -> Option<Verdict> {
        let may = match result {
            Ok(Some(difference)) => difference.steps.iter().map(|step| step.op.describe()).collect(),
            Err(Cannot::Refused(_)) => catalog.entries[at].resource.may_become(),
            Ok(None) | Err(Cannot::Unknown(_) | Cannot::Unsupported(_)) => vec![],
        };
        let is_refused = result.is_err();
        let waits = |(before, edge): (usize, &Edge)| {
            let earlier = &self.resources[self.place[&before]];
            let opens = match &earlier.verdict {
                Verdict::Change(_) => catalog.entries[before].resource.is_opaque(),
                Verdict::Deferred { .. } => true,
                _ => false,
            };
            (opens && (is_refused || edge.place.is_none())).then(|| earlier.address.clone())
        };
        let because = self.graph.before(at).filter_map(waits).min()?;
        (!may.is_empty()).then_some(Verdict::Deferred { because, may })
    }

    /// Returns the place in the plan of a resource before this one that failed or is itself blocked.
    fn blocker(&self, at: usize) -> Option<usize> {
        let mut before: Vec<usize> = self.graph.before(at).map(|(before, _)| self.place[&before]).collect();
        before.sort_unstable();
        before
            .into_iter()
            .find(|place| matches!(self.resources[*place].verdict, Verdict::Failed { .. } | Verdict::Blocked { .. }))
    }

    /// Returns the changes that this resource comes after.
    fn needs(&self, at: usize) -> BTreeSet<usize> {
        self.graph.before(at).filter_map(|(before, _)| self.after.get(&before)).flatten().copied().collect()
    }

    /// Returns what makes a refresh of this resource due: changing resources that notify it, and a run that was cut.
    fn notifiers(&self, at: usize, address: &Address) -> Vec<String> {
        let mut because: BTreeSet<String> = self
            .graph
            .before(at)
            .filter(|(_, edge)| edge.notifies)
            .map(|(before, _)| &self.resources[self.place[&before]])
            .filter(|resource| matches!(resource.verdict, Verdict::Change(_)))
            .map(|resource| resource.address.to_string())
            .collect();
        // What a run left due is due whoever notified it, even if that declaration is gone.
        if self.owed.contains(&address.to_string()) {
            because.insert("an earlier run that did not end".into());
        }
        because.into_iter().collect()
    }

    /// Returns the contents of the files that the steps change.
    fn files(&self, steps: &[Step]) -> Vec<FileChange> {
        let mut staged: BTreeMap<&str, &Bytes> = BTreeMap::new();
        let mut files: Vec<FileChange> = vec![];
        for step in ledger::deeds(steps) {
            let (path, after): (&AbsPath, Option<Bytes>) = match &step.op {
                Op::Stage { name, source: Source::Content(content) } => {
                    staged.insert(name, content);
                    continue;
                }
                Op::Write { path, content, .. } => (path, Some(content.clone())),
                Op::Install { name, path, .. } => match staged.get(name.as_str()) {
                    Some(content) => (path, Some((*content).clone())),
                    None => continue,
                },
                Op::Remove { path } => (path, None),
                _ => continue,
            };
            let before = self.world.get(&Read::entry(path.clone())).and_then(Answer::content).cloned();
            if before.is_some() || after.is_some() {
                files.push(FileChange { path: path.clone(), before, after, withheld: None });
            }
        }
        files
    }

    /// Removes what is owed to resources that have nothing to refresh (a service that does not run): no step would settle it.
    /// What is owed to one that cannot be planned or is blocked stays due until it can.
    fn drop_unsettled(&mut self) {
        let waiting: BTreeSet<String> = self
            .resources
            .iter()
            .filter(|one| {
                matches!(one.verdict, Verdict::Blocked { .. } | Verdict::Failed { .. } | Verdict::Unknown { .. })
            })
            .map(|one| one.address.to_string())
            .collect();
        let mut steps: Vec<&mut Step> = self.resources.iter_mut().flat_map(ResourcePlan::steps_mut).collect();
        let settled: BTreeSet<String> = steps.iter().flat_map(|step| step.settles.iter().cloned()).collect();
        for step in &mut steps {
            step.owes.retain(|owed| settled.contains(owed) || waiting.contains(owed));
        }
    }

    fn user_probes(&self) -> Vec<String> {
        let probes = self.world.iter().filter_map(|(read, _)| match read {
            Read::Probe(Probe::User { argv }) => Some(argv.join(" ")),
            _ => None,
        });
        probes.collect()
    }
}

/// Adds to what was there before the attributes that were not managed then.
fn joined(mut known: Value, more: &Value) -> Value {
    if let (Some(known), Some(more)) = (known["params"].as_object_mut(), more["params"].as_object()) {
        for (name, value) in more {
            known.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog,
        config::declared::entries,
        diag::SourceMap,
        host::{
            fake::{FakeHost, World},
            run::RunId,
        },
        plan::host::{Circumstances, plan},
    };

    fn planned(world: &World, text: &str) -> Planned {
        let compile = |_: &Facts| {
            let catalog = catalog::build(entries(text, &SourceMap::new()))?;
            let graph = Graph::build(&catalog)?;
            Ok((catalog, graph))
        };
        let mut host = FakeHost::new(world.clone());
        plan(&mut host, &compile, Circumstances::default(), &mut |_| ()).unwrap()
    }

    /// Says what is done to each resource, why, and what its steps owe and settle.
    fn shown(planned: &Planned) -> Vec<String> {
        let one = |resource: &ResourcePlan| {
            let what = match &resource.verdict {
                Verdict::Converged => "converged".into(),
                Verdict::Blocked { by } => format!("blocked by {by}"),
                Verdict::Failed { .. } => "failed".into(),
                Verdict::Change(change) => {
                    let mut words = format!("{:?}", change.action).to_lowercase();
                    for because in &change.because {
                        words += &format!(" because of {because}");
                    }
                    for step in &change.steps {
                        words += &step.owes.iter().map(|owed| format!(" owes {owed}")).collect::<String>();
                        words += &step.settles.iter().map(|owed| format!(" settles {owed}")).collect::<String>();
                    }
                    words
                }
                other => format!("{other:?}"),
            };
            format!("{}: {what}", resource.address)
        };
        planned.resources.iter().map(one).collect()
    }

    fn with_demo(active: bool) -> World {
        let mut world = World::new();
        world.make_directories(&AbsPath::known("/run/systemd/system"));
        world.unit("demo.service", true, active).file("/etc/app", "old");
        world
    }

    const NOTIFYING: &str = "- file: {path: /etc/app, content: new}\n  notify: [demo]\n\
                             - service: {name: demo}\n  name: demo\n";

    #[test]
    fn what_depends_on_a_failed_resource_is_blocked_and_nothing_else() {
        let mut world = World::new();
        world.link("/etc/a", "elsewhere");
        let text = "- file: {path: /etc/a, content: x}\n  name: a\n\
                    - file: {path: /etc/b, content: x}\n  name: b\n  requires: [a]\n\
                    - file: {path: /etc/c, content: x}\n  requires: [b]\n\
                    - file: {path: /etc/d, content: x}\n";
        assert_eq!(
            shown(&planned(&world, text)),
            [
                "file[/etc/a]: failed",
                "file[/etc/b]: blocked by file[/etc/a]",
                "file[/etc/c]: blocked by file[/etc/b]",
                "file[/etc/d]: create",
            ]
        );
    }

    #[test]
    fn a_notified_service_is_refreshed_once_after_its_notifiers() {
        let text = format!("{NOTIFYING}- file: {{path: /etc/more, content: x}}\n  notify: [demo]\n");
        let plan = planned(&with_demo(true), &text);
        assert_eq!(
            shown(&plan),
            [
                "file[/etc/app]: update owes service[demo.service]",
                "file[/etc/more]: create owes service[demo.service]",
                "service[demo.service]: refresh because of file[/etc/app] because of file[/etc/more] settles service[demo.service]",
            ]
        );
        let run = plan.run(RunId::new(0, 1), "t".into());
        assert_eq!(run.works[2].needs, [0, 1]);
        // What does not run reads the new configuration when it starts, so nothing is due.
        assert_eq!(
            shown(&planned(&with_demo(false), NOTIFYING)),
            ["file[/etc/app]: update", "service[demo.service]: converged"]
        );
        let mut same = with_demo(true);
        same.file("/etc/app", "new");
        assert_eq!(
            shown(&planned(&same, NOTIFYING)),
            ["file[/etc/app]: converged", "service[demo.service]: converged"]
        );
    }

    #[test]
    fn what_an_earlier_run_left_due_is_done_now() {
        let mut world = with_demo(true);
        let activation = "service[demo.service]".to_string();
        let owed = serde_json::to_string(&Owed { activation: activation.clone(), run: RunId::new(0, 1) }).unwrap();
        world.file(Owed::path(&activation).as_str(), owed);
        let settles = "refresh because of an earlier run that did not end settles service[demo.service]";
        assert_eq!(shown(&planned(&world, "- service: {name: demo}\n")), [format!("service[demo.service]: {settles}")]);
    }

    #[test]
    fn what_is_due_to_a_blocked_service_stays_due() {
        let mut world = with_demo(true);
        world.link("/etc/broken", "elsewhere");
        let text = format!("{NOTIFYING}- file: {{path: /etc/broken, content: x}}\n  notify: [demo]\n");
        assert_eq!(
            shown(&planned(&world, &text)),
            [
                "file[/etc/app]: update owes service[demo.service]",
                "file[/etc/broken]: failed",
                "service[demo.service]: blocked by file[/etc/broken]",
            ]
        );
    }

    #[test]
    fn the_files_of_a_plan_are_what_its_steps_write() {
        let mut world = World::new();
        world.file("/etc/old", "old\n");
        let text = "- file: {path: /etc/old, content: new, validate: [judge, \"{}\"]}\n- file: {path: /etc/new, content: x}\n\
                    - directory: {path: /etc/dir}\n";
        let plan = planned(&world, text);
        let files: Vec<_> = plan.changes().flat_map(|(_, change)| change.files.clone()).collect();
        let change = |path: &str, before: Option<&str>, after: &str| FileChange {
            path: AbsPath::known(path),
            before: before.map(Bytes::from),
            after: Some(after.into()),
            withheld: None,
        };
        assert_eq!(files, [change("/etc/new", None, "x"), change("/etc/old", Some("old\n"), "new")]);
    }
}
