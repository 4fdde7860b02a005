//! Lanes as the user wants them: pinned ones on top, hidden ones left out.

use super::rows::{Kind, Row};
use crate::command::Command;
use crate::panel::Cx;
use crate::session::Change;
use crate::state::Open;
use crate::theme::{LANE_GAP, LANE_MAX_HEIGHT, LANE_MIN_HEIGHT};
use egui::{Grid, ScrollArea, TextEdit, Ui};

/// The lanes to show, of all there are, in a window `available` points high. Lanes of threads share
/// what hidden ones leave. If `brief`, only tokens, graphs and threads are shown.
pub(crate) fn arrange(all: Vec<Row>, open: &Open, available: f32, brief: bool) -> Vec<Row> {
    let session = &open.session;
    if session.hidden.is_empty() && session.pinned.is_empty() && !brief {
        return all;
    }
    let gap = |rows: &[Row], at: usize| {
        let before = at.checked_sub(1).and_then(|before| rows.get(before));
        let end = before.map_or(0.0, |row| row.top + row.height);
        rows.get(at).map_or(LANE_GAP, |row| row.top - end)
    };
    let mut kept: Vec<(usize, Row, f32)> = Vec::with_capacity(all.len());
    for (at, row) in all.iter().enumerate() {
        // A strip goes where its thread goes.
        let owner = match row.kind {
            Kind::States(lane) => Row { kind: Kind::Thread(lane), ..*row },
            _ => *row,
        };
        if brief && !matches!(owner.kind, Kind::Tokens | Kind::Graphs | Kind::Thread(_)) {
            continue;
        }
        let (own, name) = (row.name(open), owner.name(open));
        if session.hidden.contains(&name) || session.hidden.contains(&own) {
            continue;
        }
        let place = session.pinned.iter().position(|pinned| *pinned == name);
        kept.push((place.unwrap_or(usize::MAX), *row, gap(&all, at)));
    }
    kept.sort_by_key(|(place, ..)| *place);
    let is_thread = |row: &Row| matches!(row.kind, Kind::Thread(_));
    let threads = kept.iter().filter(|(_, row, _)| is_thread(row)).count().max(1);
    let others: f32 =
        kept.iter().filter(|(_, row, _)| !is_thread(row)).map(|(_, row, gap)| row.height + gap).sum();
    let each = (available - others - LANE_GAP) / threads as f32 - LANE_GAP;
    let each = each.clamp(LANE_MIN_HEIGHT, LANE_MAX_HEIGHT).floor();
    let mut top = 0.0;
    let place = |(_, row, gap): (usize, Row, f32)| {
        let height = if is_thread(&row) { each } else { row.height };
        let row = Row { top: top + gap, height, ..row };
        top = row.top + height;
        row
    };
    kept.into_iter().map(place).collect()
}

/// Which group a lane is of.
fn group(kind: Kind) -> &'static str {
    match kind {
        Kind::Sequence(_) | Kind::Calls | Kind::Cells => "Inference",
        Kind::Backend(_) => "Backends",
        Kind::Thread(_) | Kind::States(_) => "Threads",
        Kind::Tokens | Kind::Graphs | Kind::Levels => "Run",
        _ => "Machine and others",
    }
}

/// The list of lanes: which are shown, which are pinned.
pub(crate) fn menu_ui(ui: &mut Ui, cx: &mut Cx<'_>, all: &[Row], filter: &mut String) {
    let session = &cx.open.session;
    let mut changes = Vec::new();
    ui.set_min_width(300.0);
    ui.horizontal(|ui| {
        let field = TextEdit::singleline(filter).desired_width(150.0).hint_text("filter lanes");
        ui.add(field).accessible_name("Filter lanes");
        if ui.button("Show all").clicked() {
            changes.push(Change::ShowAll);
        }
    });
    let wanted = filter.to_lowercase();
    ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
        let mut groups: Vec<&'static str> = Vec::new();
        for row in all {
            if !groups.contains(&group(row.kind)) {
                groups.push(group(row.kind));
            }
        }
        for name in groups {
            let of_group = || all.iter().filter(move |row| group(row.kind) == name);
            let lanes: Vec<String> = of_group()
                .map(|row| row.name(cx.open))
                .filter(|lane| lane.to_lowercase().contains(&wanted))
                .collect();
            if lanes.is_empty() {
                continue;
            }
            let mut shown = !lanes.iter().all(|lane| session.hidden.contains(lane));
            if ui.checkbox(&mut shown, name).on_hover_text("All of the group").changed() {
                changes.extend(lanes.iter().map(|lane| Change::Hide(lane.clone(), !shown)));
            }
            ui.indent(name, |ui| {
                Grid::new(name).num_columns(3).show(ui, |ui| {
                    for lane in lanes {
                        let mut shown = !session.hidden.contains(&lane);
                        if ui.checkbox(&mut shown, &lane).changed() {
                            changes.push(Change::Hide(lane.clone(), !shown));
                        }
                        let mut pinned = session.pinned.contains(&lane);
                        if ui.toggle_value(&mut pinned, "pin").on_hover_text("To the top").changed() {
                            changes.push(Change::Pin(lane.clone(), pinned));
                        }
                        if pinned
                            && ui.small_button("up").on_hover_text("Above the pinned lane before").clicked()
                        {
                            changes.push(Change::Raise(lane.clone()));
                        }
                        ui.end_row();
                    }
                });
            });
        }
    });
    cx.commands.extend(changes.into_iter().map(Command::Session));
}
