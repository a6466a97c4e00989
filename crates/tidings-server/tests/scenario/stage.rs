//! Where the scenario is played: a server behind a proxy, another client, and for some acts a Redis.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidings_client::{Client, RoomEvent};
use tokio::sync::{Semaphore, mpsc};

use crate::redis_servers::{Certificates, Forwarder, RedisServer};
use crate::server::{Node, signal, within};

const SECRET: &str = "canary-bird of the scenario, more than 32 bytes";
/// What a server forgives a token that has ended.
const LEEWAY_S: u64 = 30;
/// Longer than any act, and than the soak.
const LONG_S: u64 = 7200;

/// More than any act has.
const EVENTS_MAX: usize = 1024;

/// So many of bob's events are on their way at once: fewer than a client keeps.
const UNANSWERED_MAX: usize = 128;

pub(crate) struct Stage {
    server: Node,
    /// Those that send everybody away.
    leaving: Vec<Node>,
    pub(crate) net: Forwarder,
    redis: Option<(RedisServer, Forwarder)>,
    /// Who certifies the servers, which speak TLS then.
    certificates: Option<Arc<Certificates>>,
    bob: Bob,
    unanswered: Arc<Semaphore>,
}

/// The other client.
struct Bob {
    client: Client,
    saw: mpsc::Receiver<Value>,
    tell: mpsc::Sender<Value>,
    rooms: Vec<String>,
}

async fn server(redis: Option<&Forwarder>, certificates: Option<&Certificates>) -> Node {
    let tls = certificates.map_or_else(String::new, |certificates| {
        let path = |name: &str| certificates.path(name).display().to_string();
        format!("[tls]\ncertificate_file = {:?}\nkey_file = {:?}", path("server.pem"), path("server.key"))
    });
    let broker =
        redis.map_or_else(String::new, |redis| format!("[broker]\nurl = \"redis://{}\"", redis.address()));
    let config = format!(
        r#"
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            [auth]
            secret = "{SECRET}"
            audience = "app"
            {broker}
            {tls}
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
    Node::start(&config, &["--drain-window", "1s"]).await
}

impl Bob {
    fn at(address: &str, certificates: Option<&Certificates>) -> Self {
        let client = client(address, certificates, "bob");
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

/// A token that holds for so many seconds at least: its end is a whole one.
fn token(user: &str, seconds: u64) -> String {
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds + 1;
    let claims = json!({"sub": user, "aud": "app", "exp": exp - LEEWAY_S});
    ::tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap()
}

fn client(address: &str, certificates: Option<&Certificates>, user: &str) -> Client {
    let mut client = Client::builder(url(address, certificates));
    if let Some(certificates) = certificates {
        client = client.ca_certificate(&certificates.read("ca.pem")).unwrap();
    }
    client.token(token(user, LONG_S)).connect().unwrap()
}

fn url(address: &str, certificates: Option<&Certificates>) -> String {
    format!("{}://{address}/ws", if certificates.is_some() { "wss" } else { "ws" })
}

impl Stage {
    pub(crate) async fn set(with_redis: bool, certificates: Option<Arc<Certificates>>) -> Self {
        let redis = if with_redis {
            let server = RedisServer::start_with(&["--enable-debug-command", "yes"]).await;
            let forwarder = Forwarder::start(server.address()).await;
            Some((server, forwarder))
        } else {
            None
        };
        let server = server(redis.as_ref().map(|(_, forwarder)| forwarder), certificates.as_deref()).await;
        let net = Forwarder::start(server.address.parse().unwrap()).await;
        let bob = Bob::at(&server.address, certificates.as_deref());
        let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
        Self { server, leaving: Vec::new(), net, redis, certificates, bob, unanswered }
    }

    /// A client behind the net.
    pub(crate) fn client(&self, user: &str) -> Client {
        client(&self.net.address().to_string(), self.certificates.as_deref(), user)
    }

    /// What a driver is to connect with, or to use from now on.
    pub(crate) fn fill(&self, command: &mut Value) {
        let token = match command["user"].as_str() {
            Some(user) => token(user, command["seconds"].as_u64().unwrap_or(LONG_S)),
            None => command["invalid"].as_str().unwrap().to_owned(),
        };
        command["token"] = token.into();
        command["url"] = url(&self.net.address().to_string(), self.certificates.as_deref()).into();
    }

    pub(crate) async fn publish(&mut self, what: &[Value]) {
        let [room, event, data @ ..] = what else { panic!("{what:?}") };
        for data in data {
            self.bob.publish(room.as_str().unwrap(), event.as_str().unwrap(), data).await;
        }
    }

    /// Publishes without waiting for the ack, unless many are waited for already: bob is in the room.
    pub(crate) async fn publish_unanswered(&self, room: &str, event: &str, data: &Value) {
        let place = Arc::clone(&self.unanswered).acquire_owned().await.unwrap();
        let request = self.bob.client.room(room).unwrap().request(event, data);
        tokio::spawn(async move {
            request.await.unwrap();
            drop(place);
        });
    }

    /// Waits until bob, who is in the rooms that he has published to, has seen an event with this data.
    pub(crate) async fn bob_sees(&mut self, data: &Value) {
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
        let certificates = self.certificates.as_deref();
        let next = server(self.redis.as_ref().map(|(_, forwarder)| forwarder), certificates).await;
        let mut last = std::mem::replace(&mut self.server, next);
        match what {
            "replace" => last.child.kill().await.unwrap(),
            "drain" => {
                signal(&last.child, Signal::TERM);
                self.leaving.push(last);
            }
            _ => panic!("{what}"),
        }
        self.bob = Bob::at(&self.server.address, self.certificates.as_deref());
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
