//! The demo: it lays down a month, is killed and goes on, and does what its flags say.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::otus::{PATIENCE, get, post};
use otus_tests::postgres::Client;
use otus_tests::process::{Process, free_port, until};
use otus_tests::{leash, need, paths, terminal};
use serde_json::Value;

/// Time to lay down a month on a loaded machine.
const LAYING: Duration = Duration::from_secs(420);
/// When the first and the last raw event was, and how many there are.
const SPAN: &str = "select extract(epoch from min(time))::bigint, extract(epoch from max(time))::bigint, \
                    count(*) from game_events";
const DAY_S: i64 = 86_400;

/// The demo in a folder of its own.
struct Demo {
    folder: PathBuf,
    ports: [u16; 2],
    process: Option<Process>,
}

impl Demo {
    /// One that is not started yet.
    fn new() -> Result<Self> {
        let folder = leash::fresh_folder("demo")?;
        Ok(Self { folder, ports: [free_port()?, free_port()?], process: None })
    }

    fn arguments(&self, flags: &[&str]) -> Vec<String> {
        let [postgres, http] = self.ports.map(|p| p.to_string());
        let ports = ["demo", "--postgres-port", &postgres, "--http-port", &http];
        ports.iter().chain(flags).map(ToString::to_string).collect()
    }

