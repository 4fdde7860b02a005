//! Hostile binaries: symbols, prologues, loops, learned tables.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_cli::fuzzing::binary(bytes));
