//! The program: arguments in, reports and an exit code out. The only module that prints.

mod args;
mod exit;
mod prompt;
mod progress;
mod session;
mod run;
mod plan;
mod saved;
mod show;
mod record;
mod health;
mod rollout;
mod apply;
mod rollback;
mod history;
mod validate;
mod facts;
mod explain;
mod schema;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::{
    diag::{Diagnostics, SourceMap},
    host::exec::{LocalHost, Settings},
    report::text::Look,
    transport::serve,
};
use args::{Cli, Colour, Command};
use exit::Exit;

/// Runs the program with its command line.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Clean.into() };
        }
    };
    let terminal = Terminal::new(cli.color);
    let result = match &cli.command {
        Command::Plan(args) => plan::run(args, &terminal),
        Command::Show(args) => show::run(args, &terminal),
        Command::Apply(args) => apply::run(args, &terminal),
        Command::Rollback(args) => rollback::run(args, &terminal),
        Command::History(args) => history::run(args, &terminal),
        Command::Validate(args) => validate::run(args, &terminal),
        Command::Facts(args) => facts::run(args, &terminal),
        Command::Explain(args) => explain::run(args, &terminal),
        Command::Schema(args) => schema::run(args, &terminal),
        Command::Executor { arguments } => return executor(arguments, &terminal),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(Wrong::Words(words)) => {
            terminal.complain(&words);
            Exit::Usage.into()
        }
        Err(Wrong::Shown) => Exit::Usage.into(),
    }
}

/// Why a command did not begin.
enum Wrong {
    /// The command line or the surroundings are wrong, in words.
    Words(String),
    /// The documents are wrong, and all of it is shown already.
    Shown,
}

impl From<String> for Wrong {
    fn from(words: String) -> Self {
        Self::Words(words)
    }
}

fn executor(arguments: &[std::ffi::OsString], terminal: &Terminal) -> ExitCode {
    match serve::Arguments::parse(arguments) {
        Ok(arguments) if arguments.watch.is_some() => watch(&arguments, terminal),
        Ok(arguments) => serve::executor_main(&arguments, |arguments, cancel| {
            let settings = Settings {
                root: arguments.root.clone(),
                observe: arguments.observe,
                cancel: Some(cancel),
                lock_timeout: std::time::Duration::from_secs(arguments.lock_timeout),
                keep_runs: arguments.keep_runs,
                build: arguments.build,
                // A binary that is known by no name (memfd) is started by the one that it has in this process.
                watchdog: rustix::fs::readlink("/proc/self/exe", vec![])
                    .ok()
                    .and_then(|path| path.into_string().ok())
                    .map(Into::into),
                ..Settings::default()
            };
            LocalHost::new(settings)
        }),
        Err(words) => {
            terminal.complain(&words);
            Exit::Usage.into()
        }
    }
}

/// Is the confirm timer of a run.
fn watch(arguments: &serve::Arguments, terminal: &Terminal) -> ExitCode {
    let Some(run) = &arguments.watch else { return Exit::Usage.into() };
    let settings = Settings { keep_runs: arguments.keep_runs, ..Settings::default() };
    let within = std::time::Duration::from_secs(arguments.within);
    match LocalHost::new(settings).and_then(|host| host.watch(run, within)) {
        Ok(()) => Exit::Clean.into(),
        Err(error) => {
            terminal.complain(&error.to_string());
            Exit::Failed.into()
        }
    }
}

/// The two streams that people and programs read.
pub struct Terminal {
    colour_out: bool,
    colour_err: bool,
}

impl Terminal {
    fn new(colour: Colour) -> Self {
        let on = |is_terminal: bool| match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => is_terminal && wants_colour(),
        };
        Self { colour_out: on(std::io::stdout().is_terminal()), colour_err: on(std::io::stderr().is_terminal()) }
    }

    /// Returns how reports are written.
    fn look(&self, output: &args::Output) -> Look {
        Look { colour: self.colour_out, show_sensitive: output.show_sensitive, verbose: output.verbose }
    }

    /// Writes a report. A reader that went away (`| head`) is no failure.
    fn report(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes what is wrong with files.
    fn diagnose(&self, diagnostics: &Diagnostics, sources: &SourceMap) {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(diagnostics.render(sources, self.colour_err).as_bytes());
    }

    /// Writes what is wrong with files that are of no use then.
    fn refuse(&self, diagnostics: &Diagnostics, sources: &SourceMap) -> Wrong {
        self.diagnose(diagnostics, sources);
        Wrong::Shown
    }

    /// Writes what is wrong with the command line or the surroundings.
    fn complain(&self, words: &str) {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "error: {}", crate::report::text::shown(words));
    }

    /// Writes several lines that are no report, and harmless already.
    fn note_lines(&self, text: &str) {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(text.as_bytes());
    }

    /// Writes a remark that is no report.
    fn note(&self, words: &str) {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{}", crate::report::text::shown(words));
    }
}

/// Tells whether the environment wants colours (no-color.org; a dumb terminal has none).
#[expect(clippy::disallowed_methods, reason = "the environment of the person at the terminal is read here")]
fn wants_colour() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
