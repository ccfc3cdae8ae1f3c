//! Many messages in many Sessions, as fast as they go: published in windows, drained and looked at.
//!
//! Every message says which Session it is for and its number there, so that each drain knows that it
//! got all of them, in order, once.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketKind, QoS, Version};

use crate::scene::lock;
use crate::wire::{Gone, Hello, ONLY, Packet, Wire};

/// Unacknowledged messages of a publisher.
const WINDOW: usize = 60;
/// How long a message or an acknowledgement may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topics {
    /// One topic for each Session.
    Own,
    /// One for all.
    Fan,
}

/// The broker, and how to fill it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) address: SocketAddr,
    pub(crate) topics: Topics,
    pub(crate) payload_bytes: usize,
    /// Connections at once.
    pub(crate) threads: usize,
}

fn hello(session: u64) -> Hello {
    let mut hello = Hello::new(Version::V311, format!("bulk{session}"));
    hello.keep_alive = 600;
    hello
}

fn gone(what: &str) -> impl Fn(Gone) -> String + '_ {
    move |gone| format!("{what}: {gone:?}")
}

impl Bulk {
    /// Does it for every one of these numbers, by several threads.
    fn each(
        &self,
        numbers: impl Iterator<Item = u64> + Send,
        work: impl Fn(u64) -> Result<(), String> + Sync,
    ) -> Result<(), String> {
        let (numbers, failed) = (Mutex::new(numbers), Mutex::new(None));
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    loop {
                        let number = lock(&numbers).next();
                        let Some(number) = number else { return };
                        if lock(&failed).is_some() {
                            return;
                        }
                        if let Err(why) = work(number) {
                            lock(&failed).get_or_insert(why);
                        }
                    }
                });
            }
        });
        let failed = lock(&failed).take();
        failed.map_or(Ok(()), Err)
    }

    /// Makes the Sessions, which subscribe and go.
    pub(crate) fn subscribe(&self, sessions: u64) -> Result<(), String> {
        self.each(0..sessions, |session| {
            let what = format!("session {session} subscribes");
            let (mut wire, _) =
                Wire::connect(self.address, &hello(session)).map_err(gone(&what))?;
            let filter = self.topic(session);
            wire.subscribe(ONLY, &[(&filter, QoS::AtLeastOnce)]);
            wire.flush().map_err(gone(&what))?;
            match wire.poll(PATIENCE).map_err(gone(&what))? {
                Some(Packet::Suback(codes)) if codes == [1] => {}
                other => return Err(format!("{what}: {other:?}")),
            }
            wire.disconnect();
            Ok(())
        })
    }

    fn topic(&self, session: u64) -> String {
        match self.topics {
            Topics::Own => format!("bulk/{session}"),
            Topics::Fan => "bulk/all".into(),
        }
    }

    /// Publishes the messages with these numbers to each of these Sessions; to all of them at once
    /// when there is one topic.
    pub(crate) fn publish(
        &self,
        sessions: std::ops::Range<u64>,
        numbers: std::ops::Range<u64>,
    ) -> Result<(), String> {
        if self.topics == Topics::Fan {
            return self.publish_to(0, numbers);
        }
        self.each(sessions, |session| self.publish_to(session, numbers.clone()))
    }

    fn publish_to(&self, session: u64, numbers: std::ops::Range<u64>) -> Result<(), String> {
        let what = format!("publishing for session {session}");
        let mut who = Hello::new(Version::V311, format!("publisher{session}"));
        who.clean = true;
        who.keep_alive = 600;
        let (mut wire, _) = Wire::connect(self.address, &who).map_err(gone(&what))?;
        let topic = self.topic(session);
        let (mut open, mut next) = (0, numbers.start);
        while open > 0 || next < numbers.end {
            if open <= WINDOW / 2 {
                while open < WINDOW && next < numbers.end {
                    let mut payload = format!("{next} ").into_bytes();
                    payload.resize(self.payload_bytes, b'.');
                    let id = wire.next_id(|_| false);
                    wire.publish(&topic, &payload, (QoS::AtLeastOnce, false, false), Some(id));
                    (open, next) = (open + 1, next + 1);
                }
                wire.flush().map_err(gone(&what))?;
            }
            let mut packet = wire.poll(PATIENCE).map_err(gone(&what))?;
            if packet.is_none() {
                return Err(format!("{what}: no acknowledgement"));
            }
            while let Some(Packet::Ack(PacketKind::Puback, _, false)) = packet {
                open -= 1;
                packet = wire.take().map_err(gone(&what))?;
            }
            if let Some(other) = packet {
                return Err(format!("{what}: {other:?}"));
            }
        }
        wire.disconnect();
        Ok(())
    }

    /// Takes the messages with these numbers from each of these Sessions.
    pub(crate) fn drain(
        &self,
        sessions: std::ops::Range<u64>,
        numbers: std::ops::Range<u64>,
    ) -> Result<(), String> {
        self.each(sessions, |session| self.drain_one(session, numbers.clone()).map(drop))
    }

    /// How long it took until the first message was there.
    pub(crate) fn drain_one(
        &self,
        session: u64,
        numbers: std::ops::Range<u64>,
    ) -> Result<Duration, String> {
        let what = format!("draining session {session}");
        let began = Instant::now();
        let (mut wire, present) =
            Wire::connect(self.address, &hello(session)).map_err(gone(&what))?;
        if !present {
            return Err(format!("{what}: it is gone"));
        }
        let mut first = None;
        for number in numbers {
            let packet = wire.poll(PATIENCE).map_err(gone(&what))?;
            let Some(Packet::Publish(publish)) = packet else {
                return Err(format!("{what}: instead of {number} came {packet:?}"));
            };
            first.get_or_insert_with(|| began.elapsed());
            let text = String::from_utf8_lossy(&publish.payload);
            let found = text.split(' ').next().and_then(|it| it.parse::<u64>().ok());
            if found != Some(number) {
                return Err(format!("{what}: instead of {number} came {found:?}"));
            }
            if let Some(id) = publish.id {
                wire.ack(PacketKind::Puback, id);
            }
            // Answers go together as long as there is something to read.
            if number % 16 == 15 {
                wire.flush().map_err(gone(&what))?;
            }
        }
        wire.flush().map_err(gone(&what))?;
        wire.disconnect();
        Ok(first.unwrap_or_default())
    }
}
