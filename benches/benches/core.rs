//! The core alone by the clock: sessions, the router, chat, topics. No sockets, no disk.
//!
//! Each row does a batch of [`BATCH`] messages, or what it names; the rate is per message or
//! delivery. Clients' side of the bytes is done too, and is a part of each figure.
//!
//! ```text
//! cargo bench -p tidings-bench --bench core
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use tidings_bench::work::{BATCH, Drain, Topics, Work};
use tidings_core::codec::QoS;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut row = |group: &str, name: &str, per: u64, mut work: Work| {
        let mut group = criterion.benchmark_group(group);
        group.throughput(Throughput::Elements(per));
        group.bench_function(name, |bencher| bencher.iter(|| work.do_it()));
        group.finish();
    };
    let batch = u64::from(BATCH);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let name = format!("qos{}", qos as u8);
        row("pair", &name, batch, Work::pair(qos, false));
        row("pair-persistent", &name, batch, Work::pair(qos, true));
    }
    for members in [1_u16, 100, 1_000] {
        let work = Work::fan_out(members, QoS::AtLeastOnce);
        row("fan-out", &members.to_string(), u64::from(members), work);
    }
    row("offline", "store", batch, Work::offline());
    row("chat", "direct", batch, Work::chat());
    row("chat", "append", batch, Work::chat_append());
    row("chat", "tick", batch, Work::chat_tick());

    let mut group = criterion.benchmark_group("offline");
    group.throughput(Throughput::Elements(16 * batch));
    group.bench_function("drain", |bencher| {
        bencher.iter_custom(|count| {
            let (mut drain, mut time) = (Drain::new(16), Duration::ZERO);
            for _ in 0..count {
                drain.store();
                let began = Instant::now();
                drain.fetch();
                time += began.elapsed();
            }
            time
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("topics");
    group.throughput(Throughput::Elements(1_000));
    for filters in [10, 1_000, 100_000, 1_000_000] {
        let topics = Topics::new(filters);
        group.bench_function(filters.to_string(), |bencher| {
            bencher.iter(|| black_box(topics.look_up()));
        });
        drop(topics);
        let topics = Topics::wildcards(filters);
        group.bench_function(format!("{filters}-wildcards"), |bencher| {
            bencher.iter(|| black_box(topics.look_up()));
        });
    }
    group.finish();
    criterion.final_summary();
}
