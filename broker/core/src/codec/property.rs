//! Properties one by one (§2.2.2): the table of which there are, what they hold, and where they may
//! stand.
//!
//! A list of them is a [`Properties`](super::Properties).

use super::malformed::Malformed;
use super::primitive::{Reader, put_binary, put_string, put_u16, put_u32, put_var_int};
use super::types::PacketKind;

/// One property of a packet (§2.2.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01: whether the payload is UTF-8 text.
    PayloadFormat(bool),
    /// 0x02: seconds.
    MessageExpiry(u32),
    /// 0x03
    ContentType(&'a str),
    /// 0x08: a Topic Name.
    ResponseTopic(&'a str),
    /// 0x09
    CorrelationData(&'a [u8]),
    /// 0x0B: 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// 0x11: seconds; `u32::MAX` is never.
    SessionExpiry(u32),
    /// 0x12
    AssignedClientId(&'a str),
    /// 0x13: seconds.
    ServerKeepAlive(u16),
    /// 0x15
    AuthenticationMethod(&'a str),
    /// 0x16
    AuthenticationData(&'a [u8]),
    /// 0x17
    RequestProblemInformation(bool),
    /// 0x18: seconds.
    WillDelay(u32),
    /// 0x19
    RequestResponseInformation(bool),
    /// 0x1A
    ResponseInformation(&'a str),
    /// 0x1C
    ServerReference(&'a str),
    /// 0x1F
    ReasonString(&'a str),
    /// 0x21: not 0.
    ReceiveMaximum(u16),
    /// 0x22
    TopicAliasMaximum(u16),
    /// 0x23: not 0.
    TopicAlias(u16),
    /// 0x24: 0 or 1; without it, 2.
    MaximumQoS(u8),
    /// 0x25
    RetainAvailable(bool),
    /// 0x26: name and value.
    UserProperty(&'a str, &'a str),
    /// 0x27: bytes, not 0.
    MaximumPacketSize(u32),
    /// 0x28
    WildcardSubscriptionAvailable(bool),
    /// 0x29
    SubscriptionIdentifiersAvailable(bool),
    /// 0x2A
    SharedSubscriptionAvailable(bool),
}

impl Property<'_> {
    /// Appends the property as it stands in a packet.
    ///
    /// Numbers are taken as they are; keep them in their ranges. Text and data of more than 65,535
    /// bytes are cut to that, text between characters.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::PayloadFormat(value) => put_byte(out, id::PAYLOAD_FORMAT, value.into()),
            Self::MessageExpiry(value) => put_four(out, id::MESSAGE_EXPIRY, value),
            Self::ContentType(value) => put_text(out, id::CONTENT_TYPE, value),
            Self::ResponseTopic(value) => put_text(out, id::RESPONSE_TOPIC, value),
            Self::CorrelationData(value) => put_data(out, id::CORRELATION_DATA, value),
            Self::SubscriptionIdentifier(value) => {
                out.push(id::SUBSCRIPTION_IDENTIFIER);
                put_var_int(out, value);
            }
            Self::SessionExpiry(value) => put_four(out, id::SESSION_EXPIRY, value),
            Self::AssignedClientId(value) => put_text(out, id::ASSIGNED_CLIENT_ID, value),
            Self::ServerKeepAlive(value) => put_two(out, id::SERVER_KEEP_ALIVE, value),
            Self::AuthenticationMethod(value) => put_text(out, id::AUTHENTICATION_METHOD, value),
            Self::AuthenticationData(value) => put_data(out, id::AUTHENTICATION_DATA, value),
            Self::RequestProblemInformation(value) => {
                put_byte(out, id::REQUEST_PROBLEM_INFORMATION, value.into());
            }
            Self::WillDelay(value) => put_four(out, id::WILL_DELAY, value),
            Self::RequestResponseInformation(value) => {
                put_byte(out, id::REQUEST_RESPONSE_INFORMATION, value.into());
            }
            Self::ResponseInformation(value) => put_text(out, id::RESPONSE_INFORMATION, value),
            Self::ServerReference(value) => put_text(out, id::SERVER_REFERENCE, value),
            Self::ReasonString(value) => put_text(out, id::REASON_STRING, value),
            Self::ReceiveMaximum(value) => put_two(out, id::RECEIVE_MAXIMUM, value),
            Self::TopicAliasMaximum(value) => put_two(out, id::TOPIC_ALIAS_MAXIMUM, value),
            Self::TopicAlias(value) => put_two(out, id::TOPIC_ALIAS, value),
            Self::MaximumQoS(value) => put_byte(out, id::MAXIMUM_QOS, value),
            Self::RetainAvailable(value) => put_byte(out, id::RETAIN_AVAILABLE, value.into()),
            Self::UserProperty(name, value) => {
                put_text(out, id::USER_PROPERTY, name);
                put_string(out, value);
            }
            Self::MaximumPacketSize(value) => put_four(out, id::MAXIMUM_PACKET_SIZE, value),
            Self::WildcardSubscriptionAvailable(value) => {
                put_byte(out, id::WILDCARD_SUBSCRIPTION_AVAILABLE, value.into());
            }
            Self::SubscriptionIdentifiersAvailable(value) => {
                put_byte(out, id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE, value.into());
            }
            Self::SharedSubscriptionAvailable(value) => {
                put_byte(out, id::SHARED_SUBSCRIPTION_AVAILABLE, value.into());
            }
        }
    }
}

fn put_byte(out: &mut Vec<u8>, id: u8, value: u8) {
    out.extend_from_slice(&[id, value]);
}

fn put_two(out: &mut Vec<u8>, id: u8, value: u16) {
    out.push(id);
    put_u16(out, value);
}

fn put_four(out: &mut Vec<u8>, id: u8, value: u32) {
    out.push(id);
    put_u32(out, value);
}

fn put_text(out: &mut Vec<u8>, id: u8, value: &str) {
    out.push(id);
    put_string(out, value);
}

fn put_data(out: &mut Vec<u8>, id: u8, value: &[u8]) {
    out.push(id);
    put_binary(out, value);
}

/// The Property Identifiers (§2.2.2.2).
pub(super) mod id {
    pub(in super::super) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in super::super) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in super::super) const CONTENT_TYPE: u8 = 0x03;
    pub(in super::super) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in super::super) const CORRELATION_DATA: u8 = 0x09;
    pub(in super::super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(in super::super) const SESSION_EXPIRY: u8 = 0x11;
    pub(in super::super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(in super::super) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in super::super) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in super::super) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in super::super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(in super::super) const WILL_DELAY: u8 = 0x18;
    pub(in super::super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(in super::super) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in super::super) const SERVER_REFERENCE: u8 = 0x1C;
    pub(in super::super) const REASON_STRING: u8 = 0x1F;
    pub(in super::super) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in super::super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in super::super) const TOPIC_ALIAS: u8 = 0x23;
    pub(in super::super) const MAXIMUM_QOS: u8 = 0x24;
    pub(in super::super) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in super::super) const USER_PROPERTY: u8 = 0x26;
    pub(in super::super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in super::super) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(in super::super) const SUBSCRIPTION_IDENTIFIERS_AVAILABLE: u8 = 0x29;
    pub(in super::super) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2A;
}

