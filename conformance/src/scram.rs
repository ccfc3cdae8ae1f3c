//! SCRAM-SHA-256 as a Client has it (RFC 5802, RFC 7677), without channel binding.
//!
//! Of our own for the same reason as the wire: what a broker and its test got from one library
//! would look right though it is wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// One exchange.
#[derive(Debug, Clone)]
pub struct Scram {
    password: String,
    nonce: String,
    /// The first message without its header.
    bare: String,
    /// What the Server has to answer in the end.
    signature: Vec<u8>,
}

impl Scram {
    /// `nonce`: printable, without a comma, and of no other exchange.
    pub fn new(user: &str, password: &str, nonce: &str) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let (password, nonce) = (password.to_owned(), nonce.to_owned());
        Self { password, nonce, bare, signature: Vec::new() }
    }

    /// The first message of the Client.
    pub fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The last message of the Client, an answer to the first of the Server.
    ///
    /// # Errors
    /// That was none, or was not for us.
    pub fn last(&mut self, server_first: &[u8]) -> Result<String, String> {
        let server_first = String::from_utf8_lossy(server_first);
        let wrong = || format!("expected r=…,s=…,i=…, found {server_first:?}");
        let mut parts = server_first.split(',');
        let mut part = |name: &str| parts.next().and_then(|it| it.strip_prefix(name));
        let nonce = part("r=").ok_or_else(wrong)?;
        let salt = part("s=").and_then(|it| STANDARD.decode(it).ok()).ok_or_else(wrong)?;
        let rounds: u32 = part("i=").and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
        if !nonce.starts_with(&self.nonce) || nonce == self.nonce || rounds > ROUNDS_MAX {
            return Err(wrong());
        }
        let salted = salted(&self.password, &salt, rounds);
        let client_key = keyed(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let all = format!("{},{server_first},{without_proof}", self.bare);
        let client = keyed(&Sha256::digest(&client_key), all.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(client).map(|(key, it)| key ^ it).collect();
        self.signature = keyed(&keyed(&salted, b"Server Key"), all.as_bytes());
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// That the last message of the Server shows that it knows the password too.
    ///
    /// # Errors
    /// It does not.
    pub fn verify(&self, server_last: &[u8]) -> Result<(), String> {
        let expected = format!("v={}", STANDARD.encode(&self.signature));
        if server_last == expected.as_bytes() {
            return Ok(());
        }
        Err(format!("expected {expected:?}, found {:?}", String::from_utf8_lossy(server_last)))
    }
}

/// Slow by design, and the same for each exchange of an account: kept, or a run would work more for
/// itself than ask.
fn salted(password: &str, salt: &[u8], rounds: u32) -> [u8; 32] {
    static KEPT: Mutex<BTreeMap<Input, [u8; 32]>> = Mutex::new(BTreeMap::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    *kept.entry((password.to_owned(), salt.to_vec(), rounds)).or_insert_with(|| {
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, rounds, &mut salted);
        salted
    })
}

/// Password, salt, rounds.
type Input = (String, Vec<u8>, u32);

fn keyed(key: &[u8], message: &[u8]) -> Vec<u8> {
    // A key of any length is right for HMAC.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// More would only keep us busy.
const ROUNDS_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::Scram;

    #[test]
    fn exchange_of_rfc_7677() {
        let mut scram = Scram::new("user", "pencil", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(scram.last(first.as_bytes()), Ok(format!("c=biws,r={nonce},p={proof}")));
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(scram.verify(last), Ok(()));
        assert!(scram.verify(b"v=AAAA").is_err());
    }

    #[test]
    fn nonce_of_another_exchange_is_refused() {
        let mut scram = Scram::new("user", "pencil", "abc");
        assert!(scram.last(b"r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").is_err());
        assert!(scram.last(b"r=xyz1,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").is_err());
    }
}
