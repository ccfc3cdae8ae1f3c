//! The property list of one packet (§2.2.2), checked once and then kept as its bytes.
//!
//! A getter walks the list each time; lists are short. Looking for one property does not look at the
//! text of the others.

use bytes::Bytes;

use super::malformed::Malformed;
use super::primitive::{Reader, check_string, put_var_int, var_int_len};
use super::property::{Property, Shape, Value, id, rule};
use super::topic_check::{TopicFault, check_topic_name};
use super::types::{PacketKind, Version};

/// Valid properties of one packet, without the Property Length before them.
///
/// All packets of MQTT 3.1.1 have [`Properties::EMPTY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Self = Self { bytes: &[] };

    /// Checks a property list of this kind of packet, `bytes` being without the Property Length.
    ///
    /// [`PacketKind::Will`] stands for the Will Properties of a CONNECT.
    ///
    /// # Errors
    ///
    /// A property that is unknown, not one of this packet's, there twice, cut off or out of its
    /// range (§2.2.2.2).
    pub fn parse(bytes: &'a [u8], packet: PacketKind) -> Result<Self, Malformed> {
        if !bytes.is_empty() {
            check(bytes, packet)?;
        }
        Ok(Self { bytes })
    }

    /// Reads a Property Length and what it measures.
    #[inline]
    pub(super) fn read(
        reader: &mut Reader<'a>,
        packet: PacketKind,
        version: Version,
    ) -> Result<Self, Malformed> {
        if version == Version::V311 {
            return Ok(Self::EMPTY);
        }
        let length = reader.var_int()? as usize;
        if length == 0 {
            return Ok(Self::EMPTY);
        }
        let left = reader.left();
        let bytes = reader
            .take(length)
            .map_err(|_short| Malformed::PropertiesBeyondPacket { length, left })?;
        Self::parse(bytes, packet)
    }

    /// What it takes in a packet, with its Property Length.
    #[inline]
    pub(super) const fn encoded_len(&self, version: Version) -> usize {
        match version {
            Version::V311 => 0,
            Version::V5 => var_int_len(self.bytes.len()) + self.bytes.len(),
        }
    }

    /// Appends it with its Property Length.
    #[inline]
    pub(super) fn put(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 {
            // Whoever calls has measured the packet: the length fits.
            put_var_int(out, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
            out.extend_from_slice(self.bytes);
        }
    }

    /// The bytes, as in the packet, without the Property Length.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        self.raw().filter_map(|raw| Property::from_checked(raw.id, raw.value))
    }

    /// Appends to `out` the properties that a Server forwards unchanged with a message, in their
    /// order: Payload Format Indicator, Content Type, Response Topic, Correlation Data and User
    /// Properties ([MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20]).
    pub fn copy_forwarded(&self, out: &mut Vec<u8>) {
        for raw in self.raw() {
            if matches!(
                raw.id,
                id::PAYLOAD_FORMAT
                    | id::CONTENT_TYPE
                    | id::RESPONSE_TOPIC
                    | id::CORRELATION_DATA
                    | id::USER_PROPERTY
            ) {
                out.extend_from_slice(raw.bytes);
            }
        }
    }

    /// Payload Format Indicator: `true` says that the payload is UTF-8 text.
    pub fn payload_format(&self) -> Option<bool> {
        self.flag(id::PAYLOAD_FORMAT)
    }

    /// Message Expiry Interval, seconds.
    pub fn message_expiry(&self) -> Option<u32> {
        self.number(id::MESSAGE_EXPIRY)
    }

    /// Content Type.
    pub fn content_type(&self) -> Option<&'a str> {
        self.text(id::CONTENT_TYPE)
    }

    /// Response Topic: a Topic Name.
    pub fn response_topic(&self) -> Option<&'a str> {
        self.text(id::RESPONSE_TOPIC)
    }

    /// Correlation Data.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.data(id::CORRELATION_DATA)
    }

    /// The (first) Subscription Identifier, 1 to 268,435,455.
    pub fn subscription_identifier(&self) -> Option<u32> {
        self.number(id::SUBSCRIPTION_IDENTIFIER)
    }

    /// Every Subscription Identifier of a PUBLISH from a Server (§3.3.2.3.8).
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.raw().filter_map(|raw| match raw.value {
            Value::Number(value) if raw.id == id::SUBSCRIPTION_IDENTIFIER => Some(value),
            _ => None,
        })
    }

    /// Session Expiry Interval, seconds; `u32::MAX` is never.
    pub fn session_expiry(&self) -> Option<u32> {
        self.number(id::SESSION_EXPIRY)
    }

    /// Assigned Client Identifier.
    pub fn assigned_client_id(&self) -> Option<&'a str> {
        self.text(id::ASSIGNED_CLIENT_ID)
    }

    /// Server Keep Alive, seconds.
    pub fn server_keep_alive(&self) -> Option<u16> {
        self.short_number(id::SERVER_KEEP_ALIVE)
    }

    /// Authentication Method.
    pub fn authentication_method(&self) -> Option<&'a str> {
        self.text(id::AUTHENTICATION_METHOD)
    }

    /// Authentication Data.
    pub fn authentication_data(&self) -> Option<&'a [u8]> {
        self.data(id::AUTHENTICATION_DATA)
    }

    /// Request Problem Information; without it, true (§3.1.2.11.7).
    pub fn request_problem_information(&self) -> bool {
        self.flag(id::REQUEST_PROBLEM_INFORMATION).unwrap_or(true)
    }

    /// Will Delay Interval, seconds.
    pub fn will_delay(&self) -> Option<u32> {
        self.number(id::WILL_DELAY)
    }

    /// Request Response Information; without it, false (§3.1.2.11.6).
    pub fn request_response_information(&self) -> bool {
        self.flag(id::REQUEST_RESPONSE_INFORMATION).unwrap_or(false)
    }

    /// Response Information.
    pub fn response_information(&self) -> Option<&'a str> {
        self.text(id::RESPONSE_INFORMATION)
    }

    /// Server Reference.
    pub fn server_reference(&self) -> Option<&'a str> {
        self.text(id::SERVER_REFERENCE)
    }

    /// Reason String.
    pub fn reason_string(&self) -> Option<&'a str> {
        self.text(id::REASON_STRING)
    }

    /// Receive Maximum, not 0; without it, 65,535 (§3.1.2.11.3).
    pub fn receive_maximum(&self) -> Option<u16> {
        self.short_number(id::RECEIVE_MAXIMUM)
    }

    /// Topic Alias Maximum; without it, 0.
    pub fn topic_alias_maximum(&self) -> Option<u16> {
        self.short_number(id::TOPIC_ALIAS_MAXIMUM)
    }

    /// Topic Alias, not 0.
    pub fn topic_alias(&self) -> Option<u16> {
        self.short_number(id::TOPIC_ALIAS)
    }

    /// Maximum QoS: 0 or 1; without it, 2.
    pub fn maximum_qos(&self) -> Option<u8> {
        self.flag(id::MAXIMUM_QOS).map(u8::from)
    }

    /// Retain Available; without it, true.
    pub fn retain_available(&self) -> bool {
        self.flag(id::RETAIN_AVAILABLE).unwrap_or(true)
    }

    /// The User Properties, name and value, in their order ([MQTT-3.3.2-18]).
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.raw().filter_map(|raw| match raw.value {
            Value::Pair(name, value) => {
                Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
            }
            _ => None,
        })
    }

    /// The first User Property of this name.
    pub fn user_property(&self, name: &str) -> Option<&'a str> {
        self.raw().find_map(|raw| match raw.value {
            Value::Pair(found, value) if found == name.as_bytes() => {
                std::str::from_utf8(value).ok()
            }
            _ => None,
        })
    }

    /// Maximum Packet Size, bytes, not 0; without it, no limit but the protocol's.
    pub fn maximum_packet_size(&self) -> Option<u32> {
        self.number(id::MAXIMUM_PACKET_SIZE)
    }

    /// Wildcard Subscription Available; without it, true.
    pub fn wildcard_subscription_available(&self) -> bool {
        self.flag(id::WILDCARD_SUBSCRIPTION_AVAILABLE).unwrap_or(true)
    }

    /// Subscription Identifiers Available; without it, true.
    pub fn subscription_identifiers_available(&self) -> bool {
        self.flag(id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE).unwrap_or(true)
    }

    /// Shared Subscription Available; without it, true.
    pub fn shared_subscription_available(&self) -> bool {
        self.flag(id::SHARED_SUBSCRIPTION_AVAILABLE).unwrap_or(true)
    }

    const fn raw(&self) -> RawProperties<'a> {
        RawProperties { reader: Reader::new(self.bytes) }
    }

    fn value(&self, id: u8) -> Option<Value<'a>> {
        self.raw().find(|raw| raw.id == id).map(|raw| raw.value)
    }

    fn number(&self, id: u8) -> Option<u32> {
        match self.value(id)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    fn short_number(&self, id: u8) -> Option<u16> {
        u16::try_from(self.number(id)?).ok()
    }

    fn flag(&self, id: u8) -> Option<bool> {
        Some(self.number(id)? != 0)
    }

    fn data(&self, id: u8) -> Option<&'a [u8]> {
        match self.value(id)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn text(&self, id: u8) -> Option<&'a str> {
        std::str::from_utf8(self.data(id)?).ok()
    }
}

