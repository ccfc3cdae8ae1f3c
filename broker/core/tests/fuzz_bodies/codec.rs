//! What must hold for any bytes that reach the codec: the bodies of fuzz targets, as plain functions.
//!
//! A fuzzer's first inputs are the packets of `vectors/`.

use tidings_core::codec::{
    Malformed, Packet, PacketKind, Properties, PropertiesBuf, Publish, PublishParts, QoS, Version,
    decode, frame,
};

const PACKET_BYTES_MAX: usize = 1 << 20;

/// How many bytes of an input are not handed to the codec, but cut it.
const CUTS: usize = 4;

/// All of the below: the first bytes of `data` say where the rest is cut into pieces.
pub(crate) fn any_bytes(data: &[u8]) {
    let (cuts, bytes) = data.split_at(data.len().min(CUTS));
    decodes_or_refuses(bytes);
    pieces_change_nothing(bytes, &cuts.iter().map(|cut| usize::from(*cut)).collect::<Vec<_>>());
    properties_are_refused_or_read(bytes);
}

/// Decoding any bytes neither panics nor disagrees with itself; what decodes encodes again, and
/// decodes to the same.
pub(crate) fn decodes_or_refuses(bytes: &[u8]) {
    for version in [Version::V311, Version::V5] {
        let found = decode(bytes, version, PACKET_BYTES_MAX);
        let Ok(Some((packet, taken))) = &found else { continue };
        assert!(*taken <= bytes.len());
        assert_eq!(decode(&bytes[..*taken], version, PACKET_BYTES_MAX), found);
        let header = frame(bytes, PACKET_BYTES_MAX).unwrap().unwrap();
        assert_eq!((header.total(), header.kind), (*taken, packet.kind()));

        let mut again = Vec::new();
        packet.encode(version, &mut again).unwrap();
        let expected = Ok(Some((packet.clone(), again.len())));
        assert_eq!(decode(&again, version, PACKET_BYTES_MAX), expected);
        look_at(packet, version);
    }
}

/// Bytes that arrive in pieces become the same packets, and the same refusal, as in one piece.
pub(crate) fn pieces_change_nothing(bytes: &[u8], cuts: &[usize]) {
    for version in [Version::V311, Version::V5] {
        let mut whole = Vec::new();
        let mut buffer = bytes.to_vec();
        let whole_end = drain(&mut buffer, version, &mut whole);

        let (mut pieces, mut buffer, mut rest) = (Vec::new(), Vec::new(), bytes);
        let mut end = None;
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (piece, left) = rest.split_at(cut.min(rest.len()));
            rest = left;
            buffer.extend_from_slice(piece);
            end = end.or_else(|| drain(&mut buffer, version, &mut pieces));
        }
        assert_eq!(pieces, whole, "{version}: {bytes:02x?} cut at {cuts:?}");
        assert_eq!(end, whole_end, "{version}: {bytes:02x?} cut at {cuts:?}");
    }
}

/// Any bytes as a property list of any packet: refused, or read in full.
pub(crate) fn properties_are_refused_or_read(bytes: &[u8]) {
    let kinds = (0x10..=0xF0_u8)
        .step_by(16)
        .filter_map(PacketKind::from_first_byte)
        .chain([PacketKind::Will]);
    for kind in kinds {
        let Ok(properties) = Properties::parse(bytes, kind) else { continue };
        let again: PropertiesBuf = properties.iter().collect();
        assert_eq!(again.as_properties(), properties, "{kind}");
        let mut forwarded = Vec::new();
        properties.copy_forwarded(&mut forwarded);
        if matches!(kind, PacketKind::Publish | PacketKind::Will) {
            assert!(Properties::parse(&forwarded, PacketKind::Publish).is_ok(), "{bytes:02x?}");
        }
    }
}

/// Takes packets off the front until bytes are missing or wrong.
fn drain(buffer: &mut Vec<u8>, version: Version, packets: &mut Vec<String>) -> Option<Malformed> {
    loop {
        match decode(buffer, version, PACKET_BYTES_MAX) {
            Ok(Some((packet, taken))) => {
                packets.push(format!("{packet:?}"));
                buffer.drain(..taken);
            }
            Ok(None) => return None,
            Err(malformed) => return Some(malformed),
        }
    }
}

/// Reads what a packet keeps as bytes, and checks the promises made about it.
fn look_at(packet: &Packet<'_>, version: Version) {
    match packet {
        Packet::Subscribe(subscribe) => {
            assert!(subscribe.filters().count() > 0);
            for found in subscribe.filters() {
                assert!(!found.filter.is_empty() && !found.filter.contains('\0'));
            }
        }
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters().count() > 0),
        Packet::Publish(publish) => look_at_publish(publish, version),
        _ => {}
    }
}

fn look_at_publish(publish: &Publish<'_>, version: Version) {
    assert!(!publish.topic.contains(['#', '+', '\0']));
    assert_eq!(publish.packet_id.is_some(), publish.qos != QoS::AtMostOnce);
    assert!(!(publish.topic.is_empty() && publish.properties.topic_alias().is_none()));

    let mut forwarded = Vec::new();
    publish.properties.copy_forwarded(&mut forwarded);
    let subscription_ids: Vec<u32> = publish.properties.subscription_identifiers().collect();
    let parts = PublishParts {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id,
        message_expiry: publish.properties.message_expiry(),
        subscription_ids: &subscription_ids,
        topic_alias: publish.properties.topic_alias(),
        forwarded: &forwarded,
        payload_len: publish.payload.len(),
    };
    let mut bytes = vec![0xEE; 3];
    let id_at = parts.encode_head(version, &mut bytes).unwrap();
    bytes.extend_from_slice(publish.payload);
    let bytes = &bytes[3..];
    assert_eq!(bytes.len(), parts.packet_len(version));
    if let (Some(at), Some(packet_id)) = (id_at, publish.packet_id) {
        assert_eq!(bytes[at..at + 2], packet_id.get().to_be_bytes());
    }
    assert_eq!(id_at.is_some(), publish.packet_id.is_some());

    // The parts put some properties into another order; all else is the same.
    let (again, taken) = decode(bytes, version, usize::MAX).unwrap().unwrap();
    assert_eq!(taken, bytes.len());
    let Packet::Publish(again) = again else { panic!("{again:?}") };
    let sorted = |properties: Properties<'_>| {
        let mut all: Vec<String> =
            properties.iter().map(|property| format!("{property:?}")).collect();
        all.sort();
        all
    };
    assert_eq!(sorted(again.properties), sorted(publish.properties));
    assert_eq!(Publish { properties: publish.properties, ..again }, *publish);
}
