//! What must hold of any text as a configuration: the body of a fuzz target, as a plain function.

use std::fs;
use std::path::Path;

use crate::config::{Settings, print};

/// Takes `data` as a configuration file and, behind a NUL, values of `--set`, one a line. They are
/// refused in one line, or hold, and what `tidings config print` then says holds just the same.
pub(crate) fn any_bytes(data: &[u8], directory: &Path) {
    let text = String::from_utf8_lossy(data);
    let (text, sets) = text.split_once('\0').unwrap_or((&text, ""));
    let sets: Vec<String> = sets.lines().map(str::to_owned).collect();
    let [file, printed] = ["any.toml", "printed.toml"].map(|name| directory.join(name));
    let Ok(()) = fs::write(&file, text) else { panic!("cannot write {file:?}") };
    match Settings::load(Some(&file), &sets, Vec::new()) {
        Ok(settings) => {
            let page = print(&settings);
            let Ok(()) = fs::write(&printed, &page) else { panic!("cannot write {printed:?}") };
            match Settings::load(Some(&printed), &[], Vec::new()) {
                Ok(again) => assert_eq!(again.config, settings.config, "{page}"),
                Err(error) => panic!("{error}: {page}"),
            }
        }
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains(['\n', '\r']), "{error:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn inputs_that_fuzzing_found_hold() {
        let directory = tempfile::tempdir().unwrap();
        for line in include_str!("../corpus/config.hex").lines() {
            let digits = line.as_bytes().chunks(2).map(|digits| str::from_utf8(digits).unwrap());
            let data: Vec<u8> =
                digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
            super::any_bytes(&data, directory.path());
        }
    }
}
