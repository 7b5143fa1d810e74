//! Opening, closing and opening again; what a program that embeds Otus relies on.

use std::path::PathBuf;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use otus_engine::ErrorKind;
use otus_ingest::AppendRecord;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

const TABLE: &str = r#"
[tables.clicks]
topic = "clicks"
time = "at"
[tables.clicks.columns]
at = "timestamptz"
ms = "bigint"
[tables.clicks.measures]
clicks = "count(*)"
[tables.clicks.rollups.all_clicks]
granularity = "hour"
"#;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("otus-test-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&folder).ok();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

async fn append(otus: &Otus, count: usize) {
    let record = |n| AppendRecord::value(format!("{{\"at\":\"2024-01-01T00:00:00Z\",\"ms\":{n}}}"));
    let places = otus.append("clicks", (0..count).map(record).collect()).await.unwrap();
    let (partition, offset) = *places.last().unwrap();
    otus.wait_visible("clicks", partition, offset, PATIENCE).await.unwrap();
}

async fn number(otus: &Otus, sql: &str) -> i64 {
    let batches: Vec<RecordBatch> = otus.query(sql).await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_let_go_and_keeps_its_rows() {
    let folder = Folder::new("reopen");
    let open = |text: &str| Otus::builder().toml(text).folder(&folder.0);
    let otus = open(TABLE).open().await.unwrap();
    append(&otus, 100).await;
    let second = open(TABLE).open().await.unwrap_err();
    assert_eq!(second.kind(), ErrorKind::Busy, "{second}");
    assert!(otus.close(PATIENCE).await);

    let otus = open(TABLE).open().await.unwrap();
    assert_eq!(number(&otus, "SELECT count(*) FROM clicks").await, 100);
    append(&otus, 1).await;
    assert_eq!(number(&otus, "SELECT sum(clicks)::bigint FROM all_clicks_hour").await, 101);
    assert!(otus.close(PATIENCE).await);

    let wider = TABLE.replace("ms = \"bigint\"", "ms = \"bigint\"\npage = \"text\"");
    let refused = open(&wider).open().await.unwrap_err();
    assert!(refused.to_string().contains("column \"page\" is new"), "{refused}");
    let otus = open(&wider).apply(true).open().await.unwrap();
    assert_eq!(otus.changes().len(), 1, "{:?}", otus.changes());
    assert_eq!(number(&otus, "SELECT count(*) FROM clicks WHERE page IS NULL").await, 101);
    assert!(otus.close(PATIENCE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_come_out_at_open() {
    let text = TABLE.replace("count(*)", "count(nothing)").replace("\"hour\"", "\"hours\"");
    let error = Otus::builder().toml(&text).open().await.unwrap_err().to_string();
    assert!(error.contains("configuration:9:10: error: tables.clicks.measures.clicks"), "{error}");
    assert!(error.contains("unknown granularity \"hours\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_opened_is_an_error() {
    let folder = Folder::new("no-log");
    std::fs::create_dir_all(&folder.0).unwrap();
    // A file where the folder of the embedded log belongs.
    std::fs::write(folder.0.join(LOCAL_LOG), "").unwrap();
    let error = Otus::builder().toml(TABLE).folder(&folder.0).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("the local log cannot be opened"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_names_what_is_missing() {
    let otus = Otus::builder().toml(TABLE).in_memory().open().await.unwrap();
    otus.wait_caught_up(PATIENCE).await.unwrap();
    let soon = Duration::from_millis(50);
    let error = otus.wait_visible("nowhere", 0, 0, soon).await.unwrap_err();
    assert_eq!(error.to_string(), "no table reads topic \"nowhere\"");
    let error = otus.wait_visible("clicks", 0, 5, soon).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let error = otus.append("nowhere", Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = otus.query("SELECT nothing FROM clicks").await.unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert!(otus.close(PATIENCE).await);
}
