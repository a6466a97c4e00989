//! Idempotency ids: one (id, fingerprint) is one event.

use super::*;

const ID: [u8; 16] = *b"\0\xff\r\n and no more";

#[tokio::test]
async fn the_same_again_is_one_event_and_another_a_conflict() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.publish(&["x"]).await;
    let first = stored(desk.publish_as(&ID, 1, "a").await);
    desk.publish(&["y"]).await;
    assert_eq!(desk.publish_as(&ID, 1, "a").await, Outcome::Duplicate(first));
    assert_eq!(desk.publish_as(&ID, 2, "b").await, Outcome::Conflict);
    assert_eq!(desk.publish_as(&ID, 1, "a").await, Outcome::Duplicate(first));
    assert_eq!(desk.position().await.offset, 3);
    // The same id in another room is another one.
    desk.keys = Keyspace::default().room(&RoomId::parse("other").unwrap());
    assert_eq!(stored(desk.publish_as(&ID, 2, "b").await).offset, 1);
}

#[tokio::test]
async fn one_call_settles_each_of_its_publications_by_itself() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.bounds.ids_max = 2;
    let [one, two, three] = [[1; 16], [2; 16], [3; 16]];
    let submitted = |id, fingerprint, record: &'static str| Submitted { id, fingerprint, ..plain(record) };
    let call = [
        submitted(Some(&one), 1, "a"),
        submitted(Some(&one), 1, "a"),
        submitted(None, 0, "b"),
        submitted(Some(&one), 2, "c"),
        submitted(Some(&two), 2, "d"),
        submitted(Some(&three), 3, "e"),
        submitted(None, 0, "f"),
    ];
    let epoch = desk.position().await.epoch;
    let at = |offset| Position { epoch, offset };
    let expected = [
        Outcome::Stored(at(1)),
        Outcome::Duplicate(at(1)),
        Outcome::Stored(at(2)),
        Outcome::Conflict,
        Outcome::Stored(at(3)),
        Outcome::Full,
        Outcome::Stored(at(4)),
    ];
    assert_eq!(desk.submit(&call).await.unwrap().outcomes, expected);
    let log = ["a", "b", "d", "f"].map(str::to_owned);
    assert_eq!(desk.log().await, (1..).zip(log).collect::<Vec<_>>());
    // Who has too many new ids still gets the answers of the old ones.
    assert_eq!(desk.publish_as(&two, 2, "d").await, Outcome::Duplicate(at(3)));
    assert_eq!(desk.publish_as(&three, 3, "e").await, Outcome::Full);
}

#[tokio::test]
async fn an_event_that_was_trimmed_still_answers_its_id() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.bounds.log.events_max = 1;
    let first = stored(desk.publish_as(&ID, 1, "a").await);
    desk.publish(&["b"]).await;
    assert_eq!(desk.log().await, [(2, "b".to_owned())]);
    assert_eq!(desk.publish_as(&ID, 1, "a").await, Outcome::Duplicate(first));
}

#[tokio::test]
async fn an_id_outlives_its_period_by_one() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let first = stored(desk.publish_as(&ID, 1, "a").await);
    let period: u64 = desk.meta().await["period"].parse().unwrap();
    let (meta, ids) = (desk.key("meta"), ["ids:0", "ids:1"].map(|part| desk.key(part)));
    let [now, before] = if period.is_multiple_of(2) { [&ids[0], &ids[1]] } else { [&ids[1], &ids[0]] };
    // The server's time can't be moved: what was written moves a period back instead.
    let () = desk.run(&["RENAME", now, before]).await;
    let () = desk.run(&["HSET", &meta, "period", &(period - 1).to_string()]).await;
    assert_eq!(desk.publish_as(&ID, 1, "a").await, Outcome::Duplicate(first));
    let second = stored(desk.publish_as(&[2; 16], 1, "b").await);
    // And another one back, in one step: the first is forgotten, the second is of the period before.
    let () = desk.run(&["RENAME", now, before]).await;
    let () = desk.run(&["HSET", &meta, "period", &(period - 1).to_string()]).await;
    assert_eq!(desk.publish_as(&[2; 16], 1, "b").await, Outcome::Duplicate(second));
    assert_eq!(stored(desk.publish_as(&ID, 1, "a").await).offset, 3);
    // Two periods without a publication: nothing is left, whichever hash it was in.
    let () = desk.run(&["HSET", &meta, "period", &(period - 2).to_string()]).await;
    assert_eq!(stored(desk.publish_as(&ID, 1, "a").await).offset, 4);
    assert_eq!(stored(desk.publish_as(&[2; 16], 1, "b").await).offset, 5);
}

#[tokio::test]
async fn a_clock_that_goes_back_forgets_nothing_new() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let period: u64 = {
        desk.publish_as(&[9; 16], 1, "x").await;
        desk.meta().await["period"].parse().unwrap()
    };
    let (meta, ids) = (desk.key("meta"), ["ids:0", "ids:1"].map(|part| desk.key(part)));
    for ahead in [1, 2, 3] {
        // As if this had been written by a server whose clock was ahead.
        let () = desk.run(&["DEL", &ids[0], &ids[1]]).await;
        let newest = &ids[usize::from(!(period + ahead).is_multiple_of(2))];
        let first = stored(desk.publish_as(&ID, ahead, "a").await);
        let here = &ids[usize::from(!period.is_multiple_of(2))];
        if here != newest {
            let () = desk.run(&["RENAME", here, newest]).await;
        }
        let () = desk.run(&["HSET", &meta, "period", &(period + ahead).to_string()]).await;
        assert_eq!(desk.publish_as(&ID, ahead, "a").await, Outcome::Duplicate(first), "{ahead} periods");
        let () = desk.run(&["HSET", &meta, "period", &period.to_string()]).await;
    }
    // A clock that is behind by seconds, just after a period has begun: what is of the one before stays too.
    let first = stored(desk.publish_as(&[3; 16], 1, "b").await);
    let () = desk.run(&["HSET", &meta, "period", &(period + 1).to_string()]).await;
    desk.publish_as(&[4; 16], 1, "c").await;
    assert_eq!(desk.publish_as(&[3; 16], 1, "b").await, Outcome::Duplicate(first));
}

#[tokio::test]
async fn an_id_counts_only_if_its_event_is_of_this_log() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let current = stored(desk.publish_as(&ID, 1, "a").await);
    let meta = desk.key("meta");
    let () = desk.run(&["HSET", &meta, "parents", "aaaaaaaa.5,bbbbbbbb.9", "seq", "20"]).await;
    let ids = ["ids:0", "ids:1"].map(|part| desk.key(part));
    let fingerprint = 1_u64.to_be_bytes();
    for (place, expected) in [
        (format!("{}.{}", current.epoch, 20), true),
        (format!("{}.{}", current.epoch, 40), false),
        ("bbbbbbbb.9".to_owned(), true),
        ("bbbbbbbb.10".to_owned(), false),
        ("aaaaaaaa.6".to_owned(), false),
        ("cccccccc.1".to_owned(), false),
    ] {
        let place = Position::parse(&place).unwrap();
        let value =
            [place.epoch.as_str().as_bytes(), &fingerprint, place.offset.to_string().as_bytes()].concat();
        for key in &ids {
            let command = [&b"HSET"[..], key.as_bytes(), &ID, &value];
            let () = desk.run(&command).await;
        }
        let outcome = desk.publish_as(&ID, 1, "a").await;
        if expected {
            assert_eq!(outcome, Outcome::Duplicate(place));
        } else {
            stored(outcome);
        }
    }
}
