//! `docs/pull.md` says that all its examples run as they stand: here they do, those over a document with the
//! answers that the page shows, those to a server over the demo's own table.

use std::fs;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, Setup, post};
use otus_tests::paths;
use serde_json::{Value, json};

/// The code blocks of a page: language and text.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut pieces = page.split("\n```");
    pieces.next();
    let mut found = Vec::new();
    while let Some(piece) = pieces.next() {
        let (language, code) = piece.split_once('\n').unwrap_or((piece, ""));
        found.push((language.to_owned(), code.to_owned()));
        pieces.next();
    }
    found
}

/// What stands between the first and the last quote of a shell command.
fn quoted(command: &str) -> Result<&str> {
    let (_, rest) = command.split_once('\'').context("no quote")?;
    Ok(rest.rsplit_once('\'').context("no end of the quote")?.0)
}

fn page() -> Result<Vec<(String, String)>> {
    Ok(blocks(&fs::read_to_string(paths::checkout().join("docs/pull.md"))?))
}

#[test]
fn examples_over_a_document_answer_as_the_page_says() -> Result<()> {
    let otus = Setup::default().prepare()?;
    let blocks = page()?;
    let (_, document) = blocks.first().context("no document")?;
    fs::write(otus.folder().join("site.edn"), document)?;
    let mut seen = 0;
    for pair in blocks.windows(2) {
        let [(_, command), (_, answer)] = pair else { continue };
        let Some(arguments) = command.strip_prefix("otus pull --data site.edn ") else { continue };
        let said = otus.run(&["pull", "--data", "site.edn", quoted(arguments)?])?;
        anyhow::ensure!(said.trim() == answer.trim(), "{command}\n{said}instead of\n{answer}");
        seen += 1;
    }
    anyhow::ensure!(seen >= 4, "only {seen} examples were found");
    Ok(())
}

/// The demo's own declaration, with events of which the page's questions ask.
fn demo() -> Result<Otus> {
    let source = fs::read_to_string(paths::checkout().join("server/src/demo/tables.rs"))?;
    let tables = source.split("r#\"").nth(1).and_then(|t| t.split("\"#").next());
    // The page declares a query over them.
    let queries = page()?.into_iter().find(|(language, _)| language == "toml");
    let (_, queries) = queries.context("no query on the page")?;
    let sections = format!("{}\n{queries}\n", tables.context("no tables of the demo")?);
    let otus = Setup::tables(sections).start()?;
    let event = |time: &str, event: &str, platform: &str, player: i64| {
        let event = json!({"time": time, "event": event, "platform": platform, "game": "ddz",
            "player_id": player, "client_version": "1.2", "error": "lost"});
        event.to_string().into_bytes()
    };
    let now = otus.value("select to_char(now(), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")?;
    let events = [
        event("2026-11-20T02:10:00Z", "match_end", "ios", 1),
        event("2026-11-20T02:20:00Z", "match_end", "android", 2),
        event("2026-11-20T02:20:00Z", "match_end", "web", 3),
        event("2026-11-20T22:20:00Z", "match_end", "ios", 4),
        event(&now, "client_error", "ios", 5),
    ];
    let (status, answer) = otus.append("game_events", &events)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from game_events", 5)?;
    Ok(otus)
}

#[test]
fn examples_to_a_server_answer() -> Result<()> {
    let otus = demo()?;
    let (mut edn, mut json) = (Vec::new(), Vec::new());
    for (language, code) in page()? {
        if language == "sh" && code.starts_with("curl ") {
            let kind = code.split("content-type: ").nth(1).and_then(|t| t.split('\'').next());
            let body = code.split_once("-d '").context("no body")?.1;
            let body = body.rsplit_once('\'').context("no end of the body")?.0;
            let answer = post(&otus.url("/api/pull"), kind.context("no type")?, body)?;
            anyhow::ensure!(answer.0 == 200, "{code}\n{answer:?}");
            if kind == Some("application/json") { json.push(answer.1) } else { edn.push(answer.1) }
        } else if language == "clojure" && code.starts_with("{:pattern") {
            let (status, answer) = post(&otus.url("/api/pull"), "application/edn", &code)?;
            anyhow::ensure!(status == 200 && !answer.contains(":errors ["), "{code}\n{answer}");
            edn.push(answer);
        }
    }
    // The interval of the page holds two events of its platforms, in one hour.
    let answer: Value = serde_json::from_str(json.first().context("no example in JSON")?)?;
    let rows = answer["vars"]["rows"].as_array().context("no rows")?;
    anyhow::ensure!(rows.len() == 1 && rows[0]["matches"] == 2, "{answer}");
    anyhow::ensure!(rows[0]["players"] == 2 && rows[0]["game"] == "ddz", "{answer}");
    for (example, words) in [
        (0, [":matches 2", ":players 2"]),
        (1, [":game \"ddz\"", ":others 0"]),
        (2, [":platform \"ios\"", ":matches/prev "]),
        (3, [":error \"lost\"", ":client_version \"1.2\""]),
        (4, [":value \"ddz\"", ":players 5"]),
        (5, [":last ", ":measures "]),
        (6, [":game \"ddz\"", ":events 5"]),
    ] {
        let answer = edn.get(example).context("an example is gone")?;
        for word in words {
            anyhow::ensure!(answer.contains(word), "{word} is not in {answer}");
        }
    }
    anyhow::ensure!((edn.len(), json.len()) == (7, 1), "{} and {}", edn.len(), json.len());
    Ok(())
}
