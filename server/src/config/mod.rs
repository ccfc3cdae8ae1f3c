//! The configuration: every key once, with its default, its bounds and its meaning.
//!
//! The macro `section!` makes the struct, its defaults and the [`Key`]s of one declaration, so
//! that what `tidings config print` says is what is in force. The doc comment of a field is what
//! its users read. [`Settings::load`] puts defaults, file and command line together.

#[cfg(test)]
#[path = "../../tests/fuzz_bodies/config.rs"]
mod any_text;
mod load;
mod print;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(crate) use load::{ConfigError, NamedOption, Origin, Settings};
pub(crate) use print::print;

/// What one key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// An integer from the first to the second.
    Number(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text; empty only where the flag says so.
    Text { may_be_empty: bool },
    /// A list of addresses with ports.
    Addresses,
    /// `true` or `false`.
    Flag,
    /// A list of texts.
    List(Item),
}

/// What each text of a list is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    /// One of these words.
    Word(&'static [&'static str]),
    /// The origin of a web page.
    Origin,
    /// An IP address, or a range of them.
    Network,
    /// The name of a user.
    User,
    /// A server that helps browsers to find a way to each other.
    IceServer,
}

/// A configuration key.
#[derive(Debug)]
pub(crate) struct Key {
    /// With its section: `limits.topic_bytes_max`.
    pub(crate) name: &'static str,
    /// The lines of its doc comment, each with a leading space.
    pub(crate) meaning: &'static [&'static str],
    pub(crate) kind: Kind,
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(flatten)]
    pub(crate) top: Top,
    pub(crate) data: Data,
    pub(crate) users: Users,
    pub(crate) auth: Auth,
    pub(crate) rights: Rights,
    pub(crate) tls: Tls,
    pub(crate) websocket: WebSocket,
    pub(crate) proxy: Proxy,
    pub(crate) web: Web,
    pub(crate) media: Media,
    pub(crate) limits: Limits,
    pub(crate) sys: Sys,
    pub(crate) chat: Chat,
    pub(crate) drain: Drain,
    pub(crate) log: Log,
}

impl Config {
    /// Every key, in the order of the printed file.
    pub(crate) fn keys() -> impl Iterator<Item = &'static Key> {
        [
            Top::KEYS,
            Data::KEYS,
            Users::KEYS,
            Auth::KEYS,
            Rights::KEYS,
            Tls::KEYS,
            WebSocket::KEYS,
            Proxy::KEYS,
            Web::KEYS,
            Media::KEYS,
            Limits::KEYS,
            Sys::KEYS,
            Chat::KEYS,
            Drain::KEYS,
            Log::KEYS,
        ]
        .into_iter()
        .flatten()
    }

    /// Whether anything is listened on that needs certificate and key.
    pub(crate) fn tls_is_used(&self) -> bool {
        !self.top.listen_tls.is_empty() || !self.top.listen_wss.is_empty()
    }

    /// Where the users are.
    pub(crate) fn users_file(&self) -> PathBuf {
        if self.users.file.is_empty() {
            self.data.dir.join("users")
        } else {
            PathBuf::from(&self.users.file)
        }
    }

    /// Where the rights are. The file may be missing unless it is named.
    pub(crate) fn rights_file(&self) -> PathBuf {
        if self.rights.file.is_empty() {
            self.data.dir.join("rights")
        } else {
            PathBuf::from(&self.rights.file)
        }
    }

    /// Whether there are ways to log in besides the users file: then nobody comes in without one.
    pub(crate) fn has_other_logins(&self) -> bool {
        let auth = &self.auth;
        self.tls.certificate_is_user
            || [&auth.jwt_keys, &auth.jwt_secret_file, &auth.webhook_url]
                .iter()
                .any(|it| !it.is_empty())
    }
}

