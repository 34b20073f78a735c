//! What commands print: tables for people, JSON for programs. Knows nothing of commands; the caller builds both from the same values.

use std::io::{self, Write};

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

/// How a command prints its result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum OutputFormat {
    /// Aligned columns for people.
    #[default]
    Table,
    /// JSON for programs: one document, or one object per line where records come one by one. Its keys are part of the interface.
    Json,
}

/// How the cells of a column stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header, in aligned columns without borders, so that `grep` and `awk` work on them.
#[derive(Debug)]
pub struct Columns {
    table: Table,
    align: Vec<Align>,
}

impl Columns {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let align: Vec<_> = columns.iter().map(|(_, align)| *align).collect();
        let header = columns.iter().map(|(name, align)| aligned(name, *align));
        table.set_header(header.collect::<Vec<_>>());
        Self { table, align }
    }

    /// Adds a row; its cells are those of the columns.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.align.len(), "a row has a cell for every column");
        let cells = cells.iter().zip(&self.align).map(|(cell, align)| aligned(cell, *align));
        self.table.add_row(cells.collect::<Vec<_>>());
    }
}

impl std::fmt::Display for Columns {
    /// The table, ending in a newline, without trailing blanks.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in self.table.to_string().lines() {
            // The preset pads each cell on both sides; the first column starts at the margin.
            writeln!(f, "{}", line.strip_prefix(' ').unwrap_or(line).trim_end())?;
        }
        Ok(())
    }
}

fn aligned(text: &str, align: Align) -> Cell {
    Cell::new(text).set_alignment(match align {
        Align::Left => CellAlignment::Left,
        Align::Right => CellAlignment::Right,
    })
}

/// Prints text on standard output. A closed pipe is a reader who has seen enough, not an error.
///
/// # Errors
/// Those of standard output, a closed pipe excepted.
pub fn print_text(text: &str) -> io::Result<()> {
    quiet_on_closed_pipe(io::stdout().lock().write_all(text.as_bytes()))
}

/// Prints one JSON document and a newline on standard output.
///
/// # Errors
/// As [`print_text`].
pub fn print_json(document: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    print_text(&text)
}

/// Turns "the reader closed the pipe" into success.
///
/// # Errors
/// Any other error.
pub fn quiet_on_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_borders_or_trailing_blanks() {
        let mut columns = Columns::new(&[("TOPIC", Align::Left), ("RECORDS", Align::Right), ("STATE", Align::Left)]);
        columns.row(["logs".into(), "12".into(), "healthy".into()]);
        columns.row(["a-longer-name".into(), "1,234,567".into(), "full".into()]);
        let expected = "\
TOPIC            RECORDS  STATE
logs                  12  healthy
a-longer-name  1,234,567  full
";
        assert_eq!(columns.to_string(), expected);
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        assert!(quiet_on_closed_pipe(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(quiet_on_closed_pipe(Err(io::ErrorKind::WriteZero.into())).is_err());
    }
}
