//! Where the token comes from: asked at every connect.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Why a token is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenAsk {
    /// The last one was refused or has expired: a stored one would be again.
    pub fresh: bool,
}

pub(crate) type TokenFuture =
    Pin<Box<dyn Future<Output = Result<Option<String>, Box<dyn Error + Send + Sync>>> + Send>>;

/// Gives a token, or none where nobody is logged in.
#[derive(Clone)]
pub(crate) struct TokenProvider(Arc<dyn Fn(TokenAsk) -> TokenFuture + Send + Sync>);

impl TokenProvider {
    pub(crate) fn new<F, E>(provider: impl Fn(TokenAsk) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<String>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        Self(Arc::new(move |ask| {
            let asked = provider(ask);
            Box::pin(async move { asked.await.map_err(Into::into) })
        }))
    }

    pub(crate) fn ask(&self, ask: TokenAsk) -> TokenFuture {
        (self.0)(ask)
    }
}
