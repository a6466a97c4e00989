//! refused: clippy::unwrap_used

fn main() {
    let first = std::env::args().next();
    drop(first.unwrap());
}
