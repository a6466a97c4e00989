//! What a cluster adds: slots that are elsewhere, or on their way.

use super::*;

const ROOM: &str = "chat:lobby";

/// The server that has the room's slot, and another one.
async fn two_servers() -> (RedisServer, RedisServer, String) {
    let mut servers = RedisServer::cluster(2).await;
    let slot: u64 = servers[0].run(&["CLUSTER", "KEYSLOT", ROOM]).await;
    let away = servers.remove(usize::from(slot < 8192));
    (servers.remove(0), away, slot.to_string())
}

async fn moves(here: &RedisServer, away: &RedisServer, slot: &str) {
    let id: String = away.run(&["CLUSTER", "MYID"]).await;
    let () = here.run(&["CLUSTER", "SETSLOT", slot, "MIGRATING", &id]).await;
}

fn is_unavailable<T: std::fmt::Debug>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Unavailable(_)))
}

#[tokio::test]
async fn a_room_is_where_its_slot_is() {
    let (here, away, slot) = two_servers().await;
    let mut desk = Desk::at(&here).await;
    let position = desk.publish_as(&[1; 16], 1, "a").await;
    desk.read_after(None).await;
    let mut elsewhere = Desk::at(&away).await;
    assert!(is_unavailable(&elsewhere.submit(&[plain("x")]).await));
    assert!(is_unavailable(&elsewhere.read_some(None, 1, 1).await));
    // On its way a room with a key missing is nowhere for a while.
    moves(&here, &away, &slot).await;
    assert!(is_unavailable(&desk.submit(&[plain("x")]).await));
    let () = here.run(&["CLUSTER", "SETSLOT", &slot, "STABLE"]).await;
    assert_eq!(desk.publish_as(&[1; 16], 1, "a").await, Outcome::Duplicate(stored(position)));
    // Rooms of two slots in one call are refused.
    let other = Keyspace::default().room(&RoomId::parse("another").unwrap());
    let Desk { connection, scripts, keys, .. } = &mut desk;
    let refused = scripts.positions(connection, &[keys, &other], fresh()).await;
    assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_slot_on_its_way_leaves_nothing_half_written() {
    let (here, away, slot) = two_servers().await;
    let mut desk = Desk::at(&here).await;
    let first = stored(desk.publish_as(&[1; 16], 1, "a").await);
    let (meta, ids) = (desk.key("meta"), ["ids:0", "ids:1"].map(|part| desk.key(part)));
    for key in &ids {
        // All keys are there, so that the server does not refuse the call as a whole.
        let _: u64 = desk.run(&["HSET", key, "another", "aaaaaaaa12345678999"]).await;
    }
    moves(&here, &away, &slot).await;
    assert_eq!(desk.publish(&["b"]).await[0].offset, 2);
    // The period moves on: the hash of the one before the last is deleted, and can't be made again here.
    let period: u64 = desk.meta().await["period"].parse().unwrap();
    let _: u64 = desk.run(&["HSET", &meta, "period", &(period - 1).to_string()]).await;
    for _ in 0..3 {
        let publication = Submitted { id: Some(&[2; 16]), ..plain("c") };
        let refused = desk.submit(&[publication]).await;
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    let () = here.run(&["CLUSTER", "SETSLOT", &slot, "STABLE"]).await;
    assert_eq!(desk.log().await, [(1, "a".to_owned()), (2, "b".to_owned())]);
    desk.bytes_are_counted_right().await;
    assert_eq!(desk.position().await, Position { offset: 2, ..first });
    assert_eq!(stored(desk.publish_as(&[2; 16], 1, "c").await).offset, 3);
}
