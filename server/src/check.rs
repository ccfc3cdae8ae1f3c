//! `tidings check`: whether everything in a data folder is there and can be read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use bytes::Bytes;
use serde_json::json;
use tidings_broker::core::record::{Row, RowKind};
use tidings_broker::core::shard::Verifier;
use tidings_broker::engine::{self, Checked, Part, Problem};

use crate::cli::CheckArgs;
use crate::copies::{exit_of, store_of};
use crate::exit::{self, Exit, Failure};
use crate::progress::Progress;

/// Checks, and says what it found: success, or 65 with problems.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let folder = store_of(&args.place)?;
    let mut rows = Rows::default();
    let mut progress = Progress::new();
    let checked =
        engine::check(&folder, &mut |key, value| rows.look(key, value), &mut |what, count| {
            progress.show(|| format!("{count} {what}"))
        });
    drop(progress);
    let mut checked = checked.map_err(|error| Failure::new(exit_of(&error), error))?;
    checked.problems.append(&mut rows.end());
    let text = if args.json { json(&checked, &rows) } else { text(&checked, &rows) };
    exit::print(&text)?;
    Ok(if checked.problems.is_empty() { ExitCode::SUCCESS } else { Exit::Data.into() })
}

/// The rows of a store by their kind.
#[derive(Debug, Default)]
struct Rows {
    verifier: Verifier,
    /// How many, and their bytes.
    kinds: BTreeMap<u8, (u64, u64)>,
    problems: Vec<Problem>,
    more: u64,
}

impl Rows {
    fn look(&mut self, key: &[u8], value: &Bytes) {
        let row = Row { key: Bytes::copy_from_slice(key), value: value.clone() };
        let kind = key.get(1).copied().unwrap_or_default();
        let (count, bytes) = self.kinds.entry(kind).or_default();
        *count += 1;
        *bytes += (key.len() + value.len()) as u64;
        let (problems, more) = (&mut self.problems, &mut self.more);
        self.verifier.row(&row, &mut |key, wrong| note(problems, more, key, &wrong.to_string()));
        if kind == RowKind::Service as u8
            && let Err(error) = tidings_chat::verify(&row)
        {
            note(&mut self.problems, &mut self.more, key, &error.to_string());
        }
    }

    fn end(&mut self) -> Vec<Problem> {
        let (problems, more) = (&mut self.problems, &mut self.more);
        let verifier = std::mem::take(&mut self.verifier);
        verifier.end(&mut |key, wrong| note(problems, more, key, &wrong.to_string()));
        let mut problems = std::mem::take(&mut self.problems);
        if self.more > 0 {
            let what = format!("{} more are wrong", self.more);
            problems.push(Problem { place: "rows".to_owned(), what });
        }
        problems
    }
}

fn note(problems: &mut Vec<Problem>, more: &mut u64, key: &[u8], what: &str) {
    if problems.len() >= PROBLEMS_MAX {
        *more += 1;
        return;
    }
    let mut place = "row ".to_owned();
    for byte in key {
        // Writing to a string cannot fail.
        let _ = write!(place, "{byte:02x}");
    }
    let kind = key.get(1).map_or("row", |kind| name(*kind));
    problems.push(Problem { place, what: format!("{kind}: {what}") });
}

fn name(kind: u8) -> &'static str {
    match kind {
        1 => "numbers handed out",
        2 => "session",
        3 => "subscription",
        4 => "queued",
        5 => "in flight",
        6 => "retained",
        7 => "garbage",
        64 => "chat",
        _ => "unknown",
    }
}

fn text(checked: &Checked, rows: &Rows) -> String {
    let mut text = format!("{:<20} {:>14} {:>16}\n", "what", "count", "bytes");
    let mut line = |what: &str, count: u64, bytes: u64| {
        let _ = writeln!(text, "{what:<20} {count:>14} {bytes:>16}");
    };
    for Part { what, count, bytes } in &checked.parts {
        line(what, *count, *bytes);
    }
    for (kind, (count, bytes)) in &rows.kinds {
        line(&format!("  {}", name(*kind)), *count, *bytes);
    }
    for it in &checked.notes {
        let _ = writeln!(text, "note: {it}");
    }
    for problem in &checked.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    let _ = match checked.problems.len() {
        0 => writeln!(text, "no problems"),
        1 => writeln!(text, "1 problem"),
        count => writeln!(text, "{count} problems"),
    };
    text
}

fn json(checked: &Checked, rows: &Rows) -> String {
    let part = |it: &Part| json!({ "what": it.what, "count": it.count, "bytes": it.bytes });
    let kind = |(kind, (count, bytes)): (&u8, &(u64, u64))| json!({ "what": name(*kind), "count": count, "bytes": bytes });
    let problem = |it: &Problem| json!({ "place": it.place, "what": it.what });
    let object = json!({
        "parts": checked.parts.iter().map(part).collect::<Vec<_>>(),
        "rows": rows.kinds.iter().map(kind).collect::<Vec<_>>(),
        "notes": checked.notes,
        "problems": checked.problems.iter().map(problem).collect::<Vec<_>>(),
    });
    format!("{object}\n")
}

/// So many rows are named; of the others their number is.
const PROBLEMS_MAX: usize = 100;
