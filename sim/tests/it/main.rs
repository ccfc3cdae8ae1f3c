//! The simulation itself: that one seed is one history, that histories hold, and that it finds what
//! is wrong.

use tidings_sim::{Fault, run};

#[test]
fn one_seed_is_one_history() {
    for seed in 0..6 {
        let (one, other) = (run(seed, Fault::None, false), run(seed, Fault::None, false));
        assert_eq!(one, other, "seed {seed}");
        assert_ne!(one, run(seed + 1, Fault::None, false), "another seed is another history");
    }
}

#[test]
fn promises_hold_in_the_first_seeds() {
    let (mut crashes, mut messages) = (0, 0);
    for seed in 0..40 {
        match run(seed, Fault::None, false) {
            Ok(tally) => {
                crashes += tally.crashes;
                messages += tally.messages;
            }
            Err(broken) => panic!("{broken:?}; replay with `cargo sim --seed {seed}`"),
        }
    }
    assert!(crashes > 40 && messages > 1_000, "the histories test nothing");
}

#[test]
fn every_planted_fault_is_found() {
    for (fault, seeds) in Fault::PLANTED {
        let found = (0..seeds).find_map(|seed| run(seed, fault, false).err());
        assert!(found.is_some(), "{fault:?} is not found within {seeds} seeds");
    }
}
