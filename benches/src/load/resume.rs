//! The work `resume`, on Tidings only: a user of many chats comes back to all that was written meanwhile.
//!
//! She has written once to everybody, so that nobody is a stranger. Then she goes; everybody writes to
//! her; she comes back with her session, and does nothing but acknowledge. Counted is from connecting:
//! to the first thing that comes, to each entry, and so to the last.

use std::time::Instant;

use crate::load::chat::{TEXT, behind, stamp_of, write_stamp};
use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Outs};
use crate::load::meter::Meter;
use crate::load::opening::{Door, Guest, Opening, open_all};
use crate::load::options::Options;
use crate::load::report::{Report, Settings};
use crate::load::sessions::{Patience, Run, TURN, text};
use crate::load::template::packet_id;
use crate::load::verify::{Stamp, Verdict, Verifier};
use crate::load::wire::{AckKind, Packet, QoS, put_ack, put_publish};

/// Messages of each chat, if it is not said.
const MESSAGES: u64 = 20;

/// She is connection 0, and the others are those behind it.
struct Chats<'a> {
    options: &'a Options,
    clock: Clock,
    verifiers: Vec<Verifier>,
    acknowledged: u64,
    refused: u64,
    entries: u64,
    batches: u64,
    /// When she began to connect.
    began: u64,
    first: Latencies,
    each: Latencies,
    failed: Option<String>,
}

