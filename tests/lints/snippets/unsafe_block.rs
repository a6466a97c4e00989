//! refused: unsafe_code

fn main() {
    let byte = 7_u8;
    let pointer = &raw const byte;
    drop(unsafe { pointer.read() }.to_string());
}
