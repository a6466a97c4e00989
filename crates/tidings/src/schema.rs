//! What an event's data has to look like: JSON Schemas, compiled once, and the place where data does not fit.
//!
//! A schema is complete in itself: nothing that it names is ever fetched. Its patterns take time linear in the text, so
//! that no data makes a shard wait. A fault tells the place, and repeats little of what it was given.

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ReferencingError, Retrieve, Uri, ValidationError, Validator};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use tidings_protocol::error::{ErrorCode, Refusal};
use tidings_protocol::limits::{SCHEMA_FAULT_BYTES_MAX, SCHEMA_POINTER_BYTES_MAX};

/// A JSON Schema, compiled: what the data of an event is checked against.
///
/// Draft 2020-12, unless `$schema` names an older one. `format` is asserted and not only noted. What `$ref` names has to
/// be in the schema itself, and a `pattern` may not look around or refer back.
///
/// ```
/// use serde_json::{json, value::to_raw_value};
/// use tidings::Schema;
///
/// let schema = Schema::new(&json!({"type": "object", "properties": {"content": {"type": "string"}}}))?;
/// let refusal = schema.check(&to_raw_value(&json!({"content": 1}))?).unwrap_err();
/// assert_eq!(refusal.pointer.as_deref(), Some("/content"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Schema(Validator);

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// When it is no JSON Schema, or asks for what is refused above; with the place.
    pub fn new(schema: &Value) -> Result<Self, InvalidSchema> {
        let options = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .with_retriever(Nowhere)
            .should_validate_formats(true);
        options.build(schema).map(Self).map_err(|fault| InvalidSchema::new(&fault))
    }

    /// Whether data fits.
    ///
    /// # Errors
    /// `schema` for the first fault, with a sentence and the JSON pointer (RFC 6901) of its place in the data.
    pub fn check(&self, data: &RawValue) -> Result<(), Refusal> {
        let value = match serde_json::from_str::<Unambiguous>(data.get()) {
            Ok(Unambiguous(value)) => value,
            // Read again to learn the place, which costs more than reading.
            Err(_) => decode::<Unambiguous>(data)?.0,
        };
        self.0.validate(&value).map_err(|error| {
            let sentence = error.masked_with("this value").to_string();
            fault(error.instance_path().as_str().to_owned(), sentence)
        })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

/// Why a JSON document is no schema that can be used, and the JSON pointer of the place in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidSchema {
    pointer: String,
    message: String,
}

impl InvalidSchema {
    fn new(fault: &ValidationError<'_>) -> Self {
        match fault.kind() {
            // A pattern is compiled after all else is checked, when the schema is no longer what is looked at.
            ValidationErrorKind::Format { format } if format == "regex" => {
                let place = match fault.instance_path().as_str() {
                    "" => fault.schema_path().as_str(),
                    place => place,
                };
                let message = "a pattern is a regular expression that neither looks around nor refers back";
                Self { pointer: place.to_owned(), message: message.to_owned() }
            }
            ValidationErrorKind::Referencing(ReferencingError::Unretrievable { uri, .. }) => {
                let message =
                    format!("{uri} is not in the schema, and nothing is fetched for one: put it under $defs");
                Self { pointer: String::new(), message }
            }
            _ => Self { pointer: fault.instance_path().as_str().to_owned(), message: fault.to_string() },
        }
    }

    /// The place in the schema, as a JSON pointer; empty for the whole.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }
}

impl fmt::Display for InvalidSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "at {}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidSchema {}

/// Where a schema's references outside itself lead, whatever the features with which the validator was built.
struct Nowhere;

impl Retrieve for Nowhere {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("nothing is fetched for a schema".into())
    }
}

/// Data in which no object has a name twice: what was checked is what every receiver reads, whichever of two it takes.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unambiguous(value))) = fields.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name:?} stands there twice")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

/// Data as the type that a handler takes, which is a schema too.
pub(crate) fn decode<T: DeserializeOwned>(data: &RawValue) -> Result<T, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_str(data.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = error.path().iter().fold(String::new(), |pointer, segment| match segment {
            Segment::Seq { index } => format!("{pointer}/{index}"),
            Segment::Map { key } => format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")),
            Segment::Enum { variant } => format!("{pointer}/{variant}"),
            Segment::Unknown => pointer,
        });
        fault(pointer, error.inner().to_string())
    })
}

