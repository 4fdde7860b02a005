//! Keeps the overhead within a budget: how many tokens have their operators
//! recorded, and at which level the rest is.
//!
//! ```text
//! hits × price of a hit        what operators would cost      all tokens
//! ───────────────────── ─────► ─────────────────────────────► one token in N
//! time without the hits         how much may be spent         level graph, level token
//! ```
//!
//! Probes are really detached: one that is there but switched off costs the
//! target nearly as much.

use super::plan::Program;
use llmtrace_format::Nanos;
use llmtrace_format::meta::{Level, ProbeCost};

/// Between two decisions.
const DECIDE_EVERY: Nanos = 500_000_000;
/// Graphs seen, at least, for a decision.
const ENOUGH: u64 = 16;
/// Beyond one token in so many, operators say too little for what they cost.
const MAX_WINDOW: u32 = 64;
/// How long level token holds before level graph is tried again: at first, and at most.
const FIRST_RETRY: Nanos = 5_000_000_000;
const LAST_RETRY: Nanos = 120_000_000_000;
/// Calls of decode, ubatch and graph, each with its return.
const HITS_OF_CALLS: f64 = 6.0;

/// What is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) level: Level,
    /// Operators of one token in so many; 1 for all.
    pub(super) window: u32,
}

/// Nanoseconds of a hit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prices {
    op: f64,
    /// Of an operator's probe on an instruction that is single-stepped.
    stepped: f64,
    call: f64,
    /// Of what the kernel's own programs see.
    switch: f64,
    fault: f64,
    read: f64,
}

impl Prices {
    /// As they were measured here; all 0 when they were not.
    pub(super) fn of(costs: &[ProbeCost]) -> Self {
        let price = |purpose: &str| {
            costs.iter().find(|cost| cost.purpose == purpose).map_or(0.0, |cost| cost.nanos as f64)
        };
        let op = price(Program::Barrier.purpose()) + price(super::calibrate::COUNTERS);
        let more = (price("empty, single-stepped") - price(Program::Nothing.purpose())).max(0.0);
        Self {
            op,
            stepped: op + more,
            call: price(Program::DecodeBegin.purpose()),
            switch: price(super::calibrate::SWITCHED),
            fault: price(super::calibrate::FAULTED),
            read: price(Program::ReadRehearsed.purpose()),
        }
    }
}

/// Decides on settings from what graphs took.
pub(super) struct Budget {
    /// Share of the target's time that probes may take; `None` for any.
    max: Option<f64>,
    /// What the user asked for.
    asked: Setting,
    setting: Setting,
    prices: Prices,
    /// Whether operators' probes are single-stepped.
    stepped: bool,
    /// When level graph is tried again, once it was given up.
    retry: Nanos,
    decided: Nanos,
    seen: Seen,
    /// Hits of a graph with operators, as last measured.
    hits: f64,
}

/// What the kernel's own programs saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seldom {
    pub(super) switches: u64,
    pub(super) faults: u64,
    pub(super) reads: u64,
}

/// Graphs since the last decision.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    graphs: u64,
    /// Their time without the probes.
    nanos: f64,
    with_ops: u64,
    hits: u64,
    /// What the kernel's own programs took of one thread.
    machine: f64,
}

impl Budget {
    /// `max` is a share of the target's time.
    pub(super) fn new(max: Option<f64>, asked: Setting, prices: Prices) -> Self {
        Self {
            max,
            asked,
            setting: asked,
            prices,
            stepped: false,
            retry: FIRST_RETRY,
            decided: 0,
            seen: Seen::default(),
            hits: 0.0,
        }
    }

    /// Says whether probes of operators are on instructions that the kernel must
    /// single-step.
    pub(super) fn set_stepped(&mut self, stepped: bool) {
        self.stepped = stepped;
    }

    fn op_nanos(&self) -> f64 {
        if self.stepped { self.prices.stepped } else { self.prices.op }
    }

    /// What is recorded now.
    pub(super) fn setting(&self) -> Setting {
        self.setting
    }

    /// Takes a graph that ran for `nanos`; `hits` of its slowest thread's probes are
    /// those of operators.
    pub(super) fn observe(&mut self, nanos: Nanos, hits: u32, with_ops: bool) {
        let probes = if with_ops { f64::from(hits) * self.op_nanos() } else { 0.0 };
        self.seen.graphs += 1;
        self.seen.nanos += (nanos as f64 - probes).max(nanos as f64 / 10.0);
        if with_ops {
            self.seen.with_ops += 1;
            self.seen.hits += u64::from(hits);
        }
    }