/// How a property's value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A byte that is 0 or 1.
    Bool,
    /// Two bytes.
    Two,
    /// Two bytes, not 0.
    TwoNotZero,
    /// Four bytes.
    Four,
    /// Four bytes, not 0.
    FourNotZero,
    /// A variable byte integer, not 0.
    VarNotZero,
    /// A string.
    Text,
    /// A string that is a Topic Name.
    Topic,
    /// Binary data.
    Data,
    /// Two strings.
    Pair,
}

const fn set<const N: usize>(kinds: [PacketKind; N]) -> u16 {
    let mut bits = 0;
    let mut rest: &[PacketKind] = &kinds;
    while let [kind, others @ ..] = rest {
        bits |= kind.bit();
        rest = others;
    }
    bits
}

/// The table of §2.2.2.2: how a property is written, and the packets it may stand in, a bit each.
/// Nothing for a number that is not in the table.
#[inline]
pub(super) const fn rule(id: u8) -> Option<(Shape, u16)> {
    use PacketKind::{
        Auth, Connack, Connect, Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel, Suback,
        Subscribe, Unsuback, Unsubscribe, Will,
    };
    const MESSAGE: u16 = set([Publish, Will]);
    const CONNECTING: u16 = set([Connect, Connack]);
    const AUTHENTICATION: u16 = set([Connect, Connack, Auth]);
    const ANSWER: u16 =
        set([Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth]);
    const ANY: u16 = ANSWER | MESSAGE | CONNECTING | set([Subscribe, Unsubscribe]);
    Some(match id {
        id::PAYLOAD_FORMAT => (Shape::Bool, MESSAGE),
        id::MESSAGE_EXPIRY => (Shape::Four, MESSAGE),
        id::CONTENT_TYPE => (Shape::Text, MESSAGE),
        id::RESPONSE_TOPIC => (Shape::Topic, MESSAGE),
        id::CORRELATION_DATA => (Shape::Data, MESSAGE),
        id::SUBSCRIPTION_IDENTIFIER => (Shape::VarNotZero, set([Publish, Subscribe])),
        id::SESSION_EXPIRY => (Shape::Four, set([Connect, Connack, Disconnect])),
        id::ASSIGNED_CLIENT_ID => (Shape::Text, set([Connack])),
        id::SERVER_KEEP_ALIVE => (Shape::Two, set([Connack])),
        id::AUTHENTICATION_METHOD => (Shape::Text, AUTHENTICATION),
        id::AUTHENTICATION_DATA => (Shape::Data, AUTHENTICATION),
        id::REQUEST_PROBLEM_INFORMATION => (Shape::Bool, set([Connect])),
        id::WILL_DELAY => (Shape::Four, set([Will])),
        id::REQUEST_RESPONSE_INFORMATION => (Shape::Bool, set([Connect])),
        id::RESPONSE_INFORMATION => (Shape::Text, set([Connack])),
        id::SERVER_REFERENCE => (Shape::Text, set([Connack, Disconnect])),
        id::REASON_STRING => (Shape::Text, ANSWER),
        id::RECEIVE_MAXIMUM => (Shape::TwoNotZero, CONNECTING),
        id::TOPIC_ALIAS_MAXIMUM => (Shape::Two, CONNECTING),
        id::TOPIC_ALIAS => (Shape::TwoNotZero, set([Publish])),
        id::MAXIMUM_QOS => (Shape::Bool, set([Connack])),
        id::RETAIN_AVAILABLE => (Shape::Bool, set([Connack])),
        id::USER_PROPERTY => (Shape::Pair, ANY),
        id::MAXIMUM_PACKET_SIZE => (Shape::FourNotZero, CONNECTING),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => (Shape::Bool, set([Connack])),
        id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE => (Shape::Bool, set([Connack])),
        id::SHARED_SUBSCRIPTION_AVAILABLE => (Shape::Bool, set([Connack])),
        _ => return None,
    })
}

