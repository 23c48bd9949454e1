//! The laws: what holds for every kind, whatever the host and whatever is declared for it.
//!
//! Each kind has a generator of declarations and hosts in [`worlds`]; the tests below carry them through the real pipeline
//! (types, catalog, graph, plan, apply) on a host in memory. Runs are the same each time; `PROPTEST_CASES` tries more.

mod worlds;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{RngSeed, TestError, TestRunner},
};
use worlds::{Case, Entry, KEPT, SHARED, host};

use crate::{
    address::Address,
    apply::{self, Allowed, ApplyResult, Ran},
    catalog::{self, Catalog},
    config::{
        data,
        declared::{Declared, Level},
        yaml,
    },
    diag::{Diagnostics, SourceMap},
    facts::Facts,
    graph::Graph,
    host::{
        Host, HostError,
        exec::{LocalHost, Settings},
        fake::{Defect, FakeHost, Live, Node, World},
        ledger::Ledger,
        matcher::{Expectation, Matcher},
        op::{Op, Owner, Step},
        path::AbsPath,
        read::{Answer, Read},
        run::{Applied, Outcome, RolledBack, Run, RunId, StepEvent},
        state::Owed,
    },
    plan::{
        HostPlan, HostResult, Planned, ResourcePlan, Verdict,
        file::{About, Draft, PlanFile},
        host::{Circumstances, PlanError, plan},
        orphans::{Orphan, Standing},
    },
    resource::{KINDS, state::Action},
    transport::wire::{self, Request, Response},
};

/// What a kind was seen to do.
#[derive(Clone, Debug, Default)]
struct Tally(BTreeMap<(String, What), usize>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Create,
    Change,
    Nothing,
    Refusal,
    Failure,
}

/// What a kind cannot do, whatever the host.
const NEVER: &[(&str, What)] = &[
    // An assertion manages nothing, and a program, value, unit or boot loader is there or refused.
    ("assert", What::Create),
    ("assert", What::Change),
    ("command", What::Create),
    ("kernel_cmdline", What::Create),
    ("kernel_value", What::Create),
    ("service", What::Create),
];

/// A law that does not hold, with the evidence.
#[derive(Debug)]
struct Broken(u8, String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {}: {}", self.0, self.1)
    }
}

impl Tally {
    fn count(&mut self, planned: &Planned, ran: Option<&Ran>) {
        for resource in &planned.resources {
            let what = match &resource.verdict {
                Verdict::Converged => What::Nothing,
                Verdict::Change(change) if change.action == Action::Create => What::Create,
                Verdict::Change(_) | Verdict::Deferred { .. } => What::Change,
                _ => What::Refusal,
            };
            *self.0.entry((resource.address.kind.clone(), what)).or_default() += 1;
        }
        for one in ran.into_iter().flat_map(|ran| &ran.outcomes) {
            if matches!(one.outcome, Outcome::Failed { .. }) {
                *self.0.entry((one.address.kind.clone(), What::Failure)).or_default() += 1;
            }
        }
    }

    fn of(&self, kind: &str, what: What) -> usize {
        self.0.get(&(kind.into(), what)).copied().unwrap_or(0)
    }
}

fn declared(entries: &[Entry]) -> Vec<Declared> {
    let sources = SourceMap::new();
    let one = |entry: &Entry| {
        let params = yaml::read("hosts.yaml", &entry.params.to_string(), &sources)
            .unwrap_or_else(|error| panic!("{entry:?}: {}", error.summary));
        let span = params.span;
        let names = |names: &[String]| names.iter().map(|name| (name.clone(), span)).collect();
        Declared {
            kind: entry.kind.into(),
            kind_span: span,
            params,
            labels: entry.name.iter().cloned().collect(),
            requires: names(&entry.requires),
            notify: names(&entry.notify),
            overrides: false,
            sensitive: false,
            level: Level::Host,
            origin: vec![span],
            place: span,
        }
    };
    entries.iter().map(one).collect()
}

fn compile(entries: &[Entry]) -> Result<(Catalog, Graph), Diagnostics> {
    let catalog = catalog::build(declared(entries))?;
    let graph = Graph::build(&catalog)?;
    Ok((catalog, graph))
}

/// Plans a host; `None` where the declarations wait for each other.
fn plan_on(host: &mut dyn Host, entries: &[Entry]) -> Option<Planned> {
    match plan(host, &|_: &Facts| compile(entries), Circumstances::default(), &mut |_| ()) {
        Ok(planned) => Some(planned),
        Err(PlanError::Documents(errors)) => {
            let told: Vec<&str> = errors.iter().map(|error| error.summary.as_str()).collect();
            assert!(told.iter().all(|words| words.contains("wait for each other")), "{told:?}: {entries:?}");
            None
        }
        Err(PlanError::Host(error)) => panic!("{error}"),
    }
}

