//! The keys that tokens are verified with: a JWK Set (RFC 7517), PEM public keys, a shared secret.
//!
//! A key knows its one algorithm, whatever the header of a token says: a public key can never be
//! taken for a shared secret, and a curve never for another.

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use ring::{hmac, signature};
use serde_json::{Map, Value};

/// A way to sign that is accepted (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// Ed25519.
    EdDsa,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// RSA PKCS #1 v1.5 with SHA-256, with keys of 2,048 to 4,096 bits.
    Rs256,
    /// HMAC with SHA-256: whoever can verify can also sign.
    Hs256,
}

impl TokenAlgorithm {
    /// The algorithm of a token's header; nothing for any other, `none` above all.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "EdDSA" => Some(Self::EdDsa),
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            "HS256" => Some(Self::Hs256),
            _ => None,
        }
    }
}

/// A key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: Option<String>,
    material: Material,
}

#[derive(Debug, Clone)]
enum Material {
    Ed25519(Vec<u8>),
    /// An uncompressed point.
    P256(Vec<u8>),
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    Secret(hmac::Key),
}

impl Key {
    /// The key of HS256. One that is shorter than its hash can be guessed (RFC 7518 §3.2).
    pub(super) fn secret(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < SECRET_BYTES_MIN {
            let found = bytes.len();
            return Err(format!(
                "expected a secret of at least {SECRET_BYTES_MIN} bytes, found {found}"
            ));
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes));
        Ok(Self { id: None, material })
    }

    pub(super) fn algorithm(&self) -> TokenAlgorithm {
        match &self.material {
            Material::Ed25519(_) => TokenAlgorithm::EdDsa,
            Material::P256(_) => TokenAlgorithm::Es256,
            Material::Rsa { .. } => TokenAlgorithm::Rs256,
            Material::Secret(_) => TokenAlgorithm::Hs256,
        }
    }

    /// Whether a token that names `id`, or none, may mean this key.
    pub(super) fn may_be(&self, id: Option<&str>) -> bool {
        match (&self.id, id) {
            (Some(own), Some(wanted)) => own == wanted,
            _ => true,
        }
    }

    /// Whether `signature` is one of `message` by this key.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let by = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
        };
        match &self.material {
            Material::Ed25519(key) => by(&signature::ED25519, key),
            Material::P256(key) => by(&signature::ECDSA_P256_SHA256_FIXED, key),
            Material::Rsa { modulus, exponent } => {
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

/// Understands a file: a JWK Set or PEM public keys. Keys of a set that are for something else are
/// left out; a set without any for us is an error.
pub(super) fn parse(text: &str) -> Result<Vec<Key>, String> {
    let keys = if text.trim_start().starts_with('{') { parse_set(text) } else { parse_pem(text) }?;
    if keys.is_empty() {
        return Err("found no public key for EdDSA (Ed25519), ES256 or RS256".into());
    }
    if keys.len() > KEYS_MAX {
        return Err(format!("expected at most {KEYS_MAX} keys, found {}", keys.len()));
    }
    Ok(keys)
}

fn parse_set(text: &str) -> Result<Vec<Key>, String> {
    let set: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array);
    let keys = keys.ok_or("expected a JWK Set: an object with a list `keys`")?;
    let mut found = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let key = key.as_object().ok_or_else(|| format!("key {}: not an object", index + 1))?;
        found.extend(parse_jwk(key).map_err(|cause| format!("key {}: {cause}", index + 1))?);
    }
    Ok(found)
}

fn parse_jwk(key: &Map<String, Value>) -> Result<Option<Key>, String> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let bytes = |name: &str| {
        let text = text(name).ok_or_else(|| format!("`{name}` is missing"))?;
        Base64UrlUnpadded::decode_vec(text).map_err(|_| format!("`{name}` is not base64url"))
    };
    if key.contains_key("d") {
        return Err("a private key; only the public part belongs here".into());
    }
    let (algorithm, for_us) = match (text("kty"), text("crv")) {
        (Some("OKP"), Some("Ed25519")) => ("EdDSA", true),
        (Some("EC"), Some("P-256")) => ("ES256", true),
        (Some("RSA"), _) => ("RS256", true),
        (Some("oct"), _) => {
            return Err("a shared secret; it belongs into the secret's own file".into());
        }
        _ => ("", false),
    };
    let other_use = text("use").is_some_and(|it| it != "sig");
    if !for_us || other_use || text("alg").is_some_and(|it| it != algorithm) {
        return Ok(None);
    }
    let material = match algorithm {
        "EdDSA" => ed25519(&bytes("x")?)?,
        "ES256" => {
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != 32 || y.len() != 32 {
                return Err("expected 32 bytes each of `x` and `y`".into());
            }
            p256(&[&[4], &x[..], &y[..]].concat())?
        }
        _ => rsa(bytes("n")?, bytes("e")?)?,
    };
    Ok(Some(Key { id: text("kid").map(Into::into), material }))
}

