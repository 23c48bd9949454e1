//! Stage 7: carrying a plan out on one host, and reading everything once more.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    event::Happened,
    host::{
        Host, HostError, ledger,
        read::{Answer, Read},
        run::{Applied, Moved, Outcome, RolledBack, Run, RunId, StepEvent, Work},
        state::UNCONFIRMED,
        undo::{TakeBack, TookBack},
    },
    plan::{
        Change, Planned, ResourcePlan, Verdict,
        host::{Circumstances, Compile, PlanError, plan},
    },
    resource::{Disruption, Remark, state::Field},
};

/// What came of applying a plan on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostApplied {
    /// The host's name in the inventory.
    pub host: String,
    /// What came of it.
    pub result: ApplyResult,
    /// How many of its resources could not be planned (failed, blocked, unknown); nothing was done about them.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub not_planned: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What came of applying a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status", deny_unknown_fields)]
pub enum ApplyResult {
    /// The plan was empty; the host was not touched.
    Nothing,
    /// vprov was told to stop before this host's turn; it was not touched.
    NotStarted,
    /// The run went through.
    Ran(Box<Ran>),
    /// The host is not as the plan saw it; it was not touched.
    Stale {
        /// Every guard that does not hold.
        moved: Vec<Moved>,
    },
    /// Another run holds the host's lock; it was not touched.
    Locked {
        /// Who, and since when.
        holder: String,
    },
    /// Nothing was done, for this reason.
    Refused {
        /// Why.
        error: String,
    },
    /// The host was not reached, or was lost while the run went on.
    Unreachable {
        /// Why.
        error: String,
    },
}

/// A run that went through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ran {
    /// Its name, under which the host keeps its journal.
    pub run: RunId,
    /// The second run, which made what the plan had deferred; it has a journal of its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deferred: Option<RunId>,
    /// What came of each resource that the plan changes.
    pub outcomes: Vec<ResourceOutcome>,
    /// What everything looks like when it is read once more.
    pub left: Vec<Left>,
    /// What a person must know afterwards: reboots that are pending, what fell short.
    pub remarks: Vec<ResourceRemark>,
    /// Why the host could not be read once more, if it could not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unverified: Option<String>,
    /// The health checks that did not hold after the change.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unwell: Vec<String>,
    /// What came of taking the run back because it failed, where that was wished, or because it was not confirmed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub taken_back: Option<TakenBack>,
    /// Over which connection the run was confirmed that may cut the host off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confirmation: Option<Confirmation>,
}

/// What came of confirming a run that may cut the host off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", deny_unknown_fields)]
pub enum Confirmation {
    /// The host was reached over a new connection, so the run stays.
    Confirmed,
    /// It was not, so the host takes the run back by itself.
    Missed {
        /// Why it was not reached.
        error: String,
    },
}

/// How a run is confirmed that may cut the host off.
pub struct Confirm<'a> {
    /// How many seconds after the end of the run the host waits.
    pub within: u32,
    /// Confirms a run over a new connection.
    pub anew: &'a dyn Fn(&RunId) -> Result<(), HostError>,
}

/// What came of taking a run back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result", deny_unknown_fields)]
pub enum TakenBack {
    /// It was taken back, as far as it could be.
    Done(RolledBack),
    /// It was not.
    Failed {
        /// Why.
        error: String,
    },
}

/// What a person must know of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRemark {
    /// The resource.
    pub address: Address,
    /// What is to be known.
    pub remark: Remark,
    /// Its values are secret: no report shows them unless it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

/// What came of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceOutcome {
    /// The resource.
    pub address: Address,
    /// What came of it.
    pub outcome: Outcome,
    /// Its values are secret: no report shows what was said unless it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

/// A resource that is still not as it should be when everything is read once more, although no step failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// The resource.
    pub address: Address,
    /// The attributes that differ: what they are, and what they should be.
    pub fields: Vec<Field>,
    /// The likely cause.
    pub cause: String,
    /// Its values are secret: no report shows them unless it was asked to.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub sensitive: bool,
}

