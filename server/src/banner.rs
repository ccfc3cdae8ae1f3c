//! What a start prints: what is in force, and what to try next.
//!
//! Everything to try can be pasted as it stands, from a terminal on this machine.

use std::fmt::{Display, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use tidings_broker::listener::{Endpoint, Place, Transport};

use crate::config::{Durability, Otherwise};

/// What the banner tells.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    /// Where it listens, with the real ports.
    pub(crate) endpoints: &'a [Endpoint],
    /// Where HTTP is served.
    pub(crate) web: &'a [SocketAddr],
    /// The default address of that, if another process has it.
    pub(crate) web_taken: Option<SocketAddr>,
    /// The file of the authority that Clients are to believe.
    pub(crate) authority: &'a str,
    /// Whether nobody comes in over TLS without a certificate.
    pub(crate) asks_for_certificates: bool,
    /// The listeners, in the words of `proxy.listeners`, that only a proxy may use.
    pub(crate) proxied: &'a [String],
    pub(crate) data: &'a Path,
    pub(crate) durability: Durability,
    /// Whether anybody may come in, from this machine.
    pub(crate) open: bool,
    /// How many users there are.
    pub(crate) users: usize,
    /// Whether Clients are held to rates.
    pub(crate) rates_apply: bool,
    /// Ways to log in besides the users file.
    pub(crate) logins: &'a [String],
    pub(crate) users_file: &'a Path,
    /// How many rules there are.
    pub(crate) rules: usize,
    pub(crate) rights_file: &'a Path,
    pub(crate) otherwise: Otherwise,
    /// Whether to use colours.
    pub(crate) colours: bool,
}

