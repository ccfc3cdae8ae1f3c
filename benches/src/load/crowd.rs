//! The works `idle` and `churn`: connections that are held, and connections that come and go.

use std::time::{Duration, Instant};

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Mesh, Outs};
use crate::load::meter::Meter;
use crate::load::opening::{AT_ONCE, Door, Guest, Opening};
use crate::load::options::Options;
use crate::load::progress::Progress;
use crate::load::report::{Report, Settings};
use crate::load::template::Template;
use crate::load::verify::{Stamp, Verdict};
use crate::load::wire::{AckKind, Packet, QoS, put_ack, put_disconnect, put_subscribe};

const TURN: Duration = Duration::from_millis(20);

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// Connects, holds, and sees what it takes.
pub(crate) fn idle(options: &Options, meter: &mut Meter, clock: Clock) -> Result<Report, String> {
    let (door, count) = (Door::of(options)?, options.connections);
    let mut mesh = Mesh::new(options.version(), clock).map_err(text)?;
    let mut progress = Progress::new(options.work.name());
    let guest = |nth| Guest { name: format!("i{nth}"), clean: true, filter: None };
    let mut opening = Opening::new(&door, 0..count, &guest, clock);
    meter.begin();
    opening.complete(&mut mesh, AT_ONCE)?;
    meter.sample(count as u64, 0);
    let connect = meter.phase("connect", "connections", std::mem::take(&mut opening.connacks));
    let (began, end) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let mut hold = Hold { gone: 0 };
    meter.begin();
    while began.elapsed() < end {
        mesh.turn(TURN, &mut hold).map_err(text)?;
        meter.tick(count as u64, 0);
        progress.tell(count as u64, "held", began.elapsed(), Some(end));
    }
    meter.sample(count as u64 - hold.gone, 0);
    progress.end();
    let mut holding = meter.phase("hold", "connections", Latencies::default());
    // Nothing happens: there is no rate.
    holding.per_second = 0.0;
    let settings = Settings::of(options, format!("{count} connections"));
    let mut report = Report::new(settings, vec![connect, holding], Verdict::default(), 0);
    if hold.gone > 0 {
        report.verdict.lost = hold.gone;
        report.warnings.push(format!("{} connections were closed while they were held", hold.gone));
    }
    Ok(report)
}

struct Hold {
    gone: u64,
}

impl Actor for Hold {
    fn packet(&mut self, _at: usize, _packet: &Packet<'_>, _outs: &mut Outs, _now: u64) {}

    fn gone(&mut self, _at: usize, _why: &Gone) {
        self.gone += 1;
    }
}

/// A Client that comes, subscribes, publishes, hears itself and goes.
#[derive(Debug)]
struct Visitor {
    template: Template,
    topic: String,
    visits: u64,
    began: u64,
    /// What it still waits for: its own message, and the acknowledgement.
    heard: bool,
    answered: bool,
}

#[derive(Debug)]
struct Churn<'a> {
    options: &'a Options,
    clock: Clock,
    visitors: Vec<Visitor>,
    /// Those that have gone, and come again.
    away: Vec<usize>,
    visits: u64,
    delivered: u64,
    latencies: Latencies,
    verdict: Verdict,
    failed: Option<String>,
}

/// Has Clients come and go, and counts their visits.
pub(crate) fn churn(options: &Options, meter: &mut Meter, clock: Clock) -> Result<Report, String> {
    let (door, count) = (Door::of(options)?, options.connections);
    let mut mesh = Mesh::new(options.version(), clock).map_err(text)?;
    let mut progress = Progress::new(options.work.name());
    let visitor = |nth| Visitor {
        template: Template::new(door.version, options.qos, &door.topic(nth), options.payload),
        topic: door.topic(nth),
        visits: 0,
        began: 0,
        heard: false,
        answered: false,
    };
    let mut churn = Churn {
        options,
        clock,
        visitors: (0..count).map(visitor).collect(),
        away: (0..count).rev().collect(),
        visits: 0,
        delivered: 0,
        latencies: Latencies::default(),
        verdict: Verdict::default(),
        failed: None,
    };
    let (began, end) = (Instant::now(), Duration::from_secs_f64(options.seconds));
    let end = options.messages.is_none().then_some(end);
    let mut inside = 0;
    let (mut seen, mut since) = (0, Instant::now());
    meter.begin();
    loop {
        let over = end.is_some_and(|end| began.elapsed() >= end);
        while let Some(at) = churn.away.pop() {
            inside -= usize::from(churn.visits_of(at) > 0);
            let more = options.messages.is_none_or(|it| churn.visits_of(at) < it) && !over;
            if more {
                churn.come(&mut mesh, &door, at)?;
                inside += 1;
            }
        }
        if inside == 0 {
            break;
        }
        mesh.turn(TURN, &mut churn).map_err(text)?;
        if let Some(why) = churn.failed.take() {
            return Err(why);
        }
        meter.tick(churn.visits, churn.delivered);
        progress.tell(churn.visits, "visits", began.elapsed(), end);
        if seen != churn.visits {
            (seen, since) = (churn.visits, Instant::now());
        } else if since.elapsed() > options.patience() {
            // Those who are still inside miss their message, or the acknowledgement.
            churn.verdict.lost += inside as u64;
            break;
        }
    }
    meter.sample(churn.visits, churn.delivered);
    progress.end();
    let phase = meter.phase("churn", "visits", churn.latencies);
    let settings = Settings::of(options, format!("{count} at a time"));
    Ok(Report::new(settings, vec![phase], churn.verdict, 0))
}

