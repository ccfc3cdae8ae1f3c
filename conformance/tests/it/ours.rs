//! Every case, asked of our own broker in this process, over each transport.
//!
//! In memory and on disk: with a store that answers at once, what waits for it is never seen to wait.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tidings_broker::Builder;
use tidings_broker::auth::{LoginLimits, OpenUntilUsers, ScramSha256, UserList, UsersFile};
use tidings_broker::core::codec::QoS;
use tidings_broker::core::limits::{Limits, Offers};
use tidings_broker::listener::{ClientCertificates, Listener, Tls, TlsOptions};
use tidings_conformance::case::Case;
use tidings_conformance::outcome::Fail;
use tidings_conformance::packet::Version;
use tidings_conformance::report::failures;
use tidings_conformance::run::{Finding, run};
use tidings_conformance::target::Target;
use tidings_conformance::transport::tls::{Trust, config};

#[test]
fn our_broker_holds_every_case_in_memory() {
    holds_every_case(Builder::new(), tcp(), |_| {});
}

#[test]
fn our_broker_holds_every_case_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    holds_every_case(Builder::new().data_dir(dir.path()).shards(2), tcp(), |_| {});
}

#[test]
fn our_broker_holds_every_case_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tcp().with_tls(&keys(dir.path()));
    holds_every_case(Builder::new().shards(2), listener, |target| {
        let authority = dir.path().join("cert.pem");
        target.tls = Some(config(Trust::Authorities(&authority), None).unwrap());
    });
}

#[test]
fn our_broker_holds_every_case_over_websocket() {
    let listener = tcp().with_websocket();
    holds_every_case(Builder::new().shards(2), listener, |target| {
        target.websocket = Some("/mqtt".to_owned());
    });
}

#[test]
fn our_broker_holds_every_case_over_secure_websocket() {
    let dir = tempfile::tempdir().unwrap();
    let listener = tcp().with_tls(&keys(dir.path())).with_websocket();
    holds_every_case(Builder::new(), listener, |target| {
        target.tls = Some(config(Trust::Anybody, None).unwrap());
        target.websocket = Some("/mqtt".to_owned());
    });
}

/// Each login takes a while, so only the cases that are about logins.
#[test]
fn our_broker_holds_every_case_of_an_account() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let added = UserList::edit(&path, |list| {
        list.add("bob", b"secret", false)?;
        list.enable_scram("bob", b"secret")
    });
    added.unwrap();
    let users = UsersFile::open(&path, LoginLimits::OFF).unwrap();
    let builder = Builder::new()
        .enhanced_authenticate(Arc::new(ScramSha256::new(users.clone())))
        .authenticate(Arc::new(OpenUntilUsers::new(users)));
    let mut cases = tidings_conformance::all();
    cases.retain(|case| case.is_under("4.12") || case.is_under("3.2.2.2"));
    holds(&cases, builder, tcp(), |target| {
        target.user = Some("bob".to_owned());
        target.password = Some("secret".to_owned());
        target.auth_method = Some("SCRAM-SHA-256".to_owned());
    });
}

/// Nothing fails where less is offered, and the cases that are about it have something to say. Only MQTT
/// 5 lets a Server offer less.
#[test]
fn our_broker_that_offers_less_holds_every_case_that_it_is_asked() {
    let all = Offers::default();
    for (offers, section) in [
        (Offers { maximum_qos: QoS::AtMostOnce, ..all.clone() }, "3.2.2.3.4"),
        (Offers { maximum_qos: QoS::AtLeastOnce, ..all.clone() }, "3.2.2.3.4"),
        (Offers { retain: false, ..all.clone() }, "3.2.2.3.5"),
        (
            Offers {
                wildcard_subscriptions: false,
                subscription_identifiers: false,
                shared_subscriptions: false,
                ..all
            },
            "3.2.2.3.11",
        ),
    ] {
        let builder = Builder::new().limits(Limits { offers, ..Limits::default() });
        let cases = tidings_conformance::all();
        let (findings, _) = findings(&cases, &[Version::V5], builder, tcp(), |_| {});
        let about: Vec<_> = findings.iter().filter(|it| it.case.is_under(section)).collect();
        assert!(!about.is_empty(), "{section}");
        for finding in about {
            assert!(finding.outcome.is_ok(), "{}: {:?}", finding.case.name, finding.outcome);
        }
    }
}

fn tcp() -> Listener {
    Listener::tcp("127.0.0.1:0".parse().unwrap())
}

/// A certificate that is its own authority, and its key.
fn keys(dir: &Path) -> Tls {
    let names = vec!["127.0.0.1".to_owned()];
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let client_certificates = ClientCertificates::Off;
    Tls::open(TlsOptions { certificate, key, client_certificates }).unwrap()
}

fn holds_every_case(builder: Builder, listener: Listener, reach: impl FnOnce(&mut Target)) {
    holds(&tidings_conformance::all(), builder, listener, reach);
}

fn holds(
    cases: &[&'static Case],
    builder: Builder,
    listener: Listener,
    reach: impl FnOnce(&mut Target),
) {
    let versions = [Version::V311, Version::V5];
    let (findings, target) = findings(cases, &versions, builder, listener, reach);
    for finding in &findings {
        let Err(Fail::Skipped(why)) = &finding.outcome else { continue };
        assert!(may_skip(finding, &target), "{}: skipped: {why}", finding.case.name);
    }
}

/// What our broker has to say to the cases, none of which fails.
fn findings(
    cases: &[&'static Case],
    versions: &[Version],
    builder: Builder,
    listener: Listener,
    reach: impl FnOnce(&mut Target),
) -> (Vec<Finding>, Target) {
    let broker = builder.listener(listener).start().unwrap();
    let address = broker.endpoints()[0].address().unwrap();
    let mut target = Target::new(&address.to_string()).unwrap();
    reach(&mut target);
    // Other tests may have all the cores; what is late is still right.
    target.patience = Duration::from_secs(20);
    let findings = run(&target, cases, versions, 24, |_| {});
    let failed = failures(&findings);
    assert!(failed.is_empty(), "{} failures:\n{}", failed.len(), failed.join("\n\n"));
    broker.stop().unwrap();
    (findings, target)
}

/// A case that skips says nothing, so it is written here which may, and why.
fn may_skip(finding: &Finding, target: &Target) -> bool {
    match finding.case.section {
        // There are no frames.
        "6.0" => target.websocket.is_none(),
        // There is no account.
        "4.12" | "4.12.1" => target.auth_method.is_none(),
        "3.2.2.2" => finding.case.name == "wrong_password_is_refused" && target.user.is_none(),
        // They are about a broker that offers less, which is asked them above.
        "3.2.2.3.4" => finding.case.name.contains("above_the_maximum_qos"),
        "3.2.2.3.5" => true,
        _ => false,
    }
}
