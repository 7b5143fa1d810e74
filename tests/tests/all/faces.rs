//! What people hold in their hands: psql by hand, SQL and pull patterns over HTTP, the verbs of the command line,
//! and the demo, which is killed and goes on.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use otus_tests::otus::{Otus, PATIENCE, Setup, get, post, wait_between};
use otus_tests::postgres::{Client, Psql};
use otus_tests::process::{Process, free_port, until};
use otus_tests::{events, leash, need, paths, terminal};
use serde_json::{Value, json};

const EVENTS: u64 = 2_000;

fn server() -> Result<Otus> {
    let otus = Setup::tables(events::table_section("events")).start()?;
    let lines: Vec<_> = (0..EVENTS).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    Ok(otus)
}

#[test]
fn psql_by_hand() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    for (command, words) in [
        ("\\d", &["events", "by_kind_hour"][..]),
        ("\\dt", &["events"]),
        ("\\dv", &["by_kind_day"]),
        ("\\dn", &["public"]),
        ("\\d events", &["amount", "bigint", "timestamp with time zone"]),
        ("\\d by_kind_hour", &["bucket", "people"]),
        ("\\conninfo", &["otus"]),
    ] {
        let said = psql.query(command).with_context(|| command.to_owned())?;
        for word in words {
            anyhow::ensure!(said.contains(word), "{command} does not say {word}:\n{said}");
        }
    }
    let timed = psql.command(&["-At", "-c", "\\timing on", "-c", "select 1"]).output()?;
    let timed = String::from_utf8_lossy(&timed.stdout).into_owned();
    anyhow::ensure!(timed.contains("Time: "), "{timed}");
    let databases = psql.query("\\l")?;
    anyhow::ensure!(databases.starts_with("otus|otus|UTF8|"), "{databases}");
    anyhow::ensure!(databases.lines().count() == 1, "one database is served: {databases}");
    let error = psql.error("select nothing from events")?;
    anyhow::ensure!(error.contains("42703") && error.contains("nothing"), "{error}");
    for (sql, caret, hint) in [
        ("select kind, amuont from events", "             ^", "\"amount\""),
        ("select 1 from event", "              ^", "\"events\""),
    ] {
        let error = psql.error(sql)?;
        let under = error.lines().find(|line| line.trim() == "^").context("no caret")?;
        anyhow::ensure!(under == format!("        {caret}"), "{error}");
        anyhow::ensure!(error.contains("HINT:") && error.contains(hint), "{error}");
    }
    let fetched =
        psql.command(&["-At", "-v", "FETCH_COUNT=100", "-c", "select id from events order by id"]);
    let fetched = { fetched }.output()?;
    let lines = String::from_utf8_lossy(&fetched.stdout).lines().count();
    anyhow::ensure!(
        i64::try_from(lines)? == events::sums(EVENTS).0,
        "{lines} lines by FETCH_COUNT"
    );
    Ok(())
}

/// Columns of every kind of type, as `\d` shows them.
const SHAPES: [(&str, &str); 10] = [
    ("at", "timestamp with time zone"),
    ("plain", "timestamp without time zone"),
    ("day", "date"),
    ("id", "uuid"),
    ("document", "jsonb"),
    ("price", "numeric(12,2)"),
    ("whole", "numeric(38,0)"),
    ("tags", "text[]"),
    ("ids", "uuid[]"),
    ("prices", "numeric(5,1)[]"),
];

