//! One more entry in an application's list of packages, with all that stands there as it is.

use crate::detect::Unclear;
use crate::detect::manifest::{json, python_requirement};

use super::insertions::Insertions;
use crate::sdk::SDK_FOLDER;

/// Entries of `"dependencies"` in a `package.json`, each a name and a version, in their places by the alphabet.
///
/// # Errors
/// It has no such object that can be read.
pub(crate) fn in_package_json(text: &str, entries: &[(&str, &str)]) -> Result<String, Unclear> {
    let unread = |what: &str| {
        let by_hand: Vec<_> =
            entries.iter().map(|(name, version)| format!("\"{name}\": \"{version}\"")).collect();
        Unclear::new(
            format!("package.json {what}"),
            format!("add {} by hand, and try again", by_hand.join(", ")),
        )
    };
    let json = json(text).ok_or_else(|| unread("is no JSON"))?;
    if !json["dependencies"].is_object() {
        return Err(unread("has no dependencies"));
    }
    let open = top_level_object(text, "dependencies").ok_or_else(|| unread("has no dependencies"))?;
    let keys = keys_of_object(text, open);
    let mut insertions = Insertions::of(text);
    let mut at_the_end = Vec::new();
    for (name, version) in entries {
        let entry = format!("\"{name}\": \"{version}\"");
        match keys.iter().find(|(_, _, key)| *key > *name) {
            Some((begin, _, _)) => {
                // As the line begins on which the next one stands.
                let line = &text[text[..*begin].rfind('\n').map_or(0, |newline| newline + 1)..*begin];
                let between = if line.trim().is_empty() { format!(",\n{line}") } else { ", ".to_owned() };
                insertions.at(*begin, format!("{entry}{between}"));
            }
            None => at_the_end.push(entry),
        }
    }
    if !at_the_end.is_empty() {
        let (last_begin, last_end) =
            keys.last().map_or((open + 1, open + 1), |(begin, end, _)| (*begin, *end));
        let line = &text[text[..last_begin].rfind('\n').map_or(0, |newline| newline + 1)..last_begin];
        let begins_line = !keys.is_empty() && line.trim().is_empty();
        let between = if begins_line { format!(",\n{line}") } else { ", ".to_owned() };
        let begin = if keys.is_empty() { "" } else { between.as_str() };
        insertions.at(last_end, format!("{begin}{}", at_the_end.join(&between)));
    }
    Ok(insertions.applied())
}

/// The SDK in a `requirements.txt`, or in a `pyproject.toml`, where a file can't be asked for but by Poetry: there the version is.
///
/// # Errors
/// Nothing shows where it belongs.
pub(crate) fn in_python(
    path: &str,
    text: &str,
    asked_for: &str,
    wheel: Option<&str>,
) -> Result<String, Unclear> {
    let mut insertions = Insertions::of(text);
    if path != "pyproject.toml" {
        if text.contains("--hash=") {
            return Err(Unclear::new(
                format!("{path} has the hashes of its packages"),
                format!("add {asked_for} with what makes that file, and try again"),
            ));
        }
        insertions.at_the_end(&format!("{asked_for}\n"));
        return Ok(insertions.applied());
    }
    let version = env!("CARGO_PKG_VERSION");
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if python_requirement(line, "fastapi").is_some() {
            let quote = line.find(['"', '\'']);
            let is_key = line.trim_start().starts_with("fastapi");
            if is_key {
                let source = wheel.map_or_else(
                    || format!("version = \"{version}\""),
                    |wheel| format!("path = \"{wheel}\""),
                );
                let end = at + line.trim_end().len();
                insertions.at(end, format!("\ntidings-client = {{ {source}, extras = [\"server\"] }}"));
                return Ok(insertions.applied());
            }
            let quoted = quote.and_then(|quote| {
                let mark = line[quote..].chars().next()?;
                let begin = line.to_lowercase().find(&format!("{mark}fastapi"))?;
                let end = begin + 1 + line[begin + 1..].find(mark)? + 1;
                Some((begin, end))
            });
            if let Some((begin, end)) = quoted {
                let indentation = &line[..begin];
                let between =
                    if indentation.trim().is_empty() { format!(",\n{indentation}") } else { ", ".to_owned() };
                insertions.at(at + end, format!("{between}\"tidings-client[server]=={version}\""));
                return Ok(insertions.applied());
            }
        }
        at += line.len();
    }
    Err(Unclear::new(
        format!("{path}: nothing shows where a dependency belongs"),
        format!("add {asked_for} by hand, and try again"),
    ))
}

