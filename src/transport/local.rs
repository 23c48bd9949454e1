//! This machine: a child process instead of an SSH exec, the same channel.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use super::pipes::{FarEnds, Keeper, Pipes};
use crate::host::HostError;

/// Starts this binary as an executor of the current user.
///
/// # Errors
/// Fails if it cannot be started.
pub(super) fn executor(
    binary: &Path,
    arguments: &[String],
    nonce: &str,
    root: Option<&Path>,
) -> Result<Pipes, HostError> {
    let mut command = program(binary);
    command.arg("executor").arg("--nonce").arg(nonce).args(arguments);
    if let Some(root) = root {
        command.arg("--root").arg(root);
    }
    start(command).map_err(|error| HostError::Refused(format!("vprov cannot be started again: {error}")))
}

/// Starts a command line as sshd would, by `sh -c`. The line is the transport's own, never a user's.
///
/// # Errors
/// Fails if there is no `sh`.
pub(super) fn line(line: &str) -> Result<Pipes, HostError> {
    let mut command = program(Path::new("/bin/sh"));
    command.arg("-c").arg(line);
    start(command).map_err(|error| HostError::Refused(format!("/bin/sh cannot be started: {error}")))
}

#[expect(clippy::disallowed_methods, reason = "the transport starts this binary again")]
fn program(path: &Path) -> Command {
    Command::new(path)
}

fn start(mut command: Command) -> io::Result<Pipes> {
    Pipes::open(|FarEnds { stdin, stdout, stderr }| {
        // In a process group of its own, Ctrl-C reaches the controller alone, which then asks the executor to stop.
        let child = command
            .stdin(Stdio::from(stdin))
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr))
            .process_group(0)
            .spawn()?;
        Ok(Process(child))
    })
}

struct Process(Child);

impl Keeper for Process {
    fn end(&mut self) -> Option<i32> {
        for _ in 0..100 {
            match self.0.try_wait() {
                Ok(Some(status)) => return status.code().or_else(|| status.signal().map(|signal| -signal)),
                Ok(None) => thread::sleep(Duration::from_millis(20)),
                Err(_) => return None,
            }
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The pipes are closed by now, so an executor ends by itself; one that finishes an operation is not killed.
        let _ = self.end();
    }
}
