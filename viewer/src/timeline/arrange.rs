//! Lanes as the user wants them: pinned ones on top, hidden ones left out, groups collapsed.

use super::rows::{Kind, Row};
use crate::command::Command;
use crate::panel::Cx;
use crate::session::Change;
use crate::state::Open;
use egui::accesskit::Role;
use egui::{Align2, FontId, Grid, Rect, ScrollArea, Sense, Stroke, TextEdit, Ui, WidgetInfo, pos2};

/// Height of a group's head.
const HEAD: f32 = 15.0;
/// The same when it is collapsed and shows what its lanes do.
const COLLAPSED: f32 = 28.0;

/// Lanes that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Tokens, graphs, what was recorded.
    Run,
    /// Sequences, calls, caches, experts.
    Inference,
    /// Counters and samples.
    Counters,
    /// Backends.
    Backends,
    /// Page faults and reads.
    Machine,
    /// Threads, and their states.
    Threads,
}

impl Group {
    /// Those that can be collapsed.
    pub(crate) const FOLDABLE: [Self; 5] =
        [Self::Inference, Self::Counters, Self::Backends, Self::Machine, Self::Threads];

    /// Which one a lane is of.
    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Group(group) => group,
            Kind::Tokens | Kind::Graphs | Kind::Levels => Self::Run,
            Kind::Sequence(_) | Kind::Calls | Kind::Cells | Kind::Experts => Self::Inference,
            Kind::Counter(_) => Self::Counters,
            Kind::Backend(_) => Self::Backends,
            Kind::Faults => Self::Machine,
            Kind::Thread(_) | Kind::States(_) => Self::Threads,
        }
    }

    /// Its name, as shown and as kept.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Run => "Run",
            Self::Inference => "Inference",
            Self::Counters => "Counters",
            Self::Backends => "Backends",
            Self::Machine => "Machine",
            Self::Threads => "Threads",
        }
    }
}

/// The lane whose name stands for a row: a strip goes where its thread goes.
fn owner(row: &Row) -> Row {
    match row.kind {
        Kind::States(lane) => Row { kind: Kind::Thread(lane), ..*row },
        _ => *row,
    }
}

/// The lanes to show, of all there are, in a window `available` points high: pinned ones on top,
/// those that are hidden or whose name lacks `filter` left out, groups under their heads.
pub(crate) fn arrange(all: Vec<Row>, open: &Open, available: f32, filter: &str) -> Vec<Row> {
    let session = &open.session;
    let wanted = filter.trim().to_lowercase();
    let mut pinned: Vec<(usize, Row)> = Vec::new();
    let mut groups: Vec<(Group, Vec<Row>)> = Vec::new();
    for row in all {
        let (own, name) = (row.name(open), owner(&row).name(open));
        let fits = wanted.is_empty() || name.to_lowercase().contains(&wanted);
        if !fits || session.hidden.contains(&name) || session.hidden.contains(&own) {
            continue;
        }
        if let Some(place) = session.pinned.iter().position(|pinned| *pinned == name) {
            pinned.push((place, row));
            continue;
        }
        let group = Group::of(row.kind);
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, lanes)) => lanes.push(row),
            None => groups.push((group, vec![row])),
        }
    }
    pinned.sort_by_key(|(place, _)| *place);
    let mut rows: Vec<Row> = pinned.into_iter().map(|(_, row)| row).collect();
    for (group, lanes) in groups {
        let count = lanes.iter().filter(|row| !matches!(row.kind, Kind::States(_))).count();
        // Who looks for lanes wants to see them.
        let collapsed = wanted.is_empty() && session.is_collapsed(group.name());
        if group != Group::Run && wanted.is_empty() && (count > 1 || collapsed) {
            let height = if collapsed { COLLAPSED } else { HEAD };
            rows.push(Row { kind: Kind::Group(group), top: 0.0, height });
        }
        if !collapsed {
            rows.extend(lanes);
        }
    }
    super::rows::place(&mut rows, available);
    rows
}

/// Draws the head of a group, which a click collapses or expands; names its lanes when they are not
/// drawn.
pub(super) fn head_ui(ui: &mut Ui, group: Group, (gutter, rect): (Rect, Rect), cx: &mut Cx<'_>) {
    let collapsed = cx.open.session.is_collapsed(group.name());
    let response = ui.interact(gutter, ui.scope_id().with(("group", group.name())), Sense::click());
    let what = if collapsed { "Expand" } else { "Collapse" };
    let said = format!("{what} {}", group.name());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, said.as_str()));
    let color = if response.hovered() || response.has_focus() { cx.colors.text } else { cx.colors.weak };
    let arrow = if collapsed { "⏵" } else { "⏷" };
    let at = pos2(gutter.left() + 4.0, gutter.center().y);
    let font = FontId::proportional(11.0);
    ui.painter().text(at, Align2::LEFT_CENTER, format!("{arrow} {}", group.name()), font, color);
    if !collapsed {
        let middle = rect.center().y;
        ui.painter().hline(rect.x_range(), middle, Stroke::new(1.0, cx.colors.line.gamma_multiply(0.6)));
    }
    if response.clicked() {
        cx.commands.push(Command::Session(Change::Collapse(group.name().to_owned(), !collapsed)));
    }
    response.on_hover_text(said);
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
        for group in [Group::Run].into_iter().chain(Group::FOLDABLE) {
            let name = group.name();
            let of_group = || all.iter().filter(move |row| Group::of(row.kind) == group);
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