impl Ran {
    /// Tells whether a step failed, or the host is not well after all. A run that was told to stop did not fail.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        !self.unwell.is_empty() || self.outcomes.iter().any(|one| matches!(one.outcome, Outcome::Failed { .. }))
    }

    /// Tells whether the run was told to stop before its end.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        let stopped = |outcome: &Outcome| matches!(outcome, Outcome::Interrupted { .. } | Outcome::NotStarted);
        self.outcomes.iter().any(|one| stopped(&one.outcome))
    }

    /// Tells whether every resource is as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let fine = |outcome: &Outcome| matches!(outcome, Outcome::Done { .. } | Outcome::Short { .. });
        let missed = matches!(self.confirmation, Some(Confirmation::Missed { .. }));
        let is_well = self.left.is_empty() && self.unverified.is_none() && self.unwell.is_empty() && !missed;
        is_well && self.outcomes.iter().all(|one| fine(&one.outcome))
    }
}

/// What a person allowed beyond the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Changes that guests feel.
    pub guest_visible: bool,
}

/// Returns why a plan is not applied at all, if it is not.
#[must_use]
pub fn refusal(planned: &Planned, allowed: Allowed) -> Option<String> {
    if let Some((address, reason)) = planned.preflight_failures().next() {
        return Some(format!("{address} failed, so nothing is applied here: {reason}"));
    }
    let felt: Vec<String> = planned
        .changes()
        .filter(|(_, change)| change.disturbs == Disruption::Guests)
        .map(|(resource, _)| resource.address.to_string())
        .collect();
    let refused = !felt.is_empty() && !allowed.guest_visible;
    refused.then(|| format!("guests would feel {}; say `--allow guest-visible` if they may", felt.join(", ")))
}

/// Carries a plan out, decides what it deferred, and reads everything once more.
///
/// `runs` makes the names of runs, each another one. With `confirm`, a run that may cut the host off is confirmed over a new
/// connection, or the host takes it back.
#[must_use]
pub fn apply(
    host: &mut dyn Host,
    planned: &Planned,
    (runs, by): (&mut dyn FnMut() -> RunId, &str),
    compile: &Compile,
    circumstances: Circumstances,
    confirm: Option<&Confirm>,
    on: &mut dyn FnMut(Happened),
) -> ApplyResult {
    let within = |planned: &Planned, run: &Run| {
        let may_cut = |(resource, change): (&ResourcePlan, &Change)| {
            change.connection && run.works.iter().any(|work| work.address == resource.address)
        };
        planned.changes().any(may_cut).then_some(confirm?.within)
    };
    let mut run = planned.run(runs(), by.into());
    run.confirm_within = within(planned, &run);
    // A run without works makes up for one that was interrupted.
    if run.works.is_empty() && planned.interrupted.is_none() {
        return ApplyResult::Nothing;
    }
    let mut outcomes = match carry_out(host, &run, on) {
        Ok(outcomes) => outcomes,
        Err(result) => return *result,
    };
    let mut confirmation = confirmed(host, &run, confirm);
    if let Some(Confirmation::Missed { .. }) = &confirmation {
        let taken_back = Some(taken_back_by_itself(host, &run.id));
        let (left, remarks) = (vec![], vec![]);
        return ApplyResult::Ran(Box::new(Ran {
            run: run.id,
            deferred: None,
            outcomes,
            left,
            remarks,
            unverified: None,
            unwell: vec![],
            taken_back,
            confirmation,
        }));
    }
    let mut after = plan(host, compile, circumstances, &mut |_| ());
    let mut deferred = None;
    if let Ok(seen) = &after
        && planned.deferred().next().is_some()
    {
        let blocked = blocked(planned, &outcomes);
        let is_wanted = |address: &Address, change: &Change| {
            is_announced(planned, address, change) && !blocked.iter().any(|one| one.address == *address)
        };
        let mut second = seen.run_of(runs(), by.into(), is_wanted);
        second.confirm_within = within(seen, &second);
        outcomes.extend(blocked);
        if !second.works.is_empty() {
            // What the first run did stands and must be told; that a second did not begin is told by what is left.
            if let Ok(more) = carry_out(host, &second, on) {
                outcomes.extend(more);
                confirmation = confirmed(host, &second, confirm).or(confirmation);
            }
            deferred = Some(second.id);
            after = plan(host, compile, circumstances, &mut |_| ());
        }
    }
    let (left, remarks, unverified) = match after {
        Ok(after) => (left(planned, &after, &outcomes), pending(&after), None),
        Err(PlanError::Host(error)) => (vec![], vec![], Some(error.to_string())),
        Err(PlanError::Documents(_)) => {
            (vec![], vec![], Some("the documents make no sense with the facts that the host has now".into()))
        }
    };
    ApplyResult::Ran(Box::new(Ran {
        run: run.id,
        deferred,
        outcomes,
        left,
        remarks,
        unverified,
        unwell: vec![],
        taken_back: None,
        confirmation,
    }))
}

