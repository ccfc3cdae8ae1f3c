//! Content on disk is sealed with a key of its chat: without the key nothing yields it any more.
//!
//! The keys are not rows. A row stays in old segments of the journal, in bases and in free pages long
//! after it was deleted; a key has one place, in a [`Vault`], which is written over when it is to
//! go. ChaCha20-Poly1305 (RFC 8439); a nonce is a random number and a part of the place, so that none
//! comes twice, also not for a row that is written a second time or that a crash took back.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// Where the keys of chats are: places of 32 bytes, each of which can be made to go for good.
pub trait Vault: fmt::Debug + Send + Sync {
    /// A place that was never given before, with the secret it has. The secret is safe already, and
    /// unguessable. Nothing if there is none to be had.
    fn allot(&self) -> Option<(u64, [u8; 32])>;

    /// The secret of a place; nothing if it was destroyed.
    fn secret(&self, place: u64) -> Option<[u8; 32]>;

    /// Writes over the secret of a place, before long. It is asked for again after a restart, until it
    /// was surely done.
    fn destroy(&self, place: u64);
}

/// The key of a chat.
pub(crate) struct Seal {
    key: LessSafeKey,
    /// What hashes of content begin with: without it a short text could be guessed from its hash.
    hashes: Sha256,
}

impl Seal {
    pub(crate) fn new(secret: &[u8; 32]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, secret).ok()?);
        let hashes = Sha256::new().chain_update(Sha256::digest(secret)).chain_update([0; 32]);
        Some(Self { key, hashes })
    }

    /// Seals what is behind `from`, and appends what proves that it is whole.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], bytes: &mut Vec<u8>, from: usize) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let content = bytes.get_mut(from..).unwrap_or_default();
        match self.key.seal_in_place_separate_tag(nonce, Aad::empty(), content) {
            Ok(tag) => bytes.extend_from_slice(tag.as_ref()),
            // Only what is longer than 256 GiB cannot be sealed. It is not left in clear.
            Err(_) => bytes.truncate(from),
        }
    }

    /// What was sealed; nothing if it was with another key, or is not whole.
    pub(crate) fn open(&self, nonce: [u8; NONCE_BYTES], sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut bytes = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    /// What hashes of content begin with.
    pub(crate) fn hashes(&self) -> Sha256 {
        self.hashes.clone()
    }
}

/// What hides payloads that a session keeps until they are acknowledged. Its key is nowhere but in
/// this process: with a restart they are gone, and chats deliver them again.
#[derive(Debug)]
pub(crate) struct Veil {
    seal: Seal,
    used: AtomicU64,
}

impl Veil {
    /// One that only this process can lift; nothing if the system has no randomness to give.
    pub(crate) fn new() -> Option<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).ok()?;
        Some(Self { seal: Seal::new(&secret)?, used: AtomicU64::new(0) })
    }

    pub(crate) fn veil(&self, payload: &[u8]) -> Bytes {
        let number = self.used.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut kept =
            Vec::with_capacity(number.len() + payload.len() + CHACHA20_POLY1305.tag_len());
        kept.extend(number);
        kept.extend_from_slice(payload);
        self.seal.seal(Self::nonce(number), &mut kept, number.len());
        Bytes::from(kept)
    }

    pub(crate) fn unveil(&self, kept: &[u8]) -> Option<Bytes> {
        let (number, sealed) = kept.split_first_chunk()?;
        self.seal.open(Self::nonce(*number), sealed).map(Bytes::from)
    }

    fn nonce(number: [u8; 8]) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.iter_mut().zip(number).for_each(|(to, from)| *to = from);
        nonce
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

pub(crate) const NONCE_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_veiled_it_unveils_it() {
        let (one, other) = (Veil::new().unwrap(), Veil::new().unwrap());
        let (first, second) = (one.veil(b"hello"), one.veil(b"hello"));
        assert_ne!(first, second);
        assert!(!first.windows(5).any(|part| part == b"hello"));
        assert_eq!(one.unveil(&second).as_deref(), Some(&b"hello"[..]));
        assert_eq!((other.unveil(&first), one.unveil(b"")), (None, None));
    }

    #[test]
    fn only_the_same_key_and_nonce_open_what_is_whole() {
        let (one, other) = (Seal::new(&[1; 32]).unwrap(), Seal::new(&[2; 32]).unwrap());
        let mut bytes = b"head content".to_vec();
        one.seal([7; 12], &mut bytes, 5);
        assert!(bytes.starts_with(b"head ") && bytes.len() == 12 + 16);
        let sealed = bytes.split_off(5);
        assert!(!sealed.windows(4).any(|part| part == b"cont"));
        assert_eq!(one.open([7; 12], &sealed).as_deref(), Some(&b"content"[..]));
        assert_eq!(one.open([8; 12], &sealed), None);
        assert_eq!(other.open([7; 12], &sealed), None);
        assert_eq!(one.open([7; 12], &sealed[1..]), None);
        assert_eq!(one.open([7; 12], b""), None);
        assert_ne!(one.hashes().finalize(), other.hashes().finalize());
    }
}
