//! `[auth]`: whose tokens are believed. One key, several for a rotation, an issuer's key set, or all of these.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::auth::{AuthFuture, Authenticate, InvalidKey, Jwks, Jwt};

use super::files::Files;
use super::secret::Secret;
use crate::failure::{Failure, Failures};

/// Whose tokens are believed: one key, several for a rotation, an issuer's key set, or all of these.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    /// The secret that tokens are signed with, of at least 32 bytes. `secret_file` keeps it out of this file.
    secret: Option<Secret>,
    /// A file with the secret.
    #[schemars(extend("examples" = ["tidings.secret"]))]
    secret_file: Option<PathBuf>,
    /// A file with a public key as PEM, with the `algorithm` of its tokens.
    #[schemars(extend("examples" = ["issuer.pem"]))]
    public_key_file: Option<PathBuf>,
    /// The `alg` of the tokens. HS256 for a secret, if unset. A public key is for its whole family: one for RS256 verifies
    /// RS384 and RS512 too.
    algorithm: Option<Algorithm>,
    /// Where an issuer publishes its keys.
    #[schemars(extend("examples" = ["https://issuer.example/.well-known/jwks.json"]))]
    jwks_url: Option<String>,
    /// Keys that count as well, for a rotation.
    #[serde(default)]
    keys: Vec<NamedKey>,
    /// For whom tokens have to be: their `aud`.
    #[serde(default = "default_audience")]
    audience: String,
}

/// One of several keys.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    /// The `kid` of its tokens. Without one, tokens of every `kid` are tried with it.
    #[schemars(extend("examples" = ["2026-11"]))]
    id: Option<String>,
    /// The secret that tokens are signed with, of at least 32 bytes.
    secret: Option<Secret>,
    /// A file with the secret.
    #[schemars(extend("examples" = ["tidings.secret"]))]
    secret_file: Option<PathBuf>,
    /// A file with a public key as PEM, with the `algorithm` of its tokens.
    #[schemars(extend("examples" = ["issuer.pem"]))]
    public_key_file: Option<PathBuf>,
    /// The `alg` of its tokens. HS256 for a secret, if unset.
    algorithm: Option<Algorithm>,
}

/// The `alg` of a key's tokens.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, Debug)]
enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

fn default_audience() -> String {
    "tidings".to_owned()
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            secret: None,
            secret_file: None,
            public_key_file: None,
            algorithm: None,
            jwks_url: None,
            keys: Vec::new(),
            audience: default_audience(),
        }
    }
}

/// What verifies the tokens.
#[derive(Debug)]
pub(crate) enum Verifier {
    /// Keys of the configuration alone.
    Keys(Jwt),
    /// An issuer's key set, and those beside it.
    KeySet(Jwks),
}

impl Authenticate for Verifier {
    fn authenticate<'a>(&'a self, token: &'a str, now_unix_s: u64) -> AuthFuture<'a> {
        match self {
            Self::Keys(keys) => keys.authenticate(token, now_unix_s),
            Self::KeySet(set) => set.authenticate(token, now_unix_s),
        }
    }
}

impl Auth {
    /// What a token's `aud` has to be.
    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    /// The secret that signs the tokens: that of `[auth]` itself, else the only one of `[[auth.keys]]`.
    ///
    /// # Errors
    /// When its file can't be read.
    pub(super) fn shared_secret(&self, files: &Files) -> Result<Option<SecretString>, Failure> {
        let own = (self.secret.as_ref(), self.secret_file.as_deref(), "auth.secret_file".to_owned());
        let others = self.keys.iter().enumerate().map(|(index, key)| {
            (key.secret.as_ref(), key.secret_file.as_deref(), format!("auth.keys[{index}].secret_file"))
        });
        let mut others = others.filter(|(secret, file, _)| secret.is_some() || file.is_some());
        let (secret, file, key) = match (&own, others.next(), others.next()) {
            ((None, None, _), Some(only), None) => only,
            _ => own,
        };
        match (secret, file) {
            (Some(secret), None) => Ok(Some(SecretString::clone(secret))),
            (None, Some(file)) => files.read_secret(&key, file).map(Some),
            _ => Ok(None),
        }
    }

