//! The program as a user runs it.

use std::net::TcpListener;
use std::process::{Command, Output};

fn tidings_bench(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidings-bench")).args(words).output().unwrap()
}

#[test]
fn a_comparison_has_a_column_for_each_broker() {
    let raw = tempfile::NamedTempFile::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_tidings-bench");
    let peer = format!("--peer=again={program} relay --listen 127.0.0.1:{{port}}");
    let (raw_path, dir_path) = (raw.path().to_str().unwrap(), dir.path().to_str().unwrap());
    let work = "--work=pair --pairs 2 --messages 5";
    let words = ["compare", "--rounds=2", work, &peer, "--raw", raw_path, "--dir", dir_path];
    let output = tidings_bench(&words);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{page}");
    let head = page.lines().find(|line| line.starts_with("| work |")).unwrap();
    assert!(head.starts_with("| work | relay |") && head.ends_with("| again |"), "{page}");
    assert!(page.contains("| pair --pairs 2 --messages 5: traffic |"), "{page}");
    assert!(!page.contains("failed") && !page.contains("lost, twice"), "{page}");
    let runs = std::fs::read_to_string(raw.path()).unwrap();
    assert_eq!(runs.lines().filter(|line| line.contains("\"peer\":\"again\"")).count(), 2);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "folders are left behind");
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = tidings_bench(&["load", "pair", "--broker", &free.to_string()]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.lines().count() == 1 && said.contains(&free.to_string()), "{said}");
    for words in [["load", "offline", "--qos=0"], ["load", "pair", "--payload=19"]] {
        let output = tidings_bench(&words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
