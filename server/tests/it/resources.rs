//! What a running broker takes of the machine, as Linux counts it in `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::Server;
use crate::wire::{Connect, PATIENCE, Wire};

/// Processor time so far, in hundredths of a second.
fn processor_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
    // Behind the name, which may hold anything: the 14th and 15th field of proc(5).
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn descriptors(server: &Server) -> usize {
    fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count()
}

/// Waits for the broker to close what it has to close.
fn wait_for_descriptors(server: &Server, at_most: usize) {
    let begin = Instant::now();
    while descriptors(server) > at_most {
        assert!(begin.elapsed() < PATIENCE, "{} > {at_most} descriptors", descriptors(server));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn hundred_idle_connections_take_no_processor_time() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let connections: Vec<_> = (0..100)
        .map(|number| {
            let connect = Connect::new(&format!("c{number}")).user(&format!("u{number}"));
            let mut wire = Wire::connect(server.address, &connect.persistent());
            wire.subscribe("me/json/#", 1);
            wire.subscribe("t/#", 1);
            wire
        })
        .collect();
    // What connecting brought about is over: cursors, checkpoints, lazy records.
    std::thread::sleep(Duration::from_millis(500));
    let before = processor_ticks(&server);
    std::thread::sleep(Duration::from_secs(1));
    let ticks = processor_ticks(&server) - before;
    assert!(ticks <= 2, "{ticks} hundredths of a second in one that was idle");
    drop(connections);
}

#[test]
fn thousand_connections_leave_no_descriptors_behind() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let before = descriptors(&server);
    for number in 0..1000 {
        let connect = Connect::new(&format!("c{}", number % 7));
        match number % 5 {
            // In order, and as other connections end.
            0 => Wire::connect(server.address, &connect).disconnect(),
            1 => drop(Wire::connect(server.address, &connect)),
            2 => drop(Wire::connect(server.address, &connect.persistent().v5())),
            3 => drop(Wire::open(server.address, 4).unwrap()),
            _ => {
                let mut wire = Wire::open(server.address, 4).unwrap();
                wire.send(&connect.bytes()).unwrap();
                let _ = wire.send(b"\xff\xff\xff\xff\xff");
            }
        }
    }
    // Some may linger for their time.
    wait_for_descriptors(&server, before + 2);
    Wire::connect(server.address, &Connect::new("after")).ping();
    server.stop();
}

#[test]
fn connections_leave_the_store_the_descriptors_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let small = ["--set", "data.segment_bytes=1048576", "--set", "data.checkpoint_bytes=2097152"];
    let files = 80;
    let server = Server::start_with_files(directory.path(), files, &small);
    let mut wire = Wire::connect(server.address, &Connect::new("phone"));
    // As many as one address may have, and more than there are files for.
    let strangers: Vec<_> =
        (0..64).filter_map(|_| std::net::TcpStream::connect(server.address).ok()).collect();
    // The journal goes on to new files, and they into the store.
    for number in 0..80 {
        let topic = format!("t/{number}");
        wire.publish(&topic, &[b'x'; 60_000], 1, true);
    }
    assert!(descriptors(&server) < files, "{}", descriptors(&server));
    drop(strangers);
    server.stop();
}
