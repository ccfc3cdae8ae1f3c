//! What Clients say and hear, as tests write it: builders for what is sent, lines for what comes.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which fail where they panic")]

use std::fmt::Write as _;

use tidings_core::codec::{
    Packet, PacketId, Properties, PropertiesBuf, Property, QoS, ReasonCode, RetainHandling,
    SubscriptionOptions, Version,
};
use tidings_core::time::Time;

/// What a Client got, in its own memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Connack {
        present: bool,
        reason: ReasonCode,
        properties: PropertiesBuf,
    },
    Publish(Delivery),
    Puback(u16, ReasonCode, PropertiesBuf),
    Pubrec(u16, ReasonCode),
    Pubrel(u16, ReasonCode),
    Pubcomp(u16, ReasonCode),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
    Disconnect(ReasonCode),
    Auth(ReasonCode, PropertiesBuf),
    /// With Server Reference, or a Reason String.
    Elsewhere(ReasonCode, String),
}

/// A PUBLISH that came to a Client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) id: u16,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) expiry: Option<u32>,
    pub(crate) subscription: Option<u32>,
}

/// How a Client connects.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) version: Version,
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: PropertiesBuf,
    pub(crate) will: Option<TheWill>,
    /// When the login is over.
    pub(crate) expires: Time,
    /// What CONNACK says at the end of enhanced authentication.
    pub(crate) authentication_data: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(crate) struct TheWill {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) properties: PropertiesBuf,
}

/// MQTT 5, clean start, no expiry.
pub(crate) fn v5(name: &str) -> Options {
    Options {
        version: Version::V5,
        name: name.to_owned(),
        user: String::new(),
        clean: true,
        keep_alive: 0,
        properties: PropertiesBuf::new(),
        will: None,
        expires: Time::NEVER,
        authentication_data: Vec::new(),
    }
}

/// MQTT 5, a session that is resumed and outlives its connection by `expiry` seconds.
pub(crate) fn lasting(name: &str, expiry: u32) -> Options {
    v5(name).resume().with(Property::SessionExpiry(expiry))
}

/// MQTT 3.1.1, clean session.
pub(crate) fn v311(name: &str) -> Options {
    Options { version: Version::V311, ..v5(name) }
}

impl Options {
    pub(crate) fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    pub(crate) fn clean(mut self) -> Self {
        self.clean = true;
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.user = user.to_owned();
        self
    }

    pub(crate) fn expires(mut self, expires: Time) -> Self {
        self.expires = expires;
        self
    }

    /// The Client was authenticated by `method`, which had this to say at the end.
    pub(crate) fn authenticated(self, method: &str, data: &str) -> Self {
        let options = self.with(Property::AuthenticationMethod(method));
        Self { authentication_data: data.as_bytes().to_vec(), ..options }
    }

    pub(crate) fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    pub(crate) fn with(mut self, property: Property<'_>) -> Self {
        self.properties.push(property);
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str, qos: u8, delay: u32) -> Self {
        let mut properties = PropertiesBuf::new();
        if delay > 0 {
            properties.push(Property::WillDelay(delay));
        }
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        self.will = Some(TheWill { topic, payload, qos, retain: false, properties });
        self
    }

    pub(crate) fn will_retained(mut self) -> Self {
        self.will.as_mut().unwrap().retain = true;
        self
    }
}

/// A filter and its options.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) filter: String,
    pub(crate) options: SubscriptionOptions,
}

/// A filter with a QoS and nothing else.
pub(crate) fn filter(filter: &str, qos: u8) -> Filter {
    let qos = QoS::from_u8(qos).unwrap();
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    Filter { filter: filter.to_owned(), options }
}

impl Filter {
    pub(crate) fn no_local(mut self) -> Self {
        self.options.no_local = true;
        self
    }

    pub(crate) fn retain_as_published(mut self) -> Self {
        self.options.retain_as_published = true;
        self
    }

    pub(crate) fn handling(mut self, handling: RetainHandling) -> Self {
        self.options.retain_handling = handling;
        self
    }
}

/// A message to publish.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) id: u16,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) properties: PropertiesBuf,
}

/// A message with this packet identifier, 0 for QoS 0.
pub(crate) fn message(
    topic: &str,
    payload: &(impl AsRef<[u8]> + ?Sized),
    qos: u8,
    id: u16,
) -> Sent {
    Sent {
        topic: topic.to_owned(),
        payload: payload.as_ref().to_owned(),
        qos,
        id,
        retain: false,
        dup: false,
        properties: PropertiesBuf::new(),
    }
}

