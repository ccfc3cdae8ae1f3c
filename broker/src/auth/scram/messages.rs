//! The four messages of SCRAM (RFC 5802, section 5), from the server's side.
//!
//! Without channel binding: the broker offers no `-PLUS`, so a Client that asks for one is refused,
//! and one that says it could have (`y`) is not. A message is taken apart once and strictly; what
//! both sides sign is what was sent, byte for byte.

use std::fmt;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::keys::{Key, ScramKeys, hmac};

/// client-first-message.
pub(super) struct ClientFirst<'a> {
    /// As it is written: a name of ours needs no escapes.
    pub(super) user: &'a str,
    gs2_header: &'a str,
    /// From `n=` on.
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Refused> {
        let text = std::str::from_utf8(data).map_err(|_| Refused::Malformed)?;
        let (flag, rest) = text.split_once(',').ok_or(Refused::Malformed)?;
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(Refused::ChannelBinding),
            _ => return Err(Refused::Malformed),
        }
        let (other_user, bare) = rest.split_once(',').ok_or(Refused::Malformed)?;
        let gs2_header = text.strip_suffix(bare).unwrap_or_default();
        // An `m=` in front would be an extension that must be understood: none is.
        let (user, rest) = attribute(bare, "n=").ok_or(Refused::Malformed)?;
        let (nonce, _extensions) =
            attribute(rest.unwrap_or_default(), "r=").ok_or(Refused::Malformed)?;
        if !(1..=NONCE_BYTES_MAX).contains(&nonce.len())
            || !nonce.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Refused::Malformed);
        }
        match other_user.strip_prefix("a=") {
            None if other_user.is_empty() => {}
            Some(other) if other == user => {}
            Some(_) => return Err(Refused::OtherUser),
            None => return Err(Refused::Malformed),
        }
        Ok(Self { user, gs2_header, bare, nonce })
    }
}

/// The value of the attribute that `text` begins with, and what comes behind the comma.
fn attribute<'a>(text: &'a str, name: &str) -> Option<(&'a str, Option<&'a str>)> {
    let text = text.strip_prefix(name)?;
    Some(text.split_once(',').map_or((text, None), |(value, rest)| (value, Some(rest))))
}

/// server-first-message, and what is needed to check its answer.
pub(super) struct Challenge {
    /// What the Client is told.
    pub(super) message: String,
    /// Both first messages, as both sides sign them.
    signed: String,
    /// How the answer begins.
    expected: String,
    stored_key: Key,
    server_key: Key,
}

impl Challenge {
    /// `server_nonce`: printable, without a comma, never used before.
    pub(super) fn new(first: &ClientFirst<'_>, server_nonce: &str, keys: &ScramKeys) -> Self {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let salt = Base64::encode_string(&keys.salt);
        let message = format!("r={nonce},s={salt},i={}", keys.iterations);
        let signed = format!("{},{message}", first.bare);
        let channel = Base64::encode_string(first.gs2_header.as_bytes());
        let expected = format!("c={channel},r={nonce}");
        let ScramKeys { stored_key, server_key, .. } = *keys;
        Self { message, signed, expected, stored_key, server_key }
    }

    /// Checks client-final-message; server-final-message, which proves that the server knows the
    /// user too.
    pub(super) fn verify(&self, data: &[u8]) -> Result<String, Refused> {
        let text = std::str::from_utf8(data).map_err(|_| Refused::Malformed)?;
        let (unproved, proof) = text.rsplit_once(",p=").ok_or(Refused::Malformed)?;
        let extensions = unproved.strip_prefix(&*self.expected).ok_or(Refused::Malformed)?;
        if !extensions.is_empty() && !extensions.starts_with(',') {
            return Err(Refused::Malformed);
        }
        let proof = Base64::decode_vec(proof).ok().and_then(|proof| Key::try_from(proof).ok());
        let proof = proof.ok_or(Refused::Malformed)?;
        let signed = [self.signed.as_bytes(), b",", unproved.as_bytes()];
        let mut client_key = hmac(&self.stored_key, &signed);
        for (byte, proof) in client_key.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        // In constant time, or the time would tell how much of a guess is right.
        if !bool::from(Sha256::digest(client_key).as_slice().ct_eq(&self.stored_key)) {
            return Err(Refused::Wrong);
        }
        Ok(format!("v={}", Base64::encode_string(&hmac(&self.server_key, &signed))))
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

/// Why a message is not the one that was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("not a message of SCRAM-SHA-256, or not the one that is due")]
    Malformed,
    #[error("channel binding is not offered")]
    ChannelBinding,
    #[error("a user cannot act as another one")]
    OtherUser,
    #[error("wrong proof")]
    Wrong,
}

/// Longer than any Client's; RFC 5802 has no bound.
const NONCE_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const LAST: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn challenge(first: &str) -> Challenge {
        let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = ScramKeys::derive(b"pencil", salt, 4096).unwrap();
        Challenge::new(&ClientFirst::parse(first.as_bytes()).unwrap(), SERVER_NONCE, &keys)
    }

    #[test]
    fn example_of_rfc_7677_goes_as_it_says() {
        let challenge = challenge(FIRST);
        assert_eq!(
            challenge.message,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = challenge.verify(LAST.as_bytes());
        assert_eq!(last, Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned()));
    }

