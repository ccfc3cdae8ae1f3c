//! Turns a folder of a fuzzer's inputs into one file, an input a line in hexadecimal, and back.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let wanted = "expected `pack FOLDER FILE` or `unpack FILE FOLDER`";
    let [verb, from, to] = &arguments[..] else { return Err(io::Error::other(wanted)) };
    match verb.as_str() {
        "pack" => pack(Path::new(from), Path::new(to)),
        "unpack" => unpack(Path::new(from), Path::new(to)),
        _ => Err(io::Error::other(wanted)),
    }
}

/// Shortest first, so that what changed is seen at once.
fn pack(folder: &Path, file: &Path) -> io::Result<()> {
    let mut inputs = BTreeSet::new();
    for input in fs::read_dir(folder)? {
        let bytes = fs::read(input?.path())?;
        let line: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        inputs.insert((line.len(), line));
    }
    let lines: Vec<String> = inputs.into_iter().map(|(_, line)| line + "\n").collect();
    fs::write(file, lines.concat())
}

fn unpack(file: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let wrong = |error| io::Error::other(format!("{}: no hexadecimal: {error}", file.display()));
    for (number, line) in fs::read_to_string(file)?.lines().enumerate() {
        let digits = line.as_bytes().chunks(2).map(String::from_utf8_lossy);
        let bytes = digits.map(|digits| u8::from_str_radix(&digits, 16));
        let bytes = bytes.collect::<Result<Vec<u8>, _>>().map_err(wrong)?;
        fs::write(folder.join(format!("{number:05}")), bytes)?;
    }
    Ok(())
}