    /// What verifies the tokens.
    ///
    /// # Errors
    /// Each key that is none, or that there is none at all.
    pub(super) fn verifier(&self, files: &Files) -> Result<Verifier, Failure> {
        let mut failures = Failures::default();
        let mut keys = Vec::new();
        let single = KeySource {
            files,
            place: "[auth]".to_owned(),
            path: "auth".to_owned(),
            secret: self.secret.as_ref(),
            secret_file: self.secret_file.as_deref(),
            public_key_file: self.public_key_file.as_deref(),
            algorithm: self.algorithm,
        };
        if single.is_there() {
            keys.extend(failures.take(single.jwt()));
        }
        for (index, key) in self.keys.iter().enumerate() {
            let is_twice = key.id.is_some() && self.keys[..index].iter().any(|other| other.id == key.id);
            if is_twice {
                let id = key.id.as_deref().unwrap_or_default();
                failures.add(
                    Failure::config(format_args!("[auth] has two keys with the id {id:?}"))
                        .key(format_args!("auth.keys[{index}].id"))
                        .fix("give each the kid that its tokens have in their header"),
                );
            }
            let jwt = failures.take(key.source(files, index).jwt());
            keys.extend(jwt.map(|jwt| match &key.id {
                Some(id) => jwt.key_id(id),
                None => jwt,
            }));
        }
        let set = self.jwks_url.as_ref().map(|url| {
            Jwks::from_url(url).map_err(|error| {
                Failure::config(format_args!("[auth] jwks_url: {error}")).key("auth.jwks_url").fix(
                    "name the address at which your issuer publishes its keys (jwks_uri in its metadata)",
                )
            })
        });
        let set = set.and_then(|set| failures.take(set));
        failures.none()?;
        let audience = self.audience.as_str();
        match (set, keys.into_iter().reduce(Jwt::or)) {
            (None, Some(keys)) => Ok(Verifier::Keys(keys.audience(audience))),
            (Some(set), keys) => {
                let set = set.audience(audience);
                Ok(Verifier::KeySet(match keys {
                    Some(keys) => set.or(keys),
                    None => set,
                }))
            }
            (None, None) => Err(Failure::config(
                "[auth] has no key: neither secret, secret_file nor public_key_file, no [[auth.keys]] and no jwks_url",
            )
            .key("auth")
            .fix("openssl rand -hex 32 > tidings.secret, and secret_file = \"tidings.secret\"")),
        }
    }
}

impl NamedKey {
    fn source<'a>(&'a self, files: &'a Files, index: usize) -> KeySource<'a> {
        KeySource {
            files,
            place: match &self.id {
                Some(id) => format!("[[auth.keys]] {id:?}"),
                None => format!("[[auth.keys]] number {}", index + 1),
            },
            path: format!("auth.keys[{index}]"),
            secret: self.secret.as_ref(),
            secret_file: self.secret_file.as_deref(),
            public_key_file: self.public_key_file.as_deref(),
            algorithm: self.algorithm,
        }
    }
}

/// One key as a file has it.
struct KeySource<'a> {
    files: &'a Files,
    /// What it is called, for who has to mend it.
    place: String,
    /// Where it stands: `auth`, `auth.keys[0]`.
    path: String,
    secret: Option<&'a Secret>,
    secret_file: Option<&'a Path>,
    public_key_file: Option<&'a Path>,
    algorithm: Option<Algorithm>,
}

