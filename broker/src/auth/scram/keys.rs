//! What the users file keeps of a password for SCRAM (RFC 5802, section 3): enough to check a proof
//! and to give one, not enough to make a Client's.
//!
//! Written as other servers write it: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the
//! last three in base64.

use std::fmt;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// The keys of one user.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::auth) struct ScramKeys {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

pub(super) type Key = [u8; 32];

impl ScramKeys {
    /// The keys of `password`, normalised as Clients do (RFC 4013); `None` for what is no text, or
    /// holds control characters: among them NUL, which HMAC cannot tell from nothing. Takes as long
    /// as it is meant to: tens of milliseconds at [`ITERATIONS`].
    pub(in crate::auth) fn derive(password: &[u8], salt: Vec<u8>, iterations: u32) -> Option<Self> {
        let password = stringprep::saslprep(std::str::from_utf8(password).ok()?).ok()?;
        if password.is_empty() {
            return None;
        }
        let mut salted = Key::default();
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
        let stored_key = Sha256::digest(hmac(&salted, &[b"Client Key"])).into();
        let server_key = hmac(&salted, &[b"Server Key"]);
        Some(Self { iterations, salt, stored_key, server_key })
    }

    /// Reads what `Display` writes.
    pub(in crate::auth) fn parse(text: &str) -> Result<Self, String> {
        let parts = || {
            let (head, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
            let ((iterations, salt), (stored, server)) =
                (head.split_once(':')?, keys.split_once(':')?);
            let salt = Base64::decode_vec(salt).ok().filter(|salt| !salt.is_empty())?;
            let key = |text| Key::try_from(Base64::decode_vec(text).ok()?).ok();
            let (stored_key, server_key) = (key(stored)?, key(server)?);
            Some(Self { iterations: iterations.parse().ok()?, salt, stored_key, server_key })
        };
        let keys = parts().ok_or_else(|| format!("expected {FORM} behind the second colon"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&keys.iterations) {
            return Err(format!(
                "expected {ITERATIONS_MIN} to {ITERATIONS_MAX} iterations for SCRAM, found {}",
                keys.iterations
            ));
        }
        Ok(keys)
    }
}

impl fmt::Display for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(Base64::encode_string);
        write!(f, "{PREFIX}{}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// HMAC-SHA-256 over `parts`, one behind the other.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

const PREFIX: &str = "SCRAM-SHA-256$";
const FORM: &str = "`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`";

/// What new keys get, and what unknown users seem to have. It is the Client that has to compute them:
/// some 30 ms on a phone or a desk, a few seconds on a microcontroller.
pub(in crate::auth) const ITERATIONS: u32 = 100_000;

/// The least that RFC 7677 allows.
const ITERATIONS_MIN: u32 = 4096;

/// A line of a file is not to keep its Client busy for ever.
const ITERATIONS_MAX: u32 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_being_written() {
        let keys = ScramKeys::derive(b"pencil", b"0123456789abcdef".to_vec(), 4096).unwrap();
        let text = keys.to_string();
        assert!(text.starts_with("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$"), "{text}");
        assert_eq!(ScramKeys::parse(&text), Ok(keys));
    }

    #[test]
    fn keys_are_those_that_others_compute() {
        // By Python's hashlib, for the password, salt and count of RFC 7677.
        let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let text = ScramKeys::derive(b"pencil", salt, 4096).unwrap().to_string();
        assert_eq!(
            text,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn password_that_is_text_is_normalised() {
        let derive = |password: &[u8]| ScramKeys::derive(password, b"salt".to_vec(), 4096);
        // RFC 4013, section 3: a soft hyphen is nothing, and a Roman numeral is its letters.
        assert_eq!(derive("I\u{ad}X".as_bytes()), derive(b"IX"));
        assert_eq!(derive("\u{2168}".as_bytes()), derive(b"IX"));
        assert_ne!(derive(b"ix"), derive(b"IX"));
        for impossible in [&b""[..], b"a\0", b"a\n", b"\xff", "\u{ad}".as_bytes()] {
            assert_eq!(derive(impossible), None, "{impossible:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_an_error() {
        let good = ScramKeys::derive(b"pencil", b"salt".to_vec(), 4096).unwrap().to_string();
        for (bad, cause) in [
            ("".to_owned(), "expected `SCRAM-SHA-256$"),
            (good.replace("256", "1"), "expected `SCRAM-SHA-256$"),
            (good.replace("c2FsdA==", ""), "expected `SCRAM-SHA-256$"),
            (good.replace("c2FsdA==", "c2FsdA"), "expected `SCRAM-SHA-256$"),
            (format!("{good}A"), "expected `SCRAM-SHA-256$"),
            (good.replace("4096", "4095"), "found 4095"),
            (good.replace("4096", "10000001"), "found 10000001"),
        ] {
            let error = ScramKeys::parse(&bad).unwrap_err();
            assert!(error.contains(cause), "{bad}: {error}");
        }
    }
}
