//! Messages for many sessions from a few publishers, whether the sessions are there or not.

use std::collections::VecDeque;

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Outs};
use crate::load::opening::Door;
use crate::load::options::Options;
use crate::load::template::{Template, packet_id};
use crate::load::verify::{Stamp, Verdict, Verifier};
use crate::load::wire::{AckKind, Packet, QoS, put_ack};

/// A publisher, and the sessions that it writes to in turn.
#[derive(Debug)]
struct Writer {
    /// Number of the session, and what goes there.
    sessions: Vec<(u32, Template)>,
    sent: u64,
    /// When those that are not acknowledged were sent.
    unanswered: VecDeque<u64>,
    listed: bool,
}

/// Sessions are the connections from 0 on, publishers those behind them.
#[derive(Debug)]
pub(crate) struct Post {
    clock: Clock,
    qos: QoS,
    window: usize,
    writers: Vec<Writer>,
    listed: Vec<usize>,
    verifiers: Vec<Verifier>,
    /// All sessions hear the topic of the first, and nobody has another.
    together: bool,
    /// How many messages each session is to get in all.
    each: u64,
    /// When each session began to connect, where its last message is timed.
    pub(crate) began: Vec<u64>,
    /// Messages sent and acknowledged.
    pub(crate) acknowledged: u64,
    /// Of those: refused.
    pub(crate) refused: u64,
    /// PUBLISHes that came.
    pub(crate) delivered: u64,
    /// Sessions that got all.
    complete: usize,
    /// From PUBLISH to its last acknowledgement.
    pub(crate) acks: Latencies,
    /// From connecting to the last message of a session.
    pub(crate) drains: Latencies,
    failed: Option<String>,
}

impl Post {
    /// Of as many publishers and sessions.
    pub(crate) fn new(options: &Options, door: &Door, clock: Clock, writers: usize) -> Self {
        let sessions = options.sessions;
        let template =
            |to| Template::new(door.version, options.qos, &door.topic(to), options.payload);
        let together = options.together;
        let topics = if together { 1 } else { sessions };
        let of = |writer| {
            let numbers = (writer..topics).step_by(writers);
            let named = numbers.map(|to| (u32::try_from(to).unwrap_or(u32::MAX), template(to)));
            Writer {
                sessions: named.collect(),
                sent: 0,
                unanswered: VecDeque::new(),
                listed: false,
            }
        };
        Self {
            clock,
            qos: options.qos,
            window: options.window(),
            writers: (0..writers).map(of).collect(),
            listed: Vec::new(),
            verifiers: vec![Verifier::default(); sessions],
            together,
            each: 0,
            began: Vec::new(),
            acknowledged: 0,
            refused: 0,
            delivered: 0,
            complete: 0,
            acks: Latencies::default(),
            drains: Latencies::default(),
            failed: None,
        }
    }

    /// What a CONNACK said.
    pub(crate) fn receive_maximum(&mut self, most: u16) {
        self.window = self.window.min(most.into());
    }

    /// So many messages more for each session.
    pub(crate) fn more(&mut self, messages: u64, outs: &mut Outs) {
        self.each += messages;
        self.complete = 0;
        self.listed = (0..self.writers.len()).collect();
        self.writers.iter_mut().for_each(|writer| writer.listed = true);
        self.turn_end(outs);
    }

    /// Whether all that is to be sent is acknowledged, or why that cannot be.
    pub(crate) fn all_sent(&self) -> Result<bool, String> {
        match &self.failed {
            Some(why) => Err(why.clone()),
            None => {
                let topics = if self.together { 1 } else { self.verifiers.len() as u64 };
                Ok(self.acknowledged == self.each * topics)
            }
        }
    }

    /// Whether every session has got all.
    pub(crate) fn all_came(&self) -> Result<bool, String> {
        match &self.failed {
            Some(why) => Err(why.clone()),
            None => Ok(self.complete == self.verifiers.len()),
        }
    }