impl Churn<'_> {
    fn visits_of(&self, at: usize) -> u64 {
        self.visitors.get(at).map_or(0, |it| it.visits)
    }

    fn come(&mut self, mesh: &mut Mesh, door: &Door, at: usize) -> Result<(), String> {
        let Some(visitor) = self.visitors.get_mut(at) else { return Ok(()) };
        (visitor.began, visitor.heard) = (self.clock.now(), false);
        visitor.answered = self.options.qos == QoS::AtMostOnce;
        // The ports of visits before are not free yet: each from another address.
        let host = Door::any_host(self.visits);
        let guest = Guest { name: format!("v{at}"), clean: true, filter: None };
        door.knock(mesh, at, host, &guest)
    }

    fn go_if_done(&mut self, at: usize, outs: &mut Outs, now: u64) {
        let Some(visitor) = self.visitors.get_mut(at) else { return };
        if !(visitor.heard && visitor.answered) {
            return;
        }
        visitor.visits += 1;
        // Not again for what comes behind.
        visitor.heard = false;
        self.visits += 1;
        self.latencies.record(now.saturating_sub(visitor.began));
        outs.put(at, put_disconnect);
        outs.end(at);
        self.away.push(at);
    }
}

impl Actor for Churn<'_> {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        let Some(visitor) = self.visitors.get_mut(at) else { return };
        let (stream, sequence) = (u32::try_from(at).unwrap_or(u32::MAX), visitor.visits);
        match *packet {
            Packet::Connack { code: 0, .. } => {
                let (version, qos) = (self.options.version(), self.options.qos);
                outs.put(at, |out| put_subscribe(out, version, &visitor.topic, qos));
            }
            Packet::Connack { code, .. } => {
                let why = || format!("connection {at}: CONNECT was refused with code {code:#04x}");
                self.failed.get_or_insert_with(why);
            }
            Packet::Suback { code } if code < 0x80 => {
                let stamp = Stamp { stream, sequence, due: now };
                outs.put(at, |out| visitor.template.put(out, 1, stamp));
            }
            Packet::Suback { code } => {
                let why =
                    || format!("connection {at}: SUBSCRIBE was refused with code {code:#04x}");
                self.failed.get_or_insert_with(why);
            }
            Packet::Publish { qos, packet_id, payload, .. } => {
                self.delivered += 1;
                match Stamp::read(payload) {
                    Some(it) if it.stream == stream && it.sequence == sequence => {
                        self.verdict.duplicates += u64::from(visitor.heard);
                        visitor.heard = true;
                    }
                    _ => self.verdict.foreign += 1,
                }
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => {
                        outs.put(at, |out| put_ack(out, AckKind::Puback, packet_id));
                    }
                    QoS::ExactlyOnce => {
                        outs.put(at, |out| put_ack(out, AckKind::Pubrec, packet_id));
                    }
                }
                self.go_if_done(at, outs, now);
            }
            Packet::Ack { kind: AckKind::Pubrec, packet_id, .. } => {
                outs.put(at, |out| put_ack(out, AckKind::Pubrel, packet_id));
            }
            Packet::Ack { kind: AckKind::Pubrel, packet_id, .. } => {
                outs.put(at, |out| put_ack(out, AckKind::Pubcomp, packet_id));
            }
            Packet::Ack { .. } => {
                visitor.answered = true;
                self.go_if_done(at, outs, now);
            }
            _ => {}
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        let why = || format!("connection {at} went in the middle of a visit: {why}");
        self.failed.get_or_insert_with(why);
    }
}
