//! Lines over time as an SVG: two panels, memory and disk.
//!
//! Written by hand: axes and a line are less than what a plotting crate would bring.

use std::fmt::Write;

/// A line of one panel.
#[derive(Debug)]
pub(crate) struct Panel<'a> {
    pub(crate) title: &'a str,
    /// Points: minutes or messages, and the value.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 70.0;
const GAP: f64 = 50.0;

/// The drawing; `x` says what lies below.
pub(crate) fn svg(title: &str, x: &str, panels: &[Panel<'_>]) -> String {
    let mut out = String::new();
    #[expect(clippy::cast_precision_loss, reason = "there are two panels")]
    let total = panels.len() as f64 * (HEIGHT + GAP) + 60.0;
    // Writing to a text does not fail.
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {total}\" font-family=\"sans-serif\" \
font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" \
font-size=\"15\">{title}</text>\n",
        WIDTH + LEFT + 30.0
    );
    let mut top = 55.0;
    for panel in panels {
        draw(&mut out, panel, top);
        top += HEIGHT + GAP;
    }
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{x}</text>\n</svg>\n",
        LEFT + WIDTH / 2.0,
        top - GAP + 36.0
    );
    out
}

/// The next 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let mut step = 1.0;
    loop {
        for times in [1.0, 2.0, 5.0] {
            if step * times >= value {
                return step * times;
            }
        }
        step *= 10.0;
    }
}

fn draw(out: &mut String, panel: &Panel<'_>, top: f64) {
    let x_max = panel.points.iter().map(|it| it.0).fold(1.0, f64::max);
    let y_max = round_up(panel.points.iter().map(|it| it.1).fold(1.0, f64::max));
    let bottom = top + HEIGHT;
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", top - 8.0, panel.title);
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let (x, y) = (LEFT + WIDTH * share, bottom - HEIGHT * share);
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {y}H{}\" stroke=\"#ddd\"/>\n<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            LEFT + WIDTH,
            LEFT - 8.0,
            y + 4.0,
            y_max * share,
            bottom + 18.0,
            (x_max * share * 100.0).round() / 100.0
        );
    }
    out.push_str("<path fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"1.5\" d=\"");
    for (number, (x, y)) in panel.points.iter().enumerate() {
        let command = if number == 0 { 'M' } else { 'L' };
        let (x, y) = (LEFT + WIDTH * x / x_max, bottom - HEIGHT * y / y_max);
        let _ = write!(out, "{command}{x:.1} {y:.1}");
    }
    out.push_str("\"/>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert!((round_up(3.0) - 5.0).abs() < f64::EPSILON);
        assert!((round_up(130.0) - 200.0).abs() < f64::EPSILON);
        let drawn = svg("a", "b", &[Panel { title: "c", points: vec![(0.0, 1.0), (2.0, 3.0)] }]);
        assert!(drawn.contains("M70.0 ") && drawn.ends_with("</svg>\n"), "{drawn}");
    }
}
