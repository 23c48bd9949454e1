//! The executor comes to a host within one exec: a line of POSIX shell starts it where it is, and asks for it where not.
//!
//! The line is the only shell of vprov. Its words for the controller are lines that begin with [`wire::marker`]:
//! `HELLO` (from the executor itself), `UPLOAD DIR` (so many bytes of the binary are expected now), `OTHER SYSTEM MACHINE`,
//! `FAILED WHY`. The controller sends nothing that was not asked for, so nothing that reads ahead can take what is not its own.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    pipes::{Came, Pipes},
    privilege::{Attempt, Denial, denial},
    serve::digest_of,
    wire,
};
use crate::host::{HostError, bytes::Digest, path::AbsPath};

/// What runs on the host. It stands between single quotes in a line that any login shell must take (POSIX, csh, fish), so
/// it has no single quote, no `!`, no doubled backslash, and its lines are joined.
const SCRIPT: &str = include_str!("bootstrap.sh");

/// How long a host may take for its next sign of life before the hello.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much a shell may print before the hello.
const MAX_NOISE: usize = 64 << 10;

/// A vprov binary for hosts of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    path: PathBuf,
    digest: Digest,
    size: u64,
    machine: String,
}

impl Binary {
    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// The binaries that can be pushed: the running one, and those of other architectures in a directory that the user named.
#[derive(Debug)]
pub(super) struct Binaries {
    own: PathBuf,
    others: Option<PathBuf>,
    known: Mutex<HashMap<String, Arc<Binary>>>,
}

impl Binaries {
    pub(super) fn new(own: PathBuf, others: Option<PathBuf>) -> Self {
        Self { own, others, known: Mutex::default() }
    }

    /// Returns the running binary.
    pub(super) fn own(&self) -> Result<Arc<Binary>, HostError> {
        self.load(own_machine(), &self.own.clone())
            .map_err(|error| HostError::Refused(format!("the running vprov cannot be read: {error}")))
    }

    /// Returns the binary for a machine as `uname -m` names it.
    pub(super) fn other(&self, machine: &str) -> Result<Arc<Binary>, HostError> {
        let refused = |why: String| {
            Err(HostError::Refused(format!(
                "the host is `{machine}`, this vprov is for `{}`; hosts of another architecture need a vprov of that \
                 architecture: {why}",
                own_machine()
            )))
        };
        let name = match machine {
            "arm64" => "aarch64",
            "amd64" => "x86_64",
            name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => name,
            _ => return refused("there is none".into()),
        };
        let Some(others) = &self.others else {
            return refused(format!("put one as `vprov-{name}` into a directory and name it by `--executor-dir`"));
        };
        let path = others.join(format!("vprov-{name}"));
        match self.load(machine, &path) {
            Ok(binary) => Ok(binary),
            Err(error) => refused(format!("`{}`: {error}", path.display())),
        }
    }

    /// Reads size and digest of a binary once per process.
    fn load(&self, machine: &str, path: &Path) -> io::Result<Arc<Binary>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(binary) = known.get(machine) {
            return Ok(binary.clone());
        }
        let (digest, size) = digest_of(path)?;
        let binary = Arc::new(Binary { path: path.into(), digest, size, machine: machine.into() });
        known.insert(machine.into(), binary.clone());
        Ok(binary)
    }
}

/// The architecture of this binary as `uname -m` names it.
fn own_machine() -> &'static str {
    match std::env::consts::ARCH {
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        arch => arch,
    }
}

/// How root's rights are had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privilege {
    /// By nothing: the executor runs as who logs in.
    AsIs,
    /// By `sudo -n`, which never asks.
    Sudo,
    /// By `sudo -S`, which asks by printing the nonce.
    SudoAsks,
}

/// Builds the command line for a host's login shell.
///
/// # Errors
/// Fails if the executor's path cannot stand in it.
pub(super) fn command_line(
    binary: &Binary,
    privilege: Privilege,
    arguments: &[String],
    nonce: &str,
    installed: Option<&AbsPath>,
) -> Result<String, HostError> {
    let installed = installed.map_or("", AbsPath::as_str);
    if installed.contains(['\'', '!', '\\', '"', '$', '`']) {
        return Err(HostError::Refused(format!("`executor: {installed}` holds a character that a shell might take")));
    }
    let mut line = String::from("exec sh -c ");
    let options = match privilege {
        Privilege::AsIs => None,
        Privilege::Sudo => Some("-n".to_owned()),
        Privilege::SudoAsks => Some(format!("-S -p {nonce}")),
    };
    if let Some(options) = options {
        // Who logs in may be known to the ssh configuration alone; root needs no sudo, not even an installed one.
        write!(
            line,
            "'[ \"$(id -u)\" = 0 ] || exec env LC_ALL=C sudo {options} -- sh -c \"$@\"; exec sh -c \"$@\"' vprov "
        )
        .expect("a String takes all");
    }
    let script = SCRIPT.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let arguments = arguments.join(" ");
    write!(
        line,
        "'{script}' vprov {nonce} {} {} 'Linux {}' '{arguments}' '{installed}'",
        binary.digest, binary.size, binary.machine
    )
    .expect("a String takes all");
    Ok(line)
}

