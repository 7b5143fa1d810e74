//! A disk that fills: reading pauses before it is full with a clear error, what is there stays right and can be
//! queried, and reading goes on when there is room again. On a small file system in memory, which takes rights.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record};
use otus_tests::otus::{PATIENCE, Setup};
use otus_tests::process::until;
use otus_tests::{events, given, leash, need};
use serde_json::Value;

use crate::exactly_once::{audit, hurried};

/// A mounted file system of a given size.
struct Small {
    folder: PathBuf,
}

impl Small {
    fn mount(folder: &Path, megabytes: u32) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
        let size = format!("size={megabytes}m");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder)
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(Self { folder: folder.to_owned() })
        } else {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("no right to mount a small file system: {words}"))
        }
    }

    fn grow(&self, megabytes: u32) -> Result<()> {
        let size = format!("remount,size={megabytes}m");
        let status = Command::new("mount").args(["-o", &size]).arg(&self.folder).status()?;
        anyhow::ensure!(status.success(), "remount failed");
        Ok(())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.folder).status().ok();
    }
}

/// Payloads that do not compress: some text by chance in a field that is kept.
fn bulky(id: u64) -> Vec<u8> {
    let mut state = id.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut noise = String::with_capacity(2_000);
    while noise.len() < 2_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.push_str(&format!("{state:x}"));
    }
    let amount = events::amount(id);
    format!(
        "{{\"id\":{id},\"at\":{},\"kind\":\"k\",\"amount\":{amount},\"country\":\"{noise}\"}}",
        events::BEGIN_US
    )
    .into_bytes()
}

#[test]
fn reading_pauses_before_the_disk_is_full() -> Result<()> {
    let broker = need!(Broker::shared());
    let folder = leash::fresh_folder("small")?;
    let small = given!(Small::mount(&folder.join("data"), 96));
    let topic = broker.topic("bulky", 4, &[])?;
    // Without rollups whose states would carry the noise along.
    let table = events::table_section(&topic);
    let table = table.split("[tables.events.rollups").next().unwrap_or_default().to_owned();
    let otus = Setup::tables(table)
        .kafka(broker)
        .folder(&folder)
        .limit("flush_age", "\"200ms\"")
        .limit("flush_small_rows", "0")
        // What waits in memory would hide that the disk is full.
        .limit("flush_table", "\"8MiB\"")
        .limit("flush_all", "\"16MiB\"")
        .limit("disk_reserve", "\"24MiB\"")
        .start()?;
    // More than the disk holds, however often space that is freed lets reading go on for a while.
    let end = 120_000;
    let records = broker.producer(&[])?;
    for id in 0..end {
        let value = bulky(id);
        let partition = Some(i32::try_from(id % 4)?);
        records.send(&topic, &Record { partition, value: Some(&value), ..Record::default() })?;
    }
    records.flush()?;
    // Before it is full, reading may pause for a moment for rows that wait to be written.
    until("a partition is paused for the disk", PATIENCE, || {
        let partitions = otus.partitions()?;
        let full = |p: &&Value| {
            p["state"] == "paused" && p["reason"].as_str().is_some_and(|r| r.contains("disk"))
        };
        partitions.iter().find(full).map(drop).with_context(|| format!("{partitions:?}"))
    })?;
    // Still there, still right, and not full.
    let client = otus.connect()?;
    let seen = client.numbers("select count(*), count(distinct id) from events")?;
    anyhow::ensure!(seen[0] > 0 && seen[0] == seen[1], "{seen:?}");
    anyhow::ensure!(seen[0] < i64::try_from(end)?, "everything fitted: this shows nothing");
    otus.run(&["inspect", "--verify"])?;
    small.grow(1_024)?;
    let all = i64::try_from(end)?;
    otus.wait_number("select count(*) from events", all)?;
    let ids: i64 = (0..end).map(|id| i64::try_from(id).unwrap_or(0)).sum();
    let found = client.numbers("select count(distinct id), sum(id) from events")?;
    anyhow::ensure!(found == [all, ids], "{found:?}");
    otus.run(&["inspect", "--verify"])?;
    drop(otus);
    Ok(())
}

