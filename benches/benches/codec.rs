//! The codec alone: bytes to packets and back, ours beside rumqttd's and rumqttc's.
//!
//! A row handles [`BATCH`] packets that stand one after another in a buffer, as after a read from a
//! busy socket: divide its time by that. The peers read from a `BytesMut` that they split; over a
//! batch the one allocation that this takes does not count. Their buffers are made outside of what
//! is measured, and so are the clones that rumqttd's `write` consumes.
//!
//! ```text
//! cargo bench -p tidings-bench --features peers --bench codec
//! ```

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use tidings_core::codec::{
    Ack, Packet, PacketId, Properties, Publish, PublishParts, QoS, Version, decode,
};

const BATCH: usize = 100;
const PACKET_BYTES_MAX: usize = 256 * 1024;
const TOPIC: &str = "chat/@bob/send";
const PAYLOAD: &[u8] = &[b'x'; 100];

struct Case {
    name: &'static str,
    version: Version,
    /// [`BATCH`] times the packet.
    stream: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let publish = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: PacketId::new(7),
        properties: Properties::EMPTY,
        payload: PAYLOAD,
    });
    let puback = Packet::Puback(Ack::success(PacketId::MAX));
    let mut cases = Vec::new();
    for (name, version, packet) in [
        ("publish-v4", Version::V311, &publish),
        ("publish-v5", Version::V5, &publish),
        ("puback-v4", Version::V311, &puback),
        ("puback-v5", Version::V5, &puback),
    ] {
        let mut stream = Vec::new();
        for _ in 0..BATCH {
            let _fits = packet.encode(version, &mut stream);
        }
        cases.push(Case { name, version, stream });
    }
    cases
}

