//! The edge: `[tls]`, `trusted_proxies`, `[socket]` and `[upstream]`, what is between a client's bytes and the routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::Deserialize;

use super::files::Files;

use crate::app::SOCKET_PATH;
use crate::failure::Failure;
use crate::forwarded::{ClientAddressHeader, TrustedProxies};
use crate::tls::Tls;
use crate::upstream::{InvalidUpstream, UpstreamOptions};

/// What a listener proves itself with: it speaks https and wss then, and nothing else.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsSection {
    /// The server's certificate and those between it and the authority; PEM.
    #[schemars(extend("examples" = ["certificate.pem"]))]
    certificate_file: PathBuf,
    /// Its private key; PEM.
    #[schemars(extend("examples" = ["key.pem"]))]
    key_file: PathBuf,
}

impl TlsSection {
    /// Reads the files.
    ///
    /// # Errors
    /// When one is not what it is said to be.
    pub(super) fn tls(&self, section: &'static str, files: &Files) -> Result<Tls, Failure> {
        Tls::read(section, files.path(&self.certificate_file), files.path(&self.key_file))
    }
}

/// Networks, or single addresses.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(try_from = "Vec<String>")]
#[schemars(with = "Vec<String>")]
pub(crate) struct Networks(Vec<IpNet>);

impl Default for Networks {
    /// Proxies on this machine.
    fn default() -> Self {
        Self(vec![
            Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
            IpAddr::from(Ipv6Addr::LOCALHOST).into(),
        ])
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Self, String> {
        let network = |text: &String| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
                format!("{text:?} is no network: write \"10.0.0.0/8\", \"fd00::/8\" or one address")
            })
        };
        texts.iter().map(network).collect::<Result<_, _>>().map(Self)
    }
}

/// The header in which the trusted proxies say for whom they ask.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema, Debug)]
pub(crate) enum AddressHeader {
    /// Addresses, each proxy's behind the one before it.
    #[default]
    #[serde(rename = "X-Forwarded-For")]
    XForwardedFor,
    /// That of RFC 7239.
    Forwarded,
}

impl Networks {
    pub(super) fn proxies(&self, header: AddressHeader) -> TrustedProxies {
        let header = match header {
            AddressHeader::XForwardedFor => ClientAddressHeader::XForwardedFor,
            AddressHeader::Forwarded => ClientAddressHeader::Forwarded,
        };
        TrustedProxies::new(self.0.clone(), header)
    }
}

/// The WebSocket.
#[derive(Deserialize, JsonSchema, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Socket {
    /// Its path.
    #[serde(default)]
    pub(super) path: SocketPath,
}

/// A path for the WebSocket.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct SocketPath(pub(super) String);

impl Default for SocketPath {
    fn default() -> Self {
        Self(SOCKET_PATH.to_owned())
    }
}

impl TryFrom<String> for SocketPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
        if !path.starts_with('/') || path.len() < 2 || !path.bytes().all(is_plain) {
            return Err(format!(
                "{path:?} is no path for the socket: write one like \"/ws\" or \"/realtime/ws\""
            ));
        }
        if crate::upstream::is_own(&path) {
            return Err(format!(
                "{path:?} is where the HTTP API or the health checks are: write another path"
            ));
        }
        Ok(Self(path))
    }
}

/// The application behind this port: it has every path that is not Tidings' own.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpstreamSection {
    /// Where it is: `http://host:port`.
    #[schemars(extend("examples" = ["http://127.0.0.1:3000"]))]
    url: String,
    /// How long a request may go without any progress. 60, if unset.
    #[schemars(extend("examples" = [60]))]
    stalled_duration_max_seconds: Option<NonZeroU64>,
    /// Requests that are under way at once. 1,024, if unset.
    #[schemars(extend("examples" = [1024]))]
    requests_max: Option<NonZeroUsize>,
    /// And of one client's address. 256, if unset.
    #[schemars(extend("examples" = [256]))]
    requests_per_address_max: Option<NonZeroUsize>,
}

