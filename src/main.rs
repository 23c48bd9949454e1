//! The `vprov` program.
#![expect(clippy::disallowed_methods, clippy::print_stderr, reason = "the program's own arguments and words")]

use std::process::ExitCode;

use vprov::{
    host::exec::{LocalHost, Settings},
    transport::serve::{Arguments, executor_main},
};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|command| command != "executor") {
        eprintln!("vprov: there is no command yet but `executor`");
        return ExitCode::FAILURE;
    }
    match Arguments::parse(arguments) {
        Ok(arguments) => executor_main(&arguments, |arguments, cancel| {
            LocalHost::new(Settings {
                root: arguments.root.clone(),
                observe: arguments.observe,
                cancel: Some(cancel),
                ..Settings::default()
            })
        }),
        Err(words) => {
            eprintln!("vprov executor: {words}");
            ExitCode::FAILURE
        }
    }
}
