//! The ways to break a broker, and to have it back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::Signal;

use crate::disk::Disk;
use crate::journal::{Segment, copy};
use crate::process::{Ended, Launch, Process};
use crate::random::Random;
use crate::scene::{Promise, Scene};

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// The process: SIGKILL, also while it starts.
    Kill,
    /// The power: what was not synced is gone. Takes the right to mount.
    Power,
    /// The process, and behind its back the end of its journal.
    Torn,
    /// The disk is full. Takes the right to mount.
    Full,
    /// Nothing: SIGTERM.
    Term,
    /// The process stands still for a while.
    Stop,
    /// The clock jumps. Takes libfaketime.
    Clock,
}

/// A way to break, with what it takes.
#[derive(Debug)]
pub(crate) struct Striker {
    mode: Mode,
    pub(crate) launch: Launch,
    disk: Option<Disk>,
    /// A folder of our own.
    place: PathBuf,
    /// Where libfaketime reads how far the clock is off.
    clock: PathBuf,
    /// Seconds that it stands still.
    stop_s: (u64, u64),
    /// How many acknowledged groups were damaged in a copy, which was refused.
    pub(crate) refused_copies: u64,
}

/// How long it may take to end in order.
const END_PATIENCE: Duration = Duration::from_secs(20);

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

type Served = Result<(Process, Duration), String>;

impl Striker {
    /// Gets ready; the launch may be changed for it.
    ///
    /// # Errors
    ///
    /// What is missing on this machine: then the mode is to be skipped.
    pub(crate) fn new(
        mode: Mode,
        mut launch: Launch,
        place: &Path,
        stop_s: (u64, u64),
        disk_mib: u64,
    ) -> io::Result<Self> {
        let disk = match mode {
            Mode::Power | Mode::Full => Some(Disk::make(place, disk_mib)?),
            _ => None,
        };
        if let Some(disk) = &disk {
            launch.data = disk.folder().join("data");
        }
        let clock = place.join("clock");
        if mode == Mode::Clock {
            if !Path::new(FAKETIME).exists() {
                return Err(io::Error::other(format!("there is no {FAKETIME}")));
            }
            fs::write(&clock, "+0")?;
            launch.environment = vec![
                ("LD_PRELOAD".into(), FAKETIME.into()),
                ("FAKETIME_TIMESTAMP_FILE".into(), clock.display().to_string()),
                ("FAKETIME_NO_CACHE".into(), "1".into()),
                // Only the wall clock jumps.
                ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ];
        }
        let place = place.to_owned();
        Ok(Self { mode, launch, disk, place, clock, stop_s, refused_copies: 0 })
    }

    /// Breaks it, and starts it again: who serves now, and how long it took until it did.
    pub(crate) fn strike(
        &mut self,
        mut process: Process,
        scene: &Scene,
        random: &mut Random,
    ) -> Served {
        if let Some(ended) = process.ended() {
            scene.fault(Promise::Process, format!("{ended:?}: {}", self.launch.last_words()));
            scene.breaks_now();
            return self.launch.serve();
        }
        match self.mode {
            Mode::Kill => {
                scene.breaks_now();
                process.kill();
                self.kill_while_it_starts(scene, random)?;
                self.launch.serve()
            }
            Mode::Power => self.cut_power(process, scene),
            Mode::Torn => self.tear(process, scene, random),
            Mode::Full => self.fill(process, scene),
            Mode::Term => {
                scene.breaks_now();
                process.signal(Signal::TERM);
                match process.wait(END_PATIENCE) {
                    Some(Ended::Code(0)) => {}
                    ended => scene.fault(Promise::Process, format!("after SIGTERM: {ended:?}")),
                }
                self.launch.serve()
            }
            Mode::Stop => {
                let closed = scene.counts.closed.load(Ordering::Relaxed);
                process.signal(Signal::STOP);
                let millis = (self.stop_s.0 * 1000, self.stop_s.1 * 1000);
                thread::sleep(random.millis(millis.0, millis.1));
                process.signal(Signal::CONT);
                thread::sleep(Duration::from_millis(1500));
                not_closed(scene, closed, "it stood still");
                Ok((process, Duration::ZERO))
            }
            Mode::Clock => self.jump(process, scene, random),
        }
    }

    fn kill_while_it_starts(&self, scene: &Scene, random: &mut Random) -> Result<(), String> {
        while random.chance(33) {
            let process = self.launch.start().map_err(|error| error.to_string())?;
            thread::sleep(random.millis(0, 60));
            scene.breaks_now();
            process.kill();
        }
        Ok(())
    }

    fn cut_power(&mut self, process: Process, scene: &Scene) -> Served {
        scene.breaks_now();
        process.kill();
        let disk = self.disk.take().ok_or("there is no disk")?;
        let disk = disk.cut().map_err(|error| format!("the disk after the cut: {error}"))?;
        self.launch = self.launch.at(&disk.folder().join("data"));
        self.disk = Some(disk);
        self.launch.serve()
    }

