//! Who is in a chat, and how far each is.
//!
//! A direct chat has the two of its place, for ever. A group has those with a row: members, and for
//! a while those who were, so that their devices still hear everything up to the end. Nothing here
//! walks over all of them for one message: those with something to store and those of whom there
//! is news are listed, and entries go to shards, not to members.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::sync::Arc;

use tidings_core::record::Op;
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

use super::cursor::Member;
use crate::group::Role;
use crate::rows::{CursorRow, RowValue, cursor_key};
use crate::topics::{ChatId, Place, user_slot};

/// See the file's own words.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<Arc<str>, Member>,
    /// Those with a row to be stored.
    behind: Vec<Arc<str>>,
    /// Those of whom there is something to tell.
    news: Vec<Arc<str>>,
    /// How many are in it.
    present: usize,
    /// How many of them may write.
    writers: usize,
    /// The shards of those who hear what comes, and how many they are.
    shards: BTreeMap<ShardId, usize>,
}

impl Members {
    /// Those of a direct chat; nobody of a group.
    pub(super) fn of(place: &Place) -> Self {
        let mut members = Self::default();
        for name in place.members() {
            members.put(name, Member::default());
        }
        members
    }

    /// Puts one in, or changes what is known of one.
    pub(super) fn put(&mut self, name: &Arc<str>, member: Member) {
        self.uncount(name);
        self.present += usize::from(member.is_present());
        self.writers += usize::from(member.may_write());
        self.all.insert(Arc::clone(name), member);
    }

