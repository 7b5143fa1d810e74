//! Statements made to take the server's memory, time or files: each ends with an error that says why, or with its
//! answer, within its time; other clients are served in between, and memory stays near its bound.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use otus_tests::events;
use otus_tests::otus::{Otus, Setup, get};
use otus_tests::postgres::Client;

/// What a query may take of memory, KiB.
const QUERY_KIB: u64 = 256 << 10;
/// How long a statement may run that would run for ever. States of rollups would answer some of them at once.
const LONG: &str = "set statement_timeout = '1s'; set otus.rollups = 'off'";

fn server() -> Result<Otus> {
    let section = events::table_section("events");
    let otus = Setup::tables(format!("{section}\n[query]\nmemory = \"256MiB\"\n")).start()?;
    let lines: Vec<_> = (0..2_000).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from events", events::sums(2_000).0)?;
    Ok(otus)
}

/// The highest resident memory of the server so far, KiB.
fn peak_kib(otus: &Otus) -> Result<u64> {
    let pid = otus.id().context("not started")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

/// Runs each statement, which must end as is said: with a SQLSTATE, or with `rows`.
fn each_ends(otus: &Otus, statements: &[(String, &[&str])]) -> Result<()> {
    let mut client = otus.connect()?;
    client.rows(LONG)?;
    let other = otus.connect()?;
    let base = peak_kib(otus)?;
    for (sql, wanted) in statements {
        let shown: String = sql.chars().take(100).collect();
        let work = client.with(async |c| {
            let answer = tokio::time::timeout(Duration::from_secs(60), c.simple_query(sql));
            Ok(answer.await)
        });
        let found = match work?.with_context(|| format!("{shown}: no answer"))? {
            Ok(_) => "rows".to_owned(),
            Err(e) => {
                let e = e.as_db_error().with_context(|| format!("{shown}: connection lost"))?;
                ensure!(e.message().len() < 2_000, "{shown}: a message of {}", e.message().len());
                e.code().code().to_owned()
            }
        };
        ensure!(wanted.contains(&found.as_str()), "{shown}: {found}, not one of {wanted:?}");
        ensure!(other.numbers("select count(*) from events")? == [events::sums(2_000).0]);
        let over = peak_kib(otus)?.saturating_sub(base);
        ensure!(over < 4 * QUERY_KIB, "{} MiB after {shown}: {found}", over >> 10);
    }
    Ok(())
}

/// `part` for each of `0..count`, `$` in it being the number.
fn listed(count: usize, separator: &str, part: &str) -> String {
    let parts: Vec<_> = (0..count).map(|i| part.replace('$', &i.to_string())).collect();
    parts.join(separator)
}

fn nested(depth: usize, before: &str, middle: &str, after: &str) -> String {
    format!("{}{middle}{}", before.repeat(depth), after.repeat(depth))
}

#[test]
fn texts_that_are_too_much_are_refused_before_they_are_planned() -> Result<()> {
    let otus = server()?;
    let chain = |steps: usize| {
        let step = |i: usize| format!(", a{i} AS (SELECT x.c FROM a{0} x, a{0} y)", i - 1);
        let steps_text: String = (1..=steps).map(step).collect();
        format!("WITH a0 AS (SELECT 1 c){steps_text} SELECT c FROM a{steps}")
    };
    let too_complex: &[&str] = &["54001"];
    each_ends(
        &otus,
        &[
            (format!("select {}", listed(20_000, "+", "1")), too_complex),
            (format!("select {}", nested(5_000, "(", "1", ")")), too_complex),
            (format!("select {}", nested(20_000, "not ", "true", "")), too_complex),
            (format!("select {}", nested(3_000, "case when true then ", "1", " end")), too_complex),
            (format!("select {}", nested(3_000, "- ", "1", "")), too_complex),
            (format!("select {}", nested(500, "array[", "1", "]")), too_complex),
            (nested(500, "select * from (", "select 1", ") t"), too_complex),
            (listed(5_000, " union all ", "select $"), too_complex),
            (
                format!("select 1 from events where {}", listed(20_000, " or ", "amount = $")),
                too_complex,
            ),
            (chain(24), too_complex),
            (
                format!(
                    "select count(*) from events group by cube ({})",
                    listed(20, ", ", "amount % ($ + 2)")
                ),
                &["54011"],
            ),
            (format!("select length('{}')", "x".repeat(5 << 20)), &["54000"]),
            (format!("select 'a' ~ '{}'", nested(3_000, "(", "a", ")")), &["2201B"]),
            ("select 'a' ~ '((a{1,1000}){1,1000}){1,1000}'".into(), &["2201B"]),
            ("select kind ~ '((a{1,1000}){1,1000}){1,1000}' from events".into(), &["2201B"]),
            (
                "select to_char(now(), repeat('Y', 1000000))".into(),
                &["54000", "22023", "57014", "rows"],
            ),
        ],
    )
}

#[test]
fn lists_and_constants_are_planned_within_the_limits() -> Result<()> {
    let otus = server()?;
    let mib_50 = "repeat('x', 50000000)";
    let chain = |steps: usize| {
        let step = |i: usize| match i {
            0 => "a0 as (select * from events)".to_owned(),
            i => format!("a{i} as (select * from a{})", i - 1),
        };
        let steps_text: Vec<_> = (0..steps).map(step).collect();
        format!("with {} select count(*) from a{}", steps_text.join(", "), steps - 1)
    };
    let (columns, complex, arguments): (&[&str], &[&str], &[&str]) =
        (&["54011"], &["54001"], &["54023"]);
    let (large, rows): (&[&str], &[&str]) = (&["54000"], &["rows"]);
    // What takes long to build may be ended by the time of [`LONG`] first.
    let slow: &[&str] = &["54000", "57014"];
    let statements = [
        (format!("select {}", listed(1_000_000, ",", "1")), columns),
        (format!("select {}", listed(1_665, ",", "amount + $") + " from events"), columns),
        (format!("select 1 from events order by {}", listed(5_000, ",", "amount + $")), columns),
        (format!("select 1 from events group by {}", listed(5_000, ",", "amount + $")), columns),
        (format!("select {}", listed(1_664, ",", "$")), rows),
        (format!("select concat({})", listed(10_000, ",", "'a'")), arguments),
        (format!("select coalesce({}, 1)", listed(500, ",", "null")), rows),
        (format!("select count(*) from (values {}) v", listed(300_000, ",", "($)")), complex),
        (format!("select 1 from events where amount in ({})", listed(300_000, ",", "$")), complex),
        (chain(800), complex),
        (chain(200), rows),
        (format!("select cardinality(array[{}])", listed(20, ",", mib_50)), large),
        (format!("select {}", listed(20, ",", &format!("length({mib_50})"))), rows),
        (
            format!("select length(concat_ws(repeat('x', 8000000), {}))", listed(60, ",", "'a'")),
            large,
        ),
        (format!("select length(encode(convert_to({mib_50}, 'utf8'), 'hex'))"), slow),
        (format!("select length(json_build_array({mib_50}, {mib_50})::text)"), large),
        ("select count(*) from unnest(string_to_array(repeat('a,', 30000000), ','))".into(), slow),
        (format!("select {} from (select {mib_50} as x) t", listed(40, ",", "x as c$")), slow),
        ("select length(format('%100000000s', 'x'))".into(), large),
        ("select length(format('%70000s', 'x'))".into(), rows),
    ];
    let base = peak_kib(&otus)?;
    each_ends(&otus, &statements)?;
    let over = peak_kib(&otus)?.saturating_sub(base);
    ensure!(over < 3 * QUERY_KIB, "{} MiB for lists and constants", over >> 10);
    Ok(())
}

#[test]
fn long_texts_within_the_bounds_are_answered() -> Result<()> {
    let otus = server()?;
    let mut client = otus.connect()?;
    let mut number = |sql: String| -> Result<String> {
        let rows = client.with(async |c| Ok(c.query_one(&sql, &[]).await?.get::<_, i64>(0)))?;
        Ok(rows.to_string())
    };
    let good = events::sums(2_000).0.to_string();
    let list = listed(20_000, ", ", "$");
    ensure!(number(format!("select count(*) from events where amount in ({list})"))? == good);
    let list = listed(20_000, ", ", "'x$'");
    ensure!(number(format!("select count(*) from events where kind in ({list})"))? == "0");
    let rows = listed(20_000, ", ", "($)");
    ensure!(number(format!("select count(*) from (values {rows}) as t (a)"))? == "20000");
    let joined = listed(40, " cross join ", "(select 1 as a) t$");
    ensure!(number(format!("select count(*) from {joined}"))? == "1");
    let columns = listed(1_000, ", ", "amount + $ as c$");
    ensure!(number(format!("select count(*) from (select {columns} from events) t"))? == good);
    Ok(())
}

#[test]
fn what_would_never_end_ends_at_its_time_or_its_memory() -> Result<()> {
    let otus = server()?;
    let over: &[&str] = &["57014", "53200", "54000"];
    let statements = [
        "with recursive t(n) as (select 1 union all select n + 1 from t) select count(*) from t",
        "with recursive t(n) as (select 'a'::text union all select n || n from t) select max(length(n)) from t",
        "with recursive t(n) as (select 1 union all select n from t, (values (1), (2)) v) select count(*) from t",
        "select count(*) from events a, events b, events c, events d where a.id + b.id <> c.id + d.id",
        "select * from events a, events b, events c order by a.amount * b.amount * c.amount desc limit 10",
        "select a.amount * b.amount * c.id, count(*) from events a, events b, events c group by 1",
        "select count(distinct a.id * b.id + c.id) from events a, events b, events c",
        "select array_agg(a.kind || b.kind || c.kind) from events a, events b, events c",
        "select percentile_cont(0.5) within group (order by a.id * b.id * c.id) from events a, events b, events c",
        "select count(*) from generate_series(1, 1000000000000)",
        "select sum(a * b) from generate_series(1, 1000000) a, generate_series(1, 1000000) b",
        "select count(*) from generate_series('1900-01-01'::timestamptz, '2900-01-01', '1 microsecond')",
        "select count(*) from events a, events b, events c where a.kind || b.kind || c.kind ~ '^(a|b)*c'",
        "select sum(length(regexp_replace(repeat(a.kind || b.kind, 1000), '[a-z]', 'xx', 'g'))) from events a, events b",
        "select count(*) from (select unnest(string_to_array(repeat('a,', 10000000), ','))) t",
    ];
    let statements: Vec<_> = statements.iter().map(|sql| ((*sql).to_owned(), over)).collect();
    each_ends(&otus, &statements)?;
    // A server of its own: memory that others have left to the allocator is not this one's.
    let window = "select max(x) from (select sum(a.id) over (partition by b.kind order by a.id) as x \
                  from events a, events b, events c) t";
    each_ends(&server()?, &[(window.to_owned(), over)])?;
    // Planning ends as well.
    let slow = listed(300, " except ", "select kind from events where id <> $");
    each_ends(&otus, &[(slow, &["57014", "rows"])])
}

#[test]
fn no_statement_reaches_files_or_programs() -> Result<()> {
    let otus = server()?;
    let target = otus.folder().join("stolen.csv");
    let target = target.display();
    let refused: &[&str] =
        &["42501", "0A000", "42P01", "42883", "42601", "3F000", "22023", "42704"];
    let statements = [
        "select * from '/etc/passwd'".to_owned(),
        "select * from \"/etc/passwd\"".to_owned(),
        "select * from \"../../etc/passwd\"".to_owned(),
        "select * from \"file:///etc/passwd\"".to_owned(),
        "select * from public.\"../../etc/passwd\"".to_owned(),
        "select * from \"..\".\"..\".\"etc\"".to_owned(),
        format!("copy (select 1) to '{target}'"),
        "copy (select 1) to program 'id'".to_owned(),
        "copy events from '/etc/passwd'".to_owned(),
        "copy events from program 'id'".to_owned(),
        "create external table t (a int) stored as csv location '/etc/passwd'".to_owned(),
        "select pg_read_file('/etc/passwd')".to_owned(),
        "select pg_read_binary_file('/etc/passwd')".to_owned(),
        "select pg_ls_dir('/')".to_owned(),
        "select lo_import('/etc/passwd')".to_owned(),
        "select * from read_csv('/etc/passwd')".to_owned(),
        "select * from read_parquet('/etc/passwd')".to_owned(),
        "load '/etc/passwd'".to_owned(),
        "do $$ begin end $$".to_owned(),
        "create function f() returns int as 'x' language c".to_owned(),
        "set datafusion.execution.batch_size = 1".to_owned(),
        "alter system set x = 1".to_owned(),
    ];
    let statements: Vec<_> = statements.into_iter().map(|sql| (sql, refused)).collect();
    each_ends(&otus, &statements)?;
    ensure!(!otus.folder().join("stolen.csv").exists(), "a statement wrote a file");
    Ok(())
}

#[test]
fn a_connection_that_is_lost_in_a_long_statement_leaves_the_others() -> Result<()> {
    let otus = server()?;
    let heavy = "select count(*) from events a, events b, events c where a.id + b.id <> c.id";
    let clients: Vec<Client> = (0..20).map(|_| otus.connect()).collect::<Result<_>>()?;
    for mut client in clients {
        client.with(async |c| {
            let _cut = tokio::time::timeout(Duration::from_millis(20), c.simple_query(heavy)).await;
            Ok(())
        })?;
        drop(client);
    }
    otus_tests::process::until("nothing runs any more", Duration::from_secs(30), || {
        let (status, text) = get(&otus.url("/metrics"))?;
        ensure!(status == 200, "{status}");
        ensure!(text.lines().any(|l| l == "otus_query_memory_bytes 0"), "memory is reserved");
        Ok(())
    })?;
    ensure!(otus.connect()?.numbers("select count(*) from events")? == [events::sums(2_000).0]);
    Ok(())
}
