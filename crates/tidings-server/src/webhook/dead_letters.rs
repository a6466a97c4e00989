//! What nobody took: a file each, for people to look at, and to send again.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Where they are, in the outbox.
const DIRECTORY: &str = "dead";
/// What their names end with, once they are whole.
const EXTENSION: &str = "json";

/// One of them, as its file has it.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) id: String,
    pub(crate) r#type: String,
    /// What it was told in order with: `room:…` or `session:…`.
    pub(crate) key: String,
    /// When it was stored, and when it was given up.
    pub(crate) since: String,
    pub(crate) died: String,
    pub(crate) attempts: u32,
    /// What the last attempt came to.
    pub(crate) reason: String,
    /// What would be sent, byte for byte.
    pub(crate) event: Box<RawValue>,
}

/// Their directory.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters(PathBuf);

impl DeadLetters {
    /// Those of an outbox; the directory is made.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn open(outbox: &Path) -> io::Result<Self> {
        let directory = outbox.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        Ok(Self(directory))
    }

    /// Keeps one. It is there whole or not at all, also after a power cut.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn keep(&self, letter: &DeadLetter) -> io::Result<()> {
        let draft = self.0.join(format!("{}.draft", letter.id));
        let mut file = fs::File::create(&draft)?;
        let written = file.write_all(&serde_json::to_vec(letter)?).and_then(|()| file.sync_all());
        drop(file);
        if let Err(error) = written.and_then(|()| fs::rename(&draft, self.path(&letter.id))) {
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        fs::File::open(&self.0)?.sync_all()
    }

    /// All of them, the oldest first: their names begin with their time.
    ///
    /// # Errors
    /// When one can't be read, or is none.
    pub(crate) fn all(&self) -> io::Result<Vec<DeadLetter>> {
        let mut paths = self.files()?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| is_letter(path));
        paths.sort_unstable();
        let read = |path: PathBuf| {
            let letter = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
            letter.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        };
        paths.into_iter().map(read).collect()
    }

    /// Forgets one.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        fs::remove_file(self.path(id))
    }

    /// How many there are, and their bytes.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub(crate) fn measure(&self) -> io::Result<(u64, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for entry in self.files()? {
            let entry = entry?;
            if is_letter(&entry.path()) {
                count += 1;
                // One that was sent again meanwhile takes nothing any more.
                bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok((count, bytes))
    }

    fn files(&self) -> io::Result<fs::ReadDir> {
        fs::read_dir(&self.0)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.{EXTENSION}"))
    }
}

fn is_letter(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_kept_whole_in_their_order_until_they_are_removed() {
        let outbox = tempfile::tempdir().unwrap();
        let dead = DeadLetters::open(outbox.path()).unwrap();
        let letter = |id: &str| DeadLetter {
            id: id.to_owned(),
            r#type: "dev.tidings.presence".to_owned(),
            key: "room:a".to_owned(),
            since: "2026-11-28T12:00:00.000Z".to_owned(),
            died: "2026-11-29T12:00:00.000Z".to_owned(),
            attempts: 7,
            reason: "410 Gone".to_owned(),
            event: RawValue::from_string(r#"{"n": 1.0}"#.to_owned()).unwrap(),
        };
        for id in ["msg_2", "msg_1"] {
            dead.keep(&letter(id)).unwrap();
        }
        fs::write(outbox.path().join("dead/msg_3.draft"), "{").unwrap();
        let all = dead.all().unwrap();
        assert_eq!(all.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>(), ["msg_1", "msg_2"]);
        assert_eq!(all[0].event.get(), r#"{"n": 1.0}"#, "byte for byte");
        assert_eq!(dead.measure().unwrap().0, 2);
        dead.remove("msg_1").unwrap();
        assert_eq!(dead.all().unwrap().len(), 1);
    }
}
