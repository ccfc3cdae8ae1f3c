//! A Client of few words over a blocking socket: what it is told to send, and what it hears.
//!
//! It keeps nothing of a Session; those who use it do, as their part of what was promised. Bytes
//! that are no packet end the connection, and the reason says so.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tidings_core::codec::{
    self, Ack, PacketId, PacketKind, Properties, PropertiesBuf, Property, QoS, SubscriptionOptions,
    Version, put_subscribe_filter, put_unsubscribe_filter,
};

/// How long a broker may take to answer a CONNECT.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// The largest packet that is taken.
const PACKET_BYTES_MAX: usize = 16 << 20;
/// A session outlives every jump of the clock that we make.
const SESSION_EXPIRY_S: u32 = 20 * 86_400;

/// What a CONNECT says.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) user: Option<String>,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    /// In MQTT 5.
    pub(crate) receive_maximum: Option<u16>,
    /// Topic and payload of a will at QoS 1.
    pub(crate) will: Option<(String, String)>,
}

impl Hello {
    /// With a persistent session.
    pub(crate) fn new(version: Version, client_id: impl Into<String>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            user: None,
            clean: false,
            keep_alive: 6,
            receive_maximum: None,
            will: None,
        }
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = Some(user.into());
        self
    }
}

/// What the broker says.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: its identifier, and whether its code is an error.
    Ack(PacketKind, PacketId, bool),
    /// With its codes; one SUBSCRIBE is open at a time.
    Suback(Vec<u8>),
    Unsuback,
    Pingresp,
    /// With its Reason Code.
    Disconnect(u8),
}

/// A PUBLISH from the broker.
#[derive(Debug, Clone)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) id: Option<PacketId>,
    pub(crate) dup: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It ended, or nobody answers.
    Closed,
    /// The CONNECT was refused with this code.
    Refused(u8),
    /// The broker said what is no packet, or no packet for now.
    Nonsense(String),
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    version: Version,
    input: Vec<u8>,
    used: usize,
    output: Vec<u8>,
    last_id: u16,
    pinged: Instant,
    ping_every: Duration,
}

