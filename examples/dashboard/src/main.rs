//! A live dashboard: samples of this machine once a second, for viewers who only listen.

mod board;
mod pages;
mod sampler;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use clap::Parser;
use tidings::auth::Jwt;
use tidings::{Hub, Limits};
use tokio::signal::unix::{SignalKind, signal};

use crate::sampler::Sampler;

/// How long viewers have to move away at the end.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);

/// How long a viewer's socket may take nothing. One that reads a message a second makes room only now and then, and
/// nothing waits for him here meanwhile.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// A dashboard of this machine
#[derive(Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3001")]
    listen: SocketAddr,
    /// Milliseconds from one sample of everything to the next
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
    interval_ms: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let log = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env());
    log.with_writer(std::io::stderr).init();
    // A page asks for a token whenever it connects, so the secret need not outlive the server.
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let mut limits = Limits::default();
    limits.stalled_duration_max = STALLED_MAX;
    let hub = Hub::builder().authenticate(Jwt::hs256(&secret)?).rule(board::rule()).limits(limits).build()?;
    let samples =
        tokio::spawn(publish(hub.clone(), Sampler::new()?, Duration::from_millis(arguments.interval_ms)));
    let router = Router::new()
        .merge(pages::router())
        .route("/token", get(move || pages::token(Arc::from(secret))))
        .route("/ws", hub.route())
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    println!("The dashboard is at http://{}/", listener.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = axum::serve(listener, router) => ended?,
        ended = samples => ended?,
        _ = terminate.recv() => drop(hub.drain(DRAIN_WINDOW).await),
        _ = tokio::signal::ctrl_c() => drop(hub.drain(DRAIN_WINDOW).await),
    }
    Ok(())
}

/// Publishes samples for as long as it is polled. The pump of a dashboard: it knows the room and no viewer.
async fn publish(hub: Hub, mut sampler: Sampler, interval: Duration) {
    let board = hub.room(&board::room());
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        for sample in sampler.samples(hub.metrics().connections) {
            if let Err(error) = board.broadcast("sample", &sample).await {
                tracing::warn!(%error, series = sample.series, "a sample was not published");
            }
        }
    }
}
