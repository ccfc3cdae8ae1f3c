//! Sends between the outbox and the broker's answer: which may go now, which were sent, which wait.
//!
//! Sans-IO. Order is by number, that is by chat in the order of sending; a chat whose send the
//! broker postponed waits as a whole, so that its later messages do not pass it.

use crate::error::NotStored;
use crate::outbox::Send;
use crate::writer::{Accepted, Answer};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Pending {
    sends: BTreeMap<u64, Unanswered>,
    by_id: BTreeMap<String, u64>,
    /// Not sent on this connection.
    queue: BTreeSet<u64>,
    /// Sent on this connection and unanswered.
    in_flight: BTreeMap<u64, u64>,
    postponed: BTreeMap<String, Instant>,
    /// Acknowledged without a seq: sent again when it passes.
    overdue: BTreeMap<u64, Instant>,
    /// Refused by a PUBACK that said no more than that, for a reason that may pass: the message that
    /// says for how long, or that it will not, is still to come. When that time is over the PUBACK
    /// alone counts.
    doubtful: BTreeMap<u64, (Instant, NotStored)>,
}

#[derive(Debug)]
struct Unanswered {
    send: Send,
    answer: Option<Answer>,
    token: Option<u64>,
    refusals: u32,
}

/// What an answer did.
#[derive(Debug)]
pub(crate) enum Done {
    /// The outbox may forget it.
    Finished {
        send: Send,
        result: Result<u64, NotStored>,
        /// None when nobody waits any more.
        answer: Option<Answer>,
    },
    /// It is sent again later.
    Postponed { chat: String, id: String, code: String, retry_in: Duration },
    /// It is not, or no longer, waited for.
    Unknown,
}

impl Pending {
    pub(crate) fn insert(&mut self, accepted: Accepted) {
        let Accepted { send, answer } = accepted;
        self.queue.insert(send.number);
        self.by_id.insert(send.id.clone(), send.number);
        let number = send.number;
        self.sends.insert(number, Unanswered { send, answer, token: None, refusals: 0 });
    }

    pub(crate) fn len(&self) -> usize {
        self.sends.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len() + self.overdue.len() + self.doubtful.len()
    }

    /// Everything unanswered is to be sent again, in order.
    pub(crate) fn handle_connected(&mut self) {
        self.queue = self.sends.keys().copied().collect();
        self.in_flight.clear();
        self.overdue.clear();
        self.doubtful.clear();
        for unanswered in self.sends.values_mut() {
            unanswered.token = None;
        }
    }

    /// The next to be sent now, marked as sent under `token`.
    pub(crate) fn next(&mut self, token: u64, now: Instant) -> Option<&Send> {
        let late: Vec<u64> =
            self.overdue.iter().filter(|(_, at)| **at <= now).map(|(n, _)| *n).collect();
        for number in late {
            self.overdue.remove(&number);
            self.queue.insert(number);
        }
        self.postponed.retain(|_, until| *until > now);
        let (sends, postponed) = (&self.sends, &self.postponed);
        let ready = |number: &&u64| {
            sends.get(number).is_some_and(|one| !postponed.contains_key(&one.send.chat))
        };
        let number = *self.queue.iter().find(ready)?;
        self.queue.remove(&number);
        self.in_flight.insert(token, number);
        let unanswered = self.sends.get_mut(&number)?;
        unanswered.token = Some(token);
        Some(&unanswered.send)
    }

