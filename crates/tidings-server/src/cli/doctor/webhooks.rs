//! Whether somebody listens where the webhooks go.

use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use tokio::net::TcpStream;

use super::diagnosis::Diagnosis;

/// Who has not taken a connection by then does not.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// `url` is the one of `[webhooks]`, and this the server's machine.
pub(super) async fn look(url: &Uri, diagnosis: &mut Diagnosis) {
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port_default = if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let port = url.port_u16().unwrap_or(port_default);
    let why = match tokio::time::timeout(CONNECT_MAX, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => return diagnosis.fine("webhooks", format!("somebody listens at {host}:{port}")),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection in {CONNECT_MAX:?}"),
    };
    diagnosis.found(
        "webhook_unreachable",
        "nobody listens where the webhooks go",
        format!("[webhooks] url leads to {host}:{port}: {why}"),
        "start the application, or correct [webhooks] url: it has the application's own port",
    );
}
