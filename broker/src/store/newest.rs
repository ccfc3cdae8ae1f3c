//! The newest rows of a shard: the layer that changes, and beside it messages that may soon be gone.
//!
//! A message to who is connected is a row for as long as a sync and an answer take. In the layer it
//! costs a search to put it there, and another to take it away, among thousands of its kind. But it
//! comes behind the others of its queue, and mostly goes as the first: so it waits in a queue here,
//! and comes into the layer when many are to be read in order, or when there are too many of them: who
//! stores for a long time does not take the detour.

use std::collections::VecDeque;

use bytes::Bytes;
use tidings_core::collections::Map;
use tidings_core::record::{KeyRange, Op, RowKind};

use super::overlay::{self, Change, Rows};

/// Rows written since the last freeze.
#[derive(Debug, Default)]
pub struct Newest {
    rows: Rows,
    /// Rows that are not in `rows`, each queue's in order and none without one. All are there: what is
    /// deleted leaves its note in `rows`.
    young: Map<QueueKey, VecDeque<Young>>,
    young_rows: usize,
    /// So many go straight into `rows`: those before them stayed.
    straight: usize,
    bytes: u64,
}

/// What the keys of a queue's messages begin with: slot, kind, and the number of the session, which the
/// broker gives. Nobody can choose them to collide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct QueueKey([u8; QUEUE_KEY_BYTES]);

/// What they end with, in nearly all keys: number, flags, identifier.
type MessageKey = [u8; MESSAGE_KEY_BYTES];

/// A message in a queue.
#[derive(Debug)]
struct Young {
    key: MessageKey,
    value: Bytes,
}

const QUEUE_KEY_BYTES: usize = 10;
const MESSAGE_KEY_BYTES: usize = 13;
const KEY_BYTES: usize = QUEUE_KEY_BYTES + MESSAGE_KEY_BYTES;

/// Half a megabyte of them.
const YOUNG_MAX: usize = 8_192;

/// When so many have come and stayed, eight times as many go straight into the layer.
const STRAIGHT: usize = 8 * YOUNG_MAX;

/// The queue, and which of its messages.
fn split(key: &[u8]) -> Option<(QueueKey, MessageKey)> {
    let (queue, message) = key.split_first_chunk::<QUEUE_KEY_BYTES>()?;
    let is_queue = queue.get(1) == Some(&(RowKind::Queued as u8));
    Some((QueueKey(*queue), message.try_into().ok()?)).filter(|_| is_queue)
}

fn join(QueueKey(queue): QueueKey, message: MessageKey) -> Bytes {
    let mut key = [0; KEY_BYTES];
    let (begin, end) = key.split_at_mut(QUEUE_KEY_BYTES);
    begin.copy_from_slice(&queue);
    end.copy_from_slice(&message);
    Bytes::copy_from_slice(&key)
}

impl Newest {
    /// Applies one change, as [`overlay::apply`] does.
    pub fn apply(&mut self, op: Op, notes: bool) {
        match op {
            Op::Put { key, value } => match split(&key) {
                Some((queue, message)) if self.straight == 0 => {
                    self.put_young(queue, message, value);
                }
                _ => {
                    self.straight = self.straight.saturating_sub(1);
                    self.take_young(&key);
                    self.apply_to_rows(Op::Put { key, value }, notes);
                }
            },
            Op::Forget { key } => {
                // Put once: what is here is nowhere else.
                if !self.take_young(&key) {
                    self.apply_to_rows(Op::Forget { key }, notes);
                }
            }
            Op::Delete { key } => {
                self.take_young(&key);
                self.apply_to_rows(Op::Delete { key }, notes);
            }
            Op::PutAll { keys, value } => {
                for key in &keys {
                    self.take_young(key);
                }
                self.apply_to_rows(Op::PutAll { keys, value }, notes);
            }
        }
    }

