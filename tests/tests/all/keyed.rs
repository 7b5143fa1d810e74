//! Keyed tables over topics that Kafka really compacts: the rows are those of a plain model, through the cleaner,
//! restarts, kills and rebuilds, and conditional writes are decided by the order of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::broker::{Broker, Record, Records};
use otus_tests::need;
use otus_tests::otus::{Otus, PATIENCE, Setup, get, wait_between};
use otus_tests::process::until;
use serde_json::{Value, json};

const PARTITIONS: i32 = 3;
const JOBS: u32 = 100_000;
/// A cleaner in a hurry.
const COMPACTED: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("segment.bytes", "1048576"),
    ("segment.ms", "1000"),
    ("min.compaction.lag.ms", "0"),
];

/// What the board should be: pay by job.
#[derive(Debug, Default)]
struct Board {
    jobs: BTreeMap<u32, u32>,
}

fn job(id: u32) -> String {
    format!("job-{id:06}")
}

fn partition(id: u32) -> i32 {
    (id % PARTITIONS.unsigned_abs()).cast_signed()
}

impl Board {
    /// Opens all jobs, then changes some and closes some, round by round.
    fn produce(&mut self, records: &Records, topic: &str, round: u32) -> Result<()> {
        for id in 0..JOBS {
            let change = match round {
                0 => Some(Some(id % 1_000)),
                _ if (id + round).is_multiple_of(5) => Some(Some(id % 1_000 + round)),
                _ if (id + round).is_multiple_of(7) => Some(None),
                _ => None,
            };
            let Some(pay) = change else { continue };
            self.change(records, topic, id, pay)?;
        }
        records.flush()
    }

    fn change(&mut self, records: &Records, topic: &str, id: u32, pay: Option<u32>) -> Result<()> {
        let value = pay.map(|pay| json!({"title": format!("Work {id}"), "pay": pay}).to_string());
        let (key, partition) = (job(id), Some(partition(id)));
        let value = value.as_deref().map(str::as_bytes);
        records.send(
            topic,
            &Record { partition, key: Some(key.as_bytes()), value, ..Record::default() },
        )?;
        match pay {
            Some(pay) => self.jobs.insert(id, pay),
            None => self.jobs.remove(&id),
        };
        Ok(())
    }

    /// Count, sum of pay, and the jobs themselves, as the table must say.
    fn totals(&self) -> String {
        let pay: u64 = self.jobs.values().map(|pay| u64::from(*pay)).sum();
        let ids: u64 = self.jobs.keys().map(|id| u64::from(*id)).sum();
        format!("{}|{pay}|{ids}", self.jobs.len())
    }

    /// Waits until the table is the board, then looks at every row.
    fn check(&self, otus: &Otus) -> Result<()> {
        let wanted = self.totals();
        until("the table is the board", PATIENCE, || {
            let found = totals(otus)?;
            anyhow::ensure!(found == wanted, "{found} instead of {wanted}");
            Ok(())
        })?;
        let mut expected = String::new();
        for (id, pay) in &self.jobs {
            writeln!(expected, "{}={pay}", job(*id))?;
        }
        let mut found = String::new();
        for row in otus.rows("select id, pay from jobs order by id")? {
            let field = |at: usize| row[at].as_deref().unwrap_or_default();
            writeln!(found, "{}={}", field(0), field(1))?;
        }
        anyhow::ensure!(found == expected, "the rows differ");
        Ok(())
    }
}

fn totals(otus: &Otus) -> Result<String> {
    let sql = "select count(*), sum(pay), sum(cast(substr(id, 5) as bigint)) from jobs";
    let rows = otus.rows(sql)?;
    let row = rows.first().context("no row")?;
    let fields: Vec<&str> = row.iter().map(|f| f.as_deref().unwrap_or("0")).collect();
    Ok(fields.join("|"))
}

fn board(topic: &str, broker: &Broker) -> Setup {
    Setup::tables(format!(
        "[tables.jobs]\nkind = \"keyed\"\ntopic = \"{topic}\"\nkey = \"id\"\nappend = true\n\
         [tables.jobs.columns]\nid = {{ type = \"text\", from = \"key\" }}\ntitle = \"text\"\n\
         pay = \"bigint\"\n"
    ))
    .kafka(broker)
    .limit("flush_small_age", "\"2s\"")
}

