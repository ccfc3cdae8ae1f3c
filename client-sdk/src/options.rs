//! How to connect: who, where to, and every bound the client keeps.
//!
//! A device is a person's phone, laptop or terminal. The broker keeps a queue and a cursor for each
//! (user, device), so a device name must stay the same from start to start, and two programs must
//! not share one.

use crate::error::{ConnectError, NameError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What [`Client::connect`](crate::Client::connect) needs to know.
#[derive(Clone)]
pub struct ConnectOptions {
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
    pub(crate) device: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) in_memory: bool,
    pub(crate) authorities: Option<Vec<u8>>,
    pub(crate) keep_alive: Duration,
    pub(crate) keep_alive_max: Duration,
    pub(crate) session_expiry: Duration,
    pub(crate) backoff_min: Duration,
    pub(crate) backoff_max: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) in_flight_max: u16,
    pub(crate) receive_maximum: u16,
    pub(crate) payload_bytes_max: usize,
    pub(crate) outbox_sends_max: usize,
    pub(crate) outbox_bytes_max: usize,
}

impl ConnectOptions {
    /// Options for `user` on `device` at `address` (`host:port`, or a URL without a user), with
    /// every default.
    ///
    /// The local store goes to [`default_data_dir`](Self::default_data_dir).
    pub fn new(
        address: impl Into<String>,
        user: impl Into<String>,
        device: impl Into<String>,
    ) -> Self {
        let (user, device) = (user.into(), device.into());
        let data_dir = Self::default_data_dir(&user, &device);
        Self {
            address: address.into(),
            user,
            password: None,
            device,
            data_dir,
            in_memory: false,
            authorities: None,
            keep_alive: Duration::from_secs(60),
            keep_alive_max: Duration::from_secs(240),
            session_expiry: Duration::from_secs(30 * 24 * 3600),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            in_flight_max: 32,
            receive_maximum: 64,
            payload_bytes_max: 64 * 1024,
            outbox_sends_max: 10_000,
            outbox_bytes_max: 16 * 1024 * 1024,
        }
    }

