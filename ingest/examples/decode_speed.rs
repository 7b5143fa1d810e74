//! Measures how fast the JSON decoder is on one thread: `decode_speed FILE [ROUNDS]` decodes the lines of a
//! Wikipedia edits file again and again and prints rows and bytes per second.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::SchemaRef;
use otus_engine::catalog::{ColumnDef, ColumnSource, MeasureDef, TableDef};
use otus_engine::expr::{CompiledExpr, CompiledMeasures, ExpressionCompiler};
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};
use otus_ingest::decode::decoder;
use otus_ingest::log::file::open_text;
use otus_ingest::record::Slice;

/// The table of this example has no expressions.
#[derive(Debug)]
struct NoExpressions;

impl ExpressionCompiler for NoExpressions {
    fn scalar(&self, _: &SchemaRef, sql: &str) -> Result<Arc<dyn CompiledExpr>> {
        Err(Error::invalid(format!("no expressions here: {sql}")))
    }
    fn measures(&self, _: &SchemaRef, _: &str, _: &[MeasureDef]) -> Result<CompiledMeasures> {
        Ok(CompiledMeasures::default())
    }
}

fn wikipedia() -> Result<TableDef> {
    let columns = [
        ("time", "time", "timestamptz"),
        ("channel", "channel", "text"),
        ("city_name", "cityName", "text"),
        ("comment", "comment", "text"),
        ("country_iso_code", "countryIsoCode", "text"),
        ("country_name", "countryName", "text"),
        ("is_anonymous", "isAnonymous", "boolean"),
        ("is_minor", "isMinor", "boolean"),
        ("is_new", "isNew", "boolean"),
        ("is_robot", "isRobot", "boolean"),
        ("is_unpatrolled", "isUnpatrolled", "boolean"),
        ("metro_code", "metroCode", "bigint"),
        ("namespace", "namespace", "text"),
        ("page", "page", "text"),
        ("region_iso_code", "regionIsoCode", "text"),
        ("region_name", "regionName", "text"),
        ("editor", "user", "text"),
        ("delta", "delta", "bigint"),
        ("added", "added", "bigint"),
        ("deleted", "deleted", "bigint"),
    ];
    let columns = columns.into_iter().map(|(name, path, column_type)| {
        let source = ColumnSource::Path(vec![path.into()]);
        Ok(ColumnDef { source, ..ColumnDef::new(name, column_type.parse()?) })
    });
    Ok(TableDef::events("wikipedia", "time", columns.collect::<Result<_>>()?))
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "prints rates for people")]
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or_else(|| Error::invalid("usage: decode_speed FILE [ROUNDS]"))?;
    let rounds: usize = args.next().and_then(|r| r.parse().ok()).unwrap_or(20);
    let unreadable = |e| Error::unavailable("the file cannot be read").with_source(e);
    let tp = TopicPartition::new("wikiticker", 0);
    let mut slices = vec![Slice::new(tp.clone(), 0)];
    for (offset, line) in (0..).zip(open_text(Path::new(&file)).map_err(unreadable)?.lines()) {
        let line = line.map_err(unreadable)?;
        if slices.last().is_none_or(|slice| slice.len() >= 8_192) {
            slices.push(Slice::new(tp.clone(), offset));
        }
        if let Some(slice) = slices.last_mut() {
            slice.push(offset, None, None, Some(line.as_bytes()));
        }
    }
    let mut decoder = decoder(&Arc::new(wikipedia()?), &tp, &NoExpressions)?;
    let (mut rows, mut bytes) = (0, 0);
    let started = Instant::now();
    for _ in 0..rounds {
        for slice in &slices {
            for record in slice.iter() {
                decoder.decode(&record, 0);
            }
            let decoded = decoder.flush()?;
            rows += decoded.batch.num_rows();
            bytes += slice.bytes_len();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{rows} rows in {seconds:.2} s: {:.0} rows/s, {:.0} MB/s",
        rows as f64 / seconds,
        bytes as f64 / seconds / 1e6
    );
    Ok(())
}