/// Waits until the cleaner has removed records, writing what makes segments roll.
fn cleaned(broker: &Broker, topic: &str) -> Result<()> {
    let records = broker.producer(&[])?;
    let left =
        || -> Result<usize> { (0..PARTITIONS).map(|p| Ok(broker.offsets(topic, p)?.len())).sum() };
    let ends =
        || -> Result<i64> { (0..PARTITIONS).map(|p| Ok(broker.watermarks(topic, p)?.1)).sum() };
    until("the cleaner has run", PATIENCE, || {
        roll(&records, topic)?;
        let (left, ends) = (i64::try_from(left()?)?, ends()?);
        anyhow::ensure!(left * 10 < ends * 8, "{left} of {ends} records are left");
        Ok(())
    })
}

/// Writes what makes segments roll: only those that are not written to any more are cleaned.
fn roll(records: &Records, topic: &str) -> Result<()> {
    for partition in 0..PARTITIONS {
        let key = format!("filler-{partition}");
        let (key, partition) = (Some(key.as_bytes()), Some(partition));
        records.send(topic, &Record { partition, key, ..Record::default() })?;
    }
    records.flush()?;
    wait_between(Duration::from_millis(1_100));
    Ok(())
}

/// Waits until the topic knows nothing of some of the jobs that were closed, not even that they were.
fn forgotten(broker: &Broker, topic: &str, board: &Board) -> Result<()> {
    let records = broker.producer(&[])?;
    until("deletions are forgotten", PATIENCE, || {
        roll(&records, topic)?;
        let mut known = BTreeSet::new();
        for partition in 0..PARTITIONS {
            known.extend(broker.keys(topic, partition)?);
        }
        let closed = (0..JOBS).filter(|id| !board.jobs.contains_key(id));
        let gone = closed.filter(|id| !known.contains(job(*id).as_bytes())).count();
        anyhow::ensure!(gone > 0, "all {} keys are still there", known.len());
        Ok(())
    })
}

#[test]
fn a_job_board_keeps_its_rows() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("jobs", PARTITIONS, &COMPACTED)?;
    let records = broker.producer(&[("compression.type", "lz4")])?;
    let mut jobs = Board::default();
    jobs.produce(&records, &topic, 0)?;
    let mut otus = board(&topic, broker).start()?;
    jobs.check(&otus)?;
    jobs.produce(&records, &topic, 1)?;
    jobs.produce(&records, &topic, 2)?;
    jobs.check(&otus)?;
    cleaned(broker, &topic)?;
    jobs.check(&otus)?;

    // From the cleaned topic alone, and from what is stored.
    let fresh = board(&topic, broker).start()?;
    jobs.check(&fresh)?;
    drop(fresh);
    otus.stop()?;
    otus.launch()?;
    jobs.check(&otus)?;
    otus.maintain()?;
    otus.kill()?;
    otus.launch()?;
    jobs.check(&otus)?;

    // Built anew while it is served.
    let wanted = jobs.totals();
    otus.run(&["reset", "jobs", "--topic", &topic, "--to", "earliest"])?;
    until("the rebuild", PATIENCE, || {
        let found = totals(&otus)?;
        assert_eq!(found, wanted, "rows are missing while the table is rebuilt");
        anyhow::ensure!(otus.output().contains("a rebuilt table takes its place"), "not yet");
        Ok(())
    })?;
    jobs.check(&otus)?;

    // Killed while changes flow.
    for round in 3..6 {
        jobs.produce(&records, &topic, round)?;
        otus.kill()?;
        otus.launch()?;
    }
    jobs.check(&otus)?;
    otus.maintain()?;
    jobs.check(&otus)?;
    otus.stop()?;
    otus.run(&["inspect", "--verify"])?;
    Ok(())
}

/// Memory of the table below, bytes; its rows have several times as many.
const LETTERS_MEMORY: f64 = 8.0 * 1024.0 * 1024.0;

/// What a table of long texts should be: text by key.
#[derive(Debug, Default)]
struct Letters(BTreeMap<String, String>);

impl Letters {
    const COUNT: u32 = 30_000;

