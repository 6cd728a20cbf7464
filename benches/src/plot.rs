//! A chart as SVG: axes with labels and ticks, lines with points, readable on light and on dark ground.

use std::fmt::Write as _;

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Plot {
    /// What is shown.
    pub title: String,
    /// What lies along the bottom.
    pub x: Axis,
    /// What stands at the left, from zero on.
    pub y: String,
    /// At least one point in all.
    pub lines: Vec<Line>,
}

/// The bottom of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, and in what.
    pub label: String,
    /// Whether each power of ten is as far from the next as any other. Else every value that has a point has a tick.
    pub is_log: bool,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// As the legend names it.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether it is there to be compared with, and was not measured.
    pub is_reference: bool,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// Where the chart itself is.
const LEFT: f64 = 80.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 340.0;

/// Each is told from the ground, light or dark, and from the others.
const COLOURS: [&str; 4] = ["#3d85c6", "#d9822b", "#3a9d5d", "#b5588d"];

const STYLE: &str = "text{font:13px sans-serif;fill:#333b44}.title{font-size:15px;font-weight:bold}\
    .axis{stroke:#808890;fill:none}.grid{stroke:#808890;opacity:.3}.line{fill:none;stroke-width:2}\
    .reference{stroke:#808890;stroke-dasharray:6 4}\
    @media(prefers-color-scheme:dark){text{fill:#d5dae0}}";

impl Plot {
    /// The file's text.
    #[must_use]
    pub fn svg(&self) -> String {
        let xs = self.xs();
        let top = nice_above(self.points().map(|(_, y)| y).fold(0.0, f64::max));
        let mut out = String::new();
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>",
            escaped(&self.title)
        );
        text(&mut out, (LEFT, 22.0), "start", " class=\"title\"", &self.title);
        self.ticks(&mut out, &xs, top);
        let middle = f64::midpoint(TOP, BOTTOM);
        text(&mut out, (f64::midpoint(LEFT, RIGHT), HEIGHT - 16.0), "middle", "", &self.x.label);
        text(&mut out, (18.0, middle), "middle", &format!(" transform=\"rotate(-90 18 {middle:.1})\""), &self.y);
        self.lines(&mut out, &xs, top);
        out += "</svg>\n";
        out
    }

    fn ticks(&self, out: &mut String, xs: &Span, top: f64) {
        const STEPS: u32 = 5;
        for step in 0..=STEPS {
            let value = top * f64::from(step) / f64::from(STEPS);
            let y = up(value, top);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>");
            text(out, (LEFT - 8.0, y + 4.0), "end", "", &short(value));
        }
        for value in self.x_ticks(xs) {
            let x = xs.along(value);
            let _ = writeln!(out, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{BOTTOM}\"/>");
            text(out, (x, BOTTOM + 20.0), "middle", "", &short(value));
        }
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>");
    }

    fn lines(&self, out: &mut String, xs: &Span, top: f64) {
        let mut colours = COLOURS.iter().cycle();
        for (number, line) in self.lines.iter().enumerate() {
            let (class, colour) = match line.is_reference {
                true => ("line reference", String::new()),
                false => ("line", format!(" style=\"stroke:{}\"", colours.next().unwrap_or(&"#3d85c6"))),
            };
            let at: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| (xs.along(*x), up(*y, top))).collect();
            let path: Vec<String> = at.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            let _ = writeln!(out, "<path class=\"{class}\"{colour} d=\"M{}\"/>", path.join("L"));
            if !line.is_reference {
                for (x, y) in at {
                    let _ = writeln!(out, "<circle class=\"line\"{colour} cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
                }
            }
            let x = LEFT + 220.0 * number as f64;
            let _ = writeln!(out, "<path class=\"{class}\"{colour} d=\"M{x:.1} 44h24\"/>");
            text(out, (x + 30.0, 48.0), "start", "", &line.name);
        }
    }

    fn x_ticks(&self, xs: &Span) -> Vec<f64> {
        let mut ticks: Vec<f64> = match self.x.is_log {
            true => (0..16).map(|power| 10_f64.powi(power)).filter(|tick| xs.holds(*tick)).collect(),
            false => self.points().map(|(x, _)| x).collect(),
        };
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        ticks
    }

    fn xs(&self) -> Span {
        let scaled = |x: f64| if self.x.is_log { x.log10() } else { x };
        let all = || self.points().map(|(x, _)| scaled(x));
        Span { from: all().fold(f64::MAX, f64::min), to: all().fold(f64::MIN, f64::max), is_log: self.x.is_log }
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.lines.iter().flat_map(|line| line.points.iter().copied())
    }
}

