//! Publishers and their subscribers at work, on one thread: sends what may be sent or is due, and
//! looks at what arrives.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Mesh, Outs};
use crate::load::stage::{Counters, Stage};
use crate::load::template::{Template, packet_id};
use crate::load::verify::{Stamp, Verdict, Verifier};
use crate::load::wire::{AckKind, Packet, QoS, Version, put_ack};

/// What is published, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// What is spoken.
    pub(crate) version: Version,
    /// Of publishers and subscribers.
    pub(crate) qos: QoS,
    /// Bytes of a payload.
    pub(crate) payload: usize,
    /// Messages of a publisher in flight.
    pub(crate) window: u64,
    /// Messages of a publisher that go in one write at most.
    pub(crate) batch: u64,
    /// Messages that each publisher sends, if they are counted.
    pub(crate) messages: Option<u64>,
    /// Open loop: nanoseconds from one message of this thread to the next.
    pub(crate) interval_ns: Option<f64>,
    /// How long nothing may happen before what is missing counts as lost.
    pub(crate) patience: Duration,
}

/// A publisher and its subscribers.
#[derive(Debug)]
struct Group {
    stream: u32,
    publisher: usize,
    members: u32,
    template: Template,
    sent: u64,
    acked: u64,
    /// All members have got, or passed over, every number below it.
    through: u64,
    /// Of the numbers from `through` on: how many members have them. With several members only.
    reached: Vec<u32>,
    listed: bool,
}

impl Group {
    /// A member went on from one number by some.
    #[inline]
    fn advance(&mut self, from: u64, by: u64) {
        if self.members == 1 {
            self.through = self.through.max(from + by);
            return;
        }
        for sequence in from.max(self.through)..from + by {
            if let Some(reached) = slot(&mut self.reached, sequence) {
                *reached += 1;
            }
        }
        while self.through < self.sent
            && let Some(reached) = slot(&mut self.reached, self.through)
            && *reached == self.members
        {
            *reached = 0;
            self.through += 1;
        }
    }

    fn in_flight(&self, qos: QoS) -> u64 {
        let done = if qos == QoS::AtMostOnce { self.through } else { self.through.min(self.acked) };
        self.sent - done.min(self.sent)
    }

    /// What did not come will not: goes on without it.
    fn give_up(&mut self) {
        self.through = self.sent;
        self.acked = self.sent;
        self.reached.fill(0);
    }
}

/// The place of a number in a ring whose length is a power of two.
#[inline]
fn slot(ring: &mut [u32], sequence: u64) -> Option<&mut u32> {
    let mask = ring.len().checked_sub(1)?;
    ring.get_mut(usize::try_from(sequence).ok()? & mask)
}

/// Which group a connection belongs to, and as what.
#[derive(Debug, Clone, Copy)]
enum Role {
    Publisher(usize),
    Member(usize),
}

/// The groups of a thread.
#[derive(Debug)]
pub(crate) struct Traffic<'a> {
    style: Style,
    clock: Clock,
    counters: &'a Counters,
    groups: Vec<Group>,
    roles: Vec<Role>,
    /// Of each connection; publishers have an idle one.
    verifiers: Vec<Verifier>,
    /// Groups that may go on.
    listed: Vec<usize>,
    sending: bool,
    measuring: bool,
    /// Open loop: when the first was due, and how many were sent since.
    began: Option<u64>,
    due: u64,
    sent: u64,
    delivered: u64,
    /// PUBACKs and PUBRECs that refuse.
    refused: u64,
    latencies: Latencies,
    failed: Option<String>,
}

/// What a thread has seen, at the end.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was lost, doubled, swapped.
    pub(crate) verdict: Verdict,
    /// Of what came while it was measured.
    pub(crate) latencies: Latencies,
    /// PUBACKs and PUBRECs that refuse.
    pub(crate) refused: u64,
}

impl<'a> Traffic<'a> {
    /// Without groups.
    pub(crate) fn new(style: Style, clock: Clock, counters: &'a Counters) -> Self {
        Self {
            style,
            clock,
            counters,
            groups: Vec::new(),
            roles: Vec::new(),
            verifiers: Vec::new(),
            listed: Vec::new(),
            sending: false,
            measuring: false,
            began: None,
            due: 0,
            sent: 0,
            delivered: 0,
            refused: 0,
            latencies: Latencies::default(),
            failed: None,
        }
    }

