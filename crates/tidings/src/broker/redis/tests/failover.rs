//! One event id never names two events, whichever server gave it: docs/redis.md, rules 1 and 2.

use super::*;
use bytes::Bytes;

/// A room's cursor of before, at a log of after: the parent that it belongs to.
fn parent_of(read: &Page<Bytes>, cursor: Position) -> Option<Position> {
    read.state.parents.iter().copied().find(|parent| parent.epoch == cursor.epoch)
}

#[tokio::test]
async fn a_promoted_replica_goes_on_under_an_epoch_of_its_own() {
    let a = RedisServer::start().await;
    let mut on_a = Desk::at(&a).await;
    on_a.publish(&["a", "b"]).await;
    let id = [7; 16];
    let first = stored(on_a.publish_as(&id, 1, "c").await);
    let b = RedisServer::replica_of(&a).await;
    let mut on_b = Desk::at(&b).await;
    assert!(is_not_master(&on_b.submit(&[plain("x")]).await));
    assert!(is_not_master(&on_b.read_some(None, 1, 1).await));
    b.promote().await;

    let read = on_b.read_after(Some(2)).await;
    assert_ne!(read.state.epoch, first.epoch);
    assert_eq!((read.state.top, read.state.oldest), (3, 1));
    assert_eq!(read.state.parents, [first], "the cursor moves: its epoch is a parent with this top");
    assert_eq!(read.events.iter().map(|event| event.offset).collect::<Vec<_>>(), [3]);
    assert_eq!(on_b.publish_as(&id, 1, "c").await, Outcome::Duplicate(first), "ids go on too");
    let next = on_b.publish(&["d"]).await[0];
    assert_eq!((next.epoch, next.offset), (read.state.epoch, 4));
    assert_eq!(on_b.log().await.len(), 4);
    on_b.bytes_are_counted_right().await;
}

#[tokio::test]
async fn a_way_there_and_back_makes_two_epochs_over_a_connection_that_stays() {
    let a = RedisServer::start().await;
    let mut on_a = Desk::at(&a).await;
    let first = on_a.publish(&["a"]).await[0];
    let b = RedisServer::replica_of(&a).await;
    b.promote().await;
    let mut on_b = Desk::at(&b).await;
    let second = on_b.publish(&["b"]).await[0];
    a.follow(&b).await;
    assert!(is_not_master(&on_a.submit(&[plain("x")]).await));
    a.promote().await;
    // The connection from before the first failover, which nothing has closed.
    let third = on_a.publish(&["c"]).await[0];
    let read = on_a.read_after(Some(1)).await;
    assert_eq!(read.state.parents, [first, second]);
    assert_eq!((second.offset, third.offset), (2, 3));
    assert!(third.epoch != first.epoch && third.epoch != second.epoch);
    assert_eq!(on_a.log().await.len(), 3);
}

#[tokio::test]
async fn a_lost_write_shares_its_offset_and_never_its_id() {
    let a = RedisServer::start().await;
    let mut on_a = Desk::at(&a).await;
    on_a.publish(&["of another epoch, for a master's first replica begins a history too"]).await;
    let b = RedisServer::replica_of(&a).await;
    let kept = on_a.publish(&["a"]).await[0];
    b.has_all_of(&a).await;
    b.promote().await;
    // Both take writes now.
    let id = [9; 16];
    let lost = stored(on_a.publish_as(&id, 1, "lost").await);
    let mut on_b = Desk::at(&b).await;
    let other = on_b.publish(&["other"]).await[0];
    assert_eq!((lost.epoch, lost.offset, other.offset), (kept.epoch, 3, 3));
    assert_ne!(other, lost);
    // Whoever has seen the lost one is above its parent's top.
    let read = on_b.read_after(None).await;
    assert_eq!(parent_of(&read, lost), Some(kept));
    // Its publisher tries again, and it is an event then.
    assert_eq!(stored(on_b.publish_as(&id, 1, "lost").await).offset, 4);
    // A comes back as a replica, and its fork is gone.
    a.follow(&b).await;
    a.promote().await;
    let back = on_a.read_after(None).await;
    assert_eq!(parent_of(&back, lost), Some(kept));
    assert_eq!(back.state.parents.last(), Some(&Position { epoch: other.epoch, offset: 4 }));
    assert_eq!(back.state.top, 4);
}

