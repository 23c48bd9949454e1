//! [`Pipes`]: the three streams of a program that runs elsewhere, read and written by one thread without a deadlock.

use std::{
    io::{self, Read, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::remote::Channel;

/// How much of the standard error is kept for messages: its first part, where the cause stands.
const KEPT: usize = 16 << 10;

/// The near ends of a program's standard streams and what keeps the program.
pub struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    ahead: Vec<u8>,
    taken: usize,
    said: Vec<u8>,
    /// When reading and writing give up.
    end: Option<Instant>,
    keeper: Box<dyn Keeper>,
}

/// The far ends, to be given to the program.
pub struct FarEnds {
    /// What the program reads.
    pub stdin: OwnedFd,
    /// What it prints.
    pub stdout: OwnedFd,
    /// What it complains.
    pub stderr: OwnedFd,
}

/// What waits for the program at the other ends.
pub trait Keeper: Send {
    /// Waits a little for the program's end and tells how it ended: the exit status, a signal as a negative number, or
    /// `None` if that cannot be known (the connection is gone).
    fn end(&mut self) -> Option<i32>;

    /// What carries the program has to say about a lost connection.
    fn complaint(&mut self) -> String {
        String::new()
    }
}

/// What came next from a program.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// Something on its standard output.
    Output,
    /// Something on its standard error.
    Complaint,
    /// The end of its standard output.
    End,
    /// Nothing within the time.
    Nothing,
}

