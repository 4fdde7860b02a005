//! Colours of threads' bars by something other than the operator.

use crate::session::ColorBy;
use crate::state::Open;
use crate::theme::{Colors, OpClass};
use egui::Color32;
use llmtrace_analysis::OpSpan;
use llmtrace_analysis::ceilings::Roofs;
use llmtrace_analysis::fold::{Bar, What};
use llmtrace_analysis::rollup::{Location, Module, location_of, locations};
use llmtrace_analysis::roofline::kernel_roof;
use std::cell::RefCell;
use std::collections::HashMap;

/// What is found out once for each graph and node.
#[derive(Default)]
pub(crate) struct Coloring {
    locations: RefCell<HashMap<u32, Vec<Location>>>,
    /// Nanoseconds under the roof, by graph, node and number of fused nodes.
    roofs: RefCell<HashMap<(u32, u32, u32), Option<f64>>>,
}

impl Coloring {
    /// Colours of bars, grey where it is not known. Nothing when operators give the colours.
    pub(super) fn colors(
        &self,
        open: &Open,
        bars: &[Bar],
        colors: &'static Colors,
    ) -> Option<Vec<Option<Color32>>> {
        let by = open.session.color;
        if by == ColorBy::Operator {
            return None;
        }
        let color = |bar: &Bar| {
            // Waiting is known of what is folded; the rest of its longest span.
            let span = match &bar.what {
                What::Span(_, span) | What::Folded(_, span) => Some(span),
                What::Buckets { .. } => None,
            };
            match by {
                ColorBy::Operator => None,
                ColorBy::Wait => {
                    let (compute, wait) = match &bar.what {
                        What::Span(_, span) => (span.compute, span.wait),
                        _ => (bar.compute, bar.wait),
                    };
                    let share = wait as f32 / (compute.saturating_add(wait)).max(1) as f32;
                    Some(scale(colors, share))
                }
                ColorBy::Layer => {
                    let layer = self.location(open, span?)?.layer?;
                    let classes = [OpClass::Matmul, OpClass::Attention, OpClass::Norm, OpClass::Position];
                    Some(colors.op(classes[layer as usize % classes.len()]))
                }
                ColorBy::Module => Some(colors.op(module_class(self.location(open, span?)?.module))),
                ColorBy::Roof => {
                    let span = span?;
                    let roof = self.roof(open, span)?;
                    Some(scale(colors, 1.0 - (roof / span.compute.max(1) as f64).min(1.0) as f32))
                }
            }
        };
        // Grey stands out from the lane, as time in which something ran.
        Some(bars.iter().map(|bar| color(bar).or(Some(colors.line))).collect())
    }

    fn location(&self, open: &Open, span: &OpSpan) -> Option<Location> {
        let (graph, _) = open.trace.node_of(span)?;
        let mut known = self.locations.borrow_mut();
        let of = known.entry(graph.id).or_insert_with(|| locations(&open.trace.file, graph));
        Some(location_of(of, span.node, span.fused))
    }

    fn roof(&self, open: &Open, span: &OpSpan) -> Option<f64> {
        let (graph, _) = open.trace.node_of(span)?;
        let threads = open.trace.graph_span(span.graph_span).map_or(1, |span| span.threads.max(1));
        let mut known = self.roofs.borrow_mut();
        *known.entry((graph.id, span.node, span.fused)).or_insert_with(|| {
            kernel_roof(&open.trace, graph, (span.node, span.fused), &Roofs::of(&open.trace, threads))
        })
    }
}

/// From nothing to all.
fn scale(colors: &Colors, share: f32) -> Color32 {
    colors.scaled(share)
}

/// A colour for each part of a layer.
pub(crate) fn module_class(module: Module) -> OpClass {
    match module {
        Module::Embedding => OpClass::Copy,
        Module::Attention => OpClass::Attention,
        Module::Recurrent => OpClass::Recurrent,
        Module::Ffn => OpClass::Matmul,
        Module::Moe => OpClass::Routing,
        Module::Norm => OpClass::Norm,
        Module::Output => OpClass::Position,
        Module::Other => OpClass::Other,
    }
}

/// What colours mean, for the legend: name and colour.
pub(crate) fn legend(by: ColorBy, colors: &Colors) -> Vec<(&'static str, Color32)> {
    match by {
        ColorBy::Operator => OpClass::ALL.iter().map(|class| (class.name(), colors.op(*class))).collect(),
        ColorBy::Module => {
            Module::ALL.iter().map(|module| (module.name(), colors.op(module_class(*module)))).collect()
        }
        ColorBy::Layer => [OpClass::Matmul, OpClass::Attention, OpClass::Norm, OpClass::Position]
            .into_iter()
            .zip(["layer 0, 4, 8…", "layer 1, 5, 9…", "layer 2, 6, 10…", "layer 3, 7, 11…"])
            .map(|(class, name)| (name, colors.op(class)))
            .collect(),
        ColorBy::Wait => {
            vec![("computes all the time", scale(colors, 0.0)), ("only waits", scale(colors, 1.0))]
        }
        ColorBy::Roof => vec![("at the roof", scale(colors, 0.0)), ("far below it", scale(colors, 1.0))],
    }
}
