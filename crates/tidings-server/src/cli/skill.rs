//! `tidings skill`: the skill for coding agents, laid down in a project.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::{Failure, Form};
use crate::skill;

/// The skill for coding agents: how real-time is built with Tidings
#[derive(Args, Debug)]
pub(crate) struct SkillCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Install(Install),
}

/// Lay the skill websocket-builder down in a project, for the agents that read it there
#[derive(Args, Debug)]
struct Install {
    /// The folder of skills; .claude/skills, or wherever your agent looks
    #[arg(long, value_name = "DIR", default_value = ".github/skills")]
    dir: PathBuf,
    /// Replace files that were changed, or are of another version
    #[arg(long)]
    force: bool,
}

impl SkillCommand {
    pub(super) fn run(self, form: Form) -> Result<(), Failure> {
        match self.verb {
            Verb::Install(install) => install.run(form),
        }
    }
}

impl Install {
    fn run(self, form: Form) -> Result<(), Failure> {
        let folder = self.dir.join(skill::NAME);
        let files = if self.force { skill::lay_over(&folder)? } else { skill::lay_down(&folder)? };
        let text = match form {
            Form::Text => {
                files.iter().map(|(path, became)| format!("{} {}\n", became.word(), path.display())).collect()
            }
            Form::Json => {
                let files: Vec<_> = files
                    .iter()
                    .map(
                        |(path, became)| json!({"path": path.display().to_string(), "became": became.word()}),
                    )
                    .collect();
                let told =
                    json!({"skill": skill::NAME, "folder": folder.display().to_string(), "files": files});
                format!("{told}\n")
            }
        };
        std::io::stdout()
            .write_all(text.as_bytes())
            .map_err(|error| Failure::failed(format_args!("stdout: {error}")))
    }
}
