//! Brokers that are started for a comparison, each with settings that are stated.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::load::process;

/// How long a broker may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// What a broker is to a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The bare relay, which others are measured by.
    Relay,
    /// Tidings.
    Ours,
    /// Anybody else's.
    Peer,
}

/// A broker, and how it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// What the tables call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it says that it is.
    pub version: String,
    /// A shell command, with `{port}`, and `{dir}` for a folder of its own.
    pub command: String,
    /// What the file has that the command names with `{dir}/broker.`, with the same two words.
    pub conf: Option<String>,
    /// What an acknowledgement survives, as its makers say.
    pub durability: String,
}

/// What mosquitto is told: to hold back nothing, and to write nothing.
const MOSQUITTO: &str = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
                         max_queued_messages 0\nset_tcp_nodelay true\nlog_type none\n";

/// What rumqttd is told: to hold back as little as it can, and to listen for MQTT 3.1.1.
const RUMQTTD: &str = "id = 0\n[router]\nid = 0\nmax_connections = 200000\n\
                       max_outgoing_packet_count = 200\nmax_segment_size = 104857600\n\
                       max_segment_count = 10\n[v4.1]\nname = \"v4\"\nlisten = \"127.0.0.1:{port}\"\n\
                       next_connection_delay_ms = 0\n[v4.1.connections]\n\
                       connection_timeout_ms = 60000\nmax_payload_size = 262144\n\
                       max_inflight_count = 1000\ndynamic_filters = true\n";

impl Peer {
    fn new(name: &str, kind: Kind, command: String, durability: &str) -> Self {
        Self {
            name: name.into(),
            kind,
            version: String::new(),
            command,
            conf: None,
            durability: durability.into(),
        }
    }

    /// The bare relay of this program.
    pub fn relay(program: &Path) -> Self {
        let command = format!("{} relay --listen 127.0.0.1:{{port}}", program.display());
        let version = env!("CARGO_PKG_VERSION").into();
        Self { version, ..Self::new("relay", Kind::Relay, command, "nothing: it keeps nothing") }
    }

    /// Tidings with one of its durabilities.
    pub fn tidings(program: &Path, durability: &str) -> Self {
        let command = format!(
            "{} serve --listen 127.0.0.1:{{port}} --data {{dir}}/data --durability {durability}",
            program.display()
        );
        let survives = match durability {
            "fsync" => "a power cut",
            "os" => "kill -9",
            _ => "nothing",
        };
        let peer = Self::new(&format!("tidings {durability}"), Kind::Ours, command, survives);
        Self { version: first_line(program, "--version"), ..peer }
    }

    /// mosquitto as fast as it is, and as durable as it is.
    pub fn mosquitto(program: &Path) -> [Self; 2] {
        let command = format!("{} -c {{dir}}/broker.conf", program.display());
        let version = first_line(program, "-h");
        let peer = |name, more: &str, durability| Self {
            version: version.clone(),
            conf: Some(format!("{MOSQUITTO}{more}")),
            ..Self::new(name, Kind::Peer, command.clone(), durability)
        };
        // As root it would become somebody who may not write there.
        let saving =
            "user root\npersistence true\npersistence_location {dir}/\nautosave_interval 1\n";
        [
            peer("mosquitto", "persistence false\n", "nothing"),
            peer("mosquitto saving", saving, "kill -9 but for the last second, not synced"),
        ]
    }

    /// rumqttd.
    pub fn rumqttd(program: &Path) -> Self {
        let command = format!("{} -q -c {{dir}}/broker.toml", program.display());
        Self {
            version: first_line(program, "--version"),
            conf: Some(RUMQTTD.into()),
            ..Self::new("rumqttd", Kind::Peer, command, "nothing")
        }
    }

