//! The real binary as a process: started, read, killed, and waited for.
//!
//! Nothing here sleeps to give the process time: the banner says when it serves, the end of its
//! standard error when it is gone.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use crate::tidings;

/// A running broker; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) banner: String,
    pub(crate) address: SocketAddr,
    log: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts on a port of the system's choice and reads the banner to its last line.
    pub(crate) fn start(directory: &Path, args: &[&str]) -> Self {
        Self::start_at(directory, "127.0.0.1:0", args)
    }

    /// Starts where one was before.
    pub(crate) fn start_at(directory: &Path, address: &str, args: &[&str]) -> Self {
        // HTTP where a test asks for it: others do not fight for its port.
        let mut command = tidings(directory, &["--listen", address, "--http", "off"]);
        // Two shards on any machine, for what only happens between them.
        command.args(["--set", "shards=2"]).args(args);
        Self::spawn(command)
    }

    /// Starts with HTTP as it is where nobody says anything.
    pub(crate) fn start_by_default(directory: &Path) -> Self {
        Self::spawn(tidings(directory, &["--listen", "127.0.0.1:0"]))
    }

    /// Starts with a limit of open files.
    pub(crate) fn start_with_files(directory: &Path, files: usize, args: &[&str]) -> Self {
        Self::start_after(&format!("ulimit -n {files}"), directory, args)
    }

    /// Starts in a shell that has done this before.
    pub(crate) fn start_after(first: &str, directory: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("{first} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_tidings"), "--listen", "127.0.0.1:0"]);
        command.args(["--http", "off"]).args(args).current_dir(directory).stdin(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        // Read all the time, so that the process never waits for a reader of its log.
        let log = thread::spawn(move || {
            let mut log = String::new();
            let _ = stderr.read_to_string(&mut log);
            log
        });
        let mut banner = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !banner.contains("-- bob alice") {
            if out.read_line(&mut banner).unwrap() == 0 {
                let _ = child.wait();
                panic!("ended early: {banner}{}", log.join().unwrap());
            }
        }
        let (_, rest) = banner.split_once("mqtt://").unwrap();
        let address = rest.split_whitespace().next().unwrap().parse().unwrap();
        Self { child, banner, address, log: Some(log) }
    }

    /// Where it serves HTTP.
    pub(crate) fn web(&self) -> SocketAddr {
        let (_, rest) = self.banner.split_once("http://").expect("a line for the web");
        rest.split('/').next().unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal; not waited for.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Waits for the end: how it ended, and standard error.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        (status, self.log.take().unwrap().join().unwrap())
    }

    /// Sends the signal and waits for the end: exit code and standard error.
    pub(crate) fn end(self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let (status, log) = self.wait();
        (status.code(), log)
    }

    /// Stops it in order.
    pub(crate) fn stop(self) {
        let (code, log) = self.end("-TERM");
        assert_eq!(code, Some(0), "{log}");
    }

    /// Ends it as a crash does: `kill -9`.
    pub(crate) fn crash(mut self) {
        self.child.kill().unwrap();
        let (status, log) = self.wait();
        assert_eq!(status.signal(), Some(9), "it ended by itself before: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind `"name":` in a flat JSON text.
pub(crate) fn number(json: &str, name: &str) -> u64 {
    let value = value(json, name).unwrap_or_else(|| panic!("no {name} in {json}"));
    let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits.parse().unwrap_or_else(|_| panic!("{name} in {json} is no number"))
}

/// The text behind `"name":` in a flat JSON text without escapes.
pub(crate) fn text<'a>(json: &'a str, name: &str) -> &'a str {
    let quoted = value(json, name).and_then(|value| value.strip_prefix('"'));
    quoted.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no {name} in {json}"))
}

fn value<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    json.split_once(&format!("\"{name}\":")).map(|(_, value)| value)
}