fn run_id(number: u16) -> RunId {
    RunId::new(1_800_000_000 + u64::from(number), number)
}

/// The run that does what was deferred.
const DEFERRED: u16 = 100;

fn apply_on(host: &mut FakeHost, planned: &Planned, entries: &[Entry], number: u16) -> ApplyResult {
    let compile = |_: &Facts| compile(entries);
    let mut numbers = [number, DEFERRED].into_iter();
    let mut runs = || run_id(numbers.next().expect("at most two runs"));
    apply::apply(host, planned, (&mut runs, "me@here"), &compile, Circumstances::default(), None, &mut |_| ())
}

/// A host that answers but does nothing.
struct ReadOnly(FakeHost);

impl Host for ReadOnly {
    fn read(&mut self, reads: &[Read]) -> Result<Vec<Answer>, HostError> {
        self.0.read(reads)
    }
    fn apply(&mut self, _: &Run, _: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        panic!("planning acts")
    }
    fn rollback(&mut self, _: &RunId) -> Result<RolledBack, HostError> {
        panic!("planning acts")
    }
}

/// What a case is checked with.
#[derive(Clone, Copy, Default)]
struct Trial {
    /// What the executor gets wrong.
    defect: Option<Defect>,
}

/// Carries one case through the pipeline and checks every law.
fn check(case: &Case, trial: Trial, tally: &mut Tally) -> Result<(), Broken> {
    let fresh = || {
        let mut host = host(case.world.clone());
        host.defect = trial.defect;
        host
    };
    let mut reader = ReadOnly(fresh());
    let Some(planned) = plan_on(&mut reader, &case.entries) else { return Ok(()) };
    if reader.0.world != case.world {
        return Err(Broken(9, format!("planning changed {:?}", case.world.differences(&reader.0.world))));
    }
    trips(&planned)?;
    saved(case, &planned, fresh())?;
    foreign_lines(&planned)?;
    if let Some(refusal) = apply::refusal(&planned, Allowed { guest_visible: true }) {
        tally.count(&planned, None);
        return if planned.preflight_failures().next().is_some() { Ok(()) } else { Err(Broken(5, refusal)) };
    }
    let mut host = fresh();
    let result = apply_on(&mut host, &planned, &case.entries, 1);
    let ran = match result {
        ApplyResult::Nothing if planned.changes().next().is_none() => {
            tally.count(&planned, None);
            return in_any_order(case, &planned, &host.world);
        }
        ApplyResult::Ran(ran) => ran,
        other => return Err(Broken(2, format!("{other:?}"))),
    };
    tally.count(&planned, Some(&ran));
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Blocked { .. });
    if let Some(one) = ran.outcomes.iter().find(|one| failed(&one.outcome) && !case.may_fail) {
        return Err(Broken(2, format!("{}: {:?}", one.address, one.outcome)));
    }
    announced(&planned, &ran, &mut host)?;
    converged(case, &mut host, Some(&ran))?;
    in_any_order(case, &planned, &host.world)?;
    let after = host.world.clone();
    taken_back(case, &planned, &mut host, 3)?;
    moved(case, &planned, &fresh)?;
    if trial.defect.is_none() && !ran.outcomes.iter().any(|one| failed(&one.outcome)) {
        pruned(case, &planned, &after)?;
    }
    cut(case, &planned, &fresh, &after, ran.outcomes.iter().any(|one| failed(&one.outcome)))
}

/// Law 7: plan, run and frames survive a round trip.
fn trips(planned: &Planned) -> Result<(), Broken> {
    let wrong = |what: &str| Broken(7, format!("{what} is another one after a round trip"));
    let plan = HostPlan { host: "h".into(), result: HostResult::Planned(planned.clone()) };
    let json = serde_json::to_vec(&plan).map_err(|error| Broken(7, error.to_string()))?;
    let back: HostPlan = serde_json::from_slice(&json).map_err(|error| Broken(7, error.to_string()))?;
    if back != plan {
        return Err(wrong("a plan"));
    }
    let request = Request::Apply(planned.run(run_id(1), "me@here".into()));
    let mut frames = vec![];
    wire::send(&mut frames, &request).map_err(|error| Broken(7, error.to_string()))?;
    let received: Option<Request> =
        wire::receive(&mut frames.as_slice()).map_err(|error| Broken(7, error.to_string()))?;
    if received.as_ref() != Some(&request) {
        return Err(wrong("a run"));
    }
    let ended = Response::Event(StepEvent::Ended { work: 1, outcome: Outcome::Done { changed: true } });
    let mut frames = vec![];
    wire::send(&mut frames, &ended).map_err(|error| Broken(7, error.to_string()))?;
    match wire::receive::<Response>(&mut frames.as_slice()) {
        Ok(Some(received)) if received == ended => Ok(()),
        _ => Err(wrong("an event")),
    }
}