#[test]
fn psql_shows_declared_types() -> Result<()> {
    need!(Psql::new(0));
    let mut tables = String::from("[tables.shapes]\ntopic = \"shapes\"\ntime = \"at\"\n");
    tables += "[tables.shapes.columns]\n";
    for (name, shown) in SHAPES {
        tables += &format!("{name} = \"{shown}\"\n");
    }
    tables += "[tables.shapes.measures]\nn = \"count(*)\"\nsold = \"sum(price)\"\n";
    tables += "[tables.shapes.rollups.by_id]\ngranularity = [\"hour\"]\ndimensions = [\"id\", \"price\"]\n";
    let otus = Setup::tables(tables).start()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let shown = psql.query("\\d shapes")?;
    for (name, wanted) in SHAPES {
        let column = shown.lines().find(|line| line.starts_with(&format!("{name}|")));
        let found = column.and_then(|line| line.split('|').nth(1));
        anyhow::ensure!(found == Some(wanted), "{name}: {found:?} in\n{shown}");
    }
    let view = psql.query("\\d by_id_hour")?;
    for wanted in
        ["bucket|timestamp with time zone|", "id|uuid|", "price|numeric(12,2)|", "sold|numeric|"]
    {
        anyhow::ensure!(view.lines().any(|line| line.starts_with(wanted)), "{wanted}:\n{view}");
    }
    let listed = "select column_name, udt_name from information_schema.columns \
                  where table_name = 'shapes' and column_name in ('ids', 'id') order by 1";
    anyhow::ensure!(psql.query(listed)? == "id|uuid\nids|_uuid", "{}", psql.query(listed)?);
    for command in ["\\d+ shapes", "\\df", "\\dn", "\\dt+", "\\du"] {
        psql.query(command).with_context(|| command.to_owned())?;
    }
    Ok(())
}

const LONG: &str =
    "select count(*) from events a, events b, events c where a.amount + b.amount + c.amount = 1";

#[test]
fn ctrl_c_stops_the_work() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let mut child =
        psql.command(&["-c", LONG]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    wait_between(Duration::from_millis(1_500));
    let asked = Instant::now();
    Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status()?;
    let mut words = String::new();
    child.stderr.take().context("no stderr")?.read_to_string(&mut words)?;
    let status = child.wait()?;
    anyhow::ensure!(!status.success() && words.contains("cancel"), "{status} {words}");
    anyhow::ensure!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    idle(&otus)
}

#[test]
fn the_configured_timeout_stops_a_statement() -> Result<()> {
    need!(Psql::new(0));
    let section = "[query]\ntimeout = \"500ms\"\n\n";
    let tables = events::table_section("events");
    let otus = Setup::tables(format!("{section}{tables}")).start()?;
    let lines: Vec<_> = (0..EVENTS).map(events::payload).collect();
    otus.append("events", &lines)?;
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    anyhow::ensure!(psql.query("show statement_timeout")? == "500");
    let error = psql.error(LONG)?;
    anyhow::ensure!(error.contains("57014") && error.contains("statement timeout"), "{error}");
    let (status, answer) = otus.post_json("/api/sql", &json!({"query": LONG}))?;
    let said = answer.to_string();
    anyhow::ensure!(said.contains("57014"), "{status} {said}");
    // A session may ask for more, and the next statement has its own time.
    let longer =
        psql.command(&["-At", "-c", "set statement_timeout = '1min'; select 1"]).output()?;
    anyhow::ensure!(longer.status.success(), "{longer:?}");
    idle(&otus)
}

/// Waits until the server burns no processor time: the work has really stopped.
fn idle(otus: &Otus) -> Result<()> {
    let pid = otus.id().context("not started")?;
    let ticks = || -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = text.rsplit_once(") ").context("stat")?.1;
        fields.split(' ').skip(11).take(2).map(|f| Ok(f.parse::<u64>()?)).sum()
    };
    until("the server is idle", Duration::from_secs(20), || {
        let before = ticks()?;
        wait_between(Duration::from_secs(1));
        let used = ticks()? - before;
        anyhow::ensure!(used < 40, "{used} hundredths of a second in one second");
        Ok(())
    })
}

#[test]
fn a_client_that_leaves_takes_its_work_along() -> Result<()> {
    need!(Psql::new(0));
    let otus = server()?;
    let psql = otus.psql().map_err(anyhow::Error::msg)?;
    let mut child =
        psql.command(&["-c", LONG]).stderr(Stdio::null()).stdout(Stdio::null()).spawn()?;
    wait_between(Duration::from_millis(1_500));
    child.kill()?;
    child.wait()?;
    idle(&otus)
}

