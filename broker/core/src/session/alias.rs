//! Topic Aliases that a Client uses: numbers that stand for Topic Names on one connection (§3.3.2.3.4).

use std::sync::Arc;

use crate::protocol_error::ProtocolError;

/// The aliases of one Network Connection. [MQTT-3.3.2-7]
#[derive(Debug)]
pub(crate) struct TopicAliases {
    topics: Vec<Option<Arc<str>>>,
    maximum: u16,
}

impl TopicAliases {
    /// None yet, and at most `maximum`. Takes no memory until the first is set.
    pub(crate) fn new(maximum: u16) -> Self {
        Self { topics: Vec::new(), maximum }
    }

    /// The topic meant by a PUBLISH that names `topic` and `alias`: a topic that is there is
    /// remembered, an empty one looked up. [MQTT-3.3.2-12]
    ///
    /// # Errors
    /// An alias out of range, or one that was never set.
    pub(crate) fn resolve(&mut self, topic: &str, alias: u16) -> Result<Arc<str>, ProtocolError> {
        if alias == 0 || alias > self.maximum {
            return Err(ProtocolError::TopicAliasInvalid { alias, maximum: self.maximum });
        }
        let index = usize::from(alias) - 1;
        if topic.is_empty() {
            let known = self.topics.get(index).cloned().flatten();
            return known.ok_or(ProtocolError::TopicAliasUnknown { alias });
        }
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        let topic: Arc<str> = topic.into();
        if let Some(place) = self.topics.get_mut(index) {
            *place = Some(Arc::clone(&topic));
        }
        Ok(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_the_topic_set_last() {
        let mut aliases = TopicAliases::new(2);
        assert_eq!(aliases.resolve("", 2), Err(ProtocolError::TopicAliasUnknown { alias: 2 }));
        assert_eq!(&*aliases.resolve("a", 2).unwrap(), "a");
        assert_eq!(&*aliases.resolve("", 2).unwrap(), "a");
        assert_eq!(&*aliases.resolve("b", 2).unwrap(), "b");
        assert_eq!(&*aliases.resolve("", 2).unwrap(), "b");
    }

    #[test]
    fn an_alias_above_the_maximum_is_refused() {
        let refused = TopicAliases::new(2).resolve("a", 3);
        assert_eq!(refused, Err(ProtocolError::TopicAliasInvalid { alias: 3, maximum: 2 }));
    }
}
