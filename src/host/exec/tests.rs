//! The executor in a temporary root.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tempfile::TempDir;

use super::{LocalHost, Settings};
use crate::{
    address::Address,
    host::{
        Host as _, HostError,
        bytes::Bytes,
        matcher::{Expectation, Lines, Matcher},
        op::{Check, Command, Form, Op, Owner, Source, Step, UnderRoot, Undo},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Read, Want},
        run::{Applied, Outcome, Run, RunId, StepEvent, Work},
        state::{Owed, Short, Unfinished},
        undo::{Changed, TakeBack, TookBack, UndoAct},
    },
};

fn path(text: &str) -> AbsPath {
    AbsPath::known(text)
}

fn mine(mode: u32) -> Owner {
    Owner { mode, uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

fn host(root: &Path) -> LocalHost {
    cut_host(root, None)
}

fn cut_host(root: &Path, fail_at: Option<usize>) -> LocalHost {
    LocalHost::new(Settings { root: Some(root.into()), fail_at, ..Settings::default() }).unwrap()
}

/// Makes a root with a few files.
fn root() -> TempDir {
    // In memory, where there is such a place: hundreds of cut runs wait for the disk else.
    let root = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let at = |rest: &str| root.path().join(rest);
    for directory in ["etc/conf.d", "var/lib", "boot", "proc/sys/vm", "sys/kernel"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    fs::write(at("etc/a"), "old a\n").unwrap();
    fs::set_permissions(at("etc/a"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(at("etc/b"), "old b\n").unwrap();
    fs::write(at("boot/grub.cfg"), "linux /boot/vmlinuz old\n").unwrap();
    fs::write(at("boot/vmlinuz"), "").unwrap();
    fs::write(at("boot/source"), "linux /boot/vmlinuz old\n").unwrap();
    fs::write(at("proc/sys/vm/swappiness"), "60\n").unwrap();
    fs::write(at("sys/kernel/thp"), "always [madvise] never\n").unwrap();
    symlink("a", at("etc/link")).unwrap();
    root
}

/// Everything below a root but the state, one line each.
fn snapshot(root: &Path) -> Vec<String> {
    fn walk(top: &Path, directory: &Path, lines: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top).unwrap().display().to_string();
            if name == "var/lib/vprov" {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_file() {
                format!("{:?}", String::from_utf8_lossy(&fs::read(&path).unwrap()))
            } else {
                String::new()
            };
            lines.push(format!("{name} {:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid()));
            if meta.is_dir() {
                walk(top, &path, lines);
            }
        }
    }
    let mut lines = vec![];
    walk(root, root, &mut lines);
    lines.sort();
    lines
}

fn entry(at: &str, matcher: Matcher) -> Expectation {
    Expectation::new(Read::entry(path(at)), matcher)
}

fn file(content: &str, mode: u32) -> Matcher {
    let owner = mine(mode);
    Matcher::File { digest: Bytes::from(content).digest(), mode, uid: owner.uid, gid: owner.gid }
}

fn write(at: &str, content: &str, mode: u32) -> Step {
    let op = Op::Write { path: path(at), content: content.into(), owner: mine(mode) };
    Step::new(op).after(entry(at, file(content, mode)))
}

fn run_of(number: u16, works: Vec<Vec<Step>>) -> Run {
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
    Run { id: RunId::new(1_800_000_000, number), by: "me@here".into(), confirm_within: None, works }
}

fn apply(host: &mut LocalHost, run: &Run) -> Applied {
    host.apply(run, &mut |_| {}).unwrap()
}

fn outcomes(host: &mut LocalHost, run: &Run) -> Vec<Outcome> {
    match apply(host, run) {
        Applied::Ran { outcomes } => outcomes,
        other => panic!("{other:?}"),
    }
}

const CHANGED: Outcome = Outcome::Done { changed: true };
const SAME: Outcome = Outcome::Done { changed: false };

/// One of each operation that a cut may meet.
fn everything() -> Run {
    let program = |argv: &[&str]| Command::new(argv.iter().copied()).under_root(UnderRoot::AsIs);
    let lines = Matcher::Lines(Lines {
        section: String::new(),
        every: true,
        first_words: vec!["linux".into()],
        except: vec![],
        tokens: vec!["new".into()],
        absent: vec![],
    });
    let mut notifying = write("/etc/a", "new a\n", 0o600).guard(entry("/etc/a", file("old a\n", 0o640)));
    notifying.owes = vec!["service[x]".into()];
    let mut restart =
        Step::new(Op::Run { command: program(&["true"]), produces: vec![], undo: Undo::Run(program(&["true"])) });
    restart.settles = vec!["service[x]".into()];
    run_of(
        7,
        vec![
            vec![notifying],
            vec![
                Step::new(Op::Directory { path: path("/etc/new"), owner: mine(0o750) })
                    .after(entry("/etc/new", Matcher::Directory { mode: 0o750, uid: mine(0).uid, gid: mine(0).gid })),
                write("/etc/new/file", "fresh\n", 0o644),
                Step::new(Op::Link { path: path("/etc/link"), target: "b".into() })
                    .after(entry("/etc/link", Matcher::Link { target: "b".into() })),
                Step::new(Op::Remove { path: path("/etc/b") }).after(entry("/etc/b", Matcher::Absent)),
                Step::new(Op::Chmod { path: path("/boot/vmlinuz"), owner: mine(0o400) })
                    .after(entry("/boot/vmlinuz", file("", 0o400))),
            ],
            vec![
                Step::new(Op::Poke { path: path("/proc/sys/vm/swappiness"), value: "35".into(), form: Form::Plain })
                    .after(entry("/proc/sys/vm/swappiness", Matcher::Integer(35))),
            ],
            vec![
                write("/boot/source", "linux /boot/vmlinuz new\n", 0o644),
                Step::new(Op::Stage { name: "grub".into(), source: Source::Stdout(program(&["cat", "BOOT"])) }),
                Step::new(Op::Check(Check::Staged { name: "grub".into(), matcher: lines.clone() })),
                Step::new(Op::Check(Check::PathsExist {
                    name: "grub".into(),
                    first_words: vec!["linux".into()],
                    word: 1,
                    below: vec![],
                })),
                Step::new(Op::Check(Check::Succeeds(program(&["grep", "-q", "linux", "{}"]).with_staged("grub")))),
                Step::new(Op::Install {
                    name: "grub".into(),
                    path: path("/boot/grub.cfg"),
                    owner: mine(0o644),
                    derived: true,
                })
                .after(entry("/boot/grub.cfg", lines)),
            ],
            vec![
                Step::new(Op::Run {
                    command: program(&["cp", "BOOT", "PRODUCT"]),
                    produces: vec![path("/etc/product"), path("/etc/conf.d/old")],
                    undo: Undo::Nothing,
                })
                .after(entry("/etc/product", Matcher::Bytes("linux /boot/vmlinuz new\n".into()))),
            ],
            vec![restart],
        ],
    )
}

/// The same, with the path that the generator reads.
fn everything_in(root: &Path) -> Run {
    let mut run = everything();
    for step in run.works.iter_mut().flat_map(|work| &mut work.steps) {
        if let Op::Stage { source: Source::Stdout(command), .. } | Op::Run { command, .. } = &mut step.op {
            for word in &mut command.argv {
                match word.as_str() {
                    "BOOT" => *word = root.join("boot/source").display().to_string(),
                    "PRODUCT" => *word = root.join("etc/product").display().to_string(),
                    _ => {}
                }
            }
        }
    }
    run
}

#[test]
fn a_run_is_applied_once_and_taken_back() {
    let root = root();
    let before = snapshot(root.path());
    let run = everything_in(root.path());
    let mut host = host(root.path());
    let events = RefCell::new(0);
    let applied = host.apply(&run, &mut |_| *events.borrow_mut() += 1).unwrap();
    assert_eq!(applied, Applied::Ran { outcomes: vec![CHANGED; 6] });
    assert_eq!(*events.borrow(), 2 * 15 + 6);
    let after = snapshot(root.path());
    assert_eq!(fs::read_to_string(root.path().join("etc/a")).unwrap(), "new a\n");
    assert_eq!(fs::read_to_string(root.path().join("boot/grub.cfg")).unwrap(), "linux /boot/vmlinuz new\n");
    assert_eq!(fs::read_to_string(root.path().join("proc/sys/vm/swappiness")).unwrap(), "35\n");
    assert!(!root.path().join(Owed::path("service[x]").as_str().trim_start_matches('/')).exists());
    assert_eq!(fs::metadata(root.path().join("var/lib/vprov")).unwrap().mode() & 0o7777, 0o700);

    // The restart has no announced result and runs again; all else stands.
    let mut again = run.clone();
    again.id = RunId::new(1_800_000_001, 8);
    assert_eq!(outcomes(&mut host, &again), [SAME, SAME, SAME, SAME, SAME, CHANGED]);
    assert_eq!(snapshot(root.path()), after);

    let back = host.rollback(&run.id).unwrap();
    assert_eq!(back.left, Vec::<String>::new());
    assert_eq!(snapshot(root.path()), before);
    let error = host.rollback(&run.id).unwrap_err();
    assert!(error.to_string().contains("taken back already"), "{error}");
}

#[test]
fn a_rollback_can_be_taken_back() {
    let root = root();
    let run = everything_in(root.path());
    let mut host = host(root.path());
    apply(&mut host, &run);
    let after = snapshot(root.path());
    host.rollback(&run.id).unwrap();
    let runs = fs::read_dir(root.path().join("var/lib/vprov/runs")).unwrap();
    let names: Vec<String> = runs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let own: RunId = names.iter().find(|name| *name != run.id.as_str()).unwrap().parse().unwrap();
    let back = host.rollback(&own).unwrap();
    assert_eq!(back.left, Vec::<String>::new());
    assert_eq!(snapshot(root.path()), after);
    host.rollback(&run.id).unwrap();
}

#[test]
fn a_cut_at_any_point_loses_nothing() {
    let mut points = 0;
    for at in 0.. {
        let root = root();
        let before = snapshot(root.path());
        let run = everything_in(root.path());
        let mut cut = cut_host(root.path(), Some(at));
        let result = cut.apply(&run, &mut |_| {});
        drop(cut);
        if result.is_ok() {
            points = at;
            break;
        }
        let original = snapshot(root.path());
        for (name, old, new) in [
            ("etc/a", "old a\n", "new a\n"),
            ("boot/grub.cfg", "linux /boot/vmlinuz old\n", "linux /boot/vmlinuz new\n"),
        ] {
            let now = fs::read_to_string(root.path().join(name)).unwrap();
            assert!(now == old || now == new, "point {at}: {name} is torn: {now:?}");
        }
        // Either it is taken back …
        let mut host = host(root.path());
        match host.rollback(&run.id) {
            Ok(back) => assert_eq!(back.left, Vec::<String>::new(), "point {at}"),
            Err(error) => {
                assert!(error.to_string().contains("there is no run"), "point {at}: {error}");
                assert_eq!(original, before, "point {at}");
            }
        }
        assert_eq!(snapshot(root.path()), before, "point {at}");
        assert_eq!(host.read(&[Owed::read()]).unwrap(), [Answer::Paths(vec![])], "point {at}");
    }
    assert!(points > 100, "{points}");
}

#[test]
fn a_cut_at_any_point_is_followed_by_an_apply_that_converges() {
    let whole = root();
    let run = everything_in(whole.path());
    apply(&mut host(whole.path()), &run);
    let expected = snapshot(whole.path());
    for at in 0.. {
        let root = root();
        let mut run = everything_in(root.path());
        if cut_host(root.path(), Some(at)).apply(&run, &mut |_| {}).is_ok() {
            break;
        }
        run.id = RunId::new(1_800_000_001, 8);
        let mut host = host(root.path());
        let outcomes = outcomes(&mut host, &run);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. })), "point {at}: {outcomes:?}");
        assert_eq!(snapshot(root.path()), expected, "point {at}");
        assert_eq!(host.read(&[Owed::read()]).unwrap(), [Answer::Paths(vec![])], "point {at}");
    }
}

#[test]
fn a_cut_rollback_can_be_repeated() {
    for at in 0.. {
        let root = root();
        let before = snapshot(root.path());
        let run = everything_in(root.path());
        apply(&mut host(root.path()), &run);
        if cut_host(root.path(), Some(at)).rollback(&run.id).is_ok() {
            break;
        }
        if let Err(error) = host(root.path()).rollback(&run.id) {
            assert!(error.to_string().contains("taken back already"), "point {at}: {error}");
        }
        assert_eq!(snapshot(root.path()), before, "point {at}");
    }
}

#[test]
fn a_host_that_moved_is_refused_untouched() {
    let root = root();
    let run = everything_in(root.path());
    fs::write(root.path().join("etc/a"), "edited\n").unwrap();
    let before = snapshot(root.path());
    let Applied::Stale { moved } = apply(&mut host(root.path()), &run) else { panic!() };
    assert_eq!(moved.len(), 1);
    assert_eq!(moved[0].address, Address::new("test", "0"));
    assert!(moved[0].mtime.is_some());
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn a_later_guard_expects_what_an_earlier_step_announced() {
    let root = root();
    let steps = vec![
        write("/etc/a", "one\n", 0o644).guard(entry("/etc/a", file("old a\n", 0o640))),
        write("/etc/a", "two\n", 0o644).guard(entry("/etc/a", file("one\n", 0o644))),
        write("/etc/a", "three\n", 0o644).guard(entry("/etc/a", file("other\n", 0o644))),
    ];
    let mut host = host(root.path());
    let run = run_of(1, vec![steps]);
    match &outcomes(&mut host, &run)[..] {
        [Outcome::Failed { step: 2, error, .. }] => assert!(error.contains("changed since the plan"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(fs::read_to_string(root.path().join("etc/a")).unwrap(), "two\n");
    host.rollback(&run.id).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("etc/a")).unwrap(), "old a\n");
}

#[test]
fn a_failure_blocks_what_needs_it() {
    let root = root();
    let mut run = run_of(
        1,
        vec![
            vec![Step::new(Op::Run {
                command: Command::new(["false"]).under_root(UnderRoot::AsIs),
                produces: vec![],
                undo: Undo::Nothing,
            })],
            vec![write("/etc/a", "x", 0o644)],
            vec![write("/etc/b", "y", 0o644)],
            vec![write("/etc/c", "z", 0o644)],
        ],
    );
    run.works[1].needs = vec![0];
    run.works[2].needs = vec![1];
    let found = outcomes(&mut host(root.path()), &run);
    let failed = Outcome::Failed {
        step: 0,
        action: "run false".into(),
        error: "`false` ended with status 1".into(),
        by_system: false,
    };
    assert_eq!(found, [failed, Outcome::Blocked { by: 0 }, Outcome::Blocked { by: 1 }, CHANGED]);
}

#[test]
fn what_the_kernel_gives_less_of_falls_short() {
    let root = root();
    let poke = Op::Poke { path: path("/proc/sys/vm/swappiness"), value: "35".into(), form: Form::Plain };
    let mut step = Step::new(poke).after(entry("/proc/sys/vm/swappiness", Matcher::AtLeast(100)));
    step.may_fall_short = true;
    let short = Outcome::Short { wanted: "at least 100".into(), found: "`35`".into() };
    assert_eq!(outcomes(&mut host(root.path()), &run_of(1, vec![vec![step.clone()]])), [short]);
    let record = fs::read(root.path().join(&Short::place(&path("/proc/sys/vm/swappiness")).as_str()[1..])).unwrap();
    let record: Short = serde_json::from_slice(&record).unwrap();
    assert_eq!((record.wanted.as_str(), record.found.as_str()), ("35", "35"));
    step.may_fall_short = false;
    match &outcomes(&mut host(root.path()), &run_of(2, vec![vec![step]]))[..] {
        [Outcome::Failed { error, .. }] => assert_eq!(error, "it shows `35` afterwards, not at least 100"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rollback_leaves_what_somebody_changed_since() {
    let root = root();
    let run = run_of(1, vec![vec![write("/etc/a", "new", 0o644)], vec![write("/etc/b", "new", 0o644)]]);
    let mut host = host(root.path());
    apply(&mut host, &run);
    fs::write(root.path().join("etc/a"), "edited").unwrap();
    let back = host.rollback(&run.id).unwrap();
    assert_eq!(back.undone, ["restore /etc/b"]);
    assert!(back.left[0].starts_with("`/etc/a` changed since the run"), "{:?}", back.left);
    assert_eq!(fs::read_to_string(root.path().join("etc/a")).unwrap(), "edited");
}

#[test]
fn a_run_that_does_nothing_writes_nothing() {
    let root = root();
    let run = run_of(1, vec![vec![write("/etc/a", "old a\n", 0o640)], vec![]]);
    assert_eq!(outcomes(&mut host(root.path()), &run), [SAME, SAME]);
    assert!(!root.path().join("var/lib/vprov").exists());
    let missing = host(root.path()).rollback(&run.id).unwrap_err();
    assert_eq!(missing, HostError::Refused(format!("there is no run `{}`", run.id)));
    assert!(!root.path().join("var/lib/vprov").exists());
}

#[test]
fn one_run_at_a_time() {
    let root = root();
    let lock = {
        let host = host(root.path());
        super::journal::lock(&host.tree, &RunId::new(0, 1), "her@there", &host.terms)
    };
    let Applied::Locked { holder } = apply(&mut host(root.path()), &everything_in(root.path())) else { panic!() };
    assert!(holder.starts_with("her@there, run 19700101T000000Z-0001, since 20"), "{holder}");
    drop(lock);
    assert!(matches!(apply(&mut host(root.path()), &everything_in(root.path())), Applied::Ran { .. }));
}

#[test]
fn a_run_ends_where_it_is_told_to() {
    let root = root();
    let before = snapshot(root.path());
    let cancel = Arc::new(AtomicBool::new(false));
    let settings = Settings { root: Some(root.path().into()), cancel: Some(cancel.clone()), ..Settings::default() };
    let mut host = LocalHost::new(settings).unwrap();
    let run = run_of(1, vec![vec![write("/etc/a", "x", 0o644)], vec![write("/etc/b", "y", 0o644)]]);
    let stop = |event: &StepEvent| cancel.store(matches!(event, StepEvent::Ended { .. }), Ordering::SeqCst);
    let applied = host.apply(&run, &mut |event| stop(event)).unwrap();
    assert_eq!(applied, Applied::Ran { outcomes: vec![CHANGED, Outcome::NotStarted] });
    let answers = host.read(&Unfinished::reads()).unwrap();
    assert_eq!(Unfinished::decode(answers.iter().map(Some))[0].run, run.id);
    cancel.store(false, Ordering::SeqCst);
    host.rollback(&run.id).unwrap();
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn a_program_writes_the_file_that_it_is_given_and_knows_the_root() {
    let root = root();
    let stage = |name: &str, argv: &[&str], under_root| Op::Stage {
        name: name.into(),
        source: Source::Argument(Command::new(argv.iter().copied()).under_root(under_root)),
    };
    let install =
        |name: &str, at: &str| Op::Install { name: name.into(), path: path(at), owner: mine(0o644), derived: false };
    let source = root.path().join("etc/a").display().to_string();
    let copied = [stage("one", &["cp", &source, "{}"], UnderRoot::AsIs), install("one", "/etc/new")];
    let left = [stage("two", &["cp", &source, "{}"], UnderRoot::LeftForBoot), install("two", "/etc/left")];
    let option = UnderRoot::Option("--root".into());
    let told = [stage("three", &["cp", &source, "{}"], option)];
    let works = [&copied[..], &left, &told].map(|ops| ops.iter().cloned().map(Step::new).collect());
    let found = outcomes(&mut host(root.path()), &run_of(1, works.into()));
    assert_eq!(found[..2], [CHANGED, SAME]);
    assert_eq!(fs::read_to_string(root.path().join("etc/new")).unwrap(), "old a\n");
    assert!(!root.path().join("etc/left").exists());
    let expected = format!("`cp --root={} ", root.path().display());
    assert!(matches!(&found[2], Outcome::Failed { error, .. } if error.starts_with(&expected)), "{:?}", found[2]);
}

#[test]
fn an_observer_refuses_to_act() {
    let root = root();
    let mut host =
        LocalHost::new(Settings { root: Some(root.path().into()), observe: true, ..Settings::default() }).unwrap();
    assert!(host.apply(&everything(), &mut |_| {}).is_err());
    assert!(host.rollback(&RunId::new(0, 0)).is_err());
}

#[test]
fn links_never_leave_the_root() {
    let root = root();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "outside").unwrap();
    symlink(outside.path(), root.path().join("etc/out")).unwrap();
    symlink("../../../../../../../../etc/a", root.path().join("etc/up")).unwrap();
    symlink("/etc/conf.d", root.path().join("etc/abs")).unwrap();
    symlink("loop", root.path().join("etc/loop")).unwrap();
    let mut host = host(root.path());
    let reads = ["/etc/out/secret", "/etc/up", "/etc/loop", "/etc/a/b"].map(|at| Read::content(path(at)));
    let answers = host.read(&reads).unwrap();
    assert_eq!(answers[0], Answer::Absent);
    assert_eq!(answers[1].text(), Some("old a\n"));
    assert!(matches!(&answers[2], Answer::Failed(_)), "{:?}", answers[2]);
    assert_eq!(answers[3], Answer::Absent);
    let run = run_of(1, vec![vec![write("/etc/out/x", "x", 0o644)], vec![write("/etc/abs/y", "y", 0o644)]]);
    let found = outcomes(&mut host, &run);
    assert!(matches!(found[0], Outcome::Failed { .. }), "{found:?}");
    assert_eq!(found[1], CHANGED);
    assert!(!outside.path().join("x").exists());
    assert!(root.path().join("etc/conf.d/y").exists());
}

#[test]
fn a_directory_that_is_swapped_for_a_link_turns_no_write_elsewhere() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let root = root();
    let outside = TempDir::new().unwrap();
    let (real, link) = (root.path().join("etc/d"), root.path().join("etc/l"));
    fs::create_dir(&real).unwrap();
    symlink(outside.path(), &link).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let stop = done.clone();
    let swapper = std::thread::spawn(move || {
        let mut swaps = 0_usize;
        while !stop.load(Ordering::SeqCst) {
            renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            swaps += 1;
        }
        swaps
    });
    let mut host = host(root.path());
    let (mut written, mut refused) = (0, 0);
    for number in 0..200 {
        let run = run_of(number, vec![vec![write("/etc/d/x", &number.to_string(), 0o644)]]);
        match apply(&mut host, &run) {
            Applied::Ran { outcomes } if outcomes == [CHANGED] => written += 1,
            _ => refused += 1,
        }
    }
    done.store(true, Ordering::SeqCst);
    assert!(swapper.join().unwrap() > 0 && written + refused == 200);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{written} written, {refused} refused");
}

#[test]
fn a_link_is_replaced_only_where_the_plan_saw_it() {
    let root = root();
    let mut host = host(root.path());
    let step = write("/etc/link", "x", 0o644);
    match &outcomes(&mut host, &run_of(1, vec![vec![step.clone()]]))[..] {
        [Outcome::Failed { error, .. }] => assert!(error.contains("is a symbolic link to `a`"), "{error}"),
        other => panic!("{other:?}"),
    }
    let step = step.guard(entry("/etc/link", Matcher::Link { target: "a".into() }));
    assert_eq!(outcomes(&mut host, &run_of(2, vec![vec![step]])), [CHANGED]);
    assert_eq!(fs::read_to_string(root.path().join("etc/a")).unwrap(), "old a\n");
}

#[test]
fn failures_have_the_systems_words() {
    let root = root();
    let check =
        |number, step: Step, expected: &str| match &outcomes(&mut host(root.path()), &run_of(number, vec![vec![step]]))
            [..]
        {
            [Outcome::Failed { error, .. }] => assert_eq!(error, expected),
            other => panic!("{other:?}"),
        };
    check(1, write("/no/such/x", "x", 0o644), "cannot enter `/no/such`: No such file or directory");
    check(2, write("/etc/conf.d", "x", 0o644), "`/etc/conf.d` is a directory");
    check(3, write("/", "x", 0o644), "`/` is the root directory");
    check(4, Step::new(Op::Remove { path: path("/etc") }), "cannot remove `/etc`: Directory not empty");
    let install = Op::Install { name: "n".into(), path: path("/etc/a"), owner: mine(0o644), derived: false };
    check(5, Step::new(install), "nothing was staged as `n`");
}

#[test]
fn extended_attributes_are_kept_and_restored() {
    let root = root();
    let file = root.path().join("etc/a");
    let set = |name: &str, value: &[u8]| rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty());
    if let Err(errno) = set("user.vprov", b"kept") {
        eprintln!("SKIP extended_attributes_are_kept_and_restored: {errno}");
        return;
    }
    let get = || {
        let mut value = Vec::with_capacity(100);
        let got = rustix::fs::getxattr(&file, "user.vprov", rustix::buffer::spare_capacity(&mut value));
        got.ok().map(|_| value)
    };
    let run = run_of(1, vec![vec![write("/etc/a", "new", 0o600)]]);
    assert_eq!(outcomes(&mut host(root.path()), &run), [CHANGED]);
    assert_eq!(get().unwrap(), b"kept");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "new").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    host(root.path()).rollback(&run.id).unwrap();
    assert_eq!(get().unwrap(), b"kept");
}

#[test]
fn reads_are_bounded_and_sorted() {
    let root = root();
    let big = fs::File::create(root.path().join("etc/conf.d/big")).unwrap();
    big.set_len(17 << 20).unwrap();
    fs::write(root.path().join("etc/conf.d/b.conf"), "b").unwrap();
    fs::write(root.path().join("etc/conf.d/a.conf"), "a").unwrap();
    fs::write(root.path().join("etc/conf.d/.h.conf"), "h").unwrap();
    symlink("nowhere", root.path().join("etc/conf.d/c.conf")).unwrap();
    let mut host = host(root.path());
    let reads = [
        Read::content(path("/etc/conf.d/big")),
        Read::Path { path: path("/etc/conf.d/big"), follow: true, want: Want::Digest },
        Read::glob("/etc/*.d/*.conf"),
        Read::entry(path("/etc/link")),
        Read::Probe(Probe::unit("Id", "x.service")),
        Read::glob("/no/*/where"),
    ];
    let answers = host.read(&reads).unwrap();
    assert_eq!(answers[0], Answer::Failed("`/etc/conf.d/big` holds more than 16 MiB".into()));
    assert!(matches!(&answers[1], Answer::File { digest: Some(_), content: None, .. }));
    let Answer::Paths(paths) = &answers[2] else { panic!() };
    let names: Vec<&str> = paths.iter().map(|(path, _)| path.file_name()).collect();
    assert_eq!(names, ["a.conf", "b.conf", "c.conf"]);
    assert_eq!(paths[2].1, Answer::Absent);
    assert!(matches!(&answers[3], Answer::Link { target, .. } if target == "a"));
    assert_eq!(answers[4], Answer::Absent);
    assert_eq!(answers[5], Answer::Paths(vec![]));
}

#[test]
fn the_machine_itself_is_read() {
    let mut host = LocalHost::new(Settings { observe: true, ..Settings::default() }).unwrap();
    let reads = [
        Read::content(path("/proc/sys/kernel/ostype")),
        Read::content(path("/proc/mounts")),
        Read::content(path("/vprov-absent/x")),
        Read::Probe(Probe::Once { argv: vec!["systemctl".into(), "stop".into()] }),
        Read::Probe(Probe::User { argv: vec!["vprov-no-such-program".into()] }),
    ];
    let answers = host.read(&reads).unwrap();
    assert_eq!(answers[0].text(), Some("Linux\n"));
    assert!(answers[1].text().is_some_and(|text| !text.is_empty()));
    assert_eq!(answers[2], Answer::Absent);
    assert!(matches!(&answers[3], Answer::Failed(error) if error.contains("not among the programs")));
    assert!(matches!(&answers[4], Answer::Absent | Answer::Failed(_)), "{:?}", answers[4]);
}

#[test]
fn what_a_person_has_run_can_write_nothing() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIP what_a_person_has_run_can_write_nothing: it needs root");
        return;
    }
    let directory = TempDir::new().unwrap();
    let target = directory.path().join("x");
    let swappiness = fs::read_to_string("/proc/sys/vm/swappiness").unwrap();
    let probe = |argv: &[&str]| Read::Probe(Probe::User { argv: argv.iter().map(|word| (*word).into()).collect() });
    let mut host = LocalHost::new(Settings { observe: true, ..Settings::default() }).unwrap();
    let answers = host
        .read(&[
            probe(&["touch", &target.display().to_string()]),
            probe(&["dd", "of=/proc/sys/vm/swappiness", "if=/proc/sys/vm/swappiness"]),
            probe(&["touch", "/dev/shm/vprov-test"]),
            probe(&["cat", "/proc/sys/vm/swappiness"]),
        ])
        .unwrap();
    if let Answer::Failed(error) = &answers[0] {
        eprintln!("SKIP what_a_person_has_run_can_write_nothing: {error}");
        return;
    }
    for answer in &answers[..3] {
        let Answer::Output(output) = answer else { panic!("{answer:?}") };
        assert!(output.stderr.lossy().contains("Read-only file system"), "{output:?}");
        assert_ne!(output.status, 0);
    }
    assert_eq!(answers[3].text(), Some(swappiness.as_str()));
    assert!(!target.exists());
    // Only the programs saw it so.
    fs::write(&target, "x").unwrap();
}

/// Everything below a directory of the state.
fn runs_in(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("var/lib/vprov/runs")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_preview_says_what_a_rollback_does_and_nothing_else_is_done() {
    let root = root();
    let before = snapshot(root.path());
    let run = everything_in(root.path());
    let mut host = host(root.path());
    apply(&mut host, &run);
    let applied = snapshot(root.path());
    let plan = host.undo_plan(&run.id).unwrap();
    assert_eq!(snapshot(root.path()), applied);
    let acts: Vec<String> = plan
        .steps
        .iter()
        .map(|step| match &step.act {
            UndoAct::Path { path, now, then } => {
                let shown = |answer: &Answer| answer.text().map_or_else(|| answer.describe(), str::to_owned);
                format!("{path}: {} / {}", shown(now), shown(then))
            }
            UndoAct::Value { path, now, then } => format!("{path}: {now:?} / {then}"),
            UndoAct::Run { argv } => argv.join(" "),
            UndoAct::Generate { path, by } => format!("{path} by {}", by.len()),
            UndoAct::Impossible { action, .. } => action.clone(),
        })
        .collect();
    assert_eq!(
        acts,
        [
            "/etc/product: linux /boot/vmlinuz new\n / nothing",
            "/boot/source: linux /boot/vmlinuz new\n / linux /boot/vmlinuz old\n",
            "/proc/sys/vm/swappiness: Some(\"35\") / 60",
            "/boot/vmlinuz:  / ",
            "/etc/b: nothing / old b\n",
            "/etc/link: a symbolic link to `b` / a symbolic link to `a`",
            "/etc/new/file: fresh\n / nothing",
            "/etc/a: new a\n / old a\n",
            "true",
            "/etc/new: a directory / nothing",
            "/boot/grub.cfg by 2",
        ]
    );
    assert_eq!(plan.changed().next(), None);
    let take = |expects| TakeBack { expects: Some(expects), changed: Changed::Refuse, ..TakeBack::of(&run.id) };
    assert_eq!(host.undo(&take(Bytes::from("else").digest())).unwrap(), TookBack::Moved);
    assert_eq!(snapshot(root.path()), applied);
    let done = host.undo(&take(plan.digest())).unwrap().done().unwrap();
    assert_eq!((done.left, done.interrupted), (vec![], false));
    assert_eq!(snapshot(root.path()), before);
    let again = host.undo_plan(&run.id).unwrap();
    assert_eq!((again.taken_back_by, done.run.is_some()), (done.run, true));
}

#[test]
fn what_somebody_changed_since_is_refused_or_taken_back_too() {
    let root = root();
    let before = snapshot(root.path());
    let poke = Op::Poke { path: path("/proc/sys/vm/swappiness"), value: "35".into(), form: Form::Plain };
    let run =
        run_of(1, vec![vec![write("/etc/a", "new", 0o644)], vec![write("/etc/b", "new", 0o644), Step::new(poke)]]);
    let mut host = host(root.path());
    apply(&mut host, &run);
    fs::write(root.path().join("etc/a"), "edited").unwrap();
    fs::write(root.path().join("proc/sys/vm/swappiness"), "10\n").unwrap();
    let edited = snapshot(root.path());
    let take = |changed| TakeBack { changed, ..TakeBack::of(&run.id) };
    let TookBack::Changed { what } = host.undo(&take(Changed::Refuse)).unwrap() else { panic!() };
    assert!(what.len() == 2 && what[0].contains("/proc/sys/vm/swappiness") && what[1].contains("/etc/a"), "{what:?}");
    assert_eq!(snapshot(root.path()), edited);
    let done = host.undo(&take(Changed::TakeBack)).unwrap().done().unwrap();
    assert_eq!(done.left, Vec::<String>::new());
    assert_eq!(snapshot(root.path()), before);
    // What it took away is not lost.
    host.rollback(&done.run.unwrap()).unwrap();
    assert_eq!(snapshot(root.path()), edited);
}

#[test]
fn a_directory_goes_after_the_program_that_empties_it() {
    let root = root();
    let before = snapshot(root.path());
    let inside = root.path().join("etc/new/inside").display().to_string();
    let program = |argv: &[&str]| Command::new(argv.iter().copied()).under_root(UnderRoot::AsIs);
    let undo = Undo::Run(program(&["rm", &inside]));
    let made = vec![
        Step::new(Op::Directory { path: path("/etc/new"), owner: mine(0o755) }),
        Step::new(Op::Run { command: program(&["touch", &inside]), produces: vec![], undo }),
    ];
    let run = run_of(1, vec![made]);
    let mut host = host(root.path());
    apply(&mut host, &run);
    assert!(root.path().join("etc/new/inside").exists());
    assert_eq!(host.rollback(&run.id).unwrap().left, Vec::<String>::new());
    assert_eq!(snapshot(root.path()), before);
}

#[test]
fn a_program_whose_effect_does_not_stand_is_not_taken_back() {
    let root = root();
    let program = |argv: &[&str]| Command::new(argv.iter().copied()).under_root(UnderRoot::AsIs);
    let stands = entry("/etc/a", file("old a\n", 0o640));
    let step = |argv: &[&str]| {
        let undo = Undo::RunWhile { stands: stands.clone().into(), command: program(&["false"]) };
        Step::new(Op::Run { command: program(argv), produces: vec![], undo })
    };
    let mut host = host(root.path());
    for (number, content, tried) in [(1, "old a\n", 1), (2, "another\n", 0)] {
        fs::write(root.path().join("etc/a"), content).unwrap();
        let run = run_of(number, vec![vec![step(&["false"])]]);
        apply(&mut host, &run);
        assert_eq!(host.undo_plan(&run.id).unwrap().steps.len(), tried);
        // The program of the way back fails here if it is run.
        assert_eq!(host.rollback(&run.id).unwrap().left.len(), tried);
    }
}

#[test]
fn a_cut_run_is_told_until_one_ends_well() {
    let root = root();
    let run = everything_in(root.path());
    let unfinished = |host: &mut LocalHost| {
        let answers = host.read(&Unfinished::reads()).unwrap();
        Unfinished::decode(answers.iter().map(Some)).into_iter().map(|one| (one.run, one.by)).collect::<Vec<_>>()
    };
    let expected = vec![(run.id.clone(), "me@here".to_owned())];
    cut_host(root.path(), Some(60)).apply(&run, &mut |_| {}).unwrap_err();
    let mut host = host(root.path());
    assert_eq!(unfinished(&mut host), expected);
    let mut failing = run_of(1, vec![vec![write("/nowhere/a", "", 0o644)]]);
    assert!(matches!(outcomes(&mut host, &failing)[..], [Outcome::Failed { .. }]));
    assert_eq!(unfinished(&mut host), expected, "a run that fails does not make up for it");
    failing.works.clear();
    assert_eq!(outcomes(&mut host, &failing), []);
    assert_eq!(unfinished(&mut host), []);
}

#[test]
fn a_boot_configuration_is_installed_only_if_every_check_holds() {
    for (generated, checker, words) in [
        ("linux /boot/vmlinuz new\n", "false", "`false"),
        ("linux /boot/vmlinuz other\n", "true", "new"),
        ("linux /boot/gone new\n", "true", "/boot/gone"),
        ("", "true", "linux"),
    ] {
        let root = root();
        let mut run = everything_in(root.path());
        run.works = vec![run.works.remove(3)];
        let source = Op::Write { path: path("/boot/source"), content: generated.into(), owner: mine(0o644) };
        run.works[0].steps[0] = Step::new(source);
        let check = Command::new([checker, "{}"]).under_root(UnderRoot::AsIs).with_staged("grub");
        run.works[0].steps[4] = Step::new(Op::Check(Check::Succeeds(check)));
        let [Outcome::Failed { error, .. }] = &outcomes(&mut host(root.path()), &run)[..] else {
            panic!("{generated:?} is installed")
        };
        assert!(error.contains(words), "{error}");
        let menu = fs::read_to_string(root.path().join("boot/grub.cfg")).unwrap();
        assert_eq!(menu, "linux /boot/vmlinuz old\n", "the old one is kept");
    }
}

#[test]
fn only_so_many_bytes_are_kept_and_always_the_newest_run() {
    let root = root();
    let settings = Settings { root: Some(root.path().into()), keep_bytes: Some(25_000), ..Settings::default() };
    let mut host = LocalHost::new(settings).unwrap();
    let long = |number: u16| format!("{number}").repeat(10_000);
    let run = |number: u16| run_of(number, vec![vec![write("/etc/a", &long(number), 0o644)]]);
    for number in 1..6 {
        apply(&mut host, &run(number));
    }
    // Each keeps what the one before it wrote: 10,000 bytes and a journal.
    let ids = |numbers: &[u16]| numbers.iter().map(|number| run(*number).id.to_string()).collect::<Vec<_>>();
    assert_eq!(runs_in(root.path()), ids(&[4, 5]));
    let settings = Settings { root: Some(root.path().into()), keep_bytes: Some(0), ..Settings::default() };
    apply(&mut LocalHost::new(settings).unwrap(), &run(6));
    assert_eq!(runs_in(root.path()), ids(&[6]));
}

#[test]
fn old_runs_are_forgotten_but_for_the_newest_that_ended_well_and_those_without_an_end() {
    let root = root();
    let settings = Settings { root: Some(root.path().into()), keep_runs: Some(3), ..Settings::default() };
    let mut host = LocalHost::new(settings).unwrap();
    let run = |number: u16| run_of(number, vec![vec![write("/etc/a", &format!("{number}"), 0o644)]]);
    let cut = run(1);
    cut_host(root.path(), Some(30)).apply(&cut, &mut |_| {}).unwrap_err();
    for number in 2..5 {
        apply(&mut host, &run(number));
    }
    // The first run that ended well made up for the one that was cut, so that is the oldest that goes.
    let ids = |numbers: &[u16]| numbers.iter().map(|number| run(*number).id.to_string()).collect::<Vec<_>>();
    assert_eq!(runs_in(root.path()), ids(&[2, 3, 4]));
    let settings = Settings { root: Some(root.path().into()), keep_runs: Some(0), ..Settings::default() };
    let mut host = LocalHost::new(settings).unwrap();
    apply(&mut host, &run(5));
    assert_eq!(runs_in(root.path()), ids(&[5]));
    host.rollback(&run(5).id).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("etc/a")).unwrap(), "4");
    fs::create_dir(root.path().join("var/lib/vprov/runs/.gone-x")).unwrap();
    apply(&mut host, &run(6));
    assert_eq!(runs_in(root.path()), ids(&[6]), "what a cut left of a run that was forgotten goes too");
}

#[test]
fn a_lock_is_waited_for() {
    let root = root();
    let settings = Settings {
        root: Some(root.path().into()),
        lock_timeout: std::time::Duration::from_secs(30),
        ..Settings::default()
    };
    let mut host = LocalHost::new(settings).unwrap();
    let held = super::journal::lock(&host.tree, &RunId::new(0, 1), "her@there", &host.terms);
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(600));
        drop(held);
    });
    assert_eq!(outcomes(&mut host, &run_of(1, vec![vec![write("/etc/a", "x", 0o644)]])), [CHANGED]);
    thread.join().unwrap();
}

#[test]
fn a_run_without_room_does_not_begin() {
    let root = root();
    let tree = &host(root.path()).tree;
    super::space::check(tree, [(path("/etc/new/deep/file"), 1000)]).unwrap();
    let error = super::space::check(tree, [(path("/etc/new/deep/file"), 1 << 60)]).unwrap_err();
    assert!(error.starts_with("the file system of `/etc` has ") && error.contains(" KiB for backups"), "{error}");
    let run = run_of(1, vec![vec![write("/etc/a", &"x".repeat(3000), 0o644), write("/etc/c", "y", 0o644)]]);
    let needs = super::space::of_run(tree, &run);
    let state = path("/var/lib/vprov/runs");
    assert_eq!(needs, [(path("/etc/a"), 3000), (path("/etc/c"), 1), (state, 6)]);
}