/// Confirms a run if it waits for that.
fn confirmed(host: &mut dyn Host, run: &Run, confirm: Option<&Confirm>) -> Option<Confirmation> {
    run.confirm_within?;
    let confirm = confirm?;
    // A run that did nothing waits for nothing.
    let waits = Read::exists(run.id.place(UNCONFIRMED));
    if matches!(host.read(&[waits]).as_deref(), Ok([Answer::Absent])) {
        return None;
    }
    Some(match (confirm.anew)(&run.id) {
        Ok(()) => Confirmation::Confirmed,
        Err(error) => Confirmation::Missed { error: error.to_string() },
    })
}

/// How often it is looked whether the host has taken a run back, and the pause between two looks.
const LOOKS: (usize, Duration) = (150, Duration::from_millis(200));

/// Waits, over the connection that still stands, for the host to take a run back.
fn taken_back_by_itself(host: &mut dyn Host, run: &RunId) -> TakenBack {
    let marker = Read::content(run.place("taken-back"));
    for _ in 0..LOOKS.0 {
        let answers = match host.read(std::slice::from_ref(&marker)) {
            Ok(answers) => answers,
            Err(error) => {
                return TakenBack::Failed { error: format!("the host takes it back by itself, unseen: {error}") };
            }
        };
        if let Some(by) = answers.first().and_then(Answer::text).and_then(|text| text.trim().parse().ok()) {
            let undone = vec!["the host took it back by itself".into()];
            return TakenBack::Done(RolledBack { undone, run: Some(by), ..RolledBack::default() });
        }
        std::thread::sleep(LOOKS.1);
    }
    TakenBack::Failed { error: "the host did not say that it took it back".into() }
}

fn carry_out(
    host: &mut dyn Host,
    run: &Run,
    on: &mut dyn FnMut(Happened),
) -> Result<Vec<ResourceOutcome>, Box<ApplyResult>> {
    let mut tell = |event: &StepEvent| {
        if let Some(happened) = told(run, event) {
            on(happened);
        }
    };
    let outcomes = match host.apply(run, &mut tell) {
        Ok(Applied::Ran { outcomes }) => outcomes,
        Ok(Applied::Stale { moved }) => return Err(Box::new(ApplyResult::Stale { moved })),
        Ok(Applied::Locked { holder }) => return Err(Box::new(ApplyResult::Locked { holder })),
        Ok(Applied::Refused { error }) => return Err(Box::new(ApplyResult::Refused { error })),
        Err(HostError::Unreachable(error)) => return Err(Box::new(ApplyResult::Unreachable { error })),
        Err(error) => return Err(Box::new(ApplyResult::Refused { error: error.to_string() })),
    };
    let named = run.works.iter().zip(outcomes);
    let of = |(work, outcome): (&Work, Outcome)| ResourceOutcome {
        address: work.address.clone(),
        outcome,
        sensitive: work.sensitive,
    };
    Ok(named.map(of).collect())
}

