//! From the configuration to a running broker, and to its end.
//!
//! The only file that names the broker's builder. The signals are listened to before anything
//! starts, so that none finds a broker half up.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use tidings_broker::auth::{LoginLimits, OpenUntilUsers, UsersFile};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::banner::Banner;
use crate::config::{self, Config, Settings};
use crate::exit::{self, Exit, Failure};
use crate::stub::{Broker, Builder, Durability, Fatal, StartError, StopError};
use crate::users;

/// Serves until a signal or a failure ends it.
pub(crate) fn serve(settings: Settings) -> Result<ExitCode, Failure> {
    let config = settings.config;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Software, error))?;
    let mut signals = {
        let _runtime = runtime.enter();
        Signals::listen().map_err(|error| Failure::new(Exit::Software, error))?
    };

    let users_file = config.users_file();
    let users = UsersFile::open(&users_file, LoginLimits::default()).map_err(users::failure)?;
    let user_count = users.len();
    if user_count == 0 {
        refuse_open_network(&config)?;
    }

    let broker = start(&config, users)?;
    let banner = Banner {
        addresses: broker.addresses(),
        data: &config.data.dir,
        durability: config.data.durability,
        users: user_count,
        users_file: &users_file,
        colours: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    exit::print(&banner.render())?;
    tracing::info!(addresses = ?broker.addresses(), users = user_count, "started");
    runtime.block_on(run(broker, &mut signals))
}

/// Open access is for this machine: nobody must have put it on a network by leaving users out.
fn refuse_open_network(config: &Config) -> Result<(), Failure> {
    let Some(address) = config.address_off_loopback() else { return Ok(()) };
    let default = Config::default().users_file();
    let file = config.users_file();
    let option =
        if file == default { String::new() } else { format!(" --users {}", file.display()) };
    Err(Failure::new(
        Exit::Config,
        format_args!(
            "listen: expected loopback addresses only while there are no users, found {address}; \
             add one with `tidings user add NAME{option}`"
        ),
    ))
}

fn start(config: &Config, users: UsersFile) -> Result<Broker, Failure> {
    let mut builder = Builder::new()
        .data_dir(config.data.dir.clone())
        .durability(match config.data.durability {
            config::Durability::Fsync => Durability::Fsync,
            config::Durability::Os => Durability::Os,
            config::Durability::Memory => Durability::Memory,
        })
        .shards(shards(config))
        .authenticate(Arc::new(OpenUntilUsers::new(users)));
    for address in &config.top.listen {
        builder = builder.listen(*address);
    }
    builder.start().map_err(start_failure)
}

fn shards(config: &Config) -> u16 {
    match u16::try_from(config.top.shards) {
        Ok(0) | Err(_) => {
            let cores = thread::available_parallelism().map_or(1, Into::into);
            u16::try_from(cores).unwrap_or(SHARDS_MAX).min(SHARDS_MAX)
        }
        Ok(shards) => shards,
    }
}

/// As many as there are slots.
const SHARDS_MAX: u16 = 256;

fn start_failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Listen { source, .. } => {
            let mend = match source.kind() {
                io::ErrorKind::AddrInUse => "the port is taken; stop who has it or give --listen",
                io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
                _ => "is it an address of this machine?",
            };
            return Failure::new(Exit::Unavailable, format_args!("{error}; {mend}"));
        }
        StartError::InUse { .. } => Exit::InUse,
        StartError::FormatVersion { .. } | StartError::Damaged { .. } => Exit::Data,
        StartError::Io { .. } => Exit::Io,
    };
    Failure::new(exit, error)
}

async fn run(broker: Broker, signals: &mut Signals) -> Result<ExitCode, Failure> {
    let signal = tokio::select! {
        signal = signals.next() => signal,
        fatal = broker.failed() => return Err(fatal_failure(fatal)),
    };
    tracing::info!(signal = signal.name, "stopping; a second signal ends at once");
    let (done, stopped) = oneshot::channel();
    thread::Builder::new()
        .name("stop".into())
        .spawn(move || done.send(broker.stop()))
        .map_err(|error| Failure::new(Exit::Software, error))?;
    tokio::select! {
        // Every acknowledgement sent is as durable as configured: only goodbyes are missing.
        signal = signals.next() => {
            tracing::warn!(signal = signal.name, "ended at once");
            Ok(ExitCode::from(128 + signal.number))
        }
        stopped = stopped => match stopped {
            Ok(result) => {
                result.map_err(|error: StopError| Failure::new(Exit::Io, error))?;
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            Err(_) => Err(Failure::new(Exit::Software, "the stop panicked")),
        },
    }
}

fn fatal_failure(fatal: Fatal) -> Failure {
    let exit = match &fatal {
        Fatal::Store(_) => Exit::Io,
        Fatal::Panic(_) => Exit::Software,
    };
    Failure::new(exit, fatal)
}

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy)]
struct Asked {
    name: &'static str,
    number: u8,
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes both over. Needs a runtime.
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked { name: "SIGTERM", number: 15 },
            _ = self.interrupt.recv() => Asked { name: "SIGINT", number: 2 },
        }
    }
}