/// Law 7: a saved plan is the plan, and what was declared comes to the same plan once more.
fn saved(case: &Case, planned: &Planned, mut host: FakeHost) -> Result<(), Broken> {
    let wrong = |error: String| Broken(7, format!("a saved plan: {error}"));
    let mut shown = planned.clone();
    shown.resources.iter_mut().for_each(ResourcePlan::withhold);
    let of_host = |planned: &Planned| HostPlan { host: "h".into(), result: HostResult::Planned(planned.clone()) };
    let declared = data::declarations(declared(&case.entries));
    let mut draft = Draft::default();
    draft.add(&of_host(planned), &declared);
    let file = PlanFile::parse(&draft.finish(&About::default())).map_err(|error| wrong(error.to_string()))?;
    if file.plans().map_err(|error| wrong(error.to_string()))? != [of_host(&shown)] {
        return Err(wrong("it is another one".into()));
    }
    let sources = SourceMap::new();
    let kept = file.declared("h").map_err(|error| wrong(error.to_string()))?;
    let kept = data::declared(kept, "h", &sources).map_err(wrong)?;
    let compile = |_: &Facts| {
        let catalog = catalog::build(kept.clone())?;
        let graph = Graph::build(&catalog)?;
        Ok((catalog, graph))
    };
    match plan(&mut host, &compile, Circumstances::default(), &mut |_| ()) {
        Ok(again) if again == *planned => Ok(()),
        other => Err(wrong(format!("what was declared comes to {other:?} instead of {planned:?}"))),
    }
}

/// Law 8: lines that are not ours stay byte for byte.
fn foreign_lines(planned: &Planned) -> Result<(), Broken> {
    let foreign = |content: &crate::host::bytes::Bytes| -> Vec<Vec<u8>> {
        let lines = content.0.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        lines.filter(|line| String::from_utf8_lossy(line).to_lowercase().contains("foreign")).collect()
    };
    // A line that ended the file without a newline gets one when another follows.
    let same = |(old, new): (&Vec<u8>, &Vec<u8>)| {
        old == new || [&b"\n"[..], b"\r\n"].iter().any(|end| !old.ends_with(b"\n") && [old, *end].concat() == *new)
    };
    for (resource, change) in planned.changes() {
        for file in &change.files {
            let before = file.before.as_ref().map(foreign).unwrap_or_default();
            let after = file.after.as_ref().map(foreign).unwrap_or_default();
            if before.len() != after.len() || !before.iter().zip(&after).all(same) {
                let text = |content: &Option<_>| content.as_ref().map(|content| format!("{content:?}"));
                let (old, new) = (text(&file.before), text(&file.after));
                return Err(Broken(8, format!("{}: {}: {old:?} becomes {new:?}", resource.address, file.path)));
            }
        }
    }
    Ok(())
}

/// Law 2: the state after apply is what the plan announced.
fn announced(planned: &Planned, ran: &Ran, host: &mut FakeHost) -> Result<(), Broken> {
    let done = |address: &Address| {
        let one = ran.outcomes.iter().find(|one| one.address == *address);
        one.is_some_and(|one| matches!(one.outcome, Outcome::Done { .. }))
    };
    // Of two announcements about one thing the later counts.
    let mut last: BTreeMap<(Read, String), Expectation> = BTreeMap::new();
    for (resource, change) in planned.changes().filter(|(resource, _)| done(&resource.address)) {
        for file in &change.files {
            let found = match host.world.nodes.get(&file.path) {
                Some(Node::File { content, .. }) => Some(content),
                _ => None,
            };
            if found != file.after.as_ref() {
                return Err(Broken(
                    2,
                    format!("{}: {} is {found:?}, not {:?}", resource.address, file.path, file.after),
                ));
            }
        }
        for after in change.steps.iter().flat_map(|step| &step.after) {
            let about = match &after.matcher {
                Matcher::Property { name, .. } => name.clone(),
                Matcher::Word { word, .. } => word.clone(),
                Matcher::Lines(lines) => format!("{lines:?}"),
                _ => String::new(),
            };
            last.insert((after.read.clone(), about), after.clone());
        }
    }
    for expectation in last.values() {
        let answer = read_one(host, &expectation.read);
        if !expectation.matcher.matches(&answer) {
            return Err(Broken(2, format!("{:?} shows {answer:?}, not {:?}", expectation.read, expectation.matcher)));
        }
    }
    Ok(())
}

