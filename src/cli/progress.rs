//! Progress of long work: one line that is written over on a terminal, nothing elsewhere.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _, Write as _},
    sync::{Mutex, PoisonError},
};

use crate::{
    event::{Event, Happened},
    report::text::shown,
};

/// The progress of one phase over all hosts.
pub struct Progress {
    verb: String,
    all: usize,
    is_shown: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: usize,
    running: BTreeSet<String>,
}

impl Progress {
    /// Begins a phase, as `planned` for 12 hosts.
    #[must_use]
    pub fn new(verb: &str, all: usize) -> Self {
        Self { verb: verb.into(), all, is_shown: all > 0 && io::stderr().is_terminal(), state: Mutex::default() }
    }

    /// Takes what happened on a host.
    pub fn tell(&self, event: &Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &event.what {
            Happened::Connecting => {
                state.running.insert(event.host.clone());
            }
            Happened::Done => {
                state.done += 1;
                state.running.remove(&event.host);
            }
            Happened::Connected | Happened::Facts | Happened::Planned | Happened::Step(_) => return,
        }
        if self.is_shown {
            let waiting = state.running.first().map(|host| format!(", waiting for {host}")).unwrap_or_default();
            let line: String =
                format!("{}/{} hosts {}{waiting}", state.done, self.all, self.verb).chars().take(79).collect();
            let _ = write!(io::stderr(), "\r\x1b[K{}", shown(&line));
            let _ = io::stderr().flush();
        }
    }

    /// Ends the phase; the line goes away.
    pub fn end(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }
}
