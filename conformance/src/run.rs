//! Runs cases, several at once, each with names that no other uses.
//!
//! Most of a case is waiting for the broker, so there are many more threads than cores.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::case::{Bench, Case, Fail, Outcome};
use crate::packet::Version;
use crate::target::Target;

/// How a case went in one version.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Which case.
    pub case: &'static Case,
    /// In which version.
    pub version: Version,
    /// How it ended.
    pub outcome: Outcome,
    /// All bytes sent and received.
    pub transcript: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs the cases in each of the versions, `jobs` at once, and calls `seen` as each ends.
///
/// Returns what was found in the order of the cases, however they ended.
pub fn run(
    target: &Target,
    cases: &[&'static Case],
    versions: &[Version],
    jobs: usize,
    mut seen: impl FnMut(&Finding),
) -> Vec<Finding> {
    let prefix = prefix();
    let work: VecDeque<_> = plan(cases, versions).into_iter().enumerate().collect();
    let work = Mutex::new(work);
    let (found, findings) = mpsc::channel();
    let mut findings: Vec<_> = thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (work, found, prefix) = (&work, found.clone(), &prefix);
            scope.spawn(move || {
                loop {
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some((index, (case, version))) = next else { return };
                    let finding = run_one(target, case, version, format!("{prefix}{index}x"));
                    let _nobody_listens = found.send((index, finding));
                }
            });
        }
        drop(found);
        findings.into_iter().inspect(|(_, finding)| seen(finding)).collect()
    });
    findings.sort_by_key(|(index, _)| *index);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

/// What is to be run: each case in each version for which it holds a statement.
pub fn plan(cases: &[&'static Case], versions: &[Version]) -> Vec<(&'static Case, Version)> {
    let all = versions.iter().flat_map(|version| cases.iter().map(|case| (*case, *version)));
    all.filter(|(case, version)| !case.statements(*version).is_empty()).collect()
}

fn run_one(target: &Target, case: &'static Case, version: Version, tag: String) -> Finding {
    let start = Instant::now();
    let bench = Bench::new(target, version, tag);
    // A case that panics is a defect of ours; the others should be heard all the same.
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&bench)))
        .unwrap_or_else(|_| Err(Fail::Failed("the case itself panicked".into())));
    let outcome = match (outcome, bench.used_beyond()) {
        // Those that are about the limit know what they do.
        (Err(Fail::Failed(_)), Some(what)) if !case.is_under("3.2.2") => {
            Err(Fail::Skipped(format!("the Server does not offer {what}")))
        }
        (outcome, _) => outcome,
    };
    let took = start.elapsed();
    let transcript = bench.transcript();
    bench.tidy_up();
    Finding { case, version, outcome, transcript, took }
}

/// Different for each run, so that runs against one broker do not meet; letters and digits.
fn prefix() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut number = since.as_nanos() ^ (u128::from(std::process::id()) << 20);
    let mut text = String::from("c");
    for _ in 0..6 {
        let digit = u32::try_from(number % 36).unwrap_or_default();
        text.extend(char::from_digit(digit, 36));
        number /= 36;
    }
    text
}