    /// Changes somebody's role, or whether she is there.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut Member)) {
        self.uncount(name);
        if let Some(member) = self.all.get_mut(name) {
            change(member);
            self.present += usize::from(member.is_present());
            self.writers += usize::from(member.may_write());
        }
    }

    fn uncount(&mut self, name: &str) {
        if let Some(member) = self.all.get(name) {
            self.present -= usize::from(member.is_present());
            self.writers -= usize::from(member.may_write());
        }
    }

    /// Forgets one altogether.
    pub(super) fn remove(&mut self, name: &str) -> Option<Member> {
        self.uncount(name);
        self.all.remove(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.all.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Member> {
        self.all.get_mut(name)
    }

    /// One who is in it now.
    pub(super) fn present(&self, name: &str) -> Option<&Member> {
        self.all.get(name).filter(|member| member.is_present())
    }

    /// All there are rows of, by name.
    pub(super) fn iter(&self) -> btree_map::Iter<'_, Arc<str>, Member> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> btree_map::IterMut<'_, Arc<str>, Member> {
        self.all.iter_mut()
    }

    /// Those in it now, by name, behind `after`.
    pub(super) fn page<'a>(
        &'a self,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Member)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.all.range::<str, _>((from, Unbounded)).filter(|(_, member)| member.is_present())
    }

    /// How many are in it.
    pub(super) fn count(&self) -> usize {
        self.present
    }

    /// How many of them may write.
    pub(super) fn writers(&self) -> usize {
        self.writers
    }

    /// How many were in it and are still known.
    pub(super) fn former(&self) -> usize {
        self.all.len() - self.present
    }

    /// Who takes over when the last owner goes: of those with the highest role the one who has been
    /// there longest.
    pub(super) fn heir(&self, leaving: &str) -> Option<Arc<str>> {
        let others = self.page(None).filter(|(name, _)| ***name != *leaving);
        let best = others.max_by(|(a, one), (b, other)| {
            let by_age = (other.joined, b).cmp(&(one.joined, a));
            one.role.cmp(&other.role).then(by_age)
        });
        best.map(|(name, _)| Arc::clone(name))
    }

    /// Whether there is another owner.
    pub(super) fn owned_without(&self, name: &str) -> bool {
        self.page(None).any(|(other, member)| member.role == Role::Owner && **other != *name)
    }

    /// Somebody hears what comes from now on.
    pub(super) fn hears(&mut self, name: &str, shards: u16) {
        let Some(member) = self.all.get_mut(name) else { return };
        if std::mem::replace(&mut member.hears, true) {
            return;
        }
        *self.shards.entry(user_slot(name).shard(shards)).or_default() += 1;
    }

    /// Somebody hears no more.
    pub(super) fn hears_no_more(&mut self, name: &str, shards: u16) {
        let Some(member) = self.all.get_mut(name) else { return };
        if !std::mem::take(&mut member.hears) {
            return;
        }
        let shard = user_slot(name).shard(shards);
        if let Some(count) = self.shards.get_mut(&shard) {
            *count -= 1;
            if *count == 0 {
                self.shards.remove(&shard);
            }
        }
    }

    /// The shards where somebody hears what comes.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.shards.keys().copied()
    }

    /// Lists one whose rows are behind, if they are. Returns whether they are.
    pub(super) fn note_behind(&mut self, name: &Arc<str>) -> bool {
        let Some(member) = self.all.get_mut(name).filter(|member| member.is_dirty()) else {
            return false;
        };
        if !std::mem::replace(&mut member.listed_behind, true) {
            self.behind.push(Arc::clone(name));
        }
        true
    }

    /// Lists one of whom there is something to tell.
    pub(super) fn note_news(&mut self, name: &Arc<str>) {
        if let Some(member) = self.all.get_mut(name)
            && !std::mem::replace(&mut member.listed_news, true)
        {
            self.news.push(Arc::clone(name));
        }
    }

    /// The rows of devices of one that are behind.
    pub(super) fn cursor_ops(&mut self, chat: ChatId, user: &str, ops: &mut Vec<Op>) {
        let Some(member) = self.all.get_mut(user) else { return };
        for device in member.devices.iter_mut().filter(|device| device.dirty) {
            device.dirty = false;
            device.kept = device.cursor;
            let row = CursorRow { cursor: device.cursor, session: device.session.0 };
            let key = cursor_key(chat, user, &device.client_id);
            ops.push(Op::Put { key, value: row.to_bytes() });
        }
    }

    /// Some of those whose rows are behind, off the list.
    pub(super) fn take_behind(&mut self, max: usize) -> Vec<Arc<str>> {
        let rest = self.behind.split_off(max.min(self.behind.len()));
        let taken = std::mem::replace(&mut self.behind, rest);
        for name in &taken {
            if let Some(member) = self.all.get_mut(name) {
                member.listed_behind = false;
            }
        }
        taken
    }

    /// Whether somebody's rows are behind.
    pub(super) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Those of whom there is something to tell, off the list.
    pub(super) fn take_news(&mut self) -> Vec<Arc<str>> {
        let taken = std::mem::take(&mut self.news);
        for name in &taken {
            if let Some(member) = self.all.get_mut(name) {
                member.listed_news = false;
            }
        }
        taken
    }

    /// Those who were in it and went before `time`, or, beyond `max`, the first of them.
    pub(super) fn outlived(&self, time: Time, max: usize) -> Vec<Arc<str>> {
        let mut former: Vec<(Time, &Arc<str>)> = self
            .all
            .iter()
            .filter(|(_, member)| !member.is_present())
            .map(|(name, member)| (member.joined, name))
            .collect();
        former.sort();
        let surplus = former.len().saturating_sub(max);
        let outlived =
            former.iter().enumerate().filter(|(at, (went, _))| *at < surplus || *went < time);
        outlived.map(|(_, (_, name))| Arc::clone(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(role: Role, joined: u64) -> Member {
        Member { role, joined: Time::from_millis(joined), ..Member::default() }
    }

    #[test]
    fn the_heir_has_the_highest_role_and_then_was_there_first() {
        let mut members = Members::default();
        for (name, role, joined) in [
            ("ann", Role::Owner, 1),
            ("bob", Role::Member, 2),
            ("carol", Role::Admin, 5),
            ("dave", Role::Admin, 4),
        ] {
            members.put(&name.into(), member(role, joined));
        }
        assert!(!members.owned_without("ann"));
        assert_eq!(members.heir("ann").as_deref(), Some("dave"));
        members.change("dave", |dave| dave.until = Some(9));
        members.change("carol", |carol| carol.until = Some(9));
        assert_eq!(members.heir("ann").as_deref(), Some("bob"));
        assert_eq!((members.count(), members.former(), members.writers()), (2, 2, 2));
        members.change("bob", |bob| bob.role = Role::Reader);
        assert_eq!((members.count(), members.writers()), (2, 1));
        members.remove("bob");
        assert_eq!(members.heir("ann"), None);
    }

    #[test]
    fn the_first_to_go_are_the_first_to_be_forgotten() {
        let mut members = Members::default();
        for (name, went) in [("ann", 10), ("bob", 20), ("carol", 30)] {
            let gone = Member { until: Some(1), ..member(Role::Member, went) };
            members.put(&name.into(), gone);
        }
        let names = |time, max| members.outlived(Time::from_millis(time), max);
        assert_eq!(names(0, 3), Vec::<Arc<str>>::new());
        assert_eq!(names(0, 2), [Arc::from("ann")]);
        assert_eq!(names(25, 3), [Arc::from("ann"), Arc::from("bob")]);
    }
}
