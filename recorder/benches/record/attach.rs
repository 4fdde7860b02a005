//! Time from starting the recorder until the first token that it records.

use crate::recorder::Recorder;
use crate::run::Options;
use crate::statistics::median;
use crate::table::Row;
use crate::target::Target;
use anyhow::{Context as _, Result};
use std::time::{SystemTime, UNIX_EPOCH};

const RUNS: usize = 5;
const GOAL_SECS: f64 = 1.0;

pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let mut secs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let begin = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let mut recorder = Recorder::start(target.pid(), &[])?;
        recorder.wait_for_rows()?;
        target.next_round()?;
        let trace = recorder.stop()?.trace()?;
        let first = trace.decodes.first().context("no token was recorded")?;
        let at = u128::from(trace.file.header.start_unix_nanos) + u128::from(first.begin);
        secs.push((at as f64 - begin as f64) / 1e9);
    }
    Ok(vec![Row::at_most("start to first recorded token", GOAL_SECS, median(&secs), 2, "s")])
}
