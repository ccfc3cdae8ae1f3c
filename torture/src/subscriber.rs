//! A subscriber: one persistent Session, and a way to use it badly.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketKind, QoS, Version};

use crate::inbox::{Answer, Inbox};
use crate::publisher::{note, streams};
use crate::random::Random;
use crate::scene::{Phase, Promise, Scene, count, lock};
use crate::wire::{Gone, Hello, ONLY, Packet, Wire};

/// How it behaves while there is load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// There all the time, answers at once.
    Online,
    /// Away most of the time.
    Offline,
    /// Answers late, and takes at most this many at once.
    Slow(u16),
    /// Ends its connections all the time, without DISCONNECT.
    Flapping,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Subscriber {
    scene: Arc<Scene>,
    random: Random,
    hello: Hello,
    manner: Manner,
    filters: Vec<(String, QoS)>,
    pub(crate) inbox: Arc<Mutex<Inbox>>,
}

impl Subscriber {
    /// Subscribes to these publishers.
    pub(crate) fn new(
        scene: &Arc<Scene>,
        random: Random,
        (name, version, manner): (&str, Version, Manner),
        publishers: &[usize],
        qos: QoS,
    ) -> Self {
        let mut hello = Hello::new(version, name);
        if let Manner::Slow(most) = manner {
            hello.receive_maximum = Some(most);
        }
        let filters = publishers.iter().map(|it| (format!("t/{it}/+"), qos)).collect();
        let heard = publishers.iter().flat_map(|it| streams(*it));
        let inbox = Arc::new(Mutex::new(Inbox::new(name, heard)));
        Self { scene: Arc::clone(scene), random, hello, manner, filters, inbox }
    }

    pub(crate) fn name(&self) -> &str {
        &self.hello.client_id
    }

    pub(crate) fn run(mut self) {
        let mut known = false;
        while self.scene.phase() != Phase::End {
            match Wire::connect(self.scene.address, &self.hello) {
                Ok((wire, present)) => {
                    if known && !present {
                        let evidence = format!("{}: its session is gone", self.name());
                        self.scene.fault(Promise::Session, evidence);
                    }
                    count(&self.scene.counts.connections);
                    lock(&self.inbox).connected(present);
                    let served = self.serve(wire, present, &mut known);
                    lock(&self.inbox).disconnected(self.scene.behind());
                    if let Err(gone) = served {
                        note(&self.scene, self.name(), &gone);
                    }
                }
                Err(gone) => note(&self.scene, self.name(), &gone),
            }
            self.stay_away();
        }
    }

    fn stay_away(&mut self) {
        let away = match self.manner {
            Manner::Offline => self.random.millis(100, 1500),
            _ => Duration::from_millis(3),
        };
        let until = Instant::now() + away;
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(3));
            if self.scene.phase() != Phase::Load {
                return;
            }
        }
    }

    fn serve(&mut self, mut wire: Wire, present: bool, known: &mut bool) -> Result<(), Gone> {
        if !present || !*known {
            let filters: Vec<_> =
                self.filters.iter().map(|(it, qos)| (it.as_str(), *qos)).collect();
            wire.subscribe(ONLY, &filters);
            wire.flush()?;
        }
        let leaves = Instant::now()
            + match self.manner {
                Manner::Offline => self.random.millis(20, 300),
                Manner::Flapping => self.random.millis(1, 100),
                Manner::Online | Manner::Slow(_) => Duration::from_secs(3600),
            };
        let mut answers = Vec::new();
        loop {
            match self.scene.phase() {
                Phase::End => {
                    wire.disconnect();
                    return Ok(());
                }
                Phase::Prepare if *known => self.scene.idle(self.name(), Phase::Prepare),
                Phase::Load if *known && Instant::now() > leaves => {
                    if self.manner == Manner::Offline && self.random.chance(50) {
                        wire.disconnect();
                    }
                    return Ok(());
                }
                _ => {}
            }
            let mut next = wire.poll(Duration::from_millis(5))?;
            while let Some(packet) = next {
                match packet {
                    Packet::Publish(publish) => {
                        answers.extend(lock(&self.inbox).hear(&publish, &self.scene));
                    }
                    Packet::Ack(PacketKind::Pubrel, id, _) => {
                        answers.push(lock(&self.inbox).release(id));
                    }
                    Packet::Suback(codes) => {
                        if codes.iter().any(|code| *code > 2) {
                            return Err(Gone::Nonsense(format!("SUBACK {codes:?}")));
                        }
                        *known = true;
                    }
                    Packet::Pingresp => {}
                    Packet::Disconnect(code) => return Err(Gone::Refused(code)),
                    other => return Err(Gone::Nonsense(format!("a subscriber hears {other:?}"))),
                }
                next = wire.take()?;
            }
            self.answer(&mut wire, &mut answers)?;
        }
    }

    /// Answers all, or if it is slow one after the other.
    fn answer(&mut self, wire: &mut Wire, answers: &mut Vec<Answer>) -> Result<(), Gone> {
        let slow = matches!(self.manner, Manner::Slow(_)) && self.scene.phase() == Phase::Load;
        let at_once = if slow { 1 } else { usize::MAX };
        while !answers.is_empty() {
            if slow {
                thread::sleep(self.random.millis(0, 8));
            }
            let now: Vec<_> = answers.drain(..at_once.min(answers.len())).collect();
            for answer in &now {
                wire.ack(answer.kind, answer.id);
            }
            wire.flush()?;
            lock(&self.inbox).answered(&now);
        }
        Ok(())
    }
}
