//! `tidings-bench`: puts load on any MQTT broker and measures, or is a bare relay to compare with.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod commands {
    use std::process::ExitCode;

    use clap::{Parser, Subcommand};
    use tidings_bench::load::compare::{self, CompareOptions};
    use tidings_bench::load::options::Options;
    use tidings_bench::load::relay::{Relay, RelayOptions};

    /// Puts load on any MQTT broker, by its address, and measures
    #[derive(Debug, Parser)]
    #[command(
        version,
        after_help = "Exit codes: 0 all came; 1 messages of QoS 1 or 2 were lost, or came \
                                     in another order, or twice with QoS 0 or 2; 2 the run did not come about"
    )]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, Subcommand)]
    enum Command {
        /// Put load on a broker
        Load(Box<Options>),
        /// Be a bare relay: what sockets alone cost
        Relay(RelayOptions),
        /// Start several brokers in turn, give each the same work, and print tables
        Compare(Box<CompareOptions>),
    }

    pub(crate) fn run() -> ExitCode {
        let failed = |why: String| {
            eprintln!("tidings-bench: {why}");
            ExitCode::from(2)
        };
        let words: Vec<_> = std::env::args().skip(1).collect();
        let command = format!("tidings-bench {}", words.join(" "));
        match Cli::parse().command {
            Command::Load(options) => match tidings_bench::load::run(&options) {
                Ok(report) => {
                    let page = || tidings_bench::load::html::page(&report, &command);
                    if let Some(path) = &options.report
                        && let Err(error) = std::fs::write(path, page())
                    {
                        return failed(format!("--report {}: {error}", path.display()));
                    }
                    if options.json {
                        println!("{}", report.json());
                    } else {
                        print!("{}", report.table());
                    }
                    if report.kept_its_word() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
                }
                Err(why) => failed(why),
            },
            Command::Compare(options) => {
                match compare::run(&options, &command, |line| eprintln!("{line}")) {
                    Ok(page) => {
                        print!("{page}");
                        ExitCode::SUCCESS
                    }
                    Err(why) => failed(why),
                }
            }
            Command::Relay(options) => match Relay::start(&options) {
                Ok(relay) => {
                    eprintln!("a bare relay listens on {}", relay.address());
                    relay.run(|| true).map_or_else(failed, |()| ExitCode::SUCCESS)
                }
                Err(why) => failed(why),
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    commands::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("tidings-bench: needs Linux, which tells what the broker's process took");
    ExitCode::from(2)
}
