//! Every decoder of a table.
#![no_main]

llmtrace_fuzz::structured!();
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_testing::targets::decode_tables(bytes));