    /// Takes switches, page faults and reads of all threads of a pool of `threads`, since the
    /// last time. They cannot be had for less: what they take is not there for others.
    pub(super) fn observe_machine(&mut self, seen: Seldom, threads: usize) {
        let Prices { switch, fault, read, .. } = self.prices;
        let Seldom { switches, faults, reads } = seen;
        let nanos = switches as f64 * switch + faults as f64 * fault + reads as f64 * read;
        self.seen.machine += nanos / threads.max(1) as f64;
    }

    /// Called often; a new setting, and why, when one is due.
    pub(super) fn decide(&mut self, now: Nanos) -> Option<(Setting, String)> {
        let max = self.max?;
        // Below level graph nothing is seen that could be decided on.
        if self.setting.level < self.asked.level.min(Level::Graph) {
            if now.saturating_sub(self.decided) < self.retry {
                return None;
            }
            self.retry = (self.retry * 2).min(LAST_RETRY);
            self.decided = now;
            self.seen = Seen::default();
            self.setting = Setting { level: Level::Graph, window: 1 };
            return Some((self.setting, "level graph is tried again".to_owned()));
        }
        if now.saturating_sub(self.decided) < DECIDE_EVERY || self.seen.graphs < ENOUGH {
            return None;
        }
        self.decided = now;
        let seen = std::mem::take(&mut self.seen);
        if seen.with_ops > 0 {
            self.hits = seen.hits as f64 / seen.with_ops as f64;
        }
        let graph_nanos = seen.nanos / seen.graphs as f64;
        let calls = HITS_OF_CALLS * self.prices.call / graph_nanos + seen.machine / seen.nanos;
        let ops = self.hits * self.op_nanos() / graph_nanos;
        let (mut setting, cost) = self.affordable(max, calls, ops);
        let rises =
            |setting: Setting| setting.level > self.setting.level || setting.window < self.setting.window;
        if rises(setting) {
            // Only with room to spare, so that it does not swing.
            (setting, _) = self.affordable(max * 0.8, calls, ops);
            if !rises(setting) {
                return None;
            }
        }
        if setting == self.setting {
            return None;
        }
        self.setting = setting;
        let what = match setting {
            Setting { level, window: 1 } => format!("recorded at level {}", level.name()),
            Setting { window, .. } => format!("operators are recorded for one token in {window}"),
        };
        let limit = max * 100.0;
        let relation = if cost > max { "above" } else { "within" };
        Some((
            setting,
            format!("probes would take {:.1} % of the time, {relation} {limit:.1} %: {what}", cost * 100.0),
        ))
    }

    /// The most that can be recorded, and what all that was asked for would cost.
    fn affordable(&self, max: f64, calls: f64, ops: f64) -> (Setting, f64) {
        let Setting { level, window } = self.asked;
        let wants_ops = level >= Level::Op;
        let cost = calls + if wants_ops { ops / f64::from(window) } else { 0.0 };
        let setting = if cost <= max {
            self.asked
        } else if calls > max {
            Setting { level: level.min(Level::Token), window: 1 }
        } else {
            let needed = (ops / (max - calls)).ceil();
            if wants_ops && needed <= f64::from(MAX_WINDOW) {
                Setting { level, window: (needed as u32).max(window) }
            } else {
                Setting { level: level.min(Level::Graph), window: 1 }
            }
        };
        (setting, cost)
    }
}

/// Tokens, at least, of which operators are recorded in a row.
const RUN_GRAPHS: u64 = 8;
/// And for how long: attaching is not free.
const RUN_NANOS: Nanos = 50_000_000;

/// Turns operators on and off, so that one graph in N has them.
#[derive(Debug)]
pub(super) struct Window {
    on: bool,
    since: Nanos,
    /// Graphs when this phase began.
    graphs: u64,
    /// Graphs of the last phase with operators.
    run: u64,
}

impl Window {
    /// Begins with operators on.
    pub(super) fn new() -> Self {
        Self { on: true, since: 0, graphs: 0, run: 0 }
    }