fn read_one(host: &mut FakeHost, read: &Read) -> Answer {
    let answers = host.read(std::slice::from_ref(read)).expect("the power is on");
    answers.into_iter().next().expect("one answer to one question")
}

/// Law 1: after apply, a second plan is empty, and nothing is owed.
fn converged(case: &Case, host: &mut FakeHost, ran: Option<&Ran>) -> Result<(), Broken> {
    let Some(second) = plan_on(host, &case.entries) else { return Err(Broken(1, "a cycle came about".into())) };
    let unfinished: BTreeSet<String> = ran
        .into_iter()
        .flat_map(|ran| &ran.outcomes)
        .filter(|one| matches!(one.outcome, Outcome::Failed { .. } | Outcome::Blocked { .. }))
        .map(|one| one.address.to_string())
        .collect();
    if let Some((resource, change)) =
        second.changes().find(|(resource, _)| !unfinished.contains(&resource.address.to_string()))
    {
        let steps: Vec<String> = change.steps.iter().map(|step| step.op.describe()).collect();
        return Err(Broken(1, format!("{}: {:?} {:?} by {steps:?}", resource.address, change.action, change.fields)));
    }
    if let Some(ran) = ran
        && let Some(left) = ran.left.iter().find(|left| !unfinished.contains(&left.address.to_string()))
    {
        return Err(Broken(1, format!("left: {left:?}")));
    }
    if let Some((address, because, _)) =
        second.deferred().find(|(_, because, _)| !unfinished.contains(&because.to_string()))
    {
        return Err(Broken(1, format!("{address} still waits for {because}")));
    }
    // What cannot be planned may have something due, and as long as it has, the record stands.
    let waits = |verdict: &Verdict| {
        matches!(verdict, Verdict::Blocked { .. } | Verdict::Failed { .. } | Verdict::Unknown { .. })
    };
    let waiting = !unfinished.is_empty() || second.resources.iter().any(|one| waits(&one.verdict));
    let owed = nothing_owed(host, 1);
    let outdated = host.world.outdated_units();
    if case.notified && !outdated.is_empty() && (!waiting || owed.is_ok()) {
        return Err(Broken(1, format!("{outdated:?} run with what they read before, and nothing is owed")));
    }
    if waiting { Ok(()) } else { owed }
}

fn nothing_owed(host: &mut FakeHost, law: u8) -> Result<(), Broken> {
    match read_one(host, &Owed::read()) {
        Answer::Paths(paths) if paths.is_empty() => Ok(()),
        owed => Err(Broken(law, format!("owed: {owed:?}"))),
    }
}

/// Law 6: the order of entries changes nothing.
fn in_any_order(case: &Case, planned: &Planned, after: &World) -> Result<(), Broken> {
    let mut entries = case.entries.clone();
    for turn in 0..2 {
        if turn == 0 {
            entries.reverse()
        } else {
            entries.rotate_left(1)
        }
        if entries == case.entries {
            continue;
        }
        let mut other = host(case.world.clone());
        let Some(again) = plan_on(&mut other, &entries) else { return Err(Broken(6, "a cycle came about".into())) };
        let json = |planned: &Planned| serde_json::to_string(planned).unwrap_or_default();
        if json(&again) != json(planned) {
            return Err(Broken(6, format!("{} instead of {}", json(&again), json(planned))));
        }
        apply_on(&mut other, &again, &entries, 1);
        let told = after.differences(&other.world);
        if !told.is_empty() {
            return Err(Broken(6, format!("{told:?}")));
        }
    }
    Ok(())
}

/// Says in what a world differs from the one before, beyond what no rollback restores.
fn not_restored(case: &Case, planned: &Planned, now: &World) -> Vec<String> {
    let reversible = planned.changes().all(|(_, change)| change.reversible);
    let derived = planned.changes().flat_map(|(_, change)| &change.steps).filter_map(|step| match &step.op {
        Op::Install { path, derived: true, .. } => Some(path.as_str()),
        _ => None,
    });
    // What was generated from other files than those that stand is generated from those that stand.
    let mut generated = host(case.world.clone());
    let stale = derived.filter(|path| {
        let argv = ["/usr/sbin/grub-mkconfig", "-o", "/tmp/generated"].map(String::from);
        generated.run_program(&argv);
        generated.world.text("/tmp/generated") != case.world.text(path)
    });
    let mut ignored: Vec<&str> = stale.collect();
    ignored.push(SHARED);
    if !reversible {
        ignored.extend([KEPT, "demo.service"]);
    }
    // What systemd has read it has read.
    let without_memory = |world: &World| {
        let mut world = world.clone();
        world.units.values_mut().for_each(|unit| unit.fragment = None);
        world
    };
    let mut told = without_memory(&case.world).differences(&without_memory(now));
    told.retain(|words| !ignored.iter().any(|path| words.starts_with(&format!("{path}: "))));
    told
}

