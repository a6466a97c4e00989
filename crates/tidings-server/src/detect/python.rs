//! What a source in Python says at a place: where a statement ends, what is defined and imported, which fields a class has.

use super::project::{Project, folder_of};
use super::source::Source;
use super::tongue::Tongue;

/// Where a project has its packages whose top is no place for them.
pub(crate) const SRC: &str = "src/";

/// How a file of a package names its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Imports {
    /// `from .rooms import …`
    Relative,
    /// `from app.rooms import …`
    Dotted,
    /// `from shop.rooms import …`, of a package in `src/`
    InSrc,
    /// `from rooms import …`
    Plain,
}

impl Imports {
    pub(crate) fn of(project: &Project, source: &Source<'_>) -> Self {
        let folder = folder_of(source.path);
        let modules: Vec<_> = imported_modules(source);
        let first_step = folder.split('/').next().unwrap_or_default();
        let is_below = |module: &&str| module.split('.').next() == Some(first_step);
        let is_beside = |module: &&str| {
            let name = module.split('.').next().unwrap_or_default();
            project.has(&format!("{folder}{name}.py")) || project.has(&format!("{folder}{name}/__init__.py"))
        };
        let package = folder.strip_prefix(SRC).and_then(|below| below.split('/').next()).unwrap_or_default();
        let is_package = !package.is_empty()
            && !project.has("src/__init__.py")
            && (project.has(&format!("{SRC}{package}/__init__.py"))
                || modules.iter().any(|module| module.split('.').next() == Some(package)));
        if modules.iter().any(|module| module.starts_with('.')) {
            Self::Relative
        } else if folder.is_empty() {
            Self::Plain
        } else if modules.iter().any(is_below) {
            Self::Dotted
        } else if is_package {
            Self::InSrc
        } else if modules.iter().any(is_beside) || !project.has(&format!("{folder}__init__.py")) {
            Self::Plain
        } else {
            Self::Dotted
        }
    }

    /// How a file in `folder` names another file of the project; none, if it can't.
    pub(crate) fn module(self, folder: &str, path: &str) -> Option<String> {
        let bare = path.strip_suffix(".py")?;
        let bare = bare.strip_suffix("/__init__").unwrap_or(bare);
        match self {
            Self::Dotted => Some(bare.replace('/', ".")),
            Self::InSrc => Some(bare.strip_prefix(SRC).unwrap_or(bare).replace('/', ".")),
            Self::Plain => Some(bare.strip_prefix(folder)?.replace('/', ".")),
            Self::Relative => match bare.strip_prefix(folder) {
                Some(below) => Some(format!(".{}", below.replace('/', "."))),
                None => {
                    let above = folder_of(folder.trim_end_matches('/'));
                    Some(format!("..{}", bare.strip_prefix(above)?.replace('/', ".")))
                }
            },
        }
    }
}

/// Where a statement that has begun before `at` ends: at the end of its last line.
pub(crate) fn statement_end(source: &Source<'_>, at: usize) -> usize {
    let bytes = source.code.as_bytes();
    let mut end = at;
    while end < bytes.len() {
        match bytes[end] {
            b'(' | b'[' | b'{' => end = source.close_of(end).unwrap_or(bytes.len() - 1),
            b'\n' if end == 0 || bytes[end - 1] != b'\\' => break,
            _ => {}
        }
        end += 1;
    }
    let end = end.min(bytes.len());
    end - usize::from(source.text[..end].ends_with('\r'))
}

/// Each statement that imports, at the left margin: where it begins.
fn import_statements<'s>(source: &'s Source<'_>) -> impl Iterator<Item = usize> + 's {
    ["import", "from"]
        .into_iter()
        .flat_map(|word| source.all(word).collect::<Vec<_>>())
        .filter(|at| source.line_start(*at) == *at && source.depth(*at) == 0)
}

fn imported_modules<'a>(source: &Source<'a>) -> Vec<&'a str> {
    let modules = import_statements(source).filter_map(|at| {
        let statement = &source.text[at..statement_end(source, at)];
        statement.split_whitespace().nth(1)
    });
    modules.collect()
}

/// Behind the last import at the left margin that stands before a byte.
pub(crate) fn behind_imports(source: &Source<'_>, before: usize) -> Option<usize> {
    import_statements(source).map(|at| statement_end(source, at)).filter(|end| *end <= before).max()
}

/// Whether a name is there for every statement of a file: defined, or imported.
pub(crate) fn is_in_scope(source: &Source<'_>, name: &str) -> bool {
    let is_imported = import_statements(source).any(|at| {
        let statement = &source.code[at..statement_end(source, at)];
        words(statement).any(|word| word == name)
    });
    is_imported || definition(source, name).is_some()
}

/// Where the left margin has `def name`, `class name` or `name =`.
pub(crate) fn definition(source: &Source<'_>, name: &str) -> Option<usize> {
    source.all(name).find_map(|at| {
        let start = source.line_start(at);
        let before = source.code[start..at].trim_end();
        let behind = source.code[at + name.len()..].trim_start_matches([' ', '\t']);
        let is_value =
            before.is_empty() && start == at && behind.starts_with('=') && !behind.starts_with("==");
        (["def", "async def", "class"].contains(&before) || is_value).then_some(start)
    })
}

/// The function in whose body a byte is: the innermost.
pub(crate) fn enclosing<'a>(source: &Source<'a>, at: usize) -> Option<&'a str> {
    let defs = source.all("def").filter(|def| *def < at);
    let around = defs.filter(|def| {
        let start = source.line_start(*def);
        let body = body(source, start).len();
        (start..statement_end(source, start) + body).contains(&at)
    });
    around.last().map(|def| source.name_at(source.skip_blanks(def + "def".len())))
}

