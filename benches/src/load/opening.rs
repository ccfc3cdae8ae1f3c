//! Brings connections up: connect, CONNECT, and SUBSCRIBE where somebody subscribes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use crate::load::clock::Clock;
use crate::load::latency::Latencies;
use crate::load::mesh::{Actor, Gone, Mesh, Outs};
use crate::load::options::Options;
use crate::load::stream::Tls;
use crate::load::wire::{Connect, Packet, QoS, Version, put_connect, put_subscribe};

/// How many connections are being opened at a time, where it is not all at once.
pub(crate) const AT_ONCE: usize = 64;
/// The longest there is, so that nobody has to say PINGREQ; some brokers refuse 0, which is for ever.
const KEEP_ALIVE_S: u16 = u16::MAX;
/// Connections from one address of this machine: the ports of one are not enough for all, and when
/// half of them are taken the system searches long for another.
const PER_SOURCE: usize = 5_000;

/// Where to, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// The broker's address.
    pub(crate) address: SocketAddr,
    /// What is spoken.
    pub(crate) version: Version,
    /// See `--user`.
    pub(crate) user: Option<String>,
    /// See `--password`.
    pub(crate) password: Option<String>,
    /// Whether everybody logs in under a name of their own.
    pub(crate) named: bool,
    /// How long nothing may happen.
    pub(crate) patience: Duration,
    /// See `--tls`.
    pub(crate) tls: Option<Tls>,
    /// Told apart from other runs by this, in Client Identifiers and topics.
    pub(crate) tag: String,
}

impl Door {
    /// As the options say.
    pub(crate) fn of(options: &Options) -> Result<Self, String> {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Ok(Self {
            address: options.address()?,
            version: options.version(),
            user: options.user.clone(),
            password: options.password.clone(),
            named: false,
            patience: options.patience(),
            tls: options.tls()?,
            tag: format!("{:x}{:x}", std::process::id(), since.as_millis() & 0xff_ffff),
        })
    }

    /// The topic with a number.
    pub(crate) fn topic(&self, number: usize) -> String {
        format!("bench/{}/{number}", self.tag)
    }

    /// Begins connection `at` as this guest, from an address of this machine: 0 leaves it to the system.
    pub(crate) fn knock(
        &self,
        mesh: &mut Mesh,
        at: usize,
        host: u8,
        guest: &Guest,
    ) -> Result<(), String> {
        mesh.open(at, self.address, self.source(host), self.tls.as_ref()).map_err(|error| {
            format!("connection {at} to {}: {error}{}", self.address, mend(&error))
        })?;
        let own = self.named.then(|| self.user_of(&guest.name));
        let connect = Connect {
            version: self.version,
            clean_start: guest.clean,
            client_id: &format!("b{}{}", self.tag, guest.name),
            keep_alive: KEEP_ALIVE_S,
            user: own.as_deref().or(self.user.as_deref()),
            password: self.password.as_deref(),
        };
        mesh.outs().put(at, |out| put_connect(out, &connect));
        Ok(())
    }

    /// The user name of a guest, where everybody has one.
    pub(crate) fn user_of(&self, name: &str) -> String {
        format!("u{}{name}", self.tag)
    }

    /// One of many addresses of this machine.
    pub(crate) fn any_host(nth: u64) -> u8 {
        u8::try_from(nth % 250).unwrap_or_default()
    }

    /// Where that is not left to the system; only to a broker at 127.0.0.1.
    fn source(&self, host: u8) -> Option<IpAddr> {
        let local = self.address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
        (local && host > 0).then(|| Ipv4Addr::new(127, 0, 0, host.saturating_add(1)).into())
    }
}

/// Many connections come from several addresses.
fn host_of(at: usize) -> u8 {
    u8::try_from(at / PER_SOURCE).unwrap_or(u8::MAX)
}

/// Somebody who comes.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// What the Client Identifier says beside the tag of the run.
    pub(crate) name: String,
    /// Clean Start, and a session that ends with the connection.
    pub(crate) clean: bool,
    /// What is subscribed to.
    pub(crate) filter: Option<(String, QoS)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    Connecting,
    Subscribing,
    Open,
}

/// Connections `base..` on their way.
pub(crate) struct Opening<'a> {
    door: &'a Door,
    guest: &'a dyn Fn(usize) -> Guest,
    base: usize,
    states: Vec<State>,
    /// When each began to connect.
    began: Vec<u64>,
    /// Of those that have not begun: the first.
    next: usize,
    /// Those that were turned away and come again.
    again: Vec<usize>,
    under_way: usize,
    open: usize,
    /// How many were turned away; only where they may come again.
    pub(crate) refused: u64,
    /// Whether one that is turned away comes again.
    pub(crate) insists: bool,
    /// Whether everybody comes from another address, as far as this machine has some.
    pub(crate) spread: bool,
    /// Count from here when each began to connect, where all are due at once.
    pub(crate) due: Option<u64>,
    /// From connecting to CONNACK.
    pub(crate) connacks: Latencies,
    /// The least that any was told.
    pub(crate) receive_maximum: u16,
    /// How many found their session.
    pub(crate) present: u64,
    failed: Option<String>,
    clock: Clock,
}

impl std::fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("open", &self.open).finish_non_exhaustive()
    }
}

