//! The program as a user runs it.

use std::net::TcpListener;
use std::process::{Command, Output};

fn tidings_bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidings-bench")).args(words).output().unwrap()
}

#[test]
fn a_comparison_has_a_column_for_each_broker_and_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let folders = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (raw, report, again) = (at("raw"), at("report.html"), at("again.html"));
    let program = env!("CARGO_BIN_EXE_tidings-bench");
    let peer = format!("--peer=again=env AT={{dir}} {program} relay --listen 127.0.0.1:{{port}}");
    let works = [
        "--work=pair --pairs 2 --messages 5",
        "--work=offline --sessions 2 --messages 3 --kill --patience=1",
    ];
    let words = ["compare", "--rounds=2", works[0], works[1], &peer, "--peer-note=again=a joke"];
    let more = ["--only=relay,again", "--raw", &raw, "--report", &report, "--dir"];
    let dirs = folders.path().to_str().unwrap();
    let output = tidings_bench(&[&words[..], &more[..], &[dirs]].concat());
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{page}");
    assert!(page.contains("| work | relay | again |"), "{page}");
    assert!(page.contains("| pair --pairs 2 --messages 5: traffic |"), "{page}");
    assert!(page.contains("| again | no | 12 | 12 | 0 |"), "relays keep nothing: {page}");
    assert!(page.contains("| a joke |") && !page.contains("failed"), "{page}");
    let runs = std::fs::read_to_string(&raw).unwrap();
    assert_eq!(runs.lines().filter(|line| line.contains("\"peer\":\"again\"")).count(), 4);
    assert!(std::fs::read_dir(folders.path()).unwrap().next().is_none(), "folders are left behind");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let environments = processes.filter_map(|it| std::fs::read(it.path().join("environ")).ok());
    let ours = format!("AT={dirs}");
    let left = environments.filter(|it| String::from_utf8_lossy(it).contains(&ours)).count();
    assert_eq!(left, 0, "brokers that were started again are left behind");

    let output = tidings_bench(&["compare", "--from", &raw, "--report", &again]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), page);
    let [report, again] = [report, again].map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!(report, again);
    assert!(report.contains("a joke") && report.contains("survives kill -9"), "{report}");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = tidings_bench(&["load", "pair", "--broker", &free.to_string()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() == 1 && said.contains(&free.to_string()), "{said}");
    for words in [
        ["load", "offline", "--qos=0"],
        ["load", "pair", "--payload=19"],
        ["compare", "--only=nobody", "--rounds=1"],
    ] {
        let output = tidings_bench(&words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
