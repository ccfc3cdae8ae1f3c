//! MQTT 5.0 over a stream of bytes: the only file that names rumqttc.
//!
//! Of rumqttc come the packets, not its event loop: that loses accepted publishes when a Session is
//! gone, sends them in another order, and connects again at once and without an end. Here a link is
//! one connection, written and read by whoever calls [`next`](Link::next), with nothing behind it.

use super::stream::{Connector, Stream};
use super::{Happened, Link, Lost, Opened, Outgoing, Transport};
use crate::error::ConnectError;
use crate::options::{ConnectOptions, Target};
use bytes::{Buf, BytesMut};
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    Filter, Login, Packet, PingReq, PubAck, PubAckReason, Publish, PublishProperties, SubAck,
    Subscribe, SubscribeReasonCode, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error as MqttError, QoS};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

/// What went over all connections, in packets and their bytes (before TLS and WebSocket).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Packets to the broker.
    pub packets_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Packets from the broker.
    pub packets_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
}

impl Counters {
    pub(crate) fn now(&self) -> Traffic {
        let [packets_sent, bytes_sent] = self.sent.each_ref().map(|n| n.load(Ordering::Relaxed));
        let [packets_received, bytes_received] =
            self.received.each_ref().map(|n| n.load(Ordering::Relaxed));
        Traffic { packets_sent, bytes_sent, packets_received, bytes_received }
    }

    fn count([packets, all_bytes]: &[AtomicU64; 2], bytes: usize) {
        packets.fetch_add(1, Ordering::Relaxed);
        all_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// MQTT 5.0 as a [`Transport`].
#[derive(Debug)]
pub(crate) struct Mqtt {
    connector: Connector,
    counters: Arc<Counters>,
    connect: Connect,
    login: Login,
}

impl Mqtt {
    pub(crate) fn new(
        options: &ConnectOptions,
        target: Target,
        counters: Arc<Counters>,
    ) -> Result<Self, ConnectError> {
        let expiry = u32::try_from(options.session_expiry.as_secs()).unwrap_or(u32::MAX);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(expiry);
        properties.receive_maximum = Some(options.receive_maximum);
        properties.max_packet_size = Some(INCOMING_BYTES_MAX);
        // What was missed comes as lists, with one PUBACK each.
        properties.user_properties = vec![("batch".to_owned(), "1".to_owned())];
        let connect = Connect {
            keep_alive: 0,
            client_id: options.device.clone(),
            clean_start: false,
            properties: Some(properties),
        };
        let login = Login::new(options.user.clone(), options.password.clone().unwrap_or_default());
        let connector = Connector::new(target, options.authorities.as_deref())?;
        Ok(Self { connector, counters, connect, login })
    }

    async fn open(&self, keep_alive: Duration) -> Result<(MqttLink, Opened), Lost> {
        let unreachable = |error: io::Error| {
            let address = self.connector.target().address();
            Lost::Unreachable { address, cause: error.to_string() }
        };
        let stream = self.connector.connect().await.map_err(unreachable)?;
        let mut link = MqttLink::new(stream, Arc::clone(&self.counters));
        let keep_alive = u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX);
        let connect = Connect { keep_alive, ..self.connect.clone() };
        link.put(&Packet::Connect(connect, None, Some(self.login.clone())))?;
        let Packet::ConnAck(connack) = link.packet().await? else {
            return Err(ended("the broker did not begin with CONNACK"));
        };
        let ConnAck { session_present, code, properties } = connack;
        match code {
            ConnectReturnCode::Success => {}
            // These pass by themselves.
            ConnectReturnCode::ServerBusy
            | ConnectReturnCode::ServerUnavailable
            | ConnectReturnCode::ConnectionRateExceeded => {
                return Err(unreachable(io::Error::other(refusal(code))));
            }
            code => return Err(Lost::Refused { reason: refusal(code) }),
        }
        let properties = properties.as_ref();
        let server_keep_alive = properties.and_then(|properties| properties.server_keep_alive);
        let seconds = server_keep_alive.filter(|seconds| *seconds > 0).unwrap_or(keep_alive);
        link.keep_alive = Duration::from_secs(seconds.into());
        link.outgoing_max = properties.and_then(|properties| properties.max_packet_size);
        let receive_maximum = properties.and_then(|properties| properties.receive_max);
        let receive_maximum = receive_maximum.unwrap_or(u16::MAX);
        Ok((link, Opened { session_present, receive_maximum }))
    }
}

impl Transport for Mqtt {
    type Link = MqttLink;

