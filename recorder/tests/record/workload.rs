//! Real llama.cpp processes, and the recorder beside them.

use llmtrace_analysis::Trace;
use llmtrace_format::Source;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// One recording's folder.
pub(crate) struct Run {
    folder: tempfile::TempDir,
    pub(crate) trace: PathBuf,
}

impl Run {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { trace: folder.path().join("run.llmtrace"), folder }
    }

    /// The command that generates `tokens` tokens from a prompt of about 120.
    pub(crate) fn generate(&self, threads: u32, tokens: u32) -> Vec<String> {
        let var = |name: &str| {
            env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`"))
        };
        let mut command = vec![var("LLMTRACE_TEST_PYTHON"), var("LLMTRACE_TEST_GENERATE")];
        command.extend(["--model".into(), var("LLMTRACE_TEST_MODEL")]);
        command.extend(["--threads".into(), threads.to_string(), "--tokens".into(), tokens.to_string()]);
        command
    }

    pub(crate) fn trace_bytes(&self) -> u64 {
        self.trace.metadata().map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn open_to_everybody(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
}

/// `llmtrace record` into the run's folder.
pub(crate) fn recorder(run: &Run, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
    command.arg("record").arg("-o").arg(&run.trace).args(arguments);
    command.env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

/// The trace, with its op spans.
pub(crate) fn open(run: &Run) -> Trace {
    let file = File::open(&run.trace).unwrap();
    let trace = Trace::open(Source::from_file(file), &mut |_| true).unwrap();
    trace.load_nodes(&|_| true).unwrap();
    trace
}

/// A process that generates until it is dropped.
pub(crate) struct Engine {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Engine {
    /// Starts it and waits until it has generated once.
    pub(crate) fn start(run: &Run, threads: u32) -> Self {
        let command = run.generate(threads, 16);
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .args(["--repeat", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut engine = Self { child, lines };
        engine.next_generation();
        engine
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn next_generation(&mut self) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(line.contains("generated_tokens"), "the engine said: {line:?}");
    }

    /// Fails unless it is alive and generates: what lay in the pipe, and more.
    pub(crate) fn generates_on(&mut self) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            self.next_generation();
        }
        assert!(self.child.try_wait().unwrap().is_none());
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// Whether a child of `pid` runs this program.
pub(crate) fn child_named(pid: u32, name: &str) -> bool {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let comm = |child: &str| fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
    children.split_whitespace().any(|child| comm(child).trim() == name)
}

pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
