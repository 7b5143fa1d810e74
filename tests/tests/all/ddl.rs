//! Tables and rollups that psql declares: they work at once, live through kills and restarts beside those of the
//! file, change, and go; what the file declares or does not allow stays as it is.

use anyhow::{Context, Result};
use otus_tests::need;
use otus_tests::otus::{Otus, PATIENCE, Setup};
use otus_tests::postgres::Psql;
use otus_tests::process::until;
use serde_json::json;

const FILE: &str = r#"
[ddl]
topics = ["clicks", "team-*"]

[tables.visits]
topic = "visits"
time = "at"
[tables.visits.columns]
at = "timestamptz"
page = "text"
[tables.visits.measures]
rows = "count(*)"
"#;

const CLICKS: &str = "CREATE TABLE clicks (
    at timestamptz,
    page text,
    country text WITH (path = 'geo.country'),
    n smallint DEFAULT 1,
    host text AS (split_part(page, '/', 1)),
    MEASURE clicks AS (count(*)),
    MEASURE total AS (sum(n))
) WITH (topic = 'clicks', time = 'at')";

fn click(i: usize) -> Vec<u8> {
    let (minute, page, country) = (i % 60, i % 7, if i.is_multiple_of(3) { "de" } else { "fr" });
    json!({
        "at": format!("2024-08-20T{:02}:{minute:02}:00Z", i / 60 % 24),
        "page": format!("h{page}/x"),
        "geo": { "country": country },
        "n": i % 5,
    })
    .to_string()
    .into_bytes()
}

