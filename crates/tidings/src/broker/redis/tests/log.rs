//! What the log of a room holds, and what becomes of it when somebody takes a part of it away.

use super::*;

#[tokio::test]
async fn offsets_are_contiguous_from_one_in_the_order_of_the_calls() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let begun = desk.position().await;
    assert_eq!(begun.offset, 0);
    assert_eq!(desk.publish(&["a"]).await, [Position { offset: 1, ..begun }]);
    assert_eq!(desk.publish(&["b", "c"]).await, [2, 3].map(|offset| Position { offset, ..begun }));
    assert_eq!(desk.log().await, [(1, "a".to_owned()), (2, "b".to_owned()), (3, "c".to_owned())]);
    let Page { state, events } = desk.read_after(Some(2)).await;
    assert_eq!((state.epoch, state.top, state.oldest, state.parents), (begun.epoch, 3, 1, vec![]));
    assert_eq!(events.len(), 1);
    assert!(events[0].at_ms > 1_700_000_000_000, "the server's time: {}", events[0].at_ms);
    assert_eq!(desk.position().await, Position { offset: 3, ..begun });
    desk.bytes_are_counted_right().await;
}

#[tokio::test]
async fn nodes_that_publish_at_once_share_one_order() {
    let server = RedisServer::start().await;
    let nodes = (0..8).map(|node| {
        let server = &server;
        async move {
            let mut desk = Desk::at(server).await;
            let mut positions = Vec::new();
            for event in 0..50 {
                positions.extend(desk.publish(&[&format!("{node}:{event}")]).await);
            }
            assert!(positions.is_sorted());
            positions
        }
    });
    let mut positions = futures_util::future::join_all(nodes).await.concat();
    positions.sort();
    let offsets: Vec<_> = positions.iter().map(|position| position.offset).collect();
    assert_eq!(offsets, (1..=400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_record_of_any_bytes_comes_back_as_it_was() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let mut records: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte; 3]).collect();
    records.push((0..=255).collect());
    records.push(Vec::new());
    records.push(vec![b' '; 70_000]);
    let publications: Vec<_> =
        records.iter().map(|record| Submitted { id: None, fingerprint: 0, record }).collect();
    desk.submit(&publications).await.unwrap();
    let read: Vec<_> =
        desk.read_after(None).await.events.into_iter().map(|event| event.record.to_vec()).collect();
    assert!(read == records);
}

#[tokio::test]
async fn offsets_at_the_end_of_their_range_stay_exact() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let epoch = desk.position().await.epoch;
    let meta = desk.key("meta");
    let () = desk.run(&["HSET", &meta, "seq", "9007199254740000"]).await;
    let positions = desk.publish(&["a", "b"]).await;
    assert_eq!(
        positions,
        [9_007_199_254_740_001, 9_007_199_254_740_002].map(|offset| Position { epoch, offset })
    );
    let Page { state, events } = desk.read_after(Some(9_007_199_254_740_001)).await;
    assert_eq!((state.top, state.oldest), (9_007_199_254_740_002, 9_007_199_254_740_001));
    assert_eq!(events[0].offset, 9_007_199_254_740_002);
    // There is no offset after the last one: the room begins again, and everybody is told.
    let () = desk.run(&["HSET", &meta, "seq", "9007199254740991"]).await;
    let [begun] = desk.publish(&["c"]).await[..] else { panic!() };
    assert_eq!(begun.offset, 1);
    assert_ne!(begun.epoch, epoch);
}

#[tokio::test]
async fn a_read_is_paged_and_brings_at_least_one_event() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let records: Vec<_> = (1..=300).map(|number| format!("{number:0100}")).collect();
    desk.publish(&records.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let page = async |desk: &mut Desk, after, events_max, bytes_max| -> Vec<Offset> {
        let read = desk.read_some(after, events_max, bytes_max).await.unwrap();
        assert_eq!((read.state.top, read.state.oldest), (300, 1));
        read.events.iter().map(|event| event.offset).collect()
    };
    assert_eq!(page(&mut desk, None, 3, READ_BYTES_MAX).await, [1, 2, 3]);
    assert_eq!(page(&mut desk, Some(3), 200, READ_BYTES_MAX).await, (4..=203).collect::<Vec<_>>());
    assert_eq!(page(&mut desk, Some(3), 200, 1).await, [4]);
    assert_eq!(page(&mut desk, Some(3), 200, 300).await, [4, 5]);
    assert_eq!(page(&mut desk, Some(300), 200, READ_BYTES_MAX).await, [0; 0]);
    assert_eq!(page(&mut desk, Some(999), 200, READ_BYTES_MAX).await, [0; 0]);
    assert_eq!(page(&mut desk, None, 1000, READ_BYTES_MAX).await.len(), 300);
}

