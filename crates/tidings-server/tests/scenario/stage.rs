//! Where the scenario is played: a server behind a proxy, another client, and for some acts a Redis.

use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_client::{Client, RoomEvent};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::redis_servers::{Forwarder, RedisServer};
use crate::server::{keep, signal, tidings, within};

const SECRET: &str = "canary-bird of the scenario, more than 32 bytes";
/// What a server forgives a token that has ended.
const LEEWAY: Duration = Duration::from_secs(30);

/// More than any act has.
const EVENTS_MAX: usize = 1024;

pub(crate) struct Stage {
    server: Server,
    /// Those that send everybody away.
    leaving: Vec<Server>,
    pub(crate) net: Forwarder,
    redis: Option<(RedisServer, Forwarder)>,
    bob: Bob,
}

struct Server {
    child: Child,
    address: String,
    _home: TempDir,
}

/// The other client.
struct Bob {
    client: Client,
    saw: mpsc::Receiver<Value>,
    tell: mpsc::Sender<Value>,
    rooms: Vec<String>,
}

impl Server {
    async fn start(redis: Option<&Forwarder>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let broker = redis
            .map_or_else(String::new, |redis| format!("[broker]\nurl = \"redis://{}\"", redis.address()));
        let config = format!(
            r#"
            listen = "127.0.0.1:0"
            [auth]
            secret = "{SECRET}"
            audience = "app"
            {broker}
            [limits]
            # The soak's.
            messages_per_second = 1000
            messages_burst = 1000
            messages_per_second_per_user = 1000
            idempotency_ids_per_user_max = 1000000
            [[rooms]]
            pattern = "closed"
            join = "nobody"
            [[rooms]]
            pattern = "strict"
            join = "anyone"
            publish = "anyone"
            [[rooms]]
            pattern = "board:*"
            join = "anyone"
            publish = "anyone"
            any_event = true
            overflow = "conflate"
            key = "/of"
            retain = true
            [[rooms]]
            # A client that was cut often waits for up to half a minute.
            pattern = "soak"
            join = "anyone"
            publish = "anyone"
            any_event = true
            history_events = 100000
            replay_events = 100000
            [[rooms]]
            pattern = "*"
            join = "anyone"
            publish = "anyone"
            ephemeral = ["typing"]
            any_event = true
            "#
        );
        std::fs::write(home.path().join("tidings.toml"), config).unwrap();
        let mut command = tidings(&home);
        command.arg("serve").arg("--drain-window").arg("1s");
        command.arg("--config").arg(home.path().join("tidings.toml")).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = within(log.next_line()).await.unwrap().expect("it runs");
            keep("server", format!("{line}\n"));
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == "listening" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        // The pipe is read on, or the server would wait for whoever reads it.
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                keep("server", format!("{line}\n"));
            }
        });
        Self { child, address, _home: home }
    }
}

impl Bob {
    fn at(address: &str) -> Self {
        let url = format!("ws://{address}/ws");
        let client = Client::builder(url).token(token("bob", Duration::from_secs(3600))).connect().unwrap();
        let (tell, saw) = mpsc::channel(EVENTS_MAX);
        Self { client, saw, tell, rooms: Vec::new() }
    }

    async fn publish(&mut self, room: &str, event: &str, data: &Value) {
        if !self.rooms.iter().any(|joined| joined == room) {
            let (_, mut events) = self.client.join(room).await.unwrap();
            let tell = self.tell.clone();
            tokio::spawn(async move {
                while let Some(event) = events.next().await {
                    if let RoomEvent::Event(event) = event {
                        let _ = tell.try_send(event.data.json().unwrap_or_default());
                    }
                }
            });
            self.rooms.push(room.to_owned());
        }
        within(self.client.room(room).unwrap().request(event, data)).await.unwrap();
    }
}

