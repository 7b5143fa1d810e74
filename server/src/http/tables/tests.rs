//! Rows of keyed tables over a real socket.

use std::time::Duration;

use otus_ingest::AppendRecord;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::otus::Otus;

const TABLES: &str = r#"
[tables.jobs]
kind = "keyed"
topic = "jobs"
key = "id"
[tables.jobs.columns]
id = { type = "text", from = "key" }
title = "text"
pay = "numeric(10,2)"
[tables.teams]
kind = "keyed"
topic = "teams"
key = "id"
[tables.teams.columns]
id = "bigint"
name = "text"
[tables.sealed]
kind = "keyed"
topic = "sealed"
key = "id"
append = false
[tables.sealed.columns]
id = { type = "jsonb", from = "key" }
[tables.clicks]
topic = "clicks"
time = "at"
[tables.clicks.columns]
at = "timestamptz"
job = "text"
"#;

struct Served {
    otus: Otus,
    base: String,
    client: Client,
    shutdown: CancellationToken,
}

async fn served() -> Served {
    let otus = Otus::builder().toml(TABLES).in_memory().open().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(crate::http::serve(listener, otus.clone(), None, shutdown.clone()));
    let client = Client::builder().no_proxy().build().unwrap();
    Served { otus, base, client, shutdown }
}

/// Status, entity tag and body.
type Answer = (StatusCode, Option<String>, Value);

async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_string());
    let (status, text) = (response.status(), response.text().await.unwrap());
    (status, tag, serde_json::from_str(&text).unwrap_or(Value::Null))
}

