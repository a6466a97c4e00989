//! What a source in JavaScript or TypeScript says at a place: where a statement ends, what it imports, how it is a module.

use std::ops::Range;

use super::manifest::json;
use super::project::{Project, folder_of, resolved};
use super::source::Source;
use super::tongue::is_of_name;

/// How files of an application come to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Modules {
    Esm,
    CommonJs,
}

/// A name that a file has from another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Import {
    pub(crate) at: usize,
    /// As it is called here.
    pub(crate) name: String,
    /// What stands in the quotes.
    pub(crate) from: String,
}

/// By the file's ending, else by its own words, else by the package.
pub(crate) fn modules(source: &Source<'_>, package: &str) -> Modules {
    let (_, ending) = source.path.rsplit_once('.').unwrap_or_default();
    if ending.starts_with('m') {
        return Modules::Esm;
    }
    if ending.starts_with('c') {
        return Modules::CommonJs;
    }
    let says = |word: &str| source.all(word).any(|at| source.begins_line(at) && source.depth(at) == 0);
    if says("import") || says("export") {
        return Modules::Esm;
    }
    if source.all("require(").next().is_some() || source.all("module.exports").next().is_some() {
        return Modules::CommonJs;
    }
    if is_module(package) { Modules::Esm } else { Modules::CommonJs }
}

/// Whether a `package.json` says so of all files whose ending does not.
pub(crate) fn is_module(package: &str) -> bool {
    json(package).is_some_and(|package| package["type"].as_str() == Some("module"))
}

/// Where a statement that has begun before `at` ends: behind its semicolon, or at the end of its last line.
pub(crate) fn statement_end(source: &Source<'_>, at: usize) -> usize {
    let bytes = source.code.as_bytes();
    let mut end = at;
    while end < bytes.len() {
        match bytes[end] {
            b';' => return end + 1,
            b'(' | b'[' | b'{' => match source.close_of(end) {
                Some(close) => end = close,
                None => return bytes.len(),
            },
            b')' | b']' | b'}' => return end,
            b'\n' if !goes_on(source, end) => {
                return if end > 0 && bytes[end - 1] == b'\r' { end - 1 } else { end };
            }
            _ => {}
        }
        end += 1;
    }
    bytes.len()
}

/// Whether the line that ends here is continued on the next one.
fn goes_on(source: &Source<'_>, end: usize) -> bool {
    let before = source.code[..end].trim_end();
    let after = source.code[end..].trim_start();
    let is_operator = |byte: u8| b".,+-*/%=&|?:<>([{".contains(&byte);
    before.bytes().last().is_some_and(is_operator)
        || after.bytes().next().is_some_and(|byte| b".,?:)]&|+*%=".contains(&byte))
}

/// Where the statement that a byte is in begins: its line's first word, if brackets are closed before it.
pub(crate) fn statement_start(source: &Source<'_>, at: usize) -> usize {
    let depth = source.depth(at);
    let mut start = at;
    loop {
        let line = source.line_start(start);
        let first = source.skip_blanks(line).min(start);
        let before = source.code[..line].trim_end();
        let is_begun = before.is_empty()
            || before.ends_with([';', '{', '}'])
            || !goes_on(source, line.saturating_sub(1));
        if (is_begun && source.depth(first) <= depth) || line == 0 {
            return first;
        }
        start = line - 1;
    }
}

/// Behind the last of the imports, or requires, that stand before a byte.
pub(crate) fn behind_imports(source: &Source<'_>, before: usize) -> Option<usize> {
    imports(source)
        .into_iter()
        .filter(|import| source.depth(statement_start(source, import.at)) == 0)
        .map(|import| statement_end(source, import.at))
        .filter(|end| *end <= before)
        .max()
}

