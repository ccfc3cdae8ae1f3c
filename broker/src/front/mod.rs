//! The front: accepts connections, reads their CONNECT, has them authenticated, and hands each to
//! the shard of its session.
//!
//! A thread of its own, so that a flood of strangers costs those inside nothing but a core's share.
//! Until a connection is known it may hold no more than one small packet and one short time.

use std::cell::Cell;
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
use tidings_core::output::{ConnectionId, Outbox, Output};
use tidings_core::shard::{refer_connect, refuse_connect, session_slot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{self, Receiver};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use crate::auth::{Authenticate, Credentials, Decision, Methods};
use crate::descriptors::Descriptors;
use crate::exchange::{self, Accepted, Unknown};
use crate::health::{Fatal, Health, telling};
use crate::limits::ConnectionLimits;
use crate::listener::{Bound, Guest, Peer, Ready, Socket, Stream};
use crate::mail::{Introduced, Login, Mail, Post};
use crate::metrics::Metrics;

mod strangers;

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
        let thread = std::thread::Builder::new()
            .name("front".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, self.run(staged)))?;
        Ok(FrontHandle { stage, thread: Some(thread) })
    }

    async fn run(mut self, mut stage: watch::Receiver<Stage>) {
        let listeners = std::mem::take(&mut self.listeners);
        let guests = std::mem::replace(&mut self.guests, mpsc::channel(1).1);
        let desk = Rc::new(Desk {
            front: self,
            strangers: Rc::default(),
            stage: stage.clone(),
            told: Cell::default(),
        });
        desk.spawn(Rc::clone(&desk).welcome(guests));
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
            let mut stranger = self.strangers.enter();
            // Who comes through a proxy is counted once the proxy has said who it is.
            if !listener.is_behind_proxy() && !self.may_enter(&mut stranger, address) {
                continue;
            }
            let (desk, listener) = (Rc::clone(&self), Rc::clone(&listener));
            tokio::task::spawn_local(async move {
                let deadline = desk.front.connections.connect_timeout;
                let opening = desk.open(&listener, socket, address, &mut stranger);
                if timeout(deadline, opening).await.is_err() {
                    desk.front.metrics.count(Metric::LimitConnectTimeout);
                    desk.front.metrics.count(Metric::ConnectsRefusedTimeout);
                    tracing::debug!(peer = %address, "no complete CONNECT in time");
                }
            });
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
            let mut stranger = self.strangers.enter();
            if !self.may_enter(&mut stranger, peer.address) {
                continue;
            }
            let desk = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                let _until_it_is_known = stranger;
                let deadline = desk.front.connections.connect_timeout;
                if timeout(deadline, desk.introduce(stream, &peer)).await.is_err() {
                    desk.front.metrics.count(Metric::LimitConnectTimeout);
                    desk.front.metrics.count(Metric::ConnectsRefusedTimeout);
                    tracing::debug!(%peer, "no complete CONNECT in time");
                }
            });
        }
    }

    async fn wait_for_room(&self) {
        if self.strangers.count() >= self.front.connections.unauthenticated_max {
            self.front.metrics.count(Metric::LimitUnauthenticated);
        }
        while self.strangers.count() >= self.front.connections.unauthenticated_max {
            sleep(PAUSE_WHEN_FULL).await;
        }
    }

    fn may_enter(&self, stranger: &mut Stranger, address: SocketAddr) -> bool {
        let max = self.front.connections.unauthenticated_per_address_max;
        let may = stranger.comes_from(address.ip(), max);
        if !may {
            self.front.metrics.count(Metric::LimitUnauthenticatedPerAddress);
            self.front.metrics.count(Metric::ConnectsRefusedAddress);
            tracing::debug!(peer = %address, "too many unauthenticated connections from one address");
        }
        may
    }

    /// Takes a connection through the layers of its listener, and introduces it.
    async fn open(
        &self,
        listener: &Ready,
        mut socket: Socket,
        mut address: SocketAddr,
        stranger: &mut Stranger,
    ) {
        if listener.is_behind_proxy() {
            match listener.ask_proxy(&mut socket, address).await {
                Ok(source) => address = source,
                Err(error) => return self.turn_away(address, &error),
            }
            if !self.may_enter(stranger, address) {
                return;
            }
        }
        let message_bytes_max = message_bytes_max(&self.front.limits);
        match listener.open(socket, address, message_bytes_max).await {
            Ok((stream, peer)) => self.introduce(stream, &peer).await,
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
    async fn introduce(&self, mut stream: Box<dyn Stream>, peer: &Peer) {
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
                tracing::debug!(%peer, client_id = connect.client_id, "refused: {reason}");
                goodbye(stream, &refusal(&connect, reason)).await;
            }
            Ok(login) => {
                let shard = session_slot(&login.user, &login.client_id).shard(self.front.shards);
                let Some(post) = self.front.posts.get(usize::from(shard.0)) else { return };
                if let Err(error) = stream.detach() {
                    return tracing::warn!(%peer, "cannot hand a connection on: {error}");
                }
                bytes.truncate(used);
                bytes.append(&mut behind);
                let introduced = Introduced { stream, bytes, login };
                post.send(Mail::Connection(Box::new(introduced)));
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
            let Accepted { user, expires, data, reauthenticator } = accepted.await?;
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

/// The CONNACK that refuses a well-formed CONNECT.
fn refusal(connect: &Connect<'_>, reason: ReasonCode) -> Vec<u8> {
    answer(|out| refuse_connect(ConnectionId(0), connect, reason, out))
}

/// The bytes of an answer to a CONNECT.
fn answer(give: impl FnOnce(&mut Outbox)) -> Vec<u8> {
    let mut out = Outbox::default();
    give(&mut out);
    let mut bytes = Vec::new();
    for output in &out.outputs {
        if let Output::Send { frame, .. } = output {
            bytes.extend_from_slice(out.frame(frame).0);
        }
    }
    bytes
}

/// The CONNACK for a CONNECT that cannot be read, if it says in which version to answer (§3.1.4).
fn refuse_malformed(malformed: &Malformed, bytes: &[u8]) -> Vec<u8> {
    let reason = malformed.reason_code();
    let level = level_at(bytes).and_then(|at| bytes.get(at)).copied().unwrap_or_default();
    let form5 = vec![0x20, 3, 0, reason as u8, 0];
    match malformed {
        // 3.1.1 demands an answer in its form, 5.0 permits one in its own: a Client of neither gets
        // what the rest of its CONNECT looks like. [MQTT-3.1.2-2]
        Malformed::UnsupportedProtocolVersion { .. } if looks_like_311(bytes) => {
            vec![0x20, 2, 0, 1]
        }
        Malformed::UnsupportedProtocolVersion { .. } => form5,
        // MQTT 3.1 has a name of its own and reads this.
        Malformed::ProtocolName { .. } if level == 3 => vec![0x20, 2, 0, 1],
        // In 3.1.1 there is no answer to another name, nor to what is malformed. [MQTT-3.1.2-1]
        _ if level == Version::V5.level() => form5,
        _ => Vec::new(),
    }
}

/// Whether a CONNECT would be one of MQTT 3.1.1 (or of 3.1), but for its protocol level.
fn looks_like_311(bytes: &[u8]) -> bool {
    let Some(at) = level_at(bytes) else { return false };
    let mut bytes = bytes.to_vec();
    let Some(level) = bytes.get_mut(at) else { return false };
    let below = *level < Version::V5.level();
    *level = Version::V311.level();
    below || matches!(decode(&bytes, Version::V311, usize::MAX), Ok(Some(_)))
}

/// Where the protocol level stands, if the bytes before it are those of a CONNECT.
fn level_at(bytes: &[u8]) -> Option<usize> {
    let lengths = bytes.iter().skip(1).take(4);
    let header = 2 + lengths.take_while(|byte| **byte >= 0x80).count();
    let name = bytes.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*name.first()?, *name.get(1)?]));
    name.get(2 + length).map(|_| header + 2 + length)
}

