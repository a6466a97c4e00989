//! The files that a configuration names: where they are, and what is told when one can't be read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::failure::Failure;

/// Where a relative path leads.
#[derive(Clone, Default, Debug)]
pub(crate) struct Files {
    /// The configuration's own directory; the working directory if there is no file.
    directory: PathBuf,
    /// `$CREDENTIALS_DIRECTORY`: what systemd has laid out for this service alone.
    credentials: Option<PathBuf>,
}

impl Files {
    /// Those of a configuration in this file.
    pub(crate) fn of(configuration: Option<&Path>, credentials: Option<PathBuf>) -> Self {
        let directory = configuration.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        Self { directory, credentials }
    }

    /// The directory to which paths are relative, but for what is among the credentials.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file itself: among the credentials, if it is there, else beside the configuration.
    pub(crate) fn path(&self, file: &Path) -> PathBuf {
        let credential = self.credentials.as_ref().filter(|_| file.is_relative()).map(|dir| dir.join(file));
        credential.filter(|path| path.exists()).unwrap_or_else(|| self.directory.join(file))
    }

    /// What is in the file that `key` names.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn read(&self, key: &str, file: &Path) -> Result<Vec<u8>, Failure> {
        std::fs::read(self.path(file)).map_err(|error| self.unreadable(key, file, &error))
    }

    /// The same as text.
    ///
    /// # Errors
    /// When it can't be read, or is no UTF-8.
    pub(crate) fn read_text(&self, key: &str, file: &Path) -> Result<String, Failure> {
        std::fs::read_to_string(self.path(file)).map_err(|error| self.unreadable(key, file, &error))
    }

    /// A secret, without the line break that editors and `openssl rand` end a file with and no backend has in its copy.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn read_secret(&self, key: &str, file: &Path) -> Result<SecretString, Failure> {
        let text = self.read_text(key, file)?;
        Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
    }

    fn unreadable(&self, key: &str, file: &Path, error: &std::io::Error) -> Failure {
        let from = match (&self.credentials, self.directory.as_os_str().is_empty()) {
            (Some(_), _) => "$CREDENTIALS_DIRECTORY, or to the configuration",
            (None, false) => "the configuration",
            (None, true) => "the configuration, or to the working directory if there is no file",
        };
        let path = self.path(file);
        let path = path.display();
        let signs_tokens = key.starts_with("auth") && key.ends_with("secret_file");
        let new = match signs_tokens && error.kind() == ErrorKind::NotFound {
            true => format!("make one: (umask 077; openssl rand -hex 32 > {path}); or "),
            false => String::new(),
        };
        Failure::config(format_args!("{key} {path}: {error}"))
            .key(key)
            .fix(format_args!("{new}name a file that this user can read; the path is relative to {from}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_for_among_the_credentials_and_then_beside_the_configuration() {
        let (own, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(own.path().join("a"), "own").unwrap();
        std::fs::write(own.path().join("b"), "own").unwrap();
        std::fs::write(credentials.path().join("b"), "credential\r\n").unwrap();
        let files = Files::of(Some(&own.path().join("tidings.toml")), Some(credentials.path().to_owned()));
        assert_eq!(files.read("k", Path::new("a")).unwrap(), b"own");
        assert_eq!(files.read_text("k", Path::new("b")).unwrap(), "credential\r\n");
        assert_eq!(
            secrecy::ExposeSecret::expose_secret(&files.read_secret("k", Path::new("b")).unwrap()),
            "credential"
        );
        assert_eq!(files.path(&own.path().join("b")), own.path().join("b"), "an absolute path is what it is");
        let told = files.read("auth.secret_file", Path::new("c")).unwrap_err().texts().concat();
        assert!(
            told.contains("key: auth.secret_file")
                && told.contains("relative to $CREDENTIALS")
                && told.contains("/c); or"),
            "{told}"
        );
    }
}