    async fn connect(&self, keep_alive: Duration) -> Result<(MqttLink, Opened), Lost> {
        let opening = tokio::time::timeout(OPENING, self.open(keep_alive));
        opening.await.unwrap_or_else(|_| {
            let cause = format!("no answer within {OPENING:?}");
            Err(Lost::Unreachable { address: self.connector.target().address(), cause })
        })
    }
}

/// A connection.
pub(crate) struct MqttLink {
    reading: ReadHalf<Box<dyn Stream>>,
    writing: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    unflushed: bool,
    counters: Arc<Counters>,
    keep_alive: Duration,
    outgoing_max: Option<u32>,
    last_id: u16,
    /// Unacknowledged publishes: Packet Identifier to token.
    tokens: BTreeMap<u16, u64>,
    subscribing: BTreeMap<u16, String>,
    /// What happened here, without the broker.
    ready: VecDeque<Happened>,
    heard: Instant,
    sent: Instant,
    /// Since when something is waited for; none: nothing is.
    waiting: Option<Instant>,
    pinged: Option<Instant>,
}

impl std::fmt::Debug for MqttLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MqttLink").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl MqttLink {
    fn new(stream: Box<dyn Stream>, counters: Arc<Counters>) -> Self {
        let (reading, writing) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            reading,
            writing,
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            counters,
            keep_alive: OPENING,
            outgoing_max: None,
            last_id: 0,
            tokens: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            ready: VecDeque::new(),
            heard: now,
            sent: now,
            waiting: None,
            pinged: None,
        }
    }

    /// Puts a packet behind those that wait to be written.
    fn put(&mut self, packet: &Packet) -> Result<(), Lost> {
        if self.output.len() > OUTPUT_BYTES_MAX {
            return Err(ended("the connection takes no more packets"));
        }
        let before = self.output.len();
        packet.write(&mut self.output, None).map_err(|error| ended(&error.to_string()))?;
        Counters::count(&self.counters.sent, self.output.len() - before);
        Ok(())
    }

    /// A Packet Identifier that is not in use.
    fn id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if !self.tokens.contains_key(&id) && !self.subscribing.contains_key(&id) {
                return id;
            }
        }
    }

    /// The next packet; meanwhile writes what waits, and says PINGREQ where it is time.
    ///
    /// Cancel safe: what was read is in `input`, what is to be written in `output`.
    async fn packet(&mut self) -> Result<Packet, Lost> {
        loop {
            let before = self.input.len();
            match Packet::read(&mut self.input, Some(INCOMING_BYTES_MAX)) {
                Ok(packet) => {
                    Counters::count(&self.counters.received, before - self.input.len());
                    return Ok(packet);
                }
                Err(MqttError::InsufficientBytes(_)) => {}
                Err(error) => return Err(ended(&error.to_string())),
            }
            self.move_bytes().await?;
        }
    }

    async fn move_bytes(&mut self) -> Result<(), Lost> {
        let (until, is_pong) = self.patience();
        let has_output = !self.output.is_empty();
        // Whatever is first: the other halves lose nothing.
        tokio::select! {
            read = self.reading.read_buf(&mut self.input) => {
                if read.map_err(|error| ended(&error.to_string()))? == 0 {
                    return Err(ended("closed by the broker"));
                }
                self.heard = Instant::now();
                self.pinged = None;
            }
            written = write(&mut self.writing, &self.output), if has_output || self.unflushed => {
                self.output.advance(written.map_err(|error| ended(&error.to_string()))?);
                self.sent = Instant::now();
                self.unflushed = has_output;
            }
            () = tokio::time::sleep_until(until) => {
                if is_pong {
                    return Err(Lost::Silent { after: self.heard.elapsed() });
                }
                self.put(&Packet::PingReq(PingReq))?;
                self.pinged = Some(Instant::now());
            }
        }
        Ok(())
    }

    /// Until when silence is borne, and whether what is over then is the patience with a PINGREQ.
    fn patience(&self) -> (Instant, bool) {
        if let Some(pinged) = self.pinged {
            return (pinged + PONG, true);
        }
        let silent = self.sent + self.keep_alive;
        // Where something is waited for, a dead connection is found sooner.
        let probe = self.waiting.map(|since| since.max(self.heard) + PROBE);
        (probe.map_or(silent, |probe| probe.min(silent)), false)
    }

    /// None for a packet that says nothing.
    fn handle(&mut self, packet: Packet) -> Result<Option<Happened>, Lost> {
        let happened = match packet {
            Packet::Publish(publish) => {
                let Publish { topic, payload, qos, pkid, .. } = publish;
                Some(Happened::Received {
                    topic: String::from_utf8_lossy(&topic).into_owned(),
                    payload,
                    number: (qos != QoS::AtMostOnce).then_some(pkid),
                })
            }
            Packet::PubAck(puback) => self.handle_puback(puback),
            Packet::SubAck(suback) => self.handle_suback(&suback),
            Packet::UnsubAck(unsuback) => {
                self.subscribing.remove(&unsuback.pkid);
                None
            }
            Packet::Disconnect(disconnect) => return Err(disconnected(disconnect)),
            _ => None,
        };
        if self.tokens.is_empty() && self.subscribing.is_empty() {
            self.waiting = None;
        }
        Ok(happened)
    }

    fn handle_puback(&mut self, puback: PubAck) -> Option<Happened> {
        let token = self.tokens.remove(&puback.pkid)?;
        let (text, properties) = match puback.properties {
            Some(properties) => (properties.reason_string, properties.user_properties),
            None => (None, Vec::new()),
        };
        let reason = reason_code(puback.reason);
        Some(Happened::Acknowledged { token, reason, text, properties })
    }

    fn handle_suback(&mut self, suback: &SubAck) -> Option<Happened> {
        let filter = self.subscribing.remove(&suback.pkid)?;
        let refused = match suback.return_codes.first() {
            None | Some(SubscribeReasonCode::Success(_)) => None,
            Some(reason) => Some(format!("{reason:?}")),
        };
        Some(Happened::Subscribed { filter, refused })
    }
}

