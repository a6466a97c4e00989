//! The validator on any data, and any JSON as a schema.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tidings_fuzz::schema(input));