    /// Adds a group: connection `members.end` publishes to a topic which `members` hear. The
    /// connections follow those of the group before.
    pub(crate) fn add(&mut self, stream: u32, topic: &str, members: Range<usize>) {
        let (style, nth) = (self.style, self.groups.len());
        let ring = usize::try_from(style.window).unwrap_or(usize::MAX).next_power_of_two();
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        self.roles.resize(members.end, Role::Member(nth));
        self.roles.push(Role::Publisher(nth));
        self.verifiers.resize_with(members.end + 1, Verifier::default);
        self.groups.push(Group {
            stream,
            publisher: members.end,
            members: count,
            template: Template::new(style.version, style.qos, topic, style.payload),
            sent: 0,
            acked: 0,
            through: 0,
            reached: if count > 1 { vec![0; ring] } else { Vec::new() },
            listed: false,
        });
    }

    /// Does what the stage says until everything is sent and has come, or will not come any more.
    /// `finished` is called when that is so of all the messages that were to be counted.
    pub(crate) fn run(
        mut self,
        mesh: &mut Mesh,
        stage: &Stage,
        mut finished: impl FnMut(),
    ) -> Result<Outcome, String> {
        let (mut progress, mut moved, mut told) = (0, self.clock.now(), false);
        loop {
            let now = stage.get();
            let begins = now > Stage::WAIT && now < Stage::DRAIN && !self.sending;
            self.measuring = now == Stage::MEASURE;
            self.sending = now == Stage::WARM || now == Stage::MEASURE;
            if begins {
                self.listed = (0..self.groups.len()).collect();
                self.groups.iter_mut().for_each(|group| group.listed = true);
                self.began = Some(self.clock.now());
                self.turn_end(mesh.outs());
            }
            self.arm(mesh)?;
            mesh.turn(Duration::from_millis(10), &mut self).map_err(|error| error.to_string())?;
            if let Some(why) = self.failed.take() {
                return Err(why);
            }
            let done = self.groups.iter().all(|it| it.in_flight(self.style.qos) == 0)
                && (now == Stage::DRAIN || self.all_sent());
            if done && now == Stage::DRAIN {
                break;
            }
            if done && self.all_sent() && !told {
                told = true;
                finished();
            }
            let at = self.clock.now();
            if done || now == Stage::WAIT || progress != self.delivered + self.sent {
                (progress, moved) = (self.delivered + self.sent, at);
            } else if Duration::from_nanos(at.saturating_sub(moved)) > self.patience() {
                moved = at;
                self.give_up();
            }
        }
        let mut verdict = Verdict::default();
        for (role, verifier) in self.roles.iter().zip(&self.verifiers) {
            if let Role::Member(group) = role {
                let sent = self.groups.get(*group).map_or(0, |group| group.sent);
                verdict.add(verifier.verdict(sent));
            }
        }
        Ok(Outcome { verdict, latencies: self.latencies, refused: self.refused })
    }

    /// QoS 0 may be dropped, and nobody says so: the loop must go on soon.
    fn patience(&self) -> Duration {
        match self.style.qos {
            QoS::AtMostOnce => self.style.patience.min(Duration::from_secs(1)),
            _ => self.style.patience,
        }
    }

    fn give_up(&mut self) {
        let stuck = self.groups.iter_mut().enumerate();
        for (nth, group) in stuck.filter(|(_, it)| it.in_flight(self.style.qos) > 0) {
            group.give_up();
            if !group.listed {
                group.listed = true;
                self.listed.push(nth);
            }
        }
    }

    fn all_sent(&self) -> bool {
        let Some(messages) = self.style.messages else { return false };
        self.groups.iter().all(|group| group.sent >= messages)
    }

