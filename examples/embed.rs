//! Embeds Otus in a program: reads a file of events, asks for a rollup, and is gone. Run it from the checkout with
//! `cargo run --release --example embed`.

use std::time::Duration;

use otus_server::Otus;

const TABLES: &str = r#"
[tables.visits]
file = "examples/visits.ndjson"
time = "at"
[tables.visits.columns]
at   = "timestamptz"
page = "text"
ms   = "bigint"
[tables.visits.measures]
visits = "count(*)"
slow   = "max(ms)"
[tables.visits.rollups.pages]
granularity = ["minute", "hour"]
dimensions  = ["page"]
"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let otus = Otus::builder().toml(TABLES).in_memory().open().await?;
    otus.wait_caught_up(Duration::from_secs(30)).await?;
    let rows = otus.query("SELECT page, visits, slow FROM pages_hour ORDER BY page").await?;
    arrow::util::pretty::print_batches(&rows)?;
    otus.close(Duration::from_secs(10)).await;
    Ok(())
}
