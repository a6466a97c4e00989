//! What setuptools takes for an application's packages where nobody has named them: the folder at the top, if there is one alone. A
//! second one beside it, and nothing can be installed any more.

use crate::detect::project::Project;

/// Folders at the top that are none of its packages, as its own list has them.
const NEVER: [&str; 31] = [
    "benchmark",
    "benchmarks",
    "bin",
    "build",
    "changelog",
    "ci",
    "debian",
    "doc",
    "docs",
    "documentation",
    "example",
    "examples",
    "exercise",
    "exercises",
    "fabfile",
    "htmlcov",
    "manpages",
    "news",
    "newsfragments",
    "python",
    "scripts",
    "site_scons",
    "tasks",
    "test",
    "tests",
    "tools",
    "unit_test",
    "unit_tests",
    "util",
    "utils",
    // An environment, which it knows by what is in it.
    "venv",
];

/// A file's tables, if it makes something that can be installed.
fn pyproject(project: &Project) -> Option<toml::Table> {
    let table = project.get("pyproject.toml")?.parse::<toml::Table>().ok()?;
    table.contains_key("project").then_some(table)
}

/// Whether setuptools is told which they are.
pub(super) fn is_named(project: &Project) -> bool {
    let named = pyproject(project).and_then(|pyproject| {
        let setuptools = pyproject.get("tool")?.get("setuptools")?.as_table()?;
        Some(["packages", "py-modules", "package-dir"].iter().any(|key| setuptools.contains_key(*key)))
    });
    let is_named_beside = ["setup.py", "setup.cfg"].iter().any(|file| {
        project.get(file).is_some_and(|text| text.contains("packages") || text.contains("py_modules"))
    });
    named.unwrap_or(false) || is_named_beside
}

/// Whether it is left to setuptools to find them, at the top.
pub(super) fn is_at_the_top(project: &Project) -> bool {
    let Some(pyproject) = pyproject(project) else { return false };
    let of = |table: &str, key: &str| Some(pyproject.get(table)?.get(key)?.clone());
    let backend = of("build-system", "build-backend");
    let is_another = backend
        .is_some_and(|backend| !backend.as_str().is_some_and(|backend| backend.starts_with("setuptools")));
    // Where nothing says how it is built, uv installs what it needs, and not itself.
    let is_of_uv = !pyproject.contains_key("build-system") && project.has("uv.lock");
    let is_in_src = project.files().any(|(path, _)| path.starts_with("src/"));
    !is_another && !is_named(project) && !is_of_uv && !is_in_src
}

/// The folder that it takes already.
pub(super) fn package(project: &Project) -> Option<&str> {
    let entered = project.files().filter_map(|(path, _)| Some(path.split_once('/')?.0));
    let mut folders = entered.chain(project.folders_not_entered());
    let is_package = |folder: &&str| {
        folder.starts_with(|first: char| first.is_alphabetic())
            && folder.chars().all(|next| next.is_alphanumeric() || next == '_')
            && !NEVER.contains(folder)
    };
    folders.find(is_package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_to_setuptools_where_nobody_else_says_it() {
        let project = "[project]\nname = \"a\"\n";
        let said = |text: &str| format!("{project}{text}\n");
        for (files, expected) in [
            (vec![("pyproject.toml", said("[build-system]\nrequires = [\"setuptools\"]"))], true),
            (
                vec![("pyproject.toml", said("[build-system]\nbuild-backend = \"setuptools.build_meta\""))],
                true,
            ),
            (vec![("pyproject.toml", said("")), ("setup.py", "setup()".to_owned())], true),
            (vec![("pyproject.toml", said("[build-system]\nbuild-backend = \"hatchling.build\""))], false),
            (vec![("pyproject.toml", said("[tool.setuptools]\npy-modules = [\"main\"]"))], false),
            (vec![("pyproject.toml", said("[tool.setuptools.packages.find]\ninclude = [\"a\"]"))], false),
            (vec![("pyproject.toml", said("")), ("setup.cfg", "packages = find:".to_owned())], false),
            (vec![("pyproject.toml", said("")), ("uv.lock", String::new())], false),
            (vec![("pyproject.toml", said("")), ("src/a/main.py", String::new())], false),
            (vec![("pyproject.toml", "[tool.ruff]\n".to_owned())], false),
            (vec![("requirements.txt", "fastapi\n".to_owned())], false),
        ] {
            let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
            assert_eq!(is_at_the_top(&Project::of(&files)), expected, "{files:?}");
        }
    }

    #[test]
    fn a_folder_is_a_package_by_its_name() {
        let of = |paths: &[&str]| {
            let files: Vec<_> = paths.iter().map(|path| (*path, "")).collect();
            package(&Project::of(&files)).map(str::to_owned)
        };
        assert_eq!(of(&["main.py", "tests/a.py", "docs/a.md", "front-end/a.js", "_a/b.py"]), None);
        assert_eq!(of(&["main.py", "models/a.py"]).as_deref(), Some("models"));
    }
}
