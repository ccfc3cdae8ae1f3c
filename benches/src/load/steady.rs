//! The works `pair` and `fanout`: publishers and subscribers that stay.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::Mesh;
use crate::load::meter::Meter;
use crate::load::opening::{AT_ONCE, Door, Guest, Opening, open_all};
use crate::load::options::{Options, Work};
use crate::load::progress::Progress;
use crate::load::report::{Report, Settings};
use crate::load::stage::{Counters, Stage};
use crate::load::traffic::{Outcome, Style, Traffic};
use crate::load::verify::Verdict;

/// How often samples are taken.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// The groups of a run: how many, and with how many subscribers each.
#[derive(Debug, Clone, Copy)]
struct Cast {
    groups: usize,
    members: usize,
}

/// What a thread says.
enum Said {
    Ready,
    /// All messages that were to be counted are sent and came.
    Finished,
    Ended(Result<Outcome, String>),
}

/// What a thread is given.
struct Part<'a> {
    door: &'a Door,
    style: Style,
    cast: Cast,
    /// The groups that are its.
    groups: Range<usize>,
    persistent: bool,
    clock: Clock,
    counters: &'a Counters,
    stage: &'a Stage,
}

impl Part<'_> {
    /// Who connection `at` of this thread is: the subscribers of a group, then its publisher.
    fn guest(&self, at: usize) -> Guest {
        let size = self.cast.members + 1;
        let (group, place) = (self.groups.start + at / size, at % size);
        let member = place < self.cast.members;
        Guest {
            name: format!("g{group}m{place}"),
            clean: !(member && self.persistent),
            filter: member.then(|| (self.door.topic(group), self.style.qos)),
        }
    }

    fn run(&self, said: &Sender<Said>) -> Result<Outcome, String> {
        let mut mesh = Mesh::new(self.style.version, self.clock).map_err(|it| it.to_string())?;
        let size = self.cast.members + 1;
        let all = 0..self.groups.len() * size;
        let guest = |at| self.guest(at);
        let receive_maximum = open_all(&mut mesh, self.door, all.clone(), &guest, self.clock)?;
        let mut style = self.style;
        if style.qos.bits() > 0 {
            style.window = style.window.min(receive_maximum.into());
        }
        let mut traffic = Traffic::new(style, self.clock, self.counters);
        for (nth, group) in self.groups.clone().enumerate() {
            let stream = u32::try_from(group).unwrap_or(u32::MAX);
            traffic.add(stream, &self.door.topic(group), nth * size..nth * size + size - 1);
        }
        // Nobody listens any more if another thread failed.
        let _ = said.send(Said::Ready);
        let outcome = traffic.run(&mut mesh, self.stage, || {
            let _ = said.send(Said::Finished);
        })?;
        if self.persistent {
            all.clone().for_each(|at| mesh.close(at));
            let clean = |at| Guest { clean: true, filter: None, ..self.guest(at) };
            Opening::new(self.door, all, &clean, self.clock).complete(&mut mesh, AT_ONCE)?;
        }
        Ok(outcome)
    }
}

/// Does the work and says how it went.
pub(crate) fn run(options: &Options, meter: &mut Meter, clock: Clock) -> Result<Report, String> {
    let cast = match options.work {
        Work::Fanout => Cast { groups: 1, members: options.members },
        _ => Cast { groups: options.pairs, members: 1 },
    };
    let threads = options.threads.min(cast.groups);
    let style = Style {
        version: options.version(),
        qos: options.qos,
        payload: options.payload,
        window: options.window() as u64,
        batch: options.batch.unwrap_or(u64::MAX),
        messages: options.messages,
        #[expect(clippy::cast_precision_loss, reason = "there are few threads")]
        interval_ns: options.rate.map(|rate| 1e9 * threads as f64 / rate),
        patience: options.patience(),
    };
    let (door, stage) = (Door::of(options)?, Stage::default());
    let counters: Vec<_> = (0..threads).map(|_| Counters::default()).collect();
    let (said, hear) = channel();
    let outcome = thread::scope(|scope| {
        for (nth, counters) in counters.iter().enumerate() {
            let groups = cast.groups * nth / threads..cast.groups * (nth + 1) / threads;
            let persistent = options.persistent;
            let (door, stage, said) = (&door, &stage, said.clone());
            let part = Part { door, style, cast, groups, persistent, clock, counters, stage };
            scope.spawn(move || {
                let ended = part.run(&said);
                // The one who listens waits for as many of these as there are threads.
                let _ = said.send(Said::Ended(ended));
            });
        }
        let outcome = Conductor { options, meter, stage: &stage, counters: &counters, hear }.run();
        // Whatever happened, no thread is to go on.
        stage.set(Stage::DRAIN);
        outcome
    })?;
    let phase = meter.phase("traffic", "messages", outcome.latencies);
    let clients = match options.work {
        Work::Fanout => format!("1 to {}", cast.members),
        _ => format!("{} pairs", cast.groups),
    };
    let settings = Settings::of(options, clients);
    Ok(Report::new(settings, vec![phase], outcome.verdict, outcome.refused))
}