/// Says one last thing and closes, so that it is heard.
async fn goodbye(mut stream: Box<dyn Stream>, bytes: &[u8]) {
    if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
        return;
    }
    let _gone = stream.shutdown().await;
    // Closing with unread input would reset the connection and take the answer back.
    let mut unread = [0; 512];
    let _late = timeout(LINGER, async {
        while matches!(stream.read(&mut unread).await, Ok(read) if read > 0) {}
    })
    .await;
}

/// By how much a message of WebSocket may be larger than the largest packet.
const MESSAGE_BYTES_MORE: usize = 64 * 1024;
const PAUSE_WHEN_FULL: Duration = Duration::from_millis(10);
const TELL_EVERY: Duration = Duration::from_secs(10);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_found_behind_a_length_of_any_size() {
        assert_eq!(level_at(b"\x10\x0c\0\x04MQTT\x05\x02"), Some(8));
        assert_eq!(level_at(b"\x10\x80\x01\0\x06MQIsdp\x03"), Some(11));
        assert_eq!(level_at(b"\x10\x0c\0\x04MQ"), None);
        assert_eq!(level_at(b""), None);
    }

    #[test]
    fn a_client_of_another_version_is_answered_in_the_form_it_may_read() {
        // [MQTT-3.1.2-2] of both versions; [MQTT-3.1.2-1]
        let cases: [(&[u8], &[u8]); 6] = [
            (b"\x10\x0d\0\x04MQTT\x06\x02\0\x3c\0\x01a", b"\x20\x02\0\x01"),
            (b"\x10\x0e\0\x04MQTT\x06\x02\0\x3c\0\0\x01a", b"\x20\x03\0\x84\0"),
            (b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a", b"\x20\x02\0\x01"),
            (b"\x10\x0d\0\x04MQTT\x03\x02\0\x3c\0\x01a", b"\x20\x02\0\x01"),
            (b"\x10\x0d\0\x04MQTX\x04\x02\0\x3c\0\x01a", b""),
            (b"\x10\x0e\0\x04MQTX\x05\x02\0\x3c\0\0\x01a", b"\x20\x03\0\x84\0"),
        ];
        for (connect, answer) in cases {
            let malformed = decode(connect, Version::V5, usize::MAX).unwrap_err();
            assert_eq!(refuse_malformed(&malformed, connect), answer, "{connect:02x?}");
        }
    }
}
