//! The system refuses a call of the executor that changes something: one resource fails with words that say which path and why,
//! nothing is torn, a rollback restores the machine, and an apply converges once the system is well again.

use crate::{
    chroot,
    points::{Point, Scenario, slice},
};

/// What the system says, by name and in words.
const ERRORS: [(&str, &str); 5] = [
    ("ENOSPC", "No space left on device"),
    ("EIO", "Input/output error"),
    ("EROFS", "Read-only file system"),
    ("EPERM", "Operation not permitted"),
    ("EINTR", "Interrupted system call"),
];

/// The calls that a file system or the kernel may refuse.
const REFUSABLE: &[&str] = &[
    "fchmod",
    "fchown",
    "fchownat",
    "fdatasync",
    "flock",
    "fremovexattr",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "linkat",
    "mkdirat",
    "openat",
    "renameat",
    "renameat2",
    "symlinkat",
    "unlinkat",
    "utimensat",
    "write",
];

fn refused(scenario: &Scenario, point: &Point, (name, words): (&str, &str)) -> Result<(), String> {
    let (machine, output) = scenario.cut(point, &format!("error={name}"))?;
    let said = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    match output.code {
        0 => {}
        // A call that was interrupted is made again.
        _ if name == "EINTR" && point.call == "write" => {
            return Err(format!("{name}: it is not made again: {output:?}"));
        }
        3 if said.contains(words) && said.contains(" `/") => {}
        // A controller that cannot be told is lost: the host ends the operation that runs.
        4 if point.is_channel => {}
        3 if point.is_channel && said.contains("interrupted") => {}
        // All was done, and what was read once more did not arrive.
        3 if point.is_channel && said.contains("the result could not be read once more") => {}
        _ => return Err(format!("{name}: the words do not say what happened: {output:?}")),
    }
    scenario.judge(&machine).map_err(|error| format!("{name}: {error}\nit said {output:?}"))
}

/// Gives each of some points one of the errors in turn.
fn some(title: &str, make: fn() -> Scenario, step: usize) {
    if !chroot::is_possible() {
        return;
    }
    let scenario = make();
    let points = slice(&scenario.points, step);
    let points: Vec<&Point> = points.into_iter().filter(|point| REFUSABLE.contains(&point.call.as_str())).collect();
    scenario.try_all(title, &points, |point| {
        let turn = scenario.points.iter().position(|one| one == point).unwrap_or(0) / step + point.number;
        refused(&scenario, point, ERRORS[turn % ERRORS.len()])
    });
}

/// Gives every point one error.
fn all(title: &str, make: fn() -> Scenario, error: usize) {
    if !chroot::is_possible() {
        return;
    }
    let scenario = make();
    let points = slice(&scenario.points, 1);
    let points: Vec<&Point> = points.into_iter().filter(|point| REFUSABLE.contains(&point.call.as_str())).collect();
    scenario
        .try_all(&format!("{title}: {}", ERRORS[error].0), &points, |point| refused(&scenario, point, ERRORS[error]));
}

#[test]
fn a_call_that_the_system_refuses_fails_by_name_and_loses_nothing() {
    some("an apply with errors", Scenario::apply, 6);
}

#[test]
fn a_call_that_the_system_refuses_to_a_rollback_is_told_and_the_rollback_repeated() {
    some("a rollback with errors", Scenario::rollback, 12);
}

#[test]
#[ignore = "long: every point"]
fn long_no_space_anywhere() {
    all("an apply", Scenario::apply, 0);
}

#[test]
#[ignore = "long: every point"]
fn long_input_output_error_anywhere() {
    all("an apply", Scenario::apply, 1);
}

#[test]
#[ignore = "long: every point"]
fn long_read_only_anywhere() {
    all("an apply", Scenario::apply, 2);
}

#[test]
#[ignore = "long: every point"]
fn long_not_permitted_anywhere() {
    all("an apply", Scenario::apply, 3);
}

#[test]
#[ignore = "long: every point"]
fn long_interrupted_anywhere() {
    all("an apply", Scenario::apply, 4);
}

#[test]
#[ignore = "long: every point"]
fn long_no_space_anywhere_in_a_rollback() {
    all("a rollback", Scenario::rollback, 0);
}
