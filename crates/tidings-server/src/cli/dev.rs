//! `tidings dev`: a server with no configuration, for this machine alone, with a page to try it on.
//!
//! It must never be reachable from elsewhere, because it gives a token to anyone who asks: it listens on loopback
//! only, and answers only to loopback names, so that no foreign page reaches it by rebinding its own name.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::auth::{Jwt, UserId};
use tidings::{Access, Hub, Limits, RoomRules};

use super::token;
use crate::api::{Api, DERIVED_NAME, Keys, Rate, Scope, derived};
use crate::failure::Failure;
use crate::listen::Edge;
use crate::run::Entrance;
use crate::upstream::{InvalidUpstream, Upstream, UpstreamOptions};
use crate::user_rooms::RoomsOfUsers;
use crate::{app, dev_secret, memory, open_files, page, run, span_of_time};

/// The page sends images in one binary frame each.
const IMAGE_BYTES_MAX: usize = 256 * 1024;
/// For whom the token in the terminal is, and how long.
const TERMINAL_USER: &str = "dev";
const TERMINAL_TOKEN_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// What the rooms of users are called, before the user's id.
const USER_ROOMS_PREFIX: &str = "user:";
/// Requests of the API a second: more than anybody types.
const API_RATE: u32 = 10_000;
const API_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The page asks again at every connect.
const PAGE_TOKEN_TTL: Duration = Duration::from_secs(60 * 60);

/// Serve this machine with no configuration: everyone may join and publish everywhere
#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// A loopback address and a port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7777")]
    listen: SocketAddr,
    /// A page's origin from which connections are taken, besides this server's own: http://localhost:5173
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Your application, `http://127.0.0.1:3000`: it has every path but /ws, /v1, /health, /metrics and /dev/token. The
    /// chat page is not served then
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// How long clients have to move away at the end
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = span_of_time::parse)]
    drain_window: Duration,
}

impl Dev {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !self.listen.ip().is_loopback() {
            let message =
                format!("tidings dev gives tokens to anyone, so it can't listen on {}", self.listen);
            return Err(Failure::usage(message).fix("listen on 127.0.0.1 or [::1], or use tidings serve"));
        }
        let application = self.upstream.as_deref().map(UpstreamOptions::at).transpose();
        let application = application
            .map_err(|error| Failure::usage(format_args!("--upstream {error}")).fix(InvalidUpstream::FIX))?;
        let secret = Arc::new(dev_secret::load()?);
        run::block_on(async {
            let mut limits = Limits::default();
            limits.connections_per_node_max = open_files::raise();
            memory::share(&mut limits);
            limits.binary_message_bytes_max = IMAGE_BYTES_MAX;
            let rooms_of_users = RoomsOfUsers::named(USER_ROOMS_PREFIX)
                .ok_or_else(|| Failure::failed("no room's name begins with the prefix of users' rooms"))?;
            let mut hub = Hub::builder()
                .authenticate(Jwt::hs256(secret.expose_secret().as_bytes()).map_err(Failure::failed)?)
                .memberships(rooms_of_users.clone().memberships(None))
                .rule(rooms_of_users.rule())
                .rule(
                    RoomRules::new("*")
                        .join(Access::Anyone)
                        .publish(Access::Anyone)
                        .any_event()
                        .ephemeral("typing.*"),
                )
                .loopback_host_only()
                .limits(limits.clone());
            for origin in &self.allow_origin {
                hub = hub.allow_origin(origin);
            }
            let hub = hub.build().map_err(Failure::usage)?;
            let (listener, address) = run::bind(self.listen).await?;
            let beside = app::Beside::default();
            let mut dev =
                Router::new().route("/dev/token", get(page_token)).merge(app::metrics(&hub, &beside));
            // Nobody is trusted here: whoever asks for another machine is not answered.
            let mut edge = Edge::default();
            let upstream = application.map(|options| Arc::new(Upstream::new(options)));
            dev = match &upstream {
                None => dev.merge(page::router()),
                Some(upstream) => {
                    edge.heads = upstream.heads();
                    upstream.behind(dev)
                }
            };
            let dev = dev.with_state(Arc::clone(&secret)).layer(axum::middleware::from_fn(loopback_only));
            let mut keys = Keys::new(Rate { requests_per_second: API_RATE, burst: API_RATE });
            keys.add(DERIVED_NAME, &derived(&secret), &Scope::ALL).map_err(Failure::failed)?;
            let api = Api::new(&hub, Some(rooms_of_users))
                .router(keys, API_BODY_BYTES_MAX)
                .route_layer(axum::middleware::from_fn(loopback_only));
            greet(address, &secret, self.upstream.as_deref())?;
            let app = app::router(&hub, &limits, app::SOCKET_PATH, &beside).merge(dev).merge(api);
            let entrance = Entrance { listener, app, edge, upstream };
            run::serve(&hub, entrance, None, &limits, self.drain_window).await
        })
    }
}

