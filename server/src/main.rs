//! The `tidings` binary: the broker with chat, its users and its configuration on a command line.
//!
//! Standard output is for what was asked for, standard error for the log and for the one line
//! that says why the process ends otherwise than wanted.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;
mod banner;
mod bounds;
mod check;
mod cli;
mod config;
mod copies;
mod exit;
mod http;
mod listeners;
mod logins;
mod media;
mod progress;
mod rights;
mod seats;
mod start;
mod tokens;
mod users;
mod vault;

use std::io::{self, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use cli::{Cli, Command, ConfigArgs, ConfigCommand};
use config::{Format, Level, Settings};
use exit::{Exit, Failure};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    // Rust's own code for a panic is 101, which no supervisor knows.
    match catch_unwind(AssertUnwindSafe(|| run(cli))) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            eprintln!("tidings: {}", failure.message);
            failure.exit.into()
        }
        Err(_) => Exit::Software.into(),
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => {
            let settings = load(&args)?;
            log(&settings);
            start::serve(settings)
        }
        Command::User { command } => users::run(command).map(|()| ExitCode::SUCCESS),
        Command::Rights { command } => rights::run(command),
        Command::Check(args) => check::run(&args),
        Command::Backup(args) => copies::backup(&args).map(|()| ExitCode::SUCCESS),
        Command::Restore(args) => copies::restore(&args).map(|()| ExitCode::SUCCESS),
        Command::Config { command: ConfigCommand::Print(args) } => {
            exit::print(&config::print(&load(&args)?)).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn load(args: &ConfigArgs) -> Result<Settings, Failure> {
    args.load().map_err(|error| Failure::new(Exit::Config, error))
}

/// Sends the log to standard error.
fn log(settings: &Settings) {
    let log = &settings.config.log;
    let level = match log.level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match log.format {
        Format::Text => builder.init(),
        Format::Json => builder.json().init(),
    }
}
