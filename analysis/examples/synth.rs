//! Writes a synthetic trace: `cargo run --release --example synth -- --spans 1000000 -o big.llmtrace`.

use clap::Parser;
use llmtrace_analysis::Trace;
use llmtrace_analysis::format::Source;
use llmtrace_analysis::synth::{self, Model, Options, Slow};
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Instant;

/// Writes a synthetic trace: one prefill, then decoded tokens.
#[derive(Parser)]
struct Args {
    /// Op spans over all threads, rounded up to a whole token.
    #[arg(long, default_value_t = 1_000_000)]
    spans: u64,
    /// Threads of the pool.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// The same seed gives the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Slows nodes down whose name or operator contains NAME; may be repeated.
    #[arg(long, value_name = "NAME=+20%")]
    slow: Vec<Slow>,
    /// Takes the graphs of this trace instead of the built-in model's.
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// File to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let model = match &args.graph {
        Some(path) => {
            let trace = Trace::open(Source::from_file(File::open(path)?), &mut |_| true)?;
            Model::of_trace(&trace).ok_or("that trace has no graphs")?
        }
        None => synth::gemma(128),
    };
    let options = Options { spans: args.spans, threads: args.threads, seed: args.seed, slow: args.slow };
    let started = Instant::now();
    let sink = BufWriter::with_capacity(1 << 20, File::create(&args.output)?);
    let file = synth::write(sink, &model, &options)?.into_inner()?;
    let (seconds, bytes) = (started.elapsed().as_secs_f64(), file.metadata()?.len());
    eprintln!(
        "{bytes} bytes in {seconds:.2} s: {:.2} bytes a span, {:.1} M spans/s",
        bytes as f64 / args.spans as f64,
        args.spans as f64 / seconds / 1e6
    );
    Ok(())
}
