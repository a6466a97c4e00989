//! What is trimmed, and what the server's own limits mean.

use super::*;

#[tokio::test]
async fn every_bound_trims_from_the_head() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.bounds.log.events_max = 3;
    for number in 1..=5_u64 {
        desk.publish(&["x"]).await;
        assert_eq!(desk.log().await.len() as u64, number.min(3));
        desk.bytes_are_counted_right().await;
    }
    desk.publish(&["a", "b", "c", "d", "e"]).await;
    assert_eq!(desk.log().await.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [8, 9, 10]);
    desk.bytes_are_counted_right().await;

    // `11 1795590000000 ` and 83 more.
    desk.bounds.log = LogBounds { bytes_max: 250, ..WIDE.log };
    desk.publish(&[&"y".repeat(83)]).await;
    desk.publish(&[&"y".repeat(83)]).await;
    assert_eq!(desk.log().await.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [9, 10, 11, 12]);
    desk.publish(&[&"y".repeat(83)]).await;
    assert_eq!(desk.log().await.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [12, 13]);
    desk.bytes_are_counted_right().await;
    // What alone is over the bound is carried, and not kept.
    desk.publish(&[&"z".repeat(300)]).await;
    assert_eq!(desk.log().await, []);
    assert_eq!(desk.read_after(None).await.state.oldest, 15);
    desk.bytes_are_counted_right().await;
    assert_eq!(desk.publish(&["x"]).await[0].offset, 15);
    desk.bytes_are_counted_right().await;
}

#[tokio::test]
async fn what_is_too_old_goes_with_the_next_publication() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.publish(&["a", "b", "c"]).await;
    let log = desk.key("log");
    // Of a minute before the bound, for the server's time can't be moved.
    let at_ms = desk.read_after(None).await.events[0].at_ms - 3_660_000;
    for (offset, record) in [("1", "a"), ("2", "b")] {
        let () = desk.run(&["ZREMRANGEBYSCORE", &log, offset, offset]).await;
        let () = desk.run(&["ZADD", &log, offset, &format!("{offset} {at_ms} {record}")]).await;
    }
    assert_eq!(desk.log().await.len(), 3);
    desk.publish(&["d"]).await;
    assert_eq!(desk.log().await, [(3, "c".to_owned()), (4, "d".to_owned())]);
    desk.bytes_are_counted_right().await;
    // And all of it with its key.
    desk.bounds.log.age_max = Duration::from_millis(1);
    desk.publish(&["e"]).await;
    while desk.run::<bool>(&["EXISTS", &log]).await {}
    let state = desk.read_after(None).await.state;
    assert_eq!((state.top, state.oldest), (5, 6));
    desk.bounds = WIDE;
    desk.publish(&["f"]).await;
    assert_eq!(desk.log().await, [(6, "f".to_owned())]);
    desk.bytes_are_counted_right().await;
}

#[tokio::test]
async fn a_long_log_is_trimmed_in_steps() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.bounds.log = LogBounds { events_max: 10_000, bytes_max: 1 << 30, ..WIDE.log };
    for _ in 0..20 {
        desk.publish(&["x"; 500]).await;
    }
    desk.bounds.log.events_max = 10;
    desk.publish(&["x"]).await;
    let left = desk.meta().await["bytes"].parse::<usize>().unwrap();
    assert!(left > 100_000, "one call does bounded work: {left}");
    for _ in 0..5 {
        desk.publish(&["x"]).await;
        desk.bytes_are_counted_right().await;
    }
    assert_eq!(desk.log().await.len(), 10);
    assert_eq!(desk.position().await.offset, 10_006);
}

#[tokio::test]
async fn no_length_of_life_is_too_long() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    desk.bounds.log = LogBounds { age_max: Duration::MAX, events_max: usize::MAX, bytes_max: usize::MAX };
    desk.publish(&["x"]).await;
    assert_eq!(desk.log().await.len(), 1);
}

#[tokio::test]
async fn a_server_without_memory_refuses_events_and_not_readers() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let position = desk.publish(&["a"]).await[0];
    let () = desk.run(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = desk.submit(&[plain("b")]).await;
    assert!(matches!(refused, Err(CallError::Unavailable(_))), "{refused:?}");
    assert_eq!(desk.position().await, position);
    assert_eq!(desk.log().await, [(1, "a".to_owned())]);
    desk.keys = Keyspace::default().room(&RoomId::parse("new").unwrap());
    assert_eq!(desk.read_after(None).await.state.top, 0);
}

#[tokio::test]
async fn a_key_that_is_not_ours_is_refused_before_anything_is_written() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let position = stored(desk.publish_as(&[2; 16], 1, "a").await);
    for part in ["log", "ids:0", "ids:1"] {
        let key = desk.key(part);
        let () = desk.run(&["DEL", &key]).await;
        let () = desk.run(&["SET", &key, "other"]).await;
        let publication = Submitted { id: Some(&[1; 16]), ..plain("b") };
        let refused = desk.submit(&[publication]).await;
        assert!(matches!(refused, Err(CallError::Refused(_))), "{part}: {refused:?}");
        assert_eq!(desk.position().await, position);
        let () = desk.run(&["DEL", &key]).await;
    }
    assert_eq!(desk.publish(&["c"]).await[0].offset, 2);
}
