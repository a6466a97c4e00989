//! Changes of a file that is somebody else's: insertions and nothing else, so that whatever was there stays.

use crate::detect::source::Source;

/// What is put into a text, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Insertions<'a> {
    text: &'a str,
    /// In the order in which they were made: two at one place stay in it.
    made: Vec<(usize, String)>,
}

impl<'a> Insertions<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self { text, made: Vec::new() }
    }

    /// Within a line.
    pub(crate) fn at(&mut self, at: usize, inserted: impl Into<String>) {
        self.made.push((at, inserted.into()));
    }

    /// As lines of their own before that of a byte, with its indentation.
    pub(crate) fn before_line(&mut self, source: &Source<'_>, at: usize, lines: &[String]) {
        let indentation = source.indentation(at);
        let inserted: String = lines.iter().map(|line| indented(indentation, line) + "\n").collect();
        self.at(source.line_start(at), inserted);
    }

    /// As lines of their own behind a statement's end, with the indentation of the line on which that statement begins.
    pub(crate) fn behind(&mut self, source: &Source<'_>, start: usize, end: usize, lines: &[String]) {
        let indentation = source.indentation(start);
        let inserted: String =
            lines.iter().map(|line| format!("\n{}", indented(indentation, line))).collect();
        self.at(end_of_line_behind(source, end), inserted);
    }

    /// At the end of the text, on lines of their own.
    pub(crate) fn at_the_end(&mut self, lines: &str) {
        let begin = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
        self.at(self.text.len(), format!("{begin}{lines}"));
    }

    /// The text with all of them, whose lines end as its own do.
    pub(crate) fn applied(&self) -> String {
        let mut made: Vec<_> = self.made.iter().collect();
        made.sort_by_key(|(at, _)| *at);
        let ends_lines = if self.text.contains("\r\n") { "\r\n" } else { "\n" };
        let mut applied = String::with_capacity(self.text.len() + 512);
        let mut done = 0;
        for (at, inserted) in made {
            applied.push_str(&self.text[done..*at]);
            applied.push_str(&inserted.replace('\n', ends_lines));
            done = *at;
        }
        applied.push_str(&self.text[done..]);
        applied
    }
}

fn indented(indentation: &str, line: &str) -> String {
    if line.is_empty() { String::new() } else { format!("{indentation}{line}") }
}

/// The end of a line on which nothing but a comment follows; else the place itself.
fn end_of_line_behind(source: &Source<'_>, end: usize) -> usize {
    let line_end = source.text[end..].find('\n').map_or(source.text.len(), |newline| end + newline);
    let line_end = if source.text[end..line_end].ends_with('\r') { line_end - 1 } else { line_end };
    if source.code[end..line_end].trim().is_empty() { line_end } else { end }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_put_where_they_belong() {
        let text = "f(\n  g(\n  );  // said\n);\nh(); i();";
        let source = Source::of("a.js", text).unwrap();
        let mut insertions = Insertions::of(text);
        let start = text.find("g(").unwrap();
        insertions.behind(&source, start, text.find(");  //").unwrap() + 2, &["x".to_owned(), String::new()]);
        insertions.behind(&source, text.find("h()").unwrap(), text.find(" i()").unwrap(), &["y".to_owned()]);
        insertions.before_line(&source, start, &["z".to_owned()]);
        insertions.at_the_end("end\n");
        assert_eq!(insertions.applied(), "f(\n  z\n  g(\n  );  // said\n  x\n\n);\nh();\ny i();\nend\n");
    }

    #[test]
    fn the_ends_of_lines_are_those_of_the_file() {
        let text = "a();\r\nb();\r\n";
        let source = Source::of("a.js", text).unwrap();
        let mut insertions = Insertions::of(text);
        insertions.behind(&source, 0, 4, &["x();".to_owned()]);
        assert_eq!(insertions.applied(), "a();\r\nx();\r\nb();\r\n");
    }

    proptest! {
        #[test]
        fn what_was_there_is_all_there_and_in_its_order(
            text in "[a-c(){}\r\n]{0,40}",
            inserted in prop::collection::vec((0_usize..40, "[x-z\n]{0,5}"), 0..5),
        ) {
            let mut insertions = Insertions::of(&text);
            for (at, inserted) in inserted {
                insertions.at(at.min(text.len()), inserted);
            }
            let applied = insertions.applied();
            let mut left = applied.chars().filter(|next| !"xyz".contains(*next));
            for was in text.chars() {
                prop_assert!(left.by_ref().any(|next| next == was));
            }
        }
    }
}
