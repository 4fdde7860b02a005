//! The rows, and how they are printed.

use comfy_table::presets::ASCII_MARKDOWN;
use std::fmt;

/// One figure beside its goal.
pub(crate) struct Row {
    figure: String,
    goal: String,
    measured: String,
    outcome: Outcome,
    remark: String,
}

enum Outcome {
    Met,
    Missed,
    /// Printed for comparison.
    NoGoal,
    Skipped,
}

impl Row {
    /// A figure whose goal is met or not.
    pub(crate) fn new(
        figure: impl Into<String>,
        goal: impl Into<String>,
        measured: impl Into<String>,
        met: bool,
    ) -> Self {
        let outcome = if met { Outcome::Met } else { Outcome::Missed };
        Self {
            figure: figure.into(),
            goal: goal.into(),
            measured: measured.into(),
            outcome,
            remark: String::new(),
        }
    }

    /// A figure to compare others with.
    pub(crate) fn plain(figure: impl Into<String>, measured: impl Into<String>) -> Self {
        Self { outcome: Outcome::NoGoal, ..Self::new(figure, "", measured, true) }
    }

    /// What could not be measured, and why.
    pub(crate) fn skipped(figure: &str, reason: &str) -> Self {
        Self { outcome: Outcome::Skipped, ..Self::new(figure, "", "", true) }.remark(reason)
    }

    /// What else to know about the figure.
    pub(crate) fn remark(self, remark: impl Into<String>) -> Self {
        Self { remark: remark.into(), ..self }
    }

    pub(crate) fn is_measured(&self) -> bool {
        !matches!(self.outcome, Outcome::Skipped)
    }

    fn outcome(&self) -> &'static str {
        match self.outcome {
            Outcome::Met => "ok",
            Outcome::Missed => "MISSED",
            Outcome::NoGoal => "",
            Outcome::Skipped => "SKIPPED",
        }
    }
}

/// All rows; each is also told on stderr as it comes.
#[derive(Default)]
pub(crate) struct Table(Vec<(String, Row)>);

impl Table {
    pub(crate) fn extend(&mut self, name: &str, rows: Vec<Row>) {
        for row in rows {
            eprintln!("  {}: {} {} {}", row.figure, row.measured, row.outcome(), row.remark);
            self.0.push((name.to_owned(), row));
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(["name", "figure", "goal", "measured (95 % CI)", ""]);
        for (name, row) in &self.0 {
            table.add_row([name, &row.figure, &row.goal, &row.measured, row.outcome()]);
        }
        writeln!(out, "{table}")?;
        for (name, row) in self.0.iter().filter(|(_, row)| !row.remark.is_empty()) {
            writeln!(out, "* {name}, {}: {}", row.figure, row.remark)?;
        }
        Ok(())
    }
}
