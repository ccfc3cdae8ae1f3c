//! The bodies of the fuzz targets over the inputs that fuzzing found, and over random ones.
//!
//! A corpus is a file with an input a line, in hexadecimal; `docs/testing.md` says how it is made.

use proptest::prelude::*;

use crate::codec::fuzz as codec;
use crate::{sequence, sim, topic};

#[test]
fn inputs_that_fuzzing_found_hold() {
    for (body, inputs) in [
        (codec::any_bytes as fn(&[u8]), include_str!("../corpus/codec.hex")),
        (topic::any_bytes, include_str!("../corpus/topic.hex")),
        (sequence::any_bytes, include_str!("../corpus/sequence.hex")),
        (sim::any_bytes, include_str!("../corpus/sim.hex")),
    ] {
        inputs.lines().for_each(|line| body(&parse_hex(line)));
    }
}

fn parse_hex(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).unwrap());
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
