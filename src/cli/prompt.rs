//! Questions to the person at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

/// Asks a question that is answered by `yes`; anything else is no.
///
/// # Errors
/// Fails if the terminal is gone.
pub fn confirm(question: &str) -> io::Result<bool> {
    let mut terminal = io::stderr();
    write!(terminal, "{question} [yes/no] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}

/// Tells whether somebody can be asked.
#[must_use]
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Reads a password from the terminal without showing it, or a line of the standard input where that is no terminal.
///
/// # Errors
/// Says in words why there is none.
pub fn password() -> Result<String, String> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin).ok();
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(|error| format!("the terminal: {error}"))?;
        let _ = write!(io::stderr(), "password for sudo: ");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, OptionalActions::Flush, shown);
        let _ = writeln!(io::stderr());
    }
    read.map_err(|error| format!("no password could be read: {error}"))?;
    let password = line.trim_end_matches(['\r', '\n']).to_string();
    if password.is_empty() { Err("no password was given".into()) } else { Ok(password) }
}