impl Link for MqttLink {
    fn publish(&mut self, publish: Outgoing) -> Result<(), Lost> {
        let Outgoing { token, topic, payload, at_most_once, content_type, properties } = publish;
        let qos = if at_most_once { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let mut packet = Publish::new(topic, qos, payload, None);
        if content_type.is_some() || !properties.is_empty() {
            let user_properties = properties;
            let properties =
                PublishProperties { content_type, user_properties, ..PublishProperties::default() };
            packet.properties = Some(properties);
        }
        if self.outgoing_max.is_some_and(|max| packet.size() > max as usize) {
            // [MQTT-3.2.2-15]: it cannot be sent at all.
            let properties = vec![("code".to_owned(), "size".to_owned())];
            let text = Some("larger than the packets that the broker takes".to_owned());
            let refused = Happened::Acknowledged { token, reason: 0x97, text, properties };
            self.ready.push_back(refused);
            return Ok(());
        }
        if !at_most_once {
            packet.pkid = self.id();
            self.tokens.insert(packet.pkid, token);
            self.waiting.get_or_insert_with(Instant::now);
        }
        self.put(&Packet::Publish(packet))
    }

    fn subscribe(&mut self, filter: &str, subscribe: bool) -> Result<(), Lost> {
        let pkid = self.id();
        self.subscribing.insert(pkid, filter.to_owned());
        self.waiting.get_or_insert_with(Instant::now);
        if subscribe {
            let mut subscribe = Subscribe::new(Filter::new(filter, QoS::AtLeastOnce), None);
            subscribe.pkid = pkid;
            return self.put(&Packet::Subscribe(subscribe));
        }
        let mut unsubscribe = Unsubscribe::new(filter, None);
        unsubscribe.pkid = pkid;
        self.put(&Packet::Unsubscribe(unsubscribe))
    }

    fn acknowledge(&mut self, number: u16) -> Result<(), Lost> {
        self.put(&Packet::PubAck(PubAck::new(number, None)))
    }

    fn disconnect(&mut self) {
        // A connection that takes no more is dropped in any case.
        let reason = DisconnectReasonCode::NormalDisconnection;
        let _ = self.put(&Packet::Disconnect(Disconnect::new(reason)));
    }

    async fn next(&mut self) -> Result<Happened, Lost> {
        loop {
            if let Some(happened) = self.ready.pop_front() {
                return Ok(happened);
            }
            let packet = self.packet().await?;
            if let Some(happened) = self.handle(packet)? {
                return Ok(happened);
            }
        }
    }
}

/// Writes some of it; with nothing to write, what layers below may hold back.
async fn write(to: &mut WriteHalf<Box<dyn Stream>>, output: &[u8]) -> io::Result<usize> {
    if output.is_empty() {
        to.flush().await?;
        return Ok(0);
    }
    to.write(output).await
}

fn ended(cause: &str) -> Lost {
    Lost::Ended { cause: cause.to_owned() }
}

fn disconnected(disconnect: Disconnect) -> Lost {
    let Disconnect { reason_code, properties } = disconnect;
    if reason_code == DisconnectReasonCode::SessionTakenOver {
        return Lost::TakenOver;
    }
    let text = properties.and_then(|properties| properties.reason_string).unwrap_or_default();
    ended(format!("DISCONNECT from the broker: {reason_code:?} {text}").trim_end())
}

fn refusal(code: ConnectReturnCode) -> String {
    match code {
        ConnectReturnCode::BadUserNamePassword => "wrong user name or password".to_owned(),
        ConnectReturnCode::NotAuthorized => "not authorized".to_owned(),
        ConnectReturnCode::ServerBusy => "the broker is busy".to_owned(),
        ConnectReturnCode::ServerUnavailable => "the broker is not available".to_owned(),
        ConnectReturnCode::Banned => "banned".to_owned(),
        code => format!("{code:?}"),
    }
}

/// The Reason Code on the wire (§3.4.2.1).
fn reason_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

/// Longest packet we take: a message of 262,144 bytes in base64 with its envelope.
pub(super) const INCOMING_BYTES_MAX: u32 = 384 * 1024;

/// What waits to be written; more than all windows hold together, so that full means stuck.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// From the first SYN to CONNACK.
const OPENING: Duration = Duration::from_secs(10);

/// How long a PINGREQ may stay without anything coming.
const PONG: Duration = Duration::from_secs(10);

/// How long something may be waited for, with nothing coming, before a PINGREQ asks after it.
const PROBE: Duration = Duration::from_secs(10);
