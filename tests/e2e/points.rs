//! The system calls by which the executor changes a machine, and how a machine is judged that was cut at one of them.
//!
//! The points come from strace's record of the real binary on the very machine that is then cut, so a new call is a new point, and
//! one that is not known here fails. A machine is judged by all that is on it.

use crate::{
    chroot::{Machine, difference},
    program::Output,
};
use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Calls that change nothing of a machine.
const HARMLESS: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "dup",
    "execve",
    "fadvise64",
    "fcntl",
    "fgetxattr",
    "flistxattr",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getegid",
    "geteuid",
    "getpid",
    "getrandom",
    "getrlimit",
    "gettid",
    "getuid",
    "getxattr",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "open",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "prlimit64",
    "pread64",
    "read",
    "readlink",
    "readlinkat",
    "recvfrom",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "socketpair",
    "statfs",
    "statx",
    "sysinfo",
    "uname",
    "wait4",
    "waitid",
];

/// Calls that change something, or make what was changed visible, or start what changes something.
const CHANGING: &[&str] = &[
    "clone",
    "clone3",
    "exit_group",
    "fchmod",
    "fchown",
    "fchownat",
    "fdatasync",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "kill",
    "linkat",
    "mkdirat",
    "openat",
    "renameat",
    "renameat2",
    "symlinkat",
    "unlinkat",
    "utimensat",
    "vfork",
    "write",
];

/// One call of the executor's main thread.
#[derive(PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub call: String,
    /// Its number among the calls of that name, from 1.
    pub number: usize,
    /// As strace shows it, without what differs between two runs.
    pub line: String,
    /// It tells the controller something.
    pub is_channel: bool,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{} {}", self.call, self.number, self.line)
    }
}

/// Takes from strace's record all calls that change something.
fn points(trace: &[String]) -> Vec<Point> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut points = vec![];
    for line in trace {
        let Some((call, rest)) = line.split_once('(') else { continue };
        if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let number = numbers.entry(call.into()).or_default();
        *number += 1;
        let is_read = call == "openat" && !rest.contains("O_CREAT") && !rest.contains("O_TRUNC");
        // A thread is nothing; a process acts.
        let is_thread = rest.contains("CLONE_THREAD");
        if HARMLESS.contains(&call) || is_read || is_thread {
            continue;
        }
        assert!(CHANGING.contains(&call), "whether `{call}` changes something is not known here: {line}");
        // What a call of the kernel returns into is shown only by one that came back.
        let line = if call.starts_with("clone") { "a process begins".into() } else { stable(rest) };
        let is_channel = call == "write" && rest.starts_with("1, ");
        points.push(Point { call: call.into(), number: *number, line, is_channel });
    }
    points
}

/// Leaves out of a call what differs between two runs: numbers, and names made of them.
fn stable(arguments: &str) -> String {
    let end = arguments.rfind(" = ").unwrap_or(arguments.len());
    let mut words = String::new();
    for word in arguments[..end]
        .trim_end()
        .trim_end_matches(')')
        .split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-')
    {
        // A temporary name may be of letters alone.
        let is_number = word.bytes().any(|byte| byte.is_ascii_digit()) || word.starts_with("vprov-");
        words.push_str(if is_number { "#" } else { word });
    }
    words
}

/// What is done to a machine, and how it must end.
pub struct Scenario {
    /// The machine before the command that is cut.
    start: Machine,
    /// The command that is cut.
    command: Vec<String>,
    /// The machine that a rollback brings back, and the one to which an apply leads.
    before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
    is_rollback: bool,
    /// Where it can be cut.
    pub points: Vec<Point>,
}

const ROLLBACK: [&str; 3] = ["rollback", "hosts.yaml", "--yes"];
const APPLY: [&str; 3] = ["apply", "hosts.yaml", "--yes"];

impl Scenario {
    /// An apply to a machine that vprov never touched.
    pub fn apply() -> Scenario {
        let start = Machine::new();
        let before = start.tree(true);
        let whole = start.copy();
        let (output, trace) = whole.traced("-e trace=all", &APPLY);
        output.exits(0);
        whole.vprov(&["plan", "hosts.yaml", "--detailed-exitcode"]).exits(0);
        assert_eq!(whole.litter(), Vec::<String>::new());
        let after = whole.tree(false);
        assert_eq!(whole.read("run/app.loaded"), "a = 1\n");
        Scenario {
            start,
            command: APPLY.map(String::from).into(),
            before,
            after,
            is_rollback: false,
            points: points(&trace),
        }
    }

