//! A case: one behaviour, the statements it holds, and how it is asked of a broker.
//!
//! The two versions number their statements apart, and the same number means different things in
//! them: so a case lists the identifiers of each, and runs in each version for which it lists any.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

pub use crate::outcome::{Fail, Outcome};

use crate::log::Log;
use crate::packet::{Connect, Publish, Version};
use crate::target::Target;
use crate::transport::websocket::Opening;
use crate::wire::{Connack, Wire};

/// A case. Its function is blocking; cases run on several threads at once.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The section of MQTT 5.0 it stands under, such as `3.3.1`.
    pub section: &'static str,
    /// What holds: subject, condition, outcome.
    pub name: &'static str,
    /// The statements of MQTT 5.0 it holds; none: it does not run there.
    pub v5: &'static [&'static str],
    /// The statements of MQTT 3.1.1 it holds; none: it does not run there.
    pub v311: &'static [&'static str],
    /// Asks the broker.
    pub run: fn(&Bench) -> Outcome,
}

impl Case {
    /// The statements it holds in a version.
    pub fn statements(&self, version: Version) -> &'static [&'static str] {
        match version {
            Version::V5 => self.v5,
            Version::V311 => self.v311,
        }
    }

    /// Whether it stands under a section or one within it: `3.3` holds `3.3.1`, not `3.31`.
    pub fn is_under(&self, section: &str) -> bool {
        let rest = self.section.strip_prefix(section);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Lists the cases of a file: functions of the same names stand beside it.
macro_rules! cases {
    ($($section:literal { $($name:ident: v5 $v5:tt, v311 $v311:tt;)+ })+) => {
        /// The cases of this file.
        pub(crate) const CASES: &[$crate::case::Case] = &[$($($crate::case::Case {
            section: $section,
            name: stringify!($name),
            v5: &$v5,
            v311: &$v311,
            run: $name,
        },)+)+];
    };
}
pub(crate) use cases;

/// What one case works with in one version: names of its own, connections, a log of all bytes.
#[derive(Debug)]
pub struct Bench<'a> {
    target: &'a Target,
    /// The version under test.
    pub version: Version,
    tag: String,
    log: Log,
    kept: Mutex<BTreeSet<String>>,
}

impl<'a> Bench<'a> {
    /// `tag`: letters and digits, at most 16, used by no other case of any run.
    pub fn new(target: &'a Target, version: Version, tag: String) -> Self {
        Self { target, version, tag, log: Log::default(), kept: Mutex::default() }
    }

    /// Whether this is MQTT 5.0.
    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// The method, user name and password for enhanced authentication.
    pub fn account(&self) -> Option<(&str, &str, &str)> {
        let Target { auth_method, user, password, .. } = self.target;
        Some((auth_method.as_deref()?, user.as_deref()?, password.as_deref()?))
    }

    /// The user name and password in each CONNECT.
    pub fn login(&self) -> Option<(&str, &str)> {
        Some((self.target.user.as_deref()?, self.target.password.as_deref()?))
    }

    /// A topic that we may not publish to.
    pub fn denied_topic(&self) -> &str {
        &self.target.denied_topic
    }

    /// The path of the WebSocket, if the transport is one.
    pub fn websocket_path(&self) -> Option<&str> {
        self.target.websocket.as_deref()
    }

    /// Asks for a WebSocket with these subprotocols.
    ///
    /// # Errors
    /// There is no answer.
    pub fn open_websocket(&self, path: &str, protocols: &[&str]) -> Result<Opening, Fail> {
        let opened = self.target.dial_websocket(path, protocols);
        opened.map(|it| it.1).map_err(|error| Fail::Failed(format!("{path}: {error}")))
    }

    /// A Client Identifier of this case.
    pub fn id(&self, label: &str) -> String {
        format!("{}{label}", self.tag)
    }

    /// A topic, or a filter, under this case's own root.
    pub fn topic(&self, rest: &str) -> String {
        format!("{}/{rest}", self.tag)
    }

    /// A right CONNECT for a Client of this case.
    pub fn hello(&self, label: &str) -> Connect {
        let mut connect = Connect::new(self.version, &self.id(label));
        connect.user = self.target.user.as_ref().map(|it| it.clone().into_bytes());
        connect.password = self.target.password.as_ref().map(|it| it.clone().into_bytes());
        connect
    }

    /// The same with Clean Start 0, for a session that outlives its connection by a minute.
    pub fn hello_kept(&self, label: &str) -> Connect {
        self.hello(label).kept(60)
    }

