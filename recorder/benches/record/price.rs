//! Price of a probe hit, by the recorder's own calibration.

use crate::recorder::LLMTRACE;
use crate::statistics::{median, ratio_of_medians};
use crate::table::Row;
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::process::Command;

const RUNS: usize = 15;
const GOAL: f64 = 1.15;

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        // Exits with 1 on a host that cannot record; what it could measure it prints all the same.
        let output = Command::new(LLMTRACE).args(["doctor", "--json"]).output()?;
        let said: Value = serde_json::from_slice(&output.stdout).context("doctor printed no JSON")?;
        runs.push(said["probe_costs"].clone());
    }
    let nanos = |purpose: &str| -> Result<Vec<f64>> {
        let cost = |costs: &Value| {
            costs.as_array()?.iter().find(|cost| cost["purpose"] == purpose)?["nanos"].as_f64()
        };
        runs.iter()
            .map(|costs| cost(costs).with_context(|| format!("doctor gave no price of `{purpose}`")))
            .collect()
    };
    let empty = nanos("empty")?;
    ["op begin", "barrier"]
        .into_iter()
        .map(|purpose| {
            let ours = nanos(purpose)?;
            let ratio = ratio_of_medians(&ours, &empty);
            let text = |values: &[f64]| median(values).text(0, "ns");
            Ok(Row::at_most(format!("hit of `{purpose}` against an empty program"), GOAL, ratio, 2, "×")
                .remark(format!("{} against {}, {RUNS} calibrations", text(&ours), text(&empty))))
        })
        .collect()
}
