//! The user's own OpenSSH as carrier: one master connection per host, each executor an exec on it.
//!
//! openssh is asynchronous; its runtime lives and ends here. The streams of an exec are plain pipes whose far ends are
//! handed to the master, so frames are read and written without it.

use std::{
    collections::HashMap,
    fs::DirBuilder,
    io,
    num::NonZeroUsize,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use openssh::{Child, ControlPersist, Session, SessionBuilder};
use tokio::{runtime::Runtime, sync::Semaphore};

use super::{
    HostKeys, Options, Target,
    pipes::{FarEnds, Keeper, Pipes},
};
use crate::host::HostError;

/// How often a connection is tried before its transient error counts.
const ATTEMPTS: u32 = 3;

/// How long a master that nobody uses stays, should vprov be killed before it closes it.
const IDLE: NonZeroUsize = NonZeroUsize::new(60).expect("sixty is not zero");

/// All SSH connections of one process.
pub(super) struct Ssh {
    // Fields are dropped in this order: a master is closed through its socket, which the directory holds.
    masters: Mutex<HashMap<Login, Arc<Session>>>,
    control: ControlDirectory,
    starts: Semaphore,
    starts_per_jump: usize,
    through_jumps: Mutex<HashMap<String, Arc<Semaphore>>>,
    connect_timeout: Duration,
    host_keys: HostKeys,
    runtime: Runtime,
}

impl Ssh {
    /// Starts the runtime and makes the directory of control sockets.
    ///
    /// # Errors
    /// Fails if the system lets it do neither.
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        raise_file_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self {
            runtime,
            control: ControlDirectory::new()?,
            starts: Semaphore::new(options.starts.max(1)),
            starts_per_jump: options.starts_per_jump.max(1),
            through_jumps: Mutex::default(),
            masters: Mutex::default(),
            connect_timeout: options.connect_timeout,
            host_keys: options.host_keys,
        })
    }

    /// Starts a command line on the host, on its master connection, which is made if there is none.
    ///
    /// # Errors
    /// Fails if the host cannot be reached or logged in to, in words that say what to do.
    pub(super) fn line(self: &Arc<Self>, target: &Target, line: &str) -> Result<Pipes, HostError> {
        let session = self.master(target)?;
        Pipes::open(|FarEnds { stdin, stdout, stderr }| {
            let mut command = session.clone().arc_raw_command(line);
            command.stdin(stdin).stdout(stdout).stderr(stderr);
            let child = self.runtime.block_on(command.spawn());
            // The command holds the far ends until it is dropped, and with them the end of the streams.
            drop(command);
            match child {
                Ok(child) => Ok(Exec { ssh: self.clone(), child: Some(child), log: log_of(&session) }),
                Err(error) => Err(Broken(HostError::Unreachable(format!(
                    "no command can be started on the connection: {}",
                    chain(&error)
                )))),
            }
        })
        .map_err(|Broken(error)| error)
    }

    /// Returns the host's master connection.
    fn master(&self, target: &Target) -> Result<Arc<Session>, HostError> {
        let key = Login::of(target);
        let held = self.masters.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(session) = held
            && self.runtime.block_on(session.check()).is_ok()
        {
            return Ok(session);
        }
        let session = Arc::new(self.connect(target)?);
        self.masters.lock().unwrap_or_else(PoisonError::into_inner).insert(key, session.clone());
        Ok(session)
    }

    fn connect(&self, target: &Target) -> Result<Session, HostError> {
        let destination = target.destination();
        if destination.starts_with('-') || target.user.as_deref().is_some_and(|user| user.starts_with('-')) {
            return Err(HostError::Refused(format!("`{destination}` is no name of a host")));
        }
        let jump = target.proxy_jump.as_ref().map(|jump| {
            let mut jumps = self.through_jumps.lock().unwrap_or_else(PoisonError::into_inner);
            jumps.entry(jump.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.starts_per_jump))).clone()
        });
        let builder = self.builder(target);
        self.runtime.block_on(async {
            let mut attempt = 1;
            loop {
                let failure = {
                    let _jump = match &jump {
                        Some(jump) => jump.acquire().await.ok(),
                        None => None,
                    };
                    let _start = self.starts.acquire().await.ok();
                    match builder.connect_mux(destination).await {
                        Ok(session) => return Ok(session),
                        Err(error) => classify(&error, target),
                    }
                };
                if !failure.is_transient || attempt == ATTEMPTS {
                    return Err(HostError::Unreachable(failure.words));
                }
                tokio::time::sleep(pause(attempt)).await;
                attempt += 1;
            }
        })
    }

    fn builder(&self, target: &Target) -> SessionBuilder {
        let mut builder = SessionBuilder::default();
        builder
            .control_directory(&self.control.0)
            .control_persist(ControlPersist::IdleFor(IDLE))
            .connect_timeout(self.connect_timeout)
            .server_alive_interval(Duration::from_secs(10))
            .known_hosts_check(match self.host_keys {
                HostKeys::Strict => openssh::KnownHosts::Strict,
                HostKeys::AcceptNew => openssh::KnownHosts::Add,
            });
        if let Some(user) = &target.user {
            builder.user(user.clone());
        }
        if let Some(port) = target.port {
            builder.port(port);
        }
        if let Some(file) = &target.identity_file {
            builder.keyfile(file);
        }
        if let Some(file) = &target.config_file {
            builder.config_file(file);
        }
        if let Some(jump) = &target.proxy_jump {
            builder.jump_hosts([jump]);
        }
        builder
    }
}