fn ed25519(key: &[u8]) -> Result<Material, String> {
    if key.len() != 32 {
        return Err(format!("expected 32 bytes of an Ed25519 key, found {}", key.len()));
    }
    Ok(Material::Ed25519(key.to_vec()))
}

fn p256(point: &[u8]) -> Result<Material, String> {
    if point.len() != 65 || point.first() != Some(&4) {
        return Err("expected an uncompressed point on P-256".into());
    }
    Ok(Material::P256(point.to_vec()))
}

fn rsa(modulus: Vec<u8>, exponent: Vec<u8>) -> Result<Material, String> {
    let modulus: Vec<u8> = modulus.into_iter().skip_while(|byte| *byte == 0).collect();
    let exponent: Vec<u8> = exponent.into_iter().skip_while(|byte| *byte == 0).collect();
    let bits = modulus.len() * 8;
    if !RSA_BITS.contains(&bits) || exponent.is_empty() || exponent.len() > 4 {
        return Err(format!("expected an RSA key of 2048 to 4096 bits, found {bits}"));
    }
    Ok(Material::Rsa { modulus, exponent })
}

/// Public keys in PEM: the blocks `PUBLIC KEY`.
fn parse_pem(text: &str) -> Result<Vec<Key>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once("-----BEGIN ") {
        let (label, body) = block.split_once("-----").ok_or("a PEM block without an end")?;
        if label != "PUBLIC KEY" {
            return Err(format!("expected PEM blocks `PUBLIC KEY`, found `{}`", shown(label)));
        }
        let (body, after) =
            body.split_once("-----END PUBLIC KEY-----").ok_or("a PEM block without an end")?;
        let body: String = body.split_whitespace().collect();
        let der = Base64::decode_vec(&body).map_err(|_| "a PEM block that is not base64")?;
        found.push(Key { id: None, material: from_der(&der)? });
        rest = after;
    }
    if found.is_empty() {
        return Err("expected a JWK Set or PEM blocks `PUBLIC KEY`, found neither".into());
    }
    Ok(found)
}

/// A SubjectPublicKeyInfo (RFC 5280 §4.1.2.7) of one of the three kinds, each of which begins as only
/// it can.
fn from_der(der: &[u8]) -> Result<Material, String> {
    let unknown = || "a public key that is neither Ed25519, P-256 nor RSA".to_owned();
    let (SEQUENCE, content, []) = element(der).ok_or_else(unknown)? else { return Err(unknown()) };
    let (SEQUENCE, algorithm, key) = element(content).ok_or_else(unknown)? else {
        return Err(unknown());
    };
    let (BIT_STRING, key, []) = element(key).ok_or_else(unknown)? else { return Err(unknown()) };
    let [0, key @ ..] = key else { return Err(unknown()) };
    match algorithm {
        ED25519 => ed25519(key),
        P256 => p256(key),
        RSA => {
            let (SEQUENCE, numbers, []) = element(key).ok_or_else(unknown)? else {
                return Err(unknown());
            };
            let (INTEGER, modulus, rest) = element(numbers).ok_or_else(unknown)? else {
                return Err(unknown());
            };
            let (INTEGER, exponent, []) = element(rest).ok_or_else(unknown)? else {
                return Err(unknown());
            };
            rsa(modulus.to_vec(), exponent.to_vec())
        }
        _ => Err(unknown()),
    }
}

/// Tag and content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (length, content) = match der.get(1..)? {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    Some((*der.first()?, content.get(..length)?, content.get(length..)?))
}

fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const INTEGER: u8 = 0x02;

/// The AlgorithmIdentifiers, without tag and length: 1.3.101.112; 1.2.840.10045.2.1 with
/// 1.2.840.10045.3.1.7; 1.2.840.113549.1.1.1 with NULL.
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const P256: &[u8] = &[
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, //
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
];
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Larger ones cost more than they are worth, at every login.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;
const SECRET_BYTES_MIN: usize = 32;
const KEYS_MAX: usize = 64;
