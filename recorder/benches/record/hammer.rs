//! The most events that can be recorded: real ggml on two threads with nothing to compute.

use crate::process::Sample;
use crate::recorder::{Recorder, ending};
use crate::statistics::median;
use crate::table::Row;
use crate::target::Target;
use anyhow::{Context as _, Result};
use std::process::{Command, Stdio};
use std::time::Duration;

const NODES: u32 = 1000;
const RUNS: usize = 3;
const SECS: u64 = 10;
const GOAL_PER_SECOND: f64 = 1e6;
const PROFILE_LINES: usize = 25;

pub(crate) fn measure(profile: bool) -> Result<Vec<Row>> {
    let target = Target::load(NODES, 0)?;
    let alone = target.graphs_per_second()?;
    let (mut rates, mut ours, mut theirs, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for run in 0..RUNS {
        let mut recorder = Recorder::start(target.pid(), &["--exact-begins"])?;
        recorder.wait_for_rows()?;
        let before = (Sample::of(recorder.pid())?, Sample::of(target.pid())?);
        let profiler = (profile && run == 0).then(|| Profiler::start(recorder.pid())).transpose()?;
        std::thread::sleep(Duration::from_secs(SECS));
        ours.push(Sample::of(recorder.pid())?.cpu_share_since(&before.0));
        theirs.push(Sample::of(target.pid())?.cpu_share_since(&before.1));
        if let Some(profiler) = profiler {
            profiler.report()?;
        }
        let trace = recorder.stop()?.trace()?;
        let ending = ending(&trace)?;
        rates.push(rate(&trace.graph_spans));
        lost += ending.lost;
    }
    let rate = median(&rates);
    let capacity: Vec<f64> = rates.iter().zip(&ours).map(|(rate, share)| rate / share / 1e6).collect();
    let measured = rate.map(|value| value / 1e6).text(2, "M/s");
    let met = rate.value >= GOAL_PER_SECOND && lost == 0;
    Ok(vec![Row::yes_or_no("events recorded, two threads", "≥ 1 M/s, none lost", measured, met).remark(
        format!(
            "{RUNS} × {SECS} s, {lost} lost; CPUs: the load took {:.2}, the recorder {:.2} \
             ({:.1} M events a second of its CPU); {:.2} M nodes/s alone",
            median(&theirs).value,
            median(&ours).value,
            median(&capacity).value,
            alone * f64::from(NODES) / 1e6,
        ),
    )])
}

/// Events a second between the first and the last graph, whatever else was recorded before:
/// two threads, each of which begins every node and arrives at its barrier.
fn rate(spans: &[llmtrace_format::tables::GraphSpan]) -> f64 {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return 0.0 };
    let secs = last.end.saturating_sub(first.begin) as f64 / 1e9;
    4.0 * f64::from(NODES) * spans.len() as f64 / secs
}

/// Where the recorder spends its time, by sampling.
struct Profiler {
    perf: std::process::Child,
    folder: tempfile::TempDir,
}

impl Profiler {
    fn start(pid: u32) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let perf = Command::new("perf")
            .args(["record", "-q", "-g", "-F", "999", "-e", "cpu-clock", "-p", &pid.to_string(), "-o"])
            .arg(folder.path().join("perf.data"))
            .args(["--", "sleep", &(SECS - 2).to_string()])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run perf (Debian: linux-perf)")?;
        Ok(Self { perf, folder })
    }

    fn report(mut self) -> Result<()> {
        self.perf.wait()?;
        let output = Command::new("perf")
            .args(["report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.5", "-i"])
            .arg(self.folder.path().join("perf.data"))
            .stderr(Stdio::null())
            .output()?;
        println!("the recorder under the hammer:");
        let text = String::from_utf8_lossy(&output.stdout);
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).take(PROFILE_LINES)
        {
            println!("{}", line.trim_end());
        }
        Ok(())
    }
}