/// What makes two connections the same.
#[derive(PartialEq, Eq, Hash)]
struct Login {
    destination: String,
    user: Option<String>,
    port: Option<u16>,
    files: [Option<PathBuf>; 2],
    proxy_jump: Option<String>,
}

impl Login {
    fn of(target: &Target) -> Self {
        Self {
            destination: target.destination().to_owned(),
            user: target.user.clone(),
            port: target.port,
            files: [target.identity_file.clone(), target.config_file.clone()],
            proxy_jump: target.proxy_jump.clone(),
        }
    }
}

/// An exec on a master connection.
struct Exec {
    // Dropped before `ssh`, see there.
    child: Option<Child<Arc<Session>>>,
    log: Option<PathBuf>,
    ssh: Arc<Ssh>,
}

impl Keeper for Exec {
    fn end(&mut self) -> Option<i32> {
        let child = self.child.take()?;
        let ended =
            self.ssh.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(3), child.wait()).await });
        match ended {
            Ok(Ok(status)) => status.code(),
            // The crate's word for exit status 127.
            Ok(Err(openssh::Error::Remote(_))) => Some(127),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the master's log is the transport's own file")]
    fn complaint(&mut self) -> String {
        let Some(log) = &self.log else { return String::new() };
        let text = std::fs::read(log).unwrap_or_default();
        String::from_utf8_lossy(&text[..text.len().min(4096)]).into_owned()
    }
}

/// Returns the file into which the master writes what ssh complains.
fn log_of(session: &Session) -> Option<PathBuf> {
    Some(session.control_socket().parent()?.join("log"))
}

/// Carries a [`HostError`] through [`Pipes::open`].
struct Broken(HostError);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self(HostError::Unreachable(format!("no pipe can be made: {error}")))
    }
}

/// The directory of control sockets: private, short (a socket's path has at most 107 bytes), of this process alone.
struct ControlDirectory(PathBuf);

impl ControlDirectory {
    #[expect(clippy::disallowed_methods, reason = "control sockets are the transport's own files")]
    fn new() -> io::Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let run = PathBuf::from(format!("/run/user/{uid}"));
        let is_own =
            std::fs::metadata(&run).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid && meta.mode() & 0o77 == 0);
        let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
        for parent in is_own.then_some(run.as_path()).into_iter().chain([Path::new("/tmp")]) {
            for _ in 0..8 {
                let path = parent.join(format!("vprov-{}", super::nonce()?.get(..12).unwrap_or_default()));
                match DirBuilder::new().mode(0o700).create(&path) {
                    Ok(()) => return Ok(Self(path)),
                    Err(failed) => error = failed,
                }
            }
        }
        Err(error)
    }
}