    /// Behind the last record nothing was acknowledged: whatever stands there, nothing is lost. In
    /// a copy something is damaged that was acknowledged: then it must say so and not start.
    fn tear(&mut self, process: Process, scene: &Scene, random: &mut Random) -> Served {
        scene.breaks_now();
        process.kill();
        let io = |error: io::Error| format!("the journal: {error}");
        let Some(segment) = Segment::newest(&self.launch.data).map_err(io)? else {
            return Err("there is no journal to tear".into());
        };
        self.damage_a_copy(scene, random).map_err(io)?;
        match random.below(3) {
            0 => segment.cut(random.between(segment.end, segment.len)).map_err(io)?,
            _ => {
                let mut bytes = vec![0; 1 + usize::try_from(random.below(5000)).unwrap_or(0)];
                random.fill(&mut bytes);
                let room = segment.len.saturating_sub(segment.end + bytes.len() as u64);
                let at = segment.end + random.below(room.min(200) + 1);
                segment.damage(at, &bytes).map_err(io)?;
            }
        }
        self.launch.serve()
    }

    fn damage_a_copy(&mut self, scene: &Scene, random: &mut Random) -> io::Result<()> {
        let data = self.place.join("damaged");
        copy(&self.launch.data, &data)?;
        let copied = Segment::newest(&data)?;
        // A group with another behind it was acknowledged before that was written.
        let groups = copied.as_ref().map_or(0, |it| it.groups.len());
        if let Some(segment) = copied
            && groups > 3
            && let Some(at) =
                segment.groups.get(usize::try_from(random.below(groups as u64 - 2)).unwrap_or(0))
        {
            segment.damage(*at, &[random.next().to_le_bytes()[0] ^ 0xFF; 4])?;
            let mut launch = self.launch.at(&data);
            launch.log = self.place.join("damaged.log");
            launch.clear_log()?;
            match launch.start().map(|mut it| it.wait(END_PATIENCE))? {
                Some(Ended::Code(65)) if launch.last_words().contains("byte") => {
                    self.refused_copies += 1;
                }
                ended => {
                    let said = launch.last_words();
                    let kept = self.place.join(format!("damaged-{}", random.next()));
                    let evidence = format!(
                        "damaged at {at} of {} (records end at {}), it did {ended:?}: {said}; see {}",
                        segment.path.display(),
                        segment.end,
                        kept.display()
                    );
                    scene.fault(Promise::Process, evidence);
                    fs::rename(&data, &kept)?;
                    return Ok(());
                }
            }
        }
        fs::remove_dir_all(&data)
    }

    /// It may refuse before, or end with 74; when there is space again, it goes on.
    fn fill(&mut self, mut process: Process, scene: &Scene) -> Served {
        let disk = self.disk.as_ref().ok_or("there is no disk")?;
        let ballast = disk.fill().map_err(|error| format!("cannot fill the disk: {error}"))?;
        let ended = process.wait(Duration::from_secs(4));
        let served = match ended {
            None => Ok((process, Duration::ZERO)),
            Some(ended) => {
                scene.breaks_now();
                if ended != Ended::Code(74) {
                    let said = self.launch.last_words();
                    scene.fault(Promise::Process, format!("disk full: {ended:?}: {said}"));
                }
                Err(())
            }
        };
        fs::remove_file(ballast).map_err(|error| error.to_string())?;
        served.or_else(|()| self.launch.serve())
    }

    fn jump(&self, process: Process, scene: &Scene, random: &mut Random) -> Served {
        let steps = ["+0", "+3600", "-3600", "+86400", "-86400", "+60", "-60", "+1", "-1"];
        let step = usize::try_from(random.below(steps.len() as u64)).unwrap_or(0);
        let step = steps.get(step).copied().unwrap_or("+0");
        let set = || {
            // At once, not in two steps: a reader must not find it empty.
            let draft = self.clock.with_extension("draft");
            fs::write(&draft, step).and_then(|()| fs::rename(&draft, &self.clock))
        };
        if random.chance(40) {
            scene.breaks_now();
            process.kill();
            set().map_err(|error| error.to_string())?;
            return self.launch.serve();
        }
        let closed = scene.counts.closed.load(Ordering::Relaxed);
        set().map_err(|error| error.to_string())?;
        thread::sleep(Duration::from_millis(1500));
        not_closed(scene, closed, "the clock jumped");
        Ok((process, Duration::ZERO))
    }
}

fn not_closed(scene: &Scene, before: u64, what: &str) {
    let closed = scene.counts.closed.load(Ordering::Relaxed) - before;
    if closed > 0 {
        scene.fault(Promise::Stuck, format!("{closed} connections ended while {what}"));
    }
}
