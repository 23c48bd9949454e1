//! End to end: the real binary against real hosts.
//!
//! The hosts are made by `tests/lab/light up N`; `tests/run` does that and names their state directory in `VPROV_TEST_LAB`.
//! Without it each test that needs hosts says so (`SKIP name: words`) and passes.
#![expect(clippy::disallowed_methods, reason = "tests start programs and read what they left")]
#![expect(clippy::print_stderr, reason = "a skipped test says why")]

mod bad_input;
mod chroot;
mod confirm;
mod distributions;
mod errors;
mod families;
mod faults;
mod hosts;
mod kill;
mod lab;
mod ledger;
mod links;
mod local;
mod machine;
mod manifest;
mod one;
mod plans;
mod points;
mod program;
mod review;
mod rollback;
mod rollout;
mod secrets;
mod ssh;
mod systemd;
mod transport;
