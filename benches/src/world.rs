//! One shard without sockets or a disk: what is measured of it is what it decides, decodes and
//! encodes.
//!
//! Bytes go in as a broker reads them, a batch of packets at once; everything that is to be stored
//! is stored at the end of the batch, as a group. Clients acknowledge what they receive. Rows are
//! kept where a read finds them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what goes wrong here ends the bench that has it wrong"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::codec::{
    Ack, Connect, Packet, PacketId, Properties, Publish, QoS, RetainHandling, Subscribe,
    SubscriptionOptions, Version, decode, put_subscribe_filter,
};
use tidings_core::limits::Limits;
use tidings_core::output::{ConnectionId, Outbox, Output};
use tidings_core::record::{Op, Position, Query, Record, Row};
use tidings_core::shard::{Hooks, Input, Open, Shard, ShardConfig};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;

/// The largest packet that is taken.
const PACKET_BYTES_MAX: usize = 256 * 1024;

/// A shard, its Clients, and the rows it has stored.
#[derive(Debug)]
pub struct World {
    shard: Shard,
    out: Outbox,
    now: Time,
    rows: BTreeMap<Bytes, Bytes>,
    stored: u64,
    rows_put: u64,
    told: u64,
    reads: Vec<(u64, Query)>,
    clients: Vec<Option<Client>>,
    /// What Clients owe, in the order in which it came [MQTT-4.6.0-2], and memory to use again.
    answers: VecDeque<(ConnectionId, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    deliveries: u64,
}

/// The other end of a connection.
#[derive(Debug)]
struct Client {
    version: Version,
}

/// The number of a Client, by the order in which they came.
#[derive(Debug, Clone, Copy)]
pub struct ClientId(usize);

impl World {
    /// A shard with the default limits, and these plugins.
    pub fn new(hooks: Hooks) -> Self {
        let limits = Limits {
            session_queue_messages_max: 1_000_000,
            session_queue_bytes_max: 1 << 30,
            ..Limits::default()
        };
        let config = ShardConfig { id: ShardId(0), shards: 1, limits: Arc::new(limits), seed: 1 };
        let mut world = Self {
            shard: Shard::new(config, hooks),
            out: Outbox::default(),
            now: Time::from_millis(1_000_000),
            rows: BTreeMap::new(),
            stored: 0,
            rows_put: 0,
            told: 0,
            reads: Vec::new(),
            clients: Vec::new(),
            answers: VecDeque::new(),
            spare: Vec::new(),
            deliveries: 0,
        };
        world.handle(Input::Started);
        world.settle();
        world
    }

    /// A Client of MQTT 3.1.1 joins.
    pub fn join(&mut self, user: &str, client_id: &str, persistent: bool) -> ClientId {
        let id = ClientId(self.clients.len());
        let connect = Connect {
            version: Version::V311,
            clean_start: !persistent,
            keep_alive: 0,
            client_id,
            properties: Properties::EMPTY,
            will: None,
            user_name: None,
            password: None,
        };
        self.clients.push(Some(Client { version: Version::V311 }));
        self.handle(Input::Open(Open {
            connection: connection(id),
            user,
            client_id,
            assigned: false,
            expires: Time::NEVER,
            authentication_data: &[],
            connect,
        }));
        self.settle();
        id
    }

    /// A Client's connection ends.
    pub fn leave(&mut self, id: ClientId) {
        self.clients[id.0] = None;
        self.handle(Input::Closed { connection: connection(id) });
        self.settle();
    }

    /// A Client asks for what matches a filter.
    pub fn subscribe(&mut self, id: ClientId, filter: &str, qos: QoS) {
        let options = SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        };
        let mut filters = Vec::new();
        put_subscribe_filter(&mut filters, filter, options, Version::V311);
        let packet_id = PacketId::new(1).expect("not 0");
        let subscribe = Subscribe::new(packet_id, Properties::EMPTY, &filters, Version::V311)
            .expect("a filter");
        let mut bytes = Vec::new();
        Packet::Subscribe(subscribe).encode(Version::V311, &mut bytes).expect("it fits");
        self.hand_in(id, &bytes);
    }

    /// Hands in all packets of a batch as if one read had brought them, and lets everything happen
    /// that follows from them.
    pub fn hand_in(&mut self, id: ClientId, batch: &[u8]) {
        self.take(connection(id), Version::V311, batch);
        self.settle();
    }