    /// Open loop: has the mesh wake when the next message is due.
    fn arm(&self, mesh: &Mesh) -> Result<(), String> {
        /// Wakes come no denser; what falls due in between goes together.
        const APART: Duration = Duration::from_micros(50);
        if self.sending
            && let Some(at) = self.due_at(self.due)
        {
            let wait = Duration::from_nanos(at.saturating_sub(self.clock.now()));
            mesh.wake_in(wait.max(APART)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// When a message of the open loop is due.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers and times of a run are far below 2^52"
    )]
    fn due_at(&self, nth: u64) -> Option<u64> {
        let interval = self.style.interval_ns?;
        Some(self.began? + (nth as f64 * interval) as u64)
    }

    /// Sends what fell due, to the groups in turn; what the window holds back goes later, with the
    /// time at which it was due.
    fn send_due(&mut self, outs: &mut Outs) {
        let now = self.clock.now();
        while let Some(due) = self.due_at(self.due)
            && due <= now
        {
            let nth = usize::try_from(self.due).unwrap_or_default() % self.groups.len().max(1);
            let Some(group) = self.groups.get_mut(nth) else { return };
            let spent = self.style.messages.is_some_and(|messages| group.sent >= messages);
            if !spent {
                if group.in_flight(self.style.qos) >= self.style.window {
                    // In order: nobody overtakes the one that waits.
                    return;
                }
                publish(group, outs, (1, self.style.batch), due);
                self.sent += 1;
            } else if self.all_sent() {
                return;
            }
            self.due += 1;
        }
    }

    /// Sends what windows have room for.
    fn fill(&mut self, outs: &mut Outs) {
        let now = self.clock.now();
        for nth in self.listed.drain(..) {
            let Some(group) = self.groups.get_mut(nth) else { continue };
            group.listed = false;
            let room = self.style.window.saturating_sub(group.in_flight(self.style.qos));
            let left = self.style.messages.map_or(room, |it| it.saturating_sub(group.sent));
            let count = room.min(left);
            publish(group, outs, (count, self.style.batch), now);
            self.sent += count;
        }
    }
}

/// Puts so many messages, in writes of at most so many.
fn publish(group: &mut Group, outs: &mut Outs, (count, batch): (u64, u64), due: u64) {
    let Group { template, stream, sent, publisher, .. } = group;
    let end = *sent + count;
    while *sent < end {
        let now = batch.min(end - *sent);
        outs.put(*publisher, |out| {
            for _ in 0..now {
                let stamp = Stamp { stream: *stream, sequence: *sent, due };
                template.put(out, packet_id(*sent), stamp);
                *sent += 1;
            }
        });
        if batch < u64::MAX {
            outs.cut(*publisher);
        }
    }
}

impl Actor for Traffic<'_> {
    #[inline]
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        let (Some(role), Some(verifier)) = (self.roles.get(at), self.verifiers.get_mut(at)) else {
            return;
        };
        let (Role::Member(nth) | Role::Publisher(nth)) = *role;
        let Some(group) = self.groups.get_mut(nth) else { return };
        match *packet {
            Packet::Publish { qos, packet_id, payload, .. } => {
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => {
                        outs.put(at, |out| put_ack(out, AckKind::Puback, packet_id));
                    }
                    QoS::ExactlyOnce => {
                        outs.put(at, |out| put_ack(out, AckKind::Pubrec, packet_id));
                    }
                }
                self.delivered += 1;
                match Stamp::read(payload) {
                    Some(stamp) if stamp.stream == group.stream => {
                        let from = verifier.next();
                        let by = verifier.take(stamp.sequence);
                        group.advance(from, by);
                        if self.measuring {
                            self.latencies.record(now.saturating_sub(stamp.due));
                        }
                    }
                    _ => verifier.foreign(),
                }
            }
            Packet::Ack { kind: AckKind::Pubrec, packet_id, code } if code < 0x80 => {
                return outs.put(at, |out| put_ack(out, AckKind::Pubrel, packet_id));
            }
            Packet::Ack { kind: AckKind::Pubrel, packet_id, .. } => {
                return outs.put(at, |out| put_ack(out, AckKind::Pubcomp, packet_id));
            }
            Packet::Ack { code, .. } => {
                group.acked += 1;
                self.refused += u64::from(code >= 0x80);
            }
            Packet::Disconnect { code } => {
                let why = format!("connection {at}: the broker says DISCONNECT, code {code:#04x}");
                self.failed.get_or_insert(why);
            }
            _ => return,
        }
        if !group.listed {
            group.listed = true;
            self.listed.push(nth);
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        let failed = || format!("connection {at} went in the middle of the work: {why}");
        self.failed.get_or_insert_with(failed);
    }

    fn turn_end(&mut self, outs: &mut Outs) {
        if self.sending {
            if self.style.interval_ns.is_some() {
                self.send_due(outs);
            } else {
                self.fill(outs);
            }
        }
        self.counters.sent.store(self.sent, Ordering::Relaxed);
        self.counters.delivered.store(self.delivered, Ordering::Relaxed);
    }
}
