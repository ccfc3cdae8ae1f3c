//! The broker under test: an address, how it is reached, and who we say we are.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::transport::websocket::Opening;
use crate::transport::{Channel, Socket, WebSocket};

/// A broker under test.
#[derive(Debug, Clone)]
pub struct Target {
    /// As it was given: `host:port`.
    name: String,
    address: SocketAddr,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<ClientConfig>>,
    /// The path of the WebSocket, if one is asked for.
    pub websocket: Option<String>,
    /// The user name in each CONNECT.
    pub user: Option<String>,
    /// The password in each CONNECT.
    pub password: Option<String>,
    /// A method of enhanced authentication that knows the user and the password too.
    pub auth_method: Option<String>,
    /// A topic that we may not publish to.
    pub denied_topic: String,
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
        let name = address.to_owned();
        // Of several addresses the IPv4 one: most test set-ups listen on nothing else.
        if !address.contains(':') {
            let text = format!("expected HOST:PORT, found {address:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut found: Vec<_> = address.to_socket_addrs()?.collect();
        found.sort();
        let address = found.first().copied().ok_or_else(none)?;
        Ok(Self {
            name,
            address,
            tls: None,
            websocket: None,
            user: None,
            password: None,
            auth_method: None,
            denied_topic: "$SYS/not/for/clients".to_owned(),
            patience: Duration::from_secs(5),
        })
    }

    /// The address as it was given, after how it is reached: `mqtts://host:port`.
    pub fn url(&self) -> String {
        let path = self.websocket.as_deref().unwrap_or_default();
        format!("{}://{}{path}", self.transport(), self.name)
    }

    /// `mqtt`, `mqtts`, `ws` or `wss`.
    pub fn transport(&self) -> &'static str {
        match (&self.websocket, &self.tls) {
            (None, None) => "mqtt",
            (None, Some(_)) => "mqtts",
            (Some(_), None) => "ws",
            (Some(_), Some(_)) => "wss",
        }
    }

    /// That somebody listens there, and speaks what we do below MQTT.
    ///
    /// # Errors
    /// Nobody does.
    pub fn reach(&self) -> io::Result<()> {
        self.dial().map(drop)
    }

    pub(crate) fn dial(&self) -> io::Result<Channel> {
        let Some(path) = &self.websocket else { return Ok(Channel::Stream(self.socket()?)) };
        let (socket, opening) = self.dial_websocket(path, &["mqtt"])?;
        if opening.accepted && opening.protocols == ["mqtt"] {
            return Ok(Channel::WebSocket(socket));
        }
        let line = opening.head.lines().next().unwrap_or_default();
        Err(io::Error::other(format!(
            "{path} does not open a WebSocket of the subprotocol mqtt: {line}"
        )))
    }

    /// Asks for a WebSocket, whether or not it is granted.
    pub(crate) fn dial_websocket(
        &self,
        path: &str,
        protocols: &[&str],
    ) -> io::Result<(WebSocket, Opening)> {
        WebSocket::open(self.socket()?, &self.name, path, protocols)
    }

    fn socket(&self) -> io::Result<Socket> {
        let stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(self.patience))?;
        // For the handshake, of TLS and of a WebSocket; then each read has a deadline of its own.
        stream.set_read_timeout(Some(self.patience))?;
        let Some(config) = &self.tls else { return Ok(Socket::Plain(stream)) };
        let host = self.name.rsplit_once(':').map_or(self.name.as_str(), |it| it.0);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let host = ServerName::try_from(host).map_err(io::Error::other)?;
        let connection = ClientConnection::new(config.clone(), host).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Socket::Tls(Box::new(stream)))
    }
}
