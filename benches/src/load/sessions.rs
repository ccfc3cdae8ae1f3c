//! The works `offline` and `storm`: persistent sessions that go and come back.

use std::net::TcpStream;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Mesh, Outs};
use crate::load::meter::{Meter, Phase};
use crate::load::opening::{AT_ONCE, Door, Guest, Opening, open_all};
use crate::load::options::Options;
use crate::load::post::{Both, Post};
use crate::load::process;
use crate::load::progress::Progress;
use crate::load::report::{Report, Settings};
use crate::load::wire::{Packet, QoS, put_disconnect};

/// Messages for each session, if it is not said.
const MESSAGES: u64 = 100;
/// How long a broker may take to come back.
const RESTART_PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const TURN: Duration = Duration::from_millis(20);

/// What all steps of such a work share.
pub(crate) struct Run<'a> {
    pub(crate) options: &'a Options,
    pub(crate) door: &'a Door,
    pub(crate) meter: &'a mut Meter,
    clock: Clock,
    pub(crate) mesh: Mesh,
    pub(crate) progress: Progress,
    pub(crate) phases: Vec<Phase>,
}

/// Stores for sessions that are away, and lets them fetch it.
pub(crate) fn offline(
    options: &Options,
    meter: &mut Meter,
    clock: Clock,
) -> Result<Report, String> {
    if options.qos == QoS::AtMostOnce {
        return Err("offline: nothing is stored with QoS 0; use --qos 1 or 2".into());
    }
    let door = Door::of(options)?;
    let mut run = Run::new(options, &door, meter, clock)?;
    let (sessions, together) = (options.sessions, options.together);
    let writers = if together { 1 } else { options.pairs.min(sessions) };
    let mut post = Post::new(options, &door, clock, writers);
    run.subscribe()?;
    run.leave(0..sessions)?;
    run.writers(&mut post, writers)?;
    run.send(&mut post, "store", options.messages.unwrap_or(MESSAGES))?;
    run.leave(sessions..sessions + writers)?;
    if let Some(command) = &options.restart {
        run.restart(command)?;
    }
    run.fetch(&mut post)?;
    run.forget()?;
    let topics = if together { " to one topic" } else { "" };
    let clients = format!("{sessions} sessions{topics}, {writers} publishers");
    Ok(run.report(clients, &post, 0))
}

/// Has all sessions come back at once, and sees that each of them is served then.
pub(crate) fn storm(options: &Options, meter: &mut Meter, clock: Clock) -> Result<Report, String> {
    let door = Door::of(options)?;
    let mut run = Run::new(options, &door, meter, clock)?;
    let (sessions, writers) = (options.sessions, options.pairs.min(options.sessions));
    let mut post = Post::new(options, &door, clock, writers);
    run.subscribe()?;
    // As when the network goes: nobody says DISCONNECT.
    (0..sessions).for_each(|at| run.mesh.close(at));
    let turned_away = run.all_at_once()?;
    run.writers(&mut post, writers)?;
    run.send(&mut post, "deliver", options.messages.unwrap_or(1))?;
    run.forget()?;
    let clients = format!("{sessions} sessions");
    Ok(run.report(clients, &post, turned_away))
}

/// Who a session belongs to.
fn member(door: &Door, options: &Options, nth: usize) -> Guest {
    let topic = if options.together { 0 } else { nth };
    let filter = Some((door.topic(topic), options.qos));
    Guest { name: format!("s{nth}"), clean: false, filter }
}

