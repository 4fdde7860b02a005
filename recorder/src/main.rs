//! `llmtrace`: records a running llama.cpp, and reads what it recorded.
//!
//! `record` is for Linux; the commands that read work anywhere.

#[cfg(target_os = "linux")]
mod binary;
mod cli;
mod read;
#[cfg(target_os = "linux")]
mod record;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format(|out, record| {
            use std::io::Write as _;
            writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), record.args())
        })
        .init();
    match cli::Cli::parse().run() {
        Ok(code) => ExitCode::from(code.clamp(0, 255) as u8),
        Err(error) => {
            eprintln!("llmtrace: {error:#}");
            ExitCode::from(2)
        }
    }
}
