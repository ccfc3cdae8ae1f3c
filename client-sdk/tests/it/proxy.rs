//! A network between client and broker that cuts, stalls, resets and half-closes, by a seed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// One that listens on a port of its own for as long as the runtime lives.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    broker: Mutex<SocketAddr>,
    seed: AtomicU64,
    calm: AtomicBool,
    cuts: AtomicU64,
}

impl Shared {
    /// SplitMix64.
    fn random(&self, below: u64) -> u64 {
        let mut z = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

impl Proxy {
    pub(crate) async fn start(broker: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            broker: Mutex::new(broker),
            seed: AtomicU64::new(seed),
            calm: AtomicBool::new(false),
            cuts: AtomicU64::new(0),
        });
        let of_task = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, Arc::clone(&of_task)));
            }
        });
        Self { address, shared }
    }

    /// The broker has moved.
    pub(crate) fn lead_to(&self, broker: SocketAddr) {
        *self.shared.broker.lock().unwrap() = broker;
    }

    /// Does no harm any more.
    pub(crate) fn calm(&self) {
        self.shared.calm.store(true, Ordering::Relaxed);
    }

    /// How often it did harm.
    pub(crate) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }
}

async fn connect(client: TcpStream, shared: Arc<Shared>) {
    let broker = *shared.broker.lock().unwrap();
    let Ok(broker) = TcpStream::connect(broker).await else { return };
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = broker.into_split();
    let up = pass(from_client, to_broker, Arc::clone(&shared));
    let down = pass(from_broker, to_client, shared);
    tokio::pin!(up, down);
    // Dropping one of them drops the halves of both: a reset, not an orderly end.
    tokio::select! {
        half = &mut up => if half { down.await; },
        half = &mut down => if half { up.await; },
    }
}

/// Passes bytes on until there are no more, or harm is done; whether only this half has ended, as
/// where a network forgets a connection in one direction.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: Arc<Shared>) -> bool {
    let mut buffer = vec![0; 4_096];
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return false };
        if read == 0 {
            return false;
        }
        let mut some = read;
        if !shared.calm.load(Ordering::Relaxed) {
            match shared.random(400) {
                // Cut, with some of it on its way.
                0..=2 => {
                    shared.cuts.fetch_add(1, Ordering::Relaxed);
                    some = usize::try_from(shared.random(read as u64 + 1)).unwrap();
                    let _ = to.write_all(&buffer[..some]).await;
                    return false;
                }
                // Half-closed: nothing comes any more, and nobody says so.
                3 => {
                    shared.cuts.fetch_add(1, Ordering::Relaxed);
                    let _ = to.shutdown().await;
                    return true;
                }
                4..=15 => {
                    let wait = Duration::from_millis(1 + shared.random(40));
                    tokio::time::sleep(wait).await;
                }
                _ => {}
            }
        }
        if to.write_all(&buffer[..some]).await.is_err() {
            return false;
        }
    }
}
