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
    pub(crate) keep_alive: Duration,
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
    /// Options for `user` on `device` at `address` (`host:port`), with every default.
    ///
    /// The outbox goes to [`default_data_dir`](Self::default_data_dir).
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
            keep_alive: Duration::from_secs(30),
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

    /// The directory of the outbox. One client at a time may have it open.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = path.into();
        self
    }

    /// Longest silence on the connection before a PINGREQ (§3.1.2.10); 30 s by default, 5 s to
    /// 65,535 s.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
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

    /// How long a send that the broker took, but did not answer with a seq, waits before it is sent
    /// again with the same id; 30 s by default.
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

    /// How many entries the broker may send before the application has taken them: the Receive
    /// Maximum (§3.1.2.11.3), and the bound of the client's memory for a slow application; 64 by
    /// default, at least 1.
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

    /// Where the outbox lies.
    pub fn outbox_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        check_name("user", &self.user)?;
        let device = &self.device;
        if device.is_empty() || device.len() > 128 || device.chars().any(char::is_control) {
            return Err(ConnectError::Name(NameError {
                what: "device",
                name: device.clone(),
                expected: "1 to 128 bytes without control characters",
            }));
        }
        self.host_and_port()?;
        let seconds = self.keep_alive.as_secs();
        let bad =
            |option, found: String, expected| Err(ConnectError::Option { option, found, expected });
        if !(5..=65_535).contains(&seconds) {
            return bad("keep_alive", format!("{seconds} s"), "5 s to 65,535 s");
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

    pub(crate) fn host_and_port(&self) -> Result<(String, u16), ConnectError> {
        self.address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
            .filter(|(host, port)| !host.is_empty() && *port != 0)
            .map(|(host, port)| (host.to_owned(), port))
            .ok_or_else(|| ConnectError::Address { address: self.address.clone() })
    }
}

/// The password is left out.
impl std::fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("address", &self.address)
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
