//! Whether a server pings often enough that no proxy takes a quiet connection for a dead one, and takes the heartbeat of a client
//! that sees no pings. It waits while the others run.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::stage::{Checked, Fault, Outcome, Stage, UNANSWERED, Who};
use crate::cli::link::{Heard, Link, Reply};

const PING_EVERY_MAX: Duration = Duration::from_secs(30);
/// A ping may come so much later than was said.
const LATE_MAX: Duration = Duration::from_secs(5);

const FIX: &str = "limits.heartbeat_seconds = 30, or less; and let nothing on the way answer or drop pings";

/// A connection on which a ping is awaited.
pub(super) struct Heartbeat {
    every: Duration,
    pinged: JoinHandle<Result<Duration, String>>,
}

impl Heartbeat {
    /// Connects as a client with a good token does.
    pub(super) async fn begin(stage: &mut Stage) -> Result<(Outcome, Self), Fault> {
        let link = stage.link(Who::Ann).await?;
        let welcome = link.welcome.clone();
        let every = Duration::from_millis(welcome.heartbeat_ms);
        let told = format!("a good token is welcomed as {}", welcome.user);
        stage.welcome = Some(welcome);
        let patience = every.min(PING_EVERY_MAX) + LATE_MAX;
        let pinged = if stage.is_quick {
            link.close().await;
            tokio::spawn(std::future::ready(Ok(Duration::ZERO)))
        } else {
            tokio::spawn(ping(link, patience))
        };
        Ok((Outcome::Passed(told), Self { every, pinged }))
    }

    /// Waits until it is known.
    pub(super) async fn end(self, stage: &mut Stage) -> Checked {
        let every = self.every;
        if every > PING_EVERY_MAX || every.is_zero() {
            return Err(Fault::new(
                format!("the server pings every {every:?}, where 30 s are the most"),
                FIX,
            ));
        }
        of_client(stage).await?;
        if stage.is_quick {
            return Ok(Outcome::Skipped(format!(
                "--quick: no ping was awaited; the server says every {every:?}"
            )));
        }
        let pinged = self.pinged.await.map_err(|error| Fault::new(error.to_string(), FIX))?;
        let after = pinged.map_err(Fault::with(FIX))?;
        Ok(Outcome::Passed(format!("a ping after {:.1} s", after.as_secs_f64())))
    }
}

/// Sends the one that clients send, which an application may serve.
async fn of_client(stage: &mut Stage) -> Result<(), Fault> {
    let mut link = stage.link(Who::Ann).await?;
    let heartbeat = json!({"event": "presence.heartbeat", "id": stage.id()});
    let reply = link.ask(&heartbeat).await;
    match reply.map_err(Fault::with("the server does not answer a client's heartbeat: see its log"))? {
        Reply::Ack(_) => {
            link.close().await;
            Ok(())
        }
        Reply::Refused { code, message } => Err(Fault::new(
            format!("a client's heartbeat is answered by {code}: {message}"),
            match code.as_str() {
                "unavailable" => UNANSWERED,
                _ => "the application serves presence.heartbeat and refuses it; with no handler it is acked",
            },
        )),
    }
}

/// How long it takes until one comes.
async fn ping(mut link: Link, patience: Duration) -> Result<Duration, String> {
    let begun = Instant::now();
    loop {
        match link.heard(patience.saturating_sub(begun.elapsed())).await {
            Some(Heard::Ping) => {
                let after = begun.elapsed();
                link.close().await;
                return Ok(after);
            }
            Some(Heard::Closed(code)) => {
                return Err(format!("the connection has ended before a ping, with {code:?}"));
            }
            Some(Heard::Message(_)) => {}
            None => return Err(format!("no ping came in {patience:?}")),
        }
    }
}
