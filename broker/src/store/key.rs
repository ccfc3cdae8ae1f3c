//! The key of a row in memory: in its place, where it is short, and not behind a pointer.
//!
//! Looking one up among a hundred thousand compares it with some twenty others, each of which would
//! be a miss of the cache behind a pointer. Those of queues take 23 bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt::{self, Debug};
use std::ops::Deref;

use bytes::Bytes;

/// A key, ordered by its bytes.
#[derive(Clone)]
pub struct RowKey(Kept);

#[derive(Clone)]
enum Kept {
    Short(u8, [u8; SHORT_BYTES_MAX]),
    Long(Bytes),
}

/// As many as fit beside the length where the other kind, and what tells the two apart, has to.
const SHORT_BYTES_MAX: usize = 38;

impl RowKey {
    /// The key, in memory of its own.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Kept::Short(..) => Bytes::copy_from_slice(self),
            Kept::Long(bytes) => bytes.clone(),
        }
    }
}

impl From<Bytes> for RowKey {
    fn from(bytes: Bytes) -> Self {
        let mut short = [0; SHORT_BYTES_MAX];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(length)) => {
                room.copy_from_slice(&bytes);
                Self(Kept::Short(length, short))
            }
            _ => Self(Kept::Long(bytes)),
        }
    }
}

impl Deref for RowKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short(length, bytes) => bytes.get(..usize::from(*length)).unwrap_or_default(),
            Kept::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for RowKey {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for RowKey {}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        // By words, not through a call for each comparison. What is behind a short key is zeros, which
        // tell it from a longer one but where that goes on with zeros itself.
        if let (Kept::Short(_, own), Kept::Short(_, others)) = (&self.0, &other.0) {
            let (own, _) = own.as_chunks::<8>();
            let (others, _) = others.as_chunks::<8>();
            for (own, others) in own.iter().zip(others) {
                let (own, others) = (u64::from_be_bytes(*own), u64::from_be_bytes(*others));
                if own != others {
                    return own.cmp(&others);
                }
            }
        }
        self[..].cmp(&other[..])
    }
}

impl Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", &self[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_come_back_and_sort_by_their_bytes() {
        assert!(size_of::<RowKey>() <= 40);
        let mut keys: Vec<Vec<u8>> =
            (0..70_u8).map(|length| vec![length % 3; length.into()]).collect();
        keys.push(Vec::new());
        for one in &keys {
            let key = RowKey::from(Bytes::copy_from_slice(one));
            assert_eq!((&key[..], key.to_bytes()), (&one[..], Bytes::copy_from_slice(one)));
            for other in &keys {
                let other_key = RowKey::from(Bytes::copy_from_slice(other));
                assert_eq!(key.cmp(&other_key), one.cmp(other));
                assert_eq!(key == other_key, one == other);
            }
        }
    }
}
