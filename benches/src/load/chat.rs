//! The work `chat`, on Tidings only: pairs of users in direct chats, with ticks.
//!
//! Alice sends to `chat/@bob/send/ID`; Bob hears it below `me/json/`, acknowledges it, and Alice hears
//! in a receipt how far Bob is.

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Mesh, Outs};
use crate::load::meter::Meter;
use crate::load::opening::{Door, Guest, open_all};
use crate::load::options::Options;
use crate::load::progress::Progress;
use crate::load::report::{Report, Settings};
use crate::load::template::packet_id;
use crate::load::verify::{STAMP_BYTES, Stamp, Verdict, Verifier};
use crate::load::wire::{AckKind, Packet, QoS, Version, put_ack, put_publish};

const TURN: Duration = Duration::from_millis(20);
/// The sequence number of a stamp as text: the messages of a chat are text.
const STAMP_TEXT: usize = 2 * STAMP_BYTES;
/// What a view has before the text of a message.
pub(crate) const TEXT: &[u8] = b"\"text\":\"";
/// What a receipt has before the number up to which all is delivered.
const DELIVERED: &[u8] = b"\"delivered\":";

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// The bytes behind a word, wherever it stands.
pub(crate) fn behind<'a>(payload: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = payload.windows(word.len()).position(|it| it == word)?;
    payload.get(at + word.len()..)
}

/// The number at the start of some text.
fn number(digits: &[u8]) -> Option<u64> {
    let len = digits.iter().take_while(|it| it.is_ascii_digit()).count();
    std::str::from_utf8(digits.get(..len)?).ok()?.parse().ok()
}

