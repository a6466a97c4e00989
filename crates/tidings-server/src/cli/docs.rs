//! `tidings docs`: the documents that the program carries, without a network.

use std::io::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::config::nearest;
use crate::failure::{Failure, Form};
use crate::manual::{PAGES, Page};

/// Print a page of the documentation; without a topic, what there is
#[derive(Args, Debug)]
pub(crate) struct Docs {
    /// Which page: tidings docs http-api
    topic: Option<String>,
}

impl Docs {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        let text = match (&self.topic, form) {
            (None, Form::Text) => list(),
            (None, Form::Json) => {
                format!("{}\n", json!({"topics": PAGES.iter().map(entry).collect::<Vec<_>>()}))
            }
            (Some(topic), Form::Text) => page(topic)?.text.to_owned(),
            (Some(topic), Form::Json) => {
                let page = page(topic)?;
                let mut entry = entry(page);
                entry["text"] = page.text.into();
                format!("{entry}\n")
            }
        };
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}

fn entry(page: &Page) -> Value {
    json!({"topic": page.topic, "about": page.about, "path": page.path})
}

fn list() -> String {
    let width = PAGES.iter().map(|page| page.topic.len()).max().unwrap_or_default();
    PAGES.iter().map(|Page { topic, about, .. }| format!("{topic:width$}  {about}\n")).collect()
}

/// By its topic, or by where it stands in the repository, as links and `llms.txt` have it.
fn page(topic: &str) -> Result<&'static Page, Failure> {
    PAGES.iter().find(|page| page.topic == topic || page.path == topic).ok_or_else(|| {
        let fix = match nearest(topic, PAGES.iter().map(|page| page.topic)) {
            Some(nearest) => format!("did you mean `{nearest}`? tidings docs lists what there is"),
            None => "tidings docs lists what there is".to_owned(),
        };
        Failure::usage(format_args!("there is no page `{topic}`")).fix(fix)
    })
}
