//! The `vprov` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    vprov::cli::main()
}
