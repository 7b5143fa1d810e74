//! Embeds Otus in a program: reads a file of events, asks for a rollup, and is gone. Run it with
//! `cargo run --release --example embed`.

use std::time::Duration;

use otus_server::Otus;

const TABLES: &str = r#"
[tables.visits]
file = "FILE"
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
    let events = (0..1_000).map(|n| {
        format!(
            "{{\"at\":\"2026-01-01T00:{:02}:00Z\",\"page\":\"/{}\",\"ms\":{n}}}\n",
            n % 60,
            n % 3
        )
    });
    let file = std::env::temp_dir().join("otus-embed.ndjson");
    std::fs::write(&file, events.collect::<String>())?;
    let tables = TABLES.replace("FILE", &file.display().to_string());
    let otus = Otus::builder().toml(&tables).in_memory().open().await?;
    otus.wait_caught_up(Duration::from_secs(30)).await?;
    let rows = otus.query("SELECT page, visits, slow FROM pages_hour ORDER BY page").await?;
    arrow::util::pretty::print_batches(&rows)?;
    otus.close(Duration::from_secs(10)).await;
    Ok(())
}