    /// Some time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.handle(Input::TimedOut);
        self.settle();
    }

    /// PUBLISH packets that came to Clients so far.
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Rows that were put into the store so far, in records of many.
    pub fn rows_put(&self) -> u64 {
        self.rows_put
    }

    fn take(&mut self, connection: ConnectionId, version: Version, mut batch: &[u8]) {
        while !batch.is_empty() {
            let decoded = decode(batch, version, PACKET_BYTES_MAX).expect("a good packet");
            let (packet, taken) = decoded.expect("a whole packet");
            self.shard.handle(Input::Received { connection, packet }, self.now, &mut self.out);
            batch = &batch[taken..];
        }
        self.empty();
    }

    fn handle(&mut self, input: Input<'_>) {
        self.shard.handle(input, self.now, &mut self.out);
        self.empty();
    }

    /// Does what the shard wants done.
    fn empty(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for output in std::mem::take(&mut out.outputs) {
            match output {
                Output::Send { connection, frame } => {
                    let (head, payload) = out.frame(&frame);
                    let index = usize::try_from(connection.0).expect("a small number");
                    let Some(client) = &self.clients[index] else { continue };
                    let mut answer = self.spare.pop().unwrap_or_default();
                    answer.clear();
                    if payload.is_empty() {
                        self.deliveries += received(client, head, &mut answer);
                    } else {
                        let whole = [head, payload].concat();
                        self.deliveries += received(client, &whole, &mut answer);
                    }
                    self.answers.push_back((connection, answer));
                }
                Output::Store(record) => {
                    self.stored += 1;
                    self.keep(record);
                }
                Output::Read { token, query, .. } => self.reads.push((token, *query)),
                Output::Throttled { .. }
                | Output::Opened { .. }
                | Output::Close { .. }
                | Output::Authenticate { .. }
                | Output::Peer { .. }
                | Output::Event(_) => {}
            }
        }
        out.clear();
        self.out = out;
    }

    fn settle(&mut self) {
        loop {
            if self.stored > self.told {
                self.told = self.stored;
                self.handle(Input::Stored(Position(self.told)));
            } else if let Some((token, query)) = self.reads.pop() {
                let (rows, more) = self.look_up(&query);
                self.handle(Input::Rows { token, rows, more });
            } else if let Some((connection, answer)) = self.answers.pop_front() {
                if !answer.is_empty() {
                    self.take(connection, Version::V311, &answer);
                }
                self.spare.push(answer);
            } else {
                return;
            }
        }
    }

    fn keep(&mut self, record: Record) {
        for op in record.ops {
            match op {
                Op::Put { key, value } => {
                    self.rows_put += 1;
                    self.rows.insert(key, value);
                }
                Op::PutAll { keys, value } => {
                    self.rows_put += keys.len() as u64;
                    self.rows.extend(keys.into_iter().map(|key| (key, value.clone())));
                }
                Op::Delete { key } | Op::Forget { key } => {
                    self.rows.remove(&key);
                }
            }
        }
    }

    fn look_up(&self, query: &Query) -> (Vec<Row>, bool) {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for (key, value) in self.rows.range(query.range.start.clone()..) {
            if !query.range.contains(key) {
                break;
            }
            if rows.len() >= query.rows_max || bytes >= query.bytes_max {
                return (rows, true);
            }
            bytes += value.len();
            rows.push(Row { key: key.clone(), value: value.clone() });
        }
        (rows, false)
    }
}

fn connection(id: ClientId) -> ConnectionId {
    ConnectionId(id.0 as u64)
}

/// What a Client does with what it received; how many messages there were.
fn received(client: &Client, mut bytes: &[u8], answer: &mut Vec<u8>) -> u64 {
    let mut messages = 0;
    while !bytes.is_empty() {
        let decoded = decode(bytes, client.version, usize::MAX).expect("a good packet");
        let (packet, taken) = decoded.expect("a whole packet");
        bytes = &bytes[taken..];
        let reply = match packet {
            Packet::Publish(publish) => {
                messages += 1;
                publish.packet_id.map(|id| match publish.qos {
                    QoS::ExactlyOnce => Packet::Pubrec(Ack::success(id)),
                    _ => Packet::Puback(Ack::success(id)),
                })
            }
            Packet::Pubrel(ack) => Some(Packet::Pubcomp(Ack::success(ack.packet_id))),
            Packet::Pubrec(ack) => Some(Packet::Pubrel(Ack::success(ack.packet_id))),
            _ => None,
        };
        if let Some(reply) = reply {
            reply.encode(client.version, answer).expect("it fits");
        }
    }
    messages
}

/// So many PUBLISH packets one behind the other, with Packet Identifiers from 1 on.
pub fn publishes(topic: &str, payload: &[u8], qos: QoS, count: u16) -> Vec<u8> {
    let mut batch = Vec::new();
    for id in 1..=count {
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: PacketId::new(id).filter(|_| qos != QoS::AtMostOnce),
            properties: Properties::EMPTY,
            payload,
        };
        Packet::Publish(publish).encode(Version::V311, &mut batch).expect("it fits");
    }
    batch
}
