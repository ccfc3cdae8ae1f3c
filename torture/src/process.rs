//! The broker as a process: started, asked whether it serves, sent signals, waited for.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidings_core::codec::Version;

use crate::wire::{Hello, Wire};

/// How long a broker may take to start.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How a broker is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    pub(crate) port: u16,
    /// Its data folder.
    pub(crate) data: PathBuf,
    /// What it says goes behind what stands there.
    pub(crate) log: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

impl Launch {
    /// At a port that is free, with all its files in `place`.
    pub(crate) fn new(program: &Program, place: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(place)?;
        Ok(Self {
            program: program.clone(),
            port: free_port()?,
            data: place.join("data"),
            log: place.join("broker.log"),
            environment: Vec::new(),
        })
    }
}

/// Which broker.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    /// Ours, with more arguments.
    Tidings(PathBuf, Vec<String>),
    /// Any: a line for the shell, with `{port}` and `{data}`.
    Other(String),
}

/// A running broker; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    started: Instant,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

/// A port that nobody has now.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Launch {
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn start(&self) -> io::Result<Process> {
        let mut command = match &self.program {
            Program::Tidings(path, arguments) => {
                let mut command = Command::new(path);
                command.args(["serve", "--listen", &self.address().to_string(), "--data"]);
                command.arg(&self.data).args(arguments);
                command
            }
            Program::Other(line) => {
                let line = line.replace("{port}", &self.port.to_string());
                let line = line.replace("{data}", &self.data.display().to_string());
                let mut command = Command::new("sh");
                command.args(["-c", &line]);
                command
            }
        };
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(self.environment.iter().cloned());
        let started = Instant::now();
        Ok(Process { child: command.spawn()?, started })
    }

    /// Starts and waits until it accepts a CONNECT: how long that took.
    ///
    /// # Errors
    ///
    /// Why it does not, with the end of what it said.
    pub(crate) fn serve(&self) -> Result<(Process, Duration), String> {
        let mut process = self.start().map_err(|error| format!("cannot start it: {error}"))?;
        let mut hello = Hello::new(Version::V311, "asks-whether-you-serve");
        hello.clean = true;
        loop {
            if let Ok((wire, _)) = Wire::connect(self.address(), &hello) {
                let took = process.started.elapsed();
                wire.disconnect();
                return Ok((process, took));
            }
            if let Some(ended) = process.ended() {
                return Err(format!("it ended with {ended:?}: {}", self.last_words()));
            }
            if process.started.elapsed() > START_PATIENCE {
                return Err(format!("it does not serve: {}", self.last_words()));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The last lines it said.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut lines: Vec<_> = text.lines().rev().take(3).collect();
        lines.reverse();
        lines.join(" | ")
    }

    pub(crate) fn clear_log(&self) -> io::Result<()> {
        File::create(&self.log).map(drop)
    }

    pub(crate) fn at(&self, data: &Path) -> Self {
        Self { data: data.to_owned(), ..self.clone() }
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    pub(crate) fn ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().ok()??;
        Some(match status.code() {
            Some(code) => Ended::Code(code),
            None => Ended::Signal(status.signal().unwrap_or(0)),
        })
    }

    /// How it ended, if it does within this time.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<Ended> {
        let until = Instant::now() + patience;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() > until {
                return ended;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