    /// What a Client says to `challenge`, and what it expects to hear.
    fn client(first: &str, challenge: &str, password: &[u8]) -> (String, String) {
        let bare = first.splitn(3, ',').nth(2).unwrap();
        let parts: Vec<&str> = challenge.split(',').collect();
        let salt = Base64::decode_vec(parts[1].strip_prefix("s=").unwrap()).unwrap();
        let iterations = parts[2].strip_prefix("i=").unwrap().parse().unwrap();
        let mut salted = Key::default();
        pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, iterations, &mut salted);
        let gs2 = Base64::encode_string(first.strip_suffix(bare).unwrap().as_bytes());
        let unproved = format!("c={gs2},{}", parts[0]);
        let signed = format!("{bare},{challenge},{unproved}");
        let client_key = hmac(&salted, &[b"Client Key"]);
        let signature = hmac(&Sha256::digest(client_key), &[signed.as_bytes()]);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let server = hmac(&hmac(&salted, &[b"Server Key"]), &[signed.as_bytes()]);
        let last = format!("{unproved},p={}", Base64::encode_string(&proof));
        (last, format!("v={}", Base64::encode_string(&server)))
    }

    #[test]
    fn any_client_with_the_password_is_let_in_and_knows_the_server() {
        for seed in 0_u32..200 {
            let random = hmac(&seed.to_be_bytes(), &[]);
            let length = usize::from(random[0]) % random.len();
            let word = |from: u8| -> String {
                random[..=length].iter().map(|byte| char::from(from + byte % 26)).collect()
            };
            let (password, iterations) = (word(b'a'), 1 + u32::from(random[1]) % 3);
            let salt = random[..=length].to_vec();
            let keys = ScramKeys::derive(password.as_bytes(), salt, iterations).unwrap();
            let flag = ["n,,", "y,,", "n,a=bob,"][usize::from(random[2]) % 3];
            let first = format!("{flag}n=bob,r={}", word(b'A'));
            let parsed = ClientFirst::parse(first.as_bytes()).unwrap();
            let challenge = Challenge::new(&parsed, &word(b'0'), &keys);
            let (last, expected) = client(&first, &challenge.message, password.as_bytes());
            assert_eq!(challenge.verify(last.as_bytes()), Ok(expected), "seed {seed}");
            let (last, _) = client(&first, &challenge.message, &password.as_bytes()[1..]);
            assert_eq!(challenge.verify(last.as_bytes()), Err(Refused::Wrong), "seed {seed}");
        }
    }

    #[test]
    fn proof_is_of_everything_that_was_said() {
        for first in [
            "y,,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "n,a=user,n=user,r=rOprNGfwEbeRWgbNEkqO",
            "n,,n=user,r=rOprNGfwEbeRWgbNEkqO,x=extension",
            "n,,n=resu,r=rOprNGfwEbeRWgbNEkqO",
        ] {
            assert!(challenge(first).verify(LAST.as_bytes()).is_err(), "{first}");
        }
    }

    #[test]
    fn any_other_last_message_is_refused() {
        let challenge = challenge(FIRST);
        for (wrong, cause) in [
            (LAST.replace("p=d", "p=e"), Refused::Wrong),
            (LAST.replace(",p=", ",x=extension,p="), Refused::Wrong),
            (LAST.replace(",p=", "x,p="), Refused::Malformed),
            (LAST.replace("biws", "eSws"), Refused::Malformed),
            (LAST.replace("rOpr", "rOps"), Refused::Malformed),
            (LAST.replace("k0,", "k1,"), Refused::Malformed),
            (LAST.replace("dHzb", ""), Refused::Malformed),
            (LAST.replace("VQ=", "VQ"), Refused::Malformed),
            (LAST.replace(",p=", ",q="), Refused::Malformed),
            (String::new(), Refused::Malformed),
        ] {
            assert_eq!(challenge.verify(wrong.as_bytes()), Err(cause), "{wrong}");
        }
        assert_eq!(challenge.verify(b"\xff"), Err(Refused::Malformed));
        for end in 0..LAST.len() {
            assert!(challenge.verify(&LAST.as_bytes()[..end]).is_err());
        }
    }

    #[test]
    fn any_other_first_message_is_refused() {
        let long = format!("n,,n=user,r={}", "x".repeat(257));
        for (wrong, cause) in [
            ("p=tls-unique,,n=user,r=x", Refused::ChannelBinding),
            ("n,a=root,n=user,r=x", Refused::OtherUser),
            ("n,,m=extension,n=user,r=x", Refused::Malformed),
            ("n,b=user,n=user,r=x", Refused::Malformed),
            ("n,a,n=user,r=x", Refused::Malformed),
            ("n,n=user,r=x", Refused::Malformed),
            ("N,,n=user,r=x", Refused::Malformed),
            ("n,,n=user", Refused::Malformed),
            ("n,,n=user,r=", Refused::Malformed),
            ("n,,n=user,r=a b", Refused::Malformed),
            ("n,,n=user,r=é", Refused::Malformed),
            (&long, Refused::Malformed),
        ] {
            assert_eq!(ClientFirst::parse(wrong.as_bytes()).err(), Some(cause), "{wrong}");
        }
        for end in 0..FIRST.len() - 19 {
            assert!(ClientFirst::parse(&FIRST.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
