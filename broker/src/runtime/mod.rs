//! A shard's thread: feeds the state machine with what happens and carries out what it wants.
//!
//! One current-thread runtime; a task per connection, and one each for the mail, the store, the
//! clock and the writing. All share one [`Runtime`] and none holds it while it waits. Connections
//! that are ready are read one after the other; what they brought about is written when all had
//! their turn, so that a connection is written once however many messages it got. A panic in any
//! task ends the thread and is told: nobody knows in which state it left the shard.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidings_core::collections::Map;
use tidings_core::metric::{Counters, Metric};
use tidings_core::output::{ConnectionId, Outbox, Output};
use tidings_core::peer::PeerMessage;
use tidings_core::rate::Rate;
use tidings_core::record::Row;
use tidings_core::shard::{Input, Shard};
use tidings_core::slot::ShardId;
use tidings_core::time::Time;
use tokio::sync::Notify as Wakeup;
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::connection::{Connection, Parting, Phase};
use crate::engine::{Notify, ShardStore, StoreEvent};
use crate::health::{Fatal, Health, telling};
use crate::limits::ConnectionLimits;
use crate::mail::{Introduced, Mail, MailBox, Post};
use crate::metrics::Metrics;
use crate::observer::Observers;
use authenticate::ByMethod;

mod authenticate;
mod memory;
mod pace;
mod read;
mod write;

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
    pub(crate) metrics: Arc<Metrics>,
    /// The store answers at once: look without being woken.
    pub(crate) immediate: bool,
}