impl Banner<'_> {
    /// The text, several lines.
    pub(crate) fn render(&self) -> String {
        let paint = |code: &str, text: &str| {
            if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
        };
        let mut out = String::new();
        let version = concat!("Tidings ", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(out, "\n  {}  {}\n", paint("1", version), paint("2", "MQTT, and chat"));

        let mut row = |label: &str, text: &str| {
            let _ = writeln!(out, "  {}  {text}", paint("2", &format!("{label:<6}")));
        };
        let is_plain = |endpoint: &&Endpoint| endpoint.transport == Transport::Mqtt;
        let urls = |plain: bool| {
            let some = self.endpoints.iter().filter(|endpoint| is_plain(endpoint) == plain);
            some.map(ToString::to_string).collect::<Vec<_>>().join("  ")
        };
        let lines = [urls(true), urls(false)];
        for (at, line) in lines.iter().filter(|line| !line.is_empty()).enumerate() {
            row(if at == 0 { "listen" } else { "" }, line);
        }
        let pages: Vec<_> = self.web.iter().map(|address| page(*address)).collect();
        if !pages.is_empty() {
            row("web", &pages.join("  "));
        }
        if let Some(address) = self.web_taken {
            let port = address.port();
            row("web", &paint("33", &format!("none, because another program has port {port}")));
            row("", &paint("2", "give another one with --http ADDR:PORT, or --http off"));
        }
        let proxied = self.proxied_in_use().join(", ");
        if !proxied.is_empty() {
            let text = format!("{proxied}: only through a proxy, by the PROXY protocol, version 2");
            row("", &paint("2", &text));
        }
        row("data", &self.data.display().to_string());
        row(
            "",
            &paint(
                "2",
                match self.durability {
                    Durability::Fsync => "fsync: what is acknowledged survives a power cut",
                    Durability::Os => "os: what is acknowledged survives a crash of this process",
                    Durability::Memory => "memory: nothing survives the end of this process",
                },
            ),
        );
        let open = self.open;
        if open {
            row("access", &paint("33", "open, because there are no users"));
            row("", &paint("2", "this machine only: anyone is who they say"));
        } else {
            let access = match self.users {
                0 => "no user with a password".to_owned(),
                1 => "1 user with a password".to_owned(),
                users => format!("{users} users with a password"),
            };
            row("access", &access);
            row("", &paint("2", &self.users_file.display().to_string()));
            for login in self.logins {
                row("", login);
            }
        }
        if !self.rates_apply {
            row("limits", "no rate limits");
            row("", &paint("2", self.why_no_rates()));
        }
        let file = self.rights_file.display();
        if self.rules > 0 {
            let plural = if self.rules == 1 { "" } else { "s" };
            row("rights", &format!("{} rule{plural}, and chat for every user", self.rules));
            row("", &paint("2", &file.to_string()));
        } else if !open && self.otherwise == Otherwise::Deny {
            row("rights", "chat for every user, and no other topics");
            let hint = format!("allow more in {file}, such as: allow users both sensors/%u/#");
            row("", &paint("2", &hint));
        }

        let mut block = |title: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return;
            }
            let _ = writeln!(out, "\n  {}\n", paint("1", title));
            for line in lines {
                let _ = writeln!(out, "    {}", paint("36", &line));
            }
        };
        let password = if open { "" } else { " -P PASSWORD" };
        let subscribe = |way: Way| {
            let keep = way.keep_session();
            format!("-i phone -u bob{password} {keep} -q 1 -t 'me/json/#' -v")
        };
        let mut ways = self.ways();
        if let Some((first, at)) = (!ways.is_empty()).then(|| ways.remove(0)) {
            let send = format!("-i laptop -u alice{password} -q 1 -t chat/@bob/send/m1 -m hello");
            let (sub, publish) = (first.subscriber(), first.publisher());
            let subscribe = subscribe(first);
            let lines = vec![format!("{sub}{at} {subscribe}"), format!("{publish}{at} {send}")];
            block("Try it, in two terminals:", lines);
        }
        let others =
            ways.iter().map(|(way, at)| format!("{}{at} {}", way.subscriber(), subscribe(*way)));
        block("The same in other ways:", others.collect());
        if let Some(near) = self.near(Transport::Mqtt) {
            let at = example_options(near);
            let line = |names| format!("cargo run --example chat -- {names}{at}");
            block("Or talk, from the sources:", ["alice bob", "bob alice"].map(line).into());
        }
        out.push('\n');
        out
    }

    fn why_no_rates(&self) -> &'static str {
        let is_near = |endpoint: &Endpoint| match &endpoint.place {
            Place::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Place::Unix(_) => true,
        };
        if self.endpoints.iter().all(is_near) && self.proxied_in_use().is_empty() {
            "only this machine comes in; limits.rates = \"on\" holds it to them"
        } else {
            "limits.rates is \"off\": whoever comes in is as fast as they like"
        }
    }

    /// The ways in, with what a client has to be told of them; the easiest first.
    fn ways(&self) -> Vec<(Way, String)> {
        let mut ways = Vec::new();
        if let Some(near) = self.near(Transport::Mqtt) {
            ways.push((Way::Mosquitto, client_options(near, DEFAULT_PORT)));
        }
        for endpoint in self.endpoints.iter().filter(|endpoint| !self.is_proxied(endpoint)) {
            if let (Transport::Mqtt, Place::Unix(path)) = (endpoint.transport, &endpoint.place) {
                ways.push((Way::Mosquitto, format!(" --unix {}", quoted(&path.display()))));
            }
        }
        if let Some(near) = self.near(Transport::Mqtts) {
            // The name in the certificate is hardly that of an address.
            let file = quoted(&self.authority);
            let own = self.own_certificate();
            ways.push((
                Way::Mosquitto,
                format!(" -h localhost -p {} --cafile {file}{own}", near.port()),
            ));
        }
        if let Some(near) = self.near(Transport::Ws) {
            let host = near_host(near);
            ways.push((Way::MqttJs, format!(" -l ws -h {host} -p {}", near.port())));
        }
        if let Some(near) = self.near(Transport::Wss) {
            let file = quoted(&self.authority);
            let own = self.own_certificate();
            ways.push((
                Way::MqttJs,
                format!(" -l wss -h localhost -p {} --ca {file}{own}", near.port()),
            ));
        }
        ways
    }

    /// What a client has to show, in the words of both clients.
    fn own_certificate(&self) -> &'static str {
        if self.asks_for_certificates { " --cert CLIENT.pem --key CLIENT.key" } else { "" }
    }

    fn is_proxied(&self, endpoint: &Endpoint) -> bool {
        self.proxied.iter().any(|word| word == kind(endpoint))
    }

    /// The listeners that are there and that only a proxy may use, in the words of `proxy.listeners`.
    fn proxied_in_use(&self) -> Vec<&str> {
        let is_used = |word: &&String| self.endpoints.iter().any(|it| kind(it) == word.as_str());
        self.proxied.iter().filter(is_used).map(String::as_str).collect()
    }

    /// Where this machine reaches it so; loopback if that is among the addresses.
    fn near(&self, transport: Transport) -> Option<SocketAddr> {
        let is_such = |it: &&Endpoint| it.transport == transport && !self.is_proxied(it);
        let these = self.endpoints.iter().filter(is_such);
        let addresses: Vec<_> = these.filter_map(Endpoint::address).collect();
        let local = |a: &&SocketAddr| a.ip().is_loopback() || a.ip().is_unspecified();
        addresses.iter().find(local).or_else(|| addresses.first()).copied()
    }
}

