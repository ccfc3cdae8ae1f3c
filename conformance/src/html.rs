//! The HTML report: one file, which needs nothing else, of one run or of several side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::read::kind_name;
use crate::record::{Record, Run, Verdict, date, section_key};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// The report of one run.
pub fn page(record: &Record) -> String {
    let mut body = String::new();
    let all = &record.runs;
    let counts = counts(all.iter());
    body += &format!(
        "<header><h1>MQTT conformance</h1><p class=\"broker\">{}</p><p class=\"facts\">{} · {} · {} \
         runs of cases in {}</p></header>\n",
        escape(&record.broker),
        escape(&record.address),
        date(record.began_s),
        all.len(),
        duration(record.took_ms),
    );
    body += &tiles(counts);
    body += &format!("<section><h2>By section</h2>{}</section>\n", sections(all));
    body += "<section><h2>Cases</h2><div class=\"controls\" role=\"group\" aria-label=\"Filter\">";
    for (value, label) in
        [("", "All"), ("failed", "Failed"), ("skipped", "Skipped"), ("passed", "Passed")]
    {
        body += &format!("<button data-result=\"{value}\">{label}</button>");
    }
    body += "<select aria-label=\"Version\"><option value=\"\">both versions</option><option>3.1.1\
             </option><option>5</option></select><input type=\"search\" placeholder=\"case, \
             statement or section\" aria-label=\"Search\"><output></output></div>\n";
    for run in all {
        body += &case(run);
    }
    body += "</section>";
    document(&format!("MQTT conformance: {}", record.broker), &body)
}

/// A document around a body that is HTML already.
pub fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" \
         content=\"light dark\"><title>{title}</title><style>{STYLE}</style></head>\n\
         <body><main>{body}</main><script>{SCRIPT}</script></body></html>\n"
    )
}

/// Text as it stands in HTML.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(c),
        }
    }
    safe
}

/// Passed, failed, skipped.
type Counts = [usize; 3];

fn counts<'a>(runs: impl Iterator<Item = &'a Run>) -> Counts {
    runs.fold([0; 3], |[passed, failed, skipped], run| match run.result {
        Verdict::Passed => [passed + 1, failed, skipped],
        Verdict::Failed => [passed, failed + 1, skipped],
        Verdict::Skipped => [passed, failed, skipped + 1],
    })
}

fn tiles([passed, failed, skipped]: Counts) -> String {
    let tile = |class: &str, count: usize| {
        format!("<div class=\"tile {class}\"><b>{count}</b><span>{class}</span></div>")
    };
    let tiles = [tile("passed", passed), tile("failed", failed), tile("skipped", skipped)].concat();
    format!("<div class=\"tiles\">{tiles}</div>{}\n", bar([passed, failed, skipped]))
}

/// A bar of three parts. The counts are its text too: colours alone tell not everybody.
fn bar(counts: Counts) -> String {
    let all = counts.iter().sum::<usize>().max(1);
    let [passed, failed, skipped] = counts;
    let label = format!("{passed} passed, {failed} failed, {skipped} skipped");
    let mut parts = String::new();
    for (class, count) in [("passed", passed), ("failed", failed), ("skipped", skipped)] {
        if count > 0 {
            let tenths = count * 1000 / all;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            let _in_memory =
                write!(parts, "<i class=\"{class}\" style=\"width:{whole}.{tenth}%\"></i>");
        }
    }
    format!(
        "<div class=\"bar\" role=\"img\" aria-label=\"{label}\" title=\"{label}\">{parts}</div>"
    )
}

