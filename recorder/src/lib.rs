//! `llmtrace`: records a running llama.cpp, and reads what it recorded.
//!
//! `record` is for Linux; the commands that read work anywhere. The program is a library, so that
//! what reads strangers' bytes can be fuzzed (`fuzz/`); nothing else may use it.

#[cfg(target_os = "linux")]
mod binary;
mod ceilings;
mod cli;
#[doc(hidden)]
pub mod fuzzing;
mod read;
#[cfg(target_os = "linux")]
mod record;

use clap::{CommandFactory as _, Parser as _};
use std::process::ExitCode;

/// The command line, for what is made from it: man pages, completions.
#[doc(hidden)]
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format(|out, record| {
            use std::io::Write as _;
            let text = read::clean(&record.args().to_string());
            writeln!(out, "{}: {text}", record.level().as_str().to_lowercase())
        })
        .init();
    match cli::Cli::parse().run() {
        Ok(code) => ExitCode::from(code.clamp(0, 255) as u8),
        Err(error) => {
            // A process chooses its own name, and the names of its files.
            eprintln!("llmtrace: {}", read::clean(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}
