//! Distribution, proportion to the weights, stability under change, and members out of use, for
//! every algorithm.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::hash::{hash, hash_with};
use super::*;

/// A set of members as a test wants it.
#[derive(Debug, Clone, Default)]
struct Model {
    weights: Vec<u32>,
    out: BTreeSet<u16>,
    active: RefCell<Vec<u32>>,
}

impl Model {
    fn new(weights: &[u32]) -> Self {
        Self {
            weights: weights.to_vec(),
            out: BTreeSet::new(),
            active: RefCell::new(vec![0; weights.len()]),
        }
    }

    fn without(mut self, out: &[u16]) -> Self {
        self.out.extend(out);
        self
    }

    fn weighted(&self) -> Vec<Weighted> {
        (0u16..)
            .zip(&self.weights)
            .map(|(member, weight)| Weighted {
                member,
                weight: *weight,
                identity: hash(format!("10.0.0.{member}:80").as_bytes()),
            })
            .collect()
    }

    fn table(&self, balance: &Balance) -> Table {
        Table::build(balance, &self.weighted())
    }

    /// Chooses once for each key in `0..picks`, and counts.
    fn counts(&self, table: &Table, picks: u64) -> Vec<u64> {
        let turn = Cell::new(0);
        let mut counts = vec![0; self.weights.len()];
        for pick in 0..picks {
            let draw = Draw {
                turn: &turn,
                random: hash_with(7, pick),
                key: Some(key(pick)),
            };
            let member = table.choose(draw, self).expect("a member is usable");
            assert!(self.is_usable(member), "{member} is out of use");
            counts[usize::from(member)] += 1;
        }
        counts
    }
}

impl Members for Model {
    fn count(&self) -> usize {
        self.weights.len()
    }

    fn is_usable(&self, member: u16) -> bool {
        !self.out.contains(&member)
    }

    fn active(&self, member: u16) -> u32 {
        self.active.borrow()[usize::from(member)]
    }

    fn weight(&self, member: u16) -> u32 {
        self.weights[usize::from(member)]
    }
}

fn key(number: u64) -> u64 {
    hash(format!("client-{number}").as_bytes())
}

fn every_balance() -> [Balance; 5] {
    [
        Balance::RoundRobin,
        Balance::Random,
        Balance::LeastRequest,
        Balance::RingHash(HashBy::Path),
        Balance::Maglev(HashBy::Path),
    ]
}

/// How far the share of a member may be from its weight, as a part of its share.
fn tolerance(balance: &Balance) -> f64 {
    match balance {
        Balance::RoundRobin => 0.001,
        Balance::Random | Balance::LeastRequest => 0.05,
        Balance::RingHash(_) => 0.25,
        Balance::Maglev(_) => 0.05,
    }
}

#[test]
fn every_algorithm_serves_in_proportion_to_the_weights() {
    const PICKS: u64 = 60_000;
    let check = |weights: &[u32]| {
        let model = Model::new(weights);
        let total: u32 = weights.iter().sum();
        for balance in every_balance() {
            let counts = model.counts(&model.table(&balance), PICKS);
            for (member, weight) in weights.iter().enumerate() {
                let due = PICKS as f64 * f64::from(*weight) / f64::from(total);
                let off = (counts[member] as f64 - due).abs();
                assert!(
                    off <= due * tolerance(&balance) + f64::from(u8::from(*weight > 0)),
                    "{balance:?} with {weights:?}: member {member} has {} of {due}",
                    counts[member]
                );
            }
        }
    };
    check(&[1]);
    check(&[1, 1, 1, 1, 1]);
    check(&[5, 1, 1]);
    check(&[3, 0, 1]);
    check(&[200, 300, 100]);
}

#[test]
fn round_robin_is_smooth() {
    let check = |weights: &[u32], expected: &str| {
        let model = Model::new(weights);
        let table = model.table(&Balance::RoundRobin);
        let turn = Cell::new(0);
        let order: String = (0..expected.len())
            .map(|_| {
                let draw = Draw {
                    turn: &turn,
                    random: 0,
                    key: None,
                };
                char::from(b'a' + table.choose(draw, &model).expect("usable") as u8)
            })
            .collect();
        assert_eq!(order, expected, "weights {weights:?}");
    };
    check(&[1, 1, 1], "abcabc");
    check(&[5, 1, 1], "aaabaacaaabaac");
    check(&[2, 1], "aabaab");
    check(&[10, 10], "abab");
}

