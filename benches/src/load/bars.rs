//! Bars as an SVG that stands in a page, with its colours: a row for each, and how far its rounds
//! lie apart.

use std::fmt::Write;

use crate::load::plot::{round_up, short};

/// A row.
#[derive(Debug)]
pub(crate) struct Bar {
    /// As it may stand in a page.
    pub(crate) name: String,
    /// Its colour.
    pub(crate) class: &'static str,
    pub(crate) value: f64,
    /// The least and the most.
    pub(crate) between: (f64, f64),
    /// What is said behind the value.
    pub(crate) note: String,
}

const LEFT: f64 = 130.0;
const WIDTH: f64 = 360.0;
const RIGHT: f64 = 150.0;
const ROW: f64 = 26.0;
const BELOW: f64 = 24.0;

/// As an `svg` element; nothing of nothing. The label may stand in a page.
pub(crate) fn bars(label: &str, bars: &[Bar]) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let most = round_up(bars.iter().map(|it| it.between.1.max(it.value)).fold(0.0, f64::max));
    let along = |value: f64| LEFT + WIDTH * (value / most).clamp(0.0, 1.0);
    let bottom = bars.iter().fold(0.0, |bottom, _| bottom + ROW);
    let mut out = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{label}\">\n",
        LEFT + WIDTH + RIGHT,
        bottom + BELOW
    );
    for part in 0..=4 {
        let value = most * f64::from(part) / 4.0;
        let x = along(value);
        // Writing to a text does not fail.
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{x:.1} 0V{bottom}\"/><text x=\"{x:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            short(value)
        );
    }
    let mut top = 0.0;
    for bar in bars {
        let (middle, (least, most)) =
            (top + ROW / 2.0, (along(bar.between.0), along(bar.between.1)));
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect class=\"{}\" x=\"{LEFT}\" \
             y=\"{}\" width=\"{:.1}\" height=\"{}\"/><path class=\"whisker\" d=\"M{least:.1} {middle}H{most:.1}\
             M{least:.1} {}v8M{most:.1} {}v8\"/><text x=\"{}\" y=\"{}\"><tspan class=\"value\">{}</tspan> {}</text>",
            LEFT - 8.0,
            middle + 4.0,
            bar.name,
            bar.class,
            top + 4.0,
            along(bar.value) - LEFT,
            ROW - 8.0,
            middle - 4.0,
            middle - 4.0,
            LEFT + WIDTH + 12.0,
            middle + 4.0,
            short(bar.value),
            bar.note
        );
        top += ROW;
    }
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_whiskers_stay_within_their_axes() {
        let bar = |value, between| Bar {
            name: "a".into(),
            class: "l0",
            value,
            between,
            note: "n".into(),
        };
        let svg = bars("t", &[bar(100.0, (50.0, 200.0)), bar(0.0, (0.0, 0.0))]);
        assert!(svg.contains("width=\"180.0\""), "{svg}");
        assert!(svg.contains("d=\"M220.0 13H490.0M220.0 9v8M490.0 9v8\""), "{svg}");
        assert!(svg.contains("width=\"0.0\""), "{svg}");
        assert!(bars("t", &[]).is_empty());
    }
}
