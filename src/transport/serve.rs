//! The executor's side of the channel: frames in, a [`Host`], frames out.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use sha2::{Digest as _, Sha256};

use super::wire::{self, FrameError, Hello, Request, Response};
use crate::host::{Host, HostError, bytes::Digest, read::Answer, run::RunId};

/// What `vprov executor` is started with. People never type it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Nothing may be changed.
    pub observe: bool,
    /// The directory that stands for `/`.
    pub root: Option<PathBuf>,
    /// The number that the controller made up for this connection.
    pub nonce: String,
    /// The digest by which this binary was found.
    pub build: Option<Digest>,
    /// How many seconds the lock is waited for.
    pub lock_timeout: u64,
    /// How many runs the host remembers.
    pub keep_runs: Option<usize>,
    /// It is the confirm timer of this run, and holds the lock as its standard input.
    pub watch: Option<RunId>,
    /// How many seconds the confirm timer waits.
    pub within: u64,
    /// Only checks that this binary has the digest, makes it durable on the disk and ends.
    pub verify: Option<Digest>,
}

impl Arguments {
    /// Takes the arguments behind `vprov executor`.
    ///
    /// # Errors
    /// Says which argument is wrong.
    pub fn parse<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter().map(|argument| argument.as_ref().to_os_string());
        while let Some(argument) = arguments.next() {
            let mut value = || -> Result<OsString, String> {
                arguments.next().ok_or_else(|| format!("`{}` needs a value", argument.to_string_lossy()))
            };
            match argument.to_str() {
                Some("--observe") => parsed.observe = true,
                Some("--root") => parsed.root = Some(value()?.into()),
                Some("--nonce") => parsed.nonce = value()?.to_string_lossy().into_owned(),
                Some("--build") => parsed.build = Some(value()?.to_string_lossy().parse()?),
                Some("--lock-timeout") => parsed.lock_timeout = number(&value()?)?,
                Some("--keep-runs") => parsed.keep_runs = Some(number(&value()?)?),
                Some("--watch") => parsed.watch = Some(value()?.to_string_lossy().parse()?),
                Some("--within") => parsed.within = number(&value()?)?,
                Some("--verify") => parsed.verify = Some(value()?.to_string_lossy().parse()?),
                _ => return Err(format!("`{}` is no argument of the executor", argument.to_string_lossy())),
            }
        }
        Ok(parsed)
    }
}