    /// What the rows take in a store. One that is there twice for a while counts twice.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many there are, notes of deleted ones included.
    pub fn len(&self) -> usize {
        self.rows.len() + self.young_rows
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A layer that has all rows of `range`, and may have others.
    pub fn ordered(&mut self, range: &KeyRange) -> &Rows {
        match queue_of(range) {
            Some(queue) => self.settle_queue(queue),
            None => self.settle(),
        }
        &self.rows
    }

    /// The same as two layers, the newer first, for a read of so many rows.
    pub fn layers(&mut self, range: &KeyRange, rows_max: usize) -> (Rows, &Rows) {
        let Some(queue) = queue_of(range) else { return (Rows::new(), self.ordered(range)) };
        let mut newer = Rows::new();
        if let Some(young) = self.young.get(&queue) {
            let from = range.start.get(QUEUE_KEY_BYTES..).unwrap_or_default();
            let first = young.partition_point(|it| it.key[..] < *from);
            // Each read copies them: only one that wants about as many.
            if young.len() - first > rows_max.saturating_mul(2) {
                self.settle_queue(queue);
            } else {
                let rows = young.iter().skip(first).map(|it| (join(queue, it.key), &it.value));
                let rows = rows.filter(|(key, _)| range.contains(key));
                newer = rows.map(|(key, value)| (key.into(), Some(value.clone()))).collect();
            }
        }
        (newer, &self.rows)
    }

    /// Takes all of them away, and what they take in a store.
    pub fn take(&mut self) -> (Rows, u64) {
        self.settle();
        self.straight = 0;
        (std::mem::take(&mut self.rows), std::mem::take(&mut self.bytes))
    }

    fn put_young(&mut self, queue: QueueKey, key: MessageKey, value: Bytes) {
        if self.young_rows >= YOUNG_MAX {
            self.settle();
            self.straight = STRAIGHT;
        }
        self.bytes += (KEY_BYTES + value.len()) as u64;
        let young = self.young.entry(queue).or_default();
        if young.back().is_none_or(|last| last.key < key) {
            young.push_back(Young { key, value });
        } else {
            match young.binary_search_by_key(&key, |it| it.key) {
                Err(place) => young.insert(place, Young { key, value }),
                Ok(place) => {
                    let before =
                        young.get_mut(place).map(|it| std::mem::replace(&mut it.value, value));
                    let before = before.map_or(0, |before| before.len());
                    return self.gone(KEY_BYTES + before);
                }
            }
        }
        self.young_rows += 1;
    }

    /// Whether the row was among the young.
    fn take_young(&mut self, key: &[u8]) -> bool {
        let Some((queue, key)) = split(key) else { return false };
        let Some(young) = self.young.get_mut(&queue) else { return false };
        let taken = if young.front().is_some_and(|first| first.key == key) {
            young.pop_front()
        } else {
            let place = young.binary_search_by_key(&key, |it| it.key);
            place.ok().and_then(|place| young.remove(place))
        };
        let Some(taken) = taken else { return false };
        if young.is_empty() {
            self.young.remove(&queue);
        }
        self.young_rows -= 1;
        self.gone(KEY_BYTES + taken.value.len());
        true
    }

    fn gone(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    fn apply_to_rows(&mut self, op: Op, notes: bool) {
        let Change { put, gone } = overlay::apply(&mut self.rows, op, notes);
        self.bytes = (self.bytes + put).saturating_sub(gone);
    }

    fn settle(&mut self) {
        let mut queues: Vec<_> = self.young.keys().copied().collect();
        // Neighbours one after the other find their places in the cache.
        queues.sort_unstable();
        queues.into_iter().for_each(|queue| self.settle_queue(queue));
    }

    fn settle_queue(&mut self, queue: QueueKey) {
        for Young { key, value } in self.young.remove(&queue).into_iter().flatten() {
            let counted = (KEY_BYTES + value.len()) as u64;
            let put = Op::Put { key: join(queue, key), value };
            // Another of the same key may have been there, and counts no more.
            let change = overlay::apply(&mut self.rows, put, true);
            self.bytes = (self.bytes + change.put).saturating_sub(counted + change.gone);
            self.young_rows -= 1;
        }
    }
}

/// The queue that every key of the range is of, if there is one.
fn queue_of(range: &KeyRange) -> Option<QueueKey> {
    let queue = range.start.first_chunk::<QUEUE_KEY_BYTES>()?;
    let ends = range.end.is_some() && range.end <= KeyRange::prefix(queue).end;
    ends.then_some(QueueKey(*queue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tidings_core::record::KeyBuilder;
    use tidings_core::slot::Slot;

    fn queued(number: u64) -> Bytes {
        let key = KeyBuilder::new(Slot(9), RowKind::Queued).number(7).number(number);
        key.byte(1).raw(&[0; 4]).build()
    }

    #[test]
    fn young_rows_are_those_of_queues_and_their_keys_come_back() {
        let key = queued(0x0102_0304_0506_0708);
        assert_eq!(split(&key).map(|(queue, message)| join(queue, message)), Some(key.clone()));
        assert_eq!(split(&key[..22]), None);
        assert_eq!(split(&[&key[..], b"$share"].concat()), None);
        let mut other = key.to_vec();
        other[1] = RowKind::Retained as u8;
        assert_eq!(split(&other), None);
    }

    #[test]
    fn a_range_is_of_a_queue_when_all_of_its_keys_are() {
        let queue = |session| KeyBuilder::new(Slot(9), RowKind::Queued).number(session);
        assert!(queue_of(&queue(7).prefix()).is_some());
        assert!(queue_of(&queue(7).prefix().after(&queued(3))).is_some());
        let start = queued(1);
        for end in [None, queue(9).prefix().end] {
            assert_eq!(queue_of(&KeyRange { start: start.clone(), end }), None);
        }
        assert_eq!(queue_of(&KeyRange::prefix(&start[..9])), None);
    }

    #[test]
    fn rows_are_the_same_whichever_way_they_took() {
        for seed in 0..40_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut below = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % bound
            };
            let notes = seed % 2 == 0;
            let (mut newest, mut model) = (Newest::default(), Rows::new());
            let (mut model_bytes, mut next, mut live) = (0_u64, 0, BTreeMap::new());
            for step in 0..2_000_u64 {
                let value = Bytes::from(vec![1; usize::try_from(below(5)).unwrap()]);
                let op = match below(8) {
                    0..=2 => {
                        next += 1;
                        live.insert(next, ());
                        Op::Put { key: queued(next), value }
                    }
                    // One that is put once is not put again: forgotten is what still is.
                    3 | 4 if let Some((number, ())) = live.pop_first() => {
                        Op::Forget { key: queued(number) }
                    }
                    5 => Op::Delete { key: queued(1_000_000 + below(9)) },
                    6 => Op::Put { key: queued(1_000_000 + below(9)), value },
                    7 => {
                        let keys = (0..3).map(|_| queued(1_000_000 + below(9))).collect();
                        Op::PutAll { keys, value }
                    }
                    _ => Op::Put { key: Bytes::from(vec![u8::try_from(below(4)).unwrap()]), value },
                };
                let Change { put, gone } = overlay::apply(&mut model, op.clone(), notes);
                model_bytes = model_bytes + put - gone;
                newest.apply(op, notes);
                // Its detour ends and begins again.
                newest.straight = if below(9) == 0 { 2 } else { newest.straight };
                let all = KeyRange::prefix(&[]);
                let mut range = KeyRange::prefix(&queued(0)[..10]).after(&queued(below(next + 2)));
                if below(20) == 0 {
                    range.end = Some(queued(next));
                }
                let of_range = |rows: &Rows| {
                    let rows = rows.iter().filter(|(key, _)| range.contains(key));
                    rows.map(|(key, value)| (key.clone(), value.clone())).collect::<Rows>()
                };
                if below(10) == 0 {
                    let (newer, older) = newest.layers(&range, usize::try_from(below(9)).unwrap());
                    let mut both = of_range(older);
                    both.extend(of_range(&newer));
                    assert_eq!(both, of_range(&model), "seed {seed}, step {step}");
                }
                match below(100) {
                    0 => assert_eq!(of_range(newest.ordered(&range)), of_range(&model)),
                    1 => {
                        assert_eq!(newest.ordered(&all), &model, "seed {seed}, step {step}");
                        assert_eq!(newest.bytes(), model_bytes, "seed {seed}, step {step}");
                    }
                    _ => {}
                }
            }
            assert_eq!(newest.take(), (model, model_bytes));
            assert_eq!((newest.len(), newest.bytes()), (0, 0));
        }
    }

    #[test]
    fn many_that_stay_go_straight_into_the_layer() {
        let mut newest = Newest::default();
        for number in 0..YOUNG_MAX as u64 + 1 {
            newest.apply(Op::Put { key: queued(number), value: Bytes::new() }, true);
        }
        assert_eq!((newest.rows.len(), newest.young_rows), (YOUNG_MAX, 1));
        newest.apply(Op::Put { key: queued(u64::MAX), value: Bytes::new() }, true);
        assert_eq!((newest.rows.len(), newest.young_rows), (YOUNG_MAX + 1, 1));
        assert_eq!(newest.len(), YOUNG_MAX + 2);
        for number in 0..YOUNG_MAX as u64 + 1 {
            newest.apply(Op::Forget { key: queued(number) }, true);
        }
        assert_eq!(newest.len(), 1);
    }
}
