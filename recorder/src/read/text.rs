//! Text for people: tables, and lines of facts.

pub(crate) use llmtrace_analysis::text::clean;
pub(super) use llmtrace_analysis::text::{bytes, count, duration, known, percent, plural, three};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// What the operating system refused, in words a user knows.
pub(super) fn os_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file".to_owned(),
        ErrorKind::PermissionDenied => "permission denied; read it as the user who owns it".to_owned(),
        _ => error.to_string(),
    }
}

/// A table whose first `left` columns are text and whose others are numbers.
pub(super) struct Columns {
    table: Table,
}

impl Columns {
    pub(super) fn new(headings: &[&str], left: usize) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().copied());
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            let side = if index < left { CellAlignment::Left } else { CellAlignment::Right };
            column.set_cell_alignment(side);
        }
        Self { table }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells);
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        for line in self.table.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Prints `name   value` lines; empty values are left out.
pub(crate) fn pairs(pairs: &[(&str, String)], out: &mut dyn Write) -> std::io::Result<()> {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "{name:<width$}  {value}")?;
    }
    Ok(())
}

/// A heading with an empty line before it.
pub(super) fn heading(text: impl Display, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "\n{text}")
}