impl UpstreamSection {
    /// Where the application is, and how much of it at once.
    ///
    /// # Errors
    /// When the URL is none.
    pub(super) fn options(&self) -> Result<UpstreamOptions, Failure> {
        let mut options = UpstreamOptions::at(&self.url).map_err(|error: InvalidUpstream| {
            Failure::config(format_args!("upstream.url: {error}"))
                .key("upstream.url")
                .fix(InvalidUpstream::FIX)
        })?;
        if let Some(seconds) = self.stalled_duration_max_seconds {
            options.stalled_duration_max = Duration::from_secs(seconds.get());
        }
        if let Some(requests) = self.requests_max {
            options.requests_max = requests.get();
        }
        if let Some(requests) = self.requests_per_address_max {
            options.requests_per_address_max = requests.get();
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    struct File {
        #[serde(default)]
        trusted_proxies: Networks,
        #[serde(default)]
        client_address_header: AddressHeader,
        #[serde(default)]
        socket: Socket,
        upstream: Option<UpstreamSection>,
    }

    fn file(text: &str) -> Result<File, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn loopback_is_trusted_and_others_by_their_networks() {
        let trusts = |text: &str, address: &str| {
            let file = file(text).unwrap();
            file.trusted_proxies.proxies(file.client_address_header).trusts(address.parse().unwrap())
        };
        for (text, address, expected) in [
            ("", "127.0.0.1", true),
            ("", "127.9.9.9", true),
            ("", "::1", true),
            ("", "::ffff:127.0.0.1", true),
            ("", "10.0.0.1", false),
            ("trusted_proxies = ['10.0.0.0/8', '192.0.2.7']", "10.200.0.1", true),
            ("trusted_proxies = ['10.0.0.0/8', '192.0.2.7']", "192.0.2.7", true),
            ("trusted_proxies = ['10.0.0.0/8', '192.0.2.7']", "192.0.2.8", false),
            ("trusted_proxies = ['10.0.0.0/8', '192.0.2.7']", "127.0.0.1", false),
            ("trusted_proxies = ['fd00::/8']", "fd12::1", true),
            ("trusted_proxies = []", "127.0.0.1", false),
            ("client_address_header = 'Forwarded'", "127.0.0.1", true),
        ] {
            assert_eq!(trusts(text, address), expected, "{text} {address}");
        }
        let fault = file("trusted_proxies = ['10.0.0.0/8', '10.0.0/8']").unwrap_err();
        assert!(
            fault.to_string().contains("\"10.0.0/8\" is no network") && fault.span().is_some(),
            "{fault}"
        );
        assert!(file("client_address_header = 'X-Real-IP'").is_err());
    }

    #[test]
    fn the_sockets_path_is_a_plain_one() {
        assert_eq!(file("").unwrap().socket.path.0, "/ws");
        assert_eq!(file("[socket]\npath = '/app/live'").unwrap().socket.path.0, "/app/live");
        for (wrong, told) in [
            ("ws", "no path"),
            ("/", "no path"),
            ("/{a}", "no path"),
            ("/*", "no path"),
            ("/a?b", "no path"),
            ("/v1/ws", "HTTP API"),
            ("/health", "HTTP API"),
        ] {
            let fault = file(&format!("[socket]\npath = '{wrong}'")).unwrap_err().to_string();
            assert!(fault.contains(told), "{wrong}: {fault}");
        }
    }

    #[test]
    fn an_upstream_has_a_url_and_may_have_bounds() {
        let options = |section: &str| {
            let section = file(&format!("[upstream]\n{section}")).unwrap().upstream.unwrap();
            section.options().map_err(|failure| failure.texts().concat())
        };
        let bounded = "url = 'http://a:1'\nstalled_duration_max_seconds = 7\nrequests_max = 3";
        let bounded = options(bounded).unwrap();
        assert_eq!(bounded.authority.as_str(), "a:1");
        assert_eq!((bounded.stalled_duration_max.as_secs(), bounded.requests_max), (7, 3));
        let wrong = options("url = 'b:2'").unwrap_err();
        assert!(wrong.contains("upstream.url") && wrong.contains("http://127.0.0.1:3000"), "{wrong}");
    }
}
