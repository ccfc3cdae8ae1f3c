//! `GET /metrics`: all that is counted, in the text format of Prometheus.
//!
//! Labels are those of the table of metrics, which no Client can add to.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use tidings_broker::core::metric::{Metric, MetricKind, Snapshot};

use super::Site;

/// `GET /metrics`
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let mut text = render(&site.broker.metrics());
    let _ = write!(
        text,
        "# HELP {HTTP_CONNECTIONS} Connections of HTTP, without those that became MQTT.\n\
         # TYPE {HTTP_CONNECTIONS} gauge\n{HTTP_CONNECTIONS} {}\n",
        site.gate.count()
    );
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn render(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let mut family = "";
    for (metric, value) in snapshot.iter() {
        let name = metric.name();
        if name != family {
            family = name;
            let kind = match metric.kind() {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help());
        }
        let _ = writeln!(text, "{} {value}", series(metric));
    }
    text
}

/// The name of a series, with its label.
pub(super) fn series(metric: Metric) -> String {
    match metric.label() {
        Some((label, value)) => format!("{}{{{label}=\"{value}\"}}", metric.name()),
        None => metric.name().to_owned(),
    }
}

const HTTP_CONNECTIONS: &str = "tidings_http_connections";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_series_stands_once_below_the_help_and_type_of_its_family() {
        let mut snapshot = Snapshot::default();
        snapshot.set(Metric::LimitRooms, 7);
        let text = render(&snapshot);
        assert!(
            text.contains("\ntidings_limit_hits_total{limit=\"chat.rooms_max\"} 7\n"),
            "{text}"
        );
        let (mut seen, mut families) = (BTreeSet::new(), BTreeSet::new());
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap();
                assert!(families.insert(family), "{family} stands twice");
            } else if !line.starts_with("# TYPE ") {
                let series = line.rsplit_once(' ').unwrap().0;
                assert!(series.split('{').next() == Some(family) && seen.insert(series), "{line}");
            }
        }
        assert_eq!(seen.len(), Metric::ALL.len());
    }
}
