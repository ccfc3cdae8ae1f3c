//! A messenger for the terminal.
//!
//! ```text
//! cargo run --example chat -- --user alice
//! cargo run --example chat -- --user bob --with @alice
//! ```
//!
//! Chats with what is unread and who is there, ticks that turn, typing, groups, and what waits to be
//! sent while there is no broker. Piped, it talks to one chat line by line.

mod app;
mod arguments;
mod draw;
mod input;
mod plain;
mod run;
#[cfg(test)]
mod tests;
mod words;

use arguments::{Arguments, DEVICE, USAGE, parse};
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use tidings_client::{Client, ConnectOptions};

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            let kept = ConnectOptions::default_data_dir("YOU", DEVICE);
            println!("{USAGE}\n\nMessages are kept in {} by default.", kept.display());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("chat: {error}\n\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chat: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(chat(arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(unsent) => {
            eprintln!("chat: {unsent} unsent: they go when you are back");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("chat: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how much is unsent in the end.
async fn chat(arguments: Arguments) -> Result<usize, Box<dyn std::error::Error>> {
    let Arguments { you, with, address, options } = arguments;
    let client = Client::connect(options).await?;
    if let Some(with) = &with {
        client.chat(with)?;
    }
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return run::run(client, app::App::new(you, address, with)).await;
    }
    let with = with.ok_or("through a pipe I talk to one chat: --with @bob says to which")?;
    plain::talk(client, &with).await
}
