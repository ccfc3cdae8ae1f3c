//! A comparison as one page, which needs nothing else.

use std::fmt::Write;

use crate::load::bars::{Bar, bars};
use crate::load::compare::found::{FIGURES, Figure, Found, Row};
use crate::load::compare::peers::{Kind, Peer};
use crate::load::compare::table::{heading, ratios, title};
use crate::load::html::{document, escape};
use crate::load::plot::short;

/// Those that are drawn, by their titles; the tables have all.
const DRAWN: [&str; 5] = ["Throughput", "Deliveries", "Broker's CPU", "p99", "RSS grown"];

/// The page.
pub(crate) fn page(found: &Found) -> String {
    let setting = &found.setting;
    let mut body = format!(
        "<header><h1>Brokers compared</h1><p>{}</p><p>tidings-bench {}.</p><pre>{}</pre></header>\n",
        escape(&heading(found)),
        setting.version,
        escape(&setting.command)
    );
    brokers(&mut body, setting.peers.as_slice());
    for missing in &setting.missing {
        // Writing to a text does not fail.
        let _ = writeln!(body, "<p class=\"warning\">Not installed: {}.</p>", escape(missing));
    }
    survivals(&mut body, found);
    for row in found.rows() {
        section(&mut body, found, &row);
    }
    document("Brokers compared", &body)
}

fn brokers(body: &mut String, peers: &[Peer]) {
    body.push_str(
        "<h2>Brokers</h2><div class=\"wide\"><table><tr><th>broker</th><th>version</th>\
         <th>acknowledged survives</th><th>started with</th></tr>\n",
    );
    for peer in peers {
        let conf = peer.conf.as_deref();
        let conf = conf.map_or_else(String::new, |it| {
            let lines = escape(it.trim()).replace('\n', "<br>");
            format!("<details><summary>its settings</summary><code>{lines}</code></details>")
        });
        let _ = writeln!(
            body,
            "<tr><th class=\"key {}\">{}</th><td>{}</td><td>{}</td><td><code>{}</code>{conf}</td></tr>",
            class(peer.kind),
            escape(&peer.name),
            escape(&peer.version),
            escape(&peer.durability),
            escape(&peer.command)
        );
    }
    body.push_str("</table></div>\n");
}

fn survivals(body: &mut String, found: &Found) {
    let survivals = found.survivals();
    if survivals.is_empty() {
        return;
    }
    body.push_str(
        "<h2>An acknowledged message survives kill -9</h2><div class=\"wide\"><table><tr>\
         <th>broker</th><th>survives</th><th>acknowledged</th><th>lost</th><th>twice or out of order</th>\
         </tr>\n",
    );
    for it in survivals {
        let verdict = it.verdict();
        let _ = writeln!(
            body,
            "<tr><th>{}</th><td class=\"{}\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td></tr>",
            escape(&it.peer.name),
            if verdict == "yes" { "good" } else { "bad" },
            escape(&verdict),
            it.acknowledged,
            it.lost,
            it.other
        );
    }
    body.push_str("</table></div>\n");
}

fn section(body: &mut String, found: &Found, row: &Row<'_>) {
    let has = |figure: &&Figure| row.cells.iter().any(|it| it.stat(figure).is_some());
    let figures: Vec<_> = FIGURES.iter().filter(has).collect();
    let _ = write!(body, "<section><h2>{}</h2><div class=\"plots\">", escape(&title(row)));
    let open_loop = row.work.contains("--rate");
    for figure in figures.iter().filter(|it| DRAWN.contains(&it.title)) {
        // All do what they are told: there is nothing to see.
        if !(open_loop && figure.more) {
            drawing(body, found, row, figure);
        }
    }
    body.push_str(
        "</div><div class=\"wide\"><table><tr><th>broker</th><th>acknowledged survives</th>",
    );
    for figure in &figures {
        let _ = write!(body, "<th>{}<br><small>{}</small></th>", escape(figure.title), figure.unit);
    }
    body.push_str("</tr>\n");
    for (nth, (peer, cell)) in found.setting.peers.iter().zip(&row.cells).enumerate() {
        let _ = write!(
            body,
            "<tr><th class=\"key {}\">{}</th><td>{}</td>",
            class(peer.kind),
            escape(&peer.name),
            escape(&peer.durability)
        );
        for figure in &figures {
            let Some((stat, it)) = row.entry(&found.setting.peers, nth, figure) else {
                body.push_str("<td class=\"n\">–</td>");
                continue;
            };
            let _ = write!(
                body,
                "<td class=\"n\" title=\"{} to {}\">{}<br><small>{}</small></td>",
                short(stat.least),
                short(stat.most),
                short(stat.median),
                ratios(it.relay, it.peer).unwrap_or_default()
            );
        }
        if cell.wrong > 0 {
            let _ =
                write!(body, "<td class=\"bad\">{} lost, twice or out of order</td>", cell.wrong);
        }
        if let Some(why) = cell.failed {
            let _ = write!(body, "<td class=\"bad\">failed: {}</td>", escape(why));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table></div></section>\n");
}

fn drawing(body: &mut String, found: &Found, row: &Row<'_>, figure: &Figure) {
    let peers = &found.setting.peers;
    let bar = |(nth, peer): (usize, &Peer)| {
        let (stat, it) = row.entry(peers, nth, figure)?;
        let wrong = row.cells.get(nth).is_some_and(|cell| cell.wrong > 0);
        Some(Bar {
            name: escape(&peer.name),
            class: if wrong { "wrong" } else { class(peer.kind) },
            value: stat.median,
            between: (stat.least, stat.most),
            note: ratios(it.relay, it.peer).unwrap_or_default(),
        })
    };
    let drawn: Vec<_> = peers.iter().enumerate().filter_map(bar).collect();
    let better = if figure.more { "more is better" } else { "less is better" };
    let _ = write!(
        body,
        "<figure><figcaption>{} <small>{}, {better}</small></figcaption>{}</figure>",
        escape(figure.title),
        figure.unit,
        bars(&format!("{}, {}", escape(figure.title), figure.unit), &drawn)
    );
}

/// The colour of a broker.
fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Relay => "relay",
        Kind::Ours => "l0",
        Kind::Peer => "l1",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load::compare::found::tests::found;

    #[test]
    fn a_page_has_a_bar_and_a_row_for_each_broker_and_says_who_lost_what() {
        let mut found = found(&[
            ("relay", Kind::Relay, &[200.0], 0),
            ("<x>", Kind::Ours, &[500.0, 300.0], 0),
            ("y", Kind::Peer, &[100.0], 3),
        ]);
        found.runs.push(json!({ "peer": "y", "asked": "pair --x <1>", "failed": "no <port>" }));
        let page = page(&found);
        assert_eq!(page.matches("<rect").count(), 3 * 3, "three figures are drawn: {page}");
        assert!(page.contains("<h2>pair --x &lt;1&gt;: traffic</h2>"), "{page}");
        assert!(page.contains("title=\"300 to 500\">400<br><small>2.00 / –</small>"), "{page}");
        assert!(page.contains("3 lost, twice or out of order") && !page.contains("<x>"), "{page}");
        assert!(page.contains("failed: no &lt;port&gt;"), "{page}");
        for word in ["http:", "https:", "src=", "@import"] {
            assert!(!page.contains(word), "the page needs nothing else, not {word}");
        }
    }
}
