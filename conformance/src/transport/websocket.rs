//! A WebSocket as a Client has it (RFC 6455): the opening, frames of any form, and their reading.
//!
//! What is sent is as odd as a case asks for. What is read is held to the letter: a Server that
//! masks, sends text, or sets a reserved bit is told of in the report.

use std::io::{self, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::Socket;

/// A frame to be sent, right or wrong.
#[derive(Debug, Clone)]
pub struct Frame {
    /// FIN, the reserved bits, and the opcode.
    pub first: u8,
    /// Whether it is masked, as a Client's has to be.
    pub masked: bool,
    /// Its payload, before masking.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of this first byte.
    pub fn new(first: u8, payload: &[u8]) -> Self {
        Self { first, masked: true, payload: payload.to_vec() }
    }

    /// A whole binary message.
    pub fn binary(payload: &[u8]) -> Self {
        Self::new(FIN | BINARY, payload)
    }

    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let length = self.payload.len();
        let masked = u8::from(self.masked) << 7;
        let mut bytes = vec![self.first];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => bytes.push(masked | short),
            (_, Ok(medium)) => {
                bytes.push(masked | 126);
                bytes.extend(medium.to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
            }
        }
        if !self.masked {
            bytes.extend(&self.payload);
            return bytes;
        }
        bytes.extend(MASK);
        bytes.extend(self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }
}

/// An open WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    socket: Socket,
    /// Read, and not yet taken apart.
    raw: Vec<u8>,
    /// Payload that nobody has read.
    payload: Vec<u8>,
    /// The payloads of pongs.
    pongs: Vec<Vec<u8>>,
    /// A message began and has not ended.
    within: bool,
    ended: bool,
}

/// What the Server answered to the opening.
#[derive(Debug)]
pub struct Opening {
    /// The status, 101 if it agreed.
    pub status: u16,
    /// The values of `Sec-WebSocket-Protocol`.
    pub protocols: Vec<String>,
    /// Whether the rest is as RFC 6455 §4.2.2 has it.
    pub accepted: bool,
    /// The whole head, for the report.
    pub head: String,
}

impl WebSocket {
    /// Asks for a WebSocket, offering these subprotocols, and reads the answer.
    ///
    /// # Errors
    /// The connection fails, or the answer is no HTTP.
    pub fn open(
        mut socket: Socket,
        host: &str,
        path: &str,
        protocols: &[&str],
    ) -> io::Result<(Self, Opening)> {
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n"
        );
        if !protocols.is_empty() {
            request.push_str(&format!("Sec-WebSocket-Protocol: {}\r\n", protocols.join(", ")));
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes())?;
        socket.flush()?;
        let (head, raw) = read_head(&mut socket)?;
        let opening = Opening::parse(head).ok_or_else(|| wrong("the answer is no HTTP/1.1"))?;
        let (payload, pongs) = (Vec::new(), Vec::new());
        Ok((Self { socket, raw, payload, pongs, within: false, ended: false }, opening))
    }

    /// Sends frames, all in one write.
    ///
    /// # Errors
    /// The broker has closed.
    pub fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.socket.write_all(&bytes)?;
        self.socket.flush()
    }

    /// Reads payload; 0 is the end.
    ///
    /// # Errors
    /// Those of reading, and [`io::ErrorKind::Other`] for a frame that a Server may not send.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            while self.take_frame()? {}
            if !self.payload.is_empty() || self.ended {
                let count = self.payload.len().min(into.len());
                for (to, from) in into.iter_mut().zip(self.payload.drain(..count)) {
                    *to = from;
                }
                return Ok(count);
            }
            let mut scratch = [0; 4096];
            let count = self.socket.read(&mut scratch)?;
            if count == 0 {
                self.ended = true;
            }
            self.raw.extend(scratch.iter().take(count));
        }
    }

    /// The payloads of the pongs read so far.
    pub fn take_pongs(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.pongs)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn finish(&mut self) {
        self.socket.finish();
    }

    /// Takes one whole frame off the front, if there is one.
    fn take_frame(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let Some((first, payload, used)) = split(&self.raw)? else { return Ok(false) };
        self.raw.drain(..used);
        let fin = first & FIN != 0;
        match first & 0x0F {
            BINARY if !self.within => self.within = !fin,
            CONTINUATION if self.within => self.within = !fin,
            PING => {
                self.send(&[Frame::new(FIN | PONG, &payload)]).or_else(closed_already)?;
                return Ok(true);
            }
            PONG => {
                self.pongs.push(payload);
                return Ok(true);
            }
            CLOSE => {
                self.send(&[Frame::new(FIN | CLOSE, &payload)]).or_else(closed_already)?;
                self.ended = true;
                return Ok(false);
            }
            // [MQTT-6.0.0-1]
            opcode => return Err(wrong(format!("a WebSocket frame of opcode {opcode:#x}"))),
        }
        self.payload.extend(payload);
        Ok(true)
    }
}

