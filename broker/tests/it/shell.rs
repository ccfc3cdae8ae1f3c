//! Brokers inside the test's process, to be spoken to over real sockets.

use std::path::Path;

use tidings_broker::{Broker, Builder};

/// A builder that listens on a port of the system's choice.
pub(crate) fn builder() -> Builder {
    Builder::new().listen("127.0.0.1:0".parse().unwrap()).shards(2)
}

/// A broker that keeps nothing.
pub(crate) fn memory() -> Broker {
    builder().start().unwrap()
}

/// A broker that syncs before it acknowledges.
pub(crate) fn durable(dir: &Path) -> Broker {
    builder().data_dir(dir).journal_bytes(1 << 20, 1 << 20).start().unwrap()
}