pub(crate) fn text(error: std::io::Error) -> String {
    error.to_string()
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        options: &'a Options,
        door: &'a Door,
        meter: &'a mut Meter,
        clock: Clock,
    ) -> Result<Self, String> {
        let mesh = Mesh::new(options.version(), clock).map_err(text)?;
        let progress = Progress::new(options.work.name());
        Ok(Self { options, door, meter, clock, mesh, progress, phases: Vec::new() })
    }

    pub(crate) fn end_phase(
        &mut self,
        name: &'static str,
        unit: &'static str,
        latencies: Latencies,
    ) {
        self.progress.end();
        self.phases.push(self.meter.phase(name, unit, latencies));
    }

    /// Every session comes for the first time.
    fn subscribe(&mut self) -> Result<(), String> {
        let (door, sessions) = (self.door, self.options.sessions);
        let guest = |nth| member(door, self.options, nth);
        let mut opening = Opening::new(door, 0..sessions, &guest, self.clock);
        self.meter.begin();
        opening.complete(&mut self.mesh, AT_ONCE)?;
        self.meter.sample(sessions as u64, 0);
        self.end_phase("come", "sessions", opening.connacks);
        Ok(())
    }

    /// These say DISCONNECT, and go when the broker has closed.
    pub(crate) fn leave(&mut self, which: Range<usize>) -> Result<(), String> {
        which.clone().for_each(|at| self.mesh.outs().put(at, put_disconnect));
        let until = Instant::now() + self.options.patience();
        while which.clone().any(|at| self.mesh.is_open(at)) && Instant::now() < until {
            self.mesh.turn(TURN, &mut Deaf).map_err(text)?;
        }
        which.for_each(|at| self.mesh.close(at));
        Ok(())
    }

    fn writers(&mut self, post: &mut Post, writers: usize) -> Result<(), String> {
        let guest = |nth| Guest { name: format!("w{nth}"), clean: true, filter: None };
        let first = self.options.sessions;
        let which = first..first + writers;
        let mut opening = Opening::new(self.door, which, &guest, self.clock);
        while !opening.all_open()? {
            opening.more(&mut self.mesh, AT_ONCE)?;
            self.mesh.turn(TURN, &mut Both(&mut opening, post)).map_err(text)?;
        }
        post.receive_maximum(opening.receive_maximum);
        Ok(())
    }

    /// Publishes, until everything is acknowledged; and has come, where somebody is there.
    fn send(&mut self, post: &mut Post, name: &'static str, messages: u64) -> Result<(), String> {
        let (there, began) = (self.mesh.is_open(0), Instant::now());
        self.meter.begin();
        post.more(messages, self.mesh.outs());
        let mut patience = Patience::new(self.options.patience());
        while !post.all_sent()? || (there && !post.all_came()?) {
            self.mesh.turn(TURN, post).map_err(text)?;
            let (sent, came) = (post.acknowledged, post.delivered);
            self.meter.tick(sent, came);
            self.progress.tell(sent, "acknowledged", began.elapsed(), None);
            if !patience.goes_on(sent + came) {
                if !post.all_sent()? {
                    return Err(format!(
                        "only {sent} messages were acknowledged, and no more come"
                    ));
                }
                break;
            }
        }
        self.meter.sample(post.acknowledged, post.delivered);
        self.end_phase(name, "messages", std::mem::take(&mut post.acks));
        Ok(())
    }

    /// Runs the command, and waits until the broker is there again.
    pub(crate) fn restart(&mut self, command: &str) -> Result<(), String> {
        let (old, port) = (self.meter.pid, self.door.address.port());
        let mut shell = Command::new("sh");
        if let Some(pid) = old {
            shell.env("BROKER_PID", pid.to_string());
        }
        if self.options.kill {
            process::kill(old.ok_or("--kill: the broker's process is not known; give --pid")?)?;
        }
        // Ours is for the report.
        let run = shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null()).status();
        let status = run.map_err(|error| format!("--restart: {error}"))?;
        if !status.success() {
            return Err(format!("--restart: the command ended with {status}"));
        }
        self.meter.pid = None;
        self.meter.begin();
        let until = Instant::now() + RESTART_PATIENCE;
        while TcpStream::connect(self.door.address).is_err() {
            if Instant::now() > until {
                return Err(format!("--restart: nobody listens on {} any more", self.door.address));
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.meter.sample(1, 0);
        self.end_phase("restart", "restart", Latencies::default());
        if let Some(restart) = self.phases.last_mut() {
            // There is one, which has no rate.
            restart.per_second = 0.0;
        }
        self.meter.pid = process::listener(port);
        Ok(())
    }

    /// All sessions come, and take what there is for them.
    fn fetch(&mut self, post: &mut Post) -> Result<(), String> {
        let (door, began) = (self.door, Instant::now());
        let guest = |nth| Guest { filter: None, ..member(door, self.options, nth) };
        let mut opening = Opening::new(door, 0..self.options.sessions, &guest, self.clock);
        // A broker that has just come back may turn somebody away.
        opening.insists = self.options.restart.is_some();
        let mut patience = Patience::new(self.options.patience());
        self.meter.begin();
        while !(opening.all_open()? && post.all_came()?) {
            opening.more(&mut self.mesh, AT_ONCE)?;
            if !opening.all_open()? {
                // Those who come are timed from here on.
                post.began.clear();
                post.began.extend_from_slice(opening.began());
            }
            self.mesh.turn(TURN, &mut Both(&mut opening, post)).map_err(text)?;
            self.meter.tick(post.delivered, post.delivered);
            self.progress.tell(post.delivered, "fetched", began.elapsed(), None);
            if !patience.goes_on(post.delivered + opening.open() as u64) {
                break;
            }
        }
        self.meter.sample(post.delivered, post.delivered);
        self.end_phase("drain", "deliveries", std::mem::take(&mut post.drains));
        Ok(())
    }

    /// Everybody connects in the same moment; how often somebody was turned away.
    fn all_at_once(&mut self) -> Result<u64, String> {
        let (door, sessions) = (self.door, self.options.sessions);
        let guest = |nth| Guest { filter: None, ..member(door, self.options, nth) };
        let mut opening = Opening::new(door, 0..sessions, &guest, self.clock);
        // So many come from many places: brokers have bounds for what one address may do.
        opening.spread = true;
        (opening.insists, opening.due) = (true, Some(self.clock.now()));
        self.meter.begin();
        opening.complete(&mut self.mesh, usize::MAX)?;
        self.meter.sample(sessions as u64, 0);
        let (present, refused) = (opening.present, opening.refused);
        self.end_phase("storm", "connections", opening.connacks);
        if present < sessions as u64 {
            return Err(format!("{present} of {sessions} sessions were still there"));
        }
        Ok(refused)
    }

    /// Leaves no sessions behind.
    fn forget(&mut self) -> Result<(), String> {
        let (door, sessions) = (self.door, self.options.sessions);
        (0..sessions).for_each(|at| self.mesh.close(at));
        let guest = |nth| Guest { clean: true, filter: None, ..member(door, self.options, nth) };
        open_all(&mut self.mesh, door, 0..sessions, &guest, self.clock)?;
        Ok(())
    }

    fn report(self, clients: String, post: &Post, turned_away: u64) -> Report {
        let settings = Settings::of(self.options, clients);
        Report::new(settings, self.phases, post.verdict(), post.refused + turned_away)
    }
}

/// Hears nothing.
struct Deaf;

impl Actor for Deaf {
    fn packet(&mut self, _at: usize, _packet: &Packet<'_>, _outs: &mut Outs, _now: u64) {}

    fn gone(&mut self, _at: usize, _why: &Gone) {}
}

/// Waits for something to go on.
pub(crate) struct Patience {
    seen: u64,
    since: Instant,
    most: Duration,
}

impl Patience {
    pub(crate) fn new(most: Duration) -> Self {
        Self { seen: 0, since: Instant::now(), most }
    }

    pub(crate) fn goes_on(&mut self, seen: u64) -> bool {
        if seen != self.seen {
            (self.seen, self.since) = (seen, Instant::now());
        }
        self.since.elapsed() <= self.most
    }
}
