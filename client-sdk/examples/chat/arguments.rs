//! The command line.
//!
//! The device's Client Identifier begins with the user's name: it must be unique at the broker, and
//! a bare `terminal` would make Alice and Bob throw each other out.

use tidings_client::ConnectOptions;

pub(crate) const USAGE: &str = "\
Chat over a Tidings broker.

usage: chat --user YOU [--with CHAT] [options]
       chat YOU THEM [options]

  --user YOU           who you are
  --with CHAT          what to open first: @bob, or a group such as climbing
  --addr HOST:PORT     the broker (default 127.0.0.1:1883), or mqtts://, ws://, wss:// and where it is
  --password PASSWORD  yours, if the broker knows users
  --device NAME        which of your devices this is (default terminal)
  --data DIR           where messages are kept, those unsent too

On a terminal it is a messenger; piped, each line of input is a message to THEM, and what happens is
printed line by line.";

pub(crate) struct Arguments {
    pub(crate) you: String,
    /// What is opened first.
    pub(crate) with: Option<String>,
    pub(crate) address: String,
    pub(crate) options: ConnectOptions,
}

pub(crate) fn parse(
    mut arguments: impl Iterator<Item = String>,
) -> Result<Option<Arguments>, String> {
    let mut address = "127.0.0.1:1883".to_owned();
    let mut device = DEVICE.to_owned();
    let (mut user, mut with) = (None, None);
    let (mut password, mut data, mut names) = (None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--user" => user = Some(value()?),
            "--with" => with = Some(value()?),
            "--addr" => address = value()?,
            "--password" => password = Some(value()?),
            "--device" => device = value()?,
            "--data" => data = Some(value()?),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => names.push(argument),
        }
    }
    let mut names = names.into_iter();
    let you = user.or_else(|| names.next()).ok_or("who are you? --user NAME says so")?;
    let with = with.or_else(|| names.next().map(|them| format!("@{them}")));
    if let Some(name) = names.next() {
        return Err(format!("what is {name:?}? two names are enough"));
    }
    let client_id = format!("{you}-{device}");
    let mut options = ConnectOptions::new(&address, &you, client_id);
    options = options.data_dir(ConnectOptions::default_data_dir(&you, &device));
    if let Some(password) = password {
        options = options.password(password);
    }
    if let Some(data) = data {
        options = options.data_dir(data);
    }
    Ok(Some(Arguments { you, with, address, options }))
}

/// The device's name unless told otherwise.
pub(crate) const DEVICE: &str = "terminal";
