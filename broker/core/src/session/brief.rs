//! Messages that are sent at once and of which nothing is kept but a Packet Identifier.

use super::{Cx, Session};
use crate::codec::{PacketId, PublishParts, QoS};
use crate::metric::Metric;
use crate::output::PublishBytes;

/// A message as it came, without properties, and how a session gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brief<'a> {
    /// The QoS it is sent with. [MQTT-3.8.4-8]
    pub(crate) qos: QoS,
    /// The RETAIN flag it is sent with.
    pub(crate) retain: bool,
    pub(crate) subscription_id: Option<u32>,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
}

impl Session {
    /// Sends a message of QoS 0 or 1, unless something has to go before it or it has to be kept: then
    /// nothing has changed, and it is for [`Session::offer`]. `bytes` is what the last one was
    /// encoded to, if it was of the same message.
    pub(crate) fn send_brief(
        &mut self,
        message: Brief<'_>,
        bytes: &mut Option<PublishBytes>,
        cx: &mut Cx<'_>,
    ) -> bool {
        let kept = match message.qos {
            QoS::AtMostOnce => false,
            QoS::AtLeastOnce => self.is_persistent(),
            QoS::ExactlyOnce => true,
        };
        if kept || !self.nothing_goes_first() {
            return false;
        }
        let mut parts = PublishParts {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: message.topic,
            packet_id: None,
            message_expiry: None,
            subscription_ids: message.subscription_id.as_slice(),
            topic_alias: None,
            forwarded: &[],
            payload_len: message.payload.len(),
        };
        let length = parts.packet_len(self.link.version);
        if length > self.link.packet_bytes_max {
            cx.counters.add(Metric::DroppedTooLarge, 1);
            return true;
        }
        if message.qos > QoS::AtMostOnce {
            if !self.link.quota.try_take_brief() {
                return false;
            }
            let window = &self.sending.window;
            parts.packet_id = self.sending.ids.next(|| window.ids());
            let Some(packet_id) = parts.packet_id else {
                self.link.quota.give_back_brief();
                return false;
            };
            self.sending.window.push_brief(packet_id);
        }
        self.count_sent(length, message.payload.len(), cx);
        let Self { link, .. } = self;
        cx.out.send_brief(link.connection, link.version, &parts, message.payload, bytes);
        true
    }

    /// A PUBACK for a message of which nothing was kept; `false`: it is for another.
    pub(crate) fn finish_brief(&mut self, packet_id: PacketId) -> bool {
        let finished = self.sending.window.finish_brief(packet_id);
        if finished {
            self.link.quota.give_back_brief();
        }
        finished
    }
}
