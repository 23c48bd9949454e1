//! Becoming root by `sudo`: without a password where the host allows it, else with the one that the user gave.

use std::{
    fmt,
    sync::{Condvar, Mutex, PoisonError},
};

use crate::host::HostError;

/// The password for `sudo`, the same for all hosts.
///
/// Until one host took it, only one host is tried at a time; after the first rejection none is tried any more, because
/// accounts lock after a few wrong passwords.
pub struct Password {
    text: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Untried,
    BeingTried,
    Accepted,
    Rejected,
}

impl Password {
    /// Takes what the user typed, without its newline.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), state: Mutex::new(State::Untried), changed: Condvar::new() }
    }

    /// Waits until the password may be tried on one more host and returns that attempt.
    ///
    /// # Errors
    /// Fails if a host rejected it.
    pub(super) fn attempt(&self) -> Result<Attempt<'_>, HostError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while *state == State::BeingTried {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if *state == State::Rejected {
            return Err(HostError::Refused(
                "the sudo password is not sent, because another host rejected it (accounts lock)".into(),
            ));
        }
        if *state == State::Untried {
            *state = State::BeingTried;
        }
        Ok(Attempt { password: self, is_sent: false })
    }

    fn set(&self, change: impl FnOnce(State) -> State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = change(*state);
        self.changed.notify_all();
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// One host's try of the password. Dropped without an outcome, it leaves the next host to try.
pub(super) struct Attempt<'a> {
    password: &'a Password,
    is_sent: bool,
}

impl Attempt<'_> {
    /// Returns the line to send, once.
    pub(super) fn line(&mut self) -> Option<String> {
        (!std::mem::replace(&mut self.is_sent, true)).then(|| format!("{}\n", self.password.text))
    }

    /// The host took the password; a host that never asked for it says nothing about it.
    pub(super) fn accepted(self) {
        if self.is_sent {
            self.password.set(|state| if state == State::Rejected { state } else { State::Accepted });
        }
    }

    /// The host rejected it.
    pub(super) fn rejected(self) {
        self.password.set(|_| State::Rejected);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.password.set(|state| if state == State::BeingTried { State::Untried } else { state });
    }
}

/// What `sudo` said instead of starting what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// It wants a password.
    WantsPassword,
    /// It did not take the password.
    WrongPassword,
    /// For good, in words.
    Final(String),
}

/// Reads what `sudo -n` or `sudo -S` printed (sudo 1.8 to 1.9 and sudo-rs, in the C locale) and its exit status.
pub(super) fn denial(said: &str, status: Option<i32>, who: &str) -> Option<Denial> {
    let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
    if has(&[
        "incorrect password attempt",
        "Sorry, try again",
        "incorrect authentication attempt",
        "Authentication failed",
    ]) {
        return Some(Denial::WrongPassword);
    }
    if has(&["you must have a tty", "no tty present and no askpass"]) && !has(&["askpass"]) {
        return Some(Denial::Final(format!(
            "sudo wants a terminal (`requiretty` in sudoers) of {who}: add `Defaults:USER !requiretty` there"
        )));
    }
    if has(&[
        "password is required",
        "terminal is required",
        "no askpass program",
        "no password was provided",
        "interactive authentication is required",
    ]) {
        return Some(Denial::WantsPassword);
    }
    if has(&["is not in the sudoers file", "may not run sudo", "is not allowed to", "I'm afraid I can't do that"]) {
        return Some(Denial::Final(format!("{who} has no right to become root by sudo: {}", first_line(said))));
    }
    if status == Some(127)
        || has(&["sudo: not found", "sudo: command not found", "sudo': No such file", "Unknown command"])
    {
        return Some(Denial::Final("there is no sudo; connect as root or install it".into()));
    }
    if said.contains("sudo:") {
        return Some(Denial::Final(first_line(said)));
    }
    None
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn what_sudo_says_has_a_name() {
        fn check(said: &str, status: i32, part: &str) {
            let found = format!("{:?}", denial(said, Some(status), "admin@kvm01"));
            assert!(found.contains(part), "{said}: {found}");
        }
        check("sudo: a password is required\n", 1, "WantsPassword");
        check("sudo: a terminal is required to read the password; either use the -S option", 1, "WantsPassword");
        check("sudo: no tty present and no askpass program specified", 1, "WantsPassword");
        check("sudo: interactive authentication is required", 1, "WantsPassword");
        check(
            "Sorry, try again.\nsudo: no password was provided\nsudo: 1 incorrect password attempt",
            1,
            "WrongPassword",
        );
        check("sudo: sorry, you must have a tty to run sudo", 1, "requiretty");
        check("admin is not in the sudoers file.  This incident will be reported.", 1, "no right");
        check("Sorry, user admin is not allowed to execute '/bin/sh -c' as root on kvm01.", 1, "no right");
        check("env: 'sudo': No such file or directory", 127, "no sudo");
        check("sudo: /etc/sudo.conf is owned by uid 1000, should be 0", 1, "owned by uid 1000");
        assert_eq!(denial("bash: warning: setlocale", Some(0), "admin@kvm01"), None);
    }

    #[test]
    fn after_a_rejection_no_host_is_tried() {
        let password = Arc::new(Password::new("wrong"));
        let mut first = password.attempt().unwrap();
        let others: Vec<_> = (0..4)
            .map(|_| {
                let password = password.clone();
                thread::spawn(move || password.attempt().map(|mut attempt| attempt.line()).is_err())
            })
            .collect();
        assert_eq!(first.line().as_deref(), Some("wrong\n"));
        assert_eq!(first.line(), None, "a password is sent once");
        first.rejected();
        assert!(others.into_iter().all(|other| other.join().unwrap()));
    }

    #[test]
    fn a_host_that_did_not_ask_leaves_the_next_to_try() {
        let password = Password::new("right");
        password.attempt().unwrap().accepted();
        assert!(*password.state.lock().unwrap() == State::Untried);
        let mut attempt = password.attempt().unwrap();
        assert!(attempt.line().is_some());
        attempt.accepted();
        let _both = (password.attempt().unwrap(), password.attempt().unwrap());
        assert_eq!(format!("{password:?}"), "Password(…)");
    }
}
