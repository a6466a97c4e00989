//! Reading a configuration: from flags, the environment, the file and defaults, in this order of precedence.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidings::Limits;

use super::document::{Document, Places, Setting};
use super::files::Files;
use super::{Config, Parts, environment, schema};
use crate::failure::{Failure, Failures};
use crate::webhook::Webhooks;

/// Where systemd puts what a unit loads by `LoadCredential=`.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The file that is read if none is named and it is there.
const FILE_DEFAULT: &str = "tidings.toml";

/// Where a configuration comes from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The file that is named, if one is.
    pub(crate) file: Option<PathBuf>,
    /// What the command line says otherwise.
    pub(crate) flags: Vec<Setting>,
}

/// A configuration, and what is known of where it comes from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) schema: Value,
    pub(crate) places: Places,
    /// What was said, and no default.
    pub(crate) said: Value,
    /// The faults of what could be left out to read the rest.
    failures: Failures,
}

impl Sources {
    /// Reads it all.
    ///
    /// # Errors
    /// When there is nothing to read, or what there is can't be understood.
    pub(crate) fn load(self) -> Result<Loaded, Failure> {
        self.load_with(std::env::vars_os(), std::env::var_os(CREDENTIALS).map(PathBuf::from))
    }

    fn load_with(
        self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        credentials: Option<PathBuf>,
    ) -> Result<Loaded, Failure> {
        let schema = schema::schema();
        let mut failures = Failures::default();
        let mut settings = environment::settings(environment, &schema::keys(&schema), &mut failures);
        let is_alone = settings.is_empty() && failures.is_empty();
        settings.extend(self.flags);
        let path = match self.file {
            Some(path) => Some(path),
            // Without it, what the environment says may be all that is needed.
            None if is_alone || Path::new(FILE_DEFAULT).exists() => Some(PathBuf::from(FILE_DEFAULT)),
            None => None,
        };
        let text = failures.take(path.as_deref().map(read).transpose());
        let document = text
            .as_ref()
            .and_then(|text| failures.take(Document::new(path.as_deref().zip(text.as_deref()), &settings)));
        let read = document.and_then(|document| {
            let config = document.read::<Config>(&schema, &mut failures)?;
            Some((config, document.places(), document.json()))
        });
        match read {
            Some((config, places, said)) => {
                let config = Config { files: Files::of(path.as_deref(), credentials), ..config };
                Ok(Loaded { config, schema, places, said, failures })
            }
            None => Err(failures.into_failure().unwrap_or_else(|| Failure::config("it can't be read"))),
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::config(format_args!("{}: {error}", path.display()))
            .fix("name the file with --config, or run tidings dev, which needs none")
    })
}

impl Loaded {
    /// # Errors
    /// What could not be understood.
    pub(crate) fn understood(&mut self) -> Result<(), Failure> {
        std::mem::take(&mut self.failures).none()
    }

