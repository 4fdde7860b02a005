//! Two runs, or several a side: what got slower, by how much, and how sure that is.
//!
//! ```text
//! calls of a phase ─► ms/token of each ─► medians, block bootstrap ─► change ± interval
//! sampled calls ─► wall time of each node ─► by layer, module, op, name ─► contributions
//!
//!   change = Σ nodes + between nodes + outside graphs + rest        to the nanosecond
//! ```
//!
//! Everything is a difference of medians, B less A. Medians of parts do not add up to
//! the median of the whole, and the whole is taken from all calls, nodes from a sample:
//! what that leaves is shown as *rest*. With several runs a side, each figure is the mean
//! over the runs of what one run gives.

pub mod advise;
mod bootstrap;
mod environment;
mod nodes;
mod run;
mod samples;
mod verdict;

pub use environment::Difference;
pub use run::{NodeId, Unit};
pub use samples::{Samples, execution_in};

use crate::machine::{Held, state_totals};
use crate::rollup::Module;
use crate::trace::LoadProgress;
use crate::{Phase, TimeRange, Trace};
use bootstrap::{
    Draws, Estimate, FEWEST, NODE_ROUNDS, ROUNDS, RUN_SPREAD, RUNS_TO_RESAMPLE, mean, median, with_interval,
};
use nodes::Nodes;
use rayon::prelude::*;
use run::{Calls, Run};
use serde::Serialize;
use std::borrow::Borrow;
use std::sync::atomic::{AtomicU32, Ordering};

/// What contributions are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// What a node is for, in whichever layer: `ffn_up MUL_MAT`.
    Role,
    /// Nodes.
    Name,
    /// Operators.
    Op,
    /// Layers of the model.
    Layer,
    /// Parts of a layer.
    Module,
}

impl Grain {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Role, Self::Name, Self::Op, Self::Layer, Self::Module];

    /// The name on the command line and in the interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Name => "name",
            Self::Op => "op",
            Self::Layer => "layer",
            Self::Module => "module",
        }
    }
}

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The phase; `None` for the one that says most: decode if both sides have it.
    pub phase: Option<Phase>,
    /// What contributions are grouped by.
    pub grain: Grain,
}

/// What the change comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// B takes longer than A, beyond chance.
    Slower,
    /// B takes less, beyond chance.
    Faster,
    /// The time changed beyond chance, but the program's own work did not change as much
    /// as half of that: something else took the CPUs in one of the runs.
    Disturbed,
    /// The interval holds zero.
    NoDifference,
    /// Too few calls for an interval.
    NotKnown,
}

/// A comparison. Milliseconds are for each token (see `unit`); changes are B less A.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// What was compared.
    #[serde(serialize_with = "phase_name")]
    pub phase: Phase,
    /// What times are for.
    pub unit: Unit,
    /// Whether B is slower.
    pub outcome: Outcome,
    /// What to know before believing any number, the gravest first.
    pub warnings: Vec<String>,
    /// Whether the sides have at least half of the nodes' time in common; `None` without
    /// operators.
    pub comparable: Option<bool>,
    /// Part of the nodes' time in nodes that both sides have, with rows of the same length.
    pub matched_share: Option<f64>,
    /// Before.
    pub a: Side,
    /// After.
    pub b: Side,
    /// Change of the median.
    pub change: Change,
    /// Change of the mean.
    pub mean_change: Change,
    /// Change of the program's own work: the medians of nodes, of what is between them and
    /// of what is outside graphs. Interruptions fall on a node now and then, seldom on the
    /// same one, so that they are not in it; with states of threads on both sides they are known, and
    /// taken off. `None` without operators.
    pub undisturbed: Option<Change>,
    /// Change of the time in which threads could run, but had no CPU, on average; `None` when one side has
    /// no states of threads.
    pub preempted: Option<Change>,
    /// Types of weights that changed, the most bytes first.
    pub type_changes: Vec<TypeChange>,
    /// How much medians of runs are taken to differ, as a standard deviation in percent, since a
    /// side has too few runs to show it; `None` when both have enough.
    pub assumed_run_spread_percent: Option<f64>,
    /// How intervals were made.
    pub method: String,
    /// What contributions are grouped by.
    pub by: Grain,
    /// Contributions of nodes: those beyond chance first, the largest first.
    pub contributions: Vec<Contribution>,
    /// Change of the time in graphs, but in no node.
    pub between_nodes_ms: f64,
    /// Change of the time in the call, but in no graph.
    pub outside_graphs_ms: f64,
    /// Change of the median of the time in which threads had no CPU; `None` when it is not known, and then in
    /// the others.
    pub preempted_ms: Option<f64>,
    /// What is left: these and all contributions add up to the change of the median.
    pub rest_ms: f64,
    /// Single nodes, in the same order.
    pub nodes: Vec<Contribution>,
    /// What differs around the runs.
    pub environment: Vec<Difference>,
}

