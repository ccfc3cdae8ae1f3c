//! Topic Filters: what is subscribed to (§4.7), shared subscriptions included (§4.8.2).
//!
//! `$share/name/filter` is one filter here, and what it matches is what its `filter` part
//! matches: the `$` it begins with is not the `$` of [MQTT-4.7.2-1].

use std::fmt;
use std::str::Split;
use std::sync::Arc;

use super::name::{TopicError, check_length};

/// A Topic Filter, valid by type (§4.7). Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Takes text that is a filter of §4.7.1 or a shared subscription of §4.8.2.
    ///
    /// # Errors
    ///
    /// Every [`TopicError`] but those of names and of [`super::TopicLimits`].
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            return Err(TopicError::Nul { at });
        }
        let pattern = match text.strip_prefix(SHARE) {
            None => text,
            Some(shared) => shared_pattern(shared)?,
        };
        check_wildcards(pattern, text.len() - pattern.len())?;
        Ok(Self(text.into()))
    }

    /// The filter as it was subscribed to, never normalised [MQTT-4.7.3-4].
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has a `+` or a `#`, and so can match more than one name.
    pub fn has_wildcard(&self) -> bool {
        self.0.bytes().any(|byte| matches!(byte, b'+' | b'#'))
    }

    /// Whether a message published to `topic` is for this filter. A shared subscription matches
    /// what its filter part matches.
    ///
    /// `topic` is taken to be a Topic Name: a wildcard in it stands for itself.
    pub fn matches(&self, topic: &str) -> bool {
        let pattern = self.pattern();
        // [MQTT-4.7.2-1]
        if topic.starts_with('$') && pattern.starts_with(['+', '#']) {
            return false;
        }
        is_matched(pattern.as_bytes(), topic.as_bytes())
    }

    /// The first level, such as `chat` of `chat/+/send`; empty for `/a`. Of a shared
    /// subscription, the first level of its filter part.
    pub fn root(&self) -> &str {
        self.levels().next().unwrap_or_default()
    }

    /// Share name and filter of a shared subscription (§4.8.2), nothing of any other.
    pub fn share(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(SHARE)?.split_once('/')
    }

    /// What is matched against names: the filter part of a shared subscription, and of any other
    /// the whole.
    pub fn pattern(&self) -> &str {
        self.share().map_or(&*self.0, |(_, pattern)| pattern)
    }

    /// The filter part of a shared subscription as a filter of its own; any other as it is.
    #[must_use]
    pub fn unshared(&self) -> Self {
        Self(self.pattern_text())
    }

    /// The levels of [`Self::pattern`], one at least. Empty levels are levels (§4.7.1.1).
    pub fn levels(&self) -> Split<'_, char> {
        self.pattern().split('/')
    }

    /// The pattern on its own, without a copy unless something is to be stripped.
    pub(super) fn pattern_text(&self) -> Arc<str> {
        match self.share() {
            Some((_, pattern)) => pattern.into(),
            None => Arc::clone(&self.0),
        }
    }
}

impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const SHARE: &str = "$share/";

/// Level by level, without taking either apart: it is asked for every delivery of a service.
fn is_matched(mut pattern: &[u8], mut topic: &[u8]) -> bool {
    loop {
        match pattern {
            [b'#', ..] => return true,
            [b'+', rest @ ..] => {
                let end = topic.iter().position(|byte| *byte == b'/');
                topic = topic.split_at(end.unwrap_or(topic.len())).1;
                pattern = rest;
            }
            _ => {
                let both = pattern.iter().zip(topic);
                let same = both.take_while(|(one, other)| one == other && **one != b'/').count();
                (pattern, topic) = (pattern.split_at(same).1, topic.split_at(same).1);
            }
        }
        match (pattern, topic) {
            ([], []) => return true,
            // `#` includes the level above it.
            (b"/#", []) => return true,
            ([b'/', levels @ ..], [b'/', names @ ..]) => (pattern, topic) = (levels, names),
            _ => return false,
        }
    }
}

/// The filter part of what follows `$share/`.
fn shared_pattern(shared: &str) -> Result<&str, TopicError> {
    let (share_name, pattern) = match shared.split_once('/') {
        Some((share_name, pattern)) => (share_name, Some(pattern)),
        None => (shared, None),
    };
    // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    if share_name.is_empty() || share_name.contains(['+', '#']) {
        return Err(TopicError::ShareName);
    }
    match pattern {
        None | Some("") => Err(TopicError::ShareFilter),
        Some(pattern) if pattern.starts_with(SHARE) => Err(TopicError::ShareNested),
        Some(pattern) => Ok(pattern),
    }
}

