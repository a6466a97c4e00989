//! The secret that `tidings dev` and the commands for it share, in a file of this user's. Never used by `tidings serve`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::failure::Failure;

const FILE_NAME: &str = "dev-secret";
/// Random bytes of a new secret. It is kept, and used, as their hexadecimal text.
const RANDOM_BYTES: usize = 32;

/// The secret, made on first use.
///
/// # Errors
/// When the file can be neither read nor made, or holds something else.
pub(crate) fn load() -> Result<SecretString, Failure> {
    let directory = directory()?;
    let path = directory.join(FILE_NAME);
    let text = read_or_create(&directory, &path).map_err(|error| {
        Failure::failed(format_args!("the secret of tidings dev, {}: {error}", path.display()))
            .fix("set TIDINGS_HOME to a directory that you can write to")
    })?;
    let text = text.trim();
    if text.len() != 2 * RANDOM_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let message = format!("{} does not hold {} hexadecimal digits", path.display(), 2 * RANDOM_BYTES);
        return Err(Failure::failed(message).fix("delete the file; the next start makes a new secret"));
    }
    Ok(SecretString::from(text))
}

fn directory() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("TIDINGS_HOME")
        .or_else(|| set("XDG_DATA_HOME").map(|data| data.join("tidings")))
        .or_else(|| set("HOME").map(|home| home.join(".local/share/tidings")))
        .ok_or_else(|| {
            Failure::failed(
                "there is no place for the secret of tidings dev: neither TIDINGS_HOME nor HOME is set",
            )
            .fix("set TIDINGS_HOME to a directory that you can write to")
        })
}

fn read_or_create(directory: &Path, path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    // Written whole under another name and then linked: whoever reads the secret's own name finds all of it, and of
    // several that start at once the first link counts for all.
    let draft = directory.join(format!("{FILE_NAME}.{}", hex(&random[..8])));
    let written = write_new(&draft, &hex(&random)).and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let _ = fs::remove_file(&draft);
    written?;
    fs::read_to_string(path)
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Two lower-case digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn all_who_start_at_once_share_one_secret_that_only_the_user_can_read() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("new/place");
        let path = directory.join(FILE_NAME);
        let start = Barrier::new(8);
        let secrets: Vec<String> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        read_or_create(&directory, &path).unwrap()
                    })
                })
                .collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert_eq!(secrets[0].len(), 64);
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "drafts are removed");
    }

    #[test]
    fn hexadecimal_has_two_digits_a_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
