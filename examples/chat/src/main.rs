//! A chat on an axum application of one's own: login, database and pages are the application's, rooms are Tidings'.

mod app;
mod database;
mod handlers;
mod login;
mod memberships;
mod pages;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;

/// How long clients have to move away at the end.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);

/// A chat with a login, on one port
#[derive(Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// The database, made if it is not there
    #[arg(long, value_name = "FILE", default_value = "chat.db")]
    database: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let log = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env());
    log.with_writer(std::io::stderr).init();
    let app = App::open(&arguments.database).await?;
    let hub = app.authenticated_hub()?;
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    println!("The chat is at http://{}/", listener.local_addr()?);
    let router = app.router(&hub).into_make_service_with_connect_info::<SocketAddr>();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = axum::serve(listener, router) => ended?,
        _ = terminate.recv() => drop(hub.drain(DRAIN_WINDOW).await),
        _ = tokio::signal::ctrl_c() => drop(hub.drain(DRAIN_WINDOW).await),
    }
    Ok(())
}
