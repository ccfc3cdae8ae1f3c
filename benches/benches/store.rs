//! What storing costs, on the disk of the target directory or of `TIDINGS_BENCH_DIR`.
//!
//! By the clock: a group of one record and one of 64, and a checkpoint. Then the journal alone with
//! 64 publishers who each wait for their acknowledgement, beside bare append-only files with the
//! same publishers and group commit, in turn: their ratio is what the journal costs. With `fsync` the
//! fair peer is the file that is written over: one that grows syncs metadata too, which the journal
//! avoids and which can make it several times as slow. `README.md` says what each side does.
//!
//! ```text
//! cargo bench -p tidings-bench --bench store
//! ```

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what goes wrong here ends the bench that has it wrong"
)]

mod disk;

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use tidings_broker::engine::{Durability, Engine, Notify, StoreEvent};

use disk::{Disk, folder, message, options, record};

/// Who waits at a time.
const PUBLISHERS: u64 = 64;
/// Messages of a round, and those before it that are not counted.
const MESSAGES: u64 = 20_000;
const WARM_UP: u64 = 2_000;
/// Rounds of each, in turn.
const ROUNDS: usize = 7;
/// A file that all of a round goes in.
const MADE_BYTES: usize = 64 << 20;
/// Messages that a checkpoint moves.
const MOVED: u64 = 10_000;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for durability in [Durability::Os, Durability::Fsync] {
        let mut group = criterion.benchmark_group(format!("journal-{durability:?}").to_lowercase());
        for messages in [1, PUBLISHERS] {
            group.throughput(Throughput::Elements(messages));
            group.bench_function(messages.to_string(), |bencher| {
                bencher.iter_custom(|count| {
                    let mut disk = Disk::new(durability);
                    disk.append(messages);
                    let began = Instant::now();
                    (0..count).for_each(|_| disk.append(messages));
                    began.elapsed()
                });
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Elements(MOVED)).sample_size(10);
    group.bench_function(MOVED.to_string(), |bencher| {
        bencher.iter_custom(|count| {
            let mut disk = Disk::new(Durability::Os);
            let mut time = Duration::ZERO;
            for _ in 0..count {
                disk.append(MOVED);
                let began = Instant::now();
                disk.checkpoint();
                time += began.elapsed();
            }
            time
        });
    });
    group.finish();
    criterion.final_summary();
    // As criterion does: without the word it is only looked at whether a bench runs.
    let has = |wanted: &str| std::env::args().any(|word| word == wanted);
    if has("--bench") && !has("--list") {
        beside_bare_files();
    }
}

/// Messages a second of 64 publishers that wait, of ours and of bare files.
fn beside_bare_files() {
    println!("\n{PUBLISHERS} publishers that wait, messages a second, medians of {ROUNDS} rounds:");
    for (name, durability) in [("fsync", Durability::Fsync), ("os", Durability::Os)] {
        let (mut ours, mut grows, mut made) = (Vec::new(), Vec::new(), Vec::new());
        let sync = durability == Durability::Fsync;
        for _ in 0..ROUNDS {
            ours.push(journal(durability));
            grows.push(bare_file(sync, false));
            made.push(bare_file(sync, true));
        }
        let [ours, grows, made] = [ours, grows, made].map(median);
        println!(
            "{name:<6} journal {ours:.0}; file that grows {grows:.0}, ratio {:.2}; file of zeros that are \
             written over {made:.0}, ratio {:.2}",
            ours / grows,
            ours / made
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Counts what is acknowledged to publishers who go on then.
struct Publishers {
    sent: u64,
    done: u64,
    began: Instant,
}

impl Publishers {
    fn new() -> Self {
        Self { sent: 0, done: 0, began: Instant::now() }
    }

    /// Sends for all who do not wait.
    fn send(&mut self, mut send: impl FnMut(u64)) {
        while self.sent < (self.done + PUBLISHERS).min(WARM_UP + MESSAGES) {
            self.sent += 1;
            send(self.sent);
        }
    }

    /// All up to this one are acknowledged.
    fn acknowledge(&mut self, position: u64) {
        if self.done < WARM_UP && position >= WARM_UP {
            self.began = Instant::now();
        }
        self.done = position;
    }

    fn per_second(&self) -> Option<f64> {
        let seconds = self.began.elapsed().as_secs_f64();
        (self.done == WARM_UP + MESSAGES).then(|| MESSAGES as f64 / seconds)
    }
}

/// Wakes the thread that is the shard.
struct Bell(Thread);

impl Notify for Bell {
    fn notify(&self) {
        self.0.unpark();
    }
}

fn journal(durability: Durability) -> f64 {
    let folder = folder();
    let (engine, mut shards) = Engine::open(options(&folder, durability)).expect("an engine");
    let mut shard = shards.pop().expect("one shard");
    shard.set_notifier(Arc::new(Bell(thread::current())));
    let mut publishers = Publishers::new();
    let rate = loop {
        publishers.send(|number| {
            shard.append(record(number));
        });
        let mut woken = false;
        while let Some(event) = shard.poll() {
            woken = true;
            match event {
                StoreEvent::Stored(position) => publishers.acknowledge(position.0),
                StoreEvent::Failed(failure) => panic!("{failure}"),
                StoreEvent::Rows { .. } => {}
            }
        }
        if let Some(rate) = publishers.per_second() {
            break rate;
        }
        if !woken {
            thread::park();
        }
    };
    drop(shard);
    engine.shutdown().expect("a store that closes");
    rate
}

/// What waits for the thread that writes, and what it has written.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    records: u64,
    stored: u64,
    over: bool,
}

/// A file that grows makes the system note each time how long it is; one that was there before does
/// not.
fn bare_file(sync: bool, made_before: bool) -> f64 {
    let folder = folder();
    let mut file = File::create(folder.path().join("file")).expect("a file");
    if made_before {
        file.write_all(&vec![0; MADE_BYTES]).expect("a file that is written");
        file.sync_all().expect("a file that is synced");
        file.rewind().expect("a file");
    }
    let shared = (Mutex::new(Waiting::default()), Condvar::new());
    let publisher = thread::current();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut bytes, mut stored) = (Vec::new(), 0);
            loop {
                let waiting = shared.0.lock().expect("no panic");
                let idle = |it: &mut Waiting| it.bytes.is_empty() && !it.over;
                let mut waiting = shared.1.wait_while(waiting, idle).expect("no panic");
                if waiting.over {
                    return;
                }
                std::mem::swap(&mut bytes, &mut waiting.bytes);
                stored += std::mem::take(&mut waiting.records);
                drop(waiting);
                file.write_all(&bytes).expect("a file that is written");
                if sync {
                    file.sync_data().expect("a file that is synced");
                }
                bytes.clear();
                shared.0.lock().expect("no panic").stored = stored;
                publisher.unpark();
            }
        });
        let mut publishers = Publishers::new();
        loop {
            let mut waiting = shared.0.lock().expect("no panic");
            let woken = waiting.stored > publishers.done;
            publishers.acknowledge(waiting.stored);
            publishers.send(|number| {
                let (key, value) = message(number);
                for part in [&key, &value] {
                    waiting.bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
                    waiting.bytes.extend_from_slice(part);
                }
                waiting.records += 1;
            });
            let rate = publishers.per_second();
            waiting.over = rate.is_some();
            drop(waiting);
            shared.1.notify_one();
            if let Some(rate) = rate {
                return rate;
            }
            if !woken {
                thread::park();
            }
        }
    })
}
