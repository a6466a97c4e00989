//! What clients say on its way into the log: cut, escaped, and without the token.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use http::Uri;
use tidings_protocol::event_id::Cursor;

/// Bytes of one client's string in the log.
pub(crate) const CLIENT_BYTES_MAX: usize = 200;

/// Path and query without their secrets.
///
/// A value is shown if its parameter is ours and it is what belongs there. Everything else may be a token: of a
/// parameter that is spelled wrong, of another system, or behind a `;` that we don't split at.
pub(crate) fn redacted(uri: &Uri) -> String {
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some(("resume", "wait") | ("checkpoints", "0" | "1")) => Cow::Borrowed(pair),
        Some(("last_event_id", cursor)) if Cursor::parse(cursor).is_ok() => Cow::Borrowed(pair),
        Some((name @ ("resume" | "checkpoints" | "last_event_id" | "session" | "token"), _)) => {
            Cow::Owned(format!("{name}=…"))
        }
        Some(_) | None => Cow::Borrowed("…"),
    });
    format!("{}?{}", uri.path(), pairs.collect::<Vec<_>>().join("&"))
}

/// A client's text, cut, and with everything escaped that could forge a line, turn one round or hide in it.
pub(crate) fn log_safe(text: &str, bytes_max: usize) -> impl fmt::Display + '_ {
    LogSafe { text, bytes_max }
}

struct LogSafe<'a> {
    text: &'a str,
    bytes_max: usize,
}

impl fmt::Display for LogSafe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, char) in self.text.char_indices() {
            if at + char.len_utf8() > self.bytes_max {
                return f.write_char('…');
            }
            if char.is_control() || misleads(char) {
                write!(f, "{}", char.escape_unicode())?;
            } else {
                f.write_char(char)?;
            }
        }
        Ok(())
    }
}

/// Line ends that are no controls, the marks that turn text round (Unicode's Bidi_Control), and what has no width.
fn misleads(char: char) -> bool {
    matches!(
        char,
        '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(
            log_safe("a\r\nb\u{202e}c\u{1b}[0m", 100).to_string(),
            "a\\u{d}\\u{a}b\\u{202e}c\\u{1b}[0m"
        );
        assert_eq!(log_safe("äää", 3).to_string(), "ä…");
        assert_eq!(log_safe("short", 5).to_string(), "short");
        assert_eq!(log_safe("\n\n\n", 2).to_string(), "\\u{a}\\u{a}…", "cut, though it has grown");
        for hidden in ["\u{61c}", "\u{200b}", "\u{200f}", "\u{2028}", "\u{2069}", "\u{feff}", "\u{85}"] {
            assert!(log_safe(hidden, 100).to_string().starts_with("\\u{"), "{}", hidden.escape_unicode());
        }
    }

    #[test]
    fn what_helps_is_shown() {
        let shown = |target: &str| redacted(&target.parse().unwrap());
        assert_eq!(
            shown("/ws?resume=wait&checkpoints=1&last_event_id=a@k3f9a1qz.1,b@k3f9a1qz.2&token=x.y.z"),
            "/ws?resume=wait&checkpoints=1&last_event_id=a@k3f9a1qz.1,b@k3f9a1qz.2&token=…"
        );
        assert_eq!(shown("/ws?resume=x.y.z&session=s&my=own"), "/ws?resume=…&session=…&…");
        assert_eq!((shown("/ws"), shown("/ws?")), ("/ws".to_owned(), "/ws?…".to_owned()));
    }

    proptest! {
        #[test]
        fn a_secret_is_in_no_log(
            before in "[a-z=&;%+]{0,10}",
            name in prop::sample::select(vec![
                "token", "TOKEN", "%74oken", "tok%65n", "access_token", "jwt", "resume", "checkpoints", "session", "last_event_id",
                "last_event_id=a@k3f9a1qz.1;token", "",
            ]),
            between in prop::sample::select(vec!["=", "==", "=.", "=,", "", "%3D", ";"]),
            after in "[;,.](&[a-z]{1,5}=[a-z]{0,5}){0,3}",
        ) {
            let target = format!("/ws?{before}&{name}{between}canary{after}");
            let uri: Uri = target.parse().unwrap();
            prop_assert!(!redacted(&uri).contains("canary"), "{}", redacted(&uri));
        }
    }
}
