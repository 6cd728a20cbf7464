//! What was measured, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use crate::cluster::Cell;

/// One peer in one cell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) cell: Cell,
    pub(crate) peer: &'static str,
    #[serde(skip)]
    pub(crate) is_library: bool,
    /// Of this thread's time, an entry, all replicas together: the median of the passes.
    pub(crate) nanoseconds: f64,
    /// How often the fastest library of the cell takes this time; above 1 is faster than it.
    pub(crate) ratio: Option<f64>,
    /// Messages an entry, and allocations.
    pub(crate) messages: f64,
    pub(crate) allocations: f64,
    /// What the median is of, in order.
    pub(crate) passes: Vec<f64>,
}

/// The middle of some figures.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) }
}

/// Compares the rows of one cell with the fastest library among them.
pub(crate) fn compare(rows: &mut [Row]) {
    let libraries = rows.iter().filter(|row| row.is_library).map(|row| row.nanoseconds);
    let fastest = libraries.min_by(f64::total_cmp);
    for row in rows {
        row.ratio = fastest.map(|fastest| fastest / row.nanoseconds);
    }
}

/// The table: a line a peer, with the cells that differ by their batch alone beside each other.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = String::from(
        "Under each batch: ns of this thread's time an entry, all replicas together; how many times it fits into the fastest\n\
         library's (x); messages and allocations an entry.\n",
    );
    let mut batches: Vec<usize> = Vec::new();
    for row in rows {
        if !batches.contains(&row.cell.batch) {
            batches.push(row.cell.batch);
        }
    }
    let mut lines: Vec<(Cell, &str)> = Vec::new();
    for row in rows.iter().filter(|row| row.cell.batch == batches[0]) {
        lines.push((row.cell, row.peer));
    }
    let mut block = None;
    for (cell, peer) in lines {
        if block != Some(cell) {
            block = Some(cell);
            heading(&mut text, cell, &batches);
        }
        let _ = write!(text, "{peer:13}");
        for batch in &batches {
            let is_it = |row: &&Row| row.peer == peer && row.cell == Cell { batch: *batch, ..cell };
            rows.iter().filter(is_it).for_each(|row| figures(&mut text, row));
        }
        text.push('\n');
    }
    text
}

fn heading(text: &mut String, cell: Cell, batches: &[usize]) {
    let Cell { replicas, payload, encoded, .. } = cell;
    let how = if encoded { ", encoded" } else { "" };
    let _ = write!(text, "\n{replicas} replicas, {payload} B{how}\n{:13}", "");
    for batch in batches {
        let _ = write!(text, " | {:>9} {:>5} {:>6} {:>6}", format!("batch {batch}"), "x", "msg", "alloc");
    }
    text.push('\n');
}

fn figures(text: &mut String, row: &Row) {
    let ratio = row.ratio.map_or_else(|| String::from("-"), |ratio| format!("{ratio:.2}"));
    let _ = write!(text, " | {:9.0} {ratio:>5} {:6.3} {:6.2}", row.nanoseconds, row.messages, row.allocations);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &'static str, is_library: bool, nanoseconds: f64) -> Row {
        let cell = Cell { replicas: 3, batch: 1, payload: 16, encoded: false };
        Row { cell, peer, is_library, nanoseconds, ratio: None, messages: 4.0, allocations: 3.0, passes: Vec::new() }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }

    #[test]
    fn rows_are_compared_with_the_fastest_library() {
        let mut rows = [row("ours", false, 50.0), row("slow", true, 300.0), row("fast", true, 100.0)];
        compare(&mut rows);
        assert_eq!(rows.map(|row| row.ratio), [Some(2.0), Some(1.0 / 3.0), Some(1.0)]);
    }

    #[test]
    fn without_a_library_nothing_is_compared() {
        let mut rows = [row("ours", false, 50.0)];
        compare(&mut rows);
        assert_eq!(rows[0].ratio, None);
        assert!(text(&rows).contains("ours          |        50     -  4.000   3.00"), "{}", text(&rows));
    }
}