/// Properties that are put together, for a packet to be sent.
///
/// Holds what it is given: which packet they suit is for whoever pushes them to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
}

impl PropertiesBuf {
    /// None yet; allocates with the first.
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// None yet, and memory for so many bytes of them.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Appends a property, as [`Property::encode`] writes it.
    pub fn push(&mut self, property: Property<'_>) {
        property.encode(&mut self.bytes);
    }

    /// Takes all out again and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Their bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }

    /// What a packet takes.
    pub const fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: self.bytes.as_slice() }
    }
}

impl<'a> Extend<Property<'a>> for PropertiesBuf {
    fn extend<I: IntoIterator<Item = Property<'a>>>(&mut self, properties: I) {
        for property in properties {
            self.push(property);
        }
    }
}

impl<'a> FromIterator<Property<'a>> for PropertiesBuf {
    fn from_iter<I: IntoIterator<Item = Property<'a>>>(properties: I) -> Self {
        let mut all = Self::new();
        all.extend(properties);
        all
    }
}

struct RawProperty<'a> {
    id: u8,
    value: Value<'a>,
    /// Identifier and value.
    bytes: &'a [u8],
}

struct RawProperties<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for RawProperties<'a> {
    type Item = RawProperty<'a>;

    /// Ends early at what [`check`] would have refused, which is not reached.
    fn next(&mut self) -> Option<RawProperty<'a>> {
        let before = self.reader;
        let id = self.reader.u8().ok()?;
        let (shape, _packets) = rule(id)?;
        let value = Value::read(&mut self.reader, shape).ok()?;
        let mut whole = before;
        let bytes = whole.take(before.left() - self.reader.left()).ok()?;
        Some(RawProperty { id, value, bytes })
    }
}

