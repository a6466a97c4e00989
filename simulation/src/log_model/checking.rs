//! Asks the checker: every state of a small world, or a walk through a large one.

use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, UniformChooser};

use super::LogModel;
use super::scenario::Scenario;
use super::world::Action;

/// What the checker says.
#[derive(Debug)]
pub struct Checked {
    /// Different states; 0 for walks, which do not compare.
    pub states: usize,
    /// Steps.
    pub steps: usize,
    /// The longest way to a state.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// The promises that were broken, each with the steps that led there.
    pub broken: Vec<(&'static str, Vec<Action>)>,
    /// What was to be reached, and was.
    pub reached: Vec<&'static str>,
}

impl Scenario {
    /// Looks at every state, the nearest first, until a promise is broken.
    pub fn check(&self) -> Checked {
        let checker = LogModel(self.clone()).checker().finish_when(HasDiscoveries::AnyFailures);
        let began = Instant::now();
        Checked::of(began, &checker.spawn_bfs().join())
    }

    /// The same, until this promise is broken, whatever else is.
    pub fn check_for(&self, promise: &'static str) -> Checked {
        let broken = HasDiscoveries::AllOf([promise].into());
        let checker = LogModel(self.clone()).checker().finish_when(broken);
        let began = Instant::now();
        Checked::of(began, &checker.spawn_bfs().join())
    }

    /// The same deep ones first, which needs less memory, and no more than `steps_max` steps.
    pub fn check_deep(&self, steps_max: usize) -> Checked {
        let checker = LogModel(self.clone()).checker().finish_when(HasDiscoveries::AnyFailures);
        let began = Instant::now();
        Checked::of(began, &checker.target_state_count(steps_max).spawn_dfs().join())
    }

    /// Looks at states until everything named was reached.
    pub fn reach(&self, outcomes: &[&'static str]) -> Checked {
        let model = LogModel(Self { outcomes: true, ..self.clone() });
        let all = HasDiscoveries::AllOf(outcomes.iter().copied().collect());
        let began = Instant::now();
        Checked::of(began, &model.checker().finish_when(all).spawn_bfs().join())
    }

    /// Walks at random, always the same ways for the same seed.
    pub fn walk(&self, seed: u64, steps_max: usize) -> Checked {
        let model = LogModel(Self { steps: true, ..self.clone() });
        let checker =
            model.checker().finish_when(HasDiscoveries::AnyFailures).target_max_depth(WALK_STEPS_MAX);
        let began = Instant::now();
        Checked::of(
            began,
            &checker.target_state_count(steps_max).spawn_simulation(seed, UniformChooser).join(),
        )
    }
}

/// The steps of one walk: by then little is left that may happen.
const WALK_STEPS_MAX: usize = 400;

impl Checked {
    fn of(began: Instant, checker: &impl Checker<LogModel>) -> Self {
        let mut checked = Self {
            states: checker.unique_state_count(),
            steps: checker.state_count(),
            depth: checker.max_depth(),
            time: began.elapsed(),
            broken: Vec::new(),
            reached: Vec::new(),
        };
        for (name, path) in checker.discoveries() {
            if checker.model().property(name).expectation == stateright::Expectation::Sometimes {
                checked.reached.push(name);
            } else {
                checked.broken.push((name, path.into_actions()));
            }
        }
        checked.broken.sort_by_key(|(_, actions)| actions.len());
        checked
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, time, broken, .. } = self;
        write!(f, "{states} states, {steps} steps, {depth} deep, {time:.1?}")?;
        for (name, actions) in broken {
            write!(f, "\nbroken: {name}")?;
            for action in actions {
                write!(f, "\n    {action:?}")?;
            }
        }
        Ok(())
    }
}
