//! A shard's thread: feeds the state machine with what happens and carries out what it wants.
//!
//! One current-thread runtime; a task per connection, and one each for the mail, the store, the
//! clock and the writing. All share one [`Runtime`] and none holds it while it waits. Connections
//! that are ready are read one after the other; what they brought about is written when all had
//! their turn, so that a connection is written once however many messages it got.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidings_core::codec::{Packet, Version, decode};
use tidings_core::output::{CloseCause, ConnectionId, Outbox, Output};
use tidings_core::peer::PeerMessage;
use tidings_core::record::Row;
use tidings_core::shard::{Input, Open, Shard};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;
use tokio::net::TcpStream;
use tokio::sync::Notify as Wakeup;
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::connection::{Connection, Phase};
use crate::engine::{Notify, ShardStore, StoreEvent};
use crate::health::{Fatal, Health};
use crate::limits::ConnectionLimits;
use crate::mail::{Introduced, Mail, MailBox, Post};
use crate::observer::Observers;

/// What a shard's thread begins with.
pub(crate) struct RuntimeParts {
    pub(crate) id: ShardId,
    pub(crate) shard: Shard,
    pub(crate) store: ShardStore,
    /// Rows whose deletion a crash interrupted.
    pub(crate) garbage: Vec<Row>,
    pub(crate) mail: MailBox,
    pub(crate) posts: Vec<Post>,
    pub(crate) clock: Clock,
    pub(crate) observers: Observers,
    pub(crate) limits: ConnectionLimits,
    pub(crate) packet_bytes_max: usize,
    pub(crate) health: Arc<Health>,
    /// The store answers at once: look without being woken.
    pub(crate) immediate: bool,
}

/// Everything that a shard's tasks share.
pub(crate) struct Runtime {
    id: ShardId,
    shard: Shard,
    store: ShardStore,
    out: Outbox,
    connections: HashMap<ConnectionId, Connection>,
    last_connection: u64,
    dirty: Vec<ConnectionId>,
    /// Connections that are not read while the store is behind.
    stalled: Vec<Waker>,
    /// Connections that have to be looked at because they are stuck.
    stuck: BTreeSet<(Time, ConnectionId)>,
    posts: Vec<Post>,
    clock: Clock,
    observers: Observers,
    limits: ConnectionLimits,
    packet_bytes_max: usize,
    health: Arc<Health>,
    immediate: bool,
    failed: bool,
    stopping: bool,
    scratch: Box<[u8]>,
    wake_writer: Option<Waker>,
    wake_clock: Option<Waker>,
    wake_end: Option<Waker>,
    /// When the clock's task will wake.
    armed: Option<Time>,
}

type Shared = Rc<RefCell<Runtime>>;

/// The store's threads wake the shard's through this.
struct StoreBell(Wakeup);

impl Notify for StoreBell {
    fn notify(&self) {
        self.0.notify_one();
    }
}

