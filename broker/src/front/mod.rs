//! The front: accepts connections, reads their CONNECT, has them authenticated, and hands each to
//! the shard of its session.
//!
//! A thread of its own, so that a flood of strangers costs those inside nothing but a core's share.
//! Until a connection is known it may hold no more than one small packet and one short time.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tidings_core::admission::{Admission, admit};
use tidings_core::codec::{Connect, Malformed, Packet, ReasonCode, Version, decode};
use tidings_core::limits::Limits;
use tidings_core::marks::MemoryMark;
use tidings_core::metric::Metric;
use tidings_core::output::ConnectionId;
use tidings_core::shard::{refer_connect, session_slot};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use crate::auth::{Authenticate, Credentials, Decision, Methods};
use crate::clock::Clock;
use crate::descriptors::Descriptors;
use crate::exchange::{self, Accepted, Unknown};
use crate::health::{Fatal, Health, guard, telling};
use crate::limits::ConnectionLimits;
use crate::listener::{Bound, Guest, Peer, Ready, Socket, Stream};
use crate::mail::{Introduced, Login, Post};
use crate::metrics::Metrics;
use crate::visitors::{Visitor, Visitors};

mod answers;
mod arrivals;
mod gate;
mod handover;
mod refusals;
mod strangers;

use answers::{answer, goodbye, refusal, refuse_malformed};
use arrivals::Arrivals;
use gate::{Seat, TooMany};
use handover::Handover;
use refusals::Refusals;
use strangers::{Stranger, Strangers};

/// What the front is made of.
pub(crate) struct Front {
    pub(crate) listeners: Vec<Bound>,
    /// Connections that others accepted.
    pub(crate) guests: Receiver<Guest>,
    pub(crate) posts: Vec<Post>,
    pub(crate) shards: u16,
    pub(crate) limits: Arc<Limits>,
    pub(crate) connections: ConnectionLimits,
    pub(crate) descriptors: Descriptors,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) methods: Methods,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Whoever comes is told where else to go.
    Draining,
    Stopped,
}

/// The front while it runs.
#[derive(Debug)]
pub(crate) struct FrontHandle {
    stage: watch::Sender<Stage>,
    thread: Option<JoinHandle<()>>,
}

impl FrontHandle {
    /// Lets nobody in any more, and tells whoever comes where else to go.
    pub(crate) fn drain(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Accepts nobody any more.
    pub(crate) fn stop(&mut self) {
        self.stage.send_replace(Stage::Stopped);
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

impl Front {
    /// Begins to accept.
    pub(crate) fn start(self) -> io::Result<FrontHandle> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stage, staged) = watch::channel(Stage::Serving);
        let thread = std::thread::Builder::new().name("front".to_owned()).spawn(move || {
            let health = Arc::clone(&self.health);
            guard("front", &health, || LocalSet::new().block_on(&runtime, self.run(staged)));
        })?;
        Ok(FrontHandle { stage, thread: Some(thread) })
    }

    async fn run(mut self, mut stage: watch::Receiver<Stage>) {
        let listeners = std::mem::take(&mut self.listeners);
        let guests = std::mem::replace(&mut self.guests, mpsc::channel(1).1);
        let (limits, now) = (&self.connections, self.clock.now());
        let desk = Rc::new(Desk {
            strangers: Strangers::new(
                limits.unauthenticated_max,
                limits.unauthenticated_per_address_max,
            ),
            arrivals: Arrivals::new(limits, now).into(),
            visitors: Arc::default(),
            refusals: RefCell::default(),
            handover: Handover::default(),
            front: self,
            stage: stage.clone(),
            told: Cell::default(),
        });
        desk.spawn(Rc::clone(&desk).welcome(guests));
        let shared = Rc::clone(&desk);
        desk.spawn(async move { shared.handover.run(&shared.front.posts).await });
        for listener in listeners {
            match listener.attach() {
                Ok(listener) => {
                    desk.spawn(Rc::clone(&desk).accept(listener));
                }
                Err(error) => {
                    desk.front.health.fail(Fatal::Panic(format!("front: cannot accept: {error}")));
                }
            }
        }
        // Ends when told to, or when the broker is gone.
        let _gone = stage.wait_for(|stage| *stage == Stage::Stopped).await;
    }
}

struct Desk {
    front: Front,
    strangers: Rc<Strangers>,
    arrivals: RefCell<Arrivals>,
    visitors: Arc<Visitors>,
    refusals: RefCell<Refusals>,
    handover: Handover,
    stage: watch::Receiver<Stage>,
    /// When the log was last told that descriptors are short.
    told: Cell<Option<Instant>>,
}

impl Desk {
    /// Runs a task that accepts, which must not end silently: nobody would be let in any more.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let health = Arc::clone(&self.front.health);
        let panicked = move || health.fail(Fatal::Panic("front".to_owned()));
        tokio::task::spawn_local(telling(task, panicked));
    }

