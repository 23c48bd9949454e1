//! Programs: a fixed environment, bounded output, and an end for the whole process group.

use std::{
    io::ErrorKind,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};

use super::tree::words;
use crate::host::read::Output;

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of each output stream is kept.
const OUTPUT: usize = 4 << 20;

/// How long a program that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How long the streams of a program that ended are read on, if a child of it keeps them open.
const LINGER: Duration = Duration::from_millis(200);

/// How running a program went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// There is no such program.
    #[error("there is no program `{0}`")]
    Missing(String),
    /// It could not be started.
    #[error("cannot run `{0}`: {1}")]
    Start(String, String),
    /// It took too long and was ended.
    #[error("`{0}` did not end within {1} s and was ended{2}")]
    Timeout(String, u64, String),
    /// It printed too much and was ended.
    #[error("`{0}` printed more than {1} bytes and was ended")]
    Output(String, usize),
    /// It ended with a status other than 0.
    #[error("`{0}` ended with {1}{2}")]
    Status(String, String, String),
}

/// Runs a program to its end.
///
/// # Errors
/// Fails if it cannot be started, takes longer than `timeout` or prints more than the limit; a status other than 0 is no error here.
pub fn run(argv: &[String], stdin: Option<&[u8]>, timeout: Duration) -> Result<Output, ProcessError> {
    let shown = argv.join(" ");
    let Some((program, arguments)) = argv.split_first() else {
        return Err(ProcessError::Start(shown, "no program is named".into()));
    };
    #[expect(clippy::disallowed_methods, reason = "this is where programs run")]
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .process_group(0)
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => ProcessError::Missing(program.clone()),
        _ => ProcessError::Start(shown.clone(), error.to_string()),
    })?;
    Running { child, shown }.finish(stdin.unwrap_or_default(), timeout)
}

/// As [`run`], but any end other than with status 0 is an error that quotes the last lines of the standard error.
///
/// # Errors
/// As [`run`], and on any other status.
pub fn succeed(argv: &[String], stdin: Option<&[u8]>, timeout: Duration) -> Result<Output, ProcessError> {
    let output = run(argv, stdin, timeout)?;
    if output.status == 0 {
        return Ok(output);
    }
    let how = match output.status {
        signal if signal < 0 => format!("signal {}", -signal),
        status => format!("status {status}"),
    };
    let said = if output.stderr.0.is_empty() { &output.stdout } else { &output.stderr };
    Err(ProcessError::Status(argv.join(" "), how, last_lines(&said.0)))
}

/// Starts a program that goes on by itself, with an open file as its standard input, and waits until it says that it is ready.
///
/// # Errors
/// Fails if it cannot be started, or ends or takes ten seconds before it is ready.
pub fn detach(argv: &[String], held: &OwnedFd) -> std::io::Result<()> {
    let Some((program, arguments)) = argv.split_first() else { return Err(ErrorKind::InvalidInput.into()) };
    #[expect(clippy::disallowed_methods, reason = "this is where programs run")]
    let mut command = std::process::Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::from(held.try_clone()?))
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let Some(stdout) = child.stdout.take().map(OwnedFd::from) else { return Err(ErrorKind::BrokenPipe.into()) };
    let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
    let came = poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&limit))?;
    let mut byte = [0];
    if came > 0 && rustix::io::read(&stdout, &mut byte)? == 1 {
        return Ok(());
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(std::io::Error::other("it did not get ready"))
}

/// Says to [`detach`] that this program is ready.
pub fn ready() {
    // Whoever waits for it notices if it cannot be said.
    let _ = rustix::io::write(rustix::stdio::stdout(), b"!");
}

struct Running {
    child: Child,
    shown: String,
}