impl KeySource<'_> {
    fn is_there(&self) -> bool {
        let sources = [self.secret.is_some(), self.secret_file.is_some(), self.public_key_file.is_some()];
        // An algorithm alone is a key that somebody forgot.
        sources.contains(&true) || self.algorithm.is_some()
    }

    /// A failure of the key `name` of it; of the whole, if that is empty.
    fn wrong(&self, name: &str, what: impl Display) -> Failure {
        Failure::config(format_args!("{} {what}", self.place)).key(self.path_of(name))
    }

    fn path_of(&self, name: &str) -> String {
        if name.is_empty() { self.path.clone() } else { format!("{}.{name}", self.path) }
    }

    fn jwt(&self) -> Result<Jwt, Failure> {
        let (name, jwt) = match (self.secret, self.secret_file, self.public_key_file) {
            (Some(secret), None, None) => ("secret", self.shared(secret)?),
            (None, Some(file), None) => {
                let secret = self.files.read_secret(&self.path_of("secret_file"), file)?;
                ("secret_file", self.shared(&secret)?)
            }
            (None, None, Some(file)) => {
                let algorithm = self.algorithm.ok_or_else(|| {
                    self.wrong("public_key_file", "has a public_key_file and no algorithm").fix(
                        "algorithm = \"ES256\", or RS256, PS256, ES384, EdDSA: as your tokens' header says",
                    )
                })?;
                let pem = self.files.read(&self.path_of("public_key_file"), file)?;
                let public = algorithm.public(&pem).ok_or_else(|| {
                    let what = format!("has a public_key_file, and {algorithm:?} signs with a secret");
                    self.wrong("algorithm", what)
                        .fix("name the key with secret_file, or the algorithm that the public key is for")
                })?;
                ("public_key_file", public)
            }
            (None, None, None) => {
                return Err(self
                    .wrong("", "has neither secret nor secret_file nor public_key_file")
                    .fix("name the key: secret_file = \"tidings.secret\""));
            }
            (secret, _, _) => {
                // The one that stands where it might be seen is the one to go.
                let name = if secret.is_some() { "secret" } else { "public_key_file" };
                return Err(self
                    .wrong(name, "has more than one of secret, secret_file and public_key_file")
                    .fix("keep one here, and give each other key a [[auth.keys]] of its own"));
            }
        };
        jwt.map_err(|error| {
            let failure = self.wrong(name, error);
            if name == "public_key_file" {
                failure.fix("name a file with a public key as PEM, of the kind that algorithm says")
            } else {
                failure.fix("openssl rand -hex 32 makes a secret that is long enough")
            }
        })
    }

    fn shared(&self, secret: &SecretString) -> Result<Result<Jwt, InvalidKey>, Failure> {
        let algorithm = self.algorithm.unwrap_or(Algorithm::HS256);
        algorithm.shared(secret.expose_secret().as_bytes()).ok_or_else(|| {
            self.wrong("algorithm", format_args!("has a secret, and {algorithm:?} signs with a private key"))
                .fix("name its public half with public_key_file, or remove algorithm: then it is HS256")
        })
    }
}

impl Algorithm {
    /// A verifier with a shared secret; none if the algorithm has no such thing.
    fn shared(self, secret: &[u8]) -> Option<Result<Jwt, InvalidKey>> {
        match self {
            Self::HS256 => Some(Jwt::hs256(secret)),
            Self::HS384 => Some(Jwt::hs384(secret)),
            Self::HS512 => Some(Jwt::hs512(secret)),
            _ => None,
        }
    }

