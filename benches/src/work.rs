//! What the benches of the core do, once for the clock and once for the count of instructions.
//!
//! Each work is made ready first (`Work::ready`), which is not measured, and then done. What it
//! did is checked after: a bench of something that does not happen measures nothing.

#![expect(clippy::expect_used, reason = "what goes wrong here ends the bench that has it wrong")]

use std::sync::Arc;
use std::time::Duration;

use tidings_chat::{Chat, ChatOptions};
use tidings_core::codec::QoS;
use tidings_core::shard::Hooks;
use tidings_core::topic::{TopicFilter, TopicTree};

use crate::world::{ClientId, World, publishes};

/// Messages of a batch: what one read brings of a busy publisher.
pub const BATCH: u16 = 64;

const PAYLOAD: &[u8] = &[b'x'; 100];

/// A work of the core that is ready to be done.
#[derive(Debug)]
pub struct Work {
    world: World,
    publisher: ClientId,
    batch: Vec<u8>,
    /// Deliveries of one batch.
    expected: u64,
    /// Time that passes after one, for what is sent a little later, and how often.
    after: Duration,
    passes: u8,
}

impl Work {
    fn ready(hooks: Hooks, join: impl FnOnce(&mut World), batch: Vec<u8>, expected: u64) -> Self {
        let mut world = World::new(hooks);
        join(&mut world);
        let publisher = world.join("alice", "publisher", false);
        let mut work = Self { world, publisher, batch, expected, after: Duration::ZERO, passes: 0 };
        // Buffers grow, tables are made.
        for _ in 0..4 {
            work.do_it();
        }
        work
    }

    /// One publisher, one subscriber, a batch of messages, each acknowledged as its QoS asks.
    pub fn pair(qos: QoS, persistent: bool) -> Self {
        let batch = publishes("to/bob", PAYLOAD, qos, BATCH);
        let join = |world: &mut World| {
            let bob = world.join("bob", "subscriber", persistent);
            world.subscribe(bob, "to/bob", qos);
        };
        Self::ready(Hooks::default(), join, batch, u64::from(BATCH))
    }

    /// One message to many subscribers.
    pub fn fan_out(members: u16, qos: QoS) -> Self {
        let batch = publishes("group", PAYLOAD, qos, 1);
        let join = |world: &mut World| {
            for member in 0..members {
                let name = format!("member{member}");
                let member = world.join(&name, &name, false);
                world.subscribe(member, "group", qos);
            }
        };
        Self::ready(Hooks::default(), join, batch, u64::from(members))
    }

    /// A batch of messages to a session that is not there: each goes into its queue.
    pub fn offline() -> Self {
        let batch = publishes("to/bob", PAYLOAD, QoS::AtLeastOnce, BATCH);
        let join = |world: &mut World| {
            let bob = world.join("bob", "subscriber", true);
            world.subscribe(bob, "to/bob", QoS::AtLeastOnce);
            world.leave(bob);
        };
        Self::ready(Hooks::default(), join, batch, 0)
    }

    /// Alice writes to Bob, whose phone is there: stored in the chat's log, delivered, acknowledged.
    pub fn chat() -> Self {
        let mut work = Self::chat_with(|world| {
            let bob = world.join("bob", "phone", true);
            world.subscribe(bob, "me/json/#", QoS::AtLeastOnce);
        });
        work.expected = u64::from(BATCH);
        // Cursors are gathered for some milliseconds.
        (work.after, work.passes) = (Duration::from_millis(50), 1);
        // Buffers grow, tables are made.
        for _ in 0..5 {
            work.do_it();
        }
        work
    }

    /// Alice writes to Bob, who is away: stored in the chat's log.
    pub fn chat_append() -> Self {
        let mut work = Self::chat_with(|world| {
            let bob = world.join("bob", "phone", true);
            world.subscribe(bob, "me/json/#", QoS::AtLeastOnce);
            world.leave(bob);
        });
        work.expected = 0;
        work.do_it();
        work
    }

    /// As [`chat`](Self::chat), and Alice hears how far Bob is.
    pub fn chat_tick() -> Self {
        let mut work = Self::chat_with(|world| {
            let bob = world.join("bob", "phone", true);
            world.subscribe(bob, "me/json/#", QoS::AtLeastOnce);
            let alice = world.join("alice", "phone", true);
            world.subscribe(alice, "me/json/+/receipt", QoS::AtMostOnce);
        });
        // Cursors are gathered, then receipts: one for the whole batch.
        work.expected = u64::from(BATCH) + 1;
        (work.after, work.passes) = (Duration::from_millis(100), 2);
        work.do_it();
        work
    }

    fn chat_with(join: impl FnOnce(&mut World)) -> Self {
        // They have known each other for long: ticks are told.
        let mut options = ChatOptions::default();
        options.requests = false;
        let hooks = Hooks { services: vec![Arc::new(Chat::new(options))], ..Hooks::default() };
        let batch = publishes("chat/@bob/send", PAYLOAD, QoS::AtLeastOnce, BATCH);
        let mut world = World::new(hooks);
        join(&mut world);
        let publisher = world.join("alice", "publisher", false);
        Self { world, publisher, batch, expected: 0, after: Duration::ZERO, passes: 0 }
    }

