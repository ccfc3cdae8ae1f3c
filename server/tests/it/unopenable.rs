//! A start that cannot open its store says whether the data or the disk is to blame.

use std::fs;

use crate::run;
use crate::support::Server;

#[test]
fn journal_that_cannot_be_written_at_start_ends_with_74_and_harms_nothing() {
    let directory = tempfile::tempdir().unwrap();
    Server::start(directory.path(), &[]).stop();
    // As on a full disk: the file that a segment begins as cannot be made.
    let draft = directory.path().join("tidings-data/store/journal/draft.log");
    let _none_yet = fs::remove_file(&draft);
    fs::create_dir(&draft).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--set", "log.level=off"];
    let error = run(directory.path(), &args).failed(74);
    assert!(error.contains("draft.log"), "{error}");
    fs::remove_dir(&draft).unwrap();
    Server::start(directory.path(), &[]).stop();
}
