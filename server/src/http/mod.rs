//! HTTP: the app in the browser, the API behind it, and MQTT over WebSocket, on one port.
//!
//! A thread and a runtime of its own: what browsers ask for costs Clients nothing but a core's share.
//! A connection that became MQTT stays on this runtime, which therefore ends behind the broker. What
//! stands here is how it starts and ends; [`routes`] says what there is, `serve` who is let in.

mod api;
mod app;
mod error;
mod gate;
mod headers;
mod login;
mod media;
mod metrics;
mod mqtt;
mod operator;
mod peer;
mod rooms;
mod routes;
mod serve;
mod stats;
mod stream;
mod tries;
mod watched;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidings_broker::Remote;
use tidings_broker::auth::{Authenticate, UsersFile};
use tidings_broker::listener::{Door, Network};
use tidings_chat::ChatHandle;
use tokio::sync::{Notify, watch};

use crate::config::{Config, Origin, Settings, Switch};
use crate::exit::{Exit, Failure};
use crate::listeners;
use crate::media::Media;
use crate::seats;
use crate::tokens::LoginTokens;
use gate::Gate;
use stats::Samples;
use tries::{Guesses, PerAddress};
use watched::Watched;

/// What listens, and serves nobody yet.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    /// The default address, if another process has it.
    pub(crate) taken: Option<SocketAddr>,
}

impl Bound {
    /// Listens as configured. The default address is not insisted on: another program may well have
    /// port 8080, and MQTT works without.
    ///
    /// # Errors
    /// An address that was asked for cannot be listened on.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, Failure> {
        let mut bound = Self::default();
        let is_default = settings.config.top.http == Config::default().top.http;
        // A file that was printed holds the defaults too.
        let is_asked_for = match settings.origins.get("http") {
            Some(Origin::File(..)) => !is_default,
            Some(_) => true,
            None => false,
        };
        for address in &settings.config.top.http {
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                Ok((listener, address))
            });
            match listener {
                Ok((listener, address)) => {
                    bound.listeners.push(listener);
                    bound.addresses.push(address);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && !is_asked_for => {
                    bound.taken = Some(*address);
                }
                Err(error) => {
                    let mend = match error.kind() {
                        io::ErrorKind::AddrInUse => "give another one, or `--http off`",
                        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
                        _ => "is it an address of this machine?",
                    };
                    let message = format_args!("http: cannot listen on {address}: {error}; {mend}");
                    return Err(Failure::new(Exit::Unavailable, message));
                }
            }
        }
        Ok(bound)
    }

    /// Where it listens, with the ports that were chosen.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

/// What HTTP needs of the rest.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) broker: Remote,
    pub(crate) door: Door,
    pub(crate) chat: ChatHandle,
    pub(crate) users: Arc<UsersFile>,
    /// The ways to log in with a password.
    pub(crate) logins: Arc<dyn Authenticate>,
    pub(crate) tokens: Arc<LoginTokens>,
    pub(crate) media: Arc<Media>,
    /// Nobody needs to prove anything as long as there are no users.
    pub(crate) open_until_users: bool,
    /// Whether Clients are held to rates.
    pub(crate) rates_apply: bool,
}

/// HTTP while it serves.
#[derive(Debug)]
pub(crate) struct Http {
    stage: watch::Sender<Stage>,
    drain: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Who has a connection is served, but no new one becomes MQTT.
    Draining,
    Stopped,
}

impl Http {
    /// Begins to serve.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(bound: Bound, config: &Config, parts: Parts) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let (stage, seen) = watch::channel(Stage::Serving);
        let site = Arc::new(Site::new(config, parts, seen.clone()));
        let drain = Arc::clone(&site.drain);
        let run = move || {
            runtime.block_on(serve::run(bound.listeners, site, seen));
            // Nobody is left to hear what is still on its way.
            runtime.shutdown_timeout(Duration::ZERO);
        };
        let thread = thread::Builder::new().name("http".into()).spawn(run)?;
        Ok(Self { stage, drain, thread: Some(thread) })
    }

    /// Returns when an operator has asked for the end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn asked_to_drain(&self) {
        self.drain.notified().await;
    }

    /// Says from now on that it stops, and lets nobody become MQTT.
    pub(crate) fn drain(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Ends: the broker has to have ended, which has connections that live here.
    pub(crate) fn stop(mut self) {
        self.stage.send_replace(Stage::Stopped);
        if let Some(thread) = self.thread.take() {
            let _panicked_already = thread.join();
        }
    }
}

/// All that the handlers of requests share.
#[derive(Debug)]
struct Site {
    options: Options,
    broker: Remote,
    door: Door,
    chat: ChatHandle,
    users: Arc<UsersFile>,
    logins: Arc<dyn Authenticate>,
    tokens: Arc<LoginTokens>,
    media: Arc<Media>,
    open_until_users: bool,
    gate: Gate,
    rooms_made: PerAddress,
    wrong_links: PerAddress,
    guesses: Guesses,
    samples: Samples,
    watched: Arc<Watched>,
    /// An operator wants the server to stop.
    drain: Arc<Notify>,
    stage: watch::Receiver<Stage>,
}

/// What is configured.
#[derive(Debug)]
struct Options {
    origins: Vec<String>,
    /// Proxies that say who is at the other end.
    proxies: Vec<Network>,
    rooms: bool,
    pairing: bool,
    ice_servers: Vec<String>,
    /// Whether who comes from this machine is an operator.
    operator_local: bool,
    /// Users who are.
    operators: Vec<String>,
    room_idle: Duration,
    room_lifetime: Duration,
    timeout: Duration,
}

impl Site {
    fn new(config: &Config, parts: Parts, stage: watch::Receiver<Stage>) -> Self {
        let web = &config.web;
        let Parts {
            broker,
            door,
            chat,
            users,
            logins,
            tokens,
            media,
            open_until_users,
            rates_apply,
        } = parts;
        let rate = |number: u64| if rates_apply { count(number) } else { 0 };
        let options = Options {
            origins: config.websocket.origins.clone(),
            proxies: if web.forwarded { listeners::networks(config) } else { Vec::new() },
            rooms: web.rooms,
            pairing: seats::is_pairing_on(config),
            ice_servers: web.ice_servers.clone(),
            operator_local: match web.operator_local {
                Switch::On => true,
                Switch::Off => false,
                Switch::Auto => listeners::is_for_this_machine(config),
            },
            operators: web.operators.clone(),
            room_idle: Duration::from_secs(config.chat.room_idle_s),
            room_lifetime: Duration::from_secs(config.chat.room_lifetime_s),
            timeout: Duration::from_secs(web.timeout_s),
        };
        let guesses = rate(web.guesses_per_minute);
        Self {
            options,
            broker,
            door,
            chat,
            users,
            logins,
            tokens,
            media,
            open_until_users,
            gate: Gate::new(size(web.connections_max), rate(web.connections_per_address_max)),
            rooms_made: PerAddress::new(rate(web.rooms_per_minute), count(web.rooms_burst)),
            wrong_links: PerAddress::new(guesses, guesses),
            guesses: Guesses::new(config),
            samples: Samples::default(),
            watched: Arc::default(),
            drain: Arc::default(),
            stage,
        }
    }

    /// Whether anybody is who they say, from this machine.
    fn is_open(&self) -> bool {
        self.open_until_users && self.users.never_held_a_user()
    }

    fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }
}

/// Threads that wait for the disk, for files of chats.
const BLOCKING_THREADS_MAX: usize = 16;

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
