//! A JSON Web Key Set (RFC 7517): what reads one, and its keys: public ones that are meant for signatures, each bound to what it says.

use std::future::Future;
use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use tidings_protocol::limits::JWKS_KEYS_MAX;
use tracing::warn;

use super::keys::Key;

/// Bytes of an RSA modulus: 2,048–8,192 bits, as the verification takes them.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
/// Bytes of an RSA exponent.
const RSA_EXPONENT_BYTES: std::ops::RangeInclusive<usize> = 1..=4;

/// A boxed answer of [`FetchKeySet`].
pub type FetchFuture<'a> = Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + 'a>>;

/// Reads a JSON Web Key Set (RFC 7517) from where it is published.
///
/// With the feature `jwks`, `Jwks::from_url` has one; an application that has an HTTP client already gives its own.
pub trait FetchKeySet: Send + Sync + 'static {
    /// The set as JSON text. One at a time, and once in 30 s at most; it is given up after 3 s, and a text of more than
    /// 256 KiB counts as a failure.
    fn fetch(&self) -> FetchFuture<'_>;
}

/// The key set could not be read: the keys of before stay.
#[derive(Debug)]
pub struct FetchError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for FetchError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl FetchError {
    /// The error's own words, for the log.
    pub fn message(&self) -> String {
        let mut message = self.0.to_string();
        let mut source = self.0.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        message
    }
}

#[derive(Deserialize)]
struct KeySet<'a> {
    /// Each is read by itself: one that is new to us must not spoil the others (RFC 7517 §5).
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// The keys of a set that can be used here, in its order.
///
/// A set without one is a set too: whoever takes all keys back wants no token to pass.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Key>, serde_json::Error> {
    let set: KeySet<'_> = serde_json::from_slice(text)?;
    let mut keys = Vec::new();
    for jwk in &set.keys {
        let key = match serde_json::from_str::<Jwk>(jwk.get()) {
            Ok(jwk) => jwk.key(),
            Err(_) => Err("it is not a JSON Web Key"),
        };
        match key {
            Ok(_) if keys.len() == JWKS_KEYS_MAX => {
                warn!(max = JWKS_KEYS_MAX, "a key set has more keys than are kept: the others are left out");
                break;
            }
            Ok(key) => keys.push(key),
            Err(cause) => warn!(cause, "a key of a key set is left out"),
        }
    }
    if keys.is_empty() {
        warn!(
            keys = set.keys.len(),
            "a key set has no key that can be used: no token will be verified with it"
        );
    }
    Ok(keys)
}