    /// What is wrong now; what was refused was not promised.
    pub(crate) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        self.verifiers.iter().for_each(|it| verdict.add(it.verdict(self.each)));
        let missed = if self.together { self.verifiers.len() as u64 } else { 1 };
        verdict.lost = verdict.lost.saturating_sub(self.refused * missed);
        verdict
    }

    fn receive(&mut self, at: usize, (qos, id): (QoS, u16), payload: &[u8], outs: &mut Outs) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => outs.put(at, |out| put_ack(out, AckKind::Puback, id)),
            QoS::ExactlyOnce => outs.put(at, |out| put_ack(out, AckKind::Pubrec, id)),
        }
        let stream = if self.together { 0 } else { at };
        let Some(verifier) = self.verifiers.get_mut(at) else { return };
        self.delivered += 1;
        match Stamp::read(payload) {
            Some(stamp) if usize::try_from(stamp.stream) == Ok(stream) => {
                if verifier.take(stamp.sequence) > 0 && verifier.next() == self.each {
                    self.complete += 1;
                    if let Some(began) = self.began.get(at) {
                        self.drains.record(self.clock.now().saturating_sub(*began));
                    }
                }
            }
            _ => verifier.foreign(),
        }
    }

    fn answered(&mut self, nth: usize, code: u8, now: u64) {
        let Some(writer) = self.writers.get_mut(nth) else { return };
        let Some(sent) = writer.unanswered.pop_front() else { return };
        self.acks.record(now.saturating_sub(sent));
        self.acknowledged += 1;
        self.refused += u64::from(code >= 0x80);
        if !std::mem::replace(&mut writer.listed, true) {
            self.listed.push(nth);
        }
    }
}

impl Actor for Post {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        match *packet {
            Packet::Publish { qos, packet_id, payload, .. } => {
                self.receive(at, (qos, packet_id), payload, outs);
            }
            Packet::Ack { kind: AckKind::Pubrec, packet_id, code } if code < 0x80 => {
                outs.put(at, |out| put_ack(out, AckKind::Pubrel, packet_id));
            }
            Packet::Ack { kind: AckKind::Pubrel, packet_id, .. } => {
                outs.put(at, |out| put_ack(out, AckKind::Pubcomp, packet_id));
            }
            Packet::Ack { code, .. } => {
                self.answered(at.wrapping_sub(self.verifiers.len()), code, now);
            }
            Packet::Disconnect { code } => {
                let why =
                    || format!("connection {at}: the broker says DISCONNECT, code {code:#04x}");
                self.failed.get_or_insert_with(why);
            }
            _ => {}
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        let why = || format!("connection {at} went in the middle of the work: {why}");
        self.failed.get_or_insert_with(why);
    }

    fn turn_end(&mut self, outs: &mut Outs) {
        let now = self.clock.now();
        for nth in self.listed.drain(..) {
            let Some(writer) = self.writers.get_mut(nth) else { continue };
            writer.listed = false;
            let sessions = writer.sessions.len() as u64;
            let left = (self.each * sessions).saturating_sub(writer.sent);
            let room = match self.qos {
                QoS::AtMostOnce => left,
                _ => self.window.saturating_sub(writer.unanswered.len()) as u64,
            };
            for _ in 0..room.min(left) {
                let place = usize::try_from(writer.sent % sessions).unwrap_or_default();
                let Some((stream, template)) = writer.sessions.get_mut(place) else { break };
                let sequence = writer.sent / sessions;
                let stamp = Stamp { stream: *stream, sequence, due: now };
                let id = packet_id(writer.sent);
                outs.put(self.verifiers.len() + nth, |out| template.put(out, id, stamp));
                writer.sent += 1;
                match self.qos {
                    // Nobody answers: it is as good as it will be.
                    QoS::AtMostOnce => self.acknowledged += 1,
                    _ => writer.unanswered.push_back(now),
                }
            }
        }
    }
}

/// Two who hear everything; the first is told who is gone.
#[derive(Debug)]
pub(crate) struct Both<'a, A, B>(pub(crate) &'a mut A, pub(crate) &'a mut B);

impl<A: Actor, B: Actor> Actor for Both<'_, A, B> {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        self.0.packet(at, packet, outs, now);
        self.1.packet(at, packet, outs, now);
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        self.0.gone(at, why);
    }

    fn turn_end(&mut self, outs: &mut Outs) {
        self.0.turn_end(outs);
        self.1.turn_end(outs);
    }
}
