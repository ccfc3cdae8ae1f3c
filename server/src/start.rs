//! From the configuration to a running broker, and to its end.
//!
//! The only file that names the broker's builder. The signals are listened to before anything
//! starts, so that none finds a broker half up.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidings_broker::auth::{ScramSha256, UsersFile};
use tidings_broker::core::codec::QoS;
use tidings_broker::core::hook::Authorize;
use tidings_broker::core::limits::{Limits, Offers, Told};
use tidings_broker::core::marks::DiskReserve;
use tidings_broker::core::topic::TopicLimits;
use tidings_broker::engine::{Compare, OpenError};
use tidings_broker::journal::ReplayError;
use tidings_broker::listener::{Listener, Place, Tls};
use tidings_broker::{
    Broker, Builder, ConnectionLimits, Durability, Fatal, Rates, StartError, StopError,
};
use tidings_chat::{Chat, ChatOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::banner::Banner;
use crate::config::{self, Config, Settings};
use crate::exit::{self, Exit, Failure};
use crate::listeners::{Listeners, off_loopback};
use crate::logins;
use crate::rights::{self, Watch};
use crate::seats;
use crate::users;
use crate::vault::{self, FileVault};

/// Serves until a signal or a failure ends it.
pub(crate) fn serve(settings: Settings) -> Result<ExitCode, Failure> {
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

    let broker = start(&config, all, &watch)?;
    let self_signed = watch.tls.as_ref().is_some_and(Tls::is_self_signed);
    let banner = Banner {
        endpoints: broker.endpoints(),
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
    exit::print(&banner.render())?;
    let endpoints: Vec<_> = broker.endpoints().iter().map(ToString::to_string).collect();
    tracing::info!(endpoints = endpoints.join(" "), users = user_count, "started");
    runtime.block_on(run(broker, &watch, &mut signals, &mut hangup))
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

fn start(config: &Config, listeners: Vec<Listener>, watch: &Watch) -> Result<Broker, Failure> {
    let mut chat = Chat::new(chat_options(config));
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
    let mut builder = Builder::new()
        // The users file lies beside it, and may be there before the first start.
        .data_dir(config.data.dir.join("store"))
        .durability(match config.data.durability {
            config::Durability::Fsync => Durability::Fsync,
            config::Durability::Os => Durability::Os,
            config::Durability::Memory => Durability::Memory,
        })
        .journal_bytes(config.data.segment_bytes, config.data.checkpoint_bytes)
        .disk_reserve(disk_reserve(config))
        .bases(
            config.data.base_bytes,
            match config.data.compare {
                config::Compare::AfterCrash => Compare::AfterCrash,
                config::Compare::Always => Compare::Always,
                config::Compare::Never => Compare::Never,
            },
        )
        .shards(u16::try_from(config.top.shards).unwrap_or(0))
        .limits(limits(config))
        .connection_limits(connection_limits(config))
        .enhanced_authenticate(Arc::new(ScramSha256::new(watch.users.as_ref().clone())))
        .system_interval(Duration::from_secs(config.sys.interval_s))
        .authenticate(seats::in_front_of(
            logins::authenticate(config, &watch.users)?,
            chat.handle(),
        ))
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

/// What is to be left free of the disk, as configured. `tidings config print` writes defaults out:
/// so what is written counts as asked for only where it is another number.
fn disk_reserve(config: &Config) -> DiskReserve {
    let default = DiskReserve::default();
    let bytes = config.data.reserve_bytes;
    let bytes_percent_max = if bytes == default.bytes { default.bytes_percent_max } else { 100 };
    let percent = u8::try_from(config.data.reserve_percent).unwrap_or(u8::MAX);
    DiskReserve { bytes, bytes_percent_max, percent }
}

/// Chat, as configured.
fn chat_options(config: &Config) -> ChatOptions {
    let chat = &config.chat;
    let mut options = ChatOptions::default();
    options.payload_bytes_max = size(chat.payload_bytes_max);
    options.send_rate = count(chat.send_rate);
    options.send_burst = count(chat.send_burst);
    options.new_chats_per_minute = count(chat.new_chats_per_minute);
    options.question_rate = count(chat.question_rate);
    options.question_burst = count(chat.question_burst);
    options.requests = chat.requests;
    options.request_messages_per_day = count(chat.request_messages_per_day);
    options.requests_max = size(chat.requests_max);
    options.chat_entries_max = chat.entries_max;
    options.chat_bytes_max = chat.bytes_max;
    options.peers_max = size(chat.peers_max);
    options.presence_start_grace = Duration::from_millis(chat.presence_start_grace_ms);
    options.presence_rate = count(chat.presence_rate);
    options.group_members_max = size(chat.group_members_max);
    options.channel_members_max = size(chat.channel_members_max);
    options.presence_grace = Duration::from_millis(chat.presence_grace_ms);
    options.receipt_delay = Duration::from_millis(chat.receipt_delay_ms);
    options.retention = Duration::from_secs(chat.retention_days * 24 * 3600);
    seats::bound(config, &mut options);
    options
}

/// The bounds of sessions and messages, as configured.
fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        packet_bytes_max: size(limits.packet_bytes_max),
        client_id_bytes_max: size(limits.client_id_bytes_max),
        user_bytes_max: size(limits.user_bytes_max),
        password_bytes_max: size(limits.password_bytes_max),
        topic: TopicLimits {
            bytes_max: size(limits.topic_bytes_max),
            levels_max: size(limits.topic_levels_max),
        },
        user_properties_max: size(limits.user_properties_max),
        user_property_bytes_max: size(limits.user_property_bytes_max),
        filters_per_subscribe_max: size(limits.filters_per_subscribe_max),
        topic_alias_max: u16::try_from(limits.topic_alias_max).unwrap_or(u16::MAX),
        receive_maximum: u16::try_from(limits.receive_maximum).unwrap_or(u16::MAX),
        session_queue_messages_max: size(limits.session_queue_messages_max),
        session_queue_bytes_max: size(limits.session_queue_bytes_max),
        memory_queue_messages_max: size(limits.memory_queue_messages_max),
        memory_queue_bytes_max: size(limits.memory_queue_bytes_max),
        session_expiry_max: Duration::from_secs(limits.session_expiry_max_s),
        keep_alive_max: Duration::from_secs(limits.keep_alive_max_s),
        subscriptions_per_session_max: size(limits.subscriptions_per_session_max),
        wildcard_subscriptions_per_session_max: size(limits.wildcard_subscriptions_per_session_max),
        sessions_per_user_max: size(limits.sessions_per_user_max),
        takeovers_max: size(limits.takeovers_max),
        takeover_window: Duration::from_secs(limits.takeover_window_s),
        retained_messages_max: size(limits.retained_messages_max),
        retained_message_bytes_max: size(limits.retained_message_bytes_max),
        retained_bytes_max: size(limits.retained_bytes_max),
        payload_format_checked: limits.payload_format == config::PayloadFormat::Check,
        offers: offers(config),
        told: Told {
            response_information: config.top.response_information.clone(),
            server_reference: config.drain.server_reference.clone(),
            reason_strings: config.top.reason_strings,
        },
        // The broker takes it from the bounds of connections.
        ..Limits::default()
    }
}

/// What of MQTT may be used, as configured.
fn offers(config: &Config) -> Offers {
    let limits = &config.limits;
    Offers {
        maximum_qos: match limits.maximum_qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        },
        retain: limits.retain_available,
        wildcard_subscriptions: limits.wildcard_subscriptions_available,
        subscription_identifiers: limits.subscription_identifiers_available,
        shared_subscriptions: limits.shared_subscriptions_available,
    }
}

/// The bounds of connections, as configured.
fn connection_limits(config: &Config) -> ConnectionLimits {
    let limits = &config.limits;
    ConnectionLimits {
        connect_bytes_max: size(limits.connect_bytes_max),
        connections_max: size(limits.connections_max),
        connect_timeout: Duration::from_secs(limits.connect_timeout_s),
        unauthenticated_max: size(limits.unauthenticated_connections_max),
        unauthenticated_per_address_max: size(limits.unauthenticated_per_address_max),
        rates: match limits.rates {
            config::Rates::Auto => Rates::OffOnLoopback,
            config::Rates::On => Rates::On,
            config::Rates::Off => Rates::Off,
        },
        publish_rate: count(limits.publish_rate),
        publish_burst: count(limits.publish_burst),
        publish_over_max: Duration::from_secs(limits.publish_over_max_s),
        connect_rate_per_address: count(limits.connect_rate_per_address),
        connect_burst_per_address: count(limits.connect_burst_per_address),
        connections_per_address_max: size(limits.connections_per_address_max),
        start_connect_rate: count(limits.start_connect_rate),
        start_connect_time: Duration::from_secs(limits.start_connect_s),
        outbound_soft_bytes: size(limits.outbound_soft_bytes),
        outbound_hard_bytes: size(limits.outbound_hard_bytes),
        memory_bytes_max: limits.memory_bytes_max,
        unsent_timeout: Duration::from_secs(limits.unsent_timeout_s),
        stop_timeout: Duration::from_secs(config.drain.timeout_s),
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
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
    watch: &Watch,
    signals: &mut Signals,
    hangup: &mut Signal,
) -> Result<ExitCode, Failure> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    let signal = loop {
        tokio::select! {
            signal = signals.next() => break signal,
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
