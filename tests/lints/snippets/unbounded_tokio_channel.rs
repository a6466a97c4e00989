//! refused: clippy::disallowed_methods

fn main() {
    drop(tokio::sync::mpsc::unbounded_channel::<u8>());
}