/// Has her come back.
pub(crate) fn resume(options: &Options, meter: &mut Meter, clock: Clock) -> Result<Report, String> {
    let door = Door { named: true, ..Door::of(options)? };
    let (chats, messages) = (options.sessions, options.messages.unwrap_or(MESSAGES));
    let mut run = Run::new(options, &door, meter, clock)?;
    let all = chats as u64 * messages;
    let her = |_: usize| Guest {
        name: "her".into(),
        clean: false,
        filter: Some(("me/json/#".into(), QoS::AtLeastOnce)),
    };
    let other = |nth: usize| Guest { name: format!("c{nth}"), clean: true, filter: None };
    let mut work = Chats {
        options,
        clock,
        verifiers: vec![Verifier::default(); chats],
        acknowledged: 0,
        refused: 0,
        entries: 0,
        batches: 0,
        began: 0,
        first: Latencies::default(),
        each: Latencies::default(),
        failed: None,
    };
    open_all(&mut run.mesh, &door, 0..1, &her, clock)?;
    // Several entries in one message, for this session.
    work.say(&mut run, 0, 1, "me/state", br#"{"batch":true}"#);
    let mut hellos = 1;
    for nth in 0..chats {
        hellos += 1;
        let topic = format!("chat/@{}/send/hello", door.user_of(&other(nth).name));
        work.say(&mut run, 0, hellos, &topic, b"hello");
        if hellos % AT_ONCE == 0 || nth + 1 == chats {
            work.until(&mut run, |work| work.acknowledged == hellos)?;
        }
    }
    run.leave(0..1)?;
    // Acknowledgements of hers may have come in the same breath.
    work.acknowledged = 0;
    open_all(&mut run.mesh, &door, 1..chats + 1, &other, clock)?;
    run.meter.begin();
    for sequence in 0..messages {
        for nth in 0..chats {
            work.write(&mut run, &door, nth, sequence);
        }
        work.until(&mut run, |work| work.acknowledged == (sequence + 1) * chats as u64)?;
    }
    run.meter.sample(all, 0);
    run.end_phase("write", "messages", Latencies::default());
    run.leave(1..chats + 1)?;
    if let Some(command) = &options.restart {
        run.restart(command)?;
    }
    let known = |nth: usize| Guest { filter: None, ..her(nth) };
    let mut opening = Opening::new(&door, 0..1, &known, clock);
    opening.insists = options.restart.is_some();
    run.meter.begin();
    opening.more(&mut run.mesh, 1)?;
    work.began = opening.began().first().copied().unwrap_or_default();
    let mut patience = Patience::new(options.patience());
    while work.entries < all {
        opening.more(&mut run.mesh, 1)?;
        run.mesh.turn(TURN, &mut Back(&mut opening, &mut work)).map_err(text)?;
        work.failed.take().map_or(Ok(()), Err)?;
        opening.all_open()?;
        if !patience.goes_on(work.entries) {
            break;
        }
    }
    run.meter.sample(work.entries, work.batches);
    let (first, each) = (std::mem::take(&mut work.first), std::mem::take(&mut work.each));
    run.end_phase("entries", "entries", each);
    run.end_phase("first", "messages", first);
    if let Some(first) = run.phases.last_mut() {
        // The same time, of which everything else is said already.
        (first.broker, first.others_percent, first.points) = (None, None, Vec::new());
    }
    let leave = |nth: usize| Guest { clean: true, filter: None, ..her(nth) };
    run.mesh.close(0);
    open_all(&mut run.mesh, &door, 0..1, &leave, clock)?;
    let mut verdict = Verdict::default();
    work.verifiers.iter().for_each(|it| verdict.add(it.verdict(messages)));
    let clients =
        format!("{chats} chats, {messages} waiting in each, in {} messages", work.batches);
    Ok(Report::new(Settings::of(options, clients), run.phases, verdict, work.refused))
}

impl Chats<'_> {
    fn say(&self, run: &mut Run<'_>, at: usize, number: u64, topic: &str, payload: &[u8]) {
        let (version, with) = (self.options.version(), (QoS::AtLeastOnce, packet_id(number)));
        let put = |out: &mut Vec<u8>| put_publish(out, version, with, topic.as_bytes(), payload);
        run.mesh.outs().put(at, put);
    }

    fn write(&self, run: &mut Run<'_>, door: &Door, nth: usize, sequence: u64) {
        let stream = u32::try_from(nth).unwrap_or(u32::MAX);
        let mut payload = Vec::with_capacity(self.options.payload);
        write_stamp(&mut payload, Stamp { stream, sequence, due: self.clock.now() });
        payload.resize(self.options.payload.max(payload.len()), b'.');
        let topic = format!("chat/@{}/send/m{sequence}", door.user_of("her"));
        self.say(run, nth + 1, sequence + 1, &topic, &payload);
    }

    fn until(&mut self, run: &mut Run<'_>, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let (mut patience, began) = (Patience::new(self.options.patience()), Instant::now());
        while !done(self) {
            run.mesh.turn(TURN, self).map_err(text)?;
            self.failed.take().map_or(Ok(()), Err)?;
            run.progress.tell(self.acknowledged, "acknowledged", began.elapsed(), None);
            if !patience.goes_on(self.acknowledged) {
                return Err(format!("only {} messages were acknowledged", self.acknowledged));
            }
        }
        Ok(())
    }

    /// A message or several, of which each has a stamp.
    fn hear(&mut self, mut view: &[u8], now: u64) {
        let since = now.saturating_sub(self.began);
        let before = self.entries;
        while let Some(stamp) = stamp_of(view) {
            if let Some(verifier) = self.verifiers.get_mut(stamp.stream as usize) {
                verifier.take(stamp.sequence);
                self.each.record(since);
                self.entries += 1;
            }
            view = behind(view, TEXT).unwrap_or_default();
        }
        if self.entries > before {
            if before == 0 {
                self.first.record(since);
            }
            self.batches += 1;
        }
    }
}

impl Actor for Chats<'_> {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        match *packet {
            Packet::Publish { qos, packet_id, payload, .. } => {
                if qos != QoS::AtMostOnce {
                    outs.put(at, |out| put_ack(out, AckKind::Puback, packet_id));
                }
                self.hear(payload, now);
            }
            Packet::Ack { code, .. } => {
                self.acknowledged += 1;
                self.refused += u64::from(code >= 0x80);
            }
            _ => {}
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        self.failed.get_or_insert_with(|| format!("connection {at} went: {why}"));
    }
}

/// She connects, and hears.
struct Back<'a, 'b>(&'a mut Opening<'b>, &'a mut Chats<'b>);

impl Actor for Back<'_, '_> {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        match packet {
            Packet::Connack { .. } => self.0.packet(at, packet, outs, now),
            _ => self.1.packet(at, packet, outs, now),
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        self.0.gone(at, why);
    }
}

/// How many messages of hers wait for their acknowledgement.
const AT_ONCE: u64 = 50;
