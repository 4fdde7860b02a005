//! Everything that is answered about a file, and what is written from it.
#![no_main]

llmtrace_fuzz::structured!();
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_testing::targets::answers(bytes));