    /// When [`next`](Self::next) may have more without anything happening.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let doubtful = self.doubtful.values().map(|(until, _)| until);
        self.postponed.values().chain(self.overdue.values()).chain(doubtful).min().copied()
    }

    /// The broker acknowledged the publish without saying the seq: its answer is still to come.
    pub(crate) fn handle_acknowledged(&mut self, token: u64, resend_at: Instant) {
        if let Some(number) = self.in_flight.remove(&token) {
            self.overdue.insert(number, resend_at);
        }
    }

    /// The broker refused the publish for a reason that may pass, and did not say whether it will.
    pub(crate) fn handle_doubtful(&mut self, token: u64, refused: NotStored, now: Instant) {
        if let Some(number) = self.in_flight.remove(&token) {
            self.doubtful.insert(number, (now + DETAILS_WAIT, refused));
        }
    }

    /// Settles a refusal whose details did not come in time: it may pass, so the send stays.
    pub(crate) fn next_settled(&mut self, now: Instant) -> Option<Done> {
        let (number, (_, refused)) = self.doubtful.iter().find(|(_, (until, _))| *until <= now)?;
        let (number, refused) = (*number, refused.clone());
        Some(self.finish(number, Err(refused), true, now))
    }

    /// The broker answered the publish itself (MQTT 5 PUBACK).
    pub(crate) fn handle_answer(
        &mut self,
        token: u64,
        result: Result<u64, NotStored>,
        now: Instant,
    ) -> Done {
        match self.in_flight.get(&token) {
            Some(number) => self.finish(*number, result, false, now),
            None => Done::Unknown,
        }
    }

    /// The broker answered by a message that names the id.
    ///
    /// A refusal of what is not under way is old: the PUBACK has said it, or a connection ended.
    pub(crate) fn handle_answer_by_id(
        &mut self,
        chat: &str,
        id: &str,
        result: Result<u64, NotStored>,
        now: Instant,
    ) -> Done {
        let number = self.by_id.get(id).copied();
        let send = number.and_then(|number| self.sends.get(&number));
        let answers =
            |one: &&Unanswered| one.send.chat == chat && (result.is_ok() || one.token.is_some());
        match send.filter(answers) {
            Some(one) => self.finish(one.send.number, result, false, now),
            None => Done::Unknown,
        }
    }

    fn finish(
        &mut self,
        number: u64,
        result: Result<u64, NotStored>,
        may_pass: bool,
        now: Instant,
    ) -> Done {
        let Some(one) = self.sends.get_mut(&number) else { return Done::Unknown };
        if let Some(token) = one.token.take() {
            self.in_flight.remove(&token);
        }
        self.overdue.remove(&number);
        self.doubtful.remove(&number);
        if let Err(NotStored::Refused { code, retry_after, .. }) = &result
            && (may_pass || code == "limit" || retry_after.is_some())
        {
            one.refusals = one.refusals.saturating_add(1);
            let doubled = RETRY_MIN.saturating_mul(1 << (one.refusals - 1).min(5));
            let retry_in = retry_after.unwrap_or(doubled).clamp(RETRY_MIN, RETRY_MAX);
            self.queue.insert(number);
            let chat = one.send.chat.clone();
            self.postponed.insert(chat.clone(), now + retry_in);
            return Done::Postponed { chat, id: one.send.id.clone(), code: code.clone(), retry_in };
        }
        self.queue.remove(&number);
        let Some(Unanswered { send, answer, .. }) = self.sends.remove(&number) else {
            return Done::Unknown;
        };
        self.by_id.remove(&send.id);
        Done::Finished { send, result, answer }
    }
}

/// A broker that says "at once" is still not asked in a tight loop.
const RETRY_MIN: Duration = Duration::from_millis(100);

