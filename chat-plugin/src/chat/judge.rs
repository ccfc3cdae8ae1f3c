//! Whether the foremost send may have a place: membership, blocks, room, and what a moderator says.
//!
//! What is full refuses, and nothing that was acknowledged goes for it: an entry goes when all have
//! it, or when its time is over.

use tidings_core::metric::Metric;

use super::cx::Cx;
use super::one::Chat;
use crate::code::Code;
use crate::entry::Kind;
use crate::group::Role;
use crate::moderate::{Draft, Judgement, shortened};
use crate::peer::{ChatInput, Post, Refusal};

impl Chat {
    /// Whether the foremost send may pass; it is refused if not.
    pub(super) fn may_send(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(post) = self.waiting.front() else { return false };
        let Err(refusal) = self.may_pass(post, cx) else { return true };
        if let Some(post) = self.waiting.pop_front() {
            cx.refuse(&self.place, ChatInput::Send(post), refusal);
        }
        false
    }

    fn may_pass(&self, post: &Post, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        let deletes = matches!(post.kind, Kind::Delete | Kind::Hide);
        if post.origin.call().is_some() && (self.created.is_some() || !self.place.is_group()) {
            // The program around the broker: nobody else is asked.
            return self.has_room(post, cx);
        }
        if deletes && !self.place.is_group() {
            // For who is blocked, or blocks, as well.
            return Ok(());
        }
        if !self.place.is_group() {
            self.admits(&post.sender, cx)?;
        } else if self.role(&post.sender)? == Role::Reader {
            return Err(Refusal::new(Code::Forbidden, "you may only read here"));
        }
        if deletes {
            return Ok(());
        }
        self.has_room(post, cx)?;
        let Some(moderator) = cx.shared.moderator.as_deref() else { return Ok(()) };
        let draft = Draft {
            chat: &self.place.name_for(&post.sender),
            sender: &post.sender,
            device: &post.device,
            id: post.id.as_deref(),
            content_type: post.content_type.as_deref(),
            payload: &post.payload,
        };
        match moderator.judge(&draft) {
            Judgement::Allow => Ok(()),
            Judgement::Refuse { code, text } => Err(Refusal::new(code, &shortened(text))),
        }
    }

    fn has_room(&self, post: &Post, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        if self.place.is_room() {
            // Its oldest entries make room: `room.rs`.
            return Ok(());
        }
        if self.log.is_in_memory() {
            // Here too, but there may be many such chats.
            let held = cx.shared.memory_bytes + post.payload.len();
            if held / 2 <= cx.options().memory_bytes_max {
                return Ok(());
            }
            cx.host.count(Metric::LimitMemoryBytes);
            let text = "the server keeps no more in memory only: wait until others have got theirs";
            return Err(Refusal::new(Code::Limit, text));
        }
        let options = cx.options();
        let (entries, bytes) = (options.chat_entries_max, options.chat_bytes_max);
        let full = |what| {
            let text = format!("this chat keeps at most {what} until its members have them");
            Err(Refusal::new(Code::Limit, &text))
        };
        if self.log.kept() >= entries {
            cx.host.count(Metric::LimitChatEntries);
            return full(format!("{entries} messages"));
        }
        if self.log.kept_bytes().saturating_add(post.payload.len() as u64) > bytes {
            cx.host.count(Metric::LimitChatBytes);
            return full(format!("{bytes} bytes"));
        }
        Ok(())
    }
}
