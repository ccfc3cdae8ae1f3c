//! The codec against tables of packets, and against packets and bytes that nobody thought of.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidings_core::codec::{
    Ack, Auth, Connack, Connect, Disconnect, Malformed, Packet, PacketId, PacketKind,
    PropertiesBuf, Property, Publish, QoS, ReasonCode, RetainHandling, Suback, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, Will, decode, put_subscribe_filter,
    put_unsubscribe_filter,
};

#[path = "../fuzz_bodies/codec.rs"]
pub(crate) mod fuzz;

const PACKET_BYTES_MAX: usize = 1 << 20;

const VECTORS: [(&str, &str); 5] = [
    ("header", include_str!("../vectors/header.toml")),
    ("connect", include_str!("../vectors/connect.toml")),
    ("publish", include_str!("../vectors/publish.toml")),
    ("acks", include_str!("../vectors/acks.toml")),
    ("subscribe", include_str!("../vectors/subscribe.toml")),
];

/// One line of a table.
#[derive(Debug)]
struct Vector {
    /// File and line.
    at: String,
    version: Version,
    bytes: Vec<u8>,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Packet { name: String, encodes: Vec<u8> },
    Cause { cause: String, code: ReasonCode },
}

/// Reads the tables: one inline table of strings and numbers a line is all of TOML that they use.
fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for (file, text) in VECTORS {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.starts_with('{') {
                continue;
            }
            let at = format!("{file}.toml:{}", number + 1);
            let field = |key: &str| {
                let (_, rest) = line.split_once(&format!(" {key} = "))?;
                let rest = rest
                    .strip_prefix('"')
                    .map_or_else(|| rest.split([',', ' ']).next(), |text| text.split('"').next());
                Some(rest.unwrap_or_else(|| panic!("{at}: {key} has no end")))
            };
            let need = |key| field(key).unwrap_or_else(|| panic!("{at}: no {key}"));
            let bytes = parse_hex(need("hex"), &at);
            let expected = match field("is") {
                Some(name) => Expected::Packet {
                    name: name.to_owned(),
                    encodes: field("encodes")
                        .map_or_else(|| bytes.clone(), |hex| parse_hex(hex, &at)),
                },
                None => {
                    let code = need("code").trim_start_matches("0x");
                    let code = ReasonCode::from_u8(u8::from_str_radix(code, 16).unwrap());
                    Expected::Cause { cause: need("cause").to_owned(), code: code.unwrap() }
                }
            };
            let version = Version::from_level(need("v").parse().unwrap()).unwrap();
            all.push(Vector { at, version, bytes, expected });
        }
    }
    all
}

/// `30 02 'hi'`: bytes, and text between single quotes.
fn parse_hex(text: &str, at: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
        } else {
            bytes.extend(part.split_whitespace().map(|byte| {
                u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{at}: `{byte}`"))
            }));
        }
    }
    bytes
}

fn cause(malformed: &Malformed) -> String {
    let text = format!("{malformed:?}");
    text.split([' ', '{', '(']).next().unwrap().to_owned()
}