/// What a browser opens, on this machine where that can be.
fn page(address: SocketAddr) -> String {
    let host = if address.ip().is_unspecified() { near_host(address) } else { address.ip() };
    format!("http://{}/", SocketAddr::new(host, address.port()))
}

/// An endpoint in the words of `proxy.listeners`.
fn kind(endpoint: &Endpoint) -> &'static str {
    match (endpoint.transport, &endpoint.place) {
        (_, Place::Unix(_)) => "unix",
        (Transport::Mqtts, _) => "tls",
        (Transport::Ws, _) => "ws",
        (Transport::Wss, _) => "wss",
        _ => "tcp",
    }
}

/// A client for a shell.
#[derive(Debug, Clone, Copy)]
enum Way {
    Mosquitto,
    /// The one of them that speaks WebSocket.
    MqttJs,
}

impl Way {
    fn subscriber(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto_sub",
            Self::MqttJs => "npx mqtt sub",
        }
    }

    /// The option to keep the session.
    fn keep_session(self) -> &'static str {
        match self {
            Self::Mosquitto => "-c",
            Self::MqttJs => "--no-clean",
        }
    }

    fn publisher(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto_pub",
            Self::MqttJs => "npx mqtt pub",
        }
    }
}

/// Host and port, where mosquitto's clients would not use them by themselves.
fn client_options(near: SocketAddr, default_port: u16) -> String {
    let mut options = String::new();
    if !is_default_host(near) {
        let _ = write!(options, " -h {}", near.ip());
    }
    if near.port() != default_port {
        let _ = write!(options, " -p {}", near.port());
    }
    options
}

fn example_options(near: SocketAddr) -> String {
    if !is_default_host(near) {
        format!(" --addr {near}")
    } else if near.port() == DEFAULT_PORT {
        String::new()
    } else {
        format!(" --addr 127.0.0.1:{}", near.port())
    }
}

fn near_host(near: SocketAddr) -> IpAddr {
    if is_default_host(near) { Ipv4Addr::LOCALHOST.into() } else { near.ip() }
}

