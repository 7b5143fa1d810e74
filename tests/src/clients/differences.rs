//! What `tests/clients/differences.toml` lists: probes that a client sees answered otherwise than by PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::folder;

/// Probe → the parts in which it differs.
pub(super) type Parts = BTreeMap<String, BTreeSet<String>>;

const HEAD: &str = "\
# Where a client sees another answer from Otus than from PostgreSQL, and why. `clients` names the parts of the probe
# that differ: columns, types, rows, value or error. What differs and is not listed fails the client's test; so does
# what is listed and does not differ. With OTUS_TEST_WRITE=1 the tests write what they find; reasons are yours.
";

static WRITING: Mutex<()> = Mutex::new(());

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Differences {
    #[serde(default)]
    difference: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    probe: String,
    reason: String,
    clients: Parts,
}

fn file() -> PathBuf {
    folder().join("differences.toml")
}

fn all() -> Result<Vec<Difference>> {
    let read: Differences =
        toml::from_str(&std::fs::read_to_string(file())?).context("differences.toml")?;
    Ok(read.difference)
}

/// What is listed for a client. Each has a reason.
pub(super) fn listed(client: &str) -> Result<Parts> {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = Parts::new();
    for each in all()? {
        anyhow::ensure!(!each.reason.is_empty(), "{:?} is listed without a reason", each.probe);
        if let Some(parts) = each.clients.get(client) {
            let twice = found.insert(each.probe.clone(), parts.clone()).is_some();
            anyhow::ensure!(!twice, "{:?} is listed twice for {client}", each.probe);
        }
    }
    Ok(found)
}

/// Lists for a client what was found, with the reasons that there are.
pub(super) fn write(client: &str, found: &Parts) -> Result<()> {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut list = all()?;
    let mut left = found.clone();
    for each in &mut list {
        each.clients.remove(client);
        if let Some(parts) = left.remove(&each.probe) {
            each.clients.insert(client.to_owned(), parts);
        }
    }
    list.extend(left.into_iter().map(|(probe, parts)| Difference {
        probe,
        reason: String::new(),
        clients: [(client.to_owned(), parts)].into_iter().collect(),
    }));
    list.retain(|each| !each.clients.is_empty());
    list.sort_by(|a, b| (&a.reason, &a.probe).cmp(&(&b.reason, &b.probe)));
    let mut text = HEAD.to_owned();
    for each in &list {
        write!(
            text,
            "\n[[difference]]\nprobe = {}\nreason = {}\n",
            quoted(&each.probe),
            quoted(&each.reason)
        )?;
        writeln!(text, "[difference.clients]")?;
        for (client, parts) in &each.clients {
            let parts: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
            writeln!(text, "{} = [{}]", quoted(client), parts.join(", "))?;
        }
    }
    Ok(std::fs::write(file(), text)?)
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