impl Opening {
    fn parse(head: String) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let fields: Vec<(String, &str)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()))
            .collect();
        let of = |name: &'static str| fields.iter().filter(move |it| it.0 == name).map(|it| it.1);
        let digest = Sha1::digest([KEY, GUID].concat());
        let accepted = status == 101
            && of("upgrade").any(|it| it.eq_ignore_ascii_case("websocket"))
            && of("connection").any(|it| it.to_ascii_lowercase().contains("upgrade"))
            && of("sec-websocket-extensions").next().is_none()
            && of("sec-websocket-accept").eq([STANDARD.encode(digest)]);
        let protocols = of("sec-websocket-protocol").map(str::to_owned).collect();
        Some(Self { status, protocols, accepted, head })
    }
}

/// The head of the answer, and what was read behind it.
fn read_head(socket: &mut Socket) -> io::Result<(String, Vec<u8>)> {
    let mut raw = Vec::new();
    loop {
        if let Some(end) = raw.windows(4).position(|it| it == b"\r\n\r\n") {
            let rest = raw.split_off(end + 4);
            raw.truncate(end);
            return Ok((String::from_utf8_lossy(&raw).into_owned(), rest));
        }
        let mut scratch = [0; 1024];
        let count = socket.read(&mut scratch)?;
        if count == 0 || raw.len() > HEAD_BYTES_MAX {
            return Err(wrong("the answer to the opening of the WebSocket has no end"));
        }
        raw.extend(scratch.iter().take(count));
    }
}

/// First byte, payload and length of the frame at the front, if it is whole.
fn split(raw: &[u8]) -> io::Result<Option<(u8, Vec<u8>, usize)>> {
    let Some(([first, second], rest)) = raw.split_first_chunk() else { return Ok(None) };
    if first & 0x70 != 0 || second & 0x80 != 0 {
        return Err(wrong(format!("a WebSocket frame that begins {first:02x} {second:02x}")));
    }
    let width = match second {
        127 => 8,
        126 => 2,
        _ => 0,
    };
    let Some((length, rest)) = rest.split_at_checked(width) else { return Ok(None) };
    let length = match width {
        0 => usize::from(*second),
        _ => length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    Ok(Some((*first, payload.to_vec(), 2 + width + length)))
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

/// That a Server which closes does not read our answer is its right.
fn closed_already(_error: io::Error) -> io::Result<()> {
    Ok(())
}

/// The last frame of its message.
pub const FIN: u8 = 0x80;
/// Opcodes (RFC 6455 §5.2).
pub const CONTINUATION: u8 = 0;
/// See [`CONTINUATION`].
pub const TEXT: u8 = 1;
/// See [`CONTINUATION`].
pub const BINARY: u8 = 2;
/// See [`CONTINUATION`].
pub const CLOSE: u8 = 8;
/// See [`CONTINUATION`].
pub const PING: u8 = 9;
/// See [`CONTINUATION`].
pub const PONG: u8 = 10;

/// Any four bytes would do: nobody between us is to be confused.
const MASK: [u8; 4] = [0x5A, 0xC3, 0x17, 0xE9];

/// Sixteen bytes, the same each time, so that a run can be compared with another.
const KEY: &str = "dGlkaW5ncyBhc2tzIHlvdQ==";

/// RFC 6455 §1.3
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const HEAD_BYTES_MAX: usize = 16 * 1024;
