//! What a Client has asked: the answers that wait, and the identifiers of QoS 2 messages it sent.
//!
//! Both outlive the connection where a QoS 2 message is on its way to others: the Client will send it
//! again, and must not be heard twice.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Queued, rows};
use crate::codec::{PacketId, ReasonCode};
use crate::hook::SessionId;
use crate::reach::Progress;
use crate::record::{Op, Position};
use crate::slot::Slot;

/// What the Client has asked and not heard the answer to.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(super) replies: VecDeque<Reply>,
    /// What they weigh together.
    weight: usize,
    /// The serial of the first of `replies`.
    first: u64,
    /// Identifiers of QoS 2 messages between PUBLISH and PUBCOMP. [MQTT-4.3.3-10]
    pub(super) exactly_once: BTreeMap<PacketId, Progress>,
    /// PUBLISH packets of QoS 1 and 2 that count against the server's Receive Maximum.
    pub(super) unacknowledged: usize,
    /// How many of `replies` are SUBACK.
    subacks: usize,
}

/// An answer that may still have to wait.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: ReplyKind,
    /// What its question weighed, whatever became of it.
    pub(super) weight: usize,
    pub(super) packet_id: PacketId,
    pub(super) reason: ReasonCode,
    pub(super) properties: Bytes,
    pub(super) ready: Position,
    /// How many others have still to say that they have done their part.
    pub(super) waits: u16,
    /// A service is asked, which forgets the question with the connection.
    pub(super) by_service: bool,
    /// It was asked on a connection that is over: what it decides holds, but nobody is told.
    pub(super) silent: bool,
    /// What the Client hears of its own message with QoS 0: behind the answer.
    pub(super) own: Vec<Queued>,
}

/// Which answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    Puback,
    Pubrec {
        note: Note,
    },
    Pubcomp,
    Suback {
        reasons: Vec<u8>,
    },
    Unsuback {
        reasons: Vec<u8>,
    },
    /// To a question that nobody asks any more.
    Nothing,
}

/// What the store knows of the identifier that PUBREC is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// Nothing, or what it should.
    Settled,
    /// Nothing yet: it has to before PUBREC is sent.
    Due,
    /// It was told with the message, which others have still to take over. If one of them refuses, it
    /// is told otherwise before PUBREC is sent.
    Early,
    /// As before, and the others forget what they know.
    Refused,
    /// As [`Note::Early`], but the Client gave the identifier back already.
    Released,
}

impl ReplyKind {
    fn is_suback(&self) -> bool {
        matches!(self, Self::Suback { .. })
    }

    fn weight(&self) -> usize {
        match self {
            Self::Suback { reasons } | Self::Unsuback { reasons } => reasons.len(),
            _ => 1,
        }
    }
}

impl Receiving {
    /// Nothing yet. Other shards may still answer what was asked in an earlier `life` of the
    /// session, so that serials never begin again.
    pub(crate) fn new(life: u64) -> Self {
        Self {
            replies: VecDeque::new(),
            weight: 0,
            first: life << 32,
            exactly_once: BTreeMap::new(),
            unacknowledged: 0,
            subacks: 0,
        }
    }

    /// Whether the session has to remember identifiers while it has no connection.
    pub(crate) fn has_exactly_once(&self) -> bool {
        !self.exactly_once.is_empty()
    }

    /// Notes the identifiers of QoS 2 messages that were taken over, for the session to be put away;
    /// call it behind [`Receiving::begin_again`]. Those of messages that were refused are forgotten.
    pub(crate) fn note_all(&mut self, slot: Slot, id: SessionId) -> Vec<Op> {
        let mut undecided = Vec::new();
        let mut ops = Vec::new();
        for reply in &mut self.replies {
            let ReplyKind::Pubrec { note } = reply.kind else { continue };
            if reply.waits > 0 {
                undecided.push(reply.packet_id);
                continue;
            }
            reply.kind = ReplyKind::Nothing;
            if reply.reason.is_error() {
                self.exactly_once.remove(&reply.packet_id);
                if matches!(note, Note::Early | Note::Refused) {
                    ops.push(rows::received_gone(slot, id, reply.packet_id));
                }
            }
        }
        self.unacknowledged = self.exactly_once.len();
        let known = self.exactly_once.iter().filter(|(packet_id, progress)| {
            // What a crash left unfinished is in the store as it is.
            !undecided.contains(packet_id) && !matches!(progress, Progress::Unfinished(_))
        });
        ops.extend(known.map(|(it, progress)| rows::received(slot, id, *it, progress)));
        ops
    }

