//! `llmtrace`, the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    llmtrace_cli::main()
}