impl Wire {
    /// Connects; whether the session was present.
    pub(crate) fn connect(address: SocketAddr, hello: &Hello) -> Result<(Self, bool), Gone> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE);
        let stream = stream.map_err(|_| Gone::Closed)?;
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_write_timeout(Some(Duration::from_secs(30))));
        set.map_err(|_| Gone::Closed)?;
        let mut wire = Self {
            stream,
            version: hello.version,
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            last_id: 0,
            pinged: Instant::now(),
            ping_every: Duration::from_secs(u64::from(hello.keep_alive.max(3)) / 3),
        };
        wire.put_connect(hello);
        wire.flush()?;
        let present = wire.connack()?;
        Ok((wire, present))
    }

    fn put_connect(&mut self, hello: &Hello) {
        let mut properties = PropertiesBuf::new();
        if hello.version == Version::V5 {
            if !hello.clean {
                properties.push(Property::SessionExpiry(SESSION_EXPIRY_S));
            }
            if let Some(most) = hello.receive_maximum {
                properties.push(Property::ReceiveMaximum(most));
            }
        }
        let will = hello.will.as_ref().map(|(topic, payload)| codec::Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::EMPTY,
            topic,
            payload: payload.as_bytes(),
        });
        self.put(&codec::Packet::Connect(codec::Connect {
            version: hello.version,
            clean_start: hello.clean,
            keep_alive: hello.keep_alive,
            client_id: &hello.client_id,
            properties: properties.as_properties(),
            will,
            user_name: hello.user.as_deref(),
            password: None,
        }));
    }

    fn connack(&mut self) -> Result<bool, Gone> {
        let until = Instant::now() + CONNECT_PATIENCE;
        loop {
            let decoded = codec::decode(self.unread(), self.version, PACKET_BYTES_MAX);
            match decoded.map_err(|error| Gone::Nonsense(error.to_string()))? {
                Some((codec::Packet::Connack(connack), len)) => {
                    let (present, reason) = (connack.session_present, connack.reason);
                    self.used += len;
                    return if reason.is_error() {
                        Err(Gone::Refused(reason.as_u8()))
                    } else {
                        Ok(present)
                    };
                }
                Some((other, _)) => {
                    return Err(Gone::Nonsense(format!("{} before CONNACK", other.name())));
                }
                None if Instant::now() > until => return Err(Gone::Closed),
                None => self.fill(Duration::from_millis(200))?,
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.input.get(self.used..).unwrap_or_default()
    }

    /// Reads what comes within `wait`; nothing coming is no error.
    fn fill(&mut self, wait: Duration) -> Result<(), Gone> {
        self.input.drain(..self.used);
        self.used = 0;
        self.stream.set_read_timeout(Some(wait)).map_err(|_| Gone::Closed)?;
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(Gone::Closed),
            Ok(len) => {
                self.input.extend_from_slice(piece.get(..len).unwrap_or_default());
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(Gone::Closed),
        }
    }

    /// The next packet, if there is one within `wait`. Keeps the connection alive.
    pub(crate) fn poll(&mut self, wait: Duration) -> Result<Option<Packet>, Gone> {
        if let Some(packet) = self.take()? {
            return Ok(Some(packet));
        }
        if self.pinged.elapsed() > self.ping_every {
            self.pinged = Instant::now();
            self.put(&codec::Packet::Pingreq);
            self.flush()?;
        }
        self.fill(wait)?;
        self.take()
    }

    /// The next packet of what was read already.
    pub(crate) fn take(&mut self) -> Result<Option<Packet>, Gone> {
        let decoded = codec::decode(self.unread(), self.version, PACKET_BYTES_MAX);
        let decoded = decoded.map_err(|error| Gone::Nonsense(error.to_string()))?;
        let Some((packet, len)) = decoded else { return Ok(None) };
        let kind = packet.kind();
        let owned = match packet {
            codec::Packet::Publish(publish) => Packet::Publish(Publish {
                topic: publish.topic.into(),
                payload: publish.payload.into(),
                qos: publish.qos,
                id: publish.packet_id,
                dup: publish.dup,
            }),
            codec::Packet::Puback(ack)
            | codec::Packet::Pubrec(ack)
            | codec::Packet::Pubrel(ack)
            | codec::Packet::Pubcomp(ack) => {
                Packet::Ack(kind, ack.packet_id, ack.reason.is_error())
            }
            codec::Packet::Suback(it) => Packet::Suback(it.reasons.into()),
            codec::Packet::Unsuback(_) => Packet::Unsuback,
            codec::Packet::Pingresp => Packet::Pingresp,
            codec::Packet::Disconnect(it) => Packet::Disconnect(it.reason.as_u8()),
            other => return Err(Gone::Nonsense(format!("{} from a broker", other.name()))),
        };
        self.used += len;
        Ok(Some(owned))
    }

    /// An identifier that `taken` does not have.
    pub(crate) fn next_id(&mut self, taken: impl Fn(PacketId) -> bool) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            match PacketId::new(self.last_id) {
                Some(id) if !taken(id) => return id,
                _ => {}
            }
        }
    }

    /// Puts a PUBLISH to what [`flush`](Self::flush) sends.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        (qos, dup, retain): (QoS, bool, bool),
        packet_id: Option<PacketId>,
    ) {
        let properties = Properties::EMPTY;
        let publish = codec::Publish { dup, qos, retain, topic, packet_id, properties, payload };
        self.put(&codec::Packet::Publish(publish));
    }

    /// Puts PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub(crate) fn ack(&mut self, kind: PacketKind, id: PacketId) {
        let ack = Ack::success(id);
        self.put(&match kind {
            PacketKind::Puback => codec::Packet::Puback(ack),
            PacketKind::Pubrec => codec::Packet::Pubrec(ack),
            PacketKind::Pubrel => codec::Packet::Pubrel(ack),
            _ => codec::Packet::Pubcomp(ack),
        });
    }

    pub(crate) fn subscribe(&mut self, id: PacketId, filters: &[(&str, QoS)]) {
        let (mut bytes, version) = (Vec::new(), self.version);
        for (filter, qos) in filters {
            let options = SubscriptionOptions { qos: *qos, ..SubscriptionOptions::default() };
            put_subscribe_filter(&mut bytes, filter, options, version);
        }
        if let Ok(it) = codec::Subscribe::new(id, Properties::EMPTY, &bytes, version) {
            self.put(&codec::Packet::Subscribe(it));
        }
    }

    pub(crate) fn unsubscribe(&mut self, id: PacketId, filter: &str) {
        let mut bytes = Vec::new();
        put_unsubscribe_filter(&mut bytes, filter);
        if let Ok(it) = codec::Unsubscribe::new(id, Properties::EMPTY, &bytes, self.version) {
            self.put(&codec::Packet::Unsubscribe(it));
        }
    }

    fn put(&mut self, packet: &codec::Packet<'_>) {
        // What we send is far below the bounds of the format.
        let _ = packet.encode(self.version, &mut self.output);
    }

    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self.stream.write_all(&self.output);
        self.output.clear();
        sent.map_err(|_| Gone::Closed)
    }

    /// Ends the connection in order.
    pub(crate) fn disconnect(mut self) {
        let (reason, properties) = (codec::ReasonCode::NormalDisconnection, Properties::EMPTY);
        self.put(&codec::Packet::Disconnect(codec::Disconnect { reason, properties }));
        let _ = self.flush();
    }
}

/// An identifier for the only question that is open.
pub(crate) const ONLY: PacketId = PacketId::MAX;
