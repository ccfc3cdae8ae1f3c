//! What everybody who takes part knows of each other: the phase, the breaks, the faults that were seen.
//!
//! A fault is a [`Promise`] that was broken, with evidence; a count is what is worth knowing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A lock that a thread that panicked does not take from the others.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the actors do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// They subscribe, once, before anything breaks.
    Prepare = 0,
    /// They send and hear as they like.
    Load = 1,
    /// They finish what they began, and hear everything.
    Settle = 2,
    /// They end.
    End = 3,
}

/// A promise of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// What was acknowledged arrives.
    Lost,
    /// In the order in which it was published.
    Order,
    /// QoS 2: once.
    Twice,
    /// What its subscriber acknowledged some time ago does not come again.
    Returned,
    /// What may have been sent before says so.
    NoDup,
    /// A session that was acknowledged is there.
    Session,
    /// A subscription is there after SUBACK and gone after UNSUBACK.
    Subscription,
    /// The retained message is the one that was acknowledged last.
    Retained,
    /// A will comes if the connection broke, and not after DISCONNECT.
    Will,
    /// An entry of a chat has a number, one only, and none is left out.
    ChatLog,
    /// A tick says what happened.
    Tick,
    /// A Packet Identifier in use is not given again.
    PacketId,
    /// The broker speaks MQTT.
    Nonsense,
    /// It serves: nobody waits for ever, nobody is closed without a reason.
    Stuck,
    /// The process starts, and ends as it says.
    Process,
}

impl Promise {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Order => "order",
            Self::Twice => "twice",
            Self::Returned => "returned",
            Self::NoDup => "no-dup",
            Self::Session => "session",
            Self::Subscription => "subscription",
            Self::Retained => "retained",
            Self::Will => "will",
            Self::ChatLog => "chat-log",
            Self::Tick => "tick",
            Self::PacketId => "packet-id",
            Self::Nonsense => "nonsense",
            Self::Stuck => "stuck",
            Self::Process => "process",
        }
    }
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Messages that publishers got their last acknowledgement for.
    pub(crate) acknowledged: AtomicU64,
    /// Messages that subscribers heard for the first time.
    pub(crate) delivered: AtomicU64,
    /// Of those they heard again: because the publisher did not know and sent it again.
    pub(crate) sent_again: AtomicU64,
    /// Because the subscriber had not acknowledged it, or only just.
    pub(crate) unacknowledged: AtomicU64,
    /// Without DUP, of those that the broker must have sent before.
    pub(crate) without_dup: AtomicU64,
    /// Messages that were refused with a Reason Code.
    pub(crate) refused: AtomicU64,
    /// Chat messages that were acknowledged.
    pub(crate) chat: AtomicU64,
    pub(crate) ticks: AtomicU64,
    pub(crate) wills: AtomicU64,
    pub(crate) connections: AtomicU64,
    /// Connections that the broker ended while it ran.
    pub(crate) closed: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How long before a break those messages were acknowledged that came again, in steps.
pub(crate) const AGES_MS: [u64; 8] = [1, 5, 10, 25, 50, 100, 250, 1000];

/// What all actors share.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    phase: AtomicU8,
    began: Instant,
    /// Of the messages that were acknowledged, when the last of them was sent: microseconds since
    /// the beginning.
    dealt_with: AtomicU64,
    /// Right before each time the broker was broken, and how far it was behind then.
    breaks: Mutex<Vec<(Instant, Duration)>>,
    faults: Mutex<Vec<(Promise, String)>>,
    /// Those who have nothing left to do in [`Phase::Settle`], by name.
    idle: Mutex<BTreeSet<String>>,
    ages: Mutex<BTreeMap<usize, u64>>,
    /// What was acknowledged longer ago than this may not come again.
    returned_after: Duration,
    pub(crate) counts: Counts,
    pub(crate) streams: Vec<Mutex<Stream>>,
}

/// The messages of one publisher with one QoS, as it knows them.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// How many numbers were given.
    pub(crate) next: u64,
    /// Those sent more than once: a QoS 1 subscriber may hear them as often.
    pub(crate) again: BTreeSet<u64>,
    /// Those refused with a Reason Code: nobody was promised them.
    pub(crate) refused: BTreeSet<u64>,
}

/// Faults of one kind that are kept with their evidence.
const FAULTS_KEPT: usize = 500;