/// Returns what is told of an event of a run, by names and without what may be secret: whoever shows progress does not ask.
fn told(run: &Run, event: &StepEvent) -> Option<Happened> {
    match event {
        StepEvent::Started { work, step } => {
            let work = run.works.get(*work)?;
            let action = work.describe(work.steps.get(*step)?);
            Some(Happened::Step { address: work.address.clone(), action })
        }
        StepEvent::Ended { work, outcome } => {
            let work = run.works.get(*work)?;
            let outcome = if work.sensitive { outcome.clone().hidden() } else { outcome.clone() };
            Some(Happened::Resource { address: work.address.clone(), outcome })
        }
        StepEvent::Done { .. } => None,
    }
}

/// Tells whether a change is one that the plan deferred, and does no more than it announced.
fn is_announced(planned: &Planned, address: &Address, change: &Change) -> bool {
    planned.deferred().any(|(deferred, _, may)| {
        deferred == address && ledger::deeds(&change.steps).all(|step| may.contains(&step.op.describe()))
    })
}

/// Returns the outcome of what was deferred until something that then failed.
fn blocked(planned: &Planned, outcomes: &[ResourceOutcome]) -> Vec<ResourceOutcome> {
    let failed = |because: &Address| {
        outcomes.iter().position(|one| one.address == *because && !matches!(one.outcome, Outcome::Done { .. }))
    };
    planned
        .deferred()
        .filter_map(|(address, because, _)| {
            let by = failed(because)?;
            Some(ResourceOutcome { address: address.clone(), outcome: Outcome::Blocked { by }, sensitive: false })
        })
        .collect()
}

/// Takes back what failed, the run of what was deferred first, as far as nobody changed anything since.
#[must_use]
pub fn take_back(host: &mut dyn Host, ran: &Ran, (runs, by): (&mut dyn FnMut() -> RunId, &str)) -> TakenBack {
    let mut all = RolledBack::default();
    for run in ran.deferred.iter().chain([&ran.run]) {
        let what = TakeBack { id: Some(runs()), by: by.into(), ..TakeBack::of(run) };
        match host.undo(&what).and_then(TookBack::done) {
            Ok(done) => {
                all.undone.extend(done.undone);
                all.left.extend(done.left);
                all.interrupted |= done.interrupted;
                all.run = done.run.or(all.run);
            }
            // A run that failed before it changed anything has no journal.
            Err(HostError::Refused(words)) if words == format!("there is no run `{run}`") => {}
            Err(error) => return TakenBack::Failed { error: error.to_string() },
        }
    }
    TakenBack::Done(all)
}

/// Returns what is not as it should be although nothing failed, an `assert` that held before included.
fn left(planned: &Planned, after: &Planned, outcomes: &[ResourceOutcome]) -> Vec<Left> {
    let failed = |address: &Address| {
        outcomes.iter().any(|one| one.address == *address && !matches!(one.outcome, Outcome::Done { .. }))
    };
    let is_failed =
        |resource: &&ResourcePlan| matches!(resource.verdict, Verdict::Failed { .. } | Verdict::Blocked { .. });
    let failed_before: Vec<&Address> =
        planned.resources.iter().filter(is_failed).map(|resource| &resource.address).collect();
    after
        .resources
        .iter()
        .filter(|resource| !failed(&resource.address))
        .filter_map(|resource| {
            let (fields, cause) = match &resource.verdict {
                Verdict::Change(change) => (change.fields.clone(), cause(&resource.remarks, change.because.is_empty())),
                Verdict::Failed { reason, .. } => (vec![], reason.clone()),
                _ => return None,
            };
            // What failed before the run and still does was told by the plan.
            let known =
                matches!(resource.verdict, Verdict::Failed { .. }) && failed_before.contains(&&resource.address);
            (!known).then(|| Left { address: resource.address.clone(), fields, cause, sensitive: resource.sensitive })
        })
        .collect()
}

