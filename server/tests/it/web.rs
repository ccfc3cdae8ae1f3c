//! A browser's half: HTTP requests by hand, and MQTT over WebSocket.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Bytes, Message, WebSocket};

use crate::wire::{Connect, PATIENCE, Packet, Wire};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    head: String,
    body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { head: format!("{method} {path} HTTP/1.1\r\n"), body: Vec::new() }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// With a body of JSON.
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path).with("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.head, "{name}: {value}\r\n");
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it over a connection of its own.
    pub(crate) fn send(&self, address: SocketAddr) -> Answer {
        let mut stream = connect(address);
        let mut head = self.head.clone();
        if !head.contains("\r\nHost:") {
            let _ = write!(head, "Host: {address}\r\n");
        }
        if !head.contains("Content-Length:") && !self.body.is_empty() {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        let _ = write!(head, "Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // Who is refused early may close before all of it is there.
        let _ = stream.write_all(&self.body);
        Answer::read(&mut stream)
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the connection.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut all = Vec::new();
        let _reset_behind_the_answer = stream.read_to_end(&mut all);
        let end = all.windows(4).position(|part| part == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&all)));
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let mut answer = Self { status, headers: headers.collect(), body: all[end + 4..].to_vec() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = whole(&answer.body);
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The code of a refusal with this status.
    pub(crate) fn refused(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let json = self.json();
        assert!(json["text"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        json["code"].as_str().unwrap().to_owned()
    }

    /// The body of an answer that is as it should be.
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text());
        self.json()
    }
}

/// What was sent in chunks.
fn whole(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|part| part == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        rest = &rest[line + 2..];
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// A WebSocket as the stream of bytes that MQTT makes of it.
pub(crate) struct Socket {
    socket: WebSocket<TcpStream>,
    received: Bytes,
}

impl Socket {
    /// Upgrades at `/mqtt`.
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[])
    }

    /// The same with more headers.
    pub(crate) fn open_with(address: SocketAddr, more: &[(&'static str, &'static str)]) -> Self {
        let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
        let mqtt = HeaderValue::from_static("mqtt");
        request.headers_mut().insert("Sec-WebSocket-Protocol", mqtt);
        for (name, value) in more {
            request.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        let answer = tungstenite::client(request, connect(address));
        let (socket, answer) = answer.map_err(|error| error.to_string()).unwrap();
        assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self { socket, received: Bytes::new() }
    }
}

/// Connects with MQTT over WebSocket; the connection, and the code of the CONNACK.
pub(crate) fn mqtt(address: SocketAddr, connect: &Connect) -> (Wire<Socket>, u8) {
    mqtt_over(Socket::open(address), connect)
}

/// The same over one that is open.
pub(crate) fn mqtt_over(socket: Socket, connect: &Connect) -> (Wire<Socket>, u8) {
    let mut wire = Wire::over(socket, connect.version);
    wire.send(&connect.bytes()).unwrap();
    match wire.next() {
        Packet::Connack { code, .. } => (wire, code),
        other => panic!("expected CONNACK, found {other:?}"),
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.received.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.received = bytes,
                Ok(Message::Close(_)) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let some = self.received.len().min(buf.len());
        buf[..some].copy_from_slice(&self.received.split_to(some));
        Ok(some)
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let message = Message::Binary(Bytes::copy_from_slice(buf));
        self.socket.send(message).map_err(io::Error::other)?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
