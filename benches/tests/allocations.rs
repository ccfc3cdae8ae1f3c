//! Decoding and encoding allocate nothing, for the packets that make up the traffic.
//!
//! Counted per thread: the test harness allocates on its own.

use std::hint::black_box;

use tidings_core::codec::{
    Ack, Packet, PacketId, PropertiesBuf, Property, Publish, PublishParts, QoS, Version, decode,
};

mod counting;

use counting::allocations;

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn the_counter_sees_an_allocation() {
    assert_eq!(allocations(|| drop(black_box(vec![1_u8]))), 1);
}

#[test]
fn publish_and_acknowledgements_allocate_nothing() {
    let mut properties = PropertiesBuf::new();
    properties.push(Property::ResponseTopic("chat/@bob/answer"));
    properties.push(Property::UserProperty("name", "value"));
    let properties = properties.as_properties();
    let packet_id = PacketId::MIN;
    let packets = [
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "chat/@bob/send",
            packet_id: Some(packet_id),
            properties,
            payload: &[0; 100],
        }),
        Packet::Puback(Ack::success(packet_id)),
        Packet::Pubrec(Ack::success(packet_id)),
        Packet::Pubrel(Ack::success(packet_id)),
        Packet::Pubcomp(Ack::success(packet_id)),
        Packet::Pingreq,
        Packet::Pingresp,
    ];
    for version in VERSIONS {
        for packet in &packets {
            let mut bytes = Vec::with_capacity(1024);
            packet.encode(version, &mut bytes).unwrap();
            let mut again = Vec::with_capacity(1024);
            let count = allocations(|| {
                let (decoded, _taken) = decode(&bytes, version, 1024).unwrap().unwrap();
                decoded.encode(version, &mut again).unwrap();
                if let Packet::Publish(publish) = &decoded {
                    black_box(publish.properties.iter().count());
                    black_box(publish.properties.response_topic());
                }
            });
            assert_eq!(count, 0, "{} in MQTT {version}", packet.name());
            assert_eq!(again, bytes);
        }
    }
}

#[test]
fn the_head_of_a_delivery_allocates_nothing() {
    let parts = PublishParts {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "me/json/@alice/message",
        packet_id: None,
        message_expiry: Some(60),
        subscription_ids: &[1, 200],
        topic_alias: Some(1),
        forwarded: &[],
        payload_len: 0,
    };
    for version in VERSIONS {
        let mut out = Vec::with_capacity(1024);
        let count = allocations(|| {
            parts.encode_head(version, &mut out).unwrap();
        });
        assert_eq!(count, 0, "MQTT {version}");
        assert_eq!(out.len(), parts.packet_len(version));
    }
}

#[test]
fn refusing_allocates_nothing() {
    for bytes in [&[0x36_u8][..], &[0x32, 5, 0, 1, 0xFF, 0, 1], &[0x40, 2, 0, 0]] {
        let count = allocations(|| {
            black_box(decode(black_box(bytes), Version::V5, 1024)).unwrap_err();
        });
        assert_eq!(count, 0, "{bytes:02x?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_message_of_the_load_generator_allocates_nothing() {
    use tidings_bench::load::latency::Latencies;
    use tidings_bench::load::verify::{Stamp, Verifier};
    use tidings_bench::load::wire::{self, AckKind, Version};

    let mut payload = [0; 100];
    payload[..20].copy_from_slice(&Stamp { stream: 1, sequence: 0, due: 5 }.bytes());
    let (mut bytes, mut acks) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    let (mut verifier, mut latencies) = (Verifier::default(), Latencies::default());
    let count = allocations(|| {
        let with = (wire::QoS::AtLeastOnce, 7);
        wire::put_publish(&mut bytes, Version::V5, with, b"bench/1", &payload);
        let (packet, _) = wire::decode(&bytes, Version::V5).unwrap().unwrap();
        let wire::Packet::Publish { packet_id, payload, .. } = packet else { panic!("{packet:?}") };
        let stamp = Stamp::read(payload).unwrap();
        verifier.take(stamp.sequence);
        latencies.record(stamp.due);
        wire::put_ack(&mut acks, AckKind::Puback, packet_id);
    });
    assert_eq!(count, 0);
    assert_eq!((verifier.next(), latencies.count(), acks.len()), (1, 1, 4));
}
