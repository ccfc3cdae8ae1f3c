//! Retained messages that are still to come for subscriptions (§3.8.4): of each filter the place up to
//! which they came, and no message.
//!
//! However many match, a Client that takes its time costs a name for each of its subscriptions.

use std::collections::VecDeque;

use crate::topic::TopicFilter;

/// A filter whose retained messages are being sent, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilter,
    /// How many shards are through; the session's own is the first.
    pub(crate) shards: u16,
    /// The place behind which the next one goes on; `None`: it has not begun.
    pub(crate) after: Option<Box<str>>,
    /// The row of the subscription says that there are some to come, so that a crash does not end it.
    pub(crate) noted: bool,
}

impl Replay {
    /// From the beginning.
    pub(crate) fn new(filter: &TopicFilter, noted: bool) -> Self {
        Self { filter: filter.clone(), shards: 0, after: None, noted }
    }

    /// A piece came that ended at this place; `None`: there is nothing behind it on that shard.
    pub(crate) fn advance(&mut self, after: Option<Box<str>>) {
        self.shards += u16::from(after.is_none());
        self.after = after;
    }
}

/// Those of a session that wait for their turn, the next one first.
#[derive(Debug, Default)]
pub(crate) struct Replays(VecDeque<Replay>);

impl Replays {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one.
    pub(crate) fn first(&self) -> Option<&Replay> {
        self.0.front()
    }

    pub(crate) fn take_first(&mut self) -> Option<Replay> {
        self.0.pop_front()
    }

    /// Takes one back that is to go on before the others.
    pub(crate) fn put_first(&mut self, replay: Replay) {
        self.0.push_front(replay);
    }

    /// Begins one, or begins it again: never two of one filter, so that there are never more than
    /// subscriptions, however often a Client asks. `noted`: one of it was under way elsewhere.
    pub(crate) fn begin(&mut self, filter: &TopicFilter, noted: bool) {
        match self.0.iter_mut().find(|it| it.filter == *filter) {
            Some(replay) => *replay = Replay::new(filter, replay.noted),
            None => self.0.push_back(Replay::new(filter, noted)),
        }
    }

    /// Keeps those that `keep` says.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Replay) -> bool) {
        self.0.retain(keep);
    }

    /// All of them, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Replay> {
        self.0.iter()
    }

    /// The same.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Replay> {
        self.0.iter_mut()
    }

    /// Adds what a row says is still to come.
    pub(crate) fn recover(&mut self, filter: &TopicFilter) {
        self.0.push_back(Replay::new(filter, true));
    }
}
