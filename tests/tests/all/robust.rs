//! What one client asks harms nobody else: long statements let short ones through and stop when they are
//! cancelled, memory stays near its bound, an old snapshot is refused, and errors keep the server's folders
//! to themselves.

use std::time::Duration;

use anyhow::{Context, Result};
use otus_tests::events;
use otus_tests::otus::{Otus, Setup, post, wait_between};
use otus_tests::postgres::Client;
use otus_tests::process::until;
use serde_json::{Value, json};

const EVENTS: u64 = 2_000;
const QUERY: &str = "\n[query]\nmemory = \"256MiB\"\n";

fn served(setup: Setup) -> Result<Otus> {
    let otus = setup.start()?;
    let lines: Vec<_> = (0..EVENTS).map(events::payload).collect();
    let (status, answer) = otus.append("events", &lines)?;
    anyhow::ensure!(status == 200, "append: {status} {answer}");
    otus.wait_number("select count(*) from events", events::sums(EVENTS).0)?;
    Ok(otus)
}

fn server() -> Result<Otus> {
    served(Setup::tables(format!("{}{QUERY}", events::table_section("events"))))
}

/// Statements that would run for hours.
const LONG: [&str; 3] = [
    "select max(length(repeat(a.kind || b.kind, 200000))) from events a, events b, events c",
    "select sum(levenshtein(repeat(a.kind, 900), repeat(b.kind, 900))) from events a, events b",
    "select count(*) from events a, events b where length(lpad(a.kind || b.kind, 300000)) = a.amount + 1000000",
];

#[test]
fn long_statements_let_short_ones_through_and_stop_when_cancelled() -> Result<()> {
    let otus = server()?;
    let clients = LONG.iter().chain(&LONG).map(|sql| Ok((*sql, otus.connect()?)));
    let clients = clients.collect::<Result<Vec<_>>>()?;
    let tokens: Vec<_> = clients.iter().map(|(_, client)| client.canceller()).collect();
    std::thread::scope(|scope| -> Result<()> {
        let running: Vec<_> =
            clients.iter().map(|(sql, client)| scope.spawn(move || client.failure(sql))).collect();
        wait_between(Duration::from_secs(2));
        let short = || -> Result<()> {
            for sql in ["select 1", "select count(*) from events", "select length(repeat('x', 9))"]
            {
                let begun = std::time::Instant::now();
                otus.number(sql)?;
                // Far beyond what it takes, far below what the long ones take.
                anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "{sql}: starved");
            }
            Ok(())
        };
        let answered = short();
        let over = running.iter().filter(|client| client.is_finished()).count();
        tokens.iter().try_for_each(|cancel| cancel())?;
        for (client, sql) in running.into_iter().zip(LONG.iter().chain(&LONG)) {
            let (state, message) =
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            anyhow::ensure!(state == "57014", "{sql}: {state} {message}");
        }
        anyhow::ensure!(over == 0, "{over} long statements ended by themselves");
        answered
    })?;
    idle(&otus)
}

/// Waits until the server burns no processor time.
fn idle(otus: &Otus) -> Result<()> {
    let pid = otus.id().context("not started")?;
    let ticks = || -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = text.rsplit_once(") ").context("stat")?.1;
        fields.split(' ').skip(11).take(2).map(|f| Ok(f.parse::<u64>()?)).sum()
    };
    until("the server is idle", Duration::from_secs(10), || {
        let before = ticks()?;
        wait_between(Duration::from_secs(1));
        let used = ticks()? - before;
        anyhow::ensure!(used < 30, "{used} hundredths of a second in one second");
        Ok(())
    })
}

