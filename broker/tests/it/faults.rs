//! Every operation of disk and store fails once, or panics once: from then on nothing is
//! acknowledged, the broker says why it cannot go on, and the next one has all that was acknowledged.
//!
//! Each fault bites once and the operation works again: a broker that tried again would go on, and
//! would be found out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidings_broker::journal::{Disk, DiskFile, FileDisk, FileJournal, FileJournalOptions};
use tidings_broker::store::memory::MemoryStore;
use tidings_broker::store::{Store, StoreFailure, Visitor};
use tidings_broker::{Broker, Durability, Fatal};
use tidings_core::record::KeyRange;

use crate::shell::builder;
use crate::wire::{Connect, PUBACK, Packet, Wire};

/// Which operation breaks, and how.
#[derive(Debug)]
struct Fault {
    operation: &'static str,
    panics: bool,
    armed: AtomicBool,
    bitten: AtomicBool,
    /// Operations of the disk since then.
    disk_calls_after: AtomicU64,
}

impl Fault {
    fn new(operation: &'static str, panics: bool) -> Arc<Self> {
        Arc::new(Self {
            operation,
            panics,
            armed: AtomicBool::new(false),
            bitten: AtomicBool::new(false),
            disk_calls_after: AtomicU64::new(0),
        })
    }

    fn has_bitten(&self) -> bool {
        self.bitten.load(Ordering::SeqCst)
    }

    fn meet(&self, operation: &str) -> io::Result<()> {
        if operation != self.operation || !self.armed.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        self.bitten.store(true, Ordering::SeqCst);
        assert!(!self.panics, "of the test's own");
        Err(io::Error::from_raw_os_error(5))
    }

    fn meet_disk(&self, operation: &str) -> io::Result<()> {
        if self.has_bitten() {
            self.disk_calls_after.fetch_add(1, Ordering::SeqCst);
        }
        self.meet(operation)
    }
}

#[derive(Debug)]
struct FaultyDisk(Arc<Fault>);

impl FaultyDisk {
    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile(file, Arc::clone(&self.0)))
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.meet_disk("create")?;
        FileDisk.create(path).map(|file| self.file(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.meet_disk("open")?;
        FileDisk.open(path).map(|file| self.file(file))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        FileDisk.open_to_read(path)
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        FileDisk.length(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        FileDisk.list(directory)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let to_spare = to.file_name().unwrap().to_str().unwrap().starts_with("spare");
        self.0.meet_disk(if to_spare { "rename to spare" } else { "rename" })?;
        FileDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.meet_disk("remove")?;
        FileDisk.remove(path)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.meet_disk("sync directory")?;
        FileDisk.sync_directory(directory)
    }

    fn salt(&self) -> u32 {
        FileDisk.salt()
    }
}

#[derive(Debug)]
struct FaultyFile(Box<dyn DiskFile>, Arc<Fault>);

impl DiskFile for FaultyFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        // Half of it gets there.
        if let Err(error) = self.1.meet_disk("write") {
            self.0.write_at(&bytes[..bytes.len() / 2], at)?;
            return Err(error);
        }
        self.0.write_at(bytes, at)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.1.meet_disk("allocate")?;
        self.0.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.meet_disk("sync")?;
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.1.meet_disk("sync header")?;
        self.0.sync_all()
    }
}

#[derive(Debug)]
struct FaultyStore(Arc<MemoryStore>, Arc<Fault>);

impl FaultyStore {
    fn meet(&self, operation: &'static str) -> Result<(), StoreFailure> {
        self.1.meet(operation).map_err(|error| StoreFailure::new(operation, error))
    }
}

impl Store for FaultyStore {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StoreFailure> {
        self.meet("put")?;
        self.0.put(key, value)
    }

    fn delete(&self, key: &[u8]) -> Result<bool, StoreFailure> {
        self.meet("delete")?;
        self.0.delete(key)
    }

    fn visit(
        &self,
        range: &KeyRange,
        backwards: bool,
        visitor: &mut dyn Visitor,
    ) -> Result<(), StoreFailure> {
        self.meet("visit")?;
        self.0.visit(range, backwards, visitor)
    }

    fn flush(&self, complete_to: u64) -> Result<(), StoreFailure> {
        self.meet("flush")?;
        self.0.flush(complete_to)
    }

    fn tidy(&self) -> Result<bool, StoreFailure> {
        self.meet("tidy")?;
        self.0.tidy()
    }

    fn complete_to(&self) -> Result<u64, StoreFailure> {
        self.0.complete_to()
    }
}

/// Small segments, and a checkpoint for each four of them.
fn start(folder: &Path, store: &Arc<MemoryStore>, fault: &Arc<Fault>) -> Broker {
    let options = FileJournalOptions {
        directory: folder.to_path_buf(),
        segment_bytes: SEGMENT_BYTES,
        sync: true,
    };
    let journal = FileJournal::on(Arc::new(FaultyDisk(Arc::clone(fault))), options);
    let store = FaultyStore(Arc::clone(store), Arc::clone(fault));
    builder()
        .durability(Durability::Fsync)
        .journal_bytes(SEGMENT_BYTES, 4 * SEGMENT_BYTES)
        .start_with(Box::new(journal), Arc::new(store))
        .unwrap()
}