    /// Does one batch.
    ///
    /// # Panics
    ///
    /// When it did not have the effect that is to be measured.
    pub fn do_it(&mut self) {
        let before = self.world.deliveries();
        self.world.hand_in(self.publisher, &self.batch);
        (0..self.passes).for_each(|_| self.world.pass(self.after));
        let delivered = self.world.deliveries() - before;
        assert_eq!(delivered, self.expected, "deliveries of a batch");
    }

    /// Rows that were put into the store since it was made.
    pub fn rows_put(&self) -> u64 {
        self.world.rows_put()
    }
}

/// A session that finds its messages when it comes back.
#[derive(Debug)]
pub struct Drain {
    world: World,
    publisher: ClientId,
    batch: Vec<u8>,
    batches: u64,
}

impl Drain {
    /// So many batches for each time.
    pub fn new(batches: u64) -> Self {
        let mut world = World::new(Hooks::default());
        let bob = world.join("bob", "subscriber", true);
        world.subscribe(bob, "to/bob", QoS::AtLeastOnce);
        world.leave(bob);
        let publisher = world.join("alice", "publisher", false);
        let batch = publishes("to/bob", PAYLOAD, QoS::AtLeastOnce, BATCH);
        let mut drain = Self { world, publisher, batch, batches };
        drain.store();
        drain.fetch();
        drain
    }

    /// Stores the messages, which is not what is measured.
    pub fn store(&mut self) {
        (0..self.batches).for_each(|_| self.world.hand_in(self.publisher, &self.batch));
    }

    /// Bob comes, hears all of them, acknowledges, and goes.
    ///
    /// # Panics
    ///
    /// When he did not hear all.
    pub fn fetch(&mut self) {
        let before = self.world.deliveries();
        let bob = self.world.join("bob", "subscriber", true);
        let delivered = self.world.deliveries() - before;
        assert_eq!(delivered, self.batches * u64::from(BATCH), "deliveries to who comes back");
        self.world.leave(bob);
    }
}

/// Many subscriptions, and topics to look up among them.
#[derive(Debug)]
pub struct Topics {
    tree: TopicTree<u32, ()>,
    topics: Vec<String>,
}

impl Topics {
    /// So many filters; of each hundred one has `+` and one `#`.
    ///
    /// # Panics
    ///
    /// When a filter is none.
    pub fn new(filters: u32) -> Self {
        let mut tree = TopicTree::new(7);
        for number in 0..filters {
            let (country, city, user) = (number % 10, number % 1_000, number);
            let text = match number % 100 {
                1 => format!("app/{country}/+/{user}/message"),
                2 => format!("app/{country}/{city}/{user}/#"),
                _ => format!("app/{country}/{city}/{user}/message"),
            };
            let filter = TopicFilter::parse(&text).expect("a filter");
            tree.insert(&filter, number, ());
        }
        Self { tree, topics: topics(filters) }
    }

    /// So many filters, each with a wildcard: half of them `+` in one place, half a `#`.
    ///
    /// # Panics
    ///
    /// When a filter is none.
    pub fn wildcards(filters: u32) -> Self {
        let mut tree = TopicTree::new(7);
        for number in 0..filters {
            let (country, city, user) = (number % 10, number % 1_000, number);
            let text = match number % 4 {
                0 => format!("app/+/{city}/{user}/message"),
                1 => format!("app/{country}/+/{user}/message"),
                2 => format!("app/{country}/{city}/{user}/#"),
                _ => format!("app/{country}/{city}/{user}/message/#"),
            };
            let filter = TopicFilter::parse(&text).expect("a filter");
            tree.insert(&filter, number, ());
        }
        Self { tree, topics: topics(filters) }
    }

    /// Looks up a thousand topics; how many subscribers were found.
    pub fn look_up(&self) -> usize {
        let mut found = 0;
        for topic in &self.topics {
            self.tree.matching(topic, &mut |_, ()| found += 1);
        }
        found
    }
}

/// A thousand of them, each matched by a filter at least.
fn topics(filters: u32) -> Vec<String> {
    let topic = |number: u32| {
        let user = number.wrapping_mul(7_919) % filters.max(1);
        format!("app/{}/{}/{user}/message", user % 10, user % 1_000)
    };
    (0..1_000).map(topic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_work_has_the_effect_that_is_measured() {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            for persistent in [false, true] {
                Work::pair(qos, persistent).do_it();
            }
        }
        Work::fan_out(100, QoS::AtLeastOnce).do_it();
        let mut offline = Work::offline();
        let before = offline.rows_put();
        offline.do_it();
        assert_eq!(offline.rows_put() - before, u64::from(BATCH));
        let mut chat = Work::chat();
        let before = chat.rows_put();
        chat.do_it();
        assert!(chat.rows_put() - before >= u64::from(BATCH));
        let mut append = Work::chat_append();
        let before = append.rows_put();
        append.do_it();
        assert!(append.rows_put() - before >= u64::from(BATCH));
        Work::chat_tick().do_it();
        let mut drain = Drain::new(3);
        drain.store();
        drain.fetch();
        assert!(Topics::new(1_000).look_up() >= 1_000);
        assert!(Topics::wildcards(1_000).look_up() >= 1_000);
    }
}
