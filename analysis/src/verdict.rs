//! What limits an operator, a phase or the run, how sure that is, and why.
//!
//! The time of a phase is split into what each limit explains:
//!
//! * *synchronisation*: threads waiting at barriers for the last one;
//! * *overhead*: between nodes, building graphs, and nodes so short that starting them
//!   is most of their time;
//! * *I/O*: threads asleep in page faults, where their states were recorded; else first
//!   executions that took far longer than the same node later, over weights that were not
//!   in memory;
//! * *memory* and *compute*: nodes whose roof is the one or the other.
//!
//! What explains more than the others together by `CLEAR` is the verdict; two that
//! share the time are *mixed*; where most is not explained, the verdict is *unknown*.

use crate::attribution::{Parts, Preempted};
use crate::ceilings::Roofs;
use crate::machine::{fault_totals, fault_waits, held_up};
use crate::profile::{NodeProfile, Profile};
use crate::roofline::{Group, roof_nanos};
use crate::stats::ratio;
use crate::{Phase, Trace};
use serde::Serialize;
use std::collections::HashMap;

/// Part of the time that a limit has to explain.
const CLEAR: f64 = 0.5;
/// Longest mean wall time of a node that is small: its threads are started and
/// gathered again in some microseconds.
const SMALL_NANOS: f64 = 10_000.0;
/// A roof has to be so much longer than the other one to decide.
const DECIDES: f64 = 1.5;
/// Below this part of both roofs, something else limits.
const FAR: f64 = 0.05;
/// How much longer than ever after an execution takes that waits for a disk.
const COLD: u64 = 2;
/// How much slower than dot products in the first cache a real matrix product may be.
const SLOW_PRODUCT: f64 = 8.0;

/// A limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Bytes from memory.
    Memory,
    /// Operations.
    Compute,
    /// Waiting for other threads.
    Synchronisation,
    /// Starting things.
    Overhead,
    /// Waiting for a disk.
    Io,
    /// Two of these.
    Mixed,
    /// The trace does not tell.
    #[default]
    Unknown,
}

impl Bound {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory-bound",
            Self::Compute => "compute-bound",
            Self::Synchronisation => "synchronisation-bound",
            Self::Overhead => "overhead-bound",
            Self::Io => "I/O-bound",
            Self::Mixed => "mixed",
            Self::Unknown => "unknown",
        }
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// A guess by what is likely, with inputs missing.
    #[default]
    Low,
    /// Measured, but not far from another verdict.
    Medium,
    /// Measured and clear.
    High,
}

impl Confidence {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A verdict with its evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// What limits.
    pub bound: Bound,
    /// How sure that is.
    pub confidence: Confidence,
    /// Numbers that speak for it.
    pub evidence: Vec<String>,
    /// What would have made it surer.
    pub missing: Vec<String>,
    /// Part of the time that each limit explains, from 0 to 1, the largest first; only of
    /// phases and the run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<(Bound, f64)>,
}

const NO_CEILINGS: &str = "ceilings of the host: `llmtrace calibrate`, then record again";
const NO_FAULTS: &str =
    "states of threads (`record --sched --faults`): I/O is inferred from first executions";

