//! Rights as the broker has them: opened, looked at again while it serves, and tried by hand.

use std::process::ExitCode;
use std::sync::Arc;

use tidings_broker::Broker;
use tidings_broker::auth::{Revoked, UserList, UsersFile};
use tidings_broker::core::codec::Version;
use tidings_broker::core::hook::Client;
use tidings_broker::core::topic::{TopicFilter, check_name};
use tidings_broker::listener::Tls;
use tidings_broker::rights::{By, Otherwise, Rights, RightsError};

use crate::cli::{RightsCommand, RightsTest, Verb};
use crate::config::{self, Config};
use crate::exit::{self, Exit, Failure};
use crate::users;

/// The rights as configured. Without a file there are no rules, unless one was named.
pub(crate) fn open(config: &Config) -> Result<Rights, Failure> {
    let path = config.rights_file();
    if !config.rights.file.is_empty() && !path.exists() {
        let path = path.display();
        return Err(Failure::new(
            Exit::Config,
            format_args!("rights.file: there is no file {path}; an empty one allows nothing"),
        ));
    }
    let otherwise = match config.rights.otherwise {
        config::Otherwise::Deny => Otherwise::Deny,
        config::Otherwise::Allow => Otherwise::Allow,
    };
    let rights = Rights::open(path, otherwise).map_err(failure)?;
    Ok(rights.service_roots(tidings_chat::ROOTS))
}

fn failure(error: RightsError) -> Failure {
    Failure::new(Exit::Config, error)
}

/// What is looked at while the broker serves: users, rights and keys.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) users: Arc<UsersFile>,
    pub(crate) rights: Arc<Rights>,
    pub(crate) tls: Option<Tls>,
    /// Nobody needs to prove anything as long as there are no users.
    pub(crate) open_until_users: bool,
}

impl Watch {
    /// Looks whether the files changed; with `always` rights and keys are read in any case.
    pub(crate) fn look(&self, broker: &Broker, always: bool) {
        match self.tls.as_ref().filter(|_| always).map(Tls::reload) {
            Some(Ok(())) => tracing::info!("TLS certificate and key are read again"),
            Some(Err(error)) => tracing::warn!("the old TLS certificate and key are kept: {error}"),
            // They are looked at as Clients come in.
            None => {}
        }
        let revoked = self.users.look();
        let open = self.open_until_users && self.users.never_held_a_user();
        let mut changed = self.rights.set_open(open);
        match self.rights.read_again(always) {
            Ok(others) => {
                if others || always {
                    tracing::info!(rules = self.rights.len(), "rights read again");
                }
                changed |= others;
            }
            Err(error) => tracing::error!("{error}; the rights before stay in force"),
        }
        if changed {
            broker.rights_changed();
        }
        match revoked {
            Revoked::Nobody => {}
            Revoked::Everybody => {
                tracing::info!("there are users now: whoever came in without a login has to go");
                broker.revoke_all();
            }
            Revoked::Users(names) => {
                for name in names {
                    tracing::info!(user = name, "user removed or password changed: disconnecting");
                    broker.revoke(&name);
                }
            }
        }
    }
}

/// Carries out `tidings rights …`.
pub(crate) fn run(command: RightsCommand) -> Result<ExitCode, Failure> {
    match command {
        RightsCommand::Test(test) => try_out(&test),
    }
}

/// Says what the rules say, and which line of them.
fn try_out(test: &RightsTest) -> Result<ExitCode, Failure> {
    let usage = |error| Failure::new(Exit::Usage, format_args!("{}: {error}", test.topic));
    let config = test.place.load().map_err(|error| Failure::new(Exit::Config, error))?.config;
    let rights = open(&config)?;
    let list = UserList::read(&config.users_file()).map_err(users::failure)?;
    rights.set_open(!config.has_other_logins() && list.names().next().is_none());
    let user = if test.user == "-" { "" } else { &test.user };
    let client = Client { user, client_id: &test.client_id, version: Version::V5 };
    let (allowed, by) = match test.verb {
        Verb::Publish => {
            check_name(&test.topic).map_err(usage)?;
            rights.may_publish(&client, &test.topic)
        }
        Verb::Subscribe => {
            let filter = TopicFilter::parse(&test.topic).map_err(usage)?;
            rights.may_subscribe(&client, &filter)
        }
    };
    let file = config.rights_file();
    let because = match by {
        By::Line(line) => format!("{}:{line}", file.display()),
        By::Service => "chat, which decides by itself about what is below its topics".into(),
        By::NoUsers => "default: there are no users yet".into(),
        By::Otherwise => format!(
            "rights.otherwise: no line of {} {}",
            file.display(),
            match test.verb {
                Verb::Publish => "speaks of it",
                Verb::Subscribe => "has all of it",
            }
        ),
        By::OfServer => "default: topics that begin with `$` are the server's".into(),
    };
    let word = if allowed { "allowed" } else { "denied" };
    exit::print(&format!("{word} by {because}\n"))?;
    Ok(if allowed { ExitCode::SUCCESS } else { Exit::Denied.into() })
}