/// How the start of an executor ended.
pub(super) enum Start {
    /// It said its hello line; its first frame is next. With the directory that it was pushed to, if it was.
    Running(Option<String>),
    /// The host needs a binary for another machine.
    OtherMachine(String),
    /// `sudo` wants a password.
    WantsPassword,
}

/// Hears the bootstrap until the executor runs, sends it what it asks for.
///
/// `who` names user and host in messages, as `admin@kvm01`; `attempt` is the password, where `sudo` may ask for one.
///
/// # Errors
/// Fails with the reason why no executor runs.
pub(super) fn hear(
    pipes: &mut Pipes,
    binary: &Binary,
    nonce: &str,
    who: &str,
    privilege: Privilege,
    mut attempt: Option<Attempt<'_>>,
) -> Result<Start, HostError> {
    let marker = format!("{} ", wire::marker(nonce));
    let (mut noise, mut pushed, mut heard) = (String::new(), None, 0);
    let mut last_sign = now();
    loop {
        while let Some(line) = next_line(pipes) {
            let Some((before, word)) = line.split_once(&marker) else {
                noise.push_str(&line);
                noise.push('\n');
                continue;
            };
            noise.push_str(before);
            if let Some(text) = first_words(&noise) {
                return Err(HostError::Refused(format!(
                    "the login shell of {who} prints text before the command runs: `{text}`; let its start-up files print \
                     only to a terminal"
                )));
            }
            if let Some(attempt) = attempt.take() {
                attempt.accepted();
            }
            match word.split_once(' ').unwrap_or((word, "")) {
                ("HELLO", _) => return Ok(Start::Running(pushed)),
                ("UPLOAD", directory) => {
                    // An error here has its cause in what the host says next.
                    let _ = upload(pipes, binary);
                    pushed = Some(directory.to_owned());
                    last_sign = now();
                }
                ("OTHER", system) => {
                    return match system.strip_prefix("Linux ") {
                        Some(machine) => Ok(Start::OtherMachine(machine.trim().to_owned())),
                        None => Err(HostError::Refused(format!("the host is no Linux: it calls itself `{system}`"))),
                    };
                }
                ("FAILED", why) => return Err(HostError::Refused(why.trim().trim_end_matches(';').to_owned())),
                _ => return Err(HostError::Protocol(format!("the bootstrap said `{word}`"))),
            }
        }
        if let Some(trying) = attempt.as_mut()
            && is_asked(&pipes.said(), nonce, &mut heard)
        {
            match trying.line() {
                Some(line) => drop(pipes.write_all(line.as_bytes())),
                None => {
                    attempt.take().expect("it is there").rejected();
                    return Err(wrong_password(who));
                }
            }
        }
        if pipes.ahead().len() + noise.len() > MAX_NOISE {
            return Err(HostError::Refused(format!("the login shell of {who} prints without end")));
        }
        match pipes.more(Duration::from_millis(500)) {
            Ok(Came::Output | Came::Complaint) => last_sign = now(),
            Ok(Came::Nothing) if last_sign.elapsed() < PATIENCE => {}
            Ok(Came::Nothing) => {
                return Err(HostError::Refused(format!(
                    "nothing answered for {} s after {who} logged in{}",
                    PATIENCE.as_secs(),
                    behind(&[&noise, &pipes.said().replace(nonce, "")])
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(HostError::Unreachable(format!(
                    "{who} did not start vprov in time (see --host-timeout){}",
                    behind(&[&noise, &pipes.said().replace(nonce, "")])
                )));
            }
            Ok(Came::End) | Err(_) => return ended(pipes, nonce, &noise, who, privilege, attempt),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a host's silence is measured")]
fn now() -> Instant {
    Instant::now()
}

/// Says why a start ended without an executor.
fn ended(
    pipes: &mut Pipes,
    nonce: &str,
    noise: &str,
    who: &str,
    privilege: Privilege,
    attempt: Option<Attempt<'_>>,
) -> Result<Start, HostError> {
    let rest = String::from_utf8_lossy(pipes.ahead()).into_owned();
    let status = pipes.end();
    let said = pipes.said().replace(nonce, "");
    if privilege != Privilege::AsIs {
        match denial(&said, status, who) {
            Some(Denial::WrongPassword) => {
                if let Some(attempt) = attempt {
                    attempt.rejected();
                }
                return Err(wrong_password(who));
            }
            Some(Denial::WantsPassword) => return Ok(Start::WantsPassword),
            Some(Denial::Final(words)) => return Err(HostError::Refused(words)),
            None => {}
        }
    }
    let complaint = pipes.complaint();
    let words = behind(&[noise, &rest, &said, &complaint]);
    Err(match status {
        None => HostError::Unreachable(format!("the connection of {who} was closed before vprov ran{words}")),
        Some(status) => HostError::Refused(format!(
            "the login shell of {who} ended (exit status {status}) without starting vprov{words}"
        )),
    })
}

fn wrong_password(who: &str) -> HostError {
    HostError::Refused(format!("sudo rejected the password of {who}"))
}

/// Tells whether sudo asks for the password: the last line of what it said since `heard` holds the prompt (sudo-rs puts words
/// around it) and is no command line that a shell traces.
fn is_asked(said: &str, prompt: &str, heard: &mut usize) -> bool {
    let fresh = said.get(*heard..).unwrap_or("");
    let last = fresh.rsplit('\n').next().unwrap_or("");
    let is_asked = last.contains(prompt) && !last.contains("sudo -S");
    if is_asked {
        *heard = said.len();
    }
    is_asked
}

/// Takes one line from what came; `None` if there is no whole one.
fn next_line(pipes: &mut Pipes) -> Option<String> {
    let end = pipes.ahead().iter().position(|byte| *byte == b'\n')?;
    let line = String::from_utf8_lossy(&pipes.ahead()[..end]).trim_end_matches('\r').to_owned();
    pipes.consume(end + 1);
    Some(line)
}

/// Sends the binary, exactly as many bytes as were announced.
#[expect(clippy::disallowed_methods, reason = "the transport pushes its own binary")]
fn upload(pipes: &mut Pipes, binary: &Binary) -> io::Result<()> {
    let mut file = std::fs::File::open(&binary.path)?.take(binary.size);
    let mut piece = vec![0; 256 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            n => pipes.write_all(&piece[..n])?,
        }
    }
}

/// Returns the first line with text, shortened.
fn first_words(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(120).collect())
}

/// Puts the first texts that say anything behind a colon.
fn behind(texts: &[&str]) -> String {
    let words: Vec<String> = texts.iter().filter_map(|text| first_words(text)).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary() -> Binary {
        Binary { path: "/vprov".into(), digest: Digest::of(b"vprov"), size: 5, machine: "x86_64".into() }
    }

    #[test]
    fn any_login_shell_can_take_the_line() {
        for privilege in [Privilege::AsIs, Privilege::Sudo, Privilege::SudoAsks] {
            let line = command_line(&binary(), privilege, &["--observe".into()], "0f", None).unwrap();
            assert!(line.starts_with("exec sh -c '"), "{line}");
            assert!(!line.contains(['!', '\n']) && !line.contains("\\\\"), "{line}");
            assert!(line.len() < 4096, "a word of an old csh has at most 4 KiB, this line {}", line.len());
            assert_eq!(line.contains("sudo"), privilege != Privilege::AsIs);
        }
        assert!(!SCRIPT.contains('\''));
        let wrong = AbsPath::known("/opt/it's/vprov");
        assert!(command_line(&binary(), Privilege::AsIs, &[], "0f", Some(&wrong)).is_err());
    }

    #[test]
    fn a_password_is_asked_for_by_the_prompt_alone() {
        let mut heard = 0;
        let mut said = String::from("Lecture\n+ exec env LC_ALL=C sudo -S -p 0f -- sh -c");
        assert!(!is_asked(&said, "0f", &mut heard), "a traced command is no prompt");
        said.push_str("\n0f");
        assert!(is_asked(&said, "0f", &mut heard));
        assert!(!is_asked(&said, "0f", &mut heard), "one prompt counts once");
        said.push_str("Sorry, try again.\n[sudo: 0f] Password: ");
        assert!(is_asked(&said, "0f", &mut heard));
    }

    #[test]
    fn a_binary_of_another_architecture_is_taken_from_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::io::Write::write_all(
            &mut std::fs::OpenOptions::new()
                .create_new(true)
                .write(true)
                .open(directory.path().join("vprov-aarch64"))
                .unwrap(),
            b"arm",
        )
        .unwrap();
        let binaries = Binaries::new("/proc/self/exe".into(), Some(directory.path().into()));
        assert_eq!(binaries.other("arm64").unwrap().digest(), &Digest::of(b"arm"));
        for machine in ["riscv64", "../../etc/passwd", ""] {
            let error = binaries.other(machine).unwrap_err();
            assert!(error.to_string().contains("another architecture"), "{error}");
        }
        let without = Binaries::new("/proc/self/exe".into(), None).other("aarch64").unwrap_err();
        assert!(without.to_string().contains("--executor-dir"), "{without}");
    }
}
