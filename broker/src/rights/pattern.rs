//! Topic patterns of rules, and their algebra: one within another, and what two have in common.
//!
//! A pattern is a Topic Filter in which a level may also be `%u` or `%c`. A Topic Name is a filter
//! without wildcards, so that one question, "is it within?", serves for both.

use tidings_core::hook::Client;
use tidings_core::topic::{TopicError, TopicFilter};

/// What a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Box<[Level]>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Name(Box<str>),
    /// `+`
    One,
    /// `#`
    Rest,
    /// `%u`
    User,
    /// `%c`
    ClientId,
}

/// A level of a filter, or of a pattern in which names are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Name(&'a str),
    One,
    Rest,
}

/// Why text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadPattern {
    Topic(TopicError),
    Shared,
    /// A level has more than `%u` or `%c`.
    Mixed(String),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, BadPattern> {
        let filter = TopicFilter::parse(text).map_err(BadPattern::Topic)?;
        if filter.share().is_some() {
            return Err(BadPattern::Shared);
        }
        let level = |text: &str| match text {
            "+" => Ok(Level::One),
            "#" => Ok(Level::Rest),
            "%u" => Ok(Level::User),
            "%c" => Ok(Level::ClientId),
            _ if text.contains("%u") || text.contains("%c") => Err(BadPattern::Mixed(text.into())),
            _ => Ok(Level::Name(text.into())),
        };
        filter.levels().map(level).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it begins with a level that is the server's own.
    pub(super) fn is_of_server(&self) -> bool {
        matches!(self.0.first(), Some(Level::Name(name)) if name.starts_with('$'))
    }

    /// Whether every name that is to be filled in can be: a level of a topic, and no more.
    pub(super) fn fits(&self, client: &Client<'_>) -> bool {
        self.0.iter().all(|level| match level {
            Level::User => fills_a_level(client.user),
            Level::ClientId => fills_a_level(client.client_id),
            _ => true,
        })
    }

    /// The levels for `client`. A name that does not fit is any level: see [`Pattern::fits`].
    pub(super) fn parts<'a>(
        &'a self,
        client: &Client<'a>,
    ) -> impl Iterator<Item = Part<'a>> + Clone + 'a {
        let Client { user, client_id, .. } = *client;
        let fill = |name| if fills_a_level(name) { Part::Name(name) } else { Part::One };
        self.0.iter().map(move |level| match level {
            Level::Name(name) => Part::Name(name),
            Level::One => Part::One,
            Level::Rest => Part::Rest,
            Level::User => fill(user),
            Level::ClientId => fill(client_id),
        })
    }
}

/// Such a name could be more than one level, or the server's, and means another topic than the one
/// who wrote the rule thought of.
fn fills_a_level(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.contains(['+', '#', '/'])
}

/// The levels of a filter, without the `$share/name/` it may begin with.
pub(super) fn filter_parts(filter: &TopicFilter) -> impl Iterator<Item = Part<'_>> + Clone {
    filter.levels().map(|level| match level {
        "+" => Part::One,
        "#" => Part::Rest,
        name => Part::Name(name),
    })
}

/// The levels of a Topic Name.
pub(super) fn topic_parts(topic: &str) -> impl Iterator<Item = Part<'_>> + Clone {
    topic.split('/').map(Part::Name)
}

/// Whether every topic that `inner` matches is one that `outer` matches.
///
/// Never wrongly true. Wrongly false only for `#` within `+/#`.
pub(super) fn within<'a, 'b>(
    inner: impl Iterator<Item = Part<'a>> + Clone,
    outer: impl Iterator<Item = Part<'b>> + Clone,
) -> bool {
    let (mut inner, mut outer) = (inner.peekable(), outer.peekable());
    if is_of_server(inner.peek()) && is_wildcard(outer.peek()) {
        return false; // [MQTT-4.7.2-1]
    }
    loop {
        match (inner.next(), outer.next()) {
            // It includes the level above it.
            (_, Some(Part::Rest)) | (None, None) => return true,
            (Some(Part::Name(_) | Part::One), Some(Part::One)) => {}
            (Some(Part::Name(one)), Some(Part::Name(other))) if one == other => {}
            _ => return false,
        }
    }
}

