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
mod resume;
mod sessions;
mod stage;
mod steady;
mod stream;
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
    enough_files(options.clients(), pid)?;
    match options.work {
        Work::Pair | Work::Fanout => steady::run(options, &mut meter, clock),
        Work::Offline => sessions::offline(options, &mut meter, clock),
        Work::Storm => sessions::storm(options, &mut meter, clock),
        Work::Idle => crowd::idle(options, &mut meter, clock),
        Work::Chat => chat::chat(options, &mut meter, clock),
        Work::Resume => resume::resume(options, &mut meter, clock),
        Work::Churn => crowd::churn(options, &mut meter, clock),
    }
}

/// Files of a process beside its connections, about.
const OTHER_FILES: usize = 50;

/// Whether both sides may have so many connections: a broker that is out of descriptors often just
/// does not answer.
fn enough_files(clients: usize, broker: Option<u32>) -> Result<(), String> {
    let needed = (clients + OTHER_FILES) as u64;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let may = maximum.unwrap_or(u64::MAX);
    // Up to the maximum anybody may go, and root beyond it.
    let maximum = maximum.map(|it| it.max(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_err() && may < needed {
        return Err(format!(
            "{clients} connections take {needed} descriptors, and this process may have {may}: raise it \
             with `ulimit -n {needed}` as root, here and where the broker starts"
        ));
    }
    match broker.and_then(process::files_max) {
        Some(most) if most < needed => Err(format!(
            "{clients} connections take {needed} descriptors, and the broker's process may have {most}: \
             start it with a higher limit (`ulimit -n`, or LimitNOFILE of its unit)"
        )),
        _ => Ok(()),
    }
}
