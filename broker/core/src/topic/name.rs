//! Topic Names, the bounds on topics, and every way text fails to be a name or a filter (§4.7).
//!
//! What the specification forbids ([`check_name`], [`super::TopicFilter::parse`]) and what this
//! broker is configured to bear ([`TopicLimits`]) are different questions: the first never
//! changes, and a topic over a configured bound is valid MQTT that is refused politely.

use std::fmt;
use std::sync::Arc;

/// The most bytes that a topic can have on the wire (§1.5.4) [MQTT-4.7.3-3].
pub const BYTES_MAX: usize = 65_535;

/// A Topic Name: what a message is published to. Valid by type; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Takes text that satisfies [`check_name`].
    ///
    /// # Errors
    ///
    /// Those of [`check_name`].
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_name(text)?;
        Ok(Self(text.into()))
    }

    /// The name as it was published, never normalised [MQTT-4.7.3-4].
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether text is a Topic Name: not empty, no wildcard, no U+0000, at most [`BYTES_MAX`].
///
/// # Errors
///
/// [`TopicError::Empty`] [MQTT-4.7.3-1], [`TopicError::WireLength`] [MQTT-4.7.3-3],
/// [`TopicError::Nul`] [MQTT-4.7.3-2], [`TopicError::WildcardInName`] [MQTT-4.7.0-1].
pub fn check_name(text: &str) -> Result<(), TopicError> {
    check_length(text)?;
    match text.bytes().position(|byte| matches!(byte, b'+' | b'#' | 0)) {
        None => Ok(()),
        Some(at) if text.as_bytes().get(at) == Some(&0) => Err(TopicError::Nul { at }),
        Some(at) => Err(TopicError::WildcardInName { at }),
    }
}

/// What names and filters have in common: neither empty nor longer than the wire allows.
pub(super) fn check_length(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > BYTES_MAX {
        return Err(TopicError::WireLength { bytes: text.len() });
    }
    Ok(())
}

/// How large a topic this broker bears, names and filters alike.
///
/// Both bounds limit memory: each level of a filter with a wildcard, and of a retained name, can
/// cost a node of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    /// Bytes of UTF-8, the share name of a shared subscription included. Default 1,024.
    pub bytes_max: usize,
    /// Levels, that is separators and one. Default 32.
    pub levels_max: usize,
}

impl Default for TopicLimits {
    fn default() -> Self {
        Self { bytes_max: 1024, levels_max: 32 }
    }
}

impl TopicLimits {
    /// Whether a name or a filter is within these bounds. Says nothing about its validity.
    ///
    /// # Errors
    ///
    /// [`TopicError::TooManyBytes`], [`TopicError::TooManyLevels`].
    pub fn check(&self, text: &str) -> Result<(), TopicError> {
        if text.len() > self.bytes_max {
            return Err(TopicError::TooManyBytes { bytes: text.len(), bytes_max: self.bytes_max });
        }
        let levels = text.bytes().filter(|byte| *byte == b'/').count().saturating_add(1);
        if levels > self.levels_max {
            return Err(TopicError::TooManyLevels { levels, levels_max: self.levels_max });
        }
        Ok(())
    }
}

/// Why text is not the Topic Name or Topic Filter it should be. Offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("topic is empty, expected at least one character")]
    Empty,
    /// [MQTT-4.7.3-3]
    #[error("topic has {bytes} bytes, expected at most {BYTES_MAX}")]
    WireLength {
        /// How long it is.
        bytes: usize,
    },
    /// [MQTT-4.7.3-2]
    #[error("topic has the character U+0000 at byte {at}")]
    Nul {
        /// Where it stands.
        at: usize,
    },
    /// [MQTT-4.7.0-1]
    #[error("topic name has a wildcard at byte {at}; wildcards are for filters")]
    WildcardInName {
        /// Where the first one stands.
        at: usize,
    },
    /// [MQTT-4.7.1-1]
    #[error("the level with `#` at byte {at} is not the last one")]
    MultiLevelNotLast {
        /// Where the level begins.
        at: usize,
    },
    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2]
    #[error("the level at byte {at} mixes a wildcard with other characters")]
    WildcardNotAlone {
        /// Where the level begins.
        at: usize,
    },
    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[error("share name is empty or has a wildcard, expected $share/name/filter")]
    ShareName,
    /// [MQTT-4.8.2-2]
    #[error("shared subscription has no filter, expected $share/name/filter")]
    ShareFilter,
    /// Not forbidden by name, but whoever strips `$share/name/` and parses the rest would strip
    /// twice, and check rights on another filter than the one matched.
    #[error("shared subscription within a shared subscription, expected a single $share/name/")]
    ShareNested,
    /// Over [`TopicLimits::bytes_max`].
    #[error("topic has {bytes} bytes, configured are at most {bytes_max}")]
    TooManyBytes {
        /// How long it is.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Over [`TopicLimits::levels_max`].
    #[error("topic has {levels} levels, configured are at most {levels_max}")]
    TooManyLevels {
        /// How deep it is.
        levels: usize,
        /// The bound.
        levels_max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_specification_are_names() {
        // §4.7.1.1, §4.7.3
        let deep = "a/".repeat(32_767);
        for name in ["/", "/finance", "sport/", "ACCOUNTS", "Accounts payable", "$SYS/x", &deep] {
            assert_eq!(check_name(name), Ok(()), "{name:.40}");
            assert_eq!(TopicName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn text_that_is_no_name_is_refused_with_its_cause() {
        assert_eq!(check_name(""), Err(TopicError::Empty));
        assert_eq!(check_name("a/+"), Err(TopicError::WildcardInName { at: 2 }));
        assert_eq!(check_name("a#"), Err(TopicError::WildcardInName { at: 1 }));
        assert_eq!(check_name("é\0+"), Err(TopicError::Nul { at: 2 }));
        assert_eq!(check_name(&"x".repeat(BYTES_MAX)), Ok(()));
        let long = "x".repeat(BYTES_MAX + 1);
        assert_eq!(check_name(&long), Err(TopicError::WireLength { bytes: 65_536 }));
    }

    #[test]
    fn limits_hold_at_their_bound_and_refuse_one_more() {
        let limits = TopicLimits::default();
        assert_eq!(limits.check(&"x".repeat(1024)), Ok(()));
        assert_eq!(
            limits.check(&"x".repeat(1025)),
            Err(TopicError::TooManyBytes { bytes: 1025, bytes_max: 1024 })
        );
        assert_eq!(limits.check(&"/".repeat(31)), Ok(()));
        assert_eq!(
            limits.check(&"/".repeat(32)),
            Err(TopicError::TooManyLevels { levels: 33, levels_max: 32 })
        );
    }
}
