//! One chat on its way to one device: what was handed over, what was acknowledged.
//!
//! Entries are handed over in the order of their places, and the cursor follows the first that was
//! not acknowledged. After a reconnect, deliveries that the session sends again by itself are not
//! handed over a second time, and some of them may be acknowledged before the chat has said where
//! the cursor is.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use tidings_core::hook::Tag;
use tidings_core::time::Time;

use crate::topics::{ChatId, Place};

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) place: Arc<Place>,
    /// Whether the chat has answered the attach.
    pub(crate) attached: bool,
    /// The next entry to hand over.
    pub(crate) next: u64,
    /// The newest entry that can be had.
    pub(crate) head: u64,
    /// When that was written.
    pub(crate) time: Time,
    /// The cursor the chat knows of.
    pub(crate) told: u64,
    /// Whether acknowledgements have come that the chat does not know of.
    pub(crate) dirty: bool,
    /// Whether the cursor stays: something was handed over that is never acknowledged.
    pub(crate) frozen: bool,
    /// Handed over and not acknowledged, ascending.
    outstanding: VecDeque<u64>,
    /// Acknowledged although not handed over since the reconnect.
    ahead: BTreeSet<u64>,
}

impl Lane {
    /// One whose chat has been asked. `in_flight` is what the session sends again, and `ahead` what it sent again and has been acknowledged already.
    pub(crate) fn new(
        place: Arc<Place>,
        in_flight: impl Iterator<Item = u64>,
        ahead: impl Iterator<Item = u64>,
    ) -> Self {
        let mut outstanding: Vec<u64> = in_flight.collect();
        outstanding.sort_unstable();
        Self {
            place,
            attached: false,
            next: 0,
            head: 0,
            time: Time::default(),
            told: 0,
            dirty: false,
            frozen: false,
            outstanding: outstanding.into(),
            ahead: ahead.collect(),
        }
    }

    /// The chat has answered.
    pub(crate) fn attach(&mut self, cursor: u64, head: u64, time: Time) {
        self.attached = true;
        self.next = cursor + 1;
        self.head = head;
        self.time = time;
        self.told = cursor;
        self.outstanding.retain(|seq| *seq > cursor);
        self.ahead.retain(|seq| *seq > cursor);
        self.pass_ahead();
    }

    /// Whether there is something to hand over.
    pub(crate) fn is_behind(&self) -> bool {
        self.attached && self.next <= self.head
    }

    /// Whether the session has this entry already and sends it again by itself.
    pub(crate) fn has(&self, seq: u64) -> bool {
        self.outstanding.binary_search(&seq).is_ok()
    }

    /// The next entry is handed over, and to be acknowledged.
    pub(crate) fn hand_over(&mut self) {
        if let Err(at) = self.outstanding.binary_search(&self.next) {
            self.outstanding.insert(at, self.next);
        }
        self.pass(self.next);
    }

    /// Several entries are handed over together, ascending; what lies between them is gone or the
    /// device's own.
    pub(crate) fn hand_over_all(&mut self, seqs: impl Iterator<Item = u64>, last: u64) {
        for seq in seqs {
            if let Err(at) = self.outstanding.binary_search(&seq) {
                self.outstanding.insert(at, seq);
            }
        }
        self.pass(last);
    }

    /// Whether an entry was acknowledged before it was its turn.
    pub(crate) fn is_ahead(&self, seq: u64) -> bool {
        self.ahead.contains(&seq)
    }

    /// Nothing up to `seq` is to be handed over any more: gone, or the device's own.
    pub(crate) fn pass(&mut self, seq: u64) {
        if seq >= self.next {
            self.next = seq + 1;
            self.ahead.retain(|acknowledged| *acknowledged > seq);
            self.pass_ahead();
        }
    }

    /// What was acknowledged and is not below the cursor, ascending.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = u64> {
        self.ahead.iter().copied()
    }

    fn pass_ahead(&mut self) {
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }

    /// An entry was acknowledged. Returns whether it was waited for.
    pub(crate) fn acknowledge(&mut self, seq: u64) -> bool {
        let Ok(at) = self.outstanding.binary_search(&seq) else { return false };
        self.outstanding.remove(at);
        if !self.attached || seq >= self.next {
            self.ahead.insert(seq);
            if self.attached {
                self.pass_ahead();
            }
        }
        true
    }

    /// Everything up to it was acknowledged, or was never to be.
    pub(crate) fn cursor(&self) -> u64 {
        if self.frozen || !self.attached {
            return self.told;
        }
        let handed = self.next.saturating_sub(1);
        let first = self.outstanding.front().map(|first| first.saturating_sub(1));
        first.map_or(handed, |first| first.min(handed)).max(self.told)
    }
}