/// The verdict on nodes taken together.
pub fn of_group(group: &Group, roofs: &Roofs) -> Verdict {
    let mut verdict = Verdict::default();
    let (wall, balanced) = group.on_cpu();
    let waits = ratio(wall.saturating_sub(balanced), wall);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    if waits > CLEAR {
        verdict.bound = Bound::Synchronisation;
        verdict.confidence = if waits > 0.65 { Confidence::High } else { Confidence::Medium };
        verdict.evidence.push(format!("threads wait for the last one {} of the time", percent(waits)));
        return verdict;
    }
    let small = group.mean_on_cpu() < SMALL_NANOS;
    match (group.memory_nanos, group.compute_nanos) {
        (Some(memory), Some(compute)) => {
            let share = group.roof_share().unwrap_or(0.0);
            if small && share < 0.5 {
                verdict.bound = Bound::Overhead;
                verdict.confidence = if share < 0.2 { Confidence::High } else { Confidence::Medium };
                verdict.evidence.push(format!("{:.1} µs each on average", group.mean_on_cpu() / 1e3));
            } else if share < FAR {
                verdict.evidence.push("far under both roofs".to_owned());
            } else {
                let ratio = memory.max(compute) / memory.min(compute).max(f64::MIN_POSITIVE);
                verdict.bound = match ratio {
                    ratio if ratio < DECIDES => Bound::Mixed,
                    _ if memory > compute => Bound::Memory,
                    _ => Bound::Compute,
                };
                verdict.confidence = match share {
                    share if share >= 0.5 && ratio >= 2.0 => Confidence::High,
                    share if share >= 0.2 => Confidence::Medium,
                    _ => Confidence::Low,
                };
            }
            verdict.evidence.push(format!("{} of its roof", percent(share)));
            let rates = [(group.bytes_per_second(), "GB/s"), (group.flops_per_second(), "Gop/s")];
            for (rate, unit) in rates {
                verdict.evidence.extend(rate.map(|rate| format!("{:.1} {unit}", rate / 1e9)));
            }
            let counted = group.traffic.and_then(|traffic| traffic.ratio());
            verdict.evidence.extend(counted.map(|ratio| format!("{ratio:.2} × its bytes came from memory")));
        }
        _ => {
            verdict.missing.extend(roofs.bytes.is_none().then(|| NO_CEILINGS.to_owned()));
            let intensity = group.intensity();
            if small {
                verdict.bound = Bound::Overhead;
                verdict.evidence.push(format!("{:.1} µs each on average", group.mean_on_cpu() / 1e3));
            } else if let Some(intensity) = intensity {
                // Far on either side of where the roofs of today's CPUs meet.
                verdict.bound = match intensity {
                    ..=8.0 => Bound::Memory,
                    100.0.. => Bound::Compute,
                    _ => Bound::Unknown,
                };
                verdict.evidence.push(format!("{intensity:.1} operations a byte"));
            }
        }
    }
    if group.at_most {
        verdict.missing.push("experts chosen, or cache cells in use: bytes are an upper bound".to_owned());
    }
    verdict
}

