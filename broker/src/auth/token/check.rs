//! Whether a token holds: its signature, its time, and whom it is by, for and about (RFC 7519).
//!
//! Nothing of the payload is looked at before the signature is right.

use std::time::{Duration, SystemTime};

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::TokenOptions;
use super::keys::{Key, TokenAlgorithm};
use crate::auth::is_user_name;

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    /// When it is over.
    pub(super) expires: SystemTime,
}

/// Why a token is not taken. For the log: the Client is told nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadToken {
    #[error("not three parts of base64url, or longer than {TOKEN_BYTES_MAX} bytes")]
    Form,
    #[error("the header or the claims cannot be read")]
    Json,
    #[error("signed by an algorithm that is not accepted")]
    Algorithm,
    #[error("the header has `crit`, and nothing critical is understood")]
    Critical,
    #[error("no key of that name and algorithm")]
    NoKey,
    #[error("the signature is wrong")]
    Signature,
    #[error("`{0}` is missing or of another type")]
    Claim(&'static str),
    #[error("expired")]
    Expired,
    #[error("not valid yet")]
    NotYet,
    #[error("`iss` is another")]
    Issuer,
    #[error("`aud` is another")]
    Audience,
    #[error("the claim of the user is missing or no user name")]
    User,
    #[error("the token is of another user than the CONNECT")]
    OtherUser,
}

/// The JOSE header (RFC 7515 §4.1): what is needed of it.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Checks `token` against `keys` at the time `now`.
pub(super) fn check(
    token: &[u8],
    keys: &[Key],
    options: &TokenOptions,
    now: SystemTime,
) -> Result<Login, BadToken> {
    let claims = verified(token, keys, options)?;
    let now = seconds(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let leeway = seconds(options.leeway);
    let expires = date(&claims, "exp")?.ok_or(BadToken::Claim("exp"))?;
    if expires + leeway <= now {
        return Err(BadToken::Expired);
    }
    if date(&claims, "nbf")?.is_some_and(|from| from > now + leeway) {
        return Err(BadToken::NotYet);
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if options.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
        return Err(BadToken::Issuer);
    }
    if let Some(audience) = &options.audience {
        let named = match claims.get("aud") {
            Some(Value::Array(list)) => list.iter().any(|it| it == audience.as_str()),
            Some(one) => one == audience.as_str(),
            None => false,
        };
        if !named {
            return Err(BadToken::Audience);
        }
    }
    let user = text(&options.user_claim).filter(|user| is_user_name(user)).ok_or(BadToken::User)?;
    // Within the leeway it is over with the leeway: somebody's clock is wrong.
    let end = if expires > now { expires } else { expires + leeway };
    // Farther away than a clock can say is as good as this.
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(end.min(LAST_SECOND));
    Ok(Login { user: user.to_owned(), expires: end })
}

/// The claims of a token whose signature is right.
fn verified(
    token: &[u8],
    keys: &[Key],
    options: &TokenOptions,
) -> Result<Map<String, Value>, BadToken> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(BadToken::Form);
    }
    let token = std::str::from_utf8(token).map_err(|_| BadToken::Form)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Form)?;
    let (header, payload) = signed.split_once('.').ok_or(BadToken::Form)?;
    let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).map_err(|_| BadToken::Form);
    let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    let header: Header = serde_json::from_slice(&header).map_err(|_| BadToken::Json)?;
    let algorithm = TokenAlgorithm::from_name(&header.alg);
    let algorithm = algorithm.filter(|it| options.algorithms.contains(it));
    let algorithm = algorithm.ok_or(BadToken::Algorithm)?;
    if header.crit.is_some() {
        return Err(BadToken::Critical);
    }
    let may_be = |key: &&Key| key.algorithm() == algorithm && key.may_be(header.kid.as_deref());
    let mut candidates = keys.iter().filter(may_be).take(KEYS_TRIED_MAX).peekable();
    if candidates.peek().is_none() {
        return Err(BadToken::NoKey);
    }
    if !candidates.any(|key| key.verify(signed.as_bytes(), &signature)) {
        return Err(BadToken::Signature);
    }
    serde_json::from_slice(&payload).map_err(|_| BadToken::Json)
}

/// A NumericDate (RFC 7519 §2), in seconds. Text, or what no clock shows, is no date.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, BadToken> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let date = value.as_f64().filter(|date| date.is_finite() && *date >= 0.0);
    date.map(Some).ok_or(BadToken::Claim(name))
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The longest token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Keys that are tried for a token which names none.
const KEYS_TRIED_MAX: usize = 8;

/// The end of the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;