#[tokio::test]
async fn a_log_that_was_deleted_is_expired_and_goes_on() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let epoch = desk.publish(&["a", "b"]).await[0].epoch;
    let log = desk.key("log");
    let () = desk.run(&["DEL", &log]).await;
    let state = desk.read_after(None).await.state;
    assert_eq!((state.epoch, state.top, state.oldest), (epoch, 2, 3));
    assert_eq!(desk.publish(&["c"]).await, [Position { epoch, offset: 3 }]);
    assert_eq!(desk.log().await, [(3, "c".to_owned())]);
    desk.bytes_are_counted_right().await;
}

#[tokio::test]
async fn a_room_that_lost_its_meta_begins_anew_and_without_leftovers() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let mut epochs = vec![desk.publish_as(&[7; 16], 1, "a").await]
        .into_iter()
        .map(stored)
        .map(|p| p.epoch)
        .collect::<Vec<_>>();
    let meta = desk.key("meta");
    for loss in [&["DEL", &meta][..], &["FLUSHALL"], &["HSET", &meta, "seq", "-1"], &["HDEL", &meta, "epoch"]]
    {
        let _: redis::Value = desk.run(loss).await;
        // A read alone makes the room, so that who joins has a position.
        let Page { state, events } = desk.read_after(None).await;
        assert_eq!((state.top, state.oldest, state.parents, events), (0, 1, vec![], vec![]), "{loss:?}");
        let again = stored(desk.publish_as(&[7; 16], 2, "b").await);
        assert_eq!((again.epoch, again.offset), (state.epoch, 1));
        assert_eq!(desk.log().await, [(1, "b".to_owned())]);
        desk.bytes_are_counted_right().await;
        epochs.push(state.epoch);
    }
    let count = epochs.len();
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), count, "no epoch came back");
}

#[tokio::test]
async fn the_positions_of_several_rooms_come_in_their_order() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let keyspace = Keyspace::default();
    let keys: Vec<_> =
        (0..300).map(|number| keyspace.room(&RoomId::parse(&format!("r{number}")).unwrap())).collect();
    for (number, keys) in keys.iter().enumerate().take(20) {
        desk.keys = keys.clone();
        desk.publish(&vec!["x"; number + 1]).await;
    }
    let all: Vec<_> = keys.iter().collect();
    let positions = desk.scripts.positions(&mut desk.connection, &all, fresh()).await.unwrap();
    let offsets: Vec<_> = positions.iter().map(|position| position.offset).collect();
    let expected: Vec<_> = (1..=20).chain(std::iter::repeat_n(0, 280)).collect();
    assert_eq!(offsets, expected);
    assert_eq!(desk.scripts.positions(&mut desk.connection, &all, fresh()).await.unwrap(), positions);
    assert_eq!(desk.scripts.positions(&mut desk.connection, &[], fresh()).await.unwrap(), []);
}

#[tokio::test]
async fn every_key_has_an_end() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.publish_as(&[1; 16], 1, "a").await;
    desk.publish_as(&[1; 16], 1, "a").await;
    desk.keys = Keyspace::default().room(&RoomId::parse("read").unwrap());
    desk.read_after(None).await;
    desk.keys = Keyspace::default().room(&RoomId::parse("checked").unwrap());
    desk.position().await;
    // The first thing that a room sees may be a refusal.
    desk.keys = Keyspace::default().room(&RoomId::parse("full").unwrap());
    desk.bounds.ids_max = 0;
    assert_eq!(desk.publish_as(&[1; 16], 1, "a").await, Outcome::Full);
    let keys: Vec<String> = desk.run(&["KEYS", "*"]).await;
    assert_eq!(keys.len(), 7, "{keys:?}");
    for key in keys {
        let left_s: i64 = desk.run(&["TTL", &key]).await;
        let expected = match &key[key.rfind('}').unwrap()..] {
            "}:meta" => 7 * 24 * 3600,
            "}:log" => 3600,
            _ => 600,
        };
        assert!((expected - 5..=expected).contains(&left_s), "{key}: {left_s}");
    }
}

#[tokio::test]
async fn a_forgotten_script_is_brought_along() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    for flush in [true, false] {
        if flush {
            let () = desk.run(&["SCRIPT", "FLUSH"]).await;
        }
        desk.publish(&["a"]).await;
        desk.read_after(None).await;
        desk.position().await;
    }
    assert_eq!(desk.position().await.offset, 2);
}
