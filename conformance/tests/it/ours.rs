//! Every case, asked of our own broker in this process.
//!
//! In memory and on disk: with a store that answers at once, what waits for it is never seen to wait.

use std::time::Duration;

use tidings_broker::Builder;
use tidings_conformance::packet::Version;
use tidings_conformance::report::failures;
use tidings_conformance::run::run;
use tidings_conformance::target::Target;

#[test]
fn our_broker_holds_every_case_in_memory() {
    holds_every_case(Builder::new());
}

#[test]
fn our_broker_holds_every_case_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    holds_every_case(Builder::new().data_dir(dir.path()).shards(2));
}

fn holds_every_case(builder: Builder) {
    let broker = builder.listen("127.0.0.1:0".parse().unwrap()).start().unwrap();
    let mut target = Target::new(&broker.addresses()[0].to_string()).unwrap();
    // Other tests may have all the cores; what is late is still right.
    target.patience = Duration::from_secs(20);
    let cases = tidings_conformance::all();
    let findings = run(&target, &cases, &[Version::V311, Version::V5], 24, |_| {});
    let failed = failures(&findings);
    assert!(failed.is_empty(), "{} failures:\n{}", failed.len(), failed.join("\n\n"));
    // A case that skips says nothing, and ours offers everything.
    for finding in &findings {
        assert!(finding.outcome.is_ok(), "{}: {:?}", finding.case.name, finding.outcome);
    }
    broker.stop().unwrap();
}
