//! Marks of QoS 2 messages that several shards took over. See [`crate::reach`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Shard, Waiter};
use crate::codec::{PacketId, QoS, ReasonCode};
use crate::hook::SessionId;
use crate::message::BadRow;
use crate::output::Outbox;
use crate::peer::PeerMessage;
use crate::reach::{Origin, Progress, Reach};
use crate::record::{Op, Position, Row};
use crate::router::Copy;
use crate::session::rows;
use crate::slot::{ShardId, Slot};

/// What is known of messages that come, or may come, again.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The keys of this shard's marks, by whose message they are of.
    keys: BTreeMap<(SessionId, PacketId), Vec<Bytes>>,
    /// What they say, at start.
    recovered: Vec<(Origin, Reach)>,
    /// Whom a crash left messages of this shard's sessions with.
    pub(super) reached: BTreeMap<(SessionId, PacketId), Reach>,
}

/// What is kept along with a message of QoS 2, so that it is known when it comes again.
#[derive(Debug)]
pub(super) enum Keep<'a> {
    Nothing,
    /// This, if anything else is kept.
    Known(Op),
    /// The publisher's shard: a note of the identifier, and whom the record reaches.
    Note(&'a Origin),
    /// Another shard, or a part of the message that came back to the publisher's: a mark, if
    /// anything else is kept.
    Mark(&'a Origin),
}

impl Shard {
    /// Takes a mark back at start.
    pub(super) fn recover_mark(&mut self, row: &Row) -> Result<(), BadRow> {
        let (origin, reach) = rows::read_mark(row)?;
        let of = (origin.session, origin.packet_id);
        self.marks.keys.entry(of).or_default().push(row.key.clone());
        self.marks.recovered.push((origin, reach));
        Ok(())
    }

    /// Tells the publishers' shards of the marks that were there at start.
    pub(super) fn tell_marks(&mut self, out: &mut Outbox) {
        for (origin, reach) in std::mem::take(&mut self.marks.recovered) {
            let Origin { session, slot, packet_id, .. } = origin;
            let shard = slot.shard(self.shards);
            if shard == self.id {
                self.reached(shard, session, packet_id, &reach, out);
            } else {
                let message = PeerMessage::Reached { session, packet_id, reach };
                out.post(shard, message);
            }
        }
    }

    /// A crash left a mark of a message that a session of this shard published.
    pub(super) fn reached(
        &mut self,
        from: ShardId,
        session: SessionId,
        packet_id: PacketId,
        reach: &Reach,
        out: &mut Outbox,
    ) {
        if let Some(offline) = self.offline.get_mut(&session) {
            offline.in_flight = true;
            self.marks.reached.entry((session, packet_id)).or_default().extend(reach);
        } else if from == self.id {
            self.delete_marks(session, Some(packet_id), false, out);
        } else {
            let message = PeerMessage::Forget { session, packet_id: Some(packet_id), token: None };
            out.post(from, message);
        }
    }

    /// Whom a message that comes again has reached, by all that a crash left: `known` of it by the
    /// note of this shard.
    pub(super) fn reach_of(
        &self,
        session: SessionId,
        packet_id: PacketId,
        known: Option<Reach>,
    ) -> Option<Arc<Reach>> {
        let Some(marked) = self.marks.reached.get(&(session, packet_id)) else {
            return known.map(Arc::new);
        };
        let mut reach = known.unwrap_or_default();
        reach.extend(marked);
        Some(Arc::new(reach))
    }

    /// Leaves out whoever has a message that comes again; and what may be lost, which perhaps they
    /// had before the crash.
    pub(super) fn skip_reached(&mut self, reach: &Reach) {
        let mut copies = std::mem::take(&mut self.copies);
        copies.retain(|copy| {
            let slot = self.slot_of(copy.session);
            copy.qos > QoS::AtMostOnce && !slot.is_some_and(|slot| reach.slots.contains(slot))
        });
        self.copies = copies;
    }

    fn slot_of(&self, id: SessionId) -> Option<Slot> {
        let connected = self.sessions.get(&id).map(|session| session.slot);
        connected.or_else(|| self.offline.get(&id).map(|offline| offline.slot))
    }

    /// Adds what is kept beside the rows of a message: `kept` are the copies that have one.
    pub(super) fn keep_reach<'a>(
        &mut self,
        keep: Keep<'_>,
        kept: impl Iterator<Item = (&'a Copy, &'a Bytes)>,
        ops: &mut Vec<Op>,
        out: &mut Outbox,
    ) {
        let (origin, note) = match keep {
            Keep::Nothing => return,
            Keep::Known(op) if ops.is_empty() => return drop(op),
            Keep::Known(op) => return ops.push(op),
            Keep::Mark(_) if ops.is_empty() => return,
            Keep::Mark(origin) => (origin, false),
            Keep::Note(origin) => (origin, true),
        };
        let mut reach = Reach::default();
        let mut own = None;
        for (copy, key) in kept {
            let Some(slot) = key.first().copied().map(Slot) else { continue };
            own = own.or(Some(slot));
            match &copy.share {
                None => reach.slots.insert(slot),
                Some(filter) => {
                    reach.groups.insert(filter.clone());
                }
            }
        }
        if note {
            if let Some(reached) = &origin.reached {
                reach.extend(reached);
            }
            let progress = Progress::Unfinished(reach);
            ops.push(rows::received(origin.slot, origin.session, origin.packet_id, &progress));
        } else if let Some(slot) = own {
            let number = self.ledger.number(out);
            let (key, op) = rows::mark(slot, number, origin, &reach);
            self.marks.keys.entry((origin.session, origin.packet_id)).or_default().push(key);
            ops.push(op);
        }
    }

    /// A session of this shard does not send a message again (`None`: any): whoever has a mark of it
    /// is told to delete it. How many others `waiter` waits for then, and for which position here.
    pub(super) fn forget_reach(
        &mut self,
        session: SessionId,
        packet_id: Option<PacketId>,
        waiter: Option<Waiter>,
        out: &mut Outbox,
    ) -> (u16, Position) {
        match packet_id {
            Some(packet_id) => drop(self.marks.reached.remove(&(session, packet_id))),
            None => {
                let all = (session, PacketId::MIN)..=(session, PacketId::MAX);
                let over: Vec<_> = self.marks.reached.range(all).map(|(of, _)| *of).collect();
                over.iter().for_each(|of| drop(self.marks.reached.remove(of)));
            }
        }
        let position = self.delete_marks(session, packet_id, waiter.is_some(), out);
        let own = self.id;
        for shard in (0..self.shards).map(ShardId).filter(|it| *it != own) {
            let token = waiter.map(|waiter| self.token(waiter));
            let message = PeerMessage::Forget { session, packet_id, token };
            out.post(shard, message);
        }
        (self.shards - 1, position)
    }

    /// The same, for the answer `serial` to that Client.
    pub(super) fn forget_first(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        serial: u64,
        out: &mut Outbox,
    ) {
        let waiter = Waiter::Answer(session, serial);
        let (waits, ready) = self.forget_reach(session, Some(packet_id), Some(waiter), out);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.receiving.wait_for(serial, waits, ready);
        }
    }

    /// Another shard's session does not send a message again.
    pub(super) fn forget_marks(
        &mut self,
        from: ShardId,
        session: SessionId,
        packet_id: Option<PacketId>,
        token: Option<u64>,
        out: &mut Outbox,
    ) {
        let position = self.delete_marks(session, packet_id, token.is_some(), out);
        self.owe(from, token, position, ReasonCode::Success, out);
    }

    fn delete_marks(
        &mut self,
        session: SessionId,
        packet_id: Option<PacketId>,
        urgent: bool,
        out: &mut Outbox,
    ) -> Position {
        let first = (session, packet_id.unwrap_or(PacketId::MIN));
        let last = (session, packet_id.unwrap_or(PacketId::MAX));
        let over: Vec<_> = self.marks.keys.range(first..=last).map(|(of, _)| *of).collect();
        let keys = over.iter().filter_map(|of| self.marks.keys.remove(of)).flatten();
        let ops: Vec<Op> = keys.map(|key| Op::Forget { key }).collect();
        if ops.is_empty() {
            // They may have been deleted a moment ago, for whoever asks again.
            return self.ledger.last();
        }
        self.ledger.append(ops, urgent, out)
    }
}
