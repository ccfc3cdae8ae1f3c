//! The broker's process: shards, their ends of the store, and what their threads would do, one
//! event at a time.
//!
//! It stands where the shell stands and keeps its rules: a shard looks at its store only when it
//! was woken, mail comes in the order it was sent, a connection is not read while the store or the
//! answers to it are behind, and a DISCONNECT waits for the answers to what was asked before.

mod links;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidings_broker::engine::{
    EngineOptions, Manual, Notify, OpenError, ShardStore, StoreEvent, Work,
};
use tidings_broker::journal::{FileJournal, FileJournalOptions};
use tidings_broker::store::{Store, StoreFailure};
use tidings_core::codec::{Packet, Version};
use tidings_core::limits::Limits;
use tidings_core::output::{ConnectionId, Outbox, Output};
use tidings_core::peer::PeerMessage;
use tidings_core::record::{KeyRange, Row, RowKind};
use tidings_core::shard::{Hooks, Input, Shard, ShardConfig};
use tidings_core::slot::{ShardId, Slot};

use crate::disk::SimDisk;
use crate::faults::Fault;
use crate::network::Link;
use crate::rng::Rng;
use crate::trace::Trace;

/// What the process finds when it starts.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disk: SimDisk,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) hooks: Hooks,
    pub(crate) segment_bytes: u64,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) fault: Fault,
}

/// What a connection may hold unwritten before its shard is told.
pub(crate) const OUTBOUND_SOFT_BYTES: usize = 4 * 1024;

/// What no connection may ever hold: what may be unwritten already, a burst, twice that of QoS 0,
/// and the answers to what one read brings.
pub(crate) const OUTBOUND_HARD_BYTES: usize = 5 * OUTBOUND_SOFT_BYTES;

