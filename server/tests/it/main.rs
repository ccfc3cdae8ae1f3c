//! The real binary, from outside: what it prints, where, and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

mod catching_up;
mod chat;
mod config;
mod copies;
mod crash;
mod described;
#[cfg(target_os = "linux")]
mod destroyed;
mod disk;
mod exactly_once;
mod examples;
mod flapping;
mod graceful;
mod groups;
mod http;
mod listeners;
mod logins;
mod media;
#[cfg(target_os = "linux")]
mod memory;
mod operator;
mod refusals;
#[cfg(target_os = "linux")]
mod resources;
mod rights;
mod rooms;
mod serve;
mod support;
mod unopenable;
mod user;
mod web;
// One client for the tests of both crates.
#[path = "../../../broker/tests/it/wire.rs"]
mod wire;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A command of the binary, with nothing of the machine's settings.
fn tidings(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command.args(args).current_dir(directory).stdin(Stdio::null());
    command
}

/// Runs to the end.
fn run(directory: &Path, args: &[&str]) -> Run {
    Run::of(&tidings(directory, args).output().unwrap())
}

/// Runs to the end with `input` on a piped standard input.
fn run_with(directory: &Path, args: &[&str], input: &[u8]) -> Run {
    let mut command = tidings(directory, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that ends without reading closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    Run::of(&child.wait_with_output().unwrap())
}

/// What a run left behind.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout.clone()).unwrap(),
            err: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// Standard output of a run that succeeded.
    fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// The one line of a run that failed with `code`.
    fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (Some(code), ""), "{self:?}");
        let line = self.err.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "more than one line: {line}");
        line.strip_prefix("tidings: ").unwrap().to_owned()
    }
}

#[test]
fn version_is_that_of_the_package() {
    let directory = tempfile::tempdir().unwrap();
    let version = concat!("tidings ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(run(directory.path(), &["--version"]).ok(), version);
}

#[test]
fn help_names_commands_and_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let help = run(directory.path(), &["--help"]).ok();
    for part in ["serve", "user", "config", "--set <KEY=VALUE>", "Exit codes:", "78"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn wrong_command_line_ends_with_64() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(directory.path(), &["--listen", "here"]).code, Some(64));
    assert_eq!(run(directory.path(), &["srve"]).code, Some(64));
}
