//! The upgrade to a WebSocket, over TLS where the URL wants that and the feature `tls` is on.

use http::Request;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A WebSocket, over TLS or not.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How servers prove who they are.
pub(crate) struct Tls {
    #[cfg(feature = "tls")]
    connector: Option<tokio_tungstenite::Connector>,
}

#[cfg(feature = "tls")]
impl Tls {
    /// By the authorities that the system trusts.
    pub(crate) fn by_the_system() -> Self {
        use std::sync::Arc;

        use rustls::crypto::{CryptoProvider, aws_lc_rs};
        use rustls::{ClientConfig, RootCertStore};

        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
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
