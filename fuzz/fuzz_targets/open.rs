//! Opening, checking and repairing a file.
#![no_main]

llmtrace_fuzz::structured!();
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_testing::targets::open(bytes));
