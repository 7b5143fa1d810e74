//! What the house style can be held to by reading the sources: sizes, headers, homes of foreign crates, words
//! and paths that have no place in the project.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use otus_tests::paths;

/// Lines of a source file at most.
const LINES_MAX: usize = 600;
/// Columns of a line at most, except where a long literal or address cannot be broken.
const COLUMNS_MAX: usize = 140;

/// Where a foreign crate may be named in code: `(path in code, folders or files)`.
const HOMES: [(&str, &[&str]); 8] = [
    ("rdkafka::", &["ingest/src/log/kafka"]),
    ("ArrowWriter", &["engine/src/segment/"]),
    ("AsyncArrowWriter", &["engine/src/segment/"]),
    ("use pgwire::", &["server/src/pgwire/"]),
    ("arrow_pg::", &["server/src/pgwire/"]),
    ("ring::", &["server/src/auth/", "sql/src/pull/cursor.rs"]),
    ("tokio_rustls::", &["server/src/auth/"]),
    ("axum::", &["server/src/http/"]),
];

/// Folders that are made, and no part of the project.
const MADE: [&str; 3] = ["target", "node_modules", "dist"];

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !MADE.contains(&&*name) && !name.starts_with('.') {
                files(&path, ending, found)?;
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    Ok(())
}

fn sources(ending: &str) -> Result<Vec<(String, String)>> {
    let root = paths::checkout();
    let mut found = Vec::new();
    files(&root, ending, &mut found)?;
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            Ok((name, fs::read_to_string(&path)?))
        })
        .collect()
}

/// Production code of the four crates.
fn is_production(name: &str) -> bool {
    let ours = ["engine/src/", "ingest/src/", "sql/src/", "server/src/"];
    ours.iter().any(|folder| name.starts_with(folder))
        && !name.ends_with("/tests.rs")
        && !name.contains("/tests/")
}

fn report(problems: &[String]) -> Result<()> {
    anyhow::ensure!(problems.is_empty(), "\n{}", problems.join("\n"));
    Ok(())
}

#[test]
fn every_source_file_has_a_header_and_a_bound() -> Result<()> {
    let mut problems = Vec::new();
    for (name, text) in sources(".rs")? {
        if !text.starts_with("//!") {
            problems.push(format!("{name}: does not begin with a //! header"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(format!("{name}: {lines} lines, {LINES_MAX} at most"));
        }
        // Tables of cases in tests read better in one line each.
        let mut is_case = name.contains("tests");
        for (number, line) in (1..).zip(text.lines()) {
            is_case |= line == "#[cfg(test)]";
            if !is_case && line.chars().count() > COLUMNS_MAX {
                problems.push(format!("{name}:{number}: longer than {COLUMNS_MAX} columns"));
            }
        }
    }
    report(&problems)
}

#[test]
fn foreign_crates_are_named_in_one_module() -> Result<()> {
    let mut problems = Vec::new();
    for (name, text) in sources(".rs")? {
        if !is_production(&name) {
            continue;
        }
        for (path, homes) in HOMES {
            let at_home = homes.iter().any(|home| name.starts_with(home));
            let production = text.split("#[cfg(test)]").next().unwrap_or(&text);
            if !at_home && code_lines(production).any(|line| names(line, path)) {
                problems.push(format!("{name}: names {path}, whose home is {homes:?}"));
            }
        }
        if name.starts_with("ingest/") && code_lines(&text).any(|l| l.contains("datafusion::")) {
            problems.push(format!("{name}: ingest knows nothing of DataFusion"));
        }
    }
    report(&problems)
}

/// Whether the line names the foreign path, and not a module of ours of the same name.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line.get(..at).unwrap_or_default();
        !before.ends_with("::") && !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn nothing_is_left_undone_or_switched_off() -> Result<()> {
    // Spelled in pieces, so that this file does not accuse itself.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ig", "nore"].concat(),
        ["#![allow", "(warnings"].concat(),
    ];
    let mut problems = Vec::new();
    for (name, text) in sources(".rs")? {
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                problems.push(format!("{name}:{number}: {word}"));
            }
        }
    }
    report(&problems)
}

#[test]
fn no_path_of_a_machine_stands_in_the_project() -> Result<()> {
    let roots =
        [["/ro", "ot/"], ["/wo", "rk/"], ["/ho", "me/"], ["/Us", "ers/"]].map(|r| r.concat());
    let hosts = [["://regi", "stry."], ["://sta", "tic."], ["://fi", "les."], ["://in", "dex."]];
    let hosts = hosts.map(|h| h.concat());
    let mut problems = Vec::new();
    for ending in [".rs", ".md", ".toml", ".py", ".slt", ".json", ".xml", "run"] {
        for (name, text) in sources(ending)? {
            for (number, line) in (1..).zip(text.lines()) {
                let path = roots
                    .iter()
                    .any(|root| line.find(root.as_str()).is_some_and(|at| begins_a_path(line, at)));
                if path || hosts.iter().any(|host| line.contains(host.as_str())) {
                    problems.push(format!("{name}:{number}: {line}"));
                }
            }
        }
    }
    report(&problems)
}

/// Whether the text before makes this the beginning of an absolute path.
fn begins_a_path(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|text| text.chars().next_back());
    !before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.' || c == '~' || c == '}')
}

#[test]
fn documents_point_at_what_exists() -> Result<()> {
    let root = paths::checkout();
    let mut problems = Vec::new();
    for (name, text) in sources(".md")? {
        let folder = Path::new(&name).parent().unwrap_or(Path::new(""));
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or(target);
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !root.join(folder).join(target).exists() {
                problems.push(format!("{name}: points at {target}, which does not exist"));
            }
        }
    }
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    if architecture.lines().count() > 300 {
        problems.push("ARCHITECTURE.md: more than 300 lines".into());
    }
    report(&problems)
}

/// Every key that the configuration reader takes stands in its document.
#[test]
fn every_configuration_key_is_documented() -> Result<()> {
    let document = fs::read_to_string(paths::checkout().join("docs/configuration.md"))?;
    let mut problems = Vec::new();
    let mut keys = 0;
    for (name, text) in sources(".rs")? {
        if !name.starts_with("server/src/config/") || name.ends_with("/tests.rs") {
            continue;
        }
        let calls = [
            "take(\"",
            "require(\"",
            "duration(section, \"",
            "size(section, \"",
            "count(section, \"",
            "memory(section, \"",
        ];
        for call in calls {
            for key in text.split(call).skip(1).filter_map(|rest| rest.split('"').next()) {
                keys += 1;
                let inside = document.contains(&format!("`{key}`"))
                    || document.contains(&format!("{key} ="));
                let section = document.contains(&format!("[{key}]"))
                    || document.contains(&format!("[{key}."))
                    || document.contains(&format!(".{key}"));
                if !inside && !section {
                    problems.push(format!("docs/configuration.md: does not name {key:?} ({name})"));
                }
            }
        }
    }
    anyhow::ensure!(keys > 30, "only {keys} keys found: the reader has changed its words");
    report(&problems)
}
