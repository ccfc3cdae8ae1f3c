//! Tokens that hold, and every way in which one does not.

use std::time::{Duration, SystemTime};

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

use super::check::{BadToken, Login, check};
use super::*;

const NOW: u64 = 1_800_000_000;

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// Whoever signs tokens.
struct Issuer {
    ed25519: Ed25519KeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm| {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
        };
        Self {
            ed25519: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap(),
            p256: ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
            rsa: RsaKeyPair::from_der(include_bytes!("../../../tests/fixtures/rsa2048.der"))
                .unwrap(),
        }
    }

    fn sign(&self, algorithm: &str, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "EdDSA" => self.ed25519.sign(signed).as_ref().to_vec(),
            "ES256" => self.p256.sign(&random, signed).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, signed).unwrap().as_ref().to_vec(),
            "RS256" => {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed, &mut signature).unwrap();
                signature
            }
            _ => Vec::new(),
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_by(header["alg"].as_str().unwrap(), header, claims)
    }

    /// With a header that may lie about how it is signed.
    fn token_by(&self, algorithm: &str, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        format!("{signed}.{}", encode(&self.sign(algorithm, signed.as_bytes())))
    }

    fn set(&self) -> Value {
        let p256 = self.p256.public_key().as_ref();
        let p384 = self.p384.public_key().as_ref();
        let rsa = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "alg": "EdDSA", "use": "sig",
             "x": encode(self.ed25519.public_key().as_ref())},
            {"kty": "EC", "crv": "P-256", "kid": "ec",
             "x": encode(&p256[1..33]), "y": encode(&p256[33..])},
            {"kty": "EC", "crv": "P-384", "kid": "ec384",
             "x": encode(&p384[1..49]), "y": encode(&p384[49..])},
            {"kty": "RSA", "kid": "rsa", "n": encode(&rsa.n),
             "e": encode(&rsa.e)},
            {"kty": "RSA", "kid": "for encryption", "use": "enc", "n": "AQ", "e": "AQAB"},
        ]})
    }

    fn keys(&self) -> Vec<Key> {
        keys::parse(&self.set().to_string()).unwrap()
    }
}

fn bob() -> Value {
    json!({"sub": "bob", "exp": NOW + 100})
}

fn ask(issuer: &Issuer, token: &str) -> Result<Login, BadToken> {
    check(token.as_bytes(), &issuer.keys(), &TokenOptions::default(), time(NOW))
}

fn login(user: &str, expires: u64) -> Result<Login, BadToken> {
    Ok(Login { user: user.into(), expires: time(expires) })
}

#[test]
fn tokens_of_each_algorithm_are_taken_with_and_without_the_name_of_their_key() {
    let issuer = Issuer::new();
    for (algorithm, id) in [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa")] {
        for header in [json!({"alg": algorithm}), json!({"alg": algorithm, "kid": id})] {
            let token = issuer.token(&header, &bob());
            assert!(Tokens::is_token(token.as_bytes()));
            assert_eq!(ask(&issuer, &token), login("bob", NOW + 100), "{header}");
        }
    }
}

#[test]
fn public_keys_in_pem_are_the_same_keys() {
    let issuer = Issuer::new();
    let block = |prefix: &[u8], key: &[u8]| {
        let der = Base64::encode_string(&[prefix, key].concat());
        let lines: Vec<_> =
            der.as_bytes().chunks(64).map(|it| str::from_utf8(it).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    };
    let ed25519 = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let p256 = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
        \x03\x01\x07\x03\x42\x00";
    let rsa = b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00\x03\
        \x82\x01\x0f\x00";
    let text = [
        block(ed25519, issuer.ed25519.public_key().as_ref()),
        block(p256, issuer.p256.public_key().as_ref()),
        block(rsa, issuer.rsa.public_key().as_ref()),
    ]
    .concat();
    let keys = keys::parse(&text).unwrap();
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        let token = issuer.token(&json!({"alg": algorithm, "kid": "any"}), &bob());
        let found = check(token.as_bytes(), &keys, &TokenOptions::default(), time(NOW));
        assert_eq!(found, login("bob", NOW + 100), "{algorithm}");
    }
}