#[test]
fn a_value_has_a_bound() -> Result<()> {
    let otus = server()?;
    let client = otus.connect()?;
    for (sql, function) in [
        ("select length(repeat('x', 1000000000))", "repeat"),
        ("select length(lpad('x', 1000000000))", "lpad"),
        ("select length(rpad('x', 2147483647, 'é'))", "rpad"),
        ("select length(replace(repeat('x', 1000000), 'x', repeat('y', 1000)))", "replace"),
        ("select length(a || a || a) from (select repeat('x', 30000000) as a)", "||"),
        ("select length(concat(a, a, a)) from (select repeat('x', 30000000) as a)", "concat"),
        ("select cardinality(array_repeat(1, 1000000000))", "array_repeat"),
        (
            "select count(*) from (select generate_series(1, 1000000000 + n) from (values (0), (1)) as t (n)) as s",
            "generate_series",
        ),
        ("select max(length(repeat(kind, 1000000 * amount::int))) from events", "repeat"),
        ("select levenshtein(repeat('x', 1000000), repeat('y', 1000000))", "levenshtein"),
    ] {
        let (state, message) = client.failure(sql).with_context(|| sql.to_owned())?;
        anyhow::ensure!(state == "54000", "{sql}: {state} {message}");
        anyhow::ensure!(message.contains(function), "{sql}: {message}");
    }
    let prepared = "prepare p(text) as select length($1)";
    client.rows(prepared)?;
    let (state, message) = client.failure("execute p(repeat('x', 1000000000))")?;
    anyhow::ensure!(state == "54000", "{state} {message}");
    let chain = format!("select length({})", vec!["kind"; 900].join(" || "));
    let rows = client.rows(&format!("{chain} from events where kind = 'buy' limit 1"))?;
    anyhow::ensure!(rows[0][0].as_deref() == Some("2700"), "{rows:?}");
    // What is within the bounds is what it was.
    let rows = client.rows(
        "select length(repeat('ab', 20000000)), lpad('7', 3, '0'), 'a' || 1 || 'b', \
         replace('aXa', 'X', '--'), concat('a', null, 'b'), cardinality(array_repeat(1, 10)), \
         case when 1 = 2 then repeat('x', 1000000000) else 'safe' end, \
         (select count(*) from events where kind || country = 'buysg') > 0, \
         (select max(length(repeat(kind, 20000))) from events), \
         (select string_agg(x, '-' order by x) from (values ('b'), ('a'), (null)) as t (x)), \
         (select array_agg(distinct x order by x) from (values ('b'), ('a'), ('b')) as t (x))",
    )?;
    let found: Vec<_> = rows[0].iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
    let wanted =
        ["40000000", "007", "a1b", "a--a", "ab", "10", "safe", "t", "100000", "a-b", "{a,b}"];
    anyhow::ensure!(found == wanted, "{found:?}");
    Ok(())
}

/// What a query may take of memory, see [`QUERY`].
const QUERY_KIB: u64 = 256 << 10;

/// A figure of the server's process, KiB.
fn kib(otus: &Otus, name: &str) -> Result<u64> {
    let pid = otus.id().context("not started")?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such figure")?;
    let number = line.trim_start_matches(':').split_whitespace().next().context("no number")?;
    Ok(number.parse()?)
}

#[test]
fn memory_of_wide_values_stays_near_its_bound() -> Result<()> {
    let otus = server()?;
    let mut client = otus.connect()?;
    // What hangs fails here.
    client.rows("set statement_timeout = '60s'")?;
    client.rows("select kind, count(*) from events group by kind order by kind")?;
    let base = kib(&otus, "VmHWM")?;
    let mut answers = |sql: &str| -> Result<String> {
        let found = match client.with(async |c| Ok(c.simple_query(sql).await))? {
            Ok(_) => "rows".to_owned(),
            Err(e) => e.code().map(|code| code.code().to_owned()).context("not the server's")?,
        };
        let peak = kib(&otus, "VmHWM")?.saturating_sub(base);
        // Of all so far: what the allocator keeps of earlier statements counts.
        anyhow::ensure!(peak < 4 * QUERY_KIB, "{} MiB after {sql}: {found}", peak >> 10);
        Ok(found)
    };
    for (sql, wanted) in [
        ("select repeat('x', 1000000000)", "54000"),
        (
            "select count(*), max(w) from (select length(lpad('x', 1000000) || g) as w \
             from generate_series(1, 2000) g(g))",
            "rows",
        ),
        (
            "select length(v) from (select lpad('x', 1000000) || g as v \
             from generate_series(1, 1000) g(g) order by v desc limit 900)",
            "53200",
        ),
        ("select string_agg(repeat(kind, 100000), ',') from events", "53200"),
        ("select country, array_agg(repeat(kind, 100000)) from events group by 1", "53200"),
        ("select cardinality(array_agg(repeat(kind, 100000))) from events", "53200"),
        ("select cardinality(array_agg(repeat(kind, 100000) order by id)) from events", "53200"),
        ("select cardinality(array_agg(distinct repeat(kind, 90000) || id)) from events", "53200"),
    ] {
        let found = answers(sql)?;
        anyhow::ensure!(found == wanted, "{sql}: {found}");
    }
    // Goes to disk, and all of it comes back however often.
    for _ in 0..3 {
        let sql =
            "select count(*) from (select distinct repeat(kind, 50000) || id as v from events)";
        anyhow::ensure!(answers(sql)? == "rows", "{sql}");
    }
    Ok(())
}

