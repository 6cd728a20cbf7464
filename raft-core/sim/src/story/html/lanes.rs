//! Servers and clients as lanes, and what happens to one of them as marks on it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use raft_core::{NodeId, RoleName, Term};

use super::{AXIS, Happening, View, What, colour, escape};
use crate::time::Time;

/// The names at the left, which do not scroll.
pub(super) fn names(view: &View) -> String {
    let mut out = format!("<svg id=\"names\" width=\"76\" height=\"{}\">", view.height());
    let mut name = |y: usize, text: &str| {
        let _ = write!(out, "<text x=\"6\" y=\"{}\">{text}</text>", y + 4);
    };
    name(AXIS / 2 - 4, "seconds");
    name(view.faults_y(), "faults");
    for server in &view.servers {
        name(view.server_y(*server), &format!("server {server}"));
    }
    for client in &view.clients {
        name(view.client_y(*client), &format!("client {client}"));
    }
    out.push_str("</svg>\n");
    out
}

/// The time at every tenth of a second or so, which the script replaces on zooming; and a thread along each lane.
pub(super) fn axis(view: &View) -> String {
    let mut out = String::from("<g id=\"axis\">");
    let step = [100, 1_000, 10_000, 100_000].into_iter().find(|step| *step as f64 * view.scale() >= 90.0);
    let step = Time::millis(step.unwrap_or(1_000_000));
    let mut at = Time(view.from.0.div_ceil(step.0) * step.0);
    while at <= view.until {
        let (x, height) = (view.x(at), view.height());
        let seconds = at.as_secs_f64();
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"16\" y2=\"{height}\"/>\
             <text class=\"dim\" x=\"{:.1}\" y=\"12\">{seconds:.1}</text>",
            x + 3.0
        );
        at = at + step;
    }
    out.push_str("</g>\n");
    let ys = view.servers.iter().map(|server| view.server_y(*server));
    for y in ys.chain(view.clients.iter().map(|client| view.client_y(*client))) {
        let x = view.x(view.until);
        let _ = writeln!(out, "<line class=\"s lane\" x1=\"0\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{y}\"/>");
    }
    out
}

/// What a server is, and since when.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    since: Time,
    role: RoleName,
    term: Term,
    runs: bool,
    stands_since: Option<Time>,
    halted_since: Option<Time>,
}

impl Stretch {
    const NEW: Self = Self {
        since: Time::ZERO,
        role: RoleName::Follower,
        term: Term(0),
        runs: false,
        stands_since: None,
        halted_since: None,
    };
}

/// What each server is at each time: its role and term as a line, and a veil where it stands still or has halted.
pub(super) fn drawn(story: &[Happening], view: &View) -> String {
    let mut out = String::new();
    let mut stretches: BTreeMap<NodeId, Stretch> = BTreeMap::new();
    for Happening { at, what } in story {
        let (What::Started { server, .. }
        | What::Crashed { server }
        | What::Halted { server, .. }
        | What::Paused { server }
        | What::Resumed { server }
        | What::Role { server, .. }) = what
        else {
            continue;
        };
        let stretch = stretches.entry(*server).or_insert(Stretch::NEW);
        let draws_line = !matches!(what, What::Paused { .. } | What::Resumed { .. });
        if draws_line {
            line(&mut out, *server, stretch, *at, view);
            stretch.since = *at;
        }
        match what {
            What::Started { .. } => *stretch = Stretch { since: *at, term: stretch.term, runs: true, ..Stretch::NEW },
            What::Halted { .. } => (stretch.runs, stretch.halted_since) = (false, Some(*at)),
            What::Role { role, term, .. } => (stretch.role, stretch.term) = (*role, *term),
            What::Paused { .. } => stretch.stands_since = Some(*at),
            _ => {}
        }
        if matches!(what, What::Crashed { .. } | What::Resumed { .. }) {
            veil(&mut out, *server, "veil", stretch.stands_since.take(), *at, view);
        }
        if matches!(what, What::Crashed { .. }) {
            veil(&mut out, *server, "halted", stretch.halted_since.take(), *at, view);
            stretch.runs = false;
        }
    }
    let last = story.last().map_or(Time::ZERO, |happening| happening.at);
    for (server, stretch) in &stretches {
        line(&mut out, *server, stretch, last, view);
        veil(&mut out, *server, "veil", stretch.stands_since, last, view);
        veil(&mut out, *server, "halted", stretch.halted_since, last, view);
    }
    out
}