#[test]
fn every_vector_is_what_its_table_says() {
    let mut wrong = Vec::new();
    for Vector { at, version, bytes, expected } in vectors() {
        let found = decode(&bytes, version, PACKET_BYTES_MAX);
        match (&expected, &found) {
            (Expected::Packet { name, encodes }, Ok(Some((packet, taken)))) => {
                let mut again = Vec::new();
                packet.encode(version, &mut again).unwrap();
                if packet.name() != name || *taken != bytes.len() || again != *encodes {
                    wrong.push(format!("{at}: {packet:?} of {taken} bytes, again {again:02x?}"));
                }
            }
            (Expected::Cause { cause: expected, code }, Err(malformed)) => {
                if cause(malformed) != *expected || malformed.reason_code() != *code {
                    let found = malformed.reason_code();
                    wrong.push(format!("{at}: {malformed:?} ({found:?}), expected {expected}"));
                }
            }
            _ => wrong.push(format!("{at}: {found:?}, expected {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} vectors:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_packet_and_every_cause_has_a_vector() {
    let (mut packets, mut causes, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for vector in vectors() {
        count += 1;
        match vector.expected {
            Expected::Packet { name, .. } => packets.insert((vector.version, name)),
            Expected::Cause { cause, .. } => causes.insert(cause),
        };
    }
    assert!(count > 900, "{count} vectors");
    assert_eq!(packets.len(), 14 + 15, "{packets:?}");
    // The variants, as the source lists them.
    let source = include_str!("../../src/codec/malformed.rs");
    let (_, body) = source.split_once("pub enum Malformed {").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let variants: BTreeSet<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| line.trim_end_matches([' ', '{', ',']).to_owned())
        .collect();
    assert!(variants.len() > 40);
    let missing: Vec<_> = variants.difference(&causes).collect();
    assert!(missing.is_empty(), "no vector for {missing:?}");
}

#[test]
fn every_vector_in_pieces_is_the_same() {
    for vector in vectors() {
        fuzz::decodes_or_refuses(&vector.bytes);
        fuzz::pieces_change_nothing(&vector.bytes, &[1; 12]);
        fuzz::pieces_change_nothing(&vector.bytes, &[2, 1, 3, 5]);
        for start in 0..vector.bytes.len() {
            fuzz::properties_are_refused_or_read(&vector.bytes[start..]);
        }
    }
}

#[test]
fn every_prefix_of_a_valid_packet_waits_for_more() {
    for vector in vectors() {
        if let Expected::Packet { .. } = vector.expected {
            for cut in 0..vector.bytes.len() {
                let found = decode(&vector.bytes[..cut], vector.version, PACKET_BYTES_MAX);
                assert_eq!(found, Ok(None), "{} cut at {cut}", vector.at);
            }
        }
    }
}

#[test]
fn every_vector_with_any_one_byte_changed_is_refused_or_read() {
    for mut vector in vectors() {
        for at in 0..vector.bytes.len().min(40) {
            let byte = vector.bytes[at];
            for changed in [0, 1, byte ^ 1, byte ^ 0x80, byte.wrapping_add(1), 0x7F, 0xFF] {
                vector.bytes[at] = changed;
                fuzz::decodes_or_refuses(&vector.bytes);
            }
            vector.bytes[at] = byte;
        }
    }
}

#[test]
fn encode_leaves_nothing_behind_of_a_packet_that_is_too_long() {
    let long = "x".repeat(65_536);
    let connect = |client_id, user_name| {
        Packet::Connect(Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id,
            properties: Default::default(),
            will: None,
            user_name,
            password: None,
        })
    };
    let mut out = vec![1, 2, 3];
    for packet in [connect(&long, None), connect("a", Some(&long))] {
        let error = packet.encode(Version::V5, &mut out).unwrap_err();
        assert_eq!((error.bytes, error.max), (65_536, 65_535));
        assert_eq!(out, [1, 2, 3]);
    }
    assert!(connect(&long[..65_535], None).encode(Version::V5, &mut out).is_ok());
}

#[test]
fn fields_stand_where_they_belong() {
    let bytes = parse_hex(
        "10 39 00 04 'MQTT' 05 F6 00 3C 05 11 00 00 00 09 00 05 'phone' 05 18 00 00 00 02 \
         00 04 'gone' 00 03 'bye' 00 03 'bob' 00 02 'pw'",
        "here",
    );
    let length = bytes.len() as u8 - 2;
    let bytes = [&[0x10, length][..], &bytes[2..]].concat();
    let Ok(Some((Packet::Connect(connect), _))) = decode(&bytes, Version::V311, 100) else {
        panic!("{:?}", decode(&bytes, Version::V311, 100));
    };
    assert_eq!(connect.version, Version::V5);
    assert!(connect.clean_start);
    assert_eq!((connect.keep_alive, connect.client_id), (60, "phone"));
    assert_eq!(connect.properties.session_expiry(), Some(9));
    assert_eq!((connect.user_name, connect.password), (Some("bob"), Some(&b"pw"[..])));
    let will = connect.will.unwrap();
    assert_eq!((will.qos, will.retain), (QoS::ExactlyOnce, true));
    assert_eq!((will.topic, will.payload), ("gone", &b"bye"[..]));
    assert_eq!(will.properties.will_delay(), Some(2));

    let bytes = [0x82, 0x09, 0x00, 0x07, 0x00, 0x00, 0x03, b'a', b'/', b'b', 0x2E];
    let Ok(Some((Packet::Subscribe(subscribe), 11))) = decode(&bytes, Version::V5, 100) else {
        panic!("{:?}", decode(&bytes, Version::V5, 100));
    };
    assert_eq!(subscribe.packet_id.get(), 7);
    let found: Vec<_> = subscribe.filters().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].filter, "a/b");
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    assert_eq!(found[0].options, options);
}

#[test]
fn v311_connack_says_the_nearest_return_code() {
    let connack = |reason| {
        let mut out = Vec::new();
        let properties = Default::default();
        Packet::Connack(Connack { session_present: false, reason, properties })
            .encode(Version::V311, &mut out)
            .unwrap();
        out
    };
    assert_eq!(connack(ReasonCode::ServerBusy), [0x20, 2, 0, 3]);
    assert_eq!(connack(ReasonCode::Banned), [0x20, 2, 0, 5]);
    assert_eq!(connack(ReasonCode::Success), [0x20, 2, 0, 0]);
}

#[test]
fn disconnect_is_always_written_in_its_long_form() {
    let mut out = Vec::new();
    let reason = ReasonCode::NormalDisconnection;
    let disconnect = Packet::Disconnect(Disconnect { reason, properties: Default::default() });
    disconnect.encode(Version::V5, &mut out).unwrap();
    assert_eq!(out, [0xE0, 2, 0, 0]);
}

/// What a packet is made of, owned, so that proptest can hold it.
#[derive(Debug, Clone)]
struct Parts {
    kind: PacketKind,
    version: Version,
    packet_id: u16,
    qos: u8,
    flags: [bool; 4],
    texts: [String; 4],
    data: Vec<u8>,
    numbers: [u32; 3],
    picks: Vec<u8>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let kind = (1..=15_u8).prop_map(|kind| PacketKind::from_first_byte(kind << 4).unwrap());
    let version = prop_oneof![Just(Version::V311), Just(Version::V5)];
    let text = "[a-zäß€😀 /]{0,12}";
    let data = proptest::collection::vec(any::<u8>(), 0..300);
    let picks = proptest::collection::vec(any::<u8>(), 0..12);
    (
        (kind, version, 1..=u16::MAX, 0..3_u8),
        any::<[bool; 4]>(),
        [text, text, text, text],
        (data, any::<[u32; 3]>(), picks),
    )
        .prop_map(|((kind, version, packet_id, qos), flags, texts, (data, numbers, picks))| {
            Parts { kind, version, packet_id, qos, flags, texts, data, numbers, picks }
        })
}

impl Parts {
    /// Properties that this kind of packet may have, chosen by `picks`.
    fn properties(&self, kind: PacketKind) -> PropertiesBuf {
        let [a, b, c, d] = self.texts.each_ref().map(String::as_str);
        let [x, y, z] = self.numbers;
        let topic = if a.is_empty() { "t" } else { a };
        let mut all = vec![
            Property::PayloadFormat(x % 2 == 0),
            Property::MessageExpiry(x),
            Property::ContentType(a),
            Property::ResponseTopic(topic),
            Property::CorrelationData(&self.data),
            Property::SubscriptionIdentifier(y % 268_435_455 + 1),
            Property::SessionExpiry(z),
            Property::AssignedClientId(b),
            Property::ServerKeepAlive(x as u16),
            Property::AuthenticationMethod(c),
            Property::RequestProblemInformation(y % 2 == 0),
            Property::WillDelay(y),
            Property::RequestResponseInformation(z % 2 == 0),
            Property::ResponseInformation(d),
            Property::ServerReference(a),
            Property::ReasonString(b),
            Property::ReceiveMaximum(x as u16 | 1),
            Property::TopicAliasMaximum(y as u16),
            Property::TopicAlias(z as u16 | 1),
            Property::MaximumQoS((z % 2) as u8),
            Property::RetainAvailable(x % 3 == 0),
            Property::UserProperty(c, d),
            Property::MaximumPacketSize(z | 1),
            Property::WildcardSubscriptionAvailable(x % 5 == 0),
            Property::SubscriptionIdentifiersAvailable(y % 3 == 0),
            Property::SharedSubscriptionAvailable(z % 3 == 0),
            Property::UserProperty(a, b),
        ];
        let mut chosen = PropertiesBuf::new();
        if self.version == Version::V311 {
            return chosen;
        }
        if kind == PacketKind::Auth {
            all.retain(|property| !matches!(property, Property::AuthenticationMethod(_)));
            chosen.push(Property::AuthenticationMethod(a));
        }
        for pick in &self.picks {
            if all.is_empty() {
                break;
            }
            let property = all.remove(usize::from(*pick) % all.len());
            let mut one = PropertiesBuf::new();
            one.push(property);
            if tidings_core::codec::Properties::parse(one.as_properties().as_bytes(), kind).is_ok()
            {
                chosen.push(property);
            }
        }
        chosen
    }

    fn reason(&self, kind: PacketKind) -> ReasonCode {
        let pick = self.numbers[0] as usize;
        if self.version == Version::V311 {
            return match kind {
                PacketKind::Connack => ReasonCode::from_v311((pick % 6) as u8).unwrap(),
                _ => ReasonCode::Success,
            };
        }
        let allowed: Vec<_> =
            ReasonCode::ALL.iter().filter(|code| code.is_allowed_in(kind)).collect();
        *allowed[pick % allowed.len()]
    }

    /// Builds the packet, encodes it, and checks that the same packet comes back.
    fn round_trip(&self) {
        let Self { kind, version, texts, data, .. } = self;
        let (kind, version) = (*kind, *version);
        let packet_id = PacketId::new(self.packet_id).unwrap();
        let qos = QoS::from_u8(self.qos).unwrap();
        let owned = self.properties(kind);
        let properties = owned.as_properties();
        let will_properties = self.properties(PacketKind::Will);
        let topic = if texts[1].is_empty() { "/" } else { texts[1].as_str() };
        let mut filters = Vec::new();
        let reasons: Vec<u8> = self.picks.iter().map(|pick| pick % 3).chain([0x80]).collect();
        let unsuback_reasons = vec![0x11; self.picks.len() + 1];
        let ack = Ack { packet_id, reason: ReasonCode::Success, properties };
        let packet = match kind {
            PacketKind::Connect => Packet::Connect(Connect {
                version,
                clean_start: self.flags[0],
                keep_alive: self.numbers[0] as u16,
                client_id: &texts[0],
                properties,
                will: self.flags[1].then_some(Will {
                    qos,
                    retain: self.flags[2],
                    properties: will_properties.as_properties(),
                    topic,
                    payload: data,
                }),
                user_name: (self.flags[3] || version == Version::V311).then_some(&texts[2]),
                password: self.flags[2].then_some(data),
            }),
            PacketKind::Connack => {
                let reason = self.reason(kind);
                let session_present = self.flags[0] && !reason.is_error();
                Packet::Connack(Connack { session_present, reason, properties })
            }
            PacketKind::Publish => Packet::Publish(Publish {
                dup: self.flags[0] && qos != QoS::AtMostOnce,
                qos,
                retain: self.flags[1],
                topic: if properties.topic_alias().is_some() { &texts[1] } else { topic },
                packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
                properties,
                payload: data,
            }),
            PacketKind::Puback => Packet::Puback(Ack { reason: self.reason(kind), ..ack }),
            PacketKind::Pubrec => Packet::Pubrec(Ack { reason: self.reason(kind), ..ack }),
            PacketKind::Pubrel => Packet::Pubrel(Ack { reason: self.reason(kind), ..ack }),
            PacketKind::Pubcomp => Packet::Pubcomp(Ack { reason: self.reason(kind), ..ack }),
            PacketKind::Subscribe => {
                for pick in self.picks.iter().chain([&self.qos]) {
                    let v5 = version == Version::V5;
                    let options = SubscriptionOptions {
                        qos,
                        no_local: v5 && pick & 1 != 0,
                        retain_as_published: v5 && pick & 2 != 0,
                        retain_handling: RetainHandling::default(),
                    };
                    put_subscribe_filter(&mut filters, topic, options, version);
                }
                Packet::Subscribe(Subscribe::new(packet_id, properties, &filters, version).unwrap())
            }
            PacketKind::Unsubscribe => {
                for _ in self.picks.iter().chain([&self.qos]) {
                    put_unsubscribe_filter(&mut filters, topic);
                }
                Packet::Unsubscribe(
                    Unsubscribe::new(packet_id, properties, &filters, version).unwrap(),
                )
            }
            PacketKind::Suback => {
                Packet::Suback(Suback { packet_id, properties, reasons: &reasons })
            }
            PacketKind::Unsuback => {
                let reasons: &[u8] = if version == Version::V311 { &[] } else { &unsuback_reasons };
                Packet::Unsuback(Suback { packet_id, properties, reasons })
            }
            PacketKind::Pingresp => Packet::Pingresp,
            PacketKind::Disconnect => {
                Packet::Disconnect(Disconnect { reason: self.reason(kind), properties })
            }
            PacketKind::Auth if version == Version::V5 => {
                Packet::Auth(Auth { reason: self.reason(kind), properties })
            }
            PacketKind::Pingreq | PacketKind::Auth | PacketKind::Will => Packet::Pingreq,
        };

        let mut out = vec![0xEE];
        packet.encode(version, &mut out).unwrap();
        let bytes = &out[1..];
        let (again, taken) = decode(bytes, version, PACKET_BYTES_MAX).unwrap().unwrap();
        assert_eq!(again, packet);
        assert_eq!(taken, bytes.len());
        let listed: PropertiesBuf = properties.iter().collect();
        assert_eq!(listed, owned);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..Default::default() })]

    #[test]
    fn what_is_encoded_decodes_to_the_same(parts in parts()) {
        parts.round_trip();
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        fuzz::decodes_or_refuses(&bytes);
        fuzz::properties_are_refused_or_read(&bytes);
    }

    #[test]
    fn any_body_behind_a_valid_header_is_refused_or_read(
        first in 0x10..=0xFF_u8,
        body in proptest::collection::vec(
            prop_oneof![0..6_u8, any::<u8>(), 0x01..0x2B_u8], 0..60),
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend(body);
        fuzz::decodes_or_refuses(&bytes);
    }

    #[test]
    fn a_stream_in_random_pieces_is_the_same_stream(
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..8),
        cuts in proptest::collection::vec(0..20_usize, 0..20),
    ) {
        let all = vectors();
        let mut stream = Vec::new();
        for pick in picks {
            stream.extend_from_slice(&pick.get(&all).bytes);
        }
        fuzz::pieces_change_nothing(&stream, &cuts);
    }
}