/// Declares a section: fields as `name: type = default, kind;` below their doc comments.
macro_rules! section {
    (
        $(#[$outer:meta])*
        $name:ident, $prefix:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $kind:expr; )+
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub(crate) struct $name {
            $( $(#[doc = $doc])+ pub(crate) $field: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $name {
            const KEYS: &'static [Key] = &[
                $( Key {
                    name: concat!($prefix, stringify!($field)),
                    meaning: &[$($doc),+],
                    kind: $kind,
                }, )+
            ];
        }
    };
}

section! {
    /// What belongs to no section.
    Top, "" {
        /// Addresses and ports to listen on for MQTT over TCP. While there are no users, only
        /// loopback ones.
        listen: Vec<SocketAddr> = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1883)],
            Kind::Addresses;
        /// The same over TLS; usually port 8883. Needs `tls.certificate` and `tls.key`.
        listen_tls: Vec<SocketAddr> = Vec::new(), Kind::Addresses;
        /// The same over WebSocket, at `/mqtt`; usually port 8083. None by default: what listens for
        /// browsers can be reached by the pages in them.
        listen_ws: Vec<SocketAddr> = Vec::new(), Kind::Addresses;
        /// The same over WebSocket and TLS; usually port 8084.
        listen_wss: Vec<SocketAddr> = Vec::new(), Kind::Addresses;
        /// The path of a Unix socket to listen on; empty is none. Who uses it is on this machine.
        listen_unix: String = String::new(), Kind::Text { may_be_empty: true };
        /// Who may use it: "0600" this user, "0660" the group too, "0666" everybody.
        unix_mode: String = "0600".into(), Kind::Choice(&["0600", "0660", "0666"]);
        /// Addresses to serve HTTP on: the app in the browser, its API, MQTT over WebSocket at `/mqtt`.
        /// Empty: none. Where nothing else is set and the default port is taken, there is none either.
        http: Vec<SocketAddr> = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080)],
            Kind::Addresses;
        /// Threads that own sessions; 0 is one for two cores, because the journal, the listeners and
        /// the system need the others.
        shards: u64 = 0, Kind::Number(0, 256);
        /// The beginning of topics for responses, told to MQTT 5 Clients that request Response
        /// Information; `%c` is the Client Identifier, `%u` the user. Empty: nothing is told.
        response_information: String = String::new(), Kind::Text { may_be_empty: true };
        /// Whether MQTT 5 Clients that are disconnected are told in words why, besides the code.
        reason_strings: bool = false, Kind::Flag;
    }
}

section! {
    /// The store.
    Data, "data." {
        /// The folder of everything that is kept. One process at a time.
        dir: PathBuf = PathBuf::from("tidings-data"), FILLED;
        /// What an acknowledgement survives: "fsync" a power cut, "os" a killed process, "memory"
        /// nothing.
        durability: Durability = Durability::Fsync, Kind::Choice(&["fsync", "os", "memory"]);
        /// Bytes in the journal after which a checkpoint moves what is left of them into the store;
        /// it does so sooner where half as many are left. At most 1/256 of the disk, or 4 MiB.
        checkpoint_bytes: u64 = 40 * MIB, Kind::Number(MIB, 16 * GIB);
        /// Bytes of one file of the journal; at most a thirty-second of the disk, or 1 MiB.
        segment_bytes: u64 = 64 * MIB, Kind::Number(MIB, GIB);
        /// Bytes to be left free of the disk. Fewer: what would be kept is refused with 0x97 until
        /// twice as many are free; deliveries go on. The default is at most a tenth of the disk, any
        /// other number holds on every disk.
        reserve_bytes: u64 = GIB, Kind::Number(0, 1024 * GIB);
        /// The same in hundredths of the disk; the larger of the two holds.
        reserve_percent: u64 = 5, Kind::Number(0, 50);
        /// Bytes of journal that are kept before a base is written, from which the store can be made
        /// anew; twice the size of all rows, if that is more.
        base_bytes: u64 = 64 * MIB, Kind::Number(MIB, 64 * GIB);
        /// When each row of the store is compared with base and journal at the start, and the store
        /// made anew where it differs: "after-crash", "always" or "never".
        compare: Compare = Compare::AfterCrash,
            Kind::Choice(&["after-crash", "always", "never"]);
    }
}

section! {
    /// Who may log in.
    Users, "users." {
        /// The file with a `name:hash` per line; empty is `users` in the data folder.
        file: String = String::new(), Kind::Text { may_be_empty: true };
    }
}

