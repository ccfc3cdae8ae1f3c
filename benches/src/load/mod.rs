//! The load generator: a run, whatever its work, and what is made of several.

mod bars;
mod chat;
mod clock;
pub mod compare;
mod crowd;
pub mod html;
pub mod latency;
mod mesh;
pub mod meter;
mod opening;
pub mod options;
mod plot;
mod post;
mod process;
mod progress;
pub mod relay;
pub mod report;
mod sessions;
mod stage;
mod steady;
mod template;
mod traffic;
pub mod verify;
pub mod wire;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::load::clock::Clock;
use crate::load::meter::Meter;
use crate::load::options::{Options, Work};
use crate::load::report::Report;

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
        Work::Chat => chat::chat(options, &mut meter, clock),
        Work::Churn => crowd::churn(options, &mut meter, clock),
    }
}

/// As many connections as we may have.
fn more_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it cannot be, the connection that is one too many says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
