//! From the configuration to a running broker, and to its end.
//!
//! The only file that names the broker's builder. The signals are listened to before anything
//! starts, so that none finds a broker half up.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidings_broker::auth::{Authenticate, ScramSha256, UsersFile};
use tidings_broker::core::hook::Authorize;
use tidings_broker::engine::{Compare, OpenError};
use tidings_broker::journal::ReplayError;
use tidings_broker::listener::{Listener, Place, Tls};
use tidings_broker::{Broker, Builder, Durability, Fatal, StartError, StopError};
use tidings_chat::Chat;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::banner::Banner;
use crate::bounds;
use crate::config::{self, Config, Settings};
use crate::exit::{self, Exit, Failure};
use crate::http::{self, Http};
use crate::listeners::{Listeners, off_loopback};
use crate::logins;
use crate::media::Media;
use crate::rights::{self, Watch};
use crate::seats;
use crate::tokens::{LoginTokens, WithTokens};
use crate::users;
use crate::vault::{self, FileVault};

/// Serves until a signal or a failure ends it.
pub(crate) fn serve(settings: Settings) -> Result<ExitCode, Failure> {
    // A taken port should not cost a recovery to find out.
    let web = http::Bound::bind(&settings)?;
    let config = settings.config;
    let data = &config.data.dir;
    if data.exists() && !data.is_dir() {
        let message = format_args!(
            "data.dir: {} is no folder; name one that is or is not there",
            data.display()
        );
        return Err(Failure::new(Exit::Config, message));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Software, error))?;
    let (mut signals, mut hangup) = {
        let _runtime = runtime.enter();
        let failed = |error| Failure::new(Exit::Software, error);
        (Signals::listen().map_err(failed)?, signal(SignalKind::hangup()).map_err(failed)?)
    };

    let users_file = config.users_file();
    let users = UsersFile::open(&users_file, logins::limits(&config)).map_err(users::failure)?;
    let users = Arc::new(users);
    let user_count = users.len();
    let open_until_users = !config.has_other_logins();
    if user_count == 0 && open_until_users {
        refuse_open_network(&config)?;
    }
    let rights = Arc::new(rights::open(&config)?);
    rights.set_open(open_until_users && users.never_held_a_user());
    let Listeners { all, tls } = Listeners::of(&config)?;
    let watch = Watch { users, rights, tls, open_until_users };

    let chat = chat(&config)?;
    let handle = chat.handle();
    let tokens = tokens(&config, &watch)?;
    let logins = logins::authenticate(&config, &watch.users)?;
    let with_tokens = WithTokens {
        tokens: Arc::clone(&tokens),
        others: Arc::clone(&logins),
        failure_delay: logins::limits(&config).failure_delay,
    };
    let broker = start(&config, all, &watch, chat, Arc::new(with_tokens))?;
    let self_signed = watch.tls.as_ref().is_some_and(Tls::is_self_signed);
    let banner = Banner {
        endpoints: broker.endpoints(),
        web: web.addresses(),
        web_taken: web.taken,
        // One that others signed has an authority that is not known here.
        authority: if self_signed { &config.tls.certificate } else { "CA.pem" },
        asks_for_certificates: config.tls.client_certificates
            == config::ClientCertificates::Required,
        proxied: &config.proxy.listeners,
        data: &config.data.dir,
        durability: config.data.durability,
        open: user_count == 0 && open_until_users,
        users: user_count,
        rates_apply: broker.rates_apply(),
        logins: &logins::names(&config),
        users_file: &users_file,
        rules: watch.rights.len(),
        rights_file: &config.rights_file(),
        otherwise: config.rights.otherwise,
        colours: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let banner = banner.render();
    let web_addresses = web.addresses().iter().map(|address| format!("http://{address}"));
    let endpoints = broker.endpoints().iter().map(ToString::to_string);
    let endpoints: Vec<_> = endpoints.chain(web_addresses).collect();
    let media = Media::open(&config, handle.clone()).map_err(|error| {
        Failure::new(
            Exit::Io,
            format_args!("cannot use the folder of files: {error}; see media.dir"),
        )
    })?;
    let parts = http::Parts {
        broker: broker.remote(),
        door: broker.door(),
        chat: handle,
        users: Arc::clone(&watch.users),
        logins,
        tokens,
        media: Arc::new(media),
        open_until_users,
        rates_apply: broker.rates_apply(),
    };
    let http = Http::start(web, &config, parts);
    let http = http.map_err(|error| Failure::new(Exit::Software, error))?;
    // Whoever reads it may come at once.
    exit::print(&banner)?;
    tracing::info!(endpoints = endpoints.join(" "), users = user_count, "started");
    runtime.block_on(run(broker, http, &watch, &mut signals, &mut hangup))
}

