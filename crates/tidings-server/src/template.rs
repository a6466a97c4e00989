//! The templates of `tidings new`, which are in the binary, and what they become for an application's name.
//!
//! A file `NAME.jinja` is filled in, every other is taken as it is. What is in a template's folder `redis` is laid over the
//! rest if Redis is asked for. The folders `templates/` at the top of the repository are what is embedded.

use std::collections::BTreeMap;

use clap::ValueEnum;
use minijinja::context;
use rust_embed::RustEmbed;

use crate::filled::{self, FILLED_IN};
use crate::sdk::{self, Sdk};

#[derive(RustEmbed)]
#[folder = "../../templates"]
struct Embedded;

const OVER_THE_REST: &str = "redis/";
/// What a tool would take for its own in this repository, and what it is called in an application.
const DOTTED: [(&str, &str); 2] = [("gitignore", ".gitignore"), ("env.example", ".env.example")];

/// Which application.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Template {
    /// A chat on axum, with Tidings in its process
    AxumChat,
    /// A live dashboard on axum, with Tidings in its process
    AxumDashboard,
    /// A chat on Express, in TypeScript
    ExpressChat,
    /// A live dashboard on Express, in TypeScript
    ExpressDashboard,
    /// A chat on FastAPI
    FastapiChat,
    /// A live dashboard on FastAPI
    FastapiDashboard,
}

/// What is asked for, beside the template.
pub(crate) struct Wishes<'a> {
    pub(crate) name: &'a str,
    pub(crate) redis: bool,
    /// The files of the SDKs' packages, in the order of [`Template::sdks`]; from the registry, if none.
    pub(crate) packages: Option<&'a [String]>,
}

impl Template {
    /// As the command line has it, and its folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AxumChat => "axum-chat",
            Self::AxumDashboard => "axum-dashboard",
            Self::ExpressChat => "express-chat",
            Self::ExpressDashboard => "express-dashboard",
            Self::FastapiChat => "fastapi-chat",
            Self::FastapiDashboard => "fastapi-dashboard",
        }
    }

    pub(crate) fn sdks(self) -> &'static [Sdk] {
        match self {
            Self::AxumChat | Self::AxumDashboard => &sdk::AXUM,
            Self::ExpressChat | Self::ExpressDashboard => &sdk::EXPRESS,
            Self::FastapiChat | Self::FastapiDashboard => &sdk::FASTAPI,
        }
    }

    /// All files, by their paths in the application's folder.
    ///
    /// # Errors
    /// The template's own, with the file's name.
    pub(crate) fn files(self, wishes: &Wishes<'_>) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let folder = format!("{}/", self.name());
        let paths: Vec<String> =
            Embedded::iter().filter_map(|path| path.strip_prefix(&folder).map(str::to_owned)).collect();
        let (over, plain): (Vec<_>, Vec<_>) =
            paths.into_iter().partition(|path| path.starts_with(OVER_THE_REST));
        let environment = filled::environment();
        let values = self.values(wishes);
        let mut files = BTreeMap::new();
        for path in plain.iter().chain(over.iter().filter(|_| wishes.redis)) {
            let Some(embedded) = Embedded::get(&format!("{folder}{path}")) else { continue };
            let path = path.strip_prefix(OVER_THE_REST).unwrap_or(path);
            let (path, contents) = match path.strip_suffix(FILLED_IN) {
                Some(path) => {
                    let filled = std::str::from_utf8(&embedded.data)
                        .map_err(|error| format!("{path}: {error}"))
                        .and_then(|text| filled::in_with(&environment, path, text, &values))?;
                    (path, filled.into_bytes())
                }
                None => (path, embedded.data.into_owned()),
            };
            let dotted = DOTTED.iter().find_map(|(plain, dotted)| (*plain == path).then_some(*dotted));
            files.insert(dotted.unwrap_or(path).to_owned(), contents);
        }
        Ok(files)
    }

    fn values(self, wishes: &Wishes<'_>) -> minijinja::Value {
        let version = env!("CARGO_PKG_VERSION");
        let sdk = sdk::asked_for(self.sdks(), wishes.packages, sdk::SDK_FOLDER);
        let nodes = if wishes.redis { vec!["-1", "-2"] } else { vec![""] };
        context! {
            name => wishes.name,
            redis => wishes.redis,
            vendored => wishes.packages.is_some(),
            version,
            sdk,
            nodes,
        }
    }
}