impl Runtime {
    /// Runs the thread until the broker stops or cannot go on.
    pub(crate) fn run(parts: RuntimeParts, ready: mpsc::Sender<()>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let name = format!("shard-{} ({error})", parts.id.0);
                return parts.health.fail(Fatal::Panic(name));
            }
        };
        LocalSet::new().block_on(&runtime, Self::serve(parts, ready));
    }

    async fn serve(parts: RuntimeParts, ready: mpsc::Sender<()>) {
        let RuntimeParts { mut mail, garbage, mut store, .. } = parts;
        let bell = Arc::new(StoreBell(Wakeup::new()));
        store.set_notifier(Arc::clone(&bell) as Arc<dyn Notify>);
        let mut runtime = Self {
            id: parts.id,
            shard: parts.shard,
            store,
            out: Outbox::default(),
            connections: HashMap::new(),
            last_connection: 0,
            dirty: Vec::new(),
            stalled: Vec::new(),
            stuck: BTreeSet::new(),
            posts: parts.posts,
            clock: parts.clock,
            observers: parts.observers,
            limits: parts.limits,
            packet_bytes_max: parts.packet_bytes_max,
            health: parts.health,
            immediate: parts.immediate,
            failed: false,
            stopping: false,
            scratch: vec![0; SCRATCH_BYTES].into(),
            wake_writer: None,
            wake_clock: None,
            wake_end: None,
            armed: None,
        };
        runtime.handle(Input::Started);
        for row in &garbage {
            if let Err(error) = runtime.shard.resume_sweep(row, &mut runtime.out) {
                tracing::warn!("a note of rows to delete cannot be read: {error}");
            }
        }
        runtime.carry_out();
        let _starter_gave_up = ready.send(());

        let shared = Rc::new(RefCell::new(runtime));
        let writer = Rc::clone(&shared);
        tokio::task::spawn_local(poll_fn(move |cx| writer.borrow_mut().poll_writer(cx)));
        tokio::task::spawn_local(run_store(Rc::clone(&shared), bell));
        tokio::task::spawn_local(run_clock(Rc::clone(&shared)));
        let reader = Rc::clone(&shared);
        tokio::task::spawn_local(async move {
            let mut batch = Vec::new();
            while mail.take(&mut batch).await {
                for mail in batch.drain(..) {
                    receive_mail(&reader, mail);
                }
                tokio::task::yield_now().await;
            }
        });
        poll_fn(|cx| shared.borrow_mut().poll_end(cx)).await;
    }

    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.wake_end = Some(cx.waker().clone());
        if self.failed || (self.stopping && self.connections.is_empty()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Tells the shard something and does what it wants.
    fn handle(&mut self, input: Input<'_>) {
        let now = self.clock.now();
        self.shard.handle(input, now, &mut self.out);
        self.carry_out();
    }

    /// Does what the shard wants, until it wants nothing more.
    fn carry_out(&mut self) {
        loop {
            let mut outputs = std::mem::take(&mut self.out.outputs);
            for output in outputs.drain(..) {
                self.carry_out_one(output);
            }
            self.out.clear();
            // Its memory is as good as new.
            self.out.outputs = outputs;
            if !self.immediate || !self.poll_store() {
                break;
            }
        }
        self.arm_clock();
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Send { connection, frame } => {
                let Some(to) = self.connections.get_mut(&connection) else { return };
                let (head, payload) = self.out.frame(&frame);
                to.push(head);
                to.push(payload);
                self.mark_dirty(connection);
            }
            Output::Store(record) => {
                self.store.append(record);
            }
            Output::Read { token, query } => self.store.read(token, query),
            Output::Peer { shard, message } => self.post(shard, message),
            Output::Opened { connection } => {
                if let Some(opened) = self.connections.get_mut(&connection) {
                    opened.phase = Phase::Open;
                    wake(opened.waker.as_ref());
                }
            }
            Output::Throttled { connection } => {
                if let Some(throttled) = self.connections.get_mut(&connection) {
                    throttled.congested = true;
                    self.mark_dirty(connection);
                }
            }
            Output::Close { connection, cause } => self.close(connection, &cause),
            Output::Event(event) => self.observers.tell(event),
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
            wake(self.wake_writer.as_ref());
        }
    }

    fn post(&self, shard: ShardId, message: PeerMessage) {
        let Some(post) = self.posts.get(usize::from(shard.0)) else { return };
        let may_be_lost = matches!(&message, PeerMessage::Publish { token: None, .. });
        if may_be_lost && post.is_crowded() {
            tracing::debug!(shard = shard.0, "shard is behind: a message is dropped");
            return;
        }
        post.send(Mail::Peer(self.id, message));
    }

    fn close(&mut self, id: ConnectionId, cause: &CloseCause) {
        if let Some(connection) = self.connections.get_mut(&id) {
            tracing::debug!(connection = id.0, "closing: {cause}");
            connection.phase = Phase::Closing;
            connection.input = Vec::new();
            self.watch(id);
            self.mark_dirty(id);
        }
    }

    /// Looks at a connection again after a while: it cannot write, or lingers.
    fn watch(&mut self, id: ConnectionId) {
        let now = self.clock.now();
        if let Some(connection) = self.connections.get_mut(&id) {
            let patience = match connection.phase {
                Phase::Opening | Phase::Open => self.limits.unsent_timeout,
                Phase::Closing | Phase::Lingering => LINGER,
            };
            if connection.stuck_since.is_none() || connection.phase > Phase::Open {
                connection.stuck_since = Some(now);
                self.stuck.insert((now + patience, id));
            }
        }
    }

    /// A connection that came from the front.
    fn introduce(&mut self, introduced: Introduced) -> Option<ConnectionId> {
        let Introduced { stream, mut bytes, user, client_id, assigned } = introduced;
        let stream = TcpStream::from_std(stream).ok()?;
        let Ok(Some((Packet::Connect(connect), used))) = decode(&bytes, Version::V5, usize::MAX)
        else {
            return None;
        };
        let version = connect.version;
        self.last_connection += 1;
        let id = ConnectionId(self.last_connection);
        // What came behind CONNECT waits until the session is open.
        let input = bytes.get(used..).unwrap_or_default().to_vec();
        self.connections.insert(id, Connection::new(Box::new(stream), version, input));
        tracing::debug!(connection = id.0, user, client_id, "opening");
        let open = Open { connection: id, user: &user, client_id: &client_id, assigned, connect };
        self.handle(Input::Open(open));
        bytes.clear();
        Some(id)
    }

    /// The task of a connection.
    fn poll_connection(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(()) };
        if !connection.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            connection.waker = Some(cx.waker().clone());
        }
        if connection.unwritten() > 0 && !self.write(id, cx) {
            return Poll::Ready(());
        }
        for _ in 0..READS_PER_TURN {
            match self.poll_phase(id, cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        // The others are to have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One step of a connection: `Ready(true)`: there may be more to do, `false`: it is gone.
    fn poll_phase(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(false) };
        match connection.phase {
            Phase::Opening => return Poll::Pending,
            Phase::Closing => {
                if connection.unwritten() > 0 {
                    return Poll::Pending;
                }
                if connection.poll_shutdown(cx).is_pending() {
                    return Poll::Pending;
                }
                connection.phase = Phase::Lingering;
                self.watch(id);
                return Poll::Ready(true);
            }
            Phase::Lingering => {
                return match connection.poll_read(cx, &mut self.scratch) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(1..)) => Poll::Ready(true),
                    Poll::Ready(_) => Poll::Ready(self.forget(id)),
                };
            }
            Phase::Open => {}
        }
        // Writing wakes the task again when there is room.
        if connection.unwritten() > self.limits.outbound_soft_bytes {
            return Poll::Pending;
        }
        if self.store.backlog().is_full() {
            self.stalled.push(cx.waker().clone());
            return Poll::Pending;
        }
        let input = std::mem::take(&mut connection.input);
        if !input.is_empty() && !connection.waits_for_more {
            self.receive(id, input, 0);
            return Poll::Ready(true);
        }
        connection.input = input;
        let mut scratch = std::mem::take(&mut self.scratch);
        let Some(connection) = self.connections.get_mut(&id) else { return Poll::Ready(false) };
        let read = connection.poll_read(cx, &mut scratch);
        let result = match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(read @ 1..)) => {
                let bytes = scratch.get(..read).unwrap_or_default();
                self.receive_bytes(id, bytes);
                Poll::Ready(true)
            }
            Poll::Ready(end) => {
                tracing::debug!(connection = id.0, ?end, "lost");
                self.handle(Input::Closed { connection: id });
                Poll::Ready(self.forget(id))
            }
        };
        self.scratch = scratch;
        result
    }

    /// Takes bytes behind what there is of an unfinished packet.
    fn receive_bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.input.is_empty() {
            let used = self.receive_packets(id, bytes);
            let rest = bytes.get(used..).unwrap_or_default();
            self.keep_rest(id, rest.to_vec());
        } else {
            let mut input = std::mem::take(&mut connection.input);
            input.extend_from_slice(bytes);
            self.receive(id, input, 0);
        }
    }

    fn receive(&mut self, id: ConnectionId, mut input: Vec<u8>, from: usize) {
        let used = self.receive_packets(id, input.get(from..).unwrap_or_default());
        input.drain(..from + used);
        self.keep_rest(id, input);
    }

    fn keep_rest(&mut self, id: ConnectionId, rest: Vec<u8>) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.phase == Phase::Open
        {
            connection.waits_for_more = true;
            connection.input = rest;
        }
    }

    /// Hands every whole packet to the shard; how many bytes they were.
    fn receive_packets(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        let Some(connection) = self.connections.get(&id) else { return bytes.len() };
        let version = connection.version;
        let now = self.clock.now();
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match decode(rest, version, self.packet_bytes_max) {
                Ok(None) => break,
                Ok(Some((packet, length))) => {
                    used += length;
                    let input = Input::Received { connection: id, packet };
                    self.shard.handle(input, now, &mut self.out);
                }
                Err(cause) => {
                    used = bytes.len();
                    let input = Input::Malformed { connection: id, cause };
                    self.shard.handle(input, now, &mut self.out);
                    break;
                }
            }
            if self.out.outputs.len() >= OUTPUTS_PER_BATCH {
                self.carry_out();
            }
        }
        self.carry_out();
        used
    }

    /// Writes what there is; `false`: the connection is gone.
    fn write(&mut self, id: ConnectionId, cx: &mut Context<'_>) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let result = connection.poll_write(cx);
        let unwritten = connection.unwritten();
        let was_congested = connection.congested;
        match result {
            Poll::Ready(Ok(())) => {
                connection.stuck_since = None;
                if connection.phase == Phase::Closing {
                    wake(connection.waker.as_ref());
                }
            }
            Poll::Ready(Err(_)) => {
                self.handle(Input::Closed { connection: id });
                return self.forget(id);
            }
            Poll::Pending => self.watch(id),
        }
        let congested = if was_congested {
            unwritten > self.limits.outbound_soft_bytes / 4
        } else {
            unwritten > self.limits.outbound_soft_bytes
        };
        if unwritten > self.limits.outbound_hard_bytes {
            tracing::debug!(connection = id.0, unwritten, "client does not read: closed");
            self.handle(Input::Closed { connection: id });
            return self.forget(id);
        }
        if congested != was_congested {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.congested = congested;
            }
            self.handle(Input::Congested { connection: id, congested });
        }
        true
    }

    /// Drops a connection; always `false`.
    fn forget(&mut self, id: ConnectionId) -> bool {
        if let Some(connection) = self.connections.remove(&id) {
            wake(connection.waker.as_ref());
        }
        if self.stopping && self.connections.is_empty() {
            wake(self.wake_end.as_ref());
        }
        false
    }

    /// The task that writes: it comes after those that were ready when the first wanted to.
    fn poll_writer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wake_writer = Some(cx.waker().clone());
        while !self.dirty.is_empty() {
            for id in std::mem::take(&mut self.dirty) {
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                connection.dirty = false;
                // Its own task is to be woken when there is room again.
                if let Some(waker) = connection.waker.clone() {
                    self.write(id, &mut Context::from_waker(&waker));
                }
            }
        }
        Poll::Pending
    }

    /// What the store has to say; `false`: nothing.
    fn poll_store(&mut self) -> bool {
        let mut anything = false;
        while let Some(event) = self.store.poll() {
            anything = true;
            let now = self.clock.now();
            match event {
                StoreEvent::Stored(position) => {
                    self.shard.handle(Input::Stored(position), now, &mut self.out);
                }
                StoreEvent::Rows { id, rows, more } => {
                    let input = Input::Rows { token: id, rows, more };
                    self.shard.handle(input, now, &mut self.out);
                }
                StoreEvent::Failed(failure) => {
                    self.failed = true;
                    self.connections.clear();
                    self.health.fail(Fatal::Store(failure));
                    wake(self.wake_end.as_ref());
                    return false;
                }
            }
        }
        if !self.stalled.is_empty() && !self.store.backlog().is_full() {
            for waker in self.stalled.drain(..) {
                waker.wake();
            }
        }
        anything
    }

    /// Sees to it that the clock's task wakes in time.
    fn arm_clock(&mut self) {
        let stuck = self.stuck.first().map(|(due, _)| *due);
        let next = self.shard.next_timeout().into_iter().chain(stuck).min();
        if next != self.armed && next.is_some_and(|next| self.armed.is_none_or(|it| next < it)) {
            self.armed = next;
            wake(self.wake_clock.as_ref());
        }
    }

    /// Deadlines have passed.
    fn timed_out(&mut self) {
        self.armed = None;
        let now = self.clock.now();
        if self.shard.next_timeout().is_some_and(|due| due <= now) {
            self.handle(Input::TimedOut);
        }
        while let Some((due, id)) = self.stuck.first().copied()
            && due <= now
        {
            self.stuck.pop_first();
            self.check_stuck(id, now);
        }
        self.arm_clock();
    }

    fn check_stuck(&mut self, id: ConnectionId, now: Time) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(since) = connection.stuck_since else { return };
        let open = connection.phase <= Phase::Open;
        let patience = if open { self.limits.unsent_timeout } else { LINGER };
        if now.since(since) < patience {
            self.stuck.insert((since + patience, id));
            return;
        }
        if open {
            tracing::debug!(connection = id.0, "client does not read: closed");
            self.handle(Input::Closed { connection: id });
        }
        self.forget(id);
    }
}

