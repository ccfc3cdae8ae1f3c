//! What chats do, counted while somebody looks at it: the busiest of them, ticks, and how long a message
//! takes until a device has it.
//!
//! The events of all chats cost something for each message. So they are asked for when an operator's
//! page asks, and let go of a minute after the last time. Everything here has a bound: chats beyond it
//! take the place of the one that says least.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tidings_chat::{ChatEvent, ChatHandle, ChatRef, Events, StoredEntry};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

/// See the file's own words.
#[derive(Debug, Default)]
pub(super) struct Watched {
    asked: Notify,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    last_asked: Option<Instant>,
    /// Since when the last of the minutes is counted.
    began: Option<Instant>,
    minute: Minute,
    before: Option<Minute>,
    /// Messages that no device of another is known to have, the oldest first.
    waiting: HashMap<ChatRef, VecDeque<(u64, Instant)>>,
    waiting_count: usize,
}

/// What happened within a minute.
#[derive(Debug, Default)]
struct Minute {
    entries: u64,
    delivered: u64,
    read: u64,
    lost: u64,
    chats: HashMap<ChatRef, u64>,
    /// In milliseconds.
    delays: Vec<u32>,
}

/// What is told.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The seconds it is about.
    seconds: u64,
    entries: u64,
    delivered: u64,
    read: u64,
    /// Events there was no time for.
    lost: u64,
    top_chats: Vec<TopChat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_ms: Option<Percentiles>,
}

#[derive(Debug, Serialize)]
struct TopChat {
    chat: String,
    entries: u64,
}

/// How long it took, of so many.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Percentiles {
    count: usize,
    p50: u32,
    p90: u32,
    p99: u32,
    max: u32,
}

impl Watched {
    /// What has happened of late; from now on it is counted for a while.
    pub(super) fn ask(&self, now: Instant) -> Report {
        let mut inside = self.lock();
        inside.last_asked = Some(now);
        self.asked.notify_one();
        inside.report(now)
    }

    /// Listens whenever somebody asks, as long as the broker is there.
    pub(super) async fn run(self: Arc<Self>, chat: ChatHandle) {
        loop {
            self.asked.notified().await;
            let Ok(events) = chat.events(QUEUE_MAX) else { return };
            self.listen(events).await;
            // What was counted is not about now any more.
            let mut inside = self.lock();
            *inside = Inside { last_asked: inside.last_asked, ..Inside::default() };
        }
    }

