//! Where Redis is: one server, several of which one is the master, or the sentinels that know which.

use std::fmt;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisResult};

use super::error::CallError;

/// One server out of several has so long to say whether it is the master.
const ASK_MAX: Duration = Duration::from_millis(500);

/// Where the master is to be found.
#[derive(Clone)]
pub(super) enum Address {
    /// One of these is the master.
    Servers(Vec<ConnectionInfo>),
    /// These know where the master of this name is; it is reached as the last says.
    Sentinels { sentinels: Vec<ConnectionInfo>, name: String, master: ConnectionInfo },
}

/// An address that is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidAddress(String);

impl fmt::Display for InvalidAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not an address of Redis: {}; it looks like redis://[user:password@]host[:port][/db], rediss://... with TLS, or redis+sentinel://host[:port],host[:port]/name",
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
        let info = |scheme: &str, user: &str, host: &str, path: &str| {
            // What is wrong with it may quote the password, so it is not handed on.
            let info = format!("{scheme}://{user}{host}{path}").into_connection_info();
            let info = info.map_err(|_| invalid("a host, a port or the database is none"))?;
            let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            // Small messages are not to wait for one another's acknowledgement.
            let tcp = TcpSettings::default().set_nodelay(true);
            Ok(info.set_redis_settings(settings).set_tcp_settings(tcp))
        };
        let scheme_of_servers = scheme.strip_suffix("+sentinel").unwrap_or(scheme);
        if !matches!(scheme_of_servers, "redis" | "rediss") {
            return Err(invalid("the scheme is neither redis, rediss nor either with +sentinel"));
        }
        if scheme == scheme_of_servers {
            let servers = hosts.split(',').map(|host| info(scheme, &user, host, path));
            return Ok(Self::Servers(servers.collect::<Result<_, _>>()?));
        }
        let (name, path) = match path.trim_start_matches('/') {
            "" => return Err(invalid("it has no name of a master behind the sentinels")),
            path => path.split_at(path.find('/').unwrap_or(path.len())),
        };
        let sentinels = hosts.split(',').map(|host| {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if has_port { "" } else { ":26379" };
            info(scheme_of_servers, "", &format!("{host}{port}"), "")
        });
        Ok(Self::Sentinels {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            name: name.to_owned(),
            // Its host is what the sentinels say.
            master: info(scheme_of_servers, &user, "sentinel.invalid", path)?,
        })
    }

    /// The client of the server that is the master now.
    pub(super) async fn master(&self) -> Result<Client, CallError> {
        match self {
            Self::Servers(servers) => match &servers[..] {
                // The scripts ask it.
                [only] => Ok(Client::open(only.clone())?),
                servers => {
                    for server in servers {
                        if let Ok(Ok(true)) = tokio::time::timeout(ASK_MAX, is_master(server)).await {
                            return Ok(Client::open(server.clone())?);
                        }
                    }
                    Err(CallError::Nowhere("none of the Redis servers says that it is the master"))
                }
            },
            Self::Sentinels { sentinels, name, master } => {
                for sentinel in sentinels {
                    if let Ok(Ok(Some((host, port)))) =
                        tokio::time::timeout(ASK_MAX, ask_sentinel(sentinel, name)).await
                    {
                        let addr = match master.addr() {
                            redis::ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                                let (insecure, tls_params) = (*insecure, tls_params.clone());
                                redis::ConnectionAddr::TcpTls { host, port, insecure, tls_params }
                            }
                            _ => redis::ConnectionAddr::Tcp(host, port),
                        };
                        return Ok(Client::open(master.clone().set_addr(addr))?);
                    }
                }
                Err(CallError::Nowhere("no sentinel knows the master of this name"))
            }
        }
    }
}

async fn is_master(server: &ConnectionInfo) -> RedisResult<bool> {
    let mut connection = Client::open(server.clone())?.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
    Ok(info.contains("role:master"))
}

async fn ask_sentinel(sentinel: &ConnectionInfo, name: &str) -> RedisResult<Option<(String, u16)>> {
    let mut connection = Client::open(sentinel.clone())?.get_multiplexed_async_connection().await?;
    redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query_async(&mut connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_server_several_or_sentinels() {
        let servers = |address| match Address::parse(address).unwrap() {
            Address::Servers(servers) => servers.iter().map(|info| info.addr().to_string()).collect(),
            Address::Sentinels { .. } => Vec::new(),
        };
        assert_eq!(servers("redis://127.0.0.1"), ["127.0.0.1:6379"]);
        assert_eq!(servers("redis://ann:secret@a:1,b:2/3"), ["a:1", "b:2"]);
        let Address::Sentinels { sentinels, name, master } =
            Address::parse("redis+sentinel://ann:secret@s1,s2:5/main/3").unwrap()
        else {
            panic!("sentinels");
        };
        let sentinels: Vec<_> = sentinels.iter().map(|info| info.addr().to_string()).collect();
        assert_eq!((sentinels, &*name), (vec!["s1:26379".to_owned(), "s2:5".to_owned()], "main"));
        assert_eq!(master.redis_settings().db(), 3);
        assert_eq!(master.redis_settings().username(), Some("ann"));
    }

    #[test]
    fn what_is_no_address_is_told_without_its_password() {
        for bad in ["", "localhost", "http://a", "redis://ann:secret@host:port", "redis+sentinel://s1"] {
            let Err(error) = Address::parse(bad) else { panic!("{bad}") };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
