//! `sync`: where every chat of a user is, the most recent first, a page at a time.
//!
//! What a device has lanes to, it knows the order of, and asks only the chats of the page. For any
//! other session all chats of the user are asked, a bounded number at a time, and the page is chosen
//! of the answers. Neither keeps anything for later: the next page is asked for by where this ends.

use std::cmp::Reverse;
use std::sync::Arc;

use serde::Deserialize;
use tidings_core::codec::Publish;
use tidings_core::hook::Host;
use tidings_core::time::Time;

use super::UserSide;
use super::ask::{ask, question};
use super::outgoing::to_chat;
use super::person::Later;
use super::rates::SENDS_WAITING_MAX;
use crate::code::Code;
use crate::json::Request;
use crate::peer::{ChatInput, Origin, Question, Refusal, Summary, SyncId};
use crate::topics::{ChatId, Place};
use crate::view::{self, Receipt, SyncChat};

/// What is asked of `sync`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncOf {
    limit: Option<usize>,
    after: Option<String>,
    request: Option<Request>,
}

/// Where a chat stands among all: the most recent first.
type Rank = (Reverse<Time>, ChatId);

/// Which page is asked for.
#[derive(Debug)]
pub(super) struct Page {
    limit: usize,
    /// Behind which chat it begins.
    after: Option<Rank>,
}

/// A page that is being made.
#[derive(Debug)]
pub(super) struct Sync {
    ask: Question,
    page: Page,
    /// Chats that have not been asked yet.
    left: Vec<Arc<Place>>,
    waiting: usize,
    found: Vec<(Rank, Arc<Place>, Summary)>,
    /// Whether it is known that there are chats behind the page.
    more: bool,
}

impl UserSide {
    /// A session asks for a page.
    ///
    /// # Errors
    /// It is not understood, or is one too many.
    pub(super) fn ask_sync(
        &mut self,
        name: &str,
        publish: &Publish<'_>,
        origin: Origin,
        host: &mut dyn Host,
    ) -> Result<(), Refusal> {
        let example = r#"{"limit":100}, and "after" with the "next" of a page"#;
        let SyncOf { limit, after, request } = question(publish.payload, example)?;
        let bad = || Refusal::new(Code::Format, &format!("expected {example}"));
        let after = match after {
            Some(after) => Some(parse_rank(&after).ok_or_else(bad)?),
            None => None,
        };
        if limit == Some(0) {
            return Err(bad());
        }
        let limit = limit.map_or(PAGE_DEFAULT, |limit| limit.min(PAGE_MAX));
        let ask = Box::new(ask(publish, origin, request)?);
        if self.users.get(name).is_some_and(|user| user.waiting.len() >= SENDS_WAITING_MAX) {
            return Err(Refusal::busy("too much waits for your chats to be read"));
        }
        self.later(name, Later::Sync { ask, page: Page { limit, after } }, host);
        Ok(())
    }

    /// The user's rows are there.
    pub(super) fn sync(&mut self, name: &str, ask: Question, page: Page, host: &mut dyn Host) {
        let Some(id) = ask.origin.session else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(user) = self.users.get(name) else { return };
        if session.syncs.len() >= SYNCS_MAX {
            let version = session.version;
            let refusal = Refusal::busy("too many pages at once");
            return self.refused(&ask.origin, version, "me/json/-/error", None, &refusal, host);
        }
        let behind = |rank: &Rank| page.after.as_ref().is_none_or(|after| rank > after);
        let feed = session.feed.as_ref().filter(|feed| feed.is_complete(&user.chats));
        let (mut left, mut more) = (Vec::new(), false);
        if let Some(feed) = feed {
            let begun = feed.lanes.values().filter(|lane| lane.head > 0);
            let mut ranks: Vec<_> =
                begun.map(|lane| ((Reverse(lane.time), lane.place.id), &lane.place)).collect();
            ranks.retain(|(rank, _)| behind(rank));
            ranks.sort_unstable_by_key(|(rank, _)| *rank);
            more = ranks.len() > page.limit;
            left.extend(ranks.into_iter().take(page.limit).map(|(_, place)| Arc::clone(place)));
        } else {
            left.extend(user.chats.values().cloned());
        }
        let sync = SyncId(self.next_sync);
        self.next_sync += 1;
        session.syncs.push(sync);
        let found = Vec::new();
        self.syncs.insert(sync, Sync { ask, page, left, waiting: 0, found, more });
        self.sync_on(sync, host);
    }

