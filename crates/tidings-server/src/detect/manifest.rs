//! What the lists of packages name: which framework an application is on.

use super::project::Project;
use super::{Framework, Place};

/// As `package.json` names them, the more telling first: Nest stands on Express.
const NODE: [(&str, &str); 7] = [
    ("@nestjs/core", "nestjs"),
    ("next", "nextjs"),
    ("fastify", "fastify"),
    ("koa", "koa"),
    ("hono", "hono"),
    ("@hapi/hapi", "hapi"),
    ("express", "express"),
];
const PYTHON: [(&str, &str); 5] = [
    ("fastapi", "fastapi"),
    ("django", "django"),
    ("flask", "flask"),
    ("starlette", "starlette"),
    ("sanic", "sanic"),
];
const RUST: [(&str, &str); 4] =
    [("axum", "axum"), ("actix-web", "actix-web"), ("rocket", "rocket"), ("warp", "warp")];
/// Files by which a framework is known whatever they name.
const FILES: [(&str, &str); 4] =
    [("manage.py", "django"), ("Gemfile", "ruby"), ("go.mod", "go"), ("composer.json", "php")];

/// Each framework that is named, one a language.
pub(crate) fn frameworks(project: &Project) -> Vec<Framework> {
    let of_node = NODE.iter().find_map(|(package, name)| in_package_json(project, package, name));
    let of_python = PYTHON.iter().find_map(|(package, name)| in_python(project, package, name));
    let of_rust = RUST.iter().find_map(|(package, name)| in_cargo(project, package, name));
    let mut found: Vec<_> = [of_node, of_python, of_rust].into_iter().flatten().collect();
    for (file, name) in FILES {
        let is_told = found.iter().any(|framework: &Framework| framework.name == name);
        if !is_told && project.has(file) {
            found.push(Framework { name, version: None, place: Place { file: file.to_owned(), line: 1 } });
        }
    }
    found
}

fn in_package_json(project: &Project, package: &str, name: &'static str) -> Option<Framework> {
    let text = project.get("package.json")?;
    let json = json(text)?;
    let version = ["dependencies", "devDependencies"].iter().find_map(|key| json[key][package].as_str())?;
    let line = line_with(text, &format!("\"{package}\""));
    let place = Place { file: "package.json".to_owned(), line };
    Some(Framework { name, version: Some(version.to_owned()), place })
}

/// What a `package.json` says. Some editors begin it with a mark of its bytes' order, which npm reads over.
pub(crate) fn json(text: &str) -> Option<serde_json::Value> {
    serde_json::from_str(text.trim_start_matches('\u{feff}')).ok()
}

/// Whether a list of packages for Node has one.
pub(crate) fn has_node_package(project: &Project, package: &str) -> bool {
    project.get("package.json").and_then(json).is_some_and(|json| {
        ["dependencies", "devDependencies"].iter().any(|key| json[key][package].is_string())
    })
}

fn in_python(project: &Project, package: &str, name: &'static str) -> Option<Framework> {
    let lists =
        project.files().filter(|(path, _)| *path == "pyproject.toml" || path.starts_with("requirements"));
    for (path, text) in lists {
        for (number, line) in text.lines().enumerate() {
            let Some(version) = python_requirement(line, package) else { continue };
            let place = Place { file: path.to_owned(), line: number + 1 };
            return Some(Framework { name, version: (!version.is_empty()).then_some(version), place });
        }
    }
    None
}

/// What version a line asks for: `fastapi[all]>=0.1`, `"fastapi==1",`, `fastapi = "^1"`; none, if it names another package.
pub(crate) fn python_requirement(line: &str, package: &str) -> Option<String> {
    let line = line.split('#').next().unwrap_or_default().trim_start_matches('\u{feff}').trim();
    let line = line
        .trim_start_matches("dependencies")
        .trim_start_matches([' ', '=', '['])
        .trim_start_matches(['"', '\'']);
    let name = line.get(..package.len())?;
    let rest = &line[package.len()..];
    if !name.eq_ignore_ascii_case(package)
        || rest.starts_with(|next: char| next.is_alphanumeric() || "-_.".contains(next))
    {
        return None;
    }
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let is_version = |rest: &str| {
        rest.is_empty() || rest.starts_with(['=', '>', '<', '~', '!', ';', ' ', '"', '\'', ',', '@'])
    };
    if !is_version(rest) {
        return None;
    }
    // Poetry's is a key with a quoted text, or with a table that has one.
    let value = rest.trim_start().strip_prefix('=').map(str::trim_start);
    if value.is_some_and(|value| value.starts_with('{')) {
        let table = format!("value {rest}").parse::<toml::Table>().ok();
        let version = table.and_then(|table| Some(table.get("value")?.get("version")?.as_str()?.to_owned()));
        return Some(version.unwrap_or_default());
    }
    let of_key = value.and_then(|value| value.strip_prefix(['"', '\'']));
    Some(of_key.unwrap_or(rest).split(['"', '\'']).next().unwrap_or_default().trim().to_owned())
}

