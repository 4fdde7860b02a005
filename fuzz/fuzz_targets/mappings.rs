//! Lines of /proc/PID/maps.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_cli::fuzzing::mappings(bytes));
