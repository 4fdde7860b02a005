//! What of a process is probed just now, and how often its events are looked at.

use super::super::budget::Setting;
use super::super::kernel::Kernel;
use super::super::plan::{Point, Program};
use super::{Common, Process};
use llmtrace_format::Nanos;
use llmtrace_format::meta::Level;
use llmtrace_format::tables::LevelChange;
use std::time::Duration;

/// For so long after a graph ended, or after it was attached to, the next one is soon.
const STILL_COMPUTES: Duration = Duration::from_secs(2);
/// Between looks at the rings.
pub(in crate::record) const NAP: Duration = Duration::from_millis(5);
const NAP_WITHOUT_GRAPHS: Duration = Duration::from_millis(40);
/// The same for an engine whose graphs do not stay.
const SHORTEST_NAP: Duration = Duration::from_micros(100);
const LONGEST_NAP: Duration = Duration::from_millis(2);

pub(super) const BEGINS: &[Program] = &[Program::OpBegin, Program::FusedBegin];
pub(super) const OPS: &[Program] = &[Program::OpBegin, Program::FusedBegin, Program::Barrier];
pub(super) const GRAPHS: &[Program] = &[
    Program::GraphBegin,
    Program::GraphEnd,
    Program::SchedulerBegin,
    Program::SchedulerEnd,
    Program::SplitBegin,
    Program::SplitEnd,
    Program::CopyBegin,
    Program::CopyEnd,
    Program::WaitBegin,
    Program::WaitEnd,
];

impl Process {
    /// How long the rings may be left alone. Graphs must be read soon after they begin:
    /// an engine that makes each one anew does so in the memory of the one before, and
    /// keeps none for us to read later. Without graphs there is little to take, and each
    /// look disturbs the target.
    pub(in crate::record) fn nap(&self) -> Duration {
        if self.level < Level::Graph || !self.graphs_attached {
            return NAP_WITHOUT_GRAPHS;
        }
        let computes = self.graph_ended.elapsed() < STILL_COMPUTES;
        if self.graphs.was_read && computes {
            return Duration::from_nanos(self.graph_nanos / 8).clamp(SHORTEST_NAP, LONGEST_NAP);
        }
        NAP
    }

    /// Attaches and detaches what the budget, the window and what is known of the
    /// order of nodes ask for. Returns the change to be written, with its reason.
    pub(in crate::record) fn adapt(
        &mut self,
        kernel: &mut Kernel,
        common: &Common,
        now: Nanos,
    ) -> Option<(LevelChange, String)> {
        if self.level < Level::Graph || self.gone {
            return None;
        }
        let mut reason = None;
        if let Some((setting, why)) = self.budget.decide(now) {
            reason = Some(why);
            if (setting.level >= Level::Graph) != self.graphs_attached {
                self.graphs_attached = setting.level >= Level::Graph;
                self.switch(kernel, GRAPHS, self.graphs_attached);
                // Ends of graphs that run now are not seen.
                self.assembler.forget_running_graphs();
            }
        }
        let Setting { level, window } = self.budget.setting();
        let window_on = self.window.on(now, self.graphs_done, window);
        let ops = self.level >= Level::Op && level >= Level::Op && window_on;
        let begins =
            common.exact_begins || self.level == Level::Op || self.assembler.sequences.begins_needed();
        if ops != self.ops_attached {
            self.ops_attached = ops;
            self.begins_attached = ops && begins;
            if ops {
                let programs = if begins { OPS } else { &[Program::Barrier] };
                self.switch(kernel, programs, true);
                self.assembler.ops_begin(common.now());
            } else {
                self.assembler.ops_end(common.now());
                self.switch(kernel, OPS, false);
            }
            let next = format!("operators are recorded for one token in {window}");
            reason.get_or_insert(next);
        } else if ops && begins != self.begins_attached {
            self.begins_attached = begins;
            self.switch(kernel, BEGINS, begins);
            let why = if begins { "the order of nodes is uncertain" } else { "the order of nodes is known" };
            reason.get_or_insert(why.to_owned());
        }
        let reason = reason?;
        let given = if self.ops_attached { self.level } else { level.min(Level::Graph) };
        let change = LevelChange {
            time: common.now(),
            process: self.to.index.into(),
            level: given as u8,
            begins: self.begins_attached.into(),
            window,
            reason: 0,
        };
        Some((change, reason))
    }

    /// Detaches programs from all objects, or attaches them, once. A target that
    /// just exited cannot be attached to; its exit is noticed elsewhere.
    pub(super) fn switch(&self, kernel: &mut Kernel, programs: &[Program], on: bool) {
        kernel.detach(self.to.index, programs);
        if !on {
            return;
        }
        for (index, loaded) in self.objects.loaded.iter().enumerate() {
            let of_it =
                |(point, object): &&(Point, usize)| *object == index && programs.contains(&point.program);
            let points: Vec<Point> =
                self.points.iter().filter(of_it).map(|(point, _)| point.clone()).collect();
            if let (_, Err(error)) = kernel.attach(self.to, &loaded.object.path(), &points) {
                log::debug!("{error:#}");
            }
        }
    }
}
