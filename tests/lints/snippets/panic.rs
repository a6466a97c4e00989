//! refused: clippy::panic

fn main() {
    if std::env::args().count() == 0 {
        panic!("a program has a name");
    }
}
