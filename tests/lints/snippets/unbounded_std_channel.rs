//! refused: clippy::disallowed_methods

fn main() {
    drop(std::sync::mpsc::channel::<u8>());
}
