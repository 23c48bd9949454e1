//! How a host is reached: over SSH, as a child process of this one, or below `--root DIR`, always with the same executor.
//!
//! A [`Connector`] belongs to one invocation of vprov and is shared by all its threads. Each [`Connector::connect`] starts an
//! executor and returns it as a [`Host`](crate::host::Host); planning asks for [`Mode::Observe`], apply for [`Mode::Apply`]. Over SSH
//! both run on one master connection, so the second costs no handshake.

pub mod wire;
pub mod serve;
pub mod remote;
pub mod pipes;
pub mod privilege;
mod local;
mod push;
mod ssh;
#[cfg(test)]
mod hostile;

use std::{
    fmt::Write as _,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use crate::host::{HostError, path::AbsPath};
use pipes::Pipes;
use privilege::Password;
use push::{Binaries, Binary, Privilege, Start};
use remote::RemoteHost;
use ssh::Ssh;

/// One host as the transport needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// What people call it; also what ssh is told, unless there is an address.
    pub name: String,
    /// Name or number to connect to instead.
    pub address: Option<String>,
    /// It is this machine (`connection: local`).
    pub local: bool,
    /// Who logs in.
    pub user: Option<String>,
    /// The port of its SSH server.
    pub port: Option<u16>,
    /// The only key that is tried.
    pub identity_file: Option<PathBuf>,
    /// Instead of `~/.ssh/config`.
    pub config_file: Option<PathBuf>,
    /// The hosts to jump through, as `ssh -J` takes them.
    pub proxy_jump: Option<String>,
    /// Root's rights are had by sudo unless root logs in.
    pub r#become: bool,
    /// An installed vprov of the same build that is used instead of pushing one.
    pub executor: Option<AbsPath>,
    /// The directory that stands for `/`; makes the connection local and sudo needless.
    pub root: Option<PathBuf>,
}

impl Target {
    /// Makes a host that is reached as the user's ssh configuration says.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Returns what ssh is told to connect to.
    fn destination(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.name)
    }

    /// Returns user and host for messages.
    fn who(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// What an executor may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Answer questions only.
    Observe,
    /// Also apply and roll back.
    Apply,
}

/// What becomes of a host key that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostKeys {
    /// The host is refused.
    #[default]
    Strict,
    /// The key is added; one that changed is refused.
    AcceptNew,
}

/// How hosts are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many connections are being made at once.
    pub starts: usize,
    /// How many through the same jump host; sshd drops more than ten that are not logged in yet (sshd_config(5), MaxStartups).
    pub starts_per_jump: usize,
    /// How long a host may take to answer.
    pub connect_timeout: Duration,
    /// What becomes of a host key that is not known.
    pub host_keys: HostKeys,
    /// The binary that is started and pushed.
    pub binary: PathBuf,
    /// Where `vprov-ARCHITECTURE` for other architectures are.
    pub executor_dir: Option<PathBuf>,
    /// The password for sudo.
    pub password: Option<Arc<Password>>,
    /// Once set, runs end after their current operation.
    pub stop: Option<Arc<AtomicBool>>,
    /// How many seconds the lock of a host is waited for.
    pub lock_timeout: u64,
    /// How long a host may take for what it is asked, its start included, beyond what programs that it runs may take.
    pub patience: Duration,
    /// How many runs a host remembers, if not as many as it does by itself.
    pub keep_runs: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            starts: 32,
            starts_per_jump: 8,
            connect_timeout: Duration::from_secs(15),
            host_keys: HostKeys::default(),
            binary: "/proc/self/exe".into(),
            executor_dir: None,
            password: None,
            stop: None,
            lock_timeout: 0,
            patience: remote::PATIENCE,
            keep_runs: None,
        }
    }
}

impl Options {
    /// Returns the arguments with which an executor is started: words of letters, digits and `-`.
    fn executor_arguments(&self, mode: Mode) -> Vec<String> {
        if mode == Mode::Observe {
            return vec!["--observe".into()];
        }
        let mut arguments = vec![];
        if self.lock_timeout > 0 {
            arguments.extend(["--lock-timeout".into(), self.lock_timeout.to_string()]);
        }
        if let Some(runs) = self.keep_runs {
            arguments.extend(["--keep-runs".into(), runs.to_string()]);
        }
        arguments
    }
}

/// Reaches hosts. Connections end when it and all hosts that it returned are dropped.
pub struct Connector {
    options: Options,
    binaries: Binaries,
    ssh: Mutex<Option<Arc<Ssh>>>,
}

