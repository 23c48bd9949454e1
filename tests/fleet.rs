//! The fleet of `benches/fleet`, not timed: 10,000 hosts load, and each is planned as the one that stands for them.

#![expect(clippy::disallowed_methods, reason = "the inventory is written")]

#[path = "../benches/fleet/simulated.rs"]
mod simulated;

use simulated::{Fleet, Inventory, Written, load};

/// Loads 10,000 hosts and plans each `nth` of them, before and after an apply.
fn check(nth: usize) {
    let ranges = load(&Inventory::new(10_000, Written::Range).path());
    let singly = load(&Inventory::new(10_000, Written::Singly).path());
    assert_eq!(ranges.hosts().len(), 10_000);
    let same = ranges.hosts().iter().zip(singly.hosts()).all(|(one, other)| one.name == other.name);
    assert!(same && singly.hosts().len() == 10_000);
    let hosts: Vec<_> = ranges.hosts().iter().step_by(nth).cloned().collect();
    let n = hosts.len();
    let (changing, unchanged) = Fleet::changing_and_unchanged(&ranges);
    // The service of KSM is there on SUSE only.
    assert_eq!(changing.plan(&ranges, &hosts), (15 * n, 2 * n, n));
    assert_eq!(unchanged.plan(&ranges, &hosts), (0, 17 * n, n));
}

#[test]
fn ten_thousand_hosts_load_and_plan() {
    check(100);
}

#[test]
#[ignore = "takes minutes without optimization"]
fn each_of_ten_thousand_hosts_is_planned() {
    check(1);
}