    async fn listen(&self, mut events: Events) {
        let mut minutes = interval(MINUTE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        minutes.tick().await;
        self.lock().began = Some(Instant::now());
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.lock().take(event, Instant::now()),
                    None => return,
                },
                _ = minutes.tick() => {
                    let now = Instant::now();
                    let mut inside = self.lock();
                    if inside.last_asked.is_none_or(|at| now.duration_since(at) >= MINUTE) {
                        return;
                    }
                    inside.began = Some(now);
                    inside.before = Some(std::mem::take(&mut inside.minute));
                    inside.forget_before(now - MINUTE);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn take(&mut self, event: ChatEvent, now: Instant) {
        match event {
            ChatEvent::Stored(entry) => self.stored(entry, now),
            ChatEvent::Delivered { chat, seq, .. } => {
                self.minute.delivered += 1;
                self.delivered(&chat, seq, now);
            }
            ChatEvent::Read { .. } => self.minute.read += 1,
            ChatEvent::Lost { count } => self.minute.lost += count,
            _ => {}
        }
    }

    fn stored(&mut self, entry: StoredEntry, now: Instant) {
        self.minute.entries += 1;
        let chats = &mut self.minute.chats;
        if chats.len() >= CHATS_MAX && !chats.contains_key(&entry.chat) {
            // Its count goes on from that of the one that goes: no busy chat is missed.
            let least = chats.iter().min_by_key(|(_, count)| **count);
            if let Some((chat, count)) = least.map(|(chat, count)| (chat.clone(), *count)) {
                chats.remove(&chat);
                chats.insert(entry.chat.clone(), count);
            }
        }
        *chats.entry(entry.chat.clone()).or_default() += 1;
        if entry.kind.is_none() && self.waiting_count < WAITING_MAX {
            self.waiting_count += 1;
            self.waiting.entry(entry.chat).or_default().push_back((entry.seq, now));
        }
    }

    /// The first device that has it counts.
    fn delivered(&mut self, chat: &ChatRef, seq: u64, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(chat) else { return };
        while let Some((_, since)) = waiting.front().copied().filter(|(waits, _)| *waits <= seq) {
            waiting.pop_front();
            self.waiting_count -= 1;
            let delay = u32::try_from(now.duration_since(since).as_millis()).unwrap_or(u32::MAX);
            if self.minute.delays.len() < DELAYS_MAX {
                self.minute.delays.push(delay);
            }
        }
        if waiting.is_empty() {
            self.waiting.remove(chat);
        }
    }

    /// Nobody was there to take these.
    fn forget_before(&mut self, before: Instant) {
        for waiting in self.waiting.values_mut() {
            while waiting.front().is_some_and(|(_, since)| *since < before) {
                waiting.pop_front();
                self.waiting_count -= 1;
            }
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
    }

    /// The whole minute before, or where there is none what there is.
    fn report(&self, now: Instant) -> Report {
        let minutes = || self.before.iter().chain([&self.minute]);
        let sum = |of: fn(&Minute) -> u64| minutes().map(of).sum();
        let mut chats: HashMap<&ChatRef, u64> = HashMap::new();
        for (chat, count) in minutes().flat_map(|minute| &minute.chats) {
            *chats.entry(chat).or_default() += count;
        }
        let mut top: Vec<_> = chats.into_iter().collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        top.truncate(TOP);
        let top_chats =
            top.into_iter().map(|(chat, entries)| TopChat { chat: chat.to_string(), entries });
        let last = self.began.map_or(Duration::ZERO, |began| now.duration_since(began));
        let seconds = if self.before.is_some() { MINUTE + last } else { last };
        let delays = minutes().flat_map(|minute| minute.delays.iter().copied()).collect();
        Report {
            seconds: seconds.as_secs().max(1),
            entries: sum(|minute| minute.entries),
            delivered: sum(|minute| minute.delivered),
            read: sum(|minute| minute.read),
            lost: sum(|minute| minute.lost),
            top_chats: top_chats.collect(),
            delivery_ms: Percentiles::of(delays),
        }
    }
}

impl Percentiles {
    fn of(mut delays: Vec<u32>) -> Option<Self> {
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        let at =
            |hundredths: usize| delays.get(last * hundredths / 100).copied().unwrap_or_default();
        Some(Self { count: last + 1, p50: at(50), p90: at(90), p99: at(99), max: at(100) })
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// Events that wait for this thread. Beyond it they are lost, and that is told.
const QUEUE_MAX: usize = 8_192;

/// Chats that are counted within a minute.
const CHATS_MAX: usize = 512;

/// Messages of which the delivery is awaited.
const WAITING_MAX: usize = 8_192;

/// Delays that are kept of a minute: the first.
const DELAYS_MAX: usize = 65_536;

/// Chats that are told of.
const TOP: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_delays() {
        assert_eq!(Percentiles::of(Vec::new()), None);
        let all = Percentiles::of((1..=101).rev().collect()).unwrap();
        assert_eq!(all, Percentiles { count: 101, p50: 51, p90: 91, p99: 100, max: 101 });
    }

    #[test]
    fn who_is_delivered_to_first_counts_and_nothing_grows_for_who_is_away() {
        let (mut inside, now) = (Inside::default(), Instant::now());
        let chat = ChatRef::direct("a", "b");
        for seq in 1..=3 {
            inside.waiting.entry(chat.clone()).or_default().push_back((seq, now));
            inside.waiting_count += 1;
        }
        let user: Arc<str> = "b".into();
        let delivered = |seq| ChatEvent::Delivered { chat: chat.clone(), user: user.clone(), seq };
        inside.take(delivered(2), now + Duration::from_millis(7));
        inside.take(delivered(2), now + Duration::from_millis(9));
        assert_eq!(inside.minute.delays, [7, 7]);
        assert_eq!(inside.waiting_count, 1);
        inside.forget_before(now + Duration::from_millis(1));
        assert!(inside.waiting.is_empty() && inside.waiting_count == 0);
        let report = inside.report(now);
        assert_eq!((report.delivered, report.delivery_ms.unwrap().max), (2, 7));
    }
}
