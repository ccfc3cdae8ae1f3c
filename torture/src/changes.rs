//! Subscriptions that come and go: there after SUBACK, gone after UNSUBACK, whatever breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketKind, QoS, Version};

use crate::publisher::note;
use crate::random::Random;
use crate::scene::{Phase, Promise, Scene, count, lock};
use crate::wire::{Gone, Hello, ONLY, Packet, Wire};

const FILTERS: u64 = 16;
pub(crate) const NAME: &str = "changer";
/// Its messages come behind those they close.
const END: &str = "sub/end";

/// What both sides know.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By filter; one that is not there may be either.
    subscribed: BTreeMap<u64, bool>,
    heard: BTreeSet<(String, u64)>,
}

/// Subscribes and unsubscribes all the time.
#[derive(Debug)]
pub(crate) struct Changer {
    scene: Arc<Scene>,
    random: Random,
    pub(crate) known: Arc<Mutex<Known>>,
    /// Whether it has had its first SUBACK.
    begun: bool,
}

impl Changer {
    pub(crate) fn new(scene: &Arc<Scene>, random: Random) -> Self {
        let known = Known {
            subscribed: (0..FILTERS).map(|it| (it, false)).collect(),
            heard: BTreeSet::new(),
        };
        let known = Arc::new(Mutex::new(known));
        Self { scene: Arc::clone(scene), random, known, begun: false }
    }

    pub(crate) fn run(mut self) {
        let hello = Hello::new(Version::V5, NAME);
        while self.scene.phase() != Phase::End {
            let served = Wire::connect(self.scene.address, &hello).and_then(|(wire, present)| {
                if self.begun && !present {
                    self.scene.fault(Promise::Session, format!("{NAME}: its session is gone"));
                    lock(&self.known).subscribed = (0..FILTERS).map(|it| (it, false)).collect();
                    self.begun = false;
                }
                self.serve(wire)
            });
            if let Err(gone) = served {
                note(&self.scene, NAME, &gone);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn serve(&mut self, mut wire: Wire) -> Result<(), Gone> {
        // What is asked for: a filter, and whether it shall be there.
        let mut asked = None;
        if !self.begun {
            wire.subscribe(ONLY, &[(END, QoS::AtLeastOnce)]);
            wire.flush()?;
        }
        loop {
            match self.scene.phase() {
                Phase::End => {
                    wire.disconnect();
                    return Ok(());
                }
                Phase::Load if self.begun && asked.is_none() => {
                    let (filter, wanted) = (self.random.below(FILTERS), self.random.chance(50));
                    lock(&self.known).subscribed.remove(&filter);
                    let name = format!("sub/{filter}");
                    if wanted {
                        wire.subscribe(ONLY, &[(&name, QoS::AtLeastOnce)]);
                    } else {
                        wire.unsubscribe(ONLY, &name);
                    }
                    wire.flush()?;
                    asked = Some((filter, wanted));
                }
                phase @ (Phase::Settle | Phase::Prepare) if self.begun && asked.is_none() => {
                    self.scene.idle(NAME, phase);
                }
                _ => {}
            }
            match wire.poll(Duration::from_millis(3))? {
                Some(Packet::Suback(..)) if !self.begun => self.begun = true,
                // Refused, for the disk is nearly full: it is as it was, whatever that is.
                Some(Packet::Suback(codes)) if codes.iter().any(|code| *code >= 0x80) => {
                    asked = None;
                    count(&self.scene.counts.refused);
                }
                Some(Packet::Suback(_) | Packet::Unsuback) => {
                    if let Some((filter, wanted)) = asked.take() {
                        lock(&self.known).subscribed.insert(filter, wanted);
                    }
                }
                Some(Packet::Publish(publish)) => {
                    let tag = std::str::from_utf8(&publish.payload).ok();
                    if let Some(tag) = tag.and_then(|it| it.parse().ok()) {
                        lock(&self.known).heard.insert((publish.topic, tag));
                    }
                    if let Some(id) = publish.id {
                        wire.ack(PacketKind::Puback, id);
                        wire.flush()?;
                    }
                }
                Some(Packet::Disconnect(code)) => return Err(Gone::Refused(code)),
                _ => {}
            }
        }
    }
}

/// Publishes to all filters, and looks at which arrive. The changer is idle.
pub(crate) fn judge(scene: &Scene, known: &Mutex<Known>, tag: u64) -> Result<(), Gone> {
    let mut hello = Hello::new(Version::V311, "subscription-asker");
    hello.clean = true;
    let (mut wire, _) = Wire::connect(scene.address, &hello)?;
    lock(known).heard.clear();
    let how = (QoS::AtLeastOnce, false, false);
    let payload = tag.to_string();
    let mut open = 0;
    for filter in 0..FILTERS {
        let id = wire.next_id(|_| false);
        wire.publish(&format!("sub/{filter}"), payload.as_bytes(), how, Some(id));
        open += 1;
    }
    wire.flush()?;
    let until = Instant::now() + Duration::from_secs(10);
    while open > 0 && Instant::now() < until {
        if let Some(Packet::Ack(..)) = wire.poll(Duration::from_millis(10))? {
            open -= 1;
        }
    }
    wire.publish(END, payload.as_bytes(), how, Some(ONLY));
    wire.flush()?;
    let last = (END.to_owned(), tag);
    while !lock(known).heard.contains(&last) {
        if Instant::now() > until {
            scene.fault(Promise::Lost, format!("{NAME}: {END} does not arrive"));
            return Ok(());
        }
        wire.poll(Duration::from_millis(5))?;
    }
    wire.disconnect();
    let mut known = lock(known);
    for filter in 0..FILTERS {
        let heard = known.heard.contains(&(format!("sub/{filter}"), tag));
        match known.subscribed.get(&filter) {
            Some(true) if !heard => {
                let evidence = format!("sub/{filter}: SUBACK was there, a message does not arrive");
                scene.fault(Promise::Subscription, evidence);
            }
            Some(false) if heard => {
                let evidence = format!("sub/{filter}: UNSUBACK was there, a message arrives");
                scene.fault(Promise::Subscription, evidence);
            }
            _ => {}
        }
        known.subscribed.insert(filter, heard);
    }
    Ok(())
}
