//! The fixed header (§2.1): which packet, and how long it is.
//!
//! Everything that the first bytes give away is refused here, before a Client is allowed to make us
//! wait for, or hold, the rest of a packet that could never be accepted.

use super::malformed::Malformed;
use super::primitive::{VarInt, var_int};
use super::types::PacketKind;

/// What a fixed header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: type and flags.
    pub first: u8,
    /// Which packet that is.
    pub kind: PacketKind,
    /// How many bytes the fixed header takes: 2 to 5.
    pub header_len: usize,
    /// How many bytes follow it: at most 268,435,455.
    pub remaining: usize,
}

impl Frame {
    /// The whole packet in bytes, which is what Maximum Packet Size limits (§3.1.2.11.4).
    #[inline]
    pub const fn total(&self) -> usize {
        self.header_len + self.remaining
    }
}

/// Reads a fixed header. `Ok(None)`: more bytes are needed before the length is known.
///
/// # Errors
///
/// A reserved type or flag ([MQTT-2.1.3-1]) as soon as the first byte is there, a length in more
/// bytes than it takes, and a packet of more than `packet_bytes_max` bytes.
#[inline]
pub fn frame(bytes: &[u8], packet_bytes_max: usize) -> Result<Option<Frame>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let kind = check_first_byte(first)?;
    let VarInt::Value { value, bytes } = var_int(rest)? else { return Ok(None) };
    let frame = Frame { first, kind, header_len: 1 + bytes, remaining: value as usize };
    if frame.total() > packet_bytes_max {
        return Err(Malformed::PacketTooLarge { bytes: frame.total(), max: packet_bytes_max });
    }
    if matches!(kind, PacketKind::Pingreq | PacketKind::Pingresp) && value != 0 {
        return Err(Malformed::RemainingLength {
            packet: kind,
            found: frame.remaining,
            expected: 0,
        });
    }
    Ok(Some(frame))
}

#[inline]
fn check_first_byte(first: u8) -> Result<PacketKind, Malformed> {
    let kind = PacketKind::from_first_byte(first).ok_or(Malformed::PacketType)?;
    let flags = first & 0x0F;
    if kind == PacketKind::Publish {
        if flags & 0b0110 == 0b0110 {
            return Err(Malformed::PublishQos3);
        }
        if flags & 0b1110 == 0b1000 {
            return Err(Malformed::DupWithQos0);
        }
    } else if flags != kind.flags() {
        let (packet, expected) = (kind, kind.flags());
        return Err(Malformed::ReservedFlags { packet, found: flags, expected });
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: usize = usize::MAX;

    #[test]
    fn every_first_byte_is_judged_before_the_length_arrives() {
        let accepted: Vec<u8> =
            (0..=u8::MAX).filter(|first| frame(&[*first], NO_LIMIT) == Ok(None)).collect();
        let publish = [0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x3A, 0x3B, 0x3C, 0x3D];
        let others =
            [0x10, 0x20, 0x40, 0x50, 0x62, 0x70, 0x82, 0x90, 0xA2, 0xB0, 0xC0, 0xD0, 0xE0, 0xF0];
        let mut expected: Vec<u8> = publish.into_iter().chain(others).collect();
        expected.sort_unstable();
        assert_eq!(accepted, expected);
    }

    #[test]
    fn lengths_at_the_borders_of_each_width_are_read() {
        for (bytes, remaining) in [
            (&[0x30, 0x00][..], 0),
            (&[0x30, 0x7F], 127),
            (&[0x30, 0x80, 0x01], 128),
            (&[0x30, 0xFF, 0x7F], 16_383),
            (&[0x30, 0x80, 0x80, 0x01], 16_384),
            (&[0x30, 0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x30, 0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
        ] {
            let found = frame(bytes, NO_LIMIT).unwrap().unwrap();
            assert_eq!((found.header_len, found.remaining), (bytes.len(), remaining));
            for cut in 0..bytes.len() {
                assert_eq!(frame(&bytes[..cut], NO_LIMIT), Ok(None), "{bytes:02x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_length_in_more_bytes_than_it_takes_is_refused() {
        // [MQTT-1.5.5-1]
        for (bytes, value, width) in
            [(&[0x30, 0x80, 0x00][..], 0, 2), (&[0x30, 0xFF, 0x80, 0x00], 127, 3)]
        {
            let expected = Malformed::VarIntNotMinimal { value, bytes: width };
            assert_eq!(frame(bytes, NO_LIMIT), Err(expected));
        }
        let five = [0x30, 0x80, 0x80, 0x80, 0x80];
        assert_eq!(frame(&five, NO_LIMIT), Err(Malformed::VarIntTooLong));
    }

    #[test]
    fn a_packet_is_measured_with_its_fixed_header() {
        assert!(frame(&[0x30, 8], 10).unwrap().is_some());
        let expected = Malformed::PacketTooLarge { bytes: 11, max: 10 };
        assert_eq!(frame(&[0x30, 9], 10), Err(expected));
    }

    #[test]
    fn pings_with_a_body_are_refused_before_it_arrives() {
        for first in [0xC0, 0xD0] {
            let found = frame(&[first, 1], NO_LIMIT);
            assert!(matches!(found, Err(Malformed::RemainingLength { found: 1, .. })));
        }
    }
}
