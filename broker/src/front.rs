//! The front: accepts connections, reads their CONNECT, has them authenticated, and hands each to
//! the shard of its session.
//!
//! A thread of its own, so that a flood of strangers costs those inside nothing but a core's share.
//! Until a connection is known it may hold no more than one small packet and one short time.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tidings_core::admission::{Admission, admit};
use tidings_core::codec::{Connect, Malformed, Packet, ReasonCode, Version, decode};
use tidings_core::limits::Limits;
use tidings_core::output::{ConnectionId, Outbox, Output};
use tidings_core::shard::{refuse_connect, session_slot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use crate::auth::{Authenticate, Credentials, Decision, Refusal};
use crate::health::{Fatal, Health, telling};
use crate::limits::ConnectionLimits;
use crate::mail::{Introduced, Login, Mail, Post};

/// What the front is made of.
pub(crate) struct Front {
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) posts: Vec<Post>,
    pub(crate) shards: u16,
    pub(crate) limits: Arc<Limits>,
    pub(crate) connections: ConnectionLimits,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) health: Arc<Health>,
}

/// The front while it runs.
#[derive(Debug)]
pub(crate) struct FrontHandle {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl FrontHandle {
    /// Accepts nobody any more.
    pub(crate) fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

impl Front {
    /// Begins to accept. The addresses, with the ports that were chosen.
    pub(crate) fn start(self) -> io::Result<(FrontHandle, Vec<SocketAddr>)> {
        let addresses =
            self.listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("front".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, self.run(stopped)))?;
        Ok((FrontHandle { stop, thread: Some(thread) }, addresses))
    }

    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let listeners = std::mem::take(&mut self.listeners);
        let desk = Rc::new(Desk { front: self, strangers: Strangers::default() });
        for listener in listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    desk.spawn(Rc::clone(&desk).accept(listener));
                }
                Err(error) => {
                    desk.front.health.fail(Fatal::Panic(format!("front: cannot accept: {error}")));
                }
            }
        }
        // Ends when told to, or when the broker is gone.
        let _gone = stopped.wait_for(|stop| *stop).await;
    }
}

/// Connections that nobody knows yet.
#[derive(Debug, Default)]
struct Strangers {
    all: std::cell::Cell<usize>,
    by_address: std::cell::RefCell<HashMap<IpAddr, usize>>,
}

impl Strangers {
    fn enter(&self, address: IpAddr, per_address_max: usize) -> bool {
        let mut by_address = self.by_address.borrow_mut();
        let count = by_address.entry(address).or_insert(0);
        if *count >= per_address_max {
            return false;
        }
        *count += 1;
        self.all.set(self.all.get() + 1);
        true
    }

    fn leave(&self, address: IpAddr) {
        let mut by_address = self.by_address.borrow_mut();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
        self.all.set(self.all.get().saturating_sub(1));
    }
}

struct Desk {
    front: Front,
    strangers: Strangers,
}

/// A place among the strangers. Given back however its task ends: whoever authenticates may panic.
struct Stranger {
    desk: Rc<Desk>,
    address: IpAddr,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.desk.strangers.leave(self.address);
    }
}