/// Every name that comes from elsewhere.
pub(crate) fn imports(source: &Source<'_>) -> Vec<Import> {
    let mut found = Vec::new();
    let required = source.all("require(").filter_map(|at| {
        let close = source.close_of(at + "require".len())?;
        let from = source.quoted(at..close)?;
        let start = statement_start(source, at);
        let names = source.code.get(start..at)?.trim_end().strip_suffix('=').unwrap_or_default();
        let names = ["const", "let", "var"].iter().find_map(|word| names.trim().strip_prefix(word));
        Some((at, bound(names.unwrap_or_default()), from))
    });
    let imported = source.all("import").filter_map(|at| {
        let end = statement_end(source, at);
        let statement = source.code.get(at..end)?;
        let rest = statement.strip_prefix("import")?.trim_start();
        // Neither `import.meta` nor `import()`.
        if rest.starts_with(['.', '(']) {
            return None;
        }
        let from = source.quoted(at..end)?;
        let names = rest.split(['"', '\'']).next().unwrap_or_default().trim().trim_end_matches("from");
        Some((at, bound(names.trim().trim_start_matches("type ")), from))
    });
    for (at, names, from) in required.chain(imported) {
        // What is required for its effects alone is an import too.
        let names = if names.is_empty() { vec![String::new()] } else { names };
        found.extend(names.into_iter().map(|name| Import { at, name, from: from.to_owned() }));
    }
    found.sort_by_key(|import| import.at);
    found
}

