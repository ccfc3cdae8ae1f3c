//! `tidings user`: the users file by hand.
//!
//! A running broker sees a change within a second; nothing talks to it.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use tidings_broker::auth::{UserList, UsersError, is_user_name};

use crate::cli::{UserCommand, UsersPlace};
use crate::exit::{Exit, Failure, print};

/// Carries out `command`.
pub(crate) fn run(command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Add { name, replace, scram, place } => {
            let (path, password_bytes_max) = find(&place)?;
            add(&path, &name, Add { replace, scram }, password_bytes_max)
        }
        UserCommand::Remove { name, place } => {
            let (path, _) = find(&place)?;
            let left = UserList::edit(&path, |list| {
                list.remove(&name)?;
                Ok(list.names().count())
            })
            .map_err(failure)?;
            say(&format!("user {name} removed from {}", path.display()))?;
            if left == 0 {
                say("no user is left: nobody can log in, and once restarted the broker is open \
                     to this machine")?;
            }
            Ok(())
        }
        UserCommand::List { place } => {
            let (path, _) = find(&place)?;
            let list = UserList::read(&path).map_err(failure)?;
            for name in list.names() {
                say(name)?;
            }
            Ok(())
        }
    }
}

/// How to add a user.
struct Add {
    /// Where there is one, give it a new password.
    replace: bool,
    /// Make keys for SCRAM.
    scram: bool,
}

fn add(path: &Path, name: &str, how: Add, bytes_max: u64) -> Result<(), Failure> {
    let Add { replace, scram } = how;
    // What is wrong already is said before anybody types a password twice.
    if !is_user_name(name) {
        return Err(failure(UsersError::Name { name: name.into() }));
    }
    let list = UserList::read(path).map_err(failure)?;
    if !replace && list.names().any(|present| present == name) {
        return Err(failure(UsersError::Exists { name: name.into() }));
    }
    let password = read_password(name, bytes_max)?;
    let (replaced, scram, count) = UserList::edit(path, |list| {
        let replaced = list.add(name, &password, replace)?;
        if scram {
            list.enable_scram(name, &password)?;
        }
        Ok((replaced, list.has_scram(name), list.names().count()))
    })
    .map_err(failure)?;
    let path = path.display();
    if replaced {
        let too = if scram { ", for SCRAM-SHA-256 too" } else { "" };
        return say(&format!("user {name} has a new password in {path}{too}"));
    }
    let too = if scram { ", who may log in by SCRAM-SHA-256 too" } else { "" };
    say(&format!("user {name} added to {path}{too}"))?;
    if count == 1 {
        say("from now on every login there needs a password")?;
    }
    Ok(())
}

/// Asks twice on a terminal; otherwise all of standard input, without one line end.
fn read_password(name: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let unread = |error: io::Error| {
        Failure::new(Exit::Io, format_args!("cannot read the password: {error}"))
    };
    let mut password = Vec::new();
    if io::stdin().is_terminal() {
        let first = rpassword::prompt_password(format!("Password for {name}: ")).map_err(unread)?;
        let second = rpassword::prompt_password("Once more: ").map_err(unread)?;
        if first != second {
            return Err(Failure::new(Exit::Usage, "the two passwords differ; nothing was changed"));
        }
        password.extend_from_slice(first.as_bytes());
    } else {
        // Two more than fit: a line end is not part of it.
        io::stdin().take(bytes_max + 3).read_to_end(&mut password).map_err(unread)?;
        if password.ends_with(b"\n") {
            password.pop();
            if password.ends_with(b"\r") {
                password.pop();
            }
        }
    }
    if password.len() as u64 > bytes_max {
        return Err(Failure::new(
            Exit::Usage,
            format_args!("expected a password of at most {bytes_max} bytes, found a longer one"),
        ));
    }
    Ok(password)
}

/// The users file, and the longest password a Client may send.
fn find(place: &UsersPlace) -> Result<(PathBuf, u64), Failure> {
    let config = place.load().map_err(|error| Failure::new(Exit::Config, error))?.config;
    let path = place.users.clone().unwrap_or_else(|| config.users_file());
    Ok((path, config.limits.password_bytes_max))
}

/// The exit code for a cause.
pub(crate) fn failure(error: UsersError) -> Failure {
    let exit = match &error {
        UsersError::Unknown { .. } => Exit::NoUser,
        UsersError::Exists { .. } | UsersError::Write { .. } => Exit::CannotCreate,
        UsersError::Name { .. } | UsersError::EmptyPassword | UsersError::ScramPassword => {
            Exit::Usage
        }
        UsersError::Hash { .. } => Exit::Software,
        _ => Exit::Config,
    };
    Failure::new(exit, error)
}

fn say(line: &str) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}