/// What the bottom spans.
struct Span {
    from: f64,
    to: f64,
    is_log: bool,
}

impl Span {
    fn along(&self, x: f64) -> f64 {
        const MARGIN: f64 = 14.0;
        let x = if self.is_log { x.log10() } else { x };
        let part = if self.to > self.from { (x - self.from) / (self.to - self.from) } else { 0.5 };
        LEFT + MARGIN + part * (RIGHT - LEFT - 2.0 * MARGIN)
    }

    fn holds(&self, x: f64) -> bool {
        (self.from - 0.001..=self.to + 0.001).contains(&x.log10())
    }
}

fn up(y: f64, top: f64) -> f64 {
    BOTTOM - y / top * (BOTTOM - TOP)
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, attributes: &str, what: &str) {
    let _ =
        writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{attributes}>{}</text>", escaped(what));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A round number at or above this one, of which a fifth is round as well.
fn nice_above(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0];
    steps.into_iter().map(|step| step * unit).find(|top| *top >= value).unwrap_or(10.0 * unit)
}

/// As few digits as tell it: 2500 is `2,500`, ten million `10M`.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", (value / 1e4).round() / 100.0)
    } else if value >= 1e3 {
        let thousands = (value / 1e3).floor();
        format!("{thousands},{:03}", value.round() - thousands * 1e3)
    } else {
        format!("{}", (value * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(is_log: bool, points: Vec<(f64, f64)>) -> String {
        let x = Axis { label: "entries < all".into(), is_log };
        let line = |name: &str, is_reference| Line { name: name.into(), points: points.clone(), is_reference };
        let lines = vec![line("a", false), line("b", true)];
        Plot { title: "what & why".into(), x, y: "ns".into(), lines }.svg()
    }

    #[test]
    fn decades_are_equally_far_apart() {
        let svg = plot(true, vec![(1e4, 5.0), (1e5, 5.0), (1e7, 10.0)]);
        for (x, label) in [(94.0, "10,000"), (304.7, "100,000"), (515.3, "1M"), (726.0, "10M")] {
            assert!(svg.contains(&format!("<text x=\"{x:.1}\" y=\"360.0\" text-anchor=\"middle\">{label}<")), "{svg}");
        }
        assert!(svg.contains("d=\"M94.0 202.0L304.7 202.0L726.0 64.0\""), "{svg}");
    }

    #[test]
    fn values_have_ticks_of_their_own() {
        let svg = plot(false, vec![(3.0, 1.0), (5.0, 1.7), (7.0, 2.3)]);
        assert_eq!(svg.matches("y=\"360.0\"").count(), 3, "{svg}");
        assert!(svg.contains(">2.5</text>"), "the axis ends there: {svg}");
    }

    #[test]
    fn words_are_escaped_and_every_element_is_closed() {
        let svg = plot(true, vec![(10.0, 1.0)]);
        assert!(svg.contains("what &amp; why") && svg.contains("entries &lt; all"));
        for element in ["svg", "title", "style", "text"] {
            let closed = svg.matches(&format!("</{element}>")).count();
            assert_eq!(svg.matches(&format!("<{element}")).count(), closed, "{element}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.25, 12.5, 999.0].map(short), ["0", "0.25", "12.5", "999"]);
        assert_eq!([1000.0, 2500.0, 1e6, 2.5e6, 1e7].map(short), ["1,000", "2,500", "1M", "2.5M", "10M"]);
        assert_eq!([0.9, 1.0, 2.3, 42.0, 760.0].map(nice_above), [1.0, 1.0, 2.5, 50.0, 1000.0]);
    }
}
