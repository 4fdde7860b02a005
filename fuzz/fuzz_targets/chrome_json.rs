//! Import of Chrome trace JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_cli::fuzzing::chrome_json(bytes));
