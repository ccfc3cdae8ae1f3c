//! How a case ends.
//!
//! Two ways are not passing: a broker that lacks an optional feature is no failure.

/// How a case ends when it does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fail {
    /// The statement does not hold: expected and found.
    Failed(String),
    /// The broker says that it does not offer what the case is about.
    Skipped(String),
}

/// How a case ends.
pub type Outcome = Result<(), Fail>;
