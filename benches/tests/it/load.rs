//! Every work, small, on both.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::Parser;
use tidings_bench::load;
use tidings_bench::load::options::Options;
use tidings_bench::load::relay::{Relay, RelayOptions};
use tidings_bench::load::report::Report;
use tidings_bench::load::verify::Verdict;
use tidings_broker::listener::{ClientCertificates, Listener, Tls, TlsOptions};
use tidings_broker::{Builder, Durability};
use tidings_chat::{Chat, ChatOptions};

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
    let chat = Arc::new(Chat::new(ChatOptions::default()));
    // How fast the disk is does not matter here.
    let builder = Builder::new().durability(Durability::Memory).data_dir(data.path());
    let builder = builder.listen(any()).service(chat);
    let broker = builder.start().unwrap();
    work(broker.addresses()[0]);
    broker.stop().unwrap();
}

#[test]
fn all_works_go_through_tls() {
    let data = tempfile::tempdir().unwrap();
    let [certificate, key, other] =
        ["cert.pem", "key.pem", "other.pem"].map(|it| data.path().join(it));
    let own = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|it| (*it).to_owned()).collect();
        rcgen::generate_simple_self_signed(names).unwrap()
    };
    let ours = own(&["127.0.0.1"]);
    std::fs::write(&certificate, ours.cert.pem()).unwrap();
    std::fs::write(&key, ours.signing_key.serialize_pem()).unwrap();
    std::fs::write(&other, own(&["127.0.0.1"]).cert.pem()).unwrap();
    let trusted = certificate.display().to_string();
    let client_certificates = ClientCertificates::Off;
    let tls = Tls::open(TlsOptions { certificate, key, client_certificates }).unwrap();
    let builder = Builder::new().durability(Durability::Memory).data_dir(data.path().join("data"));
    let broker = builder.listener(Listener::tcp(any()).with_tls(&tls)).start().unwrap();
    let address = broker.addresses()[0];
    for work in
        ["pair --pairs=2 --messages=200 --payload=30000", "pair --pairs=2 --messages=200 --batch=1"]
    {
        let report = run(address, &format!("{work} --tls={trusted}"));
        all_came(&report, 400, 400);
        assert!(report.settings.tls);
    }
    all_came(&run(address, &format!("idle --connections=20 --seconds=0 --tls={trusted}")), 20, 0);
    let options = |file: &str| {
        let words = ["load", "idle", "--connections=1", "--tls", file, "--broker"];
        Cli::try_parse_from(words.into_iter().chain([address.to_string().as_str()]))
            .unwrap()
            .options
    };
    let why = load::run(&options(other.to_str().unwrap())).unwrap_err();
    assert!(why.contains("certificate"), "{why}");
    let why = load::run(&options("/nowhere")).unwrap_err();
    assert!(why.contains("--tls /nowhere"), "{why}");
    broker.stop().unwrap();
}

#[test]
fn more_connections_than_descriptors_are_refused_at_once() {
    on_relay(|address| {
        let words = ["load", "idle", "--connections=2000000000", "--broker"];
        let words = words.into_iter().map(String::from).chain([address.to_string()]);
        let why = load::run(&Cli::try_parse_from(words).unwrap().options).unwrap_err();
        assert!(why.contains("2000000050 descriptors") && why.contains("ulimit -n"), "{why}");
    });
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

fn crowds(address: SocketAddr) {
    for qos in 0..=2 {
        let command = format!("churn --connections=3 --messages=4 --qos={qos}");
        all_came(&run(address, &command), 12, 12);
    }
    all_came(&run(address, "idle --connections=20 --seconds=0"), 20, 0);
}

#[test]
fn crowds_on_the_relay() {
    on_relay(crowds);
}

#[test]
fn crowds_on_tidings() {
    on_tidings(crowds);
}

fn names(report: &Report) -> Vec<&str> {
    report.phases.iter().map(|phase| phase.name).collect()
}

#[test]
fn sessions_on_tidings() {
    on_tidings(|address| {
        for qos in [1, 2] {
            for more in ["", "--v5", "--restart=true"] {
                let size = "--sessions=7 --pairs=2 --messages=5 --window=3";
                let report = run(address, &format!("offline {size} --qos={qos} {more}"));
                let restart = more.starts_with("--restart").then_some("restart");
                let expected = ["come", "store"].into_iter().chain(restart).chain(["drain"]);
                assert_eq!(names(&report), expected.collect::<Vec<_>>());
                assert_eq!(report.phases[1].count, 35, "{}", report.json());
                all_came(&report, 35, 35);
            }
        }
        let report = run(address, "offline --sessions=7 --together --messages=5 --pairs=3");
        assert_eq!(report.phases[1].count, 5, "{}", report.json());
        all_came(&report, 35, 35);
        for qos in 0..=2 {
            let report = run(address, &format!("storm --sessions=20 --qos={qos}"));
            assert_eq!(names(&report), ["come", "storm", "deliver"]);
            all_came(&report, 20, 20);
        }
    });
}

#[test]
fn chats_with_their_ticks_on_tidings() {
    on_tidings(|address| {
        for more in ["--qos=1", "--qos=2", "--v5", "--rate=100000"] {
            let report = run(address, &format!("chat --pairs=3 --messages=8 --window=4 {more}"));
            assert_eq!(names(&report), ["chat", "ticks"]);
            all_came(&report, 24, 24);
            let ticks = report.phases[1].latency_us.unwrap().count;
            assert_eq!(ticks, 24, "{}", report.json());
        }
    });
}

#[test]
fn a_broker_that_keeps_no_session_is_found_out() {
    on_relay(|address| {
        for more in ["", "--together"] {
            let command =
                format!("offline --sessions=2 --messages=3 --pairs=1 --patience=1 {more}");
            let report = run(address, &command);
            assert_eq!(report.verdict, Verdict { lost: 6, ..Verdict::default() });
            assert!(!report.kept_its_word());
        }
    });
}

#[test]
fn pairs_and_groups_on_the_relay() {
    on_relay(pairs_and_groups);
}

#[test]
fn pairs_and_groups_on_tidings() {
    on_tidings(pairs_and_groups);
}
