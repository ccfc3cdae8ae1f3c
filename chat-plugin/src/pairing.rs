//! Pairing: two who do not know each other are brought together by what both like.
//!
//! A pool has one home, the shard of its name. Who names interests gets somebody who named one of
//! them too, by the rarest first, and after a while anyone who is free; who names none gets the
//! first who is free: one who named none, or has waited for that while. Who met not long ago is
//! passed over. All of it is in memory, and every search ends after a few steps: as many as one has
//! partners who are passed over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidings_core::hook::Host;
use tidings_core::metric::Metric;
use tidings_core::time::Time;

use crate::call::Seats;
use crate::code::Code;
use crate::map::{Map, map};
use crate::options::{ChatOptions, Secret};
use crate::peer::{
    ChatInput, Origin, Outcome, Paired, Peer, Refusal, RoomTold, ToChat, ToPair, ToRoom, ToUser,
};
use crate::topics::{Place, user_slot};

/// See the file's own words.
#[derive(Debug)]
pub(crate) struct PairSide {
    options: Arc<ChatOptions>,
    secret: Option<Secret>,
    pools: Map<Arc<str>, Pool>,
    /// How many wait in all of them.
    waiting: usize,
    /// Numbers those who wait, in the order in which they came.
    serial: u64,
    /// What is due, of whom: those who wait no more are not among them.
    timers: BTreeMap<(Time, u64, Due), Arc<str>>,
    met: Met,
}

/// What becomes of one who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// Anyone will do.
    Anyone,
    /// Nobody was found.
    Over,
}

#[derive(Debug, Default)]
struct Pool {
    waiters: BTreeMap<u64, Waiter>,
    by_user: BTreeMap<Arc<str>, u64>,
    by_interest: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// For whom anyone will do.
    free: BTreeSet<u64>,
}

#[derive(Debug)]
struct Waiter {
    user: Arc<str>,
    interests: Vec<Arc<str>>,
    /// When anyone will do.
    hopes_to: Time,
    /// When it is over.
    waits_to: Time,
}

impl PairSide {
    pub(crate) fn new(options: Arc<ChatOptions>, secret: Option<Secret>) -> Self {
        Self {
            met: Met { last: map(), order: VecDeque::new() },
            options,
            secret,
            pools: map(),
            waiting: 0,
            serial: 0,
            timers: BTreeMap::new(),
        }
    }