/// A task's waker, if it has been polled already; if not it will be.
fn wake(waker: Option<&Waker>) {
    if let Some(waker) = waker {
        waker.wake_by_ref();
    }
}

fn receive_mail(shared: &Shared, mail: Mail) {
    let mut runtime = shared.borrow_mut();
    match mail {
        Mail::Peer(from, message) => runtime.handle(Input::Peer { from, message }),
        Mail::Connection(introduced) => {
            if let Some(id) = runtime.introduce(*introduced) {
                let shared = Rc::clone(shared);
                tokio::task::spawn_local(poll_fn(move |cx| {
                    shared.borrow_mut().poll_connection(id, cx)
                }));
            }
        }
        Mail::Stop => {
            runtime.stopping = true;
            runtime.handle(Input::Stop);
            wake(runtime.wake_end.as_ref());
        }
    }
}

async fn run_store(shared: Shared, bell: Arc<StoreBell>) {
    loop {
        look_at_store(&shared);
        bell.0.notified().await;
    }
}

fn look_at_store(shared: &Shared) {
    let mut runtime = shared.borrow_mut();
    runtime.poll_store();
    runtime.carry_out();
}

async fn run_clock(shared: Shared) {
    let mut sleep = pin!(tokio::time::sleep(Duration::MAX));
    let mut sleeping_until = None;
    poll_fn(move |cx| {
        loop {
            let mut runtime = shared.borrow_mut();
            runtime.wake_clock = Some(cx.waker().clone());
            let Some(due) = runtime.armed else { return Poll::<()>::Pending };
            if sleeping_until != Some(due) {
                sleeping_until = Some(due);
                sleep.as_mut().reset(runtime.clock.instant(due));
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            sleeping_until = None;
            runtime.timed_out();
        }
    })
    .await;
}

/// What is read from a connection at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// How often a connection is read before the others have their turn.
const READS_PER_TURN: usize = 4;

/// Outputs that gather before they are carried out.
const OUTPUTS_PER_BATCH: usize = 1024;

/// How long a closed connection may take to read the last words.
const LINGER: Duration = Duration::from_secs(1);