impl Pipes {
    /// Makes the pipes, gives the far ends to `start` and keeps what it returns.
    ///
    /// # Errors
    /// Fails if no pipe can be made or `start` fails.
    pub fn open<E: From<io::Error>, K: Keeper + 'static>(
        start: impl FnOnce(FarEnds) -> Result<K, E>,
    ) -> Result<Self, E> {
        let (far_in, stdin) = pipe()?;
        let (stdout, far_out) = pipe()?;
        let (stderr, far_err) = pipe()?;
        // Only the near ends never block; the program expects ordinary streams.
        for end in [&stdin, &stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true).map_err(io::Error::from)?;
        }
        let keeper = start(FarEnds { stdin: far_in, stdout: far_out, stderr: far_err })?;
        Ok(Self {
            stdin: Some(stdin),
            stdout,
            stderr: Some(stderr),
            ahead: Vec::new(),
            taken: 0,
            said: Vec::new(),
            end: None,
            keeper: Box::new(keeper),
        })
    }

    /// Sets within what time from now all reading and writing must be done; each later call begins anew.
    pub fn limit(&mut self, within: Duration) {
        self.end = now().checked_add(within);
    }

    /// Returns what is left of the time.
    ///
    /// # Errors
    /// It is over: [`io::ErrorKind::TimedOut`].
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.end.map(|end| end.saturating_duration_since(now())) {
            Some(Duration::ZERO) => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    /// Waits until something comes; output is kept for the next read.
    ///
    /// # Errors
    /// Fails if a pipe does, and when the time of [`Pipes::limit`] is over.
    pub fn wait(&mut self, within: Option<Duration>) -> io::Result<Came> {
        let left = self.left()?;
        let within = [within, left].into_iter().flatten().min();
        if self.taken < self.ahead.len() {
            return Ok(Came::Output);
        }
        self.turn(within, false)
    }

    /// Returns what came on the standard output and was not read yet.
    #[must_use]
    pub fn ahead(&self) -> &[u8] {
        &self.ahead[self.taken..]
    }

    /// Takes so many bytes of [`Pipes::ahead`].
    pub fn consume(&mut self, n: usize) {
        self.taken = (self.taken + n).min(self.ahead.len());
    }

    /// Waits for more output than [`Pipes::ahead`] holds.
    ///
    /// # Errors
    /// As [`Pipes::wait`].
    pub fn more(&mut self, within: Duration) -> io::Result<Came> {
        self.left()?;
        self.turn(Some(within), false)
    }

    /// Returns what the program complained so far.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Closes the program's standard input, waits for its end and tells how it ended, see [`Keeper::end`].
    pub fn end(&mut self) -> Option<i32> {
        self.stdin = None;
        let status = self.keeper.end();
        // What it said last may still be in the pipe; who never stops talking is not heard out.
        for _ in 0..64 {
            if self.stderr.is_none() || !matches!(self.hear(), Ok(true)) {
                break;
            }
        }
        status
    }

    /// See [`Keeper::complaint`].
    pub fn complaint(&mut self) -> String {
        self.keeper.complaint()
    }

    /// One turn: waits for any stream that matters now and moves what it can. With `writing`, room for input ends the
    /// turn too, as [`Came::Nothing`].
    fn turn(&mut self, within: Option<Duration>, writing: bool) -> io::Result<Came> {
        let limit = within.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut ends = Vec::with_capacity(3);
        ends.push(PollFd::new(&self.stdout, if writing { PollFlags::empty() } else { PollFlags::IN }));
        let complaints = self.stderr.as_ref().map(|end| {
            ends.push(PollFd::new(end, PollFlags::IN));
            ends.len() - 1
        });
        let room = self.stdin.as_ref().filter(|_| writing).map(|end| {
            ends.push(PollFd::new(end, PollFlags::OUT));
            ends.len() - 1
        });
        match poll(&mut ends, limit.as_ref()) {
            Ok(0) => return Ok(Came::Nothing),
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Came::Nothing),
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| !ends[at].revents().is_empty();
        let (output, complaint, room) = (ready(0), complaints.is_some_and(ready), room.is_some_and(ready));
        drop(ends);
        if complaint {
            self.hear()?;
        }
        if room {
            return Ok(Came::Nothing);
        }
        if output && !writing {
            return match self.fill()? {
                0 => Ok(Came::End),
                _ => Ok(Came::Output),
            };
        }
        Ok(if complaint { Came::Complaint } else { Came::Nothing })
    }

    /// Reads output into the buffer.
    fn fill(&mut self) -> io::Result<usize> {
        if self.taken == self.ahead.len() {
            self.ahead.clear();
            self.taken = 0;
        }
        let start = self.ahead.len();
        self.ahead.resize(start + (64 << 10), 0);
        let read = rustix::io::read(&self.stdout, &mut self.ahead[start..]);
        self.ahead.truncate(start + *read.as_ref().unwrap_or(&0));
        Ok(read?)
    }

    /// Reads complaints; tells whether there were any. At their end the pipe is closed.
    fn hear(&mut self) -> io::Result<bool> {
        let Some(end) = &self.stderr else { return Ok(false) };
        let mut piece = [0; 4096];
        match rustix::io::read(end, &mut piece) {
            Ok(0) => {
                self.stderr = None;
                Ok(false)
            }
            Ok(n) => {
                let room = KEPT.saturating_sub(self.said.len());
                self.said.extend_from_slice(&piece[..n.min(room)]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Pipes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.wait(None)? {
                Came::End => return Ok(0),
                Came::Output => {
                    let n = self.ahead().len().min(into.len());
                    into[..n].copy_from_slice(&self.ahead()[..n]);
                    self.consume(n);
                    return Ok(n);
                }
                Came::Complaint | Came::Nothing => {}
            }
        }
    }
}

impl Write for Pipes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let Some(stdin) = &self.stdin else { return Err(io::ErrorKind::BrokenPipe.into()) };
            match rustix::io::write(stdin, bytes) {
                Ok(n) => return Ok(n),
                Err(Errno::AGAIN) => {
                    let left = self.left()?;
                    self.turn(left, true)?;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Channel for Pipes {
    fn limit(&mut self, within: Duration) {
        Pipes::limit(self, within);
    }

    fn is_ready(&mut self, within: Duration) -> io::Result<bool> {
        Ok(matches!(self.wait(Some(within))?, Came::Output | Came::End))
    }

    fn last_words(&mut self) -> String {
        let status = self.end();
        let mut words: Vec<String> = Vec::new();
        for text in [self.complaint(), self.said()] {
            let text = text.trim();
            if !text.is_empty() {
                words.push(text.lines().map(str::trim).collect::<Vec<_>>().join("; "));
            }
        }
        match status {
            Some(0) | None => {}
            Some(signal) if signal < 0 => words.push(format!("ended by signal {}", -signal)),
            Some(status) => words.push(format!("exit status {status}")),
        }
        words.join("; ")
    }
}

#[expect(clippy::disallowed_methods, reason = "a time limit needs a clock")]
fn now() -> Instant {
    Instant::now()
}

/// Makes a pipe that no program inherits by accident.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, thread};

    use super::*;

    struct Thread(Option<thread::JoinHandle<()>>);

    impl Keeper for Thread {
        fn end(&mut self) -> Option<i32> {
            self.0.take().map(|thread| thread.join().map_or(1, |()| 0))
        }
    }

    #[test]
    fn large_input_and_many_complaints_do_not_block_each_other() {
        let mut pipes = Pipes::open::<io::Error, _>(|FarEnds { stdin, stdout, stderr }| {
            Ok(Thread(Some(thread::spawn(move || {
                File::from(stderr).write_all(&vec![b'e'; 1 << 20]).unwrap();
                let mut all = Vec::new();
                File::from(stdin).read_to_end(&mut all).unwrap();
                File::from(stdout).write_all(&all).unwrap();
            }))))
        })
        .unwrap();
        let sent: Vec<u8> = (0..1 << 20).map(|n: u32| n as u8).collect();
        pipes.write_all(&sent).unwrap();
        pipes.stdin = None;
        let mut back = Vec::new();
        pipes.read_to_end(&mut back).unwrap();
        assert!(back == sent);
        assert_eq!(pipes.end(), Some(0));
        assert_eq!(pipes.said().len(), KEPT);
    }

    #[test]
    fn a_program_that_reads_nothing_more_breaks_the_pipe() {
        let mut pipes = Pipes::open::<io::Error, _>(|ends| {
            drop(ends);
            Ok(Thread(None))
        })
        .unwrap();
        assert_eq!(pipes.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(pipes.wait(Some(Duration::ZERO)).unwrap(), Came::End);
    }
}
