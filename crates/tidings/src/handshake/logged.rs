//! A client's strings on their way into the log: cut, escaped, and without the token.

use http::Uri;

/// Path and query with the token's value replaced.
pub(crate) fn redacted(uri: &Uri) -> String {
    let Some(query) = uri.query() else { return uri.path().to_owned() };
    let pairs = query.split('&').map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        // The name may be escaped itself, and whatever decodes to `token` is one.
        let is_token =
            form_urlencoded::parse(name.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case("token"));
        if is_token { format!("{name}=…") } else { pair.to_owned() }
    });
    format!("{}?{}", uri.path(), pairs.collect::<Vec<_>>().join("&"))
}

/// A client's text, cut, and with everything escaped that could forge a line or turn one round.
pub(crate) fn log_safe(text: &str, bytes_max: usize) -> String {
    let cut =
        text.char_indices().take_while(|(at, char)| at + char.len_utf8() <= bytes_max).map(|(_, char)| char);
    let mut safe = String::new();
    for char in cut {
        let turns =
            matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || turns || matches!(char, '\u{2028}' | '\u{2029}') {
            safe.extend(char.escape_unicode());
        } else {
            safe.push(char);
        }
    }
    if safe.len() < text.len() && text.len() > bytes_max {
        safe.push('…');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(log_safe("a\r\nb\u{202e}c\u{1b}[0m", 100), "a\\u{d}\\u{a}b\\u{202e}c\\u{1b}[0m");
        assert_eq!(log_safe("äää", 3), "ä…");
        assert_eq!(log_safe("short", 5), "short");
    }

    proptest! {
        #[test]
        fn a_token_is_in_no_log(before in "[a-z=&]{0,10}", after in "(&[a-z]{1,5}=[a-z]{0,5}){0,3}", name in prop::sample::select(vec!["token", "TOKEN", "%74oken", "tok%65n"])) {
            let uri: Uri = format!("/ws?{before}&{name}=canary{after}").parse().unwrap();
            prop_assert!(!redacted(&uri).contains("canary"), "{}", redacted(&uri));
        }
    }
}
