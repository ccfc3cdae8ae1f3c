//! Packets as bytes: built by hand, wrong ones too, and taken apart again.
//!
//! This is no codec. Nothing here refuses to build what the specification forbids; what is read is
//! checked, because a broker's answers are part of what is tested.

/// Which MQTT a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl Version {
    /// The protocol level in CONNECT (§3.1.2.2).
    pub fn level(self) -> u8 {
        match self {
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// A packet: its first byte and the remaining ones, with the right length between them.
pub fn frame(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    bytes.extend(var_int(body.len()));
    bytes.extend(body);
    bytes
}

/// A Variable Byte Integer in the fewest bytes (§1.5.5); more than four if `value` is too large.
pub fn var_int(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7F).unwrap_or_default();
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Bytes after their length in two bytes: a string, or binary data (§1.5.4, §1.5.6). Cut at 65,535.
pub fn text(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(content.iter().take(usize::from(length)));
    bytes
}

/// Properties to be sent (§2.2.2), without their length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Props(pub Vec<u8>);

impl Props {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a property whose value is these bytes, as they are.
    #[must_use]
    pub fn raw(mut self, id: u8, value: &[u8]) -> Self {
        self.0.push(id);
        self.0.extend(value);
        self
    }

    /// Appends a property of one byte.
    #[must_use]
    pub fn byte(self, id: u8, value: u8) -> Self {
        self.raw(id, &[value])
    }

    /// Appends a property of two bytes.
    #[must_use]
    pub fn two(self, id: u8, value: u16) -> Self {
        self.raw(id, &value.to_be_bytes())
    }

    /// Appends a property of four bytes.
    #[must_use]
    pub fn four(self, id: u8, value: u32) -> Self {
        self.raw(id, &value.to_be_bytes())
    }

    /// Appends a property that is a string or binary data.
    #[must_use]
    pub fn text(self, id: u8, value: impl AsRef<[u8]>) -> Self {
        self.raw(id, &text(value))
    }

    /// Appends a user property.
    #[must_use]
    pub fn pair(self, name: &str, value: &str) -> Self {
        self.raw(USER_PROPERTY, &[text(name), text(value)].concat())
    }

    /// Appends a property that is a Variable Byte Integer.
    #[must_use]
    pub fn var(self, id: u8, value: usize) -> Self {
        self.raw(id, &var_int(value))
    }

    /// The property block as the version has it: nothing in 3.1.1.
    pub fn block(&self, version: Version) -> Vec<u8> {
        match version {
            Version::V311 => Vec::new(),
            Version::V5 => [var_int(self.0.len()), self.0.clone()].concat(),
        }
    }
}

/// The will in a CONNECT (§3.1.3.2 to §3.1.3.4).
#[derive(Debug, Clone)]
pub struct Will {
    /// Where it is published.
    pub topic: String,
    /// What is.
    pub payload: Vec<u8>,
    /// At which QoS; 3 can be sent.
    pub qos: u8,
    /// Whether retained.
    pub retain: bool,
    /// Its properties, MQTT 5 only.
    pub props: Props,
}

/// A CONNECT (§3.1), with all that can be wrong about it.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Which form it has.
    pub version: Version,
    /// The protocol name.
    pub name: Vec<u8>,
    /// The protocol level.
    pub level: u8,
    /// The Client Identifier.
    pub client_id: Vec<u8>,
    /// Clean Start, or Clean Session.
    pub clean: bool,
    /// Keep Alive in seconds.
    pub keep_alive: u16,
    /// The properties, MQTT 5 only.
    pub props: Props,
    /// The will.
    pub will: Option<Will>,
    /// The user name.
    pub user: Option<Vec<u8>>,
    /// The password.
    pub password: Option<Vec<u8>>,
    /// Connect flags that are turned over before sending.
    pub flags_xor: u8,
    /// Bytes after the end.
    pub trailing: Vec<u8>,
}

impl Connect {
    /// A right one: Clean Start, a minute of Keep Alive.
    pub fn new(version: Version, client_id: &str) -> Self {
        Self {
            version,
            name: b"MQTT".to_vec(),
            level: version.level(),
            client_id: client_id.into(),
            clean: true,
            keep_alive: 60,
            props: Props::new(),
            will: None,
            user: None,
            password: None,
            flags_xor: 0,
            trailing: Vec::new(),
        }
    }

    /// With Clean Start 0, and in MQTT 5 a Session Expiry Interval of `seconds`.
    #[must_use]
    pub fn kept(mut self, seconds: u32) -> Self {
        self.clean = false;
        self.props = self.props.four(SESSION_EXPIRY, seconds);
        self
    }

    /// With these properties after those it has.
    #[must_use]
    pub fn with(mut self, props: Props) -> Self {
        self.props.0.extend(props.0);
        self
    }

    /// With a will of QoS 0 that is not retained.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &str) -> Self {
        let (topic, payload) = (topic.to_owned(), payload.into());
        self.will = Some(Will { topic, payload, qos: 0, retain: false, props: Props::new() });
        self
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut payload = text(&self.client_id);
        if let Some(will) = &self.will {
            flags |= 0x04 | (will.qos << 3) | (u8::from(will.retain) << 5);
            payload.extend(will.props.block(self.version));
            payload.extend(text(&will.topic));
            payload.extend(text(&will.payload));
        }
        if let Some(user) = &self.user {
            flags |= 0x80;
            payload.extend(text(user));
        }
        if let Some(password) = &self.password {
            flags |= 0x40;
            payload.extend(text(password));
        }
        let head = [self.level, flags ^ self.flags_xor];
        let keep_alive = self.keep_alive.to_be_bytes();
        let props = self.props.block(self.version);
        frame(0x10, &[&text(&self.name), &head, &keep_alive, &props, &payload, &self.trailing])
    }
}