    /// As the command line has one: `NAME=COMMAND`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = named(text)?;
        if !command.contains("{port}") {
            return Err("the command must have {port} where the port goes".into());
        }
        Ok(Self::new(&name, Kind::Peer, command, "not said"))
    }

    /// Starts it, with an empty folder.
    pub fn start(&self, dir: &Path) -> Result<Running, String> {
        let failed = |what: &str, error: std::io::Error| format!("{}: {what}: {error}", self.name);
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).map_err(|it| failed("its folder", it))?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let address = free.map_err(|it| failed("a port for it", it))?;
        let fill = |text: &str| {
            let text = text.replace("{port}", &address.port().to_string());
            text.replace("{dir}", &dir.display().to_string())
        };
        if let Some(conf) = &self.conf {
            // rumqttd knows by the name what is in it.
            let toml = self.command.contains("/broker.toml");
            let path = dir.join(if toml { "broker.toml" } else { "broker.conf" });
            fs::write(path, fill(conf)).map_err(|it| failed("its settings", it))?;
        }
        let shell = format!("exec {}", fill(&self.command));
        let mut command = Command::new("sh");
        command.args(["-c", &shell]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|it| failed("sh", it))?;
        let mut running = Running { process, shell, again: None, address, dir: dir.to_owned() };
        let until = Instant::now() + START_PATIENCE;
        while TcpStream::connect(address).is_err() {
            let ended = running.process.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(format!("{}: it ended with {status}: {}", self.name, self.command));
            }
            if Instant::now() > until {
                return Err(format!(
                    "{}: does not listen on {address}: {}",
                    self.name, self.command
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

/// `NAME=TEXT`, as the command line has it.
pub fn named(text: &str) -> Result<(String, String), String> {
    let (name, rest) = text.split_once('=').ok_or("expected NAME=TEXT")?;
    Ok((name.into(), rest.into()))
}

/// Where a program is: on the path, or where a system has those of its administrator, or cargo its.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|it| PathBuf::from(it).join(".cargo/bin"));
    let more = ["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from);
    let dirs = std::env::split_paths(&path).chain(more).chain(home);
    dirs.map(|dir| dir.join(name)).find(|it| it.is_file())
}

/// What a program says first.
fn first_line(program: &Path, word: &str) -> String {
    let output = Command::new(program).arg(word).stdin(Stdio::null()).output();
    let said = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    said.unwrap_or_default().lines().next().unwrap_or_default().trim().to_owned()
}

/// A broker that serves; it ends with this.
#[derive(Debug)]
pub struct Running {
    process: Child,
    /// What the shell was told, without those words that wait for its end.
    shell: String,
    /// Who serves there after it was killed.
    again: Option<u32>,
    dir: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// A shell command that starts it again, and does not wait for it.
    pub fn restart(&self) -> String {
        format!("{} >/dev/null 2>&1 &", self.shell)
    }

    /// Looks who serves now, where somebody was told to [`restart`](Self::restart) it.
    pub fn look_again(&mut self) {
        let now = process::listener(self.address.port());
        self.again = now.filter(|now| *now != self.process.id());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What it has is thrown away.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(pid) = self.again {
            let _ = process::kill(pid);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command_with_a_port() {
        let peer = Peer::parse("x=broker --set a=b -p {port}").unwrap();
        assert_eq!(
            (peer.name.as_str(), peer.command.as_str()),
            ("x", "broker --set a=b -p {port}")
        );
        assert!(Peer::parse("broker").is_err() && Peer::parse("x=broker").is_err());
    }

    #[test]
    fn a_peer_that_ends_is_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("tidings-bench-test-{}", std::process::id()));
        let why = Peer::parse("x=false {port}").unwrap().start(&dir).unwrap_err();
        assert!(why.contains("it ended with"), "{why}");
        assert!(!dir.exists());
    }

    #[test]
    fn a_program_is_found_or_it_is_not() {
        assert!(find("sh").is_some_and(|it| it.is_absolute()));
        assert_eq!(find("a-broker-that-nobody-has-written"), None);
    }
}
