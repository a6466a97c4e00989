//! The model judges positions as the server does.

use simulation::log_model::judgement::{Shape, judge_by_room_log, judge_by_the_document};
use simulation::log_model::rules::Rules;
use simulation::log_model::scenario::Scenario;
use simulation::log_model::truth::Place;

#[test]
fn the_models_judgement_is_the_servers() {
    let rules: Rules = Scenario::default().rules;
    let mut compared = 0;
    let mut compare = |parents: &[Place], top| {
        for oldest in 1..=top + 1 {
            for (epoch, offset) in (0..=3).flat_map(|epoch| (0..=5).map(move |offset| (epoch, offset))) {
                let shape = Shape { epoch: 2, parents, oldest, top };
                let from = Place { epoch, offset };
                if let Some(verdict) = judge_by_room_log(&shape, from) {
                    assert_eq!(
                        judge_by_the_document(&shape, from, &rules),
                        verdict,
                        "{shape:?} from {from:?}"
                    );
                    compared += 1;
                }
            }
        }
    };
    for top in 0..=4 {
        compare(&[], top);
        for first in 0..=4 {
            compare(&[Place { epoch: 0, offset: first }], top);
            for second in 0..=4 {
                compare(&[Place { epoch: 0, offset: first }, Place { epoch: 1, offset: second }], top);
            }
        }
    }
    assert!(compared > 2_000, "{compared}");
}
