//! The PROXY protocol, version 2: who is at the other end, said by a proxy that is trusted.
//!
//! Version 1 is refused, and so is a header that names no IP address: its client could pass for the
//! proxy's own machine. A local address of the proxy's machine counts as the proxy's.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A range of IP addresses, such as `10.0.0.0/8` or `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` is in it. An IPv4 address inside an IPv6 one counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |own: u128, other: u128, bits: u32| {
            let other_bits = bits.saturating_sub(self.prefix.into());
            own.checked_shr(other_bits) == other.checked_shr(other_bits)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(u32::from(own).into(), u32::from(other).into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.into(), other.into(), 128),
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A text that is no [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected an IP address, with or without /bits")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|it| *it <= bits).ok_or(NotANetwork)?,
            None => bits,
        };
        Ok(Self { address, prefix })
    }
}

/// Reads the header. `Ok(None)`: the proxy speaks for itself.
///
/// # Errors
/// There is none, or it cannot be used.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    proxy: IpAddr,
) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; START_BYTES];
    let (signature, rest) = start.split_at_mut(SIGNATURE.len());
    let (first, others) = signature.split_at_mut(1);
    stream.read_exact(first).await?;
    // A CONNECT may be shorter than what is read here, and would be waited for in vain.
    if !matches!(first, [b'\r' | b'P']) {
        return Err(bad("expected the PROXY protocol"));
    }
    stream.read_exact(others).await?;
    stream.read_exact(rest).await?;
    let (command, family, length) = parse_start(&start)?;
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    let source = parse_addresses(command, family, &rest)?;
    Ok(source.map(|source| {
        let foreign =
            source.ip().to_canonical().is_loopback() && !proxy.to_canonical().is_loopback();
        if foreign { SocketAddr::new(proxy, source.port()) } else { source }
    }))
}

/// What the proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    /// It opened the connection itself, to see whether somebody is there.
    Local,
    /// It speaks for somebody.
    Proxy,
}

/// The fixed part: command, address family with transport, bytes that follow.
fn parse_start(start: &[u8; START_BYTES]) -> io::Result<(Command, u8, usize)> {
    let [signature @ .., command, family, high, low] = start;
    if signature != SIGNATURE {
        return Err(bad(if start.starts_with(b"PROXY ") {
            "version 1 of the PROXY protocol, expected version 2"
        } else {
            "expected the PROXY protocol"
        }));
    }
    let command = match command {
        0x20 => Command::Local,
        0x21 => Command::Proxy,
        _ => return Err(bad("unknown version or command of the PROXY protocol")),
    };
    let length = u16::from_be_bytes([*high, *low]);
    if length > HEADER_BYTES_MAX {
        return Err(bad("the PROXY header is too long"));
    }
    Ok((command, *family, length.into()))
}

/// The source. What follows the addresses is not looked at.
fn parse_addresses(command: Command, family: u8, rest: &[u8]) -> io::Result<Option<SocketAddr>> {
    let too_short = || bad("the PROXY header is too short for its addresses");
    match (command, family) {
        (Command::Local, _) => Ok(None),
        (Command::Proxy, 0x11) => {
            let addresses: &[u8; 12] = rest.first_chunk().ok_or_else(too_short)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = addresses;
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Some(SocketAddr::new(Ipv4Addr::new(*a, *b, *c, *d).into(), port)))
        }
        (Command::Proxy, 0x21) => {
            let addresses: &[u8; 36] = rest.first_chunk().ok_or_else(too_short)?;
            let source: &[u8; 16] = addresses.first_chunk().ok_or_else(too_short)?;
            let [.., high, low, _, _] = addresses;
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Some(SocketAddr::new(Ipv6Addr::from(*source).into(), port)))
        }
        (Command::Proxy, _) => Err(bad("the PROXY header names no address of TCP")),
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const START_BYTES: usize = 16;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Addresses and what else a proxy tells; the protocol asks for room for 536 bytes.
const HEADER_BYTES_MAX: u16 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn parse(bytes: &[u8], proxy: &str) -> Result<Option<SocketAddr>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut bytes = bytes;
        let read = read(&mut bytes, proxy.parse().unwrap());
        runtime.block_on(read).map_err(|error| error.to_string())
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0xc3, 0x50, 0x07, 0x5b];

    #[test]
    fn source_is_who_is_at_the_other_end() {
        let source = Ok(Some("192.0.2.7:50000".parse().unwrap()));
        assert_eq!(parse(&header(0x21, 0x11, &V4), "127.0.0.1"), source);
        let and_more = [&V4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
        assert_eq!(parse(&header(0x21, 0x11, &and_more), "127.0.0.1"), source);
        let mut v6 = [0; 36];
        v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        v6[15] = 7;
        v6[32..34].copy_from_slice(&[0x07, 0x5b]);
        let source = Ok(Some("[2001:db8::7]:1883".parse().unwrap()));
        assert_eq!(parse(&header(0x21, 0x21, &v6), "127.0.0.1"), source);
    }

    #[test]
    fn proxy_may_speak_for_itself() {
        assert_eq!(parse(&header(0x20, 0, &[]), "127.0.0.1"), Ok(None));
        assert_eq!(parse(&header(0x20, 0x11, &V4), "127.0.0.1"), Ok(None));
    }

    #[test]
    fn loopback_of_another_machine_is_not_ours() {
        let mut local = V4;
        local[..4].copy_from_slice(&[127, 0, 0, 1]);
        let header = header(0x21, 0x11, &local);
        assert_eq!(parse(&header, "10.0.0.9"), Ok(Some("10.0.0.9:50000".parse().unwrap())));
        assert_eq!(parse(&header, "127.0.0.1"), Ok(Some("127.0.0.1:50000".parse().unwrap())));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for (bytes, reason) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(), "version 1"),
            (b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0".to_vec(), "expected the PROXY"),
            (b"\r\n\r\n\0\r\nQUIT!\x21\x11\0\x0c".to_vec(), "expected the PROXY"),
            (header(0x11, 0x11, &V4), "unknown version"),
            (header(0x22, 0x11, &V4), "unknown version"),
            (header(0x21, 0x11, &V4[..11]), "too short"),
            (header(0x21, 0x21, &V4), "too short"),
            // Of no family, by datagrams, of a Unix socket.
            (header(0x21, 0x00, &[]), "no address"),
            (header(0x21, 0x12, &V4), "no address"),
            (header(0x21, 0x31, &[0; 216]), "no address"),
            (header(0x21, 0x11, &[0; 2049]), "too long"),
            (header(0x21, 0x11, &V4)[..20].to_vec(), "eof"),
        ] {
            let error = parse(&bytes, "127.0.0.1").unwrap_err();
            assert!(error.contains(reason), "{error} for {bytes:02x?}");
        }
    }

    #[test]
    fn network_is_an_address_with_bits() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("2001:db8::/32", "2001:db8:1::2") && contains("::/0", "2001:db8::"));
        for bad in ["10.0.0.0/33", "::1/129", "host", "10.0.0.0/", "10.0.0.0/-1", ""] {
            assert_eq!(bad.parse::<Network>(), Err(NotANetwork), "{bad}");
        }
    }
}
