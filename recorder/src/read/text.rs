//! Text for people: numbers, tables, and strings from files.

pub(crate) use llmtrace_analysis::text::clean;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// `1,234,567`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.23 MB`, in powers of a thousand.
pub(super) fn bytes(number: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, size)| number as f64 >= *size) {
        Some((unit, size)) => format!("{} {unit}", three(number as f64 / size)),
        None => format!("{number} B"),
    }
}

/// A duration in the unit that suits it: `15.1 ms`.
pub(super) fn duration(nanos: f64) -> String {
    let units = [("s", 1e9), ("ms", 1e6), ("µs", 1e3)];
    match units.iter().find(|(_, size)| nanos >= *size) {
        Some((unit, size)) => format!("{} {unit}", three(nanos / size)),
        None => format!("{} ns", nanos.round()),
    }
}

/// Three digits that matter: `1.23`, `12.3`, `123`, `1,234`.
pub(super) fn three(number: f64) -> String {
    match number.abs() {
        magnitude if magnitude >= 999.5 => count(number.round() as u64),
        magnitude if magnitude >= 99.95 => format!("{number:.0}"),
        magnitude if magnitude >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// `12.3 %`
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A value, or `–` for what a recording does not tell.
pub(super) fn known<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

/// `1 event`, `2 events`.
pub(super) fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(12), bytes(1_234), bytes(1_900_000)], ["12 B", "1.23 kB", "1.90 MB"]);
        assert_eq!(
            [duration(950.0), duration(15_123_000.0), duration(2.5e9)],
            ["950 ns", "15.1 ms", "2.50 s"]
        );
        assert_eq!([three(9.996), three(99.96), three(999.6), three(0.0)], ["10.0", "100", "1,000", "0.00"]);
    }

    #[test]
    fn strings_from_files_cannot_steer_a_terminal() {
        assert_eq!(clean("ffn_up-7 µ"), "ffn_up-7 µ");
        assert_eq!(clean("a\x1b[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\u{a}\\u{202e}c");
    }
}
