//! What all sources say together, and where each value of it was said: flags before the environment before the file.
//!
//! Spans are offsets into one text, in which the sources stand one behind the other: so whatever serde says of a span
//! leads to a line of the file, a variable or a flag.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::fault;
use crate::failure::{Failure, Failures, Place};

/// One key that something else than the file sets.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Who says it.
    pub(crate) place: Place,
    /// `limits.heartbeat_seconds`
    pub(crate) path: String,
    /// The value, in TOML.
    pub(crate) text: String,
}

/// All sources as one table.
#[derive(Debug)]
pub(super) struct Document<'t> {
    root: Spanned<DeTable<'t>>,
    /// The file, unless there is none.
    file: Option<(&'t Path, &'t str)>,
    /// Who said what lies in these spans.
    others: Vec<(Range<usize>, &'t Place)>,
}

impl<'t> Document<'t> {
    /// Puts `settings` over the file, a later one over an earlier.
    ///
    /// # Errors
    /// What is no TOML.
    pub(super) fn new(file: Option<(&'t Path, &'t str)>, settings: &'t [Setting]) -> Result<Self, Failure> {
        let text = file.map_or("", |(_, text)| text);
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self { root, file, others: Vec::new() };
        let mut failures = Failures::default();
        // One slip makes many faults where it stands; the first of a line says most.
        let mut last_line = None;
        for error in errors {
            let place = document.place(error.span());
            let line = match &place {
                Some(Place::File { line, .. }) => *line,
                _ => 1,
            };
            if last_line.replace(line) != Some(line) {
                failures.add(fault::syntax(error.message(), place));
            }
        }
        let mut start = text.len() + 1;
        for setting in settings {
            let begun = start;
            match DeValue::parse(&setting.text) {
                Ok(value) => {
                    let value = respan(value.into_inner(), &mut start);
                    set(document.root.get_mut(), &setting.path, value);
                }
                Err(error) => failures.add(fault::syntax(error.message(), Some(setting.place.clone()))),
            }
            document.others.push((begun..start, &setting.place));
        }
        failures.none().map(|()| document)
    }

    /// Where a span lies. What has no span is the whole.
    fn place(&self, span: Option<Range<usize>>) -> Option<Place> {
        let at = span.map_or(0, |span| span.start);
        let (path, text) = self.file.unwrap_or((Path::new(""), ""));
        if let Some((_, place)) = self.others.iter().find(|(span, _)| span.contains(&at)) {
            return Some((*place).clone());
        }
        self.file?;
        let (line, column) = fault::line_and_column(text, at);
        Some(Place::File { path: path.to_owned(), line, column })
    }

    /// The place of every value, by its path.
    pub(super) fn places(&self) -> Places {
        let mut places = BTreeMap::new();
        for (path, spans) in self.entries() {
            // A key says better than its value where to look; what a list holds has no key.
            places.extend(self.place(spans.key.or(Some(spans.value))).map(|place| (path, place)));
        }
        let file = self.file.map(|(path, _)| path.to_owned());
        Places { places, file }
    }

    /// The values as JSON.
    pub(super) fn json(&self) -> Value {
        use serde::Deserialize as _;
        Value::deserialize(Deserializer::from(self.root.clone())).unwrap_or_default()
    }

    /// Reads it all. A fault does not hide the next: what is at fault is taken out, and the rest is read again.
    pub(super) fn read<T: DeserializeOwned>(&self, schema: &Value, failures: &mut Failures) -> Option<T> {
        let entries = self.entries();
        let mut root = self.root.clone();
        let mut taken_out = Vec::<String>::new();
        loop {
            let error = match T::deserialize(Deserializer::from(root.clone())) {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let at = error.span().and_then(|span| entry_at(&entries, &span));
            let path = at.map(|(path, _)| path.as_str());
            // What is missing may be what was taken out.
            let follows = fault::missing(error.message()).is_some()
                && taken_out
                    .iter()
                    .any(|taken| path.is_none_or(|path| taken.starts_with(&format!("{path}."))));
            if !follows {
                failures.add(fault::failure(error.message(), path, self.place(error.span()), schema));
            }
            let (path, spans) = at?;
            if !remove(root.get_mut(), &spans.value) {
                return None;
            }
            taken_out.push(path.clone());
        }
    }

    /// Every value with its path, those within before those around.
    fn entries(&self) -> Vec<(String, Spans)> {
        let mut entries = Vec::new();
        list(self.root.get_ref(), "", &mut entries);
        entries
    }
}

/// Where a value stands, and its key.
#[derive(Clone, Debug)]
struct Spans {
    key: Option<Range<usize>>,
    value: Range<usize>,
}

fn list(table: &DeTable<'_>, prefix: &str, entries: &mut Vec<(String, Spans)>) {
    for (key, value) in table {
        let path = format!("{prefix}{}", key.get_ref());
        list_value(value, &path, entries);
        entries.push((path, Spans { key: Some(key.span()), value: value.span() }));
    }
}

fn list_value(value: &Spanned<DeValue<'_>>, path: &str, entries: &mut Vec<(String, Spans)>) {
    match value.get_ref() {
        DeValue::Table(table) => list(table, &format!("{path}."), entries),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                list_value(item, &path, entries);
                entries.push((path, Spans { key: None, value: item.span() }));
            }
        }
        _ => {}
    }
}

