//! What the machine gives a server: open files, and its ports.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::configured::Configured;
use super::diagnosis::Diagnosis;
use super::local;
use crate::cli::target::{Problem, Target};
use crate::http_client::Answer;
use crate::open_files;

/// A server with fewer connections is one for trying things.
const CONNECTIONS_MIN: usize = 1000;

/// Whether a server of this user's may open as many files as it has connections to let in.
pub(super) fn open_files(configured: Option<&Configured>, diagnosis: &mut Diagnosis) {
    let (room, open_files_max) = open_files::allowed();
    let wanted =
        configured.map_or(CONNECTIONS_MIN, |configured| configured.connections_max().max(CONNECTIONS_MIN));
    let max = open_files_max.map_or_else(|| "any number of".to_owned(), |max| max.to_string());
    if room >= wanted {
        return diagnosis.fine("open_files", format!("{max} open files"));
    }
    diagnosis.found(
        "open_files",
        format!("there is room for {room} connections, and {wanted} are wanted"),
        format!("the hard limit of open files is {max}, of which connections have four fifths"),
        format!(
            "raise it to {}: LimitNOFILE= of the unit, --ulimit nofile= of the container, ulimit -Hn",
            wanted / 4 * 5 + 1
        ),
    );
}

/// Whether a server with this configuration has its ports, or is there already.
pub(super) async fn ports(configured: &Configured, diagnosis: &mut Diagnosis) -> bool {
    let public = port("listen", configured.listen(), configured.has_tls(), diagnosis).await;
    match configured.admin() {
        Some(admin) => port("[admin] listen", admin, false, diagnosis).await && public,
        None => public,
    }
}

async fn port(key: &str, address: SocketAddr, has_tls: bool, diagnosis: &mut Diagnosis) -> bool {
    if address.port() == 0 {
        diagnosis.not_judged("port_in_use", format!("{key} = {address} leaves the port to the system"));
        return true;
    }
    let fault = match TcpListener::bind(address) {
        Ok(_) => {
            diagnosis.fine("port_in_use", format!("{key} = {address} is free: no server runs there"));
            return true;
        }
        Err(fault) => fault,
    };
    if fault.kind() == ErrorKind::AddrInUse && is_tidings_at(address, has_tls).await {
        diagnosis.fine("port_in_use", format!("a Tidings server runs at {key} = {address}"));
        return true;
    }
    let (message, fix) = match fault.kind() {
        ErrorKind::AddrInUse => (
            format!("another program listens at {address}"),
            format!("end it (ss -ltnp says which), or choose another {key}"),
        ),
        ErrorKind::PermissionDenied => (
            format!("this user may not listen at {address}"),
            format!(
                "choose a port from 1024 on as {key}, or AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit"
            ),
        ),
        _ => {
            (format!("nobody can listen at {address}"), format!("choose an address of this machine as {key}"))
        }
    };
    diagnosis.found("port_in_use", message, format!("{key} = {address}: {fault}"), fix);
    false
}

async fn is_tidings_at(address: SocketAddr, has_tls: bool) -> bool {
    let Ok(target) = local(address, "/ws", has_tls).and_then(|url| Target::parse(&url)) else { return false };
    match target.get("/health/live").await {
        Ok(answer) => is_alive(&answer) || Problem::of(&answer).code() == "tls_required",
        // Its certificate is for its name, and not for this address.
        Err(why) => has_tls && why.to_string().contains("certificate"),
    }
}

/// Whether this is what a Tidings server says of its health.
pub(super) fn is_alive(answer: &Answer) -> bool {
    answer.status.is_success() && answer.body.trim_ascii() == b"live"
}
