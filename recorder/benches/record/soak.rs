//! The recorder's own use of the host at a steady rate.

use crate::process::Sample;
use crate::recorder::{Recorder, ending};
use crate::statistics::mean;
use crate::table::Row;
use crate::target::Target;
use anyhow::{Result, ensure};
use std::time::Duration;

/// With one probe a node on each of two threads: 200,000 events a second.
const NODES: u32 = 1000;
const GRAPHS_PER_SECOND: u32 = 100;
const EVENTS_PER_SECOND: f64 = 2.0 * NODES as f64 * GRAPHS_PER_SECOND as f64;

const CPU_GOAL_PERCENT: f64 = 5.0;
const MEMORY_GOAL: f64 = 64.0;
/// Memory that grows less than this is flat.
const GROWTH_GOAL_PERCENT: f64 = 5.0;
/// What allocates at the beginning is no leak.
const SETTLING_SECS: usize = 5;

pub(crate) fn measure(secs: u64) -> Result<Vec<Row>> {
    ensure!(secs as usize > SETTLING_SECS, "a soak takes more than {SETTLING_SECS} seconds");
    let target = Target::load(NODES, GRAPHS_PER_SECOND)?;
    let mut recorder = Recorder::start(target.pid(), &[])?;
    recorder.wait_for_rows()?;
    let mut samples = vec![Sample::of(recorder.pid())?];
    for _ in 0..secs {
        std::thread::sleep(Duration::from_secs(1));
        samples.push(Sample::of(recorder.pid())?);
    }
    let recorded = recorder.stop()?;
    let trace = recorded.trace()?;
    let ending = ending(&trace)?;
    let rate = ending.events as f64 / (ending.end_nanos as f64 / 1e9);
    // The load went to sleep late, or the recorder probed more than once a node.
    ensure!((rate / EVENTS_PER_SECOND - 1.0).abs() < 0.2, "the load made {rate:.0} events a second");

    let shares: Vec<f64> = samples.windows(2).map(|two| two[1].cpu_share_since(&two[0]) * 100.0).collect();
    let cpu = mean(&shares);
    let megabytes = |sample: &Sample| sample.resident_bytes as f64 / f64::from(1 << 20);
    let resident: Vec<f64> = samples.iter().map(megabytes).collect();
    let most = resident.iter().copied().fold(0.0, f64::max);
    let at = |index: usize| resident.get(index).copied().unwrap_or(f64::NAN);
    let last = at(resident.len() - 1);
    let growth = (last / at(SETTLING_SECS) - 1.0) * 100.0;
    let figure = format!("recorder's CPU, {:.0},000 events/s", rate / 1000.0);
    let remark = format!(
        "{:.1} MB at first, {:.1} after {SETTLING_SECS} s, {last:.1} at the end",
        at(0),
        at(SETTLING_SECS),
    );
    Ok(vec![
        Row::at_most(figure, CPU_GOAL_PERCENT, cpu, 2, "%")
            .remark(format!("{secs} s, {} events lost", ending.lost)),
        Row::yes_or_no("recorder's memory, at most", "≤ 64 MB", format!("{most:.1} MB"), most <= MEMORY_GOAL),
        Row::yes_or_no(
            format!("recorder's memory, growth in {secs} s"),
            "≤ 5 %",
            format!("{growth:.1} %"),
            growth <= GROWTH_GOAL_PERCENT,
        )
        .remark(remark),
    ])
}
