//! The numbers of packet types and properties, by their names.
//!
//! Cases that send numbers which do not exist write them out.

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
/// See [`CONNACK`].
pub const AUTH: u8 = 15;

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
pub const AUTH_DATA: u8 = 0x16;
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
pub const MAXIMUM_QOS: u8 = 0x24;
/// See [`PAYLOAD_FORMAT`].
pub const RETAIN_AVAILABLE: u8 = 0x25;
/// See [`PAYLOAD_FORMAT`].
pub const USER_PROPERTY: u8 = 0x26;
/// See [`PAYLOAD_FORMAT`].
pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
/// See [`PAYLOAD_FORMAT`].
pub const WILDCARD_AVAILABLE: u8 = 0x28;
/// See [`PAYLOAD_FORMAT`].
pub const SHARED_AVAILABLE: u8 = 0x2A;