impl Jwk {
    fn key(self) -> Result<Key, &'static str> {
        if self.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("it is not meant for signatures (use)");
        }
        if self.key_ops.as_ref().is_some_and(|operations| operations.iter().all(|one| one != "verify")) {
            return Err("it is not meant to verify with (key_ops)");
        }
        let (key, algorithms) = match self.kty.as_str() {
            "RSA" => (self.rsa()?, self.rsa_algorithms()?),
            "EC" => self.ec()?,
            "OKP" => self.ed25519()?,
            // A secret that is published is none; taken as one, it would let anyone sign.
            "oct" => return Err("it is a shared secret (oct) in a set of public keys"),
            _ => return Err("its type (kty) is not known here"),
        };
        let mut key = Key::new(key, algorithms);
        key.id = self.kid;
        Ok(key)
    }

    fn rsa(&self) -> Result<DecodingKey, &'static str> {
        let modulus = bytes(self.n.as_deref()).ok_or("its modulus (n) is none")?;
        let exponent = bytes(self.e.as_deref()).ok_or("its exponent (e) is none")?;
        if !RSA_MODULUS_BYTES.contains(&modulus.len()) || !RSA_EXPONENT_BYTES.contains(&exponent.len()) {
            return Err("it is an RSA key of another size than 2,048-8,192 bits");
        }
        Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
    }

    /// One padding only: a key that does not say is for the older one, as its issuers use it.
    fn rsa_algorithms(&self) -> Result<&'static [Algorithm], &'static str> {
        Ok(match self.alg.as_deref() {
            None => &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512],
            Some("RS256") => &[Algorithm::RS256],
            Some("RS384") => &[Algorithm::RS384],
            Some("RS512") => &[Algorithm::RS512],
            Some("PS256") => &[Algorithm::PS256],
            Some("PS384") => &[Algorithm::PS384],
            Some("PS512") => &[Algorithm::PS512],
            Some(_) => return Err("its algorithm (alg) is not one of RSA's that is known here"),
        })
    }

    fn ec(&self) -> Result<(DecodingKey, &'static [Algorithm]), &'static str> {
        let (algorithms, name, len): (&'static [Algorithm], _, _) = match self.crv.as_deref() {
            Some("P-256") => (&[Algorithm::ES256], "ES256", 32),
            Some("P-384") => (&[Algorithm::ES384], "ES384", 48),
            _ => return Err("its curve (crv) is neither P-256 nor P-384"),
        };
        if self.alg.as_deref().is_some_and(|alg| alg != name) {
            return Err("its algorithm (alg) is not its curve's");
        }
        let (x, y) = (bytes(self.x.as_deref()), bytes(self.y.as_deref()));
        let (Some(x), Some(y)) = (x.filter(|x| x.len() == len), y.filter(|y| y.len() == len)) else {
            return Err("its point (x, y) is none of its curve");
        };
        let point = [&[4][..], &x, &y].concat();
        Ok((DecodingKey::from_ec_der(&point), algorithms))
    }

    fn ed25519(&self) -> Result<(DecodingKey, &'static [Algorithm]), &'static str> {
        if self.crv.as_deref() != Some("Ed25519") {
            return Err("its curve (crv) is not Ed25519");
        }
        // RFC 9864 gives the algorithm the curve's name.
        if self.alg.as_deref().is_some_and(|alg| !["EdDSA", "Ed25519"].contains(&alg)) {
            return Err("its algorithm (alg) is not EdDSA");
        }
        let public = bytes(self.x.as_deref()).filter(|x| x.len() == 32).ok_or("its point (x) is none")?;
        Ok((DecodingKey::from_ed_der(&public), &[Algorithm::EdDSA]))
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    BASE64URL.decode(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_N: &str = "sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAYxknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2EaV7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw";
    const X32: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y32: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn algorithms(jwk: &str) -> Vec<Algorithm> {
        let keys = parse(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap();
        keys.iter().flat_map(|key| key.algorithms).copied().collect()
    }

    #[test]
    fn a_key_is_bound_to_what_it_says() {
        let rsa = |more: &str| algorithms(&format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB"{more}}}"#));
        assert_eq!(rsa(""), [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512]);
        assert_eq!(rsa(r#","alg":"PS384","use":"sig","key_ops":["verify"]"#), [Algorithm::PS384]);
        for more in [r#","use":"enc""#, r#","alg":"HS256""#, r#","alg":"ES256""#, r#","key_ops":["encrypt"]"#]
        {
            assert!(rsa(more).is_empty(), "{more}");
        }
        let ec = |more: &str| algorithms(&format!(r#"{{"kty":"EC","x":"{X32}","y":"{Y32}"{more}}}"#));
        assert_eq!(ec(r#","crv":"P-256""#), [Algorithm::ES256]);
        for more in ["", r#","crv":"P-384""#, r#","crv":"secp256k1""#, r#","crv":"P-256","alg":"ES384""#] {
            assert!(ec(more).is_empty(), "{more}");
        }
        let okp = |more: &str| algorithms(&format!(r#"{{"kty":"OKP","x":"{X32}"{more}}}"#));
        assert_eq!(okp(r#","crv":"Ed25519","alg":"EdDSA""#), [Algorithm::EdDSA]);
        assert!(okp(r#","crv":"X25519""#).is_empty() && okp(r#","crv":"Ed25519","alg":"ES256""#).is_empty());
    }

    #[test]
    fn a_shared_secret_is_no_public_key() {
        for alg in ["", r#","alg":"HS256""#] {
            assert!(algorithms(&format!(r#"{{"kty":"oct","k":"{RSA_N}","kid":"a"{alg}}}"#)).is_empty());
        }
    }

    #[test]
    fn a_key_that_is_none_does_not_spoil_the_others() {
        let good = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X32}"}}"#);
        for bad in ["7", "{}", r#"{"kty":"AKP"}"#, r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#, r#"{"kty":7}"#] {
            assert_eq!(algorithms(&format!("{bad},{good}")), [Algorithm::EdDSA], "{bad}");
        }
        for set in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert!(parse(set.as_bytes()).is_err(), "{set}");
        }
        assert!(parse(br#"{"keys":[]}"#).unwrap().is_empty());
        let many = vec![good; JWKS_KEYS_MAX + 1].join(",");
        assert_eq!(algorithms(&many).len(), JWKS_KEYS_MAX);
    }
}
