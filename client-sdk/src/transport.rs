//! The seam to MQTT, and rumqttc behind it: the only file that names it.
//!
//! rumqttc keeps a queue of its own that it loses, reorders and resends without DUP. So each Network
//! Connection gets a new rumqttc event loop, dropped whole when the connection ends: nothing
//! is left in it to resend, and what was unanswered is the engine's to send again, by message id.
//! MQTT 5 is spoken because its PUBACK carries a Reason Code and the entry's seq (§3.4.2).

use crate::options::ConnectOptions;
use bytes::Bytes;
use rumqttc::Outgoing as Sent;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Packet, PubAck, PubAckReason, Publish,
    SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error as MqttError, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;

/// Opens Network Connections, one after the other.
pub trait Transport: Send + 'static {
    /// An open connection.
    type Link: Link;

    /// Connects once; no retries, the caller waits and calls again.
    ///
    /// # Errors
    ///
    /// Why no connection came about.
    fn connect(&mut self) -> impl Future<Output = Result<(Self::Link, Opened), Lost>> + Send;
}

/// One Network Connection, open until [`next`](Link::next) fails.
pub trait Link: Send + 'static {
    /// Hands over a publish, to be sent in the order of the calls.
    ///
    /// # Errors
    ///
    /// The connection takes no more: it is as good as lost.
    fn publish(&mut self, publish: Outgoing) -> Result<(), Lost>;

    /// Subscribes at the highest QoS 1, or unsubscribes.
    ///
    /// # Errors
    ///
    /// The connection takes no more: it is as good as lost.
    fn subscribe(&mut self, filter: &str, subscribe: bool) -> Result<(), Lost>;

    /// Acknowledges an incoming publish by the number it came with.
    ///
    /// # Errors
    ///
    /// The connection takes no more: it is as good as lost.
    fn acknowledge(&mut self, number: u16) -> Result<(), Lost>;

    /// Sends DISCONNECT; [`next`](Link::next) fails soon after.
    fn disconnect(&mut self);

    /// What happened next.
    ///
    /// # Errors
    ///
    /// The connection ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Happened, Lost>> + Send;
}

/// What the broker said in CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whether the device's Session was still there (§3.2.2.1.1).
    pub session_present: bool,
    /// How many QoS 1 publishes the broker takes unacknowledged (§3.2.2.3.3).
    pub receive_maximum: u16,
}

/// A publish to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names the publish in [`Happened::Acknowledged`]; never sent.
    pub token: u64,
    /// Topic Name.
    pub topic: String,
    /// Application Message; always at QoS 1.
    pub payload: Bytes,
}

/// What a [`Link`] reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A publish came in.
    Received {
        /// Topic Name.
        topic: String,
        /// Application Message.
        payload: Bytes,
        /// What [`Link::acknowledge`] wants; none at QoS 0.
        number: Option<u16>,
    },
    /// The broker answered a publish: PUBACK (§3.4).
    Acknowledged {
        /// That of [`Outgoing::token`].
        token: u64,
        /// The Reason Code.
        reason: u8,
        /// The Reason String.
        text: Option<String>,
        /// The user properties.
        properties: Vec<(String, String)>,
    },
    /// The broker refused a subscription: SUBACK with a Reason Code of 0x80 or more.
    SubscriptionRefused {
        /// The Topic Filter.
        filter: String,
        /// What the Reason Code says.
        reason: String,
    },
    /// Something that only proves the connection to be alive.
    Alive,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// Nobody answers at the address.
    #[error("no broker at {address}: {cause}")]
    Unreachable {
        /// The address.
        address: String,
        /// What the operating system said.
        cause: String,
    },
    /// The broker answered CONNECT with a refusal.
    #[error("the broker refused the connection: {reason}")]
    Refused {
        /// What the Reason Code says.
        reason: String,
    },
    /// Another connection of the same user and device took the Session over (0x8E).
    #[error("another program connected as the same user and device")]
    TakenOver,
    /// The connection ended.
    #[error("connection lost: {cause}")]
    Ended {
        /// What was seen of it.
        cause: String,
    },
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl Lost {
    fn stuck() -> Self {
        Self::Ended { cause: "the connection takes no more packets".to_owned() }
    }
}

/// rumqttc as a [`Transport`]: MQTT 5.0 over TCP.
#[derive(Debug)]
pub(crate) struct Rumqttc {
    address: String,
    options: MqttOptions,
    in_flight_max: u16,
}

