//! Hostile files on the command line: an answer or one clear message, and nothing that a terminal
//! obeys.

use llmtrace_testing::hostile;
use std::process::Command;

#[test]
fn hostile_files_are_answered_or_refused_and_nothing_odd_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for file in hostile::all().unwrap() {
        let path = folder.path().join(format!("{}.llmtrace", file.name));
        std::fs::write(&path, &file.bytes).unwrap();
        // A million spans take a while without optimisation.
        let commands: &[&str] = match file.name {
            "constant-spans" => &["info"],
            _ => &["info", "summary", "stats", "explain", "experts", "check"],
        };
        for command in commands {
            let output =
                Command::new(env!("CARGO_BIN_EXE_llmtrace")).arg(command).arg(&path).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            let what = format!("{command} {}: {said}", file.name);
            assert!(matches!(output.status.code(), Some(0..=2)), "{what}");
            assert!(!said.contains("panicked"), "{what}");
            let odd = said.chars().find(|c| {
                (c.is_control() && *c != '\n')
                    || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
            assert_eq!(odd, None, "{}", what.escape_debug());
            if *command == "check"
                && let Some(problem) = file.problem
            {
                assert_eq!(output.status.code(), Some(1), "{what}");
                assert!(said.contains(meaning(problem)), "{what}");
            }
        }
    }
}

/// A piece of what `check` says of a problem.
fn meaning(problem: &str) -> &'static str {
    match problem {
        "too_large" => "larger than a file of this length can need",
        "no_footer" => "was not closed",
        "damaged" => "cannot be read",
        "overlap" => "begins before the one before",
        "duplicate_id" => "given before",
        "no_graph" => "graphs that do not exist",
        _ => "",
    }
}
