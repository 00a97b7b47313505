//! `completions` and `man`.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use serde_json::json;

use super::Cli;
use crate::admin::Answer;

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = "Example:\n  core-bin completions bash > \
    /usr/share/bash-completion/completions/core-bin")]
pub(super) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

pub(super) fn completions(args: CompletionsArgs) -> anyhow::Result<Answer> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "core-bin", &mut bytes);
    answer(bytes)
}

pub(super) fn man() -> anyhow::Result<Answer> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut bytes)?;
    answer(bytes)
}

fn answer(bytes: Vec<u8>) -> anyhow::Result<Answer> {
    let text = String::from_utf8(bytes).context("the generated text is not UTF-8")?;
    let json = json!({ "text": text });
    Ok(Answer::new(json, text))
}
