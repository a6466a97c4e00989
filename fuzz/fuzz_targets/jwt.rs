//! Tokens from any text, and any claims properly signed.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::jwt(input));
