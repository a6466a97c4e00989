//! refused: clippy::expect_used

fn main() {
    let first = std::env::args().next();
    drop(first.expect("a program has a name"));
}
