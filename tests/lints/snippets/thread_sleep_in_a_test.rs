//! refused: clippy::disallowed_methods

fn main() {}

#[test]
fn waits_for_something() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}