impl Running {
    fn finish(mut self, stdin: &[u8], timeout: Duration) -> Result<Output, ProcessError> {
        let begun = now();
        let mut input = self.child.stdin.take().map(OwnedFd::from);
        let mut streams = [
            (self.child.stdout.take().map(OwnedFd::from), Vec::new()),
            (self.child.stderr.take().map(OwnedFd::from), Vec::new()),
        ];
        for fd in input.iter().chain(streams.iter().filter_map(|(fd, _)| fd.as_ref())) {
            let _ = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK));
        }
        let mut left = stdin;
        let mut ended: Option<(ExitStatus, Instant)> = None;
        loop {
            if left.is_empty() {
                input = None;
            }
            let open = streams.iter().any(|(fd, _)| fd.is_some());
            if ended.is_none() {
                ended = self.child.try_wait().ok().flatten().map(|status| (status, now()));
            }
            if let Some((status, at)) = ended
                && (!open || at.elapsed() > LINGER)
            {
                let [(_, stdout), (_, stderr)] = streams;
                let status = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
                return Ok(Output { status, stdout: stdout.into(), stderr: stderr.into() });
            }
            if ended.is_none() && begun.elapsed() >= timeout {
                self.end();
                let said = last_lines(&streams[1].1);
                return Err(ProcessError::Timeout(self.shown, timeout.as_secs(), said));
            }
            // With the streams open the end of the program wakes the poll; without, it is looked for now and then.
            wait(&input, &streams, if open && ended.is_none() { 50 } else { 5 });
            if let Some(fd) = &input {
                match rustix::io::write(fd, left) {
                    Ok(written) => left = &left[written..],
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => left = &[],
                }
            }
            for (fd, bytes) in &mut streams {
                if !drain(fd, bytes) {
                    self.end();
                    return Err(ProcessError::Output(self.shown, OUTPUT));
                }
            }
        }
    }

    /// Ends the program and all of its group.
    fn end(&mut self) {
        let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        let _ = kill_process_group(group, Signal::TERM);
        let asked = now();
        while asked.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a time limit needs a clock")]
    Instant::now()
}

fn wait(input: &Option<OwnedFd>, streams: &[(Option<OwnedFd>, Vec<u8>)], milliseconds: i64) {
    let mut fds: Vec<PollFd<'_>> = streams
        .iter()
        .filter_map(|(fd, _)| fd.as_ref())
        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
        .chain(input.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)))
        .collect();
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 }));
}

/// Takes what a stream has; false if that is beyond the limit.
fn drain(stream: &mut Option<OwnedFd>, bytes: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16384];
    while let Some(fd) = stream {
        match rustix::io::read(&*fd, &mut buffer) {
            Ok(0) => *stream = None,
            Ok(length) => {
                bytes.extend_from_slice(&buffer[..length]);
                if bytes.len() > OUTPUT {
                    return false;
                }
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return true,
            Err(errno) => {
                bytes.extend_from_slice(format!("(cannot read on: {})\n", words(errno)).as_bytes());
                *stream = None;
            }
        }
    }
    true
}

/// The last few lines of what a program said, as they are put behind an error.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(5)..].join("; ");
    let last: String = last.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(2000).collect();
    if last.is_empty() { last } else { format!(": {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).into()).collect()
    }

    #[test]
    fn a_program_is_run_with_a_fixed_environment() {
        let output = succeed(&argv(&["env"]), None, Duration::from_secs(10)).unwrap();
        assert_eq!(output.stdout.text().unwrap(), format!("LC_ALL=C.UTF-8\nPATH={PATH}\n"));
        let long = vec![b'x'; 300_000];
        let output = succeed(&argv(&["cat"]), Some(&long), Duration::from_secs(10)).unwrap();
        assert_eq!(output.stdout.0, long);
    }

    #[test]
    fn failures_say_what_happened() {
        let check = |words: &[&str], seconds: u64, expected: &str| {
            let error = succeed(&argv(words), None, Duration::from_secs(seconds)).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(&["vprov-no-such-program"], 5, "there is no program `vprov-no-such-program`");
        check(&["false"], 5, "`false` ended with status 1");
        check(
            &["ls", "/vprov-absent"],
            5,
            "`ls /vprov-absent` ended with status 2: ls: cannot access '/vprov-absent': No such file or directory",
        );
        check(&["sleep", "30"], 0, "`sleep 30` did not end within 0 s and was ended");
        check(&["yes"], 10, "`yes` printed more than 4194304 bytes and was ended");
        check(&[], 5, "cannot run ``: no program is named");
    }
}
