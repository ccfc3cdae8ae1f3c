//! What a member does not want to see any more: ranges of places, ascending and apart.

use crate::rows::HiddenRow;

/// See the file's own words.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Hidden(Vec<(u64, u64)>);

impl Hidden {
    pub(crate) fn from_row(row: HiddenRow) -> Self {
        Self(row.ranges)
    }

    pub(crate) fn row(&self) -> HiddenRow {
        HiddenRow { ranges: self.0.clone() }
    }

    /// Hides what is from `from` to `to`, both included.
    pub(crate) fn insert(&mut self, mut from: u64, mut to: u64) {
        let touches = |(first, last): &(u64, u64)| *first <= to + 1 && *last + 1 >= from;
        let start = self.0.iter().position(touches);
        let (start, count) = match start {
            Some(start) => (start, self.0.iter().skip(start).take_while(|it| touches(it)).count()),
            None => (self.0.partition_point(|(first, _)| *first < from), 0),
        };
        for (first, last) in self.0.drain(start..start + count) {
            (from, to) = (from.min(first), to.max(last));
        }
        self.0.insert(start, (from, to));
    }

    /// Whether a place is hidden.
    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.holding(seq).is_some()
    }

    /// The last place of those that are hidden without a gap from `seq` on; the place before it
    /// where it is not.
    pub(crate) fn reach(&self, seq: u64) -> u64 {
        self.holding(seq).map_or_else(|| seq.saturating_sub(1), |(_, last)| last)
    }

    fn holding(&self, seq: u64) -> Option<(u64, u64)> {
        let at = self.0.partition_point(|(_, last)| *last < seq);
        self.0.get(at).copied().filter(|(first, _)| *first <= seq)
    }

    /// What is hidden behind `after`, as first and last.
    pub(crate) fn behind(&self, after: u64) -> impl Iterator<Item = (u64, u64)> {
        let behind = self.0.iter().filter(move |(_, last)| *last > after);
        behind.map(move |(first, last)| ((*first).max(after + 1), *last))
    }

    /// Forgets what is not worth remembering: all up to `seq`, but for the newest.
    pub(crate) fn forget(&mut self, seq: u64) {
        let end = self.0.last().copied();
        self.0.retain(|range| range.1 > seq || Some(*range) == end);
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let mut hidden = Hidden::default();
        for (from, to) in [(7, 7), (3, 3), (5, 5), (10, 12)] {
            hidden.insert(from, to);
        }
        assert_eq!(hidden.0, [(3, 3), (5, 5), (7, 7), (10, 12)]);
        hidden.insert(6, 6);
        assert_eq!(hidden.0, [(3, 3), (5, 7), (10, 12)]);
        hidden.insert(5, 6);
        assert_eq!(hidden.0, [(3, 3), (5, 7), (10, 12)]);
        let inside: Vec<u64> = (1..14).filter(|seq| hidden.contains(*seq)).collect();
        assert_eq!(inside, [3, 5, 6, 7, 10, 11, 12]);
        assert_eq!([2, 3, 5, 8, 11].map(|seq| hidden.reach(seq)), [1, 3, 7, 7, 12]);
        assert_eq!(hidden.behind(5).collect::<Vec<_>>(), [(6, 7), (10, 12)]);
        hidden.forget(7);
        assert_eq!(hidden.0, [(10, 12)]);
        hidden.insert(1, 20);
        assert_eq!((hidden.0.clone(), hidden.len()), (vec![(1, 20)], 1));
    }
}
