//! A PUBLISH that is made once, and anew for every message by writing two numbers into it.

use crate::load::verify::{STAMP_BYTES, Stamp};
use crate::load::wire::{QoS, Version, put_publish};

/// A PUBLISH that is made anew by writing two numbers into it.
#[derive(Debug)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    stamp_at: usize,
}

impl Template {
    /// To a topic.
    pub(crate) fn new(version: Version, qos: QoS, topic: &str, payload: usize) -> Self {
        let (mut bytes, payload) = (Vec::new(), vec![b'.'; payload.max(STAMP_BYTES)]);
        put_publish(&mut bytes, version, (qos, 0), topic.as_bytes(), &payload);
        let stamp_at = bytes.len() - payload.len();
        let behind_id = usize::from(version == Version::V5);
        let id_at = (qos != QoS::AtMostOnce).then(|| stamp_at - behind_id - 2);
        Self { bytes, id_at, stamp_at }
    }

    /// Puts one.
    #[inline]
    pub(crate) fn put(&mut self, out: &mut Vec<u8>, packet_id: u16, stamp: Stamp) {
        if let Some(id) = self.id_at.and_then(|at| self.bytes.get_mut(at..at + 2)) {
            id.copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(place) = self.bytes.get_mut(self.stamp_at..self.stamp_at + STAMP_BYTES) {
            place.copy_from_slice(&stamp.bytes());
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// The Packet Identifier of a message: 1 to 65,535, over and over.
#[inline]
pub(crate) fn packet_id(sequence: u64) -> u16 {
    u16::try_from(sequence % 65_535).unwrap_or_default() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wire::{Packet, decode};

    #[test]
    fn every_message_has_its_numbers() {
        for version in [Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut template = Template::new(version, qos, "a/b", 300);
                let stamp = Stamp { stream: 1, sequence: 65_535, due: 3 };
                let (mut out, id) = (Vec::new(), packet_id(stamp.sequence));
                template.put(&mut out, 77, Stamp { sequence: 0, ..stamp });
                out.clear();
                template.put(&mut out, id, stamp);
                let (packet, len) = decode(&out, version).unwrap().unwrap();
                let Packet::Publish { qos: seen, topic, packet_id, payload } = packet else {
                    panic!("{packet:?}");
                };
                assert_eq!((len, seen, topic, payload.len()), (out.len(), qos, &b"a/b"[..], 300));
                assert_eq!(packet_id, if qos == QoS::AtMostOnce { 0 } else { 1 });
                assert_eq!(Stamp::read(payload), Some(stamp));
            }
        }
    }
}
