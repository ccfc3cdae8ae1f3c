//! A set of numbers as ranges: which places of a chat are known, which are unread.
//!
//! A chat that was followed without a break is one range, however long it is. What breaks it (a
//! part that was never fetched, own messages between unread ones) costs a range each; beyond
//! [`RANGES_MAX`] the oldest are forgotten, which at worst has the broker asked again.

/// Numbers from 1, as ranges that neither touch nor overlap, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// From what was stored; whatever that is, the result is well formed.
    pub(crate) fn new(pairs: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ranges = Self::default();
        for (from, to) in pairs {
            ranges.insert(from, to);
        }
        ranges
    }

    pub(crate) fn pairs(&self) -> &[(u64, u64)] {
        &self.0
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, to)| *to < number);
        self.0.get(at).is_some_and(|(from, _)| *from <= number)
    }

    /// Adds `from` to `to`, both included; nothing if they are no range.
    pub(crate) fn insert(&mut self, from: u64, to: u64) {
        if from == 0 || from > to {
            return;
        }
        // Those that touch the new one become one with it.
        let first = self.0.partition_point(|(_, end)| end.saturating_add(1) < from);
        let behind = self.0.partition_point(|(begin, _)| *begin <= to.saturating_add(1));
        let touched = self.0.get(first..behind).unwrap_or_default();
        let from = touched.first().map_or(from, |(begin, _)| from.min(*begin));
        let to = touched.last().map_or(to, |(_, end)| to.max(*end));
        self.0.splice(first..behind.max(first), [(from, to)]);
        if self.0.len() > RANGES_MAX {
            self.0.remove(0);
        }
    }

    pub(crate) fn remove(&mut self, number: u64) {
        let at = self.0.partition_point(|(_, to)| *to < number);
        let Some(&(from, to)) = self.0.get(at).filter(|(from, _)| *from <= number) else { return };
        let left = (number > from).then(|| (from, number - 1));
        let right = (number < to).then(|| (number + 1, to));
        self.0.splice(at..=at, left.into_iter().chain(right));
    }

    pub(crate) fn remove_to(&mut self, number: u64) {
        self.0.retain(|(_, to)| *to > number);
        if let Some((from, _)) = self.0.first_mut() {
            *from = (*from).max(number.saturating_add(1));
        }
    }

    /// The highest; 0 where there is none.
    pub(crate) fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, to)| *to)
    }

    /// How many there are from `from` to `to`, both included.
    pub(crate) fn count(&self, from: u64, to: u64) -> u64 {
        let within = |(begin, end): &(u64, u64)| {
            to.min(*end).saturating_add(1).saturating_sub(from.max(*begin))
        };
        self.0.iter().map(within).sum()
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from + 1).sum()
    }

    /// The first part of `from` to `to` that is missing.
    pub(crate) fn gap(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let start = self.end_of_run(from) + 1;
        if start > to {
            return None;
        }
        let at = self.0.partition_point(|(begin, _)| *begin < start);
        let end = self.0.get(at).map_or(to, |(begin, _)| to.min(begin - 1));
        Some((start, end))
    }

    /// The last part of `from` to `to` that is missing.
    pub(crate) fn last_gap(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let mut gap = self.gap(from, to)?;
        while let Some(next) = self.gap(gap.1 + 1, to) {
            gap = next;
        }
        Some(gap)
    }

    /// The last number of the unbroken run that begins at `from`; the one before `from` if that is
    /// not there.
    pub(crate) fn end_of_run(&self, from: u64) -> u64 {
        let at = self.0.partition_point(|(_, to)| *to < from);
        let run = self.0.get(at).filter(|(begin, _)| *begin <= from);
        run.map_or_else(|| from.saturating_sub(1), |(_, to)| *to)
    }
}

/// Ranges of one set. A chat in which every other message is one's own has an unread range for
/// each: so many unread runs are counted, the ones before them are not.
pub(crate) const RANGES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_as_a_naive_set_would_be() {
        let mut rng = crate::machine::rng::Rng::new(7);
        for _ in 0..200 {
            let (mut ranges, mut naive) = (Ranges::default(), std::collections::BTreeSet::new());
            for _ in 0..40 {
                let from = 1 + rng.below(40);
                let to = from + rng.below(5);
                match rng.below(4) {
                    0 => {
                        ranges.remove(from);
                        naive.remove(&from);
                    }
                    1 if rng.below(4) == 0 => {
                        ranges.remove_to(from);
                        naive.retain(|n| *n > from);
                    }
                    _ => {
                        ranges.insert(from, to);
                        naive.extend(from..=to);
                    }
                }
                let all: Vec<u64> = ranges.pairs().iter().flat_map(|(a, b)| *a..=*b).collect();
                assert_eq!(all, naive.iter().copied().collect::<Vec<_>>());
                let apart = ranges.pairs().windows(2).all(|w| w[0].1 + 1 < w[1].0);
                assert!(apart, "{ranges:?}");
                assert_eq!(ranges.contains(from), naive.contains(&from));
                assert_eq!(ranges.len(), naive.len() as u64);
                assert_eq!(ranges.count(5, 20), naive.range(5..=20).count() as u64);
                let missing = (from..=45).find(|n| !naive.contains(n));
                assert_eq!(ranges.gap(from, 45).map(|gap| gap.0), missing);
                if let Some((_, end)) = ranges.gap(from, 45) {
                    assert!(end == 45 || naive.contains(&(end + 1)));
                }
                let missing = (from..=45).rev().find(|n| !naive.contains(n));
                assert_eq!(ranges.last_gap(from, 45).map(|gap| gap.1), missing);
            }
        }
    }

    #[test]
    fn what_is_no_range_adds_nothing_and_the_oldest_go_beyond_the_bound() {
        let mut ranges = Ranges::new([(5, 3), (0, 2)]);
        assert_eq!(ranges.pairs(), []);
        for n in 0..=RANGES_MAX as u64 {
            ranges.insert(1 + 2 * n, 1 + 2 * n);
        }
        assert_eq!((ranges.pairs().len(), ranges.pairs()[0].0), (RANGES_MAX, 3));
        assert_eq!(Ranges::new([(1, u64::MAX)]).end_of_run(1), u64::MAX);
    }
}