    /// Writes all of them, or in later rounds some, and takes some back.
    fn produce(&mut self, records: &Records, topic: &str, round: u32) -> Result<()> {
        for id in (0..Self::COUNT).filter(|id| round == 0 || (id + round).is_multiple_of(3)) {
            let key = job(id);
            let words = format!("{} ", id * 31 + round).repeat(180);
            let text = format!("letter {round} of {id}: {words}");
            let is_gone = round > 0 && id.is_multiple_of(11);
            let value = (!is_gone).then(|| json!({"body": text}).to_string());
            let value = value.as_deref().map(str::as_bytes);
            let (partition, bytes) = (Some(partition(id)), Some(key.as_bytes()));
            records.send(topic, &Record { partition, key: bytes, value, ..Record::default() })?;
            match is_gone {
                true => self.0.remove(&key),
                false => self.0.insert(key, text),
            };
        }
        records.flush()
    }

    /// Waits until the table has them all, then compares every one, and looks some up.
    fn check(&self, otus: &Otus) -> Result<()> {
        let bytes: usize = self.0.values().map(String::len).sum();
        let wanted = format!("{}|{bytes}", self.0.len());
        until("the letters are there", PATIENCE, || {
            let rows = otus.rows("select count(*), sum(length(body)) from letters")?;
            let row = rows.first().context("no row")?;
            let found: Vec<&str> = row.iter().map(|f| f.as_deref().unwrap_or("0")).collect();
            anyhow::ensure!(found.join("|") == wanted, "{found:?} instead of {wanted}");
            Ok(())
        })?;
        let rows = otus.rows("select id, body from letters")?;
        let field = |field: &Option<String>| field.clone().unwrap_or_default();
        let found: BTreeMap<String, String> =
            rows.iter().map(|row| (field(&row[0]), field(&row[1]))).collect();
        anyhow::ensure!(rows.len() == found.len() && found == self.0, "the rows differ");
        for (key, text) in self.0.iter().step_by(997) {
            let by_sql = otus.value(&format!("select body from letters where id = '{key}'"))?;
            let (status, _, by_http) = ask(otus, "GET", &format!("letters/{key}"), None, None)?;
            anyhow::ensure!(by_sql == *text && status == 200 && by_http["body"] == *text, "{key}");
        }
        let memory = figure(otus, "otus_keyed_memory_bytes{table=\"public.letters\"}")?;
        let spilled = figure(otus, "otus_keyed_spilled_bytes{table=\"public.letters\"}")?;
        anyhow::ensure!(memory <= LETTERS_MEMORY, "{memory} bytes of memory");
        anyhow::ensure!(spilled > 3.0 * LETTERS_MEMORY, "{spilled} bytes on disk, not in {memory}");
        Ok(())
    }

    /// Takes the first page; the rest of the pages are of the same moment, whatever is written before they are.
    fn page(&self, otus: &Otus, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let moment = self.0.clone();
        let mut found = BTreeMap::new();
        let (_, _, mut page) = ask(otus, "GET", "letters?limit=2000", None, None)?;
        write()?;
        loop {
            for row in page["rows"].as_array().context("no rows")? {
                let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
                found.insert(text("id"), text("body"));
            }
            let Some(cursor) = page["next"].as_str().map(str::to_owned) else { break };
            page = ask(otus, "GET", &format!("letters?limit=2000&cursor={cursor}"), None, None)?.2;
        }
        anyhow::ensure!(found == moment, "the pages differ from what was there");
        Ok(())
    }
}

/// A figure of `/metrics`.
fn figure(otus: &Otus, name: &str) -> Result<f64> {
    let (_, metrics) = get(&otus.url("/metrics"))?;
    let line = metrics.lines().find(|line| line.starts_with(name)).context("no such figure")?;
    Ok(line.rsplit_once(' ').context("no value")?.1.parse()?)
}