/// One side of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// Runs.
    pub runs: usize,
    /// Calls that were compared, over all runs.
    pub calls: usize,
    /// Calls that the recordings have.
    pub calls_recorded: usize,
    /// Of those compared, calls whose nodes were read.
    pub sampled: usize,
    /// Calls of other contexts or processes.
    pub left_out: usize,
    /// Sampled calls without nodes, since events were lost.
    pub lossy: usize,
    /// Median.
    pub median_ms: f64,
    /// Mean.
    pub mean_ms: f64,
    /// Nineteen in twenty take at most this long.
    pub p95_ms: f64,
    /// Median of each run.
    pub run_medians_ms: Vec<f64>,
    /// What probes added, by the recorder's own calibration; `None` when not measured.
    pub probe_ms: Option<f64>,
    /// How long threads could run, but had no CPU, on average; `None` when their states are not known on
    /// both sides.
    pub preempted_ms: Option<f64>,
    /// Who ran in their place, the longest first, without the program itself and the recorder: name with
    /// process, and milliseconds in which threads were preempted for it, of all threads together.
    pub preempters: Vec<(String, f64)>,
}

/// A type of weights that became another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeChange {
    /// On side A.
    pub a: String,
    /// On side B.
    pub b: String,
    /// Nodes that read such weights first.
    pub nodes: usize,
    /// Bytes that these nodes read and write in an execution each, on side A; `None` when not known.
    pub a_bytes: Option<u64>,
    /// The same on side B.
    pub b_bytes: Option<u64>,
    /// Change of their time, in milliseconds.
    pub ms: f64,
}

/// A change, and between what it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Milliseconds.
    pub ms: f64,
    /// Half the width of the interval; `None` when there is too little to tell.
    pub ms_half: Option<f64>,
    /// Percent of A; `None` when A is zero.
    pub percent: Option<f64>,
    /// Lower end of the interval.
    pub percent_low: Option<f64>,
    /// Upper end.
    pub percent_high: Option<f64>,
    /// Whether the interval leaves zero out.
    pub significant: bool,
}

/// What a node, or several, add to the change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contribution {
    /// What it is, such as `ffn_up MUL_MAT`.
    pub key: String,
    /// Layer, when all are of one.
    pub layer: Option<u32>,
    /// Module, when all are of one.
    pub module: Option<Module>,
    /// Nodes, on either side.
    pub nodes: usize,
    /// Median on side A, summed over nodes; `None` when A has none of them.
    pub a_ms: Option<f64>,
    /// The same on side B.
    pub b_ms: Option<f64>,
    /// B less A.
    pub ms: f64,
    /// Half the width of the 95 % interval.
    pub ms_half: Option<f64>,
    /// Whether it is more than four standard errors.
    pub significant: bool,
    /// Of several nodes the one that makes up more than half of it.
    pub mostly: Option<String>,
    /// What became of types or shapes: `q4_K → q8_0`.
    pub became: Option<String>,
    /// The nodes.
    #[serde(skip)]
    pub members: Vec<NodeId>,
}

