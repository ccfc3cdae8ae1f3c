//! How the process speaks and ends: standard output, and exit codes after sysexits.h.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Wrong command line (EX_USAGE).
    Usage = 64,
    /// The data folder holds damaged data or another format (EX_DATAERR).
    Data = 65,
    /// There is no such user (EX_NOUSER).
    NoUser = 67,
    /// A listener cannot be opened, most likely because its port is taken (EX_UNAVAILABLE).
    Unavailable = 69,
    /// A panic: a defect of ours (EX_SOFTWARE).
    Software = 70,
    /// A file or folder cannot be made, or the user to add exists (EX_CANTCREAT).
    CannotCreate = 73,
    /// The disk failed or is full: nothing more is acknowledged (EX_IOERR).
    Io = 74,
    /// Another process has the data folder; it may be tried again (EX_TEMPFAIL).
    InUse = 75,
    /// What was asked about is denied (EX_NOPERM).
    Denied = 77,
    /// The configuration, the rights or the users file is wrong (EX_CONFIG).
    Config = 78,
}

/// The page in `tidings --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0   stopped by SIGTERM or SIGINT; a second one ends at once with 128 + its number
  64  wrong command line              70  a defect of ours
  65  damaged or foreign data         73  a file cannot be made; the user exists
  67  no such user                    74  the disk failed or is full
  69  an address cannot be listened   75  another process has the data folder
      on, the port is taken           77  denied, says `tidings rights test`
                                      78  wrong configuration, users or rights";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An end that is not the wanted one.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One line: what, where, and what to do.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        // One line also where a system's or library's text has several.
        Self { exit, message: message.to_string().replace(['\n', '\r'], " ") }
    }
}

/// Writes to standard output, where a reader that has gone away, such as `head`, is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, format_args!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
