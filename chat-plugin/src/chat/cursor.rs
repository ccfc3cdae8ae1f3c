//! How far the devices and the members of a chat are.
//!
//! A device's cursor says that everything up to it was acknowledged; a member's `delivered` is the
//! furthest of her devices, ever, and `read` what she reported. None of them goes back. What others
//! are told is what is *stored* of them, so that it does not go back over a crash either.

use std::sync::Arc;

use tidings_core::hook::SessionId;

use crate::peer::DeviceOf;
use crate::rows::{CursorRow, MemberRow};

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
}

/// A member of a chat.
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
}

impl Member {
    /// As she was stored.
    pub(crate) fn stored(row: MemberRow) -> Self {
        Self { far: row, safe: row, told: row, own_told: row.read, ..Self::default() }
    }

    pub(crate) fn add_stored_device(&mut self, client_id: &str, row: CursorRow) {
        self.devices.push(Device {
            client_id: client_id.into(),
            session: SessionId(row.session),
            cursor: row.cursor,
            persistent: true,
            dirty: false,
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
        });
    }

    /// A device is as far as `cursor`. Returns whether that is news.
    pub(crate) fn progress(&mut self, of: &DeviceOf, cursor: u64) -> bool {
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
            device.dirty = device.persistent;
        }
        if cursor > self.far.delivered {
            self.far.delivered = cursor;
            self.dirty = true;
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
        self.devices.iter().map(|device| device.cursor).min().unwrap_or_default()
    }

    /// Whether a row of hers or of a device is behind.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty || self.devices.iter().any(|device| device.dirty)
    }
}

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
        assert!(bob.progress(&device("phone", 1), 5));
        assert!(bob.progress(&device("phone", 1), 3));
        assert_eq!((bob.far.delivered, bob.all_have()), (5, 5));
        assert!(!bob.progress(&device("phone", 7), 8), "another session of that name");
        assert!(bob.end_device(&device("phone", 1)));
        assert!(!bob.end_device(&device("laptop", 1)));
        assert_eq!((bob.far.delivered, bob.all_have()), (5, 9));
    }

    #[test]
    fn reading_implies_delivery_and_never_goes_back() {
        let mut bob = Member::default();
        let phone = Arc::from("phone");
        assert!(bob.read(4, &phone) && !bob.read(3, &phone) && !bob.read(4, &phone));
        assert_eq!(bob.far, MemberRow { delivered: 4, read: 4 });
    }
}