/// The names of `a`, `{ a, b as c }`, `{ a, b: c }`, `a, { b }`, `* as a`.
fn bound(names: &str) -> Vec<String> {
    let last_word = |name: &str| {
        let begin = name.bytes().rposition(|byte| !is_of_name(byte)).map_or(0, |at| at + 1);
        name[begin..].to_owned()
    };
    names
        .split([',', '{', '}'])
        // A type's annotation is none of the names; what is called otherwise comes behind a colon too.
        .map(|name| last_word(name.trim()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The path of the file that an import means; none for a package.
pub(crate) fn target(project: &Project, importer: &str, from: &str) -> Option<String> {
    if !from.starts_with('.') {
        return None;
    }
    let path = resolved(folder_of(importer), from)?;
    let bare = path.rsplit_once('.').map_or(path.as_str(), |(bare, _)| bare);
    let endings = [
        "",
        ".js",
        ".ts",
        ".mjs",
        ".cjs",
        ".mts",
        ".cts",
        "/index.js",
        "/index.ts",
        "/index.mjs",
        "/index.cjs",
    ];
    let mut paths = endings.iter().map(|ending| format!("{path}{ending}"));
    paths
        .find(|path| project.get(path).is_some())
        // TypeScript writes the ending of what it becomes.
        .or_else(|| {
            [".ts", ".mts", ".cts"]
                .iter()
                .map(|ending| format!("{bare}{ending}"))
                .find(|path| project.has(path))
        })
}

/// The body of a function of this name: `function f(…) {…}`, `const f = (…) => {…}`, `exports.f = function (…) {…}`.
pub(crate) fn body_of(source: &Source<'_>, name: &str) -> Option<Range<usize>> {
    source.all(name).find_map(|at| {
        let before = source.code[..at].trim_end();
        let behind = source.skip_blanks(at + name.len());
        if before.ends_with("function") {
            return body(source, behind + source.code[behind..].find('(')?);
        }
        let is_declared = ["const", "let", "var", "exports."].iter().any(|word| before.ends_with(word));
        if !is_declared || !source.code[behind..].starts_with(['=', ':']) {
            return None;
        }
        // A type's `=>` is none of the value's.
        function_at(source, behind + source.code[behind..].find("= ")? + 1)
    })
}

/// The body of a function that is a value: `function (…) {…}`, `async (…) => {…}`, and wrapped, `handled(async (…) => {…})`.
fn function_at(source: &Source<'_>, at: usize) -> Option<Range<usize>> {
    let mut value = source.skip_blanks(at);
    let name = source.name_at(value);
    if name == "async" {
        value = source.skip_blanks(value + name.len());
    } else if !name.is_empty() && name != "function" {
        let open = source.skip_blanks(value + name.len());
        return source.code[open..].starts_with('(').then(|| function_at(source, open + 1))?;
    }
    if source.code[value..].starts_with("function") {
        return body(source, value + source.code[value..].find('(')?);
    }
    let close = source.code[value..].starts_with('(').then(|| source.close_of(value))??;
    let arrow = close + source.code[close..].find("=>")?;
    let open = source.skip_blanks(arrow + 2);
    let between = source.code[close + 1..arrow].trim();
    let is_arrow = between.is_empty() || between.starts_with(':');
    (is_arrow && source.code[open..].starts_with('{')).then(|| Some(open..source.close_of(open)?))?
}

/// Behind a function's arguments.
fn body(source: &Source<'_>, arguments: usize) -> Option<Range<usize>> {
    let close = source.close_of(arguments)?;
    let open = close + source.code[close..].find('{')?;
    Some(open..source.close_of(open)?)
}

/// How a file gives a name to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Export {
    /// Among others, under its name.
    Named,
    /// As all that the file is.
    Whole,
}

/// How a file exports a name; none, if it does not.
pub(crate) fn export(source: &Source<'_>, name: &str) -> Option<Export> {
    let code = &source.code;
    let words = |text: &str| {
        text.split(|next: char| !next.is_ascii() || !is_of_name(next as u8)).any(|word| word == name)
    };
    for begin in ["export default", "module.exports ="] {
        for at in source.all(begin) {
            let value = source.skip_blanks(at + begin.len());
            let word = source.name_at(value);
            let is_function =
                word == "function" && source.name_at(source.skip_blanks(value + word.len())) == name;
            if word == name || is_function {
                return Some(Export::Whole);
            }
            if begin.starts_with("module")
                && code[value..].starts_with('{')
                && words(&code[value..source.close_of(value)?])
            {
                return Some(Export::Named);
            }
        }
    }
    let is_listed = source.all("export").any(|at| {
        let value = source.skip_blanks(at + "export".len());
        let end = if code[value..].starts_with('{') {
            source.close_of(value)
        } else {
            code[value..].find(['=', '(']).map(|end| value + end)
        };
        end.is_some_and(|end| words(&code[value..end]))
    });
    let is_member = source.all(&format!("exports.{name}")).next().is_some();
    (is_listed || is_member).then_some(Export::Named)
}

/// The function in whose body a byte is, by its name: the innermost that has one.
pub(crate) fn enclosing<'a>(source: &Source<'a>, at: usize) -> Option<&'a str> {
    let words = ["function", "const", "let", "exports."];
    let names =
        words.into_iter().flat_map(|word| source.all(word).map(|at| at + word.len()).collect::<Vec<_>>());
    let names = names.map(|at| source.name_at(source.skip_blanks(at))).filter(|name| !name.is_empty());
    let bodies = names.filter_map(|name| Some((body_of(source, name)?, name)));
    bodies.filter(|(body, _)| body.contains(&at)).min_by_key(|(body, _)| body.len()).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_has_a_beginning_and_an_end() {
        let text = "const a = b\n  .c(\n    1,\n  )\n  .d();\nx = 1\ny()\nif (z) f(1);";
        let source = Source::of("a.js", text).unwrap();
        let statement = |word: &str| {
            let at = source.all(word).next().unwrap();
            &text[statement_start(&source, at)..statement_end(&source, at)]
        };
        assert_eq!(statement("b"), "const a = b\n  .c(\n    1,\n  )\n  .d();");
        assert_eq!(statement("d"), "const a = b\n  .c(\n    1,\n  )\n  .d();");
        assert_eq!(statement("x"), "x = 1");
        assert_eq!(statement("y"), "y()");
        assert_eq!(statement("if"), "if (z) f(1);");
    }

    #[test]
    fn what_a_file_imports_has_a_name_and_a_place() {
        let text = "import a, { b as c } from './x.js';\nimport * as d from \"d\";\nimport 'e';\n\
            const { f: g,\n  h } = require('../y');\nrequire('z');\nconst i = 1;\nfunction j() {\n  const k = require('k');\n}\n";
        let source = Source::of("src/a.js", text).unwrap();
        let found: Vec<_> = imports(&source).into_iter().map(|import| (import.name, import.from)).collect();
        let expected = [
            ("a", "./x.js"),
            ("c", "./x.js"),
            ("d", "d"),
            ("", "e"),
            ("g", "../y"),
            ("h", "../y"),
            ("", "z"),
            ("k", "k"),
        ];
        assert_eq!(found, expected.map(|(name, from)| (name.to_owned(), from.to_owned())));
        assert_eq!(
            &text[..behind_imports(&source, text.len()).unwrap()],
            text.split_once("\nconst i").unwrap().0
        );
        assert_eq!(behind_imports(&source, 3), None);
    }

    #[test]
    fn a_file_is_a_module_by_its_words_and_an_import_leads_to_a_file() {
        let esm = r#"{"type":"module"}"#;
        for (path, text, package, expected) in [
            ("a.mjs", "require('a')", "", Modules::Esm),
            ("a.cjs", "", esm, Modules::CommonJs),
            ("a.ts", "import a from 'a'", "", Modules::Esm),
            ("a.js", "const a = require('a')", esm, Modules::CommonJs),
            ("a.js", "a()", esm, Modules::Esm),
            ("a.js", "await import('a')", "{}", Modules::CommonJs),
        ] {
            assert_eq!(modules(&Source::of(path, text).unwrap(), package), expected, "{path} {text}");
        }
        let project = Project::of(&[("src/app.ts", "x"), ("src/routes/index.js", "x")]);
        for (from, to) in [
            ("./app", Some("src/app.ts")),
            ("./app.js", Some("src/app.ts")),
            ("./routes", Some("src/routes/index.js")),
            ("app", None),
            ("./no", None),
        ] {
            assert_eq!(target(&project, "src/server.ts", from).as_deref(), to, "{from}");
        }
    }

    #[test]
    fn an_export_is_of_a_name_or_of_the_whole() {
        for (text, expected) in [
            ("export { g, f };", Some(Export::Named)),
            ("export const f = () => {};", Some(Export::Named)),
            ("export async function f(g) {}", Some(Export::Named)),
            ("module.exports = { g, f };", Some(Export::Named)),
            ("exports.f = g;", Some(Export::Named)),
            ("export default f;", Some(Export::Whole)),
            ("export default function f() {}", Some(Export::Whole)),
            ("module.exports = f;", Some(Export::Whole)),
            ("export const g = f();", None),
            ("module.exports = { g };\nfunction f() {}", None),
        ] {
            assert_eq!(export(&Source::of("a.js", text).unwrap(), "f"), expected, "{text}");
        }
    }

    #[test]
    fn a_functions_body_is_found_however_it_is_written() {
        for text in ["function f(a) { b }", "const f = async (a) => { b };", "exports.f = function (a) { b }"]
        {
            let source = Source::of("a.js", text).unwrap();
            assert_eq!(text[body_of(&source, "f").unwrap()].trim_start_matches('{').trim(), "b", "{text}");
        }
        for text in
            ["f(a); { }", "const f = g(a);\nif (b) { }", "const f = (a);\nh(() => { })", "const f = 1;"]
        {
            assert_eq!(body_of(&Source::of("a.js", text).unwrap(), "f"), None, "{text}");
        }
        let text = "function f(): T {\n  const g = () => { h };\n  i;\n}\nj";
        let source = Source::of("a.ts", text).unwrap();
        let of = |word: &str| enclosing(&source, text.find(word).unwrap());
        assert_eq!((of("h"), of("i;"), of("j")), (Some("g"), Some("f"), None));
    }
}
