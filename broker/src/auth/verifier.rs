//! The threads that verify passwords, and the queue in front of them.
//!
//! A hash takes about 20 ms and 19 MiB by design, so it must not run on a shard, nor as often at
//! once as Clients like: [`THREADS`] threads work, [`QUEUE_MAX`] logins wait, the next is told to
//! come back later. The limit on failures is looked at again here, right before the hash: or a
//! burst that was queued at once would pass it as a whole.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use argon2::password_hash::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::rate::Failures;

/// A login to verify.
pub(super) struct Job {
    pub(super) user: String,
    pub(super) password: Vec<u8>,
    pub(super) address: Option<IpAddr>,
    /// When it arrived, by the clock of the runtime that asks; these threads have none of it.
    pub(super) now: Instant,
    /// The hash to verify against; `None` for a user that is not there.
    pub(super) hash: Option<String>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// What became of a [`Job`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Right,
    Wrong,
    /// Too many failures just before: nothing was verified.
    Limited,
}

/// The queue's end for those who ask. Its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Verifier {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    failures: Mutex<Failures>,
    hashes: AtomicU64,
}

impl Verifier {
    /// Starts the threads.
    pub(super) fn start(failures_per_minute: u32) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let shared = Arc::new(Shared {
            failures: Mutex::new(Failures::new(failures_per_minute)),
            hashes: AtomicU64::new(0),
        });
        for i in 0..THREADS {
            let (jobs, shared) = (Arc::clone(&jobs), Arc::clone(&shared));
            thread::Builder::new()
                .name(format!("login-{i}"))
                .spawn(move || shared.work_off(&jobs))?;
        }
        Ok(Self { queue, shared })
    }

    /// Puts `job` into the queue; false when it is full.
    pub(super) fn try_verify(&self, job: Job) -> bool {
        self.queue.try_send(job).is_ok()
    }

    /// Whether a try would be answered with [`Outcome::Limited`].
    pub(super) fn limited(&self, user: &str, address: Option<IpAddr>, now: Instant) -> bool {
        self.shared.failures().limited(user, address, now)
    }

    /// Counts a try that was verified elsewhere; what becomes of it after those before.
    pub(super) fn decide(
        &self,
        user: &str,
        address: Option<IpAddr>,
        now: Instant,
        right: bool,
    ) -> Outcome {
        // Looked at and counted in one: of tries at once no more count than one after the other.
        let mut failures = self.shared.failures();
        if failures.limited(user, address, now) {
            Outcome::Limited
        } else if right {
            failures.succeeded(user, address, now);
            Outcome::Right
        } else {
            failures.failed(user, address, now);
            Outcome::Wrong
        }
    }

    /// How many hashes were computed.
    pub(super) fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn work_off(&self, jobs: &Mutex<Receiver<Job>>) {
        loop {
            // One thread waits in the channel, the other for the lock: either gets the next job.
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            // Nobody waits any more: the Client is gone, or its deadline has passed.
            if job.answer.is_closed() {
                continue;
            }
            let outcome = self.verify(&job);
            let _ = job.answer.send(outcome);
        }
    }

    fn verify(&self, job: &Job) -> Outcome {
        if self.failures().limited(&job.user, job.address, job.now) {
            return Outcome::Limited;
        }
        // An unknown user takes as long as a known one, or the time would tell who exists.
        let hash = job.hash.as_deref().unwrap_or(DUMMY_HASH);
        self.hashes.fetch_add(1, Ordering::Relaxed);
        let right = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(&job.password, &hash).is_ok());
        if right && job.hash.is_some() {
            self.failures().succeeded(&job.user, job.address, job.now);
            Outcome::Right
        } else {
            self.failures().failed(&job.user, job.address, job.now);
            Outcome::Wrong
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 38 MiB and two cores at most, for about a hundred logins a second.
const THREADS: usize = 2;

/// Over half a second of work; who waits longer than that had better come back.
pub(super) const QUEUE_MAX: usize = 64;

/// The hash of no password, with the parameters of those that `tidings user add` makes.
pub(super) const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$\
     dGlkaW5ncy1ub2JvZHktaGVyZQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
