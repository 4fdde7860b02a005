//! What `llmtrace export` and `llmtrace import` take, with the real command on generated traces:
//! op spans and bytes a second, and the most memory at one and at four times as many spans, which
//! should be the same. Import also as a ratio to reading the file and looking for the end of each
//! line, in the same run. `cargo bench -p llmtrace --bench convert`.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use llmtrace_analysis::synth::{self, Options};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const THREADS: u32 = 4;
const ROUNDS: usize = 3;

fn main() {
    let spans = if std::env::args().any(|arg| arg == "--bench") { 500_000 } else { 5_000 };
    println!("{:<30} {:>9} {:>12} {:>9} {:>12}", "", "seconds", "M spans/s", "MB/s", "peak MB");
    for spans in [spans, 4 * spans] {
        println!("-- {spans} op spans, best of {ROUNDS}");
        run(spans);
    }
}

fn run(spans: u64) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let trace = at("t.llmtrace");
    std::fs::write(&trace, synth::bytes(&Options::new(spans, THREADS, 1)).unwrap()).unwrap();
    for (format, name) in
        [("perfetto", "t.pftrace"), ("chrome", "t.json"), ("csv", "csv"), ("parquet", "parquet")]
    {
        let took = best(&["export", "--format", format], &trace, &at(name));
        row(&format!("export --format {format}"), took, spans, bytes(&at(name)));
    }
    let json = at("t.json");
    let took = best(&["import"], &json, &at("again.llmtrace"));
    row("import of chrome", took, spans, bytes(&json));
    let plain = (0..ROUNDS).map(|_| lines(&json)).min().unwrap();
    row("read and memchr of the same", (plain, 0), spans, bytes(&json));
    println!("{:<30} {:>9.1}", "import / read and memchr", took.0.as_secs_f64() / plain.as_secs_f64());
}

/// The shortest time of a command, and the most memory of any.
fn best(args: &[&str], input: &Path, output: &Path) -> (Duration, u64) {
    let rounds = (0..ROUNDS).map(|_| once(args, input, output));
    rounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap()
}

fn once(args: &[&str], input: &Path, output: &Path) -> (Duration, u64) {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmtrace"));
    command.args(args).arg(input).arg("-o").arg(output).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak_bytes(child.id()).unwrap_or(peak);
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(status.success(), "{args:?}");
    (started.elapsed(), peak)
}

/// Most memory that a process had resident; not known outside of Linux.
fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// Reads a file and counts its lines.
fn lines(path: &Path) -> Duration {
    let started = Instant::now();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let mut lines = 0;
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..len]).count();
    }
    assert!(lines > 0);
    started.elapsed()
}

/// Length of a file, or of all in a folder.
fn bytes(path: &Path) -> u64 {
    if path.is_file() {
        return path.metadata().unwrap().len();
    }
    std::fs::read_dir(path).unwrap().map(|entry| bytes(&entry.unwrap().path())).sum()
}

fn row(what: &str, (took, peak): (Duration, u64), spans: u64, bytes: u64) {
    let seconds = took.as_secs_f64();
    let (millions, megabytes) = (spans as f64 / 1e6 / seconds, bytes as f64 / 1e6 / seconds);
    let peak = if peak == 0 { "–".to_owned() } else { format!("{:.0}", peak as f64 / 1e6) };
    println!("{what:<30} {seconds:>9.2} {millions:>12.2} {megabytes:>9.0} {peak:>12}");
}
