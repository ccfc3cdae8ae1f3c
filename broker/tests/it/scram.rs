//! SCRAM-SHA-256 over sockets, by a Client that computes its proofs here (RFC 5802, section 3).

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use base64ct::{Base64, Encoding};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tidings_broker::Broker;
use tidings_broker::auth::{
    LoginLimits, OpenUntilUsers, Revoked, ScramSha256, UserList, UsersFile,
};

use crate::shell::builder;
use crate::wire::{Connect, Packet, Wire, auth};

const METHOD: &str = "SCRAM-SHA-256";
const NOT_AUTHORIZED: Packet = Packet::Connack { present: false, code: 0x87 };
const BUSY: Packet = Packet::Connack { present: false, code: 0x89 };

/// `bob` and `carol` have keys, `ann` has none; all have the password `pw`.
fn users() -> (tempfile::TempDir, PathBuf) {
    // Keys are slow to make, the more so without optimisation: once for all tests.
    static TEXT: OnceLock<String> = OnceLock::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let text = TEXT.get_or_init(|| {
        UserList::edit(&path, |list| {
            list.add("ann", b"pw", false)?;
            list.add("bob", b"pw", false)?;
            list.add("carol", b"pw", false)?;
            list.enable_scram("bob", b"pw")?;
            list.enable_scram("carol", b"pw")
        })
        .unwrap();
        fs::read_to_string(&path).unwrap()
    });
    fs::write(&path, text).unwrap();
    (directory, path)
}

/// As a Client does that keeps it.
fn salted_password(password: &str, salt: &str, iterations: u32) -> [u8; 32] {
    type Kept = HashMap<(String, String), [u8; 32]>;
    static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(Mutex::default);
    let mut kept = KEPT.lock().unwrap();
    *kept.entry((password.to_owned(), salt.to_owned())).or_insert_with(|| {
        let salt = Base64::decode_vec(salt).unwrap();
        let mut salted = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), &salt, iterations, &mut salted);
        salted
    })
}

fn serve(path: &Path, failures_per_minute: u32) -> (Broker, SocketAddr) {
    let limits = LoginLimits { failures_per_minute, failure_delay: Duration::ZERO };
    let users = UsersFile::open(path, limits).unwrap();
    let broker = builder()
        .enhanced_authenticate(Arc::new(ScramSha256::new(users.clone())))
        .authenticate(Arc::new(OpenUntilUsers::new(users)))
        .start()
        .unwrap();
    let address = broker.addresses()[0];
    (broker, address)
}

/// The Client's side of an exchange.
struct Scram {
    bare: String,
    password: &'static str,
    /// What the server has to say at the end.
    server_final: String,
}

impl Scram {
    fn new(user: &str, password: &'static str) -> Self {
        Self { bare: format!("n={user},r=client"), password, server_final: String::new() }
    }

    fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    fn last(&mut self, challenge: &[u8]) -> Vec<u8> {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let (nonce, salt, iterations) = parts(challenge);
        assert!(nonce.starts_with("client") && nonce.len() > 6 + 20, "{nonce}");
        let salted = salted_password(self.password, salt, iterations);
        let unproved = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{unproved}", self.bare);
        let client_key = hmac(&salted, "Client Key");
        let signature = hmac(&Sha256::digest(&client_key), &signed);
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let verifier = hmac(&hmac(&salted, "Server Key"), &signed);
        self.server_final = format!("v={}", Base64::encode_string(&verifier));
        format!("{unproved},p={}", Base64::encode_string(&proof)).into_bytes()
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Nonce, salt and count of a challenge.
fn parts(challenge: &str) -> (&str, &str, u32) {
    let mut parts = challenge.split(',').map(|part| part.split_at(2));
    let mut next = |name| {
        let (found, value) = parts.next().unwrap();
        assert_eq!(found, name);
        value
    };
    (next("r="), next("s="), next("i=").parse().unwrap())
}

/// CONNECT, and the challenge, unless it is refused at once.
fn begin(address: SocketAddr, connect: Connect, scram: &Scram) -> (Wire, Result<Vec<u8>, Packet>) {
    let mut wire = Wire::open(address, 5).unwrap();
    wire.send(&connect.method(METHOD, &scram.first()).bytes()).unwrap();
    let challenge = match wire.next() {
        Packet::Auth(0x18, method, challenge) if method == METHOD => Ok(challenge),
        other => Err(other),
    };
    (wire, challenge)
}

/// A whole login; the answer.
fn login(address: SocketAddr, scram: &mut Scram) -> (Wire, Packet) {
    let (mut wire, challenge) = begin(address, Connect::new("phone"), scram);
    let Ok(challenge) = challenge else { return (wire, challenge.unwrap_err()) };
    wire.send(&auth(0x18, METHOD, &scram.last(&challenge))).unwrap();
    let answer = wire.next();
    (wire, answer)
}

#[test]
fn client_and_server_prove_that_they_know_the_password() {
    let (_directory, path) = users();
    let (_broker, address) = serve(&path, 0);
    let mut scram = Scram::new("bob", "pw");
    let (mut wire, answer) = login(address, &mut scram);
    assert_eq!(answer, Packet::Connack { present: false, code: 0 });
    let (method, data) = wire.method.clone().unwrap();
    assert_eq!((method.as_str(), String::from_utf8(data).unwrap()), (METHOD, scram.server_final));
    wire.ping();
    // The password alone goes on to do.
    let plain = Connect::new("tablet").v5().user("bob").password("pw");
    Wire::connect(address, &plain).ping();
}

#[test]
fn wrong_password_unknown_user_and_user_without_keys_hear_the_same() {
    let (_directory, path) = users();
    let salt = |challenge: &[u8]| {
        let challenge = String::from_utf8(challenge.to_vec()).unwrap();
        let (_, salt, iterations) = parts(&challenge);
        (salt.to_owned(), iterations)
    };
    let mut salts = Vec::new();
    // It is the same after a restart.
    for _ in 0..2 {
        let (_broker, address) = serve(&path, 0);
        for (user, password) in [("bob", "PW"), ("ann", "pw"), ("eve", "pw")] {
            let scram = &mut Scram::new(user, password);
            let (mut wire, challenge) = begin(address, Connect::new("phone"), scram);
            let challenge = challenge.unwrap();
            salts.push(salt(&challenge));
            wire.send(&auth(0x18, METHOD, &scram.last(&challenge))).unwrap();
            assert_eq!(wire.next(), NOT_AUTHORIZED, "{user}");
            wire.ends();
        }
    }
    assert_eq!(salts[..3], salts[3..], "a salt that changes is a user that is not there");
    assert_eq!(salts[0].0.len(), salts[2].0.len());
    assert!(salts[0] != salts[1] && salts[1] != salts[2] && salts[0].1 == salts[2].1);
}

#[test]
fn challenge_is_a_new_one_each_time() {
    let (_directory, path) = users();
    let (_broker, address) = serve(&path, 0);
    let scram = &mut Scram::new("bob", "pw");
    let (_wire, challenge) = begin(address, Connect::new("phone"), scram);
    let overheard = scram.last(&challenge.unwrap());
    let (mut wire, challenge) = begin(address, Connect::new("phone"), scram);
    challenge.unwrap();
    wire.send(&auth(0x18, METHOD, &overheard)).unwrap();
    assert_eq!(wire.next(), NOT_AUTHORIZED);
}

#[test]
fn first_message_that_is_none_or_claims_another_user_is_refused() {
    let (_directory, path) = users();
    let (_broker, address) = serve(&path, 0);
    for first in ["n,,n=bob", "p=tls-exporter,,n=bob,r=x", "n,a=ann,n=bob,r=x", "n,,n=b/b,r=x"] {
        let connect = Connect::new("phone").method(METHOD, first.as_bytes());
        let mut wire = Wire::open(address, 5).unwrap();
        wire.send(&connect.bytes()).unwrap();
        assert_eq!(wire.next(), NOT_AUTHORIZED, "{first}");
    }
    let scram = Scram::new("bob", "pw");
    let (_, challenge) = begin(address, Connect::new("phone").user("ann"), &scram);
    assert_eq!(challenge, Err(NOT_AUTHORIZED));
    let (_, challenge) = begin(address, Connect::new("phone").user("bob"), &scram);
    challenge.unwrap();
    // A Client that waits to be asked is asked.
    let mut wire = Wire::open(address, 5).unwrap();
    wire.send(&Connect::new("phone").method(METHOD, b"").bytes()).unwrap();
    assert_eq!(wire.next(), Packet::Auth(0x18, METHOD.into(), Vec::new()));
    wire.send(&auth(0x18, METHOD, &scram.first())).unwrap();
    assert!(matches!(wire.next(), Packet::Auth(0x18, _, challenge) if !challenge.is_empty()));
}

#[test]
fn failures_count_against_the_limits_of_all_logins() {
    let (_directory, path) = users();
    let (_broker, address) = serve(&path, 3);
    // Begun before any failed: that they were looked at already does not help them.
    let begun: Vec<_> =
        (0..5).map(|_| begin(address, Connect::new("phone"), &Scram::new("bob", "PW"))).collect();
    let answers: Vec<Packet> = begun
        .into_iter()
        .map(|(mut wire, challenge)| {
            let last = Scram::new("bob", "PW").last(&challenge.unwrap());
            wire.send(&auth(0x18, METHOD, &last)).unwrap();
            wire.next()
        })
        .collect();
    assert_eq!(answers[..3], [NOT_AUTHORIZED; 3]);
    assert_eq!(answers[3..], [BUSY; 2]);
    let (_, challenge) = begin(address, Connect::new("phone"), &Scram::new("bob", "pw"));
    assert_eq!(challenge, Err(BUSY));
    let plain = Connect::new("phone").v5().user("bob").password("pw");
    let (_, code, _) = Wire::try_connect(address, &plain).unwrap();
    assert_eq!(code, 0x89, "one limit for both");
}

#[test]
fn connected_client_proves_itself_again() {
    let (_directory, path) = users();
    let (_broker, address) = serve(&path, 0);
    let (mut wire, _) = login(address, &mut Scram::new("bob", "pw"));
    for (user, password, right) in [("bob", "pw", true), ("bob", "PW", false)] {
        let scram = &mut Scram::new(user, password);
        wire.send(&auth(0x19, METHOD, &scram.first())).unwrap();
        let Packet::Auth(0x18, _, challenge) = wire.next() else { panic!() };
        wire.send(&auth(0x18, METHOD, &scram.last(&challenge))).unwrap();
        let expected = if right {
            Packet::Auth(0, METHOD.into(), scram.server_final.clone().into())
        } else {
            Packet::Disconnect(0x87)
        };
        assert_eq!(wire.next(), expected);
    }
    wire.ends();
    // Somebody else's proof does not make a connection theirs.
    let (mut wire, _) = login(address, &mut Scram::new("bob", "pw"));
    let scram = &mut Scram::new("carol", "pw");
    wire.send(&auth(0x19, METHOD, &scram.first())).unwrap();
    let Packet::Auth(0x18, _, challenge) = wire.next() else { panic!() };
    wire.send(&auth(0x18, METHOD, &scram.last(&challenge))).unwrap();
    assert_eq!(wire.next(), Packet::Disconnect(0x87));
}

#[test]
fn who_is_removed_or_gets_another_password_meanwhile_does_not_get_in() {
    let (_directory, path) = users();
    let limits = LoginLimits { failure_delay: Duration::ZERO, ..LoginLimits::default() };
    let users = UsersFile::open(&path, limits).unwrap();
    let scram = ScramSha256::new(users.clone());
    let broker = builder().enhanced_authenticate(Arc::new(scram)).start().unwrap();
    let [bob, carol] = ["bob", "carol"].map(|user| {
        let scram = Scram::new(user, "pw");
        let (wire, challenge) = begin(broker.addresses()[0], Connect::new("phone"), &scram);
        (wire, scram, challenge.unwrap())
    });
    UserList::edit(&path, |list| {
        list.remove("bob")?;
        list.add("carol", b"other", true)
    })
    .unwrap();
    // From here on whoever is connected has been told.
    assert_eq!(users.look(), Revoked::Users(vec!["bob".into(), "carol".into()]));
    for (mut wire, mut scram, challenge) in [bob, carol] {
        wire.send(&auth(0x18, METHOD, &scram.last(&challenge))).unwrap();
        assert_eq!(wire.next(), NOT_AUTHORIZED);
    }
}

#[test]
fn without_users_nobody_gets_in_by_scram() {
    let directory = tempfile::tempdir().unwrap();
    let (_broker, address) = serve(&directory.path().join("users"), 0);
    let (_, answer) = login(address, &mut Scram::new("bob", "pw"));
    assert_eq!(answer, NOT_AUTHORIZED);
}
