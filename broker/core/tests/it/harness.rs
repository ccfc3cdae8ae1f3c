//! A broker without a network: shards, a store double, a clock, and Clients that speak in packets.
//!
//! Rows are visible to reads as soon as a shard has asked for them to be kept, and *safe* only
//! after [`Cluster::sync`]: what a crash leaves is what was safe. Everything happens at once unless
//! a test takes a part of it into its own hands ([`Cluster::lazy`], [`Cluster::hold_peers`],
//! [`Cluster::hold_reads`]). What a Client received reads as text, one line a packet, so that a test
//! is a list of inputs and a list of lines.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which fail where they panic"
)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidings_core::admission::admit;
use tidings_core::codec::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, PropertiesBuf, Property, Publish, QoS,
    ReasonCode, Subscribe, Unsubscribe, Version, Will, decode, put_subscribe_filter,
    put_unsubscribe_filter,
};
use tidings_core::hook::Event;
use tidings_core::limits::Limits;
use tidings_core::metric::Snapshot;
use tidings_core::output::{CloseCause, ConnectionId, Outbox, Output};
use tidings_core::peer::PeerMessage;
use tidings_core::record::{Op, Position, Query, Record, Row, RowKind};
use tidings_core::shard::{
    AuthStep, Hooks, Input, Open, Shard, ShardConfig, refuse_connect, session_slot,
};
use tidings_core::slot::{ShardId, Slot};
use tidings_core::system::SystemValue;
use tidings_core::time::Time;

use crate::words::owned;
pub(crate) use crate::words::{
    Delivery, Filter, Got, Options, Sent, filter, lasting, line, message, packet_id, v5, v311,
};

/// A connection of a Client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link(usize);

/// One end of a Network Connection, as the Client sees it.
#[derive(Debug)]
struct Peer {
    version: Version,
    shard: usize,
    opened: bool,
    closed: Option<CloseCause>,
    /// The Client, or a crash, ended it.
    gone: bool,
    /// Bytes from before the session was ready.
    early: Vec<Vec<u8>>,
    got: Vec<Got>,
    /// Bytes of the largest packet that came.
    largest: usize,
}

#[derive(Debug)]
struct Node {
    shard: Shard,
    inbox: VecDeque<(ShardId, PeerMessage)>,
    reads: VecDeque<(u64, Vec<Row>, bool)>,
    /// Kept and not yet safe.
    unsynced: VecDeque<Record>,
    stored: u64,
    told: u64,
}

/// The broker and everybody around it.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    links: Vec<Peer>,
    rows: BTreeMap<Bytes, Bytes>,
    safe: BTreeMap<Bytes, Bytes>,
    /// The record that put a row, of those that its shard has had since its start.
    put_by: BTreeMap<Bytes, u64>,
    reads: usize,
    pub(crate) now: Time,
    pub(crate) events: Vec<Event>,
    /// To whom something was sent, in order; of frames in a row to one it is one.
    pub(crate) sent_to: Vec<Link>,
    /// What authenticators are asked: whether it begins an exchange, and the data.
    pub(crate) asked: Vec<(Link, bool, String)>,
    limits: Arc<Limits>,
    hooks: Hooks,
    restarts: u64,
    auto_sync: bool,
    auto_peers: bool,
    /// What shards tell each other at start waits as well.
    untold: bool,
    auto_reads: bool,
    auto_writes: bool,
    /// Connections of which their shards are told next that they are written.
    unwritten: Vec<(usize, ConnectionId)>,
    records: usize,
    /// A digest of all that happened.
    pub(crate) trace: u64,
    verbose: bool,
}