/// The commands of the first console block of a README, with their remarks: what to do next.
pub(crate) fn first_commands(readme: &str) -> Vec<&str> {
    let block = readme.split("```console\n").nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("$ ")).collect()
}

/// A command alone, for whoever runs it.
pub(crate) fn without_remark(command: &str) -> &str {
    command.split(" # ").next().unwrap_or(command).trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(template: Template, redis: bool, packages: Option<&[String]>) -> BTreeMap<String, String> {
        let files = template.files(&Wishes { name: "my-app", redis, packages }).unwrap();
        files.into_iter().map(|(path, contents)| (path, String::from_utf8(contents).unwrap())).collect()
    }

    #[test]
    fn every_template_is_filled_in_whatever_is_wished() {
        for template in Template::value_variants() {
            let packages: Vec<String> =
                template.sdks().iter().map(|sdk| format!("{}0{}", sdk.file_begins, sdk.file_ends)).collect();
            for (redis, packages) in [(false, None), (true, None), (false, Some(packages.as_slice()))] {
                let files = texts(*template, redis, packages);
                // An axum application has its server in itself, and no configuration of another.
                let config = if template.name().starts_with("axum") { "Cargo.toml" } else { "tidings.toml" };
                for path in [".gitignore", ".env.example", "README.md", "compose.yaml", config] {
                    assert!(files.contains_key(path), "{} has no {path}", template.name());
                }
                for (path, text) in &files {
                    let is_left = text.contains("{{ ") || text.contains("{%") || path.ends_with(FILLED_IN);
                    assert!(!is_left, "{path} is not filled in");
                    assert!(text.ends_with('\n'), "{path} has no end");
                    assert!(!path.contains("node_modules") && !path.contains("__pycache__"), "{path}");
                }
                assert_eq!(files.keys().any(|path| path.contains("two_nodes")), redis);
                assert_eq!(files["compose.yaml"].contains("redis-server"), redis);
                assert_eq!(files["README.md"].contains("--sdk-from"), packages.is_none());
            }
        }
    }

    #[test]
    fn the_sdks_come_from_the_registry_or_go_with_the_application() {
        let version = env!("CARGO_PKG_VERSION");
        let express = &texts(Template::ExpressChat, false, None)["package.json"];
        assert!(express.contains(&format!("\"tidings-client\": \"^{version}\"")), "{express}");
        let packages = ["a.tgz".to_owned(), "b.tgz".to_owned()];
        let express = &texts(Template::ExpressChat, false, Some(&packages))["package.json"];
        assert!(express.contains("\"tidings-server-sdk\": \"file:sdks/b.tgz\""), "{express}");
        let fastapi = &texts(Template::FastapiDashboard, false, None)["requirements.txt"];
        assert!(fastapi.contains(&format!("tidings-client[server]=={version}\n")), "{fastapi}");
        let fastapi =
            &texts(Template::FastapiDashboard, false, Some(&["c.whl".to_owned()]))["requirements.txt"];
        assert!(fastapi.contains("./sdks/c.whl[server]\n"), "{fastapi}");
    }

    #[test]
    fn what_to_do_next_is_what_the_readme_says_first() {
        let readme = "# a\n\n```console\n$ npm install   # once\n$ a > b\nsaid\n```\n```console\n$ no\n```\n";
        assert_eq!(first_commands(readme), ["npm install   # once", "a > b"]);
        assert_eq!(
            first_commands(readme).into_iter().map(without_remark).collect::<Vec<_>>(),
            ["npm install", "a > b"]
        );
        assert_eq!(first_commands("nothing"), [""; 0]);
    }
}
