//! The command: asks a broker at an address, and says what does not hold.
//!
//! Exit code 0: nothing failed; 1: something did; 2: the arguments are wrong or nobody answers.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand, ValueEnum};
use tidings_conformance::packet::Version;
use tidings_conformance::record::Record;
use tidings_conformance::report::{self, Count, Progress};
use tidings_conformance::run::{plan, run};
use tidings_conformance::target::Target;
use tidings_conformance::transport::tls::{self, Trust};
use tidings_conformance::{compare, html};

/// Tests a broker against the normative statements of MQTT 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(name = "tidings-conformance", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the broker listens: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: String,
    /// Over TLS; with `--ca` or `--insecure`.
    #[arg(long)]
    tls: bool,
    /// Over a WebSocket.
    #[arg(long)]
    ws: bool,
    /// Over a WebSocket over TLS; with `--ca` or `--insecure`.
    #[arg(long, conflicts_with_all = ["tls", "ws"])]
    wss: bool,
    /// The path of the WebSocket.
    #[arg(long, default_value = "/mqtt")]
    path: String,
    /// The authorities to believe, a file in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Takes whatever certificate the broker shows.
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Our own certificate, a file in PEM.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of our certificate, a file in PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Only this version of MQTT.
    #[arg(long)]
    version: Option<ArgVersion>,
    /// The user name in each CONNECT.
    #[arg(long)]
    user: Option<String>,
    /// The password in each CONNECT.
    #[arg(long)]
    password: Option<String>,
    /// Asks for enhanced authentication too, with the user and the password.
    #[arg(long, value_name = "METHOD", requires = "user", requires = "password")]
    auth_method: Option<AuthMethod>,
    /// A topic that we may not publish to, if the default may be published to.
    #[arg(long, value_name = "TOPIC")]
    denied_topic: Option<String>,
    /// Only the cases under this section of MQTT 5.0, such as 3.3.
    #[arg(long)]
    section: Option<String>,
    /// Only the cases whose name contains this.
    #[arg(long)]
    name: Option<String>,
    /// How many cases run at once: 24, or 4 with a user, whose sessions may be counted.
    #[arg(long)]
    jobs: Option<usize>,
    /// How many seconds an answer may take.
    #[arg(long, default_value_t = 5)]
    patience: u64,
    /// Lists the cases and their statements, and asks nobody.
    #[arg(long)]
    list: bool,
    /// What the reports call the broker, such as its name and version.
    #[arg(long, value_name = "NAME")]
    broker: Option<String>,
    /// Writes a report to look at.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Writes a report to compute with, and for `compare`.
    #[arg(long, value_name = "FILE.json")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts several runs side by side: counts, and the cases in which they differ, as Markdown.
    Compare {
        /// Reports that were written with `--json`.
        #[arg(required = true, value_name = "FILE.json")]
        files: Vec<PathBuf>,
        /// Writes the same as a page.
        #[arg(long, value_name = "FILE.html")]
        html: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ArgVersion {
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5")]
    V5,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AuthMethod {
    #[value(name = "SCRAM-SHA-256")]
    ScramSha256,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (about, answer) = match &arguments.command {
        Some(Command::Compare { files, html }) => ("compare", compare(files, html.as_deref())),
        None => (arguments.addr.as_str(), answer(&arguments)),
    };
    match answer {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidings-conformance: {about}: {error}");
            ExitCode::from(2)
        }
    }
}

/// How many cases failed.
fn answer(arguments: &Arguments) -> io::Result<usize> {
    let versions = match arguments.version {
        None => vec![Version::V311, Version::V5],
        Some(ArgVersion::V311) => vec![Version::V311],
        Some(ArgVersion::V5) => vec![Version::V5],
    };
    let mut cases = tidings_conformance::all();
    if let Some(section) = &arguments.section {
        cases.retain(|case| case.is_under(section));
    }
    if let Some(name) = &arguments.name {
        cases.retain(|case| case.name.contains(name.as_str()));
    }
    let mut out = io::stdout().lock();
    if arguments.list {
        report::list(&cases, &versions, &mut out)?;
        return Ok(0);
    }
    let target = target(arguments)?;
    target.reach()?;
    let jobs = arguments.jobs.unwrap_or_else(|| if arguments.user.is_some() { 4 } else { 24 });
    let mut progress = Progress::new(plan(&cases, &versions).len(), io::stdout().is_terminal());
    let began_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    let start = Instant::now();
    let findings = run(&target, &cases, &versions, jobs, |finding| {
        let _nobody_looks = write!(out, "{}", progress.step(finding)).and_then(|()| out.flush());
    });
    let record = Record {
        broker: arguments.broker.clone().unwrap_or_else(|| arguments.addr.clone()),
        address: target.url(),
        began_s,
        took_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        runs: Record::runs_of(&findings),
    };
    report::write(&findings, &mut out)?;
    if let Some(file) = &arguments.json {
        let json = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        write_file(file, &json)?;
    }
    if let Some(file) = &arguments.report {
        write_file(file, html::page(&record).as_bytes())?;
    }
    Ok(Count::of(&findings).failed)
}

fn compare(files: &[PathBuf], page: Option<&Path>) -> io::Result<usize> {
    let mut records = Vec::new();
    for file in files {
        let json = std::fs::read(file).map_err(|error| of_file(file, error))?;
        let record: Record = serde_json::from_slice(&json).map_err(|error| of_file(file, error))?;
        records.push(record);
    }
    let records = compare::merged(records);
    write!(io::stdout().lock(), "{}", compare::markdown(&records))?;
    if let Some(file) = page {
        write_file(file, compare::page(&records).as_bytes())?;
    }
    Ok(0)
}

fn write_file(file: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::write(file, bytes).map_err(|error| of_file(file, error))
}

fn of_file(file: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", file.display()))
}

fn target(arguments: &Arguments) -> io::Result<Target> {
    let mut target = Target::new(&arguments.addr)?;
    target.user.clone_from(&arguments.user);
    target.password.clone_from(&arguments.password);
    target.patience = Duration::from_secs(arguments.patience);
    target.auth_method = arguments.auth_method.map(|AuthMethod::ScramSha256| SCRAM.to_owned());
    if let Some(topic) = &arguments.denied_topic {
        target.denied_topic.clone_from(topic);
    }
    if arguments.ws || arguments.wss {
        target.websocket = Some(arguments.path.clone());
    }
    if arguments.tls || arguments.wss {
        let trust = match (&arguments.ca, arguments.insecure) {
            (Some(file), _) => Trust::Authorities(file),
            (None, true) => Trust::Anybody,
            (None, false) => {
                let what = "over TLS, say whom to believe: --ca FILE, or --insecure";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let identity = arguments.cert.as_deref().zip(arguments.key.as_deref());
        target.tls = Some(tls::config(trust, identity)?);
    }
    Ok(target)
}

const SCRAM: &str = "SCRAM-SHA-256";