/// What a delivery is marked with: the last of its entries, and how many places before that its first
/// is. For a single one that is the place itself.
pub(crate) fn tag_of(chat: ChatId, first: u64, last: u64) -> Tag {
    Tag { key: chat.to_key(), seq: (last - first) << PLACE_BITS | last }
}

/// The places that are acknowledged with a delivery.
pub(crate) fn places_of(tag: Tag) -> RangeInclusive<u64> {
    let last = tag.seq & ((1 << PLACE_BITS) - 1);
    last.saturating_sub(tag.seq >> PLACE_BITS)..=last
}

/// How many bits of a mark are the place: enough for a million entries a second over eight years.
const PLACE_BITS: u32 = 48;

/// How many places one mark reaches over.
pub(crate) const PLACES_MAX: u64 = 1 << (64 - PLACE_BITS);

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(in_flight: &[u64]) -> Lane {
        Lane::new(Place::direct("alice", "bob"), in_flight.iter().copied(), std::iter::empty())
    }

    #[test]
    fn the_cursor_stops_before_the_first_that_is_not_acknowledged() {
        let mut lane = lane(&[]);
        lane.attach(4, 9, Time::default());
        assert!(lane.is_behind());
        for _ in 5..=9 {
            lane.hand_over();
        }
        assert_eq!((lane.next, lane.cursor(), lane.is_behind()), (10, 4, false));
        assert!(lane.acknowledge(6) && lane.acknowledge(7));
        assert_eq!(lane.cursor(), 4);
        assert!(lane.acknowledge(5) && !lane.acknowledge(5));
        assert_eq!(lane.cursor(), 7);
        assert!(lane.acknowledge(9) && lane.acknowledge(8));
        assert_eq!(lane.cursor(), 9);
    }

    #[test]
    fn what_is_sent_again_is_not_handed_over_and_counts_when_acknowledged() {
        let mut lane = lane(&[3, 5, 6]);
        assert!(lane.acknowledge(5), "before the chat has answered");
        lane.attach(3, 7, Time::default());
        assert!(!lane.has(3) && !lane.has(5) && lane.has(6));
        lane.hand_over();
        assert_eq!((lane.next, lane.cursor()), (6, 3), "4 is handed over, 5 is done");
        lane.acknowledge(4);
        assert_eq!(lane.cursor(), 5);
        lane.pass(6);
        lane.hand_over();
        assert_eq!((lane.next, lane.cursor()), (8, 5));
        lane.acknowledge(6);
        lane.acknowledge(7);
        assert_eq!(lane.cursor(), 7);
    }

    #[test]
    fn an_acknowledgement_ahead_does_not_move_the_cursor_over_a_gap() {
        let mut lane = lane(&[7]);
        lane.attach(3, 8, Time::default());
        lane.acknowledge(7);
        assert_eq!((lane.cursor(), lane.next), (3, 4));
        lane.pass(6);
        assert_eq!((lane.cursor(), lane.next), (7, 8));
    }

    #[test]
    fn entries_handed_over_together_are_acknowledged_together() {
        let chat = lane(&[]).place.id;
        assert_eq!(tag_of(chat, 7, 7).seq, 7);
        assert_eq!(places_of(tag_of(chat, 5, 9)), 5..=9);
        assert_eq!(places_of(tag_of(chat, 1, PLACES_MAX)), 1..=PLACES_MAX);
        let mut lane = lane(&[]);
        lane.attach(3, 9, Time::default());
        lane.hand_over_all([4, 6, 8].into_iter(), 9);
        assert_eq!((lane.next, lane.cursor()), (10, 3));
        for seq in 4..=9 {
            assert_eq!(lane.acknowledge(seq), seq % 2 == 0);
        }
        assert_eq!(lane.cursor(), 9);
    }

    #[test]
    fn a_frozen_cursor_stays() {
        let mut lane = lane(&[]);
        lane.attach(3, 8, Time::default());
        lane.frozen = true;
        lane.pass(8);
        assert_eq!(lane.cursor(), 3);
    }
}