    /// Options from a URL: `mqtt://`, `mqtts://`, `ws://` or `wss://`, then `user:password@`, host,
    /// and where they differ from 1883, 8883, 80 and 443 a port; of a WebSocket a path (`/mqtt`).
    ///
    /// What is no letter or digit in user and password may be written as `%40`.
    ///
    /// ```
    /// # use tidings_client::ConnectOptions;
    /// let options = ConnectOptions::from_url("mqtts://alice:s3cret@chat.example.org", "phone")?;
    /// # Ok::<(), tidings_client::ConnectError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// It is no such URL, or has no user.
    pub fn from_url(url: &str, device: impl Into<String>) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Address { address: hidden(url) };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (login, host) = authority.rsplit_once('@').ok_or_else(wrong)?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let user = decoded(user).ok_or_else(wrong)?;
        let mut options = Self::new(format!("{scheme}://{host}{path}"), user, device);
        if let Some(password) = password {
            options = options.password(decoded(password).ok_or_else(wrong)?);
        }
        options.target()?;
        Ok(options)
    }

    /// Where the outbox of `device` lies unless told otherwise:
    /// `$XDG_DATA_HOME/tidings/USER/DEVICE`, else `$HOME/.local/share/tidings/USER/DEVICE`, else the
    /// same below the system's temporary directory, which a restart of the machine may empty.
    pub fn default_data_dir(user: &str, device: &str) -> PathBuf {
        let absolute = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .unwrap_or_else(std::env::temp_dir)
            .join("tidings")
            .join(file_name(user))
            .join(file_name(device))
    }

    /// The password; none by default.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The directory of the local store. One client at a time may have it open.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = path.into();
        self
    }

    /// Keeps everything in memory: no history after the program's end, and what is unsent then is
    /// lost. For rooms, for tests, and for who must leave nothing behind.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Trusts these authorities (PEM certificates) in place of the system's.
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// Longest silence on the first connection before a PINGREQ (§3.1.2.10), and what it may grow
    /// to on networks that bear it; 60 s and 240 s by default, from 5 s to 65,535 s.
    #[must_use]
    pub fn keep_alive(mut self, first: Duration, max: Duration) -> Self {
        (self.keep_alive, self.keep_alive_max) = (first, max);
        self
    }

    /// How long the broker keeps the device's Session while it is away (§3.1.2.11.2); 30 days by
    /// default.
    #[must_use]
    pub fn session_expiry(mut self, expiry: Duration) -> Self {
        self.session_expiry = expiry;
        self
    }

    /// First and longest wait between attempts to connect; 250 ms and 30 s by default. Each wait is
    /// twice the one before, and half of it is random, so that a restarted broker is not met by
    /// everyone at once.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff_min = min;
        self.backoff_max = max;
        self
    }

    /// How long a question that the broker took, but did not answer, waits before it is asked again;
    /// 30 s by default.
    #[must_use]
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// How many publishes may wait for the broker's answer at once; 32 by default, 1 to 1,000. The
    /// broker's Receive Maximum lowers it (§3.2.2.3.3).
    #[must_use]
    pub fn in_flight_max(mut self, max: u16) -> Self {
        self.in_flight_max = max;
        self
    }

    /// How many publishes the broker may send before the store has them: the Receive Maximum
    /// (§3.1.2.11.3), and the bound of the client's memory for a slow disk; 64 by default, at least
    /// 1.
    #[must_use]
    pub fn receive_maximum(mut self, max: u16) -> Self {
        self.receive_maximum = max;
        self
    }

    /// Longest message in bytes; 65,536 by default, at most 262,144.
    #[must_use]
    pub fn payload_bytes_max(mut self, max: usize) -> Self {
        self.payload_bytes_max = max;
        self
    }

    /// Bounds of the outbox: how many sends may wait for the broker, and how many bytes of them;
    /// 10,000 and 16 MiB by default. Full: [`SendError::OutboxFull`](crate::SendError::OutboxFull).
    #[must_use]
    pub fn outbox_max(mut self, sends: usize, bytes: usize) -> Self {
        self.outbox_sends_max = sends;
        self.outbox_bytes_max = bytes;
        self
    }

    /// Where the local store lies.
    pub fn store_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        // A link to a seat in a room is a user too, and `~anon` who has none.
        check_name("user", self.user.strip_prefix('~').unwrap_or(&self.user))?;
        let device = &self.device;
        if device.is_empty() || device.len() > 128 || device.chars().any(char::is_control) {
            return Err(ConnectError::Name(NameError {
                what: "device",
                name: device.clone(),
                expected: "1 to 128 bytes without control characters",
            }));
        }
        self.target()?;
        let seconds = self.keep_alive.as_secs();
        let bad =
            |option, found: String, expected| Err(ConnectError::Option { option, found, expected });
        if !(5..=65_535).contains(&seconds) {
            return bad("keep_alive", format!("{seconds} s"), "5 s to 65,535 s");
        }
        if self.keep_alive_max < self.keep_alive || self.keep_alive_max.as_secs() > 65_535 {
            let found = format!("{:?} to {:?}", self.keep_alive, self.keep_alive_max);
            return bad("keep_alive", found, "a first silence not above the longest");
        }
        if self.backoff_min.is_zero() || self.backoff_min > self.backoff_max {
            let found = format!("{:?} to {:?}", self.backoff_min, self.backoff_max);
            return bad("backoff", found, "a first wait above zero and not above the longest");
        }
        if !(1..=1_000).contains(&self.in_flight_max) {
            return bad("in_flight_max", self.in_flight_max.to_string(), "1 to 1,000");
        }
        if self.receive_maximum == 0 {
            return bad("receive_maximum", "0".to_owned(), "at least 1");
        }
        if self.payload_bytes_max > 262_144 {
            return bad("payload_bytes_max", self.payload_bytes_max.to_string(), "at most 262,144");
        }
        Ok(())
    }

    pub(crate) fn target(&self) -> Result<Target, ConnectError> {
        let wrong = || ConnectError::Address { address: hidden(&self.address) };
        let (scheme, rest) = match self.address.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("mqtt", self.address.as_str()),
        };
        let (tls, websocket, default_port) = match scheme {
            "mqtt" => (false, false, 1_883),
            "mqtts" => (true, false, 8_883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(wrong()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let path = if path.len() > 1 { path } else { "/mqtt" };
        // `[::1]:1883`, `host:1883`, `host`; a port is what is behind the last colon, if it is one.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong)?)
            }
            // Only a URL has a default.
            _ if self.address.contains("://") => (authority, default_port),
            _ => return Err(wrong()),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || host.contains(['@', '[', ']', ' ']) {
            return Err(wrong());
        }
        let websocket = websocket.then(|| path.to_owned());
        Ok(Target { tls, websocket, host: host.to_owned(), port })
    }
}

