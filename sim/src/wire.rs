//! Packets as Clients write them, and messages by numbers that can be found again on a disk.

use tidings_core::codec::{
    Ack, Connect, Disconnect, Packet, PacketId, PropertiesBuf, Property, Publish, QoS, ReasonCode,
    Subscribe, SubscriptionOptions, Unsubscribe, Version, Will, put_subscribe_filter,
    put_unsubscribe_filter,
};

/// The payload of a message, by its number.
pub(crate) fn payload(number: usize) -> String {
    format!("m{number:06};")
}

/// The number of a message by its payload.
pub(crate) fn number(payload: &[u8]) -> Option<usize> {
    let digits = payload.strip_prefix(b"m")?.strip_suffix(b";")?;
    let digits: &[u8; 6] = digits.try_into().ok()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The numbers of all messages in these bytes.
pub(crate) fn marks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'm').map(|(at, _)| at);
    starts.filter_map(|at| number(bytes.get(at..at + 8)?))
}

/// How a Client introduces itself.
#[derive(Debug, Clone)]
pub(crate) struct Hello<'a> {
    pub(crate) version: Version,
    pub(crate) name: &'a str,
    pub(crate) clean: bool,
    /// Seconds that the session lasts; MQTT 3.1.1 has no more than whether it does.
    pub(crate) expiry: u32,
    pub(crate) receive_maximum: u16,
    /// The will: topic, message and the seconds until it is due.
    pub(crate) will: Option<(&'a str, usize, u32)>,
}

pub(crate) fn connect(hello: &Hello<'_>, out: &mut Vec<u8>) {
    let mut properties = PropertiesBuf::new();
    let mut will_properties = PropertiesBuf::new();
    if hello.version == Version::V5 {
        properties.push(Property::SessionExpiry(hello.expiry));
        properties.push(Property::ReceiveMaximum(hello.receive_maximum));
        if let Some((_, _, delay @ 1..)) = hello.will {
            will_properties.push(Property::WillDelay(delay));
        }
    }
    let will_payload = hello.will.map(|(_, number, _)| payload(number)).unwrap_or_default();
    let will = hello.will.map(|(topic, ..)| Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: will_properties.as_properties(),
        topic,
        payload: will_payload.as_bytes(),
    });
    let connect = Connect {
        version: hello.version,
        clean_start: hello.clean,
        keep_alive: 60,
        client_id: hello.name,
        properties: properties.as_properties(),
        will,
        user_name: None,
        password: None,
    };
    put(&Packet::Connect(connect), hello.version, out);
}

/// A message on its way in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) qos: QoS,
    pub(crate) id: u16,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
}

pub(crate) fn publish(message: Message<'_>, version: Version, out: &mut Vec<u8>) {
    let Message { topic, payload, qos, id, retain, dup } = message;
    let packet_id = PacketId::new(id).filter(|_| qos > QoS::AtMostOnce);
    let properties = PropertiesBuf::new();
    let properties = properties.as_properties();
    let publish = Publish { dup, qos, retain, topic, packet_id, properties, payload };
    put(&Packet::Publish(publish), version, out);
}

pub(crate) fn subscribe(id: u16, filter: &str, qos: QoS, version: Version, out: &mut Vec<u8>) {
    let mut filters = Vec::new();
    let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
    put_subscribe_filter(&mut filters, filter, options, version);
    let properties = PropertiesBuf::new();
    let packet = Subscribe::new(packet_id(id), properties.as_properties(), &filters, version);
    put(&Packet::Subscribe(packet.unwrap()), version, out);
}

pub(crate) fn unsubscribe(id: u16, filter: &str, version: Version, out: &mut Vec<u8>) {
    let mut filters = Vec::new();
    put_unsubscribe_filter(&mut filters, filter);
    let properties = PropertiesBuf::new();
    let packet = Unsubscribe::new(packet_id(id), properties.as_properties(), &filters, version);
    put(&Packet::Unsubscribe(packet.unwrap()), version, out);
}

/// The answers to PUBLISH and to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

pub(crate) fn answer(what: Answer, id: u16, version: Version, out: &mut Vec<u8>) {
    let ack = Ack::success(packet_id(id));
    let packet = match what {
        Answer::Puback => Packet::Puback(ack),
        Answer::Pubrec => Packet::Pubrec(ack),
        Answer::Pubrel => Packet::Pubrel(ack),
        Answer::Pubcomp => Packet::Pubcomp(ack),
    };
    put(&packet, version, out);
}

pub(crate) fn disconnect(version: Version, out: &mut Vec<u8>) {
    let properties = PropertiesBuf::new();
    let reason = ReasonCode::NormalDisconnection;
    let packet = Disconnect { reason, properties: properties.as_properties() };
    put(&Packet::Disconnect(packet), version, out);
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

fn put(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) {
    packet.encode(version, out).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_among_other_bytes() {
        let bytes = [b"mm", payload(7).as_bytes(), b"m12", payload(123_456).as_bytes()].concat();
        assert_eq!(marks(&bytes).collect::<Vec<_>>(), [7, 123_456]);
        assert_eq!(number(b"m00000x;"), None);
    }
}
