//! Load, compile and compare for a fleet of simulated hosts: `cargo bench --bench fleet`.
//!
//! Throughput is per host, so that one sees at a glance that the cost of a host does not grow with their number.

#![expect(clippy::disallowed_methods, reason = "a bench writes its inventory")]

mod simulated;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use simulated::{Fleet, Inventory, Written, load};

const SIZES: [usize; 2] = [1_000, 10_000];

/// Loads inventories, with everything that is checked before a host is asked.
fn inventories(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for n in SIZES {
        group.throughput(Throughput::Elements(n as u64));
        for (name, written) in [("range", Written::Range), ("singly", Written::Singly)] {
            let inventory = Inventory::new(n, written);
            group.bench_function(BenchmarkId::new(name, n), |bencher| bencher.iter(|| load(&inventory.path())));
        }
    }
    group.finish();
}

/// Plans whole fleets on all cores.
fn fleets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_millis(500));
    for n in SIZES {
        let project = load(&Inventory::new(n, Written::Range).path());
        let (changing, unchanged) = Fleet::changing_and_unchanged(&project);
        group.throughput(Throughput::Elements(n as u64));
        for (name, fleet) in [("unchanged", &unchanged), ("changing", &changing)] {
            group.bench_function(BenchmarkId::new(name, n), |bencher| {
                bencher.iter(|| black_box(fleet.plan(&project, project.hosts())));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, inventories, fleets);
criterion_main!(benches);
