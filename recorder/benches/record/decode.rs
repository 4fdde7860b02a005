//! Slowdown of decoding, and how far it is from the least that the kernel asks.

use crate::floor::Floor;
use crate::recorder::{Recorded, Recorder, ending, recording};
use crate::run::Options;
use crate::statistics::{median, median_of, ratio_of_medians};
use crate::table::Row;
use crate::target::{Generation, TOKENS, Target};
use anyhow::{Context as _, Result, ensure};
use llmtrace_analysis::{Phase, Trace};

/// A slowdown may cost this many times what empty programs in the same places would.
const FLOOR_GOAL: f64 = 1.3;
const TOKEN_GOAL_PERCENT: f64 = 0.2;
const MACHINE_GOAL_PERCENT: f64 = 1.0;
/// What is not probed by default once the order of nodes is known.
const BEGINS: &[&str] = &["op begin", "fused op begin"];
/// Entry and return of a decode call and of its micro-batch.
const HITS_OF_A_CALL: f64 = 4.0;

/// A generation while something records, and one without, next to each other.
pub(crate) struct Pair {
    with: Generation,
    alone: Generation,
    recorded: Recorded,
}

impl Pair {
    /// Which of the two comes first alternates with `round`.
    pub(crate) fn measure(
        target: &Target,
        round: usize,
        start: impl Fn() -> Result<Recorder>,
    ) -> Result<Self> {
        let record = || -> Result<(Generation, Recorded)> {
            let mut recorder = start()?;
            recorder.wait_for_rows()?;
            let with = target.generation()?;
            Ok((with, recorder.stop()?))
        };
        if round.is_multiple_of(2) {
            let (with, recorded) = record()?;
            Ok(Self { with, recorded, alone: target.generation()? })
        } else {
            let alone = target.generation()?;
            let (with, recorded) = record()?;
            Ok(Self { with, recorded, alone })
        }
    }
}

/// Slowdowns of interleaved pairs, in percent.
#[derive(Default)]
pub(crate) struct Slowdowns {
    /// Of a token.
    pub(crate) wall: Vec<f64>,
    /// Of the CPU time of the whole process, which other programs on the host disturb less.
    cpu: Vec<f64>,
}

impl Slowdowns {
    pub(crate) fn add(&mut self, pair: &Pair) {
        self.wall.push(pair.with.slower_than(&pair.alone));
        self.cpu.push((pair.with.cpu_secs / pair.alone.cpu_secs - 1.0) * 100.0);
    }

    pub(crate) fn remark(&self) -> String {
        format!("{} pairs; by CPU time {}", self.wall.len(), median(&self.cpu).text(2, "%"))
    }
}

/// Pairs with our recorder under one set of options.
#[derive(Default)]
pub(crate) struct Ours {
    pub(crate) slowdowns: Slowdowns,
    alone_millis: Vec<f64>,
    hits: Vec<f64>,
    floors_millis: Vec<f64>,
    /// By the clock: slowdown with empty programs at the same instructions, in percent.
    floors_percent: Vec<f64>,
    lost: u64,
}

impl Ours {
    pub(crate) fn add(&mut self, target: &Target, round: usize, options: &[&str]) -> Result<()> {
        let pair = Pair::measure(target, round, || Recorder::start(target.pid(), options))?;
        let trace = pair.recorded.trace()?;
        ensure!(trace.decodes.len() > TOKENS, "the recording has fewer tokens than a generation");
        let hits = hits_per_token(&trace) + HITS_OF_A_CALL;
        let floor = hits * empty_nanos(&trace)? / 1e6;
        self.slowdowns.add(&pair);
        self.alone_millis.push(pair.alone.millis_per_token());
        self.hits.push(hits);
        self.floors_millis.push(floor);
        self.lost += ending(&trace)?.lost;
        Ok(())
    }

    /// Measures the floor in the same process, as [`Self::add`] measures us.
    fn add_floor(&mut self, target: &Target, round: usize, floor: &Floor, but: &[&str]) -> Result<()> {
        let empty = || -> Result<Generation> {
            let links = floor.attach(but)?;
            let with = target.generation()?;
            drop(links);
            Ok(with)
        };
        let (with, alone) = if round.is_multiple_of(2) {
            (empty()?, target.generation()?)
        } else {
            let alone = target.generation()?;
            (empty()?, alone)
        };
        self.floors_percent.push(with.slower_than(&alone));
        Ok(())
    }

