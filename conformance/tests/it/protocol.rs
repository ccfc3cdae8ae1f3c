//! `docs/protocol.md` is held by tests that exist, and leaves out no error and no key.
//!
//! Behind each section stands a table "Held by". A test is named there as the compiler would:
//! `direct::a_retry…` is in `chat-plugin/tests/it/direct.rs`; `server: rooms::…`, `sim: main::…` and
//! the others of [`PLACES`] are elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the modules are, by what stands before a test's name.
const PLACES: [(&str, &str); 7] = [
    ("", "chat-plugin/tests/it"),
    ("unit", "chat-plugin/src"),
    ("core", "broker/core/tests/it"),
    ("broker", "broker/tests/it"),
    ("server", "server/tests/it"),
    ("sdk", "client-sdk/tests/it"),
    ("sim", "sim/tests/it"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

fn page() -> String {
    read("docs/protocol.md").unwrap()
}

/// The tests of a source file that `cargo test` runs.
fn tests(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let (mut test, mut ignored) = (false, false);
    for line in text.lines().map(str::trim) {
        match line {
            "#[test]" => test = true,
            _ if line.starts_with("#[ignore") => ignored = true,
            _ if line.starts_with("#[") => {}
            _ => {
                let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                found.extend(name.filter(|_| test && !ignored));
                (test, ignored) = (false, false);
            }
        }
    }
    found
}

/// What a piece of code in a table names: where, module, test.
fn named(code: &str) -> Option<(&str, &str, &str)> {
    let (place, path) = code.split_once(": ").unwrap_or(("", code));
    let (module, test) = path.split_once("::")?;
    let is_path = |text: &str| {
        !text.is_empty() && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_/".contains(&it))
    };
    (is_path(module) && is_path(test)).then_some((place, module, test))
}

/// Why there is no such test, if so.
fn missing(place: &str, module: &str, test: &str) -> Option<String> {
    let Some((_, dir)) = PLACES.iter().find(|it| it.0 == place) else {
        return Some(format!("no place is called `{place}`"));
    };
    let file = format!("{dir}/{module}.rs");
    let Some(text) = read(&file) else { return Some(format!("there is no {file}")) };
    if !tests(&text).contains(test) {
        return Some(format!("{file} has no test `{test}`"));
    }
    let compiled = place == "unit" || module == "main" || {
        let main = read(&format!("{dir}/main.rs")).unwrap();
        main.lines().any(|line| line == format!("mod {module};"))
    };
    (!compiled).then(|| format!("{dir}/main.rs leaves out `{module}`"))
}

/// The sections of the page by their titles, each with its lines.
fn sections(page: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut at = "";
    for line in page.lines() {
        at = line.strip_prefix("## ").unwrap_or(at);
        found.entry(at).or_default().push(line);
    }
    found
}

/// The rows of the tables of a section that say what holds it.
fn held_by<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let mut rows = Vec::new();
    let mut inside = false;
    for line in lines {
        inside = line.starts_with("| Held by |") || (inside && line.starts_with('|'));
        if inside && !line.starts_with("| Held by |") && !line.starts_with("| ---") {
            rows.push(*line);
        }
    }
    rows
}

/// The pieces of code in a line.
fn codes(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_section_of_the_protocol_is_held_by_tests_that_exist() {
    // Programs are run by `docs/examples/check.sh`.
    let free = ["", "Programs to begin with"];
    let page = page();
    let mut wrong = Vec::new();
    for (title, lines) in sections(&page) {
        let rows = held_by(&lines);
        if rows.is_empty() && !free.contains(&title) {
            wrong.push(format!("{title}: nothing says what holds it"));
        }
        for row in rows {
            let tests: Vec<_> = row.rsplit('|').nth(1).map(codes).into_iter().flatten().collect();
            if tests.is_empty() {
                wrong.push(format!("{title}: no test in {row}"));
            }
            for code in tests {
                let why = named(code).map_or_else(
                    || Some("this names no test".to_owned()),
                    |(place, module, test)| missing(place, module, test),
                );
                wrong.extend(why.map(|why| format!("{title}: `{code}`: {why}")));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/protocol.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_code_of_an_error_is_explained() {
    let page = page();
    let errors = sections(&page).remove("Errors").unwrap();
    let told: BTreeSet<&str> = errors
        .iter()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|code| named(code).is_none())
        .collect();
    let source = read("chat-plugin/src/code.rs").unwrap();
    let names = source.lines().filter_map(|line| line.trim().strip_prefix("Self::"));
    let known: BTreeSet<&str> = names
        .filter_map(|line| line.split_once("=> \"")?.1.split('"').next())
        .filter(|name| name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'))
        .collect();
    assert!(known.len() >= 9, "{known:?}");
    assert_eq!(told, known);
}

#[test]
fn every_key_the_protocol_names_is_in_the_configuration() {
    let config = read("server/src/config/mod.rs").unwrap();
    let of_chat =
        config.split("Chat, \"chat.\" {").nth(1).unwrap().split("section!").next().unwrap();
    let page = page();
    let names: BTreeSet<&str> =
        page.lines().flat_map(codes).filter_map(|code| code.strip_prefix("chat.")).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let key = format!("\n        {name}: ");
        assert!(of_chat.contains(&key), "there is no key `chat.{name}`");
    }
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
    kept.map(|it| if it == ' ' { '-' } else { it.to_ascii_lowercase() }).collect()
}

#[test]
fn links_into_the_protocol_lead_to_its_headings() {
    let page = page();
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    let anchors: BTreeSet<String> =
        headings.map(|line| anchor(line.trim_start_matches('#').trim_start())).collect();
    for path in ["docs/protocol.md", "CHANGELOG.md", "README.md", "ARCHITECTURE.md"] {
        let text = read(path).unwrap();
        let prefix = if path == "docs/protocol.md" { "](#" } else { "](docs/protocol.md#" };
        for (at, found) in text.match_indices(prefix) {
            let link = text[at + found.len()..].split(')').next().unwrap();
            assert!(anchors.contains(link), "{path}: no heading is #{link}");
        }
    }
}

#[test]
fn tests_are_found_in_every_form() {
    let text = "#[test]\nfn one() {\n}\n    #[test]\n    #[should_panic]\n    fn two() {}\n\
                #[test]\n#[ignore]\nfn three() {}\nfn four() {}\n";
    assert_eq!(tests(text).into_iter().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(named("server: rooms::a"), Some(("server", "rooms", "a")));
    assert_eq!(named("unit: chat/log::a"), Some(("unit", "chat/log", "a")));
    assert_eq!(named("chat/@bob/send"), None);
    assert_eq!(missing("", "direct", "nothing_like_this").unwrap().matches("no test").count(), 1);
    assert!(missing("", "nowhere", "x").is_some() && missing("x", "direct", "x").is_some());
}