/// The verdict on a phase, or on all calls when there is none.
pub fn of_phase(trace: &Trace, profile: &Profile, roofs: &Roofs, phase: Option<Phase>) -> Verdict {
    let mut parts = Parts::default();
    let calls = profile.calls.iter().filter(|call| phase.is_none_or(|phase| call.phase == phase));
    let calls: Vec<_> = calls.collect();
    calls.iter().for_each(|call| parts.add(&call.parts));
    let mut lost = Preempted::default();
    calls.iter().filter_map(|call| call.preempted).for_each(|call| lost.add(&call));
    let cpus = trace.file.recording.as_ref().map_or(0, |recording| recording.host.cpus);
    let crowded = cpus > 0 && profile.threads > cpus;
    // What the program does between calls is its own; probes are ours.
    let calls_nanos =
        parts.wall().saturating_sub(parts.between_calls).saturating_sub(parts.probes.unwrap_or(0));
    // While other programs have its CPUs, nothing of the program's own limits it. With more threads than
    // CPUs it takes them from itself.
    let taken = if crowded { 0 } else { lost.nanos().min(calls_nanos) };
    let whole = calls_nanos - taken;
    let mut verdict = Verdict::default();
    if whole == 0 {
        verdict.missing.push("calls of this phase".to_owned());
        return verdict;
    }
    if parts.operators == 0 {
        verdict.missing.push("operators: recorded below level `op`".to_owned());
        return verdict;
    }
    let mut nanos: HashMap<Bound, f64> = HashMap::new();
    let outside = if crowded { 0 } else { lost.build };
    *nanos.entry(Bound::Synchronisation).or_default() += parts.waits as f64;
    *nanos.entry(Bound::Overhead).or_default() +=
        parts.between_nodes.saturating_add(parts.build).saturating_sub(outside) as f64;
    if crowded {
        *nanos.entry(Bound::Synchronisation).or_default() += lost.gaps as f64;
    }
    let warm = warmest(profile);
    let measured = fault_waits(trace);
    // Nanoseconds by limit and confidence of the nodes.
    let mut sure: HashMap<(Bound, Confidence), u64> = HashMap::new();
    for node in profile.nodes.iter().filter(|node| phase.is_none_or(|phase| node.phase == phase)) {
        let mut group = Group::default();
        group.add(node, roofs);
        // Computing and waiting while threads had a CPU.
        let (wall, balanced) = group.on_cpu();
        let in_waits = group.wall_nanos.saturating_sub(group.balanced_nanos).saturating_sub(wall - balanced);
        if !crowded {
            *nanos.entry(Bound::Synchronisation).or_default() -= in_waits as f64;
        }
        // While one thread waits for the disk, the others wait for it.
        let cold = match &measured {
            // Reading pages takes time besides: the kernel's own, for each of them.
            Some(waits) => match waits.get(&(node.phase as u8, node.key.clone())) {
                Some(&asleep) => asleep.max(cold_nanos(node, node.sums.slowest, &warm, roofs)),
                None => 0,
            },
            None => cold_nanos(node, node.sums.first.1, &warm, roofs),
        };
        let cold = cold.min(wall);
        *nanos.entry(Bound::Io).or_default() += cold as f64;
        *nanos.entry(Bound::Synchronisation).or_default() -= cold.saturating_sub(balanced) as f64;
        let cold = cold.min(balanced);
        // With more threads than CPUs, a thread that computes may not run: what others wait for
        // looks like computing. Where states of threads do not tell, the node takes as long as its shortest
        // execution, or as the CPUs need for what it computed when fewest threads were interrupted.
        let late = match (crowded, group.preempted_nanos) {
            (false, _) => 0,
            (true, Some(_)) => group.balanced_nanos - balanced,
            (true, None) => {
                let alone = node.sums.shortest.min(node.sums.least_compute / u64::from(cpus.max(1)));
                (balanced - cold).saturating_sub(alone.saturating_mul(node.sums.count))
            }
        };
        *nanos.entry(Bound::Synchronisation).or_default() += late as f64;
        let own = match group.preempted_nanos {
            Some(_) => balanced - cold,
            None => balanced - cold - late,
        };
        group.only_computes();
        let found = of_group(&group, roofs);
        *nanos.entry(found.bound).or_default() += own as f64;
        *sure.entry((found.bound, found.confidence)).or_default() += own;
    }
    let mut shares: Vec<(Bound, f64)> =
        nanos.into_iter().map(|(bound, nanos)| (bound, (nanos / whole as f64).clamp(0.0, 1.0))).collect();
    shares.retain(|(_, share)| *share >= 0.005);
    shares.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let first = shares.first().copied().unwrap_or_default();
    let second = shares.get(1).copied().unwrap_or_default();
    verdict.bound = match first.1 {
        share if share >= CLEAR || share >= 2.0 * second.1 => first.0,
        share if share > 0.0 => Bound::Mixed,
        _ => Bound::Unknown,
    };
    let clear = match first.1 {
        share if share >= 0.7 => Confidence::High,
        share if share >= CLEAR => Confidence::Medium,
        _ => Confidence::Low,
    };
    let by_roof = matches!(verdict.bound, Bound::Memory | Bound::Compute);
    let of_nodes = |confidence| sure.get(&(verdict.bound, confidence)).copied().unwrap_or(0);
    let [low, medium, high] = [Confidence::Low, Confidence::Medium, Confidence::High].map(of_nodes);
    let nodes = match (low.saturating_add(medium).saturating_add(high) / 2, high, medium) {
        (half, high, _) if high > half => Confidence::High,
        (half, high, medium) if high.saturating_add(medium) > half => Confidence::Medium,
        _ => Confidence::Low,
    };
    verdict.confidence = if by_roof { clear.min(nodes) } else { clear };
    if verdict.bound == Bound::Unknown {
        verdict.confidence = Confidence::Low;
    }
    if verdict.bound == Bound::Io && measured.is_none() {
        verdict.confidence = verdict.confidence.min(Confidence::Medium);
    }
    if taken > whole {
        // What is left was hardly ever alone: caches and memory were shared, too.
        verdict.confidence = verdict.confidence.min(Confidence::Medium);
    }
    for (bound, share) in shares.iter().take(4) {
        let name = match bound {
            Bound::Unknown => "not explained",
            bound => bound.name(),
        };
        verdict.evidence.push(format!("{name} {:.0} %", share * 100.0));
    }
    if crowded {
        verdict.evidence.push(format!("{} threads on {cpus} CPUs", profile.threads));
    }
    verdict.missing.extend(roofs.bytes.is_none().then(|| NO_CEILINGS.to_owned()));
    if measured.is_some() {
        let share = ratio(lost.nanos(), calls_nanos);
        if share >= 0.005 {
            let percent = share * 100.0;
            verdict.evidence.push(match crowded {
                true => format!("threads without a CPU {percent:.0} %"),
                false => format!("other programs had the CPUs {percent:.0} % of the time, which is left out"),
            });
        }
        let faulting = calls.iter().map(|call| held_up(trace, call.range).faulting);
        let faulting = ratio(faulting.fold(0, u64::saturating_add), calls_nanos);
        if faulting >= 0.005 {
            verdict.evidence.push(format!("a thread asleep in page faults {:.0} %", faulting * 100.0));
        }
        if trace.machine.has_faults {
            let faults = fault_totals(trace, None, phase);
            verdict.evidence.push(format!("{} page faults, {} of them major", faults.count, faults.major));
        }
    } else {
        verdict.missing.push(NO_FAULTS.to_owned());
    }
    verdict.shares = shares;
    verdict
}