/// Hands each packet of a stream to `each`.
fn decode_all(case: &Case, mut each: impl FnMut(&Packet<'_>)) {
    let mut rest = black_box(case.stream.as_slice());
    while let Ok(Some((packet, taken))) = decode(rest, case.version, PACKET_BYTES_MAX) {
        each(&packet);
        rest = rest.get(taken..).unwrap_or_default();
    }
}

fn ours(c: &mut Criterion) {
    for case in &cases() {
        let mut out = Vec::with_capacity(2 * case.stream.len());
        group(c, "decode", case, |bencher| {
            bencher.iter(|| {
                decode_all(case, |packet| {
                    black_box(packet);
                });
            });
        });
        let Ok(Some((packet, _taken))) = decode(&case.stream, case.version, PACKET_BYTES_MAX)
        else {
            continue;
        };
        group(c, "encode", case, |bencher| {
            bencher.iter(|| {
                out.clear();
                for _ in 0..BATCH {
                    let _fits = black_box(&packet).encode(case.version, &mut out);
                }
                black_box(&out);
            });
        });
        group(c, "decode-encode", case, |bencher| {
            bencher.iter(|| {
                out.clear();
                decode_all(case, |packet| {
                    let _fits = packet.encode(case.version, &mut out);
                });
                black_box(&out);
            });
        });
    }
    parts(c);
}

/// What delivery writes for each recipient, or for a batch of them.
fn parts(c: &mut Criterion) {
    let parts = PublishParts {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: PacketId::new(7),
        message_expiry: None,
        subscription_ids: &[1],
        topic_alias: None,
        forwarded: &[],
        payload_len: PAYLOAD.len(),
    };
    let case = Case { name: "parts-v5", version: Version::V5, stream: Vec::new() };
    let mut out = Vec::with_capacity(BATCH * 256);
    group(c, "encode", &case, |bencher| {
        bencher.iter(|| {
            out.clear();
            for _ in 0..BATCH {
                let _fits = black_box(&parts).encode_head(Version::V5, &mut out);
                out.extend_from_slice(PAYLOAD);
            }
            black_box(&out);
        });
    });
}

fn group(
    c: &mut Criterion,
    what: &str,
    case: &Case,
    measure: impl FnMut(&mut criterion::Bencher<'_>),
) {
    measured(c, what, case, "tidings", measure);
}

fn measured(
    c: &mut Criterion,
    what: &str,
    case: &Case,
    who: &str,
    measure: impl FnMut(&mut criterion::Bencher<'_>),
) {
    let mut group = c.benchmark_group(format!("{what}/{}", case.name));
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(who, measure);
    group.finish();
}

#[cfg(feature = "peers")]
mod peers {
    //! The same work by the codecs of rumqttd and rumqttc.

    use bytes::BytesMut;
    use criterion::BatchSize;

    use super::{BATCH, Case, Criterion, PACKET_BYTES_MAX, Version, black_box, cases, measured};

    /// What a codec must do here; its own types stay its own.
    trait Peer {
        type Packet: Clone;
        const NAME: &'static str;
        fn decode(stream: &mut BytesMut) -> Option<Self::Packet>;
        fn encode(packet: Self::Packet, out: &mut BytesMut);
        /// Gives back what it did not have to consume, so that its end is not measured.
        fn encode_all(packets: Vec<Self::Packet>, out: &mut BytesMut) -> Vec<Self::Packet>;
    }

    fn consume_all<P: Peer>(packets: Vec<P::Packet>, out: &mut BytesMut) -> Vec<P::Packet> {
        for packet in packets {
            P::encode(packet, out);
        }
        Vec::new()
    }

    struct RumqttdV4;
    struct RumqttdV5;
    struct RumqttcV4;
    struct RumqttcV5;

    impl Peer for RumqttdV4 {
        type Packet = rumqttd::protocol::Packet;
        const NAME: &'static str = "rumqttd";
        fn decode(stream: &mut BytesMut) -> Option<Self::Packet> {
            use rumqttd::protocol::Protocol;
            rumqttd::protocol::v4::V4.read_mut(stream, PACKET_BYTES_MAX).ok()
        }
        fn encode(packet: Self::Packet, out: &mut BytesMut) {
            use rumqttd::protocol::Protocol;
            let _written = rumqttd::protocol::v4::V4.write(packet, out);
        }
        fn encode_all(packets: Vec<Self::Packet>, out: &mut BytesMut) -> Vec<Self::Packet> {
            consume_all::<Self>(packets, out)
        }
    }

    impl Peer for RumqttdV5 {
        type Packet = rumqttd::protocol::Packet;
        const NAME: &'static str = "rumqttd";
        fn decode(stream: &mut BytesMut) -> Option<Self::Packet> {
            use rumqttd::protocol::Protocol;
            rumqttd::protocol::v5::V5.read_mut(stream, PACKET_BYTES_MAX).ok()
        }
        fn encode(packet: Self::Packet, out: &mut BytesMut) {
            use rumqttd::protocol::Protocol;
            let _written = rumqttd::protocol::v5::V5.write(packet, out);
        }
        fn encode_all(packets: Vec<Self::Packet>, out: &mut BytesMut) -> Vec<Self::Packet> {
            consume_all::<Self>(packets, out)
        }
    }

    impl Peer for RumqttcV4 {
        type Packet = rumqttc::Packet;
        const NAME: &'static str = "rumqttc";
        fn decode(stream: &mut BytesMut) -> Option<Self::Packet> {
            rumqttc::Packet::read(stream, PACKET_BYTES_MAX).ok()
        }
        fn encode(packet: Self::Packet, out: &mut BytesMut) {
            let _written = packet.write(out, PACKET_BYTES_MAX);
        }
        fn encode_all(packets: Vec<Self::Packet>, out: &mut BytesMut) -> Vec<Self::Packet> {
            for packet in &packets {
                let _written = packet.write(out, PACKET_BYTES_MAX);
            }
            packets
        }
    }

    impl Peer for RumqttcV5 {
        type Packet = rumqttc::v5::mqttbytes::v5::Packet;
        const NAME: &'static str = "rumqttc";
        fn decode(stream: &mut BytesMut) -> Option<Self::Packet> {
            rumqttc::v5::mqttbytes::v5::Packet::read(stream, Some(256 * 1024)).ok()
        }
        fn encode(packet: Self::Packet, out: &mut BytesMut) {
            let _written = packet.write(out, Some(256 * 1024));
        }
        fn encode_all(packets: Vec<Self::Packet>, out: &mut BytesMut) -> Vec<Self::Packet> {
            for packet in &packets {
                let _written = packet.write(out, Some(256 * 1024));
            }
            packets
        }
    }

    pub(super) fn all(c: &mut Criterion) {
        for case in &cases() {
            match case.version {
                Version::V311 => {
                    peer::<RumqttdV4>(c, case);
                    peer::<RumqttcV4>(c, case);
                }
                Version::V5 => {
                    peer::<RumqttdV5>(c, case);
                    peer::<RumqttcV5>(c, case);
                }
            }
        }
    }

    fn peer<P: Peer>(c: &mut Criterion, case: &Case) {
        let stream = || BytesMut::from(case.stream.as_slice());
        measured(c, "decode", case, P::NAME, |bencher| {
            bencher.iter_batched_ref(
                stream,
                |stream| {
                    for _ in 0..BATCH {
                        black_box(P::decode(stream));
                    }
                },
                BatchSize::SmallInput,
            );
        });
        let Some(packet) = P::decode(&mut stream()) else { return };
        let mut out = BytesMut::with_capacity(2 * case.stream.len());
        measured(c, "encode", case, P::NAME, |bencher| {
            bencher.iter_batched(
                || vec![packet.clone(); BATCH],
                |packets| {
                    out.clear();
                    let kept = P::encode_all(packets, &mut out);
                    black_box(&out);
                    kept
                },
                BatchSize::SmallInput,
            );
        });
        measured(c, "decode-encode", case, P::NAME, |bencher| {
            bencher.iter_batched_ref(
                stream,
                |stream| {
                    out.clear();
                    for _ in 0..BATCH {
                        if let Some(packet) = P::decode(stream) {
                            P::encode(packet, &mut out);
                        }
                    }
                    black_box(&out);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

fn main() {
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    ours(&mut c);
    #[cfg(feature = "peers")]
    peers::all(&mut c);
    c.final_summary();
}