#[test]
fn memory_of_repeated_values_stays_near_its_bound() -> Result<()> {
    let otus = server()?;
    let mut client = otus.connect()?;
    client.rows("set statement_timeout = '3s'")?;
    client.rows("select kind, count(*) from events group by kind order by kind")?;
    let base = kib(&otus, "VmHWM")?;
    let one = "(select array_agg('page ' || i) a, string_agg('page ' || i, ',') s from generate_series(1, 40000) g(i)) x";
    let pages =
        "(select i, i % 50 as k, 'page ' || i as page from generate_series(1, 40000) g(i)) p";
    for sql in [
        format!("select array_agg(page) over () from {pages}"),
        format!("select array_agg(page) filter (where i % 2 = 0) over (partition by 1) from {pages}"),
        format!("select max(length(s)) from (select string_agg(page, ',') over (partition by k) s from {pages}) w"),
        format!("select string_agg(page, ',') over (order by i) from {pages}"),
        format!("select json_object_agg(page, 1) over (order by i) from {pages}"),
        format!(
            "select array_agg(page) over (order by i), count(*) over (order by i rows between current row \
             and unbounded following) from {pages}"
        ),
        format!("select max(n) from (select count(*) over () n, repeat(page, 500), page from {pages}) w"),
        format!("select x.a from {one}, generate_series(1, 100000)"),
        format!("select x.a from {one}, {pages} where x.a[1] <> p.page"),
        format!("select i, (select array_agg(page) from {pages}) from generate_series(1, 100000) i"),
        format!("select x.s || i from {one}, generate_series(1, 100000) i"),
        format!("select max(x.s || i) from {one}, generate_series(1, 100000) i"),
        format!("select x.s || i, count(*) from {one}, generate_series(1, 100000) i group by 1"),
        format!("select x.a || x.a || x.a from {one}, generate_series(1, 100000)"),
        format!("select string_to_array(x.s, 'a') from {one}, generate_series(1, 100000)"),
        format!("select left(x.s, 400000) || i from {one}, generate_series(1, 100000) i"),
        format!("select x.a, unnest(x.a) from {one}"),
        format!("select x.s || e from (select s, unnest(a) e from {one}) x"),
        format!("select first_value(s) over () from (select s from {one} union all select page from {pages}) x"),
        format!("select count(*) from (select 1 from {pages} group by cube({})) g", ["i", "k", "page"].join(",")),
        "select count(*) from (select 1 from events group by cube(id, amount, kind, country, id + 1, id + 2, id + 3, \
         id + 4, id + 5, id + 6, id + 7)) g".to_owned(),
    ] {
        let found = client.with(async |c| Ok(c.simple_query(&sql).await.err()))?;
        let code = found.map(|e| e.code().map(|code| code.code().to_owned()));
        let ends = ["53200", "54000", "57014"];
        let good = code.as_ref().is_none_or(|code| code.as_ref().is_some_and(|c| ends.contains(&c.as_str())));
        anyhow::ensure!(good, "{sql}: {code:?}");
        let peak = kib(&otus, "VmHWM")?.saturating_sub(base);
        anyhow::ensure!(peak < 5 * QUERY_KIB, "{} MiB after {sql}: {code:?}", peak >> 10);
    }
    // Those that are not so large are answered.
    let few = "(select array_agg('page ' || i) a, string_agg('page ' || i, ',') s from generate_series(1, 300) g(i)) x";
    let rows = client.rows(&format!(
        "select count(*), max(length(x.s || i)), min(cardinality(x.a)), \
         count(distinct x.a[i % 300 + 1]) from {few}, generate_series(1, 20000) g(i)"
    ))?;
    anyhow::ensure!(rows.len() == 1 && rows[0][0].as_deref() == Some("20000"), "{rows:?}");
    anyhow::ensure!(rows[0][3].as_deref() == Some("300"), "{rows:?}");
    Ok(())
}

/// The fields of an error that a client sees.
fn refusal(client: &mut Client, sql: &str) -> Result<(String, String)> {
    let failed = client.with(async |c| Ok(c.simple_query(sql).await.err()))?;
    let failed = failed.with_context(|| format!("{sql} was answered"))?;
    let error = failed.as_db_error().context("not an error of the server")?;
    Ok((error.code().code().to_owned(), format!("{error:?}")))
}