impl Rumqttc {
    /// `options` must have passed their check: rumqttc panics on a Keep Alive below 5 s.
    pub(crate) fn new(options: &ConnectOptions, host: String, port: u16) -> Self {
        let mut mqtt = MqttOptions::new(options.device.clone(), host, port);
        let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
        mqtt.set_keep_alive(options.keep_alive)
            .set_clean_start(false)
            .set_manual_acks(true)
            .set_connection_timeout(10)
            .set_session_expiry_interval(Some(seconds(options.session_expiry)))
            .set_receive_maximum(Some(options.receive_maximum))
            // rumqttc's own default of 10 KiB would end the connection on a longer message.
            .set_max_packet_size(Some(INCOMING_BYTES_MAX))
            .set_outgoing_inflight_upper_limit(PACKET_IDS)
            .set_credentials(options.user.clone(), options.password.clone().unwrap_or_default());
        Self {
            address: options.address.clone(),
            options: mqtt,
            in_flight_max: options.in_flight_max,
        }
    }
}

impl Transport for Rumqttc {
    type Link = RumqttcLink;

    async fn connect(&mut self) -> Result<(RumqttcLink, Opened), Lost> {
        let (client, mut event_loop) = AsyncClient::new(self.options.clone(), REQUESTS_MAX);
        let opened = loop {
            match event_loop.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                    let receive_maximum =
                        connack.properties.and_then(|properties| properties.receive_max);
                    break Opened {
                        session_present: connack.session_present,
                        receive_maximum: receive_maximum.unwrap_or(u16::MAX),
                    };
                }
                Ok(_) => {}
                Err(error) => return Err(refused(&self.address, error)),
            }
        };
        // The broker's Keep Alive, which it may have changed, bounds every silence: rumqttc pings
        // once in each, but waits for ever on a peer that stopped reading.
        let silence = event_loop.options.keep_alive() * 2 + Duration::from_secs(5);
        let (events, received) = mpsc::channel(EVENTS_MAX);
        let driver = tokio::spawn(drive(event_loop, events));
        let room = usize::from(self.in_flight_max) + 1;
        Ok((
            RumqttcLink {
                client,
                received,
                driver,
                silence,
                unnumbered: VecDeque::with_capacity(room),
                numbered: BTreeMap::new(),
                collided: None,
                subscribing: VecDeque::new(),
                subscribed: BTreeMap::new(),
            },
            opened,
        ))
    }
}

/// Polls in a task of its own: rumqttc's `poll` may lose a packet when its future is dropped.
async fn drive(mut event_loop: EventLoop, events: mpsc::Sender<Result<Event, ConnectionError>>) {
    loop {
        let event = event_loop.poll().await;
        let ended = event.is_err();
        // A second poll after an error would connect again, at once and on its own account.
        if events.send(event).await.is_err() || ended {
            return;
        }
    }
}

/// A connection by rumqttc.
#[derive(Debug)]
pub(crate) struct RumqttcLink {
    client: AsyncClient,
    received: mpsc::Receiver<Result<Event, ConnectionError>>,
    driver: tokio::task::JoinHandle<()>,
    silence: Duration,
    /// Tokens handed over that rumqttc gave no Packet Identifier yet; it does so in this order.
    unnumbered: VecDeque<u64>,
    numbered: BTreeMap<u16, u64>,
    /// A publish that waits inside rumqttc for its Packet Identifier to become free.
    collided: Option<(u16, u64)>,
    subscribing: VecDeque<String>,
    subscribed: BTreeMap<u16, String>,
}

impl Drop for RumqttcLink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl RumqttcLink {
    fn handle_sent(&mut self, sent: &Sent) {
        match sent {
            Sent::Publish(id) if *id != 0 => {
                let waited = self.collided.take_if(|(collided, _)| collided == id);
                let token = waited.map(|(_, token)| token);
                if let Some(token) = token.or_else(|| self.unnumbered.pop_front()) {
                    self.numbered.insert(*id, token);
                }
            }
            Sent::AwaitAck(id) => {
                self.collided = self.unnumbered.pop_front().map(|token| (*id, token));
            }
            Sent::Subscribe(id) => {
                if let Some(filter) = self.subscribing.pop_front() {
                    self.subscribed.insert(*id, filter);
                }
            }
            _ => {}
        }
    }

    fn handle_packet(&mut self, packet: Packet) -> Happened {
        match packet {
            Packet::Publish(publish) => Happened::Received {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                payload: publish.payload,
                number: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
            },
            Packet::PubAck(puback) => self.handle_puback(puback),
            Packet::SubAck(suback) => {
                let Some(filter) = self.subscribed.remove(&suback.pkid) else {
                    return Happened::Alive;
                };
                match suback.return_codes.first() {
                    None | Some(SubscribeReasonCode::Success(_)) => Happened::Alive,
                    Some(reason) => {
                        Happened::SubscriptionRefused { filter, reason: format!("{reason:?}") }
                    }
                }
            }
            _ => Happened::Alive,
        }
    }

