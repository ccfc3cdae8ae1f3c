//! The front's last words to a Client that is not let in, in the form it can read.

use std::pin::Pin;
use std::time::Duration;

use tidings_core::codec::{Connect, Malformed, ReasonCode, Version, decode};
use tidings_core::output::{ConnectionId, Outbox, Output};
use tidings_core::shard::refuse_connect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::listener::Stream;

/// The CONNACK that refuses a well-formed CONNECT.
pub(super) fn refusal(connect: &Connect<'_>, reason: ReasonCode) -> Vec<u8> {
    answer(|out| refuse_connect(ConnectionId(0), connect, reason, out))
}

/// The bytes of an answer to a CONNECT.
pub(super) fn answer(give: impl FnOnce(&mut Outbox)) -> Vec<u8> {
    let mut out = Outbox::default();
    give(&mut out);
    let mut bytes = Vec::new();
    for output in &out.outputs {
        if let Output::Send { frame, .. } = output {
            bytes.extend_from_slice(out.frame(frame).0);
        }
    }
    bytes
}

/// The CONNACK for a CONNECT that cannot be read, if it says in which version to answer (§3.1.4).
pub(super) fn refuse_malformed(malformed: &Malformed, bytes: &[u8]) -> Vec<u8> {
    let reason = malformed.reason_code();
    let level = level_at(bytes).and_then(|at| bytes.get(at)).copied().unwrap_or_default();
    let form5 = vec![0x20, 3, 0, reason as u8, 0];
    match malformed {
        // 3.1.1 demands an answer in its form, 5.0 permits one in its own: a Client of neither gets
        // what the rest of its CONNECT looks like. [MQTT-3.1.2-2]
        Malformed::UnsupportedProtocolVersion { .. } if looks_like_311(bytes) => {
            vec![0x20, 2, 0, 1]
        }
        Malformed::UnsupportedProtocolVersion { .. } => form5,
        // MQTT 3.1 has a name of its own and reads this.
        Malformed::ProtocolName { .. } if level == 3 => vec![0x20, 2, 0, 1],
        // In 3.1.1 there is no answer to another name, nor to what is malformed. [MQTT-3.1.2-1]
        _ if level == Version::V5.level() => form5,
        _ => Vec::new(),
    }
}

/// Whether a CONNECT would be one of MQTT 3.1.1 (or of 3.1), but for its protocol level.
fn looks_like_311(bytes: &[u8]) -> bool {
    let Some(at) = level_at(bytes) else { return false };
    let mut bytes = bytes.to_vec();
    let Some(level) = bytes.get_mut(at) else { return false };
    let below = *level < Version::V5.level();
    *level = Version::V311.level();
    below || matches!(decode(&bytes, Version::V311, usize::MAX), Ok(Some(_)))
}

/// Where the protocol level stands, if the bytes before it are those of a CONNECT.
fn level_at(bytes: &[u8]) -> Option<usize> {
    let lengths = bytes.iter().skip(1).take(4);
    let header = 2 + lengths.take_while(|byte| **byte >= 0x80).count();
    let name = bytes.get(header..)?;
    let length = usize::from(u16::from_be_bytes([*name.first()?, *name.get(1)?]));
    name.get(2 + length).map(|_| header + 2 + length)
}

/// Says one last thing and closes, so that it is heard. It takes room for itself, which those who are
/// let in need not have.
pub(super) fn goodbye(
    stream: Box<dyn Stream>,
    bytes: &[u8],
) -> Pin<Box<impl Future<Output = ()> + use<'_>>> {
    Box::pin(say_goodbye(stream, bytes))
}

async fn say_goodbye(mut stream: Box<dyn Stream>, bytes: &[u8]) {
    if bytes.is_empty() || stream.write_all(bytes).await.is_err() {
        return;
    }
    let _gone = stream.shutdown().await;
    // Closing with unread input would reset the connection and take the answer back.
    let mut unread = [0; 512];
    let _late = timeout(LINGER, async {
        while matches!(stream.read(&mut unread).await, Ok(read) if read > 0) {}
    })
    .await;
}

const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_is_found_behind_a_length_of_any_size() {
        assert_eq!(level_at(b"\x10\x0c\0\x04MQTT\x05\x02"), Some(8));
        assert_eq!(level_at(b"\x10\x80\x01\0\x06MQIsdp\x03"), Some(11));
        assert_eq!(level_at(b"\x10\x0c\0\x04MQ"), None);
        assert_eq!(level_at(b""), None);
    }

    #[test]
    fn a_client_of_another_version_is_answered_in_the_form_it_may_read() {
        // [MQTT-3.1.2-2] of both versions; [MQTT-3.1.2-1]
        let cases: [(&[u8], &[u8]); 6] = [
            (b"\x10\x0d\0\x04MQTT\x06\x02\0\x3c\0\x01a", b"\x20\x02\0\x01"),
            (b"\x10\x0e\0\x04MQTT\x06\x02\0\x3c\0\0\x01a", b"\x20\x03\0\x84\0"),
            (b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01a", b"\x20\x02\0\x01"),
            (b"\x10\x0d\0\x04MQTT\x03\x02\0\x3c\0\x01a", b"\x20\x02\0\x01"),
            (b"\x10\x0d\0\x04MQTX\x04\x02\0\x3c\0\x01a", b""),
            (b"\x10\x0e\0\x04MQTX\x05\x02\0\x3c\0\0\x01a", b"\x20\x03\0\x84\0"),
        ];
        for (connect, answer) in cases {
            let malformed = decode(connect, Version::V5, usize::MAX).unwrap_err();
            assert_eq!(refuse_malformed(&malformed, connect), answer, "{connect:02x?}");
        }
    }
}
