//! Bad input: one clear error that says what to do, and exit code 2.

use crate::elsewhere::{Elsewhere, THREE, as_nobody};
use crate::invariants::check_whole;
use crate::workload::{self, Engine, Run, open, record_some, recorder, var, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs the recorder; its error, after checking that there is only one line.
pub(crate) fn error(command: &mut Command) -> String {
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

#[test]
#[ignore = "needs root"]
fn processes_that_run_no_program_of_their_own() {
    let run = Run::new();
    // kthreadd.
    assert!(error(&mut recorder(&run, &["-p", "2"])).contains("process 2 is a thread of the kernel"));
    let mut dead = Command::new("true").spawn().unwrap();
    workload::wait_until("it has exited", || {
        fs::read_to_string(format!("/proc/{}/stat", dead.id())).unwrap().contains(") Z ")
    });
    assert!(error(&mut recorder(&run, &["-p", &dead.id().to_string()])).contains("has exited already"));
    dead.wait().unwrap();
    let pid = dead.id().to_string();
    assert!(error(&mut recorder(&run, &["-p", &pid])).contains(&format!("no such process: {pid}")));
    assert!(!run.trace.exists());
}

#[test]
#[ignore = "needs root"]
fn recorder_does_not_record_itself() {
    let run = Run::new();
    let inner = recorder(&run, &[]);
    let mut command = Command::new("sh");
    // After `exec` the shell's number is the recorder's.
    command.args(["-c", r#"exec "$@" -p $$"#, "sh"]).arg(inner.get_program()).args(inner.get_args());
    assert!(error(&mut command).contains("is llmtrace itself"));
}

/// A static program of 32 bits that waits for signals: a header, a segment, and
/// `pause` in a loop.
fn program_of_32_bits(path: &Path) {
    const BASE: u32 = 0x0804_8000;
    let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half =
        |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|it| file.extend(it.to_le_bytes()));
    let word =
        |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|it| file.extend(it.to_le_bytes()));
    half(&mut file, &[2, 3]);
    word(&mut file, &[1, BASE + 84, 52, 0, 0]);
    half(&mut file, &[52, 32, 1, 0, 0, 0]);
    let len = 84 + code.len() as u32;
    word(&mut file, &[1, 0, BASE, BASE, len, len, 5, 0x1000]);
    file.extend(code);
    fs::write(path, file).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "needs root"]
fn program_of_32_bits_is_told_by_its_file() {
    let run = Run::new();
    let program = run.folder().join("small");
    program_of_32_bits(&program);
    let text = error(recorder(&run, &[]).arg("--").arg(&program));
    assert!(text.contains("the command is a 32-bit program"), "{text}");
    // A kernel without CONFIG_IA32_EMULATION cannot run it.
    if let Ok(mut process) = Command::new(&program).spawn() {
        let text = error(&mut recorder(&run, &["-p", &process.id().to_string()]));
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(text.contains("runs a 32-bit program; recording needs an x86-64 program"), "{text}");
    }
}

#[test]
#[ignore = "needs root"]
fn stripped_program_without_libraries_says_why_nothing_is_found() {
    let run = Run::new();
    let source = run.folder().join("pause.c");
    fs::write(&source, "int pause(void); int main(void) { return pause(); }").unwrap();
    // With another C library, too: it differs in the loader only.
    for (compiler, options) in [("cc", &["-static", "-s"][..]), ("musl-gcc", &["-s"])] {
        let program = run.folder().join(compiler);
        let built = Command::new(compiler).args(options).arg("-o").arg(&program).arg(&source).status();
        assert!(built.unwrap().success());
        let mut process = Command::new(&program).spawn().unwrap();
        let comm = || fs::read_to_string(format!("/proc/{}/comm", process.id())).unwrap();
        workload::wait_until("it runs", || comm().trim() == compiler);
        let text = error(&mut recorder(&run, &["-p", &process.id().to_string()]));
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(text.contains(&format!("({compiler}) has no ggml")), "{text}");
        assert!(text.contains("Its executable is stripped"), "{text}");
    }
}

/// A folder of the target's own with a copy of its library; returns the library.
fn copied_library(run: &Run) -> PathBuf {
    let ask = "import xllamacpp; print(xllamacpp.__path__[0])";
    let said = Command::new(var("LLMTRACE_TEST_PYTHON")).args(["-c", ask]).output().unwrap();
    let from = PathBuf::from(String::from_utf8(said.stdout).unwrap().trim());
    let to = run.folder().join("xllamacpp");
    assert!(Command::new("cp").arg("-r").arg(&from).arg(&to).status().unwrap().success());
    let libraries = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path());
    libraries.into_iter().find(|path| path.extension().is_some_and(|it| it == "so")).expect("a library")
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn library_that_was_replaced_on_disk_is_recorded_as_it_is_mapped() {
    let (run, shared) = (Run::new(), Run::new());
    let library = copied_library(&run);
    run.open_to_everybody();
    let command = run.generate(1, 16);
    let mut start = Command::new(&command[0]);
    start.args(&command[1..]).env("PYTHONPATH", run.folder()).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut engine = Engine::start_as(&mut start);
    let pid = engine.pid().to_string();
    // An update moves functions: here all of the old file, by a page.
    let mut moved = vec![0; 4096];
    moved.extend(fs::read(&library).unwrap());
    fs::remove_file(&library).unwrap();
    fs::write(&library, moved).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    assert!(maps.lines().any(|line| line.ends_with(&format!("{} (deleted)", library.display()))));

    record_some(&run, &mut recorder(&run, &["-q", "-p", &pid]));
    check_whole(&open(&run), 1);
    engine.generates_on();
    // By its name alone, another file would be probed: that is refused.
    shared.open_to_everybody();
    let there = Elsewhere::new(shared.folder());
    let four = [&THREE[..], &["dac_read_search"]].concat();
    let mut command = there.command(&[]);
    command.args(as_nobody(&four)).arg(&there.recorder).args(["record", "-p", &pid, "-o"]).arg(&shared.trace);
    let text = error(&mut command);
    assert!(
        text.contains("was replaced or removed on disk, which takes root or CAP_CHECKPOINT_RESTORE"),
        "{text}"
    );
    let five = [&four[..], &["checkpoint_restore"]].concat();
    let mut command = there.command(&[]);
    command.args(as_nobody(&five)).arg(&there.recorder).args(["record", "-q", "-p", &pid, "-o"]);
    record_some(&shared, command.arg(&shared.trace));
    check_whole(&open(&shared), 1);
}

#[test]
#[ignore = "needs root, BTF and a real llama.cpp"]
fn tracefs_is_not_needed() {
    let run = Run::new();
    let inner = recorder(&run, &["-q", "--"]);
    let script = r#"umount -R /sys/kernel/tracing 2>/dev/null || true
        umount -R /sys/kernel/debug 2>/dev/null || true
        test ! -e /sys/kernel/tracing/events; test ! -e /sys/kernel/debug/tracing/events
        exec "$@""#;
    for way in ["multi", "single"] {
        let mut command = Command::new("unshare");
        command.env("LLMTRACE_UPROBES", way).args(["--mount", "sh", "-euc", script, "sh"]);
        command.arg(inner.get_program()).args(inner.get_args()).args(run.generate(1, 8));
        assert!(command.status().unwrap().success());
        check_whole(&open(&run), 1);
    }
}

/// Refuses `bpf`, as the profile of a container does, then becomes the command.
const SECCOMP: &str = "
import ctypes, os, struct, sys
rules = [(0x20, 0, 0, 0), (0x15, 0, 1, 321), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code)))
assert ctypes.CDLL(None).prctl(22, 2, filter, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
#[ignore = "needs root and a real llama.cpp"]
fn container_that_filters_system_calls_is_named() {
    let run = Run::new();
    let inner = recorder(&run, &["--", "true"]);
    let mut command = Command::new(var("LLMTRACE_TEST_PYTHON"));
    command.args(["-c", SECCOMP]).arg(inner.get_program()).args(inner.get_args());
    let text = error(&mut command);
    assert!(text.contains("the kernel refuses the BPF programs: Operation not permitted"), "{text}");
    assert!(text.contains("a seccomp filter") && text.contains("--security-opt"), "{text}");
    assert!(!run.trace.exists());
}

#[test]
#[ignore = "needs root"]
fn command_runs_on_when_the_recorder_is_killed_before_it_begins() {
    let run = Run::new();
    let done = run.folder().join("done");
    let mut recorder =
        recorder(&run, &["-q"]).args(["--", "touch"]).arg(&done).stdout(Stdio::null()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", recorder.id());
    let stopped = || {
        let children = fs::read_to_string(&children).unwrap_or_default();
        let child = children.split_whitespace().next().map(|child| format!("/proc/{child}/stat"));
        child.and_then(|stat| fs::read_to_string(stat).ok()).is_some_and(|stat| stat.contains(") T "))
    };
    wait_until("the command waits for its probes", stopped);
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    wait_until("the command has run", || done.exists());
}
