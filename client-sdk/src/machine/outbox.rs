//! Errands: what is to be published until the broker has answered it.
//!
//! Each chat is a lane of its own, with one errand under way at a time: what a lane holds is stored
//! in the order in which it was asked for, also where the broker refuses one for the moment. A lane
//! that waits holds up no other.

use crate::store::rows::ErrandRow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    errands: BTreeMap<u64, One>,
    lanes: BTreeMap<String, Lane>,
    /// Lanes whose first errand may go, by its number: so lanes go in the order of asking.
    ready: BTreeSet<u64>,
    by_token: BTreeMap<u64, u64>,
    by_id: BTreeMap<(String, String), u64>,
    bytes: usize,
}

#[derive(Debug)]
struct One {
    row: ErrandRow,
    refusals: u32,
}

#[derive(Debug, Default)]
struct Lane {
    /// Safe on disk, in order.
    queue: BTreeSet<u64>,
    /// The first of the queue is under way.
    token: Option<u64>,
    until: Option<Duration>,
    /// How many there are, safe or not yet.
    waiting: usize,
}

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.errands.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn in_flight(&self) -> usize {
        self.by_token.len()
    }

    /// How many of a chat there are.
    pub(super) fn waiting(&self, chat: &str) -> usize {
        self.lanes.get(chat).map_or(0, |lane| lane.waiting)
    }

    pub(super) fn chats(&self) -> impl Iterator<Item = &String> {
        self.lanes.keys()
    }

    /// Whether one of a chat is under way.
    pub(super) fn is_busy(&self, chat: &str) -> bool {
        self.lanes.get(chat).is_some_and(|lane| lane.token.is_some())
    }

    pub(super) fn get(&self, number: u64) -> Option<&ErrandRow> {
        self.errands.get(&number).map(|one| &one.row)
    }

    pub(super) fn find(&self, chat: &str, id: &str) -> Option<u64> {
        self.by_id.get(&(chat.to_owned(), id.to_owned())).copied()
    }

    /// Takes an errand; it goes once it is [safe](Self::handle_stored).
    pub(super) fn insert(&mut self, number: u64, row: ErrandRow) {
        self.bytes += bytes_of(&row);
        if !row.id.is_empty() {
            self.by_id.insert((row.chat.clone(), row.id.clone()), number);
        }
        self.lanes.entry(row.chat.clone()).or_default().waiting += 1;
        self.errands.insert(number, One { row, refusals: 0 });
    }

    pub(super) fn handle_stored(&mut self, number: u64) {
        let Some(one) = self.errands.get(&number) else { return };
        let Some(lane) = self.lanes.get_mut(&one.row.chat) else { return };
        lane.queue.insert(number);
        Self::note(&mut self.ready, lane);
    }

    /// Everything under way is to go again.
    pub(super) fn handle_lost(&mut self) {
        self.by_token.clear();
        for lane in self.lanes.values_mut() {
            lane.token = None;
            Self::note(&mut self.ready, lane);
        }
    }

    /// The next to go now, as under way with `token`. Those of a `held` lane stay.
    pub(super) fn next(&mut self, token: u64, held: &str) -> Option<&ErrandRow> {
        let may = |number: &&u64| self.errands.get(number).is_some_and(|one| one.row.chat != held);
        let number = *self.ready.iter().find(may)?;
        self.ready.remove(&number);
        let one = self.errands.get(&number)?;
        self.lanes.get_mut(&one.row.chat)?.token = Some(token);
        self.by_token.insert(token, number);
        Some(&one.row)
    }

    /// Which one a token stands for.
    pub(super) fn under_way(&self, token: u64) -> Option<u64> {
        self.by_token.get(&token).copied()
    }

    /// Whether an errand is under way, or was refused for a while.
    pub(super) fn is_open(&self, number: u64) -> bool {
        let lane = self.errands.get(&number).and_then(|one| self.lanes.get(&one.row.chat));
        lane.is_some_and(|lane| {
            lane.queue.first() == Some(&number) && (lane.token.is_some() || lane.until.is_some())
        })
    }

    /// The lane of an errand waits; when it goes on.
    pub(super) fn postpone(
        &mut self,
        number: u64,
        retry_after: Option<Duration>,
        now: Duration,
    ) -> Duration {
        let Some(one) = self.errands.get_mut(&number) else { return now };
        one.refusals = one.refusals.saturating_add(1);
        let doubled = RETRY_MIN.saturating_mul(1 << (one.refusals - 1).min(9));
        let retry_in = retry_after.unwrap_or(doubled).clamp(RETRY_MIN, RETRY_MAX);
        if let Some(lane) = self.lanes.get_mut(&one.row.chat) {
            if let Some(token) = lane.token.take() {
                self.by_token.remove(&token);
            }
            lane.until = Some(now + retry_in);
        }
        self.ready.remove(&number);
        retry_in
    }

    /// An errand is over; its lane goes on with the next.
    pub(super) fn finish(&mut self, number: u64) -> Option<ErrandRow> {
        let One { row, .. } = self.errands.remove(&number)?;
        self.bytes -= bytes_of(&row);
        self.by_id.remove(&(row.chat.clone(), row.id.clone()));
        self.ready.remove(&number);
        if let Some(lane) = self.lanes.get_mut(&row.chat) {
            if lane.queue.first() == Some(&number) {
                lane.until = None;
                if let Some(token) = lane.token.take() {
                    self.by_token.remove(&token);
                }
            }
            lane.queue.remove(&number);
            lane.waiting = lane.waiting.saturating_sub(1);
            Self::note(&mut self.ready, lane);
            if lane.waiting == 0 {
                self.lanes.remove(&row.chat);
            }
        }
        Some(row)
    }

    /// Lanes whose wait is over go on.
    pub(super) fn handle_time(&mut self, now: Duration) {
        for lane in self.lanes.values_mut() {
            if lane.until.is_some_and(|until| until <= now) {
                lane.until = None;
                Self::note(&mut self.ready, lane);
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.lanes.values().filter_map(|lane| lane.until).min()
    }

    /// A lane gets another name: the room that one sits in is known now.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        let Some(old) = self.lanes.remove(from) else { return };
        for one in self.errands.values_mut().filter(|one| one.row.chat == from) {
            one.row.chat = to.to_owned();
        }
        let of_old = std::mem::take(&mut self.by_id).into_iter();
        self.by_id = of_old
            .map(|((chat, id), number)| {
                ((if chat == from { to.to_owned() } else { chat }, id), number)
            })
            .collect();
        let lane = self.lanes.entry(to.to_owned()).or_default();
        lane.queue.extend(old.queue);
        lane.waiting += old.waiting;
        lane.token = lane.token.or(old.token);
        Self::note(&mut self.ready, lane);
    }

    fn note(ready: &mut BTreeSet<u64>, lane: &Lane) {
        // One number of a lane at the most: a later one steps back behind an earlier one.
        for number in lane.queue.iter().skip(1).take(1) {
            ready.remove(number);
        }
        if lane.token.is_none()
            && lane.until.is_none()
            && let Some(first) = lane.queue.first()
        {
            ready.insert(*first);
        }
    }
}