section! {
    /// Other ways to log in than the users file. A password in the form of a JSON Web Token is decided
    /// by the keys alone, a user of the users file by that alone, the webhook decides about the rest.
    Auth, "auth." {
        /// Keys of JSON Web Tokens, which Clients send as password: a file with a JWK Set or PEM
        /// `PUBLIC KEY`s, read again when it changes. Empty: no tokens signed so are taken.
        jwt_keys: String = String::new(), Kind::Text { may_be_empty: true };
        /// The file with the secret of tokens signed with HS256, at least 32 bytes.
        jwt_secret_file: String = String::new(), Kind::Text { may_be_empty: true };
        /// Algorithms that are accepted for `auth.jwt_keys`, out of "EdDSA ES256 RS256".
        jwt_algorithms: String = String::from("EdDSA ES256 RS256"), FILLED;
        /// What `iss` of a token must be; empty is anything.
        jwt_issuer: String = String::new(), Kind::Text { may_be_empty: true };
        /// What `aud` of a token must be or contain; empty is anything.
        jwt_audience: String = String::new(), Kind::Text { may_be_empty: true };
        /// The claim of a token that names the user.
        jwt_user_claim: String = String::from("sub"), FILLED;
        /// Seconds by which clocks may differ.
        jwt_leeway_s: u64 = 60, Kind::Number(0, 3600);
        /// Where to ask about logins: `http://host:port/path` gets a POST with a JSON object. Empty:
        /// nobody is asked.
        webhook_url: String = String::new(), Kind::Text { may_be_empty: true };
        /// Milliseconds its answer may take. Later: CONNACK 0x88.
        webhook_timeout_ms: u64 = 2000, Kind::Number(10, 60_000);
        /// Seconds in which a login that it accepted is not asked for again.
        webhook_accepted_s: u64 = 30, Kind::Number(0, 3600);
        /// Seconds in which a login that it refused is not asked for again.
        webhook_refused_s: u64 = 5, Kind::Number(0, 3600);
        /// Questions asked at once.
        webhook_questions_max: u64 = 16, Kind::Number(1, 1024);
    }
}

section! {
    /// Who may publish and subscribe to what, once there are users.
    Rights, "rights." {
        /// The file with a rule per line, such as `allow users both sensors/%u/#`; the first that fits
        /// decides. Read again when it changes, and on SIGHUP. Empty is `rights` in the data folder.
        file: String = String::new(), Kind::Text { may_be_empty: true };
        /// What holds for topics of which no line speaks: "deny" or "allow". Those of chat are chat's
        /// to decide.
        otherwise: Otherwise = Otherwise::Deny, Kind::Choice(&["deny", "allow"]);
    }
}

section! {
    /// TLS.
    Tls, "tls." {
        /// The PEM file of the certificate and the chain behind it. Read again when it changes, and on
        /// SIGHUP; a bad one is logged, and the old one kept.
        certificate: String = String::new(), Kind::Text { may_be_empty: true };
        /// The PEM file of its private key.
        key: String = String::new(), Kind::Text { may_be_empty: true };
        /// Whether Clients show a certificate: "off", "optional" or "required".
        client_certificates: ClientCertificates = ClientCertificates::Off,
            Kind::Choice(&["off", "optional", "required"]);
        /// The PEM file of the authorities that sign the certificates of Clients.
        client_ca: String = String::new(), Kind::Text { may_be_empty: true };
        /// Whether a Client that shows a certificate is the user that its Common Name says, without a
        /// password.
        certificate_is_user: bool = false, Kind::Flag;
    }
}

section! {
    /// WebSocket.
    WebSocket, "websocket." {
        /// Origins of web pages that may connect, besides those of the same host, such as
        /// `"https://chat.example"`; `"*"` is all of them.
        origins: Vec<String> = Vec::new(), Kind::List(Item::Origin);
    }
}

section! {
    /// Proxies that pass connections on.
    Proxy, "proxy." {
        /// Listeners that are reached only through a proxy, which says by the PROXY protocol, version
        /// 2, who is at the other end: "tcp", "tls", "ws", "wss" or "unix".
        listeners: Vec<String> = Vec::new(),
            Kind::List(Item::Word(&["tcp", "tls", "ws", "wss", "unix"]));
        /// Addresses of those proxies, or ranges such as "10.0.0.0/8". Others are turned away there.
        trusted: Vec<String> = vec!["127.0.0.1".into(), "::1".into()], Kind::List(Item::Network);
    }
}