fn check(bytes: &[u8], packet: PacketKind) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let mut seen: u64 = 0;
    while !reader.is_empty() {
        // All identifiers fit the first byte of the variable byte integer that they are (§2.2.2.2).
        let id = reader.u8()?;
        let Some((shape, packets)) = rule(id) else {
            return Err(Malformed::UnknownProperty { id });
        };
        if packets & packet.bit() == 0 {
            return Err(Malformed::PropertyNotAllowed { packet, id });
        }
        let repeats = id == id::USER_PROPERTY
            || (id == id::SUBSCRIPTION_IDENTIFIER && packet == PacketKind::Publish);
        if seen & (1 << id) != 0 && !repeats {
            return Err(Malformed::PropertyTwice { id });
        }
        seen |= 1 << id;
        check_value(id, shape, Value::read(&mut reader, shape)?)?;
    }
    let has = |id: u8| seen & (1 << id) != 0;
    if has(id::AUTHENTICATION_DATA) && !has(id::AUTHENTICATION_METHOD) {
        return Err(Malformed::AuthenticationDataWithoutMethod { packet });
    }
    Ok(())
}

#[inline]
fn check_value(id: u8, shape: Shape, value: Value<'_>) -> Result<(), Malformed> {
    match value {
        Value::Number(found) => {
            let valid = match shape {
                Shape::Bool => found <= 1,
                Shape::TwoNotZero | Shape::FourNotZero | Shape::VarNotZero => found != 0,
                _ => true,
            };
            match (valid, id) {
                (true, _) => Ok(()),
                (false, id::TOPIC_ALIAS) => Err(Malformed::TopicAliasZero),
                (false, _) => Err(Malformed::PropertyValue { id, found }),
            }
        }
        Value::Bytes(bytes) => match shape {
            Shape::Topic => match check_topic_name(bytes)? {
                Ok("") => Err(Malformed::ResponseTopicEmpty),
                Ok(_topic) => Ok(()),
                Err(TopicFault { found, at }) => {
                    Err(Malformed::ResponseTopicWildcard { found, at })
                }
            },
            Shape::Text => check_string(bytes).map(drop),
            _ => Ok(()),
        },
        Value::Pair(name, value) => {
            check_string(name)?;
            check_string(value)?;
            Ok(())
        }
    }
}
