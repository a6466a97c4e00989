//! Where Redis is: one server, several of which one is the master, the sentinels that know which, or a cluster.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion,
    RedisResult, TlsCertificates,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::error::CallError;
#[cfg(feature = "testing")]
use super::in_memory;
use super::routes::Routes;
use super::sentinels::Sentinels;

/// One server out of several has so long to say whether it is the master.
const ASK_MAX: Duration = Duration::from_millis(500);

/// What an address leads to.
#[derive(Clone)]
pub(super) enum Address {
    /// One master has everything.
    One(Place),
    /// These are some of a cluster's servers: each master has a part of the slots.
    Cluster(Vec<ConnectionInfo>),
}

/// Where one master is to be found.
#[derive(Clone)]
pub(super) enum Place {
    /// One of these is it.
    Servers(Vec<ConnectionInfo>),
    /// These know where it is.
    Sentinels(Box<Sentinels>),
    /// It is that of a hash tag's slot, wherever in the cluster that is each time.
    Slot { tag: &'static str, routes: Weak<Routes> },
    /// Within the process of a test.
    #[cfg(feature = "testing")]
    InMemory(in_memory::Dial),
}

/// An address that is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidAddress(String);

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not an address of Redis: {}; it looks like redis://[user:password@]host[:port][/db], redis+sentinel://host[:port],host[:port]/name or redis+cluster://host[:port],host[:port], and with TLS rediss://...",
            self.0
        )
    }
}

impl std::error::Error for InvalidAddress {}

impl Address {
    pub(super) fn parse(address: &str) -> Result<Self, InvalidAddress> {
        let invalid = |what: &str| InvalidAddress(what.to_owned());
        let (scheme, rest) = address.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (format!("{user}@"), hosts),
            None => (String::new(), authority),
        };
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        if !matches!(scheme, "redis" | "rediss") {
            return Err(invalid("the scheme is neither redis nor rediss"));
        }
        if scheme == "rediss" && CryptoProvider::get_default().is_none() {
            // The client library takes the process's choice. If somebody has just made one, that is it.
            let _ = aws_lc_rs::default_provider().install_default();
        }
        let info = |user: &str, host: &str, path: &str| {
            // What is wrong with it may quote the password, so it is not handed on.
            let info = format!("{scheme}://{user}{host}{path}").into_connection_info();
            let info = info.map_err(|_| invalid("a host, a port or the database is none"))?;
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            // Small messages are not to wait for one another's acknowledgement.
            let tcp = TcpSettings::default().set_nodelay(true);
            Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
        };
        let servers =
            |path: &str| hosts.split(',').map(|host| info(&user, host, path)).collect::<Result<Vec<_>, _>>();
        match kind {
            "" => Ok(Self::One(Place::Servers(servers(path)?))),
            "cluster" if matches!(path, "" | "/") => Ok(Self::Cluster(servers("")?)),
            "cluster" => Err(invalid("a cluster has no database but the first")),
            "sentinel" => {
                let (name, path) = match path.trim_start_matches('/') {
                    "" => return Err(invalid("it has no name of a master behind the sentinels")),
                    path => path.split_at(path.find('/').unwrap_or(path.len())),
                };
                let sentinels = hosts.split(',').map(|host| {
                    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                    let port = if has_port { "" } else { ":26379" };
                    info("", &format!("{host}{port}"), "")
                });
                Ok(Self::One(Place::Sentinels(Box::new(Sentinels {
                    servers: sentinels.collect::<Result<_, _>>()?,
                    name: name.to_owned(),
                    master: info(&user, "sentinel.invalid", path)?,
                }))))
            }
            _ => Err(invalid("after the scheme stands neither +sentinel nor +cluster")),
        }
    }

    /// Which of a server's databases it is; a cluster has one.
    pub(super) fn database(&self) -> i64 {
        match self {
            Self::One(Place::Servers(servers)) => {
                servers.first().map_or(0, |info| info.redis_settings().db())
            }
            Self::One(Place::Sentinels(sentinels)) => sentinels.master.redis_settings().db(),
            Self::One(Place::Slot { .. }) | Self::Cluster(_) => 0,
            #[cfg(feature = "testing")]
            Self::One(Place::InMemory(_)) => 0,
        }
    }

    /// Every server of it is believed, and convinced, by these.
    pub(super) fn certify(&mut self, certificates: &TlsCertificates) -> Result<(), InvalidCertificate> {
        let infos: Vec<&mut ConnectionInfo> = match self {
            Self::One(Place::Servers(servers)) | Self::Cluster(servers) => servers.iter_mut().collect(),
            Self::One(Place::Sentinels(sentinels)) => {
                sentinels.servers.iter_mut().chain([&mut sentinels.master]).collect()
            }
            Self::One(Place::Slot { .. }) => Vec::new(),
            #[cfg(feature = "testing")]
            Self::One(Place::InMemory(_)) => Vec::new(),
        };
        for info in infos {
            if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
                return Err(InvalidCertificate("the address is none of TLS: it begins with rediss"));
            }
            let client = Client::build_with_tls(info.clone(), certificates.clone());
            let client = client.map_err(|_| InvalidCertificate("it can't be read as PEM"))?;
            *info = client.get_connection_info().clone();
        }
        Ok(())
    }
}

/// Certificates or a key that can't be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidCertificate(&'static str);

impl InvalidCertificate {
    /// What has no certificate at all would be read as a list of none.
    pub(super) fn unless_in(pem: &[u8]) -> Result<(), Self> {
        const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
        let has_one = pem.windows(BEGIN.len()).any(|window| window == BEGIN);
        if has_one { Ok(()) } else { Err(Self("there is none in it")) }
    }
}