    pub(crate) fn remark(&self) -> String {
        let middle = |values: &[f64]| median_of(values.iter().copied());
        let (alone, floor) = (middle(&self.alone_millis), middle(&self.floors_millis));
        format!(
            "{}; {alone:.2} ms a token alone, {:.0} hits a token, {floor:.2} ms = {:.2} % at the price of an \
             empty program in a tight loop, {} events lost",
            self.slowdowns.remark(),
            middle(&self.hits),
            floor / alone * 100.0,
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
    Ok(cost.context("the trace has no price of an empty hit")?.nanos as f64)
}

/// At level `thread`: one probe a node, and two.
pub(crate) fn measure(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let floor = Floor::new(target.pid())?;
    let (mut one, mut two) = (Ours::default(), Ours::default());
    for round in 0..options.pairs {
        one.add(&target, round, &[])?;
        one.add_floor(&target, round, &floor, BEGINS)?;
        two.add(&target, round, &["--exact-begins"])?;
        two.add_floor(&target, round, &floor, &[])?;
    }
    let mut rows = Vec::new();
    for (name, ours, goal) in [("default", &one, 1.6), ("`--exact-begins`", &two, 3.2)] {
        let figure = format!("decode slowdown, {name}");
        rows.push(Row::at_most(&figure, goal, median(&ours.slowdowns.wall), 2, "%").remark(ours.remark()));
        let ratio = ratio_of_medians(&ours.slowdowns.wall, &ours.floors_percent);
        let floor = median(&ours.floors_percent).text(2, "%");
        let row = Row::at_most(format!("{figure}, against the floor"), FLOOR_GOAL, ratio, 2, "×");
        rows.push(row.remark(format!("empty programs at the same instructions: {floor}")));
    }
    Ok(rows)
}

/// What counting adds to level `thread`: three counters that the kernel keeps for each thread, and
/// three events of perf, as hardware counters are.
pub(crate) fn measure_counters(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let (mut none, mut task, mut perf) = (Ours::default(), Ours::default(), Ours::default());
    for round in 0..options.pairs {
        none.add(&target, round, &["--without", "samples"])?;
        task.add(&target, round, &["--counters", "page-faults,context-switches,task-clock"])?;
        perf.add(
            &target,
            round,
            &["--counters", "software/config=0/,software/config=2/,software/config=3/"],
        )?;
    }
    let row = |figure: &str, goal, with: &Ours| {
        let pairs = with.slowdowns.wall.iter().zip(&none.slowdowns.wall);
        let more: Vec<f64> = pairs.map(|(with, none)| with - none).collect();
        let row = Row::at_most(format!("decode slowdown, {figure} over none"), goal, median(&more), 2, "%");
        row.remark(format!("with: {}; none: {}", with.remark(), none.remark()))
    };
    Ok(vec![
        row("three counters of the kernel, and samples,", 3.0, &task),
        row("three events of perf, and samples,", 5.0, &perf),
    ])
}

/// What `--sched --faults` cost beside level `thread`.
pub(crate) fn measure_machine(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let (mut with, mut without) = (Ours::default(), Ours::default());
    for round in 0..options.pairs {
        with.add(&target, round, &["--sched", "--faults"])?;
        without.add(&target, round, &[])?;
    }
    let more: Vec<f64> = with
        .slowdowns
        .wall
        .iter()
        .zip(&without.slowdowns.wall)
        .map(|(with, without)| with - without)
        .collect();
    let figure = "decode slowdown, `--sched --faults` over level `thread`";
    let row = Row::at_most(figure, MACHINE_GOAL_PERCENT, median(&more), 2, "%");
    Ok(vec![row.remark(format!("with: {}; without: {}", with.remark(), without.remark()))])
}

/// At level `token`. Half as many pairs again, since the figure is smaller than the noise.
pub(crate) fn measure_token(options: &Options) -> Result<Vec<Row>> {
    let target = Target::gemma(options.threads)?;
    let mut ours = Ours::default();
    let mut nothing = Vec::new();
    for round in 0..options.pairs + options.pairs / 2 {
        ours.add(&target, round, &["--level", "token"])?;
        let (first, second) = (target.generation()?, target.generation()?);
        nothing.push(if round.is_multiple_of(2) {
            first.slower_than(&second)
        } else {
            second.slower_than(&first)
        });
    }
    let slowdown = median(&ours.slowdowns.wall);
    let row = Row::at_most("decode slowdown, level `token`", TOKEN_GOAL_PERCENT, slowdown, 2, "%");
    let noise = Row::plain("the same without a recorder: the noise", median(&nothing).text(2, "%"));
    Ok(vec![row.remark(ours.remark()), noise])
}