impl Drop for ControlDirectory {
    #[expect(clippy::disallowed_methods, reason = "control sockets are the transport's own files")]
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Each host takes three pipes and a socket; the usual soft limit of 1,024 would end at some 150 hosts.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Returns the pause before the next attempt: half a second, doubled each time, by up to as much again longer, so that hosts
/// that were dropped together do not come back together.
fn pause(attempt: u32) -> Duration {
    let base = Duration::from_millis(500 << (attempt - 1).min(4));
    let chance = super::nonce().ok().and_then(|text| u32::from_str_radix(text.get(..8)?, 16).ok()).unwrap_or(0);
    base + base.mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

/// Why a connection did not come about.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    is_transient: bool,
    words: String,
}

/// Reads the error of a start, which is what ssh wrote into its log.
fn classify(error: &openssh::Error, target: &Target) -> Failure {
    match error {
        openssh::Error::Connect(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Failure { is_transient: false, words: "the program `ssh` is not installed on this machine".into() }
        }
        openssh::Error::Connect(cause) => classify_words(&cause.to_string(), target),
        error => Failure { is_transient: false, words: chain(error) },
    }
}

/// Reads what ssh said (its messages are not translated).
fn classify_words(said: &str, target: &Target) -> Failure {
    let (name, who) = (target.destination(), target.who());
    let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    let failure = |is_transient, words: String| Failure { is_transient, words };
    let port = target.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let known_as = match target.port {
        Some(port) if port != 22 => format!("'[{name}]:{port}'"),
        _ => name.to_owned(),
    };
    if has(&["REMOTE HOST IDENTIFICATION HAS CHANGED", "POSSIBLE DNS SPOOFING"]) {
        let line = said.lines().find_map(|line| Some(line.split_once("key in ")?.1.trim()));
        let place = line.map(|line| format!(" (known by {line})")).unwrap_or_default();
        return failure(
            false,
            format!(
                "the host key of {name} changed{place}; if that is right (a new installation), remove the old one by `ssh-keygen \
                 -R {known_as}`, then connect once by `ssh`"
            ),
        );
    }
    if has(&["host key is known for", "Host key verification failed"]) {
        return failure(
            false,
            format!("the host key of {name} is not known yet; check and accept it by connecting once with `ssh {who}`"),
        );
    }
    if has(&["Permission denied (", "Too many authentication failures", "No more authentication methods"]) {
        return failure(
            false,
            format!("{who} was not let in: {}; no password is asked for, so a key or agent is needed", last_line(said)),
        );
    }
    if has(&["Could not resolve hostname"]) {
        return failure(false, format!("the name `{name}` is unknown: {}", last_line(said)));
    }
    if has(&["Bad configuration option", "terminating, ", "Bad owner or permissions", "Bad port", "bad configuration"])
    {
        return failure(false, format!("the ssh configuration is wrong: {}", last_line(said)));
    }
    if has(&["Connection timed out during banner exchange", "timed out during banner"]) {
        return failure(true, format!("{name}{port} took the connection but did not answer as an SSH server"));
    }
    if has(&["Connection timed out", "Operation timed out"]) {
        return failure(true, format!("{name}{port} did not answer in time"));
    }
    if has(&["Connection refused"]) {
        return failure(false, format!("{name}{port} refused the connection (no SSH server there?)"));
    }
    if has(&["No route to host", "Network is unreachable", "Network is down"]) {
        return failure(false, format!("there is no way to {name}: {}", last_line(said)));
    }
    if has(&[
        "Connection reset",
        "Connection closed",
        "closed by remote host",
        "Exceeded MaxStartups",
        "Broken pipe",
        "kex_exchange_identification",
        "stdio forwarding failed",
    ]) {
        return failure(true, format!("{name}{port} closed the connection: {}", last_line(said)));
    }
    if has(&["no matching"]) {
        return failure(false, format!("{name} and this machine have no algorithm in common: {}", last_line(said)));
    }
    match last_line(said) {
        line if line.is_empty() => failure(false, format!("ssh to {who} failed without a word")),
        line => failure(false, line),
    }
}

fn last_line(said: &str) -> String {
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("").to_owned()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ssh_says_has_clear_words() {
        fn check(said: &str, is_transient: bool, part: &str) {
            let target = Target { user: Some("admin".into()), port: Some(2222), ..Target::new("kvm01") };
            let failure = classify_words(said, &target);
            assert!(failure.words.contains(part), "{said}: {}", failure.words);
            assert_eq!(failure.is_transient, is_transient, "{said}");
        }
        check(
            "@@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\nOffending RSA key in /root/.ssh/known_hosts:3\nHost key verification failed.",
            false,
            "ssh-keygen -R '[kvm01]:2222'",
        );
        check(
            "No ED25519 host key is known for [kvm01]:2222 and you have requested strict checking.\r\nHost key verification failed.",
            false,
            "not known yet",
        );
        check("admin@kvm01: Permission denied (publickey).", false, "admin@kvm01 was not let in");
        check("Could not resolve hostname kvm01: Name or service not known", false, "is unknown");
        check("connect to host kvm01 port 2222: Connection refused", false, "refused the connection");
        check("connect to host kvm01 port 2222: Connection timed out", true, "did not answer in time");
        check("connect to host kvm01 port 2222: No route to host", false, "no way to kvm01");
        check(
            "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 192.0.2.1",
            true,
            "closed",
        );
        check("Connection closed by 127.0.0.1 port 2222", true, "closed the connection");
        check("Connection timed out during banner exchange", true, "as an SSH server");
        check(
            "/root/c: line 1: Bad configuration option: nope\n/root/c: terminating, 1 bad configuration options",
            false,
            "ssh configuration",
        );
        check("", false, "without a word");
    }

    #[test]
    fn pauses_grow_and_stay_bounded() {
        for (attempt, least) in [(1, 500), (2, 1000), (3, 2000)] {
            let pause = pause(attempt).as_millis();
            assert!((least..=2 * least).contains(&pause), "{pause}");
        }
    }

    #[test]
    fn the_control_directory_is_private_short_and_removed() {
        let directory = ControlDirectory::new().unwrap();
        let path = directory.0.clone();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        assert!(path.as_os_str().len() < 50);
        drop(directory);
        assert!(!path.exists());
    }
}
