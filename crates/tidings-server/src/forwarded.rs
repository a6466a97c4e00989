//! Who a request comes from: the address of its socket, or what a trusted proxy says of it.
//!
//! One header is read, and from trusted proxies alone: whoever could choose among two would choose his address.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;
use ipnet::IpNet;

/// The way a request has come, beside its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Whose socket it came over.
    pub(crate) peer: SocketAddr,
    /// Whether what the peer says of others is believed.
    pub(crate) is_trusted: bool,
    /// In which header it would say it.
    pub(crate) header: ClientAddressHeader,
    /// Whether it came over TLS.
    pub(crate) is_secure: bool,
}

/// The header in which proxies say for whom they ask.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) enum ClientAddressHeader {
    /// `X-Forwarded-For: 203.0.113.7, 10.0.0.1`
    #[default]
    XForwardedFor,
    /// RFC 7239: `Forwarded: for=203.0.113.7, for="[2001:db8::1]:4711"`
    Forwarded,
}

/// From where what is said of others is believed. Nobody, by default.
#[derive(Clone, Default, Debug)]
pub(crate) struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ClientAddressHeader,
}

impl TrustedProxies {
    pub(crate) fn new(networks: Vec<IpNet>, header: ClientAddressHeader) -> Self {
        Self { networks, header }
    }

    /// The way of a request from this socket.
    pub(crate) fn way(&self, peer: SocketAddr, is_secure: bool) -> Way {
        Way { peer, is_trusted: self.trusts(peer.ip()), header: self.header, is_secure }
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whose request this is: of those that it came by, counted from here, the first one that is no trusted proxy. Where a
    /// proxy says what is no address, it is the proxy's own.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        let mut client = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.trusts(client.ip()) {
            return client;
        }
        // Each proxy adds what it sees at the end, so whatever stands left of an untrusted address is his own word.
        let name = match self.header {
            ClientAddressHeader::XForwardedFor => "x-forwarded-for",
            ClientAddressHeader::Forwarded => "forwarded",
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        for line in lines.into_iter().rev() {
            let Ok(line) = line.to_str() else { return client };
            for element in line.rsplit(',') {
                let said = match self.header {
                    ClientAddressHeader::XForwardedFor => address(element),
                    ClientAddressHeader::Forwarded => forwarded(element, "for").and_then(address),
                };
                let Some(said) = said else { return client };
                client = said;
                if !self.trusts(client.ip()) {
                    return client;
                }
            }
        }
        client
    }
}

/// An address with or without a port, an IPv6 one with or without brackets. The port is 0 where none is said.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let address = text.parse::<SocketAddr>().or_else(|error| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0)).map_err(|_| error)
    });
    address.ok().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
}

/// A parameter, `proto` say, of the element that the nearest proxy has added.
pub(crate) fn said_last<'a>(headers: &'a HeaderMap, parameter: &str) -> Option<&'a str> {
    let line = headers.get_all(FORWARDED).iter().next_back()?.to_str().ok()?;
    forwarded(line.rsplit(',').next()?, parameter)
}

