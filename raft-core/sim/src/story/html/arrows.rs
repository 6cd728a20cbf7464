//! Messages as arrows between lanes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Kinds, View, colour, escape};
use crate::story::messages::Fate;
use crate::story::words::{is_routine, kind};
use crate::time::Time;

/// An arrow for each copy of a message that was sent within the view.
pub(super) fn drawn(fates: &BTreeMap<u64, Fate<'_>>, kinds: &Kinds<'_>, view: &View) -> String {
    let mut out = String::new();
    for fate in fates.values().filter(|fate| view.shows(fate.sent)) {
        let name = kind(fate.words);
        let class = kinds.get(name).map_or(0, |(class, _)| *class);
        let routine = if is_routine(name) { " routine" } else { "" };
        let lost = if fate.is_lost() { " lost" } else { "" };
        let _ = write!(
            out,
            "<g class=\"m k{class}{routine}{lost}\" color=\"{}\"><title>{}</title>",
            colour(fate.term),
            escape(&title(fate))
        );
        for arrival in &fate.arrivals {
            arrow(&mut out, fate, *arrival, view);
        }
        for loss in &fate.losses {
            cross(&mut out, fate, *loss, view);
        }
        if fate.arrivals.is_empty() && fate.losses.is_empty() {
            // It was under way when the story ended.
            line(&mut out, fate, view.until, 0.5, view);
        }
        out.push_str("</g>\n");
    }
    out
}

fn title(fate: &Fate<'_>) -> String {
    let Fate { sent, from, to, term, words, arrivals, losses } = fate;
    let mut title = format!("{from} -> {to}, term {term}: {words}; sent at {sent} s");
    for at in arrivals {
        let _ = write!(title, ", arrives at {at} s");
    }
    for at in losses {
        let _ = write!(title, ", lost at {at} s");
    }
    title
}

fn arrow(out: &mut String, fate: &Fate<'_>, at: Time, view: &View) {
    line(out, fate, at, 1.0, view);
    let (from, to) = (view.server_y(fate.from), view.server_y(fate.to));
    let head = if from < to { "M0 0l-3 -7h6z" } else { "M0 0l-3 7h6z" };
    let _ = write!(out, "<path class=\"p\" transform=\"translate({:.2},{to})\" d=\"{head}\"/>", view.x(at));
}

/// A lost message gets a part of the way.
fn cross(out: &mut String, fate: &Fate<'_>, at: Time, view: &View) {
    line(out, fate, at, LOST_AFTER, view);
    let y = between(view.server_y(fate.from), view.server_y(fate.to), LOST_AFTER);
    let _ = write!(
        out,
        "<path class=\"p cross\" transform=\"translate({:.2},{y:.1})\" d=\"M-4 -4l8 8m0 -8l-8 8\"/>",
        view.x(at)
    );
}

fn line(out: &mut String, fate: &Fate<'_>, until: Time, part: f64, view: &View) {
    let (from, to) = (view.server_y(fate.from), view.server_y(fate.to));
    let _ = write!(
        out,
        "<line class=\"s\" x1=\"{:.2}\" y1=\"{from}\" x2=\"{:.2}\" y2=\"{:.1}\"/>",
        view.x(fate.sent),
        view.x(until),
        between(from, to, part)
    );
}

fn between(from: usize, to: usize, part: f64) -> f64 {
    from as f64 + (to as f64 - from as f64) * part
}

const LOST_AFTER: f64 = 0.4;