/// Says why a value may have changed back: what the resource itself knows of others that write it, else the obvious.
fn cause(remarks: &[Remark], by_itself: bool) -> String {
    let told = remarks.iter().find_map(|remark| match remark {
        Remark::Warning { text, .. } => Some(text.clone()),
        _ => None,
    });
    told.unwrap_or_else(|| {
        if by_itself {
            "another program wrote it after vprov did, or the system does not keep it".into()
        } else {
            "an activation is still due".into()
        }
    })
}

fn pending(after: &Planned) -> Vec<ResourceRemark> {
    let of = |resource: &ResourcePlan| {
        let told = resource.remarks.iter().filter(|remark| !matches!(remark, Remark::Warning { .. })).cloned();
        let sensitive = resource.sensitive;
        told.map(|remark| ResourceRemark { address: resource.address.clone(), remark, sensitive }).collect::<Vec<_>>()
    };
    after.resources.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog,
        config::{
            declared::{Declared, Level},
            yaml,
        },
        diag::SourceMap,
        facts::Facts,
        graph::Graph,
        host::fake::{FakeHost, World},
        plan::host::Compile,
    };

    /// Makes a catalog of entries `KIND: {…}`, all at one level.
    fn declared(entries: &[&str]) -> Vec<Declared> {
        let sources = SourceMap::new();
        let one = |text: &&str| {
            let node = yaml::read("t.yaml", text, &sources).unwrap();
            let (kind, params) = node.as_map().unwrap().iter().next().unwrap();
            Declared {
                kind: kind.text.to_string(),
                kind_span: kind.span,
                params: params.clone(),
                labels: vec![],
                requires: vec![],
                notify: vec![],
                overrides: false,
                sensitive: false,
                level: Level::Playbook,
                origin: vec![kind.span],
                place: kind.span,
            }
        };
        entries.iter().map(one).collect()
    }

    #[test]
    fn what_lies_in_something_opaque_is_decided_once_that_is_there() {
        let entries = [
            "command: {argv: [unpack], creates: /srv/app}",
            "file: {path: /srv/app/config, content: \"a=1\\n\"}",
            "file: {path: /etc/other, content: x}",
        ];
        let compile = |_: &Facts| {
            let catalog = catalog::build(declared(&entries))?;
            let graph = Graph::build(&catalog)?;
            Ok((catalog, graph))
        };
        let compile: &Compile = &compile;
        let world = World::new();
        let mut host = FakeHost::new(world).with_program("unpack", |world, _| {
            world.file("/srv/app/config", "a=0\n");
            "".into()
        });
        let planned = plan(&mut host, compile, Circumstances::default(), &mut |_| ()).unwrap();
        let deferred: Vec<_> = planned
            .deferred()
            .map(|(address, because, may)| (address.to_string(), because.to_string(), may.to_vec()))
            .collect();
        let may: Vec<String> = deferred.iter().flat_map(|(_, _, may)| may.clone()).collect();
        assert_eq!(deferred.len(), 1, "{planned:#?}");
        assert_eq!((deferred[0].0.as_str(), deferred[0].1.as_str()), ("file[/srv/app/config]", "command[unpack]"));
        assert!(may.contains(&"write /srv/app/config".to_string()), "{may:?}");
        let mut number = 0;
        let mut runs = || {
            number += 1;
            RunId::new(0, number)
        };
        let result = apply(&mut host, &planned, (&mut runs, "t"), compile, Circumstances::default(), None, &mut |_| ());
        let ApplyResult::Ran(ran) = result else { panic!("{result:?}") };
        assert!(ran.is_clean(), "{ran:#?}");
        assert_eq!(ran.outcomes.len(), 3);
        assert_eq!(ran.deferred, Some(RunId::new(0, 2)));
        assert_eq!(host.world.text("/srv/app/config").as_deref(), Some("a=1\n"));
    }

    fn run(host: &mut FakeHost, text: &str) -> (Planned, ApplyResult) {
        let compile = |_: &Facts| {
            let catalog = catalog::build(crate::config::declared::entries(text, &SourceMap::new()))?;
            let graph = Graph::build(&catalog)?;
            Ok((catalog, graph))
        };
        let planned = plan(host, &compile, Circumstances::default(), &mut |_| ()).unwrap();
        let mut runs = || RunId::new(0, 1);
        let result = apply(host, &planned, (&mut runs, "t"), &compile, Circumstances::default(), None, &mut |_| ());
        (planned, result)
    }

    #[test]
    fn a_value_that_somebody_wrote_back_is_left_with_the_likely_cause() {
        let mut world = World::new();
        world.value("/sys/demo", crate::host::fake::Live::integer(1, 0, 9));
        let mut host = FakeHost::new(world).with_program("meddle", |world, _| {
            world.value("/sys/demo", crate::host::fake::Live::integer(5, 0, 9)).file("/srv/meddled", "");
            "".into()
        });
        let text = "- kernel_value: {path: /sys/demo, value: 2}\n  name: value\n\
                    - command: {argv: [meddle], creates: /srv/meddled}\n  requires: [value]\n";
        let (_, result) = run(&mut host, text);
        let ApplyResult::Ran(ran) = result else { panic!("{result:?}") };
        assert!(!ran.is_clean());
        assert_eq!(ran.left.len(), 1, "{:?}", ran.left);
        let left = &ran.left[0];
        assert_eq!(left.address.to_string(), "kernel_value[/sys/demo]");
        assert!(left.cause.contains("another program wrote it"), "{}", left.cause);
        assert_eq!(left.fields[0].before, serde_json::json!("5"));
    }

    #[test]
    fn what_failed_is_an_outcome_and_not_left() {
        let mut host = FakeHost::new(World::new());
        let (_, result) = run(&mut host, "- command: {argv: [nothing], creates: /srv/a}\n");
        let ApplyResult::Ran(ran) = result else { panic!("{result:?}") };
        assert!(matches!(&ran.outcomes[0].outcome, Outcome::Failed { step: 0, .. }), "{ran:?}");
        assert!(ran.left.is_empty() && !ran.is_clean());
    }

    #[test]
    fn what_guests_feel_and_what_does_not_hold_is_refused() {
        let mut world = World::new();
        world.make_directories(&crate::host::path::AbsPath::known("/run/systemd/system"));
        world.unit("libvirt-guests.service", true, true);
        let planned = |text: &str| run(&mut FakeHost::new(world.clone()), text).0;
        let felt = planned("- service: {name: libvirt-guests, running: false}\n");
        let words = refusal(&felt, Allowed::default()).unwrap();
        assert!(
            words.contains("service[libvirt-guests.service]") && words.contains("--allow guest-visible"),
            "{words}"
        );
        assert_eq!(refusal(&felt, Allowed { guest_visible: true }), None);
        let unmet = planned("- assert: {that: false, message: no KVM}\n- file: {path: /etc/a, content: x}\n");
        let words = refusal(&unmet, Allowed { guest_visible: true }).unwrap();
        assert!(words.contains("assert[no KVM] failed, so nothing is applied here"), "{words}");
    }

    #[test]
    fn a_host_that_is_held_or_moved_is_not_touched() {
        let mut host = FakeHost::new(World::new());
        host.lock = Some("somebody".into());
        let before = host.world.clone();
        let (_, result) = run(&mut host, "- file: {path: /etc/a, content: x}\n");
        assert_eq!(result, ApplyResult::Locked { holder: "somebody".into() });
        assert_eq!(host.world, before);
        host.lock = None;
        assert_eq!(run(&mut host, "- file: {path: /etc/a, ensure: absent}\n").1, ApplyResult::Nothing);
    }
}
