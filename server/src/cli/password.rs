//! `otus password`: makes what the configuration keeps of a password or token. Neither is ever an argument, which
//! other users of the machine could read.

use std::io::{IsTerminal, stdin};
use std::process::ExitCode;

use console::Term;
use otus_engine::{Error, Result};

use super::output;
use crate::auth::{TokenHash, Verifier, generate_token};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "At a terminal it asks for the password twice; otherwise it reads one line from standard input. What it
prints belongs into the section [users.NAME] of the configuration:

  otus password
  otus password < password.txt
  otus password --token"
)]
pub(crate) struct PasswordArgs {
    /// Make a random bearer token for HTTP instead, and print it once with its hash
    #[arg(long)]
    token: bool,
}

pub(crate) fn run(args: &PasswordArgs) -> Result<ExitCode> {
    if args.token {
        let token = generate_token()?;
        output::note(
            "the token, shown only now; its owner sends it as Authorization: Bearer TOKEN",
        );
        output::line(&token)?;
        output::note("its hash, for the configuration:");
        output::line(&format!("tokens = [\"{}\"]", TokenHash::of(&token)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let password = if stdin().is_terminal() { ask_twice()? } else { one_line()? };
    if password.is_empty() {
        return Err(Error::invalid("the password is empty"));
    }
    output::line(&format!("password = \"{}\"", Verifier::generate(&password)?))?;
    Ok(ExitCode::SUCCESS)
}

fn ask_twice() -> Result<String> {
    let password = ask("Password: ")?;
    if ask("Again: ")? != password {
        return Err(Error::invalid("the passwords differ"));
    }
    Ok(password)
}

/// Asks at the terminal, without showing what is typed.
pub(crate) fn ask(prompt: &str) -> Result<String> {
    let terminal = Term::stderr();
    let asked = terminal.write_str(prompt).and_then(|()| terminal.read_secure_line());
    asked.map_err(|e| Error::unavailable("the terminal cannot be read").with_source(e))
}

fn one_line() -> Result<String> {
    let mut line = String::new();
    stdin()
        .read_line(&mut line)
        .map_err(|e| Error::invalid("standard input cannot be read").with_source(e))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}
