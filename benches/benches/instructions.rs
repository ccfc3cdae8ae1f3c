//! The core alone, and the store, by instructions, which no other work of the machine changes.
//!
//! Each work is done once under callgrind, warm, and only what is done is counted. It fails when a
//! work takes more than its limit, five hundredths above what was counted when it was set: a change
//! that needs more raises one, and its commit says why.
//!
//! ```text
//! cargo bench -p tidings-bench --bench instructions
//! ```
//!
//! It takes valgrind. (Libraries for this want a runner to be installed besides, which takes longer
//! to build than all benches.)

mod disk;

use std::hint::black_box;
use std::process::{Command, ExitCode};

use tidings_bench::work::{BATCH, Drain, Topics, Work};
use tidings_broker::engine::Durability;
use tidings_core::codec::QoS;

use disk::Disk;

/// Name, of how many messages, deliveries or topics, and instructions for each, at most.
const LIMITS: [(&str, u64, u64); 15] = [
    ("pair-qos0", BATCH as u64, 2_210),
    ("pair-qos1", BATCH as u64, 3_775),
    ("pair-qos2", BATCH as u64, 13_520),
    ("pair-qos1-persistent", BATCH as u64, 10_280),
    ("fan-out-1000", 1_000, 1_750),
    ("offline", BATCH as u64, 7_225),
    ("chat-direct", BATCH as u64, 19_815),
    ("drain", 16 * BATCH as u64, 6_730),
    ("chat-append", BATCH as u64, 11_825),
    ("chat-tick", BATCH as u64, 20_590),
    ("journal-append", BATCH as u64, 1_590),
    ("checkpoint", 1_000, 24_450),
    ("topics-1000", 1_000, 630),
    ("topics-100000", 1_000, 630),
    ("wildcards-100000", 1_000, 1_230),
];

/// Set for the process that callgrind watches: which work.
const WORK: &str = "TIDINGS_BENCH_WORK";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(WORK) {
        work(&name);
        return ExitCode::SUCCESS;
    }
    println!("{:<22} {:>10} {:>10} {:>10}", "work", "each", "limit", "of it");
    let mut exceeded = 0;
    for (name, each, limit) in LIMITS {
        let instructions = match counted(name) {
            Ok(instructions) => instructions / each,
            Err(why) => {
                eprintln!("{name}: {why}");
                return ExitCode::from(2);
            }
        };
        let part = instructions * 100 / limit;
        println!("{name:<22} {instructions:>10} {limit:>10} {part:>8} %");
        exceeded += usize::from(instructions > limit);
    }
    if exceeded > 0 {
        println!("{exceeded} above the limit");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// How many instructions a work takes.
fn counted(name: &str) -> Result<u64, String> {
    let itself = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*"])
        .arg(itself)
        .env(WORK, name)
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}; install it"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.split_once("Collected : "));
    let count = line.and_then(|(_, count)| count.trim().parse().ok()).filter(|count| *count > 0);
    count.filter(|_| output.status.success()).ok_or_else(|| text.into_owned())
}

fn work(name: &str) {
    let mut work = match name {
        "pair-qos0" => Work::pair(QoS::AtMostOnce, false),
        "pair-qos1" => Work::pair(QoS::AtLeastOnce, false),
        "pair-qos2" => Work::pair(QoS::ExactlyOnce, false),
        "pair-qos1-persistent" => Work::pair(QoS::AtLeastOnce, true),
        "fan-out-1000" => Work::fan_out(1_000, QoS::AtLeastOnce),
        "offline" => Work::offline(),
        "chat-direct" => Work::chat(),
        "chat-append" => Work::chat_append(),
        "chat-tick" => Work::chat_tick(),
        "drain" => {
            let mut drain = Drain::new(16);
            drain.store();
            return measured(|| drain.fetch());
        }
        "journal-append" => {
            let mut disk = Disk::new(Durability::Os);
            disk.append(BATCH.into());
            return measured(|| disk.append(BATCH.into()));
        }
        "checkpoint" => {
            let mut disk = Disk::new(Durability::Os);
            disk.append(1_000);
            disk.checkpoint();
            disk.append(1_000);
            return measured(|| disk.checkpoint());
        }
        "topics-1000" => return look_up(&Topics::new(1_000)),
        "topics-100000" => return look_up(&Topics::new(100_000)),
        "wildcards-100000" => return look_up(&Topics::wildcards(100_000)),
        name => panic!("no work has the name {name}"),
    };
    measured(|| work.do_it());
}

fn look_up(topics: &Topics) {
    measured(|| {
        black_box(topics.look_up());
    });
}

/// What is counted, by its name.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    work();
}
