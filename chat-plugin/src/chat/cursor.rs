//! How far the devices and the members of a chat are.
//!
//! A device's cursor says that everything up to it was acknowledged; a member's `delivered` is the
//! furthest of her devices, ever, and `read` what she reported. None of them goes back. What others
//! are told is what is *stored* of them, so that it does not go back over a crash either.

use std::sync::Arc;

use tidings_core::hook::SessionId;
use tidings_core::time::Time;

use super::hidden::Hidden;
use crate::group::Role;
use crate::peer::DeviceOf;
use crate::rows::{CursorRow, MemberRow, SeatRow};
use crate::ties::Stance;

/// One device of a member.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) client_id: Arc<str>,
    pub(crate) session: SessionId,
    pub(crate) cursor: u64,
    /// Whether it has a row.
    pub(crate) persistent: bool,
    /// Whether the row is behind.
    pub(crate) dirty: bool,
    /// What the row says.
    pub(crate) kept: u64,
}

/// A member of a chat, or of a group one who was.
#[derive(Debug, Default)]
pub(crate) struct Member {
    /// How far she is.
    pub(crate) far: MemberRow,
    /// How far the store knows her to be.
    pub(crate) safe: MemberRow,
    /// How far the author was told she is.
    pub(crate) told: MemberRow,
    /// How far her own other devices were told she has read.
    pub(crate) own_told: u64,
    /// Where she reported it last.
    pub(crate) read_on: Option<Arc<str>>,
    /// Entries that a device of hers refused, and whose author has not been told.
    pub(crate) failed: Vec<u64>,
    /// Whether her row is behind.
    pub(crate) dirty: bool,
    pub(crate) devices: Vec<Device>,
    /// What she may do in a group.
    pub(crate) role: Role,
    /// Since when she is in it; or when she went.
    pub(crate) joined: Time,
    /// The first entry she sees.
    pub(crate) from: u64,
    /// The last one, if she is in it no more.
    pub(crate) until: Option<u64>,
    /// What was written while she was away in between.
    pub(crate) away: Vec<(u64, u64)>,
    /// What she does not want to see.
    pub(crate) hidden: Hidden,
    /// Whether what comes goes to her shard.
    pub(crate) hears: bool,
    /// Whether her side was told that she has all she will ever have.
    pub(crate) retired: bool,
    /// Whether she has written something; for direct chats only.
    pub(crate) writes: bool,
    /// Whether her side was told so.
    pub(crate) acquainted: bool,
    /// How she stands to the others.
    pub(crate) stance: Stance,
    pub(super) listed_behind: bool,
    pub(super) listed_news: bool,
}

impl Member {
    /// As she was stored.
    pub(crate) fn stored(row: MemberRow) -> Self {
        Self { far: row, safe: row, told: row, own_told: row.read, ..Self::default() }
    }

    /// As she was stored in a group.
    pub(crate) fn seated(row: SeatRow) -> Self {
        let SeatRow { role, joined, from, until, away, delivered, read } = row;
        Self { role, joined, from, until, away, ..Self::stored(MemberRow { delivered, read }) }
    }

    /// Her row in a group.
    pub(crate) fn seat(&self) -> SeatRow {
        let MemberRow { delivered, read } = self.far;
        let Self { role, joined, from, until, .. } = *self;
        SeatRow { role, joined, from, until, away: self.away.clone(), delivered, read }
    }

    /// She is in it, for the first time or again, from the entry `from` on.
    pub(crate) fn enter(&mut self, from: u64) {
        match self.until.take() {
            Some(until) if self.from > 0 && until + 1 < from => {
                self.away.push((until + 1, from - 1))
            }
            Some(_) if self.from > 0 => {}
            _ => self.from = from,
        }
        if self.away.len() > AWAY_MAX {
            // What was before the first time away is not hers any more.
            self.from = self.away.remove(0).1 + 1;
        }
    }

    /// The first entry she sees since she is in it.
    pub(crate) fn entered(&self) -> u64 {
        self.away.last().map_or(self.from, |(_, last)| last + 1)
    }

    /// Whether she was in it when an entry was written.
    pub(crate) fn sees(&self, seq: u64) -> bool {
        seq >= self.from
            && self.until.is_none_or(|until| seq <= until)
            && !self.away.iter().any(|(first, last)| (first..=last).contains(&&seq))
    }

    pub(crate) fn is_present(&self) -> bool {
        self.until.is_none()
    }

    /// Whether she may send.
    pub(crate) fn may_write(&self) -> bool {
        self.is_present() && self.role > Role::Reader
    }

    /// The last entry she sees.
    pub(crate) fn sees_to(&self, visible: u64) -> u64 {
        self.until.map_or(visible, |until| until.min(visible))
    }

    /// Whether each of her devices has all that she will ever see.
    pub(crate) fn is_through(&self) -> bool {
        self.until.is_some_and(|until| !self.devices.is_empty() && self.all_have() >= until)
    }

    pub(crate) fn add_stored_device(&mut self, client_id: &str, row: CursorRow) {
        self.devices.push(Device {
            client_id: client_id.into(),
            session: SessionId(row.session),
            cursor: row.cursor,
            persistent: true,
            dirty: false,
            kept: row.cursor,
        });
    }

