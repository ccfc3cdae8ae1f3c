//! The rules of the repository that neither the compiler nor clippy holds, one test each.
//!
//! Files are found by walking, not by asking git: an archive of the sources has no git.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module of a crate may import only the modules before it. `lib.rs` and `main.rs` stand above.
const LADDERS: [(&str, &[&str]); 9] = [
    (
        "broker/core",
        &[
            "codec",
            "collections",
            "slot",
            "time",
            "rate",
            "topic",
            "limits",
            "marks",
            "metric",
            "system",
            "message",
            "protocol_error",
            "record",
            "admission",
            "hook",
            "reach",
            "peer",
            "output",
            "ledger",
            "session",
            "router",
            "shard",
        ],
    ),
    (
        "broker",
        &[
            "auth",
            "rights",
            "clock",
            "turns",
            "unwritten",
            "descriptors",
            "growth",
            "memory",
            "pressure",
            "exchange",
            "limits",
            "listener",
            "visitors",
            "connection",
            "mail",
            "observer",
            "store",
            "journal",
            "base",
            "commit",
            "metrics",
            "remote",
            "teller",
            "health",
            "front",
            "engine",
            "watch",
            "builder",
            "runtime",
            "start",
        ],
    ),
    (
        "chat-plugin",
        &[
            "cbor",
            "code",
            "moderate",
            "deadline",
            "entry",
            "seal",
            "entry_row",
            "json",
            "map",
            "options",
            "topics",
            "group",
            "ties",
            "call",
            "event",
            "view",
            "rows",
            "peer",
            "chat",
            "user",
            "seat",
            "pairing",
            "handle",
        ],
    ),
    (
        "client-sdk",
        &[
            "error",
            "hub",
            "options",
            "transport",
            "entry",
            "store",
            "wire",
            "machine",
            "inbox",
            "shared",
            "writer",
            "messages",
            "view",
            "chat",
            "group",
            "driver",
            "client",
            "account",
        ],
    ),
    (
        "server",
        &[
            "allocator",
            "config",
            "exit",
            "progress",
            "vault",
            "banner",
            "cli",
            "copies",
            "check",
            "listeners",
            "users",
            "logins",
            "tokens",
            "rights",
            "seats",
            "bounds",
            "media",
            "http",
            "start",
        ],
    ),
    (
        "sim",
        &[
            "rng", "trace", "faults", "wire", "disk", "store", "network", "process", "promises",
            "chat", "cast", "driver", "report",
        ],
    ),
    (
        "conformance",
        &[
            "log",
            "number",
            "outcome",
            "transport",
            "target",
            "packet",
            "read",
            "statement",
            "wire",
            "client",
            "case",
            "run",
            "record",
            "report",
            "html",
            "compare",
            "scram",
            "section1_5",
            "section2_1",
            "section2_2",
            "section3_1",
            "section3_1_2",
            "section3_1_2_3",
            "section3_1_2_5",
            "section3_2",
            "section3_2_2",
            "section3_3",
            "section3_3_2",
            "section3_3_4",
            "section3_4",
            "section3_8",
            "section3_10",
            "section3_12",
            "section4_1",
            "section4_3",
            "section4_4",
            "section4_7",
            "section4_8",
            "section4_12",
            "section6_0",
            "section7_0",
        ],
    ),
    ("benches", &["load", "world", "work"]),
    (
        "torture",
        &[
            "random",
            "wire",
            "scene",
            "inbox",
            "publisher",
            "subscriber",
            "retained",
            "changes",
            "wills",
            "chat",
            "process",
            "journal",
            "disk",
            "measure",
            "plot",
            "bulk",
            "cast",
            "strike",
            "crash",
            "fill",
            "steady",
        ],
    ),
];

/// The same within the load generator, which is one module of its crate.
const LOAD: &[&str] = &[
    "clock", "wire", "verify", "latency", "template", "process", "meter", "stream", "options",
    "mesh", "stage", "progress", "opening", "traffic", "report", "plot", "bars", "html", "relay",
    "steady", "post", "sessions", "crowd", "chat", "resume", "compare",
];

/// A crate may depend on these of ours, in any table of its `Cargo.toml`.
const DEPENDENCIES: [(&str, &[&str]); 7] = [
    ("broker/core", &[]),
    ("broker", &["tidings-core"]),
    ("chat-plugin", &["tidings-core"]),
    // The broker of its tests.
    ("client-sdk", &["tidings-broker", "tidings-chat"]),
    ("server", &["tidings-core", "tidings-broker", "tidings-chat"]),
    ("sim", &["tidings-core", "tidings-broker", "tidings-chat"]),
    ("torture", &["tidings-core"]),
];

/// Libraries: what they have to say, they say to their caller.
const LIBRARIES: [&str; 5] = ["broker/core", "broker", "chat-plugin", "client-sdk", "conformance"];