    /// Starts it on a terminal.
    fn start_watched(&mut self) -> Result<()> {
        let binary = paths::binary()?.display().to_string();
        let arguments = self.arguments(&[]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = terminal::command(&binary, &arguments).map_err(anyhow::Error::msg)?;
        self.run(command, "terminal")
    }

    fn start(&mut self, flags: &[&str]) -> Result<()> {
        let mut command = Command::new(paths::binary()?);
        command.args(self.arguments(flags));
        self.run(command, "output")
    }

    /// SIGTERM, and waits for the end, which must be a clean one. Gives what it said in all its lives.
    fn stop(&mut self) -> Result<String> {
        let mut process = self.process.take().context("not started")?;
        let status = process.stop(PATIENCE)?;
        anyhow::ensure!(status.success(), "{status}: {}", process.tail(20));
        Ok(process.output())
    }

    /// Waits until it has said this.
    fn wait_said(&self, words: &str, within: Duration) -> Result<String> {
        until(&format!("{words:?} is said"), within, || {
            let said = self.process.as_ref().context("not started")?.output();
            anyhow::ensure!(said.contains(words), "said: {said}");
            Ok(said)
        })
    }

    fn run(&mut self, mut command: Command, output: &str) -> Result<()> {
        command.current_dir(&self.folder);
        self.process = Some(Process::start(&mut command, &self.folder.join(output))?);
        Ok(())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("not started")
    }

    fn numbers(&self, sql: &str) -> Result<Vec<i64>> {
        Client::connect(self.ports[0])?.numbers(sql)
    }
}

#[test]
fn the_demo_lays_down_a_month_and_goes_on_after_a_kill() -> Result<()> {
    let mut demo = Demo::new()?;
    need!(terminal::command("true", &[]));
    demo.start_watched()?;
    let laid = until("30 days of history", LAYING, || {
        let found = demo.numbers(SPAN)?;
        let month = found[1] - found[0] > 29 * DAY_S;
        anyhow::ensure!(month && found[2] > 4_000_000, "{found:?}");
        Ok(found[2])
    })?;
    one_line_tells_the_state(demo.process()?)?;
    let inner = terminal::inner(demo.process()?.id())?.to_string();
    Command::new("kill").args(["-s", "KILL", &inner]).status()?;
    demo.process()?.wait(PATIENCE)?;
    demo.start(&[])?;
    until("the demo goes on", PATIENCE, || {
        let found = demo.numbers(SPAN)?;
        anyhow::ensure!(found[2] >= laid, "{found:?} after {laid}");
        Ok(())
    })?;
    until("live events", PATIENCE, || {
        let live = demo.numbers(
            "select count(*) from game_events where time > now() - interval '60 seconds'",
        )?;
        anyhow::ensure!(live[0] > 0, "none of the last minute");
        Ok(())
    })?;
    let same = "select (select count(*) from game_events), (select sum(events) from activity_minute), \
                (select sum(events) from audience_day)";
    let found = demo.numbers(same)?;
    anyhow::ensure!(found[0] == found[1] && found[1] == found[2], "{found:?}");
    let known = demo.numbers(
        "select (select count(*) from players), (select count(*) from players p where level > 0 and \
         exists (select 1 from game_events e where e.player_id = p.player_id))",
    )?;
    anyhow::ensure!(known[0] > 1_000 && known[1] > 0, "players: {known:?}");
    readme_questions(&demo)?;
    // Nobody watches: whole lines, nothing that only a terminal understands.
    let said = demo.stop()?;
    anyhow::ensure!(!terminal::has_controls(&said), "{said:?}");
    anyhow::ensure!(said.lines().any(|line| line.contains(" events/s  lag ")), "{said}");
    Ok(())
}

/// On a terminal: a bar while history is laid down, then one line that is written again and again.
fn one_line_tells_the_state(process: &Process) -> Result<()> {
    until("a status line that moves", PATIENCE, || {
        let said = process.output();
        let (before, after) = said.split_once("Ctrl-C stops").context("not yet laid down")?;
        anyhow::ensure!(terminal::has_controls(before) && before.contains("records made"));
        let seen = after.matches(" events/s  lag ").count();
        anyhow::ensure!(seen > 3, "{seen} status lines");
        let lines = after.lines().filter(|line| line.contains(" events/s  lag ")).count();
        anyhow::ensure!(lines == 1, "{lines} lines: {after:?}");
        Ok(())
    })
}

/// The question of the README, in SQL and as a pattern.
fn readme_questions(demo: &Demo) -> Result<()> {
    let text = std::fs::read_to_string(paths::checkout().join("README.md"))?;
    let (_, below) = text.split_once("## A question in psql").context("no heading")?;
    let sql =
        below.split("```sql\n").nth(1).and_then(|t| t.split("```").next()).context("no SQL")?;
    let rows = Client::connect(demo.ports[0])?.rows(sql)?;
    anyhow::ensure!(rows.len() > 6, "{} rows from {sql}", rows.len());
    let edn = below.split("-d '\n").nth(1).and_then(|t| t.split("'\n").next()).context("no EDN")?;
    let url = format!("http://127.0.0.1:{}/api/pull", demo.ports[1]);
    let (status, answer) = post(&url, "application/edn", edn)?;
    anyhow::ensure!(status == 200 && answer.contains(":matches"), "{status} {answer}");
    let value: Option<Value> = serde_json::from_str(&answer).ok();
    anyhow::ensure!(value.is_none(), "EDN was asked for: {answer}");
    let entries = answer.matches(":bucket #inst").count();
    anyhow::ensure!(entries == rows.len(), "{} rows in SQL, {entries} in {answer}", rows.len());
    Ok(())
}

/// The port that a face took since `taken` was, as told.
fn told_port(said: &str, face: &str, taken: u16) -> Result<u16> {
    let words = format!("port {taken} is taken: {face} is on ");
    let (_, rest) = said.split_once(&words).with_context(|| format!("no {words:?} in {said}"))?;
    Ok(rest.split_whitespace().next().context("no port")?.parse()?)
}

#[test]
fn a_demo_takes_free_ports_and_keeps_to_its_budget_and_rate() -> Result<()> {
    let mut demo = Demo::new()?;
    let holders = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    let [postgres, http] = [holders[0].local_addr()?.port(), holders[1].local_addr()?.port()];
    demo.ports = [postgres, http];
    let mut small = Command::new(paths::binary()?);
    small.args(demo.arguments(&["--budget", "511MiB"])).current_dir(&demo.folder);
    let refused = small.output()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success() && words.contains("at least 512MiB"), "{words}");
    demo.start(&["--rate", "500", "--budget", "512MiB"])?;
    let said = demo.wait_said("http is on ", PATIENCE)?;
    demo.ports = [told_port(&said, "postgres", postgres)?, told_port(&said, "http", http)?];
    anyhow::ensure!(demo.ports[0] > postgres && demo.ports[1] > http, "not the next ones: {said}");
    let said = demo.wait_said("Ctrl-C stops", LAYING)?;
    let [postgres, http] = demo.ports;
    let psql = format!("psql -h 127.0.0.1 -p {postgres} ");
    anyhow::ensure!(said.contains(&psql), "{said}");
    anyhow::ensure!(said.contains(&format!("http://127.0.0.1:{http}/api/schema")), "{said}");
    let (status, _) = get(&format!("http://127.0.0.1:{http}/api/schema"))?;
    anyhow::ensure!(status == 200, "/api/schema: {status}");
    raw_days_go_and_rollups_stay(&demo).context("--budget")?;
    live_events_come_at_the_rate(&demo, 500).context("--rate")?;
    let said = demo.stop()?;
    anyhow::ensure!(said.contains("are dropped to keep within 512"), "{said}");
    drop(holders);
    Ok(())
}

