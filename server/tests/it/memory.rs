//! Memory that is nearly used up: a flood to readers who are slow stays within the bound, and who has
//! nothing to do with it goes on.

use std::fs;
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Server;
use crate::wire::{Connect, PATIENCE, Wire};

/// The most memory that a process had so far, and what it has now, in bytes.
fn memory(server: &Server) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    };
    (of("VmHWM:"), of("VmRSS:"))
}

const MIB: u64 = 1 << 20;

#[test]
fn flood_to_readers_who_do_not_read_stays_within_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let bound = 256 * MIB;
    let set = format!("limits.memory_bytes_max={bound}");
    let args = ["--set", &set, "--set", "data.durability=memory"];
    // What may wait for one reader is large: 200 of them would take 6 GiB.
    let large = ["--set", "limits.outbound_soft_bytes=16777216"];
    let larger = ["--set", "limits.outbound_hard_bytes=67108864"];
    let server = Server::start(directory.path(), &[&args[..], &large, &larger].concat());
    let address = server.address;

    let mut bob = Wire::connect(address, &Connect::new("bob"));
    bob.subscribe("quiet", 1);
    let sleepers: Vec<_> = (0..200)
        .map(|number| {
            let mut wire = Wire::connect(address, &Connect::new(&format!("sleeper{number}")));
            wire.subscribe("flood", number % 2);
            wire
        })
        .collect();
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let floods: Vec<_> = (0..4)
        .map(|number| {
            let mut wire = Wire::connect(address, &Connect::new(&format!("flood{number}")));
            wire.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
            thread::spawn(move || {
                let bytes = wire.publish_bytes("flood", &[b'x'; 30_000], 0, false, 0);
                let mut at = 0;
                while !over.load(Ordering::Relaxed) {
                    // It is made to wait, or closed.
                    match wire.stream.write(&bytes[at..]) {
                        Ok(written) => at += written,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => break,
                    }
                    if at == bytes.len() {
                        at = 0;
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let begin = Instant::now();
    let mut refused = false;
    let mut passed = 0;
    // Held now and then, and never for long, while 3 GiB are meant for others; until somebody new was
    // turned away as well.
    while passed < 100 || !refused || sent.load(Ordering::Relaxed) < 600 {
        assert!(begin.elapsed() < PATIENCE, "{passed} passed, {sent:?} sent, refused: {refused}");
        alice.publish("quiet", b"still here", 1, false);
        assert_eq!(bob.message().text(), "still here");
        passed += 1;
        if let Ok((_, 3, _)) = Wire::try_connect(address, &Connect::new("late")) {
            refused = true;
        }
    }
    over.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    let (most, now) = memory(&server);
    println!("{sent:?} sent, {passed} passed, {} MiB, now {} MiB", most / MIB, now / MIB);
    // The allocator has some of what was freed besides.
    assert!(most < bound / 4 * 5, "{} MiB of {} MiB", most / MIB, bound / MIB);
    drop(sleepers);
    // A burst leaves no mark.
    let begin = Instant::now();
    while !matches!(Wire::try_connect(address, &Connect::new("late")), Ok((_, 0, _))) {
        assert!(begin.elapsed() < PATIENCE, "nobody is let in any more: {:?}", memory(&server));
    }
    let (code, log) = server.end("-TERM");
    assert_eq!(code, Some(0), "{log}");
    println!("{log}");
    assert!(log.contains("of memory is used"), "{log}");
}