    /// When [`PairSide::timed_out`] is due.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.first_key_value().map(|((at, ..), _)| *at)
    }

    /// Takes what guests say.
    pub(crate) fn handle(&mut self, input: ToPair, host: &mut dyn Host) {
        match input {
            ToPair::Join { user, pool, interests, ttl, origin } => {
                let now = host.now();
                let (hopes_to, waits_to) = (now + self.options.pair_wait, now + ttl);
                self.join(Waiter { user, interests, hopes_to, waits_to }, &pool, origin, host);
            }
            ToPair::Leave { user, pool } => {
                let at = self.pools.get(&pool).and_then(|pool| pool.by_user.get(&user).copied());
                if let Some(at) = at {
                    self.take(&pool, at);
                }
            }
        }
    }

    /// Does what is due by now.
    pub(crate) fn timed_out(&mut self, host: &mut dyn Host) {
        let now = host.now();
        while let Some(first) = self.timers.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, at, due), pool) = first.remove_entry();
            let Some(waiter) = self.pools.get(&pool).and_then(|it| it.waiters.get(&at)) else {
                continue;
            };
            let user = Arc::clone(&waiter.user);
            match due {
                Due::Over => {
                    self.take(&pool, at);
                    let told = RoomTold::Unpaired { user: Arc::clone(&user), pool };
                    tell(&user, told, host);
                }
                Due::Anyone => match self.anyone(&pool, &user, now) {
                    Some(other) => {
                        let waiter = self.take(&pool, at);
                        let other = self.take(&pool, other);
                        if let Some((waiter, other)) = waiter.zip(other) {
                            self.bring_together(&pool, &waiter.user, &other.user, None, host);
                        }
                    }
                    None => {
                        if let Some(pool) = self.pools.get_mut(&pool) {
                            pool.free.insert(at);
                        }
                    }
                },
            }
        }
    }

    fn join(&mut self, waiter: Waiter, name: &Arc<str>, origin: Origin, host: &mut dyn Host) {
        let now = host.now();
        let before = self.pools.get(name).and_then(|pool| pool.by_user.get(&waiter.user).copied());
        if let Some(at) = before {
            self.take(name, at);
        }
        if self.secret.is_none() {
            let text = "the server has no source of randomness";
            return answer(origin, Err(Refusal::new(Code::Unavailable, text)), host);
        }
        let found = self.sharing(name, &waiter, now).or_else(|| {
            let anyone = waiter.interests.is_empty().then(|| self.anyone(name, &waiter.user, now));
            Some((anyone??, None))
        });
        if let Some((at, interest)) = found
            && let Some(other) = self.take(name, at)
        {
            // The answer is there before the news.
            answer(origin, Ok(()), host);
            return self.bring_together(name, &waiter.user, &other.user, interest, host);
        }
        if self.waiting >= self.options.pair_waiting_max {
            host.count(Metric::LimitPairing);
            let text = "too many wait to be paired";
            return answer(origin, Err(Refusal::new(Code::Limit, text)), host);
        }
        self.serial += 1;
        let at = self.serial;
        self.waiting += 1;
        let pool = self.pools.entry(Arc::clone(name)).or_default();
        for interest in &waiter.interests {
            pool.by_interest.entry(Arc::clone(interest)).or_default().insert(at);
        }
        if waiter.interests.is_empty() {
            pool.free.insert(at);
        } else {
            self.timers.insert((waiter.hopes_to, at, Due::Anyone), Arc::clone(name));
        }
        pool.by_user.insert(Arc::clone(&waiter.user), at);
        self.timers.insert((waiter.waits_to, at, Due::Over), Arc::clone(name));
        pool.waiters.insert(at, waiter);
        answer(origin, Ok(()), host);
    }

    /// Who shares an interest: by the rarest, and of those the one who has waited longest.
    fn sharing(&self, pool: &str, waiter: &Waiter, now: Time) -> Option<(u64, Option<Arc<str>>)> {
        let pool = self.pools.get(pool)?;
        let named = waiter.interests.iter();
        let mut shared: Vec<_> =
            named.filter_map(|it| Some((pool.by_interest.get(it)?, it))).collect();
        shared.sort_by_key(|(those, interest)| (those.len(), *interest));
        shared.into_iter().find_map(|(those, interest)| {
            let at = self.first(pool, those, &waiter.user, now)?;
            Some((at, Some(Arc::clone(interest))))
        })
    }

    /// Whoever is free.
    fn anyone(&self, pool: &str, user: &str, now: Time) -> Option<u64> {
        let pool = self.pools.get(pool)?;
        self.first(pool, &pool.free, user, now)
    }

    /// The first of them whom the user has not met not long ago.
    fn first(&self, pool: &Pool, those: &BTreeSet<u64>, user: &str, now: Time) -> Option<u64> {
        let since = now - self.options.pair_again;
        // More than that cannot be passed over: oneself, and whom one has met.
        let mut looked_at = those.iter().take(MET_MAX + 2);
        looked_at.find_map(|at| {
            let other = pool.waiters.get(at)?;
            let fits = *other.user != *user && !self.met.have_met(user, &other.user, since);
            fits.then_some(*at)
        })
    }

    /// Takes one out who waits.
    fn take(&mut self, name: &Arc<str>, at: u64) -> Option<Waiter> {
        let pool = self.pools.get_mut(name)?;
        let waiter = pool.waiters.remove(&at)?;
        self.waiting -= 1;
        pool.by_user.remove(&waiter.user);
        pool.free.remove(&at);
        self.timers.remove(&(waiter.hopes_to, at, Due::Anyone));
        self.timers.remove(&(waiter.waits_to, at, Due::Over));
        for interest in &waiter.interests {
            if let Some(those) = pool.by_interest.get_mut(interest) {
                those.remove(&at);
                if those.is_empty() {
                    pool.by_interest.remove(interest);
                }
            }
        }
        if pool.waiters.is_empty() {
            self.pools.remove(name);
        }
        Some(waiter)
    }

    fn bring_together(
        &mut self,
        pool: &Arc<str>,
        one: &Arc<str>,
        other: &Arc<str>,
        interest: Option<Arc<str>>,
        host: &mut dyn Host,
    ) {
        let Some(secret) = self.secret else { return };
        let now = host.now();
        self.met.note(one, other, now);
        let parts = [host.random().to_be_bytes(), now.as_millis().to_be_bytes()];
        let [random, time] = &parts;
        let word = secret.word("room", &[random, time, one.as_bytes()], ROOM_BYTES);
        let place = Place::room(&["~", &word].concat(), one, other);
        let paired = Some(Paired { pool: Arc::clone(pool), interest });
        let make = ToRoom::Make { seats: Seats::default(), paired, reply: None };
        let what = ChatInput::Room(Box::new(make));
        let shard = place.shard(host.shards());
        host.send(shard, Box::new(Peer::Chat(ToChat { place, what })));
    }
}

/// Who met whom, the last few of each, of the last some thousand users.
#[derive(Debug)]
struct Met {
    last: Map<Arc<str>, VecDeque<(Time, Arc<str>)>>,
    order: VecDeque<Arc<str>>,
}

impl Met {
    fn have_met(&self, one: &str, other: &str, since: Time) -> bool {
        let mut met = self.last.get(one).into_iter().flatten();
        met.any(|(at, name)| *at >= since && **name == *other)
    }

    fn note(&mut self, one: &Arc<str>, other: &Arc<str>, now: Time) {
        for (one, other) in [(one, other), (other, one)] {
            if !self.last.contains_key(one) {
                self.order.push_back(Arc::clone(one));
            }
            let met = self.last.entry(Arc::clone(one)).or_default();
            met.push_back((now, Arc::clone(other)));
            if met.len() > MET_MAX {
                met.pop_front();
            }
            if self.order.len() > MET_USERS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.last.remove(&oldest);
            }
        }
    }
}

fn tell(user: &Arc<str>, told: RoomTold, host: &mut dyn Host) {
    let shard = user_slot(user).shard(host.shards());
    host.send(shard, Box::new(Peer::User(ToUser::Room(told))));
}

fn answer(origin: Origin, outcome: Result<(), Refusal>, host: &mut dyn Host) {
    let outcome = outcome.map_or_else(Outcome::Refused, |()| Outcome::Done);
    // It is about no chat: `me/json/-/error`.
    let place = Place::group("-");
    let answered = ToUser::Answered { place, origin, id: None, made: false, outcome };
    host.send(origin.shard, Box::new(Peer::User(answered)));
}

/// How many partners of a guest are remembered.
const MET_MAX: usize = 16;

/// Of how many guests.
const MET_USERS_MAX: usize = 16_384;

/// How many bytes of a hash the name of a room stands for.
pub(crate) const ROOM_BYTES: usize = 12;