    async fn accept(self: Rc<Self>, listener: Ready) {
        let listener = Rc::new(listener);
        loop {
            // The rest waits in the system's backlog, which costs nothing.
            self.wait_for_room().await;
            let (socket, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that is gone again.
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            if self.front.descriptors.is_reserved(socket.descriptor()) {
                drop(socket);
                self.tell_descriptors_are_short();
                sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
            self.arrivals.borrow_mut().accepted(self.front.clock.now());
            // Who comes through a proxy is counted once the proxy has said who it is.
            let counted = (!listener.is_behind_proxy()).then(|| self.count(address));
            if matches!(counted, Some(Err(TooMany))) {
                continue;
            }
            let stranger = self.strangers.enter();
            // At once, so that the lobby is for those who have to wait in it.
            if counted.is_some() && self.seat(&stranger, address) == Seat::Nowhere {
                continue;
            }
            let desk = Rc::clone(&self);
            if listener.is_plain() {
                let (stream, peer) = (Box::new(socket), Peer { address, certificate: None });
                let from = counted.and_then(Result::ok).flatten();
                tokio::task::spawn_local(desk.greet(stream, peer, from, stranger));
                continue;
            }
            let listener = Rc::clone(&listener);
            // Handshakes take much room, which the tasks of others need not have.
            tokio::task::spawn_local(Box::pin(async move {
                let from = counted.and_then(Result::ok).flatten();
                let opening = desk.open(&listener, socket, address, from, &stranger);
                desk.in_time(opening, &stranger, &address).await;
            }));
        }
    }

    /// Sees to a stranger who comes through no layer, or is through.
    async fn greet(
        self: Rc<Self>,
        stream: Box<dyn Stream>,
        peer: Peer,
        from: Option<Visitor>,
        stranger: Stranger,
    ) {
        let opening = async {
            if self.gets_a_place(&stranger, peer.address).await {
                self.introduce(stream, &peer, from, &stranger).await;
            }
        };
        self.in_time(opening, &stranger, &peer).await;
    }

    /// Lets a stranger take its time, but no more than there is for it; less where places are short.
    async fn in_time(
        &self,
        opening: impl Future<Output = ()>,
        stranger: &Stranger,
        peer: &dyn Display,
    ) {
        let deadline = self.front.connections.connect_timeout;
        tokio::select! {
            biased;
            () = stranger.crowded_out() => {
                self.front.metrics.count(Metric::ConnectsRefusedAddress);
                tracing::debug!(%peer, "places are short, and its address has more than its share");
            }
            in_time = timeout(deadline, opening) => {
                if in_time.is_err() {
                    self.front.metrics.count(Metric::ConnectsRefusedTimeout);
                    self.front.metrics.count(Metric::LimitConnectTimeout);
                    tracing::debug!(%peer, "no complete CONNECT in time");
                }
            }
        }
    }

    fn tell_descriptors_are_short(&self) {
        self.front.metrics.count(Metric::ConnectsRefusedBusy);
        if self.told.get().is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.told.set(Some(Instant::now()));
            let limit = self.front.descriptors.limit();
            tracing::warn!(
                limit,
                "connections are turned away: file descriptors are short; raise the limit (ulimit -Hn)"
            );
        }
    }

    /// Takes over who comes through the door.
    async fn welcome(self: Rc<Self>, mut guests: Receiver<Guest>) {
        loop {
            self.wait_for_room().await;
            let Some(Guest { stream, peer }) = guests.recv().await else {
                return std::future::pending().await;
            };
            let Ok(from) = self.count(peer.address) else { continue };
            let stranger = self.strangers.enter();
            tokio::task::spawn_local(Rc::clone(&self).greet(stream, peer, from, stranger));
        }
    }

    /// Takes a connection through the layers of its listener, and introduces it.
    async fn open(
        &self,
        listener: &Ready,
        mut socket: Socket,
        mut address: SocketAddr,
        mut from: Option<Visitor>,
        stranger: &Stranger,
    ) {
        if listener.is_behind_proxy() {
            match listener.ask_proxy(&mut socket, address).await {
                Ok(source) => address = source,
                Err(error) => return self.turn_away(address, &error),
            }
            let Ok(counted) = self.count(address) else { return };
            from = counted;
        }
        if !self.gets_a_place(stranger, address).await {
            return;
        }
        let message_bytes_max = message_bytes_max(&self.front.limits);
        match listener.open(socket, address, message_bytes_max).await {
            Ok((stream, peer)) => self.introduce(stream, &peer, from, stranger).await,
            Err(error) => self.turn_away(address, &error),
        }
    }

    /// Tells and counts whose handshake failed: of the PROXY protocol, TLS or WebSocket.
    fn turn_away(&self, address: SocketAddr, error: &io::Error) {
        tracing::debug!(peer = %address, "no handshake: {error}");
        // Who says nothing and goes is most likely a check whether somebody is here.
        use io::ErrorKind::{InvalidData, PermissionDenied};
        if matches!(error.kind(), InvalidData | PermissionDenied) {
            self.front.metrics.count(Metric::ConnectsRefusedProtocol);
        }
    }

    /// Reads CONNECT, asks who it is, and hands the connection on.
    async fn introduce(
        &self,
        mut stream: Box<dyn Stream>,
        peer: &Peer,
        from: Option<Visitor>,
        stranger: &Stranger,
    ) {
        let mut bytes = match self.read_connect(&mut *stream).await {
            Ok(bytes) => bytes,
            Err(Rude::Gone) => return,
            Err(Rude::Malformed(malformed, bytes)) => {
                self.front.metrics.count(Metric::ConnectsRefusedProtocol);
                tracing::debug!(%peer, "malformed CONNECT: {malformed}");
                return goodbye(stream, &refuse_malformed(&malformed, &bytes)).await;
            }
        };
        let Ok(Some((Packet::Connect(connect), used))) = decode(&bytes, Version::V5, usize::MAX)
        else {
            return;
        };
        // It has done its part, and waits for us now; by a method it has still more to say.
        if connect.properties.authentication_method().is_none() {
            stranger.has_introduced_itself();
        }
        let elsewhere = &self.front.limits.told.server_reference;
        if *self.stage.borrow() != Stage::Serving && !elsewhere.is_empty() {
            let connection = ConnectionId(0);
            let bytes = answer(|out| refer_connect(connection, &connect, elsewhere, out));
            return goodbye(stream, &bytes).await;
        }
        if self.front.metrics.pressure.mark() >= MemoryMark::RefuseConnections {
            self.front.metrics.count(Metric::LimitMemory);
            self.front.metrics.count(Metric::ConnectsRefusedBusy);
            return goodbye(stream, &refusal(&connect, ReasonCode::ServerBusy)).await;
        }
        let mut behind = bytes.get(used..).unwrap_or_default().to_vec();
        match self.identify(&mut *stream, &mut behind, &connect, peer).await {
            Err(Unknown::Gone) => {}
            Err(Unknown::Refused(reason)) => {
                self.front.metrics.count(Metric::refused_connect(reason));
                if let Some(left_out) = Metric::not_offered(reason) {
                    self.front.metrics.count(left_out);
                }
                let (user, now) = (connect.user_name.unwrap_or_default(), self.front.clock.now());
                self.refusals.borrow_mut().tell(user, connect.client_id, peer.address, reason, now);
                goodbye(stream, &refusal(&connect, reason)).await;
            }
            Ok(login) => {
                let shard = session_slot(&login.user, &login.client_id).shard(self.front.shards);
                if let Err(error) = stream.detach() {
                    return tracing::warn!(%peer, "cannot hand a connection on: {error}");
                }
                bytes.truncate(used);
                bytes.append(&mut behind);
                let introduced = Introduced { stream, bytes, login, from };
                self.handover.push(usize::from(shard.0), introduced, &self.front.posts);
            }
        }
    }

    async fn identify(
        &self,
        stream: &mut dyn Stream,
        input: &mut Vec<u8>,
        connect: &Connect<'_>,
        peer: &Peer,
    ) -> Result<Login, Unknown> {
        let admitted = admit(connect, &self.front.limits, assigned_client_id);
        let Admission { client_id, assigned } = admitted.map_err(Unknown::Refused)?;
        let credentials = Credentials {
            client_id: client_id.clone(),
            user_name: connect.user_name.map(str::to_owned),
            password: connect.password.map(<[u8]>::to_vec),
            peer: Some(peer.address),
            certificate: peer.certificate.clone(),
        };
        if connect.properties.authentication_method().is_some() {
            let (methods, largest) = (&self.front.methods, self.connect_bytes_max());
            let accepted =
                exchange::introduce(stream, input, connect, methods, credentials, largest);
            let Accepted { user, expires, data, reauthenticator } = Box::pin(accepted).await?;
            return Ok(Login {
                user,
                client_id,
                assigned,
                expires,
                authentication_data: data,
                reauthenticator: Some(reauthenticator),
            });
        }
        match self.front.authenticate.authenticate(credentials).await {
            Decision::Accept { user, expires } => Ok(Login {
                user,
                client_id,
                assigned,
                expires,
                authentication_data: Vec::new(),
                reauthenticator: None,
            }),
            Decision::Refuse(refusal) => Err(Unknown::Refused(refusal.reason())),
        }
    }

    /// The largest packet that is taken of a stranger.
    fn connect_bytes_max(&self) -> usize {
        self.front.connections.connect_bytes_max.min(self.front.limits.packet_bytes_max)
    }

    /// Reads until a whole CONNECT is there. What came behind it comes along.
    async fn read_connect(&self, stream: &mut dyn Stream) -> Result<Vec<u8>, Rude> {
        let largest = self.connect_bytes_max();
        let mut bytes = Vec::new();
        loop {
            match bytes.first() {
                None | Some(0x10) => {}
                // Whatever this is, it is not MQTT, and nothing is said to it. [MQTT-3.1.0-1]
                Some(_) => {
                    self.front.metrics.count(Metric::ConnectsRefusedProtocol);
                    return Err(Rude::Gone);
                }
            }
            match decode(&bytes, Version::V5, largest) {
                Ok(Some(_)) => return Ok(bytes),
                Ok(None) => {}
                Err(malformed) => return Err(Rude::Malformed(malformed, bytes)),
            }
            if stream.read_buf(&mut bytes).await.map_err(|_| Rude::Gone)? == 0 {
                return Err(Rude::Gone);
            }
        }
    }
}

/// The largest message of WebSocket: some more than the largest packet, for it may hold several.
pub(crate) fn message_bytes_max(limits: &Limits) -> u64 {
    (limits.packet_bytes_max + MESSAGE_BYTES_MORE) as u64
}

/// Why there is no CONNECT.
enum Rude {
    Gone,
    Malformed(Malformed, Vec<u8>),
}

/// A Client Identifier that nobody else has, nor can guess. [MQTT-3.1.3-6]
fn assigned_client_id() -> String {
    let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0_u64);
    format!("auto-{:016x}{:016x}", random(), random())
}

/// By how much a message of WebSocket may be larger than the largest packet.
const MESSAGE_BYTES_MORE: usize = 64 * 1024;
const TELL_EVERY: Duration = Duration::from_secs(10);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