fn append(otus: &Otus, topic: &str, from: usize, to: usize) -> Result<()> {
    let lines: Vec<_> = (from..to).map(click).collect();
    let (status, body) = otus.append(topic, &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {body}");
    Ok(())
}

/// The answers that raw rows and rollups give to the same question.
fn same_answers(otus: &Otus, sql: &str) -> Result<()> {
    let client = otus.connect()?;
    let auto = client.rows(sql)?;
    client.rows("set otus.rollups = off")?;
    let raw = client.rows(sql)?;
    anyhow::ensure!(auto == raw && !raw.is_empty(), "{sql}: {auto:?} instead of {raw:?}");
    Ok(())
}

fn changes_are_listed(psql: &Psql) -> Result<()> {
    let changes = psql.query(
        "select origin, who, object, split_part(statement, ' ', 1) || ' ' || split_part(statement, ' ', 2) \
         from otus.changes order by time, commit",
    )?;
    let expected = "file|file|public.visits|table \"public.visits\"\nsql|otus|public.clicks|CREATE TABLE\n\
                    sql|otus|public.clicks|CREATE ROLLUP\nsql|otus|public.clicks|ALTER TABLE\n\
                    sql|otus|public.clicks|ALTER TABLE";
    anyhow::ensure!(changes == expected, "{changes}");
    Ok(())
}

#[test]
fn a_table_made_by_psql_lives_on() -> Result<()> {
    let mut otus = Setup::tables(FILE).start()?;
    otus.wait_ready()?;
    let psql = need!(otus.psql());
    anyhow::ensure!(psql.query(CLICKS)? == "CREATE TABLE");
    let shown = psql.query("\\d clicks")?;
    for column in ["at|timestamp with time zone", "country|text", "n|smallint", "host|text"] {
        anyhow::ensure!(shown.contains(column), "\\d does not show {column}: {shown}");
    }
    append(&otus, "clicks", 0, 600)?;
    append(&otus, "visits", 0, 50)?;
    otus.wait_number("select count(*) from clicks", 600)?;
    otus.wait_number("select count(*) from visits", 50)?;
    anyhow::ensure!(otus.number("select count(distinct host) from clicks")? == 7);

    let rollup =
        "CREATE ROLLUP by_country ON clicks (country) WITH (granularity = ('minute', 'hour'))";
    anyhow::ensure!(psql.query(rollup)? == "CREATE ROLLUP");
    append(&otus, "clicks", 600, 4_000)?;
    otus.wait_number("select count(*) from clicks", 4_000)?;
    otus.flush()?;
    let asked = "select country, count(*), sum(n) from clicks group by country order by country";
    same_answers(&otus, asked)?;
    // New rows are in the rollup, which has a view and is named.
    anyhow::ensure!(otus.number("select sum(clicks) from by_country_hour")? >= 3_400);
    let plan = psql.query(&format!("EXPLAIN {asked}"))?;
    anyhow::ensure!(plan.contains("by_country"), "{plan}");

    // The extended protocol and HTTP declare as well.
    otus.connect()?.with(async |client| {
        client.execute("ALTER TABLE clicks ADD COLUMN lang text DEFAULT 'en'", &[]).await?;
        Ok(())
    })?;
    let request = json!({ "query": "ALTER TABLE clicks ALTER COLUMN n TYPE bigint APPLY" });
    let (status, answer) = otus.post_json("/api/sql", &request)?;
    anyhow::ensure!(status == 200 && answer["command"] == "ALTER TABLE", "{status} {answer}");
    append(&otus, "clicks", 4_000, 5_000)?;
    otus.wait_number("select count(*) from clicks", 5_000)?;
    anyhow::ensure!(otus.number("select count(*) from clicks where lang = 'en'")? == 1_000);
    same_answers(&otus, asked)?;

    // Rows that were not yet written are read again, and everything declared is there.
    otus.kill()?;
    otus.launch()?;
    check_life(&otus, asked)?;
    otus.stop()?;
    otus.launch()?;
    check_life(&otus, asked)?;

    changes_are_listed(&psql)?;
    let verified = otus.run(&["inspect", "--verify", "-c", "otus.toml"])?;
    anyhow::ensure!(verified.contains("clicks"), "{verified}");

    // A statement that runs keeps what it has pinned.
    let mut reading = otus.connect()?;
    let left = reading.with(async |client| {
        client
            .batch_execute("begin; declare c cursor for select n from clicks; fetch 10 from c")
            .await?;
        let dropped = psql.query("DROP TABLE clicks")?;
        anyhow::ensure!(dropped == "DROP TABLE");
        let rows = client.simple_query("fetch all from c").await?;
        client.batch_execute("commit").await?;
        Ok(otus_tests::postgres::rows_of(&rows).len())
    })?;
    anyhow::ensure!(left == 4_990, "{left} rows after the drop");
    let error = psql.error("select * from clicks")?;
    anyhow::ensure!(error.contains("42P01"), "{error}");
    let gone = "select count(*) from otus.segments where \"table\" = 'public.clicks'";
    anyhow::ensure!(otus.number(gone)? == 0);
    anyhow::ensure!(otus.number("select count(*) from visits")? == 50);
    // Made again, it is another table over the same topic.
    psql.query(CLICKS)?;
    otus.wait_number("select count(*) from clicks", 5_000)?;
    otus.stop()
}

fn check_life(otus: &Otus, asked: &str) -> Result<()> {
    otus.wait_ready()?;
    otus.wait_number("select count(*) from clicks", 5_000)?;
    otus.wait_number("select count(*) from visits", 50)?;
    same_answers(otus, asked)?;
    anyhow::ensure!(otus.value("select max(lang) from clicks")? == "en");
    let types = "select data_type from information_schema.columns where table_name = 'clicks' and \
                 column_name = 'n'";
    anyhow::ensure!(otus.value(types)? == "bigint");
    anyhow::ensure!(
        otus.number("select count(*) from otus.rollups where rollup = 'by_country'")? == 2
    );
    Ok(())
}

#[test]
fn what_may_not_be_declared_is_refused() -> Result<()> {
    let mut otus = Setup::tables(FILE).start()?;
    otus.wait_ready()?;
    let psql = need!(otus.psql());
    psql.query(CLICKS)?;
    for (sql, state, told) in [
        (CLICKS, "42P07", "relation \"clicks\" already exists"),
        ("ALTER TABLE visits ADD COLUMN x text", "42501", "declared in the configuration file"),
        ("DROP TABLE visits", "42501", "[tables.visits]"),
        (
            "CREATE TABLE x (at timestamptz) WITH (topic = 'secret', time = 'at')",
            "42501",
            "[ddl] topics",
        ),
        (
            "CREATE TABLE x (at timestamptz) WITH (file = '/etc/passwd', time = 'at')",
            "42501",
            "neither files",
        ),
        (
            "CREATE TABLE x (at nonsense) WITH (topic = 'team-a', time = 'at')",
            "42P16",
            "unknown column type",
        ),
        ("ALTER TABLE clicks SET (retention.raw = '1d')", "55000", "APPLY"),
        (
            "ALTER TABLE clicks ALTER country TYPE bigint",
            "22023",
            "cannot change from text to bigint",
        ),
        ("BEGIN; DROP TABLE clicks", "25001", "transaction block"),
    ] {
        let error = psql.error(sql)?;
        anyhow::ensure!(error.contains(state) && error.contains(told), "{sql}: {error}");
    }
    // The file may take the table over; another one of its name may not come beside it.
    otus.stop()?;
    let file = otus.folder().join("otus.toml");
    let text = std::fs::read_to_string(&file)?;
    let view = "\n[tables.clicks]\ntopic = \"clicks\"\ntime = \"at\"\n[tables.clicks.columns]\nat = \
                \"timestamptz\"\npage = \"text\"\n";
    std::fs::write(&file, format!("{text}{view}"))?;
    let output = otus.command(&["serve", "-c", "otus.toml"])?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let told = "was made by a statement and is now the file's";
    anyhow::ensure!(!output.status.success() && words.contains(told), "{words}");
    std::fs::write(&file, text.replace("topics = [\"clicks\", \"team-*\"]", "topics = []"))?;
    otus.launch()?;
    otus.wait_ready()?;
    let error = psql.error("DROP TABLE clicks")?;
    anyhow::ensure!(error.contains("statements declare nothing here"), "{error}");
    append(&otus, "clicks", 0, 10)?;
    otus.wait_number("select count(*) from clicks", 10)?;
    otus.stop()
}

#[test]
fn advise_proposes_what_then_answers() -> Result<()> {
    let mut otus = Setup::tables(FILE).start()?;
    otus.wait_ready()?;
    let psql = need!(otus.psql());
    psql.query(CLICKS)?;
    append(&otus, "clicks", 0, 3_000)?;
    otus.wait_number("select count(*) from clicks", 3_000)?;
    otus.flush()?;
    let asked = "select date_trunc('hour', at), country, count(*), max(n) from clicks where country <> 'x' \
                 group by 1, 2 order by 1, 2";
    same_answers(&otus, asked)?;
    // Two aggregates of one query, over expressions.
    let computed = "select a.h, a.s, b.n from (select split_part(page, '/', 1) as h, sum(n * 2) as s from clicks \
                    group by 1) a, (select count(*) filter (where n > 2) as n from clicks) b order by 1";
    same_answers(&otus, computed)?;
    let advice = otus.run(&["advise"])?;
    for told in [
        "# public.clicks: ",
        "[tables.clicks.rollups.clicks_by_country]",
        "granularity = [\"hour\"]",
        "max_n = \"max(n)\"",
        "{ name = \"split_part_page_1\", sql = \"split_part(page, '/', 1)\" }",
        "sum_n_2 = \"sum(n * 2)\"",
        "count_all_filter_where_n_2 = \"count(*) FILTER (WHERE n > 2)\"",
        "rows instead of 3,000",
    ] {
        anyhow::ensure!(advice.contains(told), "no {told} in\n{advice}");
    }
    // The statements are what they say they are.
    let statements = advice
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| line.starts_with("ALTER TABLE") || line.starts_with("CREATE ROLLUP"));
    let mut done = 0;
    for statement in statements {
        psql.query(statement).with_context(|| format!("{statement} of\n{advice}"))?;
        done += 1;
    }
    anyhow::ensure!(done == 6, "{done} statements in\n{advice}");
    append(&otus, "clicks", 3_000, 6_000)?;
    otus.wait_number("select count(*) from clicks", 6_000)?;
    until("the rollup answers for what is new", PATIENCE, || {
        let plan = psql.query(&format!("EXPLAIN {asked}"))?;
        anyhow::ensure!(plan.contains("rollup clicks_by_country"), "{plan}");
        let plan = psql.query(&format!("EXPLAIN {computed}"))?;
        let both = ["rollup clicks_by_split_part_page_1", "rollup clicks_totals"];
        anyhow::ensure!(both.iter().all(|rollup| plan.contains(rollup)), "{plan}");
        Ok(())
    })?;
    same_answers(&otus, asked)?;
    same_answers(&otus, computed)?;
    otus.stop()
}