/// Where to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// The path of a WebSocket.
    pub(crate) websocket: Option<String>,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Target {
    /// For people.
    pub(crate) fn address(&self) -> String {
        let host = &self.host;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{host}:{}", self.port)
    }
}

/// An address as it may be shown: a password never is.
fn hidden(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => address.to_owned(),
    }
}

/// What percent signs stand for (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit =
            || char::from(rest.next()?).to_digit(16).and_then(|it| u8::try_from(it).ok());
        bytes.push(digit()? * 16 + digit()?);
    }
    String::from_utf8(bytes).ok()
}

/// The password is left out.
impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("address", &hidden(&self.address))
            .field("user", &self.user)
            .field("device", &self.device)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// A name as one component of a path: neither `..` nor `a/b` leads elsewhere, and no two names meet.
fn file_name(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02x}"));
        }
    }
    escaped
}

/// Users, groups and ids: `[A-Za-z0-9._-]{1,64}`.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    let expected = "1 to 64 of A-Z a-z 0-9 . _ -";
    Err(NameError { what, name: name.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_without_port_is_refused_with_an_example() {
        let error = ConnectOptions::new("localhost", "alice", "phone").check().unwrap_err();
        assert!(error.to_string().contains("127.0.0.1:1883"), "{error}");
        ConnectOptions::new("[::1]:1883", "alice", "phone").check().unwrap();
    }

    #[test]
    fn urls_say_how_where_and_who() {
        let options = ConnectOptions::from_url("mqtts://al%40ice:p%2Fw@host", "phone");
        assert!(options.unwrap().check().is_err(), "no such user, but read as written");
        let read = |url| ConnectOptions::from_url(url, "phone");
        let options = read("mqtts://alice:p%2Fw:x@chat.example.org").unwrap();
        assert_eq!((options.user.as_str(), options.password.as_deref()), ("alice", Some("p/w:x")));
        let target = |tls, websocket: Option<&str>, host: &str, port| Target {
            tls,
            websocket: websocket.map(str::to_owned),
            host: host.to_owned(),
            port,
        };
        assert_eq!(options.target().unwrap(), target(true, None, "chat.example.org", 8_883));
        let of = |url| read(url).unwrap().target().unwrap();
        assert_eq!(of("ws://a@[::1]:8083/chat"), target(false, Some("/chat"), "::1", 8_083));
        assert_eq!(of("wss://a@h"), target(true, Some("/mqtt"), "h", 443));
        assert_eq!(of("mqtt://a@h/"), target(false, None, "h", 1_883));
        for wrong in ["mqtt://h", "http://a@h", "mqtt://a@h:x", "mqtt://a:%zz@h", "mqtt://a@", "h"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let error = read("mqtt://alice:s3cret@h:0").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[test]
    fn user_that_would_leave_the_data_directory_is_refused() {
        assert!(ConnectOptions::new("h:1", "../../etc", "phone").check().is_err());
        assert!(ConnectOptions::new("h:1", "alice", "").check().is_err());
    }

    #[test]
    fn data_directory_stays_below_its_parent_whatever_the_names() {
        let parent = ConnectOptions::default_data_dir("alice", "phone");
        let parent = parent.parent().and_then(Path::parent).unwrap();
        for (user, device) in [("..", ".."), ("a", "../b"), ("a", "/etc")] {
            let path = ConnectOptions::default_data_dir(user, device);
            assert_eq!(path.parent().and_then(Path::parent), Some(parent));
            assert!(!path.to_string_lossy().contains(".."), "{path:?}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let options = ConnectOptions::new("h:1", "alice", "phone").password("s3cret");
        assert!(!format!("{options:?}").contains("s3cret"));
    }
}
