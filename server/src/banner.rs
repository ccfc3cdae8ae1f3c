//! What a start prints: what is in force, and what to try next.
//!
//! Everything to try can be pasted as it stands, from a terminal on this machine.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::{Durability, Otherwise};

/// What the banner tells.
#[derive(Debug)]
pub(crate) struct Banner<'a> {
    /// The addresses in use, with their real ports.
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) data: &'a Path,
    pub(crate) durability: Durability,
    /// How many users there are; with none, access is open on loopback.
    pub(crate) users: usize,
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
        let addresses: Vec<_> = self.addresses.iter().map(|a| format!("mqtt://{a}")).collect();
        row("listen", &addresses.join("  "));
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
        let open = self.users == 0 && self.logins.is_empty();
        if open {
            row("access", &paint("33", "open, because there are no users"));
            row("", &paint("2", "this machine only: anyone is who they say, no rate limits"));
        } else {
            let plural = if self.users == 1 { "" } else { "s" };
            row("access", &format!("{} user{plural} with a password", self.users));
            row("", &paint("2", &self.users_file.display().to_string()));
            for login in self.logins {
                row("", login);
            }
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

        let _ = writeln!(out, "\n  {}\n", paint("1", "Try it, in two terminals:"));
        let at = self.client_options();
        let password = if open { "" } else { " -P PASSWORD" };
        for line in [
            format!("mosquitto_sub{at} -i phone -u bob{password} -c -q 1 -t 'me/json/#' -v"),
            format!(
                "mosquitto_pub{at} -i laptop -u alice{password} -q 1 -t chat/@bob/send/m1 -m hello"
            ),
        ] {
            let _ = writeln!(out, "    {}", paint("36", &line));
        }
        let _ = writeln!(out, "\n  {}\n", paint("1", "Or talk, from the sources:"));
        let at = self.example_options();
        for names in ["alice bob", "bob alice"] {
            let line = format!("cargo run --example chat -- {names}{at}");
            let _ = writeln!(out, "    {}", paint("36", &line));
        }
        out.push('\n');
        out
    }

    /// Where this machine reaches the broker; loopback if that is among the addresses.
    fn near(&self) -> Option<SocketAddr> {
        let local = |a: &&SocketAddr| a.ip().is_loopback() || a.ip().is_unspecified();
        self.addresses.iter().find(local).or_else(|| self.addresses.first()).copied()
    }

    /// Host and port, where mosquitto's clients would not use them by themselves.
    fn client_options(&self) -> String {
        let mut options = String::new();
        let Some(near) = self.near() else { return options };
        if !is_default_host(near) {
            let _ = write!(options, " -h {}", near.ip());
        }
        if near.port() != DEFAULT_PORT {
            let _ = write!(options, " -p {}", near.port());
        }
        options
    }

    fn example_options(&self) -> String {
        match self.near() {
            Some(near) if is_default_host(near) && near.port() == DEFAULT_PORT => String::new(),
            Some(near) if is_default_host(near) => format!(" --addr 127.0.0.1:{}", near.port()),
            Some(near) => format!(" --addr {near}"),
            None => String::new(),
        }
    }
}

/// Whether a Client that names no host reaches `address`.
fn is_default_host(address: SocketAddr) -> bool {
    address.ip().is_unspecified() || address.ip() == std::net::Ipv4Addr::LOCALHOST
}

const DEFAULT_PORT: u16 = 1883;

#[cfg(test)]
mod tests {
    use super::*;

    fn render(addresses: &[&str], users: usize, colours: bool) -> String {
        let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Banner {
            addresses: &addresses,
            data: Path::new("tidings-data"),
            durability: Durability::Fsync,
            users,
            logins: &[],
            users_file: Path::new("tidings-data/users"),
            rules: 0,
            rights_file: Path::new("tidings-data/rights"),
            otherwise: Otherwise::Deny,
            colours,
        }
        .render()
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
        assert!(text.contains("2 users"), "{text}");
        assert!(text.contains("rights  chat for every user, and no other topics"), "{text}");
        let text = render(&["192.0.2.1:1", "127.0.0.1:1883"], 1, false);
        assert!(text.contains("mosquitto_sub -i phone"), "{text}");
    }

    #[test]
    fn colours_only_where_wanted() {
        assert!(render(&["127.0.0.1:1883"], 0, true).contains("\x1b[36mmosquitto_sub -i"));
    }
}
