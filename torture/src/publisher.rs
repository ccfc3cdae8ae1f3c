//! A publisher: two streams, of QoS 1 and 2, pipelined in one persistent Session.
//!
//! After a break it sends again what was not acknowledged, in order, with DUP and the same
//! identifier, and PUBREL where it had PUBREC, as a Client with a Session has to [MQTT-4.4.0-1].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketId, PacketKind, QoS, Version};

use crate::inbox::{Name, payload};
use crate::random::Random;
use crate::scene::{Phase, Promise, Scene, count};
use crate::wire::{Gone, Hello, Packet, Wire};

/// Messages of a publisher in flight at once.
const WINDOW: usize = 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Publisher {
    scene: Arc<Scene>,
    random: Random,
    hello: Hello,
    number: usize,
    waiting: VecDeque<Sent>,
    /// Most milliseconds between two bursts.
    pause_ms: u64,
}

#[derive(Debug)]
struct Sent {
    id: PacketId,
    name: Name,
    qos: QoS,
    /// PUBREC was there.
    received: bool,
    payload: Vec<u8>,
    at: Instant,
}

/// The streams that publisher `number` fills.
pub(crate) const fn streams(number: usize) -> [usize; 2] {
    [number * 2, number * 2 + 1]
}

impl Publisher {
    pub(crate) fn new(scene: &Arc<Scene>, random: Random, number: usize, pause_ms: u64) -> Self {
        let version = if number.is_multiple_of(2) { Version::V311 } else { Version::V5 };
        let hello = Hello::new(version, format!("publisher{number}"));
        let (scene, waiting) = (Arc::clone(scene), VecDeque::new());
        Self { scene, random, hello, number, waiting, pause_ms }
    }

    pub(crate) fn run(mut self) {
        let mut known = false;
        while self.scene.phase() != Phase::End {
            match Wire::connect(self.scene.address, &self.hello) {
                Ok((wire, present)) => {
                    if known && !present {
                        let evidence = format!("{}: its session is gone", self.hello.client_id);
                        self.scene.fault(Promise::Session, evidence);
                    }
                    known = true;
                    count(&self.scene.counts.connections);
                    if let Err(gone) = self.serve(wire) {
                        note(&self.scene, &self.hello.client_id, &gone);
                    }
                }
                Err(gone) => note(&self.scene, &self.hello.client_id, &gone),
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    fn serve(&mut self, mut wire: Wire) -> Result<(), Gone> {
        for sent in &self.waiting {
            if sent.received {
                wire.ack(PacketKind::Pubrel, sent.id);
            } else {
                if sent.qos == QoS::AtLeastOnce
                    && let Some(mut stream) = self.scene.stream(sent.name.0)
                {
                    stream.again.insert(sent.name.1);
                }
                let topic = format!("t/{}/{}", self.number, sent.qos.as_u8());
                wire.publish(&topic, &sent.payload, (sent.qos, true, false), Some(sent.id));
            }
        }
        wire.flush()?;
        loop {
            match self.scene.phase() {
                Phase::End => {
                    wire.disconnect();
                    return Ok(());
                }
                Phase::Load if self.waiting.len() < WINDOW => {
                    for _ in 0..self.random.between(1, 8) {
                        self.publish(&mut wire);
                    }
                    wire.flush()?;
                }
                phase @ (Phase::Settle | Phase::Prepare) if self.waiting.is_empty() => {
                    self.scene.idle(&self.hello.client_id, phase);
                }
                _ => {}
            }
            let wait = Duration::from_millis(self.random.between(1, self.pause_ms));
            let mut next = wire.poll(wait)?;
            while let Some(packet) = next {
                self.hear(&mut wire, packet)?;
                next = wire.take()?;
            }
            wire.flush()?;
        }
    }

    fn publish(&mut self, wire: &mut Wire) {
        let second = self.random.chance(50);
        let [one, two] = streams(self.number);
        let (number, qos) = if second { (two, QoS::ExactlyOnce) } else { (one, QoS::AtLeastOnce) };
        let name = {
            let Some(mut stream) = self.scene.stream(number) else { return };
            let name = (number, stream.next);
            stream.next += 1;
            name
        };
        let more = if self.random.chance(10) { 3000 } else { 300 };
        let more = usize::try_from(self.random.below(more)).unwrap_or(0);
        let payload = payload(name, more);
        let id = wire.next_id(|id| self.waiting.iter().any(|it| it.id == id));
        let topic = format!("t/{}/{}", self.number, qos.as_u8());
        wire.publish(&topic, &payload, (qos, false, false), Some(id));
        self.waiting.push_back(Sent {
            id,
            name,
            qos,
            received: false,
            payload,
            at: Instant::now(),
        });
    }

    fn hear(&mut self, wire: &mut Wire, packet: Packet) -> Result<(), Gone> {
        match packet {
            Packet::Ack(kind, id, refused) => {
                let at = self.waiting.iter().position(|it| it.id == id);
                let Some(sent) = at.and_then(|at| self.waiting.get_mut(at)) else {
                    // PUBCOMP for a PUBREL that was sent on two connections.
                    return Ok(());
                };
                match (kind, sent.qos) {
                    (PacketKind::Pubrec, QoS::ExactlyOnce) if !refused => {
                        sent.received = true;
                        wire.ack(PacketKind::Pubrel, id);
                        return Ok(());
                    }
                    (PacketKind::Puback, QoS::AtLeastOnce)
                    | (PacketKind::Pubcomp | PacketKind::Pubrec, QoS::ExactlyOnce) => {}
                    (kind, qos) => return Err(Gone::Nonsense(format!("{kind} of {qos:?}"))),
                }
                let sent = at.and_then(|at| self.waiting.remove(at));
                match sent {
                    Some(sent) if refused && !sent.received => {
                        count(&self.scene.counts.refused);
                        if let Some(mut stream) = self.scene.stream(sent.name.0) {
                            stream.refused.insert(sent.name.1);
                        }
                    }
                    Some(sent) => {
                        self.scene.dealt_with(sent.at);
                        count(&self.scene.counts.acknowledged);
                    }
                    None => {}
                }
                Ok(())
            }
            Packet::Pingresp => Ok(()),
            Packet::Disconnect(code) => Err(Gone::Refused(code)),
            other => Err(Gone::Nonsense(format!("a publisher hears {other:?}"))),
        }
    }
}

/// Notes why a connection ended.
pub(crate) fn note(scene: &Scene, who: &str, gone: &Gone) {
    match gone {
        Gone::Nonsense(what) => scene.fault(Promise::Nonsense, format!("{who}: {what}")),
        Gone::Closed | Gone::Refused(_) => {
            scene.counts.closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