impl Diff {
    /// The parts of the change that are in no node, with what they are. `nodes`: whether any were read, since
    /// without them all of it is the rest.
    pub fn outside_nodes(&self, nodes: bool) -> Vec<(&'static str, f64, &'static str)> {
        let mut parts = Vec::new();
        if nodes {
            parts.push(("between nodes", self.between_nodes_ms, "in graphs, but in no node"));
            parts.push(("outside graphs", self.outside_graphs_ms, "in the call, but in no graph"));
        }
        if let Some(ms) = self.preempted_ms {
            parts.push(("without a CPU", ms, "threads could run, but others did"));
        }
        parts.push(("rest", self.rest_ms, "interruptions, and what else medians leave out"));
        parts
    }

    /// Whether B is slower by more than `percent`, and surely slower at all.
    pub fn is_regression(&self, percent: f64) -> bool {
        self.outcome == Outcome::Slower && self.change.percent.is_some_and(|change| change > percent)
    }
}

/// Why two sides cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A run has nothing of that phase.
    #[error("run {run} of side {side} has no {phase} calls")]
    NoCalls {
        /// `A` or `B`.
        side: &'static str,
        /// From 1.
        run: usize,
        /// Name of the phase.
        phase: &'static str,
    },
    /// Reading failed, or was cancelled.
    #[error(transparent)]
    Read(#[from] llmtrace_format::Error),
}

fn phase_name<S: serde::Serializer>(phase: &Phase, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(phase.name())
}

/// Compares two sides, each of one run or more.
///
/// # Errors
/// [`Failure::NoCalls`] when a run has nothing of the phase; cancelled when `progress`
/// returned `false`.
pub fn diff<T: Borrow<Trace>>(
    a: &[T],
    b: &[T],
    options: &Options,
    progress: LoadProgress<'_>,
) -> Result<Diff, Failure> {
    diff_with_samples(a, b, options, progress).map(|(diff, _)| diff)
}

/// The same, with what was read for it, to look at single rows of it.
///
/// # Errors
/// As [`diff()`].
pub fn diff_with_samples<T: Borrow<Trace>>(
    a: &[T],
    b: &[T],
    options: &Options,
    progress: LoadProgress<'_>,
) -> Result<(Diff, Samples), Failure> {
    let [a, b] = [a, b].map(|side| side.iter().map(Borrow::borrow).collect::<Vec<&Trace>>());
    let phase = options.phase.unwrap_or_else(|| phase_of(&a, &b));
    let mut calls = [&a, &b].map(|side| side.iter().map(|trace| Calls::of(trace, phase)).collect::<Vec<_>>());
    for (name, side) in ["A", "B"].into_iter().zip(&calls) {
        if side.is_empty() || side.iter().any(|run| run.calls.is_empty()) {
            let run = side.iter().position(|run| run.calls.is_empty()).unwrap_or(0) + 1;
            return Err(Failure::NoCalls { side: name, run, phase: phase.name() });
        }
    }
    let every = || calls.iter().flatten();
    let unit = if every().all(|run| run.unit == Unit::Token) {
        Unit::Token
    } else {
        every().map(|run| run.unit).find(|unit| *unit != Unit::Token).unwrap_or(Unit::Call)
    };
    if unit == Unit::Call {
        calls = calls.map(|side| side.into_iter().map(Calls::by_call).collect());
    }
    // Attention grows with the context: the same stretch of each run.
    let count = calls.iter().flatten().map(|run| run.calls.len()).min().unwrap_or(0);
    let [in_a, in_b] = &calls;
    let traces = [pairs(&a, in_a), pairs(&b, in_b)];
    // One side alone would only look as if the other had none.
    let all_have = a.iter().chain(&b).all(|trace| trace.machine.has_states);
    let parts: Vec<AtomicU32> = (0..a.len() + b.len()).map(|_| AtomicU32::new(0)).collect();
    // All runs at once: where one has but a core's work left, others use the rest.
    let read = |(at, (trace, calls)): (usize, &(&Trace, &Calls))| {
        let report = |part: f32| {
            if let Some(of_it) = parts.get(at) {
                of_it.store(part.to_bits(), Ordering::Relaxed);
            }
            let sum: f32 = parts.iter().map(|part| f32::from_bits(part.load(Ordering::Relaxed))).sum();
            progress(sum / parts.len() as f32)
        };
        let held = all_have.then(|| Held::of(trace)).flatten();
        Run::read(trace, calls, count, held.as_ref(), &report)
    };
    let [in_a, in_b] = &traces;
    let both: Vec<&(&Trace, &Calls)> = in_a.iter().chain(in_b).collect();
    let mut in_a: Vec<Run> =
        both.into_par_iter().enumerate().map(read).collect::<llmtrace_format::Result<_>>()?;
    let in_b = in_a.split_off(a.len());
    let runs = [in_a, in_b];
    let (diff, groups) = compare(&traces, &runs, (phase, unit), options.grain);
    Ok((diff, Samples { runs, groups }))
}

