//! A run, whatever its work.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clock::Clock;
use crate::meter::Meter;
use crate::options::{Options, Work};
use crate::report::Report;
use crate::{crowd, process, sessions, steady};

/// Does what the options say.
pub fn run(options: &Options) -> Result<Report, String> {
    options.check()?;
    let address = options.address()?;
    let found = || address.ip().is_loopback().then(|| process::listener(address.port())).flatten();
    let (clock, pid) = (Clock::start(), options.pid.or_else(found));
    let mut meter = Meter::new(clock, pid);
    more_files();
    match options.work {
        Work::Pair | Work::Fanout => steady::run(options, &mut meter, clock),
        Work::Offline => sessions::offline(options, &mut meter, clock),
        Work::Storm => sessions::storm(options, &mut meter, clock),
        Work::Idle => crowd::idle(options, &mut meter, clock),
        Work::Churn => crowd::churn(options, &mut meter, clock),
    }
}

/// As many connections as we may have.
fn more_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it cannot be, the connection that is one too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
