//! Who a room's rule lets: one of three words, or what a claim of the token has to be.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use tidings::Access;

/// What may stand in a rule without a claim.
const WORDS: [&str; 4] = ["anyone", "members", "nobody", "webhook"];

/// `"anyone"`, `"members"`, `"nobody"`, `"webhook"` or `{ claim = "/role", equals = "admin" }`.
#[derive(Debug)]
pub(super) enum Who {
    Anyone,
    Members,
    Nobody,
    /// Whom the backend lets: it is asked.
    Webhook,
    Claim(Claim),
}

/// What a claim has to be, or to contain.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    /// Where the claim is in a token: a JSON pointer.
    #[schemars(extend("examples" = ["/role"]))]
    pub(super) claim: String,
    /// What it has to be, or to contain if it is a list.
    equals: Scalar,
}

/// What both TOML and a token can say.
#[derive(Debug)]
enum Scalar {
    Text(String),
    Number(i64),
    Truth(bool),
}

impl Who {
    /// The same for the library, which lets nobody where a webhook has to be asked.
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Anyone => Access::Anyone,
            Self::Members => Access::Members,
            Self::Nobody | Self::Webhook => Access::Nobody,
            Self::Claim(Claim { claim, equals }) => match equals {
                Scalar::Text(text) => Access::claim(claim, text.as_str()),
                Scalar::Number(number) => Access::claim(claim, *number),
                Scalar::Truth(truth) => Access::claim(claim, *truth),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Who {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhoVisitor;
        impl<'de> Visitor<'de> for WhoVisitor {
            type Value = Who;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    r#""anyone", "members", "nobody", "webhook" or { claim = "/role", equals = "admin" }"#,
                )
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<Who, E> {
                match word {
                    "anyone" => Ok(Who::Anyone),
                    "members" => Ok(Who::Members),
                    "nobody" => Ok(Who::Nobody),
                    "webhook" => Ok(Who::Webhook),
                    other => Err(E::unknown_variant(other, &WORDS)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Who, A::Error> {
                Claim::deserialize(MapAccessDeserializer::new(map)).map(Who::Claim)
            }
        }
        deserializer.deserialize_any(WhoVisitor)
    }
}

impl JsonSchema for Who {
    fn schema_name() -> Cow<'static, str> {
        "Who".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let claim = generator.subschema_for::<Claim>();
        json_schema!({"anyOf": [{"type": "string", "enum": WORDS}, claim]})
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer", "boolean"], "examples": ["admin"]})
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number, true or false")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_bool<E: Error>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar::Truth(truth))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Rule {
        join: Who,
    }

    fn access(join: &str) -> Result<Access, String> {
        let rule: Result<Rule, _> = toml::from_str(&format!("join = {join}"));
        rule.map(|rule| rule.join.access()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_word_or_a_claim() {
        for (join, expected) in [
            ("'anyone'", Access::Anyone),
            ("'members'", Access::Members),
            ("'nobody'", Access::Nobody),
            ("{ claim = '/role', equals = 'admin' }", Access::claim("/role", "admin")),
            ("{ claim = '/level', equals = 3 }", Access::claim("/level", 3)),
            ("{ claim = '/paid', equals = true }", Access::claim("/paid", true)),
        ] {
            assert_eq!(access(join), Ok(expected), "{join}");
        }
        for (join, told) in [
            ("'members '", "unknown variant"),
            ("7", "equals = \"admin\""),
            ("{ claim = '/role' }", "missing field `equals`"),
            ("{ claims = '/role', equals = 'admin' }", "unknown field `claims`"),
            ("{ claim = '/role', equals = ['admin'] }", "a text, a whole number, true or false"),
        ] {
            let fault = access(join).unwrap_err();
            assert!(fault.contains(told), "{join}: {fault}");
        }
    }
}
