//! Rollouts of made-up hosts: who begins when, and when nobody does any more.

use proptest::prelude::*;

use super::*;
use crate::config::rollout::Amount;

fn members(rules: &Rules, n: usize) -> Vec<Member> {
    let names: Vec<String> = (0..n).map(|at| format!("h{at:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    order(&names, rules, |host| host.ends_with('3'))
}

fn rules() -> impl Strategy<Value = Rules> {
    let amount = || prop_oneof![(1_usize..12).prop_map(Amount::Hosts), (1_u8..=100).prop_map(Amount::Percent)];
    let order = prop_oneof![
        Just(Order::Inventory),
        Just(Order::Sorted),
        Just(Order::Reversed),
        any::<u64>().prop_map(|seed| Order::Random { seed })
    ];
    let canary = prop_oneof![
        Just(None),
        amount().prop_map(|amount| Some(Canary::Amount(amount))),
        Just(Some(Canary::Hosts(vec!["*3".into()])))
    ];
    let failures = prop_oneof![Just(None), Just(Some(Amount::Hosts(0))), amount().prop_map(Some)];
    (order, canary, prop::option::of(amount()), failures).prop_map(|(order, canary, batch, max_failures)| Rules {
        order,
        canary,
        batch,
        max_failures,
        ..Rules::default()
    })
}

/// Who fails is fixed for each host, so that two controllers meet the same.
fn outcome(seed: u64, host: &str, one_in: u64) -> Turn {
    let digest = Digest::of(format!("{seed}{host}").as_bytes()).to_string();
    let number = u64::from_str_radix(&digest[..8], 16).unwrap();
    if number.is_multiple_of(one_in) { Turn::Bad } else { Turn::Good }
}

/// What a record would hold: who began and who ended how.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Began(usize),
    Ended(usize, Turn),
}

/// Runs to the end with so many workers; whoever ends next is chosen by `choose`.
fn run(rollout: &mut Rollout, workers: usize, mut choose: impl FnMut(usize) -> usize, fails: (u64, u64)) -> Vec<Event> {
    let mut events = vec![];
    let mut running: Vec<usize> = vec![];
    loop {
        match if running.len() < workers { rollout.advance() } else { Next::Wait } {
            Next::Start(place) => {
                running.push(place);
                events.push(Event::Began(place));
            }
            Next::Between(_) => {
                assert!(running.is_empty(), "a batch begins while another goes on");
                assert_eq!(rollout.advance(), Next::Wait, "only one asks");
                rollout.go_on();
            }
            Next::Wait | Next::End if !running.is_empty() => {
                let place = running.swap_remove(choose(running.len()));
                let turn = outcome(fails.0, &rollout.members()[place].host, fails.1);
                rollout.ended(place, turn);
                events.push(Event::Ended(place, turn));
            }
            Next::End => return events,
            Next::Wait => panic!("everybody waits for nobody: {rollout:?}"),
        }
    }
}

/// What an earlier controller left: whoever ended counts, whoever only began has another turn.
fn turns(events: &[Event], n: usize) -> Vec<Turn> {
    let mut turns = vec![Turn::Waiting; n];
    for event in events {
        if let Event::Ended(place, turn) = event {
            turns[*place] = *turn;
        }
    }
    turns
}

proptest! {
    #[test]
    fn batches_canaries_and_the_budget_hold(
        rules in rules(), n in 0_usize..60, workers in 1_usize..9, seed: u64, one_in in 1_u64..20,
        choices in prop::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let members = members(&rules, n);
        let canaries = members.iter().filter(|member| member.canary).count();
        prop_assert!(members[..canaries].iter().all(|member| member.canary), "canaries come first");
        let mut names: Vec<&str> = members.iter().map(|member| member.host.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), n, "everybody has one place");
        let mut rollout = Rollout::new(members, &rules, |_| Turn::Waiting);
        let mut at = choices.iter();
        let events = run(&mut rollout, workers, |len| at.next().map_or(0, |choice| choice.index(len)), (seed, one_in));

        let batch = rules.batch.map_or(n, |batch| batch.of(n)).max(1);
        let allowed = rules.max_failures.map_or(usize::MAX, |amount| amount.of(n));
        let (mut running, mut most, mut failed, mut over) = (0_usize, 0, 0, None);
        let mut good_canaries = 0;
        for event in &events {
            match *event {
                Event::Began(place) => {
                    running += 1;
                    most = most.max(running);
                    prop_assert!(over.is_none(), "somebody began after the budget was spent");
                    prop_assert!(place < canaries || good_canaries == canaries, "somebody began before the canaries were well");
                }
                Event::Ended(place, turn) => {
                    running -= 1;
                    if turn == Turn::Bad {
                        failed += 1;
                        if failed > allowed && over.is_none() {
                            over = Some(running);
                        }
                    } else if place < canaries {
                        good_canaries += 1;
                    }
                }
            }
        }
        prop_assert!(most <= workers.min(batch.max(canaries)), "{} at once", most);
        prop_assert!(failed <= allowed.saturating_add(1 + over.unwrap_or(0)), "{} failed", failed);
        let untouched = rollout.turns().iter().filter(|turn| **turn == Turn::Waiting).count();
        prop_assert_eq!(untouched > 0, rollout.stopped().is_some(), "who is left is left for a reason");
    }

    #[test]
    fn a_controller_that_is_killed_anywhere_comes_to_the_same_end(
        rules in rules(), n in 1_usize..40, seed: u64, one_in in 1_u64..20, cut: prop::sample::Index,
    ) {
        let members = members(&rules, n);
        let mut whole = Rollout::new(members.clone(), &rules, |_| Turn::Waiting);
        let events = run(&mut whole, 1, |_| 0, (seed, one_in));
        let left = turns(&events[..cut.index(events.len() + 1)], n);
        let mut resumed = Rollout::new(members, &rules, |place| left[place]);
        let more = run(&mut resumed, 1, |_| 0, (seed, one_in));
        prop_assert_eq!(resumed.turns(), whole.turns());
        prop_assert_eq!(resumed.stopped(), whole.stopped());
        for event in more {
            if let Event::Began(place) = event {
                prop_assert_eq!(left[place], Turn::Waiting, "whoever was done is not asked again");
            }
        }
    }
}

