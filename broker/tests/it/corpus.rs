//! The bodies of the fuzz targets over the inputs that fuzzing found, and over random ones.
//!
//! A corpus is a file with an input a line, in hexadecimal; `docs/testing.md` says how it is made.
//! Those of what is private to the crate are run where that is.

use crate::support::Random;
use crate::{fuzz_base, fuzz_journal, fuzz_users, rights_body};

#[test]
fn a_journal_that_broke_gives_back_what_it_can_or_says_where() {
    let any_bytes = |data: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        fuzz_journal::any_bytes(data, directory.path());
    };
    inputs(include_str!("../corpus/journal.hex")).for_each(|data| any_bytes(&data));
    random_inputs(60).for_each(|data| any_bytes(&data));
}

#[test]
fn a_base_that_broke_is_what_was_written_or_refused() {
    inputs(include_str!("../corpus/base.hex")).for_each(|data| fuzz_base::any_bytes(&data));
    random_inputs(400).for_each(|data| fuzz_base::any_bytes(&data));
}

#[test]
fn any_text_is_a_users_file_or_refused_in_one_line() {
    inputs(include_str!("../corpus/users.hex")).for_each(|data| fuzz_users::any_bytes(&data));
    random_inputs(200).for_each(|data| fuzz_users::any_bytes(&data));
}

#[test]
fn rules_agree_with_a_naive_reading_on_what_fuzzing_found() {
    for data in inputs(include_str!("../corpus/rights.hex")) {
        rights_body::agrees_with_naive_reading(&data);
    }
}

fn inputs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.lines().map(|line| {
        let digits = line.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).unwrap());
        digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
    })
}

fn random_inputs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|seed| {
        let mut random = Random(seed);
        (0..random.below(200)).map(|_| random.below(256) as u8).collect()
    })
}
