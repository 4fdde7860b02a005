//! Real llama.cpp processes, and the recorder beside them.

use llmtrace_analysis::Trace;
use llmtrace_format::Source;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
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
        let engine = [var("LLMTRACE_TEST_PYTHON"), var("LLMTRACE_TEST_GENERATE"), var("LLMTRACE_TEST_MODEL")];
        generate(&engine, threads, tokens)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn trace_bytes(&self) -> u64 {
        self.trace.metadata().map_or(0, |metadata| metadata.len())
    }

    pub(crate) fn open_to_everybody(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    }
}

/// What `make test` prepares, from the environment.
pub(crate) fn var(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`"))
}

/// The command that generates, of an interpreter, a script and a model.
pub(crate) fn generate([python, script, model]: &[String; 3], threads: u32, tokens: u32) -> Vec<String> {
    let (threads, tokens) = (threads.to_string(), tokens.to_string());
    [python, script, "--model", model, "--threads", &threads, "--tokens", &tokens].map(str::to_owned).into()
}

/// A script beside the generator.
pub(crate) fn tool(name: &str) -> PathBuf {
    Path::new(&var("LLMTRACE_TEST_GENERATE")).with_file_name(name)
}

/// A mixture of experts in which embedding and router alone decide: 6 of 64 experts in 4 layers.
pub(crate) fn mixture() -> PathBuf {
    // It takes a while, and is the same each time.
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-4x64x256.gguf");
    if model.exists() {
        return model;
    }
    let status = Command::new(var("LLMTRACE_TEST_PYTHON"))
        .arg(tool("make_moe.py"))
        .arg(&model)
        .args(["--planted", "--tokenizer-from", &var("LLMTRACE_TEST_MODEL"), "--seed", "3", "--embd", "256"])
        .args(["--vocab", "4000", "--layers", "4", "--experts", "64", "--used", "6"])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    model
}

/// A dense model of random weights, by `make_llama.py` with such arguments.
pub(crate) fn synthetic(arguments: &[&str], name: &str) -> PathBuf {
    let model = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.gguf"));
    if !model.exists() {
        let status = Command::new(var("LLMTRACE_TEST_PYTHON"))
            .arg(tool("make_llama.py"))
            .arg(&model)
            .args(["--tokenizer-from", &var("LLMTRACE_TEST_MODEL"), "--seed", "1"])
            .args(arguments)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }
    model
}

/// `llmtrace record` into the run's folder; whatever it costs, unless a budget is
/// given: on a busy machine prices are high.
pub(crate) fn recorder(run: &Run, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
    command.arg("record").arg("-o").arg(&run.trace);
    if !arguments.contains(&"--max-overhead") {
        command.args(["--max-overhead", "100"]);
    }
    command.args(arguments);
    command.env_remove("SUDO_UID").env_remove("SUDO_GID");
    command
}

/// Records until enough is written for a few tokens, however slow the machine
/// is, and interrupts.
pub(crate) fn record_some(run: &Run, recorder: &mut Command) {
    let mut child = recorder.spawn().unwrap();
    wait_until_it_writes(run, &mut child, 32_000);
    signal(child.id(), "INT");
    assert!(child.wait().unwrap().success());
}

/// Waits for this many bytes of a recorder that goes on.
pub(crate) fn wait_until_it_writes(run: &Run, recorder: &mut Child, bytes: u64) {
    wait_until("some is written", || {
        assert!(recorder.try_wait().unwrap().is_none(), "the recorder has ended");
        run.trace_bytes() > bytes
    });
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
        Self::start_as(Command::new(&command[0]).args(&command[1..]))
    }

    /// The same with a command of `generate`, in whatever surroundings.
    pub(crate) fn start_as(command: &mut Command) -> Self {
        let mut child =
            command.args(["--repeat", "0"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
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

    /// Fails unless it is alive and generates: what lay in the pipe, and more. How many times.
    pub(crate) fn generates_on(&mut self) -> u32 {
        let (begin, mut generations) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_secs(3) {
            self.next_generation();
            generations += 1;
        }
        assert!(self.child.try_wait().unwrap().is_none());
        generations
    }

    /// The signal that ended it.
    pub(crate) fn ended_by(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        self.child.wait().unwrap().signal()
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
