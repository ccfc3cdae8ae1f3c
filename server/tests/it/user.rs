//! `tidings user`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{run, run_with};

#[test]
fn user_is_added_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let out = run_with(at, &["user", "add", "bob"], b"secret\n").ok();
    assert_eq!(
        out,
        "user bob added to tidings-data/users\n\
         from now on every login there needs a password\n"
    );
    let file = at.join("tidings-data/users");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nbob:$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    run_with(at, &["user", "add", "ann", "--data", "tidings-data"], b"pw").ok();
    let list = ["user", "list", "--users", "tidings-data/users"];
    assert_eq!(run(at, &list).ok(), "bob\nann\n");
    run(at, &["user", "remove", "bob"]).ok();
    assert_eq!(run(at, &list).ok(), "ann\n");
    assert!(run(at, &["user", "remove", "ann"]).ok().contains("no user is left"));
}

#[test]
fn password_of_an_existing_user_changes_only_when_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let read = || fs::read_to_string(at.join("users")).unwrap();
    run_with(at, &["user", "add", "bob", "--users", "users"], b"one").ok();
    let before = read();
    let error = run_with(at, &["user", "add", "bob", "--users", "users"], b"two").failed(73);
    assert_eq!(
        error,
        "user `bob` exists; `tidings user add --replace bob` gives it a new password"
    );
    assert_eq!(read(), before);
    run_with(at, &["user", "add", "--replace", "bob", "--users", "users"], b"two").ok();
    assert_ne!(read(), before);
}

#[test]
fn keys_for_scram_are_made_when_asked_for_and_with_each_new_password() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let line = || {
        let text = fs::read_to_string(at.join("tidings-data/users")).unwrap();
        text.lines().last().unwrap().to_owned()
    };
    run_with(at, &["user", "add", "bob"], b"one").ok();
    assert!(!line().contains("SCRAM"), "{}", line());
    let out = run_with(at, &["user", "add", "--replace", "--scram", "bob"], b"two").ok();
    assert_eq!(out, "user bob has a new password in tidings-data/users, for SCRAM-SHA-256 too\n");
    let before = line();
    assert!(before.contains(":SCRAM-SHA-256$100000:"), "{before}");
    run_with(at, &["user", "add", "--replace", "bob"], b"three").ok();
    let keys = |line: String| line.split_once(":SCRAM").map(|(_, keys)| keys.to_owned()).unwrap();
    assert_ne!(keys(line()), keys(before));
    let out = run_with(at, &["user", "add", "ann", "--scram"], b"pw").ok();
    assert_eq!(out, "user ann added to tidings-data/users, who may log in by SCRAM-SHA-256 too\n");
    let error = run_with(at, &["user", "add", "eve", "--scram"], b"a\0b").failed(64);
    assert!(error.contains("without control characters"), "{error}");
    assert!(line().starts_with("ann:"), "nothing is added then");
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    run_with(at, &["user", "add", "b/b"], b"pw").failed(64);
    run_with(at, &["user", "add", "bob"], b"\n").failed(64);
    run_with(at, &["user", "add", "bob"], &[b'x'; 16_385]).failed(64);
    let error = run(at, &["user", "remove", "bob"]).failed(67);
    assert_eq!(error, "there is no user `bob`; `tidings user list` shows who there is");
    assert!(!at.join("tidings-data/users").exists());
    run_with(at, &["user", "add", "bob"], &[&[b'x'; 16_384][..], b"\r\n"].concat()).ok();
}

#[test]
fn damaged_file_ends_with_78_and_names_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir(at.join("tidings-data")).unwrap();
    let file = at.join("tidings-data/users");
    fs::write(&file, "# mine\nbob:secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for args in [&["user", "list"][..], &["user", "add", "ann"], &["serve"]] {
        let error = run_with(at, args, b"pw").failed(78);
        assert!(error.starts_with("tidings-data/users:2: user `bob`: expected an argon2id"));
        assert!(!error.contains("secret"), "{error}");
    }
}