section! {
    /// HTTP: see `http` for where.
    Web, "web." {
        /// Whether anybody may make a room for two there.
        rooms: bool = true, Kind::Flag;
        /// Rooms that may be made from one address, or one IPv6 network (/64), within a minute; 0 is no
        /// bound. A rate: see `limits.rates`.
        rooms_per_minute: u64 = 10, Kind::Number(0, 1_000_000);
        /// How many of them at once.
        rooms_burst: u64 = 20, Kind::Number(1, 1_000_000);
        /// Links with wrong codes that may be tried from one address within a minute; 0 is no bound. A
        /// rate as well. Wrong codes for one link are bounded by `chat.seat_guesses` in any case.
        guesses_per_minute: u64 = 20, Kind::Number(0, 1_000_000);
        /// Most connections at once, without those that became MQTT. More are closed at once.
        connections_max: u64 = 1024, Kind::Number(1, 1_000_000);
        /// Most of them from one address, or one IPv6 network (/64); 0 is no bound. A rate as well.
        connections_per_address_max: u64 = 64, Kind::Number(0, 1_000_000);
        /// Seconds for a request to arrive, head and body each, and for its answer to be taken.
        timeout_s: u64 = 10, Kind::Number(1, 300);
        /// Whether who comes from this machine is an operator, who sees `/metrics` and `/api/stats` and may
        /// log users out and stop the server: "on", "off", or "auto", which is on where only this machine
        /// reaches the server. Not for who comes through a proxy, as far as that says so in a header.
        operator_local: Switch = Switch::Auto, Kind::Choice(&["auto", "on", "off"]);
        /// Users who are operators too, by the token of their login.
        operators: Vec<String> = Vec::new(), Kind::List(Item::User);
        /// Whether proxies of `proxy.trusted` say in `X-Forwarded-For` who is at the other end.
        forwarded: bool = false, Kind::Flag;
        /// Servers by which browsers find a way to each other for video: "stun:host:port", or with a
        /// login "turn:user:password@host:port". None: where there is a direct way.
        ice_servers: Vec<String> = Vec::new(), Kind::List(Item::IceServer);
    }
}

section! {
    /// Files of chats, uploaded by HTTP.
    Media, "media." {
        /// The folder with them; empty is `media` in the data folder. Those of rooms are in memory only.
        dir: String = String::new(), Kind::Text { may_be_empty: true };
        /// Largest file; 0: none are taken.
        file_bytes_max: u64 = 25 * MIB, Kind::Number(0, 16 * GIB);
        /// Bytes that one user uploads within a day; 0 is no bound.
        user_bytes_per_day: u64 = 512 * MIB, Kind::Number(0, 1024 * GIB);
        /// Bytes of all files that are kept, with what uploads under way will have.
        bytes_max: u64 = 10 * GIB, Kind::Number(0, 1024 * 1024 * GIB);
        /// The same of files in rooms, in memory.
        room_bytes_max: u64 = 128 * MIB, Kind::Number(0, 1024 * GIB);
        /// Uploads under way at once.
        uploads_max: u64 = 256, Kind::Number(1, 100_000);
        /// Seconds that a file has to be named by a message of its chat; else it goes.
        unreferenced_s: u64 = 86_400, Kind::Number(1, 31_536_000);
        /// Files that are looked at in a second, whether a message still names them.
        checks_per_second: u64 = 8, Kind::Number(1, 10_000);
    }
}

