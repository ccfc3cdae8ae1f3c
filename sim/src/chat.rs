//! The people who chat, their devices, and what they were promised.
//!
//! A send that was acknowledged is stored once, at one place; each device hears the places of a
//! chat in order and misses none; a tick never claims what did not happen.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::codec::{ReasonCode, Version};

use crate::disk::SimDisk;

pub(crate) const USERS: [&str; 3] = ["alice", "bob", "carol"];
pub(crate) const NAMES: [&str; 2] = ["phone", "laptop"];

/// A chat by the names of its members, in order.
pub(crate) type Pair = (&'static str, &'static str);

pub(crate) fn pair(one: &'static str, other: &'static str) -> Pair {
    if one <= other { (one, other) } else { (other, one) }
}

pub(crate) fn user(name: &str) -> &'static str {
    USERS.into_iter().find(|user| *user == name).unwrap()
}

/// What a device has published and not heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Send(usize),
    Read(Pair, u64),
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) user: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: Version,
    pub(crate) window: u16,
    pub(crate) link: Option<usize>,
    pub(crate) open: bool,
    pub(crate) subscribed: bool,
    pub(crate) next_id: u16,
    pub(crate) pending: Vec<(u16, Said)>,
    /// How often its connection has ended.
    pub(crate) epoch: u64,
    /// What it has to answer: identifier, and the place in a chat if it is a message.
    pub(crate) unacknowledged: Vec<(u16, Option<(Pair, u64)>)>,
    /// What it acknowledged, and in which epoch.
    pub(crate) acknowledged: BTreeMap<(Pair, u64), u64>,
    /// What it has heard in this epoch and not acknowledged.
    pub(crate) heard: BTreeSet<(Pair, u64)>,
}

#[derive(Debug)]
pub(crate) struct Send {
    pub(crate) chat: Pair,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) payload: String,
    /// The devices that tried it: they may not hear it.
    pub(crate) tried: BTreeSet<usize>,
    pub(crate) acknowledged: bool,
}

impl Send {
    pub(crate) fn topic(&self, number: usize) -> String {
        format!("chat/@{}/send/i{number}", self.to)
    }
}

