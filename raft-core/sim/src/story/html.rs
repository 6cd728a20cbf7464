//! The story of a run as one page that needs nothing else: a lane a server, time to the right.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use raft_core::NodeId;

use super::messages::fates;
use super::timeline::servers;
use super::words::kind;
use super::{Happening, What};
use crate::report::Report;
use crate::time::Time;

mod arrows;
mod bands;
mod lanes;

/// A run as a page: see [`html`].
#[derive(Clone, Debug)]
pub struct Page<'a> {
    report: &'a Report,
    from: Option<Time>,
    until: Option<Time>,
}

/// The story of a run as one page of HTML, which needs nothing from anywhere. A lane a server and time to the right;
/// messages are arrows from sending to arrival, those that are lost end in a cross; terms are colours. Displays the last
/// five seconds if nothing else is asked for.
#[must_use]
pub const fn html(report: &Report) -> Page<'_> {
    Page { report, from: None, until: None }
}

impl Page<'_> {
    /// Leaves out what happened before.
    #[must_use]
    pub const fn from(self, from: Time) -> Self {
        Self { from: Some(from), ..self }
    }

    /// Leaves out what happened after.
    #[must_use]
    pub const fn until(self, until: Time) -> Self {
        Self { until: Some(until), ..self }
    }

    fn view(&self) -> View {
        let report = self.report;
        let last = report.failure.as_ref().map_or(report.simulated, |failure| failure.at);
        let until = self.until.unwrap_or(last + MARGIN);
        let from = self.from.unwrap_or(until - DEFAULT_SPAN);
        // Wide enough to be drawn, whatever was asked for.
        let until = until.max(from + Time::millis(1));
        let clients = report.story.iter().filter_map(|happening| match happening.what {
            What::Client { client, .. } => Some(client),
            _ => None,
        });
        let mut clients: Vec<u32> = clients.collect();
        clients.sort_unstable();
        clients.dedup();
        View { from, until, servers: servers(report), clients, bands: 0 }
    }
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = self.view();
        let bands = bands::packed(&self.report.plan.faults, &view);
        view.bands = bands.iter().map(|(row, _)| row + 1).max().unwrap_or(0);
        let fates = fates(&self.report.story);
        let kinds = kinds(fates.values().filter(|fate| view.shows(fate.sent)).map(|fate| kind(fate.words)));

        write!(f, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>")?;
        write!(f, "raft-sim: seed {}</title>\n<style>\n{STYLE}", self.report.plan.seed)?;
        for number in (0..kinds.len()).map(|number| format!("k{number}")).chain(EXTRA.map(|(class, _)| class.into())) {
            writeln!(f, ".no-{number} .{number} {{ display: none }}")?;
        }
        write!(f, "</style></head>\n<body>\n")?;
        self.head(f, &view)?;
        controls(f, &kinds)?;
        write!(f, "<div id=\"story\">\n{}", lanes::names(&view))?;
        let (width, height) = (view.x(view.until), view.height());
        writeln!(
            f,
            "<div id=\"scroll\"><svg id=\"lanes\" width=\"{width:.0}\" height=\"{height}\" data-from=\"{}\" \
             data-ms=\"{}\" data-scale=\"{}\">",
            millis(view.from),
            millis(view.until - view.from),
            view.scale()
        )?;
        f.write_str(&lanes::axis(&view))?;
        f.write_str(&bands::drawn(&bands, &view))?;
        f.write_str(&lanes::drawn(&self.report.story, &view))?;
        f.write_str(&arrows::drawn(&fates, &kinds, &view))?;
        f.write_str(&lanes::marks(&self.report.story, &view))?;
        if let Some(failure) = &self.report.failure {
            f.write_str(&lanes::upright("bad", failure.at, &failure.to_string(), &view))?;
        }
        write!(
            f,
            "<line id=\"cursor\" y2=\"{height}\"/>\n</svg></div>\n</div>\n<script>\n{SCRIPT}</script>\n</body></html>\n"
        )
    }
}

impl Page<'_> {
    fn head(&self, f: &mut fmt::Formatter<'_>, view: &View) -> fmt::Result {
        let report = self.report;
        let verdict = match &report.failure {
            Some(failure) => format!("<p class=\"verdict\">broken after {}</p>", escape(&failure.to_string())),
            None => format!("<p>nothing is broken after {} s</p>", report.simulated),
        };
        writeln!(
            f,
            "<h1>Seed {}</h1>\n{verdict}\n<p>{} s simulated, {} steps, {} operations ended, {} entries committed, \
             {} faults. Shown: {} s to {} s.</p>",
            report.plan.seed,
            report.simulated,
            report.steps,
            report.operations,
            report.committed,
            report.faults.values().sum::<u64>(),
            view.from,
            view.until,
        )?;
        f.write_str(LEGEND)
    }
}