/// A PUBLISH (§3.3), to be sent or received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The DUP flag.
    pub dup: bool,
    /// The QoS; 3 can be sent.
    pub qos: u8,
    /// The RETAIN flag.
    pub retain: bool,
    /// The Topic Name.
    pub topic: Vec<u8>,
    /// The Packet Identifier; not sent with QoS 0.
    pub id: u16,
    /// The properties, MQTT 5 only.
    pub props: Props,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Publish {
    /// QoS 0, not retained.
    pub fn new(topic: &str, payload: &str) -> Self {
        Self {
            dup: false,
            qos: 0,
            retain: false,
            topic: topic.into(),
            id: 0,
            props: Props::new(),
            payload: payload.into(),
        }
    }

    /// At this QoS, under this Packet Identifier.
    #[must_use]
    pub fn qos(mut self, qos: u8, id: u16) -> Self {
        self.qos = qos;
        self.id = id;
        self
    }

    /// With RETAIN 1.
    #[must_use]
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With DUP 1.
    #[must_use]
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// With these properties.
    #[must_use]
    pub fn with(mut self, props: Props) -> Self {
        self.props = props;
        self
    }

    /// The bytes.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let first =
            0x30 | (u8::from(self.dup) << 3) | ((self.qos & 3) << 1) | u8::from(self.retain);
        let id = self.id.to_be_bytes();
        let id: &[u8] = if self.qos == 0 { &[] } else { &id };
        let props = self.props.block(version);
        frame(first, &[&text(&self.topic), id, &props, &self.payload])
    }

    /// The payload as text, for comparing and for telling.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// What is wrong with it as what a Server sends, or itself.
    pub(crate) fn parse(packet: &Packet, version: Version) -> Result<Self, String> {
        let qos = (packet.first >> 1) & 3;
        if packet.first >> 4 != PUBLISH || qos == 3 {
            return Err(format!("expected a PUBLISH, found {packet}"));
        }
        let mut reader = Reader(&packet.body);
        let topic = reader.text()?.to_vec();
        let id = if qos == 0 { 0 } else { reader.two()? };
        if qos > 0 && id == 0 {
            return Err(format!("a packet identifier of 0 in {packet}"));
        }
        let props = match version {
            Version::V311 => Props::new(),
            Version::V5 => {
                let length = reader.var_int()?;
                Props(reader.take(length)?.to_vec())
            }
        };
        let (dup, retain) = (packet.first & 8 != 0, packet.first & 1 != 0);
        Ok(Self { dup, qos, retain, topic, id, props, payload: reader.0.to_vec() })
    }

    /// The values of one property, each as the bytes it was sent in.
    pub fn property(&self, id: u8) -> Result<Vec<Vec<u8>>, String> {
        Ok(properties(&self.props.0)?.into_iter().filter(|it| it.0 == id).map(|it| it.1).collect())
    }
}

/// A packet that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Packet type and flags.
    pub first: u8,
    /// What follows the Remaining Length.
    pub body: Vec<u8>,
}

impl Packet {
    /// The packet type.
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The bytes, as short hexadecimal text.
    pub fn hex(&self) -> String {
        hex(&frame(self.first, &[&self.body]))
    }
}

impl std::fmt::Display for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", kind_name(self.kind()), self.hex())
    }
}

