//! Many hosts at once: each on its own, at most so many at a time, and one that fails stops no other.

use std::{
    num::NonZeroUsize,
    sync::{
        Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::rollout::{Next, Rollout, Stopped, Turn};

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

/// Does something with each member of a rollout when its turn has come, at most `parallel` at a time.
///
/// `work` gets a member's place and says where it stands afterwards, or why nobody else begins. `between` is called before
/// each further batch, on one thread while the others wait, and says the same.
pub fn staged(
    rollout: Rollout,
    parallel: NonZeroUsize,
    between: impl Fn(Coming) -> Result<(), Stopped> + Sync,
    work: impl Fn(usize) -> Result<Turn, Stopped> + Sync,
) -> Rollout {
    let workers = parallel.get().min(rollout.members().len());
    let (rollout, changed) = (Mutex::new(rollout), Condvar::new());
    let lock = || rollout.lock().unwrap_or_else(PoisonError::into_inner);
    let worker = || {
        let mut rollout = lock();
        loop {
            match rollout.advance() {
                Next::Start(place) => {
                    drop(rollout);
                    let result = work(place);
                    rollout = lock();
                    let turn = result.unwrap_or_else(|why| {
                        rollout.stop(why);
                        Turn::Waiting
                    });
                    rollout.ended(place, turn);
                }
                Next::Between(batch) => {
                    let (of, hosts) = (rollout.batches(), rollout.waiting_in(batch));
                    drop(rollout);
                    let answer = between(Coming { batch, of, hosts });
                    rollout = lock();
                    match answer {
                        Ok(()) => rollout.go_on(),
                        Err(why) => rollout.stop(why),
                    }
                }
                Next::Wait => {
                    rollout = changed.wait(rollout).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Next::End => return,
            }
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(worker);
        }
    });
    rollout.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The batch that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Its number, from 0.
    pub batch: usize,
    /// How many there are.
    pub of: usize,
    /// How many hosts of it wait for their turn.
    pub hosts: usize,
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
    fn a_rollout_goes_batch_by_batch_on_many_threads() {
        use crate::config::rollout::{Amount, Canary, Rollout as Rules};
        let rules =
            Rules { canary: Some(Canary::Amount(Amount::Hosts(2))), batch: Some(Amount::Hosts(5)), ..Rules::default() };
        let names: Vec<String> = (0..40).map(|at| format!("h{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let begin = || Rollout::new(crate::rollout::order(&names, &rules, |_| false), &rules, |_| Turn::Waiting);
        let (now, most, seen) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(vec![]));
        let work = |place: usize| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            seen.lock().unwrap().push(place);
            std::thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(Turn::Good)
        };
        let between = |coming: Coming| {
            let done = 2 + (coming.batch - 1) * 5;
            assert_eq!(seen.lock().unwrap().len(), done, "all of the batches before are done");
            Ok(())
        };
        let end = staged(begin(), NonZeroUsize::new(16).unwrap(), between, work);
        assert!(end.turns().iter().all(|turn| *turn == Turn::Good));
        assert!(most.into_inner() <= 5);
        assert_eq!(seen.into_inner().unwrap().len(), 40);
        let no = |_| Err(Stopped::Asked);
        let end = staged(begin(), NonZeroUsize::new(16).unwrap(), no, |_| Ok(Turn::Good));
        assert_eq!(end.turns().iter().filter(|turn| **turn == Turn::Good).count(), 2);
        assert_eq!(end.stopped(), Some(&Stopped::Asked));
    }

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
