//! How the files of an Express application are written: as modules or not, in which language, with which quotes.

use std::collections::BTreeMap;

use minijinja::context;

use super::NAME;
use crate::addition::{Wishes, sources};
use crate::detect::express::{self, Entry};
use crate::detect::javascript::{self, Export, Modules};
use crate::detect::project::{Project, folder_of};
use crate::detect::source::Source;
use crate::failure::Failure;

/// How files of this application are written.
#[derive(Clone)]
pub(super) struct Style {
    modules: Modules,
    is_typescript: bool,
    /// Of new files: `js`, `ts`, `cjs`.
    ending: String,
    /// What an import of the application's own ends with: `.js`, or nothing.
    import_ending: String,
    /// Of lines that are inserted.
    quote: char,
    has_semicolons: bool,
}

impl Style {
    pub(super) fn of(project: &Project, source: &Source<'_>) -> Self {
        let ending = source.path.rsplit_once('.').map_or("js", |(_, ending)| ending).to_owned();
        let is_typescript = express::is_typescript(source.path);
        let modules = express::modules(project, source);
        let package = project.get("package.json").unwrap_or_default();
        // As the application's own imports are; a module of Node's has to name the ending.
        let own = javascript::imports(source).into_iter().find(|import| import.from.starts_with('.'));
        let of_own = own.map(|import| {
            let name = import.from.rsplit('/').next().unwrap_or_default().to_owned();
            let endings = ["js", "mjs", "cjs", "ts", "mts", "cts"];
            name.rsplit_once('.')
                .filter(|(_, ending)| endings.contains(ending))
                .map_or(String::new(), |(_, ending)| format!(".{ending}"))
        });
        let import_ending = match (of_own, modules) {
            (Some(ending), _) if is_typescript || modules == Modules::Esm => ending,
            (_, Modules::CommonJs) if ending == "js" => String::new(),
            (_, Modules::CommonJs) => format!(".{ending}"),
            // What TypeScript becomes decides it: a module of Node's names the ending, and what is required has none.
            (_, Modules::Esm) if ending == "ts" && !javascript::is_module(package) => String::new(),
            (_, Modules::Esm) if is_typescript => format!(".{}", ending.replace('t', "j")),
            (_, Modules::Esm) => format!(".{ending}"),
        };
        let first = javascript::imports(source).into_iter().next().map_or(0, |import| import.at);
        let quote = source.code[first..].chars().find(|next| matches!(next, '"' | '\'')).unwrap_or('"');
        let has_semicolons = source.code.lines().any(|line| line.trim_end().ends_with(';'));
        Self { modules, is_typescript, ending, import_ending, quote, has_semicolons }
    }

    /// The file of the one function that its owner fills in.
    pub(super) fn memberships(&self, entry: &Entry<'_>) -> String {
        format!("{}ws/memberships.{}", folder_of(entry.source.path), self.ending)
    }

    /// A line as the application would write it.
    pub(super) fn line(&self, line: &str) -> String {
        let line = line.replace('"', &self.quote.to_string());
        if self.has_semicolons { line } else { line.trim_end_matches(';').to_owned() }
    }

    /// What stands in the place of an import of `names`.
    fn take(&self, names: &str, from: &str) -> String {
        let from =
            if from.starts_with('.') { format!("{from}{}", self.import_ending) } else { from.to_owned() };
        match self.modules {
            Modules::Esm => format!("import {{ {names} }} from \"{from}\";"),
            Modules::CommonJs if self.is_typescript => format!("import {{ {names} }} from \"{from}\";"),
            Modules::CommonJs => format!("const {{ {names} }} = require(\"{from}\");"),
        }
    }

    /// What imports what is real-time as one name.
    pub(super) fn take_all(&self, from: &str) -> String {
        let from = format!("{from}{}", self.import_ending);
        match self.modules {
            Modules::CommonJs if !self.is_typescript => format!("const {NAME} = require(\"{from}\");"),
            _ => format!("import * as {NAME} from \"{from}\";"),
        }
    }

    /// A middleware of the application's own, from the file that exports it.
    pub(super) fn take_middleware(&self, name: &str, importer: &str, path: &str, export: Export) -> String {
        let bare = path.rsplit_once('.').map_or(path, |(bare, _)| bare);
        let (folder, file) = bare.rsplit_once('/').map_or(("", bare), |(folder, file)| (folder, file));
        let from = format!("{}{file}", relative(folder_of(importer), folder));
        match (export, self.modules) {
            (Export::Named, _) => self.take(name, &from),
            (Export::Whole, Modules::CommonJs) if !self.is_typescript => {
                format!("const {name} = require(\"{from}{}\");", self.import_ending)
            }
            (Export::Whole, _) => format!("import {name} from \"{from}{}\";", self.import_ending),
        }
    }

    /// What is new, by its paths.
    ///
    /// # Errors
    /// A source's own, with its path.
    pub(super) fn files(
        &self,
        entry: &Entry<'_>,
        user: &str,
        port: u16,
        wishes: &Wishes<'_>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let folder = folder_of(entry.source.path);
        let is_module = self.modules == Modules::Esm || self.is_typescript;
        let mut environment = sources::environment()?;
        let style = self.clone();
        environment.add_function("take", move |names: &str, from: &str| style.take(names, from));
        let is_typescript = self.is_typescript;
        environment
            .add_function("typed", move |text: String| if is_typescript { text } else { String::new() });
        environment.add_function("exported", move |names: &str| {
            if is_module { String::new() } else { format!("\nmodule.exports = {{ {names} }};") }
        });
        let import_ending = self.import_ending.clone();
        environment.add_filter("file", move |name: String| format!("{name}{import_ending}"));
        let values = context! {
            typescript => is_typescript,
            export => if is_module { "export " } else { "" },
            user,
            port,
            redis => wishes.redis,
            memberships => self.memberships(entry),
            handlers => format!("{folder}ws/handlers"),
            schemas => sources::SCHEMAS,
        };
        let of_express = sources::filled_in("express", &environment, &values).map_err(Failure::failed)?;
        let beside = sources::filled_in("configuration", &environment, &values).map_err(Failure::failed)?;
        let eol = if entry.source.text.contains("\r\n") { "\r\n" } else { "\n" };
        let of_express = of_express.into_iter().map(|(path, text)| {
            let path = path.strip_suffix("js").unwrap_or(&path);
            // What a condition has left empty at the end.
            (format!("{folder}{path}{}", self.ending), (text.trim_end().to_owned() + "\n").replace('\n', eol))
        });
        Ok(of_express.chain(beside).collect())
    }
}

/// From one folder to another, as an import begins.
pub(super) fn relative(from: &str, to: &str) -> String {
    let steps = |folder: &str| {
        folder.split('/').filter(|step| !step.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (from, to) = (steps(from), steps(to));
    let shared = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
    let up = "../".repeat(from.len() - shared);
    let down: String = to[shared..].iter().map(|step| format!("{step}/")).collect();
    format!("{}{down}", if up.is_empty() { "./" } else { &up })
}