/// Everything that a shard's tasks share.
pub(crate) struct Runtime {
    id: ShardId,
    shard: Shard,
    store: ShardStore,
    out: Outbox,
    /// Boxed, as the shard's sessions are.
    connections: Map<ConnectionId, Box<Connection>>,
    /// The connections that were authenticated by a method, and may be again.
    methods: Map<ConnectionId, ByMethod>,
    last_connection: u64,
    dirty: Vec<ConnectionId>,
    /// Connections that have written what they had, for the shard to be told of.
    relieved: VecDeque<ConnectionId>,
    /// Connections that are not read while the store, or the answers to them, are behind.
    stalled: Vec<ConnectionId>,
    /// Connections that have to be looked at because they are stuck.
    stuck: BTreeSet<(Time, ConnectionId)>,
    /// How fast a connection may publish, and those that are not read because they are faster.
    publishes: Option<Rate>,
    paused: BTreeSet<(Time, ConnectionId)>,
    posts: Vec<Post>,
    clock: Clock,
    /// When it was looked last. The shard is never told an earlier time than one before.
    looked: Time,
    observers: Observers,
    limits: ConnectionLimits,
    packet_bytes_max: usize,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// The shard's own; this thread alone writes there.
    counters: Arc<Counters>,
    immediate: bool,
    failed: bool,
    stopping: bool,
    scratch: Box<[u8]>,
    wake_writer: Option<Waker>,
    wake_reliever: Option<Waker>,
    wake_clock: Option<Waker>,
    wake_end: Option<Waker>,
    /// When the clock's task will wake.
    armed: Option<Time>,
    /// Bytes that connections hold, and what they were when somebody looked.
    held: usize,
    held_looked: usize,
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
            counters: Arc::clone(parts.shard.counters()),
            shard: parts.shard,
            store,
            out: Outbox::default(),
            connections: Map::default(),
            methods: Map::default(),
            last_connection: 0,
            dirty: Vec::new(),
            relieved: VecDeque::new(),
            stalled: Vec::new(),
            stuck: BTreeSet::new(),
            publishes: parts.limits.publishes(),
            paused: BTreeSet::new(),
            posts: parts.posts,
            looked: parts.clock.now(),
            clock: parts.clock,
            observers: parts.observers,
            limits: parts.limits,
            packet_bytes_max: parts.packet_bytes_max,
            health: parts.health,
            metrics: parts.metrics,
            immediate: parts.immediate,
            failed: false,
            stopping: false,
            scratch: vec![0; SCRATCH_BYTES].into(),
            wake_writer: None,
            wake_reliever: None,
            wake_clock: None,
            wake_end: None,
            armed: None,
            held: 0,
            held_looked: 0,
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
        let write = poll_fn(move |cx| writer.borrow_mut().poll_writer(cx));
        // It has an end of its own: what is dirty. With a budget it would put off the rest, and
        // every connection beyond it would be written by its own task.
        spawn(&shared, tokio::task::unconstrained(write));
        let reliever = Rc::clone(&shared);
        spawn(&shared, async move {
            loop {
                poll_fn(|cx| reliever.borrow_mut().poll_reliever(cx)).await;
                tokio::task::yield_now().await;
            }
        });
        spawn(&shared, run_store(Rc::clone(&shared), bell));
        spawn(&shared, run_clock(Rc::clone(&shared)));
        let reader = Rc::clone(&shared);
        spawn(&shared, async move {
            let mut batch = Vec::new();
            while mail.take(&mut batch).await {
                for mail in batch.drain(..) {
                    receive_mail(&reader, mail);
                }
                reader.borrow_mut().wake_stalled();
                tokio::task::yield_now().await;
            }
        });
        poll_fn(|cx| shared.borrow_mut().poll_end(cx)).await;
    }

    fn panicked(&mut self) {
        self.failed = true;
        self.connections.clear();
        self.health.fail(Fatal::Panic(format!("shard-{}", self.id.0)));
        wake(self.wake_end.as_ref());
    }

    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.wake_end = Some(cx.waker().clone());
        if self.failed || (self.stopping && self.connections.is_empty()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Looks at the clock.
    fn look(&mut self) -> Time {
        self.looked = self.clock.now();
        self.looked
    }

    /// Tells the shard something and does what it wants.
    fn handle(&mut self, input: Input<'_>) {
        let now = self.look();
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
        self.look_at_held();
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Send { connection, frame } => {
                let Some(to) = self.connections.get_mut(&connection) else { return };
                let (head, payload) = self.out.frame(&frame);
                to.push(head);
                if !payload.is_empty() {
                    to.push(payload);
                }
                let (before, held) = to.count_held();
                self.held = (self.held + held).saturating_sub(before);
                // As `mark_dirty`, which would look for it once more.
                if !std::mem::replace(&mut to.dirty, true) {
                    self.dirty.push(connection);
                    wake(self.wake_writer.as_ref());
                }
            }
            Output::Store(record) => {
                self.store.append(record);
            }
            Output::Read { token, query, since } => self.store.read_since(token, *query, since),
            Output::Peer { shard, message } => self.post(shard, *message),
            Output::Opened { connection } => {
                if let Some(opened) = self.connections.get_mut(&connection) {
                    opened.phase = Phase::Open;
                    opened.connected = true;
                    self.metrics.connected();
                    wake(opened.waker.as_ref());
                }
            }
            Output::Throttled { connection } => {
                if let Some(throttled) = self.connections.get_mut(&connection) {
                    throttled.congested = true;
                    self.mark_dirty(connection);
                }
            }
            Output::Authenticate { connection, begins, data } => {
                self.authenticate(connection, begins, data);
            }
            Output::Close { connection, cause } => self.close(connection, &cause),
            Output::Event(event) => {
                if !self.observers.tell(*event) {
                    self.counters.add(Metric::EventsLost, 1);
                }
            }
        }
    }

    fn post(&self, shard: ShardId, message: PeerMessage) {
        let Some(post) = self.posts.get(usize::from(shard.0)) else { return };
        let may_be_lost = matches!(
            &message,
            PeerMessage::Publish { token: None, .. } | PeerMessage::Hand { token: None, .. }
        );
        if may_be_lost && post.is_crowded() {
            self.counters.add(Metric::DroppedShardBehind, 1);
            tracing::debug!(shard = shard.0, "shard is behind: a message is dropped");
            return;
        }
        post.send(Mail::Peer(self.id, message));
    }

    /// What the store has to say; `false`: nothing.
    fn poll_store(&mut self) -> bool {
        let mut anything = false;
        while let Some(event) = self.store.poll() {
            anything = true;
            let now = self.look();
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
                    self.health.fail(failure.into());
                    wake(self.wake_end.as_ref());
                    return false;
                }
            }
        }
        self.wake_stalled();
        anything
    }

    /// Lets connections be read again that waited for the store, or for answers to what they asked.
    pub(super) fn wake_stalled(&mut self) {
        if self.stalled.is_empty() || self.store.backlog().is_full() {
            return;
        }
        let Self { stalled, connections, shard, metrics, .. } = self;
        stalled.retain(|id| {
            let Some(connection) = connections.get_mut(id) else { return false };
            let parting = connection.parting == Parting::Waits && shard.is_answering(*id);
            let held = connection.holds_publish && memory::must_hold(metrics, shard, *id);
            if parting || held || shard.is_behind(*id) {
                return true;
            }
            connection.stalled = false;
            wake(connection.waker.as_ref());
            false
        });
    }

    /// Sees to it that the clock's task wakes in time.
    fn arm_clock(&mut self) {
        let stuck = self.stuck.first().map(|(due, _)| *due);
        let paused = self.paused.first().map(|(due, _)| *due);
        let next = self.shard.next_timeout().into_iter().chain(stuck).chain(paused).min();
        if next != self.armed && next.is_some_and(|next| self.armed.is_none_or(|it| next < it)) {
            self.armed = next;
            wake(self.wake_clock.as_ref());
        }
    }

    /// Does what is due. Asked before anything is read: the runtime's timers wait until much that
    /// is ready had its turn, and what was acknowledged has its time to get stored.
    fn keep_time(&mut self) {
        let now = self.look();
        if self.armed.is_some_and(|due| due <= now) {
            self.timed_out();
        }
    }

    /// Deadlines have passed.
    fn timed_out(&mut self) {
        self.armed = None;
        let now = self.look();
        if self.shard.next_timeout().is_some_and(|due| due <= now) {
            self.handle(Input::TimedOut);
            self.wake_stalled();
        }
        while let Some((due, id)) = self.stuck.first().copied()
            && due <= now
        {
            self.stuck.pop_first();
            self.check_stuck(id, now);
        }
        self.end_pauses(now);
        self.arm_clock();
    }
}

