//! Imports inside the library point down one list and never up; the list stands in ARCHITECTURE.md.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The list between the fences under "Layers of the library".
fn layers() -> Vec<String> {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md")).unwrap();
    let section = text.split("## Layers of the library").nth(1).unwrap();
    section.split("```").nth(1).unwrap().split_whitespace().skip(1).map(str::to_owned).collect()
}

/// The modules that a file's code names by `crate::`, its own tests left out.
fn imports(code: &str) -> BTreeSet<String> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let named = lines.flat_map(|line| line.split("crate::").skip(1));
    named
        .map(|rest| {
            rest.chars().take_while(|char| char.is_ascii_lowercase() || *char == '_').collect::<String>()
        })
        .filter(|module| !module.is_empty())
        .collect()
}

#[test]
fn imports_point_down() {
    let layers = layers();
    let place = |module: &str| layers.iter().position(|layer| layer == module);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for path in found {
        let relative = path.strip_prefix(&root).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "lib" {
            continue;
        }
        seen.insert(module.clone());
        let Some(from) = place(&module) else {
            faults.push(format!("{module} is not in ARCHITECTURE.md's list"));
            continue;
        };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            match place(&import) {
                None => {
                    faults.push(format!("{} imports {import}, which is not in the list", relative.display()));
                }
                Some(to) if to < from => {
                    faults.push(format!("{} imports {import}, which is above it", relative.display()));
                }
                Some(_) => {}
            }
        }
    }
    faults.extend(
        layers.iter().filter(|layer| !seen.contains(*layer)).map(|layer| format!("{layer} has no file")),
    );
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn an_import_is_found_wherever_it_stands() {
    let code = "use crate::hub::{Hub};\nfn f() { crate::room::g() }\n// use crate::shard;\n#[cfg(test)]\nmod tests { use crate::env; }";
    assert_eq!(imports(code).into_iter().collect::<Vec<_>>(), ["hub", "room"]);
}