fn line(out: &mut String, server: NodeId, stretch: &Stretch, until: Time, view: &View) {
    let Stretch { since, role, term, runs, .. } = stretch;
    if !runs || until < view.from || *since > view.until {
        return;
    }
    let height = match role {
        RoleName::Follower => 5,
        RoleName::PreCandidate => 8,
        RoleName::Candidate => 11,
        RoleName::Leader => 18,
    };
    let (x, y) = (view.x(*since), view.server_y(server));
    let width = (view.x(until) - x).max(0.5);
    let _ = write!(
        out,
        "<g><title>server {server}: {role} of term {term}, {since} s to {until} s</title>\
         <rect class=\"s\" x=\"{x:.2}\" width=\"{width:.2}\" y=\"{}\" height=\"{height}\" fill=\"{}\"/>",
        y - height / 2,
        colour(*term)
    );
    if *role == RoleName::Leader {
        let _ = write!(
            out,
            "<g class=\"p\" transform=\"translate({x:.2},{y})\"><text x=\"2\" y=\"-22\">leader, term {term}</text></g>"
        );
    }
    out.push_str("</g>\n");
}

fn veil(out: &mut String, server: NodeId, class: &str, since: Option<Time>, until: Time, view: &View) {
    let Some(since) = since.filter(|since| *since <= view.until && until >= view.from) else { return };
    let (x, y) = (view.x(since), view.server_y(server) - 26);
    let width = (view.x(until) - x).max(1.0);
    let how = if class == "veil" { "stands still" } else { "has halted" };
    let _ = writeln!(
        out,
        "<g><title>server {server} {how} from {since} s to {until} s</title>\
         <rect class=\"s {class}\" x=\"{x:.2}\" width=\"{width:.2}\" y=\"{y}\" height=\"52\"/></g>"
    );
}

/// What happens at a moment, on the lane of whom it happens to.
pub(super) fn marks(story: &[Happening], view: &View) -> String {
    let mut out = String::new();
    for Happening { at, what } in story.iter().filter(|happening| view.shows(happening.at)) {
        let server = |id: &NodeId| view.server_y(*id);
        match what {
            What::Started { server: id, life } => {
                let title = format!("server {id} starts, life {life}");
                mark(&mut out, "", "<path class=\"event\" d=\"M0 -8v16l10 -8z\"/>", *at, server(id), &title, view);
            }
            What::Crashed { server: id } => {
                let cross = "<path class=\"crash\" d=\"M-8 -8l16 16m0 -16l-16 16\"/>";
                mark(&mut out, "", cross, *at, server(id), &format!("server {id} crashes"), view);
            }
            What::Halted { server: id, why } => {
                let stop = "<path class=\"crash\" d=\"M-7 -7h14v14h-14z\"/>";
                mark(&mut out, "", stop, *at, server(id), &format!("server {id} halts: {why}"), view);
            }
            What::Committed { server: id, index } => {
                let title = format!("server {id} knows {index} to be committed");
                mark(&mut out, "commit", "<line y1=\"-18\" y2=\"-11\"/>", *at, server(id), &title, view);
            }
            What::Server { server: id, words } => {
                let title = format!("server {id}: {words}");
                mark(&mut out, "notice", "<circle cy=\"16\" r=\"4\"/>", *at, server(id), &title, view);
            }
            What::Client { client, words } => {
                let title = format!("client {client}: {words}");
                let tick = "<line y1=\"-7\" y2=\"7\"/>";
                mark(&mut out, "client", tick, *at, view.client_y(*client), &title, view);
            }
            What::Fault { words } => {
                let diamond = "<path class=\"event\" d=\"M0 -5l5 5l-5 5l-5 -5z\"/>";
                mark(&mut out, "", diamond, *at, view.faults_y(), words, view);
            }
            What::Healed => out.push_str(&upright("good", *at, "the world is whole again", view)),
            // Messages are arrows, roles are lines, and the report says what is broken.
            _ => {}
        }
    }
    out
}

fn mark(out: &mut String, class: &str, shape: &str, at: Time, y: usize, title: &str, view: &View) {
    let _ = writeln!(
        out,
        "<g class=\"p {class}\" transform=\"translate({:.2},{y})\"><title>{}</title>{shape}</g>",
        view.x(at),
        escape(&format!("{at} s: {title}"))
    );
}

/// A line through all lanes.
pub(super) fn upright(class: &str, at: Time, words: &str, view: &View) -> String {
    if !view.shows(at) {
        return String::new();
    }
    let (words, bottom) = (escape(words), view.height());
    format!(
        "<g class=\"p upright {class}\" transform=\"translate({:.2},0)\"><title>{at} s: {words}</title>\
         <line y1=\"{AXIS}\" y2=\"{bottom}\"/>\
         <text class=\"{class}\" x=\"-6\" y=\"{}\" text-anchor=\"end\">{words}</text></g>\n",
        view.x(at),
        bottom - 6
    )
}