/// Each wildcard fills a level, and `#` the last one. `at` is where `pattern` begins.
fn check_wildcards(pattern: &str, mut at: usize) -> Result<(), TopicError> {
    let mut levels = pattern.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            // [MQTT-4.7.1-1]
            "#" if levels.peek().is_some() => return Err(TopicError::MultiLevelNotLast { at }),
            "#" | "+" => {}
            // [MQTT-4.7.1-1], [MQTT-4.7.1-2]
            _ if level.bytes().any(|byte| matches!(byte, b'+' | b'#')) => {
                return Err(TopicError::WildcardNotAlone { at });
            }
            _ => {}
        }
        at += level.len() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn filters_match_as_the_specification_says() {
        // §4.7.1.2, §4.7.1.3, §4.7.2
        for (text, topic, expected) in SPECIFICATION {
            assert_eq!(filter(text).matches(topic), *expected, "{text} and {topic}");
            let shared = filter(&format!("$share/g/{text}"));
            assert_eq!(shared.matches(topic), *expected, "{shared} and {topic}");
        }
    }

    #[test]
    fn filters_of_the_specification_are_filters() {
        for text in
            ["#", "+", "/", "/+", "+/+", "sport/tennis/#", "+/tennis/#", "sport/+/player1", "//"]
        {
            assert_eq!(TopicFilter::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn text_that_is_no_filter_is_refused_with_its_cause() {
        for (text, error) in [
            ("", TopicError::Empty),
            ("a/\0", TopicError::Nul { at: 2 }),
            ("sport/tennis#", TopicError::WildcardNotAlone { at: 6 }),
            ("sport+", TopicError::WildcardNotAlone { at: 0 }),
            ("a/++/b", TopicError::WildcardNotAlone { at: 2 }),
            ("a/+#", TopicError::WildcardNotAlone { at: 2 }),
            ("sport/tennis/#/ranking", TopicError::MultiLevelNotLast { at: 13 }),
            ("#/", TopicError::MultiLevelNotLast { at: 0 }),
            ("$share/", TopicError::ShareName),
            ("$share//a", TopicError::ShareName),
            ("$share/g+/a", TopicError::ShareName),
            ("$share/#", TopicError::ShareName),
            ("$share/g", TopicError::ShareFilter),
            ("$share/g/", TopicError::ShareFilter),
            ("$share/g/a#", TopicError::WildcardNotAlone { at: 9 }),
            ("$share/g/$share/h/a", TopicError::ShareNested),
        ] {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text}");
        }
        let long = "x".repeat(65_536);
        assert_eq!(TopicFilter::parse(&long), Err(TopicError::WireLength { bytes: 65_536 }));
    }

    #[test]
    fn shared_filter_gives_its_parts() {
        let shared = filter("$share/workers/jobs/+");
        assert_eq!(shared.share(), Some(("workers", "jobs/+")));
        assert_eq!((shared.root(), shared.pattern()), ("jobs", "jobs/+"));
        assert_eq!(shared.levels().collect::<Vec<_>>(), ["jobs", "+"]);
        assert!(shared.has_wildcard());
        assert_eq!(shared.unshared(), filter("jobs/+"));
        // Empty levels in the filter part are levels.
        assert_eq!(filter("$share/g//a").share(), Some(("g", "/a")));
    }

    #[test]
    fn ordinary_filter_has_no_share() {
        for text in ["a/b", "$shared/g/a", "$share", "/$share/g/a"] {
            assert_eq!(filter(text).share(), None, "{text}");
        }
        assert_eq!(filter("/a").root(), "");
        assert!(!filter("a/b").has_wildcard());
    }

    #[test]
    fn filter_of_32_768_levels_is_parsed_and_matched() {
        let topic = format!("{}a", "a/".repeat(32_767));
        assert!(filter(&topic).matches(&topic));
        assert!(filter(&format!("{}+", "+/".repeat(32_767))).matches(&topic));
        assert!(filter(&format!("{}#", "+/".repeat(32_767))).matches(&topic));
        assert!(!filter(&format!("{}b", "+/".repeat(32_767))).matches(&topic));
    }

    const SPECIFICATION: &[(&str, &str, bool)] = &[
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/tennis/player1/#", "sport/tennis/player10", false),
        ("sport/#", "sport", true),
        ("#", "sport", true),
        ("#", "/", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player2", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/broker", false),
        ("#", "$SYS", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/monitor/Clients", true),
        ("$SYS/#", "$SYS", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("sport/#", "sport/$SYS", true),
        ("sport/+", "sport/$SYS", true),
        ("ACCOUNTS", "Accounts", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("a/b", "a//b", false),
        ("a/b", "a/b/", false),
        ("a/b/+", "a/b/", true),
        ("/a", "a", false),
    ];
}