#[test]
fn a_deep_expression_is_refused_and_harms_nobody() -> Result<()> {
    let otus = server()?;
    let client = otus.connect()?;
    // A thousand operators are promised, and not one more; a hundred levels of brackets.
    let sum = |terms: usize| format!("select {}", vec!["1"; terms].join(" + "));
    for terms in [500, 1_000] {
        let found = client.numbers(&sum(terms)).with_context(|| format!("{terms} terms"))?;
        anyhow::ensure!(found == [i64::try_from(terms)?], "{terms} terms: {found:?}");
    }
    let nested = |levels: usize| format!("select {}1{}", "(".repeat(levels), ")".repeat(levels));
    anyhow::ensure!(client.numbers(&nested(90))? == [1]);
    for deep in [sum(1_100), sum(20_000), nested(110), nested(50_000)] {
        let (state, message) = client.failure(&deep)?;
        let length = deep.len();
        anyhow::ensure!(state == "54001", "a text of {length} bytes: {state} {message}");
        anyhow::ensure!(message == "statement is too complex", "{length} bytes: {message}");
    }
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)
}

#[test]
fn sql_over_http() -> Result<()> {
    let otus = server()?;
    let (count, ids, _) = events::sums(EVENTS);
    let request = json!({"query": "select count(*) as n, sum(id) as ids from events where id >= $1", "params": [0]});
    let (status, answer) = otus.post_json("/api/sql", &request)?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    let text = answer.to_string();
    anyhow::ensure!(text.contains(&count.to_string()) && text.contains(&ids.to_string()), "{text}");
    let request =
        json!({"query": "select id, kind from events where id < 3 order by id"}).to_string();
    let (status, csv) = post(&otus.url("/api/sql?format=csv"), "application/json", &request)?;
    let lines: Vec<&str> = csv.lines().collect();
    anyhow::ensure!(status == 200 && lines.len() == 4 && lines[0] == "id,kind", "{status} {csv}");
    let (status, answer) =
        otus.post_json("/api/sql", &json!({"query": "select nothing from events"}))?;
    anyhow::ensure!(status == 400 && answer.to_string().contains("42703"), "{status} {answer}");
    let (status, _) = post(&otus.url("/api/sql"), "text/plain", &request)?;
    anyhow::ensure!(status == 415, "a form of a foreign page: {status}");
    Ok(())
}

#[test]
fn pull_patterns_in_both_spellings() -> Result<()> {
    let otus = server()?;
    let (count, _, amounts) = events::sums(EVENTS);
    let json = json!({"pattern": {
        "metrics": {"events": {"$with": [{"from": "2024-01-01", "to": "2024-01-02", "granularity": "day"}],
            "$get": [{"bucket": "?", "events": "?", "amounts": "?"}]}},
        "bounds": {"events": {"first": "?", "last": "?"}}}});
    let (status, answer) = otus.pull(&json)?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    let row = &answer["data"]["metrics"]["events"][0];
    anyhow::ensure!(row["events"] == count, "{answer}");
    anyhow::ensure!(
        row["amounts"].to_string().trim_matches('"') == amounts.to_string(),
        "{answer}"
    );
    let edn = "{:pattern {:metrics {(:events :with [{:from \"2024-01-01\" :to \"2024-01-02\"}]) \
               [{:kind ?, :events ?} ?rows]}}}";
    let (status, text) = post(&otus.url("/api/pull"), "application/edn", edn)?;
    anyhow::ensure!(status == 200 && text.contains("?rows"), "{status} {text}");
    let buy = otus.number("select count(*) from events where kind = 'buy'")?;
    anyhow::ensure!(text.contains(&format!("{buy}")), "{text}");
    // Everything wrong is said at once, each with its path, and nothing runs.
    let bad = json!({"pattern": {"metrics": {
        "events": {"$with": [{"from": "2024-01-01", "to": "2024-01-02", "filter": {}}], "$get": [{"no_such": "?"}]},
        "nowhere": {"$with": [{"from": "2024-01-01", "to": "2024-01-02"}], "$get": [{"x": "?"}]}}}});
    let (status, answer) = otus.pull(&bad)?;
    let said = answer.to_string();
    anyhow::ensure!(status == 422, "{status} {said}");
    for word in ["filter", "no_such", "nowhere"] {
        anyhow::ensure!(said.contains(word), "{word} is not reported: {said}");
    }
    let (status, _) = post(&otus.url("/api/pull"), "application/json", "{\"pattern\": ")?;
    anyhow::ensure!(status == 400, "{status}");
    Ok(())
}

