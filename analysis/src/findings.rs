//! The few things that matter most in a trace: what they cost, why we think so, and
//! what to try. At most a screenful, the dearest first.

mod other;

use crate::attribution::{CallParts, Parts};
use crate::ceilings::{self, Roofs};
use crate::machine::{FaultGroup, HeldUp, fault_groups, held_up, state_totals};
use crate::profile::Profile;
use crate::roofline::{Of, Row, rows};
use crate::stats::{percentile, ratio};
use crate::verdict::Bound;
use crate::{Phase, TimeRange, Trace};
use serde::Serialize;

/// A screenful.
const MOST: usize = 8;
/// What costs less than this part of a token is no finding.
const LEAST: f64 = 0.01;

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was found, in a line.
    pub title: String,
    /// What it costs: milliseconds a token, on average; `None` of what costs nothing by itself.
    pub ms_per_token: Option<f64>,
    /// The same as a part of a token's time inside calls; of time between calls, as a part of both.
    pub share: Option<f64>,
    /// Numbers that speak for it.
    pub evidence: Vec<String>,
    /// What to try.
    pub advice: String,
    /// Where to look.
    #[serde(skip)]
    pub place: Option<TimeRange>,
    /// Text that finds its nodes.
    #[serde(skip)]
    pub nodes: Option<String>,
}

struct Seen<'a> {
    trace: &'a Trace,
    profile: &'a Profile,
    roofs: &'a Roofs,
    calls: Vec<&'a CallParts>,
    /// Sums of the decode calls.
    parts: Parts,
    tokens: f64,
    /// Milliseconds of a token.
    token_ms: f64,
}

