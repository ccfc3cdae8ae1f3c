//! A session as rows: what is left of it when it has no connection, and what a crash leaves.
//!
//! Keys begin with the session's slot. The row of the session itself is found by user and Client
//! Identifier; everything else by the session's number, which no other incarnation ever has: rows
//! of a session that is over can be deleted at leisure, nobody finds them any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::window::{InFlight, Queued, State};
use super::{Subscription, Will};
use crate::codec::{PacketId, QoS};
use crate::hook::{SessionId, Tag};
use crate::message::{BadRow, Message, pack, unpack};
use crate::reach::{Origin, Progress, Reach};
use crate::record::{KeyBuilder, KeyRange, Op, Position, Row, RowKind};
use crate::slot::{Slot, Slots};
use crate::time::Time;
use crate::topic::TopicFilter;

/// The row of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) id: SessionId,
    pub(crate) user: Arc<str>,
    pub(crate) client_id: Arc<str>,
    pub(crate) expiry: Duration,
    /// When it ends; `None`: it was connected.
    pub(crate) ends: Option<Time>,
    /// The will that is still to be published, and when (at the latest).
    pub(crate) will: Option<(Will, Option<Time>)>,
}

#[derive(Serialize, Deserialize)]
struct StoredSession<'a> {
    id: u64,
    user: &'a str,
    client_id: &'a str,
    expiry_seconds: u64,
    ends: Option<Time>,
    #[serde(borrow)]
    will: Option<StoredWill<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredWill<'a> {
    topic: &'a str,
    payload: &'a [u8],
    qos: u8,
    retain: bool,
    properties: &'a [u8],
    message_expiry: Option<u32>,
    delay_seconds: u64,
    due: Option<Time>,
}

fn session_key(slot: Slot, user: &str, client_id: &str) -> Bytes {
    KeyBuilder::new(slot, RowKind::Session).text(user).raw(client_id.as_bytes()).build()
}

/// Writes the row of a session.
pub(crate) fn session(slot: Slot, row: &SessionRow) -> Op {
    let will = row.will.as_ref().map(|(will, due)| StoredWill {
        topic: &will.topic,
        payload: &will.payload,
        qos: will.qos as u8,
        retain: will.retain,
        properties: &will.properties,
        message_expiry: will.message_expiry,
        delay_seconds: will.delay.as_secs(),
        due: *due,
    });
    let stored = StoredSession {
        id: row.id.0,
        user: &row.user,
        client_id: &row.client_id,
        expiry_seconds: row.expiry.as_secs(),
        ends: row.ends,
        will,
    };
    Op::Put {
        key: session_key(slot, &row.user, &row.client_id),
        value: pack(SESSION_FORMAT, &stored),
    }
}

/// Deletes the row of a session.
pub(crate) fn session_gone(slot: Slot, user: &str, client_id: &str) -> Op {
    Op::Delete { key: session_key(slot, user, client_id) }
}

/// Reads what [`session`] wrote.
pub(crate) fn read_session(value: &[u8]) -> Result<SessionRow, BadRow> {
    let stored: StoredSession<'_> = unpack(SESSION_FORMAT, value)?;
    let will = match stored.will {
        None => None,
        Some(will) => {
            let due = will.due;
            let will = Will {
                topic: will.topic.into(),
                payload: Bytes::copy_from_slice(will.payload),
                qos: QoS::from_u8(will.qos).ok_or(BadRow::Content)?,
                retain: will.retain,
                properties: Bytes::copy_from_slice(will.properties),
                message_expiry: will.message_expiry,
                delay: Duration::from_secs(will.delay_seconds),
            };
            Some((will, due))
        }
    };
    Ok(SessionRow {
        id: SessionId(stored.id),
        user: stored.user.into(),
        client_id: stored.client_id.into(),
        expiry: Duration::from_secs(stored.expiry_seconds),
        ends: stored.ends,
        will,
    })
}

fn owned(slot: Slot, kind: RowKind, session: SessionId) -> KeyBuilder {
    KeyBuilder::new(slot, kind).number(session.0)
}

/// The session whose row `key` is, for every kind of row but its own.
pub(crate) fn owner(key: &[u8]) -> Option<(SessionId, &[u8])> {
    let (number, rest) = key.get(2..)?.split_first_chunk::<8>()?;
    Some((SessionId(u64::from_be_bytes(*number)), rest))
}

/// Every row of `kind` that a session has.
pub(crate) fn all(slot: Slot, kind: RowKind, session: SessionId) -> KeyRange {
    owned(slot, kind, session).prefix()
}

