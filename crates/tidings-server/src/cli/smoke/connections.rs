//! Whether a user has a limit of connections: one more is refused with 429, or takes the oldest's place.

use std::time::Duration;

use http::StatusCode;

use super::stage::{Checked, Fault, Outcome, Stage};
use crate::cli::link::{Heard, Link, NoLink};
use crate::cli::target::Problem;

/// A limit above it is not looked for.
const CONNECTIONS_TRIED_MAX: usize = 32;
/// The close code of a connection whose place a newer one has taken.
const TAKEN_OVER: u16 = 4009;

/// It is sent before the newer one is welcomed, so it is there soon.
const CLOSE_LATE_MAX: Duration = Duration::from_millis(50);

const FIX: &str = "limits.connections_per_user_max bounds what a user may hold open; several nodes count together if they share a broker";

pub(super) async fn connection_limit(stage: &mut Stage) -> Checked {
    let crowd = stage.crowd.clone();
    if stage.connections_max.is_some_and(|max| max > CONNECTIONS_TRIED_MAX) {
        return Ok(Outcome::Skipped(format!("the configuration allows more than {CONNECTIONS_TRIED_MAX}")));
    }
    let mut links = Vec::new();
    let ended = loop {
        if links.len() > CONNECTIONS_TRIED_MAX {
            break Err(Fault::new(format!("{} connections of one user are all let in", links.len()), FIX));
        }
        match stage.try_link(&crowd).await? {
            Ok(link) => links.push(link),
            Err(NoLink::Refused(StatusCode::TOO_MANY_REQUESTS)) => {
                break refused(stage, &crowd, links.len()).await;
            }
            Err(other) => {
                let message = format!("connection {}: {other}, where 429 is due", links.len() + 1);
                break Err(Fault::new(message, FIX));
            }
        }
        if let Some(oldest) = links.first_mut()
            && is_taken_over(oldest).await
        {
            break Ok(Outcome::Passed(format!("the {}th closes the oldest with {TAKEN_OVER}", links.len())));
        }
    };
    futures_util::future::join_all(links.into_iter().map(Link::close)).await;
    ended
}

async fn refused(stage: &Stage, user: &str, open: usize) -> Checked {
    let answer = stage.target.handshake(Some(&stage.token(user).await?), None).await;
    let answer = answer.map_err(|error| Fault::new(error.to_string(), FIX))?;
    let code = Problem::of(&answer).code.unwrap_or_default();
    if answer.status != StatusCode::TOO_MANY_REQUESTS || code != "connection_limit" {
        let message = format!(
            "connection {} is refused by {} {code}, and not 429 connection_limit",
            open + 1,
            answer.status
        );
        return Err(Fault::new(
            message,
            "an address may connect so often only: is this server behind a proxy that says for whom it asks?",
        ));
    }
    match stage.connections_max {
        Some(max) if max != open => {
            let message = format!("connection {} is refused, and the configuration allows {max}", open + 1);
            Err(Fault::new(message, FIX))
        }
        _ => Ok(Outcome::Passed(format!("429 connection_limit for connection {}", open + 1))),
    }
}

/// Whether its close is there already.
async fn is_taken_over(link: &mut Link) -> bool {
    loop {
        match link.heard(CLOSE_LATE_MAX).await {
            Some(Heard::Closed(Some(TAKEN_OVER))) => return true,
            Some(Heard::Closed(_)) | None => return false,
            Some(_) => {}
        }
    }
}