#[test]
fn algorithms_that_are_not_accepted_are_refused_whatever_the_signature() {
    let issuer = Issuer::new();
    for name in ["none", "None", "NONE", "", "HS256", "ES384", "RS512", "PS256", "EdDSA "] {
        let token = issuer.token(&json!({"alg": name}), &bob());
        assert_eq!(ask(&issuer, &token), Err(BadToken::Algorithm), "{name}");
    }
    let only = TokenOptions { algorithms: vec![TokenAlgorithm::Es256], ..TokenOptions::default() };
    let token = issuer.token(&json!({"alg": "EdDSA"}), &bob());
    let found = check(token.as_bytes(), &issuer.keys(), &only, time(NOW));
    assert_eq!(found, Err(BadToken::Algorithm));
    // Without a signature at all.
    let token = issuer.token(&json!({"alg": "EdDSA"}), &bob());
    let unsigned = token.rsplit_once('.').unwrap().0;
    assert_eq!(ask(&issuer, &format!("{unsigned}.")), Err(BadToken::Signature));
}

#[test]
fn public_key_is_no_secret_even_where_secrets_are_accepted() {
    let issuer = Issuer::new();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        Some(path)
    };
    let secret = b"a secret of more than 32 bytes, as it should be";
    let options = TokenOptions {
        keys: path("set", issuer.set().to_string().as_bytes()),
        secret: path("secret", &[&secret[..], b"\n"].concat()),
        ..TokenOptions::default()
    };
    let tokens = Tokens::open(options).unwrap();
    let hs256 = |secret: &[u8], header: Value| {
        let claims = bob().to_string();
        let signed =
            format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        let signature = ring::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", encode(signature.as_ref()))
    };
    let ask = |token: String| {
        let password = Some(token.into_bytes());
        tokens.decide(&Credentials { password, ..Credentials::default() }, time(NOW))
    };
    let accepted = Decision::Accept { user: "bob".into(), expires: Some(time(NOW + 100)) };
    assert_eq!(ask(hs256(secret, json!({"alg": "HS256"}))), Ok(accepted));
    let rsa = issuer.rsa.public_key().as_ref();
    for public in [rsa, issuer.ed25519.public_key().as_ref(), issuer.set().to_string().as_bytes()] {
        for header in [json!({"alg": "HS256"}), json!({"alg": "HS256", "kid": "rsa"})] {
            assert_eq!(ask(hs256(public, header)), Err(BadToken::Signature));
        }
    }
    let confused = json!({"alg": "RS256", "kid": "ed"});
    assert_eq!(ask(hs256(secret, confused)), Err(BadToken::NoKey));
    let short = TokenOptions { secret: path("short", &secret[..31]), ..TokenOptions::default() };
    let error = Tokens::open(short).unwrap_err().to_string();
    assert!(error.contains("expected a secret of at least 32 bytes, found 31"), "{error}");
}

#[test]
fn unknown_key_wrong_curve_and_wrong_signature_are_refused() {
    let issuer = Issuer::new();
    let unknown = issuer.token(&json!({"alg": "ES256", "kid": "new"}), &bob());
    assert_eq!(ask(&issuer, &unknown), Err(BadToken::NoKey));
    let p384 = json!({"alg": "ES256", "kid": "ec384"});
    assert_eq!(ask(&issuer, &issuer.token_by("ES384", &p384, &bob())), Err(BadToken::NoKey));
    let lies = json!({"alg": "ES256"});
    assert_eq!(ask(&issuer, &issuer.token_by("ES384", &lies, &bob())), Err(BadToken::Signature));
    assert_eq!(ask(&issuer, &issuer.token_by("RS256", &lies, &bob())), Err(BadToken::Signature));
    // A key and a signature that are both right, and not each other's.
    let other = json!({"alg": "EdDSA", "kid": "rsa"});
    assert_eq!(ask(&issuer, &issuer.token(&other, &bob())), Err(BadToken::NoKey));
    let critical = json!({"alg": "EdDSA", "crit": ["b64"], "b64": false});
    assert_eq!(ask(&issuer, &issuer.token(&critical, &bob())), Err(BadToken::Critical));
}