/// The same for what the ledger brings back: what a program did stays, words of other people in files that are shared come back as
/// words and not as bytes, and nobody keeps the extended attributes of a file that is gone.
fn not_pruned(case: &Case, planned: &Planned, now: &World) -> Vec<String> {
    let shared = |address: &Address| ["kernel_cmdline", "mount", "setting"].contains(&address.kind.as_str());
    let mut ignored: BTreeSet<String> = planned
        .changes()
        .filter(|(resource, _)| shared(&resource.address))
        .flat_map(|(_, change)| &change.files)
        .filter(|file| file.before.is_some())
        .map(|file| file.path.to_string())
        .collect();
    ignored.extend(["/srv/made", KEPT].map(String::from));
    for (resource, change) in planned.changes().filter(|(resource, _)| resource.sensitive) {
        ignored.extend(change.steps.iter().filter_map(|step| step.op.path()).map(ToString::to_string));
        ignored.extend(resource.address.name.strip_prefix("/").map(|_| resource.address.name.clone()));
    }
    // A mount that no entry named, or with other options than its entry, and an entry that was not mounted are no declarations.
    let names = |path: &str| case.world.text(path).is_some_and(|text| text.contains("/mnt/images"));
    if names("/proc/self/mountinfo") || names("/etc/fstab") {
        // The mount point of an entry that is brought back is made.
        ignored.extend(["/proc/self/mountinfo", "/mnt/images"].map(String::from));
    }
    if planned.changes().any(|(resource, _)| resource.address.kind == "kernel_cmdline") {
        // A word of somebody else that was replaced comes back in vprov's file.
        ignored
            .extend(["/etc/default/grub.d", "/etc/default/grub.d/99-vprov.cfg", "/etc/default/grub"].map(String::from));
        ignored.extend(["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"].map(String::from));
    }
    let plain = |world: &World| {
        let mut world = world.clone();
        for node in world.nodes.values_mut() {
            if let Node::File { xattrs, .. } = node {
                xattrs.clear();
            }
        }
        // No service is declared any more, so none is restarted.
        world.units.values_mut().for_each(|unit| unit.loaded.clear());
        world
    };
    let case = Case { world: plain(&case.world), ..case.clone() };
    let mut told = not_restored(&case, planned, &plain(now));
    told.retain(|words| !ignored.iter().any(|path| words.starts_with(&format!("{path}: "))));
    told
}

/// Law 3: rollback restores the world before for everything that the plan called reversible.
fn taken_back(case: &Case, planned: &Planned, host: &mut FakeHost, law: u8) -> Result<(), Broken> {
    // What was deferred was done last.
    let _ = host.rollback(&run_id(DEFERRED));
    let back = host.rollback(&run_id(1));
    let told = not_restored(case, planned, &host.world);
    if !told.is_empty() {
        return Err(Broken(law, format!("{told:?} after {back:?}")));
    }
    let reversible = planned.changes().all(|(_, change)| change.reversible);
    match back {
        // Of an operation that was cut nobody knows whether it acted: what takes it back may find nothing to do.
        Ok(back) if law == 3 && reversible && !back.left.is_empty() => {
            Err(Broken(law, format!("left: {:?}", back.left)))
        }
        _ => nothing_owed(host, law),
    }
}

