//! What is told about a run: progress, each failure with its bytes, a table by section.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use crate::case::{Case, Fail};
use crate::packet::Version;
use crate::record::section_key;
use crate::run::Finding;
use crate::statement::{Binds, statements};

/// How many passed, failed and were skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// The statements hold.
    pub passed: usize,
    /// They do not.
    pub failed: usize,
    /// The broker does not offer what they are about.
    pub skipped: usize,
}

impl Count {
    /// Counts findings.
    pub fn of<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Self {
        let mut count = Self::default();
        for finding in findings {
            match finding.outcome {
                Ok(()) => count.passed += 1,
                Err(Fail::Failed(_)) => count.failed += 1,
                Err(Fail::Skipped(_)) => count.skipped += 1,
            }
        }
        count
    }
}

/// What is shown while a run goes on: a line that is written over, or a sign for each case.
#[derive(Debug)]
pub struct Progress {
    all: usize,
    done: usize,
    failed: usize,
    terminal: bool,
}

impl Progress {
    /// `terminal`: a line can be written over there.
    pub fn new(all: usize, terminal: bool) -> Self {
        Self { all, done: 0, failed: 0, terminal }
    }

    /// What to write when a case ended.
    pub fn step(&mut self, finding: &Finding) -> String {
        self.done += 1;
        let sign = match finding.outcome {
            Ok(()) => '.',
            Err(Fail::Failed(_)) => 'F',
            Err(Fail::Skipped(_)) => 's',
        };
        self.failed += usize::from(sign == 'F');
        let (done, all, failed) = (self.done, self.all, self.failed);
        if !self.terminal {
            let line_ends = done % SIGNS_IN_A_LINE == 0 || done == all;
            return if line_ends { format!("{sign} {done}/{all}\n") } else { sign.to_string() };
        }
        let filled = done * BAR_WIDTH / all.max(1);
        let (bar, rest) = ("#".repeat(filled), " ".repeat(BAR_WIDTH.saturating_sub(filled)));
        let (section, name) = (finding.case.section, finding.case.name);
        let name: String = name.chars().take(NAME_SHOWN).collect();
        let line = format!("\r\x1b[K[{bar}{rest}] {done}/{all}, {failed} failed  {section} {name}");
        if done == all { format!("{line}\r\x1b[K") } else { line }
    }
}

/// One line for each statement that failed: the case, expected and found, the bytes.
pub fn failures(findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings {
        let Err(Fail::Failed(what)) = &finding.outcome else { continue };
        let (case, version) = (finding.case, finding.version);
        for id in case.statements(version) {
            let bytes = finding.transcript.join(" | ");
            lines.push(format!("FAILED {version} [{id}] {}: {what}; bytes: {bytes}", case.name));
        }
    }
    lines
}

/// The failures, the skipped, the table, and a last line `N passed, N failed`.
///
/// # Errors
/// Writing fails.
pub fn write(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    for line in failures(findings) {
        writeln!(out, "{line}")?;
    }
    for finding in findings {
        if let Err(Fail::Skipped(why)) = &finding.outcome {
            writeln!(out, "skipped {} {}: {why}", finding.version, finding.case.name)?;
        }
    }
    writeln!(out, "\n{:<12}{:>8}{:>8}{:>8}", "section", "passed", "failed", "skipped")?;
    let mut sections: BTreeMap<Vec<u32>, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        sections.entry(section_key(finding.case.section)).or_default().push(finding);
    }
    for of_section in sections.values() {
        let name = of_section.first().map_or("", |it| it.case.section);
        row(name, Count::of(of_section.iter().copied()), out)?;
    }
    let all = Count::of(findings);
    row("all", all, out)?;
    // The last line is for scripts that add up what several commands found.
    writeln!(out, "\n{} passed, {} failed", all.passed, all.failed)
}

fn row(name: &str, count: Count, out: &mut impl Write) -> io::Result<()> {
    let Count { passed, failed, skipped } = count;
    writeln!(out, "{name:<12}{passed:>8}{failed:>8}{skipped:>8}")
}

/// The cases with their statements, and how many statements that bind a Server have one.
///
/// # Errors
/// Writing fails.
pub fn list(cases: &[&Case], versions: &[Version], out: &mut impl Write) -> io::Result<()> {
    for case in cases {
        writeln!(out, "{} {}", case.section, case.name)?;
        for version in versions {
            let ids = case.statements(*version);
            if !ids.is_empty() {
                writeln!(out, "    {version}: {}", ids.join(" "))?;
            }
        }
    }
    // Which statements none of all cases can hold is the matter of `statements.toml`.
    for version in versions {
        let held: BTreeSet<_> = cases.iter().flat_map(|it| it.statements(*version)).collect();
        let binding: Vec<_> =
            statements(*version).iter().filter(|it| it.1 != Binds::Client).collect();
        let covered = binding.iter().filter(|it| held.contains(&it.0)).count();
        let all = binding.len();
        writeln!(out, "MQTT {version}: {covered} of {all} statements that bind a Server")?;
    }
    Ok(())
}

const SIGNS_IN_A_LINE: usize = 70;
const BAR_WIDTH: usize = 24;
/// So that the line fits a terminal of 100 columns: one that wraps cannot be written over.
const NAME_SHOWN: usize = 38;