/// A month fits into the smallest budget: something else in the log's folder leaves less to it.
fn raw_days_go_and_rollups_stay(demo: &Demo) -> Result<()> {
    let oldest = "select extract(epoch from min(bucket))::bigint, count(distinct bucket), sum(events) \
                  from activity_day";
    let all = demo.numbers(oldest)?;
    anyhow::ensure!(all[1] >= 30 && all[2] > 4_000_000, "not a month of states: {all:?}");
    let ballast = std::fs::File::create(demo.folder.join("otus-demo/data/local-log/ballast"))?;
    ballast.set_len(300 << 20)?;
    let raw = until("the oldest raw days go", PATIENCE, || {
        let raw = demo.numbers(SPAN)?;
        anyhow::ensure!(raw[0] >= all[0] + DAY_S, "raw {raw:?}, states {all:?}");
        Ok(raw)
    })?;
    anyhow::ensure!(raw[2] > 0 && raw[2] < all[2], "raw {raw:?}, states {all:?}");
    let gone = raw[0].div_euclid(DAY_S) * DAY_S;
    let days = (gone - all[0]) / DAY_S;
    for rollup in ["activity_day", "activity_hour", "activity_minute", "audience_day"] {
        let per_day = format!(
            "select sum(events) from {rollup} where extract(epoch from bucket)::bigint < {gone} \
             group by date_trunc('day', bucket) order by date_trunc('day', bucket)"
        );
        let events: Vec<i64> = Client::connect(demo.ports[0])?
            .rows(&per_day)?
            .iter()
            .map(|row| number(row))
            .collect::<Result<_>>()?;
        anyhow::ensure!(
            i64::try_from(events.len())? == days,
            "{rollup}: {events:?} of {days} days"
        );
        // The first day begins somewhere in the middle.
        let whole = events.get(1..).unwrap_or_default();
        anyhow::ensure!(whole.iter().all(|n| *n > 50_000), "{rollup}: {events:?}");
    }
    let after = demo.numbers(oldest)?;
    anyhow::ensure!(after[0] == all[0] && after[2] >= all[2], "{after:?} after {all:?}");
    Ok(())
}

fn number(row: &[Option<String>]) -> Result<i64> {
    let cell = row.first().and_then(Option::as_deref).context("no number")?;
    cell.parse().with_context(|| cell.to_owned())
}

