//! An addition on the disk: all of it or nothing, each file replaced at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What the name of a file that is not whole yet ends with.
const UNFINISHED: &str = ".tidings-add";

/// A file as it is to be, and as it was; none, if it was not there.
pub(crate) struct Written<'a> {
    pub(crate) before: Option<&'a str>,
    pub(crate) after: &'a [u8],
}

/// Writes all, by paths in a folder.
///
/// # Errors
/// What the file system says, or a file that was changed meanwhile; everything is then as it was.
pub(crate) fn all(dir: &Path, files: &BTreeMap<String, Written<'_>>) -> Result<(), Failure> {
    let mut undo = Undo::default();
    let written = prepare(dir, files, &mut undo).and_then(|()| put(dir, files, &mut undo));
    written.inspect_err(|_| undo.run())
}

/// Beside each file, under another name: whatever can go wrong goes wrong before the first file is another.
fn prepare(dir: &Path, files: &BTreeMap<String, Written<'_>>, undo: &mut Undo) -> Result<(), Failure> {
    for (path, file) in files {
        let place = dir.join(path);
        make_folders(dir, &place, undo).map_err(|error| failed(&place, &error))?;
        let unfinished = unfinished(&place);
        // Never through a link that somebody has laid there.
        let mut new = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&unfinished)
            .map_err(|error| failed(&unfinished, &error))?;
        undo.made.push(unfinished.clone());
        new.write_all(file.after).map_err(|error| failed(&place, &error))?;
        match (fs::read(&place), file.before) {
            (Ok(there), Some(before)) if there == before.as_bytes() => {
                let permissions = fs::metadata(&place).map(|metadata| metadata.permissions());
                let kept = permissions.and_then(|permissions| fs::set_permissions(&unfinished, permissions));
                kept.map_err(|error| failed(&place, &error))?;
            }
            (Err(error), None) if error.kind() == ErrorKind::NotFound => {}
            (Err(error), _) => return Err(failed(&place, &error)),
            (Ok(_), _) => {
                return Err(Failure::failed(format_args!("{} was changed meanwhile", place.display()))
                    .fix("nothing was written: try again"));
            }
        }
    }
    Ok(())
}

fn put(dir: &Path, files: &BTreeMap<String, Written<'_>>, undo: &mut Undo) -> Result<(), Failure> {
    for (path, file) in files {
        let place = dir.join(path);
        fs::rename(unfinished(&place), &place).map_err(|error| failed(&place, &error))?;
        match file.before {
            Some(before) => undo.changed.push((place, before.to_owned())),
            None => undo.made.push(place),
        }
    }
    Ok(())
}

/// Every folder above a file, none of which may lead elsewhere.
fn make_folders(dir: &Path, place: &Path, undo: &mut Undo) -> io::Result<()> {
    let Some(folder) = place.parent().and_then(|parent| parent.strip_prefix(dir).ok()) else { return Ok(()) };
    let mut made = dir.to_owned();
    for step in folder {
        made.push(step);
        match fs::symlink_metadata(&made) {
            Ok(there) if there.is_dir() => {}
            Ok(_) => return Err(io::Error::other(format!("{} is no folder", made.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir(&made)?;
                undo.folders.push(made.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unfinished(place: &Path) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

fn failed(place: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("{}: {error}", place.display()))
        .fix("nothing was written; once it can be, try again")
}

/// What has been done so far.
#[derive(Default)]
struct Undo {
    folders: Vec<PathBuf>,
    made: Vec<PathBuf>,
    changed: Vec<(PathBuf, String)>,
}

impl Undo {
    /// As well as can be: the failure that is told is the first one.
    fn run(&self) {
        for (place, before) in &self.changed {
            let _ = fs::write(place, before);
        }
        for place in &self.made {
            let _ = fs::remove_file(place);
        }
        for folder in self.folders.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else {
                    found.push((name, fs::read_to_string(&path).unwrap_or_default()));
                }
            }
        }
        found.sort();
        found
    }

    fn files<'a>(of: &[(&str, Option<&'a str>, &'a str)]) -> BTreeMap<String, Written<'a>> {
        of.iter()
            .map(|(path, before, after)| {
                ((*path).to_owned(), Written { before: *before, after: after.as_bytes() })
            })
            .collect()
    }

    #[test]
    fn all_is_written_and_a_changed_file_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("run");
        fs::write(&script, "a").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
        all(folder.path(), &files(&[("run", Some("a"), "ab"), ("x/y/z", None, "c")])).unwrap();
        let expected = [("run", "ab"), ("x/y/z", "c")].map(|(path, text)| (path.to_owned(), text.to_owned()));
        assert_eq!(tree(folder.path()), expected);
        assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o750);
    }

    #[test]
    fn where_one_file_can_not_be_written_none_is() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "other").unwrap();
        fs::write(folder.path().join("c"), "c").unwrap();
        std::os::unix::fs::symlink("/tmp", folder.path().join("link")).unwrap();
        let before = tree(folder.path());
        for bad in
            [("z", Some("was"), "is"), ("a", None, "new"), ("c/d", None, "new"), ("link/e", None, "new")]
        {
            let failure = all(folder.path(), &files(&[("b/new", None, "new"), bad])).unwrap_err();
            assert!(failure.to_string().contains("nothing was written"), "{failure}");
            assert_eq!(tree(folder.path()), before, "{bad:?}");
        }
    }
}