#[test]
fn members_out_of_use_are_passed_over_and_the_rest_share() {
    for balance in every_balance() {
        let model = Model::new(&[1, 1, 1, 1]).without(&[1, 3]);
        let counts = model.counts(&model.table(&balance), 4000);
        assert_eq!((counts[1], counts[3]), (0, 0), "{balance:?}");
        assert!(counts[0].min(counts[2]) > 1200, "{balance:?}: {counts:?}");
    }
}

#[test]
fn one_usable_member_among_many_is_found() {
    let weights = vec![3; 2000];
    let out: Vec<u16> = (0..2000).filter(|member| *member != 1234).collect();
    for balance in every_balance() {
        let model = Model::new(&weights).without(&out);
        assert_eq!(
            model.counts(&model.table(&balance), 50)[1234],
            50,
            "{balance:?}"
        );
    }
}

#[test]
fn nothing_is_chosen_where_nothing_is_usable() {
    let check = |model: Model| {
        for balance in every_balance() {
            let draw = Draw {
                turn: &Cell::new(0),
                random: 1,
                key: Some(2),
            };
            assert_eq!(
                model.table(&balance).choose(draw, &model),
                None,
                "{balance:?}"
            );
        }
    };
    check(Model::new(&[]));
    check(Model::new(&[0, 0]));
    check(Model::new(&[1, 2]).without(&[0, 1]));
}

#[test]
fn least_request_prefers_the_idle_for_their_weight() {
    let check = |weights: &[u32], active: &[u32], expected: u16| {
        let model = Model::new(weights);
        *model.active.borrow_mut() = active.to_vec();
        let counts = model.counts(&model.table(&Balance::LeastRequest), 1000);
        let most = (0u16..)
            .zip(&counts)
            .max_by_key(|(_, count)| **count)
            .map(|(member, _)| member);
        assert_eq!(most, Some(expected), "{weights:?} {active:?}: {counts:?}");
    };
    check(&[1, 1], &[4, 3], 1);
    check(&[2, 1], &[4, 3], 0);
    check(&[1, 1, 1, 1], &[9, 9, 0, 9], 2);
}

#[test]
fn least_request_keeps_the_load_level() {
    let model = Model::new(&[1; 10]);
    let table = model.table(&Balance::LeastRequest);
    let turn = Cell::new(0);
    for pick in 0..5000u64 {
        let draw = Draw {
            turn: &turn,
            random: hash_with(3, pick),
            key: None,
        };
        let member = table.choose(draw, &model).expect("usable");
        model.active.borrow_mut()[usize::from(member)] += 1;
    }
    let active = model.active.borrow();
    let (least, most) = (active.iter().min(), active.iter().max());
    assert!(
        most.zip(least)
            .is_some_and(|(most, least)| most - least <= 8),
        "{active:?}"
    );
}

/// Where each of some keys goes, by identity, so that the position in the list is left out.
fn places(model: &Model, members: &[Weighted], balance: &Balance) -> BTreeMap<u64, u64> {
    let table = Table::build(balance, members);
    let turn = Cell::new(0);
    (0..4000)
        .map(|number| {
            let draw = Draw {
                turn: &turn,
                random: 0,
                key: Some(key(number)),
            };
            let chosen = table.choose(draw, model).expect("usable");
            let member = members
                .iter()
                .find(|member| member.member == chosen)
                .expect("known");
            (number, member.identity)
        })
        .collect()
}