/// A node in a call of few tokens, whose weights were in memory.
struct Warm {
    nanos: u64,
    flops: Option<u64>,
}

/// The shortest execution of each node in a call of few tokens, by name.
fn warmest(profile: &Profile) -> HashMap<&str, Warm> {
    let mut warm: HashMap<&str, Warm> = HashMap::new();
    for node in profile.nodes.iter().filter(|node| node.phase == Phase::Decode && node.sums.count > 1) {
        let known = warm.entry(node.key.name.as_str()).or_insert(Warm { nanos: u64::MAX, flops: None });
        if node.sums.shortest < known.nanos {
            let flops = node.work.as_ref().and_then(|work| work.flops);
            *known = Warm { nanos: node.sums.shortest, flops };
        }
    }
    warm
}

/// Nanoseconds that an execution which may have waited for a disk took longer than it takes once
/// its weights are in memory: what is beyond [`COLD`] times that. Where that never was
/// seen (a prompt that is read once), that is at most so often its shortest execution when it generates as it
/// has more operations; with ceilings, that and its operations at a fraction of the host's rate.
fn cold_nanos(node: &NodeProfile, execution: u64, warm: &HashMap<&str, Warm>, roofs: &Roofs) -> u64 {
    let sums = &node.sums;
    if !node.reads_weights {
        return 0;
    }
    let usual = if sums.count > 1 {
        sums.shortest
    } else {
        let Some(warm) = warm.get(node.key.name.as_str()) else { return 0 };
        let roof = node.work.as_ref().and_then(|work| roof_nanos(work, roofs));
        let flops = node.work.as_ref().and_then(|work| work.flops).zip(warm.flops);
        match (roof, flops) {
            (Some(roof), _) => {
                // Weights are read as when generating; other operands grow with the prompt.
                let product = node.key.op.starts_with("MUL_MAT");
                let work = if product { roof.1 } else { roof.0.max(roof.1) };
                warm.nanos.saturating_add((work * SLOW_PRODUCT) as u64)
            }
            (None, Some((here, there))) if there > 0 => {
                (warm.nanos as f64 * (here as f64 / there as f64).max(1.0)) as u64
            }
            _ => return 0,
        }
    };
    // A late thread takes microseconds, a disk milliseconds.
    let most = usual.saturating_mul(COLD).saturating_add(200_000);
    if execution < most { 0 } else { execution.saturating_sub(usual) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeKey;
    use crate::profile::NodeSums;
    use crate::rollup::Location;
    use crate::work::Work;

    /// A machine that reads 10 and computes 100 a nanosecond.
    const ROOFS: Roofs = Roofs { bytes: Some(10e9), f32_ops: Some(100e9), int8_ops: None };

    fn node(wall: u64, balanced: u64, flops: u64, bytes: u64) -> NodeProfile {
        let work = Work { flops: Some(flops), read_bytes: Some(bytes), ..Work::NOTHING };
        let sums = NodeSums { count: 1, wall, balanced, ..NodeSums::default() };
        NodeProfile {
            phase: Phase::Decode,
            location: Location::default(),
            key: NodeKey { name: "ffn_up-0".into(), op: "MUL_MAT".into() },
            work: Some(work),
            reads_weights: true,
            sums,
            probes: 0,
            lines: None,
        }
    }

    fn verdict(node: &NodeProfile, roofs: &Roofs) -> (Bound, Confidence) {
        let mut group = Group::default();
        group.add(node, roofs);
        let verdict = of_group(&group, roofs);
        (verdict.bound, verdict.confidence)
    }

    #[test]
    fn the_longer_roof_limits_and_the_share_says_how_sure_that_is() {
        // 100 µs of reading, 10 µs of computing.
        assert_eq!(
            verdict(&node(120_000, 120_000, 1_000_000, 1_000_000), &ROOFS),
            (Bound::Memory, Confidence::High)
        );
        assert_eq!(
            verdict(&node(400_000, 400_000, 1_000_000, 1_000_000), &ROOFS),
            (Bound::Memory, Confidence::Medium)
        );
        assert_eq!(
            verdict(&node(120_000, 120_000, 10_000_000, 100_000), &ROOFS),
            (Bound::Compute, Confidence::High)
        );
        assert_eq!(verdict(&node(120_000, 120_000, 10_000_000, 1_000_000), &ROOFS).0, Bound::Mixed);
        // A thousandth of the roof is something else.
        assert_eq!(verdict(&node(90_000_000, 90_000_000, 10, 10), &ROOFS), (Bound::Unknown, Confidence::Low));
    }

    #[test]
    fn waits_and_small_nodes_come_first() {
        assert_eq!(
            verdict(&node(120_000, 30_000, 1_000_000, 1_000_000), &ROOFS),
            (Bound::Synchronisation, Confidence::High)
        );
        assert_eq!(verdict(&node(2_000, 2_000, 100, 1_000), &ROOFS), (Bound::Overhead, Confidence::High));
    }

    #[test]
    fn without_ceilings_only_what_is_far_on_either_side_is_told() {
        let none = Roofs::default();
        assert_eq!(
            verdict(&node(120_000, 120_000, 1_000_000, 1_000_000), &none),
            (Bound::Memory, Confidence::Low)
        );
        assert_eq!(
            verdict(&node(120_000, 120_000, 300_000_000, 1_000_000), &none),
            (Bound::Compute, Confidence::Low)
        );
        assert_eq!(
            verdict(&node(120_000, 120_000, 30_000_000, 1_000_000), &none),
            (Bound::Unknown, Confidence::Low)
        );
    }

    #[test]
    fn a_first_execution_that_takes_far_longer_waited_for_a_disk() {
        let none = HashMap::new();
        let sums = NodeSums { count: 5, first: (0, 5_000_000), shortest: 100_000, ..NodeSums::default() };
        let cold = NodeProfile { sums, ..node(1, 1, 1, 1) };
        assert_eq!(cold_nanos(&cold, 5_000_000, &none, &ROOFS), 4_900_000);
        let other = NodeProfile { reads_weights: false, ..cold.clone() };
        assert_eq!(cold_nanos(&other, 5_000_000, &none, &ROOFS), 0);
        assert_eq!(cold_nanos(&cold, 150_000, &none, &ROOFS), 0);
        // Seen once: at most as slow for each operation as when it generates.
        let once = NodeProfile { sums: NodeSums { count: 1, ..sums }, ..node(1, 1, 9, 1) };
        let flops = once.work.as_ref().and_then(|work| work.flops).map(|flops| flops / 3);
        let warm = HashMap::from([(once.key.name.as_str(), Warm { nanos: 500_000, flops })]);
        assert_eq!(cold_nanos(&once, 5_000_000, &warm, &Roofs::default()), 3_500_000);
        assert_eq!(cold_nanos(&once, 3_000_000, &warm, &Roofs::default()), 0);
        assert_eq!(cold_nanos(&once, 5_000_000, &none, &Roofs::default()), 0);
    }
}