fn sections(runs: &[Run]) -> String {
    // Two levels of the numbering: there is a packet type, or a subject, to each.
    let mut of: BTreeMap<Vec<u32>, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        let mut key = section_key(&run.section);
        key.truncate(2);
        of.entry(key).or_default().push(run);
    }
    let mut rows = String::new();
    for (key, runs) in &of {
        let section = key.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        let title = TITLES.iter().find(|it| it.0 == section).map_or("", |it| it.1);
        let [passed, failed, skipped] = counts(runs.iter().copied());
        let shown = |count: usize| if count == 0 { String::new() } else { count.to_string() };
        let _in_memory = writeln!(
            rows,
            "<tr data-section=\"{section}\"><th scope=\"row\"><button \
             class=\"link\">§{section}</button> {title}</th><td class=\"wide\">{}</td>\
             <td>{passed}</td><td class=\"failed\">{}</td><td>{}</td></tr>",
            bar([passed, failed, skipped]),
            shown(failed),
            shown(skipped),
        );
    }
    format!(
        "<table class=\"sections\"><thead><tr><th>Section</th><th></th><th>passed</th><th>failed\
         </th><th>skipped</th></tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn case(run: &Run) -> String {
    let result = run.result.word();
    let ids: Vec<_> =
        run.statements.iter().map(|id| format!("<code>{}</code>", escape(id))).collect();
    let why = if run.why.is_empty() {
        String::new()
    } else {
        format!("<p class=\"why\">{}</p>", escape(&run.why))
    };
    let open = if run.result == Verdict::Failed { " open" } else { "" };
    format!(
        "<details class=\"case {result}\" data-result=\"{result}\" data-version=\"{version}\" \
         data-section=\"{section}\"{open}><summary><span class=\"mark\">{result}</span><span \
         class=\"name\">{name}</span><span class=\"meta\">§{section} · {version} · {took}</span>\
         </summary>{why}<p class=\"ids\">{ids}</p><ol class=\"dialogue\">{lines}</ol></details>\n",
        version = escape(&run.version),
        section = escape(&run.section),
        name = escape(&run.case.replace('_', " ")),
        took = duration(run.took_ms),
        ids = ids.join(" "),
        lines = run.dialogue.iter().map(|it| line(it)).collect::<String>(),
    )
}

/// A line of the dialogue: whose it is, which way it goes, its first packet's name, the bytes.
fn line(line: &str) -> String {
    let split = line.find(['>', '<', '|']).map(|at| (line.get(..at), line.get(at..=at)));
    let Some((Some(who), Some(sign))) = split else {
        return format!("<li>{}</li>", escape(line));
    };
    let rest = line.get(who.len() + 1..).unwrap_or_default().trim_start();
    let (class, way) = match sign {
        ">" => ("sent", "→"),
        "<" => ("received", "←"),
        _ => ("event", "·"),
    };
    let first = rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
    let is_packet = class != "event" && rest.get(2..3).is_none_or(|it| it == " ");
    let name = first.filter(|_| is_packet).map_or("", |first| kind_name(first >> 4));
    format!(
        "<li class=\"{class}\"><span class=\"who\">{}</span><span class=\"way\">{way}</span><span \
         class=\"packet\">{name}</span><code>{}</code></li>",
        escape(who),
        escape(rest),
    )
}

/// What the sections are about.
const TITLES: [(&str, &str); 26] = [
    ("1.5", "data"),
    ("2.1", "fixed header"),
    ("2.2", "identifiers, properties"),
    ("3.1", "CONNECT"),
    ("3.2", "CONNACK"),
    ("3.3", "PUBLISH"),
    ("3.4", "PUBACK"),
    ("3.5", "PUBREC"),
    ("3.6", "PUBREL"),
    ("3.7", "PUBCOMP"),
    ("3.8", "SUBSCRIBE"),
    ("3.10", "UNSUBSCRIBE"),
    ("3.12", "PINGREQ"),
    ("3.14", "DISCONNECT"),
    ("3.15", "AUTH"),
    ("4.1", "session state"),
    ("4.2", "network"),
    ("4.3", "QoS"),
    ("4.4", "delivery again"),
    ("4.6", "order"),
    ("4.7", "topics"),
    ("4.8", "shared subscriptions"),
    ("4.9", "flow control"),
    ("4.12", "authentication"),
    ("6.0", "WebSocket"),
    ("7", "conformance"),
];

fn duration(ms: u64) -> String {
    if ms < 1000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1000, ms % 1000 / 100) }
}

#[cfg(test)]
mod tests {
    use super::{escape, line, page};
    use crate::record::{Record, Run, Verdict};

    #[test]
    fn what_a_broker_says_is_text_and_never_markup() {
        let text = "<script>alert('x')</script>";
        let run = Run {
            section: "3.1".into(),
            case: "a".into(),
            version: "5".into(),
            statements: vec!["MQTT-3.1.0-1".into()],
            result: Verdict::Failed,
            why: text.into(),
            took_ms: 1,
            dialogue: vec![text.into()],
        };
        let (broker, address) = (text.to_owned(), text.to_owned());
        let html = page(&Record { broker, address, began_s: 0, took_ms: 0, runs: vec![run] });
        assert!(!html.contains("<script>alert"));
        assert!(html.contains(&escape(text)));
    }

    #[test]
    fn lines_have_the_name_of_their_packet() {
        assert!(line("a> 10 0c 00").contains(">CONNECT<"));
        assert!(line("a< 20 02 00 00").contains(">CONNACK<"));
        assert!(!line("a| closed by the broker").contains("CONN"));
    }
}