/// A table several times as large as its memory, through reading, pages, restarts, a kill and a rebuild.
#[test]
fn a_table_that_does_not_fit_its_memory_is_served_whole() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("letters", PARTITIONS, &COMPACTED)?;
    let records = broker.producer(&[("compression.type", "lz4")])?;
    let mut letters = Letters::default();
    let mut otus = Setup::tables(format!(
        "[tables.letters]\nkind = \"keyed\"\ntopic = \"{topic}\"\nkey = \"id\"\n\
         [tables.letters.columns]\nid = {{ type = \"text\", from = \"key\" }}\nbody = \"text\"\n"
    ))
    .kafka(broker)
    .limit("keyed_memory", "\"8MiB\"")
    .limit("flush_small_age", "\"2s\"")
    .start()?;
    letters.produce(&records, &topic, 0)?;
    letters.check(&otus)?;
    letters.produce(&records, &topic, 1)?;
    letters.produce(&records, &topic, 2)?;
    letters.check(&otus)?;
    let mut later = Letters(letters.0.clone());
    letters.page(&otus, || later.produce(&records, &topic, 3))?;
    let letters = later;
    letters.check(&otus)?;

    otus.maintain()?;
    otus.stop()?;
    otus.launch()?;
    letters.check(&otus)?;
    otus.kill()?;
    otus.launch()?;
    letters.check(&otus)?;
    otus.run(&["reset", "letters", "--topic", &topic, "--to", "earliest"])?;
    until("the rebuild", PATIENCE, || {
        anyhow::ensure!(otus.output().contains("a rebuilt table takes its place"), "not yet");
        Ok(())
    })?;
    letters.check(&otus)?;
    otus.stop()?;
    otus.run(&["inspect", "--verify"])?;
    Ok(())
}

/// Sets the table's topic up so that deletions are forgotten while Otus is away, and starts it again.
#[test]
fn a_reader_that_was_away_for_too_long_rebuilds_and_serves() -> Result<()> {
    let broker = need!(Broker::shared());
    let mut config = COMPACTED.to_vec();
    // Deletions go in the second cleaning: the least that is written has to lead to one.
    config.retain(|(name, _)| *name != "min.cleanable.dirty.ratio");
    config.extend([("min.cleanable.dirty.ratio", "0.0"), ("delete.retention.ms", "100")]);
    let topic = broker.topic("away", PARTITIONS, &config)?;
    let records = broker.producer(&[])?;
    let mut jobs = Board::default();
    jobs.produce(&records, &topic, 0)?;
    let mut otus = board(&topic, broker).start()?;
    jobs.check(&otus)?;
    otus.stop()?;
    let before = jobs.totals();
    jobs.produce(&records, &topic, 1)?;
    jobs.produce(&records, &topic, 2)?;
    cleaned(broker, &topic)?;
    // Without a rebuild these jobs would stay on the board for ever.
    let after = jobs.totals();
    forgotten(broker, &topic, &jobs)?;
    otus.launch()?;
    until("the rebuild is level", PATIENCE, || {
        let found = totals(&otus)?;
        let is_whole = found == before || found == after;
        assert!(is_whole, "neither the old view nor the new one: {found}");
        anyhow::ensure!(found == after, "still the old view");
        Ok(())
    })?;
    jobs.check(&otus)?;
    let output = otus.output();
    anyhow::ensure!(output.contains("a keyed table is rebuilt"), "not by a rebuild");
    anyhow::ensure!(output.contains("the topic keeps deletions for"), "for another reason");
    jobs.produce(&records, &topic, 3)?;
    jobs.check(&otus)?;
    otus.kill()?;
    otus.launch()?;
    jobs.check(&otus)
}

#[test]
fn new_partitions_lead_to_a_rebuild() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("grown", PARTITIONS, &COMPACTED)?;
    let records = broker.producer(&[])?;
    let mut jobs = Board::default();
    for id in 0..500 {
        jobs.change(&records, &topic, id, Some(id))?;
    }
    records.flush()?;
    let otus = board(&topic, broker).start()?;
    jobs.check(&otus)?;
    otus.flush()?;
    broker.add_partitions(&topic, PARTITIONS + 1)?;
    // A job that moves to the new partition, and one that is closed there. A producer from before does not know
    // the partition, nor does the broker at once.
    until("records of the new partition", PATIENCE, || {
        let records = broker.producer(&[])?;
        let moved = |id: u32, value: Option<&[u8]>| {
            let (key, partition) = (job(id), Some(PARTITIONS));
            let key = Some(key.as_bytes());
            records.send(&topic, &Record { partition, key, value, ..Record::default() })
        };
        moved(1, Some(b"{\"title\":\"Moved\",\"pay\":9000}"))?;
        moved(2, None)?;
        records.flush()
    })?;
    jobs.jobs.insert(1, 9_000);
    jobs.jobs.remove(&2);
    jobs.check(&otus)?;
    until("the rebuild", PATIENCE, || {
        anyhow::ensure!(otus.output().contains("is a new partition"), "not yet");
        Ok(())
    })?;
    jobs.check(&otus)
}

