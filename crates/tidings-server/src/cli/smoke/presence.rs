//! Whether those in a room are told who comes and goes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::stage::{Checked, Fault, Outcome, Stage, Who};
use crate::cli::link::{Link, Reply};

/// Somewhat more than the time, by default, in which somebody whose connection is lost has not left yet.
const GRACE_MAX: Duration = Duration::from_secs(15);
const ASKED_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn presence(stage: &mut Stage) -> Checked {
    if !stage.tokens.is_for_anyone() {
        let why = "all tokens are of one user: --token-from 'http://…?user={user}' has one for each";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let (mut ann, _) = stage.joined(Who::Ann).await?;
    let name = stage.user(Who::Ben).to_owned();
    if !is_away(stage, &mut ann, &name).await? {
        let why = format!("{name} is in the room by another connection: --users names two who are not there");
        return Ok(Outcome::Skipped(why));
    }
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
    let members = members(stage, &mut ann).await?;
    let is_listed = match members["members"].as_array() {
        Some(_) => lists(&members, &name),
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

async fn members(stage: &mut Stage, link: &mut Link) -> Result<Value, Fault> {
    let asked = json!({"event": "room.members", "room": stage.room, "id": stage.id()});
    match link.ask(&asked).await.map_err(Fault::with("the server does not answer room.members"))? {
        Reply::Ack(members) => Ok(members),
        refused @ Reply::Refused { .. } => {
            Err(Fault::new(format!("room.members is refused: {refused:?}"), "is this a Tidings server?"))
        }
    }
}

fn lists(members: &Value, name: &str) -> bool {
    members["members"].as_array().is_some_and(|list| list.iter().any(|member| member["user"] == name))
}

/// Whether a user is not in the room, by the time that one whose connection is lost counts as there.
async fn is_away(stage: &mut Stage, link: &mut Link, name: &str) -> Result<bool, Fault> {
    let until = Instant::now() + GRACE_MAX;
    let mut pause = tokio::time::interval_at(Instant::now() + ASKED_EVERY, ASKED_EVERY);
    loop {
        if !lists(&members(stage, link).await?, name) {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        pause.tick().await;
    }
}
