//! The thread that looks how much memory and disk are used up, and tells the shards.
//!
//! Memory is looked at ten times a second. The disk is looked at every second, and as soon as the
//! journal, or what checkpoints have yet to write, has grown by a part of the reserve: nobody writes
//! through it between two looks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidings_core::marks::{
    DiskMark, DiskReserve, MemoryLook, MemoryMark, MemoryMarks, MemoryState, is_worth_giving_back,
};

use crate::commit::Hub;
use crate::engine::{Disk, DiskSpace};
use crate::health::{Health, guard};
use crate::mail::{Mail, Post};
use crate::memory::{self, Allocator};
use crate::metrics::Metrics;

/// The thread; dropping this ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    hub: Arc<Hub>,
    thread: Option<JoinHandle<()>>,
}

/// What it looks at.
pub(crate) struct Watched {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) posts: Vec<Post>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) disk: Disk,
    pub(crate) reserve: DiskReserve,
    /// Bytes of memory; 0: what the system says.
    pub(crate) memory_bytes_max: u64,
    pub(crate) allocator: Option<Allocator>,
    pub(crate) health: Arc<Health>,
}

impl Watch {
    /// Looks once before it returns, so that the first Client finds what holds.
    pub(crate) fn start(watched: Watched) -> io::Result<Self> {
        let hub = Arc::clone(&watched.hub);
        let mut watcher = Watcher::new(watched);
        watcher.look();
        let health = Arc::clone(&watcher.watched.health);
        // Without it nobody would hear that memory or disk run short.
        let run = move || guard("watch", &health, || while watcher.wait() {});
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(run)?;
        Ok(Self { hub, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.hub.growth.end();
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

struct Watcher {
    watched: Watched,
    disk: DiskMark,
    disk_looked: Option<Instant>,
    disk_unknown: bool,
    /// What the store said last of its own files.
    spare_bytes: u64,
    /// What the journal had grown to when a checkpoint was asked for.
    checkpoint_at: Option<u64>,
    memory: MemoryMarks,
}

impl Watcher {
    fn new(watched: Watched) -> Self {
        let bound = match watched.memory_bytes_max {
            0 => memory::bound().unwrap_or(0),
            bound => bound,
        };
        watched.metrics.pressure.bound.store(bound, Ordering::Relaxed);
        Self {
            watched,
            disk: DiskMark::default(),
            disk_looked: None,
            disk_unknown: false,
            spare_bytes: 0,
            checkpoint_at: None,
            memory: MemoryMarks::default(),
        }
    }

    /// Looks when it is time; `false`: it is over.
    fn wait(&mut self) -> bool {
        let Some(grown) = self.watched.hub.growth.wait(MEMORY_EVERY) else { return false };
        if grown {
            self.disk_looked = None;
        }
        self.look();
        true
    }

    fn look(&mut self) {
        self.look_at_memory();
        if self.disk_looked.is_none_or(|looked| looked.elapsed() >= DISK_EVERY) {
            self.disk_looked = Some(Instant::now());
            self.look_at_disk();
        }
    }

    fn tell(&self, mail: impl Fn() -> Mail) {
        for post in &self.watched.posts {
            post.send(mail());
        }
    }

    fn look_at_disk(&mut self) {
        let DiskSpace { free_bytes, total_bytes } = match self.watched.disk.space() {
            Ok(Some(space)) => space,
            Ok(None) => return,
            Err(error) => {
                if !std::mem::replace(&mut self.disk_unknown, true) {
                    tracing::warn!("cannot tell how much of the disk is free: {error}");
                }
                return;
            }
        };
        let reserve = &self.watched.reserve;
        self.spare_bytes = self.watched.disk.spare_bytes().unwrap_or(self.spare_bytes);
        let spare_bytes = self.spare_bytes;
        // What was taken over is still to be written, into the spare room or beside it.
        let unstored_bytes = self.watched.hub.unstored_bytes().saturating_mul(STORED_TENTHS) / 10;
        let left_bytes = free_bytes.saturating_sub(unstored_bytes);
        let low = self.disk.look(left_bytes, spare_bytes, total_bytes, reserve);
        self.watched.hub.growth.expect(DiskMark::until_next_look(total_bytes, reserve));
        let journal = self.watched.hub.counters.read().journal_bytes;
        // A start has rows to store of before, if there is room for them.
        let at_start = journal == 0 && (1..free_bytes).contains(&unstored_bytes);
        if low && self.checkpoint_at != Some(journal) && (journal > 0 || at_start) {
            // What was deleted leaves the disk with a checkpoint, and nothing is written that would
            // bring one about.
            self.checkpoint_at = Some(journal);
            self.watched.hub.want_checkpoint();
        }
        self.watched.hub.disk_low.store(low, Ordering::Release);
        if low {
            self.watched.hub.keeper_gate.changed();
        }
        let pressure = &self.watched.metrics.pressure;
        pressure.disk_free.store(free_bytes, Ordering::Relaxed);
        if pressure.disk_low.swap(low, Ordering::Relaxed) != low {
            let reserve_bytes = reserve.of(total_bytes);
            if low {
                tracing::warn!(
                    free_bytes,
                    unstored_bytes,
                    spare_bytes,
                    reserve_bytes,
                    "the disk is nearly full: what would be kept is refused with 0x97 until twice \
                     the reserve is free; make room, or lower data.reserve_bytes and _percent"
                );
            } else {
                tracing::info!(
                    free_bytes,
                    unstored_bytes,
                    spare_bytes,
                    reserve_bytes,
                    "the disk has room again"
                );
            }
            self.tell(|| Mail::Disk { low });
        }
    }

    fn look_at_memory(&mut self) {
        let metrics = &self.watched.metrics;
        let pressure = &metrics.pressure;
        let bound = pressure.bound.load(Ordering::Relaxed);
        if bound == 0 {
            return;
        }
        // First, for it may grow much until the rest is known: that may be counted twice, not never.
        let connections = metrics.held_by_connections();
        let waiting = self.watched.hub.uncovered_bytes.load(Ordering::Relaxed);
        let mail: u64 = self.watched.posts.iter().map(Post::waiting_bytes).sum();
        let held = connections + mail + waiting;
        let Some(mut resident) = memory::resident() else { return };
        let allocated = self.watched.allocator.and_then(|allocator| (allocator.allocated)());
        if let Some(allocator) = self.watched.allocator
            && allocated.is_some_and(|it| is_worth_giving_back(resident.saturating_sub(it), bound))
        {
            (allocator.give_back)();
            resident = memory::resident().unwrap_or(resident);
        }
        let before = self.memory.mark();
        let raised = pressure.mark().max(before);
        self.memory.raise(raised);
        let MemoryState { mark, used, excess } =
            self.memory.look(MemoryLook { resident, allocated, held }, bound);
        pressure.resident.store(resident, Ordering::Relaxed);
        pressure.used.store(used, Ordering::Relaxed);
        pressure.held.store(connections + mail, Ordering::Relaxed);
        pressure.set_mark(mark);
        let most = raised.max(mark);
        if most > before {
            let closed = metrics.closed_for_memory();
            let what = memory_text(most);
            tracing::warn!(used, bound, resident, closed, "{what}; see limits.memory_bytes_max");
        }
        if mark < most {
            let closed = metrics.closed_for_memory();
            tracing::info!(used, bound, resident, closed, "{}", memory_text(mark));
        }
        if mark != before || mark != raised || excess > 0 {
            self.tell(|| Mail::Memory { excess });
        }
    }
}

fn memory_text(mark: MemoryMark) -> &'static str {
    match mark {
        MemoryMark::Enough => "there is enough memory again",
        MemoryMark::RefuseConnections => "60 % of memory is used: nobody new is let in",
        MemoryMark::HoldPublishers => "75 % of memory is used: publishers are not read",
        MemoryMark::CloseLargest => {
            "85 % of memory is used: the connections that hold most are closed"
        }
    }
}

/// How much of the disk a checkpoint takes for its rows, in tenths of them: 17 to 21 were measured
/// with fan-out, for messages of 1 to 20 kB.
const STORED_TENTHS: u64 = 25;

/// How often memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_millis(100);

/// How often the disk is looked at, if nobody writes.
const DISK_EVERY: Duration = Duration::from_secs(1);
