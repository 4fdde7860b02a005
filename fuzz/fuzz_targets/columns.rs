//! Every decoder of a column.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_testing::targets::decode_column(bytes));