section! {
    /// The bounds of everything that Clients can make grow.
    Limits, "limits." {
        /// Largest packet; announced to MQTT 5 Clients. Larger: DISCONNECT 0x95.
        packet_bytes_max: u64 = 256 * KIB, Kind::Number(20, 16 * MIB);
        /// Longest Client Identifier.
        client_id_bytes_max: u64 = 128, Kind::Number(23, U16);
        /// Longest user name.
        user_bytes_max: u64 = 64, Kind::Number(1, 64);
        /// Longest password.
        password_bytes_max: u64 = 16 * KIB, Kind::Number(1, U16);
        /// Longest topic name or filter.
        topic_bytes_max: u64 = KIB, Kind::Number(16, U16);
        /// Most levels of a topic name or filter.
        topic_levels_max: u64 = 32, Kind::Number(4, 1024);
        /// Most user properties of a packet.
        user_properties_max: u64 = 64, Kind::Number(0, U16);
        /// Most bytes of a packet's user properties together.
        user_property_bytes_max: u64 = 8 * KIB, Kind::Number(0, MIB);
        /// Most filters in one SUBSCRIBE or UNSUBSCRIBE.
        filters_per_subscribe_max: u64 = 256, Kind::Number(1, U16);
        /// Topic aliases a Client may set; announced.
        topic_alias_max: u64 = 32, Kind::Number(0, U16);
        /// QoS 1 and 2 messages in flight each way; announced. More: DISCONNECT 0x93.
        receive_maximum: u64 = 64, Kind::Number(1, U16);
        /// Unsent bytes of a connection at which no more are taken from its queue, QoS 0 is dropped
        /// and it is not read.
        outbound_soft_bytes: u64 = 256 * KIB, Kind::Number(KIB, GIB);
        /// Unsent bytes of a connection at which it is closed; three times the soft bound and a
        /// largest packet, if that is more.
        outbound_hard_bytes: u64 = MIB, Kind::Number(MIB, GIB);
        /// Bytes of memory that the process may use; 0 is the limit of its control group, or half of
        /// what the machine has. At 60 % of it nobody new is let in (0x89), at 75 % publishers are
        /// not read, at 85 % the connections that hold most are closed.
        memory_bytes_max: u64 = 0, Kind::Number(0, 1024 * 1024 * GIB);
        /// Seconds in which a Client must take something of what is unsent, or be disconnected.
        unsent_timeout_s: u64 = 30, Kind::Number(1, 3600);
        /// Messages that wait for one plain session. Full: 0x97, or the oldest goes.
        session_queue_messages_max: u64 = 10_000, Kind::Number(1, 100_000_000);
        /// Bytes that wait for one plain session.
        session_queue_bytes_max: u64 = 16 * MIB, Kind::Number(KIB, 64 * GIB);
        /// Messages that wait for one session that ends with its connection, in memory.
        memory_queue_messages_max: u64 = 10_000, Kind::Number(1, 100_000_000);
        /// Bytes of them; a largest packet, if that is more.
        memory_queue_bytes_max: u64 = 4 * MIB, Kind::Number(KIB, 64 * GIB);
        /// Longest Session Expiry Interval, in seconds; announced.
        session_expiry_max_s: u64 = 30 * 86_400, Kind::Number(0, U32);
        /// Longest Keep Alive, in seconds; a longer one, or none, becomes this.
        keep_alive_max_s: u64 = 1200, Kind::Number(5, U16);
        /// Largest CONNECT, whatever larger packets are taken later.
        connect_bytes_max: u64 = 64 * KIB, Kind::Number(KIB, 16 * MIB);
        /// Seconds from accept to a complete CONNECT, enhanced authentication included.
        connect_timeout_s: u64 = 10, Kind::Number(1, 300);
        /// Most subscriptions of a session. More: 0x97.
        subscriptions_per_session_max: u64 = 512, Kind::Number(1, 1_000_000);
        /// Most of them with wildcards.
        wildcard_subscriptions_per_session_max: u64 = 64, Kind::Number(0, 1_000_000);
        /// Most sessions of one user.
        sessions_per_user_max: u64 = 16, Kind::Number(1, 1_000_000);
        /// Takeovers of one session within `takeover_window_s`. More: CONNACK 0x9F.
        takeovers_max: u64 = 10, Kind::Number(1, 1000);
        /// Seconds in which they are counted.
        takeover_window_s: u64 = 10, Kind::Number(1, 3600);
        /// Most retained messages.
        retained_messages_max: u64 = 100_000, Kind::Number(0, 100_000_000);
        /// Largest payload of a retained message.
        retained_message_bytes_max: u64 = 64 * KIB, Kind::Number(0, 16 * MIB);
        /// Most bytes of all retained messages together.
        retained_bytes_max: u64 = 64 * MIB, Kind::Number(0, 64 * GIB);
        /// Payloads whose Payload Format Indicator says text: "trust" it, or "check" that they are
        /// UTF-8 and refuse others with 0x99.
        payload_format: PayloadFormat = PayloadFormat::Trust,
            Kind::Choice(&["trust", "check"]);
        /// Highest QoS; announced if below 2. A PUBLISH above it: DISCONNECT 0x9B, a will: CONNACK
        /// 0x9B; subscriptions are granted at most it. Chat needs 1.
        maximum_qos: u64 = 2, Kind::Number(0, 2);
        /// Whether messages may be retained; announced if not. Then a retained message: DISCONNECT 0x9A,
        /// a retained will: CONNACK 0x9A.
        retain_available: bool = true, Kind::Flag;
        /// Whether filters may have wildcards; announced if not. Then: 0xA2.
        wildcard_subscriptions_available: bool = true, Kind::Flag;
        /// Whether subscriptions may have identifiers; announced if not. Then: 0xA1.
        subscription_identifiers_available: bool = true, Kind::Flag;
        /// Whether subscriptions may be shared; announced if not. Then: 0x9E.
        shared_subscriptions_available: bool = true, Kind::Flag;
        /// Most Clients connected at once; 0 is no bound. More: CONNACK 0x97.
        connections_max: u64 = 0, Kind::Number(0, 100_000_000);
        /// Most connections that are not authenticated yet.
        unauthenticated_connections_max: u64 = 1024, Kind::Number(1, 1_000_000);
        /// Most of them from one address, or one IPv6 network (/64). Where it is less than all there
        /// may be, nobody is kept out by a few addresses that take all places.
        unauthenticated_per_address_max: u64 = 64, Kind::Number(1, 1_000_000);
        /// Logins that may fail within a minute, for one user and from one address; 0 is no bound. More:
        /// CONNACK 0x89, unless the user logged in from there before.
        login_failures_per_minute: u64 = 10, Kind::Number(0, 100_000);
        /// Milliseconds after which a login that failed is answered.
        login_failure_delay_ms: u64 = 1000, Kind::Number(0, 10_000);
        /// Whether the bounds below, and those of `chat.` that are rates, are in force: "on", "off", or
        /// "auto", which is off where every listener is a loopback address or a Unix socket and behind
        /// no proxy.
        rates: Rates = Rates::Auto, Kind::Choice(&["auto", "on", "off"]);
        /// PUBLISH packets a second of one connection, of any QoS; 0 is no bound. Faster: it is read
        /// more slowly.
        publish_rate: u64 = 50, Kind::Number(0, 1_000_000);
        /// How many of them at once.
        publish_burst: u64 = 200, Kind::Number(2, 1_000_000);
        /// Seconds a connection may be faster without a break; 0 is no bound. Then: DISCONNECT 0x96.
        publish_over_max_s: u64 = 30, Kind::Number(0, 3600);
        /// Connections a second from one address, or one IPv6 network (/64); 0 is no bound. More are
        /// closed at once.
        connect_rate_per_address: u64 = 20, Kind::Number(0, 1_000_000);
        /// How many of them at once.
        connect_burst_per_address: u64 = 200, Kind::Number(1, 1_000_000);
        /// Most connections from one address at a time, authenticated or not; 0 is no bound. More are
        /// closed at once.
        connections_per_address_max: u64 = 256, Kind::Number(0, 1_000_000);
        /// Connections a second that are accepted in the first time after a start; 0 is no bound. The
        /// others wait.
        start_connect_rate: u64 = 500, Kind::Number(0, 1_000_000);
        /// Seconds of that time.
        start_connect_s: u64 = 60, Kind::Number(1, 3600);
    }
}

