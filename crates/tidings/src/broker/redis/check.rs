//! Whether a Redis can be what rooms are stored in: asked once before a node starts, with what to do if it can't.
//!
//! It does what a node does later, on keys of its own that it deletes again: so whatever is not permitted is found now.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult};
use tidings_protocol::event_id::Epoch;
use tidings_protocol::room_log::LogBounds;
use tokio::sync::Notify;

use super::Redis;
use super::error::CallError;
use super::script::{Channels, RoomBounds, Scripts, Submitted};

/// The whole check takes so long at most.
const CHECK_MAX: Duration = Duration::from_secs(5);
/// Redis 7.0 has what the scripts need; Valkey calls itself 7.2.4 to those who ask like this.
const VERSION_MIN: (u32, u32) = (7, 0);

/// What a Redis is like.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RedisReport {
    /// Its version, as it says.
    pub version: String,
    /// What works, and will not always: each a sentence that says what to do.
    pub warnings: Vec<String>,
}

/// Why a Redis can't be used, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum RedisFault {
    /// Nobody answers there, or nobody who is the master.
    Unreachable(String),
    /// It refuses this user, or something that this user has to be allowed.
    Refused(String),
    /// Its version is too old.
    TooOld(String),
    /// It does what it is asked, and nothing of it arrives where it should.
    Deaf,
}

impl RedisFault {
    /// What to do about it.
    pub fn fix(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "start it, or correct the address: redis://[user:password@]host[:port][/db], several hosts joined by a comma, or redis+sentinel://host,host/name"
            }
            Self::Refused(_) => {
                "give the user what a node needs: ACL SETUSER <user> on ><password> ~tidings:* &tidings:* +@read +@write +@scripting +@pubsub +@connection +info +time (with another prefix, that one)"
            }
            Self::TooOld(_) => "run Redis 7.0 or later, or Valkey 8",
            Self::Deaf => {
                "what is published there does not come back on its channel: let the user subscribe (ACL &tidings:*), and let nothing between here and there filter channels"
            }
        }
    }

    /// Whether it may go away by itself.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

impl fmt::Display for RedisFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(what) => write!(f, "Redis can't be reached: {what}"),
            Self::Refused(what) => write!(f, "Redis refuses what a node does: {what}"),
            Self::TooOld(version) => write!(f, "Redis {version} is too old"),
            Self::Deaf => f.write_str("Redis delivers nothing of what is published"),
        }
    }
}

impl std::error::Error for RedisFault {}

impl From<CallError> for RedisFault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(error) => Self::Refused(error.to_string()),
            error => Self::Unreachable(error.to_string()),
        }
    }
}

impl Redis {
    /// Asks whether this Redis can be used, by doing what a node does.
    ///
    /// # Errors
    /// [`RedisFault`], with [what to do](RedisFault::fix).
    pub async fn check(&self) -> Result<RedisReport, RedisFault> {
        let checked = tokio::time::timeout(CHECK_MAX, self.check_now()).await;
        checked.unwrap_or_else(|_| Err(RedisFault::Unreachable(format!("no answer in {CHECK_MAX:?}"))))
    }

    async fn check_now(&self) -> Result<RedisReport, RedisFault> {
        let heard = Arc::new(Heard::default());
        let hears = Arc::clone(&heard);
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Message {
                    hears.messages.lock().push(());
                    hears.came.notify_one();
                }
                Ok::<(), ()>(())
            });
        let client = self.address.master().await?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(of_connecting)?;
        let version = self.version(&mut connection).await?;
        let warnings = warnings(&mut connection).await?;
        self.try_out(&mut connection, &heard).await?;
        Ok(RedisReport { version, warnings })
    }

    async fn version(&self, connection: &mut MultiplexedConnection) -> Result<String, RedisFault> {
        let version = ask(connection, "server", "redis_version").await?.unwrap_or_default();
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
        let known = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        if known < VERSION_MIN { Err(RedisFault::TooOld(version)) } else { Ok(version) }
    }

    /// Publishes to a room that no node has, and hears of it.
    async fn try_out(&self, connection: &mut MultiplexedConnection, heard: &Heard) -> Result<(), RedisFault> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| RedisFault::Unreachable(error.to_string()))?;
        let random = u64::from_le_bytes(random);
        let keys = self.keyspace.check(random);
        let scripts = Scripts::new(self.lineage, Channels::Classic);
        scripts.load(connection).await?;
        connection.subscribe(keys.channel()).await.map_err(CallError::from)?;
        let epoch = Epoch::from_random(random);
        let log = LogBounds { age_max: CHECK_MAX, events_max: 1, bytes_max: 1000 };
        let bounds = RoomBounds { log, ids_max: 1 };
        let id = [1; 16];
        let one = Submitted { id: Some(&id), fingerprint: 1, record: &Bytes::from_static(b"check") };
        scripts.publish(connection, &keys, epoch, &bounds, &[one]).await?;
        scripts.read(connection, &keys, epoch, None, 1, 1000).await?;
        scripts.positions(connection, &[&keys], epoch).await?;
        let deleted = redis::cmd("DEL").arg(&keys.all()[..]).query_async::<()>(connection).await;
        deleted.map_err(CallError::from)?;
        let came = async {
            while heard.messages.lock().is_empty() {
                heard.came.notified().await;
            }
        };
        tokio::time::timeout(CHECK_MAX / 4, came).await.map_err(|_| RedisFault::Deaf)
    }
}

#[derive(Default)]
struct Heard {
    messages: Mutex<Vec<()>>,
    came: Notify,
}

fn of_connecting(error: redis::RedisError) -> RedisFault {
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed => {
            RedisFault::Refused("it does not know the user, or not by this password".to_owned())
        }
        _ => RedisFault::from(CallError::from(error)),
    }
}

async fn ask(
    connection: &mut MultiplexedConnection,
    section: &str,
    field: &str,
) -> Result<Option<String>, RedisFault> {
    let info: RedisResult<String> = redis::cmd("INFO").arg(section).query_async(connection).await;
    let info = info.map_err(CallError::from)?;
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(value.map(|value| value.trim().to_owned()))
}

/// What works now and will not under pressure.
async fn warnings(connection: &mut MultiplexedConnection) -> Result<Vec<String>, RedisFault> {
    let policy = ask(connection, "memory", "maxmemory_policy").await?.unwrap_or_default();
    let bound = ask(connection, "memory", "maxmemory").await?.unwrap_or_default();
    let mut warnings = Vec::new();
    if policy != "noeviction" {
        // All of ours have a TTL, so volatile-* takes them like any other.
        warnings.push(format!(
            "maxmemory-policy is {policy}: short of memory, Redis forgets rooms' logs and every client in them is reset; CONFIG SET maxmemory-policy noeviction"
        ));
    }
    if bound == "0" {
        warnings.push(
            "maxmemory is not set: Redis takes memory until the system ends it; CONFIG SET maxmemory <bytes>"
                .to_owned(),
        );
    }
    Ok(warnings)
}
