//! A run as one page, which needs nothing else.

use std::fmt::Write;

use crate::load::meter::Phase;
use crate::load::plot::{Across, Line, Plot, short};
use crate::load::report::Report;

const STYLE: &str = include_str!("report.css");

/// As text of a page.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page; `command` is what makes the figures again.
pub fn page(report: &Report, command: &str) -> String {
    let it = &report.settings;
    let title = format!("{} {} on {}", it.work, it.clients, it.broker);
    let mut body = format!(
        "<header><h1>{}</h1><p>MQTT {}{}, QoS {}, {} bytes, {} in flight{}{}. tidings-bench {}.</p>\
         <pre>{}</pre></header>\n",
        escape(&title),
        it.mqtt,
        if it.tls { " over TLS" } else { "" },
        it.qos,
        it.payload,
        it.window,
        it.rate.map_or_else(String::new, |rate| format!(", {rate} a second")),
        if it.persistent { ", persistent sessions" } else { "" },
        it.version,
        escape(command)
    );
    let verdict = report.verdict;
    let class = if report.kept_its_word() { "good" } else { "bad" };
    body += &format!(
        "<p class=\"verdict {class}\">lost {}, twice {}, out of order {}, not theirs {}, refused {}</p>\n",
        verdict.lost, verdict.duplicates, verdict.reordered, verdict.foreign, report.refused
    );
    for warning in &report.warnings {
        body += &format!("<p class=\"warning\">{}</p>\n", escape(warning));
    }
    for phase in &report.phases {
        body += &section(phase);
    }
    document(&title, &body)
}

/// A page with our colours around what it says.
pub(crate) fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" \
         content=\"light dark\"><title>{}</title><style>{STYLE}</style></head>\n<body><main>{body}\
         </main></body></html>\n",
        escape(title)
    )
}

fn section(phase: &Phase) -> String {
    let mut out = format!("<section><h2>{}</h2><dl>", phase.name);
    let mut figure = |name: &str, value: String| {
        // Writing to a text does not fail.
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    figure(phase.unit, format!("{} in {:.2} s", phase.count, phase.seconds));
    if phase.per_second > 0.0 {
        figure(&format!("{}/s", phase.unit), short(phase.per_second));
    }
    if phase.deliveries > 0 && phase.unit != "deliveries" {
        figure("deliveries/s", short(phase.deliveries_per_second));
    }
    if let Some(it) = &phase.latency_us {
        for (name, us) in [
            ("p50", it.p50),
            ("p90", it.p90),
            ("p99", it.p99),
            ("p99.9", it.p99_9),
            ("max", it.max),
        ] {
            figure(name, format!("{us:.0} µs"));
        }
    }
    if let Some(it) = &phase.broker {
        figure("broker CPU each", format!("{:.2} µs", it.cpu_us_each));
        figure("broker CPU", format!("{:.0} %", it.cpu_percent));
        figure("broker RSS", format!("{} KiB, most {} KiB", it.rss_kib, it.rss_most_kib));
        figure("RSS grown each", format!("{:.0} bytes", it.rss_grown_bytes_each));
        if let Some(bytes) = it.written_bytes {
            figure("written", format!("{bytes} bytes"));
        }
        let (own, forced) = (it.switches_voluntary, it.switches_involuntary);
        figure("context switches", format!("{own}, involuntary {forced}"));
    }
    figure("generator CPU each", format!("{:.2} µs", phase.generator.cpu_us_each));
    figure("its busiest thread", format!("{:.0} %", phase.generator.busiest_thread_percent));
    out += "</dl><div class=\"plots\">";
    for plot in plots(phase) {
        let svg = plot.svg();
        if svg.is_empty() {
            continue;
        }
        let _ = write!(out, "<figure><figcaption>{} <small>{}</small>", plot.title, plot.unit);
        if plot.lines.len() > 1 {
            for (nth, line) in plot.lines.iter().enumerate() {
                let _ = write!(out, " <span class=\"key l{nth}\">{}</span>", line.name);
            }
        }
        let _ = write!(out, "</figcaption>{svg}</figure>");
    }
    out + "</div></section>\n"
}

fn plots(phase: &Phase) -> Vec<Plot> {
    let line = |name, value: fn(&crate::load::meter::Point) -> f64| Line {
        name,
        points: phase.points.iter().map(|it| (it.second, value(it))).collect(),
    };
    let plot = |title, unit, lines| Plot { title, unit, across: Across::Time, lines };
    let mut rates = vec![line(phase.unit, |it| it.per_second)];
    // One to one they would hide each other.
    if phase.deliveries > phase.count + phase.count / 10 {
        rates.push(line("deliveries", |it| it.deliveries_per_second));
    }
    let mut plots = Vec::new();
    if phase.per_second > 0.0 {
        plots.push(plot("Throughput", "a second", rates));
    }
    if phase.latency_us.is_some() {
        plots.push(latency(phase));
    }
    if phase.broker.is_some() {
        let cpu = line("processor", |it| it.cpu_percent);
        plots.push(plot("Broker's CPU", "percent of a processor", vec![cpu]));
        plots.push(plot("Broker's memory", "RSS in MiB", vec![line("RSS", |it| it.rss_mib)]));
    }
    plots
}

/// Latency by quantile, as far out as there are messages enough.
fn latency(phase: &Phase) -> Plot {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let rarest = 1.0 / phase.latencies.count().max(10) as f64;
    let (mut left, mut points) = (1.0_f64, Vec::new());
    while left >= rarest {
        points.push((1.0 - left, phase.latencies.quantile_us(1.0 - left)));
        left /= 10f64.powf(0.1);
    }
    let (title, unit, across) = ("Latency by quantile", "µs", Across::Quantiles);
    Plot { title, unit, across, lines: vec![Line { name: "latency", points }] }
}
