//! The bodies of the fuzz targets over the inputs that fuzzing found, and over random ones.
//!
//! A corpus is a file with an input a line, in hexadecimal; `docs/testing.md` says how it is made.

use crate::fuzz_journal;
use crate::support::Random;

#[test]
fn a_journal_that_broke_gives_back_what_it_can_or_says_where() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let data: Vec<u8> = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
        let directory = tempfile::tempdir().unwrap();
        fuzz_journal::any_bytes(&data, directory.path());
    }
}
