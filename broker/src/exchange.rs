//! The exchange of enhanced authentication (§4.12): with a stranger before CONNACK, step by step
//! with a Client that is connected.
//!
//! Until CONNACK the Client may send nothing but AUTH and DISCONNECT, each no larger than a CONNECT
//! may be. The one deadline of the opening is the caller's; a connected Client is known already, and
//! has as long for each exchange.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidings_core::codec::{
    Auth, Connect, Packet, PropertiesBuf, Property, ReasonCode, Version, decode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::auth::{
    Credentials, EnhancedAuthenticate, Exchange, Introduction, Methods, Refusal, Step,
};

/// A Client that enhanced authentication accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) user: String,
    pub(crate) expires: Option<SystemTime>,
    /// For CONNACK.
    pub(crate) data: Vec<u8>,
    /// For the next time.
    pub(crate) reauthenticator: Arc<Reauthenticator>,
}

/// How a Client that was accepted is authenticated again.
#[derive(Debug)]
pub(crate) struct Reauthenticator {
    offer: Arc<dyn EnhancedAuthenticate>,
    introduction: Introduction,
}

/// Why there is nobody to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The connection is gone, or the Client gave up.
    Gone,
    /// CONNACK says why.
    Refused(ReasonCode),
}

/// Has a stranger authenticated by the method that its CONNECT names. `input` is what came behind
/// CONNECT; what comes behind the exchange is left in it.
pub(crate) async fn introduce<S: AsyncRead + AsyncWrite + Unpin + ?Sized>(
    stream: &mut S,
    input: &mut Vec<u8>,
    connect: &Connect<'_>,
    methods: &Methods,
    credentials: Credentials,
    packet_bytes_max: usize,
) -> Result<Accepted, Unknown> {
    let method = connect.properties.authentication_method().unwrap_or_default();
    // [MQTT-4.12.0-1]
    let offer =
        methods.find(method).ok_or(Unknown::Refused(ReasonCode::BadAuthenticationMethod))?;
    let mut introduction =
        Introduction { method: method.to_owned(), credentials, current_user: None };
    let mut exchange = Arc::clone(&offer).begin(introduction.clone());
    introduction.credentials.password = None;
    let mut said = connect.properties.authentication_data().unwrap_or_default().to_vec();
    let largest = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
    for _ in 0..STEPS_MAX {
        let step = exchange.step(&said).await;
        let (Step::Continue { data } | Step::Accept { data, .. }) = &step else {
            let Step::Refuse(refusal) = step else { return Err(Unknown::Gone) };
            return Err(Unknown::Refused(refusal.reason()));
        };
        let auth = encode(method, data, largest).ok_or_else(|| {
            tracing::debug!(method, bytes = data.len(), "authentication data is too large to send");
            Unknown::Refused(ReasonCode::PacketTooLarge)
        })?;
        if let Step::Accept { user, expires, data } = step {
            introduction.current_user = Some(user.clone());
            let reauthenticator = Arc::new(Reauthenticator { offer, introduction });
            return Ok(Accepted { user, expires, data, reauthenticator });
        }
        stream.write_all(&auth).await.map_err(|_| Unknown::Gone)?;
        said = answer(stream, input, method, packet_bytes_max).await?;
    }
    tracing::debug!(method, "an exchange came to no end in {STEPS_MAX} steps");
    Err(Unknown::Refused(ReasonCode::NotAuthorized))
}

/// AUTH that asks for more [MQTT-4.12.0-2]; `None`: it would be too large for the Client.
fn encode(method: &str, data: &[u8], largest: u32) -> Option<Vec<u8>> {
    if data.len() > usize::from(u16::MAX) {
        return None;
    }
    let mut properties = PropertiesBuf::new();
    properties.push(Property::AuthenticationMethod(method));
    if !data.is_empty() {
        properties.push(Property::AuthenticationData(data));
    }
    let reason = ReasonCode::ContinueAuthentication;
    let auth = Packet::Auth(Auth { reason, properties: properties.as_properties() });
    let mut bytes = Vec::new();
    auth.encode(Version::V5, &mut bytes).ok()?;
    u32::try_from(bytes.len()).is_ok_and(|length| length <= largest).then_some(bytes)
}

/// Waits for the AUTH that is due; the Authentication Data of it.
async fn answer<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    input: &mut Vec<u8>,
    method: &str,
    packet_bytes_max: usize,
) -> Result<Vec<u8>, Unknown> {
    loop {
        match decode(input, Version::V5, packet_bytes_max) {
            Ok(Some((packet, used))) => {
                let data = answer_in(&packet, method)?;
                input.drain(..used);
                return Ok(data);
            }
            Ok(None) => {}
            Err(malformed) => return Err(Unknown::Refused(malformed.reason_code())),
        }
        if stream.read_buf(input).await.map_err(|_| Unknown::Gone)? == 0 {
            return Err(Unknown::Gone);
        }
    }
}

/// The Authentication Data, if the packet is the AUTH that is due.
fn answer_in(packet: &Packet<'_>, method: &str) -> Result<Vec<u8>, Unknown> {
    match packet {
        // [MQTT-4.12.0-5]
        Packet::Auth(auth) if auth.properties.authentication_method() != Some(method) => {
            Err(Unknown::Refused(ReasonCode::BadAuthenticationMethod))
        }
        // [MQTT-4.12.0-3]
        Packet::Auth(auth) if auth.reason == ReasonCode::ContinueAuthentication => {
            Ok(auth.properties.authentication_data().unwrap_or_default().to_vec())
        }
        Packet::Disconnect(_) => Err(Unknown::Gone),
        // [MQTT-3.1.2-30]
        _ => Err(Unknown::Refused(ReasonCode::ProtocolError)),
    }
}

/// An exchange with a connected Client, between two of its steps.
#[derive(Debug)]
pub(crate) struct Going {
    exchange: Box<dyn Exchange>,
    deadline: Instant,
    steps: usize,
}

impl Going {
    /// Begins one, which is to be over in `time_max`.
    pub(crate) fn begin(who: &Reauthenticator, time_max: Duration) -> Self {
        let exchange = Arc::clone(&who.offer).begin(who.introduction.clone());
        Self { exchange, deadline: Instant::now() + time_max, steps: 0 }
    }

    /// When it is to be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes a step. An exchange that is late, or came to no end, is refused.
    pub(crate) async fn step(mut self, data: &[u8]) -> (Step, Option<Self>) {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return (Step::Refuse(Refusal::NotAuthorized), None);
        }
        match timeout_at(self.deadline, self.exchange.step(data)).await {
            Ok(step @ Step::Continue { .. }) => (step, Some(self)),
            Ok(step) => (step, None),
            Err(_late) => (Step::Refuse(Refusal::NotAuthorized), None),
        }
    }
}

/// More messages than any method in use needs: SCRAM takes two.
const STEPS_MAX: usize = 32;