/// Where everything is, for people to read and to copy from.
fn greet(address: SocketAddr, secret: &SecretString, application: Option<&str>) -> Result<(), Failure> {
    let user = UserId::parse(TERMINAL_USER).map_err(Failure::failed)?;
    let token = token::mint(secret, &user, &[], TERMINAL_TOKEN_TTL)?;
    let (page, invitation) = match application {
        None => (String::new(), "Open the page in two windows, and be two people. ".to_owned()),
        Some(url) => (format!("  your application, {url}"), String::new()),
    };
    let text = format!(
        "\
Tidings is listening, for this machine only.

  page    http://{address}/{page}
  socket  ws://{address}/ws
  token   {token}
  API     http://{address}/v1, with the key that `tidings key` prints

{invitation}The token is for the user {TERMINAL_USER}, for 24 hours. Another one:

  tidings token --user ID

Try it in a terminal, and then type the second line:

  wscat -c 'ws://{address}/ws?token={token}'
  {{\"event\":\"room.join\",\"room\":\"chat:lobby\",\"id\":\"1\"}}

Publish from a backend:

  curl -H \"Authorization: Bearer $(tidings key)\" -H 'Content-Type: application/json' \\
    -d '{{\"event\":\"news\",\"data\":{{\"hi\":1}}}}' http://{address}/v1/rooms/chat:lobby/events

"
    );
    // A stdout that is gone wants to read nothing; the server is wanted all the same.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

#[derive(Deserialize)]
struct TokenQuery {
    user: String,
}

async fn page_token(State(secret): State<Arc<SecretString>>, Query(query): Query<TokenQuery>) -> Response {
    let bad_request = |fault: String| (StatusCode::BAD_REQUEST, fault + "\n").into_response();
    let user = match token::user(&query.user) {
        Ok(user) => user,
        Err(fault) => return bad_request(fault),
    };
    match token::mint(&secret, &user, &[], PAGE_TOKEN_TTL) {
        Ok(token) => ([(header::CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "token": token })))
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn loopback_only(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if peer.ip().to_canonical().is_loopback() && is_loopback_host(request.headers()) {
        return next.run(request).await;
    }
    (
        StatusCode::FORBIDDEN,
        "tidings dev answers this machine only: open it as http://localhost or http://127.0.0.1\n",
    )
        .into_response()
}

/// Whether there is one Host and it names this machine.
fn is_loopback_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<http::uri::Authority>().ok())
    else {
        return false;
    };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_loopback() {
        let is_loopback = |hosts: &[&'static str]| {
            let headers = hosts.iter().map(|host| (header::HOST, header::HeaderValue::from_static(host)));
            is_loopback_host(&headers.collect())
        };
        for host in ["localhost", "LOCALHOST:7777", "127.0.0.1:7777", "127.9.9.9", "[::1]:7777"] {
            assert!(is_loopback(&[host]), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7777", "10.0.0.1", "[::2]", ""]
        {
            assert!(!is_loopback(&[host]), "{host}");
        }
        assert!(!is_loopback(&[]));
        assert!(!is_loopback(&["localhost", "evil.example"]));
    }
}
