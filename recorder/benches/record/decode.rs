//! Slowdown of decoding, and how far it is from the least that the kernel asks.

use crate::recorder::{Recorded, Recorder, ending, recording};
use crate::run::Options;
use crate::statistics::{Estimate, median, median_of};
use crate::table::Row;
use crate::target::{TOKENS, Target};
use anyhow::{Result, ensure};
use llmtrace_analysis::{Phase, Trace};

/// A slowdown may cost this many times what empty programs in the same places would.
const FLOOR_GOAL: f64 = 1.3;
const TOKEN_GOAL_PERCENT: f64 = 0.2;
/// Entry and return of a decode call and of its micro-batch.
const HITS_OF_A_CALL: f64 = 4.0;

/// A generation while something records, and one without, next to each other.
pub(crate) struct Pair {
    pub(crate) recorded_millis: f64,
    pub(crate) alone_millis: f64,
    pub(crate) recorded: Recorded,
}

impl Pair {
    pub(crate) fn slowdown_percent(&self) -> f64 {
        (self.recorded_millis / self.alone_millis - 1.0) * 100.0
    }
}

/// Which of the two comes first alternates with `round`.
pub(crate) fn pair(target: &Target, round: usize, start: impl Fn() -> Result<Recorder>) -> Result<Pair> {
    let record = || -> Result<(f64, Recorded)> {
        let mut recorder = start()?;
        recorder.wait_for_rows()?;
        let millis = target.millis_per_token()?;
        Ok((millis, recorder.stop()?))
    };
    if round.is_multiple_of(2) {
        let (recorded_millis, recorded) = record()?;
        Ok(Pair { recorded_millis, alone_millis: target.millis_per_token()?, recorded })
    } else {
        let alone_millis = target.millis_per_token()?;
        let (recorded_millis, recorded) = record()?;
        Ok(Pair { recorded_millis, alone_millis, recorded })
    }
}

/// Pairs with our recorder under one set of options.
#[derive(Default)]
pub(crate) struct Ours {
    slowdowns: Vec<f64>,
    alone_millis: Vec<f64>,
    hits: Vec<f64>,
    floors_nanos: Vec<f64>,
    floor_ratios: Vec<f64>,
    lost: u64,
}

impl Ours {
    pub(crate) fn add(&mut self, target: &Target, round: usize, options: &[&str]) -> Result<()> {
        let pair = pair(target, round, || Recorder::start(target.pid(), options))?;
        let trace = pair.recorded.trace()?;
        ensure!(trace.decodes.len() > TOKENS, "the recording has fewer tokens than a generation");
        let hits = hits_per_token(&trace) + HITS_OF_A_CALL;
        let floor = hits * empty_nanos(&trace)?;
        self.slowdowns.push(pair.slowdown_percent());
        self.alone_millis.push(pair.alone_millis);
        self.hits.push(hits);
        self.floors_nanos.push(floor);
        self.floor_ratios.push((pair.recorded_millis - pair.alone_millis) * 1e6 / floor);
        self.lost += ending(&trace)?.lost;
        Ok(())
    }

    pub(crate) fn slowdowns(&self) -> &[f64] {
        &self.slowdowns
    }

    pub(crate) fn remark(&self) -> String {
        let middle = |values: &[f64]| median_of(values.iter().copied());
        format!(
            "{} pairs, {:.2} ms a token alone, {:.0} hits a token, floor {:.2} ms ({:.2} %), {} events lost",
            self.slowdowns.len(),
            middle(&self.alone_millis),
            middle(&self.hits),
            middle(&self.floors_nanos) / 1e6,
            middle(&self.floors_nanos) / 1e4 / middle(&self.alone_millis),
            self.lost,
        )
    }
}

/// Probe hits of the calling thread in a decoded token's graphs.
fn hits_per_token(trace: &Trace) -> f64 {
    let decoded =
        |ubatch: u32| trace.ubatches.iter().any(|row| row.id == ubatch && row.phase == Phase::Decode as u8);
    let spans = trace.graph_spans.iter().filter(|span| decoded(span.ubatch));
    let hits: Vec<f64> = spans.map(|span| f64::from(span.probe_hits)).collect();
    if hits.is_empty() { 0.0 } else { median_of(hits.into_iter()) }
}

fn empty_nanos(trace: &Trace) -> Result<f64> {
    let cost = recording(trace)?.costs.iter().find(|cost| cost.purpose == "empty");
    cost.map(|cost| cost.nanos as f64)
        .ok_or_else(|| anyhow::anyhow!("the trace has no price of an empty hit"))
}

fn percent_row(figure: &str, slowdown: Estimate, goal: f64) -> Row {
    Row::new(figure, format!("≤ {goal} %"), slowdown.text(2, "%"), slowdown.value <= goal)
}

/// At level `thread`: one probe a node, and two.
pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let (mut one, mut two) = (Ours::default(), Ours::default());
    for round in 0..options.pairs {
        one.add(&target, round, &[])?;
        two.add(&target, round, &["--exact-begins"])?;
    }
    let mut rows = Vec::new();
    for (name, ours, goal) in [("default", &one, 1.6), ("`--exact-begins`", &two, 3.2)] {
        let figure = format!("decode slowdown, {name}");
        rows.push(percent_row(&figure, median(&ours.slowdowns), goal).remark(ours.remark()));
        let ratio = median(&ours.floor_ratios);
        rows.push(Row::new(
            format!("{figure}, against the floor"),
            format!("≤ {FLOOR_GOAL} ×"),
            ratio.to_string(),
            ratio.value <= FLOOR_GOAL,
        ));
    }
    Ok(rows)
}

/// At level `token`. Half as many pairs again, since the figure is smaller than the noise.
pub(crate) fn measure_token(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let mut ours = Ours::default();
    for round in 0..options.pairs + options.pairs / 2 {
        ours.add(&target, round, &["--level", "token"])?;
    }
    let slowdown = median(&ours.slowdowns);
    Ok(vec![
        percent_row("decode slowdown, level `token`", slowdown, TOKEN_GOAL_PERCENT).remark(ours.remark()),
    ])
}