#[test]
fn a_topic_that_deletes_by_age_is_refused() -> Result<()> {
    let broker = need!(Broker::shared());
    let config = [("cleanup.policy", "compact,delete")];
    let topic = broker.topic("both", PARTITIONS, &config)?;
    let otus = board(&topic, broker).start()?;
    let said = otus.wait_state("stopped")?;
    anyhow::ensure!(said.contains("cleanup.policy=compact"), "{said}");
    Ok(())
}

/// Method, path below `/api/tables`, condition and body; status, entity tag and body.
fn ask(
    otus: &Otus,
    method: &str,
    path: &str,
    condition: Option<(&str, &str)>,
    body: Option<&Value>,
) -> Result<(u16, String, Value)> {
    let url = otus.url(&format!("/api/tables/{path}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut request = reqwest::Client::new().request(method.parse()?, url).timeout(PATIENCE);
        if let Some((name, value)) = condition {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let tag = answer.headers().get("etag").and_then(|tag| tag.to_str().ok());
        let tag = tag.unwrap_or_default().to_owned();
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        Ok((status, tag, serde_json::from_str(&text).unwrap_or(Value::Null)))
    })
}

#[test]
fn rows_are_written_through_kafka_and_conflicts_have_one_winner() -> Result<()> {
    let broker = need!(Broker::shared());
    let topic = broker.topic("written", PARTITIONS, &COMPACTED)?;
    let mut otus = board(&topic, broker).start()?;
    let body = |title: &str| json!({"title": title, "pay": 5});
    let first = ask(&otus, "PUT", "jobs/a?wait=visible", None, Some(&body("first")))?;
    anyhow::ensure!(first.0 == 200, "{first:?}");
    let (status, tag, row) = ask(&otus, "GET", "jobs/a", None, None)?;
    anyhow::ensure!((status, &row["title"]) == (200, &json!("first")), "{row}");
    anyhow::ensure!(tag == first.1, "{tag} {}", first.1);

    let (won, lost) = std::thread::scope(|scope| -> Result<(usize, usize)> {
        let racers: Vec<_> = (0..6)
            .map(|n| {
                let (otus, tag) = (&otus, tag.as_str());
                scope.spawn(move || {
                    let body = json!({"title": format!("racer {n}"), "pay": n});
                    ask(otus, "PUT", "jobs/a", Some(("If-Match", tag)), Some(&body))
                })
            })
            .collect();
        let mut counts = (0, 0);
        for racer in racers {
            match racer.join().map_err(|_| anyhow::anyhow!("a racer panicked"))??.0 {
                200 => counts.0 += 1,
                409 => counts.1 += 1,
                other => anyhow::bail!("status {other}"),
            }
        }
        Ok(counts)
    })?;
    anyhow::ensure!((won, lost) == (1, 5), "{won} won, {lost} lost");

    // Another process wrote in between: its record stands first, so ours is void by the order of the log.
    let place = ask(&otus, "GET", "jobs/a", None, None)?.1;
    let condition = place.trim_matches('"').to_owned();
    let (partition, _) = condition.split_once(':').context("a tag")?;
    let partition = Some(partition.parse()?);
    let records = broker.producer(&[])?;
    let (key, headers) = (Some(b"a".as_slice()), [("otus-if-match", condition.as_bytes())]);
    for title in ["other", "later"] {
        let value = json!({"title": title, "pay": 1}).to_string();
        let value = Some(value.as_bytes());
        let record = Record { partition, key, value, headers: &headers, ..Record::default() };
        records.send(&topic, &record)?;
    }
    records.flush()?;
    otus.wait_number("select count(*) from jobs where id = 'a' and title = 'other'", 1)?;
    let stale = ask(&otus, "PUT", "jobs/a", Some(("If-Match", &place)), Some(&body("stale")))?;
    anyhow::ensure!(stale.0 == 409, "{stale:?}");
    let created = ask(&otus, "PUT", "jobs/a", Some(("If-None-Match", "*")), Some(&body("new")))?;
    anyhow::ensure!(created.0 == 409, "{created:?}");
    otus.kill()?;
    otus.launch()?;
    otus.wait_number("select count(*) from jobs where id = 'a' and title = 'other'", 1)?;
    let gone = ask(&otus, "DELETE", "jobs/a?wait=visible", None, None)?;
    anyhow::ensure!(gone.0 == 200, "{gone:?}");
    anyhow::ensure!(ask(&otus, "GET", "jobs/a", None, None)?.0 == 404, "still there");
    let (status, metrics) = get(&otus.url("/metrics"))?;
    let is_told = metrics.contains("otus_keyed_memory_bytes{table=\"public.jobs\"}");
    anyhow::ensure!(status == 200 && is_told, "no figures of the keyed table");
    Ok(())
}

/// The text between two marks.
fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}