    /// All that a server is made of.
    ///
    /// # Errors
    /// All that is wrong with the configuration, each fault with its place.
    pub(crate) fn parts(&mut self, of_machine: Limits, started: Option<&Webhooks>) -> Result<Parts, Failure> {
        let mut failures = std::mem::take(&mut self.failures);
        let refused = self.config.parts(of_machine, started).map_err(|failure| {
            failure.locate(|key| self.places.near(key)).fix_others(|key| {
                let schema = schema::at(&self.schema, key)?;
                Some(format!("as in {} = {}", key.rsplit('.').next()?, schema::example(schema)))
            })
        });
        // Where something was left out, what else is wrong may be so because of that.
        let incomplete = failures.incomplete();
        match refused {
            Ok(parts) => failures.none().map(|()| parts),
            Err(failure) => {
                failure.outside(&incomplete).into_iter().for_each(|failure| failures.add(failure));
                Err(failures.into_failure().unwrap_or_else(|| Failure::config("it can't be used")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Place;

    const SECRET: &str = "canary-bird of the environment, 32 bytes";

    fn load(
        text: Option<&str>,
        variables: &[(&str, &str)],
        flags: Vec<Setting>,
    ) -> Result<Loaded, Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tidings.toml");
        let file = text.map(|text| {
            std::fs::write(&path, text).unwrap();
            path
        });
        let variables = variables.iter().map(|(name, text)| (name.into(), text.into()));
        let loaded = Sources { file, flags }.load_with(variables, None);
        loaded.map_err(|failure| failure.texts())
    }

    fn told(loaded: &mut Loaded) -> String {
        loaded
            .parts(Limits::default(), None)
            .err()
            .map(|failure| failure.texts().concat())
            .unwrap_or_default()
    }

    fn flag(text: &str) -> Vec<Setting> {
        let text = format!("\"{text}\"");
        vec![Setting { place: Place::Flag("--listen"), path: "listen".to_owned(), text }]
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_the_file() {
        let text = "listen = '127.0.0.1:1'\n[limits]\nheartbeat_seconds = 11\nmessages_per_second = 12";
        let variables = [("TIDINGS_LISTEN", "127.0.0.1:2"), ("TIDINGS_LIMITS__HEARTBEAT_SECONDS", "22")];
        let file = load(Some(text), &[], vec![]).unwrap();
        assert_eq!(file.config.listen.port(), 1);
        let both = load(Some(text), &variables, vec![]).unwrap();
        let limits = both.config.limits(Limits::default());
        assert_eq!(
            (both.config.listen.port(), limits.heartbeat.as_secs(), limits.messages_per_second),
            (2, 22, 12)
        );
        let all = load(Some(text), &variables, flag("127.0.0.1:3")).unwrap();
        assert_eq!(all.config.listen.port(), 3);
        let origins: Vec<_> = ["listen", "limits.heartbeat_seconds", "limits.messages_per_second"]
            .map(|key| all.places.of(key).unwrap().to_string().rsplit('/').next().unwrap().to_owned())
            .into();
        assert_eq!(origins, ["--listen", "TIDINGS_LIMITS__HEARTBEAT_SECONDS", "tidings.toml:4:1"]);
    }

    #[test]
    fn the_environment_alone_may_be_enough() {
        let rooms = ("TIDINGS_ROOMS", r#"[{"pattern": "chat:*", "join": "anyone"}]"#);
        let mut loaded = load(None, &[("TIDINGS_AUTH__SECRET", SECRET), rooms], vec![]).unwrap();
        assert_eq!(loaded.config.rooms.len(), 1);
        assert_eq!(told(&mut loaded), "");
        let mut without_a_key = load(None, &[rooms], vec![]).unwrap();
        assert!(told(&mut without_a_key).contains("openssl rand"));
    }

    #[test]
    fn a_fault_of_a_variable_names_it() {
        let secret = ("TIDINGS_AUTH__SECRET", SECRET);
        for (name, text, fix) in [
            ("TIDINGS_LISTEN", "here", "as in listen = \"127.0.0.1:7777\""),
            ("TIDINGS_LIMITS__HEARTBEAT_SECONDS", "true", "as in heartbeat_seconds = 30"),
            ("TIDINGS_LIMITS__HARTBEAT_SECONDS", "10", "did you mean TIDINGS_LIMITS__HEARTBEAT_SECONDS?"),
            ("TIDINGS_ROOMS", "[{ patern = 'a' }]", "did you mean `pattern`?"),
            ("TIDINGS_ROOMS", "[{ pattern = 'a b' }]", "pattern = \"chat:*\""),
            ("TIDINGS_AUTH__ALGORITHM", "HS265", "did you mean `HS256`?"),
            ("TIDINGS_LIMITS__SILENCE_MAX_SECONDS", "3", "heartbeat_seconds (now 30)"),
        ] {
            let mut loaded = load(None, &[secret, (name, text)], vec![]).unwrap();
            let told = told(&mut loaded);
            assert!(told.starts_with(&format!("error: {name}: ")) && told.contains(fix), "{told}");
            assert_eq!(told.matches("error: ").count(), 1, "{told}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_nothing_that_follows_from_it() {
        let text = "allowed_origins = ['app', 'https://b.example/c']\n[auth]\nsecrets = 'x'\n[[rooms]]\npattern = 'a b'\n\
                    [[rooms]]\npattern = 'c'\nkey = 'no'\n[limits]\nsilence_max_seconds = 1\nhistory_bytes_max = 1";
        let told = told(&mut load(Some(text), &[], vec![]).unwrap());
        for place in [
            "toml:1:20: ",
            "toml:1:27: ",
            "toml:3:1: ",
            "toml:5:1: ",
            "toml:8:1: ",
            "toml:10:1: ",
            "toml:11:1: ",
        ] {
            assert!(told.contains(place), "no {place} in {told}");
        }
        assert!(!told.contains("has no key"), "the key is there, under a wrong name: {told}");
    }

    #[test]
    fn a_secret_is_in_no_message() {
        for variables in [
            [("TIDINGS_AUTH__SECRET", "canary-bird"), ("TIDINGS_SHARDS", "1")],
            [("TIDINGS_AUTH__SECRT", SECRET), ("TIDINGS_SHARDS", "1")],
            [("TIDINGS_AUTH__KEYS", "[{ secret = 'canary-bird"), ("TIDINGS_SHARDS", "1")],
            [("TIDINGS_AUTH__KEYS", "[{ secrt = 'canary-bird' }]"), ("TIDINGS_SHARDS", "1")],
            [("TIDINGS_AUTH__SECRET", SECRET), ("TIDINGS_BROKER__URL", "redis://ann:canary-bird")],
            [("TIDINGS_AUTH__SECRET", SECRET), ("TIDINGS_AUTH__SECRET_FILE", "x")],
        ] {
            let mut loaded = load(None, &variables, vec![]).unwrap();
            let told = told(&mut loaded);
            assert!(!told.is_empty() && !told.contains("canary"), "{told}");
        }
    }

    #[test]
    fn a_slip_in_one_source_does_not_hide_those_in_another() {
        let text = "listen = here\n[auth]\nsecret = 'a'\nsecret = 'b'";
        let told =
            load(Some(text), &[("TIDINGS_LISEN", "x"), ("TIDINGS_SHARDS", "few")], vec![]).unwrap_err();
        for place in
            ["error: TIDINGS_LISEN: ", "error: TIDINGS_SHARDS: ", "tidings.toml:1:10: ", "tidings.toml:4:1: "]
        {
            assert!(told.iter().any(|told| told.contains(place)), "no {place} in {told:?}");
        }
    }

    #[test]
    fn a_variable_with_a_wrong_name_is_one_fault() {
        let mut loaded = load(None, &[("TIDINGS_AUTH__SECRT", SECRET)], vec![]).unwrap();
        let told = told(&mut loaded);
        assert!(
            told.contains("did you mean TIDINGS_AUTH__SECRET?") && !told.contains("has no key"),
            "{told}"
        );
    }
}