#[test]
fn a_transaction_older_than_the_grace_is_refused() -> Result<()> {
    let setup = Setup::tables(format!("{}{QUERY}", events::table_section("events")));
    let setup = setup.limit("flush_small_rows", "0").limit("collect_grace", "\"4s\"");
    let otus = served(setup)?;
    otus.flush()?;
    let mut client = otus.connect()?;
    let sql = "select count(id), sum(amount) from events";
    client.rows("begin isolation level repeatable read")?;
    client.rows(sql)?;
    let lines: Vec<_> = (EVENTS..2 * EVENTS).map(events::payload).collect();
    otus.append("events", &lines)?;
    otus.wait_number("select count(*) from events", events::sums(2 * EVENTS).0)?;
    otus.flush()?;
    otus.maintain()?;
    wait_between(Duration::from_secs(6));
    otus.maintain()?;
    let (state, said) = refusal(&mut client, sql)?;
    anyhow::ensure!(state == "72000" && said.contains("snapshot too old"), "{said}");
    let folder = otus.folder().display().to_string();
    anyhow::ensure!(!said.contains(&folder), "{said}");
    client.rows("rollback")?;
    otus.wait_number("select count(*) from events", events::sums(2 * EVENTS).0)
}

#[test]
fn an_error_does_not_tell_the_servers_folders() -> Result<()> {
    let otus = served(Setup::tables(events::table_section("events")))?;
    otus.flush()?;
    let folder = otus.folder().to_owned();
    let mut removed = 0;
    let mut left = vec![folder.join("data")];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                std::fs::remove_file(&path)?;
                removed += 1;
            }
        }
    }
    anyhow::ensure!(removed > 0, "no segment in {}", folder.display());
    let secret = folder.display().to_string();
    let mut client = otus.connect()?;
    let sql = "select max(length(kind)) from events";
    let (state, said) = refusal(&mut client, sql)?;
    anyhow::ensure!(["XX001", "58030"].contains(&state.as_str()), "{said}");
    anyhow::ensure!(!said.contains(&secret), "{said}");
    let (_, answer) =
        post(&otus.url("/api/sql"), "application/json", &json!({ "query": sql }).to_string())?;
    anyhow::ensure!(answer.contains("error") && !answer.contains(&secret), "{answer}");
    let pattern = "{:pattern {:metrics {(:events :with [{:from \"2024-01-01\", :to \"2024-01-02\"}]) \
                   [{:kind ?, :events ?} ?rows]}}}";
    let (_, answer) = post(&otus.url("/api/pull"), "application/edn", pattern)?;
    anyhow::ensure!(!answer.contains(&secret), "{answer}");
    Ok(())
}

#[test]
fn every_refusal_over_http_has_one_shape() -> Result<()> {
    let otus = server()?;
    let sql = |path: &str, body: Value| -> Result<(u16, String)> {
        post(&otus.url(path), "application/json", &body.to_string())
    };
    for (path, body, status, says) in [
        ("/api/sql?fromat=csv", json!({"query": "select 1"}), 400, "fromat"),
        (
            "/api/sql",
            json!({"query": "select 1", "settings": {"TimeZoen": "UTC"}}),
            400,
            "TimeZoen",
        ),
        ("/api/sql", json!({"query": "select 1", "settings": {"TimeZone": "Mars"}}), 400, "Mars"),
        ("/api/sql", json!({"query": "select 1", "settings": {"TimeZone": [1]}}), 400, "TimeZone"),
        ("/api/sql", json!({"query": "select 1", "setings": {}}), 400, "setings"),
        ("/api/pull?x=1", json!({}), 400, "x=1"),
        ("/api/append/%FF", json!([]), 400, "path"),
        ("/api/append/events?partition=one", json!([]), 400, "partition"),
        ("/api/schema", json!({}), 405, "POST"),
        ("/api/no", json!({}), 404, "no such path"),
    ] {
        let (found, answer) = sql(path, body)?;
        let value: Value =
            serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))?;
        anyhow::ensure!(found == status, "{path}: {found} {answer}");
        let said = value["error"]["message"].as_str().with_context(|| answer.clone())?;
        anyhow::ensure!(said.contains(says), "{path}: {answer}");
        anyhow::ensure!(value["error"]["code"].is_string(), "{answer}");
    }
    let big = r#"{"query":"select $1::numeric(38,0) as n, $2::numeric(38,20) as d",
                  "params":[12345678901234567891, 123456789012345.67890123456789012345]}"#;
    let (status, answer) = post(&otus.url("/api/sql"), "application/json", big)?;
    let digits = ["12345678901234567891", "123456789012345.67890123456789012345"];
    let kept = digits.iter().all(|d| answer.contains(d));
    anyhow::ensure!(status == 200 && kept, "{status} {answer}");
    let timed = json!({"query": "show statement_timeout", "settings": {"statement_timeout": 5000}});
    let (status, answer) = sql("/api/sql", timed)?;
    anyhow::ensure!(status == 200 && answer.contains("5000"), "{status} {answer}");
    let (status, answer) = sql("/api/sql", json!({"query": "commit"}))?;
    anyhow::ensure!(status == 200 && answer.contains("notices"), "{status} {answer}");
    Ok(())
}