section! {
    /// What the broker says of itself under `$SYS`.
    Sys, "sys." {
        /// Seconds between two updates; 0 is never.
        interval_s: u64 = 10, Kind::Number(0, 86_400);
    }
}

section! {
    /// Chat.
    Chat, "chat." {
        /// Largest payload of a chat message.
        payload_bytes_max: u64 = 64 * KIB, Kind::Number(1, 16 * MIB);
        /// Messages a second that a user sends, from all devices together; 0 is no bound. More: `limit`,
        /// and when to try again. A rate: see `limits.rates`.
        send_rate: u64 = 2, Kind::Number(0, 1_000_000);
        /// How many of them at once.
        send_burst: u64 = 60, Kind::Number(1, 1_000_000);
        /// Chats that a user may begin within a minute; 0 is no bound. More: `limit`. A rate as well.
        new_chats_per_minute: u64 = 20, Kind::Number(0, 1_000_000);
        /// Questions a second that a user asks: `history` and `sync`; 0 is no bound. A rate as well.
        question_rate: u64 = 1, Kind::Number(0, 1_000_000);
        /// How many of them at once.
        question_burst: u64 = 10, Kind::Number(1, 1_000_000);
        /// Whether a stranger's first message is a request: until it is answered or accepted the
        /// stranger hears no ticks, no typing and no presence, and few messages are taken. Off where all
        /// users know each other.
        requests: bool = true, Kind::Flag;
        /// Messages a day that a stranger may send who is not answered; 0 is no bound. More: `limit`. A
        /// rate as well.
        request_messages_per_day: u64 = 20, Kind::Number(0, 1_000_000);
        /// Strangers whose requests one user holds. More: `limit`.
        requests_max: u64 = 1000, Kind::Number(1, 10_000);
        /// Users that one user has blocked or accepted. More: `limit`.
        peers_max: u64 = 2000, Kind::Number(1, 100_000);
        /// Entries of one chat that are kept at once, until its members have them. More: `limit`.
        entries_max: u64 = 100_000, Kind::Number(1, 1_000_000_000);
        /// Bytes that they have. More: `limit`.
        bytes_max: u64 = 256 * MIB, Kind::Number(KIB, 1024 * 1024 * MIB);
        /// Members of a group, and those of a channel who may write. More: `limit`.
        group_members_max: u64 = 1024, Kind::Number(1, 100_000);
        /// Members of a channel, readers included. More: `limit`.
        channel_members_max: u64 = 100_000, Kind::Number(1, 1_000_000);
        /// Bytes that chats which are only in memory hold on a shard, all of them. Beyond it each keeps its
        /// newest 16 KiB, and beyond twice as much what is sent there is refused.
        memory_bytes_max: u64 = 256 * MIB, Kind::Number(MIB, 1024 * GIB);
        /// Seconds that a room lasts without a message or a connection.
        room_idle_s: u64 = 1800, Kind::Number(1, 31_536_000);
        /// Seconds that it lasts at the most.
        room_lifetime_s: u64 = 86_400, Kind::Number(1, 31_536_000);
        /// Seconds before its end in which the two in it are told.
        room_warning_s: u64 = 60, Kind::Number(0, 86_400);
        /// Rooms that a shard holds. Beyond it none is made.
        rooms_max: u64 = 4096, Kind::Number(1, 1_000_000);
        /// Bytes that a room holds in memory. Beyond it its oldest entries go.
        room_bytes_max: u64 = MIB, Kind::Number(64 * KIB, GIB);
        /// Wrong codes in a row that a seat of a room takes before the next one has to wait.
        seat_guesses: u64 = 5, Kind::Number(1, 100);
        /// Wrong codes with which it is closed.
        seat_guesses_max: u64 = 10, Kind::Number(1, 100);
        /// Seconds of the first wait. Each further one is twice as long.
        seat_wait_s: u64 = 30, Kind::Number(1, 3600);
        /// Largest signal between the two in a room.
        signal_bytes_max: u64 = 16 * KIB, Kind::Number(1, 256 * KIB);
        /// Signals a second that somebody sends. More: `limit`.
        signal_rate: u64 = 20, Kind::Number(1, 10_000);
        /// How many of them at once.
        signal_burst: u64 = 60, Kind::Number(1, 10_000);
        /// Whether anybody may come in as nobody, under the user name `~anon`, to be paired: "on", "off",
        /// or "auto", which is on where there is HTTP and only this machine reaches the server.
        pairing: Switch = Switch::Auto, Kind::Choice(&["auto", "on", "off"]);
        /// Seconds that who names interests waits for somebody who shares one, before anyone will do.
        pair_wait_s: u64 = 10, Kind::Number(0, 3600);
        /// Seconds that somebody waits to be paired at the most.
        pair_ttl_max_s: u64 = 600, Kind::Number(1, 86_400);
        /// Who waits in the pools of a shard at once. More: `limit`.
        pair_waiting_max: u64 = 10_000, Kind::Number(1, 1_000_000);
        /// Seconds in which two who met are not paired again.
        pair_again_s: u64 = 3600, Kind::Number(0, 86_400);
        /// Milliseconds a user still counts as online after the last connection broke.
        presence_grace_ms: u64 = 5000, Kind::Number(0, 600_000);
        /// Milliseconds after a start in which users who were online when the server ended may come
        /// back, and nobody hears of it.
        presence_start_grace_ms: u64 = 60_000, Kind::Number(0, 3_600_000);
        /// Changes of presence that each shard tells in a second, counted for each who hears of one;
        /// 0 is no bound. The others wait, and the newest of each user is told.
        presence_rate: u64 = 2000, Kind::Number(0, 1_000_000);
        /// Milliseconds in which receipts are gathered into one.
        receipt_delay_ms: u64 = 100, Kind::Number(0, 10_000);
        /// Days that messages are kept.
        retention_days: u64 = 30, Kind::Number(1, 3650);
    }
}