/// Writes a subscription. `replaying`: retained messages are still to come for it.
pub(crate) fn subscription(
    slot: Slot,
    id: SessionId,
    filter: &str,
    with: Subscription,
    replaying: bool,
) -> Op {
    let stored = (options_byte(with) | u8::from(replaying) << 4, with.id);
    Op::Put { key: subscription_key(slot, id, filter), value: pack(SUBSCRIPTION_FORMAT, &stored) }
}

/// Deletes a subscription.
pub(crate) fn subscription_gone(slot: Slot, id: SessionId, filter: &str) -> Op {
    Op::Delete { key: subscription_key(slot, id, filter) }
}

fn subscription_key(slot: Slot, id: SessionId, filter: &str) -> Bytes {
    owned(slot, RowKind::Subscription, id).raw(filter.as_bytes()).build()
}

/// Reads what [`subscription`] wrote, and whether retained messages are still to come for it.
pub(crate) fn read_subscription(value: &[u8]) -> Result<(Subscription, bool), BadRow> {
    let (options, id): (u8, Option<u32>) = unpack(SUBSCRIPTION_FORMAT, value)?;
    let subscription = Subscription {
        qos: QoS::from_u8(options & 0b11).ok_or(BadRow::Content)?,
        no_local: options & 0b100 != 0,
        retain_as_published: options & 0b1000 != 0,
        id,
    };
    Ok((subscription, options & 0b1_0000 != 0))
}

fn options_byte(with: Subscription) -> u8 {
    with.qos as u8 | u8::from(with.no_local) << 2 | u8::from(with.retain_as_published) << 3
}

/// The key of a message in a session's queue. What differs from one recipient to the next is in
/// the key, so that the value, the message, is the same for all.
pub(crate) fn queued_key(
    slot: Slot,
    session: SessionId,
    number: u64,
    qos: QoS,
    retain: bool,
    subscription_id: Option<u32>,
    share: Option<&TopicFilter>,
) -> Bytes {
    owned(slot, RowKind::Queued, session)
        .number(number)
        .byte(qos as u8 | u8::from(retain) << 2)
        .raw(&subscription_id.unwrap_or(0).to_be_bytes())
        .raw(share.map_or(&[], |share| share.as_str().as_bytes()))
        .build()
}

/// The Shared Subscription that the message of a [`queued_key`] came by.
fn share_of(key: &[u8]) -> Option<TopicFilter> {
    let share = key.get(QUEUED_KEY_BYTES..).filter(|share| !share.is_empty())?;
    let share = std::str::from_utf8(share).ok()?;
    TopicFilter::parse(share).ok()
}

/// A [`queued_key`] without a Shared Subscription: slot, kind, session, number, flags, identifier.
const QUEUED_KEY_BYTES: usize = 1 + 1 + 8 + 8 + 1 + 4;

/// The messages in a session's queue behind `number`.
pub(crate) fn queued_after(slot: Slot, session: SessionId, number: u64) -> KeyRange {
    let mut range = all(slot, RowKind::Queued, session);
    let first = owned(slot, RowKind::Queued, session).number(number.saturating_add(1)).build();
    range.start = range.start.max(first);
    range
}

/// Reads a message of a queue.
pub(crate) fn read_queued(row: &Row) -> Result<Queued, BadRow> {
    take_queued(row.clone())
}

/// The same, of a row that nobody needs any more.
pub(crate) fn take_queued(row: Row) -> Result<Queued, BadRow> {
    let (_, rest) = owner(&row.key).ok_or(BadRow::Content)?;
    let (number, rest) = rest.split_first_chunk::<8>().ok_or(BadRow::Content)?;
    let (flags, rest) = rest.split_first().ok_or(BadRow::Content)?;
    let (id, _) = rest.split_first_chunk::<4>().ok_or(BadRow::Content)?;
    let id = u32::from_be_bytes(*id);
    Ok(Queued {
        number: u64::from_be_bytes(*number),
        message: Message::from_bytes(&row.value)?,
        qos: QoS::from_u8(flags & 0b11).ok_or(BadRow::Content)?,
        retain: flags & 0b100 != 0,
        subscription_id: (id != 0).then_some(id),
        ready: Position::START,
        share: share_of(&row.key),
        key: Some(row.key),
        tag: None,
    })
}

#[derive(Serialize, Deserialize)]
struct StoredInFlight<'a> {
    order: u64,
    number: u64,
    state: u8,
    qos: u8,
    retain: bool,
    subscription_id: Option<u32>,
    key: Option<&'a [u8]>,
    tag: Option<(u8, u128, u64)>,
    message: &'a [u8],
}

