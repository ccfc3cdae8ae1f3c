//! Ticks in groups, the fewer the more members there are.
//!
//! Up to 32 members an author hears how far each is; up to 256 how many have an entry, a few
//! entries at a time; above that whoever wants to know asks (`info.rs`). Nothing of this is stored:
//! the cursors are, and all ticks follow from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cursor::Member;
use super::cx::{Cx, Timer};
use super::one::Chat;
use crate::entry::Kind;
use crate::group::Role;
use crate::peer::{Counts, Tick, ToUser};

impl Chat {
    /// There is something to tell of a member.
    pub(super) fn group_receipts_later(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) {
        self.members.note_news(user);
        self.arm_receipts(cx);
    }

    fn arm_receipts(&mut self, cx: &mut Cx<'_>) {
        if self.receipts_at.is_none() {
            let few = self.members.count() <= EACH_MAX;
            let at = cx.now() + if few { EACH_DELAY } else { COUNTS_DELAY };
            self.receipts_at = Some(at);
            cx.set_timer(at, self.id(), Timer::Receipts);
        }
    }

    /// Tells what is stored and has not been told.
    pub(super) fn group_receipts(&mut self, cx: &mut Cx<'_>) {
        self.receipts_at = None;
        let (channel, count) = (self.place.is_channel(), self.members.count());
        let (mut more, mut again) = (false, Vec::new());
        for user in self.members.take_news() {
            self.tell_own_read(&user, cx);
            if count <= EACH_MAX {
                self.tell_each(&user, cx);
            }
            let Some(member) = self.members.get_mut(&user) else { continue };
            member.told = member.safe;
            if count <= EACH_MAX {
                let passed = member.safe.delivered;
                member.failed.retain(|seq| *seq > passed);
            }
            let lazy = channel && member.role == Role::Reader;
            if member.safe != member.far && !lazy {
                more = true;
                again.push(user);
            }
        }
        again.iter().for_each(|user| self.members.note_news(user));
        if count > EACH_MAX && count <= COUNTS_MAX {
            more |= self.tell_counts(cx);
        }
        if more {
            self.arm_receipts(cx);
        }
    }

    /// Tells those who wrote what a member has got, or read, since they were last told.
    fn tell_each(&self, user: &Arc<str>, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get(user) else { return };
        let (told, safe) = (member.told, member.safe);
        let mut authors: BTreeMap<&Arc<str>, Vec<u64>> = BTreeMap::new();
        for entry in self.log.tail().filter(|entry| entry.kind == Kind::Message) {
            let news = |from: u64, to: u64| (from + 1..=to).contains(&entry.seq);
            // Told with the cursor that passes it.
            let failed = member.failed.contains(&entry.seq) && safe.delivered >= entry.seq;
            if failed || news(told.delivered, safe.delivered) || news(told.read, safe.read) {
                let of_author = authors.entry(&entry.from).or_default();
                of_author.extend(failed.then_some(entry.seq));
            }
        }
        for (author, failed) in authors {
            // Who is being added hears nothing before it is safe that she is.
            let told = self.members.present(author).is_some_and(|author| author.hears);
            if author != user && told && self.hears_ticks(author, user, cx) {
                let tick = Tick { delivered: Some(safe.delivered), read: Some(safe.read), failed };
                self.tell_tick(author, user, tick, cx);
            }
        }
    }

    fn tell_tick(&self, author: &Arc<str>, about: &Arc<str>, tick: Tick, cx: &mut Cx<'_>) {
        let receipt = ToUser::Receipt {
            place: Arc::clone(&self.place),
            to: Arc::clone(author),
            about: Arc::clone(about),
            tick,
            except: None,
        };
        cx.tell_user(author, receipt);
    }

