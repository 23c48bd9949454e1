//! The models, the defects, and the comparison with the executor.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    address::Address,
    host::{
        exec::{LocalHost, Settings},
        matcher::{Expectation, Matcher},
        op::{Form, Op, Owner, Step, UnderRoot, Undo},
        read::Want,
        run::{Outcome, Work},
        state::Owed,
    },
};

fn path(text: &str) -> AbsPath {
    AbsPath::known(text)
}

fn run_of(works: Vec<Vec<Step>>) -> Run {
    let works = works
        .into_iter()
        .enumerate()
        .map(|(at, steps)| Work {
            address: Address::new("test", at.to_string()),
            needs: vec![],
            steps,
            sensitive: false,
        })
        .collect();
    Run { id: RunId::new(1_800_000_000, 1), by: "me@here".into(), confirm_within: None, works }
}

fn apply(host: &mut FakeHost, run: &Run) -> Applied {
    host.apply(run, &mut |_| {}).unwrap()
}

fn entry(at: &str, matcher: Matcher) -> Expectation {
    Expectation::new(Read::entry(path(at)), matcher)
}

fn write(at: &str, content: &str) -> Step {
    let content = Bytes::from(content);
    let matcher = Matcher::File { digest: content.digest(), mode: 0o644, uid: 0, gid: 0 };
    Step::new(Op::Write { path: path(at), content, owner: Owner::root(0o644) }).after(entry(at, matcher))
}

#[test]
fn values_take_what_is_written_as_the_kernel_does() {
    let mut world = World::new();
    world
        .value("/proc/sys/vm/swappiness", Live::integer(60, 0, 200))
        .value("/sys/thp", Live::choice("always [madvise] never"))
        .value("/sys/pool", Live::Pool { value: 0, limit: 5 })
        .value("/proc/dirty_bytes", Live::Coupled { value: 0, zeroes: path("/proc/dirty_ratio") })
        .value("/proc/dirty_ratio", Live::Coupled { value: 20, zeroes: path("/proc/dirty_bytes") })
        .value("/sys/shared", Live::Plain("9".into()))
        .value("/sys/merge", Live::Busy { value: 1, unless_zero: path("/sys/shared") });
    let mut check = |at: &str, value: &str, expected: Result<(), &str>, shows: &str| {
        assert_eq!(world.poke(&path(at), value), expected.map_err(String::from), "{at}");
        assert_eq!(world.text(at).unwrap(), shows, "{at}");
    };
    check("/proc/sys/vm/swappiness", "35", Ok(()), "35\n");
    check("/proc/sys/vm/swappiness", "250", Err("Invalid argument"), "35\n");
    check("/sys/thp", "never", Ok(()), "always madvise [never]\n");
    check("/sys/thp", "sometimes", Err("Invalid argument"), "always madvise [never]\n");
    check("/sys/pool", "9", Ok(()), "5\n");
    check("/sys/merge", "0", Err("Device or resource busy"), "1\n");
    check("/sys/merge", "1", Ok(()), "1\n");
    check("/proc/dirty_bytes", "4096", Ok(()), "4096\n");
    assert_eq!(world.text("/proc/dirty_ratio").unwrap(), "0\n");
}

#[test]
fn a_unit_keeps_what_it_read_at_its_start() {
    let mut world = World::new();
    world.file("/etc/x.conf", "a").unit("x.service", true, true).unit_reads("x.service", &["/etc/x.conf"]);
    let mut host = FakeHost::new(world);
    let show = |host: &mut FakeHost| {
        let read = Read::Probe(Probe::unit("ActiveState,UnitFileState,NeedDaemonReload", "x.service"));
        host.read(&[read]).unwrap()[0].text().unwrap().to_string()
    };
    assert_eq!(show(&mut host), "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n");
    let systemctl = |argv: &[&str]| {
        let argv = ["systemctl"].iter().chain(argv).map(|word| (*word).to_string());
        Step::new(Op::Run { command: Command::new(argv), produces: vec![], undo: Undo::Nothing })
    };
    apply(&mut host, &run_of(vec![vec![write("/etc/x.conf", "b")]]));
    assert_eq!(host.world.outdated_units(), ["x.service"]);
    apply(&mut host, &run_of(vec![vec![systemctl(&["restart", "x.service"])]]));
    assert!(host.world.outdated_units().is_empty());
    apply(&mut host, &run_of(vec![vec![write("/etc/systemd/system/x.service", "[Unit]\n")]]));
    assert_eq!(show(&mut host), "ActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=yes\n");
}

#[test]
fn the_generator_reads_its_files_as_the_shell_does() {
    let mut world = World::new();
    world
        .file("/boot/vmlinuz-6.1", "")
        .file("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT='quiet'\nGRUB_CMDLINE_LINUX=\"a\"\n")
        .file("/etc/default/grub.d/x.cfg", "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX b=\\\"c\\\" ${NO}d\" # e\n");
    let output = grub_mkconfig(&mut world, &["grub-mkconfig".into()]);
    let text = output.stdout.text().unwrap();
    assert!(text.contains("\tlinux\t/boot/vmlinuz-6.1 root=/dev/vda1 ro a b=\"c\" d quiet\n"), "{text}");
    assert!(text.contains("ro single a b"), "{text}");
}

