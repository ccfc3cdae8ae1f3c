//! What the program around the broker hears of a chat, and asks it.
//!
//! Without anybody who listens this costs one look at an empty list.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::slot::ShardId;

use super::cursor::Member;
use super::cx::Cx;
use super::one::Chat;
use crate::call::{Standing, Survey};
use crate::code::Code;
use crate::entry::Entry;
use crate::event::{ChatEvent, ChatRef, StoredEntry};
use crate::peer::{ChatInput, Refusal, ToUser};
use crate::rows::MemberRow;
use crate::topics::user_slot;

impl Chat {
    /// An entry is safe.
    pub(super) fn tell_listeners(&self, entry: &Entry, cx: &mut Cx<'_>) {
        if cx.shared.listeners.is_empty() {
            return;
        }
        let stored = self.as_stored(entry);
        cx.shared.listeners.tell(&ChatEvent::Stored(stored), cx.host);
        if !entry.counts() || self.place.is_room() || self.members.count() > LOOKED_AT_MAX {
            return;
        }
        // Who has a connection is known where the users are.
        let shards = cx.host.shards();
        let mut by_shard: BTreeMap<ShardId, Vec<(Arc<str>, u64)>> = BTreeMap::new();
        for (name, member) in self.members.page(None).filter(|(name, _)| **name != entry.from) {
            let has = member.safe.delivered.max(member.from.saturating_sub(1));
            let shard = user_slot(name).shard(shards);
            let depth = entry.seq.saturating_sub(has);
            by_shard.entry(shard).or_default().push((Arc::clone(name), depth));
        }
        for (shard, users) in by_shard {
            let (place, seq) = (Arc::clone(&self.place), entry.seq);
            cx.tell_shard(shard, ToUser::AreThere { place, seq, users });
        }
    }

    /// An entry as the program around the broker sees it.
    pub(super) fn as_stored(&self, entry: &Entry) -> StoredEntry {
        StoredEntry {
            chat: ChatRef::of(&self.place),
            seq: entry.seq,
            time: entry.time,
            from: Arc::clone(&entry.from),
            kind: entry.kind.name(),
            content_type: entry.content_type.clone(),
            payload: entry.payload.clone(),
        }
    }

    /// It is safe how far a member is.
    pub(super) fn tell_far(
        &self,
        user: &Arc<str>,
        before: MemberRow,
        now: MemberRow,
        cx: &mut Cx<'_>,
    ) {
        if cx.shared.listeners.is_empty() {
            return;
        }
        let (chat, user) = (ChatRef::of(&self.place), Arc::clone(user));
        if now.delivered > before.delivered {
            let (chat, user) = (chat.clone(), Arc::clone(&user));
            let event = ChatEvent::Delivered { chat, user, seq: now.delivered };
            cx.shared.listeners.tell(&event, cx.host);
        }
        if now.read > before.read {
            cx.shared.listeners.tell(&ChatEvent::Read { chat, user, seq: now.read }, cx.host);
        }
    }

    /// The program around the broker asks something.
    pub(super) fn asked_by_program(&mut self, what: ChatInput, cx: &mut Cx<'_>) {
        match what {
            ChatInput::Survey { after, limit, reply } => {
                reply.give(self.survey(after.as_deref(), limit).map_err(Into::into));
            }
            ChatInput::Stand { user, reply } => {
                let member = self.members.present(&user).filter(|_| self.created.is_some());
                let group = self.place.is_group();
                reply.give(Ok(member.map(|member| standing(&user, member, group))));
            }
            ChatInput::Look { from, limit, reply } => self.look(from, limit, reply, cx),
            _ => {}
        }
    }

    /// Who is there, and how far all are, as far as it is stored.
    fn survey(&self, after: Option<&str>, limit: usize) -> Result<Survey, Refusal> {
        if self.created.is_none() {
            return Err(Refusal::new(Code::UnknownChat, "there is no such chat"));
        }
        let group = self.place.is_group();
        let mut page = self.members.page(after);
        let shown: Vec<_> = page.by_ref().take(limit.clamp(1, PAGE_MAX)).collect();
        let next = page.next().and_then(|_| shown.last()).map(|(name, _)| Arc::clone(name));
        let members = shown.into_iter().map(|(name, member)| standing(name, member, group));
        Ok(Survey {
            title: self.group.title.clone(),
            last: self.log.visible,
            count: self.members.count(),
            members: members.collect(),
            next,
        })
    }
}

fn standing(user: &Arc<str>, member: &Member, group: bool) -> Standing {
    let devices = member.devices.iter();
    Standing {
        user: Arc::clone(user),
        role: group.then_some(member.role),
        delivered: member.safe.delivered,
        read: member.safe.read,
        devices: devices.map(|device| (Arc::clone(&device.client_id), device.cursor)).collect(),
    }
}

/// Up to how many members it is looked who is not there.
const LOOKED_AT_MAX: usize = 1_024;

/// How many members one page holds at the most.
const PAGE_MAX: usize = 1_000;
