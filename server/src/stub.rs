//! Stands in for the builder of `tidings-broker` until that exists; binds and does nothing.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use tidings_broker::auth::Authenticate;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Durability {
    Fsync,
    Os,
    Memory,
}

#[derive(Debug, Default)]
pub(crate) struct Builder {
    listen: Vec<SocketAddr>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn listen(mut self, address: SocketAddr) -> Self {
        self.listen.push(address);
        self
    }

    pub(crate) fn data_dir(self, _dir: PathBuf) -> Self {
        self
    }

    pub(crate) fn durability(self, _durability: Durability) -> Self {
        self
    }

    pub(crate) fn shards(self, _shards: u16) -> Self {
        self
    }

    pub(crate) fn authenticate(self, _authenticate: Arc<dyn Authenticate>) -> Self {
        self
    }

    pub(crate) fn start(self) -> Result<Broker, StartError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in self.listen {
            let failed = |source| StartError::Listen { address, source };
            let listener = TcpListener::bind(address).map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        Ok(Broker { addresses, _listeners: listeners })
    }
}

#[derive(Debug)]
pub(crate) struct Broker {
    addresses: Vec<SocketAddr>,
    _listeners: Vec<TcpListener>,
}

impl Broker {
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) async fn failed(&self) -> Fatal {
        pending().await
    }

    pub(crate) fn stop(self) -> Result<(), StopError> {
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[expect(dead_code, reason = "the stand-in has no store that could fail")]
pub(crate) enum StartError {
    #[error("{address}: cannot listen: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{}: another process uses this data folder; stop it or give --data", .dir.display())]
    InUse { dir: PathBuf },
    #[error("{}: expected format {expected}, found {found}", .dir.display())]
    FormatVersion { dir: PathBuf, expected: u32, found: u32 },
    #[error("{}: damaged: {cause}", .path.display())]
    Damaged { path: PathBuf, cause: String },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
#[expect(dead_code, reason = "the stand-in never fails")]
pub(crate) enum Fatal {
    #[error("the store failed: {0}")]
    Store(io::Error),
    #[error("shard {0} panicked")]
    Panic(u16),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot stop in order: {0}")]
pub(crate) struct StopError(io::Error);