/// Writes a message in flight to the Client, with all that is needed to send it again.
pub(crate) fn in_flight(slot: Slot, session: SessionId, entry: &InFlight) -> Op {
    in_flight_as(slot, session, entry, false)
}

/// The same; `veiled`: its payload is what its service has put in the place of it.
pub(crate) fn in_flight_as(slot: Slot, session: SessionId, entry: &InFlight, veiled: bool) -> Op {
    let queued = &entry.queued;
    let message = match entry.state {
        State::Publish => queued.message.to_bytes(),
        // Only PUBREL is ever sent of it: who published what is of no use any more, but its topic
        // and identity still tell an observer what was acknowledged.
        State::Pubrel => Message { payload: Bytes::new(), ..(*queued.message).clone() }.to_bytes(),
    };
    let stored = StoredInFlight {
        order: entry.order,
        number: queued.number,
        state: match entry.state {
            State::Publish if veiled => STATE_VEILED,
            State::Publish => STATE_PUBLISH,
            State::Pubrel => STATE_PUBREL,
        },
        qos: queued.qos as u8,
        retain: queued.retain,
        subscription_id: queued.subscription_id,
        key: queued.key.as_deref(),
        tag: queued.tag.map(|(service, tag)| (service, tag.key, tag.seq)),
        message: &message,
    };
    Op::Put {
        key: in_flight_key(slot, session, Direction::ToClient, entry.packet_id),
        value: pack(IN_FLIGHT_FORMAT, &stored),
    }
}

/// What is to be sent of a message in flight: on disk for ever.
const STATE_PUBLISH: u8 = 0;
const STATE_PUBREL: u8 = 1;
/// PUBLISH, with a payload that its service veiled.
const STATE_VEILED: u8 = 2;

/// Deletes what [`in_flight`] wrote.
pub(crate) fn in_flight_gone(slot: Slot, session: SessionId, id: PacketId) -> Op {
    Op::Delete { key: in_flight_key(slot, session, Direction::ToClient, id) }
}

/// Notes that a QoS 2 PUBLISH with this identifier came, so that a repeat is known as one.
pub(crate) fn received(slot: Slot, session: SessionId, id: PacketId, progress: &Progress) -> Op {
    let key = in_flight_key(slot, session, Direction::FromClient, id);
    let value = match progress {
        Progress::Here => Bytes::from_static(&[IN_FLIGHT_FORMAT]),
        Progress::Elsewhere => pack_received(true, &Reach::default()),
        Progress::Unfinished(reach) => pack_received(false, reach),
    };
    Op::Put { key, value }
}

#[derive(Serialize, Deserialize)]
struct StoredReach<'a> {
    slots: Slots,
    #[serde(borrow)]
    groups: Vec<&'a str>,
}

impl<'a> StoredReach<'a> {
    fn of(reach: &'a Reach) -> Self {
        Self { slots: reach.slots, groups: reach.groups.iter().map(TopicFilter::as_str).collect() }
    }

    fn read(&self) -> Result<Reach, BadRow> {
        let groups: Result<BTreeSet<_>, _> =
            self.groups.iter().map(|filter| TopicFilter::parse(filter)).collect();
        Ok(Reach { slots: self.slots, groups: groups.map_err(|_| BadRow::Content)? })
    }
}

/// `complete`: everybody has it.
fn pack_received(complete: bool, reach: &Reach) -> Bytes {
    pack(RECEIVED_FORMAT, &(complete, StoredReach::of(reach)))
}

