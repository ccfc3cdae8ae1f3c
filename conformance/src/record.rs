//! A run as data: what the JSON report holds, and what the HTML report and the comparison read.
//!
//! Names in here are a format that outlives a run: they keep their meaning.

use serde::{Deserialize, Serialize};

use crate::case::Fail;
use crate::run::Finding;

/// A run of the suite on one broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The broker, as whoever ran it calls it.
    pub broker: String,
    /// How it was reached.
    pub address: String,
    /// When the run began, in seconds since 1970.
    pub began_s: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Each case in each version, in the order of the specification.
    pub runs: Vec<Run>,
}

/// How a case went in one version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The section of MQTT 5.0.
    pub section: String,
    /// The name of the case.
    pub case: String,
    /// `3.1.1` or `5`.
    pub version: String,
    /// The statements it holds.
    pub statements: Vec<String>,
    /// How it ended.
    pub result: Verdict,
    /// Expected and found, or why it was skipped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How long it took.
    pub took_ms: u64,
    /// The bytes sent and received.
    pub dialogue: Vec<String>,
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The statements hold.
    Passed,
    /// They do not.
    Failed,
    /// The broker does not offer what they are about, or the run did not.
    Skipped,
}

impl Verdict {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Run {
    fn new(finding: &Finding) -> Self {
        let (result, why) = match &finding.outcome {
            Ok(()) => (Verdict::Passed, String::new()),
            Err(Fail::Failed(why)) => (Verdict::Failed, why.clone()),
            Err(Fail::Skipped(why)) => (Verdict::Skipped, why.clone()),
        };
        let statements = finding.case.statements(finding.version).iter();
        Self {
            section: finding.case.section.to_owned(),
            case: finding.case.name.to_owned(),
            version: finding.version.to_string(),
            statements: statements.map(|it| (*it).to_owned()).collect(),
            result,
            why,
            took_ms: u64::try_from(finding.took.as_millis()).unwrap_or(u64::MAX),
            dialogue: finding.transcript.clone(),
        }
    }
}

impl Record {
    /// What was found, without the run's own circumstances.
    pub fn runs_of(findings: &[Finding]) -> Vec<Run> {
        findings.iter().map(Run::new).collect()
    }

    /// How many ended so.
    pub fn count(&self, result: Verdict) -> usize {
        self.runs.iter().filter(|run| run.result == result).count()
    }
}

/// A section as numbers, for sorting: 3.10 comes after 3.8.
pub fn section_key(section: &str) -> Vec<u32> {
    section.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

/// Seconds since 1970 as a date and time, UTC.
pub fn date(seconds: u64) -> String {
    // The calendar of days since 0000-03-01, in eras of 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::{date, section_key};

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(4_107_542_399), "2100-02-28 23:59 UTC");
    }

    #[test]
    fn sections_are_sorted_as_numbers() {
        assert!(section_key("3.8.4") < section_key("3.10"));
        assert!(section_key("3.8") < section_key("3.8.1"));
    }
}
