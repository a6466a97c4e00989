//! Three nodes that share their rooms through Redis, behind a round robin without stickiness, and a page that shows which
//! of them served what.
//!
//! One command starts all of it: this program is the balancer and starts itself three times more, as the nodes, and a
//! `redis-server` if none is named.

mod balancer;
mod node;
mod pages;
mod processes;

use std::net::SocketAddr;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::balancer::Balancer;
use crate::processes::{Nodes, RedisProcess};

/// Three nodes behind one address
#[derive(Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3002")]
    listen: SocketAddr,
    /// A Redis that runs already, instead of one that is started for this: redis://host[:port]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Be one of the nodes: what the balancer starts
    #[arg(long, value_name = "NAME", hide = true, requires = "redis")]
    node: Option<String>,
}

type Fault = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let arguments = Arguments::parse();
    let log = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env());
    log.with_writer(std::io::stderr).init();
    match (arguments.node, arguments.redis) {
        (Some(name), Some(redis)) => node::run(name, &redis).await,
        (_, redis) => balance(arguments.listen, redis).await,
    }
}

/// Starts everything and serves until it is told to end.
async fn balance(listen: SocketAddr, redis: Option<String>) -> Result<(), Fault> {
    // Ends with this function, and Redis with it.
    let mut started = None;
    let url = match redis {
        Some(url) => url,
        None => started.insert(RedisProcess::start().await?).url(),
    };
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let nodes = Nodes::start(&url, secret).await?;
    let balancer = Balancer::bind(listen, nodes.clone(), secret).await?;
    println!("Three nodes are behind http://{}/", balancer.address());
    println!("Open it, and kill one of them there.");
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = balancer.serve() => {}
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    nodes.end().await;
    Ok(())
}