/// Open access is for this machine: nobody must have put it on a network by leaving users out.
fn refuse_open_network(config: &Config) -> Result<(), Failure> {
    let Some((key, address)) = off_loopback(config) else { return Ok(()) };
    let default = Config::default().users_file();
    let file = config.users_file();
    let option =
        if file == default { String::new() } else { format!(" --users {}", file.display()) };
    Err(Failure::new(
        Exit::Config,
        format_args!(
            "{key}: expected loopback addresses only while there are no users, found {address}; \
             add one with `tidings user add NAME{option}`"
        ),
    ))
}

/// Chat, with the keys of what it keeps.
fn chat(config: &Config) -> Result<Chat, Failure> {
    let mut chat = Chat::new(bounds::chat(config));
    if config.data.durability != config::Durability::Memory {
        let data = &config.data.dir;
        if data.join("store/VERSION").exists() && !data.join(vault::NAME).exists() {
            let file = data.join(vault::NAME);
            let message = format_args!(
                "{} is missing, and what chats keep cannot be read without it: put it back, or make \
                 an empty file of this name to go on without what was sealed",
                file.display()
            );
            return Err(Failure::new(Exit::Data, message));
        }
        let vault = FileVault::open(data);
        let vault = vault.map_err(|error| {
            let file = data.join(vault::NAME);
            if error.kind() == io::ErrorKind::WouldBlock {
                let text = "is in use by another process";
                return Failure::new(Exit::InUse, format_args!("{} {text}", file.display()));
            }
            Failure::new(Exit::Io, format_args!("cannot open {}: {error}", file.display()))
        })?;
        chat = chat.with_vault(Arc::new(vault));
    }
    Ok(chat)
}

/// The tokens that logins by HTTP give.
fn tokens(config: &Config, watch: &Watch) -> Result<Arc<LoginTokens>, Failure> {
    let is_kept = config.data.durability != config::Durability::Memory;
    let data = is_kept.then_some(&*config.data.dir);
    let tokens = LoginTokens::open(data, Arc::clone(&watch.users), watch.open_until_users);
    tokens.map(Arc::new).map_err(|error| Failure::new(Exit::Io, error))
}

fn start(
    config: &Config,
    listeners: Vec<Listener>,
    watch: &Watch,
    chat: Chat,
    logins: Arc<dyn Authenticate>,
) -> Result<Broker, Failure> {
    let mut builder = Builder::new()
        // The users file lies beside it, and may be there before the first start.
        .data_dir(config.data.dir.join("store"))
        .durability(match config.data.durability {
            config::Durability::Fsync => Durability::Fsync,
            config::Durability::Os => Durability::Os,
            config::Durability::Memory => Durability::Memory,
        })
        .journal_bytes(config.data.segment_bytes, config.data.checkpoint_bytes)
        .disk_reserve(bounds::disk_reserve(config))
        .bases(
            config.data.base_bytes,
            match config.data.compare {
                config::Compare::AfterCrash => Compare::AfterCrash,
                config::Compare::Always => Compare::Always,
                config::Compare::Never => Compare::Never,
            },
        )
        .shards(u16::try_from(config.top.shards).unwrap_or(0))
        .limits(bounds::limits(config))
        .connection_limits(bounds::connections(config))
        .enhanced_authenticate(Arc::new(ScramSha256::new(watch.users.as_ref().clone())))
        .system_interval(Duration::from_secs(config.sys.interval_s))
        .authenticate(seats::in_front_of(logins, chat.handle()))
        .authorize(Arc::clone(&watch.rights) as Arc<dyn Authorize>)
        .service(Arc::new(chat));
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        builder = builder.allocator(crate::allocator::HOOKS);
    }
    for listener in listeners {
        builder = builder.listener(listener);
    }
    builder.start().map_err(start_failure)
}

fn start_failure(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Listen { place: Place::Unix(_), source } => {
            let mend = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "another process listens there; stop it, or choose another"
                }
                io::ErrorKind::AlreadyExists => "move the file away, or choose another path",
                io::ErrorKind::NotFound => "is its folder there?",
                io::ErrorKind::InvalidInput => "choose a shorter path",
                _ => "may this user write there?",
            };
            let message = format_args!("listen_unix: {error}; {mend}");
            return Failure::new(Exit::Unavailable, message);
        }
        StartError::Listen { source, .. } => {
            let mend = match source.kind() {
                io::ErrorKind::AddrInUse => "the port is taken; stop who has it or give --listen",
                io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege",
                _ => "is it an address of this machine?",
            };
            return Failure::new(Exit::Unavailable, format_args!("{error}; {mend}"));
        }
        StartError::Open(OpenError::InUse { .. }) => Exit::InUse,
        // Such as a disk that is still full: nothing is wrong with the data.
        StartError::Open(OpenError::Journal(ReplayError::Io(_))) => Exit::Io,
        StartError::Open(
            OpenError::NotAStore { .. }
            | OpenError::NoStore { .. }
            | OpenError::FormatVersion { .. }
            | OpenError::Damaged { .. }
            | OpenError::Base { .. }
            | OpenError::NoBase { .. }
            | OpenError::Journal(_),
        )
        | StartError::Row { .. } => Exit::Data,
        StartError::Open(_) | StartError::Read(_) => Exit::Io,
        _ => Exit::Software,
    };
    if let StartError::Open(
        OpenError::Damaged { .. } | OpenError::Base { .. } | OpenError::NoBase { .. },
    ) = &error
    {
        let mend = "`tidings check` says more, `tidings restore` makes a data folder of a copy";
        return Failure::new(exit, format_args!("{error}; {mend}"));
    }
    Failure::new(exit, error)
}

