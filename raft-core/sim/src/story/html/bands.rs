//! Planned faults as bands above the lanes.

use std::fmt::Write as _;

use super::{AXIS, BAND, View, escape};
use crate::plan::{Fault, Timed};
use crate::time::Time;

/// The faults that the view shows, each with its row: those of a row do not touch.
pub(super) fn packed<'a>(faults: &'a [Timed], view: &View) -> Vec<(usize, &'a Timed)> {
    let mut shown: Vec<&Timed> =
        faults.iter().filter(|timed| timed.at <= view.until && end(timed) >= view.from).collect();
    shown.sort_by_key(|timed| timed.at);
    let mut ends: Vec<f64> = Vec::new();
    let mut packed = Vec::with_capacity(shown.len());
    for timed in shown {
        let (begins, ends_at) = pixels(timed, view);
        let row = ends.iter().position(|end| *end <= begins).unwrap_or(ends.len()).min(ROWS_MAX - 1);
        match ends.get_mut(row) {
            Some(end) => *end = end.max(ends_at),
            None => ends.push(ends_at),
        }
        packed.push((row, timed));
    }
    packed
}

/// The bands, and across all lanes a shadow of each.
pub(super) fn drawn(bands: &[(usize, &Timed)], view: &View) -> String {
    let mut out = String::new();
    for (row, timed) in bands {
        let Timed { at, fault } = timed;
        let (x, until, y) = (view.x(*at), view.x(end(timed)), AXIS + row * BAND);
        let (width, class) = ((until - x).max(2.0), class(fault));
        let lasts = fault.lasts().map(|lasts| format!(" for {lasts} s")).unwrap_or_default();
        let _ = writeln!(
            out,
            "<g class=\"band\"><title>planned at {at} s: {}{lasts}</title>\
             <rect class=\"s tall {class}\" x=\"{x:.2}\" width=\"{width:.2}\" y=\"{AXIS}\" height=\"{}\"/>\
             <rect class=\"s {class}\" x=\"{x:.2}\" width=\"{width:.2}\" y=\"{y}\" height=\"{}\"/>\
             <g class=\"p\" transform=\"translate({x:.2},{y})\"><text x=\"2\" y=\"11\">{}</text></g></g>",
            escape(&fault.to_string()),
            view.height() - AXIS,
            BAND - 2,
            escape(fault.kind()),
        );
    }
    out
}

fn end(timed: &Timed) -> Time {
    timed.at + timed.fault.lasts().unwrap_or(Time::ZERO)
}

/// From where to where a band takes room, its text included.
fn pixels(timed: &Timed, view: &View) -> (f64, f64) {
    let begins = view.x(timed.at);
    let text = timed.fault.kind().len() as f64 * CHAR_WIDTH;
    (begins, view.x(end(timed)).max(begins + text))
}

const fn class(fault: &Fault) -> &'static str {
    match fault {
        Fault::Crash { .. }
        | Fault::CrashAtWrite { .. }
        | Fault::Pause { .. }
        | Fault::Drift { .. }
        | Fault::Jump { .. }
        | Fault::AlteredState { .. } => "process",
        Fault::Partition { .. }
        | Fault::Isolate { .. }
        | Fault::OneWay { .. }
        | Fault::Chain { .. }
        | Fault::Clog { .. }
        | Fault::Detour { .. } => "network",
        Fault::SlowDisk { .. }
        | Fault::StuckDisk { .. }
        | Fault::FailedWrite { .. }
        | Fault::FailedReads { .. }
        | Fault::FullDisk { .. }
        | Fault::BitRot { .. }
        | Fault::LostFiles { .. } => "disk",
        Fault::Membership { .. }
        | Fault::Transfer { .. }
        | Fault::HandOver
        | Fault::Snapshot { .. }
        | Fault::NextSnapshot { .. } => "operator",
    }
}

/// More faults than that at once share the last row.
const ROWS_MAX: usize = 12;
/// About what a character takes, in pixels.
const CHAR_WIDTH: f64 = 6.5;
