//! `statements.toml` lists every statement: the cases that hold it, or the reason why none can.
//!
//! To write it anew from the cases: `TIDINGS_WRITE=1 cargo test -p tidings-conformance statements`.
//! The reasons are written by hand, and stay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tidings_conformance::packet::Version;
use tidings_conformance::statement::statements;

type Held = BTreeMap<String, BTreeSet<String>>;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/statements.toml");
const VERSIONS: [(Version, &str); 2] = [(Version::V311, "v311"), (Version::V5, "v5")];

const HEAD: &str = "# Every statement: the cases that hold it, or the reason why none can. A test \
                    compares this with the cases.\n";

fn held_by_cases(version: Version) -> Held {
    let mut held = Held::new();
    for case in tidings_conformance::all() {
        for id in case.statements(version) {
            held.entry((*id).to_owned()).or_default().insert(case.name.to_owned());
        }
    }
    held
}

fn table(name: &str) -> toml::Table {
    let file: toml::Table = std::fs::read_to_string(FILE).unwrap().parse().unwrap();
    file[name].as_table().unwrap().clone()
}

/// The lists of the file.
fn held_by_file(name: &str) -> Held {
    let rows = table(name).into_iter();
    rows.filter_map(|(id, names)| {
        let names = names.as_array()?.iter();
        Some((id, names.map(|name| name.as_str().unwrap().to_owned()).collect()))
    })
    .collect()
}

/// The reasons of the file.
fn reasons(name: &str) -> BTreeMap<String, String> {
    let rows = table(name).into_iter();
    rows.filter_map(|(id, reason)| Some((id, reason.as_str()?.to_owned()))).collect()
}

/// Identifiers in the order of the text, not of the alphabet.
fn written() -> String {
    let mut text = String::from(HEAD);
    for (version, table) in VERSIONS {
        text.push_str(&format!("\n[{table}]\n"));
        let (held, reasons) = (held_by_cases(version), reasons(table));
        for (id, _) in statements(version) {
            let Some(names) = held.get(*id) else {
                let reason = reasons.get(*id).map_or("", String::as_str);
                text.push_str(&format!("{id:?} = {reason:?}\n"));
                continue;
            };
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
        // The other tests read it at the same time.
        let new = Path::new(FILE).with_extension("toml.new");
        std::fs::write(&new, written()).unwrap();
        std::fs::rename(&new, FILE).unwrap();
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
fn every_statement_has_a_case_or_a_reason() {
    for (version, name) in VERSIONS {
        let (held, reasons, table) = (held_by_file(name), reasons(name), table(name));
        for (id, _) in statements(version) {
            let cases = held.get(*id).is_some_and(|cases| !cases.is_empty());
            let reason = reasons.get(*id).is_some_and(|reason| reason.len() > 20);
            assert!(cases || reason, "{name} {id}: neither a case nor a reason");
        }
        let known: BTreeSet<_> = statements(version).iter().map(|it| it.0).collect();
        for id in table.keys() {
            assert!(known.contains(id.as_str()), "{name} {id} is no statement");
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