const SEGMENT_BYTES: u64 = 64 << 10;

/// More than it takes to meet any operation.
const MESSAGES_MAX: usize = 10_000;

fn bob() -> Connect {
    Connect::new("bob").persistent()
}

/// Publishes one after the other until the broker ends: how many were acknowledged. Each also
/// retains a message or takes it back, so that rows go from the store as well.
fn publish_until_it_ends(broker: &Broker, fault: &Fault, on_disk: bool) -> usize {
    let address = broker.addresses()[0];
    let mut alice = Wire::connect(address, &Connect::new("alice"));
    for number in 0..MESSAGES_MAX {
        if number == 50 {
            fault.armed.store(true, Ordering::SeqCst);
        }
        // Reads what waits for him, and leaves it there. Once there was a checkpoint it is not all in
        // memory any more.
        let bob_comes = fault.operation == "visit" && number >= 50 && number.is_multiple_of(50);
        if bob_comes && Wire::try_connect(address, &bob()).is_err() {
            return number;
        }
        let too_late = on_disk && fault.has_bitten();
        let topic = format!("kept/{}", number % 7);
        let kept: &[u8] = if (number / 100).is_multiple_of(2) { &[b'x'; 500] } else { b"" };
        let bytes = alice.publish_bytes(&topic, kept, 0, true, 0);
        let mut text = format!("{number}/").into_bytes();
        text.resize(1_000, b'x');
        let id = alice.queue_publish("t", &text);
        if alice.send(&bytes).and_then(|()| alice.flush()).is_err() {
            return number;
        }
        match alice.try_next() {
            Ok(Packet::Ack(PUBACK, acked, 0)) if acked == id => {
                assert!(!too_late, "acknowledged after the disk had failed");
            }
            Ok(other) => panic!("{other:?}"),
            Err(_gone) => return number,
        }
    }
    panic!("{} never failed", fault.operation);
}

/// Bob takes what waits for him: everything acknowledged, in order, and perhaps the one that was
/// under way.
fn take_all(broker: &Broker, acknowledged: usize) {
    let (mut bob, present) = Wire::resume(broker.addresses()[0], &bob());
    assert!(present);
    for expected in 0..acknowledged {
        let message = bob.message();
        let number: usize = message.text().split_once('/').unwrap().0.parse().unwrap();
        assert_eq!(number, expected, "of {acknowledged}");
    }
}

fn try_fault(operation: &'static str, panics: bool, thread: &str, said: &str) {
    let context = format!("{operation}, panics: {panics}");
    let on_disk = said.starts_with("write the journal");
    let folder = tempfile::tempdir().unwrap();
    let (store, fault) = (Arc::new(MemoryStore::default()), Fault::new(operation, panics));
    let broker = start(folder.path(), &store, &fault);
    let mut wire = Wire::connect(broker.addresses()[0], &bob());
    wire.subscribe("t", 1);
    wire.disconnect();
    let acknowledged = publish_until_it_ends(&broker, &fault, on_disk);
    assert!(acknowledged >= 50, "{context}: {acknowledged}");
    let fatal = broker.wait().unwrap_err();
    match &fatal {
        Fatal::Panic(panicked) if panics => assert_eq!(panicked, thread, "{context}"),
        Fatal::Store(failure) if !panics => {
            assert_eq!(failure.panicked, None);
            let text = failure.to_string();
            assert!(text.starts_with(&format!("cannot {said}")), "{context}: {text}");
            assert!(text.contains("os error 5") && !text.contains('\n'), "{context}: {text}");
        }
        other => panic!("{context}: {other:?}"),
    }
    // Not even to close it: what the disk holds is no longer known.
    let error = broker.stop().unwrap_err().to_string();
    assert!(error.contains(if panics { thread } else { said }), "{context}: {error}");
    if on_disk {
        assert_eq!(fault.disk_calls_after.load(Ordering::SeqCst), 0, "{context}");
    }
    let healthy = Fault::new("nothing", false);
    let broker = start(folder.path(), &store, &healthy);
    take_all(&broker, acknowledged);
}

#[test]
fn whatever_of_disk_or_store_fails_ends_the_broker_and_loses_nothing_acknowledged() {
    const JOURNAL: &str = "write the journal: cannot";
    for (operation, thread, said) in [
        ("write", "store-committer", JOURNAL),
        ("sync", "store-committer", JOURNAL),
        // The next segment.
        ("create", "store-committer", JOURNAL),
        ("allocate", "store-committer", JOURNAL),
        ("sync header", "store-committer", JOURNAL),
        ("rename", "store-committer", JOURNAL),
        ("sync directory", "store-committer", JOURNAL),
        ("open", "store-committer", JOURNAL),
        // Forgetting.
        ("rename to spare", "store-committer", JOURNAL),
        ("remove", "store-committer", JOURNAL),
        // A checkpoint.
        ("put", "store-checkpointer", "put: "),
        ("delete", "store-checkpointer", "delete: "),
        ("flush", "store-checkpointer", "flush: "),
        ("tidy", "store-checkpointer", "tidy: "),
        // A read.
        ("visit", "store-reader", "visit: "),
    ] {
        try_fault(operation, false, thread, said);
        try_fault(operation, true, thread, said);
    }
}