async fn run(
    broker: Broker,
    http: Http,
    watch: &Watch,
    signals: &mut Signals,
    hangup: &mut Signal,
) -> Result<ExitCode, Failure> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let signal = loop {
        tokio::select! {
            signal = signals.next() => break signal,
            () = http.asked_to_drain() => break Asked { name: "an operator", number: 0 },
            _ = hangup.recv() => watch.look(&broker, true),
            _ = look.tick() => watch.look(&broker, false),
            fatal = broker.failed() => {
                // At once, as a crash: what Clients say from now on is stored no more, and closing
                // what has failed may take long.
                std::mem::forget(broker);
                return Err(fatal_failure(fatal));
            }
        }
    };
    tracing::info!(signal = signal.name, "stopping; a second signal ends at once");
    http.drain();
    let (done, stopped) = oneshot::channel();
    let stop = move || {
        let stopped = broker.stop();
        // Behind it: connections of the broker live there.
        http.stop();
        done.send(stopped)
    };
    thread::Builder::new()
        .name("stop".into())
        .spawn(stop)
        .map_err(|error| Failure::new(Exit::Software, error))?;
    tokio::select! {
        // Every acknowledgement sent is as durable as configured: only goodbyes are missing.
        signal = signals.next() => {
            tracing::warn!(signal = signal.name, "ended at once");
            Ok(ExitCode::from(128 + signal.number))
        }
        stopped = stopped => match stopped {
            Ok(result) => {
                result.map_err(stop_failure)?;
                tracing::info!("stopped");
                Ok(ExitCode::SUCCESS)
            }
            Err(_) => Err(Failure::new(Exit::Software, "the stop panicked")),
        },
    }
}

fn fatal_failure(fatal: Fatal) -> Failure {
    match &fatal {
        Fatal::Store(failure) => {
            let mend = if is_full(&failure.cause) {
                "make room on the disk and start again"
            } else {
                "see what the system's log says of the disk, and start again"
            };
            let message = format_args!("{fatal}; {mend}: what was acknowledged is safe");
            Failure::new(Exit::Io, message)
        }
        _ => {
            let mend = "a defect: please report it with what the log says before";
            let message = format_args!("{fatal}; {mend}; what was acknowledged is safe");
            Failure::new(Exit::Software, message)
        }
    }
}

fn stop_failure(error: StopError) -> Failure {
    match error {
        StopError::Fatal(fatal) => fatal_failure(fatal),
        StopError::Store(failure) => fatal_failure(failure.into()),
        error => Failure::new(Exit::Software, error),
    }
}

/// Whether an error of the system's says that the disk is full (ENOSPC, EDQUOT), or the folder's
/// share of it.
fn is_full(cause: &str) -> bool {
    cause.contains("os error 28)")
        || cause.contains("os error 122)")
        || cause.contains("StorageFull")
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

/// How long a change of a file may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tidings_broker::store::StoreFailure;

    use super::*;

    #[test]
    fn panics_end_with_70_and_failures_of_the_disk_with_74_while_it_runs_and_while_it_stops() {
        let failed = |cause| StoreFailure::new("write the journal", cause);
        let full = failed("No space left on device (os error 28)");
        let broken = failed("Input/output error (os error 5)");
        let panicked = StoreFailure { panicked: Some("store-reader"), ..failed("no words") };
        let shard = Fatal::Panic("shard-1".to_owned());
        for (fatal, exit, words) in [
            (full.clone().into(), Exit::Io, "make room"),
            (broken.clone().into(), Exit::Io, "system's log"),
            (panicked.clone().into(), Exit::Software, "thread store-reader panicked"),
            (shard.clone(), Exit::Software, "thread shard-1 panicked"),
        ] {
            let failure = fatal_failure(fatal);
            assert_eq!(failure.exit, exit);
            assert!(failure.message.contains(words), "{}", failure.message);
        }
        for (error, exit) in [
            (StopError::Store(full), Exit::Io),
            (StopError::Fatal(broken.into()), Exit::Io),
            (StopError::Store(panicked.clone()), Exit::Software),
            (StopError::Fatal(panicked.into()), Exit::Software),
            (StopError::Fatal(shard), Exit::Software),
        ] {
            assert_eq!(stop_failure(error).exit, exit);
        }
    }
}