/// The code blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_page_on_keyed_tables_works_as_written() -> Result<()> {
    let path = otus_tests::paths::checkout().join("docs/keyed-tables.md");
    let page = std::fs::read_to_string(path)?;
    let tables = blocks(&page, "toml");
    let otus = Setup::tables(*tables.first().context("no configuration")?).start()?;
    let mut answers = Vec::new();
    for command in blocks(&page, "sh") {
        let path = between(command, "127.0.0.1:8080/api/tables/", " ").context("no path")?;
        let body = between(command, "-d '", "'\n").context("no body")?;
        let tag = between(command, "If-Match: ", "'").map(|tag| ("If-Match", tag));
        let (status, _, answer) = ask(&otus, "PUT", path, tag, Some(&serde_json::from_str(body)?))?;
        anyhow::ensure!(status == 200, "{command}: {status} {answer}");
        answers.push(answer);
    }
    let wanted: Value = serde_json::from_str(blocks(&page, "json").first().context("no answer")?)?;
    anyhow::ensure!(answers.first() == Some(&wanted), "{answers:?} instead of {wanted}");
    let applied = json!({"at": "2024-01-01T00:00:00Z", "job": "owl-keeper", "who": "ann"});
    let (status, answer) = otus.append("applications", &[applied.to_string().into_bytes()])?;
    anyhow::ensure!(status == 200, "{answer}");
    otus.wait_number("select count(*) from applications", 1)?;
    for statement in blocks(&page, "sql").iter().flat_map(|block| block.split(";\n")) {
        let statement = statement.trim().trim_end_matches(';');
        if !statement.is_empty() {
            anyhow::ensure!(otus.rows(statement)?.len() == 1, "{statement}");
        }
    }
    anyhow::ensure!(otus.value("select salary from jobs where id = 'owl-keeper'")? == "2600.00");
    let (status, _, list) = ask(&otus, "GET", "jobs?limit=100", None, None)?;
    let rows = list["rows"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(status == 200 && rows == 1 && list["next"].is_null(), "{list}");
    Ok(())
}

#[test]
fn writes_of_one_table_are_not_waited_for_in_another() -> Result<()> {
    let table = |name: &str| {
        format!(
            "[tables.{name}]\nkind = \"keyed\"\ntopic = \"{name}\"\nkey = \"id\"\nappend = true\n\
             [tables.{name}.columns]\nid = {{ type = \"bigint\", from = \"key\" }}\ntitle = \"text\"\n"
        )
    };
    let otus = Setup::tables(format!("{}{}", table("many"), table("few"))).start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // More keys than there are locks, so that each has one.
    runtime.block_on(async {
        let client = reqwest::Client::new();
        for id in 0..1_200 {
            let url = otus.url(&format!("/api/tables/many/{id}"));
            let request = client.put(url).json(&json!({"title": "many"})).timeout(PATIENCE);
            let status = request.send().await?.status().as_u16();
            anyhow::ensure!(status == 200, "{id}: {status}");
        }
        Ok(())
    })?;
    for id in 0..40 {
        let (status, _, body) = ask(
            &otus,
            "PUT",
            &format!("few/{id}"),
            Some(("If-None-Match", "*")),
            Some(&json!({"title": "few"})),
        )?;
        anyhow::ensure!(status == 200, "{id}: {status} {body}");
    }
    otus.wait_number("select count(*) from few", 40)?;
    Ok(())
}