#[test]
fn the_seed_alone_gives_the_order_and_a_new_host_moves_no_other() {
    let rules = Rules { order: Order::Random { seed: 5 }, ..Rules::default() };
    let names = |members: Vec<Member>| members.into_iter().map(|member| member.host).collect::<Vec<_>>();
    let nine = names(members(&rules, 9));
    assert_ne!(nine, names(members(&Rules::default(), 9)));
    let mut ten = names(members(&rules, 10));
    ten.retain(|host| host != "h009");
    assert_eq!(nine, ten);
}

#[test]
fn who_gives_a_turn_back_untouched_ends_the_rollout() {
    let rules = Rules::default();
    let mut rollout = Rollout::new(members(&rules, 3), &rules, |_| Turn::Waiting);
    assert_eq!(rollout.advance(), Next::Start(0));
    rollout.ended(0, Turn::Waiting);
    assert_eq!(rollout.advance(), Next::End);
    assert_eq!(rollout.stopped(), Some(&Stopped::Asked));
}

#[test]
fn what_failed_before_the_first_batch_counts() {
    let rules = Rules { max_failures: Some(Amount::Hosts(1)), ..Rules::default() };
    let rollout = Rollout::new(members(&rules, 4), &rules, |place| if place < 2 { Turn::Bad } else { Turn::Waiting });
    assert_eq!(rollout.stopped(), Some(&Stopped::Failures { failed: 2, allowed: 1 }));
    let rules = Rules { canary: Some(Canary::Amount(Amount::Hosts(1))), ..Rules::default() };
    let mut rollout =
        Rollout::new(members(&rules, 4), &rules, |place| if place == 0 { Turn::Bad } else { Turn::Waiting });
    assert_eq!(rollout.advance(), Next::End);
    assert_eq!(rollout.stopped(), Some(&Stopped::Canary { host: "h000".into() }));
}
