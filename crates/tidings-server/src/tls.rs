//! TLS in front of a listener: a certificate and its key from files, which are read again at SIGHUP.
//!
//! rustls with aws-lc-rs, named outright, so that no other crate's choice of a provider counts here.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio::signal::unix::Signal;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, info};

use crate::failure::Failure;

/// All that is spoken here; whoever offers more is told so.
const PROTOCOL: &[u8] = b"http/1.1";
/// The first byte of what a client that speaks TLS sends.
const HANDSHAKE_RECORD: u8 = 0x16;
/// What the kernel may hold unsent of a connection: it would take megabytes of one that does not read, and all of them old
/// by the time they are read.
const UNSENT_BYTES_MAX: u32 = 16 * 1024;

/// What a client is told that does not speak TLS where nothing else is spoken.
const NOT_TLS: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
     content-length: 194\r\n\r\n\
     {\"type\":\"urn:tidings:tls_required\",\"title\":\"Bad Request\",\"status\":400,\"code\":\"tls_required\",\
     \"detail\":\"this port speaks TLS alone\",\"fix\":\"use https:// or wss:// in the place of http:// or ws://\"}";

/// A certificate and its key, as they are now.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    files: Arc<Files>,
    current: Arc<Mutex<Arc<ServerConfig>>>,
}

/// Where they are, and how the configuration calls the place: `[tls]`.
#[derive(Debug)]
struct Files {
    section: &'static str,
    certificate: PathBuf,
    key: PathBuf,
}

impl Tls {
    /// Reads them, for the section of the configuration that names them: `tls`, `admin.tls`.
    ///
    /// # Errors
    /// A configuration's failure that names the file.
    pub(crate) fn read(section: &'static str, certificate: PathBuf, key: PathBuf) -> Result<Self, Failure> {
        let files = Files { section, certificate, key };
        let current = Arc::new(Mutex::new(files.load()?));
        Ok(Self { files: Arc::new(files), current })
    }

    /// TLS on a socket that has just been accepted. Nothing here limits its time.
    ///
    /// # Errors
    /// When the client speaks something else, or hangs up.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        silence_max: Duration,
    ) -> io::Result<TlsStream<TcpStream>> {
        prepare(&stream, silence_max);
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE_RECORD {
            // It fits the socket's empty buffer.
            let _ = stream.try_write(NOT_TLS.as_bytes());
            drain(&stream);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS"));
        }
        let current = Arc::clone(&self.current.lock());
        TlsAcceptor::from(current).accept(stream).await
    }

    /// Reads the files anew. Where that fails, what was read last goes on counting.
    fn renew(&self) {
        match self.files.load() {
            Ok(config) => {
                *self.current.lock() = config;
                info!(certificate = %self.files.certificate.display(), "the certificate was read again");
            }
            Err(failure) => error!(%failure, "the certificate stays the one that it was"),
        }
    }
}

/// Reads all certificates again at each of these signals, for as long as it is polled.
pub(crate) async fn renew_at(mut hangups: Signal, all: &[Tls]) -> Infallible {
    while hangups.recv().await.is_some() {
        for tls in all {
            tls.renew();
        }
    }
    std::future::pending().await
}

impl Files {
    fn load(&self) -> Result<Arc<ServerConfig>, Failure> {
        let chain = self.read("certificate_file", &self.certificate)?;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(chain.expose_secret().as_bytes()).collect();
        let chain = chain.map_err(|error| {
            self.unusable("certificate_file", &self.certificate, &error).fix(
                "name a PEM file that begins with the server's certificate, and has those between it and the authority",
            )
        })?;
        if chain.is_empty() {
            return Err(self
                .unusable("certificate_file", &self.certificate, &"there is no certificate in it")
                .fix("name a PEM file with a -----BEGIN CERTIFICATE----- in it"));
        }
        let key = self.read("key_file", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).map_err(|error| {
            self.unusable("key_file", &self.key, &error)
                .fix("name a PEM file with an unencrypted private key: PKCS#8, PKCS#1 or SEC1")
        })?;
        let provider = aws_lc_rs::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| {
            self.unusable("certificate_file", &self.certificate, &format_args!("with its key_file: {error}"))
                .fix("name the key that the certificate was made for, and a certificate that is not older than X.509 v3")
        })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Clients that come back, as all of them do at once when a node has gone, need no signature of ours.
        config.ticketer = aws_lc_rs::Ticketer::new()
            .map_err(|error| Failure::failed(format_args!("no keys for TLS tickets: {error}")))?;
        Ok(Arc::new(config))
    }

    fn read(&self, key: &str, file: &Path) -> Result<SecretString, Failure> {
        std::fs::read_to_string(file).map(SecretString::from).map_err(|error| {
            self.unusable(key, file, &error)
                .fix("name a file that this user can read; the path is relative to the configuration")
        })
    }

    fn unusable(&self, key: &str, file: &Path, why: &dyn Display) -> Failure {
        let section = self.section;
        Failure::config(format_args!("[{section}] {key} {}: {why}", file.display()))
            .key(format_args!("{section}.{key}"))
    }
}

/// What the hub does for plain sockets. Those below TLS it never sees.
fn prepare(stream: &TcpStream, silence_max: Duration) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    #[cfg(target_os = "linux")]
    {
        let socket = socket2::SockRef::from(stream);
        if let Err(error) = socket.set_tcp_user_timeout(Some(silence_max)) {
            debug!(%error, "no TCP_USER_TIMEOUT");
        }
        if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
            debug!(%error, "no TCP_NOTSENT_LOWAT");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = silence_max;
}

/// Takes out what has been sent already: closing over unread bytes would reset the answer away.
fn drain(stream: &TcpStream) {
    let mut unread = [0; 4096];
    let _ = stream.try_read(&mut unread);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_speak_tls_is_told_the_length_of_what_he_is_told() {
        let (head, body) = NOT_TLS.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], "tls_required");
    }

    #[test]
    fn files_that_are_none_are_told_with_a_fix() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty.pem"), "").unwrap();
        std::fs::write(
            folder.path().join("broken.pem"),
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        for (certificate, told) in [
            ("none.pem", "[tls] certificate_file"),
            ("empty.pem", "there is no certificate in it"),
            ("broken.pem", "[tls] certificate_file"),
        ] {
            let failure = Tls::read("tls", folder.path().join(certificate), folder.path().join("none.key"));
            let shown = failure.unwrap_err().texts().concat();
            assert!(
                shown.contains(told) && shown.contains(certificate) && shown.contains("  fix: "),
                "{shown}"
            );
        }
    }
}