    /// A verifier with a public key; none if the algorithm has no such thing.
    fn public(self, pem: &[u8]) -> Option<Result<Jwt, InvalidKey>> {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => None,
            Self::RS256 | Self::RS384 | Self::RS512 => Some(Jwt::rsa_pem(pem)),
            Self::PS256 | Self::PS384 | Self::PS512 => Some(Jwt::rsa_pss_pem(pem)),
            Self::ES256 => Some(Jwt::es256_pem(pem)),
            Self::ES384 => Some(Jwt::es384_pem(pem)),
            Self::EdDSA => Some(Jwt::eddsa_pem(pem)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OLD_SECRET: &str = "fedcba9876543210fedcba9876543210";

    fn verifier(toml: &str, configuration: &Path) -> Result<Verifier, Failure> {
        toml::from_str::<Auth>(toml).unwrap().verifier(&Files::of(Some(configuration), None))
    }

    fn jwt(toml: &str, configuration: &Path) -> Jwt {
        match verifier(toml, configuration).unwrap() {
            Verifier::Keys(jwt) => jwt,
            Verifier::KeySet(set) => panic!("no key set was meant: {set:?}"),
        }
    }

    fn token(secret: &str) -> String {
        let claims = serde_json::json!({"sub": "ada", "aud": "tidings", "exp": 100});
        tidings::auth::mint_hs256(secret.as_bytes(), &claims).unwrap()
    }

    #[test]
    fn a_key_has_one_source_and_an_algorithm_that_fits() {
        for (wrong, told) in [
            ("".to_owned(), "has no key"),
            ("secret = 'short'".to_owned(), "openssl rand"),
            (format!("secret = '{SECRET}'\nsecret_file = 'x'"), "[[auth.keys]] of its own"),
            (format!("secret = '{SECRET}'\npublic_key_file = 'x'"), "more than one"),
            (format!("secret = '{SECRET}'\nalgorithm = 'ES256'"), "ES256 signs with a private key"),
            ("public_key_file = 'x'".to_owned(), "no algorithm"),
            ("algorithm = 'ES256'".to_owned(), "name the key"),
            ("jwks_url = 'http://issuer.example/jwks.json'".to_owned(), "https alone"),
            ("[[keys]]\nid = 'a'".to_owned(), "[[auth.keys]] \"a\" has neither"),
            (format!("[[keys]]\nsecret = '{SECRET}'\n[[keys]]\nsecret = ''"), "[[auth.keys]] number 2"),
            (
                format!("[[keys]]\nid = 'a'\nsecret = '{SECRET}'\n[[keys]]\nid = 'a'\nsecret = '{SECRET}'"),
                "two keys with the id \"a\"",
            ),
        ] {
            let fault = format!("{:?}", verifier(&wrong, Path::new("tidings.toml")).unwrap_err());
            assert!(fault.replace('\\', "").contains(told), "{wrong}: {fault}");
        }
        for algorithm in ["HS256", "HS384", "HS512"] {
            jwt(&format!("secret = '{SECRET}'\nalgorithm = '{algorithm}'"), Path::new("tidings.toml"));
        }
    }

    #[test]
    fn several_keys_count_at_once() {
        let path = Path::new("tidings.toml");
        let keys = format!(
            "[[keys]]\nid = 'new'\nsecret = '{SECRET}'\n[[keys]]\nid = 'old'\nsecret = '{OLD_SECRET}'"
        );
        let rotating = jwt(&keys, path);
        assert!(
            rotating.verify(&token(SECRET), 50).is_ok() && rotating.verify(&token(OLD_SECRET), 50).is_ok()
        );
        let simple = jwt(&format!("secret = '{SECRET}'"), path);
        assert!(simple.verify(&token(SECRET), 50).is_ok() && simple.verify(&token(OLD_SECRET), 50).is_err());
        let both = jwt(&format!("secret = '{SECRET}'\n[[keys]]\nsecret = '{OLD_SECRET}'"), path);
        assert!(both.verify(&token(SECRET), 50).is_ok() && both.verify(&token(OLD_SECRET), 50).is_ok());
        let other = jwt(&format!("secret = '{SECRET}'\nalgorithm = 'HS512'"), path);
        assert!(other.verify(&token(SECRET), 50).is_err(), "a secret is for one algorithm");
    }

    #[tokio::test]
    async fn keys_count_beside_a_key_set() {
        // Nobody listens there, and a token of a key that is known asks nobody.
        let toml = format!("jwks_url = 'http://127.0.0.1:9/jwks.json'\n[[keys]]\nsecret = '{SECRET}'");
        let verifier = verifier(&toml, Path::new("tidings.toml")).unwrap();
        assert!(verifier.authenticate(&token(SECRET), 50).await.is_ok());
        assert!(verifier.authenticate(&token(OLD_SECRET), 50).await.unwrap_err().is_unavailable());
    }

    #[test]
    fn a_key_file_is_found_beside_the_configuration_and_loses_its_line_break() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("key"), format!("{SECRET}\n")).unwrap();
        // From RFC 7515's appendix A.3, as PEM.
        let public = "-----BEGIN PUBLIC KEY-----\n\
            MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7\n\
            6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==\n\
            -----END PUBLIC KEY-----\n";
        std::fs::write(directory.path().join("public.pem"), public).unwrap();
        let configuration = directory.path().join("tidings.toml");
        let secret = jwt("secret_file = 'key'", &configuration);
        assert!(secret.verify(&token(SECRET), 50).is_ok());
        let public = jwt("public_key_file = 'public.pem'\nalgorithm = 'ES256'", &configuration);
        assert!(public.verify(&token(SECRET), 50).is_err(), "a public key is no secret");
        for algorithm in ["RS512", "PS384", "EdDSA", "HS256"] {
            let toml = format!("public_key_file = 'public.pem'\nalgorithm = '{algorithm}'");
            assert!(verifier(&toml, &configuration).is_err(), "{algorithm}");
        }
    }
}
