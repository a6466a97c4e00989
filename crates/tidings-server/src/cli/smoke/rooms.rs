//! Whether a room lets in only whom its rule lets in.

use super::join;
use super::stage::{Checked, Fault, Outcome, Stage, Who};
use crate::cli::link::Reply;

pub(super) async fn foreign_room(stage: &mut Stage) -> Checked {
    let Some(room) = stage.foreign_room.clone() else {
        return Ok(Outcome::Skipped(
            "no room is named that is closed to them: --foreign-room NAME".to_owned(),
        ));
    };
    let mut link = stage.link(Who::Ann).await?;
    let reply = link.ask(&join(&stage.id(), &room)).await;
    let reply = reply.map_err(Fault::with("the server takes connections and answers nothing on them"))?;
    link.close().await;
    match reply {
        Reply::Refused { code, .. } if code == "forbidden" || code == "unknown_room" => {
            Ok(Outcome::Passed(code))
        }
        Reply::Refused { code, message } => Err(Fault::new(
            format!("joining {room} is answered by {code}, where forbidden is due: {message}"),
            "the server's log says why it could not tell who is a member",
        )),
        Reply::Ack(_) => Err(Fault::new(
            format!("{} could join {room}", stage.user(Who::Ann)),
            "join = \"members\" in the room's [[rooms]], or RoomRules::join(Access::Members)",
        )),
    }
}
