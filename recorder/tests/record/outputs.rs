//! Nobody leads a trace, or what is printed, where it was not meant to go.

use crate::elsewhere::NOBODY;
use crate::errors::error;
use crate::workload::{Run, recorder};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Command;

const SOMEBODY: u32 = 65533;
const TRACE: &[u8] = b"LLMTRACE and more";

/// A folder as `/tmp` is: everybody may write, and remove what is theirs.
fn sticky() -> Run {
    let run = Run::new();
    fs::set_permissions(run.folder(), fs::Permissions::from_mode(0o1777)).unwrap();
    run
}

/// Records `true` for nobody, who called sudo.
fn for_nobody(run: &Run) -> Command {
    let mut command = recorder(run, &["-q"]);
    command.env("SUDO_UID", NOBODY.to_string()).env("SUDO_GID", NOBODY.to_string());
    command.args(["--", "true"]);
    command
}

fn file_of(owner: u32, path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn link_that_somebody_laid_is_not_followed() {
    let run = sticky();
    let precious = run.folder().join("precious");
    // Root's, the caller's own, and none at all.
    for owner in [Some(0), Some(NOBODY), None] {
        let _ = fs::remove_file(&precious);
        let _ = fs::remove_file(&run.trace);
        owner.into_iter().for_each(|owner| file_of(owner, &precious, TRACE));
        symlink(&precious, &run.trace).unwrap();
        std::os::unix::fs::lchown(&run.trace, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        assert!(error(&mut for_nobody(&run)).contains("a symbolic link, which is not followed"));
        assert_eq!(fs::read(&precious).ok(), owner.map(|_| TRACE.to_vec()));
    }
    // Root is not led either.
    assert!(error(recorder(&run, &[]).args(["--", "true"])).contains("a symbolic link"));
    assert!(!precious.exists());
}

#[test]
#[ignore = "needs root"]
fn trace_of_somebody_else_is_not_replaced_and_a_second_name_is_not_written_through() {
    let run = sticky();
    chown(run.folder(), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
    file_of(SOMEBODY, &run.trace, TRACE);
    let text = error(&mut for_nobody(&run));
    assert!(text.contains("cannot replace the earlier output file, name another with -o"), "{text}");
    assert_eq!(fs::read(&run.trace).unwrap(), TRACE);
    fs::remove_file(&run.trace).unwrap();

    // A second name for a file of the caller's: the name is replaced, the file is not.
    let precious = run.folder().join("precious");
    file_of(NOBODY, &precious, TRACE);
    fs::hard_link(&precious, &run.trace).unwrap();
    assert!(for_nobody(&run).status().unwrap().success());
    assert_eq!(fs::read(&precious).unwrap(), TRACE);
    let written = run.trace.metadata().unwrap();
    assert!(written.len() > TRACE.len() as u64 && written.uid() == NOBODY);
}

#[test]
#[ignore = "needs root"]
fn file_that_only_root_may_write_is_not_written_for_the_caller() {
    let mut run = Run::new();
    run.open_to_everybody();
    let private = run.folder().join("private");
    fs::create_dir(&private).unwrap();
    // The folder belongs to a group that root is in, and the caller is not.
    chown(&private, None, Some(SOMEBODY)).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o770)).unwrap();
    run.trace = private.join("run.llmtrace");
    let inner = for_nobody(&run);
    let mut command = Command::new("setpriv");
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["--groups", &SOMEBODY.to_string()]).arg(inner.get_program()).args(inner.get_args());
    assert!(error(&mut command).contains("Permission denied"));
    run.trace = "/proc/self/mem".into();
    assert!(error(&mut for_nobody(&run)).contains("cannot write"));
}

#[test]
#[ignore = "needs root"]
fn pipe_as_output_is_refused_and_not_waited_for() {
    let run = Run::new();
    assert!(Command::new("mkfifo").arg(&run.trace).status().unwrap().success());
    assert!(error(recorder(&run, &[]).args(["--", "true"])).contains("a pipe; name another file with -o"));
}

#[test]
#[ignore = "needs root"]
fn process_cannot_choose_where_it_is_recorded_or_what_the_terminal_does() {
    // Its name is that of its file: clear the screen, then a second line.
    let run = Run::new();
    let evil = run.folder().join("-\x1b[2J\nllmtrace: ok\u{202e}");
    fs::copy("/bin/sleep", &evil).unwrap();
    let mut process = Command::new(&evil).arg("60").spawn().unwrap();
    let text = error(&mut recorder(&run, &["-p", &process.id().to_string()]));
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(text.contains(r"-\u{1b}[2J\u{a}llmtrace: ok\u{202e}"), "{text}");
    // Its name also gives that of the file, in the current folder.
    let inner = recorder(&run, &[]);
    let output = Command::new(inner.get_program())
        .current_dir(run.folder())
        .args(["record", "-q", "--"])
        .arg(&evil)
        .output();
    assert!(output.unwrap().status.code().is_some());
    let names: Vec<String> = fs::read_dir(run.folder())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    let written: Vec<&String> = names.iter().filter(|name| name.ends_with(".llmtrace")).collect();
    assert!(written.len() == 1 && written[0].starts_with("__2J_llmtrace__ok_-20"), "{names:?}");
}