    /// Whether operators are to be recorded from now on; `graphs` counts those
    /// computed so far.
    pub(super) fn on(&mut self, now: Nanos, graphs: u64, window: u32) -> bool {
        let computed = graphs - self.graphs;
        if window <= 1 && self.on {
            (self.since, self.graphs) = (now, graphs);
            return true;
        }
        if computed == 0 {
            // Nothing runs: a model is loaded, or a server has nothing to do.
            self.since = now;
        }
        let over = match self.on {
            false if window <= 1 => true,
            true => now.saturating_sub(self.since) >= RUN_NANOS && computed >= RUN_GRAPHS,
            false => computed >= self.run * u64::from(window - 1),
        };
        if over {
            let run = if self.on { computed } else { self.run };
            *self = Self { on: !self.on, since: now, graphs, run };
        }
        self.on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: Setting = Setting { level: Level::Thread, window: 1 };
    const PRICES: Prices =
        Prices { op: 1000.0, stepped: 4000.0, call: 2000.0, switch: 500.0, fault: 200.0, read: 1000.0 };

    /// A second of graphs that take `nanos` without probes and hit `hits` of them.
    fn second(budget: &mut Budget, at: u64, nanos: Nanos, hits: u32) -> Option<Setting> {
        for _ in 0..100 {
            let ops = budget.setting().level >= Level::Op;
            budget.observe(nanos + if ops { u64::from(hits) * 1000 } else { 0 }, hits, ops);
        }
        budget.decide(at * 1_000_000_000).map(|(setting, _)| setting)
    }

    #[test]
    fn what_is_within_the_budget_stays() {
        let mut budget = Budget::new(Some(0.05), THREAD, PRICES);
        assert_eq!(second(&mut budget, 1, 20_000_000, 402), None);
        let mut unlimited = Budget::new(None, THREAD, PRICES);
        assert_eq!(second(&mut unlimited, 1, 100_000, 402), None);
    }

    #[test]
    fn too_dear_operators_are_recorded_for_some_tokens_and_for_all_once_they_are_cheap() {
        let mut budget = Budget::new(Some(0.05), THREAD, PRICES);
        // 400 µs of probes in 2 ms are 20 %.
        let five = Setting { level: Level::Thread, window: 5 };
        assert_eq!(second(&mut budget, 1, 2_000_000, 400), Some(five));
        assert_eq!(second(&mut budget, 2, 2_000_000, 400), None);
        // A little slower: it does not swing.
        assert_eq!(second(&mut budget, 3, 2_500_000, 400), None);
        assert_eq!(second(&mut budget, 4, 40_000_000, 400), Some(THREAD));
    }

    #[test]
    fn tiny_graphs_are_recorded_without_operators_or_not_at_all() {
        let mut budget = Budget::new(Some(0.05), THREAD, PRICES);
        let graph = Setting { level: Level::Graph, window: 1 };
        assert_eq!(second(&mut budget, 1, 300_000, 2000), Some(graph));
        let token = Setting { level: Level::Token, window: 1 };
        assert_eq!(second(&mut budget, 2, 20_000, 2000), Some(token));
        // Nothing is seen at level token: graph is tried after a while, and kept if it can be.
        assert_eq!(budget.decide(6_000_000_000), None);
        assert_eq!(budget.decide(8_000_000_000).map(|(setting, _)| setting), Some(graph));
        assert_eq!(second(&mut budget, 9, 300_000, 2000), None);
    }

    #[test]
    fn single_stepped_probes_cost_what_they_cost() {
        let mut budget = Budget::new(Some(0.05), THREAD, PRICES);
        budget.set_stepped(true);
        for _ in 0..100 {
            budget.observe(21_600_000, 402, true);
        }
        let (setting, _) = budget.decide(1_000_000_000).expect("8 % are too much");
        assert_eq!(setting, Setting { level: Level::Thread, window: 2 });
    }

    #[test]
    fn what_the_kernels_programs_take_is_not_there_for_operators() {
        let mut budget = Budget::new(Some(0.05), THREAD, PRICES);
        // Of two threads 600 µs each token, 3 %; 4 ms of probes are 20 %.
        let seldom = Seldom { switches: 200_000, faults: 50_000, reads: 10_000 };
        budget.observe_machine(seldom, 2);
        let eleven = Setting { level: Level::Thread, window: 11 };
        assert_eq!(second(&mut budget, 1, 20_000_000, 4000), Some(eleven));
        // Once they are over, more is left for operators.
        let six = Setting { level: Level::Thread, window: 6 };
        assert_eq!(second(&mut budget, 2, 20_000_000, 4000), Some(six));
    }

    #[test]
    fn one_token_in_three_has_operators() {
        let mut window = Window::new();
        // A model is loaded for two seconds first.
        let graphs = |step: u64| step.saturating_sub(2000);
        let on: Vec<bool> = (0..8000).map(|step| window.on(step * 1_000_000, graphs(step), 3)).collect();
        let computing = &on[2000..];
        let share = computing.iter().filter(|on| **on).count() as f64 / computing.len() as f64;
        assert!((0.3..0.36).contains(&share), "{share}");
        assert!(on[..2000].iter().all(|on| *on));
        assert!(window.on(8_000_000_000, 6000, 1));
        // A window that comes late does not rest for as long as there was none.
        for step in 0..100_000 {
            window.on(8_000_000_000 + step * 1_000_000, 6000 + step, 1);
        }
        let on =
            (0..2000).filter(|step| window.on(108_000_000_000 + step * 1_000_000, 106_000 + step, 5)).count();
        assert!((300..500).contains(&on), "{on}");
    }
}
