//! refused: clippy::await_holding_lock

use std::sync::Mutex;

fn main() {
    drop(hold(&Mutex::new(1)));
}

async fn hold(shared: &Mutex<u8>) -> u8 {
    let Ok(held) = shared.lock() else { return 0 };
    std::future::ready(()).await;
    *held
}
