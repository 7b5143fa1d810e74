//! (f) Rows of a keyed table by key, at a million keys: over the Postgres wire, prepared and not, and over HTTP.
//! The controls are `select 1` and `/healthz` on the same connections: what a question costs that asks nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result};
use otus_benches::{float, machine, memory_now_mib, percentile, report, round, sized};
use otus_tests::otus::{Otus, Setup};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio_postgres::NoTls;

const TABLE: &str = r#"
[tables.players]
kind  = "keyed"
topic = "players"
key   = "id"

[tables.players.columns]
id      = "bigint"
name    = "text"
country = "text"
score   = "bigint"
seen_at = "timestamptz"
"#;

/// Records of one append.
const BLOCK: u64 = 50_000;

fn record(id: u64) -> Vec<u8> {
    let country = ["DE", "FR", "US", "JP"][usize::try_from(id % 4).unwrap_or(0)];
    format!(
        "{{\"id\":{id},\"name\":\"player number {id}\",\"country\":\"{country}\",\"score\":{},\
         \"seen_at\":\"2024-01-01T00:00:00Z\"}}",
        id * 7 % 10_000
    )
    .into_bytes()
}

fn fill(otus: &Otus, keys: u64) -> Result<f64> {
    let began = Instant::now();
    for from in (0..keys).step_by(usize::try_from(BLOCK)?) {
        let lines: Vec<Vec<u8>> = (from..keys.min(from + BLOCK)).map(record).collect();
        let (status, answer) = otus.append("players", &lines)?;
        anyhow::ensure!(status == 200, "append: {status} {answer}");
    }
    otus.wait_number("select count(*) from players", i64::try_from(keys)?)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Microseconds of each of some questions.
fn figures(mut micros: Vec<f64>) -> Value {
    json!({
        "p50_us": round(percentile(&mut micros, 0.5)),
        "p99_us": round(percentile(&mut micros, 0.99)),
        "questions": micros.len(),
    })
}

fn over_postgres(otus: &Otus, keys: u64, questions: usize) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let target = format!("host=127.0.0.1 port={} user=otus dbname=otus", otus.postgres_port());
        let (client, connection) = tokio_postgres::connect(&target, NoTls).await?;
        let running = tokio::spawn(connection);
        let mut dice = SmallRng::seed_from_u64(1);
        let mut measure = async |what: &str| -> Result<Vec<f64>> {
            let prepared = client.prepare("select name, score from players where id = $1").await?;
            let mut micros = Vec::with_capacity(questions);
            for turn in 0..questions + questions / 10 {
                let id = i64::try_from(dice.random_range(0..keys))?;
                let simple = format!("select name, score from players where id = {id}");
                let began = Instant::now();
                let name: Option<String> = match what {
                    "prepared" => Some(client.query_one(&prepared, &[&id]).await?.get(0)),
                    "simple" => first(&client.simple_query(&simple).await?),
                    _ => first(&client.simple_query("select 1").await?),
                };
                let took = began.elapsed().as_secs_f64() * 1e6;
                anyhow::ensure!(
                    what == "control" || name == Some(format!("player number {id}")),
                    "{name:?}"
                );
                // The first tenth warms up.
                if turn >= questions / 10 {
                    micros.push(took);
                }
            }
            Ok(micros)
        };
        let answer = json!({
            "prepared": figures(measure("prepared").await?),
            "simple": figures(measure("simple").await?),
            "control_select_1": figures(measure("control").await?),
        });
        drop(client);
        running.await??;
        Ok(answer)
    })
}

fn first(messages: &[tokio_postgres::SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// One connection that stays open.
struct Http {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Http {
    fn new(otus: &Otus) -> Result<Self> {
        let url = otus.url("");
        let host = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream), host })
    }

    fn get(&mut self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.reader.get_mut().write_all(request.as_bytes())?;
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let text = line.trim_end();
            if status.is_empty() {
                text.clone_into(&mut status);
            }
            if let Some(value) = text.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if text.is_empty() {
                break;
            }
        }
        anyhow::ensure!(status.contains(" 200 "), "{path}: {status}");
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }
}

fn over_http(otus: &Otus, keys: u64, questions: usize) -> Result<Value> {
    let mut http = Http::new(otus)?;
    let mut dice = SmallRng::seed_from_u64(2);
    let (mut rows, mut control) = (Vec::new(), Vec::new());
    for turn in 0..questions + questions / 10 {
        let id = dice.random_range(0..keys);
        let path = format!("/api/tables/players/{id}");
        let began = Instant::now();
        let body = http.get(&path)?;
        let took = began.elapsed().as_secs_f64() * 1e6;
        anyhow::ensure!(body.contains(&format!("\"player number {id}\"")), "{body}");
        let began = Instant::now();
        http.get("/healthz")?;
        if turn >= questions / 10 {
            rows.push(took);
            control.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(json!({"row": figures(rows), "control_healthz": figures(control)}))
}

fn main() -> Result<()> {
    let machine = machine();
    let keys: u64 = sized(1_000_000, 20_000);
    let questions = sized(5_000, 200);
    let mut otus = Setup::tables(TABLE).start()?;
    let filled = fill(&otus, keys)?;
    let memory = memory_now_mib(otus.id().context("no process")?)?;
    let (_, metrics) = otus_tests::otus::get(&otus.url("/metrics"))?;
    let map = metrics.lines().find(|line| line.starts_with("otus_keyed_memory_bytes{"));
    let map = map.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    let postgres = over_postgres(&otus, keys, questions)?;
    let http = over_http(&otus, keys, questions)?;
    otus.flush()?;
    otus.maintain()?;
    otus.stop()?;
    let began = Instant::now();
    otus.launch()?;
    otus.wait_number("select count(*) from players", i64::try_from(keys)?)?;
    let started = began.elapsed().as_secs_f64();
    otus.stop()?;
    let results = json!({
        "keys": keys,
        "postgres": postgres,
        "http": http,
        "fill_seconds": round(filled),
        "records_per_second": round(float(keys) / filled),
        "memory_mib": round(memory),
        "map_bytes_per_key": map.map(|bytes| round(bytes / float(keys))),
        "restart_seconds": round(started),
    });
    report("keyed", &machine, "p50 of a lookup by key under 1 ms at a million keys", &results)
}
