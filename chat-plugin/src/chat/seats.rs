//! Who hears a group: from the entry of being added to that of being removed.
//!
//! An entry goes once to each shard where a member's side is, however many they are; who listens
//! there is known there. `Joined` is said to a user's side ahead of her first entry and `Parted`
//! behind her last one, on the same way as the entries: so neither comes too early or too late.
//! Who is removed keeps a seat for a while, with which her devices fetch what they lack up to the
//! end.

use std::sync::Arc;

use tidings_core::record::Op;

use super::cursor::Member;
use super::cx::{Cx, Timer};
use super::group::{Effect, Told};
use super::one::Chat;
use crate::peer::{DeviceOf, Outcome, ToUser};
use crate::rows::{cursor_key, member_key, stance_key};
use crate::ties::Stance;

impl Chat {
    /// A group has come into memory: its members hear what comes.
    pub(super) fn all_hear(&mut self, cx: &mut Cx<'_>) {
        if !self.place.is_group() {
            return;
        }
        let shards = cx.host.shards();
        let present = self.members.page(None).map(|(name, _)| Arc::clone(name));
        for user in present.collect::<Vec<_>>() {
            self.members.hears(&user, shards);
        }
    }

    /// What comes ahead of an entry.
    pub(super) fn before(&mut self, effect: Option<&Effect>, cx: &mut Cx<'_>) {
        let shards = cx.host.shards();
        for user in effect.iter().flat_map(|effect| &effect.joins) {
            self.members.hears(user, shards);
            let (place, user) = (Arc::clone(&self.place), Arc::clone(user));
            cx.tell_user(&Arc::clone(&user), ToUser::Joined { place, user });
        }
    }

    /// What comes behind it.
    pub(super) fn after(&mut self, effect: Option<Box<Effect>>, seq: u64, cx: &mut Cx<'_>) {
        let Some(effect) = effect else { return };
        let Effect { parts, origin, answer, .. } = *effect;
        let shards = cx.host.shards();
        for user in parts {
            self.members.hears_no_more(&user, shards);
            let parted = ToUser::Parted {
                place: Arc::clone(&self.place),
                user: Arc::clone(&user),
                session: None,
                seq,
            };
            cx.tell_user(&user, parted);
            self.retire(&user, cx);
        }
        if let Some((Told { to, kind, body }, origin)) = answer.zip(origin) {
            let place = Arc::clone(&self.place);
            cx.tell_shard(origin.shard, ToUser::Answer { place, to, kind, body });
        }
        if self.members.former() > 2 * FORMER_MAX {
            self.sweep_former(cx);
        }
        self.expend_later(cx);
    }

    /// A change that is no entry is safe.
    pub(super) fn silent_stored(&mut self, effect: Box<Effect>, seq: u64, cx: &mut Cx<'_>) {
        self.flushing -= 1;
        if let Some(origin) = effect.origin {
            cx.answer(&self.place, origin, None, Outcome::Done);
        }
        self.before(Some(&effect), cx);
        self.after(Some(effect), seq, cx);
    }

    /// A device of a member, or of one who was, has been told where it is.
    pub(super) fn attached_to_group(&mut self, of: &DeviceOf, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get(&of.user) else { return };
        if member.hears {
            return self.receipts_at_attach(&of.user, cx);
        }
        if let Some(seq) = member.until {
            let (place, user) = (Arc::clone(&self.place), Arc::clone(&of.user));
            let session = Some(of.session);
            cx.tell_user(&of.user, ToUser::Parted { place, user, session, seq });
            self.retire(&of.user, cx);
        }
    }

    /// A user listens with QoS 0.
    pub(super) fn listen(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) {
        match self.members.get(user) {
            Some(member) if member.hears => {
                let (place, of) = (Arc::clone(&self.place), Arc::clone(user));
                cx.tell_user(user, ToUser::Joined { place, user: of });
            }
            Some(_) => {}
            None => self.forget_index(user, cx),
        }
    }

    /// Lets one go who has all she will ever see: her index need not hold the group any more.
    pub(super) fn retire(&mut self, user: &Arc<str>, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get_mut(user) else { return };
        if !member.hears && !member.retired && member.is_through() {
            member.retired = true;
            self.forget_index(user, cx);
        }
    }

    /// Tells a user's side that the group is not for her index, or only for what she lacks of it yet.
    pub(super) fn forget_index(&self, user: &Arc<str>, cx: &mut Cx<'_>) {
        if self.place.is_group() && !self.is_joining(user) {
            let lacks = |member: &Member| !member.retired && !member.is_through();
            let lacks = self.members.get(user).is_some_and(lacks);
            let (place, of) = (Arc::clone(&self.place), Arc::clone(user));
            cx.tell_user(
                user,
                match lacks {
                    true => ToUser::Left { place, user: of },
                    false => ToUser::Forget { place, user: of },
                },
            );
        }
    }

    /// Forgets those who went long ago, and if they are too many the first of them.
    pub(super) fn sweep_former(&mut self, cx: &mut Cx<'_>) {
        if self.members.former() == 0 || !self.place.is_group() {
            return;
        }
        let before = cx.now() - cx.options().retention;
        let mut ops = Vec::new();
        for user in self.members.outlived(before, FORMER_MAX) {
            if self.is_joining(&user) || self.members.get(&user).is_some_and(|member| member.hears)
            {
                continue;
            }
            let Some(member) = self.members.remove(&user) else { continue };
            ops.push(Op::Delete { key: member_key(self.id(), &user) });
            if member.stance != Stance::default() {
                ops.push(Op::Delete { key: stance_key(self.id(), &user) });
            }
            let rows = member.devices.iter().filter(|device| device.persistent);
            let rows = rows.map(|device| cursor_key(self.id(), &user, &device.client_id));
            ops.extend(rows.map(|key| Op::Delete { key }));
            self.forget_index(&user, cx);
        }
        if !ops.is_empty() {
            cx.store(ops, false);
        }
    }

    /// A device has gone for a while.
    pub(super) fn rest(&mut self, of: &DeviceOf, cx: &mut Cx<'_>) {
        if self.members.get_mut(&of.user).is_some_and(|member| member.keep()) {
            self.flush_later(&of.user, cx);
        }
    }

    /// Cursors of readers are stored when their device goes, and now and then.
    pub(super) fn keep_readers_later(&mut self, cx: &mut Cx<'_>) {
        if !std::mem::replace(&mut self.readers_set, true) {
            let at = cx.now() + cx.options().reader_delay;
            cx.set_timer(at, self.id(), Timer::Readers);
        }
    }

    /// The time for it has come.
    pub(super) fn keep_readers(&mut self, cx: &mut Cx<'_>) {
        self.readers_set = false;
        let behind = self.members.iter_mut().filter(|(_, member)| !member.is_dirty());
        let behind = behind.filter_map(|(user, member)| member.keep().then(|| Arc::clone(user)));
        for user in behind.collect::<Vec<_>>() {
            self.flush_later(&user, cx);
        }
    }
}

/// How many a group remembers who were in it.
const FORMER_MAX: usize = 1_024;
