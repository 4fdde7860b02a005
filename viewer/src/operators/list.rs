//! The executions themselves, the longest first.

use super::scatter::go_to;
use super::{Behind, Brush};
use crate::panel::{Cx, Explained as _};
use crate::text;
use egui::{RichText, Sense, Ui};
use egui_extras::{Column, TableBuilder};
use llmtrace_analysis::format::constants::NONE;
use llmtrace_analysis::operators::Occurrence;

const ROW: f32 = 20.0;
/// Rows shown; the histogram narrows them down.
const MOST: usize = 30;

/// Draws the longest executions, of those that are brushed.
pub(crate) fn list_ui(ui: &mut Ui, cx: &mut Cx<'_>, behind: &Behind, brush: Brush) {
    ui.strong(if brush.is_some() { "Longest of those brushed" } else { "Longest executions" });
    let below = |edge: u64| behind.walls.partition_point(|wall| *wall < edge);
    let picked = brush.map_or(0..behind.by_wall.len(), |brush| below(brush.start)..below(brush.end));
    let places = behind.by_wall.get(picked).unwrap_or_default().iter().rev().take(MOST);
    let longest: Vec<&Occurrence> =
        places.filter_map(|place| behind.found.all.get(*place as usize)).collect();
    let mut chosen = None;
    ui.push_id("executions", |ui| {
        TableBuilder::new(ui)
            .striped(true)
            .vscroll(false)
            .sense(Sense::click())
            .column(Column::remainder().at_least(90.0).clip(true))
            .columns(Column::exact(72.0), 3)
            .column(Column::exact(80.0))
            .header(ROW, |mut header| {
                for name in ["node", "wall", "wait", "token", "begin"] {
                    header.col(|ui| {
                        let text = RichText::new(name).small().color(cx.colors.weak);
                        ui.label(text).explained(&[name]);
                    });
                }
            })
            .body(|body| {
                body.rows(ROW, longest.len(), |mut line| {
                    let Some(one) = longest.get(line.index()) else { return };
                    let cells = cells(cx, behind, one);
                    for cell in &cells {
                        line.col(|ui| {
                            ui.add(egui::Label::new(cell.as_str()).selectable(false).truncate());
                        });
                    }
                    crate::plot::announce_row(&line.response(), false, &cells);
                    if line.response().on_hover_text("Click to see it on the timeline").clicked() {
                        chosen = Some(**one);
                    }
                });
            });
    });
    if let Some(one) = chosen {
        go_to(cx, &behind.found, &one);
    }
}

fn cells(cx: &Cx<'_>, behind: &Behind, one: &Occurrence) -> [String; 5] {
    let token = cx.open.trace.tokens.get(one.token as usize).filter(|_| one.token != NONE);
    let token =
        token.map_or_else(|| "–".to_owned(), |token| format!("{} {}", token.phase.name(), token.number));
    let lost = if one.touched_by_loss { "⚠ " } else { "" };
    [
        behind.found.kind_of(one).map_or_else(|| "?".to_owned(), |kind| kind.key.name.clone()),
        format!("{lost}{}", text::nanos(one.wall)),
        text::nanos(one.wait),
        token,
        text::nanos(one.begin),
    ]
}