    /// A connection on which nothing was sent.
    ///
    /// # Errors
    /// The broker cannot be reached.
    pub fn open(&self, label: &str) -> Result<Wire, Fail> {
        let failed = |error| Fail::Failed(format!("{label}: cannot connect: {error}"));
        let stream = self.target.dial().map_err(failed)?;
        Ok(Wire::new(stream, self.version, label, self.log.clone(), self.target.patience))
    }

    /// A connection that is accepted, with a clean session.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn join(&self, label: &str) -> Result<Wire, Fail> {
        Ok(self.join_with(label, &self.hello(label))?.0)
    }

    /// A connection that is accepted with this CONNECT.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn join_with(&self, label: &str, connect: &Connect) -> Result<(Wire, Connack), Fail> {
        if !connect.clean {
            let id = String::from_utf8_lossy(&connect.client_id).into_owned();
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
        let mut wire = self.open(label)?;
        wire.send(&connect.bytes());
        let connack = wire.connack()?;
        match (connack.code, &connect.will) {
            (0, _) => return Ok((wire, connack)),
            (0x9A | 0x9B, Some(_)) => {
                let what = "the Server does not offer a will of this QoS, or retained";
                return Err(Fail::Skipped(what.into()));
            }
            _ => {}
        }
        wire.fail(format!("expected CONNACK 00, found {:02x}", connack.code))
    }

    /// A connection of a session that outlives it, and whether there was one before.
    ///
    /// # Errors
    /// It is not accepted.
    pub fn join_kept(&self, label: &str) -> Result<(Wire, bool), Fail> {
        let (wire, connack) = self.join_with(label, &self.hello_kept(label))?;
        Ok((wire, connack.session_present()))
    }

    /// That each of these, sent on an accepted connection of its own, makes the broker close it.
    ///
    /// # Errors
    /// It does not.
    pub fn each_closes(&self, wrong: &[Vec<u8>]) -> Outcome {
        for (index, bytes) in wrong.iter().enumerate() {
            let mut wire = self.join(&format!("w{index}"))?;
            wire.send(bytes);
            wire.closed()?;
        }
        Ok(())
    }

    /// That each of these CONNECTs is not accepted, in whatever words, and the connection closed.
    ///
    /// # Errors
    /// It is, or stays open.
    pub fn each_connect_closes(&self, wrong: &[Vec<u8>]) -> Outcome {
        for (index, bytes) in wrong.iter().enumerate() {
            let mut wire = self.open(&format!("w{index}"))?;
            wire.send(bytes);
            wire.closed()?;
        }
        Ok(())
    }

    /// A Client that subscribed to all topics of this case at this QoS, and one to publish.
    ///
    /// # Errors
    /// They cannot connect or subscribe.
    pub fn pair(&self, qos: u8) -> Result<(Wire, Wire), Fail> {
        let mut subscriber = self.join("sub")?;
        subscriber.subscribe(&self.topic("#"), qos)?;
        Ok((subscriber, self.join("pub")?))
    }

    /// That nothing waits for `to`: a last message, published by `from`, is the next it gets.
    ///
    /// # Errors
    /// Something does.
    pub fn nothing_more(&self, to: &mut Wire, from: &mut Wire) -> Outcome {
        from.publish(&Publish::new(&self.topic("end"), "end"))?;
        to.take("end").map(drop)
    }

    /// That this holds.
    ///
    /// # Errors
    /// It does not; `what` says what was expected and what was found.
    pub fn check(&self, holds: bool, what: impl Into<String>) -> Outcome {
        if holds { Ok(()) } else { Err(Fail::Failed(what.into())) }
    }

    /// That two values are equal.
    ///
    /// # Errors
    /// They are not.
    pub fn same<T: std::fmt::Debug + PartialEq>(
        &self,
        what: &str,
        found: T,
        expected: T,
    ) -> Outcome {
        if found == expected {
            return Ok(());
        }
        Err(Fail::Failed(format!("{what}: expected {expected:?}, found {found:?}")))
    }

    /// What was sent and received so far, in order.
    pub fn transcript(&self) -> Vec<String> {
        self.log.lines()
    }

    /// What the case used though the Server does not offer it.
    pub fn used_beyond(&self) -> Option<String> {
        self.log.used_beyond()
    }

    /// Removes what the case left in the broker: sessions and retained messages.
    pub fn tidy_up(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner));
        let topics = self.log.take_retained();
        for id in kept {
            let mut connect = self.hello("");
            connect.client_id = id.into_bytes();
            if let Ok((wire, _)) = self.join_with("tidy", &connect) {
                wire.disconnect();
            }
        }
        if topics.is_empty() {
            return;
        }
        let Ok(mut wire) = self.join("tidy") else { return };
        for topic in topics {
            let mut empty = Publish::new("", "").retain();
            empty.topic = topic;
            let _left_behind = wire.publish(&empty);
        }
        wire.disconnect();
    }
}
