//! Integers, strings and binary data (§1.5), read from a slice and written to a `Vec`.
//!
//! Reading borrows: no field is ever copied. Writing measures first ([`string_len`] and the like),
//! so that a packet that cannot be written leaves nothing behind in the buffer.

use super::malformed::{Malformed, TooLarge};
use super::types::PacketId;

/// The most a variable byte integer can say (§1.5.5): 256 MiB - 1.
pub const VAR_INT_MAX: u32 = 268_435_455;

/// The most bytes a string or binary data can have (§1.5.4, §1.5.6).
pub const STRING_BYTES_MAX: usize = 65_535;

/// What stands at the front of some bytes.
pub(super) enum VarInt {
    /// A number and the bytes it takes.
    Value { value: u32, bytes: usize },
    /// The bytes end inside of it.
    Incomplete,
}

/// Reads a variable byte integer (§1.5.5).
#[inline]
pub(super) fn var_int(bytes: &[u8]) -> Result<VarInt, Malformed> {
    match bytes {
        [] => return Ok(VarInt::Incomplete),
        [byte, ..] if *byte < 0x80 => return Ok(VarInt::Value { value: (*byte).into(), bytes: 1 }),
        _ => {}
    }
    let mut value = 0;
    for (shift, byte) in [0, 7, 14, 21].into_iter().zip(bytes) {
        value |= u32::from(*byte & 0x7F) << shift;
        if *byte < 0x80 {
            let taken = shift / 7 + 1;
            if *byte == 0 {
                // [MQTT-1.5.5-1]: the last byte adds nothing.
                return Err(Malformed::VarIntNotMinimal { value, bytes: taken });
            }
            return Ok(VarInt::Value { value, bytes: taken.into() });
        }
    }
    if bytes.len() >= 4 { Err(Malformed::VarIntTooLong) } else { Ok(VarInt::Incomplete) }
}

/// Takes fields off the front of a packet's bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that is left.
    #[inline]
    pub(super) const fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Makes sure that nothing is left.
    #[inline]
    pub(super) const fn end(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::Trailing { bytes: self.left() }) }
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.short(count));
        };
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let Some((byte, rest)) = self.bytes.split_first() else { return Err(self.short(1)) };
        self.bytes = rest;
        Ok(*byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let Some((bytes, rest)) = self.bytes.split_first_chunk() else {
            return Err(self.short(2));
        };
        self.bytes = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let Some((bytes, rest)) = self.bytes.split_first_chunk() else {
            return Err(self.short(4));
        };
        self.bytes = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    #[inline]
    pub(super) fn var_int(&mut self) -> Result<u32, Malformed> {
        let VarInt::Value { value, bytes } = var_int(self.bytes)? else {
            return Err(self.short(self.left() + 1));
        };
        self.take(bytes)?;
        Ok(value)
    }

    /// [MQTT-2.2.1-3]: never 0.
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, Malformed> {
        PacketId::new(self.u16()?).ok_or(Malformed::PacketIdZero)
    }

    /// Binary data (§1.5.6).
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.take(length.into())
    }

    /// A UTF-8 encoded string (§1.5.4).
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, Malformed> {
        check_string(self.binary()?)
    }

    #[cold]
    const fn short(&self, needed: usize) -> Malformed {
        Malformed::Short { needed, left: self.left() }
    }
}

/// [MQTT-1.5.4-1] and [MQTT-1.5.4-2]. Rust's UTF-8 has no surrogates; other control characters and
/// non-characters "should not" be there, which leaves them allowed.
#[inline]
pub(super) fn check_string(bytes: &[u8]) -> Result<&str, Malformed> {
    let text = check_utf8(bytes)?;
    if bytes.contains(&0) {
        return Err(nul(bytes));
    }
    Ok(text)
}

#[inline]
pub(super) fn check_utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|error| Malformed::Utf8 { at: error.valid_up_to() })
}

#[cold]
pub(super) fn nul(bytes: &[u8]) -> Malformed {
    Malformed::Nul { at: bytes.iter().position(|byte| *byte == 0).unwrap_or_default() }
}

/// How many bytes a variable byte integer takes.
#[inline]
pub(super) const fn var_int_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x001F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer; a number above [`VAR_INT_MAX`] is cut down to it.
#[inline]
pub(super) fn put_var_int(out: &mut Vec<u8>, value: u32) {
    let mut left = value.min(VAR_INT_MAX);
    while left >= 0x80 {
        out.push((left & 0x7F) as u8 | 0x80);
        left >>= 7;
    }
    out.push((left & 0x7F) as u8);
}

#[inline]
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends bytes behind their length. They have been measured by [`string_len`]; more than fit are
/// cut off.
#[inline]
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put_u16(out, length);
    out.extend_from_slice(bytes.get(..length.into()).unwrap_or(bytes));
}

/// Appends a string behind its length, cut between characters if it does not fit.
#[inline]
pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(STRING_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_binary(out, text.get(..end).unwrap_or(text).as_bytes());
}

/// What a string or binary data takes with the length before it.
#[inline]
pub(super) const fn string_len(bytes: &[u8]) -> Result<usize, TooLarge> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(TooLarge { bytes: bytes.len(), max: STRING_BYTES_MAX });
    }
    Ok(2 + bytes.len())
}

/// Appends a fixed header, and makes room for what follows it.
#[inline]
pub(super) fn put_header(out: &mut Vec<u8>, first: u8, remaining: usize) -> Result<(), TooLarge> {
    let Some(length) = u32::try_from(remaining).ok().filter(|length| *length <= VAR_INT_MAX) else {
        return Err(TooLarge { bytes: remaining, max: VAR_INT_MAX as usize });
    };
    out.reserve(5 + remaining);
    out.push(first);
    put_var_int(out, length);
    Ok(())
}
