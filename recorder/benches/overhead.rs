//! What recording costs the target: interleaved pairs on one running process.
//!
//! `make bench` runs it; needs root, BTF, and what `make test` prepares. One
//! process generates over and over. Generations alternate between recorded and
//! not, so that drift of the machine falls on both alike; a generation during
//! which the recorder came or went counts for neither. The figure is the median
//! over pairs of (recorded / plain − 1) of the engine's own time per token, with
//! a 95 % confidence interval of the median by order statistics.
//!
//! Usage: `overhead [--pairs N] [--threads N] [LEVEL…]`

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    bench::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED overhead: recording is for Linux");
}

#[cfg(target_os = "linux")]
mod bench {
    use anyhow::{Context as _, Result, bail};
    use llmtrace_analysis::Trace;
    use llmtrace_format::Source;
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Lines};
    use std::path::Path;
    use std::process::{Child, ChildStdout, Command, Stdio};

    pub(super) fn run() -> Result<()> {
        let (mut pairs, mut threads, mut levels) = (15, 1, Vec::new());
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--pairs" => pairs = arguments.next().context("--pairs N")?.parse()?,
                "--threads" => threads = arguments.next().context("--threads N")?.parse()?,
                level => levels.push(level.to_owned()),
            }
        }
        if levels.is_empty() {
            levels = ["thread", "op", "token"].map(str::to_owned).to_vec();
        }
        let mut engine = match Engine::start(threads) {
            Ok(engine) => engine,
            Err(error) => {
                println!("SKIPPED overhead: {error:#}");
                return Ok(());
            }
        };
        println!("decode slowdown, Gemma 3 270M, {threads} thread(s), {pairs} interleaved pairs");
        println!(
            "{:<8} {:>11} {:>9} {:>18} {:>9} {:>6}",
            "level", "plain ms", "slowdown", "95 % CI", "events/s", "lost"
        );
        for level in &levels {
            measure(&mut engine, level, pairs)?;
        }
        Ok(())
    }

    fn measure(engine: &mut Engine, level: &str, pairs: usize) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bench.llmtrace");
        let (mut ratios, mut plain, mut lost, mut rate) = (Vec::new(), Vec::new(), 0, 0.0);
        for pair in 0..pairs {
            // Which comes first alternates, too.
            let (recorded, alone) = if pair % 2 == 0 {
                let recorded = engine.recorded(&path, level)?;
                (recorded, engine.alone()?)
            } else {
                let alone = engine.alone()?;
                (engine.recorded(&path, level)?, alone)
            };
            let trace = Trace::open(Source::from_file(File::open(&path)?), &mut |_| true)?;
            let ending = trace.file.ending.as_ref().context("the trace has no ending")?;
            lost += ending.lost;
            rate = ending.events as f64 / (ending.end_nanos as f64 / 1e9);
            ratios.push((recorded / alone - 1.0) * 100.0);
            plain.push(alone);
        }
        ratios.sort_by(f64::total_cmp);
        plain.sort_by(f64::total_cmp);
        let (low, high) = median_interval(&ratios);
        println!(
            "{level:<8} {:>11.2} {:>7.2} % {:>18} {:>9.0} {lost:>6}",
            median(&plain),
            median(&ratios),
            format!("{low:.2} … {high:.2} %"),
            rate,
        );
        Ok(())
    }

    fn median(sorted: &[f64]) -> f64 {
        let half = sorted.len() / 2;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        if sorted.len().is_multiple_of(2) { (at(half.saturating_sub(1)) + at(half)) / 2.0 } else { at(half) }
    }

    /// The narrowest pair of order statistics that covers the median with 95 %.
    fn median_interval(sorted: &[f64]) -> (f64, f64) {
        let n = sorted.len();
        // P(at most k of n are below the median), binomial with p = 1/2.
        let (mut below, mut term, mut k) = (0.0, 0.5f64.powi(n as i32), 0);
        while k < n / 2 && below + term <= 0.025 {
            below += term;
            term *= (n - k) as f64 / (k + 1) as f64;
            k += 1;
        }
        let k = k.saturating_sub(1);
        (
            sorted.get(k).copied().unwrap_or(f64::NAN),
            sorted.get(n.saturating_sub(1 + k)).copied().unwrap_or(f64::NAN),
        )
    }

    struct Engine {
        child: Child,
        lines: Lines<BufReader<ChildStdout>>,
    }

    impl Engine {
        fn start(threads: u32) -> Result<Self> {
            let var = |name: &str| {
                std::env::var(name).with_context(|| format!("{name} is not set; run `make bench`"))
            };
            let mut child = Command::new(var("LLMTRACE_TEST_PYTHON")?)
                .arg(var("LLMTRACE_TEST_GENERATE")?)
                .args(["--model", &var("LLMTRACE_TEST_MODEL")?])
                .args(["--threads", &threads.to_string()])
                .args(["--tokens", "40", "--prompt-tokens", "16", "--repeat", "0"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
            let mut engine = Self { child, lines };
            engine.generation()?;
            Ok(engine)
        }

        /// Milliseconds a token of the next generation.
        fn generation(&mut self) -> Result<f64> {
            let line = self.lines.next().context("the engine stopped")??;
            let said: serde_json::Value = serde_json::from_str(&line)?;
            Ok(1000.0 / said["tokens_per_second"].as_f64().context("no speed in the engine's output")?)
        }

        fn alone(&mut self) -> Result<f64> {
            self.generation()?;
            self.generation()
        }

        fn recorded(&mut self, path: &Path, level: &str) -> Result<f64> {
            let _ = std::fs::remove_file(path);
            let mut recorder = Command::new(env!("CARGO_BIN_EXE_llmtrace"))
                .args(["record", "-q", "-p", &self.child.id().to_string(), "--level", level, "-o"])
                .arg(path)
                .spawn()?;
            // Until the first rows are flushed; then the generation after the current one.
            while path.metadata().map_or(0, |metadata| metadata.len()) < 4096 {
                if recorder.try_wait()?.is_some() {
                    bail!("the recorder ended by itself");
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            self.generation()?;
            let time = self.generation();
            Command::new("kill").args(["-INT", &recorder.id().to_string()]).status()?;
            recorder.wait()?;
            time
        }
    }

    impl Drop for Engine {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