    /// Asks further chats, or answers.
    fn sync_on(&mut self, id: SyncId, host: &mut dyn Host) {
        let Some(sync) = self.syncs.get_mut(&id) else { return };
        let session = sync.ask.origin.session.and_then(|id| self.sessions.get(&id));
        let Some(session) = session else { return };
        while sync.waiting < ASKED_MAX
            && let Some(place) = sync.left.pop()
        {
            sync.waiting += 1;
            let (user, shard) = (Arc::clone(&session.user), host.shard());
            to_chat(&place, ChatInput::Summarise { user, shard, sync: id }, host);
        }
        if sync.waiting == 0
            && let Some(sync) = self.syncs.remove(&id)
        {
            self.sync_done(id, sync, host);
        }
    }

    /// A chat has said where it is.
    pub(super) fn summary_told(
        &mut self,
        place: Arc<Place>,
        id: SyncId,
        summary: Option<Summary>,
        host: &mut dyn Host,
    ) {
        let Some(sync) = self.syncs.get_mut(&id) else { return };
        sync.waiting = sync.waiting.saturating_sub(1);
        if let Some(summary) = summary {
            let rank = (Reverse(summary.time), place.id);
            sync.found.push((rank, place, summary));
        }
        self.sync_on(id, host);
    }

    fn sync_done(&mut self, id: SyncId, mut sync: Sync, host: &mut dyn Host) {
        let Some(session) = sync.ask.origin.session else { return };
        let Some(session) = self.sessions.get_mut(&session) else { return };
        session.syncs.retain(|known| *known != id);
        let after = sync.page.after;
        sync.found.retain(|(rank, ..)| after.is_none_or(|after| *rank > after));
        sync.found.sort_unstable_by_key(|(rank, ..)| *rank);
        let more = sync.more || sync.found.len() > sync.page.limit;
        sync.found.truncate(sync.page.limit);
        let next = sync.found.last().filter(|_| more).map(|(rank, ..)| write_rank(rank));
        let name = Arc::clone(&session.user);
        let chats: Vec<SyncChat<'_>> =
            sync.found.iter().map(|(_, place, at)| shown(&name, place, at)).collect();
        let body = session.view.body(&view::Sync {
            chats: &chats,
            next: next.as_deref(),
            request: sync.ask.request.as_ref(),
        });
        self.tell_answer(&sync.ask, "me/json/-/sync".into(), body, host);
    }
}

fn shown<'a>(user: &str, place: &Place, at: &'a Summary) -> SyncChat<'a> {
    let other = |(name, tick): &'a (Arc<str>, crate::peer::Tick)| Receipt {
        user: name,
        delivered: tick.delivered,
        read: tick.read,
        failed: &[],
    };
    SyncChat {
        chat: place.name_for(user),
        last: at.last,
        time: at.time,
        read: at.read,
        unread: at.unread,
        stranger: at.stranger,
        others: at.others.iter().map(other).collect(),
    }
}

fn write_rank((Reverse(time), chat): &Rank) -> String {
    format!("{}-{:032x}", time.as_millis(), chat.to_key())
}

fn parse_rank(text: &str) -> Option<Rank> {
    let (time, chat) = text.split_once('-')?;
    let chat = u128::from_str_radix(chat, 16).ok()?;
    Some((Reverse(Time::from_millis(time.parse().ok()?)), ChatId::from_key(chat)))
}

/// How many chats a page holds where the question does not say.
const PAGE_DEFAULT: usize = 100;

/// How many it holds at the most.
const PAGE_MAX: usize = 200;

/// How many pages a session may ask for at once.
const SYNCS_MAX: usize = 4;

/// How many chats a page asks at a time.
const ASKED_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_page_ends_can_be_asked_for() {
        let rank = (Reverse(Time::from_millis(1_793_210_412_345)), ChatId([0x32; 16]));
        assert_eq!(parse_rank(&write_rank(&rank)), Some(rank));
        for bad in ["", "-", "5", "5-x", "x-5", "5-123456789012345678901234567890123"] {
            assert_eq!(parse_rank(bad), None, "{bad}");
        }
    }
}
