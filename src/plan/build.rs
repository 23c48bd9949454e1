//! Comparing what was read with what is wanted: graph and observations to a plan, pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, FileChange, Planned, ResourcePlan, Verdict};
use crate::{
    address::Address,
    catalog::Catalog,
    facts::Facts,
    graph::{Edge, Graph},
    host::{
        bytes::Bytes,
        observed::Observed,
        op::{Op, Source, Step},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Read},
        state::{Owed, Unfinished},
    },
    resource::{Cannot, Difference, Disruption, Remark, Seen, state::Action},
};

/// Builds the plan of one host from what was read of it.
#[must_use]
pub fn build(catalog: &Catalog, graph: &Graph, facts: &Facts, offline: bool, observed: Observed) -> Planned {
    let interrupted = Unfinished::decode(Unfinished::reads().iter().map(|read| observed.get(read))).pop();
    let mut builder = Builder::new(graph, observed);
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
    }
}

struct Builder<'a> {
    graph: &'a Graph,
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
    fn new(graph: &'a Graph, world: Observed) -> Self {
        let owed = match world.get(&Owed::read()) {
            Some(Answer::Paths(paths)) => paths
                .iter()
                .filter_map(|(_, answer)| serde_json::from_slice::<Owed>(&answer.content()?.0).ok())
                .map(|owed| owed.activation)
                .collect(),
            _ => BTreeSet::new(),
        };
        Self { graph, world, resources: vec![], place: BTreeMap::new(), after: BTreeMap::new(), owed }
    }

    fn plan(&mut self, at: usize, catalog: &Catalog, facts: &Facts, offline: bool) {
        let entry = &catalog.entries[at];
        let seen = Seen { observed: &self.world, facts, offline };
        let comparison = entry.resource.compare(&seen);
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
                self.change(at, catalog, difference, refresh, because)
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
            sensitive: comparison.sensitive || entry.sensitive,
        });
    }

    /// Joins what a resource needs by itself with what it needs because others notify it.
    fn change(
        &mut self,
        at: usize,
        catalog: &Catalog,
        difference: Option<Difference>,
        mut refresh: Vec<Step>,
        because: Vec<String>,
    ) -> Verdict {
        let needs = self.needs(at);
        if difference.is_none() && refresh.is_empty() {
            self.after.insert(at, needs);
            return Verdict::Converged;
        }
        self.after.insert(at, BTreeSet::from([self.resources.len()]));
        if let Some(last) = refresh.last_mut() {
            last.settles.push(catalog.entries[at].address.to_string());
        }
        let refreshed = !refresh.is_empty();
        let refresh_only =
            Difference { action: Action::Refresh, fields: vec![], steps: vec![], disturbs: Disruption::Service };
        let Difference { action, fields, mut steps, mut disturbs } = difference.unwrap_or(refresh_only);
        let owes: Vec<String> = self
            .graph
            .notified_by(at)
            .map(|target| catalog.entries[target].address.to_string())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        for step in steps.iter_mut().filter(|step| !matches!(step.op, Op::Stage { .. } | Op::Check(_))) {
            step.owes.clone_from(&owes);
        }
        if refreshed {
            disturbs = disturbs.max(Disruption::Service);
        }
        steps.append(&mut refresh);
        Verdict::Change(Change {
            action,
            fields,
            needs: needs.into_iter().collect(),
            files: self.files(&steps),
            disturbs,
            reversible: steps.iter().all(|step| step.op.is_reversible()),
            because: if refreshed { because } else { vec![] },
            steps,
        })
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
        for step in steps {
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