    /// Tells authors how many have their newest entries. Returns whether there is more to tell.
    fn tell_counts(&mut self, cx: &mut Cx<'_>) -> bool {
        let oldest = self.log.tail().next().map_or(u64::MAX, |entry| entry.seq);
        self.told.retain(|seq, _| *seq >= oldest);
        let mut told: BTreeMap<&str, usize> = BTreeMap::new();
        let mut more = false;
        let entries: Vec<_> = self.log.tail().rev().cloned().collect();
        for entry in entries.iter().filter(|entry| entry.kind == Kind::Message) {
            if self.members.present(&entry.from).is_none_or(|author| !author.hears) {
                continue;
            }
            if self.hides(&entry.from) {
                continue;
            }
            let counts = self.counts(entry.seq, &entry.from, cx);
            let now = (counts.delivered, counts.read);
            let before = self.told.get(&entry.seq).copied().unwrap_or_default();
            if now == before {
                continue;
            }
            let of_author = told.entry(&entry.from).or_default();
            if *of_author >= COUNTS_AT_ONCE {
                more = true;
                continue;
            }
            *of_author += 1;
            self.told.insert(entry.seq, now);
            let (place, to) = (Arc::clone(&self.place), Arc::clone(&entry.from));
            cx.tell_user(&entry.from, ToUser::Counts { place, to, counts });
        }
        more
    }

    /// How many of the others have an entry.
    pub(super) fn counts(&self, seq: u64, author: &str, cx: &Cx<'_>) -> Counts {
        let peer = self.place.peer(author);
        let told = self.place.is_group() || self.hears_ticks(author, peer, cx);
        let mut counts = Counts { seq, delivered: 0, read: 0, members: 0 };
        for (name, member) in self.members.page(None) {
            if **name != *author && member.sees(seq) && !member.stance.hides {
                counts.members += 1;
                counts.delivered += usize::from(told && self.has(member, seq));
                counts.read += usize::from(told && member.safe.read >= seq);
            }
        }
        counts
    }

    /// Whether a member has an entry, by what is stored; of a channel's readers, by what is known.
    pub(super) fn has(&self, member: &Member, seq: u64) -> bool {
        let lazy = self.place.is_channel() && member.role == Role::Reader;
        let row = if lazy { member.far } else { member.safe };
        row.read >= seq || (row.delivered >= seq && !member.failed.contains(&seq))
    }

    /// A member types: passed on at once, unless there are too many to hear it.
    pub(super) fn typing(&self, user: &Arc<str>, state: &'static str, cx: &mut Cx<'_>) {
        let writes = self.members.present(user).is_some_and(Member::may_write);
        if writes && self.members.count() <= COUNTS_MAX {
            for shard in self.members.shards() {
                let (place, from) = (Arc::clone(&self.place), Arc::clone(user));
                cx.tell_shard(shard, ToUser::TypingAll { place, from, state });
            }
        }
    }

    /// A device of an author has come back: what it missed is told again.
    pub(super) fn receipts_at_attach(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) {
        let count = self.members.count();
        let own =
            self.log.tail().filter(|entry| entry.from == *user && entry.kind == Kind::Message);
        let own: Vec<u64> = own.map(|entry| entry.seq).collect();
        if own.is_empty() || count > COUNTS_MAX {
            return;
        }
        if count > EACH_MAX {
            self.told.retain(|seq, _| !own.contains(seq));
            return self.arm_receipts(cx);
        }
        for (about, member) in self.members.page(None) {
            if about != user && member.safe.delivered > 0 && self.hears_ticks(user, about, cx) {
                let (delivered, read) = (Some(member.safe.delivered), Some(member.safe.read));
                self.tell_tick(user, about, Tick { delivered, read, failed: Vec::new() }, cx);
            }
        }
    }
}

/// Up to how many members authors hear of each.
const EACH_MAX: usize = 32;

/// Up to how many they hear how many it are.
const COUNTS_MAX: usize = 256;

/// How long ticks gather where authors hear of each member.
const EACH_DELAY: Duration = Duration::from_secs(1);

/// And where they hear how many it are.
const COUNTS_DELAY: Duration = Duration::from_secs(2);

/// How many entries an author then hears of at once: two a second.
const COUNTS_AT_ONCE: usize = 4;