/// Writes a stamp as text.
pub(crate) fn write_stamp(out: &mut Vec<u8>, stamp: Stamp) {
    for byte in stamp.bytes() {
        for digit in [byte >> 4, byte & 15] {
            out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
}

/// The stamp of a message, as a view has it.
pub(crate) fn stamp_of(view: &[u8]) -> Option<Stamp> {
    let hex = behind(view, TEXT)?.get(..STAMP_TEXT)?;
    let mut bytes = [0; STAMP_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Stamp::read(&bytes)
}

/// A direct chat, of which one side writes.
#[derive(Debug)]
struct Talk {
    verifier: Verifier,
    /// Whom Alice writes to.
    topic: String,
    /// Who she is, for Bob.
    alice: String,
    sent: u64,
    acked: u64,
    /// When those that have no tick yet were due.
    dues: VecDeque<u64>,
    listed: bool,
}

/// Connections: of each chat Alice, then Bob.
#[derive(Debug)]
struct Chats<'a> {
    options: &'a Options,
    version: Version,
    clock: Clock,
    window: u64,
    talks: Vec<Talk>,
    listed: Vec<usize>,
    sending: bool,
    /// How many Bobs have heard that Alice is no stranger.
    greeted: usize,
    began: u64,
    /// Of the open loop: the number of the next message.
    next_due: u64,
    sent: u64,
    delivered: u64,
    ticked: u64,
    refused: u64,
    /// Memory for what the next message is made of.
    topic: Vec<u8>,
    payload: Vec<u8>,
    deliveries: Latencies,
    ticks: Latencies,
    foreign: u64,
    failed: Option<String>,
}

/// Has pairs of users talk.
pub(crate) fn chat(options: &Options, meter: &mut Meter, clock: Clock) -> Result<Report, String> {
    if options.qos == QoS::AtMostOnce || options.payload < STAMP_TEXT {
        return Err(format!("chat: needs --qos 1 or 2, and --payload of at least {STAMP_TEXT}"));
    }
    let (door, pairs) = (Door { named: true, ..Door::of(options)? }, options.pairs);
    let mut mesh = Mesh::new(options.version(), clock).map_err(text)?;
    let guest = |at: usize| Guest {
        name: format!("{}{}", if at.is_multiple_of(2) { "a" } else { "b" }, at / 2),
        clean: false,
        filter: Some(("me/json/#".into(), QoS::AtLeastOnce)),
    };
    let receive_maximum = open_all(&mut mesh, &door, 0..2 * pairs, &guest, clock)?;
    let talk = |nth: usize| Talk {
        verifier: Verifier::default(),
        topic: format!("chat/@{}/send/", door.user_of(&guest(2 * nth + 1).name)),
        alice: door.user_of(&guest(2 * nth).name),
        sent: 0,
        acked: 0,
        dues: VecDeque::new(),
        listed: true,
    };
    let mut chats = Chats {
        options,
        version: options.version(),
        clock,
        window: (options.window() as u64).min(receive_maximum.into()),
        talks: (0..pairs).map(talk).collect(),
        listed: (0..pairs).collect(),
        sending: false,
        greeted: 0,
        began: clock.now(),
        next_due: 0,
        sent: 0,
        delivered: 0,
        ticked: 0,
        refused: 0,
        topic: Vec::new(),
        payload: Vec::new(),
        deliveries: Latencies::default(),
        ticks: Latencies::default(),
        foreign: 0,
        failed: None,
    };
    chats.talk(&mut mesh, meter)?;
    let mut verdict = Verdict { foreign: chats.foreign, ..Verdict::default() };
    chats.talks.iter().for_each(|talk| verdict.add(talk.verifier.verdict(talk.sent)));
    verdict.lost = verdict.lost.saturating_sub(chats.refused);
    let mut ticks = meter.phase("ticks", "messages", std::mem::take(&mut chats.ticks));
    // The same time, of which everything else is said already.
    (ticks.broker, ticks.others_percent, ticks.points) = (None, None, Vec::new());
    let chat = meter.phase("chat", "messages", std::mem::take(&mut chats.deliveries));
    let phases = vec![chat, ticks];
    (0..2 * pairs).for_each(|at| mesh.close(at));
    let clean = |at| Guest { clean: true, filter: None, ..guest(at) };
    open_all(&mut mesh, &door, 0..2 * pairs, &clean, clock)?;
    let settings = Settings::of(options, format!("{pairs} direct chats"));
    let mut report = Report::new(settings, phases, verdict, chats.refused);
    let without = chats.delivered.saturating_sub(chats.ticked + verdict.duplicates);
    if without > 0 {
        report.warnings.push(format!("{without} messages were delivered without a tick"));
    }
    Ok(report)
}

impl Chats<'_> {
    /// Until the time is over, or all is said, and all that was said has its tick.
    fn talk(&mut self, mesh: &mut Mesh, meter: &mut Meter) -> Result<(), String> {
        let mut progress = Progress::new(self.options.work.name());
        let (began, end) = (Instant::now(), Duration::from_secs_f64(self.options.seconds));
        let end = self.options.messages.is_none().then_some(end);
        let (mut seen, mut since) = (0, Instant::now());
        self.greet(mesh)?;
        self.sending = true;
        self.talks.iter_mut().for_each(|talk| talk.listed = true);
        self.listed = (0..self.talks.len()).collect();
        self.began = self.clock.now();
        meter.begin();
        self.turn_end(mesh.outs());
        loop {
            if let Some(wait) = self.next_wait() {
                mesh.wake_in(wait).map_err(text)?;
            }
            mesh.turn(TURN, self).map_err(text)?;
            if let Some(why) = self.failed.take() {
                return Err(why);
            }
            let over = end.is_some_and(|end| began.elapsed() >= end) || self.all_sent();
            if over && self.sending {
                self.sending = false;
            }
            meter.tick(self.sent, self.delivered);
            progress.tell(self.sent, "messages", began.elapsed(), end);
            let now = self.delivered + self.ticked + self.sent;
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            if !self.sending && (self.all_ticked() || since.elapsed() > self.options.patience()) {
                break;
            }
        }
        meter.sample(self.sent, self.delivered);
        progress.end();
        Ok(())
    }

    /// Each Bob accepts his Alice: a stranger hears no ticks.
    fn greet(&mut self, mesh: &mut Mesh) -> Result<(), String> {
        for nth in 0..self.talks.len() {
            let Some(talk) = self.talks.get(nth) else { continue };
            let accept = format!(r#"{{"accept":["{}"]}}"#, talk.alice);
            let (version, with) = (self.version, (QoS::AtLeastOnce, packet_id(0)));
            let put = |out: &mut Vec<u8>| {
                put_publish(out, version, with, b"me/state", accept.as_bytes());
            };
            mesh.outs().put(2 * nth + 1, put);
        }
        let since = Instant::now();
        while self.greeted < self.talks.len() {
            mesh.wake_in(Duration::from_millis(10)).map_err(text)?;
            mesh.turn(TURN, self).map_err(text)?;
            if let Some(why) = self.failed.take() {
                return Err(why);
            }
            if since.elapsed() > self.options.patience() {
                return Err("not every user could accept the other: is this Tidings?".into());
            }
        }
        Ok(())
    }

    fn all_sent(&self) -> bool {
        let most = self.options.messages;
        most.is_some_and(|most| self.talks.iter().all(|talk| talk.sent >= most))
    }

    fn all_ticked(&self) -> bool {
        self.talks.iter().all(|talk| talk.dues.is_empty() && talk.acked == talk.sent)
    }

    /// When a message of the open loop is due.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers and times of a run are far below 2^52"
    )]
    fn due_at(&self, nth: u64) -> Option<u64> {
        Some(self.began + (nth as f64 * 1e9 / self.options.rate?) as u64)
    }

    fn next_wait(&self) -> Option<Duration> {
        let at = self.due_at(self.next_due).filter(|_| self.sending)?;
        let wait = Duration::from_nanos(at.saturating_sub(self.clock.now()));
        Some(wait.max(Duration::from_micros(50)))
    }

    /// How many messages a chat may send now.
    fn room(&self, nth: usize) -> u64 {
        let Some(talk) = self.talks.get(nth) else { return 0 };
        let done = talk.acked.min(talk.verifier.next());
        let room = self.window.saturating_sub(talk.sent.saturating_sub(done));
        self.options.messages.map_or(room, |most| room.min(most.saturating_sub(talk.sent)))
    }

    fn say(&mut self, nth: usize, due: u64, outs: &mut Outs) {
        let Some(talk) = self.talks.get_mut(nth) else { return };
        let stream = u32::try_from(nth).unwrap_or(u32::MAX);
        self.payload.clear();
        write_stamp(&mut self.payload, Stamp { stream, sequence: talk.sent, due });
        self.payload.resize(self.options.payload, b'.');
        self.topic.clear();
        self.topic.extend_from_slice(talk.topic.as_bytes());
        // Writing to memory does not fail.
        let _ = write!(self.topic, "{}", talk.sent);
        let with = (self.options.qos, packet_id(talk.sent));
        let (version, topic, payload) = (self.version, &self.topic, &self.payload);
        outs.put(2 * nth, |out| put_publish(out, version, with, topic, payload));
        talk.dues.push_back(due);
        talk.sent += 1;
        self.sent += 1;
    }

    /// Something below `me/json/`.
    fn hear(&mut self, at: usize, topic: &[u8], payload: &[u8], now: u64) {
        let nth = at / 2;
        let Some(talk) = self.talks.get_mut(nth) else { return };
        if topic.ends_with(b"/message") {
            self.delivered += 1;
            let stamp = stamp_of(payload);
            match stamp.filter(|it| usize::try_from(it.stream) == Ok(nth) && at % 2 == 1) {
                Some(stamp) => {
                    talk.verifier.take(stamp.sequence);
                    self.deliveries.record(now.saturating_sub(stamp.due));
                }
                None => self.foreign += 1,
            }
        } else if topic.ends_with(b"/receipt") {
            // Numbers of a chat count from 1, and nobody has talked in it before.
            let Some(through) = behind(payload, DELIVERED).and_then(number) else { return };
            let first = talk.sent - talk.dues.len() as u64;
            for _ in first..through {
                let Some(due) = talk.dues.pop_front() else { break };
                self.ticks.record(now.saturating_sub(due));
                self.ticked += 1;
            }
        } else if topic.ends_with(b"/error") {
            self.refused += 1;
        }
    }
}