#[test]
fn keys_stay_when_a_member_leaves() {
    let check = |balance: &Balance, moved_max: usize| {
        let model = Model::new(&[1; 10]);
        let before = places(&model, &model.weighted(), balance);
        // The member is gone and the others have moved up in the list.
        let left: Vec<Weighted> = (0u16..)
            .zip(
                model
                    .weighted()
                    .into_iter()
                    .filter(|member| member.member != 4),
            )
            .map(|(index, member)| Weighted {
                member: index,
                ..member
            })
            .collect();
        let gone = model.weighted()[4].identity;
        let after = places(&Model::new(&[1; 9]), &left, balance);
        let moved = before
            .iter()
            .filter(|(number, place)| **place != gone && after.get(number) != Some(place))
            .count();
        assert!(
            moved <= moved_max,
            "{balance:?}: {moved} keys of others moved"
        );
    };
    check(&Balance::RingHash(HashBy::Path), 0);
    // The paper's figure for one change is a few per cent at most.
    check(&Balance::Maglev(HashBy::Path), 200);
}

#[test]
fn keys_of_others_stay_while_a_member_is_out_of_use() {
    for balance in [
        Balance::RingHash(HashBy::Path),
        Balance::Maglev(HashBy::Path),
    ] {
        let model = Model::new(&[1; 10]);
        let before = places(&model, &model.weighted(), &balance);
        let after = places(&model.clone().without(&[4]), &model.weighted(), &balance);
        let away = model.weighted()[4].identity;
        for (number, place) in &before {
            assert!(
                *place == away || after.get(number) == Some(place),
                "{balance:?} {number}"
            );
        }
    }
}

#[test]
fn tables_are_bounded_whatever_the_weights() {
    let model = Model::new(&[u32::MAX, 1, 4_000_000_000, 7]);
    let Table::RoundRobin(slots) = model.table(&Balance::RoundRobin) else {
        unreachable!()
    };
    assert!(slots.len() as u64 <= slots::SLOTS_MAX + 4);
    for balance in every_balance() {
        let counts = model.counts(&model.table(&balance), 20_000);
        assert!(
            counts[0] > 9000 && counts[2] > 8000,
            "{balance:?}: {counts:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Over one cycle every member has its turns exactly, however the weights are chosen.
    #[test]
    fn a_cycle_of_round_robin_is_exact(weights in prop::collection::vec(0u32..40, 1..20)) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let model = Model::new(&weights);
        let counts = model.counts(&model.table(&Balance::RoundRobin), u64::from(total));
        let expected: Vec<u64> = weights.iter().map(|weight| u64::from(*weight)).collect();
        prop_assert_eq!(counts, expected);
    }

    /// Between two turns of a member the others get little more than their share.
    #[test]
    fn turns_of_a_member_are_an_equal_time_apart(weights in prop::collection::vec(1u32..20, 1..10)) {
        let model = Model::new(&weights);
        let table = model.table(&Balance::RoundRobin);
        let turn = Cell::new(0);
        let total: u32 = weights.iter().sum();
        let order: Vec<u16> = (0..3 * total)
            .map(|_| table.choose(Draw { turn: &turn, random: 0, key: None }, &model))
            .collect::<Option<_>>()
            .expect("usable");
        for (member, weight) in (0u16..).zip(&weights) {
            let turns: Vec<usize> =
                (0..order.len()).filter(|at| order.get(*at) == Some(&member)).collect();
            let widest = turns.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            let bound = (total / weight) as usize + weights.len();
            prop_assert!(widest <= bound, "{:?}: {} is {} apart", weights, member, widest);
        }
    }

    /// Whoever is out, whatever the draw: a usable member of weight is found if there is one.
    #[test]
    fn a_usable_member_is_always_found(
        weights in prop::collection::vec(0u32..1000, 1..60),
        out in prop::collection::btree_set(0u16..60, 0..60),
        random: u64,
        key: Option<u64>,
        turn: u32,
    ) {
        let out: Vec<u16> = out.into_iter().collect();
        let model = Model::new(&weights).without(&out);
        let exists = (0u16..).zip(&weights).any(|(member, weight)| {
            *weight > 0 && model.is_usable(member)
        });
        for balance in every_balance() {
            let turn = Cell::new(turn);
            let chosen = model.table(&balance).choose(Draw { turn: &turn, random, key }, &model);
            prop_assert_eq!(chosen.is_some(), exists, "{:?}", balance);
            prop_assert!(chosen.is_none_or(|member| model.is_usable(member)));
            prop_assert!(chosen.is_none_or(|member| model.weight(member) > 0));
        }
    }
}
