//! What a Topic Name must not hold, checked wherever a packet has one (§4.7).

use super::malformed::Malformed;
use super::primitive::{check_utf8, nul};

/// A wildcard where a Topic Name is.
pub(super) struct TopicFault {
    pub(super) found: char,
    pub(super) at: usize,
}

/// Checks that bytes are a Topic Name, or empty ([MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-4.7.1-1]).
#[inline]
pub(super) fn check_topic_name(bytes: &[u8]) -> Result<Result<&str, TopicFault>, Malformed> {
    let topic = check_utf8(bytes)?;
    // One pass without an early end, which the compiler makes wide.
    let mut bad = false;
    for byte in bytes {
        bad |= matches!(*byte, 0 | b'#' | b'+');
    }
    if bad { topic_fault(bytes).map(Err) } else { Ok(Ok(topic)) }
}

#[cold]
fn topic_fault(bytes: &[u8]) -> Result<TopicFault, Malformed> {
    if bytes.contains(&0) {
        return Err(nul(bytes));
    }
    let at = bytes.iter().position(|byte| matches!(*byte, b'#' | b'+')).unwrap_or_default();
    let found = if bytes.get(at) == Some(&b'#') { '#' } else { '+' };
    Ok(TopicFault { found, at })
}
