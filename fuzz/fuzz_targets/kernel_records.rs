//! Events of the kernel side to rows.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| llmtrace_cli::fuzzing::kernel_records(bytes));