fn number<N: std::str::FromStr>(text: &OsStr) -> Result<N, String> {
    let text = text.to_string_lossy();
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// Is `vprov executor`: says hello on the standard output, then serves what comes on the standard input.
///
/// `make` opens the host; it is given the flag that ends a run after its current operation. What it refuses is told to the
/// controller.
pub fn executor_main<H: Host>(
    arguments: &Arguments,
    make: impl FnOnce(&Arguments, Arc<AtomicBool>) -> Result<H, HostError>,
) -> ExitCode {
    if let Some(digest) = &arguments.verify {
        return match verify(digest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(words) => {
                let _ = writeln!(io::stderr(), "{words}");
                ExitCode::FAILURE
            }
        };
    }
    let hello = Hello {
        protocol: wire::PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        build: arguments.build,
        uid: rustix::process::geteuid().as_raw(),
        arch: std::env::consts::ARCH.into(),
        observe: arguments.observe,
    };
    let cancel = Arc::new(AtomicBool::new(false));
    let mut to = BufWriter::new(io::stdout());
    let served = match make(arguments, cancel.clone()) {
        Ok(mut host) => introduce(&mut to, &arguments.nonce, &Response::Hello(hello))
            .and_then(|()| serve(&mut host, BufReader::new(io::stdin()), &mut to, &cancel)),
        Err(error) => introduce(&mut to, &arguments.nonce, &Response::Failed(error.into())),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        // A controller that is gone reads no words either.
        Err(error) if error.is_lost() => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "vprov executor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the line that tells the executor from a shell's noise, and the first frame.
///
/// # Errors
/// Fails if the channel does.
fn introduce(to: &mut impl Write, nonce: &str, first: &Response) -> Result<(), FrameError> {
    to.write_all(wire::hello_line(nonce).as_bytes()).map_err(FrameError::Channel)?;
    wire::send(to, first)
}

/// Serves a controller until it says goodbye or is lost.
///
/// `cancel` is set when the controller asks to stop or is lost while a run goes on: the host finishes the operation that
/// acts and ends the run.
///
/// # Errors
/// Fails if the controller was lost or spoke nonsense.
pub fn serve<H: Host>(
    host: &mut H,
    from: impl Read + Send + 'static,
    mut to: impl Write,
    cancel: &Arc<AtomicBool>,
) -> Result<(), FrameError> {
    for request in listen(from, cancel.clone()) {
        match request? {
            Request::Read(reads) => match host.read(&reads) {
                Ok(answers) => answer(&mut to, answers)?,
                Err(error) => wire::send(&mut to, &Response::Failed(error.into()))?,
            },
            Request::Apply(run) => {
                let applied = host.apply(&run, &mut |event| {
                    if wire::send(&mut to, &Response::Event(event.clone())).is_err() {
                        cancel.store(true, Ordering::SeqCst);
                    }
                });
                wire::send(&mut to, &applied.map_or_else(|error| Response::Failed(error.into()), Response::Applied))?;
            }
            Request::UndoPlan(run) => {
                let plan = host.undo_plan(&run);
                wire::send(&mut to, &plan.map_or_else(|error| Response::Failed(error.into()), Response::UndoPlan))?;
            }
            Request::Undo(what) => {
                let done = host.undo(&what);
                wire::send(&mut to, &done.map_or_else(|error| Response::Failed(error.into()), Response::TookBack))?;
            }
            Request::Confirm(run) => {
                let done = host.confirm(&run).map(|()| Response::Confirmed);
                wire::send(&mut to, &done.unwrap_or_else(|error| Response::Failed(error.into())))?;
            }
            Request::Stop => {}
            Request::Bye => return Ok(()),
        }
    }
    Ok(())
}

/// Reads requests on a thread of its own, so that a lost controller is noticed while the host works.
fn listen(
    mut from: impl Read + Send + 'static,
    cancel: Arc<AtomicBool>,
) -> mpsc::IntoIter<Result<Request, FrameError>> {
    let (sender, requests) = mpsc::sync_channel(4);
    thread::spawn(move || {
        loop {
            let (request, last) = match wire::receive(&mut from) {
                Ok(Some(request)) => {
                    let last = request == Request::Bye;
                    (Ok(request), last)
                }
                Ok(None) => (Err(FrameError::Truncated), true),
                Err(error) => (Err(error), true),
            };
            if matches!(request, Ok(Request::Stop | Request::Bye) | Err(_)) {
                cancel.store(true, Ordering::SeqCst);
            }
            if sender.send(request).is_err() || last {
                return;
            }
        }
    });
    requests.into_iter()
}

/// Sends each answer as a frame of its own, so that only a single answer can be too large.
fn answer(to: &mut impl Write, answers: Vec<Answer>) -> Result<(), FrameError> {
    for answer in answers {
        let body = match wire::encode(&Response::Answer(answer)) {
            Err(FrameError::Oversize(bytes)) => wire::encode(&Response::Answer(Answer::Failed(format!(
                "an answer of {bytes} bytes; at most {} are possible",
                wire::MAX_FRAME
            ))))?,
            body => body?,
        };
        wire::send_encoded(to, &body)?;
    }
    to.flush().map_err(FrameError::Channel)
}

/// Checks that this binary has a digest and is durable, before it gets its final name.
fn verify(digest: &Digest) -> Result<(), String> {
    let path = Path::new("/proc/self/exe");
    let failed = |error: io::Error| format!("the binary cannot be read: {error}");
    let (found, _) = digest_of(path).map_err(failed)?;
    if found != *digest {
        return Err(format!("the binary is {found}, not {digest}"));
    }
    rustix::fs::open(path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .and_then(rustix::fs::fsync)
        .map_err(|error| format!("the binary cannot be made durable: {error}"))
}

/// Returns digest and size of a file.
#[expect(clippy::disallowed_methods, reason = "the transport reads its own binary")]
pub(super) fn digest_of(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((Digest::from_raw(hash.finalize().into()), size)),
            n => {
                hash.update(&piece[..n]);
                size += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_or_named() {
        let parse = |text: &str| Arguments::parse(text.split_whitespace());
        let full = parse("--observe --nonce 0f --root /srv/r").unwrap();
        assert!(full.observe && full.nonce == "0f" && full.root == Some("/srv/r".into()));
        assert_eq!(parse("").unwrap(), Arguments::default());
        for (text, part) in [
            ("--root", "needs a value"),
            ("--build 12", "SHA-256"),
            ("--shell", "no argument"),
            ("--keep-runs x", "no number"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_digest_is_that_of_the_whole_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content = vec![7; 200_000];
        file.write_all(&content).unwrap();
        assert_eq!(digest_of(file.path()).unwrap(), (Digest::of(&content), 200_000));
    }
}
