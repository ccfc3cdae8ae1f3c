//! A disk that is nearly full, and one that is full: real ones, and small.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::run;
use crate::support::Server;
use crate::wire::{Connect, PATIENCE, PUBACK, Packet, Wire};

/// A file system of its own, in memory; unmounted when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None`, and a word about it, where this user may not mount.
    fn new(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory.path());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(directory)),
            Ok(output) => {
                eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                eprintln!("skipped: cannot run mount: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all of the disk but so many bytes, and at no time more than that.
    fn fill_but(&self, left: u64) {
        let file = OpenOptions::new().create(true).append(true).open(self.ballast());
        let mut file = file.unwrap();
        while let Some(more) = self.free().checked_sub(left).filter(|more| *more >= PAGE_BYTES) {
            let more = usize::try_from(more).unwrap().min(64 * 1024);
            if file.write_all(&vec![0; more]).is_err() {
                break;
            }
        }
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path()).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// What a file system in memory gives at once.
const PAGE_BYTES: u64 = 4096;

/// Small files, a reserve of so many MiB, and bounds that a full disk is reached within.
fn args(reserve: u32) -> Vec<String> {
    let set = |key: &str, value: u32| ["--set".to_owned(), format!("{key}={value}")];
    [
        set("data.segment_bytes", 1 << 20),
        set("data.checkpoint_bytes", 1 << 20),
        set("data.reserve_bytes", reserve << 20),
        set("data.reserve_percent", 0),
        set("limits.session_queue_bytes_max", 1 << 30),
        set("limits.session_queue_messages_max", 1_000_000),
    ]
    .concat()
}

fn start(disk: &Mounted, reserve: u32) -> Server {
    let args = args(reserve);
    Server::start(disk.path(), &args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A session in the store that listens to `t`, and is not there.
fn absent(server: &Server) {
    absent_as(server, "bob");
}

fn absent_as(server: &Server, client_id: &str) {
    let mut absent = Wire::connect(server.address, &Connect::new(client_id).v5().persistent());
    absent.subscribe("t", 1);
    absent.disconnect();
}

/// Publishes to `t` with numbers from `first` on until it is refused: the first that was. `None`:
/// the broker has gone.
fn publish_until_refused(wire: &mut Wire, first: usize, taken: &mut usize) -> Option<u8> {
    for number in first.. {
        let id = wire.queue_publish("t", &payload(number));
        wire.flush().ok()?;
        match wire.try_next().ok()? {
            Packet::Ack(PUBACK, acked, 0) if acked == id => *taken = number + 1,
            Packet::Ack(PUBACK, acked, reason) if acked == id => return Some(reason),
            other => panic!("{other:?}"),
        }
    }
    None
}

/// Publishes until it is taken again.
fn publish_until_taken(wire: &mut Wire, number: usize) {
    let begin = Instant::now();
    let mut taken = number;
    while taken == number {
        assert!(begin.elapsed() < PATIENCE, "it is still refused");
        let id = wire.queue_publish("t", &payload(number));
        wire.flush().unwrap();
        match wire.next() {
            Packet::Ack(PUBACK, acked, 0) if acked == id => taken += 1,
            Packet::Ack(PUBACK, acked, 0x97) if acked == id => {}
            other => panic!("{other:?}"),
        }
    }
}

fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number}/").into_bytes();
    payload.resize(10_000, b'x');
    payload
}

/// Comes back as who was absent and takes everything: the numbers of it.
fn take_all(server: &Server, messages: usize) {
    take_all_as(server, "bob", messages);
}

fn take_all_as(server: &Server, client_id: &str, messages: usize) {
    let connect = Connect::new(client_id).v5().persistent();
    let (mut bob, present) = Wire::resume(server.address, &connect);
    assert!(present);
    let mut last = None;
    while last != Some(messages - 1) {
        let message = bob.message();
        let number = message.text().split_once('/').unwrap().0.parse().unwrap();
        // One that was not acknowledged may have come twice, but none is missing.
        let next = last.map_or(0, |last| last + 1);
        assert!(number == next || last == Some(number), "{number} where {next} was due");
        last = Some(number);
    }
}

#[test]
fn nearly_full_disk_refuses_what_would_be_kept_and_is_emptied() {
    let Some(disk) = Mounted::new("128m") else { return };
    let server = start(&disk, 32);
    absent(&server);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    let mut taken = 0;
    // By its own messages: nobody writes through the reserve between two looks.
    assert_eq!(publish_until_refused(&mut alice, 0, &mut taken), Some(0x97));
    assert!(taken > 100, "{taken}");
    let (_, code, _) =
        Wire::try_connect(server.address, &Connect::new("new").v5().persistent()).unwrap();
    assert_eq!(code, 0x97);
    // A restart finds the same.
    drop(alice);
    server.stop();
    let server = start(&disk, 32);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    let mut none = 0;
    assert_eq!(publish_until_refused(&mut alice, taken, &mut none), Some(0x97));
    assert_eq!(none, 0);
    take_all(&server, taken);
    // What the store's own files have room for counts as well, and is there.
    for _ in 0..2 {
        publish_until_taken(&mut alice, 0);
        let mut taken = 1;
        assert_eq!(publish_until_refused(&mut alice, 1, &mut taken), Some(0x97));
        take_all(&server, taken);
    }
    let (code, log) = server.end("-TERM");
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn small_disk_is_served_from_with_the_defaults() {
    let Some(disk) = Mounted::new("128m") else { return };
    let queue = [
        "--set",
        "limits.session_queue_bytes_max=1073741824",
        "--set",
        "limits.session_queue_messages_max=1000000",
    ];
    let server = Server::start(disk.path(), &queue);
    absent(&server);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    // Fewer the second time, until there was time for a base that lets the journal go.
    for least in [100, 10] {
        let mut taken = 0;
        assert_eq!(publish_until_refused(&mut alice, 0, &mut taken), Some(0x97));
        assert!(taken > least, "{taken}");
        take_all(&server, taken);
        publish_until_taken(&mut alice, 0);
        take_all(&server, 1);
    }
    let (code, log) = server.end("-TERM");
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("a segment of the journal has 4194304 bytes"), "{log}");
    assert!(log.contains("13421772 bytes of it are to be left free"), "{log}");
}

#[test]
fn messages_to_many_are_refused_before_their_rows_fill_the_disk() {
    let Some(disk) = Mounted::new("64m") else { return };
    let mut args = args(8);
    args.extend(["--set".to_owned(), "data.checkpoint_bytes=4194304".to_owned()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let server = Server::start(disk.path(), &args);
    let sessions: Vec<_> = (0..15).map(|number| format!("bob{number}")).collect();
    sessions.iter().for_each(|session| absent_as(&server, session));
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    // The journal has each once, the store will have it once for each session.
    let mut taken = 0;
    assert_eq!(publish_until_refused(&mut alice, 0, &mut taken), Some(0x97));
    assert!(taken > 50, "{taken}");
    // Rows that a start finds in the journal count as well: or as many again would be taken, and not
    // find room. Those that a checkpoint has written meanwhile take what they take, which is less than
    // was reckoned with.
    drop(alice);
    server.crash();
    let server = Server::start(disk.path(), &args);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    assert_eq!(publish_until_refused(&mut alice, taken, &mut taken), Some(0x97));
    sessions.iter().for_each(|session| take_all_as(&server, session, taken));
    publish_until_taken(&mut alice, 0);
    let (code, log) = server.end("-TERM");
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn what_is_free_counts_whoever_takes_it_or_gives_it_back() {
    let Some(disk) = Mounted::new("32m") else { return };
    let server = start(&disk, 8);
    absent(&server);
    // What is written before somebody looks finds room.
    disk.fill_but(7 << 20);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    let mut taken = 0;
    assert_eq!(publish_until_refused(&mut alice, 0, &mut taken), Some(0x97));
    disk.make_room();
    publish_until_taken(&mut alice, taken);
    let (_, log) = server.end("-TERM");
    assert_eq!(log.matches("the disk has room again").count(), 1, "{log}");
}

#[test]
fn full_disk_ends_the_process_with_74_and_loses_nothing() {
    let Some(disk) = Mounted::new("32m") else { return };
    let mut taken = 0;
    // At different places: while the journal grows, and while a checkpoint does.
    for (round, left) in [300_000, 3 << 20, 5 << 20].into_iter().enumerate() {
        let server = start(&disk, 0);
        if round == 0 {
            absent(&server);
        }
        disk.fill_but(left);
        // What was left to be written from the start may have found the disk full already.
        if let Ok((mut alice, 0, _)) =
            Wire::try_connect(server.address, &Connect::new("alice").v5())
        {
            assert_eq!(publish_until_refused(&mut alice, taken, &mut taken), None);
        }
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(74), "{log}");
        let line = log.lines().last().unwrap();
        assert!(line.contains("No space left on device"), "{line}");
        assert!(line.contains("make room"), "{line}");
        // A start on it says so as well, or serves; it harms nothing.
        let args = args(0);
        let mut again = vec!["--listen", "127.0.0.1:0", "--set", "log.level=off"];
        again.extend(args.iter().map(String::as_str));
        disk.fill_but(0);
        let error = run(disk.path(), &again).failed(74);
        assert!(error.contains("os error 28") || error.contains("No space left"), "{error}");
        disk.make_room();
    }
    assert!(taken > 0);
    let server = start(&disk, 0);
    take_all(&server, taken);
    server.stop();
}

#[test]
fn write_that_fails_ends_the_process_with_74_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A segment may be made, but no checkpoint of more than that may be written into the store; in
    // blocks of 512 bytes, as POSIX has it.
    let limited = "trap '' XFSZ && ulimit -f 6144";
    let mut args = args(0);
    args.extend(["--set".to_owned(), "shards=2".to_owned()]);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let server = Server::start_after(limited, folder.path(), &args);
    absent(&server);
    let mut alice = Wire::connect(server.address, &Connect::new("alice").v5());
    let mut taken = 0;
    assert_eq!(publish_until_refused(&mut alice, 0, &mut taken), None);
    assert!(taken > 0);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(74), "{log}");
    let line = log.lines().last().unwrap();
    assert!(line.contains("File too large") && line.contains("cannot "), "{line}");
    let server = Server::start(folder.path(), &args);
    take_all(&server, taken);
    server.stop();
}