/// By the events' own times of arrival, compared with the same hour of the weeks before at the natural rate: the
/// made-up players keep hours. The bounds are wide, for the hour may be that of an outage.
fn live_events_come_at_the_rate(demo: &Demo, rate: i64) -> Result<()> {
    /// Seconds of arrivals that are counted.
    const SECONDS: i64 = 10;
    let arrived = "extract(epoch from received_at)::bigint";
    let newest = || -> Result<i64> {
        Ok(demo.numbers(&format!("select max({arrived}) from game_events"))?[0])
    };
    let count = |from: i64| -> Result<i64> {
        let until = from + SECONDS;
        let sql = format!(
            "select count(*) from game_events where {arrived} >= {from} and {arrived} < {until}"
        );
        Ok(demo.numbers(&sql)?[0])
    };
    let now = newest()?;
    let mut weeks = Vec::new();
    for week in 1..=4 {
        let (at, bucket) = (now - week * 7 * DAY_S, "extract(epoch from bucket)::bigint");
        let sql = format!(
            "select coalesce(sum(events), 0) from activity_minute where {bucket} >= {} and {bucket} < {}",
            at - 1_800,
            at + 1_800
        );
        weeks.push(demo.numbers(&sql)?[0]);
    }
    weeks.sort_unstable();
    // By the third of four: a week of an outage does not count. The natural rate is 1.93 a second.
    let wanted = weeks[2] * SECONDS * rate * 100 / 193 / 3_600;
    let about = wanted / 10..wanted * 3;
    let look = |from: i64| -> Result<()> {
        let live = count(from)?;
        anyhow::ensure!(
            about.contains(&live),
            "{live} in {SECONDS} s, not about {wanted}: {weeks:?}"
        );
        Ok(())
    };
    until("a live rate", PATIENCE, || look(newest()? - SECONDS))?;
    let from = newest()? + 1;
    until("more live events", PATIENCE, || {
        let newest = newest()?;
        anyhow::ensure!(newest > from + SECONDS, "{newest} after {from}");
        Ok(())
    })?;
    look(from).context("later")
}

#[test]
fn a_demo_starts_anew_only_when_told() -> Result<()> {
    let mut demo = Demo::new()?;
    let raw = |demo: &Demo, least: i64| {
        until("events are laid down", PATIENCE, || {
            let found = demo.numbers(SPAN)?;
            anyhow::ensure!(found[2] >= least, "{found:?}");
            Ok(found[2])
        })
    };
    demo.start(&[])?;
    let laid = raw(&demo, 100_000)?;
    let said = demo.stop()?;
    anyhow::ensure!(said.contains("a new month of events from "), "{said}");
    // Whatever lies in the data's folder belongs to the earlier demo.
    let mark = demo.folder.join("otus-demo/data/mark");
    std::fs::write(&mark, "of the first demo")?;
    demo.start(&[])?;
    demo.wait_said(": going on from ", PATIENCE)?;
    raw(&demo, laid)?;
    // Nobody takes the data of one that runs.
    let mut second = Command::new(paths::binary()?);
    second.args(demo.arguments(&["--fresh"])).current_dir(&demo.folder);
    let refused = second.output()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success() && words.contains("is in use by"), "{words}");
    let left = raw(&demo, laid)?;
    demo.stop()?;
    anyhow::ensure!(mark.exists(), "going on has deleted something");
    demo.start(&["--fresh"])?;
    until("a second new month", PATIENCE, || {
        let said = demo.process.as_ref().context("not started")?.output();
        let months = said.matches("a new month of events from ").count();
        anyhow::ensure!(months == 2, "{months} in {said}");
        Ok(())
    })?;
    anyhow::ensure!(!mark.exists(), "something of the earlier demo is left");
    // It has the times of an earlier month again, each once.
    raw(&demo, 1)?;
    let twice = demo.numbers(
        "select count(*), count(distinct _offset) from game_events where _partition = 0",
    )?;
    anyhow::ensure!(twice[0] == twice[1], "{twice:?} after {left}");
    demo.stop()?;
    // A folder that no demo made is left alone.
    let foreign = leash::fresh_folder("foreign")?;
    let kept = foreign.join("data/kept");
    std::fs::create_dir(foreign.join("data"))?;
    std::fs::write(&kept, "by somebody")?;
    let mut other = Command::new(paths::binary()?);
    other.args(demo.arguments(&["--fresh", "--dir"])).arg(&foreign).current_dir(&demo.folder);
    let refused = other.output()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    anyhow::ensure!(!refused.status.success() && words.contains("is no demo of Otus"), "{words}");
    anyhow::ensure!(kept.exists(), "a foreign folder was emptied");
    Ok(())
}
