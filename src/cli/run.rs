//! What a run on hosts needs from the person at the terminal: its name, who asks for it, and how it is stopped.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

use super::exit::Exit;
use crate::host::run::RunId;

/// How often the wish to stop is looked for, to say that it was heard.
const GLANCE: Duration = Duration::from_millis(100);

/// The names of the runs of one invocation: all hosts have the same, so that one name takes all of them back.
pub struct Names(Vec<RunId>);

impl Names {
    /// Makes names from the time and chance.
    #[expect(clippy::disallowed_methods, reason = "a run is named by the time at which it begins")]
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut chance = [0; 2];
        // Without chance the time alone still names the run; the host refuses a name that it has.
        let _ = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty());
        let (seconds, chance) = (now.map_or(0, |now| now.as_secs()), u16::from_ne_bytes(chance));
        // An apply has two runs at most, and each may be taken back.
        Self((0..4).map(|more| RunId::new(seconds, chance.wrapping_add(more))).collect())
    }

    /// Returns one of the four names.
    pub fn get(&self, at: usize) -> RunId {
        self.0[at.min(3)].clone()
    }
}

/// Says who asks: user and machine, for the journal and the lock.
#[expect(clippy::disallowed_methods, reason = "the person at the terminal is named by the environment")]
pub fn by() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| match rustix::process::getuid() {
        uid if uid.is_root() => "root".into(),
        uid => format!("uid {}", uid.as_raw()),
    });
    format!("{user}@{}", rustix::system::uname().nodename().to_string_lossy())
}

/// From now on the first Ctrl-C (or SIGTERM) sets the flag, and the second ends the program at once. A terminal that is closed
/// (SIGHUP, which may come more than once) only sets it. Before that, while nothing is changed and questions are asked, the
/// first one ends it.
///
/// # Errors
/// Says why the signals cannot be heard.
pub fn hear_signals(stop: &Arc<AtomicBool>) -> Result<(), String> {
    for signal in [SIGINT, SIGTERM] {
        // The order counts: the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, Exit::Interrupted.code().into(), stop.clone())
            .and_then(|_| flag::register(signal, stop.clone()))
            .map_err(|error| format!("signals cannot be heard: {error}"))?;
    }
    flag::register(SIGHUP, stop.clone()).map_err(|error| format!("signals cannot be heard: {error}"))?;
    let stop = stop.clone();
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(GLANCE);
        }
        let _ = writeln!(
            io::stderr(),
            "\nstopping: each host finishes the operation that runs there; once more ends vprov at once"
        );
    });
    Ok(())
}
