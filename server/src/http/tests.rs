//! Every route, asked over a real socket in this process.

use std::time::Duration;

use otus_ingest::{PartitionState, PartitionStatus};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::otus::Otus;

const TABLES: &str = r#"
[tables.clicks]
topic = "clicks"
time = "at"
[tables.clicks.columns]
at = "timestamptz"
page = { type = "text", title = "Page" }
ms = "bigint"
[tables.clicks.measures]
clicks = "count(*)"
total = { sql = "sum(ms)", unit = "ms" }
[tables.clicks.rollups.pages]
granularity = ["minute", "hour"]
dimensions = ["page"]
[tables.closed]
topic = "closed"
time = "at"
append = false
[tables.closed.columns]
at = "timestamptz"
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
    tokio::spawn(super::serve(listener, otus.clone(), None, shutdown.clone()));
    let client = Client::builder().no_proxy().build().unwrap();
    Served { otus, base, client, shutdown }
}

impl Served {
    async fn post(&self, path: &str, content_type: &str, body: &str) -> (StatusCode, String) {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", content_type).body(body.to_string());
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn append(&self, lines: &str) -> Value {
        let (status, body) = self.post("/api/append/clicks", "application/x-ndjson", lines).await;
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        let last = answer["records"].as_array().unwrap().last().unwrap().clone();
        let partition = i32::try_from(last["partition"].as_i64().unwrap()).unwrap();
        let offset = last["offset"].as_i64().unwrap();
        let patience = Duration::from_secs(20);
        self.otus.wait_visible("clicks", partition, offset, patience).await.unwrap();
        answer
    }

    async fn end(self) {
        self.shutdown.cancel();
        assert!(self.otus.close(Duration::from_secs(20)).await);
    }
}

const LINES: &str = "{\"at\":\"2024-01-01T00:00:01Z\",\"page\":\"/a\",\"ms\":5}\n\
                     {\"at\":\"2024-01-01T00:00:02Z\",\"page\":\"/b\",\"ms\":7}\n\
                     {\"at\":\"2024-01-01T01:00:02Z\",\"page\":\"/a\",\"ms\":9}\n\
                     {\"at\":\"never\",\"page\":\"/a\"}\n";

#[tokio::test(flavor = "multi_thread")]
async fn appended_records_are_answered() {
    let served = served().await;
    let answer = served.append(LINES).await;
    assert_eq!(answer["records"].as_array().unwrap().len(), 4);

    let query = json!({ "query": "SELECT page, count(*) AS n, sum(ms) AS ms FROM clicks GROUP BY page ORDER BY page" });
    let (status, body) = served.post("/api/sql", "application/json", &query.to_string()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["rows"], json!([["/a", 2, "14"], ["/b", 1, "7"]]), "{body}");
    assert_eq!(answer["row_count"], 2);
    let (_, csv) = served.post("/api/sql?format=csv", "application/json", &query.to_string()).await;
    assert_eq!(csv, "page,n,ms\r\n/a,2,14\r\n/b,1,7\r\n");

    // Fails when it runs, before it has given a row.
    for format in ["json", "csv"] {
        let query = json!({ "query": "SELECT 1 / (ms - ms) FROM clicks" }).to_string();
        let path = format!("/api/sql?format={format}");
        let (status, body) = served.post(&path, "application/json", &query).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["error"]["code"], "22012");
    }

    let query = json!({ "query": "SELECT count(*) FROM clicks WHERE page = $1", "params": ["/b"] });
    let (status, body) = served.post("/api/sql", "application/json", &query.to_string()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["rows"], json!([[1]]));

