//! Looking at stored rows without a shard: whether each can be read, and belongs to something.
//!
//! For a tool that checks a store nobody serves from. It reads what [`Shard::recover`](super::Shard::recover) and the loads
//! behind it read, and says of a row what is wrong with it where those would fail or leave it out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::hook::SessionId;
use crate::message::{BadRow, Message};
use crate::record::{KeyRange, Row, RowKind};
use crate::session::rows;
use crate::topic::TopicFilter;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// It cannot be read: a start refuses it, or what it holds is lost.
    #[error(transparent)]
    Unreadable(#[from] BadRow),
    /// No kind of rows has this number.
    #[error("no kind of rows has the number {0}")]
    Kind(u8),
    /// They are of a session that is not there, and nobody is going to delete them.
    #[error("{rows} rows of session {session}, which is not there")]
    Orphans {
        /// How many.
        rows: u64,
        /// The session's number.
        session: u64,
    },
}

/// Looks at all rows of a store, which come in the order of their keys.
#[derive(Debug, Default)]
pub struct Verifier {
    slot: u8,
    /// The sessions of the slot.
    sessions: BTreeSet<SessionId>,
    /// Rows of others there, by session and kind, with the first of their keys.
    others: BTreeMap<(SessionId, u8), (u64, Bytes)>,
}

impl Verifier {
    /// Takes the next row, and hands what is wrong to `wrong`, each with the key it is about. Rows of
    /// services are theirs to read.
    pub fn row(&mut self, row: &Row, wrong: &mut dyn FnMut(&[u8], Wrong)) {
        let [slot, kind, ..] = row.key[..] else {
            return wrong(&row.key, BadRow::Content.into());
        };
        if slot != self.slot {
            self.end_of_slot(wrong);
            self.slot = slot;
        }
        if let Err(error) = self.read(row, kind) {
            wrong(&row.key, error);
        }
    }

    /// After the last row.
    pub fn end(mut self, wrong: &mut dyn FnMut(&[u8], Wrong)) {
        self.end_of_slot(wrong);
    }

    fn read(&mut self, row: &Row, kind: u8) -> Result<(), Wrong> {
        let is = |known: RowKind| kind == known as u8;
        if is(RowKind::Meta) {
            crate::ledger::verify(&row.value)?;
        } else if is(RowKind::Session) {
            let session = rows::read_session(&row.value)?;
            self.sessions.insert(session.id);
        } else if is(RowKind::Subscription) {
            let rest = self.owned(row)?;
            let filter = std::str::from_utf8(rest).map_err(|_| BadRow::Content)?;
            TopicFilter::parse(filter).map_err(|_| BadRow::Content)?;
            rows::read_subscription(&row.value)?;
        } else if is(RowKind::Queued) {
            self.owned(row)?;
            rows::read_queued(row)?;
        } else if is(RowKind::InFlight) {
            self.owned(row)?;
            rows::read_in_flight(row)?;
        } else if is(RowKind::Retained) {
            Message::from_bytes(&row.value)?;
        } else if is(RowKind::Garbage) {
            let range: KeyRange = rows::read_garbage(&row.key, &row.value)?;
            // Somebody is going to delete these.
            self.others.retain(|_, (_, key)| !range.contains(key));
        } else if is(RowKind::Reached) {
            // Of a session of any shard: a start asks that one whether it is still needed.
            rows::read_mark(row)?;
        } else if !is(RowKind::Service) {
            return Err(Wrong::Kind(kind));
        }
        Ok(())
    }

    /// Counts a row of a session, and answers with what its key says besides.
    fn owned<'a>(&mut self, row: &'a Row) -> Result<&'a [u8], Wrong> {
        let (session, rest) = rows::owner(&row.key).ok_or(BadRow::Content)?;
        // A slot's sessions come before their rows.
        let kind = row.key.get(1).copied().unwrap_or_default();
        if !self.sessions.contains(&session) {
            self.others.entry((session, kind)).or_insert_with(|| (0, row.key.clone())).0 += 1;
        }
        Ok(rest)
    }

    fn end_of_slot(&mut self, wrong: &mut dyn FnMut(&[u8], Wrong)) {
        self.sessions.clear();
        for ((session, _), (rows, key)) in std::mem::take(&mut self.others) {
            wrong(&key, Wrong::Orphans { rows, session: session.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reach::Progress;
    use crate::record::Op;
    use crate::session::rows::SessionRow;
    use crate::slot::Slot;

    fn row(op: Op) -> Row {
        let Op::Put { key, value } = op else { panic!("{op:?}") };
        Row { key, value }
    }

    fn session(id: u64) -> Row {
        let (user, client_id) = ("bob".into(), "phone".into());
        let (expiry, ends, will) = (Duration::from_secs(9), None, None);
        let id = SessionId(id);
        row(rows::session(Slot(3), &SessionRow { id, user, client_id, expiry, ends, will }))
    }

    fn received(session: u64) -> Row {
        let id = crate::codec::PacketId::new(7).unwrap();
        row(rows::received(Slot(3), SessionId(session), id, &Progress::Here))
    }

    fn wrong(rows: &[Row]) -> Vec<Wrong> {
        let (mut verifier, mut found) = (Verifier::default(), Vec::new());
        for row in rows {
            verifier.row(row, &mut |_, wrong| found.push(wrong));
        }
        verifier.end(&mut |_, wrong| found.push(wrong));
        found
    }

    #[test]
    fn rows_of_a_session_that_is_there_are_well_and_others_orphans_unless_garbage() {
        assert_eq!(wrong(&[session(5), received(5)]), []);
        let orphans = Wrong::Orphans { rows: 1, session: 6 };
        assert_eq!(wrong(&[session(5), received(5), received(6)]), [orphans]);
        let range = rows::all(Slot(3), RowKind::InFlight, SessionId(6));
        assert_eq!(wrong(&[session(5), received(6), row(rows::garbage(Slot(3), &range))]), []);
    }

    #[test]
    fn rows_that_cannot_be_read_are_named() {
        let mut spoilt = session(5);
        spoilt.value = Bytes::from_static(b"\x01");
        let content = Wrong::Unreadable(BadRow::Content);
        assert_eq!(wrong(&[spoilt]), std::slice::from_ref(&content));
        let short = Row { key: Bytes::from_static(b"k"), value: Bytes::new() };
        assert_eq!(wrong(&[short]), std::slice::from_ref(&content));
        let queued = Row { key: Bytes::from_static(b"\x03\x04"), value: Bytes::new() };
        assert_eq!(wrong(&[queued]), [content]);
        let other = Row { key: Bytes::from_static(b"\x03\x63"), value: Bytes::new() };
        assert_eq!(wrong(&[other]), [Wrong::Kind(0x63)]);
    }
}
