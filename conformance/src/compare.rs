//! Several runs side by side: how many cases each passed, and the cases they differ in.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::html::{document, escape};
use crate::record::{Record, Run, Verdict, section_key};

/// A case in a version, in the order of the specification.
type Key = (Vec<u32>, String, String);

/// Markdown: a table of counts, and a table of the cases in which not all ended alike.
pub fn markdown(records: &[Record]) -> String {
    let mut text = String::from("| broker | address | passed | failed | skipped |\n");
    text += "| --- | --- | --- | --- | --- |\n";
    for record in records {
        let [passed, failed, skipped] = counts(record);
        let (broker, address) = (&record.broker, &record.address);
        let _in_memory =
            writeln!(text, "| {broker} | {address} | {passed} | {failed} | {skipped} |");
    }
    let rows = differing(records);
    let _in_memory = writeln!(text, "\n{} cases in which they differ:\n", rows.len());
    let names: Vec<_> = records.iter().map(|it| it.broker.as_str()).collect();
    let _in_memory = writeln!(text, "| § | case | version | {} |", names.join(" | "));
    let _in_memory = writeln!(text, "| --- | --- | ---{} |", " | ---".repeat(names.len()));
    for (section, (_, case, version), verdicts) in rows {
        let words: Vec<_> = verdicts.into_iter().map(word).collect();
        let _in_memory =
            writeln!(text, "| {section} | `{case}` | {version} | {} |", words.join(" | "));
    }
    text
}

/// One record for each broker: what was found at its several addresses is put together.
pub fn merged(records: Vec<Record>) -> Vec<Record> {
    let mut merged: Vec<Record> = Vec::new();
    for record in records {
        match merged.iter_mut().find(|it| it.broker == record.broker) {
            Some(same) => {
                same.address = format!("{}, {}", same.address, record.address);
                same.runs.extend(record.runs);
            }
            None => merged.push(record),
        }
    }
    merged
}

/// The same as a page.
pub fn page(records: &[Record]) -> String {
    let mut body =
        String::from("<header><h1>MQTT conformance</h1><p class=\"broker\">Compared</p></header>");
    body += "<div class=\"scroll\"><table class=\"compare\"><thead><tr><th>broker</th>\
             <th>address</th><th>passed</th><th>failed</th><th>skipped</th></tr></thead><tbody>";
    for record in records {
        let [passed, failed, skipped] = counts(record);
        let (broker, address) = (escape(&record.broker), escape(&record.address));
        let class = if failed > 0 { "failed" } else { "" };
        let _in_memory = write!(
            body,
            "<tr><td>{broker}</td><td>{address}</td><td>{passed}</td><td \
             class=\"{class}\">{failed}</td><td>{skipped}</td></tr>"
        );
    }
    let rows = differing(records);
    let _in_memory = write!(
        body,
        "</tbody></table></div><h2>{} cases in which they differ</h2><div class=\"scroll\"><table \
         class=\"compare\"><thead><tr><th>case</th><th>version</th>",
        rows.len()
    );
    for record in records {
        let _in_memory = write!(body, "<th>{}</th>", escape(&record.broker));
    }
    body += "</tr></thead><tbody>";
    for (section, (_, case, version), verdicts) in rows {
        let case = escape(&case.replace('_', " "));
        let _in_memory = write!(body, "<tr><td>§{section} {case}</td><td>{version}</td>");
        for verdict in verdicts {
            let class = verdict.map_or("", Verdict::word);
            let _in_memory = write!(body, "<td class=\"verdict {class}\">{}</td>", word(verdict));
        }
        body += "</tr>";
    }
    body += "</tbody></table></div>";
    document("MQTT conformance, compared", &body)
}

fn counts(record: &Record) -> [usize; 3] {
    [Verdict::Passed, Verdict::Failed, Verdict::Skipped].map(|it| record.count(it))
}

fn word(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Failed) => "FAILED",
        Some(verdict) => verdict.word(),
        None => "",
    }
}

fn key(run: &Run) -> Key {
    (section_key(&run.section), run.case.clone(), run.version.clone())
}

/// The cases of all, with how each ended; without those in which all that were asked ended alike.
fn differing(records: &[Record]) -> Vec<(String, Key, Vec<Option<Verdict>>)> {
    let mut all: BTreeMap<Key, (String, Vec<Option<Verdict>>)> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        for run in &record.runs {
            let none = || (run.section.clone(), vec![None; records.len()]);
            let (_, verdicts) = all.entry(key(run)).or_insert_with(none);
            if let Some(verdict) = verdicts.get_mut(index) {
                *verdict = Some(run.result);
            }
        }
    }
    let rows = all.into_iter().map(|(key, (section, verdicts))| (section, key, verdicts));
    rows.filter(|(_, _, verdicts)| {
        let mut asked = verdicts.iter().flatten();
        let first = asked.next();
        asked.any(|it| Some(it) != first)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{Record, Run, Verdict, markdown, merged};

    fn record(broker: &str, results: &[(&str, Verdict)]) -> Record {
        let run = |(case, result): &(&str, Verdict)| Run {
            section: "3.1".into(),
            case: (*case).into(),
            version: "5".into(),
            statements: Vec::new(),
            result: *result,
            why: String::new(),
            took_ms: 0,
            dialogue: Vec::new(),
        };
        let runs = results.iter().map(run).collect();
        Record { broker: broker.into(), address: "x".into(), began_s: 0, took_ms: 0, runs }
    }

    #[test]
    fn only_cases_that_ended_differently_are_listed() {
        use Verdict::{Failed, Passed};
        let one = record("one", &[("same", Passed), ("other", Passed), ("alone", Passed)]);
        let two = record("two", &[("same", Passed), ("other", Failed)]);
        let text = markdown(&[one, two]);
        assert!(text.contains("| one | x | 3 | 0 | 0 |"));
        assert!(text.contains("| 3.1 | `other` | 5 | passed | FAILED |"));
        assert!(!text.contains("`same`") && !text.contains("`alone`"));
    }

    #[test]
    fn runs_of_one_broker_are_put_together() {
        let all = merged(vec![
            record("one", &[("a", Verdict::Passed)]),
            record("two", &[]),
            record("one", &[("b", Verdict::Failed)]),
        ]);
        let counts: Vec<_> = all.iter().map(|it| (it.broker.as_str(), it.runs.len())).collect();
        assert_eq!(counts, [("one", 2), ("two", 0)]);
    }
}