/// The filter that matches what both match, if there is anything.
pub(super) fn common<'a>(
    one: impl Iterator<Item = Part<'a>> + Clone,
    other: impl Iterator<Item = Part<'a>> + Clone,
) -> Option<Vec<Part<'a>>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    let split = is_of_server(one.peek()) && is_wildcard(other.peek())
        || is_of_server(other.peek()) && is_wildcard(one.peek());
    if split {
        return None;
    }
    let mut found = Vec::new();
    loop {
        match (one.next(), other.next()) {
            (Some(Part::Rest), rest) => {
                found.extend(rest);
                found.extend(other);
                return Some(found);
            }
            (rest, Some(Part::Rest)) => {
                found.extend(rest);
                found.extend(one);
                return Some(found);
            }
            (None, None) => return Some(found),
            (Some(Part::One), Some(part)) | (Some(part), Some(Part::One)) => found.push(part),
            (Some(Part::Name(name)), Some(Part::Name(same))) if name == same => {
                found.push(Part::Name(name));
            }
            _ => return None,
        }
    }
}

fn is_of_server(first: Option<&Part<'_>>) -> bool {
    matches!(first, Some(Part::Name(name)) if name.starts_with('$'))
}

fn is_wildcard(first: Option<&Part<'_>>) -> bool {
    matches!(first, Some(Part::One | Part::Rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Part<'_>> {
        text.split('/')
            .map(|level| match level {
                "+" => Part::One,
                "#" => Part::Rest,
                name => Part::Name(name),
            })
            .collect()
    }

    #[test]
    fn filters_within_filters() {
        for (inner, outer, expected) in [
            ("a", "a", true),
            ("a", "a/#", true),
            ("a/b/c", "a/#", true),
            ("a/#", "a/#", true),
            ("a/+", "a/#", true),
            ("a/+/#", "a/#", true),
            ("+/#", "#", true),
            ("a/+/c", "+/+/+", true),
            ("a/#", "a/+", false),
            ("a/#", "a/b/#", false),
            ("a/#", "a", false),
            ("a/+", "a/b", false),
            ("a/b", "a", false),
            ("a", "a/b", false),
            ("$SYS/x", "#", false),
            ("$SYS/x", "+/x", false),
            ("$SYS/x", "$SYS/#", true),
            ("#", "$SYS/#", false),
            ("a/$x", "a/+", true),
            ("", "+", true),
            ("a/", "a/+", true),
        ] {
            let (inner, outer) = (parts(inner), parts(outer));
            let found = within(inner.iter().copied(), outer.iter().copied());
            assert_eq!(found, expected, "{inner:?} within {outer:?}");
        }
    }

    #[test]
    fn filters_in_common() {
        for (one, other, expected) in [
            ("a/+", "+/b", Some("a/b")),
            ("a/#", "a", Some("a")),
            ("a/#", "a/b/#", Some("a/b/#")),
            ("#", "+/b", Some("+/b")),
            ("a/#", "+/b/+", Some("a/b/+")),
            ("a", "b", None),
            ("a/b", "a", None),
            ("a/b/#", "a", None),
            ("#", "$SYS/x", None),
            ("$SYS/#", "$SYS/+", Some("$SYS/+")),
        ] {
            let (one, other) = (parts(one), parts(other));
            let expected = expected.map(parts);
            for (one, other) in [(&one, &other), (&other, &one)] {
                let found = common(one.iter().copied(), other.iter().copied());
                assert_eq!(found, expected, "{one:?} and {other:?}");
            }
        }
    }
}
