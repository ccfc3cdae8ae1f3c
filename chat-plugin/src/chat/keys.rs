//! The key of a chat's content: taken when there is something to seal, and destroyed when all of it is
//! to be gone.
//!
//! What is sealed with a key that was destroyed cannot be read by anybody: whatever old segments and
//! pages still hold of it is as good as nothing. The row of a key that is to go stays until a start
//! finds that the vault has it no more.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tidings_core::record::{Op, Row};

use super::cx::Cx;
use super::one::Chat;
use crate::entry::{Entry, Kind};
use crate::peer::{ALL, EVERYTHING};
use crate::rows::{
    ContentHash, KeyRow, RowValue, doomed_key, hash_content, key_key, log_key, split_chat_key,
};
use crate::seal::Seal;

/// The key of a chat.
#[derive(Debug, Default)]
pub(super) struct Keys {
    row: KeyRow,
    seal: Option<Arc<Seal>>,
    /// Whether the row is behind.
    dirty: bool,
}

impl Keys {
    /// As the row says.
    pub(super) fn read(row: KeyRow, cx: &Cx<'_>) -> Self {
        let secret = cx.shared.vault.as_ref().zip(row.place);
        let secret = secret.and_then(|(vault, place)| vault.secret(place));
        let seal = secret.and_then(|secret| Seal::new(&secret)).map(Arc::new);
        Self { row, seal, dirty: false }
    }

    /// An entry out of its row.
    pub(super) fn entry(&self, row: &Row) -> Option<Entry> {
        let (_, seq) = split_chat_key(&row.key)?;
        self.entry_of(u64::from_be_bytes(seq.try_into().ok()?), &row.value)
    }

    pub(super) fn entry_of(&self, seq: u64, value: &Bytes) -> Option<Entry> {
        Entry::read(seq, value, self.seal.as_deref()).ok()
    }

    /// With what hashes of the content of a place begin; nothing where its key is destroyed.
    fn hashes(&self, seq: u64) -> Option<Sha256> {
        match &self.seal {
            Some(seal) if seq >= self.row.since => Some(seal.hashes()),
            _ if seq < self.row.clear_to || self.row == KeyRow::default() => Some(Sha256::new()),
            _ => None,
        }
    }
}

impl Chat {
    /// Sees to it that there is a key for what comes. Returns whether there is, where there is to be.
    pub(super) fn keyed(&mut self, cx: &Cx<'_>) -> bool {
        let needed = self.keys.seal.is_none() && !self.place.is_room();
        let Some(vault) = cx.shared.vault.as_ref().filter(|_| needed) else {
            return true;
        };
        let Some((place, secret)) = vault.allot() else { return false };
        let since = self.log.last_seq + 1;
        let first = self.keys.row == KeyRow::default();
        let clear_to = if first { since } else { self.keys.row.clear_to };
        self.keys.row = KeyRow { place: Some(place), since, clear_to };
        self.keys.seal = Seal::new(&secret).map(Arc::new);
        self.keys.dirty = true;
        self.keys.seal.is_some()
    }

    /// Puts an entry, which is the next, into its row.
    pub(super) fn entry_ops(&mut self, entry: &Entry, ops: &mut Vec<Op>, cx: &mut Cx<'_>) {
        self.keyed(cx);
        if std::mem::take(&mut self.keys.dirty) {
            ops.push(self.key_op());
        }
        // What only says that something is to go has no content, and outlives the key.
        let says = !matches!(entry.kind, Kind::Hide | Kind::Delete);
        let value = match &self.keys.seal {
            Some(seal) if says => entry.to_sealed(seal, cx.host.random()),
            _ => entry.to_bytes(),
        };
        ops.push(Op::Put { key: log_key(self.id(), entry.seq), value });
    }

    fn key_op(&self) -> Op {
        Op::Put { key: key_key(self.id()), value: self.keys.row.to_bytes() }
    }

    /// All content there is is to be gone for good.
    pub(super) fn destroy_key(&mut self, ops: &mut Vec<Op>, cx: &Cx<'_>) {
        let Some(place) = self.keys.row.place.take() else { return };
        self.keys.seal = None;
        self.keys.row.since = self.log.last_seq + 1;
        self.keys.dirty = false;
        ops.push(self.key_op());
        ops.push(Op::Put { key: doomed_key(self.id().slot(), place), value: Bytes::new() });
        if let Some(vault) = &cx.shared.vault {
            vault.destroy(place);
        }
    }

    /// Entries have been deleted. Where none is left, the key of what somebody wanted to be gone goes too:
    /// `wanted`, or with single entries that were erased.
    pub(super) fn retire_key(&mut self, wanted: bool, ops: &mut Vec<Op>, cx: &Cx<'_>) {
        let wanted = wanted || self.settings.rewritten >= self.keys.row.since;
        if wanted && self.log.floor > self.log.last_seq {
            self.destroy_key(ops, cx);
        }
    }

    /// What stands for the content of an entry, also where that has gone.
    pub(super) fn content_of(&self, entry: &Entry) -> ContentHash {
        if entry.kind == Kind::Gone {
            return entry.payload.first_chunk().copied().unwrap_or_default();
        }
        let about = (entry.kind, entry.refers);
        let content_type = entry.content_type.as_deref();
        let hash = self.hash_of(entry.seq, &entry.from, about, content_type, &entry.payload);
        hash.unwrap_or_default()
    }

    /// What stands for a content at a place; nothing where nobody can say any more.
    pub(super) fn hash_of(
        &self,
        seq: u64,
        from: &str,
        about: (Kind, u64),
        content_type: Option<&str>,
        payload: &[u8],
    ) -> Option<ContentHash> {
        // What is about everything is the same wherever the log ended.
        let all = about.0 == Kind::Hide && payload == ALL;
        let about = if all { (Kind::Hide, EVERYTHING) } else { about };
        let start = self.keys.hashes(seq)?;
        Some(hash_content(start, self.mark(from), about, content_type, payload))
    }
}
