//! Starts the chat, and ends it. Where everything is, the environment says: `.env.example`.

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::time::Duration;
use std::{env, fs};

use chat::app::App;
use chat::database::Database;
use chat::realtime::Realtime;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How long pages have to move away at the end.
const DRAIN_WINDOW: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A file that is not there says nothing, and what is in the environment already counts more.
    dotenvy::dotenv().ok();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let log = tracing_subscriber::fmt().with_env_filter(filter.from_env_lossy());
    log.with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();

    let secret_file = setting("TIDINGS_SECRET_FILE", "tidings.secret");
    let secret = fs::read_to_string(&secret_file)
        .map_err(|error| format!("{secret_file}: {error}: openssl rand -hex 32 > {secret_file}"))?;
    let database = Database::open(setting("DATABASE", "chat.db").as_ref()).await?;
    let redis_url = env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    let realtime = Realtime::start(&database, secret.trim(), redis_url.as_deref())?;
    let app = App { database, realtime };

    let port = setting("PORT", "3000").parse()?;
    let listener = TcpListener::bind((setting("HOST", "127.0.0.1"), port)).await?;
    println!("The chat is at http://{}/", listener.local_addr()?);
    let service = app
        .router()
        .into_make_service_with_connect_info::<SocketAddr>();
    let hub = app.realtime.hub.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            // axum does not see sockets that were upgraded, so the hub sends them away first.
            hub.drain(DRAIN_WINDOW).await;
        })
        .await?;
    app.database.close().await;
    Ok(())
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}