impl Actor for Chats<'_> {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        match *packet {
            Packet::Publish { qos, packet_id, topic, payload } => {
                if qos != QoS::AtMostOnce {
                    outs.put(at, |out| put_ack(out, AckKind::Puback, packet_id));
                }
                self.hear(at, topic, payload, now);
            }
            Packet::Ack { kind: AckKind::Pubrec, packet_id, code } if code < 0x80 => {
                return outs.put(at, |out| put_ack(out, AckKind::Pubrel, packet_id));
            }
            Packet::Ack { .. } if at % 2 == 1 => self.greeted += 1,
            Packet::Ack { code, .. } => {
                // What is refused is told in words as well, which are counted.
                let refused = code >= 0x80;
                if let Some(talk) = self.talks.get_mut(at / 2) {
                    talk.acked += 1;
                    if refused {
                        talk.dues.pop_back();
                    }
                }
            }
            Packet::Disconnect { code } => {
                let why =
                    || format!("connection {at}: the broker says DISCONNECT, code {code:#04x}");
                self.failed.get_or_insert_with(why);
            }
            _ => return,
        }
        if let Some(talk) = self.talks.get_mut(at / 2)
            && !std::mem::replace(&mut talk.listed, true)
        {
            self.listed.push(at / 2);
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        let why = || format!("connection {at} went in the middle of a chat: {why}");
        self.failed.get_or_insert_with(why);
    }

    fn turn_end(&mut self, outs: &mut Outs) {
        let now = self.clock.now();
        let mut listed = std::mem::take(&mut self.listed);
        for nth in listed.drain(..) {
            if let Some(talk) = self.talks.get_mut(nth) {
                talk.listed = false;
            }
            if self.sending && self.options.rate.is_none() {
                (0..self.room(nth)).for_each(|_| self.say(nth, now, outs));
            }
        }
        self.listed = listed;
        while self.sending
            && let Some(due) = self.due_at(self.next_due).filter(|due| *due <= now)
        {
            let nth = usize::try_from(self.next_due).unwrap_or_default() % self.talks.len().max(1);
            if self.room(nth) == 0 && !self.all_sent() {
                break;
            }
            if self.room(nth) > 0 {
                self.say(nth, due, outs);
            }
            self.next_due += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_a_view() {
        let stamp = Stamp { stream: 3, sequence: 77, due: u64::MAX / 3 };
        let mut view = br#"{"seq":78,"from":"a","time":1,"id":"77","text":""#.to_vec();
        write_stamp(&mut view, stamp);
        view.extend_from_slice(b"...\"}");
        assert_eq!(stamp_of(&view), Some(stamp));
        assert_eq!(stamp_of(b"{\"text\":\"short\"}"), None);
    }

    #[test]
    fn a_receipt_says_how_far_bob_is() {
        let receipt = br#"{"user":"bob","delivered":1842,"read":1839}"#;
        assert_eq!(behind(receipt, DELIVERED).and_then(number), Some(1842));
        assert_eq!(behind(b"{}", DELIVERED).and_then(number), None);
    }
}
