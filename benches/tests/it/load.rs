//! Every work, small, on both.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Parser;
use tidings_bench::load;
use tidings_bench::options::Options;
use tidings_bench::relay::{Relay, RelayOptions};
use tidings_bench::report::Report;
use tidings_bench::verify::Verdict;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn run(broker: SocketAddr, command: &str) -> Report {
    let broker = format!("--broker={broker}");
    let words = ["load", broker.as_str()].into_iter().chain(command.split_whitespace());
    let options = Cli::try_parse_from(words).unwrap().options;
    load::run(&options).unwrap_or_else(|why| panic!("{command}: {why}"))
}

/// Does something with the address of a relay that serves meanwhile.
fn on_relay(work: impl FnOnce(SocketAddr)) {
    let (relay, stop) =
        (Relay::start(&RelayOptions { listen: any() }).unwrap(), AtomicBool::new(false));
    let address = relay.address();
    thread::scope(|scope| {
        scope.spawn(|| relay.run(|| !stop.load(Ordering::Relaxed)).unwrap());
        let end = Ending(&stop);
        work(address);
        drop(end);
    });
}

/// Says it also when a test fails: its thread would be waited for.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The same with Tidings.
fn on_tidings(work: impl FnOnce(SocketAddr)) {
    let data = tempfile::tempdir().unwrap();
    let broker =
        tidings_broker::Builder::new().listen(any()).data_dir(data.path()).start().unwrap();
    work(broker.addresses()[0]);
    broker.stop().unwrap();
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn all_came(report: &Report, count: u64, deliveries: u64) {
    let json = report.json();
    assert_eq!(report.verdict, Verdict::default(), "{json}");
    let phase = report.phases.last().unwrap();
    assert_eq!((phase.count, phase.deliveries), (count, deliveries), "{json}");
    assert!(report.kept_its_word());
}

fn pairs_and_groups(address: SocketAddr) {
    for qos in 0..=2 {
        for more in ["", "--v5", "--persistent --window=1", "--batch=1", "--rate=100000"] {
            let command = format!("pair --pairs=2 --messages=10 --qos={qos} {more}");
            all_came(&run(address, &command), 20, 20);
        }
        let command = format!("fanout --members=5 --messages=10 --window=3 --qos={qos}");
        all_came(&run(address, &command), 10, 50);
    }
    all_came(&run(address, "pair --pairs=3 --threads=2 --messages=10 --payload=70000"), 30, 30);
}

#[test]
fn pairs_and_groups_on_the_relay() {
    on_relay(pairs_and_groups);
}

#[test]
fn pairs_and_groups_on_tidings() {
    on_tidings(pairs_and_groups);
}