/// Nor is one that says "next year" believed: its users would think the message lost.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How long after a PUBACK its details may come: they are on the same connection.
const DETAILS_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn pending(chats: &[&str]) -> Pending {
        let mut pending = Pending::default();
        for (number, chat) in (1..).zip(chats) {
            let (chat, id) = ((*chat).to_owned(), format!("m{number}"));
            let send = Send { number, chat, id, payload: Bytes::new() };
            pending.insert(Accepted { send, answer: None });
        }
        pending
    }

    fn sent(pending: &mut Pending, first_token: u64, now: Instant) -> Vec<u64> {
        (first_token..).map_while(|token| Some(pending.next(token, now)?.number)).collect()
    }

    fn limit(after: Duration) -> Result<u64, NotStored> {
        let (code, text) = ("limit".to_owned(), String::new());
        Err(NotStored::Refused { code, text, retry_after: Some(after) })
    }

    #[test]
    fn unanswered_sends_go_again_in_order_on_a_new_connection() {
        let now = Instant::now();
        let mut pending = pending(&["@a", "@b", "@a", "@b"]);
        assert_eq!(sent(&mut pending, 1, now), [1, 2, 3, 4]);
        assert!(matches!(pending.handle_answer(2, Ok(9), now), Done::Finished { .. }));
        pending.handle_acknowledged(3, now);
        pending.handle_connected();
        assert_eq!(sent(&mut pending, 10, now), [1, 3, 4]);
        assert!(matches!(pending.handle_answer(1, Ok(9), now), Done::Unknown), "old token");
    }

    #[test]
    fn postponed_send_holds_back_its_chat_only() {
        let now = Instant::now();
        let mut pending = pending(&["@a", "@a", "@b"]);
        assert_eq!(pending.next(1, now).unwrap().number, 1);
        let second = Duration::from_secs(1);
        assert!(matches!(pending.handle_answer(1, limit(second), now), Done::Postponed { .. }));
        assert_eq!(sent(&mut pending, 2, now), [3]);
        assert_eq!(pending.next_timeout(), Some(now + second));
        assert_eq!(sent(&mut pending, 3, now + second), [1, 2]);
    }

    #[test]
    fn send_acknowledged_without_seq_goes_again_when_overdue() {
        let now = Instant::now();
        let mut pending = pending(&["@a"]);
        assert_eq!(sent(&mut pending, 1, now), [1]);
        let later = now + Duration::from_secs(30);
        pending.handle_acknowledged(1, later);
        assert_eq!(pending.in_flight(), 1);
        assert!(sent(&mut pending, 2, now).is_empty());
        assert_eq!(sent(&mut pending, 2, later), [1]);
        let answered = pending.handle_answer_by_id("@a", "m1", Ok(7), later);
        assert!(matches!(answered, Done::Finished { result: Ok(7), .. }));
        assert_eq!((pending.len(), pending.in_flight()), (0, 0));
    }

    #[test]
    fn refusal_that_may_pass_waits_for_its_details_and_never_loses_the_send() {
        let now = Instant::now();
        let refused = |retry_after| {
            let (code, text) = ("unavailable".to_owned(), String::new());
            NotStored::Refused { code, text, retry_after }
        };
        let mut pending = pending(&["@a", "@b", "@c"]);
        assert_eq!(sent(&mut pending, 1, now), [1, 2, 3]);
        for token in 1..=3 {
            pending.handle_doubtful(token, refused(None), now);
        }
        assert_eq!(pending.in_flight(), 3);
        assert!(pending.next_settled(now).is_none());
        let again = Err(refused(Some(Duration::from_secs(9))));
        let done = pending.handle_answer_by_id("@a", "m1", again, now);
        assert!(matches!(done, Done::Postponed { .. }));
        let done = pending.handle_answer_by_id("@b", "m2", Err(refused(None)), now);
        assert!(matches!(done, Done::Finished { result: Err(_), .. }));
        let late = now + DETAILS_WAIT;
        assert_eq!(pending.next_timeout(), Some(late));
        assert!(matches!(pending.next_settled(late), Some(Done::Postponed { .. })));
        assert!(pending.next_settled(late).is_none());
        assert_eq!(pending.len(), 2);
    }

    #[test]
    fn refusal_that_the_puback_has_said_is_not_counted_again() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut pending = pending(&["@a"]);
        assert_eq!(sent(&mut pending, 1, now), [1]);
        assert!(matches!(pending.handle_answer(1, limit(second), now), Done::Postponed { .. }));
        let late = now + second / 2;
        let repeated = pending.handle_answer_by_id("@a", "m1", limit(second), late);
        assert!(matches!(repeated, Done::Unknown));
        assert_eq!(pending.next_timeout(), Some(now + second));
        let stored = pending.handle_answer_by_id("@a", "m1", Ok(7), late);
        assert!(matches!(stored, Done::Finished { result: Ok(7), .. }), "good news is never late");
    }

    #[test]
    fn answer_for_another_chat_is_ignored() {
        let now = Instant::now();
        let mut pending = pending(&["@a"]);
        assert!(matches!(pending.handle_answer_by_id("@b", "m1", Ok(1), now), Done::Unknown));
    }
}