fn bytes_of(row: &ErrandRow) -> usize {
    row.chat.len() + row.verb.len() + row.id.len() + row.payload.len()
}

/// A broker that says "at once" is still not asked in a tight loop.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Nor is one that says "next year" believed: its users would think the message lost.
const RETRY_MAX: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(chats: &[&str]) -> Outbox {
        let mut outbox = Outbox::default();
        for (number, chat) in (1..).zip(chats) {
            let row = ErrandRow {
                chat: (*chat).to_owned(),
                verb: format!("send/m{number}"),
                id: format!("m{number}"),
                payload: Vec::new(),
                content_type: None,
                reference: None,
                time: 0,
            };
            outbox.insert(number, row);
            outbox.handle_stored(number);
        }
        outbox
    }

    fn sent(outbox: &mut Outbox, first_token: u64) -> Vec<String> {
        (first_token..).map_while(|token| Some(outbox.next(token, "")?.id.clone())).collect()
    }

    #[test]
    fn a_lane_has_one_under_way_and_lanes_go_in_the_order_of_asking() {
        let mut outbox = outbox(&["@a", "@a", "@b", "@c"]);
        assert_eq!(sent(&mut outbox, 1), ["m1", "m3", "m4"]);
        assert_eq!(outbox.finish(1).unwrap().id, "m1");
        assert_eq!(sent(&mut outbox, 9), ["m2"]);
        assert_eq!((outbox.in_flight(), outbox.len()), (3, 3));
        outbox.handle_lost();
        assert_eq!(outbox.in_flight(), 0);
        assert_eq!(sent(&mut outbox, 20), ["m2", "m3", "m4"]);
    }

    #[test]
    fn what_is_not_safe_does_not_go() {
        let mut outbox = outbox(&["@a"]);
        outbox.finish(1);
        let row = ErrandRow { chat: "@a".to_owned(), ..first() };
        outbox.insert(2, row);
        assert!(sent(&mut outbox, 1).is_empty());
        outbox.handle_stored(2);
        assert_eq!(sent(&mut outbox, 1).len(), 1);
    }

    #[test]
    fn refused_for_a_while_holds_back_its_lane_only() {
        let second = Duration::from_secs(1);
        let mut outbox = outbox(&["@a", "@a", "@b"]);
        assert_eq!(sent(&mut outbox, 1), ["m1", "m3"]);
        assert_eq!(outbox.postpone(1, Some(second), Duration::ZERO), second);
        assert!(outbox.is_open(1) && !outbox.is_open(2));
        assert!(sent(&mut outbox, 5).is_empty());
        assert_eq!(outbox.next_timeout(), Some(second));
        // A connection that comes and goes shortens no wait.
        outbox.handle_lost();
        assert_eq!(sent(&mut outbox, 5), ["m3"]);
        outbox.handle_time(second);
        assert_eq!(sent(&mut outbox, 7), ["m1"]);
        let longer = outbox.postpone(1, None, second);
        assert!(longer > RETRY_MIN, "{longer:?}");
    }

    #[test]
    fn a_lane_is_held_and_renamed() {
        let mut outbox = outbox(&["~", "@b", "~"]);
        let held: Vec<String> =
            (1..).map_while(|token| Some(outbox.next(token, "~")?.id.clone())).collect();
        assert_eq!(held, ["m2"]);
        outbox.rename("~", "~9");
        assert_eq!(outbox.find("~9", "m3"), Some(3));
        assert_eq!(sent(&mut outbox, 10), ["m1"]);
        assert_eq!(outbox.waiting("~9"), 2);
    }

    fn first() -> ErrandRow {
        ErrandRow {
            chat: String::new(),
            verb: "send/x".to_owned(),
            id: "x".to_owned(),
            payload: Vec::new(),
            content_type: None,
            reference: None,
            time: 0,
        }
    }
}
