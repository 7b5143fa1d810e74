//! (i) Short statements over the Postgres wire, as pgbench does: prepared once, run by eight connections; the time to
//! connect; what a thousand idle connections take. Control: PostgreSQL with the same rows and an index on the time,
//! started for it, or at the connection string in `OTUS_BENCH_POSTGRES` (a database that may be written).

use std::fmt::Write as _;
use std::io::Cursor;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use futures::SinkExt;
use otus_benches::{
    float, machine, median, memory_now_mib, percentile, report, round, sized, skipped,
};
use otus_tests::otus::{Otus, Setup};
use otus_tests::reference::Reference;
use serde_json::{Value, json};
use tokio_postgres::{Client, CopyInSink, NoTls};

const CONNECTIONS: usize = 8;
/// Rows a second of event time.
const PER_SECOND: u64 = 4;
const BEGIN_S: i64 = 1_767_225_600;

const TABLE: &str = r#"
[tables.samples]
topic = "samples"
time = "at"
[tables.samples.columns]
at = "timestamptz"
id = "bigint"
kind = "text"
amount = "bigint"
"#;

/// A statement of the run, with what its parameters say.
struct Statement {
    name: &'static str,
    sql: &'static str,
    /// Seconds of event time that it reads; none = it has no parameters.
    window_s: Option<i64>,
}

const STATEMENTS: [Statement; 4] = [
    Statement { name: "constant", sql: "select 1", window_s: None },
    Statement {
        name: "point_aggregate",
        sql: "select count(*), sum(amount) from samples where at >= $1 and at < $2",
        window_s: Some(60),
    },
    Statement {
        name: "range_aggregate",
        sql: "select kind, count(*), sum(amount) from samples where at >= $1 and at < $2 group by kind",
        window_s: Some(3_600 * 12),
    },
    Statement {
        name: "scan",
        sql: "select kind, count(*), avg(amount), max(id) from samples group by kind",
        window_s: None,
    },
];

fn at(second: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp(BEGIN_S + second, 0).context("a time beyond all times")
}

async fn connect(address: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await?;
    drop(tokio::spawn(connection));
    Ok(client)
}

/// Loads the rows by COPY.
async fn load(client: &Client, rows: u64) -> Result<f64> {
    let begun = Instant::now();
    let copy = "copy samples (at, id, kind, amount) from stdin (format csv)";
    let sink: CopyInSink<Cursor<Vec<u8>>> = client.copy_in(copy).await?;
    let mut sink = Box::pin(sink);
    let mut piece = String::new();
    for id in 0..rows {
        let moment = at(i64::try_from(id / PER_SECOND)?)?.to_rfc3339();
        let kind = ["start", "move", "buy", "end"][usize::try_from(id % 4)?];
        writeln!(piece, "{moment},{id},{kind},{}", id.wrapping_mul(0x9e37_79b9) % 1_000)?;
        if piece.len() > 60_000 {
            sink.send(Cursor::new(std::mem::take(&mut piece).into_bytes())).await?;
        }
    }
    sink.send(Cursor::new(piece.into_bytes())).await?;
    anyhow::ensure!(sink.as_mut().finish().await? == rows, "not all rows were taken");
    Ok(begun.elapsed().as_secs_f64())
}

