//! The arrows between crates, and that tests and product resolve the same features, so that one build serves
//! both. Read from `cargo metadata` and `cargo tree`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result};
use otus_tests::paths;
use serde_json::Value;

/// Who may depend on whom, `otus-features` apart, which all may. Tests and benches may depend on all four, and nothing on them.
const ARROWS: [(&str, &[&str]); 7] = [
    ("otus-features", &[]),
    ("otus-engine", &[]),
    ("otus-ingest", &["otus-engine"]),
    ("otus-sql", &["otus-engine"]),
    ("otus-server", &["otus-engine", "otus-ingest", "otus-sql"]),
    ("otus-tests", &["otus-engine", "otus-ingest", "otus-sql", "otus-server"]),
    ("otus-benches", &["otus-engine", "otus-ingest", "otus-sql", "otus-server", "otus-tests"]),
];

/// Which crates of ours may name a foreign one directly: each has one home.
const HOMES: [(&str, &[&str]); 7] = [
    ("rdkafka", &["otus-ingest"]),
    ("fjall", &["otus-ingest"]),
    ("pgwire", &["otus-server"]),
    ("arrow-pg", &["otus-server"]),
    ("axum", &["otus-server"]),
    ("object_store", &["otus-engine"]),
    ("parquet", &["otus-engine"]),
];

fn cargo(arguments: &[&str]) -> Result<String> {
    let output = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args(arguments)
        .current_dir(paths::checkout())
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cargo {arguments:?}: {words}");
    Ok(String::from_utf8(output.stdout)?)
}

fn members() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = cargo(&["metadata", "--format-version=1", "--no-deps", "--offline", "--locked"])?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let name = |v: &Value| v["name"].as_str().map(str::to_owned).context("name");
    packages
        .iter()
        .map(|package| {
            let needs = package["dependencies"].as_array().context("dependencies")?;
            Ok((name(package)?, needs.iter().map(name).collect::<Result<_>>()?))
        })
        .collect()
}

#[test]
fn crates_point_one_way() -> Result<()> {
    let members = members()?;
    let known: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for (member, needs) in &members {
        let allowed = known.get(member.as_str()).with_context(|| format!("new crate {member}"))?;
        let ours = needs.iter().filter(|n| n.starts_with("otus-") && *n != "otus-features");
        for need in ours {
            anyhow::ensure!(allowed.contains(&need.as_str()), "{member} may not depend on {need}");
        }
    }
    anyhow::ensure!(members.len() == ARROWS.len(), "crates: {:?}", members.keys());
    Ok(())
}

#[test]
fn foreign_crates_have_one_home() -> Result<()> {
    for (member, needs) in &members()? {
        // `otus-features` names every foreign crate and uses none: it only aligns their features.
        if ["otus-tests", "otus-benches", "otus-features"].contains(&member.as_str()) {
            continue;
        }
        for (foreign, homes) in HOMES {
            let at_home = homes.contains(&member.as_str());
            anyhow::ensure!(at_home || !needs.contains(foreign), "{member} may not name {foreign}");
        }
    }
    Ok(())
}

/// Features of every foreign crate as cargo resolves them for some packages.
fn features(packages: &[&str]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut arguments = vec!["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none"];
    arguments.extend(["-f", "{p}|{f}"]);
    arguments.extend(packages.iter().flat_map(|p| ["-p", *p]));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in cargo(&arguments)?.lines() {
        let line = line.trim_end_matches(" (*)");
        let Some((package, features)) = line.split_once('|') else { continue };
        let package = package.split(" (").next().unwrap_or(package);
        found.entry(package.to_owned()).or_default().insert(features.to_owned());
    }
    Ok(found)
}

#[test]
fn tests_and_product_share_one_build() -> Result<()> {
    let product = features(&["otus-server"])?;
    let names: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let all = features(&names)?;
    for (package, chosen) in &product {
        if package.starts_with("otus-") {
            continue;
        }
        let with_tests = all.get(package).with_context(|| format!("{package} is gone"))?;
        let same = chosen == with_tests;
        anyhow::ensure!(same, "{package}: {chosen:?} for otus, {with_tests:?} with the tests");
    }
    for heavy in ["datafusion ", "arrow ", "parquet ", "tokio ", "object_store ", "pgwire "] {
        let versions: Vec<&String> = all.keys().filter(|p| p.starts_with(heavy)).collect();
        anyhow::ensure!(versions.len() == 1, "more than one of {heavy}: {versions:?}");
    }
    Ok(())
}
