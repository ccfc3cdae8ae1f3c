//! Rooms for two: made by anybody, opened by link and code.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidings_broker::core::metric::Metric;
use tidings_chat::CallError;

use super::Site;
use super::api::fresh;
use super::error::ApiError;
use super::peer::Peer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Make {
    names: [String; 2],
}

#[derive(Serialize)]
struct Made<'a> {
    room: &'a str,
    idle_seconds: u64,
    lifetime_seconds: u64,
    seats: Vec<Seat<'a>>,
}

#[derive(Serialize)]
struct Seat<'a> {
    name: &'a str,
    link: &'a str,
    code: &'a str,
}

/// `POST /api/rooms`
pub(super) async fn make(
    State(site): State<Arc<Site>>,
    peer: Peer,
    body: Result<Json<Make>, JsonRejection>,
) -> Result<Response, ApiError> {
    if !site.options.rooms {
        return Err(ApiError::forbidden("rooms are not made here; web.rooms turns that on"));
    }
    let Json(Make { names }) = body?;
    site.rooms_made.take(peer.address.ip()).map_err(|wait| {
        site.broker.count(Metric::LimitWebRooms);
        ApiError::limit("many rooms were made from where you are; wait a little", wait)
    })?;
    let names = names.each_ref().map(|name| name.trim());
    let room = site.chat.make_room_for(names).await?;
    let seats = room.seats.iter().zip(names);
    let made = Made {
        room: &room.name,
        idle_seconds: site.options.room_idle.as_secs(),
        lifetime_seconds: site.options.room_lifetime.as_secs(),
        seats: seats.map(|(key, name)| Seat { name, link: &key.link, code: &key.code }).collect(),
    };
    Ok(fresh((StatusCode::CREATED, Json(made))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    link: String,
    code: String,
}

#[derive(Serialize)]
struct Opened<'a> {
    user: &'a str,
    name: Option<&'a str>,
    room: &'a str,
    other: Person<'a>,
    token: &'a str,
    idle_seconds: u64,
}

#[derive(Serialize)]
struct Person<'a> {
    user: &'a str,
    name: Option<&'a str>,
}

/// `POST /api/seats`
pub(super) async fn open(
    State(site): State<Arc<Site>>,
    peer: Peer,
    body: Result<Json<Open>, JsonRejection>,
) -> Result<Response, ApiError> {
    let Json(Open { link, code }) = body?;
    // Longer than any link that was ever made: nothing to remember it by.
    if link.len() > LINK_BYTES_MAX {
        return Err(ApiError::not_opened());
    }
    let link = if link.starts_with('~') { link } else { ["~", &link].concat() };
    let code = Given::read(&code);
    let wait = |wait| {
        site.broker.count(Metric::LimitWebGuesses);
        ApiError::limit("there were too many wrong codes; wait", wait)
    };
    site.wrong_links.look(peer.address.ip()).map_err(wait)?;
    if matches!(code, Given::Code(_)) {
        site.guesses.may_try(&link, Instant::now()).map_err(wait)?;
    }
    let opened = site.chat.open_seat(&link, code.text().as_bytes()).await;
    let opened = opened.inspect_err(|error| {
        if *error == CallError::NotOpened {
            let _none_left = site.wrong_links.take(peer.address.ip());
            site.guesses.wrong(&link, Instant::now());
        }
    })?;
    site.guesses.right(&link);
    let other = Person { user: &opened.other, name: opened.other_name.as_deref() };
    let answer = Opened {
        user: &opened.user,
        name: opened.name.as_deref(),
        room: &opened.room,
        other,
        token: &opened.token,
        idle_seconds: site.options.room_idle.as_secs(),
    };
    Ok(fresh(Json(answer).into_response()))
}

/// What is to open a seat.
#[derive(Debug, PartialEq, Eq)]
enum Given {
    /// As people write it: in groups, in small letters.
    Code(String),
    /// What an earlier opening gave, which no wrong codes keep out.
    Token(String),
}

impl Given {
    fn read(text: &str) -> Self {
        let is_token = text.len() == TOKEN_CHARS
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if is_token {
            return Self::Token(text.to_owned());
        }
        let is_said = |c: &char| !c.is_whitespace() && *c != '-';
        Self::Code(text.chars().filter(is_said).map(|c| c.to_ascii_uppercase()).collect())
    }

    fn text(&self) -> &str {
        match self {
            Self::Code(text) | Self::Token(text) => text,
        }
    }
}

/// How long a token is.
const TOKEN_CHARS: usize = 22;

/// The longest link that is looked for.
const LINK_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_write_them_and_tokens_as_they_are() {
        for text in ["abcd-2345", " ABCD 2345 ", "AB-CD-23-45", "abcd\u{a0}2345"] {
            assert_eq!(Given::read(text), Given::Code("ABCD2345".into()), "{text}");
        }
        let token = "aB3-_xaB3-_xaB3-_xaB3-";
        assert_eq!(Given::read(token), Given::Token(token.into()));
        assert_eq!(Given::read(&"x y".repeat(9)), Given::Code("XY".repeat(9)));
    }
}
