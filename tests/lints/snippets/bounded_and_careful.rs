//! accepted

fn main() {
    drop(tokio::sync::mpsc::channel::<u8>(8));
    drop(std::sync::mpsc::sync_channel::<u8>(8));
}

#[test]
fn unwraps_in_a_test() {
    assert_eq!("1".parse::<u8>().unwrap(), 1);
    assert_eq!("2".parse::<u8>().expect("a digit"), 2);
}
