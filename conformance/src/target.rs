//! The broker under test: an address, and who we say we are.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A broker under test.
#[derive(Debug, Clone)]
pub struct Target {
    address: SocketAddr,
    /// The user name in each CONNECT.
    pub user: Option<String>,
    /// The password in each CONNECT.
    pub password: Option<String>,
    /// How long an answer may take.
    pub patience: Duration,
}

impl Target {
    /// A broker that listens here, `host:port`.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub fn new(address: &str) -> io::Result<Self> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        // Of several addresses the IPv4 one: most test set-ups listen on nothing else.
        let mut found: Vec<_> = address.to_socket_addrs()?.collect();
        found.sort();
        let address = found.first().copied().ok_or_else(none)?;
        Ok(Self { address, user: None, password: None, patience: Duration::from_secs(5) })
    }

    /// That somebody listens there.
    ///
    /// # Errors
    /// Nobody does.
    pub fn reach(&self) -> io::Result<()> {
        self.dial().map(drop)
    }

    pub(crate) fn dial(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(stream)
    }
}
