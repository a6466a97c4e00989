//! Whether those in a room are told who comes and goes.

use serde_json::{Value, json};

use super::stage::{Checked, Fault, Outcome, Stage, Who};
use crate::cli::link::Reply;

pub(super) async fn presence(stage: &mut Stage) -> Checked {
    if !stage.tokens.is_for_anyone() {
        let why = "all tokens are of one user: --token-from 'http://…?user={user}' has one for each";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let (mut ann, _) = stage.joined(Who::Ann).await?;
    let (ben, _) = stage.joined(Who::Ben).await?;
    let name = ben.welcome.user.clone();
    let room = stage.room.clone();
    let tells = |told: &Value, kind: &str, list: &str| {
        let is_it = |entry: &Value| entry == name.as_str() || entry["user"] == name;
        told["room"] == *room
            && ((told["event"] == kind && told["data"]["user"] == name)
                || (told["event"] == "presence.changes"
                    && told["data"][list].as_array().is_some_and(|all| all.iter().any(is_it)))
                || told["event"] == "presence.count")
    };
    let came = ann.event(|told| tells(told, "presence.join", "joins")).await;
    let members = json!({"event": "room.members", "room": room, "id": stage.id()});
    let members = ann.ask(&members).await.map_err(Fault::with("the server does not answer room.members"))?;
    let Reply::Ack(members) = members else {
        return Err(Fault::new(format!("room.members is refused: {members:?}"), "is this a Tidings server?"));
    };
    let is_listed = match members["members"].as_array() {
        Some(list) => list.iter().any(|member| member["user"] == name),
        None => members["count"].as_u64().is_some_and(|count| count >= 2),
    };
    if !is_listed {
        return Err(Fault::new(
            format!("{name} has joined {room} and is not among its members: {members}"),
            "if there are several nodes, do they share a broker ([broker] url)?",
        ));
    }
    let Ok(came) = came else {
        let why = "who is there is right, and nobody was told who came: presence = false in this room";
        return Ok(Outcome::Skipped(why.to_owned()));
    };
    if came["event"] == "presence.count" {
        ann.close().await;
        ben.close().await;
        return Ok(Outcome::Passed("this room tells how many are there".to_owned()));
    }
    ben.close().await;
    let left = ann.event(|told| tells(told, "presence.leave", "leaves")).await;
    left.map_err(|why| {
        Fault::new(
            format!("{name} has left, and nobody was told: {why}"),
            "does something between here and the server keep connections open that clients have closed?",
        )
    })?;
    ann.close().await;
    Ok(Outcome::Passed("coming and leaving are told, and the list is right".to_owned()))
}
