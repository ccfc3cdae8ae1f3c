//! Devices at a chat: where each begins, and what it lacks.
//!
//! A device that the chat knows goes on from its cursor. One that is its user's only one begins
//! behind what she ever had, and any other where the log was when it became a device: it is not
//! given a second time what another device of hers has long had.

use std::sync::Arc;

use tidings_core::record::{Op, Query, Row};
use tidings_core::time::Time;

use super::cx::{Cx, Fetcher, Reading};
use super::log::{FETCH_BYTES_MAX, FETCH_ENTRIES_MAX};
use super::one::Chat;
use crate::entry::{Entry, Kind};
use crate::peer::{DeviceOf, FeedId, Tick, ToUser};
use crate::rows::{cursor_key, log_range, split_chat_key};

impl Chat {
    pub(super) fn attach(
        &mut self,
        of: &DeviceOf,
        feed: FeedId,
        since: Time,
        sole: bool,
        resumed: bool,
        cx: &mut Cx<'_>,
    ) {
        let group = self.place.is_group();
        let Some(member) = self.members.get_mut(&of.user) else {
            return self.attach_nobody(of, feed, cx);
        };
        let begins = if group { Some(member.joined) } else { self.created };
        let begins_later = begins.is_none_or(|begins| begins >= since);
        let kept_from = self.log.floor.saturating_sub(1).max(member.from.saturating_sub(1));
        let cursor = match member.device(&of.client_id) {
            Some(device) if resumed || device.session == of.session => {
                device.dirty |= device.session != of.session || device.persistent != of.persistent;
                device.dirty &= of.persistent;
                device.session = of.session;
                device.persistent = of.persistent;
                device.cursor
            }
            _ => {
                let cursor = if self.place.is_room() {
                    // Nothing of hers outlives a connection: each begins with all there is.
                    kept_from
                } else if sole {
                    member.far.delivered
                } else if begins_later {
                    kept_from.max(member.entered().saturating_sub(1))
                } else {
                    self.log.before(since)
                };
                member.begin_device(of, cursor);
                cursor
            }
        };
        let attached = ToUser::Attached {
            place: Arc::clone(&self.place),
            session: of.session,
            feed,
            cursor: cursor.max(kept_from),
            head: member.sees_to(self.log.visible),
            time: self.log.last_time,
            own_read: member.safe.read,
            knows: member.writes,
            member: member.hears,
            peer: self.tick_for(&of.user, cx),
        };
        cx.tell_user(&of.user, attached);
        self.flush_later(&of.user, cx);
        if group {
            self.attached_to_group(of, cx);
        }
    }

    /// A device of somebody who is not in the group, and never was or it is long ago.
    fn attach_nobody(&mut self, of: &DeviceOf, feed: FeedId, cx: &mut Cx<'_>) {
        let (place, user) = (Arc::clone(&self.place), Arc::clone(&of.user));
        let attached = ToUser::Attached {
            place: Arc::clone(&place),
            session: of.session,
            feed,
            cursor: 0,
            head: 0,
            time: Time::default(),
            own_read: 0,
            knows: false,
            member: false,
            peer: None,
        };
        cx.tell_user(&of.user, attached);
        let (session, seq) = (Some(of.session), 0);
        let parted = ToUser::Parted { place, user, session, seq };
        cx.tell_user(&of.user, parted);
        self.forget_index(&of.user, cx);
    }

    pub(super) fn detach(&mut self, of: &DeviceOf, cx: &mut Cx<'_>) {
        let Some(member) = self.members.get_mut(&of.user) else { return };
        if member.end_device(of) {
            let key = cursor_key(self.id(), &of.user, &of.client_id);
            cx.store(vec![Op::Delete { key }], false);
        }
        // What only this device lacked can go.
        self.expend_later(cx);
        self.retire(&of.user, cx);
    }

    pub(super) fn fetch(&mut self, to: Fetcher, user: &str, from: u64, cx: &mut Cx<'_>) {
        let member = self.members.get(user);
        let visible = member.map_or(0, |member| member.sees_to(self.log.visible));
        let from = from.max(member.map_or(0, |member| member.from));
        if let Some(mut entries) = self.log.from(from) {
            let last = entries.last().map_or(visible, |entry| entry.seq);
            let upto = last.min(visible);
            self.keep_seen(user, &mut entries, cx.now());
            return self.give(to, entries, upto, cx);
        }
        // What is only in memory is asked for next.
        let visible = self.log.rows_to(from).map_or(visible, |last| visible.min(last));
        let query = Query {
            range: log_range(self.id(), from.max(self.log.floor), visible),
            rows_max: FETCH_ENTRIES_MAX,
            bytes_max: FETCH_BYTES_MAX,
            backwards: false,
        };
        self.reads += 1;
        let user = Arc::from(user);
        cx.read(self.id(), query, Reading::Fetch { to, user, visible });
    }

    /// Keeps of entries those that a user may see, and wants to.
    pub(super) fn keep_seen(&self, user: &str, entries: &mut Vec<Arc<Entry>>, now: Time) {
        let group = self.place.is_group();
        let Some(member) = self.members.get(user) else { return entries.clear() };
        entries.retain(|entry| {
            (!group || member.sees(entry.seq))
                && entry.is_shown_to(user, now)
                && (entry.kind == Kind::Hide || !member.hidden.contains(entry.seq))
        });
    }

    fn give(&self, to: Fetcher, entries: Vec<Arc<Entry>>, upto: u64, cx: &mut Cx<'_>) {
        let place = Arc::clone(&self.place);
        let Fetcher { shard, session, feed } = to;
        cx.tell_shard(shard, ToUser::Entries { place, session, feed, entries, upto });
    }

    pub(super) fn fetched(
        &mut self,
        to: Fetcher,
        user: &str,
        visible: u64,
        rows: &[Row],
        more: bool,
        cx: &mut Cx<'_>,
    ) {
        self.reads = self.reads.saturating_sub(1);
        let seq_of = |row: &Row| {
            let (_, seq) = split_chat_key(&row.key)?;
            Some(u64::from_be_bytes(seq.try_into().ok()?))
        };
        let last = rows.last().and_then(seq_of).filter(|_| more);
        // A row that cannot be read is passed over, as one that is gone.
        let mut entries =
            rows.iter().filter_map(|row| self.keys.entry(row).map(Arc::new)).collect();
        self.keep_seen(user, &mut entries, cx.now());
        self.give(to, entries, last.unwrap_or(visible), cx);
    }

    /// How far the other member of a direct chat is, if this one writes.
    pub(super) fn tick_for(&self, user: &str, cx: &Cx<'_>) -> Option<Tick> {
        let other = self.place.members().iter().find(|other| ***other != *user)?;
        let told = self.hears_ticks(user, other, cx);
        let other = self.members.get(other)?;
        (told && self.members.get(user)?.writes).then(|| Tick {
            delivered: Some(other.safe.delivered),
            read: Some(other.safe.read),
            failed: Vec::new(),
        })
    }
}
