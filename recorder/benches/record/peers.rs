//! Slowdown of decoding when bpftrace or BCC records the same nodes.

use crate::decode::{Ours, Pair, Slowdowns};
use crate::process::mapped_file;
use crate::recorder::{Recorder, recording};
use crate::run::Options;
use crate::statistics::{median, ratio_of_medians};
use crate::table::Row;
use crate::target::Target;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Their cost is a multiple of ours, so that fewer rounds tell.
const ROUNDS: usize = 8;
const GOAL: f64 = 0.2;
const BPFTRACE: &str = include_str!("peers/nodes.bt");
const BCC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record/peers/nodes.py");

struct Peer {
    name: &'static str,
    command: fn(pid: u32, library: &Path, output: &Path) -> Command,
}

const PEERS: [Peer; 2] = [Peer { name: "bpftrace", command: bpftrace }, Peer { name: "BCC", command: bcc }];

fn bpftrace(pid: u32, library: &Path, output: &Path) -> Command {
    let mut command = Command::new("bpftrace");
    command.args(["-p", &pid.to_string(), "-o"]).arg(output);
    command.args(["-e", &BPFTRACE.replace("LIBRARY", &library.to_string_lossy())]);
    command
}

fn bcc(pid: u32, library: &Path, output: &Path) -> Command {
    // Debian's packages are for Debian's Python.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(BCC).arg(pid.to_string()).args([library, output]);
    command
}

impl Peer {
    fn start(&self, target: &Target, library: &Path) -> Result<Recorder> {
        Recorder::spawn(|output| (self.command)(target.pid(), library, output))
    }

    /// Why it does not record here, if so.
    fn try_out(&self, target: &Target, library: &Path) -> Result<()> {
        let mut recorder = self.start(target, library)?;
        recorder.wait_for_rows()?;
        recorder.stop()?;
        Ok(())
    }
}

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let library = library(&target)?;
    let mut rows = Vec::new();
    let (mut one_probe, mut two_probes) = (Ours::default(), Ours::default());
    let mut theirs = Vec::new();
    for peer in &PEERS {
        match peer.try_out(&target, &library) {
            Ok(()) => theirs.push((peer, Slowdowns::default())),
            Err(error) => rows.push(Row::skipped(peer.name, &format!("{error:#}{}", why(peer.name)))),
        }
    }
    if theirs.is_empty() {
        return Ok(rows);
    }
    for round in 0..ROUNDS {
        one_probe.add(&target, round, &[])?;
        two_probes.add(&target, round, &["--exact-begins"])?;
        for (peer, slowdowns) in &mut theirs {
            slowdowns.add(&Pair::measure(&target, round, || peer.start(&target, &library))?);
        }
    }
    for (peer, slowdowns) in &theirs {
        let figure = format!("decode slowdown, {}", peer.name);
        rows.push(Row::plain(figure, median(&slowdowns.wall).text(1, "%")).remark(slowdowns.remark()));
        for (name, ours) in [("default", &one_probe), ("`--exact-begins`", &two_probes)] {
            let ratio = ratio_of_medians(&ours.slowdowns.wall, &slowdowns.wall);
            let figure = format!("our slowdown, {name}, against {}", peer.name);
            let ours = format!("ours {}, {}", median(&ours.slowdowns.wall).text(2, "%"), ours.remark());
            rows.push(Row::at_most(figure, GOAL, ratio, 3, "×").remark(ours));
        }
    }
    Ok(rows)
}

/// What the script that prepared the peers found.
fn why(peer: &str) -> String {
    let reason = std::env::var("LLMTRACE_BENCH_NO_HEADERS").unwrap_or_default();
    if peer == "BCC" && !reason.is_empty() { format!(": {reason}") } else { String::new() }
}

/// The file with the functions, as our own recorder finds it.
fn library(target: &Target) -> Result<PathBuf> {
    let mut recorder = Recorder::start(target.pid(), &[])?;
    recorder.wait_for_rows()?;
    let trace = recorder.stop()?.trace()?;
    let mut probes = recording(&trace)?.probes.iter();
    let probe = probes.find(|probe| probe.symbol == "ggml_cpu_extra_compute_forward");
    mapped_file(target.pid(), &probe.context("the target has no ggml_cpu_extra_compute_forward")?.object)
}
