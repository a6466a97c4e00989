//! Reading one JSON object by named fields, without interpreting their values.
//!
//! Every value is kept as raw JSON and every fault is collected, so that a judgement comes after the whole object was
//! read: the `id` is found wherever it stands. serde_json checks the grammar; it skips values without recursion.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::invalid;
use crate::error::Refusal;

/// The fields of an object, in the order of the names that it was read by.
pub(super) struct Object<'a, const N: usize> {
    /// Each field's raw value; of duplicates the first.
    pub(super) values: [Option<&'a RawValue>; N],
    /// The first field that stands there twice.
    pub(super) duplicate: Option<&'static str>,
    /// The first field that has none of the names, shortened.
    pub(super) unknown: Option<String>,
}

/// Reads a text that is one JSON object and nothing else. Keys are compared after unescaping.
pub(super) fn read_object<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> Result<Object<'a, N>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let object = ObjectReader(names).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(object)
}

struct ObjectReader<'n, const N: usize>(&'n [&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for ObjectReader<'_, N> {
    type Value = Object<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for ObjectReader<'_, N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut object = Object { values: [None; N], duplicate: None, unknown: None };
        while let Some(key) = map.next_key_seed(KeyReader(self.0))? {
            let value: &'de RawValue = map.next_value()?;
            match key {
                Key::Named(index) if object.values[index].is_some() => {
                    object.duplicate.get_or_insert(self.0[index]);
                }
                Key::Named(index) => object.values[index] = Some(value),
                Key::Unknown(name) => {
                    object.unknown.get_or_insert(name);
                }
            }
        }
        Ok(object)
    }
}

enum Key {
    Named(usize),
    Unknown(String),
}

/// Characters of an unknown field's name that a refusal repeats.
const SHOWN_NAME_CHARS_MAX: usize = 40;

struct KeyReader<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for KeyReader<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyReader<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(match self.0.iter().position(|known| *known == name) {
            Some(index) => Key::Named(index),
            None => Key::Unknown(name.chars().take(SHOWN_NAME_CHARS_MAX).collect()),
        })
    }
}

/// The text of a JSON string; none for another type or for a lone surrogate. Borrowed unless it has escapes.
pub(super) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The refusal of a text that [`read_object`] could not read.
pub(super) fn not_an_object(fault: &serde_json::Error) -> Refusal {
    // Only a syntax error's text is short: the others repeat the value that they did not expect.
    if fault.is_data() {
        invalid("a message is one JSON object")
    } else {
        invalid(format!("a message is one JSON object: {fault}"))
    }
}

/// Whether valid JSON nests its arrays and objects at most `depth_max` deep. It iterates, because a frame of brackets
/// must not use up the stack.
pub(super) fn is_within_depth(json: &RawValue, depth_max: usize) -> bool {
    let bytes = json.get().as_bytes();
    // Counted without a branch a byte, which is all that most data cost.
    let openings = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if openings <= depth_max {
        return true;
    }
    let (mut depth, mut in_string, mut index) = (0, false, 0);
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'"' => in_string = !in_string,
            // What follows is part of the escape, a quotation mark too.
            b'\\' => index += 1,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return false;
                }
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        index += 1;
    }
    true
}

/// A binary frame's header and payload (PROTOCOL.md §4).
pub(super) fn split_binary(frame: &[u8]) -> Result<(&str, &[u8]), Refusal> {
    let (header, payload) = frame
        .split_first_chunk()
        .and_then(|(len, rest)| rest.split_at_checked(u16::from_be_bytes(*len).into()))
        .ok_or_else(|| {
            invalid("a binary frame is a header's length as two bytes, the header, the payload")
        })?;
    let header =
        simdutf8::basic::from_utf8(header).map_err(|_| invalid("a binary frame's header is UTF-8"))?;
    Ok((header, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> &RawValue {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn keys_are_compared_after_unescaping_and_the_first_value_stays() {
        let object = read_object(r#"{"\u0061":1,"a":2,"x":3,"y":4}"#, &["a", "b"]).unwrap();
        assert_eq!(object.values.map(|value| value.map(RawValue::get)), [Some("1"), None]);
        assert_eq!((object.duplicate, object.unknown.as_deref()), (Some("a"), Some("x")));
    }

    #[test]
    fn a_long_unknown_name_is_shortened_between_characters() {
        let text = format!(r#"{{"{}":1}}"#, "é".repeat(1000));
        assert_eq!(read_object(&text, &["a"]).unwrap().unknown, Some("é".repeat(40)));
    }

    #[test]
    fn strings_are_borrowed_unless_escaped() {
        assert!(matches!(string(raw(r#""abc""#)), Some(Cow::Borrowed("abc"))));
        assert_eq!(string(raw(r#""a\u00e9\ud83d\ude00\"""#)).as_deref(), Some("aé😀\""));
        for not_text in ["1", "null", "{}", r#""\ud800""#, r#""\udc00\ud800""#] {
            assert_eq!(string(raw(not_text)), None, "{not_text}");
        }
    }

    #[test]
    fn depth_counts_open_brackets_outside_strings() {
        let nested = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
        for (inner, deepest) in
            [("", 32), (r#""[[\"[{""#, 32), (r#"{"a":[]},{"b":[]}"#, 30), (r#"{"\\":"\\"},[],[]"#, 31)]
        {
            assert!(is_within_depth(raw(&nested(deepest, inner)), 32), "{inner}");
            assert!(!is_within_depth(raw(&nested(deepest + 1, inner)), 32), "{inner}");
        }
        let wide = format!("[{}[]]", "[],{},".repeat(1000));
        assert!(is_within_depth(raw(&wide), 2));
        assert!(!is_within_depth(raw(&wide), 1));
    }

    #[test]
    fn a_binary_frame_is_split_where_its_length_says() {
        assert_eq!(split_binary(b"\0\x02{}payload"), Ok(("{}", &b"payload"[..])));
        assert_eq!(split_binary(b"\0\x02{}"), Ok(("{}", &b""[..])));
        for bad in [&b""[..], b"\0", b"\0\x03{}", b"\xff\xff", b"\0\x02\xff\xff"] {
            assert!(split_binary(bad).is_err(), "{bad:?}");
        }
    }
}
