//! Event ids and cursors from any text.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::cursor(input));
