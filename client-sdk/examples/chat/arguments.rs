//! The command line.
//!
//! The device's Client Identifier begins with the user's name: it must be unique at the broker, and
//! a bare `terminal` would make Alice and Bob throw each other out.

use tidings_client::ConnectOptions;

pub(crate) const USAGE: &str = "\
Talk to someone over a Tidings broker.

usage: chat [--addr HOST:PORT] [--password PASSWORD] [--device NAME] [--data DIR] YOU THEM

  --addr HOST:PORT     the broker (default 127.0.0.1:1883)
  --password PASSWORD  yours, if the broker knows users
  --device NAME        which of your devices this is (default terminal)
  --data DIR           where unsent messages are kept";

pub(crate) struct Arguments {
    pub(crate) you: String,
    pub(crate) them: String,
    pub(crate) address: String,
    pub(crate) options: ConnectOptions,
}

pub(crate) fn parse(
    mut arguments: impl Iterator<Item = String>,
) -> Result<Option<Arguments>, String> {
    let mut address = "127.0.0.1:1883".to_owned();
    let mut device = DEVICE.to_owned();
    let (mut password, mut data, mut names) = (None, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--addr" => address = value()?,
            "--password" => password = Some(value()?),
            "--device" => device = value()?,
            "--data" => data = Some(value()?),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => names.push(argument),
        }
    }
    let [you, them] = <[String; 2]>::try_from(names)
        .map_err(|names| format!("expected two names, found {}", names.len()))?;
    let mut options = ConnectOptions::new(&address, &you, format!("{you}-{device}"));
    options = options.data_dir(ConnectOptions::default_data_dir(&you, &device));
    if let Some(password) = password {
        options = options.password(password);
    }
    if let Some(data) = data {
        options = options.data_dir(data);
    }
    Ok(Some(Arguments { you, them, address, options }))
}

/// The device's name unless told otherwise.
pub(crate) const DEVICE: &str = "terminal";
