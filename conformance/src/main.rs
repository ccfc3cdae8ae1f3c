//! The command: asks a broker at an address, and says what does not hold.
//!
//! Exit code 0: nothing failed; 1: something did; 2: the arguments are wrong or nobody answers.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tidings_conformance::packet::Version;
use tidings_conformance::report::{self, Count};
use tidings_conformance::run::run;
use tidings_conformance::target::Target;

/// Tests a broker against the normative statements of MQTT 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(name = "tidings-conformance")]
struct Arguments {
    /// Where the broker listens: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:1883")]
    addr: String,
    /// Only this version of MQTT.
    #[arg(long)]
    version: Option<ArgVersion>,
    /// The user name in each CONNECT.
    #[arg(long)]
    user: Option<String>,
    /// The password in each CONNECT.
    #[arg(long)]
    password: Option<String>,
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
    let mut target = Target::new(&arguments.addr)?;
    target.user.clone_from(&arguments.user);
    target.password.clone_from(&arguments.password);
    target.patience = Duration::from_secs(arguments.patience);
    target.reach()?;
    let jobs = arguments.jobs.unwrap_or_else(|| if arguments.user.is_some() { 4 } else { 24 });
    let findings = run(&target, &cases, &versions, jobs, |finding| {
        let _no_terminal = write!(out, "{}", report::progress(finding)).and_then(|()| out.flush());
    });
    writeln!(out)?;
    report::write(&findings, &mut out)?;
    Ok(Count::of(&findings).failed)
}
