//! Brokers that are started for a comparison, each with settings that are stated.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a broker may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A broker, and how it is started.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What the tables call it.
    pub name: String,
    /// A shell command, with `{port}`, and `{dir}` for a folder of its own.
    pub command: String,
    /// A file `broker.conf` in that folder, with the same two words.
    pub conf: Option<String>,
    /// What an acknowledgement survives.
    pub durability: String,
}

/// What mosquitto is told: to hold back nothing, and to write nothing.
const MOSQUITTO: &str = "listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
                         max_queued_messages 0\nset_tcp_nodelay true\npersistence false\nlog_type none\n";

impl Peer {
    fn new(name: &str, command: String, durability: &str) -> Self {
        Self { name: name.into(), command, conf: None, durability: durability.into() }
    }

    /// The bare relay of this program.
    pub fn relay(program: &Path) -> Self {
        let command = format!("{} relay --listen 127.0.0.1:{{port}}", program.display());
        Self::new("relay", command, "keeps nothing")
    }

    /// Tidings with one of its durabilities.
    pub fn tidings(program: &Path, durability: &str) -> Self {
        let command = format!(
            "{} serve --listen 127.0.0.1:{{port}} --data {{dir}}/data --durability {durability}",
            program.display()
        );
        let survives = match durability {
            "fsync" => "acknowledged survives a power cut",
            "os" => "acknowledged survives kill -9",
            _ => "acknowledged survives nothing",
        };
        Self::new(&format!("tidings {durability}"), command, survives)
    }

    /// mosquitto, if it is installed.
    pub fn mosquitto() -> Option<Self> {
        let places = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let program = places.into_iter().find(|it| Path::new(it).exists())?;
        let command = format!("{program} -c {{dir}}/broker.conf");
        let peer = Self::new("mosquitto", command, "acknowledged survives nothing");
        Some(Self { conf: Some(MOSQUITTO.into()), ..peer })
    }

    /// As the command line has one: `NAME=COMMAND`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
        if !command.contains("{port}") {
            return Err("the command must have {port} where the port goes".into());
        }
        Ok(Self::new(name, command.into(), "as its command says"))
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
            let path = dir.join("broker.conf");
            fs::write(path, fill(conf)).map_err(|it| failed("its settings", it))?;
        }
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {}", fill(&self.command))]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|it| failed("sh", it))?;
        let mut running = Running { process, address, dir: dir.to_owned() };
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

/// A broker that serves; it ends with this.
#[derive(Debug)]
pub struct Running {
    process: Child,
    dir: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What it has is thrown away.
        let _ = self.process.kill();
        let _ = self.process.wait();
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
}
