//! What happens to the client and to the other one, told on the screen.
//!
//! What repeats itself (attempts to connect, the same presence) is said once.

use crate::screen::Screen;
use crate::words::{ago, now_ms};
use std::time::Duration;
use tidings_client::transport::Lost;
use tidings_client::{Event, Presence, PresenceState, State};

impl Screen {
    pub(crate) fn presence(&mut self, presence: Presence) {
        self.presence = Some(presence);
        self.passed_minute();
    }

    /// Says the presence line, if it reads differently from last time.
    pub(crate) fn passed_minute(&mut self) {
        let Some(presence) = &self.presence else { return };
        let them = &self.them;
        let line = match (presence.state, presence.last_seen) {
            (PresenceState::Online, _) => format!("{them} is online"),
            (PresenceState::Away, _) => format!("{them} is away"),
            (PresenceState::Offline, Some(time)) => {
                format!("{them} was last seen {}", ago(now_ms().saturating_sub(time)))
            }
            (PresenceState::Offline, None) => format!("{them} is offline"),
        };
        if line != self.presence_said {
            self.note(&line);
            self.presence_said = line;
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        match event {
            Event::State(State::Online) => {
                self.unreachable_said = false;
                let note = format!("connected to {} as {}", self.address, self.you);
                self.note(&note);
            }
            Event::State(State::Offline { reason, retry_in }) => self.offline(&reason, retry_in),
            Event::Stored { seq: Some(seq), .. } => {
                self.note(&format!("✓ from last time, stored as {seq}"));
            }
            Event::NotStored { refusal, .. } => self.note(&format!("from last time: {refusal}")),
            Event::Postponed { code, retry_in, .. } => {
                self.note(&format!("the broker says {code}: again in {retry_in:?}"));
            }
            Event::SubscriptionRefused { filter, reason } => {
                self.note(&format!("the broker refused {filter}: {reason}"));
            }
            Event::Ended { chat, .. } => self.note(&format!("{chat} has ended")),
            Event::Unreadable { topic, cause } => {
                self.note(&format!("cannot read {topic}: {cause}"));
            }
            Event::StoreFailed { cause } => self.note(&format!("the disk failed: {cause}")),
            Event::StoreNotice(notice) => self.note(&notice),
            _ => {}
        }
    }

    fn offline(&mut self, reason: &Lost, retry_in: Option<Duration>) {
        // Said once, not at each attempt.
        if std::mem::replace(&mut self.unreachable_said, true) {
            return;
        }
        let address = &self.address;
        let note = match (reason, retry_in) {
            (Lost::Unreachable { .. }, _) => format!(
                "no broker at {address}: start one with `cargo run --release` (messages wait, \
                 trying again)"
            ),
            (reason, Some(_)) => format!("{reason} (messages wait, trying again)"),
            (reason, None) => format!("{reason}: start again to take it back"),
        };
        self.note(&note);
    }
}
