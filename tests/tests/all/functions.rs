//! The page of functions: its table is declared, its records are appended, and each of its questions must give the
//! answer that stands below it. With `OTUS_DOCS_COMPLETE=1` the answers are rewritten with what the server
//! says, to be read and judged before they are kept.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup};
use otus_tests::paths;

fn page() -> PathBuf {
    paths::checkout().join("docs/functions.md")
}

/// Code blocks of a page in order: language, text, and where the text begins.
fn blocks(text: &str) -> Vec<(&str, &str, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = text.get(at..).and_then(|rest| rest.find("\n```")) {
        let fence = at + begin + 4;
        let Some(line) = text.get(fence..).and_then(|rest| rest.find('\n')) else { break };
        let code = fence + line + 1;
        let Some(end) = text.get(code..).and_then(|rest| rest.find("```")) else { break };
        let language = text.get(fence..fence + line).unwrap_or_default();
        found.push((language, text.get(code..code + end).unwrap_or_default(), code));
        at = code + end + 3;
    }
    found
}

/// Rows as psql aligns them, without its count of rows.
fn shown(otus: &Otus, sql: &str) -> Result<String> {
    let (names, found) = otus.connect()?.titled(sql)?;
    let cells = |row: Vec<Option<String>>| row.into_iter().map(Option::unwrap_or_default).collect();
    let mut rows: Vec<Vec<String>> = vec![names];
    rows.extend(found.into_iter().map(cells));
    let columns = rows.first().map_or(0, Vec::len);
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (n, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(text, "{}", cells.join(" | ").trim_end())?;
        if n == 0 {
            let lines: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
            writeln!(text, "{}", lines.join("-+-"))?;
        }
    }
    Ok(text)
}

#[test]
fn the_page_of_functions_says_what_the_server_answers() -> Result<()> {
    let text = fs::read_to_string(page())?;
    let blocks = blocks(&text);
    let of = |language: &str| {
        let found = blocks.iter().find(|(l, ..)| *l == language);
        found.map(|(_, code, _)| *code).with_context(|| format!("no {language} block"))
    };
    let otus = Setup::tables(of("toml")?).start()?;
    let records: Vec<_> = of("json")?.lines().map(|line| line.as_bytes().to_vec()).collect();
    let (status, answer) = otus.append("visits", &records)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from visits", i64::try_from(records.len())?)?;
    let complete = std::env::var_os("OTUS_DOCS_COMPLETE").is_some();
    let (mut page_now, mut kept) = (String::new(), 0);
    let mut problems = Vec::new();
    let mut asked = 0;
    for pair in blocks.windows(2) {
        let [("sql", sql, _), ("text", wanted, at)] = pair else { continue };
        let found = shown(&otus, sql).with_context(|| (*sql).to_owned())?;
        asked += 1;
        page_now.push_str(text.get(kept..*at).unwrap_or_default());
        page_now.push_str(&found);
        kept = at + wanted.len();
        if found != *wanted {
            problems.push(format!("{sql}\n{found}"));
        }
    }
    page_now.push_str(text.get(kept..).unwrap_or_default());
    if complete {
        fs::write(page(), page_now)?;
        return Ok(());
    }
    anyhow::ensure!(problems.is_empty(), "other answers:\n{}", problems.join("\n"));
    let questions = blocks.iter().filter(|(language, ..)| *language == "sql").count();
    anyhow::ensure!(asked == questions && asked > 15, "{asked} of {questions} have an answer");
    Ok(())
}
