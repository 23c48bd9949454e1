//! The executor is killed at each system call that changes something: nothing is torn or lost, a rollback restores the machine,
//! and an apply converges. A slice of the points is tried always, all of them with `tests/run --long`.

use crate::{
    chroot,
    points::{Point, Scenario, slice},
};

/// The process ends before the call is made, as it does when the power fails.
fn killed(scenario: &Scenario, point: &Point) -> Result<(), String> {
    let (machine, _) = scenario.cut(point, "signal=KILL")?;
    scenario.judge(&machine)
}

fn kill(title: &str, make: fn() -> Scenario, step: usize) {
    if !chroot::is_possible() {
        return;
    }
    let scenario = make();
    scenario.try_all(title, &slice(&scenario.points, step), |point| killed(&scenario, point));
}

#[test]
fn an_apply_that_is_killed_loses_nothing_and_is_gone_on_with() {
    kill("an apply killed", Scenario::apply, 6);
}

#[test]
fn a_rollback_that_is_killed_loses_nothing_and_is_repeated() {
    kill("a rollback killed", Scenario::rollback, 12);
}

#[test]
#[ignore = "long: every point"]
fn long_an_apply_that_is_killed_anywhere() {
    kill("an apply killed", Scenario::apply, 1);
}

#[test]
#[ignore = "long: every point"]
fn long_a_rollback_that_is_killed_anywhere() {
    kill("a rollback killed", Scenario::rollback, 1);
}