/// A task's waker, if it has been polled already; if not it will be.
fn wake(waker: Option<&Waker>) {
    if let Some(waker) = waker {
        waker.wake_by_ref();
    }
}

/// Runs a task of the shard. If it panics, nobody knows in which state the shard is: the broker is
/// told, and this thread ends.
fn spawn(shared: &Shared, task: impl Future<Output = ()> + 'static) {
    let shared = Rc::clone(shared);
    tokio::task::spawn_local(telling(task, move || shared.borrow_mut().panicked()));
}

fn introduce(shared: &Shared, introduced: Introduced) {
    let introduced = shared.borrow_mut().introduce(introduced);
    if let Some(id) = introduced {
        let this = Rc::clone(shared);
        spawn(shared, poll_fn(move |cx| this.borrow_mut().poll_connection(id, cx)));
    }
}

fn receive_mail(shared: &Shared, mail: Mail) {
    let mut runtime = shared.borrow_mut();
    match mail {
        Mail::Peer(from, message) => runtime.handle(Input::Peer { from, message }),
        Mail::Authenticated(answer) => runtime.authenticated(*answer),
        Mail::Connection(introduced) => {
            if let Some(older) = runtime.older_connection(&introduced) {
                runtime.hear_out(older);
            }
            drop(runtime);
            introduce(shared, *introduced);
        }
        Mail::Disk { low } => runtime.handle(Input::Disk { low }),
        Mail::Memory { .. } | Mail::Slowest(_) => runtime.memory_mail(mail),
        Mail::System(values) => runtime.handle(Input::System(values)),
        Mail::RightsChanged => runtime.handle(Input::RightsChanged),
        Mail::Revoked(user) => runtime.handle(Input::Revoked { user: user.as_deref() }),
        Mail::Stop => {
            runtime.stopping = true;
            runtime.handle(Input::Stop);
            wake(runtime.wake_end.as_ref());
            // A Client that takes its time, byte by byte, does not keep the broker from stopping.
            let stop_timeout = runtime.limits.stop_timeout;
            let this = Rc::clone(shared);
            spawn(shared, async move {
                tokio::time::sleep(stop_timeout).await;
                let mut runtime = this.borrow_mut();
                runtime.connections.clear();
                wake(runtime.wake_end.as_ref());
            });
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
    runtime.keep_time();
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
