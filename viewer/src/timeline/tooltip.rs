//! What the pointer says about the bar under it.

use super::around::{self, Around};
use super::lanes::token_names;
use super::{backends, counters, experts, gaps, levels, machine};
use crate::panel::swatch_ui;
use crate::state::Open;
use crate::text;
use crate::theme::Colors;
use egui::Ui;
use llmtrace_analysis::fold::{Bar, What};
use llmtrace_analysis::format::tables::GraphSpan;
use llmtrace_analysis::{Nanos, OpSpan, Token, node};

/// What is under the pointer.
#[derive(Clone, Debug)]
pub(crate) enum Hit {
    /// A token.
    Token(Token),
    /// A graph computation.
    Graph(GraphSpan),
    /// What goes on around graphs.
    Around(Around),
    /// What was recorded, or a mark.
    Level(levels::Moment),
    /// What a backend was given.
    Backend(backends::Item),
    /// A graph of a counter.
    Counter(counters::Point),
    /// Experts of a token in a layer.
    Experts(experts::Pick),
    /// What the kernel did.
    Machine(machine::Item),
    /// Time of which operators were not recorded.
    Gap(gaps::Gap),
    /// A bar of a thread's lane, and its place in the list of bars.
    Bar { lane: u32, index: usize, bar: Bar },
}

/// Shows a hit.
pub(crate) fn hit_ui(ui: &mut Ui, open: &Open, hit: &Hit, time: Nanos) {
    ui.set_max_width(420.0);
    match hit {
        Hit::Token(token) => token_ui(ui, token),
        Hit::Graph(span) => graph_ui(ui, open, span),
        Hit::Around(found) => around::found_ui(ui, open, found, time),
        Hit::Level(found) => levels::found_ui(ui, open, found),
        Hit::Backend(item) => backends::found_ui(ui, open, item),
        Hit::Counter(point) => counters::found_ui(ui, open, point),
        Hit::Experts(pick) => experts::found_ui(ui, pick, Colors::of(ui.visuals())),
        Hit::Machine(item) => machine::found_ui(ui, open, item),
        Hit::Gap(gap) => gaps::found_ui(ui, open, gap),
        Hit::Bar { lane, bar, .. } => match &bar.what {
            What::Span(_, span) => {
                span_ui(ui, open, span);
                counts_ui(ui, open, *lane, span);
            }
            What::Folded(_, span) => {
                ui.strong(format!("{} nodes", text::count(bar.count)));
                part_ui(ui, bar);
                let key = open.key(span);
                ui.weak(format!("longest: {}  {}  {}", key.name, key.op, text::nanos(span.compute)));
                ui.weak("zoom in to see each");
            }
            What::Buckets { op, longest } => {
                ui.strong(format!("{} nodes begin here", text::count(bar.count)));
                part_ui(ui, bar);
                ui.weak(format!("mostly {}", open.trace.file.string(*op)));
                if *longest > 0 {
                    ui.weak(format!("longest: {}; click to select it", text::nanos(*longest)));
                }
            }
        },
    }
    let token = open.trace.token_at(time);
    if let Some(token) = token.filter(|_| !matches!(hit, Hit::Token(_))) {
        ui.weak(format!("during {}", token_names(token)[0]));
    }
}

fn part_ui(ui: &mut Ui, bar: &Bar) {
    let nanos = bar.range.nanos().max(1) as f64;
    let part = |part: u64| text::percent(part as f64 / nanos);
    ui.label(format!("computing {}, waiting {}", part(bar.compute), part(bar.wait)));
}

fn token_ui(ui: &mut Ui, token: &Token) {
    ui.strong(token_names(token)[0].as_str());
    let nanos = token.range.nanos();
    let rate = f64::from(token.tokens) * 1e9 / nanos.max(1) as f64;
    ui.label(format!("{} · {} tokens/s", text::nanos(nanos), text::trim(rate)));
    ui.weak("double-click to fill the window");
}

fn graph_ui(ui: &mut Ui, open: &Open, span: &GraphSpan) {
    ui.strong(format!("graph {}", span.graph));
    let nodes = open.trace.graph(span.graph).map_or(0, |graph| graph.nodes);
    let nanos = text::nanos(span.end.saturating_sub(span.begin));
    ui.label(format!("{nanos} · {nodes} nodes · {} threads", span.threads));
}

fn span_ui(ui: &mut Ui, open: &Open, span: &OpSpan) {
    let colors = Colors::of(ui.visuals());
    let key = open.key(span);
    ui.horizontal(|ui| {
        swatch_ui(ui, colors.op(open.class_of(span)));
        ui.strong(key.name);
        ui.label(key.op);
    });
    ui.label(format!("compute {} · wait {}", text::nanos(span.compute), text::nanos(span.wait)));
    if let Some((graph, _)) = open.trace.node_of(span)
        && let Some(tensor) = node::result(graph, span.node, span.fused)
    {
        let sources = tensor.sources.iter().filter_map(|&index| graph.tensors.get(index as usize));
        let sources: Vec<String> = sources
            .map(|source| format!("{} {}", node::type_name(&open.trace.file, source), node::shape(source)))
            .collect();
        let result = format!("{} {}", node::type_name(&open.trace.file, tensor), node::shape(tensor));
        ui.weak(format!("{result} from {}", sources.join(" and ")));
    }
    if span.touched_by_loss {
        ui.colored_label(colors.loss, "events were lost near here: times may be wrong");
    }
}

/// What was counted for a span.
pub(crate) fn counts_ui(ui: &mut Ui, open: &Open, lane: u32, span: &OpSpan) {
    let Some(counts) = open.trace.counts_of_span(lane, span) else { return };
    for (number, counter) in open.trace.counters().iter().enumerate() {
        let count = match (counts.count(number), counter.unit.as_str()) {
            (None, _) => "unknown".to_owned(),
            (Some(nanos), "ns") => text::nanos(nanos),
            (Some(count), _) => text::count(count),
        };
        let scaled = if counts.scaled >> number & 1 == 1 { " (scaled)" } else { "" };
        ui.label(format!("{}  {count}{scaled}", counter.name));
    }
    if counts.flags & llmtrace_analysis::format::counters::WITH_WAIT_BEFORE != 0 {
        ui.weak("counted from the barrier before, waiting there included");
    }
}