/// As a shell takes it.
fn quoted(text: &impl Display) -> String {
    let text = text.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether a Client that names no host reaches `address`.
fn is_default_host(address: SocketAddr) -> bool {
    address.ip().is_unspecified() || address.ip() == Ipv4Addr::LOCALHOST
}

const DEFAULT_PORT: u16 = 1883;

#[cfg(test)]
mod tests {
    use super::*;

    fn render(addresses: &[&str], users: usize, colours: bool) -> String {
        let endpoint = |address: &&str| Endpoint {
            transport: Transport::Mqtt,
            place: Place::Tcp(address.parse().unwrap()),
        };
        render_all(&addresses.iter().map(endpoint).collect::<Vec<_>>(), users, colours)
    }

    fn render_all(endpoints: &[Endpoint], users: usize, colours: bool) -> String {
        banner(endpoints, users, colours).render()
    }

    fn banner(endpoints: &[Endpoint], users: usize, colours: bool) -> Banner<'_> {
        Banner {
            endpoints,
            web: &[],
            web_taken: None,
            authority: "my keys/cert.pem",
            asks_for_certificates: false,
            proxied: &[],
            data: Path::new("tidings-data"),
            durability: Durability::Fsync,
            open: users == 0,
            users,
            rates_apply: users > 0,
            logins: &[],
            users_file: Path::new("tidings-data/users"),
            rules: 0,
            rights_file: Path::new("tidings-data/rights"),
            otherwise: Otherwise::Deny,
            colours,
        }
    }

    fn lines(text: &str) -> Vec<&str> {
        text.lines().map(str::trim).collect()
    }

    #[test]
    fn default_start_says_exactly_what_to_try() {
        let text = render(&["127.0.0.1:1883"], 0, false);
        for line in [
            "mosquitto_sub -i phone -u bob -c -q 1 -t 'me/json/#' -v",
            "mosquitto_pub -i laptop -u alice -q 1 -t chat/@bob/send/m1 -m hello",
            "cargo run --example chat -- alice bob",
            "cargo run --example chat -- bob alice",
        ] {
            assert!(lines(&text).contains(&line), "{text}");
        }
        assert!(!text.contains("rights"), "{text}");
        assert!(text.contains("no users") && !text.contains('\x1b'), "{text}");
        assert!(text.contains("\n  limits  no rate limits\n"), "{text}");
        assert!(text.contains("only this machine comes in"), "{text}");
    }

    #[test]
    fn other_port_host_and_users_are_in_what_to_try() {
        let text = render(&["127.0.0.1:2883"], 0, false);
        assert!(text.contains("mosquitto_sub -p 2883 -i phone"), "{text}");
        assert!(text.contains("-- alice bob --addr 127.0.0.1:2883"), "{text}");
        let text = render(&["192.0.2.1:1883"], 2, false);
        assert!(
            text.contains("mosquitto_pub -h 192.0.2.1 -i laptop -u alice -P PASSWORD"),
            "{text}"
        );
        assert!(text.contains("2 users") && !text.contains("rate limits"), "{text}");
        assert!(text.contains("rights  chat for every user, and no other topics"), "{text}");
        let text = render(&["192.0.2.1:1", "127.0.0.1:1883"], 1, false);
        assert!(text.contains("mosquitto_sub -i phone"), "{text}");
    }

    #[test]
    fn every_listener_is_shown_with_a_way_in() {
        let tcp = |transport, port| {
            let place = Place::Tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
            Endpoint { transport, place }
        };
        let unix = Place::Unix("/run/tidings.sock".into());
        let endpoints = [
            tcp(Transport::Mqtt, 1883),
            Endpoint { transport: Transport::Mqtt, place: unix },
            tcp(Transport::Mqtts, 8883),
            tcp(Transport::Ws, 8083),
            tcp(Transport::Wss, 8084),
        ];
        let text = render_all(&endpoints, 1, false);
        for part in [
            "listen  mqtt://0.0.0.0:1883  mqtt+unix:/run/tidings.sock\n",
            "mqtts://0.0.0.0:8883  ws://0.0.0.0:8083/mqtt  wss://0.0.0.0:8084/mqtt\n",
            "mosquitto_pub -i laptop",
            "mosquitto_sub --unix /run/tidings.sock -i phone",
            "mosquitto_sub -h localhost -p 8883 --cafile 'my keys/cert.pem' -i phone",
            "npx mqtt sub -l ws -h 127.0.0.1 -p 8083 -i phone -u bob -P PASSWORD --no-clean",
            "npx mqtt sub -l wss -h localhost -p 8084 --ca 'my keys/cert.pem' -i phone",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = render_all(&endpoints[3..4], 0, false);
        assert!(text.contains("npx mqtt pub -l ws") && !text.contains("mosquitto"), "{text}");
    }

    #[test]
    fn what_a_client_cannot_use_by_hand_is_not_offered() {
        let tcp = |transport, port| {
            let place = Place::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            Endpoint { transport, place }
        };
        let endpoints = [tcp(Transport::Mqtt, 1883), tcp(Transport::Mqtts, 8883)];
        let proxied = ["tcp".to_owned(), "wss".to_owned()];
        let banner = Banner {
            proxied: &proxied,
            asks_for_certificates: true,
            ..banner(&endpoints, 0, false)
        };
        let text = banner.render();
        assert!(text.contains("  tcp: only through a proxy"), "{text}");
        assert!(!text.contains("cargo run") && !text.contains("mosquitto_sub -i"), "{text}");
        assert!(
            text.contains("--cafile 'my keys/cert.pem' --cert CLIENT.pem --key CLIENT.key"),
            "{text}"
        );
    }

    #[test]
    fn page_to_open_is_shown_or_why_there_is_none() {
        let mqtt = [Endpoint {
            transport: Transport::Mqtt,
            place: Place::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))),
        }];
        let web = ["127.0.0.1:8080".parse().unwrap(), "0.0.0.0:80".parse().unwrap()];
        let text = Banner { web: &web, ..banner(&mqtt, 0, false) }.render();
        assert!(
            text.contains("  web     http://127.0.0.1:8080/  http://127.0.0.1:80/\n"),
            "{text}"
        );
        let text = Banner { web_taken: Some(web[0]), ..banner(&mqtt, 0, false) }.render();
        assert!(text.contains("none, because another program has port 8080"), "{text}");
    }

    #[test]
    fn colours_only_where_wanted() {
        assert!(render(&["127.0.0.1:1883"], 0, true).contains("\x1b[36mmosquitto_sub -i"));
    }
}