section! {
    /// The end of the server, by SIGTERM or SIGINT.
    Drain, "drain." {
        /// The server that MQTT 5 Clients are told to use instead (0x9C), such as
        /// "b.example.org:1883". Empty: they are told that this one stops (0x8B).
        server_reference: String = String::new(), Kind::Text { may_be_empty: true };
        /// Seconds that Clients have at the most to take what is on its way to them.
        timeout_s: u64 = 4, Kind::Number(0, 300);
    }
}

section! {
    /// The log, on standard error.
    Log, "log." {
        /// The least that is worth a line: "off", "error", "warn", "info", "debug" or "trace".
        level: Level = Level::Info,
            Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]);
        /// "text", or "json" with an object per line.
        format: Format = Format::Text, Kind::Choice(&["text", "json"]);
    }
}

/// A word of `data.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Survives a power cut.
    Fsync,
    /// Survives a killed process.
    Os,
    /// Survives nothing.
    Memory,
}

/// A word of `data.compare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Compare {
    /// After an end that was not in order.
    AfterCrash,
    Always,
    Never,
}

/// A word of `rights.otherwise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Otherwise {
    Deny,
    Allow,
}

/// A word of `limits.payload_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PayloadFormat {
    /// Nobody looks.
    Trust,
    /// Text is text.
    Check,
}

