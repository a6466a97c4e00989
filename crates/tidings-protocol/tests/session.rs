//! The server's session machine by values and moved time: PROTOCOL.md §5, limits of `Limits::default`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the functions that the tests share are tests too"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidings_protocol::close::CloseCode;
use tidings_protocol::error::ErrorCode;
use tidings_protocol::frame::{CloseFrame, Inbound};
use tidings_protocol::limits::{Limit, Limits};
use tidings_protocol::session::{Due, Received, Session};

const APP: Inbound<'static> = Inbound::Text(r#"{"event":"typing","room":"a"}"#);
const JOIN: Inbound<'static> = Inbound::Text(r#"{"event":"room.join","room":"a","id":"j-1"}"#);
const HEARTBEAT: Inbound<'static> = Inbound::Text(r#"{"event":"presence.heartbeat"}"#);

/// A session and the moment of its upgrade.
fn session() -> (Session, Instant) {
    let start = Instant::now();
    (Session::new(Arc::new(Limits::default()), start), start)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// All that is due at `now`; a close is the last.
fn due(session: &mut Session, now: Instant) -> Vec<Due> {
    let mut all = Vec::new();
    while let Some(due) = session.tick(now) {
        all.push(due);
        if matches!(due, Due::Close(..) | Due::Abort) {
            break;
        }
        assert!(all.len() < 10, "a tick never ends: {all:?}");
    }
    all
}

/// The code with which a session closes at `now`, if it does.
fn closes(session: &mut Session, now: Instant) -> Option<CloseCode> {
    due(session, now).into_iter().find_map(|due| match due {
        Due::Close(_, code, _) => Some(code),
        _ => None,
    })
}

/// Moves time from deadline to deadline: what was due and when, up to the close or `until`.
fn run(session: &mut Session, start: Instant, until: Duration) -> Vec<(Duration, Due)> {
    let mut all = Vec::new();
    while session.next_deadline() <= start + until {
        let now = session.next_deadline();
        let here = due(session, now);
        assert!(!here.is_empty(), "nothing was due at {:?}", now - start);
        all.extend(here.iter().map(|due| (now - start, *due)));
        if matches!(here.last(), Some(Due::Close(..) | Due::Abort)) {
            break;
        }
    }
    all
}

fn code(received: &Received<'_>) -> Option<CloseCode> {
    if let Received::Close(_, code, _) = received { Some(*code) } else { None }
}

/// The wait that a `rate_limited` names.
fn limited(received: &Received<'_>) -> Option<u64> {
    match received {
        Received::Limited { refusal, .. } => {
            assert_eq!(refusal.code, ErrorCode::RateLimited);
            Some(refusal.retry_after_ms.expect("rate_limited says how long to wait"))
        }
        _ => None,
    }
}

#[test]
fn a_silent_connection_is_pinged_and_closed_with_4110() {
    let (mut session, start) = session();
    let all = run(&mut session, start, s(1000));
    let (at, last) = all.last().unwrap();
    assert_eq!(all[..2], [(s(30), Due::Ping), (s(60), Due::Ping)]);
    assert!(matches!(last, Due::Close(Some(Limit::SilenceMax), CloseCode::HEARTBEAT_TIMEOUT, _)), "{all:?}");
    assert_eq!((*at, all.len()), (s(90), 3));
}

#[test]
fn any_frame_counts_as_life() {
    let frames = [
        APP,
        HEARTBEAT,
        Inbound::Ping(b""),
        Inbound::Pong(b"x"),
        Inbound::Binary(b"junk"),
        Inbound::Text("junk"),
    ];
    for frame in frames {
        let (mut session, start) = session();
        session.receive(frame, start + s(89));
        assert_eq!(closes(&mut session, start + s(90)), None, "{frame:?}");
        assert_eq!(closes(&mut session, start + s(89 + 90) - ms(1)), None, "{frame:?}");
        assert_eq!(closes(&mut session, start + s(89 + 90)), Some(CloseCode::HEARTBEAT_TIMEOUT), "{frame:?}");
    }
    // A long message's bytes are life as well, before they are a frame.
    let (mut session, start) = session();
    session.heard(start + s(60));
    assert_eq!(closes(&mut session, start + s(149)), None);
    assert_eq!(closes(&mut session, start + s(150)), Some(CloseCode::HEARTBEAT_TIMEOUT));
}

#[test]
fn a_connection_that_we_do_not_read_is_not_silent() {
    let (mut session, start) = session();
    session.pause_reading();
    assert!(session.is_paused());
    let all = run(&mut session, start, s(300));
    assert_eq!(all.len(), 10, "a ping each 30 s and nothing else: {all:?}");
    session.resume_reading(start + s(300));
    assert!(!session.is_paused());
    assert_eq!(closes(&mut session, start + s(389)), None);
    assert_eq!(closes(&mut session, start + s(390)), Some(CloseCode::HEARTBEAT_TIMEOUT));
}

#[test]
fn a_message_has_10_s_to_complete_and_dripping_does_not_extend_them() {
    let (mut session, start) = session();
    for second in 0..10 {
        session.heard(start + s(second));
        session.set_mid_message(true, start + s(second));
    }
    // A control frame between fragments doesn't, either.
    session.receive(Inbound::Ping(b""), start + s(9));
    assert_eq!(session.next_deadline(), start + s(10));
    assert_eq!(closes(&mut session, start + s(10) - ms(1)), None);
    assert_eq!(closes(&mut session, start + s(10)), Some(CloseCode::POLICY));
}

#[test]
fn each_message_has_its_own_10_s() {
    let (mut session, start) = session();
    session.set_mid_message(true, start);
    session.set_mid_message(false, start + s(9));
    assert_eq!(closes(&mut session, start + s(10)), None);
    session.set_mid_message(true, start + s(12));
    assert_eq!(closes(&mut session, start + s(21)), None);
    // While we don't read, the rest may wait in the kernel.
    session.pause_reading();
    assert_eq!(closes(&mut session, start + s(25)), None);
    session.resume_reading(start + s(25));
    assert_eq!(closes(&mut session, start + s(34)), None);
    assert_eq!(closes(&mut session, start + s(35)), Some(CloseCode::POLICY));
}

#[test]
fn the_21st_control_frame_at_once_closes_with_1008() {
    for (frame, is_answered) in [(Inbound::Ping(b"p"), true), (Inbound::Pong(b"p"), false)] {
        let (mut session, start) = session();
        for nth in 1..=20 {
            let received = session.receive(frame, start);
            let answered = matches!(received, Received::Pong(b"p"));
            assert!(answered == is_answered && code(&received).is_none(), "{nth}: {received:?}");
        }
        let refill = session.receive(frame, start);
        assert_eq!(code(&refill), Some(CloseCode::POLICY));
    }
    let (mut session, start) = session();
    for _ in 0..20 {
        session.receive(Inbound::Ping(b""), start);
    }
    for nth in 1..=5 {
        assert_eq!(code(&session.receive(Inbound::Pong(b""), start + s(1))), None, "{nth} after a second");
    }
    assert_eq!(code(&session.receive(Inbound::Pong(b""), start + s(1))), Some(CloseCode::POLICY));
}

#[test]
fn the_41st_message_at_once_is_rate_limited() {
    let (mut session, start) = session();
    for nth in 1..=40 {
        // What can't be decoded costs as much.
        let frame = if nth % 2 == 0 { APP } else { Inbound::Text("junk") };
        assert_eq!(limited(&session.receive(frame, start)), None, "{nth}");
    }
    assert_eq!(limited(&session.receive(APP, start)), Some(50), "20 a second are one in 50 ms");
    assert!(limited(&session.receive(APP, start + ms(49))).is_some());
    assert!(matches!(session.receive(APP, start + ms(50)), Received::Message(_)));
    let refused = session.receive(Inbound::Text(r#"{"event":"x","id":"x-1"}"#), start + ms(50));
    assert!(
        matches!(&refused, Received::Limited { limit: Limit::MessagesPerSecond, id: Some(id), .. } if id.as_str() == "x-1"),
        "{refused:?}"
    );
}

/// Sends at 50 a second, and says after how long the session closes.
fn flood(session: &mut Session, start: Instant, until: Duration) -> Option<(Duration, CloseCode)> {
    (0..).map(|nth| ms(20) * nth).take_while(|at| *at <= until).find_map(|at| {
        let received = session.receive(APP, start + at);
        code(&received).map(|code| (at, code))
    })
}

#[test]
fn being_rate_limited_for_10_s_closes_with_4108() {
    let (mut session, start) = session();
    let (at, code) = flood(&mut session, start, s(60)).expect("a flood is closed");
    assert_eq!(code, CloseCode::RATE_LIMITED);
    // The burst carries 50 a second for 40 / (50 - 20) s.
    assert!((s(11)..=s(12)).contains(&at), "{at:?}");
}

#[test]
fn what_is_too_fast_for_the_user_counts_towards_4108_as_well() {
    let (mut session, start) = session();
    let mut refused = |at| session.too_fast_for_user(None, ms(20), start + at);
    assert!(matches!(refused(s(0)), Received::Limited { limit: Limit::MessagesPerSecondPerUser, .. }));
    assert_eq!((1..=20).filter_map(|half| code(&refused(ms(500) * half))).count(), 0);
    assert_eq!(code(&refused(ms(10_500))), Some(CloseCode::RATE_LIMITED));
}

#[test]
fn a_quiet_second_forgives() {
    let (mut session, start) = session();
    let mut now = start;
    for round in 0..10 {
        assert_eq!(flood(&mut session, now, s(8)), None, "round {round}");
        now += s(8) + ms(1100);
    }
    // Half a second does not.
    let (mut session, start) = self::session();
    assert_eq!(flood(&mut session, start, s(8)), None);
    assert!(flood(&mut session, start + ms(8500), s(8)).is_some());
}

#[test]
fn the_11th_join_at_once_is_rate_limited_and_other_messages_are_not() {
    let (mut session, start) = session();
    for nth in 1..=10 {
        assert!(matches!(session.receive(JOIN, start), Received::Message(_)), "{nth}");
    }
    assert_eq!(limited(&session.receive(JOIN, start)), Some(100));
    assert!(matches!(session.receive(APP, start), Received::Message(_)));
    assert!(matches!(session.receive(JOIN, start + ms(100)), Received::Message(_)));
    assert!(limited(&session.receive(JOIN, start + ms(100))).is_some());
}

#[test]
fn the_tokens_end_the_drain_and_a_stall_close_with_their_codes() {
    let (mut session, start) = session();
    session.expire_at(Some(start + s(20)));
    session.expire_at(Some(start + s(25)));
    assert_eq!(closes(&mut session, start + s(25) - ms(1)), None, "a refresh moves it");
    assert_eq!(closes(&mut session, start + s(25)), Some(CloseCode::TOKEN_EXPIRED));

    let (mut session, start) = self::session();
    session.leave_at(start + s(7));
    session.leave_at(start + s(20));
    assert_eq!(closes(&mut session, start + s(7) - ms(1)), None);
    assert_eq!(closes(&mut session, start + s(7)), Some(CloseCode::DRAINING), "the first draw counts");

    let (mut session, start) = self::session();
    session.set_stalled(true, start + s(1));
    session.set_stalled(true, start + s(10));
    assert_eq!(closes(&mut session, start + s(11) - ms(1)), None);
    assert_eq!(closes(&mut session, start + s(11)), Some(CloseCode::SLOW_CONSUMER));

    let (mut session, start) = self::session();
    session.set_stalled(true, start + s(1));
    session.set_stalled(false, start + s(10));
    session.set_stalled(true, start + s(10));
    assert_eq!(closes(&mut session, start + s(20) - ms(1)), None, "progress begins the 10 s anew");
    assert_eq!(closes(&mut session, start + s(20)), Some(CloseCode::SLOW_CONSUMER));
}

#[test]
fn a_close_ends_after_a_second_and_only_the_others_close_counts() {
    let (mut session, start) = session();
    session.expire_at(Some(start));
    session.close(start + s(5));
    session.close(start + ms(5900));
    assert!(session.is_closing());
    assert!(matches!(session.receive(APP, start + s(5)), Received::Nothing));
    assert!(matches!(session.receive(Inbound::Ping(b"x"), start + s(5)), Received::Nothing));
    let close = Inbound::Close(Some(CloseFrame { code: CloseCode::NORMAL, reason: "" }));
    assert!(matches!(session.receive(close, start + s(5)), Received::Closed(Some(CloseCode::NORMAL))));
    assert_eq!(session.next_deadline(), start + s(6));
    assert_eq!(session.tick(start + s(6) - ms(1)), None);
    assert_eq!(session.tick(start + s(6)), Some(Due::Abort));
}

#[test]
fn rooms_attach_once_when_the_wait_for_a_resume_ends() {
    let (mut session, start) = session();
    session.wait_for_resume(start);
    assert_eq!(session.tick(start + s(5) - ms(1)), None);
    assert_eq!(due(&mut session, start + s(5)), [Due::Attach]);
    assert_eq!(due(&mut session, start + s(20)), []);
    assert!(!session.end_resume_wait(), "it is over");

    let (mut session, start) = self::session();
    session.wait_for_resume(start);
    assert!(session.end_resume_wait() && !session.end_resume_wait());
    assert_eq!(due(&mut session, start + s(5)), []);
}

#[test]
fn checkpoints_come_every_30_s_to_those_who_asked() {
    let (mut session, start) = session();
    assert!(!session.sends_checkpoints());
    session.send_checkpoints(start);
    assert!(session.sends_checkpoints());
    let all = run(&mut session, start, s(89));
    let at: Vec<_> = all.iter().filter(|(_, due)| *due == Due::Checkpoint).map(|(at, _)| *at).collect();
    assert_eq!(at, [s(30), s(60)]);
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug)]
enum Step {
    Receive(Inbound<'static>),
    Heard,
    MidMessage(bool),
    Stalled(bool),
    Pause,
    Resume,
    Close,
    WaitForResume,
    EndResumeWait,
    Checkpoints,
    ExpireIn(Option<Duration>),
    LeaveIn(Duration),
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let soon = || (0u64..40_000).prop_map(ms);
    prop_oneof![
        prop::sample::select(vec![APP, JOIN, HEARTBEAT, Inbound::Ping(b""), Inbound::Text("junk")])
            .prop_map(Step::Receive),
        Just(Step::Heard),
        any::<bool>().prop_map(Step::MidMessage),
        any::<bool>().prop_map(Step::Stalled),
        Just(Step::Pause),
        Just(Step::Resume),
        Just(Step::WaitForResume),
        Just(Step::EndResumeWait),
        Just(Step::Checkpoints),
        prop::option::of(soon()).prop_map(Step::ExpireIn),
        soon().prop_map(Step::LeaveIn),
        Just(Step::Tick),
        Just(Step::Close),
    ]
}

fn apply(session: &mut Session, step: Step, now: Instant) {
    match step {
        Step::Receive(inbound) => drop(session.receive(inbound, now)),
        Step::Heard => session.heard(now),
        Step::MidMessage(mid_message) => session.set_mid_message(mid_message, now),
        Step::Stalled(stalled) => session.set_stalled(stalled, now),
        Step::Pause => session.pause_reading(),
        Step::Resume => session.resume_reading(now),
        Step::Close => session.close(now),
        Step::WaitForResume => session.wait_for_resume(now),
        Step::EndResumeWait => drop(session.end_resume_wait()),
        Step::Checkpoints => session.send_checkpoints(now),
        Step::ExpireIn(after) => session.expire_at(after.map(|after| now + after)),
        Step::LeaveIn(after) => session.leave_at(now + after),
        Step::Tick => drop(due(session, now)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A shell that sleeps until the deadline misses nothing and never wakes for nothing.
    #[test]
    fn the_next_deadline_is_when_something_is_due(steps in prop::collection::vec((0u64..20_000, step()), 1..40)) {
        let (mut session, mut now) = session();
        for (wait_ms, step) in steps {
            now += ms(wait_ms);
            apply(&mut session, step, now);
            let deadline = session.next_deadline();
            if deadline > now {
                prop_assert_eq!(session.tick(now), None, "due before the deadline, after {:?}", step);
                prop_assert_eq!(session.tick(deadline - Duration::from_nanos(1)), None, "after {:?}", step);
            }
            prop_assert!(session.tick(deadline.max(now)).is_some(), "nothing due at the deadline, after {:?}", step);
            now = now.max(deadline);
        }
    }
}