impl<'a> Opening<'a> {
    /// Of the connections `which`, who are the guests of these numbers.
    pub(crate) fn new(
        door: &'a Door,
        which: Range<usize>,
        guest: &'a dyn Fn(usize) -> Guest,
        clock: Clock,
    ) -> Self {
        Self {
            door,
            guest,
            base: which.start,
            states: vec![State::Waits; which.len()],
            began: vec![0; which.len()],
            next: 0,
            again: Vec::new(),
            under_way: 0,
            open: 0,
            refused: 0,
            insists: false,
            spread: false,
            due: None,
            connacks: Latencies::default(),
            receive_maximum: u16::MAX,
            present: 0,
            failed: None,
            clock,
        }
    }

    /// When each began to connect.
    pub(crate) fn began(&self) -> &[u64] {
        &self.began
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether all are, or why that cannot be.
    pub(crate) fn all_open(&self) -> Result<bool, String> {
        match &self.failed {
            Some(why) => Err(why.clone()),
            None => Ok(self.open == self.states.len()),
        }
    }

    /// Begins with more, until so many are on their way.
    pub(crate) fn more(&mut self, mesh: &mut Mesh, at_once: usize) -> Result<(), String> {
        while self.under_way < at_once {
            let Some(nth) = self.again.pop().or_else(|| {
                let next = (self.next < self.states.len()).then_some(self.next);
                self.next += usize::from(next.is_some());
                next
            }) else {
                break;
            };
            let (at, door) = (self.base + nth, self.door);
            if let (Some(state), Some(began)) = (self.states.get_mut(nth), self.began.get_mut(nth))
            {
                (*state, *began) =
                    (State::Connecting, self.due.unwrap_or_else(|| self.clock.now()));
            }
            self.under_way += 1;
            let host = if self.spread { Door::any_host(at as u64) } else { host_of(at) };
            door.knock(mesh, at, host, &(self.guest)(nth))?;
        }
        Ok(())
    }

    /// Until all are open.
    pub(crate) fn complete(&mut self, mesh: &mut Mesh, at_once: usize) -> Result<(), String> {
        let (mut open, mut moved) = (self.open, self.clock.now());
        while !self.all_open()? {
            self.more(mesh, at_once)?;
            mesh.turn(Duration::from_millis(50), self).map_err(|error| error.to_string())?;
            if self.open > open {
                (open, moved) = (self.open, self.clock.now());
            } else if Duration::from_nanos(self.clock.now().saturating_sub(moved))
                > self.door.patience
            {
                let (all, patience) = (self.states.len(), self.door.patience);
                return Err(format!(
                    "{open} of {all} connections are open, and nothing came for {patience:?}: is {} \
                     an MQTT broker?",
                    self.door.address
                ));
            }
        }
        Ok(())
    }

    fn move_on(&mut self, nth: usize, to: State) {
        if let Some(state) = self.states.get_mut(nth) {
            *state = to;
        }
        if to == State::Open {
            self.open += 1;
            self.under_way -= 1;
        }
    }

    fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
    }
}

fn mend(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(24) => "; raise the limit with `ulimit -n`",
        Some(99) => "; there are no ports left: wait a minute, or open fewer connections",
        _ => "",
    }
}

impl Actor for Opening<'_> {
    fn packet(&mut self, at: usize, packet: &Packet<'_>, outs: &mut Outs, now: u64) {
        let Some(nth) = at.checked_sub(self.base).filter(|nth| *nth < self.states.len()) else {
            return;
        };
        match *packet {
            Packet::Connack { code: 0, receive_maximum, present } => {
                let began = self.began.get(nth).copied().unwrap_or_default();
                self.connacks.record(now.saturating_sub(began));
                self.receive_maximum = self.receive_maximum.min(receive_maximum);
                self.present += u64::from(present);
                match (self.guest)(nth).filter {
                    Some((filter, qos)) => {
                        let version = self.door.version;
                        outs.put(at, |out| put_subscribe(out, version, &filter, qos));
                        self.move_on(nth, State::Subscribing);
                    }
                    None => self.move_on(nth, State::Open),
                }
            }
            Packet::Connack { code, .. } => {
                self.fail(format!("connection {at}: CONNECT was refused with code {code:#04x}"));
            }
            Packet::Suback { code } if code >= 0x80 => {
                self.fail(format!("connection {at}: SUBSCRIBE was refused with code {code:#04x}"));
            }
            Packet::Suback { .. } => self.move_on(nth, State::Open),
            _ => {}
        }
    }

    fn gone(&mut self, at: usize, why: &Gone) {
        let Some(nth) = at.checked_sub(self.base).filter(|nth| *nth < self.states.len()) else {
            return self.fail(format!("connection {at} went while others came: {why}"));
        };
        let open = self.states.get(nth) == Some(&State::Open);
        if open || !self.insists {
            let when = if open { "went while others came" } else { "did not come about" };
            return self.fail(format!("connection {at} to {} {when}: {why}", self.door.address));
        }
        self.refused += 1;
        self.under_way -= 1;
        self.move_on(nth, State::Waits);
        self.again.push(nth);
    }
}

/// Opens connections `which`, and says the least Receive Maximum.
pub(crate) fn open_all(
    mesh: &mut Mesh,
    door: &Door,
    which: Range<usize>,
    guest: &dyn Fn(usize) -> Guest,
    clock: Clock,
) -> Result<u16, String> {
    let mut opening = Opening::new(door, which, guest, clock);
    opening.complete(mesh, AT_ONCE)?;
    Ok(opening.receive_maximum)
}
