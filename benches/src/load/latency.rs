//! Latencies in a histogram of high dynamic range.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies of any number of messages; recording one does not allocate.
#[derive(Debug, Clone)]
pub struct Latencies(Option<Histogram<u64>>);

/// What is longer counts as this: ten minutes, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;

impl Default for Latencies {
    fn default() -> Self {
        // From a microsecond on in three digits; what is shorter counts in full nanoseconds of its
        // first digits, which is finer than any clock here.
        Self(Histogram::new_with_bounds(100, LONGEST_NS, 3).ok())
    }
}

impl Latencies {
    /// One more, in nanoseconds.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(ns);
        }
    }

    /// Another's as well.
    pub fn add(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Both have the same bounds.
            let _ = histogram.add(other);
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// A quantile in microseconds, of 0 to 1.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |it| us(it.value_at_quantile(quantile).min(it.max())))
    }

    /// The figures that are told; nothing of nothing.
    pub fn summary(&self) -> Option<Summary> {
        let histogram = self.0.as_ref().filter(|it| !it.is_empty())?;
        Some(Summary {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: self.quantile_us(0.5),
            p90: self.quantile_us(0.9),
            p99: self.quantile_us(0.99),
            p99_9: self.quantile_us(0.999),
            max: us(histogram.max()),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "ten minutes are far below 2^52 ns")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// Of how many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Half of them are at most this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p99_9: f64,
    /// All of them.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_recorded() {
        let (mut all, mut half) = (Latencies::default(), Latencies::default());
        assert!(all.summary().is_none());
        (1..=500).for_each(|us| half.record(us * 1000));
        (501..=1000).for_each(|us| all.record(us * 1000));
        all.add(&half);
        let summary = all.summary().unwrap();
        let near = |is: f64, expected: f64| (is - expected).abs() <= expected / 500.0;
        assert_eq!(summary.count, 1000);
        assert!(near(summary.p50, 500.0) && near(summary.p99, 990.0), "{summary:?}");
        assert!(near(summary.p99_9, 999.0) && near(summary.max, 1000.0), "{summary:?}");
        all.record(u64::MAX);
        assert!(all.summary().unwrap().max >= 6e8, "it is told, and not left out");
    }
}
