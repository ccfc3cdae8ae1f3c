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
use crate::entry::Entry;
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
        let Some(at) = self.place.member(&of.user) else { return };
        let kept_from = self.log.floor.saturating_sub(1);
        let begins_later = self.created.is_none_or(|created| created >= since);
        let Some(member) = self.members.get_mut(at) else { return };
        let cursor = match member.device(&of.client_id) {
            Some(device) if resumed || device.session == of.session => {
                device.dirty |= device.session != of.session || device.persistent != of.persistent;
                device.dirty &= of.persistent;
                device.session = of.session;
                device.persistent = of.persistent;
                device.cursor
            }
            _ => {
                let cursor = if sole {
                    member.far.delivered
                } else if begins_later {
                    kept_from
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
            head: self.log.visible,
            time: self.log.last_time,
            peer: self.tick_for(at),
            own_read: self.members.get(at).map_or(0, |member| member.safe.read),
        };
        cx.tell_user(&of.user, attached);
        self.flush_later(cx);
    }

    pub(super) fn detach(&mut self, of: &DeviceOf, cx: &mut Cx<'_>) {
        let Some(at) = self.place.member(&of.user) else { return };
        let Some(member) = self.members.get_mut(at) else { return };
        if member.end_device(of) {
            let key = cursor_key(self.id(), &of.user, &of.client_id);
            cx.store(vec![Op::Delete { key }], false);
        }
        // What only this device lacked can go.
        if self.expendable() > 0 {
            self.set_flush(cx);
        }
    }

    pub(super) fn fetch(&mut self, to: Fetcher, from: u64, cx: &mut Cx<'_>) {
        let visible = self.log.visible;
        if let Some(entries) = self.log.from(from) {
            let upto = entries.last().map_or(visible, |entry| entry.seq);
            return self.give(to, entries, upto, cx);
        }
        let query = Query {
            range: log_range(self.id(), from.max(self.log.floor), visible),
            rows_max: FETCH_ENTRIES_MAX,
            bytes_max: FETCH_BYTES_MAX,
            backwards: false,
        };
        self.reads += 1;
        cx.read(self.id(), query, Reading::Fetch { to, visible });
    }

    fn give(&self, to: Fetcher, entries: Vec<Arc<Entry>>, upto: u64, cx: &mut Cx<'_>) {
        let place = Arc::clone(&self.place);
        let Fetcher { shard, session, feed } = to;
        cx.tell_shard(shard, ToUser::Entries { place, session, feed, entries, upto });
    }

    pub(super) fn fetched(
        &mut self,
        to: Fetcher,
        visible: u64,
        rows: &[Row],
        more: bool,
        cx: &mut Cx<'_>,
    ) {
        self.reads -= 1;
        let seq_of = |row: &Row| {
            let (_, seq) = split_chat_key(&row.key)?;
            Some(u64::from_be_bytes(seq.try_into().ok()?))
        };
        let last = rows.last().and_then(seq_of).filter(|_| more);
        // A row that cannot be read is passed over, as one that is gone.
        let entries = rows
            .iter()
            .filter_map(|row| Entry::from_bytes(seq_of(row)?, &row.value).ok().map(Arc::new));
        self.give(to, entries.collect(), last.unwrap_or(visible), cx);
    }

    /// How far the other member is, if this one writes.
    fn tick_for(&self, member: usize) -> Option<Tick> {
        let other = self.members.iter().enumerate().find(|(at, _)| *at != member)?.1;
        self.writes(member).then(|| Tick {
            delivered: Some(other.safe.delivered),
            read: Some(other.safe.read),
            failed: Vec::new(),
        })
    }
}
