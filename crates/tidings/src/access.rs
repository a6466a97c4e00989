//! Who a rule lets: by a word, by a claim of the token, or by a handler of the application's that is asked each time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use tidings_protocol::event_id::RoomId;

use crate::auth::Identity;

/// Who is let.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Access {
    /// Everyone who is connected.
    Anyone,
    /// Users whose token names the room in its `rooms` claim, or of whom the [`Memberships`](crate::Memberships) say so.
    Members,
    /// Nobody but the application itself.
    Nobody,
    /// Users whose token says so: see [`Access::claim`].
    Claim(ClaimRule),
}

/// What a claim of the token has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimRule {
    pointer: String,
    value: Value,
}

impl Access {
    /// Users whose claim at a JSON pointer (RFC 6901) equals `value` or, being a list, contains it.
    ///
    /// ```
    /// use tidings::{Access, RoomRules};
    /// let staff = RoomRules::new("staff").join(Access::claim("/role", "staff")).publish(Access::claim("/scopes", "write"));
    /// ```
    pub fn claim(pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Claim(ClaimRule { pointer: pointer.into(), value: value.into() })
    }

    /// The pointer of a claim's rule that can point to no claim.
    pub(crate) fn invalid_pointer(&self) -> Option<&str> {
        match self {
            Self::Claim(rule) if !is_pointer(&rule.pointer) => Some(&rule.pointer),
            _ => None,
        }
    }
}

impl ClaimRule {
    pub(crate) fn holds(&self, identity: &Identity) -> bool {
        let Ok(claims) = identity.claims::<Value>() else { return false };
        match claims.pointer(&self.pointer) {
            Some(claim) if *claim == self.value => true,
            Some(Value::Array(list)) => list.contains(&self.value),
            _ => false,
        }
    }
}

/// RFC 6901 §3, without the pointer to the whole: that is no claim.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1);
    text.starts_with('/') && escapes.into_iter().all(|rest| rest.starts_with(['0', '1']))
}

/// A handler that says who is let could not say it: the client gets `unavailable`.
#[derive(Debug)]
pub struct AccessError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for AccessError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl AccessError {
    /// The error's own words, for the log.
    pub fn message(&self) -> String {
        self.0.to_string()
    }
}

type AccessFuture = Pin<Box<dyn Future<Output = Result<bool, AccessError>> + Send>>;
pub(crate) type AccessFn = dyn Fn(Identity, RoomId) -> AccessFuture + Send + Sync;

/// What a room's rule has for joining, and for publishing.
#[derive(Clone)]
pub(crate) enum Gate {
    /// Known from the token, or by the memberships.
    Of(Access),
    /// The application is asked.
    Asks(Arc<AccessFn>),
}

impl Gate {
    pub(crate) fn asks<H, F>(handler: H) -> Self
    where
        H: Fn(Identity, RoomId) -> F + Send + Sync + 'static,
        F: Future<Output = Result<bool, AccessError>> + Send + 'static,
    {
        Self::Asks(Arc::new(move |identity, room| Box::pin(handler(identity, room))))
    }

    pub(crate) fn invalid_pointer(&self) -> Option<&str> {
        match self {
            Self::Of(access) => access.invalid_pointer(),
            Self::Asks(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserId;

    fn holds(pointer: &str, value: impl Into<Value>, claims: &str) -> bool {
        let identity = Identity::new(UserId::parse("ann").unwrap()).with_claims(claims);
        let Access::Claim(rule) = Access::claim(pointer, value) else { return false };
        rule.holds(&identity)
    }

    #[test]
    fn a_claim_equals_the_value_or_is_a_list_that_has_it() {
        assert!(holds("/role", "admin", r#"{"role":"admin"}"#));
        assert!(holds("/role", "admin", r#"{"role":["user","admin"]}"#));
        assert!(holds("/app/level", 3, r#"{"app":{"level":3}}"#));
        assert!(holds("/https:~1~1app.example~1paid", true, r#"{"https://app.example/paid":true}"#));
        for claims in [
            "{}",
            r#"{"role":"Admin"}"#,
            r#"{"role":"admins"}"#,
            r#"{"role":["user"]}"#,
            r#"{"role":[["admin"]]}"#,
            r#"{"role":{"admin":true}}"#,
            r#"{"role":null}"#,
            r#"{"/role":"admin"}"#,
        ] {
            assert!(!holds("/role", "admin", claims), "{claims}");
        }
        assert!(!holds("/app/level", "3", r#"{"app":{"level":3}}"#));
        assert!(!holds("/paid", true, r#"{"paid":"true"}"#));
    }

    #[test]
    fn a_pointer_that_is_none_is_told() {
        for good in ["/role", "/a/0", "/", "/a~1b~0c"] {
            assert_eq!(Access::claim(good, 1).invalid_pointer(), None, "{good}");
        }
        for bad in ["", "role", "#/role", "/a~", "/a~2", "/a~~0"] {
            assert_eq!(Access::claim(bad, 1).invalid_pointer(), Some(bad), "{bad}");
        }
    }
}
