//! The rules keep their promises: in every state of each small world, and wherever random walks come in a large one.
//!
//! `MODEL_DEPTH` adds to every bound of the small worlds, `MODEL_STEPS` ends each search after so many steps
//! (`./test --long model`). What a mutant costs is in `mutants.rs`.

#![allow(clippy::expect_used, reason = "a test fails by it")]

use simulation::log_model::checking::Checked;
use simulation::log_model::scenario::Scenario;

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn check(scenario: Scenario) {
    let checked = match number("MODEL_DEPTH") {
        None => scenario.check(),
        Some(by) => scenario.deeper(by as u8).check_deep(number("MODEL_STEPS").unwrap_or(usize::MAX)),
    };
    kept(&checked);
    assert!(checked.states > 1_000, "a world in which next to nothing happens: {checked}");
}

fn kept(checked: &Checked) {
    println!("{checked}");
    assert!(checked.broken.is_empty(), "{checked}");
}

macro_rules! worlds {
    ($($name:ident: $world:ident,)*) => {$(
        #[test]
        fn $name() {
            check(Scenario::$world());
        }
    )*};
}

worlds! {
    two_masters_never_give_out_one_id_twice: forks,
    a_retry_is_one_event_whatever_the_broker_does: retries,
    a_node_follows_over_lost_messages_and_connections: following,
    a_failover_resets_who_lost_something_and_nobody_else: failover,
    a_node_between_two_masters_notices: two_masters,
    a_heal_ends_where_the_log_is: healing,
    a_connection_that_outlives_two_promotions_is_no_danger: back_and_forth,
    clients_move_between_nodes_of_which_one_is_behind: moving,
    a_client_moves_between_nodes_over_a_failover: moving_over_a_failover,
    a_client_that_lags_is_told_what_was_trimmed: trimming,
    a_ring_that_trims_while_it_reads_loses_nothing: trimming_while_reading,
    lost_keys_and_old_snapshots_are_told: losing_data,
    more_epochs_than_are_remembered_are_told: forgetting_parents,
}

#[test]
fn random_walks_find_nothing() {
    for seed in 1..=2 {
        kept(&Scenario::everything().walk(seed, number("MODEL_STEPS").unwrap_or(200_000)));
    }
}

#[test]
fn random_walks_settle() {
    let scenario = Scenario { settles: true, ..Scenario::everything() };
    kept(&scenario.walk(3, number("MODEL_STEPS").map_or(100_000, |steps| steps / 4)));
}

#[test]
fn random_walks_over_as_many_parents_as_a_server_remembers_find_nothing() {
    kept(&Scenario::many_epochs().walk(4, number("MODEL_STEPS").map_or(100_000, |steps| steps / 4)));
}

/// What the worlds are about does happen in them: a promise that is never put to the test is easily kept.
mod reached {
    use super::*;

    fn reach(scenario: &Scenario, outcomes: &[&'static str]) {
        let checked = scenario.reach(outcomes);
        println!(
            "{} states, {} steps, {} deep, {:.1?}",
            checked.states, checked.steps, checked.depth, checked.time
        );
        assert!(checked.broken.is_empty(), "{checked}");
        let missing: Vec<_> = outcomes.iter().filter(|name| !checked.reached.contains(name)).collect();
        assert!(missing.is_empty(), "not reached: {missing:?}");
    }

    #[test]
    fn retries_are_answered_in_each_way() {
        let outcomes = [
            "a retry is answered",
            "a retry is answered across epochs",
            "a retry is answered whose event was trimmed",
            "an id expires and is published again",
        ];
        reach(&Scenario::retries(), &outcomes);
    }

    #[test]
    fn a_node_heals_in_each_way() {
        let outcomes = ["a heal takes its buffer", "a heal is done again", "a reply comes too late to count"];
        reach(&Scenario::following(), &outcomes);
    }

    #[test]
    fn a_failover_shows_in_each_way() {
        let outcomes = [
            "a client is reset",
            "a client is told of a new epoch",
            "an event of a parent is replayed under a newer epoch",
            "a client is moved by a skip",
            "a ring goes on under a new epoch",
            "a ring is thrown away",
        ];
        reach(&Scenario::failover(), &outcomes);
    }

    #[test]
    fn a_ring_that_has_trimmed_too_much_reads() {
        let outcomes = ["a ring reads and can serve", "a read serves what the ring has trimmed again"];
        reach(&Scenario::trimming_while_reading(), &outcomes);
    }

    #[test]
    fn a_second_divergence_resets_a_second_time() {
        reach(&Scenario::forgetting_parents(), &["a client is reset twice"]);
    }
}