    let pattern = "{:pattern {:metrics {(:clicks :with [{:granularity :hour, :from \"2024-01-01\", \
                   :to \"2024-01-02\", :fill :none}]) [{:bucket ?, :clicks ?} ?rows]}}}";
    let (status, body) = served.post("/api/pull", "application/edn", pattern).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(":clicks 2") && body.contains(":clicks 1"), "{body}");

    let (status, body) = served.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("otus_table_rows{table=\"public.clicks\"} 3"), "{body}");
    assert!(body.contains("otus_records_rejected_total 1"), "{body}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_have_names_and_filters_are_a_condition() {
    let served = served().await;
    served.append(LINES).await;
    let ask = async |filters: Value| {
        let body = json!({
            "query": "SELECT page, sum(ms) AS ms FROM clicks WHERE at >= $from AND at < $to AND $filters GROUP BY page ORDER BY page",
            "params": { "from": "2024-01-01T00:00:00Z", "to": "2024-01-02T00:00:00Z", "tz": "UTC" },
            "filters": filters,
        });
        let (status, body) = served.post("/api/sql", "application/json", &body.to_string()).await;
        (status.as_u16(), serde_json::from_str::<Value>(&body).unwrap())
    };
    for (filters, rows) in [
        (json!(null), json!([["/a", "14"], ["/b", "7"]])),
        (json!({ "page": "/a" }), json!([["/a", "14"]])),
        (json!({ "page": ["/b", "/c"], "ms": 7 }), json!([["/b", "7"]])),
        (json!(["or", [">", "ms", 8], ["like", "page", "/b%"]]), json!([["/a", "9"], ["/b", "7"]])),
        (json!({ "page": "' OR 1 = 1 --" }), json!([])),
    ] {
        let (status, answer) = ask(filters.clone()).await;
        assert_eq!((status, &answer["rows"]), (200, &rows), "{filters}: {answer}");
    }
    for (filters, code) in
        [(json!({ "nothing": 1 }), "42703"), (json!(["near", "page", 1]), "22023")]
    {
        let (status, answer) = ask(filters).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (400, Some(code)), "{answer}");
    }
    let (status, body) = served
        .post(
            "/api/sql",
            "application/json",
            r#"{"query": "SELECT $1", "params": [1], "filters": {}}"#,
        )
        .await;
    assert!(status == 400 && body.contains("by name"), "{body}");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused() {
    let served = served().await;
    let json = "application/json";
    for (path, content_type, body, expected, says) in [
        ("/api/sql", "text/plain", "{}", 415, "text/plain"),
        ("/api/sql", json, "SELECT 1", 400, "not a request"),
        ("/api/sql", json, r#"{"query":"SELECT 1","param":[]}"#, 400, "param"),
        ("/api/sql", json, r#"{"query":"SELECT 1; SELECT 2"}"#, 400, "one statement"),
        ("/api/sql", json, r#"{"query":"SELECT nothing"}"#, 400, "42703"),
        ("/api/sql", json, r#"{"query":"DROP TABLE clicks"}"#, 403, "DROP"),
        ("/api/sql?format=xml", json, r#"{"query":"SELECT 1"}"#, 400, "xml"),
        ("/api/pull", "text/plain", "{}", 415, "application/edn"),
        ("/api/pull", json, "{", 400, ""),
        ("/api/append/clicks", json, "{}", 400, "array"),
        ("/api/append/clicks", "text/plain", "{}", 415, "ndjson"),
        ("/api/append/nowhere", json, "[]", 404, "nowhere"),
        ("/api/append/closed", json, "[]", 403, "append = true"),
        ("/api/ingest/pause/nothing", json, "", 404, "nothing"),
        ("/api/nothing", json, "", 404, "no such path"),
    ] {
        let (status, answer) = served.post(path, content_type, body).await;
        assert_eq!(status.as_u16(), expected, "{path} {body}: {answer}");
        assert!(answer.contains(says), "{path} {body}: {answer}");
    }
    let long = format!("{{\"query\":\"SELECT '{}'\"}}", "x".repeat(super::QUERY_BYTES_MAX));
    let (status, _) = served.post("/api/sql", json, &long).await;
    assert_eq!(status, 413);
    let foreign = served.client.get(format!("{}/healthz", served.base));
    let foreign = foreign.header("host", "evil.example.com").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_schema_and_levers() {
    let served = served().await;
    assert_eq!(served.get("/healthz").await, (StatusCode::OK, "ok\n".to_string()));
    served.otus.wait_caught_up(Duration::from_secs(20)).await.unwrap();
    let (status, body) = served.get("/readyz").await;
    assert_eq!(status, 200, "{body}");

    let (_, body) = served.get("/api/schema").await;
    let schema: Value = serde_json::from_str(&body).unwrap();
    let clicks = &schema["tables"][0];
    assert_eq!(clicks["columns"][1], json!({ "name": "page", "type": "text", "title": "Page" }));
    assert_eq!(clicks["measures"][1]["unit"], "ms");
    assert_eq!(clicks["measures"][1]["additive"], true);
    assert_eq!(clicks["rollups"][0]["granularities"], json!(["minute", "hour"]));

    served.append(LINES).await;
    let (status, body) = served.post("/api/ingest/flush", "application/json", "").await;
    assert_eq!(status, 200, "{body}");
    assert!(serde_json::from_str::<Value>(&body).unwrap()["commit"].is_u64(), "{body}");
    let (_, body) = served.get("/api/ingest").await;
    let partitions = serde_json::from_str::<Value>(&body).unwrap();
    assert_eq!(partitions["partitions"][0]["topic"], "clicks", "{body}");
    let (status, body) = served.post("/api/ingest/maintain", "application/json", "").await;
    assert_eq!(status, 200, "{body}");
    served.end().await;
}

/// The next event of a live answer: its fields by name.
async fn event(response: &mut reqwest::Response, text: &mut String) -> Vec<(String, String)> {
    let come = async {
        loop {
            if let Some((event, rest)) = text.split_once("\n\n") {
                let lines = event.lines().filter_map(|line| line.split_once(':'));
                let fields: Vec<_> = lines
                    .filter(|(name, _)| !name.is_empty())
                    .map(|(name, value)| (name.to_owned(), value.trim_start().to_owned()))
                    .collect();
                *text = rest.to_owned();
                if !fields.is_empty() {
                    return fields;
                }
                continue;
            }
            let piece = response.chunk().await.unwrap().expect("the stream goes on");
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), come).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_answer_goes_on() {
    let served = served().await;
    served.otus.wait_caught_up(Duration::from_secs(20)).await.unwrap();
    served.append(LINES).await;
    let question = r#"{"pattern": {"metrics": {"clicks": {
        "$with": [{"from": "2020-01-01", "to": "2040-01-01"}], "$watch": true, "$get": [{"clicks": "?"}]}}}}"#;
    let ask = async |last: Option<&str>| {
        let request = served.client.post(format!("{}/api/live", served.base));
        let request = request.header("content-type", "application/json").body(question);
        let request = match last {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        request.send().await.unwrap()
    };
    let of = |event: &[(String, String)], name: &str| {
        event.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap()
    };
    let count = |event: &[(String, String)]| {
        let data: Value = serde_json::from_str(&of(event, "data")).unwrap();
        data["data"]["metrics"]["clicks"][0]["clicks"].as_i64().unwrap()
    };
    // Two who ask the same share a feed; each has its own first answer.
    let (mut one, mut two) = (ask(None).await, ask(None).await);
    assert_eq!(one.status(), 200);
    assert!(one.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert_eq!(one.headers()["cache-control"], "no-store");
    let (mut text_one, mut text_two) = (String::new(), String::new());
    let first = event(&mut one, &mut text_one).await;
    assert_eq!(of(&first, "event"), "answer");
    assert_eq!(count(&event(&mut two, &mut text_two).await), count(&first));
    served.append(LINES).await;
    let changed = event(&mut one, &mut text_one).await;
    assert!(count(&changed) > count(&first), "{changed:?}");
    assert_eq!(count(&event(&mut two, &mut text_two).await), count(&changed));
    drop((one, two));
    // Back with all that there is: nothing comes until something does.
    let id = of(&changed, "id");
    let mut back = ask(Some(id.as_str())).await;
    served.append(LINES).await;
    let next = event(&mut back, &mut String::new()).await;
    assert!(count(&next) > count(&changed), "{next:?}");
    // What is wrong with a request is said before anything is sent.
    let plain = question.replace("\"$watch\": true, ", "");
    let (status, body) = served.post("/api/live", "application/json", &plain).await;
    assert!(status == 422 && body.contains("nothing is watched"), "{status} {body}");
    let (status, body) = served.post("/api/pull", "application/json", question).await;
    assert!(status == 422 && body.contains("POST /api/live"), "{status} {body}");
    // A server that stops does not wait for those who listen.
    tokio::time::timeout(Duration::from_secs(20), served.end()).await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(5), back.bytes()).await;
    assert!(rest.is_ok(), "the stream ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_part_of_the_binary() {
    let served = served().await;
    let get = async |path: &str, accepts: &str| {
        let request = served.client.get(format!("{}{path}", served.base));
        request.header("accept-encoding", accepts).send().await.unwrap()
    };
    let page = get("/", "identity").await;
    let header = |response: &reqwest::Response, name: &str| {
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    let policy = header(&page, "content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'self'")
            && policy.contains("frame-ancestors 'none'")
            && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(header(&page, "x-content-type-options").as_deref(), Some("nosniff"));
    let status = page.status();
    let text = page.text().await.unwrap();
    if let Some(problem) = super::page::PROBLEM {
        assert!(std::env::var_os("CI").is_none(), "the page is not built: {problem}");
        assert_eq!(status, 503);
        assert!(text.contains("npm") && text.contains("Node.js 20"), "{text}");
        return served.end().await;
    }
    assert_eq!(status, 200);
    let scripts = text.split("src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let script = scripts.into_iter().find(|path| path.starts_with("/assets/")).unwrap().to_owned();
    let plain = get(&script, "identity").await;
    assert_eq!(header(&plain, "content-encoding"), None);
    assert!(header(&plain, "cache-control").unwrap().contains("immutable"));
    assert!(header(&plain, "content-type").unwrap().starts_with("text/javascript"));
    let whole = plain.bytes().await.unwrap();
    for (accepts, coding) in [("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip")] {
        let packed = get(&script, accepts).await;
        assert_eq!(header(&packed, "content-encoding").as_deref(), Some(coding), "{accepts}");
        assert_eq!(header(&packed, "vary").as_deref(), Some("accept-encoding"));
        assert!(packed.bytes().await.unwrap().len() * 2 < whole.len(), "{coding}");
    }
    // Each place is the same document; what is none is told so.
    for place in ["/explore/clicks", "/dashboards", "/sql", "/data/tables/clicks", "/sign-in"] {
        let (status, text) = served.get(place).await;
        assert!(status == 200 && text.contains(&script), "{place}: {status}");
    }
    for nothing in ["/assets/none.js", "/assets/../Cargo.toml", "/etc/passwd", "/api/none"] {
        let (status, text) = served.get(nothing).await;
        assert!(status == 404 && text.contains("not_found"), "{nothing}: {status}");
    }
    let (status, _) = served.post("/explore/clicks", "application/json", "{}").await;
    assert_eq!(status, 404);
    served.end().await;
}

#[test]
fn what_is_not_known_is_not_told() {
    let partition = |partition, state: PartitionState, lag| PartitionStatus {
        table: otus_engine::catalog::TableId(1),
        table_name: "public.clicks".into(),
        topic: "clicks".into(),
        partition: Some(partition),
        state,
        position: Some(10),
        end: Some(10),
        lag,
        rate: 0.0,
    };
    let waits = || PartitionState::Waiting { reason: "no broker".into() };
    let running = [partition(0, PartitionState::Running, Some(3))];
    let (ready, body) = super::readiness(&running, true, None);
    assert_eq!((ready, &body["lag"], &body["caught_up"]), (true, &json!(3), &json!(true)));
    // The broker went: it stays ready with what it has, and claims nothing.
    let silent = [running[0].clone(), partition(1, waits(), None)];
    let (ready, body) = super::readiness(&silent, true, None);
    assert!(ready);
    assert_eq!((&body["lag"], &body["caught_up"]), (&Value::Null, &Value::Null));
    assert_eq!(body["waiting"][0]["partition"], 1);
    // It was never there.
    let (ready, body) = super::readiness(&silent, false, None);
    assert_eq!((ready, &body["lag"], &body["caught_up"]), (false, &Value::Null, &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_rubbish_is_not_ready() {
    let served = served().await;
    served.append(&"rubbish\n".repeat(3_000)).await;
    let rejecting = async {
        loop {
            let (status, body) = served.get("/readyz").await;
            if status == 503 && body.contains("\"state\":\"rejecting\"") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rejecting).await.unwrap();
    served.end().await;
}