/// The value of a property as it stands there, text not yet looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

impl Value<'_> {
    /// Reads a value of this shape off the front.
    #[inline]
    pub(super) fn read<'a>(reader: &mut Reader<'a>, shape: Shape) -> Result<Value<'a>, Malformed> {
        Ok(match shape {
            Shape::Bool => Value::Number(reader.u8()?.into()),
            Shape::Two | Shape::TwoNotZero => Value::Number(reader.u16()?.into()),
            Shape::Four | Shape::FourNotZero => Value::Number(reader.u32()?),
            Shape::VarNotZero => Value::Number(reader.var_int()?),
            Shape::Text | Shape::Topic | Shape::Data => Value::Bytes(reader.binary()?),
            Shape::Pair => Value::Pair(reader.binary()?, reader.binary()?),
        })
    }
}

impl<'a> Property<'a> {
    /// Puts together what has been checked before; nothing if it has not.
    pub(super) fn from_checked(id: u8, value: Value<'a>) -> Option<Self> {
        Some(match value {
            Value::Number(number) => Self::from_number(id, number)?,
            Value::Bytes(bytes) => match id {
                id::CORRELATION_DATA => Self::CorrelationData(bytes),
                id::AUTHENTICATION_DATA => Self::AuthenticationData(bytes),
                _ => Self::from_text(id, std::str::from_utf8(bytes).ok()?)?,
            },
            Value::Pair(name, value) => Self::UserProperty(
                std::str::from_utf8(name).ok()?,
                std::str::from_utf8(value).ok()?,
            ),
        })
    }

    fn from_number(id: u8, number: u32) -> Option<Self> {
        let two = u16::try_from(number).unwrap_or(u16::MAX);
        let yes = number != 0;
        Some(match id {
            id::PAYLOAD_FORMAT => Self::PayloadFormat(yes),
            id::MESSAGE_EXPIRY => Self::MessageExpiry(number),
            id::SUBSCRIPTION_IDENTIFIER => Self::SubscriptionIdentifier(number),
            id::SESSION_EXPIRY => Self::SessionExpiry(number),
            id::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(two),
            id::REQUEST_PROBLEM_INFORMATION => Self::RequestProblemInformation(yes),
            id::WILL_DELAY => Self::WillDelay(number),
            id::REQUEST_RESPONSE_INFORMATION => Self::RequestResponseInformation(yes),
            id::RECEIVE_MAXIMUM => Self::ReceiveMaximum(two),
            id::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(two),
            id::TOPIC_ALIAS => Self::TopicAlias(two),
            id::MAXIMUM_QOS => Self::MaximumQoS(yes.into()),
            id::RETAIN_AVAILABLE => Self::RetainAvailable(yes),
            id::MAXIMUM_PACKET_SIZE => Self::MaximumPacketSize(number),
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => Self::WildcardSubscriptionAvailable(yes),
            id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE => Self::SubscriptionIdentifiersAvailable(yes),
            id::SHARED_SUBSCRIPTION_AVAILABLE => Self::SharedSubscriptionAvailable(yes),
            _ => return None,
        })
    }

    fn from_text(id: u8, text: &'a str) -> Option<Self> {
        Some(match id {
            id::CONTENT_TYPE => Self::ContentType(text),
            id::RESPONSE_TOPIC => Self::ResponseTopic(text),
            id::ASSIGNED_CLIENT_ID => Self::AssignedClientId(text),
            id::AUTHENTICATION_METHOD => Self::AuthenticationMethod(text),
            id::RESPONSE_INFORMATION => Self::ResponseInformation(text),
            id::SERVER_REFERENCE => Self::ServerReference(text),
            id::REASON_STRING => Self::ReasonString(text),
            _ => return None,
        })
    }
}