fn read_received(value: &[u8]) -> Result<Progress, BadRow> {
    if value.first() != Some(&RECEIVED_FORMAT) {
        return Ok(Progress::Here);
    }
    let (complete, reach): (bool, StoredReach<'_>) = unpack(RECEIVED_FORMAT, value)?;
    Ok(if complete { Progress::Elsewhere } else { Progress::Unfinished(reach.read()?) })
}

/// Marks whom a message of another shard's session has reached, in one record with its rows. `slot`:
/// one of this shard's. `number`: no other mark has it.
pub(crate) fn mark(slot: Slot, number: u64, origin: &Origin, reach: &Reach) -> (Bytes, Op) {
    let key = owned(slot, RowKind::Reached, origin.session)
        .raw(&origin.packet_id.get().to_be_bytes())
        .number(number)
        .build();
    let value = pack(MARK_FORMAT, &(origin.slot, StoredReach::of(reach)));
    (key.clone(), Op::Put { key, value })
}

/// Reads what [`mark`] wrote.
pub(crate) fn read_mark(row: &Row) -> Result<(Origin, Reach), BadRow> {
    let (session, rest) = owner(&row.key).ok_or(BadRow::Content)?;
    let (id, _) = rest.split_first_chunk::<2>().ok_or(BadRow::Content)?;
    let packet_id = PacketId::new(u16::from_be_bytes(*id)).ok_or(BadRow::Content)?;
    let (slot, reach): (Slot, StoredReach<'_>) = unpack(MARK_FORMAT, &row.value)?;
    Ok((Origin { session, slot, packet_id, reached: None }, reach.read()?))
}

/// Deletes what [`received`] wrote.
pub(crate) fn received_gone(slot: Slot, session: SessionId, id: PacketId) -> Op {
    Op::Delete { key: in_flight_key(slot, session, Direction::FromClient, id) }
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Direction {
    ToClient = 0,
    FromClient = 1,
}

fn in_flight_key(slot: Slot, session: SessionId, to: Direction, id: PacketId) -> Bytes {
    owned(slot, RowKind::InFlight, session).byte(to as u8).raw(&id.get().to_be_bytes()).build()
}

/// A row of [`RowKind::InFlight`].
#[derive(Debug)]
pub(crate) enum InFlightRow {
    ToClient(Box<InFlight>),
    /// The same, with a payload that its service has to read.
    Veiled(Box<InFlight>),
    FromClient(PacketId, Progress),
}

/// Reads what [`in_flight`] or [`received`] wrote.
pub(crate) fn read_in_flight(row: &Row) -> Result<InFlightRow, BadRow> {
    let (_, rest) = owner(&row.key).ok_or(BadRow::Content)?;
    let [direction, id @ ..] = rest else { return Err(BadRow::Content) };
    let id: [u8; 2] = id.try_into().map_err(|_| BadRow::Content)?;
    let packet_id = PacketId::new(u16::from_be_bytes(id)).ok_or(BadRow::Content)?;
    if *direction == Direction::FromClient as u8 {
        return Ok(InFlightRow::FromClient(packet_id, read_received(&row.value)?));
    }
    let stored: StoredInFlight<'_> = unpack(IN_FLIGHT_FORMAT, &row.value)?;
    let queued = Queued {
        number: stored.number,
        message: Message::from_bytes(&row.value.slice_ref(stored.message))?,
        qos: QoS::from_u8(stored.qos).ok_or(BadRow::Content)?,
        retain: stored.retain,
        subscription_id: stored.subscription_id,
        ready: Position::START,
        key: stored.key.map(Bytes::copy_from_slice),
        share: stored.key.and_then(share_of),
        tag: stored.tag.map(|(service, key, seq)| (service, Tag { key, seq })),
    };
    let veiled = stored.state == STATE_VEILED;
    let is = if veiled { InFlightRow::Veiled } else { InFlightRow::ToClient };
    Ok(is(Box::new(InFlight {
        packet_id,
        order: stored.order,
        state: if stored.state == STATE_PUBREL { State::Pubrel } else { State::Publish },
        sent: false,
        after: Position::START,
        in_store: true,
        // Only what was sent is in flight, as far as a crash can tell.
        again: true,
        has_permit: false,
        queued,
    })))
}

/// Notes that every row in `range` is to be deleted, however long that takes.
pub(crate) fn garbage(slot: Slot, range: &KeyRange) -> Op {
    let end = range.end.as_deref();
    let key = KeyBuilder::new(slot, RowKind::Garbage).raw(&range.start).build();
    Op::Put { key, value: pack(GARBAGE_FORMAT, &end) }
}

/// Notes that all of `range` has been deleted.
pub(crate) fn garbage_gone(slot: Slot, range: &KeyRange) -> Op {
    Op::Delete { key: KeyBuilder::new(slot, RowKind::Garbage).raw(&range.start).build() }
}

/// Reads what [`garbage`] wrote.
pub(crate) fn read_garbage(key: &[u8], value: &[u8]) -> Result<KeyRange, BadRow> {
    let end: Option<&[u8]> = unpack(GARBAGE_FORMAT, value)?;
    let start = key.get(2..).ok_or(BadRow::Content)?;
    Ok(KeyRange { start: Bytes::copy_from_slice(start), end: end.map(Bytes::copy_from_slice) })
}

const SESSION_FORMAT: u8 = 1;
const SUBSCRIPTION_FORMAT: u8 = 1;
const IN_FLIGHT_FORMAT: u8 = 1;
/// Behind [`IN_FLIGHT_FORMAT`], which says nothing but that the message is here.
const RECEIVED_FORMAT: u8 = 2;
const MARK_FORMAT: u8 = 1;
const GARBAGE_FORMAT: u8 = 1;