/// Law 10: what is declared no more is listed and left, and `--prune` brings back what was there before it was declared.
fn pruned(case: &Case, planned: &Planned, after: &World) -> Result<(), Broken> {
    let broken = |words: String| Broken(10, words);
    let prune = Circumstances { prune: true, ..Circumstances::default() };
    // All is dropped, then all but the last entry.
    for kept in [case.entries.len() - 1, 0] {
        let names: BTreeSet<&String> = case.entries[kept..].iter().filter_map(|entry| entry.name.as_ref()).collect();
        let mut rest = case.entries[..kept].to_vec();
        for entry in &mut rest {
            entry.requires.retain(|name| !names.contains(name));
            entry.notify.retain(|name| !names.contains(name));
        }
        if kept > 0 && compile(&rest).is_err() {
            continue;
        }
        let compiled = |_: &Facts| compile(&rest);
        let mut host = host(after.clone());
        let listed = match plan(&mut host, &compiled, Circumstances::default(), &mut |_| ()) {
            Ok(listed) => listed,
            Err(error) => return Err(broken(format!("{error:?}"))),
        };
        if kept == 0 && listed.changes().next().is_some() {
            return Err(broken(format!("nothing is declared, and the plan has changes: {listed:?}")));
        }
        let records: BTreeSet<String> =
            Ledger::decode(Some(&read_one(&mut host, &Ledger::read()))).records.into_keys().collect();
        let orphans: BTreeSet<String> = listed.orphaned.iter().map(|orphan| orphan.address.name.clone()).collect();
        if kept == 0 && records != orphans {
            return Err(broken(format!("{records:?} are remembered, and {orphans:?} listed")));
        }
        let Ok(pruning) = plan(&mut host, &compiled, prune, &mut |_| ()) else { return Err(broken("no plan".into())) };
        trips(&pruning)?;
        foreign_lines(&pruning).map_err(|Broken(_, words)| broken(words))?;
        let mut runs = {
            let mut number = 50;
            move || {
                number += 1;
                run_id(number)
            }
        };
        let result = apply::apply(&mut host, &pruning, (&mut runs, "me@here"), &compiled, prune, None, &mut |_| ());
        let ran = match result {
            ApplyResult::Nothing => None,
            ApplyResult::Ran(ran) => Some(ran),
            other => return Err(broken(format!("{other:?}"))),
        };
        let failed = |ran: &Ran| ran.outcomes.iter().any(|one| !matches!(one.outcome, Outcome::Done { .. }));
        if let Some(ran) = ran.filter(|ran| failed(ran)) {
            return Err(broken(format!("{ran:?}")));
        }
        let Ok(second) = plan(&mut host, &compiled, prune, &mut |_| ()) else { return Err(broken("no plan".into())) };
        // What was there before something secret is not kept, which is told.
        let is_left = |orphan: &Orphan| !matches!(orphan.standing, Standing::Unknown { .. });
        if second.changes().next().is_some() || second.orphaned.iter().any(is_left) {
            return Err(broken(format!("a second plan has {:?} and {:?}", second.resources, second.orphaned)));
        }
        if kept == 0 {
            let told = not_pruned(case, planned, &host.world);
            if !told.is_empty() {
                return Err(broken(format!("{told:?}")));
            }
        }
    }
    Ok(())
}

/// Law 4: a cut at any point, followed by rollback, restores the world; followed by apply, it converges with nothing owed.
fn cut(
    case: &Case,
    planned: &Planned,
    fresh: &dyn Fn() -> FakeHost,
    after: &World,
    failed: bool,
) -> Result<(), Broken> {
    for point in 0.. {
        let mut host = fresh();
        host.cut_after = Some(point);
        let run = planned.run(run_id(1), "me@here".into());
        if host.apply(&run, &mut |_| ()).is_ok() {
            return Ok(());
        }
        host.power_on();
        let at = |broken: Broken| Broken(4, format!("cut at point {point}: {broken}"));
        taken_back(case, planned, &mut host.clone(), 4).map_err(at)?;
        let Some(again) = plan_on(&mut host, &case.entries) else { return Err(at(Broken(4, "a cycle".into()))) };
        let ran = match apply_on(&mut host, &again, &case.entries, 2) {
            ApplyResult::Ran(ran) => Some(ran),
            ApplyResult::Nothing => None,
            other => return Err(at(Broken(4, format!("{other:?}")))),
        };
        converged(case, &mut host, ran.as_deref()).map_err(at)?;
        let told = after.differences(&host.world);
        if !failed && !told.is_empty() {
            return Err(at(Broken(4, format!("it ends elsewhere: {told:?}"))));
        }
    }
    Ok(())
}

/// Law 5: a host that moved between plan and apply is refused, untouched.
fn moved(case: &Case, planned: &Planned, fresh: &dyn Fn() -> FakeHost) -> Result<(), Broken> {
    let run = planned.run(run_id(1), "me@here".into());
    let mut touched: BTreeSet<AbsPath> = BTreeSet::new();
    for step in run.works.iter().flat_map(|work| &work.steps) {
        let own = step.op.path().filter(|path| !touched.contains(*path) && !path.is_live());
        if let Some(path) = own
            && !step.guards.iter().any(|guard| guard.read.path() == Some(path))
        {
            return Err(Broken(5, format!("`{}` has no guard", step.op.describe())));
        }
        for guard in &step.guards {
            let Some(path) = guard.read.path().filter(|path| !touched.contains(*path)) else { continue };
            for world in elsewhere(&case.world, path) {
                let mut host = fresh();
                host.world = world.clone();
                if guard.matcher.matches(&read_one(&mut host, &guard.read)) || stands(&mut host, step) {
                    continue;
                }
                let applied = host.apply(&run, &mut |_| ());
                if !matches!(applied, Ok(Applied::Stale { .. })) || host.world != world {
                    let told = world.differences(&host.world);
                    return Err(Broken(5, format!("{path} moved, and then: {applied:?}, {told:?}")));
                }
            }
        }
        touched.extend(step.op.path().cloned());
    }
    Ok(())
}

