//! Whether the server's clock and this one agree: tokens are good by the clock of whoever looks.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::DATE;

use super::diagnosis::Diagnosis;

/// Less than the leeway that a server gives tokens, 30 s, and more than an answer takes.
const APART_MAX: Duration = Duration::from_secs(15);

pub(super) fn look(headers: &HeaderMap, diagnosis: &mut Diagnosis) {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let Some((text, there)) = date.and_then(|text| Some((text, httpdate::parse_http_date(text).ok()?)))
    else {
        return diagnosis.not_judged("clock_skew", "the server does not say what time it is (no Date)");
    };
    let here = SystemTime::now();
    let (apart, side) = match there.duration_since(here) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    if apart < APART_MAX {
        return diagnosis.fine("clock_skew", "the server's clock and this one agree");
    }
    diagnosis.found(
        "clock_skew",
        format!("the server's clock is {} s {side} this one", apart.as_secs()),
        format!("its Date is {text}, and here it is {}", httpdate::fmt_http_date(here)),
        "let both keep time by NTP (timedatectl set-ntp true); until then tokens seem to be past, or not yet good",
    );
}