    /// Whether others have still to take over a QoS 2 message that came on an older connection.
    pub(crate) fn is_undecided(&self) -> bool {
        self.replies.iter().any(|reply| reply.waits > 0)
    }

    /// The identifier of the PUBLISH that the answer `serial` is to, if somebody waits for it; and
    /// whether the store has a note of it.
    pub(crate) fn refused(&mut self, serial: u64) -> Option<(PacketId, bool)> {
        let reply = self.reply(serial).filter(|reply| !reply.silent)?;
        let publish = matches!(reply.kind, ReplyKind::Puback | ReplyKind::Pubrec { .. });
        let suback = usize::from(reply.kind.is_suback());
        let noted = reply.kind == (ReplyKind::Pubrec { note: Note::Early });
        // Whatever others still say of it, it was not taken over.
        reply.kind = ReplyKind::Nothing;
        let packet_id = reply.packet_id;
        self.subacks -= suback;
        publish.then_some((packet_id, noted))
    }

    /// The identifier of the QoS 2 PUBLISH that `serial` answers, of which the store has an early
    /// note that says too much: it was refused.
    pub(crate) fn take_refused(&mut self, serial: u64) -> Option<PacketId> {
        let reply = self.reply(serial).filter(|reply| reply.reason.is_error())?;
        let early = ReplyKind::Pubrec { note: Note::Early };
        (reply.kind == early).then(|| reply.kind = ReplyKind::Pubrec { note: Note::Refused })?;
        Some(reply.packet_id)
    }

    /// The same, of one that the Client gave back before everybody had it.
    pub(crate) fn take_released(&mut self, serial: u64) -> Option<PacketId> {
        let reply = self.reply(serial)?;
        let released = ReplyKind::Pubrec { note: Note::Released };
        (reply.kind == released).then(|| reply.kind = ReplyKind::Pubrec { note: Note::Settled })?;
        Some(reply.packet_id)
    }

    /// The answer `serial` waits for so many others besides, and for `ready`.
    pub(crate) fn wait_for(&mut self, serial: u64, waits: u16, ready: Position) {
        if let Some(reply) = self.reply(serial) {
            reply.waits = reply.waits.saturating_add(waits);
            reply.ready = reply.ready.max(ready);
        }
    }

    /// Whether other shards may have marks of a QoS 2 message.
    pub(crate) fn is_elsewhere(&self, packet_id: PacketId) -> bool {
        self.exactly_once.get(&packet_id) == Some(&Progress::Elsewhere)
    }

    /// Other shards may have marks of a QoS 2 message.
    pub(crate) fn note_elsewhere(&mut self, packet_id: PacketId) {
        if let Some(progress) = self.exactly_once.get_mut(&packet_id) {
            *progress = Progress::Elsewhere;
        }
    }

    /// A service is asked for the answer `serial`.
    pub(crate) fn note_service(&mut self, serial: u64) {
        if let Some(reply) = self.reply(serial) {
            reply.by_service = true;
        }
    }