/// Entries of `[dependencies]` in a `Cargo.toml`, in their places by the alphabet, but those that are there; with the packages that are
/// unpacked in the application's folder, if there are some.
///
/// # Errors
/// It has no such table that can be read.
pub(crate) fn in_cargo(
    text: &str,
    entries: &[(&str, String)],
    packages: Option<&[String]>,
) -> Result<String, Unclear> {
    let by_hand: Vec<_> = entries.iter().map(|(name, version)| format!("{name} = {version}")).collect();
    let unread = || {
        let fix = format!("add {} by hand, and try again", by_hand.join(", "));
        Unclear::new("Cargo.toml has no [dependencies] that can be read", fix)
    };
    let there = table_entries(text, "[dependencies]").ok_or_else(unread)?;
    let mut insertions = Insertions::of(text);
    for (name, version) in entries.iter().filter(|(name, _)| !there.keys.iter().any(|(_, key)| key == name)) {
        let at = there.keys.iter().find(|(_, key)| key > name).map_or(there.end, |(at, _)| *at);
        insertions.at(at, format!("{name} = {version}\n"));
    }
    let patches: String = packages
        .unwrap_or_default()
        .iter()
        .filter_map(|package| package.strip_suffix(".crate"))
        .filter_map(|package| Some((package.rsplit_once('-')?.0, package)))
        .map(|(name, package)| format!("{name} = {{ path = \"{SDK_FOLDER}/{package}\" }}\n"))
        .collect();
    if !patches.is_empty() {
        match table_entries(text, "[patch.crates-io]") {
            Some(patch) => insertions.at(patch.end, patches),
            None => insertions.at_the_end(&format!(
                "\n# As they were packed from a clone of Tidings, and unpacked in {SDK_FOLDER}/.\n[patch.crates-io]\n{patches}"
            )),
        }
    }
    let added = insertions.applied();
    added.parse::<toml::Table>().map_err(|_| unread())?;
    Ok(added)
}

/// The entries of a table: where each begins, and its name; and behind the last one.
struct Entries<'a> {
    keys: Vec<(usize, &'a str)>,
    end: usize,
}

fn table_entries<'a>(text: &'a str, header: &str) -> Option<Entries<'a>> {
    let mut found: Option<Entries<'a>> = None;
    // A value of several lines goes on until its brackets are closed.
    let (mut at, mut open) = (0, 0_usize);
    for line in text.split_inclusive('\n') {
        let word = line.trim();
        let is_header = open == 0 && word.starts_with('[');
        if is_header && found.is_some() {
            break;
        }
        if is_header && word.split('#').next().is_some_and(|word| word.trim() == header) {
            found = Some(Entries { keys: Vec::new(), end: at + line.len() });
        } else if let Some(entries) = &mut found
            && !word.is_empty()
        {
            if open == 0 && !word.starts_with('#') {
                let key = word.split(['=', '.', ' ']).next().unwrap_or(word).trim_matches('"');
                entries.keys.push((at, key));
            }
            entries.end = at + line.len();
        }
        let count = |marks: [char; 2]| line.chars().filter(|next| marks.contains(next)).count();
        open = if is_header { 0 } else { (open + count(['[', '{'])).saturating_sub(count([']', '}'])) };
        at += line.len();
    }
    found
}

/// Where the object of a key of the outermost object opens.
fn top_level_object(text: &str, wanted: &str) -> Option<usize> {
    let open = text.find('{')?;
    let keys = keys_of_object(text, open);
    let (begin, end, _) = keys.into_iter().find(|(_, _, key)| *key == wanted)?;
    text[begin..end].find('{').map(|at| begin + at)
}

/// Each entry of an object: where its key begins, where its value ends, and the key.
fn keys_of_object(text: &str, open: usize) -> Vec<(usize, usize, &str)> {
    let mut found = Vec::new();
    let (mut depth, mut key, mut end) = (0_usize, None, open);
    let mut at = open;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let close = end_of_text(bytes, at);
                if depth == 1 && key.is_none() {
                    key = Some((at, &text[at + 1..close]));
                }
                at = close;
                end = at + 1;
            }
            b'{' | b'[' => depth += 1,
            b',' if depth == 1 => {
                found.extend(key.take().map(|(begin, key)| (begin, end, key)));
            }
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    found.extend(key.take().map(|(begin, key)| (begin, end, key)));
                    break;
                }
                end = at + 1;
            }
            byte if !byte.is_ascii_whitespace() => end = at + 1,
            _ => {}
        }
        at += 1;
    }
    found
}

