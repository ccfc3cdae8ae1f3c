//! CBOR (RFC 8949), appended to a buffer: definite lengths and shortest forms only.
//!
//! The kept library's encoder under short names. What it writes into is a `Vec`, which takes all.

use ciborium_ll::{Encoder, Header};
use serde::Serialize;

/// Appends the beginning of a map of so many pairs.
pub(crate) fn map(out: &mut Vec<u8>, pairs: usize) {
    push(out, Header::Map(Some(pairs)));
}

/// Appends the beginning of an array of so many items.
pub(crate) fn array(out: &mut Vec<u8>, items: usize) {
    push(out, Header::Array(Some(items)));
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    push(out, Header::Positive(number));
}

/// Appends a text.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    push(out, Header::Text(Some(text.len())));
    out.extend_from_slice(text.as_bytes());
}

/// Appends a byte string.
pub(crate) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, Header::Bytes(Some(bytes.len())));
    out.extend_from_slice(bytes);
}

/// Appends whatever it is, maps with the names of their fields as keys.
pub(crate) fn value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let _ = ciborium::into_writer(value, out);
}

fn push(out: &mut Vec<u8>, header: Header) {
    let _ = Encoder::from(out).push(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_shortest_form() {
        let mut out = Vec::new();
        map(&mut out, 2);
        number(&mut out, 0);
        number(&mut out, 1_000);
        number(&mut out, 23);
        array(&mut out, 2);
        text(&mut out, "hé");
        bytes(&mut out, &[0xff]);
        value(&mut out, &[(1, 2)]);
        assert_eq!(out, b"\xa2\x00\x19\x03\xe8\x17\x82\x63h\xc3\xa9\x41\xff\x81\x82\x01\x02");
    }
}