/// A word of `limits.rates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rates {
    /// On, unless only this machine comes in.
    Auto,
    On,
    Off,
}

/// A word of `chat.pairing` and `web.operator_local`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    /// On where only this machine comes in.
    Auto,
    On,
    Off,
}

/// A word of `tls.client_certificates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientCertificates {
    Off,
    Optional,
    Required,
}

/// A word of `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A word of `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Text,
    Json,
}

const FILLED: Kind = Kind::Text { may_be_empty: false };
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const U16: u64 = 0xffff;
const U32: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use tidings_broker::core::metric::Metric;

    use super::*;

    #[test]
    fn every_default_is_within_its_own_bounds() {
        let file = print(&Settings::default());
        let values = load::parse_file("defaults", &file).unwrap();
        assert_eq!(values.len(), Config::keys().count());
    }

    const OTHER_BOUNDS: [&str; 27] = [
        "chat.send_rate",
        "chat.send_burst",
        "chat.new_chats_per_minute",
        "chat.question_rate",
        "chat.question_burst",
        "chat.request_messages_per_day",
        "chat.requests_max",
        "chat.peers_max",
        "chat.entries_max",
        "chat.bytes_max",
        "chat.group_members_max",
        "chat.channel_members_max",
        "chat.memory_bytes_max",
        "chat.rooms_max",
        "chat.signal_rate",
        "chat.signal_burst",
        "chat.pair_waiting_max",
        "web.rooms_per_minute",
        "web.rooms_burst",
        "web.guesses_per_minute",
        "web.connections_max",
        "web.connections_per_address_max",
        "media.file_bytes_max",
        "media.user_bytes_per_day",
        "media.bytes_max",
        "media.room_bytes_max",
        "media.uploads_max",
    ];

    /// The cells of the row of a page that begins with `key`.
    fn row<'a>(page: &'a str, key: &str) -> Vec<&'a str> {
        let begins = format!("| `{key}` |");
        let row = page.lines().find(|line| line.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("docs/limits.md: no row begins with {begins}"));
        row.split('|').map(str::trim).collect()
    }

    #[test]
    fn page_of_limits_has_every_key_its_default_and_a_counter_that_is_there() {
        let page = include_str!("../../../docs/limits.md");
        let labels: Vec<String> = Metric::ALL
            .iter()
            .filter_map(|metric| metric.label())
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let mut rows = 0;
        for key in Config::keys().filter(|key| key.name.starts_with("limits.")) {
            rows += 1;
            let name = key.name.trim_start_matches("limits.");
            let cells = row(page, name);
            let default = print::value(&Config::default(), key.name).unwrap().to_string();
            assert_eq!(cells[2].split(' ').next(), Some(&*default), "{name}");
            assert!(!cells[3].is_empty() && !cells[5].is_empty(), "{name}");
            for counted in cells[5].split('`').skip(1).step_by(2) {
                assert!(labels.iter().any(|label| label == counted), "{name}: {counted}");
            }
        }
        // And none that is gone.
        let all = page.lines().filter(|line| line.starts_with("| `"));
        let of_limits = |line: &&str| line.split('`').nth(1).is_some_and(|it| !it.contains('.'));
        assert_eq!(rows, all.filter(of_limits).count());
        // The bounds of chat and of HTTP have tables of their own.
        for key in Config::keys().filter(|key| OTHER_BOUNDS.contains(&key.name)) {
            let cells = row(page, key.name);
            let default = print::value(&Config::default(), key.name).unwrap().to_string();
            assert_eq!(cells[2].split(' ').next(), Some(&*default), "{}", key.name);
            let counted = cells[4].trim_matches('`');
            assert!(labels.iter().any(|label| label == counted), "{}: {counted}", key.name);
        }
        for family in page.split('`').filter(|word| word.starts_with("tidings_")) {
            assert!(Metric::ALL.iter().any(|metric| metric.name() == family), "{family}");
        }
    }

    #[test]
    fn every_key_has_a_meaning_that_ends() {
        for key in Config::keys() {
            assert!(key.meaning.last().is_some_and(|line| line.ends_with('.')), "{}", key.name);
        }
    }
}
