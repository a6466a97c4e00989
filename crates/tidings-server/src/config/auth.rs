//! `[auth]`: whose tokens are believed. One key, several for a rotation, an issuer's key set, or all of these.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::auth::{AuthFuture, Authenticate, InvalidKey, Jwks, Jwt};

use crate::failure::Failure;

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    /// The secret itself, of at least 32 bytes. `secret_file` keeps it out of this file.
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    /// A public key as PEM, with the `algorithm` of its tokens.
    public_key_file: Option<PathBuf>,
    /// HS256 for a secret, if unset.
    algorithm: Option<Algorithm>,
    /// Where an issuer publishes its keys: `https://issuer.example/.well-known/jwks.json`.
    jwks_url: Option<String>,
    /// Keys that count as well: `[[auth.keys]]`.
    #[serde(default)]
    keys: Vec<NamedKey>,
    #[serde(default = "default_audience")]
    audience: String,
}

/// One `[[auth.keys]]`.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    /// The `kid` of its tokens. Without one, tokens of every `kid` are tried with it.
    id: Option<String>,
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    public_key_file: Option<PathBuf>,
    algorithm: Option<Algorithm>,
}

/// The `alg` of a key's tokens. A public key is for its whole family: one for RS256 verifies RS384 and RS512 too.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, Debug)]
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
    /// The secret that the backend signs tokens with, from which other keys come: that of `[auth]` itself, else the only one
    /// of `[[auth.keys]]`. None where tokens are signed with a private key.
    ///
    /// # Errors
    /// When its file can't be read.
    pub(super) fn shared_secret(&self, configuration: &Path) -> Result<Option<SecretString>, Failure> {
        let own = self.own_key(configuration);
        if let Some(secret) = own.shared_secret()? {
            return Ok(Some(secret));
        }
        let keys =
            self.keys.iter().enumerate().map(|(index, key)| key.source(configuration, index).shared_secret());
        let mut secrets: Vec<_> = keys.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(if secrets.len() == 1 { secrets.pop() } else { None })
    }

    fn own_key<'a>(&'a self, configuration: &'a Path) -> KeySource<'a> {
        KeySource {
            configuration,
            place: "[auth]".to_owned(),
            secret: self.secret.as_ref(),
            secret_file: self.secret_file.as_deref(),
            public_key_file: self.public_key_file.as_deref(),
            algorithm: self.algorithm,
        }
    }

    /// What verifies the tokens. Files are relative to the configuration's directory.
    pub(super) fn verifier(&self, configuration: &Path) -> Result<Verifier, Failure> {
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::config(format_args!("{}: [auth] {what}", configuration.display()))
        };
        let mut keys = Vec::new();
        let single = self.own_key(configuration);
        if single.is_there() {
            keys.push(single.jwt()?);
        }
        for (index, key) in self.keys.iter().enumerate() {
            let is_twice = key.id.is_some() && self.keys[..index].iter().any(|other| other.id == key.id);
            if is_twice {
                return Err(wrong(&format_args!(
                    "has two keys with the id {:?}",
                    key.id.as_deref().unwrap_or_default()
                ))
                .fix("give each the kid that its tokens have in their header"));
            }
            let jwt = key.source(configuration, index).jwt()?;
            keys.push(match &key.id {
                Some(id) => jwt.key_id(id),
                None => jwt,
            });
        }
        match (&self.jwks_url, keys.into_iter().reduce(Jwt::or)) {
            (None, Some(keys)) => Ok(Verifier::Keys(keys.audience(self.audience.as_str()))),
            (Some(url), keys) => {
                let set = Jwks::from_url(url).map_err(|error| {
                    wrong(&format_args!("jwks_url: {error}")).fix(
                        "name the address at which your issuer publishes its keys (jwks_uri in its metadata)",
                    )
                })?;
                let set = set.audience(self.audience.as_str());
                Ok(Verifier::KeySet(match keys {
                    Some(keys) => set.or(keys),
                    None => set,
                }))
            }
            (None, None) => {
                let fix = "openssl rand -hex 32 > tidings.secret, and secret_file = \"tidings.secret\"";
                Err(wrong(&"has no key: neither secret, secret_file nor public_key_file, no [[auth.keys]] and no jwks_url")
                    .fix(fix))
            }
        }
    }
}

