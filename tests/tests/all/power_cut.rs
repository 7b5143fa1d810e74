//! What is answered as durable has reached the disk. The data lie on a file system in an image file; right after
//! an answer the process is stopped and the image copied. The copy is what a power cut would have left: what is
//! only in memory is in no image. Making one takes the right to mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, PATIENCE, Setup};
use otus_tests::process::until;
use otus_tests::{events, given, leash, need};
use serde_json::Value;

const IMAGE_BYTES: u64 = 128 << 20;
const ROUNDS: u64 = 3;
/// Records of one append.
const RECORDS: u64 = 50;

/// A mounted file system in a file.
struct Image {
    file: PathBuf,
    folder: PathBuf,
}

impl Image {
    /// Makes an empty file system in the file `image` of a folder; or why there is no tool for it.
    fn make(home: &Path) -> Result<PathBuf, String> {
        let image = home.join("image");
        let made = std::fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES));
        made.map_err(|e| format!("{}: {e}", image.display()))?;
        // Nothing is written later that nobody asked for.
        let arguments = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        let run = |tool: &str| Command::new(tool).args(arguments).arg(&image).output();
        // The folder of tools for root is not on everybody's path.
        let output = run("mkfs.ext4").or_else(|_| run("/sbin/mkfs.ext4"));
        let output = output.map_err(|_| "mkfs.ext4 is not installed (e2fsprogs)".to_owned())?;
        let words = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(image) } else { Err(format!("mkfs.ext4: {words}")) }
    }

    /// Mounts it beside its file; or says why that cannot be. By itself the file system brings its names to the
    /// image every ten minutes, not every five seconds: whatever is there earlier was synced.
    fn mount(file: PathBuf) -> Result<Self, String> {
        let folder = file.with_file_name("mounted");
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,commit=600"]).arg(&file).arg(&folder);
        let output = mount.output().map_err(|e| format!("no mount: {e}"))?;
        if output.status.success() {
            return Ok(Self { file, folder });
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("no right to mount a file system in a file: {words}"))
    }

    /// Stops the process and mounts a copy of what is on its disk by then, in a new folder.
    fn cut(&self, otus: &Otus) -> Result<Self> {
        let home = leash::fresh_folder("power-cut")?;
        let copy = home.join("image");
        otus.signal("STOP")?;
        let copied = still(otus).and_then(|()| {
            let copied = Command::new("cp").arg(&self.file).arg(&copy).status()?;
            anyhow::ensure!(copied.success(), "the image was not copied: {copied}");
            Ok(())
        });
        otus.signal("CONT")?;
        copied?;
        Self::mount(copy).map_err(anyhow::Error::msg)
    }

    /// A server whose data lie on it, and that writes segments only when it is told to.
    fn setup(&self) -> Result<Setup> {
        let home = self.file.parent().context("an image without folder")?;
        let store = self.folder.join("store");
        let setup = Setup::tables(events::table_section("events"))
            .folder(home)
            .storage(format!("[storage]\nurl = \"file:{}\"\n", store.display()))
            .limit("disk_reserve", "\"1MiB\"")
            .limit("flush_age", "\"1h\"")
            .limit("flush_small_age", "\"1h\"");
        Ok(setup)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.folder).status().ok();
    }
}

/// Waits until no thread of a stopped process is in the middle of a call: one that syncs goes on until it is done.
fn still(otus: &Otus) -> Result<()> {
    let tasks = format!("/proc/{}/task", otus.id().context("not started")?);
    until("a stopped process", PATIENCE, || {
        for task in std::fs::read_dir(&tasks)? {
            let said = std::fs::read_to_string(task?.path().join("stat"))?;
            // The state follows the name, which is in parentheses and may hold anything.
            let state = said.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            anyhow::ensure!(state == Some('T'), "a thread runs on: {said}");
        }
        Ok(())
    })
}

/// Appends one round's records and gives the number of all.
fn append(otus: &Otus, round: u64) -> Result<u64> {
    let ids = round * RECORDS..(round + 1) * RECORDS;
    let lines: Vec<_> = ids.clone().map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    Ok(ids.end)
}

/// How many records the server's log has.
fn end(otus: &Otus) -> Result<u64> {
    until("the end of the log", PATIENCE, || {
        let partitions = otus.partitions()?;
        partitions
            .first()
            .and_then(|p| p["end"].as_u64())
            .with_context(|| format!("{partitions:?}"))
    })
}

#[test]
fn an_append_is_on_the_disk_when_it_is_answered() -> Result<()> {
    let image = given!(Image::mount(need!(Image::make(&leash::fresh_folder("power")?))));
    let otus = image.setup()?.start()?;
    // What starting writes is written by then.
    end(&otus)?;
    for round in 0..ROUNDS {
        let records = append(&otus, round)?;
        let left = image.cut(&otus)?;
        let after = left.setup()?.start().with_context(|| format!("after cut {round}"))?;
        let found = end(&after)?;
        anyhow::ensure!(found == records, "{records} records were durable, {found} are there");
        let (count, ids, amounts) = events::sums(records);
        after.wait_number("select count(*) from events", count)?;
        let sums = after.connect()?.numbers("select sum(id), sum(amount) from events")?;
        anyhow::ensure!(sums == [ids, amounts], "{sums:?} instead of {ids}, {amounts}");
        drop((after, left));
    }
    drop((otus, image));
    Ok(())
}

#[test]
fn a_commit_is_on_the_disk_when_it_is_answered() -> Result<()> {
    let image = given!(Image::mount(need!(Image::make(&leash::fresh_folder("power")?))));
    let otus = image.setup()?.start()?;
    for round in 0..ROUNDS {
        let records = append(&otus, round)?;
        let (count, _, _) = events::sums(records);
        otus.wait_number("select count(*) from events", count)?;
        otus.flush()?;
        let left = image.cut(&otus)?;
        // The files alone, without a log from which rows could be read again.
        std::fs::remove_dir_all(left.folder.join("store/local-log"))?;
        let after = left.setup()?.prepare()?;
        let context = || format!("after cut {round}");
        after.run(&["inspect", "--verify"]).with_context(context)?;
        let positions: Value =
            serde_json::from_str(&after.run(&["inspect", "--positions", "--format", "json"])?)?;
        let read: Option<u64> = positions[0]["offset"].as_str().and_then(|n| n.parse().ok());
        anyhow::ensure!(read == Some(records), "{records} were durable: {positions}");
        let tables: Value = serde_json::from_str(&after.run(&["inspect", "--format", "json"])?)?;
        anyhow::ensure!(tables[0]["rows"] == count, "{count} rows were durable: {tables}");
        drop((after, left));
    }
    drop((otus, image));
    Ok(())
}
