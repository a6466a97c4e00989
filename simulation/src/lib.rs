//! What can't be shown on a real machine: the log protocol, model-checked ([Stateright](https://www.stateright.rs)).
//!
//! [`log_model`] is the rules of docs/redis.md as a state machine: one room, one or two servers of the broker, one or two nodes, one
//! or two clients. Every step that any of them or an adversary may take is an [`Action`](log_model::world::Action); the
//! checker takes all of them in every order. A [`Scenario`](log_model::scenario::Scenario) says how much may happen,
//! because one world with everything has too many states: there is a small one for each part of the protocol, searched
//! to its end, and a large one with everything, through which random walks lead.
//!
//! # What is modelled
//!
//! - **The broker**: the scripts with rules 1–4 (a fresh meta, lineage and parents with their bound, oldest, idempotency
//!   ids); a replica that copies at any time or not at all; promotions with two masters for as long as it pleases,
//!   A → B → A, with connections that outlive it; a crash with an old snapshot; FLUSHALL, and the loss of meta, log or ids
//!   alone; trims; expiry of ids.
//! - **A node**: a connection for commands and one for messages, which are lost and made anew each by itself, to
//!   different masters if it comes so; messages that are late or lost; the ring (epoch, parents, events, trims), the heal
//!   with its bounded buffer, position checks, reads in flight, one at a time, and who may share one.
//! - **A client**: its cursor, `room.epoch`, `room.reset` and `room.skip`; it lags, is cut off, and comes back to either
//!   node. Cursors are judged by the server's own [`RoomLog::recover`](tidings_protocol::room_log::RoomLog::recover).
//! - **A publisher**: new publications and retries, through any node and to whichever master that one talks to.
//!
//! # What is promised
//!
//! I1, I2, I3 and I6 as docs/guarantees.md has them, checked against the truth, which no part of the model can see
//! ([`truth`](log_model::truth)). Of I4 what has no clock: a node that missed something knows it, unless what was lost
//! left no trace, and then its next position check tells it; and from every state all comes right by itself once the
//! adversary rests ([`settling`](log_model::settling)). A reset counts as needless unless the log that the client's node
//! reads could not continue it, at some moment since the client came or was last served.
//!
//! # What is not modelled
//!
//! Time (an expiry or a trim is a step like any other); `idempotency_conflict`; reads in pages and limits of a replay;
//! a publish whose answer is lost differs from one whose answer comes only in the retry, which is modelled; a heal's reply
//! that overtakes another (reads of a node follow one another); the state that an application gives after a reset; slot
//! migrations; PUBLISH as replicas pass it on; what can't be detected (cloned memory, an operator's `RESTORE`).
//!
//! # What it asks of those who build it
//!
//! What is easily overlooked; each has a mutant that shows what it is for.
//!
//! 1. A read ends a heal only if it was sent after the heal began, not only after the newest confirmation and connection
//!    (`EarlierThanHealCounts`): a reply under way, read before the loss, would end the heal that a position check has
//!    just begun, and the loss would be told a whole check later, beyond I4's 15 s.
//! 2. The buffer is empty after every heal; what did not fit starts another heal and is not kept (`BufferKept`): a
//!    message of an old epoch fits never.
//! 3. Who waited for a read is judged by its answer, and gets from the answer what the ring has trimmed again meanwhile
//!    (`ResetByRing`). The ring alone never says that something is lost (`ResetWithoutRead`).
//! 4. A read brings what follows the positions that are in the log by rules 1–3; for one that is not, everything that is
//!    stored (`ReadsAfterAnyPosition`): what is still stored has to follow a `room.reset` without a state.
//! 5. Who leaves waits no longer; back before the reply, he waits for the next one (`SharedReadTooEarly`).
//! 6. A skip is for a position that the ring serves (`SkipNotJudged`).
//! 7. What comes right by itself does so with both connections at one master: a refusal (`READONLY`) or a loss of one is
//!    a reason to make the other anew as well ([`settling`](log_model::settling) does).
//!
//! # Figures
//!
//! The worlds of every run, together 1.35 million states and 4.3 million steps, and 0.6 million steps of walks; with the
//! mutants 19 s of one core.
//!
//! | world | states | steps | deepest |
//! | --- | --- | --- | --- |
//! | `forks` | 286,469 | 641,969 | 18 |
//! | `retries` | 197,558 | 529,031 | 19 |
//! | `following` | 21,092 | 81,659 | 22 |
//! | `failover` | 71,916 | 236,337 | 25 |
//! | `two_masters` | 42,197 | 147,524 | 19 |
//! | `healing` | 2,995 | 6,910 | 17 |
//! | `back_and_forth` | 67,364 | 192,002 | 27 |
//! | `moving` | 200,528 | 922,019 | 26 |
//! | `moving_over_a_failover` | 108,818 | 462,472 | 28 |
//! | `trimming` | 77,940 | 267,447 | 22 |
//! | `trimming_while_reading` | 2,181 | 5,658 | 19 |
//! | `losing_data` | 209,415 | 619,206 | 25 |
//! | `forgetting_parents` | 65,446 | 198,638 | 32 |
//!
//! `./test --long model` looks deeper. Each [`Mutant`](log_model::rules::Mutant) breaks one rule; `tests/mutants.rs` says
//! which promise that costs, or why none.

pub mod log_model;