#[derive(Debug, Default)]
pub(crate) struct ChatCast {
    pub(crate) devices: Vec<Device>,
    /// By the number of their messages.
    pub(crate) sends: BTreeMap<usize, Send>,
    /// What every place holds: the number of a send.
    pub(crate) places: BTreeMap<(Pair, u64), usize>,
    /// The highest read that was reported, by chat and reader.
    pub(crate) read: BTreeMap<(Pair, &'static str), u64>,
    /// The last tick each device heard of another user.
    pub(crate) ticks: BTreeMap<(usize, &'static str), (u64, u64)>,
}

impl ChatCast {
    pub(crate) fn crashed(&mut self) {
        for device in &mut self.devices {
            device.over();
        }
    }

    /// The server acknowledges a send: it must have kept it.
    pub(crate) fn acknowledges(&self, which: usize, id: u16, reason: ReasonCode, disk: &SimDisk) {
        let said = self.devices[which].pending.iter().find(|it| it.0 == id);
        if let Some((_, Said::Send(number))) = said {
            assert!(!reason.is_error(), "the send of {number} is refused: {reason}");
            assert!(disk.has_kept(*number), "acknowledged and not stored: {number} of a chat");
        }
    }

    /// Somebody was told what is at a place of a chat.
    pub(crate) fn note_place(&mut self, chat: Pair, seq: u64, number: usize) {
        let known = *self.places.entry((chat, seq)).or_insert(number);
        assert_eq!(known, number, "place {seq} of {chat:?} holds two things");
    }

    /// A device may not hear what it sent, or tried to.
    fn is_own(&self, which: usize, chat: Pair, seq: u64) -> bool {
        // Nobody was told of it: stored, its sender gone. It must be the device's own.
        let Some(number) = self.places.get(&(chat, seq)) else { return true };
        self.sends.get(number).is_some_and(|send| send.tried.contains(&which))
    }

    /// A device hears a place of a chat, for the first time on this connection.
    pub(crate) fn note_heard(&self, which: usize, chat: Pair, seq: u64) {
        let device = &self.devices[which];
        let (user, name) = (device.user, device.name);
        let again = device.acknowledged.get(&(chat, seq));
        assert!(
            again.is_none_or(|epoch| *epoch < device.epoch),
            "{user}'s {name} hears {seq} of {chat:?} again, which it acknowledged on this connection"
        );
        let twice = device.heard.contains(&(chat, seq));
        assert!(!twice, "{user}'s {name} hears {seq} of {chat:?} twice");
        for before in 1..seq {
            let place = (chat, before);
            let has = device.acknowledged.contains_key(&place) || device.heard.contains(&place);
            assert!(
                has || self.is_own(which, chat, before),
                "cursor: {user}'s {name} hears {seq} of {chat:?} before {before}"
            );
        }
    }

    /// A device is told how far somebody is.
    pub(crate) fn note_tick(&mut self, which: usize, peer: &'static str, body: &str) {
        let id = &self.devices[which];
        let chat = pair(id.user, peer);
        let about = user(&text(body, "user").unwrap());
        let read = field(body, "read").unwrap_or_default();
        let reported = self.read.get(&(chat, about)).copied().unwrap_or_default();
        assert!(read <= reported, "tick: {about} has read {read} of {chat:?}, reported {reported}");
        if about == id.user {
            return;
        }
        let delivered = field(body, "delivered").unwrap_or_default();
        assert!(delivered >= read, "tick: read implies delivered: {body}");
        let complete = |device: usize| {
            (1..=delivered).all(|seq| {
                self.devices[device].acknowledged.contains_key(&(chat, seq))
                    || self.is_own(device, chat, seq)
            })
        };
        let mut of_user = (0..self.devices.len()).filter(|it| self.devices[*it].user == about);
        assert!(
            delivered <= reported || of_user.any(complete),
            "tick: {about} is said to have {delivered} of {chat:?}, and no device does"
        );
        let last = self.ticks.entry((which, about)).or_default();
        assert!(
            delivered >= last.0 && read >= last.1,
            "tick: told {last:?} of {about} and now {body}"
        );
        *last = (delivered, read);
    }

    /// Everything that was acknowledged is there, once, and everybody has it.
    pub(crate) fn check_all(&self) {
        let mut numbers = BTreeSet::new();
        for ((chat, seq), number) in &self.places {
            assert!(numbers.insert(*number), "send {number} is stored twice, again at {seq}");
            let before = *seq == 1 || self.places.contains_key(&(*chat, seq - 1));
            assert!(before, "a hole before {seq} of {chat:?}");
            for (which, device) in self.devices.iter().enumerate() {
                let member = device.user == chat.0 || device.user == chat.1;
                let has = device.acknowledged.contains_key(&(*chat, *seq));
                assert!(
                    !member || has || self.is_own(which, *chat, *seq),
                    "lost: {}'s {} never got {seq} of {chat:?}",
                    device.user,
                    device.name
                );
            }
        }
        for (number, send) in &self.sends {
            // Only its author may have heard of it where everybody it was for has tried it.
            let heard = numbers.contains(number)
                || self.devices.iter().enumerate().all(|(it, of)| {
                    let member = of.user == send.chat.0 || of.user == send.chat.1;
                    !member || send.tried.contains(&it)
                });
            assert!(!send.acknowledged || heard, "acknowledged and lost: send {number} {send:?}");
        }
    }
}

impl Device {
    /// A connection is over: what was not acknowledged may not have arrived.
    pub(crate) fn over(&mut self) {
        self.link = None;
        self.open = false;
        self.epoch += 1;
        self.heard.clear();
        self.unacknowledged.clear();
    }
}

/// A number in a JSON body.
pub(crate) fn field(body: &str, name: &str) -> Option<u64> {
    let rest = body.split(&format!("\"{name}\":")).nth(1)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// A string without escapes in a JSON body.
pub(crate) fn text(body: &str, name: &str) -> Option<String> {
    let rest = body.split(&format!("\"{name}\":\"")).nth(1)?;
    rest.split('"').next().map(str::to_owned)
}