/// A write that makes a restart due, and the restart.
fn notifying() -> (FakeHost, Run) {
    let mut world = World::new();
    world.file("/etc/x.conf", "a").unit("x.service", true, true).unit_reads("x.service", &["/etc/x.conf"]);
    let guard = Matcher::same_as(&world.answer(&path("/etc/x.conf"), false, Want::Content));
    let mut first = write("/etc/x.conf", "b").guard(entry("/etc/x.conf", guard));
    first.owes = vec!["service[x]".into()];
    let restart = ["systemctl", "restart", "x.service"];
    let undo = Undo::Run(Command::new(restart));
    let mut second = Step::new(Op::Run { command: Command::new(restart), produces: vec![], undo });
    second.settles = vec!["service[x]".into()];
    (FakeHost::new(world), run_of(vec![vec![first], vec![second]]))
}

/// Cuts a run at each point; says at which the host then has neither what was before nor a record of what is due.
fn losses(defect: Option<Defect>) -> Vec<String> {
    let mut losses = vec![];
    for after in 0.. {
        let (mut host, run) = notifying();
        let before = host.world.clone();
        host.defect = defect;
        host.cut_after = Some(after);
        if host.apply(&run, &mut |_| {}).is_ok() {
            return losses;
        }
        host.power_on();
        host.defect = None;
        let owed = host.read(&[Owed::read()]).unwrap() != [Answer::Paths(vec![])];
        if !host.world.outdated_units().is_empty() && !owed {
            losses.push(format!("point {after}: nothing is owed"));
        }
        let _ = host.rollback(&run.id);
        let told = before.differences(&host.world);
        if !told.is_empty() {
            losses.push(format!("point {after}: {told:?}"));
        }
    }
    losses
}

#[test]
fn a_cut_loses_nothing_but_by_a_defect() {
    assert_eq!(losses(None), Vec::<String>::new());
    assert!(!losses(Some(Defect::NoFsync)).is_empty());
    assert!(losses(Some(Defect::LostNotify)).iter().any(|loss| loss.contains("nothing is owed")));
}

