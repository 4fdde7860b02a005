//! Writes man pages and completions for shells: `cargo run -p llmtrace --example manual -- FOLDER`.

use clap_complete::{Shell, generate_to};
use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "target/manual".into());
    let (pages, completions) = (Path::new(&folder).join("man"), Path::new(&folder).join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    let mut command = llmtrace_cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "llmtrace", &completions)?;
    }
    // Pages of `help`'s own subcommands would say the same again.
    clap_mangen::generate_to(command.disable_help_subcommand(true), &pages)
}
