//! `statements.toml` says which cases hold which statement, and is true in both directions.
//!
//! To write it anew from the cases: `TIDINGS_WRITE=1 cargo test -p tidings-conformance statements`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tidings_conformance::packet::Version;
use tidings_conformance::statement::statements;

type Held = BTreeMap<String, BTreeSet<String>>;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/statements.toml");
const VERSIONS: [(Version, &str); 2] = [(Version::V311, "v311"), (Version::V5, "v5")];

fn held_by_cases(version: Version) -> Held {
    let mut held = Held::new();
    for case in tidings_conformance::all() {
        for id in case.statements(version) {
            held.entry((*id).to_owned()).or_default().insert(case.name.to_owned());
        }
    }
    held
}

fn held_by_file(table: &str) -> Held {
    let file: toml::Table = std::fs::read_to_string(FILE).unwrap().parse().unwrap();
    let rows = file[table].as_table().unwrap().iter();
    rows.map(|(id, names)| {
        let names = names.as_array().unwrap().iter();
        (id.clone(), names.map(|name| name.as_str().unwrap().to_owned()).collect())
    })
    .collect()
}

/// Identifiers in the order of the text, not of the alphabet.
fn written() -> String {
    let mut text =
        String::from("# Which cases hold which statement; a test compares it with them.\n");
    for (version, table) in VERSIONS {
        text.push_str(&format!("\n[{table}]\n"));
        let held = held_by_cases(version);
        for (id, _) in statements(version) {
            let Some(names) = held.get(*id) else { continue };
            text.push_str(&format!("{id:?} = [\n"));
            names.iter().for_each(|name| text.push_str(&format!("    {name:?},\n")));
            text.push_str("]\n");
        }
    }
    text
}

#[test]
fn file_lists_what_the_cases_hold_and_nothing_else() {
    if std::env::var_os("TIDINGS_WRITE").is_some() {
        std::fs::write(Path::new(FILE), written()).unwrap();
    }
    for (version, table) in VERSIONS {
        let (file, cases) = (held_by_file(table), held_by_cases(version));
        for (id, names) in &file {
            let held = cases.get(id);
            assert!(held.is_some(), "{table} {id}: no case holds it");
            assert_eq!(
                Some(names),
                held,
                "{table} {id}: the cases of the file, and those there are"
            );
        }
        for id in cases.keys() {
            assert!(file.contains_key(id), "{table} {id}: held by a case, missing in the file");
        }
    }
}

#[test]
fn cases_name_statements_that_exist() {
    for (version, table) in VERSIONS {
        let known: BTreeSet<_> = statements(version).iter().map(|it| it.0).collect();
        for id in held_by_cases(version).keys() {
            assert!(known.contains(id.as_str()), "{table} {id} is no statement");
        }
    }
}

#[test]
fn cases_of_a_section_have_names_of_their_own() {
    let mut seen = BTreeSet::new();
    for case in tidings_conformance::all() {
        assert!(seen.insert((case.section, case.name)), "{} {} twice", case.section, case.name);
        assert!(!case.v5.is_empty() || !case.v311.is_empty(), "{} holds nothing", case.name);
    }
}