#[test]
fn the_other_defects_are_seen() {
    let moved = |defect| {
        let (mut host, run) = notifying();
        host.defect = defect;
        host.world.file("/etc/x.conf", "edited");
        apply(&mut host, &run)
    };
    assert!(matches!(moved(None), Applied::Stale { .. }));
    assert!(matches!(moved(Some(Defect::NoGuard)), Applied::Ran { .. }));
    let unread = |defect| {
        let mut world = World::new();
        world.value("/sys/pool", Live::Pool { value: 0, limit: 5 });
        let mut host = FakeHost { defect, ..FakeHost::new(world) };
        let op = Op::Poke { path: path("/sys/pool"), value: "9".into(), form: Form::Plain };
        let step = Step::new(op).after(entry("/sys/pool", Matcher::Integer(9)));
        match apply(&mut host, &run_of(vec![vec![step]])) {
            Applied::Ran { outcomes } => outcomes[0].clone(),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(unread(None), Outcome::Failed { .. }));
    assert_eq!(unread(Some(Defect::SkippedReadBack)), Outcome::Done { changed: true });
}

const NAMES: [&str; 9] =
    ["/etc/a", "/etc/b", "/etc/d", "/etc/d/x", "/etc/d/y", "/etc/l", "/etc/l/x", "/etc/no/x", "/etc"];

fn mine(mode: u32) -> Owner {
    Owner { mode, uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// The same tree on both.
fn pair() -> (FakeHost, TempDir) {
    let root = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let mut world = World { has_systemd: false, ..World::default() };
    for directory in ["/etc", "/etc/d", "/proc", "/var", "/var/lib"] {
        let real = root.path().join(&directory[1..]);
        fs::create_dir(&real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        world.place(directory, Node::Directory { owner: mine(0o755) });
    }
    for file in ["/etc/a", "/etc/d/x"] {
        let real = root.path().join(&file[1..]);
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
        world.place(file, Node::File { content: "old".into(), owner: mine(0o644), xattrs: BTreeMap::new() });
    }
    std::os::unix::fs::symlink("d", root.path().join("etc/l")).unwrap();
    world.link("/etc/l", "d");
    fs::write(root.path().join("proc/v"), "1\n").unwrap();
    world.value("/proc/v", Live::Plain("1".into()));
    (FakeHost::new(world), root)
}

/// Everything below `/etc` and the value, with neither times nor owners of links.
fn state(host: &mut dyn Host) -> Vec<(AbsPath, Answer)> {
    let reads: Vec<Read> =
        NAMES.iter().chain(&["/proc/v"]).map(|name| Read::entry(path(name))).chain([Read::glob("/etc/*/*")]).collect();
    let answers = host.read(&reads).unwrap();
    let mut state: Vec<(AbsPath, Answer)> = vec![];
    for (read, answer) in reads.iter().zip(answers) {
        match (read.path(), answer) {
            (Some(path), answer) => state.push((path.clone(), answer)),
            (None, Answer::Paths(paths)) => state.extend(paths),
            (None, other) => panic!("{other:?}"),
        }
    }
    for (path, answer) in &mut state {
        if let Answer::File { meta, .. } | Answer::Link { meta, .. } | Answer::Directory { meta, .. } = answer {
            meta.mtime = 0;
            if path.is_live() || matches!(answer, Answer::Link { .. }) {
                let text = answer.text().map(String::from);
                *answer = match answer {
                    Answer::Link { target, .. } => Answer::Failed(target.clone()),
                    _ => Answer::Failed(text.unwrap_or_default()),
                };
            }
        }
    }
    state
}

fn an_op() -> impl Strategy<Value = Op> {
    let name = prop::sample::select(&NAMES[..]).prop_map(path);
    let mode = prop::sample::select(vec![0o600_u32, 0o644, 0o755]);
    (0..8, name, mode, "[ab]{0,2}").prop_map(|(kind, path, mode, text)| match kind {
        0 | 1 => Op::Write { path, content: text.into(), owner: mine(mode) },
        2 => Op::Link { path, target: format!("d{text}") },
        3 => Op::Directory { path, owner: mine(mode | 0o700) },
        4 => Op::Remove { path },
        5 => Op::Chmod { path, owner: mine(mode | 0o700) },
        6 => Op::Poke { path: AbsPath::known("/proc/v"), value: format!("v{text}"), form: Form::Plain },
        _ => Op::Run {
            command: Command::new([if text.is_empty() { "false" } else { "true" }]).under_root(UnderRoot::AsIs),
            produces: vec![path],
            undo: Undo::Nothing,
        },
    })
}

/// A step whose guard and announced result are sometimes right.
fn a_step() -> impl Strategy<Value = Step> {
    let matcher = prop_oneof![Just(None), Just(Some(Matcher::Absent)), Just(Some(Matcher::Present))];
    let guard = prop_oneof![4 => Just(None), 1 => Just(Some(Matcher::Absent)), 2 => Just(Some(Matcher::Present))];
    (an_op(), guard, matcher, any::<bool>()).prop_map(|(op, guard, after, owes)| {
        let path = op.path().cloned().unwrap_or_else(|| AbsPath::known("/etc/a"));
        let mut step = Step::new(op);
        step.guards.extend(guard.map(|matcher| Expectation::new(Read::entry(path.clone()), matcher)));
        step.after.extend(after.map(|matcher| Expectation::new(Read::entry(path), matcher)));
        if owes {
            step.owes = vec!["x".into()];
        }
        step
    })
}

/// What two hosts may say in different words.
fn essence(applied: &Applied) -> String {
    match applied {
        Applied::Ran { outcomes } => {
            let outcomes: Vec<String> = outcomes
                .iter()
                .map(|outcome| match outcome {
                    Outcome::Failed { step, .. } => format!("failed at {step}"),
                    Outcome::Short { .. } => "short".into(),
                    other => format!("{other:?}"),
                })
                .collect();
            outcomes.join(", ")
        }
        Applied::Stale { moved } => format!("stale: {}", moved.len()),
        other => format!("{other:?}"),
    }
}

fn local(root: &Path) -> LocalHost {
    LocalHost::new(Settings { root: Some(root.into()), ..Settings::default() }).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_the_executor_does(works in prop::collection::vec((prop::collection::vec(a_step(), 0..4), any::<bool>()), 1..4)) {
        let (fake, root) = pair();
        let mut fake = fake
            .with_program("true", |_, _| "".into())
            .with_program("false", |_, _| Output { status: 1, ..Output::from("") });
        let mut real = local(root.path());
        let mut run = run_of(works.iter().map(|(steps, _)| steps.clone()).collect());
        for (at, (_, needs)) in works.iter().enumerate().skip(1) {
            run.works[at].needs = if *needs { vec![at - 1] } else { vec![] };
        }
        let before = state(&mut real);
        prop_assert_eq!(&before, &state(&mut fake));
        let (applied, expected) = (real.apply(&run, &mut |_| {}).unwrap(), apply(&mut fake, &run));
        prop_assert_eq!(essence(&applied), essence(&expected), "{:?} against {:?}", applied, expected);
        prop_assert_eq!(state(&mut real), state(&mut fake));
        let owed = |host: &mut dyn Host| match &host.read(&[Owed::read()]).unwrap()[0] {
            Answer::Paths(paths) => paths.len(),
            _ => 99,
        };
        prop_assert_eq!(owed(&mut real), owed(&mut fake));
        if let Ok(back) = real.rollback(&run.id) {
            let told = fake.rollback(&run.id);
            prop_assert!(told.is_ok(), "{:?}", back);
            prop_assert_eq!(back.left, Vec::<String>::new());
        }
        prop_assert_eq!(state(&mut real), before.clone());
        prop_assert_eq!(state(&mut fake), before);
        prop_assert_eq!(owed(&mut real), 0);
    }
}
