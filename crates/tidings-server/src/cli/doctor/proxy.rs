//! Whether all clients seem to come from one address, because the proxy before the server is not believed.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{SERVER, VIA};

use super::configured::Configured;
use super::diagnosis::Diagnosis;
use super::reach::Server;
use crate::cli::target::Target;

/// Servers that stand before others. Tidings itself does not say what it is.
const PROXIES: [&str; 7] = ["nginx", "caddy", "envoy", "cloudflare", "apache", "haproxy", "openresty"];

pub(super) fn one_address(
    target: &Target,
    server: &Server,
    configured: Option<&Configured>,
    diagnosis: &mut Diagnosis,
) {
    if diagnosis.has("one_address") {
        return;
    }
    let named = |name| server.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let of_server = named(SERVER).filter(|text| {
        let text = text.to_ascii_lowercase();
        PROXIES.iter().any(|proxy| text.contains(proxy))
    });
    let Some(proxy) = named(VIA).or(of_server) else {
        return diagnosis.fine("one_address", "nothing says that a proxy is in between");
    };
    let Some(configured) = configured else {
        let why = format!("there is a proxy ({proxy}); --config FILE says whether the server believes it");
        return diagnosis.not_judged("one_address", why);
    };
    let listen = configured.listen().ip();
    // A server that listens on loopback alone hears of its proxy from there.
    let peer: Option<IpAddr> =
        (listen.is_loopback() || target.is_loopback).then(|| Ipv4Addr::LOCALHOST.into());
    match peer {
        Some(peer) if !configured.trusts(peer) => diagnosis.found(
            "one_address",
            "all clients count as one address, the proxy's: limits by address are for all of them together",
            format!("{proxy} is before the server at {}, and trusted_proxies does not name {peer}", configured.listen()),
            "trusted_proxies = [\"127.0.0.0/8\", \"::1\"], and let the proxy add the client's address to X-Forwarded-For",
        ),
        Some(_) => diagnosis.not_judged(
            "one_address",
            format!("{proxy} is believed; whether it adds the client's address to the header can't be seen from outside"),
        ),
        None => diagnosis.not_judged(
            "one_address",
            format!("{proxy} is before the server, at an address that can't be seen from here: trusted_proxies has to name it"),
        ),
    }
}