/// Bytes as text; of long ones the beginning.
pub fn hex(bytes: &[u8]) -> String {
    let shown: Vec<_> = bytes.iter().take(HEX_SHOWN).map(|it| format!("{it:02x}")).collect();
    let rest = bytes.len().saturating_sub(HEX_SHOWN);
    if rest == 0 { shown.join(" ") } else { format!("{} +{rest} bytes", shown.join(" ")) }
}

/// The name of a packet type (§2.1.2).
pub fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; 16] = [
        "reserved type 0",
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("no type")
}

/// Takes properties apart: identifiers with the bytes of their values.
///
/// # Errors
/// An identifier that does not exist, or a value that does not end where it should.
pub fn properties(block: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, String> {
    let mut reader = Reader(block);
    let mut found = Vec::new();
    while !reader.0.is_empty() {
        let id = reader.byte()?;
        let before = reader.0;
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(reader.take(1)?),
            0x13 | 0x21 | 0x22 | 0x23 => drop(reader.take(2)?),
            0x02 | 0x11 | 0x18 | 0x27 => drop(reader.take(4)?),
            0x0B => drop(reader.var_int()?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => drop(reader.text()?),
            USER_PROPERTY => {
                reader.text()?;
                reader.text()?;
            }
            _ => return Err(format!("no property has the identifier {id:#04x}")),
        }
        let used = before.len() - reader.0.len();
        found.push((id, before.iter().take(used).copied().collect()));
    }
    Ok(found)
}

/// Reads fields off the front.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let Some((front, rest)) = self.0.split_at_checked(count) else {
            return Err(format!("expected {count} more bytes, found {}", self.0.len()));
        };
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    pub(crate) fn two(&mut self) -> Result<u16, String> {
        Ok(self.take(2)?.iter().fold(0, |value, byte| value << 8 | u16::from(*byte)))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], String> {
        let length = self.two()?;
        self.take(usize::from(length))
    }

    /// [MQTT-1.5.5-1]
    pub(crate) fn var_int(&mut self) -> Result<usize, String> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(value) } else { Err("a length in too many bytes".into()) };
            }
        }
        Err("a length of more than four bytes".into())
    }
}

/// Packet types (§2.1.2).
pub const CONNACK: u8 = 2;
/// See [`CONNACK`].
pub const PUBLISH: u8 = 3;
/// See [`CONNACK`].
pub const PUBACK: u8 = 4;
/// See [`CONNACK`].
pub const PUBREC: u8 = 5;
/// See [`CONNACK`].
pub const PUBREL: u8 = 6;
/// See [`CONNACK`].
pub const PUBCOMP: u8 = 7;
/// See [`CONNACK`].
pub const SUBACK: u8 = 9;
/// See [`CONNACK`].
pub const UNSUBACK: u8 = 11;
/// See [`CONNACK`].
pub const PINGRESP: u8 = 13;
/// See [`CONNACK`].
pub const DISCONNECT: u8 = 14;

/// Property identifiers (§2.2.2.2).
pub const PAYLOAD_FORMAT: u8 = 0x01;
/// See [`PAYLOAD_FORMAT`].
pub const MESSAGE_EXPIRY: u8 = 0x02;
/// See [`PAYLOAD_FORMAT`].
pub const CONTENT_TYPE: u8 = 0x03;
/// See [`PAYLOAD_FORMAT`].
pub const RESPONSE_TOPIC: u8 = 0x08;
/// See [`PAYLOAD_FORMAT`].
pub const CORRELATION_DATA: u8 = 0x09;
/// See [`PAYLOAD_FORMAT`].
pub const SUBSCRIPTION_ID: u8 = 0x0B;
/// See [`PAYLOAD_FORMAT`].
pub const SESSION_EXPIRY: u8 = 0x11;
/// See [`PAYLOAD_FORMAT`].
pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
/// See [`PAYLOAD_FORMAT`].
pub const AUTH_METHOD: u8 = 0x15;
/// See [`PAYLOAD_FORMAT`].
pub const PROBLEM_INFORMATION: u8 = 0x17;
/// See [`PAYLOAD_FORMAT`].
pub const WILL_DELAY: u8 = 0x18;
/// See [`PAYLOAD_FORMAT`].
pub const RECEIVE_MAXIMUM: u8 = 0x21;
/// See [`PAYLOAD_FORMAT`].
pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
/// See [`PAYLOAD_FORMAT`].
pub const TOPIC_ALIAS: u8 = 0x23;
/// See [`PAYLOAD_FORMAT`].
pub const USER_PROPERTY: u8 = 0x26;
/// See [`PAYLOAD_FORMAT`].
pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
/// See [`PAYLOAD_FORMAT`].
pub const SHARED_AVAILABLE: u8 = 0x2A;

/// How many bytes of a packet are shown.
const HEX_SHOWN: usize = 96;