/// Lines of a source file before its tests.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file of the repository, as its path from the root with its content, if that is text.
fn files() -> BTreeMap<String, String> {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if path.is_dir() {
                let built = ["target", "node_modules", "__pycache__", "tidings-data", ".git"];
                if !built.contains(&name.as_str()) && !path.join("CACHEDIR.TAG").exists() {
                    walk(&path, root, found);
                }
            } else if let Ok(text) = fs::read_to_string(&path)
                && name != ".git"
            {
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(path, text);
            }
        }
    }
    let (root, mut found) = (root(), BTreeMap::new());
    walk(&root, &root, &mut found);
    assert!(found.contains_key("Cargo.toml"), "{} is not the repository", root.display());
    found
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    files().into_iter().filter(|(path, _)| path.ends_with(".rs"))
}

/// The path within the `src` of a crate, if it is there.
fn within<'a>(path: &'a str, package: &str) -> Option<&'a str> {
    path.strip_prefix(package)?.strip_prefix("/src/")
}

/// The part of a source file before its tests.
fn before_tests(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]")
}

/// The same without comments.
fn code(text: &str) -> String {
    let lines = before_tests(text).filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The words that follow a path such as `crate::`: one, or several in braces.
fn words_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(rest.chars().take_while(|c| is_word(*c)).collect());
            continue;
        };
        let (mut depth, mut word, mut path) = (0, String::new(), false);
        for c in list.chars() {
            match c {
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(std::mem::take(&mut word));
                    path = false;
                }
                ':' => path = true,
                c if is_word(c) && depth == 0 && !path => word.push(c),
                _ => {}
            }
        }
        found.insert(word);
    }
    found
}

/// The modules at the top of its crate that a file names.
fn imported(within: &str, text: &str) -> BTreeSet<String> {
    let code = code(text);
    let parts = within.trim_end_matches(".rs").split('/');
    let depth = parts.filter(|part| *part != "mod").count();
    let mut found = words_after(&code, "crate::");
    found.extend(words_after(&code, &"super::".repeat(depth)));
    found
}

#[test]
fn imports_run_one_way() {
    let files = files();
    for (package, ladder) in LADDERS {
        let mut seen = BTreeSet::new();
        let of_package = files.iter().filter_map(|(path, it)| Some((within(path, package)?, it)));
        for (path, text) in of_package.filter(|(path, _)| path.ends_with(".rs")) {
            let own = path.split('/').next().unwrap().trim_end_matches(".rs");
            if matches!(own, "lib" | "main") {
                continue;
            }
            let rung = ladder.iter().position(|rung| *rung == own);
            let rung = rung.unwrap_or_else(|| panic!("{package}: `{own}` is not on the ladder"));
            seen.insert(own.to_owned());
            for name in imported(path, text) {
                let used = ladder.iter().position(|it| *it == name);
                // What is no module is a name that `lib.rs` gives on; it is asked for by its own.
                let used = used.unwrap_or_else(|| {
                    panic!("{package}/src/{path}: `crate::{name}` is no module of the ladder")
                });
                assert!(used <= rung, "{package}/src/{path}: `{name}` is up the ladder");
            }
        }
        for rung in ladder {
            assert!(seen.contains(*rung), "{package}: there is no module `{rung}` any more");
        }
    }
}

#[test]
fn imports_of_the_load_generator_run_one_way() {
    let mut seen = BTreeSet::new();
    for (path, text) in rust_files() {
        let Some(path) = path.strip_prefix("benches/src/load/") else { continue };
        let own = path.split('/').next().unwrap().trim_end_matches(".rs");
        if own == "mod" {
            continue;
        }
        let rung = |name: &str| {
            let rung = LOAD.iter().position(|rung| *rung == name);
            rung.unwrap_or_else(|| panic!("benches/src/load/{path}: `{name}` is not on the ladder"))
        };
        seen.insert(own.to_owned());
        for name in words_after(&code(&text), "crate::load::") {
            assert!(rung(&name) <= rung(own), "benches/src/load/{path}: `{name}` is up the ladder");
        }
    }
    for rung in LOAD {
        assert!(seen.contains(*rung), "benches/src/load: there is no module `{rung}` any more");
    }
}

fn manifest(files: &BTreeMap<String, String>, package: &str) -> toml::Table {
    files[&format!("{package}/Cargo.toml")].parse().unwrap()
}