#[test]
fn http_is_guarded_and_observed() -> Result<()> {
    let otus = server()?;
    let (status, _) = get(&otus.url("/healthz"))?;
    anyhow::ensure!(status == 200, "{status}");
    otus.wait_ready()?;
    let (status, metrics) = get(&otus.url("/metrics"))?;
    anyhow::ensure!(status == 200 && metrics.contains("_total"), "{status} {metrics}");
    let (status, _) = otus.append("nobody-reads-this", &[b"{}".to_vec()])?;
    anyhow::ensure!(status == 404, "{status}");
    let curl = |header: &str| -> Result<u16> {
        // A browser sends a foreign Host or Origin when a page elsewhere aims at this address.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (name, value) = header.split_once(": ").context("a header")?;
        let request = reqwest::Client::new().get(otus.url("/healthz")).header(name, value);
        Ok(runtime.block_on(request.send())?.status().as_u16())
    };
    anyhow::ensure!(curl("origin: http://evil.example")? == 403, "a foreign origin");
    anyhow::ensure!(curl("host: evil.example")? == 403, "a foreign host");
    Ok(())
}

#[test]
fn the_verbs_of_the_command_line() -> Result<()> {
    let otus = server()?;
    let folder = otus.folder().to_owned();
    std::fs::write(folder.join("document.edn"), "{:a {:b 1 :c 2}}")?;
    let pulled = otus.run(&["pull", "--data", "document.edn", "{:a {:b ?}}"])?;
    anyhow::ensure!(pulled.contains(":b 1") && !pulled.contains(":c"), "{pulled}");
    let good: Vec<String> = (EVENTS..EVENTS + 10)
        .filter(|id| !events::is_bad(*id))
        .map(|id| String::from_utf8(events::payload(id)).map_err(Into::into))
        .collect::<Result<_>>()?;
    std::fs::write(folder.join("more.ndjson"), good.join("\n"))?;
    otus.run(&["append", "events", "more.ndjson"])?;
    let more = i64::try_from(good.len())?;
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0 + more)?;
    let inferred = otus.run(&["infer", "more.ndjson"])?;
    for word in ["[tables.", "amount", "bigint"] {
        anyhow::ensure!(inferred.contains(word), "infer does not say {word}:\n{inferred}");
    }
    otus.flush()?;
    for arguments in [
        &["inspect"][..],
        &["inspect", "--files"],
        &["inspect", "--positions"],
        &["inspect", "--verify"],
    ] {
        let said = otus.run(arguments)?;
        anyhow::ensure!(said.contains("events"), "{arguments:?}: {said}");
    }
    for verb in ["demo", "serve", "check", "infer", "sql", "pull", "append", "inspect", "reset"] {
        let help = otus.run(&[verb, "--help"])?;
        anyhow::ensure!(help.contains("Usage:"), "{verb}: {help}");
    }
    // A second server on the same folder is refused, and is told who holds it.
    let second = otus.command(&["serve", "-c", "otus.toml"])?;
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    anyhow::ensure!(!second.status.success(), "two servers on one folder");
    anyhow::ensure!(words.contains("127.0.0.1"), "the lock does not name its holder: {words}");
    Ok(())
}

