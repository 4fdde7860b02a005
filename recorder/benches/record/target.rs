//! The processes that get recorded.

use crate::process::cpu_secs;
use crate::statistics::median_of;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Tokens that a generation decodes.
pub(crate) const TOKENS: usize = 40;
const PROMPT_TOKENS: usize = 16;
/// Far more than loading the model or a generation takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that says with each line of JSON what it has done.
pub(crate) struct Target {
    child: Child,
    lines: Receiver<Value>,
}

/// One generation of the engine.
pub(crate) struct Generation {
    /// Time of each token but the first, as it reaches the engine's user.
    pub(crate) token_millis: Vec<f64>,
    /// CPU time of the whole process meanwhile, prompt included.
    pub(crate) cpu_secs: f64,
}

impl Generation {
    /// The median.
    pub(crate) fn millis_per_token(&self) -> f64 {
        median_of(self.token_millis.iter().copied())
    }

    /// How much longer a token takes than the same one of another generation, in percent: the
    /// median, which a burst of other work on the host hardly moves.
    pub(crate) fn slower_than(&self, other: &Self) -> f64 {
        let tokens = self.token_millis.iter().zip(&other.token_millis);
        median_of(tokens.map(|(with, alone)| (with / alone - 1.0) * 100.0))
    }
}

impl Target {
    /// Gemma 3 270M, generating over and over.
    pub(crate) fn gemma(threads: u32) -> Result<Self> {
        Self::generating(&variable("LLMTRACE_TEST_MODEL")?, threads)
    }

    /// A mixture of experts of the topology of Qwen3 MoE: 8 layers, 4 of 32 experts.
    pub(crate) fn moe(threads: u32) -> Result<Self> {
        Self::generating(&variable("LLMTRACE_BENCH_MOE")?, threads)
    }

    fn generating(model: &str, threads: u32) -> Result<Self> {
        let (threads, tokens, prompt) = (threads.to_string(), TOKENS.to_string(), PROMPT_TOKENS.to_string());
        Self::start(
            &variable("LLMTRACE_TEST_GENERATE")?,
            &[
                "--model",
                model,
                "--threads",
                &threads,
                "--tokens",
                &tokens,
                "--prompt-tokens",
                &prompt,
                "--repeat",
                "0",
                "--token-times",
            ],
        )
    }

    /// Small nodes on two threads: `nodes` in a graph, `rate` graphs a second or, for 0, as many
    /// as can be.
    pub(crate) fn load(nodes: u32, rate: u32) -> Result<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record/load.py");
        Self::start(script, &["--threads", "2", "--nodes", &nodes.to_string(), "--rate", &rate.to_string()])
    }

    fn start(script: &str, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(variable("LLMTRACE_TEST_PYTHON")?)
            .arg(script)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {script}"))?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (said, lines) = channel();
        // Read at once, so that a line in the channel is one that was just written.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if serde_json::from_str(&line).is_ok_and(|value: Value| said.send(value).is_err()) {
                    break;
                }
            }
        });
        let target = Self { child, lines };
        target.next()?;
        Ok(target)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn next(&self) -> Result<Value> {
        self.lines.recv_timeout(PATIENCE).context("the target stopped, or says nothing")
    }

    /// Waits until a round begins.
    fn begin_round(&self) -> Result<()> {
        while self.lines.try_recv().is_ok() {}
        self.next()?;
        Ok(())
    }

    /// What it says of the next round that begins after this call.
    pub(crate) fn next_round(&self) -> Result<Value> {
        self.begin_round()?;
        self.next()
    }

    /// How the next generation went.
    pub(crate) fn generation(&self) -> Result<Generation> {
        self.begin_round()?;
        let before = cpu_secs(self.pid())?;
        let said = self.next()?;
        let cpu_secs = cpu_secs(self.pid())? - before;
        let times = said["token_millis"].as_array().context("no times in the engine's output")?;
        let token_millis: Vec<f64> = times.iter().filter_map(Value::as_f64).collect();
        ensure!(token_millis.len() + 1 == TOKENS, "the engine generated another number of tokens");
        Ok(Generation { token_millis, cpu_secs })
    }

    /// Graphs a second in the next second.
    pub(crate) fn graphs_per_second(&self) -> Result<f64> {
        let said = self.next_round()?;
        let graphs = said["graphs"].as_f64().context("no graphs in the load's output")?;
        Ok(graphs / said["secs"].as_f64().context("no time in the load's output")?)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set; run `make bench-record`"))
}