/// Runs one statement on all connections for a while.
async fn run(
    address: &str,
    statement: &Statement,
    seconds: i64,
    lasting: Duration,
) -> Result<Value> {
    let mut tasks = Vec::new();
    for number in 0..CONNECTIONS {
        let client = connect(address).await?;
        let (sql, window) = (statement.sql, statement.window_s);
        tasks.push(tokio::spawn(async move {
            let prepared = client.prepare(sql).await?;
            let (mut took, mut turn) = (Vec::new(), i64::try_from(number)? * 7_919);
            let begun = Instant::now();
            while begun.elapsed() < lasting {
                let one = Instant::now();
                let rows = match window {
                    None => client.query(&prepared, &[]).await?,
                    Some(window) => {
                        turn += 104_729;
                        let from = at(turn % (seconds - window).max(1))?;
                        let to = from + TimeDelta::seconds(window);
                        client.query(&prepared, &[&from, &to]).await?
                    }
                };
                anyhow::ensure!(!rows.is_empty(), "no rows");
                took.push(one.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(took)
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    let count = float(u64::try_from(all.len())?);
    Ok(json!({
        "per_second": round(count / lasting.as_secs_f64()),
        "ms_median": round(median(&mut all)),
        "ms_p99": round(percentile(&mut all, 0.99)),
    }))
}

async fn measure(address: &str, rows: u64, loaded_s: f64) -> Result<Value> {
    let seconds = i64::try_from(rows / PER_SECOND)?;
    let lasting = sized(Duration::from_secs(10), Duration::from_millis(500));
    let mut results = json!({ "rows": rows, "copy_seconds": round(loaded_s) });
    for statement in &STATEMENTS {
        results[statement.name] = run(address, statement, seconds, lasting).await?;
    }
    let mut connecting = Vec::new();
    for _ in 0..sized(200, 20) {
        let begun = Instant::now();
        let client = connect(address).await?;
        client.simple_query("select 1").await?;
        connecting.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    results["connect_and_first_answer_ms"] = round(median(&mut connecting)).into();
    Ok(results)
}

fn address(server: &Otus) -> String {
    format!("host=127.0.0.1 port={} user=otus dbname=otus", server.postgres_port())
}

/// Resident memory of a process once it changes no more.
async fn settled_mib(pid: u32) -> Result<f64> {
    let mut before = memory_now_mib(pid)?;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = memory_now_mib(pid)?;
        if (now - before).abs() < 0.1 {
            return Ok(now);
        }
        before = now;
    }
    anyhow::bail!("the memory of the server does not settle")
}

/// What idle connections take of a server that has done nothing else.
async fn idle_mib(server: &Otus, idle: usize) -> Result<f64> {
    let pid = server.id().context("not started")?;
    let address = address(server);
    let mut clients = Vec::new();
    // What the first statement makes for all is not of the others.
    clients.push(connect(&address).await?);
    clients[0].simple_query("select 1").await?;
    let before = settled_mib(pid).await?;
    for _ in 0..idle {
        let client = connect(&address).await?;
        client.simple_query("select 1").await?;
        clients.push(client);
    }
    Ok(settled_mib(pid).await? - before)
}

async fn otus(server: &Otus, rows: u64) -> Result<Value> {
    let address = address(server);
    let client = connect(&address).await?;
    client.simple_query("set otus.insert_wait = 'visible'").await?;
    let loaded_s = load(&client, rows).await?;
    measure(&address, rows, loaded_s).await
}

async fn postgres(address: &str, rows: u64) -> Result<Value> {
    let client = connect(address).await?;
    client
        .batch_execute(
            "drop table if exists samples; \
             create table samples (at timestamptz, id bigint, kind text, amount bigint)",
        )
        .await?;
    let loaded_s = load(&client, rows).await?;
    client.batch_execute("create index on samples (at)").await?;
    client.batch_execute("vacuum analyze samples").await?;
    let results = measure(address, rows, loaded_s).await?;
    client.batch_execute("drop table samples").await?;
    Ok(results)
}

/// The database to compare with: a given one, or one that is started for it.
fn control() -> Result<String, String> {
    if let Ok(address) = std::env::var("OTUS_BENCH_POSTGRES") {
        return Ok(address);
    }
    let server = Reference::shared()?;
    server.database("wire").map_err(|e| format!("{e:#}"))?;
    Ok(format!("host=127.0.0.1 port={} user=otus dbname=wire", server.port()))
}

fn main() -> Result<()> {
    let machine = machine();
    let rows = sized(2_000_000, 200_000);
    let runtime = tokio::runtime::Runtime::new()?;
    let idle = sized(1_000, 50);
    let start = || Setup::tables(TABLE).server("connections", &(idle + 50).to_string()).start();
    let server = start()?;
    let idle_mib = runtime.block_on(idle_mib(&server, idle))?;
    drop(server);
    let server = start()?;
    let mut results = json!({ "otus": runtime.block_on(otus(&server, rows))? });
    drop(server);
    results["otus"]["idle_connections"] = idle.into();
    results["otus"]["idle_connections_mib"] = round(idle_mib).into();
    match control() {
        Ok(address) => {
            results["control_postgres"] = runtime.block_on(postgres(&address, rows))?;
            for statement in &STATEMENTS {
                let rate = |of: &str| results[of][statement.name]["per_second"].as_f64();
                if let (Some(own), Some(control)) = (rate("otus"), rate("control_postgres")) {
                    results["ratio_to_postgres"][statement.name] = round(own / control).into();
                }
            }
        }
        Err(reason) => skipped("the control of wire", &reason),
    }
    let aim = "within 2x of PostgreSQL on point aggregates, ahead on scans; connect under 5 ms; 1,000 idle \
               connections under 100 MiB";
    report("wire", &machine, aim, &results)
}
