//! `llmtrace calibrate`: what this host can do at most.
//!
//! Two things are measured, for 1 … N threads, several rounds each: how fast memory is
//! read, in a buffer that no cache holds, and how fast dot products of 32-bit floating
//! point and of 8-bit integers are computed, on data in the first cache. The result is
//! kept per host, and each recording on this host carries it.

mod kernels;
mod measure;
mod store;

use crate::read::{clean, print_pairs};
use anyhow::{Context as _, Result, bail};
use llmtrace_format::meta::{Ceilings, Quantity};
use std::io::Write as _;

#[cfg_attr(not(target_os = "linux"), expect(unused_imports, reason = "only Linux records"))]
pub(crate) use store::load;

/// Measure what this host can do at most: memory bandwidth and dot products
///
/// Takes some seconds, in which nothing else should run. The result is kept for this
/// host, and every recording here carries it, so that `llmtrace explain` and the app
/// can say how far an operator is from what the machine could do.
#[derive(clap::Args)]
pub(crate) struct Calibrate {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Rounds of each measurement
    #[arg(long, value_name = "N", default_value = "7", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Print only; do not keep the result
    #[arg(long)]
    dry_run: bool,
}

impl Calibrate {
    pub(crate) fn run(self) -> Result<i32> {
        let ceilings = measure(self.rounds)?;
        let mut out = Vec::new();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &ceilings)?;
            writeln!(out)?;
        } else {
            print(&ceilings, &mut out)?;
        }
        std::io::stdout().lock().write_all(&out).context("cannot write to standard output")?;
        if !self.dry_run {
            let path = store::save(&ceilings)?;
            if !self.json {
                println!("kept in {}", clean(&path.display().to_string()));
            }
        }
        Ok(0)
    }
}

/// Measures this host; takes seconds.
///
/// # Errors
/// When threads cannot be started.
pub(crate) fn measure(rounds: u32) -> Result<Ceilings> {
    if cfg!(debug_assertions) {
        bail!("a debug build measures its own slowness, not the machine: build with --release");
    }
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let (rates, buffer_bytes) = measure::rates(cpus, rounds)?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Ceilings {
        measured_unix_secs: now.map_or(0, |since| since.as_secs()),
        cpu_model: store::cpu_model(),
        simd: kernels::simd(),
        buffer_bytes,
        rates,
    })
}

/// Measures and keeps the result; says why when that fails.
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux records"))]
pub(crate) fn measure_and_save() -> Result<Ceilings> {
    let ceilings = measure(7)?;
    if let Err(error) = store::save(&ceilings) {
        log::warn!("what was measured is in this trace only: {error:#}");
    }
    Ok(ceilings)
}

fn print(ceilings: &Ceilings, out: &mut dyn std::io::Write) -> Result<()> {
    let mib = ceilings.buffer_bytes >> 20;
    print_pairs(
        &[
            ("CPU", clean(&ceilings.cpu_model)),
            ("SIMD", ceilings.simd.clone()),
            ("buffer", format!("{mib} MiB")),
        ],
        out,
    )?;
    for (quantity, name, unit) in [
        (Quantity::ReadBytes, "read", "GB/s"),
        (Quantity::F32Ops, "f32 dot", "Gop/s"),
        (Quantity::Int8Ops, "int8 dot", "Gop/s"),
    ] {
        for rate in ceilings.rates.iter().filter(|rate| rate.quantity == quantity) {
            let giga = |rate: u64| rate as f64 / 1e9;
            let (low, high) = (giga(rate.lowest), giga(rate.highest));
            let threads = if rate.threads == 1 { "thread " } else { "threads" };
            writeln!(
                out,
                "{name:<9} {:>3} {threads} {:>9.1} {unit}, {low:.1} to {high:.1} in {} rounds",
                rate.threads,
                giga(rate.median),
                rate.rounds
            )?;
        }
    }
    Ok(())
}