/// What is drawn where.
#[derive(Clone, Debug)]
struct View {
    from: Time,
    until: Time,
    servers: Vec<NodeId>,
    clients: Vec<u32>,
    /// Rows of planned faults.
    bands: usize,
}

impl View {
    fn shows(&self, at: Time) -> bool {
        at >= self.from && at <= self.until
    }

    /// Pixels a millisecond before anybody zooms.
    fn scale(&self) -> f64 {
        (WIDTH_MAX / millis(self.until - self.from)).clamp(0.01, 1.0)
    }

    fn x(&self, at: Time) -> f64 {
        millis(at.min(self.until) - self.from) * self.scale()
    }

    /// Of the row in which faults and the operator are marked.
    fn faults_y(&self) -> usize {
        AXIS + self.bands * BAND + BAND / 2
    }

    /// Of a server's line.
    fn server_y(&self, server: NodeId) -> usize {
        let row = self.servers.iter().position(|id| *id == server).unwrap_or(0);
        self.faults_y() + LANE * row + LANE / 2 + BAND
    }

    /// Of a client's line.
    fn client_y(&self, client: u32) -> usize {
        let row = self.clients.iter().position(|id| *id == client).unwrap_or(0);
        self.faults_y() + LANE * self.servers.len() + CLIENT * row + BAND * 2
    }

    fn height(&self) -> usize {
        self.faults_y() + LANE * self.servers.len() + CLIENT * self.clients.len() + BAND * 3
    }
}

/// The kinds of messages with how many there are, each with its class.
type Kinds<'a> = BTreeMap<&'a str, (usize, u64)>;

fn kinds<'a>(each: impl Iterator<Item = &'a str>) -> Kinds<'a> {
    let mut kinds = Kinds::new();
    for kind in each {
        kinds.entry(kind).or_default().1 += 1;
    }
    for (number, (class, _)) in kinds.values_mut().enumerate() {
        *class = number;
    }
    kinds
}

fn controls(f: &mut fmt::Formatter<'_>, kinds: &Kinds<'_>) -> fmt::Result {
    f.write_str("<p class=\"controls\"><button id=\"out\">&minus;</button><button id=\"in\">+</button>")?;
    f.write_str("<button id=\"fit\">all</button><button id=\"end\">end</button><output id=\"when\"></output>\n")?;
    for (kind, (class, count)) in kinds {
        let kind = escape(kind);
        writeln!(f, "<label><input type=\"checkbox\" checked data-class=\"k{class}\">{kind} ({count})</label>")?;
    }
    for (class, name) in EXTRA {
        writeln!(f, "<label><input type=\"checkbox\" checked data-class=\"{class}\">{name}</label>")?;
    }
    f.write_str("</p>\n")
}

/// Text that is nothing but text in a page and in an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What no page may contain.
            control if control.is_control() => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(control));
            }
            plain => escaped.push(plain),
        }
    }
    escaped
}

fn millis(time: Time) -> f64 {
    time.0 as f64 / 1000.0
}

/// The colour of a term: neighbours differ much, and all are readable on light and on dark. Grey before the first.
fn colour(term: raft_core::Term) -> String {
    if term.0 == 0 {
        return "hsl(0,0%,50%)".into();
    }
    // The golden angle, in thousandths of a degree.
    let hue = term.0.wrapping_mul(137_508) / 1000 % 360;
    format!("hsl({hue},65%,50%)")
}

/// Shown after the failure.
const MARGIN: Time = Time::millis(20);
const DEFAULT_SPAN: Time = Time::secs(5);
/// Of the drawing before anybody zooms, in pixels.
const WIDTH_MAX: f64 = 30_000.0;
/// Heights in pixels.
const AXIS: usize = 24;
const BAND: usize = 16;
const LANE: usize = 90;
const CLIENT: usize = 22;
/// What can be hidden besides kinds of messages.
const EXTRA: [(&str, &str); 3] = [("commit", "commits"), ("notice", "notices"), ("client", "clients")];
const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");
const LEGEND: &str = "<p class=\"legend\">A lane a server, time to the right. A colour a term. Thick line: leader; middle: candidate; thin: \
    follower; none: not running. &#9656; starts, <b class=\"bad\">&#10005;</b> crashes, grey veil: stands still, small \
    ticks: commits, circles: notices. Arrows: messages from sending to arrival; those that are lost end in a cross. \
    Bands above: faults as planned; diamonds: as they happened. Hover for details; zoom with the buttons, or with Ctrl and \
    the wheel.</p>\n";
