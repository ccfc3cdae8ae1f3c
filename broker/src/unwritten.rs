//! The bytes that wait to be written to one connection: a list of blocks.
//!
//! In one piece they would be copied whenever they outgrow it, and what is written of them would be
//! kept until the last byte is. Of many who do not read that made half as much again as they hold.

use std::collections::VecDeque;

/// Bytes in the order in which they are to be written.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    /// Blocks that are full, before the last one.
    full: VecDeque<Vec<u8>>,
    last: Vec<u8>,
    /// Written of the first block.
    written: usize,
}

impl Unwritten {
    pub(crate) fn len(&self) -> usize {
        self.held_bytes() - self.written
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory, but for what the last block could hold besides.
    pub(crate) fn held_bytes(&self) -> usize {
        self.full.len() * BLOCK_BYTES + self.last.len()
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        loop {
            let room = BLOCK_BYTES - self.last.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            let (length, capacity) = (self.last.len(), self.last.capacity());
            if length + now.len() > capacity {
                let capacity = (capacity * 2).clamp(length + now.len(), BLOCK_BYTES);
                self.last.reserve_exact(capacity - length);
            }
            self.last.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            self.full.push_back(std::mem::take(&mut self.last));
            bytes = later;
        }
    }

    /// What to write next; empty: there is nothing.
    pub(crate) fn front(&self) -> &[u8] {
        self.full.front().unwrap_or(&self.last).get(self.written..).unwrap_or_default()
    }

    /// So many bytes of [`Unwritten::front`] are written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.written += bytes;
        let block = self.full.front().unwrap_or(&self.last);
        if self.written < block.len() {
            return;
        }
        self.written = 0;
        if self.full.pop_front().is_some() {
            return;
        }
        self.last.clear();
        self.full = VecDeque::new();
        if self.last.capacity() > KEPT_BYTES {
            self.last = Vec::new();
        }
    }
}

/// A block, once it is full.
const BLOCK_BYTES: usize = 64 * 1024;

/// Memory that is kept from one batch to the next.
const KEPT_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_in_order_however_they_were_pushed_and_are_taken() {
        let (mut pushed, mut taken) = (Vec::new(), Vec::new());
        let mut unwritten = Unwritten::default();
        let mut random = 7_u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % bound
        };
        for round in 0..2_000 {
            for _ in 0..below(4) {
                let bytes = vec![
                    u8::try_from(below(256)).unwrap();
                    below(if round % 50 == 0 { 300_000 } else { 300 })
                ];
                unwritten.push(&bytes);
                pushed.extend_from_slice(&bytes);
            }
            for _ in 0..below(6) {
                let front = unwritten.front();
                let some = front.get(..below(front.len() + 1)).unwrap();
                taken.extend_from_slice(some);
                let some = some.len();
                unwritten.advance(some);
            }
            assert_eq!(unwritten.len(), pushed.len() - taken.len());
            assert_eq!(unwritten.is_empty(), pushed.len() == taken.len());
            assert!(unwritten.held_bytes() < unwritten.len() + BLOCK_BYTES);
        }
        while !unwritten.is_empty() {
            taken.extend_from_slice(unwritten.front());
            let some = unwritten.front().len();
            unwritten.advance(some);
        }
        assert!(pushed == taken && pushed.len() > 1_000_000, "{}", pushed.len());
        assert!(unwritten.front().is_empty());
    }

    #[test]
    fn memory_is_given_back_block_by_block_and_a_little_is_kept() {
        let mut unwritten = Unwritten::default();
        for _ in 0..100 {
            unwritten.push(&[7; 10_000]);
        }
        assert_eq!(unwritten.held_bytes(), 1_000_000);
        assert!(unwritten.full.iter().all(|it| it.capacity() == BLOCK_BYTES));
        unwritten.advance(BLOCK_BYTES - 1);
        assert_eq!(unwritten.held_bytes(), 1_000_000);
        unwritten.advance(1);
        assert_eq!(unwritten.held_bytes(), 1_000_000 - BLOCK_BYTES);
        while !unwritten.is_empty() {
            let some = unwritten.front().len();
            unwritten.advance(some);
        }
        assert_eq!((unwritten.full.capacity(), unwritten.last.capacity()), (0, 0));
        unwritten.push(&[7; 100]);
        unwritten.advance(100);
        assert_eq!(unwritten.last.capacity(), 100);
    }
}