/// With the embedded log, a full disk is an answer to the writer: 507, and nothing half written.
#[test]
fn an_append_to_a_full_disk_is_507() -> Result<()> {
    let folder = leash::fresh_folder("small-log")?;
    let small = given!(Small::mount(&folder.join("data"), 64));
    let table = events::table_section("events");
    let table = table.split("[tables.events.rollups").next().unwrap_or_default().to_owned();
    let otus = Setup::tables(table).folder(&folder).limit("disk_reserve", "\"16MiB\"").start()?;
    let mut acknowledged = 0_i64;
    let mut id = 0_u64;
    let status = loop {
        let lines: Vec<_> = (id..id + 200).map(bulky).collect();
        let (status, body) = otus.append("events", &lines)?;
        if status != 200 {
            anyhow::ensure!(body.contains("disk"), "{status} {body}");
            break status;
        }
        acknowledged += 200;
        id += 200;
        anyhow::ensure!(id < 100_000, "the disk never filled");
    };
    anyhow::ensure!(status == 507, "{status}");
    small.grow(1_024)?;
    otus.wait_number("select count(distinct id) from events where id >= 0", acknowledged)?;
    drop(otus);
    Ok(())
}

/// Without a reserve the embedded log runs into the end of its disk in the middle of a write. When there is room
/// again it goes on by itself; what was acknowledged is there once, what was refused is not.
#[test]
fn the_embedded_log_goes_on_when_there_is_room_again() -> Result<()> {
    let folder = leash::fresh_folder("small-log")?;
    let small = given!(Small::mount(&folder.join("log"), 100));
    let table = events::table_section("events");
    let table = table.split("[tables.events.rollups").next().unwrap_or_default().to_owned();
    let log = small.folder.join("store");
    let sections = format!("\n[local_log]\nfolder = \"{}\"\n{table}", log.display());
    let setup = Setup::tables(sections).folder(&folder).limit("disk_reserve", "\"0B\"");
    let otus = setup.start()?;
    let (mut acknowledged, mut refused, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    let mut id = 0_u64;
    let mut append = |sorts: [&mut Vec<u64>; 3]| -> Result<u16> {
        let ids = id..id + 200;
        id += 200;
        let lines: Vec<_> = ids.clone().map(bulky).collect();
        let (status, body) = otus.append("events", &lines)?;
        let [acknowledged, refused, unknown] = sorts;
        match status {
            200 => acknowledged.extend(ids),
            503 | 507 => refused.extend(ids),
            504 => unknown.extend(ids),
            _ => anyhow::bail!("{status} {body}"),
        }
        Ok(status)
    };
    // Until the log has failed, not only refused.
    let failed = || otus.output().contains("opened again");
    let mut full = 0;
    while !failed() && full < 50 {
        anyhow::ensure!(acknowledged.len() < 200_000, "the disk never filled");
        let status = append([&mut acknowledged, &mut refused, &mut unknown])?;
        full += usize::from(status != 200);
    }
    anyhow::ensure!(full > 0, "the disk never filled");
    small.grow(2_048)?;
    until("appends are taken again", PATIENCE, || {
        let status = append([&mut acknowledged, &mut refused, &mut unknown])?;
        anyhow::ensure!(status == 200, "{status}");
        Ok(())
    })?;
    anyhow::ensure!(failed(), "the log never failed: this shows nothing\n{}", otus.output());
    let ids = || -> Result<Vec<u64>> {
        let rows = otus.rows("select id from events order by id")?;
        let ids = rows.into_iter().map(|row| Ok(row[0].as_deref().unwrap_or_default().parse()?));
        ids.collect()
    };
    let found = until("everything acknowledged", PATIENCE, || {
        let found = ids()?;
        let lost = acknowledged.iter().filter(|id| found.binary_search(id).is_err()).count();
        anyhow::ensure!(lost == 0, "{lost} acknowledged records are not there");
        Ok(found)
    })?;
    anyhow::ensure!(found.windows(2).all(|w| w[0] < w[1]), "something is there twice");
    let there = refused.iter().filter(|id| found.binary_search(id).is_ok()).count();
    anyhow::ensure!(there == 0, "{there} refused records are there");
    anyhow::ensure!(found.len() <= acknowledged.len() + unknown.len(), "{}", found.len());
    drop(otus);
    Ok(())
}

/// The ordinary table on a roomy disk is the control: the same limits, nothing pauses.
#[test]
fn a_roomy_disk_does_not_pause() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("roomy", 4, &[])?;
    let records = broker.producer(&[])?;
    (0..2_000).try_for_each(|id| crate::exactly_once::send(&records, &topic, id))?;
    records.flush()?;
    let otus = hurried(&topic, broker).limit("disk_reserve", "\"24MiB\"").start()?;
    audit(&otus, 2_000)?;
    // The group may give partitions anew at any time: they are opened then, and run.
    until("every partition runs", PATIENCE, || {
        let partitions = otus.partitions()?;
        let running = partitions.iter().filter(|p| p["state"] == "running").count();
        anyhow::ensure!(running == 4, "{partitions:?}");
        Ok(())
    })?;
    Ok(())
}
