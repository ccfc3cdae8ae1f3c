//! CONNECT (§3.1) and CONNACK (§3.2).
//!
//! An empty Client Identifier is well formed in both versions; whether it is accepted is for the
//! Server to say, with a CONNACK.

use super::control::read_reason;
use super::malformed::{Malformed, TooLarge};
use super::primitive::{Reader, put_binary, put_header, put_string, put_u16, string_len};
use super::properties::Properties;
use super::reason::ReasonCode;
use super::topic_check::{TopicFault, check_topic_name};
use super::types::{PacketKind, QoS, Version};

/// CONNECT: a Client introduces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// What this connection shall speak.
    pub version: Version,
    /// Clean Start; in MQTT 3.1.1 Clean Session.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// May be empty.
    pub client_id: &'a str,
    /// None in MQTT 3.1.1.
    pub properties: Properties<'a>,
    /// The Will, if there is one.
    pub will: Option<Will<'a>>,
    /// Who the Client says it is.
    pub user_name: Option<&'a str>,
    /// Any bytes; in MQTT 3.1.1 only beside a user name.
    pub password: Option<&'a [u8]>,
}

/// A Will Message: what the Server publishes when the connection ends badly (§3.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Its QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// The Will Properties; none in MQTT 3.1.1.
    pub properties: Properties<'a>,
    /// Free of wildcards, not empty.
    pub topic: &'a str,
    /// At most 65,535 bytes, unlike a PUBLISH.
    pub payload: &'a [u8],
}

const PROTOCOL_NAME: &str = "MQTT";

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

impl<'a> Connect<'a> {
    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, Malformed> {
        let name = reader.binary()?;
        if name != PROTOCOL_NAME.as_bytes() {
            return Err(Malformed::ProtocolName { bytes: name.len() });
        }
        let level = reader.u8()?;
        let version =
            Version::from_level(level).ok_or(Malformed::UnsupportedProtocolVersion { level })?;
        let flags = reader.u8()?;
        let will_flags = check_flags(flags, version)?;
        let keep_alive = reader.u16()?;
        let properties = Properties::read(&mut reader, PacketKind::Connect, version)?;
        let client_id = reader.string()?;
        let will = match will_flags {
            Some((qos, retain)) => Some(Will::decode(qos, retain, &mut reader, version)?),
            None => None,
        };
        let user_name = if flags & USER_NAME != 0 { Some(reader.string()?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.end()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self {
            version,
            clean_start,
            keep_alive,
            client_id,
            properties,
            will,
            user_name,
            password,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let version = self.version;
        let mut remaining = 2 + PROTOCOL_NAME.len() + 4;
        let mut flags = 0;
        remaining += self.properties.encoded_len(version);
        remaining += string_len(self.client_id.as_bytes())?;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | will.qos.as_u8() << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
            remaining += will.properties.encoded_len(version);
            remaining += string_len(will.topic.as_bytes())? + string_len(will.payload)?;
        }
        if let Some(user_name) = self.user_name {
            flags |= USER_NAME;
            remaining += string_len(user_name.as_bytes())?;
        }
        if let Some(password) = self.password {
            flags |= PASSWORD;
            remaining += string_len(password)?;
        }

        put_header(out, PacketKind::Connect.first_byte(), remaining)?;
        put_string(out, PROTOCOL_NAME);
        out.extend_from_slice(&[version.level(), flags]);
        put_u16(out, self.keep_alive);
        self.properties.put(version, out);
        put_string(out, self.client_id);
        if let Some(will) = &self.will {
            will.properties.put(version, out);
            put_string(out, will.topic);
            put_binary(out, will.payload);
        }
        if let Some(user_name) = self.user_name {
            put_string(out, user_name);
        }
        if let Some(password) = self.password {
            put_binary(out, password);
        }
        Ok(())
    }
}

/// The QoS and RETAIN of the Will, if the Connect Flags announce one (§3.1.2.3).
fn check_flags(flags: u8, version: Version) -> Result<Option<(QoS, bool)>, Malformed> {
    if flags & RESERVED != 0 {
        return Err(Malformed::ConnectReservedFlag);
    }
    if version == Version::V311 && flags & (USER_NAME | PASSWORD) == PASSWORD {
        return Err(Malformed::PasswordWithoutUserName);
    }
    let qos = flags >> WILL_QOS_SHIFT & 0b11;
    let retain = flags & WILL_RETAIN != 0;
    if flags & WILL != 0 {
        return Ok(Some((QoS::from_u8(qos).ok_or(Malformed::WillQos3)?, retain)));
    }
    if qos != 0 {
        return Err(Malformed::WillQosWithoutWill { qos });
    }
    if retain {
        return Err(Malformed::WillRetainWithoutWill);
    }
    Ok(None)
}

impl<'a> Will<'a> {
    fn decode(
        qos: QoS,
        retain: bool,
        reader: &mut Reader<'a>,
        version: Version,
    ) -> Result<Self, Malformed> {
        let properties = Properties::read(reader, PacketKind::Will, version)?;
        let topic = check_topic_name(reader.binary()?)?
            .map_err(|TopicFault { found, at }| Malformed::TopicWildcard { found, at })?;
        if topic.is_empty() {
            return Err(Malformed::TopicEmpty);
        }
        let payload = reader.binary()?;
        Ok(Self { qos, retain, properties, topic, payload })
    }
}

/// CONNACK: the Server's answer to a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the Server goes on with an earlier Session; never beside a refusal
    /// ([MQTT-3.2.2-6]).
    pub session_present: bool,
    /// In MQTT 3.1.1 written as [`ReasonCode::to_v311`] says.
    pub reason: ReasonCode,
    /// None in MQTT 3.1.1.
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    pub(super) fn decode(mut reader: Reader<'a>, version: Version) -> Result<Self, Malformed> {
        let packet = PacketKind::Connack;
        if version == Version::V311 && reader.left() != 2 {
            return Err(Malformed::RemainingLength { packet, found: reader.left(), expected: 2 });
        }
        let flags = reader.u8()?;
        if flags > 1 {
            return Err(Malformed::ConnackFlags { found: flags });
        }
        let session_present = flags == 1;
        let reason = match version {
            Version::V311 => {
                let found = reader.u8()?;
                ReasonCode::from_v311(found).ok_or(Malformed::ReasonCode { packet, found })?
            }
            Version::V5 => read_reason(packet, &mut reader)?,
        };
        if session_present && reason.is_error() {
            return Err(Malformed::SessionPresentWithRefusal { reason: reason.as_u8() });
        }
        let properties = Properties::read(&mut reader, packet, version)?;
        reader.end()?;
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let reason = match version {
            Version::V311 => self.reason.to_v311(),
            Version::V5 => self.reason.as_u8(),
        };
        let first = PacketKind::Connack.first_byte();
        put_header(out, first, 2 + self.properties.encoded_len(version))?;
        out.extend_from_slice(&[self.session_present.into(), reason]);
        self.properties.put(version, out);
        Ok(())
    }
}