/// The thread that says when what begins, and measures.
struct Conductor<'a> {
    options: &'a Options,
    meter: &'a mut Meter,
    stage: &'a Stage,
    counters: &'a [Counters],
    hear: Receiver<Said>,
}

impl Conductor<'_> {
    fn counted(&self) -> (u64, u64) {
        use std::sync::atomic::Ordering::Relaxed;
        let sent = self.counters.iter().map(|it| it.sent.load(Relaxed)).sum();
        (sent, self.counters.iter().map(|it| it.delivered.load(Relaxed)).sum())
    }

    /// Waits for all threads to say the same.
    fn all(&self, wanted: fn(&Said) -> bool) -> Result<(), String> {
        let mut missing = self.counters.len();
        while missing > 0 {
            match self.hear.recv().map_err(|_| "a thread of the generator is gone")? {
                said if wanted(&said) => missing -= 1,
                Said::Ended(Err(why)) => return Err(why),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes samples until the time is over or all have finished.
    fn watch(&mut self, progress: &mut Progress) -> Result<(), String> {
        let (clock, seconds) = (std::time::Instant::now(), self.options.seconds);
        let end = self.options.messages.is_none().then(|| Duration::from_secs_f64(seconds));
        let mut missing = self.counters.len();
        loop {
            let left = end.map(|end| end.saturating_sub(clock.elapsed()));
            let wait = left.unwrap_or(SAMPLE_EVERY).min(SAMPLE_EVERY);
            match self.hear.recv_timeout(wait) {
                Ok(Said::Finished) => missing -= 1,
                Ok(Said::Ended(Err(why))) => return Err(why),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let (sent, delivered) = self.counted();
                    self.meter.sample(sent, delivered);
                    progress.tell(sent, "messages", clock.elapsed(), end);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the threads of the generator are gone".into());
                }
            }
            if missing == 0 || end.is_some_and(|end| clock.elapsed() >= end) {
                let (sent, delivered) = self.counted();
                self.meter.sample(sent, delivered);
                return Ok(());
            }
        }
    }

    fn run(mut self) -> Result<Outcome, String> {
        let mut progress = Progress::new(self.options.work.name());
        self.all(|said| matches!(said, Said::Ready))?;
        if self.options.messages.is_none() && self.options.warmup > 0.0 {
            self.stage.set(Stage::WARM);
            // A thread that fails meanwhile is heard of below.
            thread::sleep(Duration::from_secs_f64(self.options.warmup));
        }
        let (sent, delivered) = self.counted();
        self.meter.begin_at(sent, delivered);
        self.stage.set(Stage::MEASURE);
        self.watch(&mut progress)?;
        self.stage.set(Stage::DRAIN);
        progress.end();
        let mut all =
            Outcome { verdict: Verdict::default(), latencies: Latencies::default(), refused: 0 };
        let mut missing = self.counters.len();
        while missing > 0 {
            let Ok(said) = self.hear.recv() else { break };
            if let Said::Ended(outcome) = said {
                let outcome = outcome?;
                all.verdict.add(outcome.verdict);
                all.latencies.add(&outcome.latencies);
                all.refused += outcome.refused;
                missing -= 1;
            }
        }
        Ok(all)
    }
}
