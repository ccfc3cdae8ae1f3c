//! A journal of any records on a disk that breaks in any way.
#![no_main]

#[path = "../../tests/fuzz_bodies/journal.rs"]
mod journal;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // One directory for all inputs of this process: to make and to delete one takes longer than
    // everything else.
    thread_local! {
        static DIRECTORY: tempfile::TempDir = tempfile::tempdir().expect("a temporary directory");
    }
    DIRECTORY.with(|directory| {
        for file in std::fs::read_dir(directory.path()).expect("its own directory") {
            let _gone = std::fs::remove_file(file.expect("a file").path());
        }
        journal::any_bytes(data, directory.path());
    });
});
