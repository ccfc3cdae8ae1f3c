//! Every kind of listener by configuration: what is shown, what is refused, what is read again.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::Server;
use crate::wire::{Connect, PATIENCE, Wire};
use crate::{run, run_with};

const ANY: &str = "127.0.0.1:0";

/// Writes `cert.pem` and `key.pem`.
fn write_keys(directory: &Path) {
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

const TLS: [&str; 6] = [
    "--set",
    "listen_tls=127.0.0.1:0",
    "--set",
    "tls.certificate=cert.pem",
    "--set",
    "tls.key=key.pem",
];

#[test]
fn every_listener_is_in_the_banner_and_answers() {
    let directory = tempfile::tempdir().unwrap();
    write_keys(directory.path());
    let (ws, wss) = (format!("listen_ws={ANY}"), format!("listen_wss={ANY}"));
    let args = ["--set", &ws, "--set", &wss, "--set", "listen_unix=mqtt.sock"];
    let server = Server::start(directory.path(), &[&TLS[..], &args].concat());
    let banner = &server.banner;
    for part in [
        "mqtts://127.0.0.1:",
        "ws://127.0.0.1:",
        "wss://127.0.0.1:",
        "mqtt+unix:mqtt.sock",
        "mosquitto_sub --unix mqtt.sock -i phone",
        "--cafile cert.pem",
        "npx mqtt sub -l ws -h 127.0.0.1 -p ",
    ] {
        assert!(banner.contains(part), "{part} in {banner}");
    }
    let path = directory.path().join("mqtt.sock");
    let stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Wire::connect_over(stream, &Connect::new("local")).ping();
    Wire::connect(server.address, &Connect::new("tcp")).ping();
    server.stop();
    assert!(!path.exists());
}

#[test]
fn certificates_that_name_users_are_a_way_to_log_in() {
    let directory = tempfile::tempdir().unwrap();
    write_keys(directory.path());
    let sets = [
        "tls.client_certificates=optional",
        "tls.client_ca=cert.pem",
        "tls.certificate_is_user=true",
    ];
    let sets = sets.into_iter().flat_map(|set| ["--set", set]);
    let args: Vec<_> = TLS.into_iter().chain(sets).collect();
    let server = Server::start(directory.path(), &args);
    assert!(!server.banner.contains("open"), "{}", server.banner);
    assert!(server.banner.contains("client certificates, which name the user"));
    // Who shows none is nobody, although there are no users.
    let (_, code, _) = Wire::try_connect(server.address, &Connect::new("stranger")).unwrap();
    assert_eq!(code, 4);
}

#[test]
fn wrong_keys_of_the_configuration_are_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    write_keys(directory.path());
    fs::write(directory.path().join("empty.pem"), "").unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    write_keys(&directory.path().join("sub"));
    let fails = |sets: &[&str], code: i32, text: &str| {
        let mut args = vec!["--listen", ANY, "--set", "log.level=off"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        let error = run(directory.path(), &args).failed(code);
        assert!(error.contains(text), "{error}");
    };
    let tls = ["listen_tls=127.0.0.1:0", "tls.certificate=cert.pem"];
    fails(&tls, 78, "tls.key: expected a PEM file, because listen_tls or listen_wss is set");
    let with = |more: &[&'static str]| [&tls[..], more].concat();
    fails(&with(&["tls.key=none.pem"]), 78, "cannot read none.pem");
    fails(&with(&["tls.key=empty.pem"]), 78, "empty.pem: expected a private key");
    fails(&with(&["tls.key=sub/key.pem"]), 78, "do not go together");
    let client = with(&["tls.key=key.pem", "tls.client_certificates=required"]);
    fails(&client, 78, "tls.client_ca: expected a PEM file");
    fails(&["tls.certificate_is_user=true"], 78, "tls.client_certificates");
    fails(&["auth.jwt_algorithms=none"], 78, "auth.jwt_algorithms: expected some of EdDSA");
    for key in ["listen", "listen_tls", "listen_ws", "listen_wss"] {
        let open = format!("{key}=0.0.0.0:0");
        let args: Vec<_> = ["--set", "log.level=off", "--set", &open].into();
        let error = run(directory.path(), &args).failed(78);
        assert!(error.starts_with(&format!("{key}: expected loopback addresses")), "{error}");
    }
    let nothing = run(directory.path(), &["--set", "listen=", "--http", "off"]).failed(78);
    assert!(nothing.contains("at least one address"), "{nothing}");
    fails(&["listen_unix=cert.pem"], 69, "listen_unix: cannot listen on cert.pem: it is no socket");
    fails(&["listen_unix=none/x.sock"], 69, "is its folder there?");
    assert!(directory.path().join("cert.pem").exists());
    let server = Server::start(directory.path(), &["--set", "listen_unix=mqtt.sock"]);
    run_with(directory.path(), &["user", "add", "bob"], b"right").ok();
    fails(&["data.dir=other", "listen_unix=mqtt.sock"], 69, "another process listens there");
    drop(server);
}

#[test]
fn hangup_reads_the_certificate_again_and_survives_a_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    write_keys(directory.path());
    let mut child = crate::tidings(directory.path(), &["--listen", ANY])
        .args(TLS)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let hang_up = || {
        let id = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    };
    let mut wait_for = |text: &str| {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the process ended: no {text}");
        }
        line
    };
    wait_for("started");
    fs::write(directory.path().join("key.pem"), "nonsense").unwrap();
    hang_up();
    assert!(wait_for("are kept").contains("key.pem: expected a private key"));
    write_keys(directory.path());
    hang_up();
    wait_for("are read again");
    child.kill().unwrap();
    child.wait().unwrap();
    let _rest = log.read_to_string(&mut String::new());
}