fn packages(files: &BTreeMap<String, String>) -> Vec<String> {
    let workspace: toml::Table = files["Cargo.toml"].parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members.iter().map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn crates_depend_only_on_those_below() {
    let files = files();
    for (package, allowed) in DEPENDENCIES {
        let manifest = manifest(&files, package);
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(table) = manifest.get(table).and_then(toml::Value::as_table) else { continue };
            for name in table.keys().filter(|name| name.starts_with("tidings")) {
                let may = allowed.contains(&name.as_str());
                assert!(may, "{package}/Cargo.toml: `{name}` is not below it");
            }
        }
    }
    for package in packages(&files) {
        let held = DEPENDENCIES.iter().any(|it| it.0 == package);
        let free = ["benches", "conformance"].contains(&package.as_str());
        assert!(held || free, "{package}: nothing says what it may depend on");
    }
}

#[test]
fn source_files_are_short() {
    for (path, text) in rust_files().filter(|(path, _)| path.contains("/src/")) {
        let lines = before_tests(&text).count();
        assert!(lines <= LINES_MAX, "{path}: {lines} lines before its tests, at most 500");
    }
}

#[test]
fn source_files_say_what_they_are() {
    for (path, text) in rust_files() {
        assert!(text.starts_with("//! "), "{path}: does not begin with `//!`");
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not find itself.
    let wrong = ["to", "dbg", "unimple"].iter().zip(["do!(", "!(", "mented!("]);
    let wrong: Vec<_> = wrong.map(|(a, b)| [*a, b].concat()).collect();
    for (path, text) in rust_files() {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for wrong in &wrong {
                assert!(!line.contains(wrong.as_str()), "{path}: {}", line.trim());
            }
        }
    }
}

#[test]
fn libraries_do_not_print() {
    for (path, text) in rust_files() {
        let of_library = LIBRARIES.iter().any(|package| within(&path, package).is_some());
        if of_library && !path.ends_with("/main.rs") {
            let code = code(&text);
            let line = code.lines().find(|it| it.contains("print!(") || it.contains("println!("));
            assert_eq!(line, None, "{path}: prints");
        }
    }
}

#[test]
fn the_load_generator_shares_no_code_with_a_broker() {
    // These are the benches of parts.
    let parts = ["world.rs", "work.rs"];
    for (path, text) in rust_files() {
        let Some(file) = within(&path, "benches").filter(|it| !parts.contains(it)) else {
            continue;
        };
        for ours in ["tidings_core", "tidings_broker", "tidings_chat", "tidings_client"] {
            assert!(!code(&text).contains(ours), "benches/src/{file}: names {ours}");
        }
    }
}

#[test]
fn nothing_names_a_place_on_somebodys_machine() {
    let places = ["work", "root", "home"].map(|dir| format!("/{dir}/"));
    for (path, text) in files() {
        for place in &places {
            let line = text.lines().find(|line| line.contains(place.as_str()));
            assert_eq!(line, None, "{path}: names {place}");
        }
    }
}

#[test]
fn crates_have_the_lints_of_the_workspace() {
    let files = files();
    let workspace: toml::Table = files["Cargo.toml"].parse().unwrap();
    for package in packages(&files) {
        let manifest = manifest(&files, &package);
        let lints = manifest.get("lints").unwrap_or_else(|| panic!("{package}: no [lints]"));
        if lints.get("workspace").and_then(toml::Value::as_bool) == Some(true) {
            continue;
        }
        // Counting allocations takes unsafe code, which cannot be allowed where it is forbidden.
        assert_eq!(package, "benches", "{package}: [lints] is not the workspace's");
        let mut expected = workspace["workspace"]["lints"].clone();
        expected["rust"]["unsafe_code"] = "deny".into();
        assert_eq!(*lints, expected, "{package}: its lints are not those of the workspace");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (path, text) in files().into_iter().filter(|(path, _)| path.ends_with(".md")) {
        for (_, rest) in text.match_indices("](").map(|(at, it)| (at, &text[at + it.len()..])) {
            let link = rest.split([')', ' ']).next().unwrap();
            let file = link.split('#').next().unwrap();
            if link.contains("://") || link.starts_with("mailto:") || file.is_empty() {
                continue;
            }
            let there = root().join(&path).parent().unwrap().join(file);
            assert!(there.exists(), "{path}: there is no {link}");
        }
    }
}

#[test]
fn architecture_is_short() {
    if let Some(text) = files().get("ARCHITECTURE.md") {
        let lines = text.lines().count();
        assert!(lines < 150, "ARCHITECTURE.md: {lines} lines, fewer than 150 are read");
    }
}

#[test]
fn imports_are_found_in_every_form() {
    let text =
        "use crate::a;\nuse crate::{b::{x, y}, c, d::e::F};\n// crate::comment\nf(crate::g::h);";
    let found: Vec<_> = imported("x.rs", text).into_iter().collect();
    assert_eq!(found, ["a", "b", "c", "d", "g"]);
    assert_eq!(imported("x/mod.rs", "use super::a;").len(), 1);
    assert_eq!(imported("x/y.rs", "use super::a;").len(), 0);
    assert_eq!(imported("x/y.rs", "use super::super::b;").into_iter().next().unwrap(), "b");
}
