//! A comparison in Markdown: for each figure a table of works by brokers.

use std::fmt::Write;

use crate::load::compare::found::{FIGURES, Figure, Found, Row};
use crate::load::plot::short;

/// All of it.
pub(crate) fn markdown(found: &Found) -> String {
    let (setting, rows) = (&found.setting, found.rows());
    let mut out = format!("{}\n", heading(found));
    for figure in &FIGURES {
        let has = |row: &&Row<'_>| row.cells.iter().any(|it| it.stat(figure).is_some());
        // Who failed at all of a work is told once.
        let says =
            |row: &&Row<'_>| has(row) || (row.phase.is_empty() && figure.title == "Throughput");
        if !rows.iter().any(|row| says(&row)) {
            continue;
        }
        // Writing to a text does not fail.
        let _ = write!(out, "\n**{}, {}**\n\n| work |", figure.title, figure.unit);
        setting.peers.iter().for_each(|peer| {
            let _ = write!(out, " {} |", peer.name);
        });
        let _ = writeln!(out, "\n| --- |{}", " --- |".repeat(setting.peers.len()));
        for row in rows.iter().filter(says) {
            let _ = write!(out, "| {} |", title(row));
            for nth in 0..setting.peers.len() {
                let _ = write!(out, " {} |", entry(found, row, nth, figure));
            }
            out.push('\n');
        }
    }
    survivals(&mut out, found);
    out.push_str("\n| broker | version | started with | acknowledged survives |\n| --- | --- | --- | --- |\n");
    for peer in &setting.peers {
        let conf = peer.conf.as_deref();
        let conf =
            conf.map_or_else(String::new, |it| format!("; `{}`", it.trim().replace('\n', "; ")));
        let _ = writeln!(
            out,
            "| {} | {} | `{}`{conf} | {} |",
            peer.name, peer.version, peer.command, peer.durability
        );
    }
    for missing in &setting.missing {
        let _ = write!(out, "\nNot installed: {missing}.\n");
    }
    out
}

/// What is said before all tables.
pub(crate) fn heading(found: &Found) -> String {
    let setting = &found.setting;
    let others = found.others_percent().map_or_else(String::new, |others| {
        format!(
            " Other processes took up to {others:.0} % of a processor: only ratios mean something."
        )
    });
    format!(
        "{}. Medians of {} interleaved rounds, each with a broker started anew; beside each its ratio \
         to the relay, and to the best of the other brokers that lost nothing.{others}",
        setting.machine, setting.rounds
    )
}

/// A work and its phase.
pub(crate) fn title(row: &Row<'_>) -> String {
    if row.phase.is_empty() { row.work.into() } else { format!("{}: {}", row.work, row.phase) }
}

/// Both ratios, as far as there are some.
pub(crate) fn ratios(relay: Option<f64>, peer: Option<f64>) -> Option<String> {
    let text = |ratio: Option<f64>| ratio.map_or_else(|| "–".into(), |it| format!("{it:.2}"));
    (relay.is_some() || peer.is_some()).then(|| format!("{} / {}", text(relay), text(peer)))
}

fn entry(found: &Found, row: &Row<'_>, nth: usize, figure: &Figure) -> String {
    let Some(cell) = row.cells.get(nth) else { return String::new() };
    let mut text = match (row.entry(&found.setting.peers, nth, figure), cell.failed) {
        (Some((stat, it)), _) => {
            let ratios =
                ratios(it.relay, it.peer).map_or_else(String::new, |it| format!(" ({it})"));
            format!("{}{ratios}", short(stat.median))
        }
        (None, Some(_)) => "failed".into(),
        (None, None) => "–".into(),
    };
    // It is of all figures, and told once.
    if cell.wrong > 0 && figure.title == "Throughput" {
        let _ = write!(text, ", {} lost, twice or out of order", cell.wrong);
    }
    text
}

fn survivals(out: &mut String, found: &Found) {
    let survivals = found.survivals();
    if survivals.is_empty() {
        return;
    }
    out.push_str(
        "\n**An acknowledged message survives kill -9**\n\n| broker | survives | acknowledged | lost | \
         twice or out of order |\n| --- | --- | --- | --- | --- |\n",
    );
    for it in survivals {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            it.peer.name,
            it.verdict(),
            it.acknowledged,
            it.lost,
            it.other
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::compare::found::tests::found;
    use crate::load::compare::peers::Kind;

    #[test]
    fn a_page_names_every_broker_with_its_settings_and_ratios() {
        let found = found(&[
            ("relay", Kind::Relay, &[200.0], 0),
            ("x", Kind::Ours, &[500.0, 300.0], 1),
            ("y", Kind::Peer, &[100.0], 0),
            ("gone", Kind::Peer, &[], 0),
        ]);
        let page = markdown(&found);
        let row = "| pair --x <1>: traffic | 200 (1.00 / 2.00) | 400 (2.00 / 4.00), 2 lost, twice or out \
                   of order | 100 (0.50 / 1.00) | – |";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("| x |  | `broker -p {port}` | not said |"), "{page}");
        assert!(page.contains("Not installed: z, see `z`."), "{page}");
        assert!(!page.contains("Deliveries") && page.contains("**p99, µs**"), "{page}");
    }
}