fn stands(host: &mut FakeHost, step: &Step) -> bool {
    !step.after.is_empty() && step.after.iter().all(|after| after.matcher.matches(&read_one(host, &after.read)))
}

/// Returns worlds in which somebody changed what stands at a path.
fn elsewhere(world: &World, path: &AbsPath) -> Vec<World> {
    let mut worlds = vec![];
    let mut add = |change: &dyn Fn(&mut World)| {
        let mut other = world.clone();
        change(&mut other);
        worlds.push(other);
    };
    if let Some(live) = world.live.get(path) {
        let other = match live.clone() {
            Live::Integer { value, min, max, clamps } => {
                Live::Integer { value: if value < max { value + 1 } else { value - 1 }, min, max, clamps }
            }
            Live::Pool { value, limit } => Live::Pool { value: (value + 1) % limit, limit },
            Live::Coupled { value, zeroes } => Live::Coupled { value: value + 1, zeroes },
            Live::Busy { value, unless_zero } => Live::Busy { value: 1 - value, unless_zero },
            Live::Choice { choices, current } => {
                let next =
                    choices.iter().position(|choice| *choice == current).map_or(0, |at| (at + 1) % choices.len());
                Live::Choice { current: choices[next].clone(), choices }
            }
            Live::Plain(text) => Live::Plain(format!("{text}7")),
            Live::ReadOnly(text) => Live::ReadOnly(text),
        };
        add(&|world| drop(world.live.insert(path.clone(), other.clone())));
        return worlds;
    }
    let real = world.resolve(path, true).unwrap_or_else(|| path.clone());
    let is_parent = !world.names_in(&real).is_empty();
    match world.nodes.get(&real) {
        Some(Node::Directory { .. }) if is_parent => {
            add(&|world| drop(world.nodes.insert(real.clone(), Node::Directory { owner: Owner::root(0o700) })));
        }
        Some(Node::File { content, owner, xattrs }) => {
            let node = |content: &str, mode| Node::File {
                content: content.into(),
                owner: Owner { mode, ..*owner },
                xattrs: xattrs.clone(),
            };
            let edited = node("somebody else's\n", owner.mode);
            let closed = node(&content.lossy(), 0o640);
            add(&|world| drop(world.nodes.insert(path.clone(), edited.clone())));
            add(&|world| drop(world.nodes.insert(path.clone(), closed.clone())));
            add(&|world| drop(world.nodes.remove(path)));
            add(&|world| drop(world.nodes.insert(path.clone(), Node::Link { target: "/etc/passwd".into() })));
        }
        Some(_) => add(&|world| drop(world.nodes.remove(path))),
        None => {
            add(&|world| {
                world.file(path.as_str(), "somebody else's\n");
            });
            add(&|world| world.make_directories(path));
        }
    }
    worlds
}

fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let asked = default.cases != 256;
    ProptestConfig {
        cases: if asked { default.cases } else { cases },
        rng_seed: if asked { default.rng_seed } else { RngSeed::Fixed(7) },
        failure_persistence: None,
        max_shrink_iters: 300,
        ..default
    }
}

