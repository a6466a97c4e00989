//! The upgrade to a WebSocket, over TLS where the URL wants that and the feature `tls` is on.

#[cfg(feature = "tls")]
use std::sync::Arc;

use http::Request;
#[cfg(feature = "tls")]
use rustls::crypto::{CryptoProvider, aws_lc_rs};
#[cfg(feature = "tls")]
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
#[cfg(feature = "tls")]
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A WebSocket, over TLS or not.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How servers prove who they are.
#[derive(Clone)]
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    connector: Option<tokio_tungstenite::Connector>,
}

/// What was given as an authority's certificate is none.
#[cfg(feature = "tls")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidCertificate(String);

#[cfg(feature = "tls")]
impl std::fmt::Display for InvalidCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(feature = "tls")]
impl std::error::Error for InvalidCertificate {}

#[cfg(feature = "tls")]
impl Tls {
    /// By the authorities that the system trusts.
    pub(crate) fn by_the_system() -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::by(roots)
    }

    /// By one authority alone, or those of one file; PEM.
    pub(crate) fn by_authority(pem: &[u8]) -> Result<Self, InvalidCertificate> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| InvalidCertificate(error.to_string()))?;
            roots.add(certificate).map_err(|error| InvalidCertificate(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(InvalidCertificate("there is no certificate in it".to_owned()));
        }
        Ok(Self::by(roots))
    }

    fn by(roots: RootCertStore) -> Self {
        // An application that has installed another provider keeps that one.
        let provider = CryptoProvider::get_default().cloned();
        let provider = provider.unwrap_or_else(|| Arc::new(aws_lc_rs::default_provider()));
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok();
        let config =
            config.map(|config| Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
        Self { connector: config.map(tokio_tungstenite::Connector::Rustls) }
    }

    pub(crate) async fn upgrade(
        &self,
        request: Request<()>,
        stream: TcpStream,
        config: WebSocketConfig,
    ) -> Result<Socket, Error> {
        let connector = self.connector.clone();
        let upgrading =
            tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), connector);
        Ok(upgrading.await?.0)
    }
}

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(crate) fn by_the_system() -> Self {
        Self {}
    }

    pub(crate) async fn upgrade(
        &self,
        request: Request<()>,
        stream: TcpStream,
        config: WebSocketConfig,
    ) -> Result<Socket, Error> {
        let stream = MaybeTlsStream::Plain(stream);
        Ok(tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?.0)
    }
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in ["", "none", "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n"] {
            assert!(Tls::by_authority(pem.as_bytes()).is_err(), "{pem}");
        }
    }
}