/// A parameter of one element. A comma or semicolon inside quotes makes it one that is not understood, which no address has.
fn forwarded<'a>(element: &'a str, parameter: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case(parameter) {
            return None;
        }
        let value = value.trim();
        Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn proxies(header: ClientAddressHeader) -> TrustedProxies {
        let networks = ["127.0.0.0/8", "10.0.0.0/8", "::1/128", "fd00::/8"];
        TrustedProxies::new(networks.map(|network| network.parse().unwrap()).to_vec(), header)
    }

    fn client(peer: &str, header: ClientAddressHeader, lines: &[&str]) -> String {
        let name = match header {
            ClientAddressHeader::XForwardedFor => "x-forwarded-for",
            ClientAddressHeader::Forwarded => "forwarded",
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        // The other header is no proxy's, and says nothing.
        let other = if name == "forwarded" { "x-forwarded-for" } else { "forwarded" };
        headers.append(other, HeaderValue::from_static("for=6.6.6.6"));
        let client = proxies(header).client(peer.parse().unwrap(), &headers);
        if client.port() == 0 { client.ip().to_string() } else { client.to_string() }
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_is_the_clients() {
        let local = "127.0.0.1:5";
        for (peer, lines, expected) in [
            (local, &["203.0.113.7"] as &[_], "203.0.113.7"),
            (local, &["203.0.113.7, 10.1.2.3"], "203.0.113.7"),
            (local, &["6.6.6.6, 203.0.113.7, 10.1.2.3 , 10.9.9.9"], "203.0.113.7"),
            (local, &["6.6.6.6", "7.7.7.7, 203.0.113.7", "10.1.2.3"], "203.0.113.7"),
            (local, &["127.0.0.1, 203.0.113.7"], "203.0.113.7"),
            (local, &["203.0.113.7:4711"], "203.0.113.7:4711"),
            (local, &["2001:db8::7"], "2001:db8::7"),
            (local, &["[2001:db8::7]"], "2001:db8::7"),
            (local, &["[2001:db8::7]:4711, fd00::1"], "[2001:db8::7]:4711"),
            (local, &["::ffff:203.0.113.7"], "203.0.113.7"),
            ("[::ffff:127.0.0.1]:5", &["203.0.113.7"], "203.0.113.7"),
            ("[::1]:5", &["203.0.113.7"], "203.0.113.7"),
            ("10.0.0.1:5", &["203.0.113.7"], "203.0.113.7"),
            // All are proxies: the first of them.
            (local, &["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
            (local, &[], "127.0.0.1:5"),
            // What is no address ends it where it stands.
            (local, &["unknown"], "127.0.0.1:5"),
            (local, &[""], "127.0.0.1:5"),
            (local, &["203.0.113.7, garbage, 10.0.0.8"], "10.0.0.8"),
            (local, &["203.0.113.7,"], "127.0.0.1:5"),
            (local, &["203.0.113.7:99999"], "127.0.0.1:5"),
            (local, &["203.0.113.007"], "127.0.0.1:5"),
            (local, &["<script>, 203.0.113.7 6.6.6.6"], "127.0.0.1:5"),
            // Of anybody else nothing is believed.
            ("198.51.100.9:5", &["203.0.113.7"], "198.51.100.9:5"),
            ("[::ffff:198.51.100.9]:5", &["127.0.0.1"], "198.51.100.9:5"),
            ("[2001:db8::9]:5", &["127.0.0.1"], "[2001:db8::9]:5"),
        ] {
            let found = client(peer, ClientAddressHeader::XForwardedFor, lines);
            assert_eq!(found, expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_where_it_is_the_header() {
        for (lines, expected) in [
            (&["for=203.0.113.7"] as &[_], "203.0.113.7"),
            (&["For=203.0.113.7;proto=https;by=10.0.0.1"], "203.0.113.7"),
            (&["proto=https; FOR=\"203.0.113.7:4711\""], "203.0.113.7:4711"),
            (&["for=6.6.6.6, for=\"[2001:db8::7]:4711\";host=a", "for=10.0.0.1"], "[2001:db8::7]:4711"),
            (&["for=unknown, for=10.0.0.1"], "10.0.0.1"),
            (&["for=_hidden"], "127.0.0.1:5"),
            (&["proto=https"], "127.0.0.1:5"),
            (&["for=203.0.113.7;host=\"a,b\""], "127.0.0.1:5"),
        ] {
            assert_eq!(client("127.0.0.1:5", ClientAddressHeader::Forwarded, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_unasked() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.7"));
        let peer = "127.0.0.1:5".parse().unwrap();
        assert_eq!(TrustedProxies::default().client(peer, &headers), peer);
    }

    proptest! {
        #[test]
        fn what_a_client_writes_changes_nothing_of_what_his_proxy_says(
            spoofed in prop::collection::vec("[ -~]{0,40}", 0..4), client in any::<u32>(), hops in 0..3usize,
        ) {
            let client = IpAddr::from(client.to_be_bytes());
            let proxies = proxies(ClientAddressHeader::XForwardedFor);
            prop_assume!(!proxies.trusts(client));
            let mut headers = HeaderMap::new();
            for line in spoofed {
                headers.append("x-forwarded-for", HeaderValue::from_str(&line).unwrap());
            }
            // Some proxies append to the last line, some add a line.
            headers.append("x-forwarded-for", HeaderValue::from_str(&format!("6.6.6.6, {client}")).unwrap());
            for hop in 0..hops {
                headers.append("x-forwarded-for", HeaderValue::from_str(&format!("10.0.0.{hop}")).unwrap());
            }
            prop_assert_eq!(proxies.client("127.0.0.1:5".parse().unwrap(), &headers).ip(), client);
        }

        #[test]
        fn nothing_said_by_a_stranger_counts(lines in prop::collection::vec("[ -~]{0,60}", 0..4), peer in any::<[u8; 4]>()) {
            let (peer, proxies) = (SocketAddr::from((peer, 7)), proxies(ClientAddressHeader::XForwardedFor));
            prop_assume!(!proxies.trusts(peer.ip()));
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_str(&line).unwrap());
            }
            prop_assert_eq!(proxies.client(peer, &headers), peer);
        }
    }
}
