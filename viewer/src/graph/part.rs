//! The chosen part: what its nodes cost together.

use super::Costs;
use crate::panel::{Cx, swatch_ui};
use crate::text;
use crate::theme::OpClass;
use egui::{Grid, RichText, Ui};
use llmtrace_analysis::dag::{Outline, Part};
use llmtrace_analysis::format::meta::Graph;
use llmtrace_analysis::node;
use std::collections::BTreeMap;

/// Operators shown.
const MOST: usize = 8;

/// What a part's nodes cost together; nanoseconds, of all computations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    pub(crate) wall: u64,
    pub(crate) compute: u64,
    pub(crate) wait: u64,
    /// Of one computation; `None` when it is not known of every node.
    pub(crate) bytes: Option<u64>,
    /// Nodes that ran.
    pub(crate) ran: u32,
    /// The lowest share of the roof, weighted by time; `None` without ceilings.
    pub(crate) roof: Option<f64>,
}

impl Cost {
    /// Of nodes one after the other.
    pub(crate) fn of(costs: &Costs, nodes: std::ops::Range<u32>) -> Self {
        let mut all = Self { bytes: Some(0), ..Self::default() };
        let (mut reached, mut known) = (0.0, 0.0);
        let heats = costs.nodes.get(nodes.start as usize..nodes.end as usize).unwrap_or_default();
        for heat in heats.iter().filter(|heat| heat.count > 0) {
            all.wall = all.wall.saturating_add(heat.wall);
            all.compute = all.compute.saturating_add(heat.compute);
            all.wait = all.wait.saturating_add(heat.wait);
            all.bytes = all.bytes.zip(heat.bytes).map(|(all, more)| all.saturating_add(more));
            all.ran += 1;
            if let Some(share) = heat.roof_share {
                reached += share * heat.compute as f64;
                known += heat.compute as f64;
            }
        }
        all.roof = (known > 0.0).then(|| reached / known);
        all
    }

    /// Nanoseconds of one computation of the graph.
    pub(crate) fn mean(&self, costs: &Costs) -> f64 {
        self.wall as f64 / costs.executions.max(1) as f64
    }

    /// Waiting as a part of the threads' time.
    pub(crate) fn wait_share(&self) -> f64 {
        self.wait as f64 / self.wait.saturating_add(self.compute).max(1) as f64
    }
}

/// The shortest and the longest of the layers of a stack, in nanoseconds a computation.
pub(crate) fn spread(costs: &Costs, outline: &Outline, part: &Part) -> Option<(f64, f64)> {
    let layers = part.parts.iter().filter_map(|layer| outline.parts.get(*layer));
    let each = layers.map(|layer| Cost::of(costs, layer.nodes.clone()).mean(costs));
    each.fold(None, |ends, nanos| match ends {
        None => Some((nanos, nanos)),
        Some((low, high)) => Some((f64::min(low, nanos), f64::max(high, nanos))),
    })
}

/// Draws what is known of a part.
pub(crate) fn part_ui(
    ui: &mut Ui,
    cx: &Cx<'_>,
    (graph, outline, part): (&Graph, &Outline, &Part),
    costs: Option<&Costs>,
) {
    ui.label(RichText::new(super::part_name(cx, graph, part)).heading());
    let Some(costs) = costs else {
        ui.spinner();
        return;
    };
    let cost = Cost::of(costs, part.nodes.clone());
    if costs.executions == 0 {
        ui.weak("no op spans of this graph were recorded: it is not known what its nodes cost");
        return;
    }
    let all = Cost::of(costs, 0..graph.nodes);
    Grid::new("part").num_columns(2).spacing([12.0, 3.0]).show(ui, |ui| {
        let mut row = |name: &str, value: String, hint: &str| {
            ui.weak(name).on_hover_text(hint);
            ui.label(value);
            ui.end_row();
        };
        let share = cost.wall as f64 / all.wall.max(1) as f64;
        let mean = format!("{} ({})", text::nanos_f64(cost.mean(costs)), text::percent(share));
        row("wall time", mean, "Of its nodes, a computation of the graph on average; part of the graph's");
        if matches!(part.kind, llmtrace_analysis::dag::Kind::Stack(..))
            && let Some((low, high)) = spread(costs, outline, part)
        {
            let each = format!("{} to {}", text::nanos_f64(low), text::nanos_f64(high));
            row("each layer", each, "The shortest and the longest layer");
        }
        row("waiting", text::percent(cost.wait_share()), "Part of the threads' time at barriers");
        row("nodes", format!("{} ran of {}", cost.ran, part.nodes.len()), "Views and fused nodes do not run");
        let bytes = cost.bytes.map_or_else(|| "unknown".to_owned(), text::bytes);
        row("bytes", bytes, "That the nodes need to read and write, each operand once");
        let roof = cost.roof.map_or_else(|| "unknown: no ceilings of the host".to_owned(), text::percent);
        row("of the roof", roof, "Part of what memory and arithmetic of the host would allow");
    });
    ui.add_space(4.0);
    operators_ui(ui, cx, graph, part, costs);
}

fn operators_ui(ui: &mut Ui, cx: &Cx<'_>, graph: &Graph, part: &Part, costs: &Costs) {
    let mut ops: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    for index in part.nodes.clone() {
        let Some(heat) = costs.nodes.get(index as usize).filter(|heat| heat.count > 0) else { continue };
        let op = ops.entry(node::op_label(&cx.open.trace.file, graph, index, heat.fused)).or_default();
        *op = (op.0.saturating_add(heat.wall), op.1 + 1);
    }
    let mut ops: Vec<(String, (u64, u32))> = ops.into_iter().collect();
    ops.sort_by_key(|(_, (wall, _))| std::cmp::Reverse(*wall));
    Grid::new("part operators").num_columns(3).spacing([12.0, 3.0]).show(ui, |ui| {
        for (op, (wall, count)) in ops.iter().take(MOST) {
            ui.horizontal(|ui| {
                swatch_ui(ui, cx.colors.op(OpClass::of(op)));
                ui.label(op);
            });
            ui.label(text::nanos_f64(*wall as f64 / costs.executions.max(1) as f64));
            ui.weak(format!("×{count}"));
            ui.end_row();
        }
    });
}
