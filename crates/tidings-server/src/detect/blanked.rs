//! A source without its comments and quoted texts, which are blanks of the same length.

use super::tongue::{Tongue, is_of_name};

/// The text with comments and what is in quotes as blanks. Quotes stay.
pub(super) fn code_of(text: &str, tongue: Tongue) -> String {
    let mut blanked = Blanked { bytes: text.as_bytes(), code: text.as_bytes().to_vec(), at: 0 };
    match tongue {
        Tongue::JavaScript => blanked.javascript(false),
        Tongue::Python => blanked.python(),
        Tongue::Rust => blanked.rust(),
    }
    String::from_utf8(blanked.code).unwrap_or_else(|_| " ".repeat(text.len()))
}

struct Blanked<'a> {
    bytes: &'a [u8],
    code: Vec<u8>,
    at: usize,
}

impl Blanked<'_> {
    fn starts(&self, wanted: &[u8]) -> bool {
        self.bytes[self.at..].starts_with(wanted)
    }

    /// Goes on to a byte, and leaves blanks behind; ends of lines stay.
    fn blank_to(&mut self, end: usize) {
        let end = end.min(self.bytes.len());
        for byte in self.code.get_mut(self.at..end).unwrap_or_default() {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        self.at = end;
    }

    fn find(&self, from: usize, wanted: &[u8]) -> Option<usize> {
        let rest = self.bytes.get(from..)?;
        rest.windows(wanted.len()).position(|window| window == wanted).map(|found| from + found)
    }

    fn line_comment(&mut self) {
        self.blank_to(self.find(self.at, b"\n").unwrap_or(self.bytes.len()));
    }

    /// From a quote to the one that ends it, both of which stay.
    fn quoted(&mut self, quote: &[u8], ends_with_line: bool) {
        self.at += quote.len();
        let mut end = self.at;
        while end < self.bytes.len() && !self.bytes[end..].starts_with(quote) {
            if ends_with_line && self.bytes[end] == b'\n' {
                break;
            }
            end += if self.bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.blank_to(end);
        self.at = (end + quote.len()).min(self.bytes.len());
    }

    /// Of a template's `${…}` up to its brace, else all.
    fn javascript(&mut self, is_in_template: bool) {
        let mut depth = 0_usize;
        // What a slash divides, if it divides: the last byte that is no blank.
        let mut before = b'(';
        while self.at < self.bytes.len() {
            let byte = self.bytes[self.at];
            if self.starts(b"//") {
                self.line_comment();
                continue;
            }
            if self.starts(b"/*") {
                self.blank_to(self.find(self.at + 2, b"*/").map_or(self.bytes.len(), |end| end + 2));
                continue;
            }
            match byte {
                b'"' | b'\'' => self.quoted(&[byte], true),
                b'`' => self.template(),
                b'/' if is_regex_after(before) => self.regex(),
                b'{' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' if depth == 0 && is_in_template => return,
                b'}' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
            if !byte.is_ascii_whitespace() {
                before = byte;
            }
        }
    }

    /// A template and all that is in its braces.
    fn template(&mut self) {
        let begin = self.at;
        self.at += 1;
        while self.at < self.bytes.len() && self.bytes[self.at] != b'`' {
            if self.starts(b"${") {
                self.at += 2;
                self.javascript(true);
                self.at = (self.at + 1).min(self.bytes.len());
            } else {
                self.at = (self.at + if self.bytes[self.at] == b'\\' { 2 } else { 1 }).min(self.bytes.len());
            }
        }
        let end = self.at;
        self.at = (begin + 1).min(self.bytes.len());
        self.blank_to(end);
        self.at = (end + 1).min(self.bytes.len());
    }

    fn regex(&mut self) {
        let mut end = self.at + 1;
        let mut is_in_class = false;
        while end < self.bytes.len() && self.bytes[end] != b'\n' {
            match self.bytes[end] {
                b'\\' => end += 1,
                b'[' => is_in_class = true,
                b']' => is_in_class = false,
                b'/' if !is_in_class => break,
                _ => {}
            }
            end += 1;
        }
        self.blank_to(end + 1);
    }

    fn python(&mut self) {
        while self.at < self.bytes.len() {
            match self.bytes[self.at] {
                b'#' => self.line_comment(),
                quote @ (b'"' | b'\'') => {
                    let long = [quote; 3];
                    if self.starts(&long) { self.quoted(&long, false) } else { self.quoted(&[quote], true) }
                }
                _ => self.at += 1,
            }
        }
    }

    fn rust(&mut self) {
        while self.at < self.bytes.len() {
            let is_in_name = self.at > 0 && is_of_name(self.bytes[self.at - 1]);
            match self.bytes[self.at] {
                b'/' if self.starts(b"//") => self.line_comment(),
                b'/' if self.starts(b"/*") => self.nested_comment(),
                b'"' => self.quoted(b"\"", false),
                b'r' if !is_in_name && (self.starts(b"r\"") || self.starts(b"r#")) => self.raw(),
                // A lifetime has no second quote.
                b'\''
                    if self.bytes.get(self.at + 1) == Some(&b'\\')
                        || self.bytes.get(self.at + 2) == Some(&b'\'') =>
                {
                    self.quoted(b"'", true);
                }
                _ => self.at += 1,
            }
        }
    }

    fn nested_comment(&mut self) {
        let (mut depth, mut end) = (1, self.at + 2);
        while depth > 0 && end < self.bytes.len() {
            let rest = &self.bytes[end..];
            let step = if rest.starts_with(b"/*") {
                1
            } else if rest.starts_with(b"*/") {
                -1
            } else {
                0
            };
            depth += step;
            end += if step == 0 { 1 } else { 2 };
        }
        self.blank_to(end);
    }

    fn raw(&mut self) {
        let hashes = self.bytes[self.at + 1..].iter().take_while(|byte| **byte == b'#').count();
        if self.bytes.get(self.at + 1 + hashes) != Some(&b'"') {
            self.at += 1;
            return;
        }
        let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
        let begin = self.at + 2 + hashes;
        self.at = begin;
        let found = self.find(begin, &end).unwrap_or(self.bytes.len());
        self.blank_to(found);
        self.at = (found + end.len()).min(self.bytes.len());
    }
}

/// Whether a slash begins a regular expression, by what stands before it.
fn is_regex_after(before: u8) -> bool {
    b"(,=:[!&|?{};+>".contains(&before)
}
