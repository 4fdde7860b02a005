//! Encoders and decoders of all tables, and the writer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_testing::targets::round_trip(bytes));