impl Sent {
    pub(crate) fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn again(mut self) -> Self {
        self.dup = true;
        self
    }

    pub(crate) fn with(mut self, property: Property<'_>) -> Self {
        self.properties.push(property);
        self
    }
}

pub(crate) fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn kept(properties: Properties<'_>) -> PropertiesBuf {
    let mut kept = PropertiesBuf::new();
    for property in properties.iter() {
        kept.push(property);
    }
    kept
}

pub(crate) fn owned(packet: &Packet<'_>) -> Got {
    match packet {
        Packet::Connack(it) => Got::Connack {
            present: it.session_present,
            reason: it.reason,
            properties: kept(it.properties),
        },
        Packet::Publish(it) => Got::Publish(Delivery {
            id: it.packet_id.map_or(0, PacketId::get),
            qos: it.qos.as_u8(),
            dup: it.dup,
            retain: it.retain,
            topic: it.topic.to_owned(),
            payload: String::from_utf8_lossy(it.payload).into_owned(),
            expiry: it.properties.message_expiry(),
            subscription: it.properties.subscription_identifier(),
        }),
        Packet::Puback(it) => Got::Puback(it.packet_id.get(), it.reason, kept(it.properties)),
        Packet::Pubrec(it) => Got::Pubrec(it.packet_id.get(), it.reason),
        Packet::Pubrel(it) => Got::Pubrel(it.packet_id.get(), it.reason),
        Packet::Pubcomp(it) => Got::Pubcomp(it.packet_id.get(), it.reason),
        Packet::Suback(it) => Got::Suback(it.packet_id.get(), it.reasons.to_vec()),
        Packet::Unsuback(it) => Got::Unsuback(it.packet_id.get(), it.reasons.to_vec()),
        Packet::Pingresp => Got::Pingresp,
        Packet::Disconnect(it) => {
            match it.properties.server_reference().or_else(|| it.properties.reason_string()) {
                Some(server) => Got::Elsewhere(it.reason, server.to_owned()),
                None => Got::Disconnect(it.reason),
            }
        }
        Packet::Auth(it) => Got::Auth(it.reason, kept(it.properties)),
        other => panic!("not for a server to send: {other:?}"),
    }
}

/// One packet as a line: kind, identifier, and what is not as usual.
pub(crate) fn line(got: &Got) -> String {
    let ack = |name: &str, id: &u16, reason: &ReasonCode| match reason {
        ReasonCode::Success => format!("{name} {id}"),
        reason => format!("{name} {id} {:02x}", reason.as_u8()),
    };
    match got {
        Got::Connack { present, reason, .. } => match (present, reason) {
            (true, ReasonCode::Success) => "CONNACK present".to_owned(),
            (false, ReasonCode::Success) => "CONNACK".to_owned(),
            (_, reason) => format!("CONNACK {:02x}", reason.as_u8()),
        },
        Got::Publish(it) => {
            let mut line = format!("PUBLISH q{}", it.qos);
            if it.id > 0 {
                write!(line, " {}", it.id).unwrap();
            }
            line.push_str(if it.dup { " dup" } else { "" });
            line.push_str(if it.retain { " retain" } else { "" });
            if let Some(id) = it.subscription {
                write!(line, " sub={id}").unwrap();
            }
            if let Some(expiry) = it.expiry {
                write!(line, " expiry={expiry}").unwrap();
            }
            write!(line, " {}={}", it.topic, it.payload).unwrap();
            line
        }
        Got::Puback(id, reason, _) => ack("PUBACK", id, reason),
        Got::Pubrec(id, reason) => ack("PUBREC", id, reason),
        Got::Pubrel(id, reason) => ack("PUBREL", id, reason),
        Got::Pubcomp(id, reason) => ack("PUBCOMP", id, reason),
        Got::Suback(id, reasons) => format!("SUBACK {id} {reasons:02x?}"),
        Got::Unsuback(id, reasons) => format!("UNSUBACK {id} {reasons:02x?}"),
        Got::Pingresp => "PINGRESP".to_owned(),
        Got::Elsewhere(reason, server) => format!("DISCONNECT {:02x} {server}", reason.as_u8()),
        Got::Disconnect(reason) => format!("DISCONNECT {:02x}", reason.as_u8()),
        Got::Auth(reason, properties) => {
            let properties = properties.as_properties();
            let method = properties.authentication_method().unwrap_or("(no method)");
            let data = properties.authentication_data().unwrap_or(b"(no data)");
            let data = String::from_utf8_lossy(data);
            format!("AUTH {:02x} {method} {data}", reason.as_u8())
        }
    }
}
