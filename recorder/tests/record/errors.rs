//! Bad input: one clear error that says what to do, and exit code 2.

use crate::workload::{Run, recorder};
use std::process::Command;

/// Runs the recorder; its error, after checking that there is only one line.
fn error(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    assert!(text.starts_with("llmtrace: "), "{text}");
    text
}

#[test]
#[ignore = "needs root"]
fn process_that_does_not_exist() {
    let run = Run::new();
    assert!(error(&mut recorder(&run, &["-p", "4194300"])).contains("no such process: 4194300"));
    assert!(!run.trace.exists());
    assert!(
        error(&mut recorder(&run, &["-n", "no-such-name"])).contains("no process is named `no-such-name`")
    );
}

#[test]
#[ignore = "needs root"]
fn process_without_ggml_says_what_was_looked_for() {
    let run = Run::new();
    let mut sleep = Command::new("sleep").arg("60").spawn().unwrap();
    let text = error(&mut recorder(&run, &["-p", &sleep.id().to_string()]));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(text.contains("has no ggml") && text.contains("ggml_graph_compute"), "{text}");
    assert!(text.contains("mapped files"), "{text}");
    assert!(!run.trace.exists());
}

#[test]
#[ignore = "needs root"]
fn command_that_does_not_exist() {
    let run = Run::new();
    assert!(
        error(recorder(&run, &[]).args(["--", "no-such-command"]))
            .contains("command not found: no-such-command")
    );
}

#[test]
#[ignore = "needs root"]
fn output_that_cannot_be_written_ends_before_the_command_runs() {
    let mut run = Run::new();
    let mark = run.trace.with_extension("mark");
    let touch = ["--", "touch", mark.to_str().unwrap()];
    let good = run.trace.clone();
    run.trace = good.with_file_name("missing/out.llmtrace");
    let text = error(recorder(&run, &[]).args(touch));
    assert!(text.contains("name another with -o") && text.contains("missing/out.llmtrace"), "{text}");
    run.trace = good;
    std::fs::write(&run.trace, "precious").unwrap();
    assert!(error(recorder(&run, &[]).args(touch)).contains("is not an .llmtrace file"));
    assert_eq!(std::fs::read_to_string(&run.trace).unwrap(), "precious");
    assert!(!mark.exists());
}

#[test]
#[ignore = "needs root"]
fn folder_of_somebody_else_is_not_written_for_the_caller_of_sudo() {
    let run = Run::new();
    let mut command = recorder(&run, &[]);
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    assert!(error(command.args(["--", "true"])).contains("Permission denied"));
}

#[test]
#[ignore = "needs root"]
fn without_privileges_it_says_what_is_missing() {
    let run = Run::new();
    let inner = recorder(&run, &["-p", "1"]);
    // Under a folder that only root may enter, somebody else could not even start it.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-bpf,-perfmon,-sys_admin", "--inh-caps=-bpf,-perfmon,-sys_admin"]);
    command.arg(inner.get_program()).args(inner.get_args());
    assert!(error(&mut command).contains("CAP_BPF"));
}

#[test]
#[ignore = "needs root"]
fn no_target_and_two_targets_are_refused() {
    let run = Run::new();
    assert!(error(&mut recorder(&run, &[])).contains("-p PID"));
    let output = recorder(&run, &["-p", "1"]).args(["--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