impl Desk {
    /// Runs a task that accepts, which must not end silently: nobody would be let in any more.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let health = Arc::clone(&self.front.health);
        let panicked = move || health.fail(Fatal::Panic("front".to_owned()));
        tokio::task::spawn_local(telling(task, panicked));
    }

    async fn accept(self: Rc<Self>, listener: tokio::net::TcpListener) {
        let limits = &self.front.connections;
        loop {
            // The rest waits in the system's backlog, which costs nothing.
            while self.strangers.all.get() >= limits.unauthenticated_max {
                sleep(PAUSE_WHEN_FULL).await;
            }
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that is gone again.
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            if !self.strangers.enter(peer.ip(), limits.unauthenticated_per_address_max) {
                tracing::debug!(%peer, "too many unauthenticated connections from one address");
                continue;
            }
            let stranger = Stranger { desk: Rc::clone(&self), address: peer.ip() };
            tokio::task::spawn_local(async move {
                let desk = &stranger.desk;
                let deadline = desk.front.connections.connect_timeout;
                if timeout(deadline, desk.introduce(stream, peer)).await.is_err() {
                    tracing::debug!(%peer, "no complete CONNECT in time");
                }
            });
        }
    }

    /// Reads CONNECT, asks who it is, and hands the connection on.
    async fn introduce(&self, mut stream: TcpStream, peer: SocketAddr) {
        let _no_delay_is_only_faster = stream.set_nodelay(true);
        let bytes = match self.read_connect(&mut stream).await {
            Ok(bytes) => bytes,
            Err(Rude::Gone) => return,
            Err(Rude::Malformed(malformed, bytes)) => {
                tracing::debug!(%peer, "malformed CONNECT: {malformed}");
                return goodbye(stream, &refuse_malformed(&malformed, &bytes)).await;
            }
        };
        let Ok(Some((Packet::Connect(connect), _))) = decode(&bytes, Version::V5, usize::MAX)
        else {
            return;
        };
        match self.identify(&connect, peer).await {
            Err(reason) => {
                tracing::debug!(%peer, client_id = connect.client_id, "refused: {reason}");
                goodbye(stream, &refusal(&connect, reason)).await;
            }
            Ok(login) => {
                let shard = session_slot(&login.user, &login.client_id).shard(self.front.shards);
                let Some(post) = self.front.posts.get(usize::from(shard.0)) else { return };
                let Ok(stream) = stream.into_std() else { return };
                let introduced = Introduced { stream, bytes, login };
                post.send(Mail::Connection(Box::new(introduced)));
            }
        }
    }

    async fn identify(&self, connect: &Connect<'_>, peer: SocketAddr) -> Result<Login, ReasonCode> {
        let admission = admit(connect, &self.front.limits, assigned_client_id)?;
        let credentials = Credentials {
            client_id: admission.client_id.clone(),
            user_name: connect.user_name.map(str::to_owned),
            password: connect.password.map(<[u8]>::to_vec),
            peer: Some(peer),
            certificate: None,
        };
        match self.front.authenticate.authenticate(credentials).await {
            Decision::Accept { user, expires } => {
                let Admission { client_id, assigned } = admission;
                Ok(Login { user, client_id, assigned, expires })
            }
            Decision::Refuse(Refusal::BadUserNameOrPassword) => {
                Err(ReasonCode::BadUserNameOrPassword)
            }
            Decision::Refuse(Refusal::NotAuthorized) => Err(ReasonCode::NotAuthorized),
            Decision::Refuse(Refusal::ServerBusy) => Err(ReasonCode::ServerBusy),
            Decision::Refuse(Refusal::ServerUnavailable) => Err(ReasonCode::ServerUnavailable),
        }
    }

    /// Reads until a whole CONNECT is there. What came behind it comes along.
    async fn read_connect(&self, stream: &mut TcpStream) -> Result<Vec<u8>, Rude> {
        let largest = CONNECT_BYTES_MAX.min(self.front.limits.packet_bytes_max);
        let mut bytes = Vec::new();
        loop {
            match bytes.first() {
                None | Some(0x10) => {}
                // Whatever this is, it is not MQTT, and nothing is said to it. [MQTT-3.1.0-1]
                Some(_) => return Err(Rude::Gone),
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
    let mut out = Outbox::default();
    refuse_connect(ConnectionId(0), connect, reason, &mut out);
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
    if reason == ReasonCode::UnsupportedProtocolVersion {
        // Both forms begin alike; a Client of another version reads what it can. [MQTT-3.1.2-2]
        return match level(bytes) {
            Some(level) if level < Version::V5.level() => vec![0x20, 2, 0, 1],
            _ => vec![0x20, 3, 0, reason as u8, 0],
        };
    }
    match level(bytes) {
        Some(level) if level == Version::V5.level() => vec![0x20, 3, 0, reason as u8, 0],
        _ => Vec::new(),
    }
}

/// The protocol level, where the bytes before it are those of a CONNECT.
fn level(bytes: &[u8]) -> Option<u8> {
    let lengths = bytes.iter().skip(1).take(4);
    let header = 2 + lengths.take_while(|byte| **byte >= 0x80).count();
    let name = bytes.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*name.first()?, *name.get(1)?]));
    name.get(2 + length).copied()
}

/// Says one last thing and closes, so that it is heard.
async fn goodbye(mut stream: TcpStream, bytes: &[u8]) {
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

/// The largest CONNECT, whatever larger packets are taken later.
const CONNECT_BYTES_MAX: usize = 64 * 1024;
const PAUSE_WHEN_FULL: Duration = Duration::from_millis(10);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_found_behind_a_length_of_any_size() {
        assert_eq!(level(b"\x10\x0c\0\x04MQTT\x05\x02"), Some(5));
        assert_eq!(level(b"\x10\x80\x01\0\x06MQIsdp\x03"), Some(3));
        assert_eq!(level(b"\x10\x0c\0\x04MQ"), None);
        assert_eq!(level(b""), None);
    }

    #[test]
    fn a_stranger_too_many_from_one_address_is_sent_away() {
        let strangers = Strangers::default();
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(strangers.enter(address, 2) && strangers.enter(address, 2));
        assert!(!strangers.enter(address, 2));
        strangers.leave(address);
        assert!(strangers.enter(address, 2));
        strangers.leave(address);
        strangers.leave(address);
        assert!(strangers.by_address.borrow().is_empty() && strangers.all.get() == 0);
    }
}