    /// A rollback of such an apply.
    pub fn rollback() -> Scenario {
        let Scenario { start, before, after, .. } = Scenario::apply();
        start.vprov(&APPLY).exits(0);
        let runs = fs::read_dir(start.path("var/lib/vprov/runs")).expect("there are runs");
        let run = runs.map(|run| run.expect("a run").file_name().into_string().expect("UTF-8")).next().expect("a run");
        let command: Vec<String> = [&ROLLBACK[..], &["--run", &run]].concat().into_iter().map(String::from).collect();
        let whole = start.copy();
        let (output, trace) = whole.traced("-e trace=all", &command.iter().map(String::as_str).collect::<Vec<_>>());
        output.exits(0);
        assert_eq!(difference(&whole.tree(true), &before), None);
        Scenario { start, command, before, after, is_rollback: true, points: points(&trace) }
    }

    /// Runs the command on a fresh machine with something done to one call.
    pub fn cut(&self, point: &Point, what: &str) -> Result<(Machine, Output), String> {
        let machine = self.start.copy();
        let Point { call, number, .. } = point;
        let options = format!("-e trace={call} -e inject={call}:{what}:when={number}");
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let (output, trace) = machine.traced(&options, &command);
        match points(&trace).into_iter().find(|hit| hit.number == *number) {
            Some(hit) if hit == *point => Ok((machine, output)),
            hit => {
                Err(format!("another call was met: {}\n{output:?}", hit.map_or("none".into(), |hit| hit.to_string())))
            }
        }
    }

    /// Tries points in parallel and fails with all that is wrong.
    pub fn try_all(&self, title: &str, points: &[&Point], judge: impl Fn(&Point) -> Result<(), String> + Sync) {
        let (next, wrong) = (AtomicUsize::new(0), Mutex::new(vec![]));
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    while let Some(point) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                        if let Err(words) = judge(point) {
                            wrong.lock().expect("no judge panics here").push(format!("{point}\n{words}"));
                        }
                    }
                });
            }
        });
        let list: Vec<String> = points.iter().map(ToString::to_string).collect();
        eprintln!("{title}: {} of {} points, none skipped:\n{}", points.len(), self.points.len(), list.join("\n"));
        let wrong = wrong.into_inner().expect("no judge panics here");
        assert!(wrong.is_empty(), "{title}: {} of {}:\n\n{}", wrong.len(), points.len(), wrong.join("\n\n"));
    }

    /// No file is torn: each is as before or as after.
    fn not_torn(&self, machine: &Machine) -> Result<(), String> {
        let content = |line: &String| {
            line.split_once('"').map(|(_, content)| content.rsplit_once('"').map(|(c, _)| c.to_owned()))
        };
        for (name, line) in machine.tree(false) {
            let known = [&self.before, &self.after].map(|tree| tree.get(&name).map(content));
            // A value is no file: writing one is a single call, and a plain file in its place is emptied first.
            if name.starts_with("proc/") || name.contains("/.vprov-") || known.contains(&Some(content(&line))) {
                continue;
            }
            return Err(format!("{name} is torn: {line}"));
        }
        Ok(())
    }

    /// After a cut nothing is torn, a rollback restores the machine, and an apply converges from what the cut left as from what the
    /// rollback did.
    pub fn judge(&self, machine: &Machine) -> Result<(), String> {
        self.not_torn(machine)?;
        let other = machine.copy();
        self.restores(machine)?;
        self.converges(&other)?;
        if self.is_rollback { self.converges(machine) } else { Ok(()) }
    }

    /// A rollback restores everything, or did already.
    fn restores(&self, machine: &Machine) -> Result<(), String> {
        let output = machine.vprov(&ROLLBACK);
        match (output.code, difference(&machine.tree(true), &self.before)) {
            (0, None) => Ok(()),
            (_, left) => Err(format!("a rollback does not restore it: {}\n{output:?}", left.unwrap_or_default())),
        }
    }

    /// An apply ends what was cut, and then there is nothing to do, nothing due and nothing left behind.
    fn converges(&self, machine: &Machine) -> Result<(), String> {
        let output = machine.vprov(&APPLY);
        if output.code != 0 {
            return Err(format!("an apply does not end it: {output:?}"));
        }
        let plan = machine.vprov(&["plan", "hosts.yaml", "--detailed-exitcode"]);
        if plan.code != 0 || plan.stdout.contains("interrupted") {
            return Err(format!("an apply leaves something to do: {output:?} {plan:?}"));
        }
        if let Some(words) = difference(&machine.tree(false), &self.after) {
            return Err(format!("an apply leads elsewhere: {words}\n{output:?}"));
        }
        // A run that has nothing to do writes nothing, so it tidies nothing up.
        let litter = if output.stdout.contains(", run 20") { machine.litter() } else { vec![] };
        if litter.is_empty() { Ok(()) } else { Err(format!("an apply leaves {litter:?}")) }
    }
}

/// Each `step`-th point, and the first of each kind of call.
pub fn slice(points: &[Point], step: usize) -> Vec<&Point> {
    let taken = points.iter().enumerate().filter(|(at, point)| at % step == 0 || point.number == 1);
    taken.map(|(_, point)| point).collect()
}