/// Findings about generation, the dearest first.
pub fn findings(trace: &Trace, profile: &Profile, roofs: &Roofs) -> Vec<Finding> {
    let calls: Vec<&CallParts> = profile.calls.iter().filter(|call| call.phase == Phase::Decode).collect();
    if calls.is_empty() {
        return Vec::new();
    }
    let mut parts = Parts::default();
    calls.iter().for_each(|call| parts.add(&call.parts));
    let tokens = calls.len() as f64;
    let token_ms = (parts.wall() - parts.between_calls) as f64 / tokens / 1e6;
    let seen = Seen { trace, profile, roofs, calls, parts, tokens, token_ms };
    let mut all: Vec<Finding> = [
        seen.imbalance(),
        seen.straggler(),
        seen.threads(),
        seen.small_nodes(),
        seen.slow_tokens(),
        seen.preempted(),
        seen.faulting(),
        other::experts(&seen),
        other::copies(&seen),
        other::devices(&seen),
        seen.growth(),
        seen.between_calls(),
        seen.building(),
        seen.probes(),
    ]
    .into_iter()
    .flatten()
    .collect();
    all.extend(seen.under_roof());
    all.retain(|found| found.share.is_none_or(|share| share >= LEAST));
    // What was lost may have been dear.
    let lost = other::losses(&seen);
    // What has no cost comes last: it takes no place from what has.
    let cost = |found: &Finding| found.ms_per_token.unwrap_or(f64::NEG_INFINITY);
    all.sort_by(|a, b| cost(b).total_cmp(&cost(a)).then_with(|| a.title.cmp(&b.title)));
    all.truncate(MOST - usize::from(lost.is_some()));
    all.extend(lost);
    all
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

impl Seen<'_> {
    fn finding(&self, title: String, nanos: u64, evidence: Vec<String>, advice: &str) -> Finding {
        let ms = nanos as f64 / self.tokens / 1e6;
        let (ms_per_token, share) = (Some(ms), Some(ms / self.token_ms));
        let advice = advice.to_owned();
        Finding { title, ms_per_token, share, evidence, advice, place: None, nodes: None }
    }

    fn crowded(&self) -> bool {
        let cpus = self.trace.file.recording.as_ref().map_or(0, |recording| recording.host.cpus);
        cpus > 0 && self.profile.threads > cpus
    }

    /// Which operators make threads wait.
    fn imbalance(&self) -> Option<Finding> {
        let mut ops = rows(self.profile, self.roofs, Of::Op, Some(Phase::Decode));
        // Waiting for a thread that has no CPU is no imbalance, and a finding of its own.
        let waits = |row: &Row| {
            let (wall, balanced) = row.group.on_cpu();
            wall.saturating_sub(balanced)
        };
        let all = match self.trace.machine.has_states {
            true => ops.iter().map(waits).fold(0, u64::saturating_add).min(self.parts.waits),
            false => self.parts.waits,
        };
        ops.sort_by_key(|row| std::cmp::Reverse(waits(row)));
        let worst = ops.first().filter(|_| !self.crowded())?;
        let evidence = ops.iter().take(3).map(|row| {
            let share = ratio(waits(row), row.group.on_cpu().0);
            let ms = waits(row) as f64 / self.tokens / 1e6;
            format!("{}: {ms:.3} ms a token, {} of its time", row.key, percent(share))
        });
        let title = format!("Threads wait for the last one, most in {}", worst.key);
        let advice = "pin threads to CPUs of their own, and leave one CPU to everything else";
        let mut found = self.finding(title, all, evidence.collect(), advice);
        (found.place, found.nodes) = (Some(worst.group.longest), Some(worst.key.clone()));
        Some(found)
    }

    /// A thread for which the others wait more often than for each other.
    fn straggler(&self) -> Option<Finding> {
        let lanes: Vec<_> = self.profile.lanes.iter().filter(|lane| lane.phase == Phase::Decode).collect();
        let worst = lanes.iter().max_by_key(|lane| lane.last)?;
        let fair = 1.0 / lanes.len() as f64;
        let share = ratio(worst.last, worst.shared);
        let compute: u64 = lanes.iter().map(|lane| lane.compute).sum();
        let mean = compute / lanes.len() as u64;
        let excess = worst.compute.saturating_sub(mean);
        if lanes.len() < 2 || share < 1.5 * fair || excess == 0 {
            return None;
        }
        let evidence = vec![
            format!("last at {} of the barriers; {} if all were alike", percent(share), percent(fair)),
            format!("computes {} longer than the mean", percent(ratio(excess, mean))),
        ];
        let advice = "something else runs on its CPU, or the CPU is slower: look at its lane, pin threads";
        Some(self.finding(format!("Thread {} is a straggler", worst.lane), excess, evidence, advice))
    }

    /// More threads than help.
    fn threads(&self) -> Option<Finding> {
        let recording = self.trace.file.recording.as_ref()?;
        let (threads, cpus) = (self.profile.threads, recording.host.cpus);
        if self.crowded() {
            let evidence = vec![format!("{threads} threads, {cpus} CPUs")];
            let advice =
                "use no more threads than CPUs (`-t`): at each barrier all wait for one that is not running";
            return Some(self.finding(
                "More threads than CPUs".to_owned(),
                self.parts.waits,
                evidence,
                advice,
            ));
        }
        let enough = ceilings::saturation(recording.ceilings.as_ref()?)?;
        if threads <= enough {
            return None;
        }
        let evidence =
            vec![format!("{threads} threads; memory reads no faster with more than {enough} on this host")];
        let advice = "try fewer threads for generating (`-t`), and all for prompts (`-tb`)";
        Some(self.finding("Threads beyond what memory feeds".to_owned(), self.parts.waits, evidence, advice))
    }

    /// Nodes whose threads take longer to start and gather than to compute.
    fn small_nodes(&self) -> Option<Finding> {
        let ops = rows(self.profile, self.roofs, Of::Op, Some(Phase::Decode));
        let nodes: u64 = ops.iter().map(|row| row.group.count).sum();
        let each = ratio(self.parts.between_nodes, nodes);
        let small: Vec<&Row> = ops
            .iter()
            .filter(|row| row.verdict.bound == Bound::Overhead || row.verdict.bound == Bound::Synchronisation)
            .filter(|row| row.group.mean_on_cpu() < 10_000.0)
            .collect();
        let wall: u64 = small.iter().map(|row| row.group.wall_nanos).sum();
        let count: u64 = small.iter().map(|row| row.group.count).sum();
        let cost = wall.saturating_add((each * count as f64) as u64);
        let first = small.first()?;
        let mut evidence = vec![format!(
            "{:.0} a token, {:.1} µs each",
            count as f64 / self.tokens,
            ratio(wall, count) / 1e3
        )];
        evidence.extend(small.iter().take(3).map(|row| {
            format!("{}: {:.3} ms a token", row.key, row.group.wall_nanos as f64 / self.tokens / 1e6)
        }));
        let advice = "fewer threads shorten barriers; builds that fuse more operators have fewer of these";
        let mut found = self.finding(
            "Small operators cost more to start than to compute".to_owned(),
            cost,
            evidence,
            advice,
        );
        found.nodes = Some(first.key.clone());
        Some(found)
    }

    /// Tokens far above the median, and which part of them grew.
    fn slow_tokens(&self) -> Option<Finding> {
        let call_nanos = |call: &CallParts| call.range.nanos();
        let mut sorted: Vec<u64> = self.calls.iter().map(|call| call_nanos(call)).collect();
        sorted.sort_unstable();
        let median = percentile(&sorted, 50)?;
        let slow: Vec<_> = self.calls.iter().filter(|call| call_nanos(call) > median + median / 4).collect();
        let worst = slow.iter().max_by_key(|call| call_nanos(call))?;
        let excess: u64 = slow.iter().map(|call| call_nanos(call) - median).sum();
        // The part that grew most, against the mean of all.
        let mean = |part: usize| {
            let of = |call: &&CallParts| call.parts.named().get(part).and_then(|of| of.1).unwrap_or(0) as f64;
            (
                slow.iter().map(|call| of(call)).sum::<f64>() / slow.len() as f64,
                self.calls.iter().map(of).sum::<f64>() / self.tokens,
            )
        };
        let names = Parts::default().named();
        let grew = (0..names.len()).filter(|&part| part != 6).map(|part| (mean(part), part));
        let ((slow_mean, all_mean), part) =
            grew.max_by(|a, b| (a.0.0 - a.0.1).total_cmp(&(b.0.0 - b.0.1)))?;
        let name = names.get(part).map_or("", |name| name.0);
        let mut evidence = vec![
            format!(
                "{} of {} tokens; the slowest {:.2} ms, the median {:.2} ms",
                slow.len(),
                self.calls.len(),
                call_nanos(worst) as f64 / 1e6,
                median as f64 / 1e6
            ),
            format!("what grew: {name}, {:.2} ms instead of {:.2} ms", slow_mean / 1e6, all_mean / 1e6),
        ];
        evidence.extend(self.slow_because(&slow));
        let losses = &self.trace.losses;
        let lossy = |call: &&&&CallParts| {
            let range = call.range;
            losses.iter().any(|loss| loss.begin < range.end && range.begin <= loss.end)
        };
        let lossy = slow.iter().filter(lossy).count();
        if lossy > 0 {
            evidence.push(format!("in {lossy} of them events were lost: their parts are not complete"));
        }
        let advice = "look at the slowest in the timeline: other programs, a CPU that slowed down, or I/O";
        let mut found = self.finding("Some tokens are slow".to_owned(), excess, evidence, advice);
        found.place = Some(worst.range);
        Some(found)
    }

    /// What held up threads in slow tokens and in the others.
    fn slow_because(&self, slow: &[&&CallParts]) -> Option<String> {
        if !self.trace.machine.has_states {
            return None;
        }
        let in_slow = |call: &CallParts| slow.iter().any(|other| other.range == call.range);
        let mut sums = [HeldUp::default(); 2];
        for call in &self.calls {
            let held = held_up(self.trace, call.range);
            let sum = &mut sums[usize::from(!in_slow(call))];
            sum.runnable = sum.runnable.saturating_add(held.runnable);
            sum.faulting = sum.faulting.saturating_add(held.faulting);
        }
        let each = |nanos: u64, calls: usize| nanos as f64 / calls.max(1) as f64 / 1e6;
        let others = self.calls.len().saturating_sub(slow.len());
        Some(format!(
            "in them a thread was runnable without a CPU for {:.2} ms and asleep in page faults for {:.2} ms, \
             in others for {:.2} and {:.2} ms",
            each(sums[0].runnable, slow.len()),
            each(sums[0].faulting, slow.len()),
            each(sums[1].runnable, others),
            each(sums[1].faulting, others),
        ))
    }

    /// Nanoseconds of what held up threads, over the tokens, and the token in which that was most.
    fn held_up(&self, of: impl Fn(&CallParts) -> u64) -> Option<(u64, TimeRange)> {
        if !self.trace.machine.has_states {
            return None;
        }
        let held: Vec<(u64, TimeRange)> = self.calls.iter().map(|call| (of(call), call.range)).collect();
        let worst = held.iter().max_by_key(|(nanos, _)| *nanos)?;
        Some((held.iter().fold(0, |sum, (nanos, _)| sum.saturating_add(*nanos)), worst.1))
    }

    /// Other programs run where threads would.
    fn preempted(&self) -> Option<Finding> {
        let (nanos, place) = self.held_up(|call| call.preempted.map_or(0, |lost| lost.nanos()))?;
        let totals = state_totals(self.trace, None);
        let by = totals.preempters.iter().take(3).map(|row| {
            let own = if row.is_target { ", of the program itself" } else { "" };
            format!("{}{own}: {} times, {:.1} ms in all", row.label(), row.count, row.nanos as f64 / 1e6)
        });
        let evidence = by.collect();
        let advice = "pin threads to CPUs of their own, use fewer threads than CPUs, or keep the others away";
        let title = "Threads could run, but have no CPU".to_owned();
        let mut found = self.finding(title, nanos, evidence, advice);
        found.place = Some(place);
        Some(found)
    }

    /// Pages of the model are not in memory.
    fn faulting(&self) -> Option<Finding> {
        let (nanos, place) = self.held_up(|call| held_up(self.trace, call.range).faulting)?;
        let groups = if nanos > 0 { fault_groups(self.trace, None, Some(Phase::Decode)) } else { Vec::new() };
        let worst = groups.iter().take(3).map(|group| {
            let FaultGroup { during, tensor, file, totals } = group;
            let place = if tensor.is_empty() { file } else { tensor };
            let asleep = totals.wait_nanos as f64 / 1e6;
            format!("{place} in {during}: {} faults, {asleep:.1} ms asleep", totals.count)
        });
        let evidence = worst.collect();
        let advice = "memory for the whole model; `--mlock` keeps it there, `--no-mmap` reads it before";
        let mut found = self.finding("Pages are read from a disk".to_owned(), nanos, evidence, advice);
        found.place = Some(place);
        Some(found)
    }

    /// What gets slower with each token.
    fn growth(&self) -> Option<Finding> {
        let mut by_op: std::collections::BTreeMap<&str, (f64, f64)> = std::collections::BTreeMap::new();
        for node in self.profile.nodes.iter().filter(|node| node.phase == Phase::Decode) {
            // Weights stay as they are.
            if let Some(slope) = node.sums.growth().filter(|_| !node.reads_weights) {
                let of = by_op.entry(&node.key.op).or_default();
                of.0 += slope * node.sums.count as f64 / self.tokens;
                of.1 += node.sums.wall as f64;
            }
        }
        // A slope has to be seen over the recording, not in its noise.
        let (op, (slope, wall)) = by_op
            .into_iter()
            .filter(|(_, (slope, wall))| slope * self.tokens > 0.2 * wall / self.tokens)
            .max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
        let grown = (slope * self.tokens / 2.0 * self.tokens) as u64;
        let evidence = vec![
            format!(
                "{op}: {:.2} µs more with each token, {:.3} ms on average",
                slope / 1e3,
                wall / self.tokens / 1e6
            ),
            format!(
                "4,096 tokens further, a token takes {:.2} ms instead of {:.2} ms",
                self.token_ms + slope * 4096.0 / 1e6,
                self.token_ms
            ),
        ];
        let advice =
            "a shorter context, a smaller type for the cache (`-ctk`, `-ctv`), or flash attention (`-fa`)";
        let mut found = self.finding(format!("{op} grows with the context"), grown, evidence, advice);
        found.nodes = Some(op.to_owned());
        Some(found)
    }

    fn between_calls(&self) -> Option<Finding> {
        let evidence = vec![
            match self.parts.sampling {
                Some(_) => {
                    "whatever the program does beside sampling, which is apart; while it is idle also that"
                }
                None => "sampling, and whatever else the program does; while it is idle also that",
            }
            .to_owned(),
        ];
        let advice = "fewer or cheaper samplers; detokenise and send on another thread";
        let title = "Time between calls".to_owned();
        let found = self.finding(title, self.parts.between_calls, evidence, advice);
        // It is no part of the calls: of all time that a token takes.
        let share = ratio(self.parts.between_calls, self.parts.wall());
        Some(Finding { share: Some(share), ..found })
    }

    fn building(&self) -> Option<Finding> {
        let evidence = vec!["in the call, outside its graphs".to_owned()];
        let advice = "builds since 2025 reuse graphs; a batch that always has the same shape lets them";
        let title = "Building graphs and preparing batches".to_owned();
        // With an offload most of it may be waiting for the device, which is a finding of its own.
        let build = self.parts.build.saturating_sub(other::waiting_for_devices(self));
        Some(self.finding(title, build, evidence, advice))
    }

    fn probes(&self) -> Option<Finding> {
        let probes = self.parts.probes?;
        let evidence = vec!["probe hits times the price of a hit on this host".to_owned()];
        let advice =
            "not part of an unrecorded run; `--max-overhead`, `--window` or a lower level record for less";
        Some(self.finding("Recording itself".to_owned(), probes, evidence, advice))
    }

    /// Operators that could be much faster.
    fn under_roof(&self) -> Vec<Finding> {
        let ops = rows(self.profile, self.roofs, Of::Op, Some(Phase::Decode));
        // Threads that do not run say nothing about an operator.
        let far = ops.iter().filter(|_| !self.crowded()).filter_map(|row| {
            let share = row.group.roof_share().filter(|&share| share < 0.5)?;
            let small = row.group.mean_on_cpu() < 10_000.0;
            let lost = row.group.known_nanos as f64 * (1.0 - share);
            if small || row.verdict.bound == Bound::Synchronisation {
                return None;
            }
            let mut evidence = vec![match row.group.preempted_nanos {
                Some(_) => format!("{} of its roof, while its threads had a CPU", percent(share)),
                None => format!(
                    "{} of its roof; whether its threads had a CPU all the time is not known (`record --sched`)",
                    percent(share)
                ),
            }];
            let rates = [(row.group.bytes_per_second(), "GB/s", self.roofs.bytes), (row.group.flops_per_second(), "Gop/s", self.roofs.ops(row.group.int8))];
            for (rate, unit, roof) in rates {
                if let (Some(rate), Some(roof)) = (rate, roof) {
                    evidence.push(format!("{:.1} of {:.1} {unit}", rate / 1e9, roof / 1e9));
                }
            }
            let advice = "another type of weights, or a build for this CPU's instructions; compare with `llmtrace diff`";
            let title = format!("{} is far under its roof", row.key);
            let mut found = self.finding(title, lost as u64, evidence, advice);
            (found.place, found.nodes) = (Some(row.group.longest), Some(row.key.clone()));
            Some(found)
        });
        far.take(2).collect()
    }
}
