//! Wills: they come if a connection breaks, and not after DISCONNECT.
//!
//! Neither has an acknowledgement, so only what happened some time before a break is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidings_core::codec::{PacketKind, QoS, Version};

use crate::publisher::note;
use crate::random::Random;
use crate::scene::{Phase, Promise, Scene, count, lock};
use crate::wire::{Gone, Hello, ONLY, Packet, Wire};

/// How long before a break it must have happened.
const SURELY: Duration = Duration::from_millis(500);
pub(crate) const NAME: &str = "will-watcher";

/// How a connection with a will ended.
#[derive(Debug, Clone, Copy)]
enum End {
    /// From when to when it was there.
    Broken(Instant, Instant),
    Disconnected(Instant, Instant),
    /// It was there when something broke.
    Unknown,
}

/// Wills by their number: how their connection ended, and how often they came.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    ends: BTreeMap<u64, End>,
    heard: BTreeMap<u64, u64>,
}

/// Connects with a will, and dies or leaves, all the time.
pub(crate) fn run_mortal(scene: &Arc<Scene>, mut random: Random, wills: &Mutex<Wills>) {
    let mut number = 0;
    while scene.phase() != Phase::End {
        if random.chance(70) {
            thread::sleep(random.millis(2, 40));
        }
        if scene.phase() != Phase::Load {
            thread::sleep(Duration::from_millis(2));
            continue;
        }
        number += 1;
        let version = if u64::is_multiple_of(number, 2) { Version::V5 } else { Version::V311 };
        // One name, and often at once: what was said on the older connection is heard first.
        let mut hello = Hello::new(version, "mortal");
        hello.clean = true;
        hello.will = Some((format!("will/{number}"), number.to_string()));
        let from = Instant::now();
        let Ok((mut wire, _)) = Wire::connect(scene.address, &hello) else {
            lock(wills).ends.insert(number, End::Unknown);
            continue;
        };
        let end = match wire.poll(random.millis(1, 60)) {
            Err(_) => End::Unknown,
            Ok(_) if random.chance(50) => {
                wire.disconnect();
                End::Disconnected(from, Instant::now())
            }
            Ok(_) => {
                drop(wire);
                End::Broken(from, Instant::now())
            }
        };
        lock(wills).ends.insert(number, end);
    }
}

/// Hears wills, in a persistent Session.
pub(crate) fn run_watcher(scene: &Arc<Scene>, wills: &Mutex<Wills>) {
    let hello = Hello::new(Version::V5, NAME);
    let mut known = false;
    while scene.phase() != Phase::End {
        let served = Wire::connect(scene.address, &hello)
            .and_then(|(wire, present)| watch(scene, wills, wire, present, &mut known));
        if let Err(gone) = served {
            note(scene, NAME, &gone);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn watch(
    scene: &Scene,
    wills: &Mutex<Wills>,
    mut wire: Wire,
    present: bool,
    known: &mut bool,
) -> Result<(), Gone> {
    if *known && !present {
        scene.fault(Promise::Session, format!("{NAME}: its session is gone"));
    }
    if !*known || !present {
        wire.subscribe(ONLY, &[("will/#", QoS::AtLeastOnce)]);
        wire.flush()?;
    }
    loop {
        match scene.phase() {
            Phase::End => {
                wire.disconnect();
                return Ok(());
            }
            phase @ Phase::Prepare if *known => scene.idle(NAME, phase),
            _ => {}
        }
        match wire.poll(Duration::from_millis(5))? {
            Some(Packet::Suback(..)) => *known = true,
            Some(Packet::Publish(publish)) => {
                let number = std::str::from_utf8(&publish.payload).ok();
                if let Some(number) = number.and_then(|it| it.parse().ok()) {
                    count(&scene.counts.wills);
                    *lock(wills).heard.entry(number).or_default() += 1;
                }
                if let Some(id) = publish.id {
                    wire.ack(PacketKind::Puback, id);
                    wire.flush()?;
                }
            }
            Some(Packet::Disconnect(code)) => return Err(Gone::Refused(code)),
            _ => {}
        }
    }
}

/// Those that should have come and have not.
fn lacking(scene: &Scene, wills: &Wills) -> Option<u64> {
    wills.ends.iter().find_map(|(number, end)| match end {
        End::Broken(from, at) if surely(scene, *from, *at) && !wills.heard.contains_key(number) => {
            Some(*number)
        }
        _ => None,
    })
}

/// Whether nothing broke meanwhile, nor soon after.
fn surely(scene: &Scene, from: Instant, at: Instant) -> bool {
    scene.break_after(from).is_none_or(|it| it > at + SURELY)
}

/// Waits for what must come, and says what came that must not.
pub(crate) fn judge(scene: &Scene, wills: &Mutex<Wills>) {
    let until = Instant::now() + Duration::from_secs(5);
    while lacking(scene, &lock(wills)).is_some() && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    let mut wills = lock(wills);
    if let Some(number) = lacking(scene, &wills) {
        scene
            .fault(Promise::Will, format!("will/{number}: its connection broke, it does not come"));
    }
    for (number, end) in &wills.ends {
        if let End::Disconnected(from, at) = end
            && surely(scene, *from, *at)
            && wills.heard.contains_key(number)
        {
            let evidence = format!("will/{number}: there was a DISCONNECT, and it came");
            scene.fault(Promise::Will, evidence);
        }
    }
    wills.ends.clear();
    wills.heard.clear();
}
