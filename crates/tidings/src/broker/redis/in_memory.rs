//! Redis within the process of a test: connections are made by the test, and all that goes over them is what goes to a
//! real server.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates};
use tokio::io::DuplexStream;

use super::address::{Address, Place};
use super::error::CallError;
use super::leases::LEASE_DEFAULT;
use super::{CONNECTIONS_DEFAULT, Keyspace, Lineage, Redis};

/// A connection that is being made.
type Dialled = Pin<Box<dyn Future<Output = io::Result<DuplexStream>> + Send>>;

/// Makes connections.
#[derive(Clone)]
pub(super) struct Dial(Arc<dyn Fn() -> Dialled + Send + Sync>);

impl Dial {
    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, CallError> {
        let stream = (self.0)().await.map_err(RedisError::from)?;
        let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        // The two ends of a connection live in one task, which the last of its holders ends.
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, stream, config.clone()).await?;
        drop(tokio::spawn(driver));
        Ok(connection)
    }
}

impl Redis {
    /// Redis at the other end of what `dial` makes: for simulations.
    #[must_use]
    pub fn in_memory<F>(dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<DuplexStream>> + Send + 'static,
    {
        Self {
            address: Address::One(Place::InMemory(Dial(Arc::new(move || Box::pin(dial()))))),
            keyspace: Keyspace::default(),
            connections: CONNECTIONS_DEFAULT,
            lineage: Lineage::ReplicationId,
            certificates: TlsCertificates { client_tls: None, root_cert: None },
            lease: LEASE_DEFAULT,
            presence_lease: super::presence::LEASE_DEFAULT,
        }
    }
}