    pub(crate) fn device(&mut self, client_id: &str) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| *device.client_id == *client_id)
    }

    /// A device that has just become one, or that begins anew at `cursor`.
    pub(crate) fn begin_device(&mut self, of: &DeviceOf, cursor: u64) {
        self.devices.retain(|device| device.client_id != of.client_id);
        if self.devices.len() >= DEVICES_MAX {
            // The broker bounds the sessions of a user well below this.
            return;
        }
        self.devices.push(Device {
            client_id: Arc::clone(&of.client_id),
            session: of.session,
            cursor,
            persistent: of.persistent,
            dirty: of.persistent,
            kept: 0,
        });
    }

    /// A device is as far as `cursor`. Returns whether that is news. `lazy`: not worth a row yet.
    pub(crate) fn progress(&mut self, of: &DeviceOf, cursor: u64, lazy: bool) -> bool {
        if self.device(&of.client_id).is_none() {
            // Its chat was unloaded meanwhile, and it has no row.
            self.begin_device(of, cursor);
        }
        let Some(device) = self.device(&of.client_id) else { return false };
        if device.session != of.session {
            return false;
        }
        if cursor > device.cursor {
            device.cursor = cursor;
            device.dirty |= device.persistent && !lazy;
        }
        if cursor > self.far.delivered {
            self.far.delivered = cursor;
            self.dirty |= !lazy;
        }
        true
    }

    /// She has read up to `seq`. Returns whether that is news.
    pub(crate) fn read(&mut self, seq: u64, on: &Arc<str>) -> bool {
        if seq <= self.far.read {
            return false;
        }
        self.far.read = seq;
        // Read implies delivered.
        self.far.delivered = self.far.delivered.max(seq);
        self.read_on = Some(Arc::clone(on));
        self.dirty = true;
        true
    }

    /// A device is no more. Returns whether it had a row.
    pub(crate) fn end_device(&mut self, of: &DeviceOf) -> bool {
        let Some(at) = self
            .devices
            .iter()
            .position(|device| device.client_id == of.client_id && device.session == of.session)
        else {
            return false;
        };
        self.devices.swap_remove(at).persistent
    }

    /// What every device of hers has; nothing is had by all of none.
    pub(crate) fn all_have(&self) -> u64 {
        let had = self.devices.iter().map(|device| device.cursor).min().unwrap_or_default();
        had.max(self.from.saturating_sub(1))
    }

    /// What is only remembered of her is worth a row now. Returns whether there is any.
    pub(crate) fn keep(&mut self) -> bool {
        for device in &mut self.devices {
            device.dirty |= device.persistent && device.cursor > device.kept;
        }
        self.dirty |= self.far != self.safe;
        self.is_dirty()
    }

    /// Whether a row of hers or of a device is behind.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty || self.devices.iter().any(|device| device.dirty)
    }
}

/// How often a member may have been away and still see what was before.
const AWAY_MAX: usize = 8;

/// How many devices of a member a chat keeps apart.
const DEVICES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(client_id: &str, session: u64) -> DeviceOf {
        DeviceOf {
            user: "bob".into(),
            client_id: client_id.into(),
            session: SessionId(session),
            persistent: true,
        }
    }

    #[test]
    fn delivered_is_the_furthest_device_and_never_goes_back() {
        let mut bob = Member::default();
        assert_eq!(bob.all_have(), 0);
        bob.begin_device(&device("phone", 1), 0);
        bob.begin_device(&device("laptop", 2), 9);
        assert_eq!(bob.far.delivered, 0, "where a device begins is no delivery");
        assert!(bob.progress(&device("phone", 1), 5, false));
        assert!(bob.progress(&device("phone", 1), 3, false));
        assert_eq!((bob.far.delivered, bob.all_have()), (5, 5));
        assert!(!bob.progress(&device("phone", 7), 8, false), "another session of that name");
        assert!(bob.end_device(&device("phone", 1)));
        assert!(!bob.end_device(&device("laptop", 1)));
        assert_eq!((bob.far.delivered, bob.all_have()), (5, 9));
    }

    #[test]
    fn who_was_away_sees_what_was_before_and_after() {
        let mut bob = Member::default();
        bob.enter(3);
        bob.until = Some(5);
        bob.enter(9);
        let seen: Vec<u64> = (1..12).filter(|seq| bob.sees(*seq)).collect();
        assert_eq!((seen, bob.entered()), (vec![3, 4, 5, 9, 10, 11], 9));
        for stay in 1..=8 {
            bob.until = Some(10 * stay);
            bob.enter(10 * stay + 5);
        }
        assert_eq!((bob.away.len(), bob.from), (8, 9));
    }

    #[test]
    fn reading_implies_delivery_and_never_goes_back() {
        let mut bob = Member::default();
        let phone = Arc::from("phone");
        assert!(bob.read(4, &phone) && !bob.read(3, &phone) && !bob.read(4, &phone));
        assert_eq!(bob.far, MemberRow { delivered: 4, read: 4 });
    }
}