impl Connector {
    /// Makes a connector; nothing is contacted.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let binaries = Binaries::new(options.binary.clone(), options.executor_dir.clone());
        Self { options, binaries, ssh: Mutex::default() }
    }

    /// Makes another connector, which shares no connection with this one.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::new(self.options.clone())
    }

    /// Starts an executor on a host. Blocks; call it from a thread of the host's own.
    ///
    /// # Errors
    /// [`HostError::Unreachable`] if no connection comes about or it is lost, [`HostError::Refused`] if vprov cannot run
    /// there, [`HostError::Protocol`] if what runs there is none. The words say what to do.
    pub fn connect(&self, target: &Target, mode: Mode) -> Result<RemoteHost<Pipes>, HostError> {
        let is_root = rustix::process::geteuid().is_root();
        if target.root.is_some() || (target.local && (is_root || !target.r#become)) {
            return self.child(target, mode);
        }
        let may_need_sudo = target.r#become && target.user.as_deref() != Some("root");
        let privilege = if may_need_sudo { Privilege::Sudo } else { Privilege::AsIs };
        let own = self.binaries.own()?;
        match self.bootstrap(target, mode, &own, privilege)? {
            Met::Host(host) => Ok(*host),
            Met::OtherMachine(machine) => {
                let binary = self.binaries.other(&machine)?;
                match self.bootstrap(target, mode, &binary, privilege)? {
                    Met::Host(host) => Ok(*host),
                    Met::OtherMachine(_) => Err(HostError::Protocol("the host changed its architecture".into())),
                }
            }
        }
    }

    /// Starts the executor as a child process of the same user.
    fn child(&self, target: &Target, mode: Mode) -> Result<RemoteHost<Pipes>, HostError> {
        let nonce = fresh_nonce()?;
        let mut pipes = local::executor(
            &self.options.binary,
            &self.options.executor_arguments(mode),
            &nonce,
            target.root.as_deref(),
        )?;
        // Its digest is not asked for: it is the file that runs here.
        await_hello(&mut pipes, &nonce)?;
        Ok(self.furnished(RemoteHost::meet(pipes, None)?))
    }

    fn furnished(&self, host: RemoteHost<Pipes>) -> RemoteHost<Pipes> {
        let lock = Duration::from_secs(self.options.lock_timeout);
        host.with_stop(self.options.stop.clone()).with_patience(self.options.patience.saturating_add(lock))
    }

    /// Starts the executor through a shell, by sudo if need be, and pushes it if need be.
    fn bootstrap(
        &self,
        target: &Target,
        mode: Mode,
        binary: &Binary,
        mut privilege: Privilege,
    ) -> Result<Met, HostError> {
        let who = target.who();
        loop {
            let nonce = fresh_nonce()?;
            let attempt = match (&self.options.password, privilege) {
                (Some(password), Privilege::SudoAsks) => Some(password.attempt()?),
                _ => None,
            };
            let line = push::command_line(
                binary,
                privilege,
                &self.options.executor_arguments(mode),
                &nonce,
                target.executor.as_ref(),
            )?;
            let mut pipes = if target.local { local::line(&line)? } else { self.ssh()?.line(target, &line)? };
            pipes.limit(self.options.patience);
            match push::hear(&mut pipes, binary, &nonce, &who, privilege, attempt)? {
                Start::Running(pushed) => {
                    let host = RemoteHost::meet(pipes, Some(binary.digest()))?;
                    return Ok(Met::Host(Box::new(self.furnished(host.with_pushed(pushed)))));
                }
                Start::OtherMachine(machine) => return Ok(Met::OtherMachine(machine)),
                Start::WantsPassword if privilege == Privilege::Sudo && self.options.password.is_some() => {
                    privilege = Privilege::SudoAsks;
                }
                Start::WantsPassword => {
                    return Err(HostError::Refused(format!(
                        "sudo wants the password of {who} (or that user has no right to become root): run with \
                         --ask-become-pass, or allow it without one in sudoers"
                    )));
                }
            }
        }
    }

    fn ssh(&self) -> Result<Arc<Ssh>, HostError> {
        let mut ssh = self.ssh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ssh) = &*ssh {
            return Ok(ssh.clone());
        }
        let made = Ssh::new(&self.options)
            .map(Arc::new)
            .map_err(|error| HostError::Unreachable(format!("connections cannot be made here: {error}")))?;
        Ok(ssh.insert(made).clone())
    }
}

enum Met {
    Host(Box<RemoteHost<Pipes>>),
    OtherMachine(String),
}

/// Takes the hello line of a child process, before which nothing else can stand.
fn await_hello(pipes: &mut Pipes, nonce: &str) -> Result<(), HostError> {
    use remote::Channel as _;
    let line = wire::hello_line(nonce);
    while pipes.ahead().len() < line.len() {
        match pipes.more(Duration::from_secs(60)) {
            Ok(pipes::Came::Output | pipes::Came::Complaint) => {}
            Ok(pipes::Came::End | pipes::Came::Nothing) | Err(_) => {
                let words = pipes.last_words();
                return Err(HostError::Refused(format!("the executor did not start: {words}")));
            }
        }
    }
    if !pipes.ahead().starts_with(line.as_bytes()) {
        return Err(HostError::Protocol("it did not say hello".into()));
    }
    pipes.consume(line.len());
    Ok(())
}

fn fresh_nonce() -> Result<String, HostError> {
    nonce().map_err(|error| HostError::Refused(format!("the system gives no random numbers: {error}")))
}

/// Makes up a number that nothing on the host can know before.
fn nonce() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    }))
}
