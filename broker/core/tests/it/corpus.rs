//! The bodies of the fuzz targets over the inputs that fuzzing found, and over random ones.
//!
//! A corpus is a file with an input a line, in hexadecimal; `docs/testing.md` says how it is made.

use proptest::prelude::*;

use crate::codec::fuzz as codec;
use crate::{sequence, topic};

/// The inputs of a corpus.
fn inputs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| {
        let digits = line.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).unwrap());
        digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 0, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn any_history_keeps_what_is_promised(
        data in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        sequence::any_bytes(&data);
    }

    #[test]
    fn any_bytes_are_topics_or_none(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        topic::any_bytes(&data);
    }
}
