//! The command line. `tidings` without a command serves.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{ConfigError, Durability, NamedOption, Settings};
use crate::exit;

/// An MQTT broker tuned for chat: durable ticks and presence for any MQTT client.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) serve: ConfigArgs,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker; so does `tidings` without a command.
    Serve(ConfigArgs),
    /// Add, remove and list users.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Try out the rights.
    Rights {
        #[command(subcommand)]
        command: RightsCommand,
    },
    /// Check a data folder that no broker serves from: journal, base, store, and every row.
    Check(CheckArgs),
    /// Write a copy of the store, while a broker may be serving from it.
    Backup(BackupArgs),
    /// Make a store of a copy.
    Restore(RestoreArgs),
    /// Show the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:1883")
}

fn address_or_off(text: &str) -> Result<Option<SocketAddr>, &'static str> {
    let address = text.parse().map(Some);
    let wrong = "expected an IP address and a port, such as 127.0.0.1:8080, or `off`";
    if text == "off" { Ok(None) } else { address.map_err(|_| wrong) }
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigArgs {
    /// A TOML file; `tidings config print` writes one to start from.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Listen here instead, for example 0.0.0.0:1883; may be repeated.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Serve HTTP here instead of on 127.0.0.1:8080; `off` is nowhere; may be repeated.
    #[arg(long, value_name = "ADDR", value_parser = address_or_off)]
    pub(crate) http: Vec<Option<SocketAddr>>,
    /// Keep the data in this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// What an acknowledgement survives: a power cut, a killed process, or nothing.
    #[arg(long)]
    pub(crate) durability: Option<Durability>,
    /// Set a key of the configuration, for example limits.receive_maximum=32; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl ConfigArgs {
    /// The configuration that these say.
    pub(crate) fn load(&self) -> Result<Settings, ConfigError> {
        let mut options = Vec::new();
        if !self.listen.is_empty() {
            let addresses = self.listen.iter().map(ToString::to_string);
            options.push(NamedOption::list("--listen", "listen", addresses));
        }
        if !self.http.is_empty() {
            let addresses = self.http.iter().flatten().map(ToString::to_string);
            options.push(NamedOption::list("--http", "http", addresses));
        }
        if let Some(dir) = &self.data {
            options.push(NamedOption::text("--data", "data.dir", dir));
        }
        if let Some(word) = self.durability.as_ref().and_then(ValueEnum::to_possible_value) {
            options.push(NamedOption::text("--durability", "data.durability", word.get_name()));
        }
        Settings::load(self.config.as_deref(), &self.set, options)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Add a user. The password is asked for, or read from standard input if that is no terminal.
    Add {
        /// Letters, digits and . _ -, at most 64.
        name: String,
        /// Give a user who exists a new password.
        #[arg(long)]
        replace: bool,
        /// Let the user log in by SCRAM-SHA-256 as well, where the password does not cross the
        /// network. Who steals the users file can try passwords on the keys for it faster than on
        /// the others: for good passwords. A new password keeps it.
        #[arg(long)]
        scram: bool,
        #[command(flatten)]
        place: UsersPlace,
    },
    /// Remove a user.
    Remove {
        /// The user.
        name: String,
        #[command(flatten)]
        place: UsersPlace,
    },
    /// List the users, one per line.
    List {
        #[command(flatten)]
        place: UsersPlace,
    },
}

/// Where the users file is: as the broker with the same options finds it.
#[derive(Debug, Args)]
pub(crate) struct UsersPlace {
    /// The users file itself.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "config"])]
    pub(crate) users: Option<PathBuf>,
    /// The data folder with the users file in it.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// The broker's configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl UsersPlace {
    /// The configuration that these say.
    pub(crate) fn load(&self) -> Result<Settings, ConfigError> {
        let (config, data) = (self.config.clone(), self.data.clone());
        ConfigArgs { config, data, ..ConfigArgs::default() }.load()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RightsCommand {
    /// Say whether a user may do something, and which line of the rights file decides.
    Test(RightsTest),
}

#[derive(Debug, Args)]
pub(crate) struct RightsTest {
    /// The user; `-` for one who did not log in.
    pub(crate) user: String,
    /// What to do.
    pub(crate) verb: Verb,
    /// The topic, or the filter to subscribe to.
    pub(crate) topic: String,
    /// The Client Identifier, for rules with %c.
    #[arg(long, value_name = "ID", default_value = "client")]
    pub(crate) client_id: String,
    #[command(flatten)]
    pub(crate) place: ConfigArgs,
}

/// What may be allowed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Verb {
    Publish,
    Subscribe,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The data folder, or the configuration file of its broker.
    #[arg(value_name = "DIR")]
    pub(crate) place: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The data folder, or the configuration file of its broker.
    #[arg(value_name = "DIR")]
    pub(crate) place: PathBuf,
    /// The copy; replaced once the new one is whole. `-` is standard output.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The copy; `-` is standard input.
    pub(crate) file: PathBuf,
    /// The data folder, in which there is no store yet.
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every key with its meaning, its value, its default and where the value comes from.
    Print(ConfigArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
