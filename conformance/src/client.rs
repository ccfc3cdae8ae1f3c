//! A connection as a Client that behaves: asks, reads the answer, and checks its form.

use crate::number::{PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK};
use crate::outcome::Fail;
use crate::packet::{Props, Publish, Version, ack, subscribe, unsubscribe};
use crate::read::{Reader, hex, properties};
use crate::wire::Wire;

impl Wire {
    /// Sends SUBSCRIBE with one filter and the byte of its options, and sees it granted.
    ///
    /// # Errors
    /// Anything but a SUBACK with the QoS that was asked for.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> Result<(), Fail> {
        let codes = self.subscribe_all(&[(filter, options)], Props::new())?;
        if codes == [options & 3] {
            return Ok(());
        }
        self.fail(format!("expected SUBACK {:02x}, found {}", options & 3, hex(&codes)))
    }

    /// Sends SUBSCRIBE, and returns the codes of its SUBACK.
    ///
    /// # Errors
    /// Another packet, or one that does not answer.
    pub fn subscribe_all(&mut self, filters: &[(&str, u8)], props: Props) -> Result<Vec<u8>, Fail> {
        let wild = filters.iter().any(|it| it.0.contains(['+', '#']));
        self.offers(|offer| offer.wildcards || !wild, "wildcards")?;
        let id = self.fresh_id();
        self.send(&subscribe(self.version, id, filters, props));
        let codes = self.answer(SUBACK, id)?;
        // A Server may grant less, in either version, and so tells what it does not offer.
        let asked = filters.iter().map(|it| it.1 & 3);
        if let Some((_, asked)) = codes.iter().zip(asked).find(|(code, asked)| *code < asked) {
            self.log.beyond(format!("subscriptions of QoS {asked}"));
        }
        Ok(codes)
    }

    /// Sends UNSUBSCRIBE, and returns the codes of its UNSUBACK; none in MQTT 3.1.1.
    ///
    /// # Errors
    /// Another packet, or one that does not answer.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<Vec<u8>, Fail> {
        let id = self.fresh_id();
        self.send(&unsubscribe(self.version, id, filters));
        self.answer(UNSUBACK, id)
    }

    /// A SUBACK or UNSUBACK for this identifier, in the right form.
    ///
    /// # Errors
    /// Another packet, or another identifier.
    pub fn answer(&mut self, kind: u8, id: u16) -> Result<Vec<u8>, Fail> {
        let packet = self.among_messages(kind)?;
        let parsed = || -> Result<(u16, Vec<u8>), String> {
            let mut reader = Reader(&packet.body);
            let found = reader.two()?;
            if self.version == Version::V5 {
                let length = reader.var_int()?;
                properties(reader.take(length)?)?;
            }
            Ok((found, reader.0.to_vec()))
        };
        let (found, codes) = parsed().or_else(|wrong| self.fail(wrong))?;
        let allowed = match (self.version, kind) {
            (Version::V311, SUBACK) => &[0, 1, 2, 0x80][..],
            (Version::V311, _) => &[],
            (Version::V5, SUBACK) => SUBACK_CODES,
            (Version::V5, _) => UNSUBACK_CODES,
        };
        if found != id || packet.first & 15 != 0 || codes.iter().any(|it| !allowed.contains(it)) {
            return self.fail(format!("expected an answer to {id}, found {packet}"));
        }
        Ok(codes)
    }

    /// Sends a PUBLISH and sees its acknowledgements through. Returns the first one's code.
    ///
    /// # Errors
    /// Another packet, or an acknowledgement of something else.
    pub fn publish(&mut self, publish: &Publish) -> Result<u8, Fail> {
        let mut publish = publish.clone();
        self.offers(|offer| offer.retain || !publish.retain, "retained messages")?;
        self.offers(|offer| offer.qos >= publish.qos, &format!("QoS {}", publish.qos))?;
        if publish.qos > 0 && publish.id == 0 {
            publish.id = self.fresh_id();
        }
        if publish.retain {
            self.log.retained(&publish.topic);
        }
        self.send(&publish.bytes(self.version));
        match publish.qos {
            0 => Ok(0),
            1 => self.acked(PUBACK, publish.id),
            _ => {
                let code = self.acked(PUBREC, publish.id)?;
                if code < 0x80 {
                    self.release(publish.id)?;
                }
                Ok(code)
            }
        }
    }

    /// Sends PUBREL, and sees it completed.
    ///
    /// # Errors
    /// Anything but its PUBCOMP.
    pub fn release(&mut self, id: u16) -> Result<(), Fail> {
        self.send(&ack(PUBREL, id));
        self.acked(PUBCOMP, id).map(drop)
    }

    /// The acknowledgement of this type for this identifier, in the right form. Returns its code.
    ///
    /// Holds the lists of codes of §3.4 to §3.7 on every acknowledgement.
    ///
    /// # Errors
    /// Another packet.
    pub fn acked(&mut self, kind: u8, id: u16) -> Result<u8, Fail> {
        let packet = self.among_messages(kind)?;
        let parsed = || -> Result<(u16, u8), String> {
            let mut reader = Reader(&packet.body);
            let found = reader.two()?;
            let code = if reader.0.is_empty() { 0 } else { reader.byte()? };
            let length = if reader.0.is_empty() { 0 } else { reader.var_int()? };
            properties(reader.take(length)?)?;
            if self.version == Version::V311 && packet.body.len() != 2 {
                return Err(format!("expected two bytes, found {packet}"));
            }
            Ok((found, code))
        };
        let (found, code) = parsed().or_else(|wrong| self.fail(wrong))?;
        let codes = if matches!(kind, PUBACK | PUBREC) { RECEIVED_CODES } else { RELEASE_CODES };
        let flags = if kind == PUBREL { 2 } else { 0 };
        if found != id || packet.first & 15 != flags || !codes.contains(&code) {
            return self.fail(format!("expected it for the identifier {id}, found {packet}"));
        }
        Ok(code)
    }

    /// The next packet, a PUBLISH; it is not acknowledged.
    ///
    /// # Errors
    /// Another packet, or a PUBLISH that a Server may not send.
    pub fn message(&mut self) -> Result<Publish, Fail> {
        let packet = self.next_of(PUBLISH)?;
        Publish::parse(&packet, self.version).or_else(|wrong| self.fail(wrong))
    }

    /// The next packet, a PUBLISH with this payload; then acknowledges it to the end.
    ///
    /// # Errors
    /// Another packet or payload.
    pub fn take(&mut self, payload: &str) -> Result<Publish, Fail> {
        let message = self.message()?;
        self.acknowledge(&message)?;
        if message.payload == payload.as_bytes() {
            return Ok(message);
        }
        self.fail(format!("expected the message {payload:?}, found {:?}", message.text()))
    }

    /// Acknowledges a message as its QoS asks, to the end.
    ///
    /// # Errors
    /// PUBREC is not followed by PUBREL.
    pub fn acknowledge(&mut self, message: &Publish) -> Result<(), Fail> {
        match message.qos {
            0 => {}
            1 => self.send(&ack(PUBACK, message.id)),
            _ => {
                self.send(&ack(PUBREC, message.id));
                self.acked(PUBREL, message.id)?;
                self.send(&ack(PUBCOMP, message.id));
            }
        }
        Ok(())
    }

    /// That the connection is open, and that nothing else waits in it.
    ///
    /// # Errors
    /// Anything but a PINGRESP to a PINGREQ.
    pub fn ping(&mut self) -> Result<(), Fail> {
        self.send(&[0xC0, 0]);
        let packet = self.next_of(PINGRESP)?;
        if packet.first == 0xD0 && packet.body.is_empty() {
            return Ok(());
        }
        self.fail(format!("expected d0 00, found {packet}"))
    }
}

/// §3.9.3
const SUBACK_CODES: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];

/// §3.11.3
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];

/// §3.4.2.1, §3.5.2.1
const RECEIVED_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

/// §3.6.2.1, §3.7.2.1
const RELEASE_CODES: &[u8] = &[0x00, 0x92];
