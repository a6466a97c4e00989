//! Every rule is needed: with one of them broken, a promise is. Where none is, the reason stands beside it.

use simulation::log_model::rules::Mutant;
use simulation::log_model::scenario::Scenario;

const I1: &str = "I1: what follows is the next event of one log";
const I2: &str = "I2: an id names one event";
const I3: &str = "I3: one reset a divergence";
const I3_STORED: &str = "I3: what is still stored follows a reset";
const I4: &str = "I4: a node knows that it missed something";
const I4_SETTLES: &str = "I4: all comes right by itself";
const I6: &str = "I6: a publication is one event";
const I6_ANSWER: &str = "I6: a duplicate's answer is the first's";

fn caught(mutant: Mutant, scenario: Scenario, promise: &'static str) {
    let checked = scenario.with(mutant).check_for(promise);
    println!("{mutant:?}: {checked}");
    assert!(
        checked.broken.iter().any(|(name, _)| *name == promise),
        "{mutant:?} breaks {promise}: {checked}"
    );
}

fn harmless(mutant: Mutant, scenarios: &[Scenario]) {
    for scenario in scenarios {
        let checked = scenario.clone().with(mutant).check();
        println!("{mutant:?}: {checked}");
        assert!(checked.broken.is_empty(), "{mutant:?} is harmless: {checked}");
    }
}

macro_rules! caught {
    ($($(#[$doc:meta])* $name:ident: $mutant:ident in $world:ident breaks $promise:ident,)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                caught(Mutant::$mutant, Scenario::$world(), $promise);
            }
        )*

        const CAUGHT: &[Mutant] = &[$(Mutant::$mutant,)*];
    };
}

caught! {
    without_lineage_one_id_names_two_events: NoLineage in forks breaks I2,
    a_run_id_survives_two_promotions: RunIdForReplid in back_and_forth breaks I2,
    a_connections_replid_outlives_two_promotions: ReplidPerConnection in back_and_forth breaks I2,
    a_parents_top_is_not_one_more: ParentTopPlusOne in failover breaks I1,
    a_parents_top_is_not_one_less: ParentTopMinusOne in failover breaks I3,
    nor_for_idempotency_ids: ParentTopMinusOne in retries breaks I6,
    what_was_trimmed_is_missed: NoTrimCheck in losing_data breaks I1,
    a_parents_top_is_looked_at: AboveParentTopIgnored in failover breaks I1,
    who_reads_before_he_subscribes_is_deaf: SubscribeAfterRead in following breaks I4,
    a_reply_of_an_earlier_connection_does_not_count: EarlierConnectionCounts in two_masters breaks I4,
    a_reply_that_was_asked_for_before_the_heal_does_not_end_it: EarlierThanHealCounts in healing breaks I4,
    a_replica_is_behind: ReadsFromReplica in failover breaks I3,
    an_offset_without_its_epoch_is_no_id: OffsetOnly in back_and_forth breaks I2,
    a_message_is_no_authority_on_epochs: MessageMovesEpoch in failover breaks I2,
    a_new_log_has_no_old_events: LogSurvivesFreshMeta in losing_data breaks I2,
    ids_of_a_lost_log_are_wrong_answers: IdsSurviveAndAreNotChecked in retries breaks I6_ANSWER,
    a_read_that_was_sent_before_is_too_old: SharedReadTooEarly in moving breaks I3,
    a_ring_alone_can_not_tell_what_is_lost: ResetWithoutRead in moving breaks I3,
    nor_can_a_ring_that_has_read: ResetByRing in trimming_while_reading breaks I3,
    what_follows_a_foreign_offset_is_not_all_that_is_stored: ReadsAfterAnyPosition in failover breaks I3_STORED,
    a_full_buffer_is_healed_again: OverflowForgotten in following breaks I4,
    a_buffer_is_empty_after_a_heal: BufferKept in healing breaks I4_SETTLES,
    nothing_is_accepted_while_healing: AcceptsWhileHealing in following breaks I4,
    a_new_connection_heals: ReconnectNotHealed in two_masters breaks I4,
    a_new_subscription_heals: ResubscriptionNotHealed in following breaks I4,
    each_client_is_judged_by_its_own_position: RingResetsEverybody in failover breaks I3,
    a_skip_is_for_who_is_in_the_log: SkipNotJudged in moving breaks I1,
}

const HARMLESS: &[Mutant] = &[Mutant::AboveTopIgnored, Mutant::IdsSurviveFreshMeta, Mutant::IdNotChecked];

/// An honest position above the top of its own epoch only means that the ring is behind: whoever gave it out was a
/// master under that epoch's replid, and what another one has instead is under another epoch. So such a client may wait
/// for the ring as well as for a read, provided that its position is kept and judged again when the epoch moves. The
/// check is for positions that nobody gave out (`too_far`), and those make no honest client's promise.
#[test]
fn a_position_above_its_own_epochs_top_only_waits() {
    harmless(Mutant::AboveTopIgnored, &[Scenario::failover(), Scenario::two_masters()]);
}

/// Either of the two keeps the other's promise: ids go with their log, and an id that did not go is of no epoch of this
/// one. Without both it is lost (`ids_of_a_lost_log_are_wrong_answers`).
#[test]
fn ids_that_survive_their_log_do_not_count() {
    harmless(Mutant::IdsSurviveFreshMeta, &[Scenario::retries()]);
}

/// See above: as long as meta, log and ids are written by one script and deleted by rule 1, no id is ever off the chain.
#[test]
fn ids_that_went_with_their_log_need_no_check() {
    harmless(Mutant::IdNotChecked, &[Scenario::retries()]);
}

#[test]
fn every_mutant_is_looked_at() {
    let missing: Vec<_> =
        Mutant::ALL.iter().filter(|mutant| !CAUGHT.contains(mutant) && !HARMLESS.contains(mutant)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