impl fmt::Display for InvalidCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate for Redis is of no use: {}", self.0)
    }
}

impl std::error::Error for InvalidCertificate {}

impl Place {
    /// How the server that is the master now is reached.
    pub(super) async fn master(&self) -> Result<Master, CallError> {
        match self {
            #[cfg(feature = "testing")]
            Self::InMemory(dial) => Ok(Master::InMemory(dial.clone())),
            Self::Servers(servers) => match &servers[..] {
                // The scripts ask it.
                [only] => Ok(Master::server(only.clone())?),
                servers => {
                    for server in servers {
                        if let Ok(Ok(true)) = tokio::time::timeout(ASK_MAX, is_master(server)).await {
                            return Ok(Master::server(server.clone())?);
                        }
                    }
                    Err(CallError::Nowhere("none of the Redis servers says that it is the master"))
                }
            },
            Self::Sentinels(sentinels) => match sentinels.master().await {
                Some(master) => Ok(Master::server(master)?),
                None => Err(CallError::Nowhere("no sentinel knows the master of this name")),
            },
            Self::Slot { tag, routes } => match routes.upgrade().and_then(|routes| routes.master(tag)) {
                Some(master) => Ok(Master::server(master)?),
                None => Err(CallError::Nowhere("no server of the cluster is known to have the slot")),
            },
        }
    }
}

/// How a master is reached.
pub(super) enum Master {
    Server(Box<Client>),
    #[cfg(feature = "testing")]
    InMemory(in_memory::Dial),
}

impl Master {
    fn server(info: ConnectionInfo) -> RedisResult<Self> {
        Ok(Self::Server(Box::new(Client::open(info)?)))
    }

    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, CallError> {
        match self {
            Self::Server(client) => Ok(client.get_multiplexed_async_connection_with_config(config).await?),
            #[cfg(feature = "testing")]
            Self::InMemory(dial) => dial.connect(config).await,
        }
    }

    pub(super) fn client(self) -> Result<Client, CallError> {
        match self {
            Self::Server(client) => Ok(*client),
            #[cfg(feature = "testing")]
            Self::InMemory(_) => Err(CallError::Nowhere("a server in memory has no address")),
        }
    }

    /// Where it is.
    pub(super) fn addr(&self) -> ConnectionAddr {
        match self {
            Self::Server(client) => client.get_connection_info().addr().clone(),
            #[cfg(feature = "testing")]
            Self::InMemory(_) => ConnectionAddr::Tcp("here".to_owned(), 0),
        }
    }
}

/// Another server that is reached as `like` is.
pub(super) fn at(like: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    like.clone().set_addr(match like.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host, port, insecure, tls_params }
        }
        _ => ConnectionAddr::Tcp(host, port),
    })
}

async fn is_master(server: &ConnectionInfo) -> RedisResult<bool> {
    let mut connection = Client::open(server.clone())?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
    Ok(info.contains("role:master"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(servers: &[ConnectionInfo]) -> Vec<String> {
        servers.iter().map(|info| info.addr().to_string()).collect()
    }

    #[test]
    fn an_address_is_one_server_several_sentinels_or_a_cluster() {
        let servers = |address| match Address::parse(address).unwrap() {
            Address::One(Place::Servers(servers)) => addresses(&servers),
            _ => Vec::new(),
        };
        assert_eq!(servers("redis://127.0.0.1"), ["127.0.0.1:6379"]);
        assert_eq!(servers("redis://ann:secret@a:1,b:2/3"), ["a:1", "b:2"]);
        let Address::One(Place::Sentinels(sentinels)) =
            Address::parse("redis+sentinel://ann:secret@s1,s2:5/main/3").unwrap()
        else {
            panic!("sentinels");
        };
        let Sentinels { servers: sentinels, name, master } = *sentinels;
        assert_eq!((addresses(&sentinels), &*name), (vec!["s1:26379".to_owned(), "s2:5".to_owned()], "main"));
        assert_eq!(master.redis_settings().db(), 3);
        assert_eq!(master.redis_settings().username(), Some("ann"));
        let Address::Cluster(servers) = Address::parse("redis+cluster://ann:secret@a,b:2").unwrap() else {
            panic!("a cluster");
        };
        assert_eq!(addresses(&servers), ["a:6379", "b:2"]);
        assert!(servers.iter().all(|server| server.redis_settings().username() == Some("ann")));
    }

    #[test]
    fn with_tls_every_server_is_reached_so() {
        let is_tls =
            |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, .. });
        for address in ["rediss://a,b", "rediss+cluster://a,b", "rediss+sentinel://a,b/main"] {
            let infos = match Address::parse(address).unwrap() {
                Address::One(Place::Servers(servers)) | Address::Cluster(servers) => servers,
                Address::One(Place::Sentinels(sentinels)) => {
                    [sentinels.servers, vec![at(&sentinels.master, "found".to_owned(), 1)]].concat()
                }
                Address::One(_) => panic!("{address} is a server's"),
            };
            assert!(infos.iter().all(is_tls), "{address}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for bad in [
            "",
            "localhost",
            "http://a",
            "redis://ann:secret@host:port",
            "redis+sentinel://s1",
            "redis+cluster://ann:secret@a/1",
            "redis+tls://ann:secret@a",
        ] {
            let Err(error) = Address::parse(bad) else { panic!("{bad}") };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
