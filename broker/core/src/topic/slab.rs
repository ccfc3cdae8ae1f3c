//! An arena whose places are used again: the nodes of both trees live in one each.
//!
//! Nodes that name each other by index instead of owning each other are dropped one after the
//! other; a chain of 32,768 owned boxes would be dropped by recursion.

/// The index of a node. Only good for the slab that gave it, until it is removed there.
pub(super) type NodeId = u32;

#[derive(Debug, Clone)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    /// The first free place, from which the others are chained; `places.len()` when all are used.
    free: NodeId,
    len: usize,
}

#[derive(Debug, Clone)]
enum Place<T> {
    Used(T),
    Free { next: NodeId },
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: 0, len: 0 }
    }

    /// How many places are used.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// How many places there are, used or free.
    pub(super) const fn places(&self) -> usize {
        self.places.len()
    }

    pub(super) fn insert(&mut self, value: T) -> NodeId {
        let id = self.free;
        match self.places.get_mut(id as usize) {
            Some(place) => {
                if let Place::Free { next } = *place {
                    self.free = next;
                }
                *place = Place::Used(value);
            }
            None => {
                self.places.push(Place::Used(value));
                self.free = next_id(self.places.len());
            }
        }
        self.len += 1;
        id
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&T> {
        match self.places.get(id as usize)? {
            Place::Used(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut T> {
        match self.places.get_mut(id as usize)? {
            Place::Used(value) => Some(value),
            Place::Free { .. } => None,
        }
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Option<T> {
        let place = self.places.get_mut(id as usize)?;
        if matches!(place, Place::Free { .. }) {
            return None;
        }
        let Place::Used(value) = std::mem::replace(place, Place::Free { next: self.free }) else {
            return None;
        };
        self.free = id;
        self.len -= 1;
        Some(value)
    }
}

#[expect(clippy::expect_used, reason = "2^32 nodes need hundreds of GiB: memory ends first")]
fn next_id(places: usize) -> NodeId {
    NodeId::try_from(places).expect("fewer than 2^32 nodes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_places_are_used_again_newest_first() {
        let mut slab = Slab::new();
        let ids: Vec<NodeId> = (0..4).map(|value| slab.insert(value)).collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        assert_eq!((slab.remove(1), slab.remove(3), slab.remove(3)), (Some(1), Some(3), None));
        assert_eq!((slab.len(), slab.get(1), slab.get(3)), (2, None, None));
        assert_eq!(slab.get_mut(3), None);
        assert_eq!((slab.insert(30), slab.insert(10), slab.insert(40)), (3, 1, 4));
        assert_eq!((slab.len(), slab.places(), slab.get(1)), (5, 5, Some(&10)));
    }
}