/// A refusal that is short, whatever the data: both the sentence and the pointer may repeat names of the client's.
fn fault(mut pointer: String, mut sentence: String) -> Refusal {
    while pointer.len() > SCHEMA_POINTER_BYTES_MAX {
        // The place around it, which is a place as well.
        pointer.truncate(pointer.rfind('/').unwrap_or(0));
    }
    if sentence.len() > SCHEMA_FAULT_BYTES_MAX {
        sentence.truncate(sentence.floor_char_boundary(SCHEMA_FAULT_BYTES_MAX - '…'.len_utf8()));
        sentence.push('…');
    }
    Refusal::new(ErrorCode::Schema, sentence).pointer(pointer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(schema: &Value, data: &str) -> (String, String) {
        let data = RawValue::from_string(data.to_owned()).unwrap();
        let refusal = Schema::new(schema).unwrap().check(&data).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Schema);
        (refusal.pointer.unwrap(), refusal.message)
    }

    fn fits(schema: &Value, data: &str) -> bool {
        Schema::new(schema).unwrap().check(&RawValue::from_string(data.to_owned()).unwrap()).is_ok()
    }

    #[test]
    fn a_fault_names_its_place_in_the_data() {
        let schema = json!({
            "type": "object",
            "required": ["content"],
            "properties": {
                "content": {"type": "string", "maxLength": 5},
                "a/b~c": {"type": "object", "properties": {"n": {"type": "integer"}}},
                "lines": {"type": "array", "items": {
                    "type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false
                }},
            },
        });
        assert!(fits(&schema, r#"{"content":"Hello","lines":[{"n":1},{}],"more":null}"#));
        for (data, pointer, said) in [
            ("[]", "", "object"),
            ("{}", "", "content"),
            (r#"{"content":"too long"}"#, "/content", "longer than 5"),
            (r#"{"content":"","lines":[{},{"n":"1"}]}"#, "/lines/1/n", "integer"),
            (r#"{"content":"","lines":[{},{"n":1,"m":2}]}"#, "/lines/1", "'m'"),
            (r#"{"content":"","a/b~c":{"n":"1"}}"#, "/a~1b~0c/n", "integer"),
        ] {
            let (place, sentence) = refused(&schema, data);
            assert_eq!(place, pointer, "{data}: {sentence}");
            assert!(sentence.contains(said), "{data}: {sentence}");
        }
    }

    #[test]
    fn a_type_is_a_schema_too() {
        #[derive(Deserialize, Debug)]
        #[expect(dead_code, reason = "read by the derived Debug only")]
        struct Edit {
            lines: Vec<Line>,
        }
        #[derive(Deserialize, Debug)]
        #[expect(dead_code, reason = "read by the derived Debug only")]
        struct Line {
            #[serde(rename = "a/b~c")]
            number: u32,
        }
        let data = RawValue::from_string(r#"{"lines":[{"a/b~c":1},{"a/b~c":"x"}]}"#.into()).unwrap();
        let refusal = decode::<Edit>(&data).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Schema);
        assert_eq!(refusal.pointer.as_deref(), Some("/lines/1/a~1b~0c"));
        assert!(refusal.message.contains("expected u32"), "{refusal}");
    }

    #[test]
    fn the_value_itself_is_not_repeated() {
        let schema = json!({"properties": {"password": {"type": "integer"}, "mail": {"format": "email"}}});
        for data in [r#"{"password":"hunter2"}"#, r#"{"mail":"hunter2"}"#] {
            let (_, sentence) = refused(&schema, data);
            assert!(!sentence.contains("hunter2"), "{sentence}");
        }
    }

    #[test]
    fn a_fault_is_short_whatever_the_data() {
        let long = "ü/".repeat(1000);
        let deep = json!({"additionalProperties": {"additionalProperties": {"additionalProperties": false}}});
        let (pointer, sentence) = refused(&deep, &json!({"a": {"b": {&long: 1}}}).to_string());
        assert!(pointer.is_empty() || pointer.starts_with("/a/b"), "{pointer}");
        assert!(sentence.len() <= SCHEMA_FAULT_BYTES_MAX, "{sentence}");
        let nested = json!({"properties": {"a": {"additionalProperties": {"type": "integer"}}}});
        let (pointer, _) = refused(&nested, &json!({"a": {&long: "1"}}).to_string());
        assert_eq!(pointer, "/a", "the nearest place with a short name");
        let data = RawValue::from_string(format!("{long:?}")).unwrap();
        let refusal = decode::<u32>(&data).unwrap_err();
        assert!(
            refusal.message.len() <= SCHEMA_FAULT_BYTES_MAX && refusal.message.ends_with('…'),
            "{refusal}"
        );
    }

    #[test]
    fn what_was_checked_is_what_every_receiver_reads() {
        let schema = json!({"properties": {"a": {"properties": {"n": {"type": "integer"}}}}});
        for twice in [r#"{"a":{"n":"x","n":1}}"#, r#"{"a":{"n":1,"\u006e":"x"}}"#] {
            let (pointer, sentence) = refused(&schema, twice);
            assert!(
                pointer.starts_with("/a") && sentence.contains(r#""n" stands there twice"#),
                "{sentence}"
            );
        }
        // What the envelope lets through and no number or text can hold.
        assert_eq!(refused(&schema, r#"{"a":{"m":[1e999]}}"#).0, "/a/m/0");
        assert!(!fits(&schema, r#"{"b":"\ud800"}"#));
    }

    #[test]
    fn nothing_is_fetched_for_a_schema() {
        for reference in
            ["https://example.com/message.json", "http://127.0.0.1:1/x", "file:///etc/hostname", "other.json"]
        {
            let fault =
                Schema::new(&json!({"properties": {"a": {"$ref": reference}}})).unwrap_err().to_string();
            assert!(fault.contains("$defs") && fault.contains(reference), "{fault}");
        }
        let own =
            json!({"$defs": {"name": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/name"}}});
        assert_eq!(refused(&own, r#"{"a":1}"#).0, "/a");
        assert!(Schema::new(&json!({"$ref": "#/$defs/none"})).is_err());
    }

    #[test]
    fn a_pattern_that_could_backtrack_takes_no_longer_and_what_needs_it_is_refused() {
        let schema = json!({"pattern": "^(a+)+$", "patternProperties": {"^(x*)*y$": false}});
        let begun = std::time::Instant::now();
        assert!(fits(&schema, &json!("a".repeat(60_000)).to_string()));
        assert_eq!(refused(&schema, &json!(format!("{}b", "a".repeat(60_000))).to_string()).0, "");
        assert!(fits(&schema, &json!({"x".repeat(60_000): 1}).to_string()));
        // With backtracking it is 2^60,000 steps.
        assert!(begun.elapsed().as_secs() < 20);
        for (pattern, place) in [("(?=a)b", "/properties/a/pattern"), ("(a)\\1", "/properties/a/pattern")] {
            let fault = Schema::new(&json!({"properties": {"a": {"pattern": pattern}}})).unwrap_err();
            assert_eq!(fault.pointer(), place, "{fault}");
            assert!(fault.to_string().contains("looks around"), "{fault}");
        }
    }

    #[test]
    fn what_is_no_schema_is_told_with_its_place() {
        let fault = Schema::new(&json!({"properties": {"a": {"type": "strin"}}})).unwrap_err();
        assert_eq!(fault.pointer(), "/properties/a/type", "{fault}");
        assert!(Schema::new(&json!("string")).is_err());
        assert!(Schema::new(&json!({"$schema": "https://example.com/of-my-own"})).is_err());
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let tree = json!({"type": "object", "additionalProperties": {"$ref": "#"}});
        assert_eq!(refused(&tree, r#"{"a":{"b":{"c":1}}}"#).0, "/a/b/c");
        assert!(fits(&json!({"$ref": "#"}), "1"));
        let circle =
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
        assert!(Schema::new(&circle).is_err() || fits(&circle, "1"));
    }

    #[test]
    fn formats_are_asserted_and_older_drafts_understood() {
        assert!(!fits(&json!({"format": "uuid"}), r#""no""#));
        assert!(fits(&json!({"format": "uint32"}), "-1"), "one that is not known says nothing");
        let old =
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]});
        assert_eq!(refused(&old, "[1]").0, "/0");
    }
}
