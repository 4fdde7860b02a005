//! The rows, and how they are printed.

use crate::statistics::Estimate;
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
    /// The interval reaches to the other side of the goal; whether the figure itself meets it.
    Unsure {
        met: bool,
    },
    /// Printed for comparison.
    NoGoal,
    Skipped,
}

impl Row {
    fn new(figure: impl Into<String>, goal: String, measured: String, outcome: Outcome) -> Self {
        Self { figure: figure.into(), goal, measured, outcome, remark: String::new() }
    }

    /// A figure that should not be above its goal.
    pub(crate) fn at_most(
        figure: impl Into<String>,
        goal: f64,
        measured: Estimate,
        decimals: usize,
        unit: &str,
    ) -> Self {
        let outcome = match (measured.low <= goal, measured.high <= goal) {
            (_, true) => Outcome::Met,
            (false, _) => Outcome::Missed,
            (true, false) => Outcome::Unsure { met: measured.value <= goal },
        };
        Self::new(figure, format!("≤ {goal} {unit}"), measured.text(decimals, unit), outcome)
    }

    /// A figure whose goal is met or not.
    pub(crate) fn yes_or_no(figure: impl Into<String>, goal: &str, measured: String, met: bool) -> Self {
        Self::new(figure, goal.to_owned(), measured, if met { Outcome::Met } else { Outcome::Missed })
    }

    /// A figure to compare others with.
    pub(crate) fn plain(figure: impl Into<String>, measured: impl Into<String>) -> Self {
        Self::new(figure, String::new(), measured.into(), Outcome::NoGoal)
    }

    /// What could not be measured, and why.
    pub(crate) fn skipped(figure: &str, reason: &str) -> Self {
        Self::new(figure, String::new(), String::new(), Outcome::Skipped).remark(reason)
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
            Outcome::Unsure { met: true } => "ok?",
            Outcome::Unsure { met: false } => "MISSED?",
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