/// Checks all laws over many cases and returns what was seen.
fn laws_over(strategy: impl Strategy<Value = Case>, cases: u32) -> Tally {
    let tally = std::cell::RefCell::new(Tally::default());
    let result = TestRunner::new(config(cases)).run(&strategy, |case| {
        let mut own = tally.borrow_mut();
        check(&case, Trial::default(), &mut own).map_err(|broken| TestCaseError::fail(broken.to_string()))
    });
    match result {
        Ok(()) => tally.into_inner(),
        Err(TestError::Fail(reason, case)) => panic!("{reason}\n{case:?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn hold_for(kind: &str) {
    let strategy = worlds::of_kind(kind).unwrap_or_else(|| panic!("`{kind}` has no generator in src/laws/worlds.rs"));
    let tally = laws_over(strategy.prop_map(|part| worlds::case(vec![part])), CASES);
    let all = [What::Create, What::Change, What::Nothing, What::Refusal, What::Failure];
    let row: Vec<String> = all.iter().map(|what| format!("{what:?} {:>4}", tally.of(kind, *what))).collect();
    println!("{kind:>14}: {}", row.join("  "));
    for what in [What::Create, What::Change, What::Nothing, What::Refusal] {
        let never = NEVER.contains(&(kind, what));
        assert_eq!(tally.of(kind, what) == 0, never, "{kind}: {what:?}: {tally:?}");
    }
}

/// How many hosts each kind is tried with.
const CASES: u32 = 64;

macro_rules! laws {
    ($($kind:ident),* $(,)?) => {
        const TRIED: &[&str] = &[$(stringify!($kind)),*];
        mod hold_for {
            $(#[test] fn $kind() { super::hold_for(stringify!($kind)); })*
        }
    };
}

laws! {
    assert, command, directory, file, kernel_cmdline, kernel_value, mount, service, setting, symlink, sysctl, tmpfiles,
    udev_rule,
}

#[test]
fn each_kind_is_tried() {
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(TRIED, kinds, "a kind needs a generator in src/laws/worlds.rs and its name in `laws!`");
}

#[test]
fn hold_for_several_kinds_on_one_host() {
    laws_over(worlds::mixed(), CASES);
}

#[test]
fn hold_where_a_service_is_notified() {
    laws_over(worlds::notifying(), CASES);
}

/// Looks for a case that breaks a law by a defect, and holds without it.
fn breaks(defect: Defect, strategy: impl Strategy<Value = Case>, law: u8) {
    let mut runner = TestRunner::new(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() });
    for _ in 0..200 {
        let case = strategy.new_tree(&mut runner).expect("a case can be made").current();
        if let Err(broken) = check(&case, Trial { defect: Some(defect) }, &mut Tally::default()) {
            assert_eq!(broken.0, law, "{defect:?}: {broken}");
            let sound = check(&case, Trial::default(), &mut Tally::default());
            assert!(sound.is_ok(), "{sound:?}\n{case:?}");
            return;
        }
    }
    panic!("no law notices {defect:?}");
}

fn cases_of(kind: &str) -> impl Strategy<Value = Case> {
    worlds::of_kind(kind).expect("it has a generator").prop_map(|part| worlds::case(vec![part]))
}

#[test]
fn an_executor_without_guards_breaks_law_5() {
    breaks(Defect::NoGuard, cases_of("setting"), 5);
}

#[test]
fn an_executor_whose_journal_is_not_durable_breaks_law_4() {
    breaks(Defect::NoFsync, cases_of("setting"), 4);
}

#[test]
fn an_executor_that_forgets_what_is_due_breaks_law_4() {
    breaks(Defect::LostNotify, worlds::notifying(), 4);
}

#[test]
fn an_executor_that_does_not_read_back_breaks_law_2() {
    breaks(Defect::SkippedReadBack, cases_of("kernel_value"), 2);
}

/// Law 9 on the real executor: planning below a root that is observed changes not a byte of it.
#[test]
#[expect(clippy::disallowed_methods, reason = "the tree is a real one")]
fn planning_leaves_a_real_tree_as_it_is() {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    fn tree(directory: &Path) -> Vec<String> {
        let mut found = vec![];
        let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { vec![] };
            let (mode, changed) = (meta.permissions().mode(), meta.modified().unwrap());
            found.push(format!("{} {mode:o} {changed:?} {content:?}", path.display()));
            if meta.is_dir() {
                found.extend(tree(&path));
            }
        }
        found
    }

    let mut runner = TestRunner::new(config(24));
    for _ in 0..24 {
        let case = worlds::mixed().new_tree(&mut runner).expect("a case can be made").current();
        let root = tempfile::TempDir::new().unwrap();
        for (path, node) in &case.world.nodes {
            let real = root.path().join(path.as_str().trim_start_matches('/'));
            match node {
                Node::Directory { .. } => fs::create_dir_all(&real).unwrap(),
                Node::File { content, .. } => fs::write(&real, &content.0).unwrap(),
                Node::Link { target } => std::os::unix::fs::symlink(target, &real).unwrap(),
                Node::Special | Node::Denied => {}
            }
        }
        let before = tree(root.path());
        let settings = Settings { root: Some(root.path().into()), observe: true, ..Settings::default() };
        let mut local = LocalHost::new(settings).unwrap();
        let compile = |_: &Facts| compile(&case.entries);
        let circumstances = Circumstances { offline: true, ..Circumstances::default() };
        let planned = plan(&mut local, &compile, circumstances, &mut |_| ());
        assert_eq!(tree(root.path()), before, "{case:?}");
        if let Ok(planned) = planned {
            let refused = local.apply(&planned.run(run_id(1), "me@here".into()), &mut |_| ());
            assert!(planned.changes().next().is_none() || !matches!(refused, Ok(Applied::Ran { .. })), "{refused:?}");
            assert_eq!(tree(root.path()), before, "{case:?}");
        }
    }
}
