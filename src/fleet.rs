//! Many hosts at once: each on its own, at most so many at a time, and one that fails stops no other.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Does something with each item, at most `parallel` at a time, and returns the results in the order of the items.
///
/// Each runs on a thread of its own kind, because it mostly waits for its host; what needs a core while it runs goes to
/// rayon's pool by [`on_core`].
pub fn each<T: Sync, R: Send>(items: &[T], parallel: NonZeroUsize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..parallel.get().min(items.len()) {
            scope.spawn(|| {
                while let Some((at, item)) = take(items, &next) {
                    let result = work(item);
                    results.lock().expect("no holder of this lock can panic").push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no holder of this lock can panic");
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    items.get(at).map(|item| (at, item))
}

/// Does pure work on one of rayon's threads, of which there is one for each core: however many hosts answer at once, no
/// more are compiled and compared at a time than there are cores.
pub fn on_core<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let mut result = None;
    rayon::scope(|scope| scope.spawn(|_| result = Some(work())));
    result.expect("a scope ends when all its work is done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_items_and_no_more_run_at_once() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items: Vec<usize> = (0..200).collect();
        let results = each(&items, NonZeroUsize::new(7).unwrap(), |item| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let doubled = on_core(|| item * 2);
            now.fetch_sub(1, Ordering::SeqCst);
            doubled
        });
        assert_eq!(results, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!(most.into_inner() <= 7);
        assert!(each(&[] as &[u8], NonZeroUsize::MIN, |_| ()).is_empty());
    }
}
