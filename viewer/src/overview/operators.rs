//! The operators of the run: the short form of the page of operators' table, from the sums in the
//! file, which are there at once.

use crate::command::Command;
use crate::operators::table::{Acted, Contents, Form, Sort};
use crate::panel::Cx;
use egui::Ui;
use llmtrace_analysis::operators::{Group, Row, Sums};
use llmtrace_analysis::summary::{Operator, Summary};
use std::sync::Arc;

/// The table's own state.
#[derive(Default)]
pub(super) struct Operators {
    sort: Sort,
    /// Rows, of which summary and in which order.
    rows: Option<(Arc<Summary>, Sort, Vec<Row>)>,
}

impl Operators {
    pub(super) fn operators_ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        if let Some(progress) = cx.open.loading {
            ui.add(egui::ProgressBar::new(progress).desired_width(240.0).text("counting nodes"));
            return;
        }
        let summary = &cx.open.summary;
        if summary.operators.is_empty() {
            ui.weak("no op spans were recorded; record at level op or thread to see operators");
            return;
        }
        let fresh =
            |(of, sort, _): &(Arc<Summary>, Sort, Vec<Row>)| Arc::ptr_eq(of, summary) && *sort == self.sort;
        if !self.rows.as_ref().is_some_and(fresh) {
            let mut rows: Vec<Row> = summary.operators.iter().map(row).collect();
            self.sort.apply(&mut rows, None);
            self.rows = Some((Arc::clone(summary), self.sort, rows));
        }
        let Some((_, _, rows)) = &self.rows else { return };
        let contents =
            Contents { form: Form::Short, group: Group::Op, rows, chosen: None, reveal: None, kept: None };
        let acted = ui.push_id("operators", |ui| self.sort.table_ui(ui, cx, &contents)).inner;
        if let Some(Acted::Choose(op) | Acted::Into(op)) = acted {
            cx.commands.push(Command::FindFor(op));
        }
    }
}

fn row(operator: &Operator) -> Row {
    let sums = Sums {
        count: operator.count,
        compute: operator.compute_nanos,
        wait: operator.wait_nanos.unwrap_or(0),
        wall: operator.critical_nanos,
        ..Sums::default()
    };
    let op = operator.op.clone();
    Row { key: op.clone(), op: Some(op), nodes: 0, sums, share: operator.share, bytes: None }
}
