//! An ordered map that costs nothing on the heap while it holds one entry, the usual case here:
//! one subscriber of an inbox, one level below another.
//!
//! Many entries go to a B-tree and not to a sorted vector: an announcement that a million sessions
//! subscribe to must not cost a move of the whole vector each.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::iter::FusedIterator;
use std::ops::Bound;

#[derive(Debug, Clone, Default)]
pub(super) enum SmallMap<K, V> {
    #[default]
    Empty,
    One(K, V),
    /// Two entries at least.
    Many(BTreeMap<K, V>),
}

impl<K: Ord, V> SmallMap<K, V> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(..) => 1,
            Self::Many(map) => map.len(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Empty => None,
            Self::One(own, value) => (own.borrow() == key).then_some(value),
            Self::Many(map) => map.get(key),
        }
    }

    /// The key as the map has it, and its value.
    pub(super) fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Empty => None,
            Self::One(own, value) => ((*own).borrow() == key).then_some((own, value)),
            Self::Many(map) => map.get_key_value(key),
        }
    }

    /// Returns what it replaces.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Many(map) => return map.insert(key, value),
            Self::One(own, old) if *own == key => return Some(std::mem::replace(old, value)),
            Self::Empty | Self::One(..) => {}
        }
        *self = match std::mem::take(self) {
            Self::One(own, old) => Self::Many(BTreeMap::from([(own, old), (key, value)])),
            Self::Empty | Self::Many(_) => Self::One(key, value),
        };
        None
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Empty => None,
            Self::One(own, _) if (*own).borrow() != key => None,
            Self::One(..) => match std::mem::take(self) {
                Self::One(_, value) => Some(value),
                Self::Empty | Self::Many(_) => None,
            },
            Self::Many(map) => {
                let removed = map.remove(key);
                if map.len() == 1
                    && let Some((own, value)) = map.pop_first()
                {
                    *self = Self::One(own, value);
                }
                removed
            }
        }
    }

    /// In the order of the keys.
    pub(super) fn iter(&self) -> Iter<'_, K, V> {
        match self {
            Self::Empty => Iter::One(None),
            Self::One(key, value) => Iter::One(Some((key, value))),
            Self::Many(map) => Iter::Many(map.iter()),
        }
    }

    /// Those behind `key`, or all if there is none, in the order of the keys.
    pub(super) fn iter_after<Q: Ord + ?Sized>(&self, key: Option<&Q>) -> IterAfter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Empty => IterAfter::One(None),
            Self::One(own, value) => {
                let is_behind = key.is_none_or(|key| own.borrow() > key);
                IterAfter::One(is_behind.then_some((own, value)))
            }
            Self::Many(map) => {
                let from = key.map_or(Bound::Unbounded, Bound::Excluded);
                IterAfter::Many(map.range((from, Bound::Unbounded)))
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Iter<'m, K, V> {
    One(Option<(&'m K, &'m V)>),
    Many(btree_map::Iter<'m, K, V>),
}

impl<'m, K, V> Iterator for Iter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(entry) => entry.take(),
            Self::Many(entries) => entries.next(),
        }
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}

/// What [`SmallMap::iter_after`] finds. Of its own: who goes over all entries is not to pay for it.
#[derive(Debug)]
pub(super) enum IterAfter<'m, K, V> {
    One(Option<(&'m K, &'m V)>),
    Many(btree_map::Range<'m, K, V>),
}

impl<'m, K, V> Iterator for IterAfter<'m, K, V> {
    type Item = (&'m K, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::One(entry) => entry.take(),
            Self::Many(entries) => entries.next(),
        }
    }
}

impl<K, V> FusedIterator for IterAfter<'_, K, V> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn map_goes_from_nothing_to_many_and_back() {
        let mut map = SmallMap::default();
        assert_eq!((map.insert(2, 'b'), map.insert(2, 'B')), (None, Some('b')));
        assert_eq!((map.insert(1, 'a'), map.insert(3, 'c'), map.len()), (None, None, 3));
        assert_eq!(map.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((map.get(&2), map.get(&9)), (Some(&'B'), None));
        assert_eq!((map.get_key_value(&3), map.get_key_value(&9)), (Some((&3, &'c')), None));
        assert_eq!(map.iter_after(Some(&1)).map(|(key, _)| *key).collect::<Vec<_>>(), [2, 3]);
        assert_eq!((map.remove(&9), map.remove(&2)), (None, Some('B')));
        assert_eq!(map.remove(&1), Some('a'));
        assert!(matches!(map, SmallMap::One(3, 'c')));
        let behind = |key: Option<&i32>| map.iter_after(key).count();
        assert_eq!((behind(None), behind(Some(&2)), behind(Some(&3))), (1, 1, 0));
        assert_eq!((map.remove(&1), map.remove(&3)), (None, Some('c')));
        assert!(map.is_empty() && map.remove(&3).is_none() && map.iter().next().is_none());
    }
}
