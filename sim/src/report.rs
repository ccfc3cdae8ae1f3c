//! Running seeds, and saying what came of them.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::driver::{Sim, Tally};
use crate::faults::Fault;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The history.
    pub seed: u64,
    /// Its step.
    pub step: usize,
    /// Which promise, and by what.
    pub invariant: String,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics are findings: they are kept for the report and not printed.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            let text = text.unwrap_or_else(|| "a panic".to_owned());
            let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
            PANIC.set(Some(text + &place.unwrap_or_default()));
        }));
    });
}

/// Runs one history.
///
/// # Errors
///
/// The promise that it breaks.
pub fn run(seed: u64, fault: Fault, verbose: bool) -> Result<Tally, Broken> {
    keep_panics();
    let mut sim = Sim::new(seed, fault, verbose);
    match catch_unwind(AssertUnwindSafe(|| sim.run())) {
        Ok(()) => Ok(sim.tally),
        Err(_) => {
            let invariant = PANIC.take().unwrap_or_default();
            Err(Broken { seed, step: sim.trace.step, invariant })
        }
    }
}
