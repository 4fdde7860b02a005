//! Headers of model files.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_cli::fuzzing::model_header(bytes));