    /// The message of a PUBLISH that gets no answer was not taken over.
    pub(crate) fn forget(&mut self, packet_id: PacketId) {
        self.exactly_once.remove(&packet_id);
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// Takes back an identifier that a crash or the end of a connection left.
    pub(crate) fn restore(&mut self, id: PacketId, progress: Progress) {
        if let Entry::Vacant(entry) = self.exactly_once.entry(id) {
            entry.insert(progress);
            self.unacknowledged += 1;
        }
    }

    /// There is a new connection, or none: what was asked on the old one is answered to nobody.
    ///
    /// What becomes of a QoS 2 message still matters: the Client will repeat it, and must not be
    /// heard twice. Only a service forgets what it was asked, and is asked again.
    pub(crate) fn begin_again(&mut self) {
        for reply in &mut self.replies {
            reply.silent = true;
            reply.own.clear();
            let exactly_once = matches!(reply.kind, ReplyKind::Pubrec { .. });
            let forgotten = reply.by_service && reply.waits > 0;
            if exactly_once && !forgotten {
                continue;
            }
            if exactly_once {
                self.exactly_once.remove(&reply.packet_id);
            }
            reply.kind = ReplyKind::Nothing;
            reply.waits = 0;
            reply.ready = Position::START;
        }
        self.subacks = 0;
        while self.replies.front().is_some_and(|reply| reply.kind == ReplyKind::Nothing) {
            self.pop();
        }
        self.unacknowledged = self.exactly_once.len();
    }

    /// Expects an answer that waits for `ready` and for `waits` others; its serial.
    pub(crate) fn expect(
        &mut self,
        kind: ReplyKind,
        packet_id: PacketId,
        ready: Position,
        waits: u16,
    ) -> u64 {
        let reason = ReasonCode::Success;
        let properties = Bytes::new();
        let weight = kind.weight();
        let reply = Reply {
            kind,
            weight,
            packet_id,
            reason,
            properties,
            ready,
            waits,
            by_service: false,
            silent: false,
            own: Vec::new(),
        };
        self.weight += reply.weight;
        self.subacks += usize::from(reply.kind.is_suback());
        self.replies.push_back(reply);
        self.first + self.replies.len() as u64 - 1
    }

    /// Whether so many answers wait that the Client should not be asked for more questions.
    pub(crate) fn is_full(&self) -> bool {
        self.weight >= REPLIES_WEIGHT_MAX
    }

    /// Whether any answer waits.
    pub(crate) fn is_answering(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Whether a SUBSCRIBE was not answered yet. Messages wait for that: §3.8.4 permits them to come
    /// first, but many a Client takes what comes next for the answer.
    pub(crate) fn awaits_suback(&self) -> bool {
        self.subacks > 0
    }

    pub(super) fn pop(&mut self) -> Option<Reply> {
        let reply = self.replies.pop_front()?;
        self.first += 1;
        self.weight = self.weight.saturating_sub(reply.weight);
        self.subacks -= usize::from(reply.kind.is_suback());
        Some(reply)
    }

    fn reply(&mut self, serial: u64) -> Option<&mut Reply> {
        let index = usize::try_from(serial.checked_sub(self.first)?).ok()?;
        self.replies.get_mut(index)
    }

    /// Somebody has done its part. The worst reason is what the Client hears. `true`: everybody
    /// has.
    pub(crate) fn done(
        &mut self,
        serial: u64,
        reason: ReasonCode,
        properties: Option<Bytes>,
        ready: Position,
    ) -> bool {
        let Some(reply) = self.reply(serial) else { return false };
        reply.waits = reply.waits.saturating_sub(1);
        reply.ready = reply.ready.max(ready);
        reply.reason = worse(reply.reason, reason);
        if let Some(properties) = properties {
            reply.properties = properties;
        }
        reply.waits == 0
    }

    /// Has a QoS 0 copy of the Client's own message wait for its answer; `false` if that was given.
    pub(crate) fn behind(&mut self, serial: u64, own: Queued) -> bool {
        let reply = self.reply(serial);
        reply.map(|reply| reply.own.push(own)).is_some()
    }

    /// Sets the reason of an answer before anybody was waited for.
    pub(crate) fn set_reason(&mut self, serial: u64, reason: ReasonCode) {
        if let Some(reply) = self.reply(serial) {
            reply.reason = reason;
        }
    }
}

/// Of two parts of one answer: an error before "nobody listens" before success, and "nobody" only
/// where all say so.
pub(crate) fn worse(one: ReasonCode, other: ReasonCode) -> ReasonCode {
    match (one.is_error(), other.is_error()) {
        (true, _) => one,
        (_, true) => other,
        _ if one == other => one,
        _ => ReasonCode::Success,
    }
}

/// Questions of one session that may wait for their answers before nothing more is read of its
/// Client; each filter counts. Receive Maximum bounds only PUBLISH, and only of MQTT 5.
const REPLIES_WEIGHT_MAX: usize = 1024;