#[test]
fn token_with_a_changed_byte_anywhere_is_refused() {
    let issuer = Issuer::new();
    let token = issuer.token(&json!({"alg": "EdDSA"}), &bob());
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let found = check(&bytes, &issuer.keys(), &TokenOptions::default(), time(NOW));
        assert!(found.is_err(), "byte {at}");
    }
    for wrong in ["", ".", "..", "eyJ.eyJ", "a.b.c.d", &format!("{token}="), &format!("{token}\n")]
    {
        assert!(ask(&issuer, wrong).is_err(), "{wrong}");
    }
    let long = json!({"sub": "bob", "exp": NOW + 100, "more": "x".repeat(8 * 1024)});
    let long = issuer.token(&json!({"alg": "EdDSA"}), &long);
    assert_eq!(ask(&issuer, &long), Err(BadToken::Form));
    let twice = r#"{"alg":"none","alg":"EdDSA"}"#;
    let signed = format!("{}.{}", encode(twice.as_bytes()), encode(bob().to_string().as_bytes()));
    let signature = encode(&issuer.sign("EdDSA", signed.as_bytes()));
    assert_eq!(ask(&issuer, &format!("{signed}.{signature}")), Err(BadToken::Json));
}

#[test]
fn time_is_needed_as_a_number_and_has_a_leeway() {
    let issuer = Issuer::new();
    let with = |claims: Value| ask(&issuer, &issuer.token(&json!({"alg": "EdDSA"}), &claims));
    let exp = |exp: Value| with(json!({"sub": "bob", "exp": exp}));
    assert_eq!(with(json!({"sub": "bob"})), Err(BadToken::Claim("exp")));
    for wrong in [json!("2099"), json!((NOW + 100).to_string()), json!(null), json!(-1), json!([])]
    {
        assert_eq!(exp(wrong.clone()), Err(BadToken::Claim("exp")), "{wrong}");
    }
    assert_eq!(exp(json!(NOW - 60)), Err(BadToken::Expired));
    assert_eq!(exp(json!(NOW - 59)), login("bob", NOW + 1));
    assert_eq!(exp(json!(NOW as f64 + 1.0)), login("bob", NOW + 1));
    assert!(exp(json!(1e300)).is_ok() && exp(json!(u64::MAX)).is_ok());
    let nbf = |nbf: Value| with(json!({"sub": "bob", "exp": NOW + 100, "nbf": nbf}));
    assert_eq!(nbf(json!(NOW + 60)), login("bob", NOW + 100));
    assert_eq!(nbf(json!(NOW + 61)), Err(BadToken::NotYet));
    assert_eq!(nbf(json!((NOW + 61).to_string())), Err(BadToken::Claim("nbf")));
}

#[test]
fn issuer_audience_and_user_must_be_the_configured_ones() {
    let issuer = Issuer::new();
    let options = TokenOptions {
        issuer: Some("https://id.example".into()),
        audience: Some("chat".into()),
        user_claim: "name".into(),
        ..TokenOptions::default()
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = json!({
            "name": "bob", "sub": "42", "exp": NOW + 100, "iss": "https://id.example", "aud": "chat",
        });
        change(&mut claims);
        let token = issuer.token(&json!({"alg": "EdDSA"}), &claims);
        check(token.as_bytes(), &issuer.keys(), &options, time(NOW))
    };
    assert_eq!(with(&|_| {}), login("bob", NOW + 100));
    assert_eq!(with(&|it| it["aud"] = json!(["mail", "chat"])), login("bob", NOW + 100));
    for wrong in [json!("mail"), json!([]), json!(null), json!({"chat": 1}), json!("chat ")] {
        assert_eq!(with(&|it| it["aud"] = wrong.clone()), Err(BadToken::Audience), "{wrong}");
    }
    for wrong in [json!("http://id.example"), json!(["https://id.example"]), json!(null)] {
        assert_eq!(with(&|it| it["iss"] = wrong.clone()), Err(BadToken::Issuer), "{wrong}");
    }
    for wrong in [json!("a/b"), json!(""), json!(42), json!("+"), json!("x".repeat(65))] {
        assert_eq!(with(&|it| it["name"] = wrong.clone()), Err(BadToken::User), "{wrong}");
    }
}