/// The demo in a folder of its own.
struct Demo {
    folder: std::path::PathBuf,
    ports: [u16; 2],
    process: Option<Process>,
}

impl Demo {
    /// Starts it on a terminal.
    fn start_watched(&mut self) -> Result<()> {
        let [postgres, http] = self.ports.map(|p| p.to_string());
        let binary = paths::binary()?.display().to_string();
        let arguments = ["demo", "--postgres-port", &postgres, "--http-port", &http];
        let command = terminal::command(&binary, &arguments).map_err(anyhow::Error::msg)?;
        self.run(command, "terminal")
    }

    fn start(&mut self) -> Result<()> {
        let [postgres, http] = self.ports.map(|p| p.to_string());
        let mut command = Command::new(paths::binary()?);
        command.args(["demo", "--postgres-port", &postgres, "--http-port", &http]);
        self.run(command, "output")
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
    let folder = leash::fresh_folder("demo")?;
    let mut demo = Demo { folder, ports: [free_port()?, free_port()?], process: None };
    need!(terminal::command("true", &[]));
    demo.start_watched()?;
    let span = "select count(*), (extract(epoch from max(time)) - extract(epoch from min(time)))::bigint from game_events";
    let month = 29 * 86_400;
    let laid = until("30 days of history", Duration::from_secs(420), || {
        let found = demo.numbers(span)?;
        anyhow::ensure!(found[0] > 4_000_000 && found[1] > month, "{found:?}");
        Ok(found[0])
    })?;
    one_line_tells_the_state(demo.process()?)?;
    let inner = terminal::inner(demo.process()?.id())?.to_string();
    Command::new("kill").args(["-s", "KILL", &inner]).status()?;
    demo.process()?.wait(PATIENCE)?;
    demo.start()?;
    until("the demo goes on", PATIENCE, || {
        let found = demo.numbers(span)?;
        anyhow::ensure!(found[0] >= laid, "{found:?} after {laid}");
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
    let mut process = demo.process.take().context("not started")?;
    let status = process.stop(PATIENCE)?;
    anyhow::ensure!(status.success(), "{status}: {}", process.tail(20));
    // Nobody watches: whole lines, nothing that only a terminal understands.
    let said = process.output();
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

#[test]
fn long_work_shows_progress_to_those_who_watch() -> Result<()> {
    need!(terminal::command("true", &[]));
    let otus = server()?;
    let lines: Vec<String> = (EVENTS..EVENTS + 60_000)
        .filter(|id| !events::is_bad(*id))
        .map(|id| String::from_utf8(events::payload(id)).map_err(Into::into))
        .collect::<Result<_>>()?;
    std::fs::write(otus.folder().join("many.ndjson"), lines.join("\n"))?;
    let binary = paths::binary()?.display().to_string();
    let watched = |arguments: &[&str]| -> Result<String> {
        let mut command = terminal::command(&binary, arguments).map_err(anyhow::Error::msg)?;
        command.env("OTUS_SERVER", otus.url("")).current_dir(otus.folder());
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(output.status.success(), "{arguments:?}: {said}");
        Ok(said)
    };
    let append = ["append", "events", "many.ndjson"];
    let said = watched(&append)?;
    anyhow::ensure!(terminal::has_controls(&said) && said.contains("MiB"), "{said:?}");
    let done = format!("{} records appended to \"events\"", lines.len());
    anyhow::ensure!(said.contains(&done), "{said:?}");
    anyhow::ensure!(otus.run(&append)? == format!("{done}\n"), "a pipe gets the result alone");
    otus.wait_number("select sum(lag) from otus.partitions", 0)?;
    otus.flush()?;
    let said = watched(&["inspect", "--verify"])?;
    anyhow::ensure!(terminal::has_controls(&said) && said.contains("reading files"), "{said:?}");
    let plain = otus.run(&["inspect", "--verify"])?;
    anyhow::ensure!(!terminal::has_controls(&plain) && plain.contains("sound"), "{plain:?}");
    Ok(())
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
