//! Messages of both directions on any bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::envelope(input));
