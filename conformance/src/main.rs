//! The command: asks a broker at an address, and says what does not hold.
//!
//! Exit code 0: nothing failed; 1: something did; 2: the arguments are wrong or nobody answers.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tidings_conformance::packet::Version;
use tidings_conformance::report::{self, Count};
use tidings_conformance::run::run;
use tidings_conformance::target::Target;
use tidings_conformance::transport::tls::{self, Trust};

/// Tests a broker against the normative statements of MQTT 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(name = "tidings-conformance")]
struct Arguments {
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
    match answer(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidings-conformance: {}: {error}", arguments.addr);
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
    let findings = run(&target, &cases, &versions, jobs, |finding| {
        let _no_terminal = write!(out, "{}", report::progress(finding)).and_then(|()| out.flush());
    });
    writeln!(out)?;
    report::write(&findings, &mut out)?;
    Ok(Count::of(&findings).failed)
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