#[tokio::test]
async fn a_restart_with_the_data_is_another_life_of_the_same_log() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let mut before = Desk::at(&server).await;
    let first = before.publish(&["a", "b"]).await[1];
    server.restart().await;
    let mut after = Desk::at(&server).await;
    // Nothing was lost, but this server can't know: what it had not on disk would be lost in the same way.
    let read = after.read_after(None).await;
    assert_ne!(read.state.epoch, first.epoch);
    assert_eq!((read.state.parents, read.events.len()), (vec![first], 2));
    server.kill();
    server.start_again().await;
    let mut after = Desk::at(&server).await;
    assert_eq!(after.read_after(None).await.state.parents.len(), 2);
}

#[tokio::test]
async fn a_stale_snapshot_gives_no_offset_out_again() {
    let mut server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let saved = desk.publish(&["a"]).await[0];
    let () = desk.run(&["SAVE"]).await;
    let lost = desk.publish(&["lost"]).await[0];
    server.kill();
    server.start_again().await;
    let mut desk = Desk::at(&server).await;
    let other = desk.publish(&["other"]).await[0];
    assert_eq!((lost.offset, other.offset), (2, 2));
    assert_ne!(lost, other);
    assert_eq!(desk.read_after(None).await.state.parents, [saved]);
    // Without anything on disk the room is new.
    server.kill();
    std::fs::remove_file(server.folder().join("dump.rdb")).unwrap();
    server.start_again().await;
    let mut desk = Desk::at(&server).await;
    let state = desk.read_after(None).await.state;
    assert_eq!((state.top, state.parents), (0, vec![]));
}

#[tokio::test]
async fn only_the_last_eight_parents_are_kept() {
    let server = RedisServer::start().await;
    let mut desk = Desk::at(&server).await;
    let meta = desk.key("meta");
    let mut positions = Vec::new();
    for number in 0..11 {
        positions.push(desk.publish(&["x"]).await[0]);
        let () = desk.run(&["HSET", &meta, "lineage", &format!("another {number}")]).await;
    }
    assert_eq!(desk.read_after(None).await.state.parents, positions[3..]);
}

#[tokio::test]
async fn a_writable_replica_is_refused_by_its_role() {
    let a = RedisServer::start().await;
    Desk::at(&a).await.publish(&["a"]).await;
    let b = RedisServer::replica_of(&a).await;
    let () = b.run(&["CONFIG", "SET", "replica-read-only", "no"]).await;
    let mut on_b = Desk::at(&b).await;
    assert!(is_not_master(&on_b.submit(&[plain("x")]).await));
    assert!(is_not_master(&on_b.read_some(None, 1, 1).await));
    let Desk { connection, scripts, keys, .. } = &mut on_b;
    assert!(is_not_master(&scripts.positions(connection, &[keys], fresh()).await));
}

#[tokio::test]
async fn without_lineage_an_epoch_stays_whatever_happens() {
    let a = RedisServer::start().await;
    let mut on_a = Desk::with(&a, Lineage::None).await;
    let first = on_a.publish(&["a"]).await[0];
    let b = RedisServer::replica_of(&a).await;
    b.promote().await;
    let mut on_b = Desk::with(&b, Lineage::None).await;
    assert_eq!(on_b.publish(&["b"]).await, [Position { offset: 2, ..first }]);
    // Who asks for the lineage later does not take the log as his own.
    let mut asking = Desk::at(&b).await;
    assert_eq!(asking.read_after(None).await.state.parents, [Position { offset: 2, ..first }]);
}

#[tokio::test]
async fn who_may_not_ask_for_the_lineage_is_refused() {
    let server = RedisServer::start().await;
    let rules = ["ACL", "SETUSER", "default", "-info"];
    let mut desk = Desk::at(&server).await;
    let () = desk.run(&rules).await;
    let refused = desk.submit(&[plain("x")]).await;
    assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
    assert_eq!(desk.run::<usize>(&["DBSIZE"]).await, 0);
    assert_eq!(Desk::with(&server, Lineage::None).await.publish(&["x"]).await[0].offset, 1);
}
