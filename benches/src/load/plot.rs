//! Lines as an SVG that stands in a page, with its colours.
//!
//! Written by hand: axes and a few lines are less than what a plotting crate would bring.

use std::fmt::Write;

/// A line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What lies along the bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Across {
    /// Seconds.
    Time,
    /// Quantiles below 1; each step is a tenth of what is left.
    Quantiles,
}

/// A drawing of lines that share their axes.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) across: Across,
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 14.0;
const BELOW: f64 = 34.0;
const RIGHT: f64 = 18.0;

/// The next 1, 2 or 5 times a power of ten; of nothing 1.
pub(crate) fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].into_iter().map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(10.0 * power)
}

/// A number as an axis has it.
pub(crate) fn short(value: f64) -> String {
    let digits = |value: f64| match value {
        it if it >= 100.0 => format!("{it:.0}"),
        it => format!("{it:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    };
    match value {
        it if it >= 1e6 => format!("{}M", digits(it / 1e6)),
        it if it >= 1e4 => format!("{}k", digits(it / 1e3)),
        it => digits(it),
    }
}

impl Plot {
    /// The place of a point, between 0 and 1, along the bottom.
    fn along(&self, x: f64, first: f64, last: f64) -> f64 {
        match self.across {
            Across::Time => (x - first) / (last - first).max(1e-9),
            Across::Quantiles => -(1.0 - x).log10() / -(1.0 - last).log10(),
        }
    }

    /// As an `svg` element; nothing if there are no two points to be joined.
    pub(crate) fn svg(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| line.points.iter());
        if !self.lines.iter().any(|line| line.points.len() > 1) {
            return String::new();
        }
        let (first, last) =
            all().fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it.0), high.max(it.0)));
        let most = round_up(all().map(|it| it.1).fold(0.0, f64::max));
        let (bottom, right) = (TOP + HEIGHT, LEFT + WIDTH);
        let mut out = format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}, {}\">\n",
            right + RIGHT,
            bottom + BELOW,
            self.title,
            self.unit
        );
        for part in 0..=4 {
            let share = f64::from(part) / 4.0;
            let y = bottom - HEIGHT * share;
            // Writing to a text does not fail.
            let _ = writeln!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/><text x=\"{}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                short(most * share)
            );
        }
        for (x, label) in self.labels(first, last) {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                LEFT + WIDTH * x,
                bottom + 20.0
            );
        }
        for (nth, line) in self.lines.iter().enumerate() {
            let _ = write!(out, "<path class=\"line l{nth}\" d=\"");
            for (number, (x, y)) in line.points.iter().enumerate() {
                let x = LEFT + WIDTH * self.along(*x, first, last);
                let command = if number == 0 { 'M' } else { 'L' };
                let _ = write!(out, "{command}{x:.1} {:.1}", bottom - HEIGHT * y / most);
            }
            out.push_str("\"/>\n");
        }
        out.push_str("</svg>");
        out
    }

    /// Places along the bottom with what is written there.
    fn labels(&self, first: f64, last: f64) -> Vec<(f64, String)> {
        match self.across {
            Across::Time => (0..=4)
                .map(|part| {
                    let share = f64::from(part) / 4.0;
                    (share, format!("{} s", short((last - first) * share)))
                })
                .collect(),
            Across::Quantiles => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
                .into_iter()
                .filter(|quantile| *quantile <= last)
                .map(|quantile| {
                    let text = format!("{:.3}", quantile * 100.0);
                    let text = text.trim_end_matches('0').trim_end_matches('.');
                    (self.along(quantile, first, last), format!("{text} %"))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(across: Across, points: &[(f64, f64)]) -> Plot {
        let lines = vec![Line { name: "a", points: points.to_vec() }];
        Plot { title: "t", unit: "u", across, lines }
    }

    #[test]
    fn axes_end_at_round_numbers() {
        let rounded: Vec<_> = [0.0, 0.3, 1.0, 130.0, 600.0].into_iter().map(round_up).collect();
        assert_eq!(rounded.map_each(short), ["1", "0.5", "1", "200", "1000"]);
        assert_eq!([1.5e6, 20_000.0, 0.25].to_vec().map_each(short), ["1.5M", "20k", "0.25"]);
    }

    trait MapEach {
        fn map_each(self, each: fn(f64) -> String) -> Vec<String>;
    }

    impl MapEach for Vec<f64> {
        fn map_each(self, each: fn(f64) -> String) -> Vec<String> {
            self.into_iter().map(each).collect()
        }
    }

    #[test]
    fn lines_stay_within_their_axes() {
        let svg = plot(Across::Time, &[(3.0, 0.0), (5.0, 200.0)]).svg();
        assert!(svg.contains("d=\"M62.0 184.0L622.0 14.0\""), "{svg}");
        let svg = plot(Across::Quantiles, &[(0.0, 1.0), (0.9, 1.0), (0.99, 1.0)]).svg();
        assert!(svg.contains("M62.0 14.0L342.0 14.0L622.0 14.0"), "{svg}");
        assert!(plot(Across::Time, &[(1.0, 1.0)]).svg().is_empty());
    }
}