impl Cluster {
    /// `shards` shards with the default limits and no plugins.
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(shards, Limits::default(), Hooks::default())
    }

    pub(crate) fn with(shards: u16, limits: Limits, hooks: Hooks) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            links: Vec::new(),
            rows: BTreeMap::new(),
            safe: BTreeMap::new(),
            put_by: BTreeMap::new(),
            reads: 0,
            now: Time::from_millis(1_000_000),
            events: Vec::new(),
            sent_to: Vec::new(),
            asked: Vec::new(),
            limits: Arc::new(limits),
            hooks,
            restarts: 0,
            auto_sync: true,
            auto_peers: true,
            untold: false,
            auto_reads: true,
            auto_writes: true,
            unwritten: Vec::new(),
            records: 0,
            trace: 0,
            verbose: std::env::var_os("TRACE").is_some(),
        };
        cluster.start(shards);
        cluster
    }

    /// Nothing is safe from now on before [`Cluster::sync`].
    pub(crate) fn lazy(&mut self) {
        self.auto_sync = false;
    }

    /// Everything is safe at once from now on.
    pub(crate) fn eager(&mut self) {
        self.auto_sync = true;
        self.settle();
    }

    /// Messages between shards wait from now on for [`Cluster::pass_peer`].
    pub(crate) fn hold_peers(&mut self, hold: bool) {
        self.auto_peers = !hold;
        self.settle();
    }

    /// Rows that were read wait from now on for [`Cluster::answer_read`].
    pub(crate) fn hold_reads(&mut self, hold: bool) {
        self.auto_reads = !hold;
        self.settle();
    }

    /// Nobody says from now on that what was sent is written.
    pub(crate) fn hold_writes(&mut self, hold: bool) {
        self.auto_writes = !hold;
    }

    /// Bytes of messages that wait for a Client in its shard's memory.
    pub(crate) fn bytes_in_memory(&self, link: Link) -> usize {
        let shard = &self.nodes[self.links[link.0].shard].shard;
        shard.bytes_in_memory(ConnectionId(link.0 as u64))
    }

    /// How many records there were, safe or not.
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// How many reads there were.
    pub(crate) fn reads(&self) -> usize {
        self.reads
    }

    /// The shard of a session.
    pub(crate) fn shard_of(&self, user: &str, name: &str) -> usize {
        usize::from(session_slot(user, name).shard(self.count()).0)
    }

    /// The shard of a topic's retained message.
    pub(crate) fn owner_of(&self, topic: &str) -> usize {
        usize::from(Slot::of(topic.as_bytes()).shard(self.count()).0)
    }

    /// A name beginning with `prefix` whose session lies on `shard`.
    pub(crate) fn name_on(&self, prefix: &str, shard: usize) -> String {
        let mut names = (0..).map(|number| format!("{prefix}{number}"));
        names.find(|name| self.shard_of("", name) == shard).unwrap()
    }

    /// A topic beginning with `prefix` whose retained message lies on `shard`.
    pub(crate) fn topic_on(&self, prefix: &str, shard: usize) -> String {
        let mut topics = (0..).map(|number| format!("{prefix}{number}"));
        topics.find(|topic| self.owner_of(topic) == shard).unwrap()
    }

    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.nodes.len()
    }

    fn count(&self) -> u16 {
        u16::try_from(self.nodes.len()).unwrap()
    }

    // What Clients do.

    /// Connects; the session may still be opening when this returns.
    pub(crate) fn connect(&mut self, options: &Options) -> Link {
        let link = Link(self.links.len());
        let connection = ConnectionId(link.0 as u64);
        let user = options.user.clone();
        let connect = Connect {
            version: options.version,
            clean_start: options.clean,
            keep_alive: options.keep_alive,
            client_id: &options.name,
            properties: options.properties.as_properties(),
            will: options.will.as_ref().map(|will| Will {
                qos: QoS::from_u8(will.qos).unwrap(),
                retain: will.retain,
                properties: will.properties.as_properties(),
                topic: &will.topic,
                payload: will.payload.as_bytes(),
            }),
            user_name: None,
            password: None,
        };
        self.note(&("connect", link.0, &options.name));
        let mut bytes = Vec::new();
        Packet::Connect(connect).encode(options.version, &mut bytes).unwrap();
        let limits = Arc::clone(&self.limits);
        let (packet, _) = decode(&bytes, Version::V5, limits.packet_bytes_max).unwrap().unwrap();
        let Packet::Connect(connect) = packet else { panic!("{packet:?}") };
        let admitted = admit(&connect, &limits, || format!("assigned-{}", link.0));
        let name = admitted.as_ref().map_or("", |it| &it.client_id).to_owned();
        let shard = self.shard_of(&user, &name);
        self.links.push(Peer {
            version: options.version,
            shard,
            opened: false,
            closed: None,
            gone: false,
            early: Vec::new(),
            got: Vec::new(),
            largest: 0,
        });
        match admitted {
            Ok(it) => {
                let (client_id, assigned) = (&it.client_id[..], it.assigned);
                let expires = options.expires;
                let user = &user[..];
                let open = Open {
                    connection,
                    user,
                    client_id,
                    assigned,
                    expires,
                    authentication_data: &options.authentication_data,
                    connect,
                };
                self.input(shard, Input::Open(open));
            }
            Err(reason) => {
                let mut out = Outbox::default();
                refuse_connect(connection, &connect, reason, &mut out);
                self.outputs(shard, &mut out);
            }
        }
        self.settle();
        link
    }

    /// Connects and forgets the CONNACK, which must have come and be a success.
    pub(crate) fn join(&mut self, options: &Options) -> Link {
        let link = self.connect(options);
        let got = self.got(link);
        assert!(
            matches!(got.first(), Some(Got::Connack { reason: ReasonCode::Success, .. })),
            "{got:?}"
        );
        self.links[link.0].got = got[1..].to_vec();
        link
    }

    /// Hands bytes in as if they had come over the network.
    pub(crate) fn raw(&mut self, link: Link, bytes: Vec<u8>) {
        let peer = &mut self.links[link.0];
        if peer.closed.is_some() || peer.gone {
            return;
        }
        if !peer.opened {
            peer.early.push(bytes);
            return;
        }
        let connection = ConnectionId(link.0 as u64);
        let (version, shard) = (peer.version, peer.shard);
        let decoded = decode(&bytes, version, self.limits.packet_bytes_max);
        self.note(&("from", link.0, &decoded));
        match decoded {
            Ok(Some((packet, taken))) => {
                assert_eq!(taken, bytes.len(), "one packet at a time");
                self.input(shard, Input::Received { connection, packet });
            }
            Ok(None) => panic!("half a packet: {bytes:?}"),
            Err(cause) => self.input(shard, Input::Malformed { connection, cause }),
        }
        self.settle();
    }

    pub(crate) fn send(&mut self, link: Link, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.links[link.0].version, &mut bytes).unwrap();
        self.raw(link, bytes);
    }

    pub(crate) fn publish(&mut self, link: Link, sent: &Sent) {
        self.send(
            link,
            &Packet::Publish(Publish {
                dup: sent.dup,
                qos: QoS::from_u8(sent.qos).unwrap(),
                retain: sent.retain,
                topic: &sent.topic,
                packet_id: PacketId::new(sent.id),
                properties: sent.properties.as_properties(),
                payload: &sent.payload,
            }),
        );
    }

    pub(crate) fn subscribe(&mut self, link: Link, id: u16, filters: &[Filter]) {
        self.subscribe_with(link, id, filters, None);
    }

    pub(crate) fn subscribe_with(
        &mut self,
        link: Link,
        id: u16,
        filters: &[Filter],
        identifier: Option<u32>,
    ) {
        let version = self.links[link.0].version;
        let mut bytes = Vec::new();
        for it in filters {
            put_subscribe_filter(&mut bytes, &it.filter, it.options, version);
        }
        let mut properties = PropertiesBuf::new();
        if let Some(identifier) = identifier {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let subscribe =
            Subscribe::new(packet_id(id), properties.as_properties(), &bytes, version).unwrap();
        self.send(link, &Packet::Subscribe(subscribe));
    }

    /// Subscribes to one filter and forgets SUBACK, which must have come and grant it.
    pub(crate) fn listen(&mut self, link: Link, wanted: &str, qos: u8) {
        self.subscribe(link, 60_000, &[filter(wanted, qos)]);
        let got = self.got(link);
        let suback = got.iter().position(|it| *it == Got::Suback(60_000, vec![qos]));
        let suback = suback.unwrap_or_else(|| panic!("no SUBACK: {got:?}"));
        self.links[link.0].got = got;
        self.links[link.0].got.remove(suback);
    }

    pub(crate) fn unsubscribe(&mut self, link: Link, id: u16, filters: &[&str]) {
        let version = self.links[link.0].version;
        let mut bytes = Vec::new();
        for it in filters {
            put_unsubscribe_filter(&mut bytes, it);
        }
        let properties = Properties::default();
        let packet = Unsubscribe::new(packet_id(id), properties, &bytes, version).unwrap();
        self.send(link, &Packet::Unsubscribe(packet));
    }

    pub(crate) fn puback(&mut self, link: Link, id: u16) {
        self.send(link, &Packet::Puback(Ack::success(packet_id(id))));
    }

    pub(crate) fn pubrec(&mut self, link: Link, id: u16) {
        self.send(link, &Packet::Pubrec(Ack::success(packet_id(id))));
    }

    pub(crate) fn pubrel(&mut self, link: Link, id: u16) {
        self.send(link, &Packet::Pubrel(Ack::success(packet_id(id))));
    }

    pub(crate) fn pubcomp(&mut self, link: Link, id: u16) {
        self.send(link, &Packet::Pubcomp(Ack::success(packet_id(id))));
    }

    pub(crate) fn disconnect(&mut self, link: Link, reason: ReasonCode) {
        self.disconnect_with(link, reason, &PropertiesBuf::new());
    }

    pub(crate) fn disconnect_with(
        &mut self,
        link: Link,
        reason: ReasonCode,
        properties: &PropertiesBuf,
    ) {
        let properties = properties.as_properties();
        self.send(link, &Packet::Disconnect(Disconnect { reason, properties }));
    }

    /// The network fails.
    pub(crate) fn lose(&mut self, link: Link) {
        let peer = &mut self.links[link.0];
        if peer.closed.is_some() || peer.gone {
            return;
        }
        peer.gone = true;
        let shard = peer.shard;
        self.note(&("lost", link.0));
        self.input(shard, Input::Closed { connection: ConnectionId(link.0 as u64) });
        self.settle();
    }

    /// An authenticator answers; late, too, when the connection is gone.
    pub(crate) fn authenticated(&mut self, link: Link, step: AuthStep<'_>) {
        let (shard, connection) = (self.links[link.0].shard, ConnectionId(link.0 as u64));
        self.input(shard, Input::Authenticated { connection, step });
        self.settle();
    }

    pub(crate) fn congest(&mut self, link: Link, congested: bool) {
        let peer = &self.links[link.0];
        if peer.closed.is_some() || peer.gone {
            return;
        }
        let (shard, connection) = (peer.shard, ConnectionId(link.0 as u64));
        self.input(shard, Input::Congested { connection, congested });
        self.settle();
    }

    /// What a Client received since it was last asked.
    pub(crate) fn got(&mut self, link: Link) -> Vec<Got> {
        std::mem::take(&mut self.links[link.0].got)
    }

    /// The same as lines of text.
    pub(crate) fn received(&mut self, link: Link) -> Vec<String> {
        self.got(link).iter().map(line).collect()
    }

    /// Why the server closed a connection, if it did.
    pub(crate) fn closed(&self, link: Link) -> Option<&CloseCause> {
        self.links[link.0].closed.as_ref()
    }

    pub(crate) fn is_open(&self, link: Link) -> bool {
        let peer = &self.links[link.0];
        peer.opened && !peer.gone && peer.closed.is_none()
    }

    /// Whether it ended, from whichever side.
    pub(crate) fn is_over(&self, link: Link) -> bool {
        let peer = &self.links[link.0];
        peer.gone || peer.closed.is_some()
    }

    /// Bytes of the largest packet that came to a Client.
    pub(crate) fn largest(&self, link: Link) -> usize {
        self.links[link.0].largest
    }

    // What the world does.

    /// Everything kept so far is safe now.
    pub(crate) fn sync(&mut self) {
        for shard in 0..self.nodes.len() {
            let all = self.nodes[shard].unsynced.len();
            self.sync_some(shard, all);
        }
        self.settle();
    }

    /// The next `records` of a shard are safe now, and it is told.
    pub(crate) fn sync_some(&mut self, shard: usize, records: usize) {
        self.make_safe(shard, records);
        let node = &mut self.nodes[shard];
        if node.stored > node.told {
            node.told = node.stored;
            let position = Position(node.stored);
            self.input(shard, Input::Stored(position));
        }
    }

    fn make_safe(&mut self, shard: usize, records: usize) {
        for _ in 0..records {
            let node = &mut self.nodes[shard];
            let Some(record) = node.unsynced.pop_front() else { break };
            node.stored += 1;
            apply(&mut self.safe, &record);
        }
    }

    /// How many records of a shard are not safe.
    pub(crate) fn unsynced(&self, shard: usize) -> usize {
        self.nodes[shard].unsynced.len()
    }

    /// Hands one message to `shard`; `false` if there is none.
    pub(crate) fn pass_peer(&mut self, shard: usize) -> bool {
        let Some((from, message)) = self.nodes[shard].inbox.pop_front() else { return false };
        self.input(shard, Input::Peer { from, message });
        self.settle();
        true
    }

    /// Hands the rows of the oldest read to `shard`; `false` if there is none.
    pub(crate) fn answer_read(&mut self, shard: usize) -> bool {
        let Some((token, rows, more)) = self.nodes[shard].reads.pop_front() else { return false };
        self.input(shard, Input::Rows { token, rows, more });
        self.settle();
        true
    }

    /// Time passes while nobody is there to notice.
    pub(crate) fn stall(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        for shard in 0..self.nodes.len() {
            self.input(shard, Input::TimedOut);
        }
        self.settle();
    }

    /// Time passes, and every deadline in it.
    pub(crate) fn advance(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(due) = self.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            for shard in 0..self.nodes.len() {
                if self.nodes[shard].shard.next_timeout().is_some_and(|due| due <= self.now) {
                    self.input(shard, Input::TimedOut);
                }
            }
            self.settle();
        }
        self.now = end;
    }

    /// What all shards have counted.
    pub(crate) fn metrics(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for node in &self.nodes {
            snapshot.add(node.shard.counters());
        }
        snapshot
    }

    /// The broker says this of itself, to every shard.
    pub(crate) fn tell(&mut self, values: &[(&str, &str)]) {
        let value = |(topic, payload): &(&str, &str)| SystemValue {
            topic: (*topic).into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        };
        let values: Arc<[SystemValue]> = values.iter().map(value).collect();
        for shard in 0..self.nodes.len() {
            self.input(shard, Input::System(Arc::clone(&values)));
        }
        self.settle();
    }

    /// When something is due next.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.nodes.iter().filter_map(|node| node.shard.next_timeout()).min()
    }

    /// Time passes, and nobody looks at the deadlines.
    pub(crate) fn advance_unnoticed(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// The process dies: what was not safe is gone. It starts again.
    pub(crate) fn crash(&mut self) {
        let shards = self.count();
        self.restart(shards);
    }

    /// The process dies and starts again, and shards have not read yet what the others found.
    pub(crate) fn crash_untold(&mut self) {
        self.hold_peers(true);
        self.untold = true;
        self.crash();
        self.untold = false;
    }

    /// The process dies, but the first `records[shard]` unsafe ones had reached the disk.
    pub(crate) fn crash_keeping(&mut self, records: &[usize]) {
        let shards = self.count();
        self.crash_keeping_into(records, shards);
    }

    /// The same, and comes back with another number of shards.
    pub(crate) fn crash_keeping_into(&mut self, records: &[usize], shards: u16) {
        for (shard, records) in records.iter().enumerate() {
            self.make_safe(shard, *records);
        }
        self.restart(shards);
    }

    /// Dies and comes back with other limits.
    pub(crate) fn crash_into(&mut self, limits: Limits) {
        self.limits = Arc::new(limits);
        self.crash();
    }

    /// Dies and comes back with another number of shards.
    pub(crate) fn restart(&mut self, shards: u16) {
        self.note(&"crash");
        self.rows = self.safe.clone();
        for peer in &mut self.links {
            peer.gone = true;
        }
        self.start(shards);
    }

    /// Tells every shard whether the disk is nearly full.
    pub(crate) fn disk(&mut self, low: bool) {
        for shard in 0..self.nodes.len() {
            self.input(shard, Input::Disk { low });
        }
        self.settle();
    }

    /// Tells every shard that rights have changed, and lets it look at every session.
    pub(crate) fn rights_changed(&mut self) {
        for shard in 0..self.nodes.len() {
            self.input(shard, Input::RightsChanged);
        }
        self.settle();
    }

    /// What authentication said of a user, or of everybody, is not true any more.
    pub(crate) fn revoke(&mut self, user: Option<&str>) {
        for shard in 0..self.nodes.len() {
            self.input(shard, Input::Revoked { user });
        }
        self.settle();
    }

    /// Tells every shard to stop, and lets everything be stored.
    pub(crate) fn stop(&mut self) {
        for shard in 0..self.nodes.len() {
            self.input(shard, Input::Stop);
        }
        self.sync();
    }

    fn start(&mut self, shards: u16) {
        self.restarts += 1;
        self.nodes.clear();
        for id in (0..shards).map(ShardId) {
            let seed = self.restarts << 16 | u64::from(id.0);
            let limits = Arc::clone(&self.limits);
            let config = ShardConfig { id, shards, limits, seed };
            let mut shard = Shard::new(config, self.hooks.clone());
            for kind in Shard::RECOVERED {
                for row in self.rows_of(kind) {
                    let own = Slot(row.key[0]).shard(shards) == id;
                    if own || kind == RowKind::Meta {
                        shard.recover(&row, self.now).unwrap();
                    }
                }
            }
            self.nodes.push(Node {
                shard,
                inbox: VecDeque::new(),
                reads: VecDeque::new(),
                unsynced: VecDeque::new(),
                stored: 0,
                told: 0,
            });
        }
        self.put_by.clear();
        for shard in 0..usize::from(shards) {
            self.input(shard, Input::Started);
        }
        // No listener opens before every shard knows what the others want.
        for shard in 0..usize::from(shards) {
            while !self.untold
                && let Some((from, message)) = self.nodes[shard].inbox.pop_front()
            {
                self.input(shard, Input::Peer { from, message });
            }
        }
        for row in self.rows_of(RowKind::Garbage) {
            let shard = usize::from(Slot(row.key[0]).shard(shards).0);
            let mut out = Outbox::default();
            self.nodes[shard].shard.resume_sweep(&row, &mut out).unwrap();
            self.outputs(shard, &mut out);
        }
        self.settle();
    }

    /// The rows of a kind, safe or not.
    pub(crate) fn rows_of(&self, kind: RowKind) -> Vec<Row> {
        let of_kind = self.rows.iter().filter(|(key, _)| key[1] == kind as u8);
        of_kind.map(|(key, value)| Row { key: key.clone(), value: value.clone() }).collect()
    }

    /// How many rows there are of each kind that belongs to sessions.
    pub(crate) fn session_rows(&self) -> [usize; 5] {
        [
            RowKind::Session,
            RowKind::Subscription,
            RowKind::Queued,
            RowKind::InFlight,
            RowKind::Garbage,
        ]
        .map(|kind| self.rows_of(kind).len())
    }

    /// Does all that happens by itself until nothing is left to do.
    fn settle(&mut self) {
        loop {
            let mut quiet = self.unwritten.is_empty();
            for (shard, connection) in std::mem::take(&mut self.unwritten) {
                self.input(shard, Input::Congested { connection, congested: false });
            }
            for shard in 0..self.nodes.len() {
                if self.auto_reads
                    && let Some((token, rows, more)) = self.nodes[shard].reads.pop_front()
                {
                    self.input(shard, Input::Rows { token, rows, more });
                    quiet = false;
                }
                if self.auto_peers
                    && let Some((from, message)) = self.nodes[shard].inbox.pop_front()
                {
                    self.input(shard, Input::Peer { from, message });
                    quiet = false;
                }
                let all = self.nodes[shard].unsynced.len();
                if self.auto_sync && all > 0 {
                    self.sync_some(shard, all);
                    quiet = false;
                }
            }
            if quiet {
                break;
            }
        }
    }

    fn input(&mut self, shard: usize, input: Input<'_>) {
        let mut out = Outbox::default();
        self.nodes[shard].shard.handle(input, self.now, &mut out);
        self.outputs(shard, &mut out);
    }

    fn outputs(&mut self, shard: usize, out: &mut Outbox) {
        let outputs = std::mem::take(&mut out.outputs);
        let mut opened = Vec::new();
        let mut throttled = Vec::new();
        for output in outputs {
            match output {
                Output::Opened { connection } => opened.push(link_of(connection)),
                Output::Throttled { connection } => throttled.push(connection),
                Output::Send { connection, frame } => {
                    let (head, payload) = out.frame(&frame);
                    let bytes = [head, payload].concat();
                    self.sent_to.push(link_of(connection));
                    self.arrived(link_of(connection), &bytes);
                }
                Output::Close { connection, cause } => {
                    let peer = &mut self.links[link_of(connection).0];
                    assert!(peer.closed.is_none(), "closed twice: {cause}");
                    peer.closed = Some(cause);
                }
                Output::Store(record) => {
                    self.records += 1;
                    self.note(&("store", shard, &record));
                    apply(&mut self.rows, &record);
                    let node = &mut self.nodes[shard];
                    let position = node.stored + node.unsynced.len() as u64 + 1;
                    note_put_by(&mut self.put_by, &record, position);
                    node.unsynced.push_back(record);
                }
                Output::Read { token, query, since } => {
                    self.reads += 1;
                    for (key, _) in self.rows.range(query.range.start.clone()..) {
                        let before = self.put_by.get(key).is_none_or(|put| *put <= since.0);
                        let wrong = before && since > Position::START && query.range.contains(key);
                        assert!(!wrong, "{key:?} was put before {since:?}");
                    }
                    let (rows, more) = self.look_up(&query);
                    self.nodes[shard].reads.push_back((token, rows, more));
                }
                Output::Peer { shard: to, message } => {
                    let from = ShardId(u16::try_from(shard).unwrap());
                    self.nodes[usize::from(to.0)].inbox.push_back((from, *message));
                }
                Output::Event(event) => self.events.push(*event),
                Output::Authenticate { connection, begins, data } => {
                    let data = String::from_utf8(data.into_vec()).unwrap();
                    self.asked.push((link_of(connection), begins, data));
                }
            }
        }
        for link in opened {
            let peer = &mut self.links[link.0];
            peer.opened = true;
            for bytes in std::mem::take(&mut peer.early) {
                self.raw(link, bytes);
            }
        }
        // Here everything is written at once, unless a test says that the Client does not read.
        if self.auto_writes {
            self.unwritten.extend(throttled.into_iter().map(|connection| (shard, connection)));
        }
    }

    fn arrived(&mut self, link: Link, mut bytes: &[u8]) {
        let peer = &self.links[link.0];
        assert!(peer.closed.is_none(), "sent behind Close: {bytes:?}");
        while !bytes.is_empty() {
            let version = self.links[link.0].version;
            let (packet, taken) = decode(bytes, version, usize::MAX).unwrap().unwrap();
            let got = owned(&packet);
            self.note(&("to", link.0, line(&got)));
            self.links[link.0].got.push(got);
            let largest = &mut self.links[link.0].largest;
            *largest = taken.max(*largest);
            bytes = &bytes[taken..];
        }
    }

    fn look_up(&self, query: &Query) -> (Vec<Row>, bool) {
        assert!(!query.backwards, "no reader goes backwards yet");
        let mut rows = Vec::new();
        let mut bytes = 0;
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

    /// Digests what happened; with `TRACE` in the environment, says it.
    fn note(&mut self, what: &impl std::fmt::Debug) {
        let mut text = String::new();
        write!(text, "{what:?}").unwrap();
        for byte in text.bytes() {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.verbose {
            eprintln!("{} {text}", self.now);
        }
    }
}

fn apply(rows: &mut BTreeMap<Bytes, Bytes>, record: &Record) {
    for op in &record.ops {
        match op {
            Op::Put { key, value } => {
                rows.insert(key.clone(), value.clone());
            }
            Op::PutAll { keys, value } => {
                rows.extend(keys.iter().map(|key| (key.clone(), value.clone())));
            }
            Op::Delete { key } | Op::Forget { key } => {
                rows.remove(key);
            }
        }
    }
}

fn note_put_by(put_by: &mut BTreeMap<Bytes, u64>, record: &Record, position: u64) {
    for op in &record.ops {
        match op {
            Op::Put { key, .. } => drop(put_by.insert(key.clone(), position)),
            Op::PutAll { keys, .. } => put_by.extend(keys.iter().map(|it| (it.clone(), position))),
            Op::Delete { key } | Op::Forget { key } => drop(put_by.remove(key)),
        }
    }
}

fn link_of(connection: ConnectionId) -> Link {
    Link(usize::try_from(connection.0).unwrap())
}