/// A token that holds for so long.
pub(crate) fn token(user: &str, holds: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let exp = (now + holds).as_secs();
    ::tidings::auth::mint_hs256(SECRET.as_bytes(), &json!({"sub": user, "aud": "app", "exp": exp})).unwrap()
}

impl Stage {
    pub(crate) async fn set(with_redis: bool) -> Self {
        let redis = if with_redis {
            let server = RedisServer::start_with(&["--enable-debug-command", "yes"]).await;
            let forwarder = Forwarder::start(server.address()).await;
            Some((server, forwarder))
        } else {
            None
        };
        let server = Server::start(redis.as_ref().map(|(_, forwarder)| forwarder)).await;
        let net = Forwarder::start(server.address.parse().unwrap()).await;
        let bob = Bob::at(&server.address);
        Self { server, leaving: Vec::new(), net, redis, bob }
    }

    /// What a driver is to connect with, or to use from now on.
    pub(crate) fn fill(&self, command: &mut Value) {
        let token = match (command["user"].as_str(), command["seconds"].as_u64()) {
            (Some(user), Some(seconds)) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                // A token's end is a whole second: it holds at least as long as it says.
                let exp = (now + Duration::from_secs(seconds + 1)).as_secs() - LEEWAY.as_secs();
                let claims = json!({"sub": user, "aud": "app", "exp": exp});
                ::tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
            }
            (Some(user), None) => token(user, Duration::from_secs(3600)),
            (None, _) => command["invalid"].as_str().unwrap().to_owned(),
        };
        command["token"] = token.into();
        command["url"] = format!("ws://{}/ws", self.net.address()).into();
    }

    pub(crate) async fn publish(&mut self, what: &[Value]) {
        let [room, event, data @ ..] = what else { panic!("{what:?}") };
        for data in data {
            self.bob.publish(room.as_str().unwrap(), event.as_str().unwrap(), data).await;
        }
    }

    /// Publishes without waiting for the ack: bob is in the room.
    pub(crate) async fn publish_unanswered(&self, room: &str, event: &str, data: &Value) {
        let request = self.bob.client.room(room).unwrap().request(event, data);
        tokio::spawn(async move { request.await.unwrap() });
    }

    /// Waits until bob has seen an event with this data.
    pub(crate) async fn bob_sees(&mut self, data: &Value) {
        // He is there since his last publish.
        while within(self.bob.saw.recv()).await.unwrap() != *data {}
    }

    pub(crate) fn on_the_net(&self, what: &Value) {
        match what.as_str() {
            Some("cut") => self.net.cut(),
            Some("down") => self.net.point_nowhere(),
            Some("up") => self.net.point_to(self.server.address.parse().unwrap()),
            Some("hold") => self.net.hold(),
            Some("hold_answers") => self.net.hold_answers(),
            Some("release") => self.net.release(),
            _ => self.net.cut_after(what["cut_after"].as_u64().unwrap() as usize),
        }
    }

    pub(crate) async fn with_the_server(&mut self, what: &str) {
        let next = Server::start(self.redis.as_ref().map(|(_, forwarder)| forwarder)).await;
        let mut last = std::mem::replace(&mut self.server, next);
        match what {
            "replace" => last.child.kill().await.unwrap(),
            "drain" => {
                signal(&last.child, Signal::TERM);
                self.leaving.push(last);
            }
            _ => panic!("{what}"),
        }
        self.bob = Bob::at(&self.server.address);
    }

    pub(crate) async fn with_redis(&self, what: &str) {
        let (server, forwarder) = self.redis.as_ref().expect("an act with a Redis");
        match what {
            "hold" => forwarder.hold(),
            "release" => forwarder.release(),
            "new_lineage" => server.run(&["DEBUG", "CHANGE-REPL-ID"]).await,
            _ => panic!("{what}"),
        }
    }

    /// Those that send everybody away have ended well.
    pub(crate) async fn end(mut self) {
        for server in &mut self.leaving {
            assert_eq!(within(server.child.wait()).await.unwrap().code(), Some(0));
        }
    }
}