/// The phases that both traces have calls of, the one that says most first.
pub fn phases_of(a: &Trace, b: &Trace) -> Vec<Phase> {
    let both = |phase: &Phase| [a, b].iter().all(|trace| !Calls::of(trace, *phase).calls.is_empty());
    PHASES.into_iter().filter(both).collect()
}

/// What does not match around two traces, as far as it is known without their op spans: what to say
/// before anything else, and all that differs.
pub fn mismatch(a: &Trace, b: &Trace) -> (Vec<String>, Vec<Difference>) {
    let phase = phase_of(&[a], &[b]);
    let calls = [a, b].map(|trace| Calls::of(trace, phase));
    let [in_a, in_b] = &calls;
    let (a, b) = ([(a, in_a)], [(b, in_b)]);
    let found = environment::differences([&a, &b]);
    let same = environment::same_recording([&a, &b]).then(|| environment::SAME.to_owned());
    (same.into_iter().chain(environment::differing(&found)).collect(), found)
}

fn pairs<'a>(traces: &[&'a Trace], calls: &'a [Calls]) -> Vec<(&'a Trace, &'a Calls)> {
    traces.iter().copied().zip(calls).collect()
}

/// Phases, the one that says most first.
const PHASES: [Phase; 4] = [Phase::Decode, Phase::Encode, Phase::Prefill, Phase::Unknown];

/// The phase that says most and that all have.
fn phase_of(a: &[&Trace], b: &[&Trace]) -> Phase {
    let all_have = |phase: &Phase| a.iter().chain(b).all(|trace| !Calls::of(trace, *phase).calls.is_empty());
    PHASES.into_iter().find(all_have).unwrap_or(Phase::Decode)
}

type Pairs<'a> = Vec<(&'a Trace, &'a Calls)>;

/// Contributions, for each grain.
type Groups = Vec<(Grain, Vec<Contribution>)>;