impl Served {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}/api/tables/{path}", self.base))
    }

    fn put(&self, path: &str, body: Value) -> RequestBuilder {
        self.request(Method::PUT, path).json(&body)
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Writes a row and waits until it is visible; gives its tag.
    async fn written(&self, key: &str, body: Value) -> String {
        let (status, tag, body) = send(self.put(&format!("jobs/{key}?wait=visible"), body)).await;
        assert_eq!(status, 200, "{body}");
        tag.unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        assert!(self.otus.close(Duration::from_secs(20)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_read_and_deleted() {
    let served = served().await;
    let tag = served.written("a%2Fb", json!({"title": "Owl keeper", "pay": 12.5})).await;
    let (status, found, row) = served.get("jobs/a%2Fb").await;
    assert_eq!((status, found.as_deref()), (StatusCode::OK, Some(tag.as_str())));
    assert_eq!(
        (&row["id"], &row["title"], &row["pay"]),
        (&json!("a/b"), &json!("Owl keeper"), &json!("12.50"))
    );
    assert_eq!(tag, format!("\"{}:{}\"", row["_partition"], row["_offset"]));
    assert!(row.get("_deleted").is_none(), "{row}");
    let same = served.request(Method::GET, "jobs/a%2Fb").header("if-none-match", &tag);
    assert_eq!(send(same).await.0, 304);
    assert_eq!(served.get("public.jobs/a%2Fb").await.0, 200);

    let gone = send(served.request(Method::DELETE, "jobs/a%2Fb?wait=visible")).await;
    assert_eq!(gone.0, 200, "{}", gone.2);
    assert_eq!(served.get("jobs/a%2Fb").await.0, 404);

    // The key is a field here: it is added, and must not be another's.
    let body = json!({"name": "night"});
    assert_eq!(send(served.put("teams/7?wait=visible", body)).await.0, 200);
    assert_eq!(served.get("teams/7").await.2["id"], 7);
    let other = send(served.put("teams/7", json!({"id": 8}))).await;
    assert_eq!((other.0, &other.2["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("invalid")));

    let made =
        send(served.request(Method::POST, "jobs?wait=visible").json(&json!({"title": "new"})))
            .await;
    assert_eq!(made.0, 201, "{}", made.2);
    let key = made.2["key"].as_str().unwrap().to_string();
    assert_eq!(uuid::Uuid::parse_str(&key).unwrap().get_version_num(), 7);
    assert_eq!(served.get(&format!("jobs/{key}")).await.2["title"], "new");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused() {
    let served = served().await;
    let object = json!({"title": "x"});
    let status = async |request: RequestBuilder| send(request).await.0.as_u16();
    assert_eq!(status(served.put("nothing/a", object.clone())).await, 404);
    assert_eq!(status(served.put("clicks/a", object.clone())).await, 400);
    assert_eq!(status(served.put("sealed/1", json!({}))).await, 403);
    assert_eq!(status(served.put("sealed/%7B", json!({}))).await, 403);
    assert_eq!(served.get("sealed/%7B").await.0, 400);
    assert_eq!(status(served.put("teams/seven", json!({}))).await, 400);
    assert_eq!(status(served.put("jobs/a", json!(["title"]))).await, 400);
    assert_eq!(status(served.put("jobs/a", json!({"pay": "much"}))).await, 400);
    assert_eq!(status(served.put("jobs/a?wait=long", object.clone())).await, 400);
    assert_eq!(status(served.put("jobs/a", object.clone()).header("if-match", "57")).await, 400);
    let text = served.request(Method::PUT, "jobs/a").header("content-type", "text/plain");
    assert_eq!(status(text.body("{}")).await, 415);
    assert_eq!(status(served.request(Method::POST, "teams").json(&json!({}))).await, 400);
    let (_, _, body) = served.get("jobs").await;
    assert_eq!(body["rows"], json!([]), "nothing was written");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writes_that_expect_the_same_row_one_counts() {
    let served = served().await;
    let first = served.written("a", json!({"title": "first"})).await;
    let create = |title: &str, key: &str| {
        served.put(&format!("jobs/{key}"), json!({"title": title})).header("if-none-match", "*")
    };
    let refused = send(create("again", "a")).await;
    assert_eq!((refused.0, &refused.2["error"]["current"]), (StatusCode::CONFLICT, &json!(first)));

    let racers = (0..8).map(|n| {
        let body = json!({"title": format!("racer {n}")});
        send(served.put("jobs/a", body).header("if-match", &first))
    });
    let answers = futures::future::join_all(racers).await;
    let won: Vec<usize> = (0..8).filter(|n| answers[*n].0 == 200).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|a| a.0 == 200 || a.0 == 409));
    assert_eq!(served.get("jobs/a").await.2["title"], format!("racer {}", won[0]));

    let makers = futures::future::join_all((0..8).map(|_| send(create("made", "b")))).await;
    assert_eq!(makers.iter().filter(|a| a.0 == 200).count(), 1);

    let stale = served.request(Method::DELETE, "jobs/a").header("if-match", &first);
    assert_eq!(send(stale).await.0, 409);
    let any = served.request(Method::DELETE, "jobs/a").header("if-match", "*");
    assert_eq!(send(any).await.0, 200);
    let none = served.request(Method::DELETE, "jobs/a").header("if-match", "*");
    assert_eq!(send(none).await.0, 409);
    assert_eq!(send(create("anew", "a")).await.0, 200, "deleted is absent");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_the_log_decides_against_other_writers() {
    let served = served().await;
    let first = served.written("a", json!({"title": "first"})).await;
    let condition = first.trim_matches('"').to_string();
    let record = |title: &str, condition: Option<&str>| AppendRecord {
        key: Some("a".into()),
        headers: condition
            .map(|c| ("otus-if-match".to_string(), Some(c.to_string().into())))
            .into_iter()
            .collect(),
        ..AppendRecord::value(json!({"title": title}).to_string())
    };
    // As another process would write: two conditional records behind each other, then a bad condition.
    let records = vec![
        record("early", Some(&condition)),
        record("late", Some(&condition)),
        record("bad", Some("whenever")),
    ];
    let places = served.otus.append("jobs", records).await.unwrap();
    let (partition, offset) = *places.last().unwrap();
    let patience = Duration::from_secs(20);
    served.otus.wait_visible("jobs", partition, offset, patience).await.unwrap();
    assert_eq!(served.get("jobs/a").await.2["title"], "early");
    // What counts is written again behind what does not: the last record of the key is the row.
    let tp = otus_engine::position::TopicPartition::new("jobs", partition);
    served.otus.wait_visible("jobs", partition, offset + 1, patience).await.unwrap();
    let last = served.otus.ingest().read_record(&tp, offset + 1).unwrap().unwrap();
    assert_eq!(last.value.unwrap(), json!({"title": "early"}).to_string());
    let (_, tag, row) = served.get("jobs/a").await;
    assert_eq!((&row["title"], &row["_offset"]), (&json!("early"), &json!(offset + 1)));
    assert_eq!(tag.unwrap(), format!("\"{partition}:{}\"", offset + 1));
    let stale = served.put("jobs/a", json!({"title": "stale"})).header("if-match", &first);
    assert_eq!(send(stale).await.0, 409);
    let rejected = served.otus.query("select reason from otus.rejected").await.unwrap();
    assert_eq!(rejected.iter().map(|b| b.num_rows()).sum::<usize>(), 1);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_moment() {
    let served = served().await;
    for n in 0..25 {
        let wait = if n == 24 { "?wait=visible" } else { "" };
        let (status, ..) =
            send(served.put(&format!("jobs/k{n}{wait}"), json!({"title": "old"}))).await;
        assert_eq!(status, 200);
    }
    let (_, _, first) = served.get("jobs?limit=10").await;
    served.written("k3", json!({"title": "new"})).await;
    served.written("more", json!({"title": "new"})).await;
    let (mut rows, mut page) = (Vec::new(), first);
    loop {
        rows.extend(page["rows"].as_array().unwrap().clone());
        let Some(cursor) = page["next"].as_str() else { break };
        page = served.get(&format!("jobs?limit=10&cursor={cursor}")).await.2;
    }
    let mut keys: Vec<&str> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((rows.len(), keys.len()), (25, 25));
    assert!(rows.iter().all(|row| row["title"] == "old"), "{rows:?}");
    assert_eq!(served.get("jobs?limit=0").await.0, 400);
    assert_eq!(served.get("jobs?cursor=x").await.0, 400);
    assert_eq!(served.get("jobs?cursor=99-0-0").await.0, 410);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_sees_the_same_rows() {
    let served = served().await;
    served.written("a", json!({"title": "Owl keeper"})).await;
    served.written("b", json!({"title": "Night watch"})).await;
    served.written("b", json!({"title": "Night owl"})).await;
    let lines = ["a", "a", "b", "c"].map(|job| {
        AppendRecord::value(json!({"at": "2024-01-01T00:00:00Z", "job": job}).to_string())
    });
    let places = served.otus.append("clicks", lines.to_vec()).await.unwrap();
    let (partition, offset) = *places.last().unwrap();
    let patience = Duration::from_secs(20);
    served.otus.wait_visible("clicks", partition, offset, patience).await.unwrap();
    let ask = async |sql: &str| {
        let batches = served.otus.query(sql).await.unwrap();
        arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
    };
    let joined = ask(
        "select title, count(*) n from clicks left join jobs on job = jobs.id group by 1 order by 1",
    )
    .await;
    assert_eq!(
        joined,
        "+------------+---+\n| title      | n |\n+------------+---+\n| Night owl  | 1 |\n\
         | Owl keeper | 2 |\n|            | 1 |\n+------------+---+"
    );
    let plan = ask("explain select title from jobs where id = 'b'").await;
    assert!(plan.contains("keyed lookup: public.jobs, id in 1 keys, rows=1"), "{plan}");
    let plan =
        ask("explain select title from jobs where id in ('b', 'x', 'a') and pay is null").await;
    assert!(plan.contains("keyed lookup: public.jobs, id in 3 keys, rows=2"), "{plan}");
    let plan = ask("explain select title from jobs where title = 'b'").await;
    assert!(plan.contains("keyed rows: public.jobs, rows=2"), "{plan}");
    let one = ask("select title, _partition, _offset from jobs where 'b' = id").await;
    assert!(one.contains("| Night owl | 0          | 2       |"), "{one}");
    assert!(ask("select count(*) from jobs where id = 'x' or id = 'y'").await.contains("| 0 "));
    assert!(ask("select count(*) from jobs").await.contains("| 2 "));
    assert!(ask("select id from jobs order by id limit 1").await.contains("| a  |"));
    let described = ask(
        "select column_name from information_schema.columns where table_name = 'jobs' order by \
         ordinal_position",
    )
    .await;
    assert!(described.contains("title") && !described.contains("| _"), "{described}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_look_up_the_few_keys_of_their_other_side() {
    const JOBS: usize = 3_000;
    let served = served().await;
    let patience = Duration::from_secs(20);
    let record = |n: usize| AppendRecord {
        key: Some(format!("job {n}").into()),
        ..AppendRecord::value(json!({"title": format!("title {n}")}).to_string())
    };
    let places = served.otus.append("jobs", (0..JOBS).map(record).collect()).await.unwrap();
    let (partition, offset) = *places.last().unwrap();
    served.otus.wait_visible("jobs", partition, offset, patience).await.unwrap();
    let lines = ["job 7", "job 7", "job 2999", "none"].map(|job| {
        AppendRecord::value(json!({"at": "2024-01-01T00:00:00Z", "job": job}).to_string())
    });
    let places = served.otus.append("clicks", lines.to_vec()).await.unwrap();
    let (partition, offset) = *places.last().unwrap();
    served.otus.wait_visible("clicks", partition, offset, patience).await.unwrap();
    let ask = async |sql: &str| {
        let batches = served.otus.query(sql).await.unwrap();
        arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
    };
    let joins = [
        ("clicks join jobs on job = jobs.id", 3, true),
        ("jobs join clicks on jobs.id = job", 3, true),
        ("clicks left join jobs on job = jobs.id", 4, true),
        ("(select job, count(*) from clicks group by job) c join jobs on job = jobs.id", 2, true),
        ("clicks join jobs on job = jobs.id and title > 'title 3'", 2, true),
        ("clicks where exists (select 1 from jobs where jobs.id = job)", 3, true),
        ("clicks where not exists (select 1 from jobs where jobs.id = job)", 1, true),
        // These want rows that nobody names.
        ("clicks right join jobs on job = jobs.id", JOBS + 1, false),
        ("clicks full join jobs on job = jobs.id", JOBS + 2, false),
        ("jobs where not exists (select 1 from clicks where jobs.id = job)", JOBS - 2, false),
        ("clicks join jobs on length(job) = length(jobs.id)", 2 * 10 + 2_000, false),
    ];
    for (from, rows, is_lookup) in joins {
        let count = ask(&format!("select count(*) as n from (select 1 from {from})")).await;
        assert!(count.contains(&format!("| {rows} ")), "{from}: {count}");
        let plan = ask(&format!("explain analyze select 1 from {from}")).await;
        let mut read = plan.lines().filter(|line| line.contains("keyed rows: public.jobs"));
        let read = read.next_back().unwrap_or_else(|| panic!("{plan}"));
        let has_looked_up = read.contains("output_rows=2,") || read.contains("output_rows=2]");
        assert_eq!(has_looked_up, is_lookup, "{from}: {plan}");
    }
    served.end().await;
}
