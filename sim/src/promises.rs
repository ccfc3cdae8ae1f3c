//! The ledger: every message, who was promised it, and what of that came true.

use std::collections::{BTreeMap, BTreeSet};

/// A message as it was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) publisher: usize,
    pub(crate) topic: usize,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) acknowledged: bool,
    /// When it was sent for the first time, and when its acknowledgement came; 0: never.
    pub(crate) sent_at: u64,
    pub(crate) acknowledged_at: u64,
    /// A crash came while it was not acknowledged.
    pub(crate) crashed: bool,
    /// It was sent again by a session that had forgotten it.
    pub(crate) anew: bool,
    /// How often it was sent: each time a new message, if it is QoS 1. [MQTT-4.3.2-5]
    pub(crate) sends: usize,
    /// Subscribers that had their SUBACK when it was sent, and whose sessions last.
    pub(crate) owed: Vec<usize>,
    /// Some member of the group is.
    pub(crate) group_owed: bool,
    /// Subscribers that had their UNSUBACK when it was sent.
    pub(crate) shut_out: Vec<usize>,
    /// The members of the group that heard it.
    pub(crate) group_heard: BTreeSet<usize>,
    /// Sent by one who may not.
    pub(crate) denied: bool,
    /// A will.
    pub(crate) will: bool,
    /// The will of a connection whose DISCONNECT the server has heard.
    pub(crate) cancelled: bool,
}

/// All messages outside of chats.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    pub(crate) entries: Vec<Entry>,
    /// Counts what publishers do and hear.
    clock: u64,
}

impl Promises {
    /// Takes a message in; answers with its number.
    pub(crate) fn sent(&mut self, entry: Entry) -> usize {
        self.clock += 1;
        self.entries.push(Entry { sent_at: self.clock, ..entry });
        self.entries.len() - 1
    }

    pub(crate) fn acknowledged(&mut self, number: usize) {
        self.clock += 1;
        let entry = &mut self.entries[number];
        if !entry.acknowledged {
            entry.acknowledged = true;
            entry.acknowledged_at = self.clock;
        }
    }

    /// Whether a message may come to a subscriber once only; a retained copy of it besides says
    /// nothing of that.
    pub(crate) fn is_due_once(&self, number: usize) -> bool {
        let entry = &self.entries[number];
        if entry.will {
            return false;
        }
        match entry.qos {
            1 => entry.sends == 1,
            _ => !entry.anew,
        }
    }

    /// Everybody owed has heard, in order.
    pub(crate) fn check_heard(
        &self,
        which: usize,
        name: &str,
        heard: &BTreeSet<usize>,
        order: &[usize],
    ) {
        for (number, entry) in self.entries.iter().enumerate() {
            let owed = entry.qos > 0 && entry.acknowledged && entry.owed.contains(&which);
            assert!(
                !owed || heard.contains(&number),
                "acknowledged and lost: {name} never heard message {number}: {entry:?}"
            );
        }
        let mut last = BTreeMap::new();
        for number in order {
            let entry = &self.entries[*number];
            // One from before the subscription may come when its publisher sends it again.
            if entry.anew || entry.crashed || entry.will || !entry.owed.contains(&which) {
                continue;
            }
            let before = last.insert((entry.publisher, entry.topic, entry.qos), *number);
            assert!(
                before.is_none_or(|before| before < *number),
                "order: {name} heard {number} behind {before:?}"
            );
        }
    }

    pub(crate) fn check_group(&self) {
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, it)| it.qos > 0) {
            let heard = &entry.group_heard;
            let owed = entry.acknowledged && entry.group_owed;
            assert!(!owed || !heard.is_empty(), "nobody of the group heard {number}: {entry:?}");
            let once = !entry.crashed && !entry.anew && entry.sends == 1;
            assert!(!once || heard.len() < 2, "{heard:?} of the group heard {number}: {entry:?}");
        }
    }

    /// The retained messages that a new subscriber got, by topic: no other can have come later.
    pub(crate) fn check_retained(&self, found: &BTreeMap<usize, usize>) {
        let retained = |(_, it): &(usize, &Entry)| it.retain && it.acknowledged && it.qos > 0;
        for (number, later) in self.entries.iter().enumerate().filter(retained) {
            let topic = later.topic;
            let Some(kept) = found.get(&topic) else {
                panic!("retained: topic {topic} has none, and {number} was acknowledged");
            };
            let entry = &self.entries[*kept];
            let behind = entry.publisher == later.publisher && entry.qos == later.qos;
            let earlier = entry.acknowledged && entry.acknowledged_at < later.sent_at
                || behind && *kept < number && !entry.anew;
            assert!(!earlier, "retained: topic {topic} has {kept}, and not {number} from later");
        }
    }
}