/// Where the quote stands that ends a text of JSON.
fn end_of_text(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [(&str, &str); 2] = [("tidings-client", "^1"), ("tidings-server-sdk", "^2")];

    fn added(text: &str) -> String {
        in_package_json(text, &OURS).unwrap()
    }

    #[test]
    fn entries_of_package_json_stand_in_their_order_and_form() {
        assert_eq!(
            added(
                "{\n\t\"a\": {\"dependencies\": {}},\n\t\"dependencies\": {\n\t\t\"express\": \"^4\",\n\t\t\"zod\": \"1\"\n\t}\n}\n"
            ),
            "{\n\t\"a\": {\"dependencies\": {}},\n\t\"dependencies\": {\n\t\t\"express\": \"^4\",\n\t\t\"tidings-client\": \"^1\",\n\t\t\"tidings-server-sdk\": \"^2\",\n\t\t\"zod\": \"1\"\n\t}\n}\n"
        );
        assert_eq!(
            added("{\n  \"dependencies\": {\n    \"express\": \"^4\"\n  }\n}"),
            "{\n  \"dependencies\": {\n    \"express\": \"^4\",\n    \"tidings-client\": \"^1\",\n    \"tidings-server-sdk\": \"^2\"\n  }\n}"
        );
        assert_eq!(
            added("{\"dependencies\":{\"express\":\"^4\"},\"b\":1}"),
            "{\"dependencies\":{\"express\":\"^4\", \"tidings-client\": \"^1\", \"tidings-server-sdk\": \"^2\"},\"b\":1}"
        );
        assert_eq!(
            added("{\"dependencies\":{}}"),
            "{\"dependencies\":{\"tidings-client\": \"^1\", \"tidings-server-sdk\": \"^2\"}}"
        );
    }

    #[test]
    fn the_sdk_for_python_is_asked_for_as_the_list_does_it() {
        let version = env!("CARGO_PKG_VERSION");
        let asked_for = format!("tidings-client[server]=={version}");
        let added = |path: &str, text: &str, wheel| in_python(path, text, &asked_for, wheel).unwrap();
        assert_eq!(added("requirements.txt", "fastapi", None), format!("fastapi\n{asked_for}\n"));
        let list = "[project]\ndependencies = [\n    \"fastapi>=0.1\",\n    \"x\",\n]\n";
        let expected = list.replace("0.1\",", &format!("0.1\",\n    \"{asked_for}\","));
        assert_eq!(added("pyproject.toml", list, Some("sdks/a.whl")), expected);
        let inline = "dependencies = [\"fastapi\"]\n";
        assert_eq!(
            added("pyproject.toml", inline, None),
            format!("dependencies = [\"fastapi\", \"{asked_for}\"]\n")
        );
        let poetry = "[tool.poetry.dependencies]\nfastapi = \"^0.115\"\nx = \"1\"\n";
        let expected = poetry
            .replace("115\"\n", "115\"\ntidings-client = { path = \"sdks/a.whl\", extras = [\"server\"] }\n");
        assert_eq!(added("pyproject.toml", poetry, Some("sdks/a.whl")), expected);
        assert!(in_python("requirements.txt", "fastapi==1 --hash=sha256:1", &asked_for, None).is_err());
        assert!(in_python("pyproject.toml", "[project]\n", &asked_for, None).is_err());
    }

    #[test]
    fn crates_stand_in_their_order_and_those_of_a_folder_are_patched() {
        let entries = [("serde_json", "\"1\"".to_owned()), ("tidings", "\"0\"".to_owned())];
        let added = |text: &str, packages: Option<&[String]>| in_cargo(text, &entries, packages).unwrap();
        assert_eq!(
            added(
                "[dependencies]\naxum = \"0.8\"\ntokio = { features = [\n  \"a\",\n] }\n\n[dev-dependencies]\nx = \"1\"\n",
                None
            ),
            "[dependencies]\naxum = \"0.8\"\nserde_json = \"1\"\ntidings = \"0\"\ntokio = { features = [\n  \"a\",\n] }\n\n[dev-dependencies]\nx = \"1\"\n"
        );
        let packages = ["tidings-0.1.0.crate".to_owned(), "tidings-protocol-0.1.0.crate".to_owned()];
        let patches = "tidings = { path = \"sdks/tidings-0.1.0\" }\ntidings-protocol = { path = \"sdks/tidings-protocol-0.1.0\" }\n";
        let text = "[dependencies]\nserde_json.workspace = true\n\n[features]\na = []\n";
        let expected = text.replace("true\n", "true\ntidings = \"0\"\n");
        let told =
            "\n# As they were packed from a clone of Tidings, and unpacked in sdks/.\n[patch.crates-io]\n";
        assert_eq!(added(text, Some(&packages)), format!("{expected}{told}{patches}"));
        let patched = "[patch.crates-io]\na = { path = \"a\" }\n[dependencies]\nserde_json = \"1\"";
        assert_eq!(
            added(&format!("{patched}\n"), Some(&packages)),
            format!(
                "[patch.crates-io]\na = {{ path = \"a\" }}\n{patches}[dependencies]\nserde_json = \"1\"\ntidings = \"0\"\n"
            )
        );
        assert!(in_cargo("[package]\n", &entries, None).unwrap_err().fix.contains("tidings = \"0\""));
    }

    #[test]
    fn a_list_of_packages_that_is_none_is_told_with_what_to_write() {
        for text in ["{", "{}", "{\"dependencies\":1}", "[]"] {
            assert!(
                in_package_json(text, &OURS).unwrap_err().fix.contains("\"tidings-client\": \"^1\""),
                "{text}"
            );
        }
    }
}