impl NamedKey {
    fn source<'a>(&'a self, configuration: &'a Path, index: usize) -> KeySource<'a> {
        KeySource {
            configuration,
            place: match &self.id {
                Some(id) => format!("[[auth.keys]] {id:?}"),
                None => format!("[[auth.keys]] number {}", index + 1),
            },
            secret: self.secret.as_ref(),
            secret_file: self.secret_file.as_deref(),
            public_key_file: self.public_key_file.as_deref(),
            algorithm: self.algorithm,
        }
    }
}

/// One key as a file has it.
struct KeySource<'a> {
    configuration: &'a Path,
    /// Where it stands, for who has to mend it.
    place: String,
    secret: Option<&'a SecretString>,
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

    fn wrong(&self, what: impl std::fmt::Display) -> Failure {
        Failure::config(format_args!("{}: {} {what}", self.configuration.display(), self.place))
    }

    fn read(&self, key: &str, file: &Path) -> Result<SecretString, Failure> {
        let file = self.configuration.parent().unwrap_or(Path::new("")).join(file);
        std::fs::read_to_string(&file).map(SecretString::from).map_err(|error| {
            self.wrong(format_args!("{key} {}: {error}", file.display()))
                .fix("name a file that this user can read; the path is relative to the configuration")
        })
    }

    /// The secret of a file.
    fn read_secret(&self, file: &Path) -> Result<SecretString, Failure> {
        let secret = self.read("secret_file", file)?;
        // Editors and `openssl rand` end a file with a line break that no backend has in its copy.
        Ok(SecretString::from(secret.expose_secret().trim_end_matches(['\r', '\n'])))
    }

    /// The secret, if it is one that the backend has as well.
    fn shared_secret(&self) -> Result<Option<SecretString>, Failure> {
        match (self.secret, self.secret_file) {
            (Some(secret), _) => Ok(Some(secret.clone())),
            (None, Some(file)) => self.read_secret(file).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn jwt(&self) -> Result<Jwt, Failure> {
        let jwt = match (self.secret, self.secret_file, self.public_key_file) {
            (Some(secret), None, None) => self.shared(secret.expose_secret())?,
            (None, Some(file), None) => self.shared(self.read_secret(file)?.expose_secret())?,
            (None, None, Some(file)) => {
                let algorithm = self.algorithm.ok_or_else(|| {
                    self.wrong("has a public_key_file and no algorithm").fix(
                        "algorithm = \"ES256\", or RS256, PS256, ES384, EdDSA: as your tokens' header says",
                    )
                })?;
                let pem = self.read("public_key_file", file)?;
                algorithm.public(pem.expose_secret().as_bytes()).ok_or_else(|| {
                    self.wrong(format_args!("has a public_key_file, and {algorithm:?} signs with a secret"))
                        .fix("name the key with secret_file, or the algorithm that the public key is for")
                })?
            }
            (None, None, None) => {
                return Err(self
                    .wrong("has neither secret nor secret_file nor public_key_file")
                    .fix("name the key: secret_file = \"tidings.secret\""));
            }
            _ => {
                return Err(self
                    .wrong("has more than one of secret, secret_file and public_key_file")
                    .fix("keep one here, and give each other key a [[auth.keys]] of its own"));
            }
        };
        jwt.map_err(|error| self.wrong(error))
    }

    fn shared(&self, secret: &str) -> Result<Result<Jwt, InvalidKey>, Failure> {
        let algorithm = self.algorithm.unwrap_or(Algorithm::HS256);
        algorithm.shared(secret.as_bytes()).ok_or_else(|| {
            self.wrong(format_args!("has a secret, and {algorithm:?} signs with a private key"))
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
        toml::from_str::<Auth>(toml).unwrap().verifier(configuration)
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