/// The entry that serde means by a span: its key, else its value.
fn entry_at<'e>(entries: &'e [(String, Spans)], span: &Range<usize>) -> Option<&'e (String, Spans)> {
    let by_key = entries.iter().find(|(_, spans)| spans.key.as_ref() == Some(span));
    by_key.or_else(|| entries.iter().find(|(_, spans)| spans.value == *span))
}

/// Takes the value of a span out of wherever it is: a list of sections has the span of its first, which is meant then.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    if table.iter_mut().any(|(_, value)| remove_within(value.get_mut(), span)) {
        return true;
    }
    let meant = table.iter().find(|(_, value)| value.span() == *span);
    let key = meant.map(|(key, _)| key.get_ref().to_string());
    key.is_some_and(|key| table.remove(key.as_str()).is_some())
}

fn remove_within(value: &mut DeValue<'_>, span: &Range<usize>) -> bool {
    match value {
        DeValue::Table(table) => remove(table, span),
        DeValue::Array(items) => {
            if items.iter_mut().any(|item| remove_within(item.get_mut(), span)) {
                return true;
            }
            let before = items.len();
            *items = std::mem::replace(items, DeArray::new())
                .into_iter()
                .filter(|item| item.span() != *span)
                .collect();
            items.len() < before
        }
        _ => false,
    }
}

/// A value of which every part has a span of its own, from `next` on.
fn respan<'t>(value: DeValue<'t>, next: &mut usize) -> Spanned<DeValue<'t>> {
    let span = take_span(next);
    let value = match value {
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| respan(item.into_inner(), next)).collect())
        }
        DeValue::Table(table) => {
            let entries = table.into_iter().map(|(key, value)| {
                (Spanned::new(take_span(next), key.into_inner()), respan(value.into_inner(), next))
            });
            DeValue::Table(entries.collect())
        }
        other => other,
    };
    Spanned::new(span, value)
}

fn take_span(next: &mut usize) -> Range<usize> {
    *next += 1;
    *next - 1..*next
}

/// Puts a value at its path, with the sections around it.
fn set<'t>(table: &mut DeTable<'t>, path: &str, value: Spanned<DeValue<'t>>) {
    let key = |name: &str| Spanned::new(value.span(), Cow::Owned(name.to_owned()));
    let Some((section, rest)) = path.split_once('.') else {
        // The key's place is that of the value that counts.
        table.remove(path);
        table.insert(key(path), value);
        return;
    };
    if !table.contains_key(section) {
        // Said in the same place, and no part of what is said there: that may be taken out without this.
        let around = value.span().start..value.span().start;
        table.insert(key(section), Spanned::new(around, DeValue::Table(DeTable::new())));
    }
    // What a file has in the place of a section is told when all is read.
    if let Some(DeValue::Table(section)) = table.get_mut(section).map(Spanned::get_mut) {
        set(section, rest, value);
    }
}

/// Where each value was said.
#[derive(Default, Debug)]
pub(crate) struct Places {
    places: BTreeMap<String, Place>,
    file: Option<PathBuf>,
}

impl Places {
    /// Where a key was set; none if nobody sets it.
    pub(crate) fn of(&self, path: &str) -> Option<&Place> {
        self.places.get(path)
    }

    /// Where to look for a key: at itself, else at what is around it, else at the beginning of the file.
    pub(super) fn near(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return Some(place.clone());
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => {
                    let path = self.file.clone()?;
                    return Some(Place::File { path, line: 1, column: 1 });
                }
            }
        }
    }
}
