//! `llmtrace explain --by sequence`: where the time of requests went.

use super::text::{Columns, count, duration, heading, known};
use anyhow::Result;
use llmtrace_analysis::Trace;
use llmtrace_analysis::attribution::Parts;
use llmtrace_analysis::shares::{Share, Shares};
use serde::Serialize;
use std::io::Write;

/// As `explain --json` has it.
#[derive(Serialize)]
pub(super) struct Json<'a> {
    rows: Vec<JsonRow<'a>>,
    between_ms: f64,
    unknown_ms: f64,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    process: u32,
    sequence: u32,
    begin_s: f64,
    whole: bool,
    ttft_ms: Option<f64>,
    tpot_ms: Option<f64>,
    generated_tokens: Option<u32>,
    #[serde(flatten)]
    share: &'a Share,
}

fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

fn begin_s(trace: &Trace, share: &Share) -> f64 {
    share.request.begin.saturating_sub(trace.range().begin) as f64 / 1e9
}

pub(super) fn json<'a>(trace: &Trace, shares: &'a Shares) -> Json<'a> {
    let row = |share: &'a Share| JsonRow {
        process: share.request.key.process,
        sequence: share.request.key.sequence,
        begin_s: begin_s(trace, share),
        whole: share.request.whole,
        ttft_ms: share.request.ttft_nanos().map(ms),
        tpot_ms: share.request.tpot_nanos().map(ms),
        generated_tokens: share.request.generated_tokens,
        share,
    };
    Json {
        rows: shares.requests.iter().map(row).collect(),
        between_ms: ms(shares.between_requests.wall()),
        unknown_ms: ms(shares.unknown.wall()),
    }
}

/// Prints a line for each request, and what is of none; they add up to the calls' time.
pub(super) fn print(trace: &Trace, shares: Option<&Shares>, limit: usize, out: &mut dyn Write) -> Result<()> {
    let Some(shares) = shares else {
        writeln!(out, "\nrequests are not known: sequences were not recorded")?;
        return Ok(());
    };
    heading("requests: their share of the calls that computed them, by tokens", out)?;
    let mut columns = Columns::new(
        &[
            "sequence",
            "begin",
            "tokens",
            "TTFT",
            "TPOT",
            "prompt",
            "output",
            "operators",
            "waits",
            "build",
            "sampling",
            "between",
            "probes",
            "other",
        ],
        1,
    );
    let time = |nanos: u64| duration(nanos as f64);
    let parts = |parts: &Parts| {
        let other =
            parts.between_nodes.saturating_add(parts.unattributed).saturating_add(parts.copies.unwrap_or(0));
        [
            time(parts.operators),
            time(parts.waits),
            time(parts.build),
            known(parts.sampling, time),
            time(parts.between_calls),
            known(parts.probes, time),
            time(other),
        ]
    };
    let shown = if limit == 0 { shares.requests.len() } else { limit };
    let mut all = shares.between_requests;
    all.add(&shares.unknown);
    let mut rest = Parts::default();
    for (index, share) in shares.requests.iter().enumerate() {
        let mut sum = share.prompt;
        sum.add(&share.output);
        all.add(&sum);
        if index >= shown {
            rest.add(&sum);
            continue;
        }
        let request = &share.request;
        let mut cells = vec![
            request.key.sequence.to_string(),
            format!("{:.3} s", begin_s(trace, share)),
            count(share.tokens),
            known(request.ttft_nanos(), time),
            known(request.tpot_nanos(), time),
            time(share.prompt.wall()),
            time(share.output.wall()),
        ];
        cells.extend(parts(&sum));
        columns.row(cells);
    }
    let mut line = |name: &str, of: &Parts| {
        let mut cells = vec![name.to_owned()];
        cells.extend(["", "", "", "", ""].map(str::to_owned));
        cells.push(time(of.wall()));
        cells.extend(parts(of));
        columns.row(cells);
    };
    if shares.requests.len() > shown {
        line("other requests", &rest);
    }
    line("between requests", &shares.between_requests);
    line("unknown sequences", &shares.unknown);
    line("sum", &all);
    columns.print(out)?;
    Ok(())
}
