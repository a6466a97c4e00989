//! One node: a hub with two handlers, which say through whom something was served.

use std::net::SocketAddr;

use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings::auth::Jwt;
use tidings::{AckError, Context, Hub, Redis, RoomId, RoomRules};
use tokio::io::AsyncReadExt as _;

use crate::Fault;

/// The room that everybody is in.
pub(crate) const ROOM: &str = "lobby";

/// `{"text":"Hello"}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    text: String,
}

/// What the room gets: the text, and the node that its publisher is connected to.
#[derive(Serialize)]
struct Said<'a> {
    text: &'a str,
    through: &'a str,
}

#[derive(Serialize)]
struct Served<'a> {
    node: &'a str,
}

/// Serves until it is ended. The key of the tokens comes over stdin, where no list of processes shows it; the address
/// goes to stdout.
pub(crate) async fn run(name: String, redis: &str) -> Result<(), Fault> {
    let mut secret = [0; 32];
    tokio::io::stdin().read_exact(&mut secret).await?;
    let hub = hub(name, redis, &secret)?;
    let router = Router::new().route("/ws", hub.route()).into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    // When the balancer is gone, nobody needs this node any more.
    let mut rest = Vec::new();
    tokio::select! {
        ended = axum::serve(listener, router) => ended?,
        ended = async { tokio::io::stdin().read_to_end(&mut rest).await } => drop(ended?),
    }
    Ok(())
}

fn hub(name: String, redis: &str, secret: &[u8]) -> Result<Hub, Fault> {
    let room = RoomId::parse(ROOM)?;
    let (says, serves) = (name.clone(), name);
    let hub = Hub::builder()
        .authenticate(Jwt::hs256(secret)?)
        .broker(Redis::new(redis)?)
        .rule(RoomRules::new(ROOM))
        .on("say", move |ctx: Context, Say { text }| {
            let (room, through) = (room.clone(), says.clone());
            async move {
                if text.is_empty() || text.len() > 200 {
                    return Err(AckError::invalid("a text has 1 to 200 bytes"));
                }
                ctx.broadcast(&room, "said", &Said { text: &text, through: &through }).await?;
                Ok(serde_json::json!({}))
            }
        })
        .on("served_by", move |_: Context, _: Value| {
            let node = serves.clone();
            async move { Ok(serde_json::json!(Served { node: &node })) }
        })
        .build()?;
    Ok(hub)
}
