//! `[auth]`: whose tokens are believed. Exactly one key: a secret that is shared, or a public key.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tidings::auth::{InvalidKey, Jwt};

use crate::failure::Failure;

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    /// The secret itself, of at least 32 bytes. `secret_file` keeps it out of this file.
    secret: Option<SecretString>,
    secret_file: Option<PathBuf>,
    /// A public key as PEM, with the `algorithm` of its tokens.
    public_key_file: Option<PathBuf>,
    algorithm: Option<Algorithm>,
    #[serde(default = "default_audience")]
    audience: String,
}

/// What a public key is for.
#[derive(Clone, Copy, Deserialize, Debug)]
enum Algorithm {
    RS256,
    PS256,
    ES256,
    ES384,
    EdDSA,
}

fn default_audience() -> String {
    "tidings".to_owned()
}

impl Auth {
    /// Who verifies the tokens. Files are relative to the configuration's directory.
    pub(super) fn jwt(&self, configuration: &Path) -> Result<Jwt, Failure> {
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::config(format_args!("{}: [auth] {what}", configuration.display()))
        };
        let read = |key: &str, file: &Path| {
            let file = configuration.parent().unwrap_or(Path::new("")).join(file);
            std::fs::read_to_string(&file).map(SecretString::from).map_err(|error| {
                wrong(&format_args!("{key} {}: {error}", file.display()))
                    .fix("name a file that this user can read; the path is relative to the configuration")
            })
        };
        let jwt = match (&self.secret, &self.secret_file, &self.public_key_file) {
            (Some(secret), None, None) => Jwt::hs256(secret.expose_secret().as_bytes()),
            (None, Some(file), None) => {
                let secret = read("secret_file", file)?;
                // Editors and `openssl rand` end a file with a line break that no backend has in its copy.
                Jwt::hs256(secret.expose_secret().trim_end_matches(['\r', '\n']).as_bytes())
            }
            (None, None, Some(file)) => {
                let algorithm = self.algorithm.ok_or_else(|| {
                    wrong(&"has a public_key_file and no algorithm").fix(
                        "algorithm = \"ES256\", or RS256, PS256, ES384, EdDSA: as your tokens' header says",
                    )
                })?;
                algorithm.verifier(read("public_key_file", file)?.expose_secret().as_bytes())
            }
            (None, None, None) => {
                let fix = "openssl rand -hex 32 > tidings.secret, and secret_file = \"tidings.secret\"";
                return Err(wrong(&"has neither secret nor secret_file nor public_key_file").fix(fix));
            }
            _ => {
                return Err(wrong(&"has more than one of secret, secret_file and public_key_file")
                    .fix("keep the one that your tokens are signed with"));
            }
        };
        if self.public_key_file.is_none() && self.algorithm.is_some() {
            return Err(wrong(&"has an algorithm without a public_key_file: a secret is always HS256")
                .fix("remove algorithm"));
        }
        Ok(jwt.map_err(|error| wrong(&error))?.audience(self.audience.as_str()))
    }
}

impl Algorithm {
    fn verifier(self, public_key: &[u8]) -> Result<Jwt, InvalidKey> {
        match self {
            Self::RS256 => Jwt::rsa_pem(public_key),
            Self::PS256 => Jwt::rsa_pss_pem(public_key),
            Self::ES256 => Jwt::es256_pem(public_key),
            Self::ES384 => Jwt::es384_pem(public_key),
            Self::EdDSA => Jwt::eddsa_pem(public_key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn jwt(toml: &str, configuration: &Path) -> Result<Jwt, Failure> {
        toml::from_str::<Auth>(toml).unwrap().jwt(configuration)
    }

    #[test]
    fn there_is_exactly_one_key() {
        for wrong in [
            "".to_owned(),
            "secret = 'short'".to_owned(),
            format!("secret = '{SECRET}'\nsecret_file = 'x'"),
            format!("secret = '{SECRET}'\npublic_key_file = 'x'"),
            format!("secret = '{SECRET}'\nalgorithm = 'ES256'"),
            "public_key_file = 'x'".to_owned(),
        ] {
            assert!(jwt(&wrong, Path::new("tidings.toml")).is_err(), "{wrong}");
        }
        assert!(jwt(&format!("secret = '{SECRET}'"), Path::new("tidings.toml")).is_ok());
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
        let claims = serde_json::json!({"sub": "ada", "aud": "tidings", "exp": 100});
        let token = tidings::auth::mint_hs256(SECRET.as_bytes(), &claims).unwrap();
        let secret = jwt("secret_file = 'key'", &configuration).unwrap();
        assert!(secret.verify(&token, 50).is_ok());
        let public = jwt("public_key_file = 'public.pem'\nalgorithm = 'ES256'", &configuration).unwrap();
        assert!(public.verify(&token, 50).is_err(), "a public key is no secret");
        assert!(jwt("public_key_file = 'public.pem'\nalgorithm = 'RS256'", &configuration).is_err());
    }
}
