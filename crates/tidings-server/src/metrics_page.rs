//! `/metrics`: the counts of the hub, and of webhooks, in Prometheus's text format. Never a user or a room as a label.

use std::fmt::{Display, Write as _};

use axum::http::header;
use axum::response::{IntoResponse, Response};
use tidings::{Hub, MetricsSnapshot, Number};

use crate::webhook::{self, Kind, Row};

/// The format's name, as Prometheus asks for it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number beside the hub's, without a label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Without `tidings_`, and without a counter's `_total`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) shape: Shape,
    pub(crate) value: u64,
}

/// Whether a number may fall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    Gauge,
    Counter,
}

/// The page as it is now, with what there is beside the hub.
pub(crate) fn answer(hub: &Hub, others: &[Sample], webhooks: Option<&webhook::Counts>) -> Response {
    let mut page = page(&hub.metrics(), others);
    if let Some(webhooks) = webhooks {
        add_webhooks(&mut page, webhooks);
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response()
}

fn page(metrics: &MetricsSnapshot, others: &[Sample]) -> String {
    let mut page = String::new();
    for Number { name, help, value, .. } in metrics.gauges() {
        family(&mut page, &format!("tidings_{name}"), "gauge", help, [("", value)]);
    }
    for Number { name, help, value, .. } in metrics.counters() {
        family(&mut page, &format!("tidings_{name}_total"), "counter", help, [("", value)]);
    }
    let hits = labelled("limit", &metrics.limit_hits);
    family(&mut page, "tidings_limit_hits_total", "counter", "Times that a limit was hit.", hits);
    let closes = labelled("code", metrics.closed.iter().map(|(code, count)| (code.0, count)));
    family(&mut page, "tidings_closes_total", "counter", "Ended connections by their close code.", closes);
    let refusals = labelled("code", &metrics.refused);
    let help = "Refused handshakes by the refusal's code.";
    family(&mut page, "tidings_handshake_refusals_total", "counter", help, refusals);
    for Sample { name, help, shape, value } in others {
        let (name, kind) = match shape {
            Shape::Gauge => (format!("tidings_{name}"), "gauge"),
            Shape::Counter => (format!("tidings_{name}_total"), "counter"),
        };
        family(&mut page, &name, kind, help, [("", *value)]);
    }
    page
}

fn add_webhooks(page: &mut String, webhooks: &webhook::Counts) {
    let [asked, told] = [&Kind::ASKED[..], &Kind::TOLD[..]].map(|kinds| webhooks.rows(kinds));
    for (name, help, rows, of) in [
        ("asked", "Questions to the backend.", &asked, Row::done as fn(&Row) -> &u64),
        ("asked_failures", "Questions that had no good answer.", &asked, Row::failed),
        ("told", "What the backend has taken of what it was told.", &told, Row::done),
        ("told_failures", "Attempts at telling the backend that it did not take.", &told, Row::failed),
    ] {
        let samples = labelled("type", rows.iter().map(|row| (row.kind, of(row))));
        family(page, &format!("tidings_webhook_{name}_total"), "counter", help, samples);
    }
    let help = "What was to be told and could not even be stored.";
    family(page, "tidings_webhook_refused_total", "counter", help, [("", webhooks.refused())]);
    for (name, help, value) in [
        ("waiting", "What waits in the outbox to be told.", webhooks.waiting()),
        ("outbox_bytes", "Bytes of the outbox, dead letters included.", webhooks.bytes()),
        ("dead", "Dead letters.", webhooks.dead()),
    ] {
        family(page, &format!("tidings_webhook_{name}"), "gauge", help, [("", value)]);
    }
}

/// Samples with a label. Its values are our own names and numbers, in which nothing has to be escaped.
fn labelled<'a, V: Display>(
    label: &str,
    samples: impl IntoIterator<Item = (V, &'a u64)>,
) -> impl Iterator<Item = (String, u64)> {
    samples.into_iter().map(move |(value, count)| (format!("{{{label}=\"{value}\"}}"), *count))
}

/// All samples of one name, under what they are. Writing to a string can't fail.
fn family<L: Display>(
    page: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    samples: impl IntoIterator<Item = (L, u64)>,
) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in samples {
        let _ = writeln!(page, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use tidings::protocol::close::CloseCode;

    use super::*;

    /// Reads the page as Prometheus does, and demands its rules of names: each sample by name and labels.
    fn parse(page: &str) -> HashMap<String, u64> {
        let is_name = |text: &str| {
            text.starts_with("tidings_") && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        };
        let (mut kinds, mut helped) = (HashMap::new(), HashSet::new());
        let mut samples = HashMap::new();
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').unwrap();
                assert!(is_name(name) && !text.is_empty() && helped.insert(name), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert!(helped.contains(name) && ["counter", "gauge"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(kinds.insert(name, kind).is_none(), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, "a=\"b\"}"));
                let label = labels.strip_suffix("\"}").unwrap();
                let (label, label_value) = label.split_once("=\"").unwrap();
                assert!(kinds.contains_key(name), "{line}");
                assert!(label.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
                assert!(!label_value.contains(['"', '\\', '\n']) && !label_value.is_empty(), "{line}");
                let value = value.parse().unwrap();
                assert!(samples.insert(series.to_owned(), value).is_none(), "{line}");
            }
        }
        assert_eq!(kinds.len(), helped.len());
        samples
    }

    #[test]
    fn each_line_is_well_formed_and_nothing_is_left_out() {
        let mut metrics = MetricsSnapshot::default();
        (metrics.connections, metrics.messages_sent, metrics.history_bytes) = (3, 1042, u64::MAX);
        metrics.limit_hits.insert("messages_per_second", 7);
        metrics.closed.insert(CloseCode::SLOW_CONSUMER, 2);
        metrics.refused.insert("token_expired", 1);
        let others = [
            Sample { name: "pool_idle", help: "Idle.", shape: Shape::Gauge, value: 5 },
            Sample { name: "queries", help: "Queries.", shape: Shape::Counter, value: 6 },
        ];
        let samples = parse(&page(&metrics, &others));
        for (series, value) in [
            ("tidings_connections", 3),
            ("tidings_messages_sent_total", 1042),
            ("tidings_history_bytes", u64::MAX),
            ("tidings_limit_hits_total{limit=\"messages_per_second\"}", 7),
            ("tidings_closes_total{code=\"4109\"}", 2),
            ("tidings_handshake_refusals_total{code=\"token_expired\"}", 1),
            ("tidings_pool_idle", 5),
            ("tidings_queries_total", 6),
        ] {
            assert_eq!(samples[series], value, "{series}");
        }
        assert_eq!(samples.len(), metrics.counters().len() + metrics.gauges().len() + 3 + others.len());
    }
}
