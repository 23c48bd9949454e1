//! The real `vprov`, started with nothing of the caller's environment, and what it gave back.

use std::{
    ffi::OsStr,
    fmt,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A world for runs of the program: an empty directory that is its home, its working directory and its temporary directory.
pub struct Env {
    dir: tempfile::TempDir,
    vars: Vec<(String, String)>,
    limit: Duration,
}

/// What a run gave back.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; a process ended by a signal has 128 and the signal's number, as in a shell.
    pub code: i32,
    /// Standard output, bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Env {
    /// An empty world; `PATH` is the system's, `TERM` is dumb, colour is off, runs end after two minutes.
    pub fn new() -> Env {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = dir.path().to_str().expect("temporary directories are UTF-8").to_owned();
        let vars = [
            ("HOME", home.as_str()),
            ("TMPDIR", home.as_str()),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LANG", "C.UTF-8"),
            ("TERM", "dumb"),
            ("NO_COLOR", "1"),
        ];
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Env { dir, vars, limit: Duration::from_secs(120) }
    }

    /// Sets one variable for all runs from now on.
    pub fn var(mut self, name: &str, value: &str) -> Env {
        self.vars.retain(|(old, _)| old != name);
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets runs take so long from now on.
    pub fn limit(mut self, limit: Duration) -> Env {
        self.limit = limit;
        self
    }

    /// The directory of this world.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file below the directory, with its parents, and gives its path.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(path);
        let parent = path.parent().expect("a path below the directory has a parent");
        std::fs::create_dir_all(parent).expect("the parents can be made");
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    /// Runs `vprov` with these arguments and an empty standard input.
    pub fn vprov<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.run(env!("CARGO_BIN_EXE_vprov"), args, "")
    }

    /// Runs `vprov` with these arguments and this standard input.
    pub fn vprov_with_input<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &str) -> Output {
        self.run(env!("CARGO_BIN_EXE_vprov"), args, input)
    }

    /// Runs any program in this world; it is killed, and the test fails, when it takes too long.
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = A>, input: &str) -> Output {
        let mut child = Command::new(program)
            .args(args)
            .env_clear()
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`{program}` does not start: {error}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let (mut out, mut err) =
            (child.stdout.take().expect("stdout is piped"), child.stderr.take().expect("stderr is piped"));
        let input = input.to_owned();
        // A program that ends without reading its input closes the pipe; that is no error of the test.
        let writer = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        let stdout = thread::spawn(move || read_all(&mut out));
        let stderr = thread::spawn(move || read_all(&mut err));
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if start.elapsed() > self.limit {
                child.kill().expect("the child can be killed");
                panic!("`{program}` did not end within {:?}", self.limit);
            }
            thread::sleep(Duration::from_millis(5));
        };
        writer.join().expect("the writer ends");
        let code =
            status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
        Output {
            code,
            stdout: stdout.join().expect("the reader ends"),
            stderr: stderr.join().expect("the reader ends"),
        }
    }
}

impl Output {
    /// Fails the test, with all that the program said, unless it ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Output {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Fails the test unless the program said these words, on standard output or standard error.
    #[track_caller]
    pub fn says(self, words: &str) -> Output {
        assert!(self.stdout.contains(words) || self.stderr.contains(words), "`{words}` is not said: {self:?}");
        self
    }

    /// Fails the test if the program said these words anywhere.
    #[track_caller]
    pub fn never_says(self, words: &str) -> Output {
        assert!(!self.stdout.contains(words) && !self.stderr.contains(words), "`{words}` is said: {self:?}");
        self
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}\n---", self.code, self.stdout, self.stderr)
    }
}

fn read_all(from: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_program_starts_and_says_its_version_whatever_its_input_is() {
    let env = Env::new();
    env.vprov(["--version"]).exits(0);
    env.vprov_with_input(["--version"], "an input that nobody reads\n").exits(0);
}

#[test]
fn a_run_sees_nothing_of_the_callers_environment() {
    let env = Env::new().var("MARK", "1").var("MARK", "2");
    let path = env.write("a/b.txt", "text\n");
    let output = env.run("sh", ["-c", "env | cut -d= -f1 | sort | tr '\\n' ' '; echo $MARK; cat a/b.txt; cat"], "in\n");
    let output = output.exits(0);
    assert_eq!(output.stdout, "HOME LANG MARK NO_COLOR PATH PWD TERM TMPDIR 2\ntext\nin\n");
    assert!(path.starts_with(env.dir()));
}
