//! Everybody who takes part, and the end of a round, when all that was promised must be there.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidings_core::codec::{QoS, Version};

use crate::changes::{self, Changer, Known};
use crate::chat::{self, Logs};
use crate::inbox::Inbox;
use crate::publisher::{Publisher, note};
use crate::random::Random;
use crate::retained::{self, Retainer, Values};
use crate::scene::{Phase, Promise, Scene, lock};
use crate::subscriber::{Manner, Subscriber};
use crate::wills::{self, Wills};

/// Publishers; each has two streams.
pub(crate) const PUBLISHERS: usize = 4;
/// How long nothing may happen before those who wait give up.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Cast {
    scene: Arc<Scene>,
    threads: Vec<JoinHandle<()>>,
    inboxes: Vec<Arc<Mutex<Inbox>>>,
    /// Who must have subscribed before it begins.
    prepare: Vec<String>,
    /// Who must have nothing left to send.
    settle: Vec<String>,
    values: Values,
    known: Arc<Mutex<Known>>,
    wills: Arc<Mutex<Wills>>,
    chat: Option<Logs>,
}

impl Cast {
    /// Starts the threads. They connect as soon as somebody answers.
    pub(crate) fn start(
        scene: &Arc<Scene>,
        random: &mut Random,
        chat: bool,
        pause_ms: u64,
    ) -> Self {
        let mut changer_random = random.fork(1);
        let retainer = Retainer::new(scene, random.fork(2));
        let changer = Changer::new(scene, changer_random.fork(3));
        let mut cast = Self {
            scene: Arc::clone(scene),
            threads: Vec::new(),
            inboxes: Vec::new(),
            prepare: Vec::new(),
            settle: Vec::new(),
            values: Arc::clone(&retainer.values),
            known: Arc::clone(&changer.known),
            wills: Arc::default(),
            chat: chat.then(chat::logs),
        };
        cast.subscribers(random);
        for number in 0..PUBLISHERS {
            let publisher =
                Publisher::new(scene, random.fork(100 + number as u64), number, pause_ms);
            cast.both(&format!("publisher{number}"));
            cast.spawn(move || publisher.run());
        }
        cast.both(retained::NAME);
        cast.spawn(move || retainer.run());
        cast.both(changes::NAME);
        cast.spawn(move || changer.run());
        cast.prepare.push(wills::NAME.into());
        let (it, wills) = (Arc::clone(scene), Arc::clone(&cast.wills));
        cast.spawn(move || wills::run_watcher(&it, &wills));
        let (it, wills, seed) = (Arc::clone(scene), Arc::clone(&cast.wills), random.fork(4));
        cast.spawn(move || wills::run_mortal(&it, seed, &wills));
        if let Some(logs) = cast.chat.clone() {
            for (number, sender) in chat::SENDERS.into_iter().enumerate() {
                cast.both(sender.0);
                let it = chat::Sender::new(scene, random.fork(200 + number as u64), sender, &logs);
                cast.spawn(move || it.run());
            }
            for device in chat::DEVICES {
                cast.prepare.push(device.0.into());
                let (it, logs, seed) = (Arc::clone(scene), Arc::clone(&logs), random.fork(300));
                cast.spawn(move || chat::run_device(&it, seed, device, &logs));
            }
        }
        cast
    }

    fn subscribers(&mut self, random: &mut Random) {
        let all: Vec<usize> = (0..PUBLISHERS).collect();
        let one = |number: usize| vec![number % PUBLISHERS];
        let (v3, v5) = (Version::V311, Version::V5);
        let (once, least) = (QoS::ExactlyOnce, QoS::AtLeastOnce);
        let plan = [
            ("online-3", v3, Manner::Online, all.clone(), once),
            ("online-5", v5, Manner::Online, all.clone(), least),
            ("offline-3", v3, Manner::Offline, all.clone(), least),
            ("offline-5", v5, Manner::Offline, all.clone(), once),
            ("slow-1", v5, Manner::Slow(1), one(0), once),
            ("slow-5", v5, Manner::Slow(5), one(1), least),
            ("slow-3", v5, Manner::Slow(3), one(2), once),
            ("flapping-3", v3, Manner::Flapping, all.clone(), least),
            ("flapping-5", v5, Manner::Flapping, all, once),
        ];
        for (number, (name, version, manner, publishers, qos)) in plan.into_iter().enumerate() {
            let seed = random.fork(10 + number as u64);
            let who = (name, version, manner);
            let subscriber = Subscriber::new(&self.scene, seed, who, &publishers, qos);
            self.inboxes.push(Arc::clone(&subscriber.inbox));
            self.prepare.push(subscriber.name().into());
            self.spawn(move || subscriber.run());
        }
    }

    fn both(&mut self, name: &str) {
        self.prepare.push(name.into());
        self.settle.push(name.into());
    }

    fn spawn(&mut self, run: impl FnOnce() + Send + 'static) {
        self.threads.push(thread::spawn(run));
    }

    /// Waits until all have subscribed.
    pub(crate) fn prepared(&self) -> bool {
        self.all_idle(&self.prepare, "subscribe")
    }

    fn all_idle(&self, names: &[String], what: &str) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(late) = names.iter().find(|it| !self.scene.is_idle(it)) else { return true };
            if Instant::now() > until {
                self.scene.fault(Promise::Stuck, format!("{late} does not {what}"));
                return false;
            }
            thread::sleep(Duration::from_millis(3));
        }
    }

    /// Lets all finish and hear everything, and judges it.
    pub(crate) fn settle(&self, round: u64) {
        self.scene.enter(Phase::Settle);
        self.all_idle(&self.settle, "finish");
        self.wait_for_all();
        let asked = retained::judge(&self.scene, &self.values)
            .and_then(|()| changes::judge(&self.scene, &self.known, round));
        if let Err(gone) = asked {
            note(&self.scene, "a new client", &gone);
            self.scene.fault(Promise::Stuck, format!("a new client gets no answer: {gone:?}"));
        }
        wills::judge(&self.scene, &self.wills);
        for inbox in &self.inboxes {
            lock(inbox).forget();
        }
    }

    /// Until everything is there, or nothing has come for long.
    fn wait_for_all(&self) {
        let (mut least, mut since) = (u64::MAX, Instant::now());
        loop {
            let lacking = self.inboxes.iter().filter_map(|it| lock(it).lacks(&self.scene));
            let lacking: Vec<_> = lacking.collect();
            let chat = self.chat.as_ref().and_then(|logs| chat::lacks(logs, true));
            if lacking.is_empty() && chat.is_none() {
                return;
            }
            let sum = lacking.iter().map(|it| it.0).sum();
            if sum < least {
                (least, since) = (sum, Instant::now());
            }
            // Ticks may take a while after the last message.
            if since.elapsed() > PATIENCE / 2 {
                for (many, first) in lacking {
                    self.scene.fault(Promise::Lost, format!("{first} and {} more", many - 1));
                }
                for inbox in &self.inboxes {
                    lock(inbox).give_up(&self.scene);
                }
                if let Some(what) = chat {
                    let tick = what.starts_with("the tick");
                    let promise = if tick { Promise::Tick } else { Promise::ChatLog };
                    self.scene.fault(promise, format!("{what} does not arrive"));
                }
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the threads.
    pub(crate) fn end(self) {
        self.scene.enter(Phase::End);
        for thread in self.threads {
            if thread.join().is_err() {
                self.scene.fault(Promise::Process, "one of our own threads panicked".into());
            }
        }
    }
}