fn in_cargo(project: &Project, package: &str, name: &'static str) -> Option<Framework> {
    let text = project.get("Cargo.toml")?;
    let table: toml::Table = text.parse().ok()?;
    let asked_for = table.get("dependencies")?.get(package)?;
    let version = asked_for.as_str().or_else(|| asked_for.get("version")?.as_str());
    let begins = |line: &str| {
        line.trim_start().strip_prefix(package).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
    };
    let line =
        text.lines().position(|line| begins(line) || line.trim() == format!("[dependencies.{package}]"));
    let place = Place { file: "Cargo.toml".to_owned(), line: line.map_or(1, |line| line + 1) };
    Some(Framework { name, version: version.map(str::to_owned), place })
}

fn line_with(text: &str, wanted: &str) -> usize {
    text.lines().position(|line| line.contains(wanted)).map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let told = |framework: &Framework| {
            format!("{} {} {}", framework.name, framework.version.as_deref().unwrap_or("-"), framework.place)
        };
        frameworks(&Project::of(files)).iter().map(told).collect()
    }

    #[test]
    fn a_framework_is_named_by_the_list_of_packages() {
        let express = "{\n  \"dependencies\": {\n    \"express\": \"^4.19.2\"\n  }\n}\n";
        assert_eq!(found(&[("package.json", express)]), ["express ^4.19.2 package.json:3"]);
        let nest = r#"{"dependencies":{"@nestjs/core":"10","express":"4"}}"#;
        assert_eq!(found(&[("package.json", nest)]), ["nestjs 10 package.json:1"]);
        assert_eq!(found(&[("package.json", r#"{"dependencies":{"express-session":"1"}}"#)]), [""; 0]);
        assert_eq!(found(&[("package.json", "{")]), [""; 0]);
        for (file, text, expected) in [
            (
                "requirements.txt",
                "# fastapi\nfastapi-users==1\nfastapi[all]>=0.115\n",
                "fastapi >=0.115 requirements.txt:3",
            ),
            ("requirements.txt", "Django==5\n", "django ==5 requirements.txt:1"),
            (
                "pyproject.toml",
                "[project]\ndependencies = [\"fastapi>=0.1\", \"a\"]\n",
                "fastapi >=0.1 pyproject.toml:2",
            ),
            (
                "pyproject.toml",
                "[tool.poetry.dependencies]\nfastapi = \"^0.115\"\n",
                "fastapi ^0.115 pyproject.toml:2",
            ),
            (
                "pyproject.toml",
                "[tool.poetry.dependencies]\nfastapi = { version = \"^0.110\", extras = [\"all\"] }\n",
                "fastapi ^0.110 pyproject.toml:2",
            ),
            (
                "pyproject.toml",
                "[tool.poetry.dependencies]\nfastapi = {extras = [\"all\"], version = \">=0.110,<1\"} # a\n",
                "fastapi >=0.110,<1 pyproject.toml:2",
            ),
            ("pyproject.toml", "fastapi = { git = \"https://a.example\" }\n", "fastapi - pyproject.toml:1"),
            ("requirements.txt", "\u{feff}fastapi==1\n", "fastapi ==1 requirements.txt:1"),
            ("package.json", "\u{feff}{\"dependencies\":{\"express\":\"4\"}}", "express 4 package.json:1"),
            ("Cargo.toml", "[dependencies]\naxum-extra = \"1\"\naxum = \"0.8\"\n", "axum 0.8 Cargo.toml:3"),
            ("Cargo.toml", "[dependencies]\naxum = { version = \"0.8\" }\n", "axum 0.8 Cargo.toml:2"),
            ("manage.py", "", "django - manage.py:1"),
        ] {
            assert_eq!(found(&[(file, text)]), [expected], "{text}");
        }
        assert_eq!(found(&[("requirements.txt", "fastapi\n"), ("package.json", express)]).len(), 2);
    }
}
