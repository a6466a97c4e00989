//! A source as it is searched: what is a comment or in quotes is blank in its code, and every byte is where it was.
//!
//! No parser: what is looked for are a few shapes that people write by hand, and what has another shape is not found.

use std::ops::Range;

use super::blanked::code_of;
use super::tongue::{Tongue, is_of_name};

/// A file's text, and the same without comments and quoted texts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// As long as the text.
    pub(crate) code: String,
}

impl<'a> Source<'a> {
    /// None, if it is no source.
    pub(crate) fn of(path: &'a str, text: &'a str) -> Option<Self> {
        Some(Self { path, text, code: code_of(text, Tongue::of(path)?) })
    }

    /// Where the code has a text that stands alone: what is beside it belongs to no name.
    pub(crate) fn all<'s>(&'s self, wanted: &'s str) -> impl Iterator<Item = usize> + 's {
        let is_name = |byte: Option<&u8>| byte.is_some_and(|byte| is_of_name(*byte));
        let bytes = self.code.as_bytes();
        let begins_as_name = wanted.bytes().next().is_some_and(is_of_name);
        let ends_as_name = wanted.bytes().last().is_some_and(is_of_name);
        self.code.match_indices(wanted).map(|(at, _)| at).filter(move |at| {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            let is_part =
                begins_as_name && is_name(before) || ends_as_name && is_name(bytes.get(at + wanted.len()));
            !is_part
        })
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count()
    }

    /// Where the line of a byte begins.
    pub(crate) fn line_start(&self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
    }

    /// What stands before the first word of a byte's line.
    pub(crate) fn indentation(&self, at: usize) -> &'a str {
        let line = &self.text[self.line_start(at)..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }

    /// Whether nothing but blanks is before it on its line.
    pub(crate) fn begins_line(&self, at: usize) -> bool {
        self.text[self.line_start(at)..at].trim().is_empty()
    }

    /// How many brackets are open there.
    pub(crate) fn depth(&self, at: usize) -> usize {
        self.code.bytes().take(at).fold(0, |depth: usize, byte| match byte {
            b'(' | b'[' | b'{' => depth + 1,
            b')' | b']' | b'}' => depth.saturating_sub(1),
            _ => depth,
        })
    }

    /// Where the bracket that opens at `open` is closed.
    pub(crate) fn close_of(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// Where the bracket opens that is closed at `close`.
    pub(crate) fn open_of(&self, close: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, byte) in self.code.bytes().enumerate().take(close + 1).collect::<Vec<_>>().into_iter().rev()
        {
            match byte {
                b')' | b']' | b'}' => depth += 1,
                b'(' | b'[' | b'{' => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// The block that a byte is in: from behind its brace to the one that closes it, or the whole text.
    pub(crate) fn block(&self, at: usize) -> Range<usize> {
        let mut closed = 0_usize;
        for (before, byte) in self.code.bytes().enumerate().take(at).collect::<Vec<_>>().into_iter().rev() {
            match byte {
                b')' | b']' | b'}' => closed += 1,
                b'(' | b'[' | b'{' if closed > 0 => closed -= 1,
                b'{' => return before + 1..self.close_of(before).unwrap_or(self.code.len()),
                _ => {}
            }
        }
        0..self.code.len()
    }

    /// The name that begins at a byte of the code; empty, if none does.
    pub(crate) fn name_at(&self, at: usize) -> &'a str {
        let rest = &self.text[at..];
        &rest[..rest.bytes().position(|byte| !is_of_name(byte)).unwrap_or(rest.len())]
    }

    /// The name that ends before a byte, blanks aside; empty, if none does.
    pub(crate) fn name_before(&self, at: usize) -> &'a str {
        let before = self.code[..at].trim_end();
        let begin = before.bytes().rposition(|byte| !is_of_name(byte)).map_or(0, |at| at + 1);
        &self.text[begin..before.len()]
    }

    /// The first byte from there on that is neither a blank nor a comment.
    pub(crate) fn skip_blanks(&self, at: usize) -> usize {
        let rest = &self.code[at..];
        at + rest.len() - rest.trim_start().len()
    }

    /// What is quoted first in a range, without its quotes.
    pub(crate) fn quoted(&self, range: Range<usize>) -> Option<&'a str> {
        let text = self.text.get(range.clone())?;
        let code = self.code.as_bytes();
        let is_quote = |byte: u8| matches!(byte, b'"' | b'\'' | b'`');
        let begin = text
            .bytes()
            .enumerate()
            .position(|(at, byte)| is_quote(byte) && code[range.start + at] == byte)?;
        let quote = char::from(text.as_bytes()[begin]);
        let rest = &text[begin + 1..];
        Some(&rest[..rest.find(quote)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(path: &str, text: &str) -> String {
        let code = Source::of(path, text).unwrap().code;
        assert_eq!(code.len(), text.len());
        code
    }

    #[test]
    fn comments_and_quotes_are_blank_and_nothing_moves() {
        assert_eq!(code("a.js", "a('b') // c\nd"), "a(' ')     \nd");
        assert_eq!(code("a.js", "/* ( */x(\"\\\"(\")"), "       x(\"   \")");
        assert_eq!(code("a.ts", "`a${b(`c}`)}(`; d"), "`            `; d");
        assert_eq!(code("a.js", "x(/[/(]\\/'/g) / 2"), "x(         g) / 2");
        assert_eq!(code("a.py", "'''a\n(''' # (\nb = \"(\""), "''' \n '''    \nb = \" \"");
        assert_eq!(
            code("a.rs", "f('(', &'a x, r#\"\"(\"#) /* /* */ ( */"),
            "f(' ', &'a x, r#\"  \"#)              "
        );
        assert_eq!(code("a.js", "'é' + é"), "'  ' + é");
        for cut in ["\"a", "`a${", "'''", "/*", "/", "a\\"] {
            for path in ["a.js", "a.py", "a.rs"] {
                code(path, cut);
            }
        }
    }

    #[test]
    fn places_are_found_in_the_code_alone() {
        let text = "// app.use(a)\nfunction f() {\n  app.use(a({ b: [1] }));\n  myapp.use(c);\n}\n";
        let source = Source::of("a.js", text).unwrap();
        let found: Vec<_> = source.all("app.use(").collect();
        assert_eq!(found, [text.find("app.use(a({").unwrap()]);
        let at = found[0];
        assert_eq!((source.line(at), source.indentation(at), source.depth(at)), (3, "  ", 1));
        assert_eq!(&text[source.close_of(at + 7).unwrap()..][..3], ");\n");
        assert_eq!(source.open_of(source.close_of(at + 7).unwrap()), Some(at + 7));
        assert_eq!(&text[source.block(at)], "\n  app.use(a({ b: [1] }));\n  myapp.use(c);\n");
        assert!(source.begins_line(at) && !source.begins_line(at + 1));
        assert_eq!((source.name_at(at), source.name_before(at + 3)), ("app", "app"));
        assert_eq!(source.quoted(0..text.len()), None);
        let source = Source::of("a.js", "x = require( 'y' ) // 'z'").unwrap();
        assert_eq!(source.quoted(0..25), Some("y"));
        assert_eq!(source.block(3), 0..25);
    }
}