/// Whether a statement runs when its file does: at the left margin, or below `if __name__`.
pub(crate) fn is_run(source: &Source<'_>, at: usize) -> bool {
    let is_main = |main: usize| {
        source.begins_line(main)
            && (main..statement_end(source, main) + body(source, main).len()).contains(&at)
    };
    source.indentation(at).is_empty() || source.all("if __name__").any(is_main)
}

/// What is indented below a statement.
pub(crate) fn body<'s>(source: &'s Source<'_>, start: usize) -> &'s str {
    let indentation = source.indentation(start).len();
    // The colon that ends the head, behind every bracket.
    let head = statement_end(source, start);
    let mut end = head;
    for line in source.code[head..].split_inclusive('\n') {
        let is_below = line.trim().is_empty() || line.len() - line.trim_start().len() > indentation;
        if !is_below {
            break;
        }
        end += line.len();
    }
    &source.text[head..end]
}

/// The fields that a class has, and those of its bases that are the application's own.
pub(crate) fn fields(project: &Project, class: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut classes = vec![class.to_owned()];
    let mut seen = Vec::new();
    while let Some(class) = classes.pop() {
        if seen.contains(&class) {
            continue;
        }
        for source in project.sources(Tongue::Python) {
            let heads = [format!("class {class}("), format!("class {class}:")];
            let Some(at) = heads.iter().find_map(|head| source.all(head).next()) else { continue };
            for line in body(&source, at).lines() {
                let name = line.trim_start();
                let end =
                    name.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(name.len());
                if name[end..].trim_start().starts_with([':', '=']) {
                    found.push(name[..end].to_owned());
                }
            }
            let head = &source.code[at..statement_end(&source, at)];
            let bases = head.split_once('(').map_or("", |(_, bases)| bases);
            // Of a library, by which the users of an application are often given their id.
            if bases.contains("SQLAlchemyBaseUserTable") || bases.contains("AbstractUser") {
                found.push("id".to_owned());
            }
            classes.extend(words(bases).map(str::to_owned));
        }
        seen.push(class);
    }
    found
}

pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|next: char| !next.is_alphanumeric() && next != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_neighbours_as_it_does_already() {
        let has = |path: &'static str, text: &'static str, others: &[&'static str]| {
            let files: Vec<_> = others.iter().map(|other| (*other, "")).chain([(path, text)]).collect();
            let project = Project::of(&files);
            Imports::of(&project, &project.source(path).unwrap())
        };
        assert_eq!(has("main.py", "import os\n", &[]), Imports::Plain);
        assert_eq!(has("app/main.py", "from .auth import a\n", &[]), Imports::Relative);
        assert_eq!(has("app/main.py", "from app.auth import a\n", &[]), Imports::Dotted);
        assert_eq!(has("src/main.py", "from auth import a\n", &["src/auth.py"]), Imports::Plain);
        assert_eq!(has("app/main.py", "import os\n", &["app/__init__.py"]), Imports::Dotted);
        assert_eq!(has("src/main.py", "import os\n", &[]), Imports::Plain);
        let in_src = ["src/shop/__init__.py"];
        assert_eq!(has("src/shop/main.py", "import os\n", &in_src), Imports::InSrc);
        assert_eq!(has("src/shop/main.py", "from shop.auth import a\n", &[]), Imports::InSrc);
        assert_eq!(has("src/shop/main.py", "from src.shop.auth import a\n", &in_src), Imports::Dotted);
        assert_eq!(has("src/shop/main.py", "from auth import a\n", &["src/shop/auth.py"]), Imports::Plain);
        assert_eq!(Imports::InSrc.module("src/shop/", "src/shop/auth.py").as_deref(), Some("shop.auth"));
        let module = |imports: Imports, path: &str| imports.module("app/", path);
        assert_eq!(module(Imports::Relative, "app/auth.py").as_deref(), Some(".auth"));
        assert_eq!(module(Imports::Relative, "auth/deps.py").as_deref(), Some("..auth.deps"));
        assert_eq!(module(Imports::Dotted, "app/auth/__init__.py").as_deref(), Some("app.auth"));
        assert_eq!(module(Imports::Plain, "app/auth.py").as_deref(), Some("auth"));
        assert_eq!(module(Imports::Plain, "auth.py"), None);
    }

    #[test]
    fn statements_definitions_and_fields_are_found() {
        let text = "import os\nfrom a import (\n    b,\n    c as d,\n)\n\nclass Base:\n    id: int\n\n\nclass User(Base):\n    \"\"\"name: x\"\"\"\n    \
            email = 1\n    def f(self):\n        pass\n\n\nasync def g(\n    h,\n) -> User:\n    return h\n\n\ni = Depends(g)\n";
        let project = Project::of(&[("main.py", text)]);
        let source = project.source("main.py").unwrap();
        assert_eq!(
            &text[..behind_imports(&source, text.len()).unwrap()],
            text.split_once("\n\nclass Base").unwrap().0
        );
        for (name, is_there) in
            [("b", true), ("d", true), ("g", true), ("i", true), ("h", false), ("os", true), ("User", true)]
        {
            assert_eq!(is_in_scope(&source, name), is_there, "{name}");
        }
        assert_eq!(fields(&project, "User"), ["email", "id"]);
        assert_eq!(body(&source, definition(&source, "g").unwrap()).trim(), "return h");
    }
}