#[test]
fn user_name_of_connect_must_be_that_of_the_token_if_there_is_one() {
    let issuer = Issuer::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set");
    fs::write(&path, issuer.set().to_string()).unwrap();
    let tokens =
        Tokens::open(TokenOptions { keys: Some(path), ..TokenOptions::default() }).unwrap();
    let token = issuer.token(&json!({"alg": "EdDSA"}), &bob());
    let ask = |name: Option<&str>| {
        let credentials = Credentials {
            user_name: name.map(Into::into),
            password: Some(token.clone().into_bytes()),
            ..Credentials::default()
        };
        tokens.decide(&credentials, time(NOW)).map(|_| ())
    };
    assert_eq!([ask(None), ask(Some("")), ask(Some("bob"))], [Ok(()), Ok(()), Ok(())]);
    assert_eq!(ask(Some("amy")), Err(BadToken::OtherUser));
}

#[tokio::test(start_paused = true)]
async fn changed_keys_count_within_a_second_and_wrong_ones_never() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set");
    fs::write(&path, issuer.set().to_string()).unwrap();
    let options = TokenOptions { keys: Some(path.clone()), ..TokenOptions::default() };
    let tokens = Tokens::open(options).unwrap();
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1_000;
    let claims = json!({"sub": "bob", "exp": exp});
    let may = async |issuer: &Issuer| {
        tokio::time::advance(LOOK_EVERY).await;
        let token = issuer.token(&json!({"alg": "ES256"}), &claims);
        let password = Some(token.into_bytes());
        let credentials = Credentials { password, ..Credentials::default() };
        matches!(tokens.authenticate(credentials).await, Decision::Accept { .. })
    };
    assert!(may(&issuer).await && !may(&other).await);
    fs::write(&path, "{").unwrap();
    assert!(may(&issuer).await);
    fs::remove_file(&path).unwrap();
    assert!(may(&issuer).await);
    fs::write(&path, other.set().to_string()).unwrap();
    assert!(!may(&issuer).await && may(&other).await);
}

#[tokio::test]
async fn disk_that_does_not_answer_holds_up_no_login() {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
    use std::os::unix::fs::OpenOptionsExt;

    let issuer = Issuer::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set");
    fs::write(&path, issuer.set().to_string()).unwrap();
    let options = TokenOptions { keys: Some(path.clone()), ..TokenOptions::default() };
    let tokens = Tokens::open(options).unwrap();
    // Who opens this waits until somebody writes.
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() + 1_000;
    let token = issuer.token(&json!({"alg": "ES256"}), &json!({"sub": "bob", "exp": exp}));
    for _ in 0..3 {
        lock(&tokens.keys).looked_at -= LOOK_EVERY;
        let password = Some(token.clone().into_bytes());
        let credentials = Credentials { password, ..Credentials::default() };
        assert!(matches!(tokens.authenticate(credentials).await, Decision::Accept { .. }));
        assert!(lock(&tokens.keys).looking);
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    drop(fs::OpenOptions::new().write(true).custom_flags(flags).open(&path).unwrap());
    while lock(&tokens.keys).looking {
        tokio::task::yield_now().await;
    }
}

#[test]
fn files_without_a_key_for_us_say_why() {
    for (text, expected) in [
        ("", "expected a JWK Set or PEM blocks"),
        ("{", "not JSON"),
        ("{}", "expected a JWK Set"),
        (r#"{"keys":[]}"#, "found no public key"),
        (r#"{"keys":[{"kty":"EC","crv":"P-384"}]}"#, "found no public key"),
        (r#"{"keys":[{"kty":"oct","k":"AQ"}]}"#, "key 1: a shared secret"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}"#, "key 1: expected 32 bytes"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ","d":"AQ"}]}"#, "key 1: a private key"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "key 1: expected an RSA key of 2048"),
        (r#"{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}"#, "key 1: `n` is not base64url"),
        ("-----BEGIN PRIVATE KEY-----\n", "expected PEM blocks `PUBLIC KEY`, found `PRIVATE KEY`"),
        ("-----BEGIN PUBLIC KEY-----\nAQAB\n-----END PUBLIC KEY-----\n", "a public key that is"),
    ] {
        let error = keys::parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