#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Notify for Bell {
    fn notify(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Mail {
    Peer(ShardId, PeerMessage),
    /// A link whose CONNECT is the bytes.
    Connection(usize, String, Vec<u8>),
    Stop,
}

#[derive(Debug)]
struct Node {
    shard: Shard,
    store: ShardStore,
    bell: Arc<Bell>,
    mail: VecDeque<Mail>,
    appended: u64,
    stored: u64,
}

/// The server's end of a link.
#[derive(Debug)]
struct Served {
    shard: usize,
    version: Version,
    open: bool,
    input: Vec<u8>,
    congested: bool,
    /// A DISCONNECT waits for answers.
    parting: bool,
}

/// What the world has to know of what the process does.
pub(crate) trait Witness {
    /// These bytes are about to go to the Client; they may be changed on their way.
    fn sends(&mut self, id: usize, link: &Link, bytes: &mut Vec<u8>);
    /// The shard has taken in what a Client says; what follows from it is in its first `appended`
    /// records.
    fn heard(&mut self, id: usize, link: &Link, packet: &Packet<'_>, shard: usize, appended: u64);
    /// The shard knows that so many of its records are safe.
    fn stored(&mut self, shard: usize, records: u64);
}

/// The world around a step.
#[derive(Debug)]
pub(crate) struct Around<'a, W> {
    pub(crate) links: &'a mut Vec<Link>,
    pub(crate) trace: &'a mut Trace,
    pub(crate) witness: &'a mut W,
    pub(crate) rng: &'a mut Rng,
}

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Process {
    manual: Manual,
    nodes: Vec<Node>,
    served: BTreeMap<usize, Served>,
    out: Outbox,
    fault: Fault,
    /// So many more until the fault strikes.
    fault_in: usize,
    stopping: bool,
}

impl Process {
    /// Opens the store, recovers, and lets the shards begin.
    pub(crate) fn start<W: Witness>(
        machine: &Machine,
        shards: u16,
        around: &mut Around<'_, W>,
    ) -> Result<Self, OpenError> {
        let journal = FileJournal::on(
            Arc::new(machine.disk.clone()),
            FileJournalOptions {
                directory: PathBuf::from("journal"),
                segment_bytes: machine.segment_bytes,
                sync: true,
            },
        );
        let options = EngineOptions {
            shards,
            checkpoint_bytes: machine.checkpoint_bytes,
            ..EngineOptions::new("")
        };
        let (manual, stores) =
            Manual::open(&options, Box::new(journal), Arc::clone(&machine.store))?;
        let mut rows: BTreeMap<u8, Vec<Row>> = BTreeMap::new();
        manual.engine().scan(&KeyRange::prefix(&[]), &mut |key, value| {
            let row = Row {
                key: bytes::Bytes::copy_from_slice(key),
                value: bytes::Bytes::copy_from_slice(value),
            };
            rows.entry(key[1]).or_default().push(row);
        })?;
        let seed = around.rng.next();
        let now = around.trace.now;
        let mut nodes = Vec::new();
        for mut store in stores {
            let id = store.shard();
            let bell = Arc::new(Bell::default());
            store.set_notifier(Arc::clone(&bell) as Arc<dyn Notify>);
            let limits = Arc::clone(&machine.limits);
            let config = ShardConfig { id, shards, limits, seed: seed ^ u64::from(id.0) };
            let mut shard = Shard::new(config, machine.hooks.clone());
            for kind in Shard::RECOVERED {
                for row in rows.get(&(kind as u8)).into_iter().flatten() {
                    if kind == RowKind::Meta || Slot(row.key[0]).shard(shards) == id {
                        let recovered = shard.recover(row, now);
                        assert!(recovered.is_ok(), "a row cannot be read: {row:?} {recovered:?}");
                    }
                }
            }
            let mail = VecDeque::new();
            nodes.push(Node { shard, store, bell, mail, appended: 0, stored: 0 });
        }
        let mut process = Self {
            manual,
            nodes,
            served: BTreeMap::new(),
            out: Outbox::default(),
            fault: machine.fault,
            fault_in: 1 + around.rng.below(40),
            stopping: false,
        };
        for shard in 0..process.nodes.len() {
            process.handle(shard, Input::Started, around);
        }
        for row in rows.get(&(RowKind::Garbage as u8)).into_iter().flatten() {
            let shard = usize::from(Slot(row.key[0]).shard(shards).0);
            let resumed = process.nodes[shard].shard.resume_sweep(row, &mut process.out);
            assert!(resumed.is_ok(), "a note of garbage cannot be read: {row:?}");
            process.carry_out(shard, around);
        }
        Ok(process)
    }

    pub(crate) fn shards(&self) -> usize {
        self.nodes.len()
    }

    /// Whether all connections are over and nothing is to be done any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopping && self.served.is_empty()
    }

    /// Closes the store in order.
    pub(crate) fn shutdown(self) -> Result<(), StoreFailure> {
        drop(self.nodes);
        self.manual.shutdown()
    }

    /// Every row there is.
    pub(crate) fn rows(&self) -> Result<Vec<Row>, StoreFailure> {
        let mut rows = Vec::new();
        self.manual.engine().scan(&KeyRange::prefix(&[]), &mut |key, value| {
            let (key, value) = (key.to_vec().into(), value.to_vec().into());
            rows.push(Row { key, value });
        })?;
        Ok(rows)
    }

    pub(crate) fn ask_for_checkpoint(&self) {
        self.manual.engine().checkpoint();
    }

    pub(crate) fn checkpoints(&self) -> u64 {
        self.manual.engine().stats().checkpoints
    }

    /// Begins to stop.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        for node in &mut self.nodes {
            node.mail.push_back(Mail::Stop);
        }
    }

    // Steps: each answers whether there was something to do.

    /// The committer writes a group; when nobody waits for it, it may take its time.
    pub(crate) fn commit(&mut self, in_time: bool) -> Result<bool, StoreFailure> {
        match self.manual.work() {
            Work::None => return Ok(false),
            Work::Lazy if in_time => return Ok(false),
            Work::Lazy | Work::Urgent => {}
        }
        self.manual.commit()?;
        Ok(true)
    }

    pub(crate) fn checkpoint(&mut self) -> Result<bool, StoreFailure> {
        self.manual.checkpoint()
    }

    pub(crate) fn read(&mut self) -> Result<bool, StoreFailure> {
        self.manual.read()
    }

    /// A shard that was woken looks at its store.
    pub(crate) fn look<W: Witness>(
        &mut self,
        shard: usize,
        around: &mut Around<'_, W>,
    ) -> Result<bool, StoreFailure> {
        let Some(node) = self.nodes.get_mut(shard) else { return Ok(false) };
        if !node.bell.0.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        if self.strikes(Fault::LostWakeup) {
            return Ok(true);
        }
        while let Some(event) = self.nodes[shard].store.poll() {
            match event {
                StoreEvent::Stored(position) => {
                    self.nodes[shard].stored = position.0;
                    around.trace.note("stored", shard, &position.0.to_le_bytes());
                    around.witness.stored(shard, position.0);
                    self.handle(shard, Input::Stored(position), around);
                }
                StoreEvent::Rows { id, rows, more } => {
                    around.trace.note("rows", shard, &(rows.len() as u64).to_le_bytes());
                    self.handle(shard, Input::Rows { token: id, rows, more }, around);
                }
                StoreEvent::Failed(failure) => return Err(failure),
            }
        }
        Ok(true)
    }

    /// A shard takes the oldest of its mail.
    pub(crate) fn take_mail<W: Witness>(
        &mut self,
        shard: usize,
        around: &mut Around<'_, W>,
    ) -> bool {
        let Some(node) = self.nodes.get_mut(shard) else { return false };
        let Some(mail) = node.mail.pop_front() else { return false };
        match mail {
            Mail::Peer(..) if self.strikes(Fault::PeerMessageLost) => {}
            Mail::Peer(..) if self.strikes(Fault::PeerMessagesReordered) => {
                self.nodes[shard].mail.push_back(mail);
            }
            Mail::Peer(from, message) => {
                around.trace.note("peer", shard, &from.0.to_le_bytes());
                self.handle(shard, Input::Peer { from, message }, around);
            }
            Mail::Connection(link, user, bytes) => self.open(shard, link, &user, &bytes, around),
            Mail::Stop => {
                around.trace.note("stop", shard, &[]);
                self.handle(shard, Input::Stop, around);
            }
        }
        true
    }

    /// Deadlines of a shard have passed.
    pub(crate) fn time_out<W: Witness>(
        &mut self,
        shard: usize,
        around: &mut Around<'_, W>,
    ) -> bool {
        let Some(node) = self.nodes.get(shard) else { return false };
        let now = around.trace.now;
        if node.shard.next_timeout().is_none_or(|due| due > now) {
            return false;
        }
        around.trace.note("timed out", shard, &[]);
        self.handle(shard, Input::TimedOut, around);
        true
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        if self.fault != fault {
            return false;
        }
        self.fault_in = self.fault_in.saturating_sub(1);
        if self.fault_in == 0 {
            // Once in the life of a process; what may do no harm, again and again.
            let harmless = fault == Fault::PeerMessagesReordered;
            self.fault_in = if harmless { 6 } else { usize::MAX };
            return true;
        }
        false
    }

    fn handle<W: Witness>(&mut self, shard: usize, input: Input<'_>, around: &mut Around<'_, W>) {
        self.nodes[shard].shard.handle(input, around.trace.now, &mut self.out);
        self.carry_out(shard, around);
    }

    fn carry_out<W: Witness>(&mut self, shard: usize, around: &mut Around<'_, W>) {
        let mut touched = Vec::new();
        let mut outputs = std::mem::take(&mut self.out.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Send { connection, frame } => {
                    let id = link_of(connection);
                    if self.served.contains_key(&id) {
                        let (head, payload) = self.out.frame(&frame);
                        let mut bytes = [head, payload].concat();
                        around.witness.sends(id, &around.links[id], &mut bytes);
                        around.trace.note("to", id, &bytes);
                        around.links[id].send_down(&bytes);
                        touched.push(id);
                    }
                }
                Output::Store(record) => {
                    let node = &mut self.nodes[shard];
                    node.appended += 1;
                    node.store.append(record);
                }
                Output::Read { token, query, since } => {
                    self.nodes[shard].store.read_since(token, *query, since);
                }
                Output::Peer { shard: to, message } => {
                    let from = ShardId(u16::try_from(shard).unwrap());
                    self.nodes[usize::from(to.0)].mail.push_back(Mail::Peer(from, *message));
                }
                Output::Opened { connection } => {
                    if let Some(served) = self.served.get_mut(&link_of(connection)) {
                        served.open = true;
                    }
                }
                Output::Throttled { connection } => {
                    let id = link_of(connection);
                    if let Some(served) = self.served.get_mut(&id) {
                        served.congested = true;
                        touched.push(id);
                    }
                }
                Output::Close { connection, cause } => {
                    let id = link_of(connection);
                    around.trace.note("close", id, cause.to_string().as_bytes());
                    self.served.remove(&id);
                    around.links[id].server_gone = true;
                }
                Output::Authenticate { .. } => panic!("nobody here authenticates a second time"),
                Output::Event(_) => {}
            }
        }
        self.out.clear();
        self.out.outputs = outputs;
        for id in touched {
            self.weigh(shard, id, around);
        }
    }
}

fn link_of(connection: ConnectionId) -> usize {
    usize::try_from(connection.0).unwrap()
}
