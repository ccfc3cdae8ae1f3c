//! `tidings config print`: the configuration in force, as a file that says what each key means.
//!
//! The output is TOML that [`Settings::load`] reads to the same configuration. Keys at their
//! default are printed too, so that the page is complete and a copy of it a start.

use std::fmt::Write;

use toml::{Table, Value};

use super::{Config, Settings};

/// The text of the file.
pub(crate) fn print(settings: &Settings) -> String {
    let defaults = Config::default();
    let mut text = String::new();
    let mut section = "";
    for key in Config::keys() {
        let (own, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if own != section {
            section = own;
            let _ = write!(text, "\n[{section}]");
        }
        if !text.is_empty() {
            text.push('\n');
        }
        for line in key.meaning {
            let _ = writeln!(text, "#{line}");
        }
        let (Some(value), Some(default)) =
            (value(&settings.config, key.name), value(&defaults, key.name))
        else {
            continue;
        };
        let _ = match settings.origins.get(key.name) {
            // A newline in the name of a file would end the comment.
            Some(origin) => writeln!(
                text,
                "{name} = {value}  # from {}; default {default}",
                origin.to_string().replace(char::is_control, " ")
            ),
            None => writeln!(text, "{name} = {value}  # default"),
        };
    }
    text
}

/// The value of the key `name`.
pub(super) fn value(config: &Config, name: &str) -> Option<Value> {
    let table = Table::try_from(config).ok()?;
    match name.split_once('.') {
        Some((section, key)) => table.get(section)?.get(key).cloned(),
        None => table.get(name).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_says_meaning_default_and_origin() {
        let sets = ["limits.receive_maximum=32".to_owned()];
        let settings = Settings::load(None, &sets, Vec::new()).unwrap();
        let text = print(&settings);
        assert!(text.starts_with("# Addresses and ports to listen on"), "{text}");
        assert!(text.contains("\nlisten = [\"127.0.0.1:1883\"]  # default\n"), "{text}");
        assert!(text.contains("\nreceive_maximum = 32  # from --set; default 64\n"), "{text}");
        assert!(text.contains("\n\n[limits]\n# Largest packet; announced"), "{text}");
    }
}