fn compare(
    traces: &[Pairs<'_>; 2],
    runs: &[Vec<Run>; 2],
    (phase, unit): (Phase, Unit),
    by: Grain,
) -> (Diff, Groups) {
    let totals = runs.each_ref().map(|side| side.iter().map(|run| run.totals.as_slice()).collect::<Vec<_>>());
    let draws = |rounds: usize, length: fn(&Run) -> usize| {
        let mut seed = 0;
        runs.each_ref().map(|side| {
            seed += 1;
            Draws::new(&side.iter().map(length).collect::<Vec<_>>(), rounds, seed)
        })
    };
    let of_totals = draws(ROUNDS, |run| run.totals.len());
    let [in_a, in_b] = &totals;
    let change = change([in_a, in_b], &of_totals, median);
    let mean_change = self::change([in_a, in_b], &of_totals, mean);
    let of_nodes = draws(NODE_ROUNDS, |run| run.sampled);
    let nodes = Nodes::new(runs, &of_nodes);
    let groups: Groups = Grain::ALL.into_par_iter().map(|grain| (grain, nodes.grouped(grain))).collect();
    let of = |wanted: Grain| groups.iter().find(|(grain, _)| *grain == wanted);
    let contributions = of(by).map(|(_, found)| found.clone()).unwrap_or_default();
    let single = of(Grain::Name).map(|(_, found)| found.clone()).unwrap_or_default();
    let between = nodes.between.value.round() as i64;
    let outside = nodes.outside.value.round() as i64;
    let whole = (change.ms * 1e6).round() as i64;
    let in_nodes: i64 = nodes.all.iter().map(|node| node.nanos).sum();
    let lost = preempted(runs);
    let of_lost = |statistic| {
        let [a, b] = lost.as_ref()?.each_ref().map(|side| side.as_slice());
        Some(self::change([a, b], &of_nodes, statistic))
    };
    let preempted_nanos = of_lost(median).map(|change| (change.ms * 1e6).round() as i64);
    let rest = whole - in_nodes - between - outside - preempted_nanos.unwrap_or(0);
    let [a, b] = [0, 1].map(|at| match (traces.get(at), runs.get(at)) {
        (Some(pairs), Some(runs)) => side(pairs, runs, phase),
        _ => Side::default(),
    });
    let [of_a, of_b] = traces;
    let environment = environment::differences([of_a, of_b]);
    let matched_share = nodes.matched_share();
    let warnings = environment::warnings([of_a, of_b], [&a, &b], matched_share, &environment);
    let undisturbed = nodes.undisturbed([&a, &b].map(|side| (side.median_ms * 1e6, side.runs)));
    let own = |own: &Change| own.significant && own.ms / change.ms >= 0.5;
    let preempted = of_lost(mean);
    // Interruptions make what a token takes so uneven that its own interval may hold anything.
    let taken = preempted.as_ref().is_some_and(|lost| {
        lost.significant && lost.ms.abs() >= 0.05 * a.median_ms && lost.ms / mean_change.ms >= 0.5
    });
    let outcome = match change.ms_half {
        None => Outcome::NotKnown,
        Some(_) if taken && !(change.significant && undisturbed.as_ref().is_some_and(own)) => {
            Outcome::Disturbed
        }
        Some(_) if !change.significant => Outcome::NoDifference,
        Some(_) if undisturbed.as_ref().is_some_and(|change| !own(change)) => Outcome::Disturbed,
        Some(_) if change.ms > 0.0 => Outcome::Slower,
        Some(_) => Outcome::Faster,
    };
    let method = method(&a, &b);
    let too_few = a.runs.min(b.runs) < RUNS_TO_RESAMPLE;
    let assumed_run_spread_percent = too_few.then_some(RUN_SPREAD * 100.0);
    let diff = Diff {
        phase,
        unit,
        outcome,
        warnings,
        comparable: matched_share.map(|share| share >= 0.5),
        matched_share,
        change,
        mean_change,
        undisturbed,
        preempted,
        type_changes: nodes.type_changes(),
        assumed_run_spread_percent,
        method,
        by,
        contributions,
        between_nodes_ms: between as f64 / 1e6,
        outside_graphs_ms: outside as f64 / 1e6,
        preempted_ms: preempted_nanos.map(|nanos| nanos as f64 / 1e6),
        rest_ms: rest as f64 / 1e6,
        nodes: single,
        environment,
        a,
        b,
    };
    (diff, groups)
}

/// Nanoseconds in which threads had no CPU, by side and run; `None` when they are not told apart.
fn preempted(runs: &[Vec<Run>; 2]) -> Option<[Vec<&[f32]>; 2]> {
    let of = |side: &'_ Vec<Run>| side.iter().all(|run| run.preempted.is_some() && run.sampled > 0);
    if !runs.iter().all(of) {
        return None;
    }
    Some(runs.each_ref().map(|side| side.iter().filter_map(|run| run.preempted.as_deref()).collect()))
}

/// Who had the CPUs while threads that compute could run, in the calls that are compared.
fn preempters(pairs: &Pairs<'_>, runs: &[Run]) -> Vec<(String, f64)> {
    let mut all: std::collections::BTreeMap<String, f64> = std::collections::BTreeMap::new();
    for ((trace, calls), run) in pairs.iter().zip(runs) {
        let calls = calls.calls.get(..run.totals.len()).unwrap_or_default();
        let Some((first, last)) = calls.first().zip(calls.last()) else { continue };
        let range = TimeRange::new(first.range.begin, last.range.end);
        let tokens: f64 = calls.iter().map(|call| call.tokens).sum();
        for row in state_totals(trace, Some(range)).preempters {
            // Whoever preempts a thread may be followed by another on its CPU: the recorder, which runs
            // often and shortly, by those that run long.
            if !row.is_target && row.name != "llmtrace" {
                *all.entry(row.label()).or_default() +=
                    row.nanos as f64 / 1e6 / tokens.max(1.0) / runs.len() as f64;
            }
        }
    }
    let mut all: Vec<(String, f64)> = all.into_iter().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(5);
    all
}

fn method(a: &Side, b: &Side) -> String {
    let sampled = format!(
        "all calls are timed, nodes in {} of {} and {} of {} calls",
        a.sampled, a.calls, b.sampled, b.calls
    );
    if a.runs.min(b.runs) >= RUNS_TO_RESAMPLE {
        return format!("bootstrap over runs, and over blocks of calls in each; {sampled}");
    }
    format!(
        "bootstrap over blocks of consecutive calls; {sampled}. Fewer than {RUNS_TO_RESAMPLE} runs a side \
         cannot show how much runs of the same thing differ: a standard deviation of {} % is assumed",
        RUN_SPREAD * 100.0
    )
}

fn side(pairs: &Pairs<'_>, runs: &[Run], phase: Phase) -> Side {
    let totals: Vec<&[f32]> = runs.iter().map(|run| run.totals.as_slice()).collect();
    let p95 = |values: &mut [f32]| {
        values.sort_by(f32::total_cmp);
        values.get((values.len() * 95).div_ceil(100).saturating_sub(1)).copied().map_or(0.0, f64::from)
    };
    let lost: Option<Vec<&[f32]>> = runs.iter().map(|run| run.preempted.as_deref()).collect();
    let told = lost.is_some();
    Side {
        runs: runs.len(),
        calls: runs.iter().map(|run| run.totals.len()).sum(),
        calls_recorded: pairs.iter().map(|(_, calls)| calls.calls.len()).sum(),
        sampled: runs.iter().map(|run| run.sampled).sum(),
        left_out: pairs.iter().map(|(_, calls)| calls.left_out).sum(),
        lossy: runs.iter().map(|run| run.lossy).sum(),
        median_ms: bootstrap::estimate(&totals, median) / 1e6,
        mean_ms: bootstrap::estimate(&totals, mean) / 1e6,
        p95_ms: bootstrap::estimate(&totals, p95) / 1e6,
        run_medians_ms: totals.iter().map(|run| median(&mut run.to_vec()) / 1e6).collect(),
        probe_ms: environment::probe_nanos(pairs, phase).map(|nanos| nanos / 1e6),
        preempted_ms: lost.map(|lost| bootstrap::estimate(&lost, mean) / 1e6),
        preempters: if told { preempters(pairs, runs) } else { Vec::new() },
    }
}

fn change([a, b]: [&[&[f32]]; 2], draws: &[Draws; 2], statistic: fn(&mut [f32]) -> f64) -> Change {
    let (in_a, in_b) = (bootstrap::estimate(a, statistic), bootstrap::estimate(b, statistic));
    let [of_a, of_b] = draws;
    let enough = [a, b].iter().all(|side| side.iter().map(|run| run.len()).sum::<usize>() >= FEWEST);
    let resampled: Vec<f64> = if enough {
        let (a, b) = rayon::join(|| of_a.resample(a, statistic), || of_b.resample(b, statistic));
        a.into_iter().zip(b).map(|(a, b)| b - a).collect()
    } else {
        Vec::new()
    };
    let nanos = (in_b - in_a).round();
    let found = with_interval(nanos, &resampled, [of_a, of_b]);
    Change::of(found.across_runs([(in_a, a.len()), (in_b, b.len())]), in_a)
}

impl Change {
    /// An estimate in nanoseconds, and percent of so many.
    fn of(found: Estimate, whole: f64) -> Self {
        let percent = |nanos: f64| (whole > 0.0).then_some(nanos / whole * 100.0);
        Self {
            ms: found.value / 1e6,
            ms_half: found.half.map(|half| half / 1e6),
            percent: percent(found.value),
            percent_low: found.half.and_then(|half| percent(found.value - half)),
            percent_high: found.half.and_then(|half| percent(found.value + half)),
            significant: found.is_significant(false),
        }
    }
}
