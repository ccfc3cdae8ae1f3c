//! Packets to be sent, as bytes: built by hand, wrong ones too.
//!
//! This is no codec: nothing here refuses to build what the specification forbids.

use crate::number::{PUBREL, SESSION_EXPIRY, USER_PROPERTY};

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
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP in its shortest form, of both versions.
pub fn ack(kind: u8, id: u16) -> Vec<u8> {
    let flags = if kind == PUBREL { 2 } else { 0 };
    frame(kind << 4 | flags, &[&id.to_be_bytes()])
}

/// The same with a reason code, MQTT 5 only.
pub fn ack_with(kind: u8, id: u16, code: u8) -> Vec<u8> {
    let flags = if kind == PUBREL { 2 } else { 0 };
    frame(kind << 4 | flags, &[&id.to_be_bytes(), &[code]])
}

/// A SUBSCRIBE (§3.8): filters with their options.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)], props: Props) -> Vec<u8> {
    let list: Vec<u8> = filters
        .iter()
        .flat_map(|(filter, options)| [text(filter), vec![*options]].concat())
        .collect();
    frame(0x82, &[&id.to_be_bytes(), &props.block(version), &list])
}

/// An UNSUBSCRIBE (§3.10).
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = filters.iter().flat_map(text).collect();
    frame(0xA2, &[&id.to_be_bytes(), &Props::new().block(version), &list])
}
