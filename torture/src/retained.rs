//! Retained messages: the last one that was acknowledged is the one that a new subscriber gets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketId, PacketKind, QoS, Version};

use crate::publisher::note;
use crate::random::Random;
use crate::scene::{Phase, Promise, Scene, lock};
use crate::wire::{Gone, Hello, ONLY, Packet, Wire};

const TOPICS: u64 = 32;
const WINDOW: usize = 4;
pub(crate) const NAME: &str = "retainer";

/// What stands in a topic: a number, or nothing.
pub(crate) type Values = Arc<Mutex<BTreeMap<u64, Option<u64>>>>;

/// Changes retained messages all the time.
#[derive(Debug)]
pub(crate) struct Retainer {
    scene: Arc<Scene>,
    random: Random,
    waiting: VecDeque<(PacketId, u64, Option<u64>)>,
    last: u64,
    /// As acknowledged.
    pub(crate) values: Values,
}

impl Retainer {
    pub(crate) fn new(scene: &Arc<Scene>, random: Random) -> Self {
        let (scene, values) = (Arc::clone(scene), Values::default());
        Self { scene, random, waiting: VecDeque::new(), last: 0, values }
    }

    pub(crate) fn run(mut self) {
        let hello = Hello::new(Version::V5, NAME);
        while self.scene.phase() != Phase::End {
            let served = Wire::connect(self.scene.address, &hello).and_then(|it| self.serve(it.0));
            if let Err(gone) = served {
                note(&self.scene, NAME, &gone);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn serve(&mut self, mut wire: Wire) -> Result<(), Gone> {
        for (id, topic, value) in &self.waiting {
            put(&mut wire, *id, *topic, *value, true);
        }
        wire.flush()?;
        loop {
            match self.scene.phase() {
                Phase::End => {
                    wire.disconnect();
                    return Ok(());
                }
                Phase::Load if self.waiting.len() < WINDOW => {
                    self.last += 1;
                    let value = Some(self.last).filter(|_| !self.random.chance(10));
                    let topic = self.random.below(TOPICS);
                    let id = wire.next_id(|id| self.waiting.iter().any(|it| it.0 == id));
                    put(&mut wire, id, topic, value, false);
                    wire.flush()?;
                    self.waiting.push_back((id, topic, value));
                }
                phase @ (Phase::Settle | Phase::Prepare) if self.waiting.is_empty() => {
                    self.scene.idle(NAME, phase);
                }
                _ => {}
            }
            match wire.poll(Duration::from_millis(3))? {
                Some(Packet::Ack(PacketKind::Puback, id, refused)) => {
                    let at = self.waiting.iter().position(|it| it.0 == id);
                    let Some((_, topic, value)) = at.and_then(|at| self.waiting.remove(at)) else {
                        return Err(Gone::Nonsense(format!("PUBACK of {id}, which is not used")));
                    };
                    if !refused {
                        lock(&self.values).insert(topic, value);
                    }
                }
                Some(Packet::Disconnect(code)) => return Err(Gone::Refused(code)),
                _ => {}
            }
        }
    }
}

fn put(wire: &mut Wire, id: PacketId, topic: u64, value: Option<u64>, dup: bool) {
    let payload = value.map_or_else(String::new, |it| it.to_string());
    let how = (QoS::AtLeastOnce, dup, true);
    wire.publish(&format!("ret/{topic}"), payload.as_bytes(), how, Some(id));
}

/// Asks as a new subscriber would, when nothing is under way any more.
pub(crate) fn judge(scene: &Scene, values: &Values) -> Result<(), Gone> {
    let mut hello = Hello::new(Version::V311, "retained-asker");
    hello.clean = true;
    let (mut wire, _) = Wire::connect(scene.address, &hello)?;
    wire.subscribe(ONLY, &[("ret/#", QoS::AtMostOnce)]);
    wire.flush()?;
    let expected = lock(values).clone();
    let there = expected.values().flatten().count();
    let (mut found, until) = (BTreeMap::new(), Instant::now() + Duration::from_secs(5));
    // A moment longer, for those that should be gone.
    let mut quiet = None;
    while Instant::now() < quiet.unwrap_or(until) {
        if let Some(Packet::Publish(publish)) = wire.poll(Duration::from_millis(10))? {
            let topic = publish.topic.strip_prefix("ret/").and_then(|it| it.parse::<u64>().ok());
            let value = std::str::from_utf8(&publish.payload).ok().and_then(|it| it.parse().ok());
            if let (Some(topic), Some(value)) = (topic, value) {
                found.insert(topic, value);
            }
        }
        if quiet.is_none() && found.len() >= there {
            quiet = Some(Instant::now() + Duration::from_millis(30));
        }
    }
    wire.disconnect();
    for (topic, expected) in expected {
        let found = found.remove(&topic);
        if found != expected {
            let evidence = format!("ret/{topic}: acknowledged {expected:?}, found {found:?}");
            scene.fault(Promise::Retained, evidence);
        }
    }
    for (topic, found) in found {
        scene.fault(Promise::Retained, format!("ret/{topic}: {found} was never acknowledged"));
    }
    Ok(())
}