impl Scene {
    pub(crate) fn new(address: SocketAddr, streams: usize, returned_after: Duration) -> Self {
        Self {
            address,
            phase: AtomicU8::new(Phase::Prepare as u8),
            began: Instant::now(),
            dealt_with: AtomicU64::new(0),
            breaks: Mutex::default(),
            faults: Mutex::default(),
            idle: Mutex::default(),
            ages: Mutex::default(),
            returned_after,
            counts: Counts::default(),
            streams: (0..streams).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Prepare,
            1 => Phase::Load,
            2 => Phase::Settle,
            _ => Phase::End,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        // Whoever said it in the phase before says it again.
        lock(&self.idle).clear();
    }

    /// Says that `name` has nothing left to do in this `phase`.
    pub(crate) fn idle(&self, name: &str, phase: Phase) {
        if self.phase() == phase && !lock(&self.idle).contains(name) {
            lock(&self.idle).insert(name.into());
        }
    }

    pub(crate) fn is_idle(&self, name: &str) -> bool {
        lock(&self.idle).contains(name)
    }

    /// A message that was sent then has been acknowledged.
    pub(crate) fn dealt_with(&self, sent: Instant) {
        let micros = sent.saturating_duration_since(self.began).as_micros();
        self.dealt_with.fetch_max(u64::try_from(micros).unwrap_or(0), Ordering::Relaxed);
    }

    /// How far the broker is behind: what was sent before is stored. On a machine with too much to
    /// do that is long, and no promise is broken by it.
    pub(crate) fn behind(&self) -> Duration {
        let dealt_with = Duration::from_micros(self.dealt_with.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(dealt_with)
    }

    /// To be called right before the broker is broken.
    pub(crate) fn breaks_now(&self) {
        let behind = self.behind();
        lock(&self.breaks).push((Instant::now(), behind));
    }

    /// The first break after this moment.
    pub(crate) fn break_after(&self, moment: Instant) -> Option<Instant> {
        self.breaks_after(moment).map(|it| it.0)
    }

    /// The same, with how far the broker was behind.
    pub(crate) fn breaks_after(&self, moment: Instant) -> Option<(Instant, Duration)> {
        lock(&self.breaks).iter().copied().find(|it| it.0 >= moment)
    }

    /// The furthest that it was behind at a break.
    pub(crate) fn behind_max(&self) -> Duration {
        lock(&self.breaks).iter().map(|it| it.1).max().unwrap_or_default()
    }

    /// How long ago it was acknowledged when its connection ended or the broker broke, and how far
    /// the broker was behind; nothing if nothing ended.
    pub(crate) fn age(
        &self,
        acknowledged: Instant,
        ended: Option<(Instant, Duration)>,
    ) -> Option<(Duration, Duration)> {
        let ends = [ended, self.breaks_after(acknowledged)];
        let (end, behind) = ends.into_iter().flatten().min()?;
        Some((end.saturating_duration_since(acknowledged), behind))
    }

    pub(crate) fn breaks(&self) -> usize {
        lock(&self.breaks).len()
    }

    pub(crate) fn fault(&self, promise: Promise, evidence: String) {
        let mut faults = lock(&self.faults);
        let before = faults.iter().filter(|it| it.0 == promise).take(FAULTS_KEPT).count();
        let evidence = if before < FAULTS_KEPT { evidence } else { "one more".into() };
        faults.push((promise, evidence));
    }

    /// The faults behind the first `from`.
    pub(crate) fn faults(&self, from: usize) -> Vec<(Promise, String)> {
        lock(&self.faults).get(from..).unwrap_or_default().to_vec()
    }

    /// A message came again that was acknowledged this long before its connection, or the broker,
    /// ended, which was so far behind; nothing: although nothing ended.
    pub(crate) fn returned(&self, age: Option<(Duration, Duration)>, evidence: &str) {
        let (age, behind) = age.unwrap_or((Duration::MAX, Duration::ZERO));
        let step = AGES_MS.iter().position(|most| age.as_millis() <= u128::from(*most));
        *lock(&self.ages).entry(step.unwrap_or(AGES_MS.len())).or_default() += 1;
        if age > self.returned_after + behind {
            let millis = age.as_millis();
            let evidence = if age == Duration::MAX {
                format!("{evidence}, and nothing had ended")
            } else {
                let behind = behind.as_millis();
                format!("{evidence}, acknowledged {millis} ms before the end, {behind} ms behind")
            };
            self.fault(Promise::Returned, evidence);
        } else {
            count(&self.counts.unacknowledged);
        }
    }

    /// How many returned, by [`AGES_MS`]; the last are older.
    pub(crate) fn ages(&self) -> Vec<u64> {
        let ages = lock(&self.ages);
        (0..=AGES_MS.len()).map(|step| ages.get(&step).copied().unwrap_or(0)).collect()
    }

    pub(crate) fn stream(&self, number: usize) -> Option<MutexGuard<'_, Stream>> {
        self.streams.get(number).map(lock)
    }
}