    fn handle_puback(&mut self, puback: PubAck) -> Happened {
        let Some(token) = self.numbered.remove(&puback.pkid) else { return Happened::Alive };
        let (text, properties) = match puback.properties {
            Some(properties) => (properties.reason_string, properties.user_properties),
            None => (None, Vec::new()),
        };
        Happened::Acknowledged { token, reason: reason_code(puback.reason), text, properties }
    }
}

impl Link for RumqttcLink {
    fn publish(&mut self, publish: Outgoing) -> Result<(), Lost> {
        self.client
            .try_publish(publish.topic, QoS::AtLeastOnce, false, publish.payload)
            .map_err(|_| Lost::stuck())?;
        self.unnumbered.push_back(publish.token);
        Ok(())
    }

    fn subscribe(&mut self, filter: &str, subscribe: bool) -> Result<(), Lost> {
        if !subscribe {
            return self.client.try_unsubscribe(filter).map_err(|_| Lost::stuck());
        }
        self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|_| Lost::stuck())?;
        self.subscribing.push_back(filter.to_owned());
        Ok(())
    }

    fn acknowledge(&mut self, number: u16) -> Result<(), Lost> {
        // rumqttc takes nothing from the publish but its QoS and Packet Identifier.
        let publish = Publish { pkid: number, qos: QoS::AtLeastOnce, ..Publish::default() };
        self.client.try_ack(&publish).map_err(|_| Lost::stuck())
    }

    fn disconnect(&mut self) {
        // Cannot be told when the queue is full; the driver ends with the link in any case.
        let _ = self.client.try_disconnect();
    }

    async fn next(&mut self) -> Result<Happened, Lost> {
        loop {
            let silent = |_| Lost::Ended { cause: format!("silent for {:?}", self.silence) };
            let event = tokio::time::timeout(self.silence, self.received.recv());
            let Some(event) = event.await.map_err(silent)? else {
                return Err(Lost::Ended { cause: "the transport stopped".to_owned() });
            };
            match event {
                Ok(Event::Outgoing(sent)) => self.handle_sent(&sent),
                Ok(Event::Incoming(packet)) => return Ok(self.handle_packet(packet)),
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

fn refused(address: &str, error: ConnectionError) -> Lost {
    match error {
        ConnectionError::Io(error) => {
            Lost::Unreachable { address: address.to_owned(), cause: error.to_string() }
        }
        ConnectionError::Timeout(_) => {
            let cause = "no answer within 10 s".to_owned();
            Lost::Unreachable { address: address.to_owned(), cause }
        }
        ConnectionError::ConnectionRefused(code) => Lost::Refused { reason: refusal(code) },
        error => lost(error),
    }
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

fn lost(error: ConnectionError) -> Lost {
    let ConnectionError::MqttState(state) = error else {
        return Lost::Ended { cause: error.to_string() };
    };
    match state {
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        } => Lost::TakenOver,
        StateError::ServerDisconnect { reason_code, reason_string } => Lost::Ended {
            cause: format!(
                "DISCONNECT from the broker: {reason_code:?} {}",
                reason_string.unwrap_or_default()
            )
            .trim_end()
            .to_owned(),
        },
        StateError::ConnectionAborted => Lost::Ended { cause: "closed by the broker".to_owned() },
        StateError::Io(error) | StateError::Deserialization(MqttError::Io(error)) => {
            Lost::Ended { cause: error.to_string() }
        }
        state => Lost::Ended { cause: state.to_string() },
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
const INCOMING_BYTES_MAX: u32 = 384 * 1024;

/// Packet Identifiers that rumqttc uses in turn: it allocates a place for each.
const PACKET_IDS: u16 = 1_024;

/// Requests that wait for rumqttc: more than the windows of both directions and every watched
/// user's subscription together, so that full means stuck.
const REQUESTS_MAX: usize = 4_096;

/// Events that wait for the engine; when full rumqttc stops reading, and so does the broker.
const EVENTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_reset_while_reading_is_told_in_the_systems_words() {
        let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let expected = Lost::Ended { cause: reset().to_string() };
        let reading = StateError::Deserialization(MqttError::Io(reset()));
        assert_eq!(lost(ConnectionError::MqttState(reading)), expected);
        assert_eq!(lost(ConnectionError::MqttState(StateError::Io(reset()))), expected);
    }
}
