//! `GET /api/tables/<table>`: all rows, page by page, of one moment. A cursor keeps the rows of its moment, in
//! memory or on disk, so few are open at a time and none for long.

use std::sync::Arc;

use arrow::array::RecordBatch;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use otus_engine::keyed::KeyedTable;
use parking_lot::Mutex;
use serde::Deserialize;

use super::{aside, invalid, readable, shown};
use crate::http::asked::{Path, Query};
use crate::http::caller::Caller;
use crate::http::error::HttpError;
use crate::http::{Shared, render};

/// Rows of a page if nothing is said.
const PAGE_ROWS: usize = 100;
/// Rows of the largest page.
const PAGE_ROWS_MAX: usize = 10_000;
/// Cursors that are open at a time; the one unused for longest goes.
const CURSORS_MAX: usize = 64;
/// How long a cursor stays open after its last use, microseconds.
const CURSOR_AGE_US: i64 = 5 * 60 * 1_000_000;

/// Query string of the request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Rows of one moment and the columns that are shown of them.
#[derive(Debug, Clone)]
struct Moment {
    table: String,
    rows: Arc<KeyedTable>,
    columns: Vec<usize>,
}

#[derive(Debug)]
struct Cursor {
    number: u64,
    used_us: i64,
    moment: Moment,
}

/// The open cursors.
#[derive(Debug, Default)]
pub(in crate::http) struct Pages(Mutex<(u64, Vec<Cursor>)>);

impl Pages {
    fn open(&self, moment: Moment, now_us: i64) -> u64 {
        let (last, open) = &mut *self.0.lock();
        open.retain(|cursor| now_us - cursor.used_us < CURSOR_AGE_US);
        if open.len() >= CURSORS_MAX {
            let oldest = open.iter().enumerate().min_by_key(|(_, c)| c.used_us).map(|(at, _)| at);
            oldest.map(|at| open.swap_remove(at));
        }
        *last += 1;
        open.push(Cursor { number: *last, used_us: now_us, moment });
        *last
    }

    fn find(&self, number: u64, now_us: i64) -> Option<Moment> {
        let (_, open) = &mut *self.0.lock();
        open.retain(|cursor| now_us - cursor.used_us < CURSOR_AGE_US);
        let found = open.iter_mut().find(|cursor| cursor.number == number)?;
        found.used_us = now_us;
        Some(found.moment.clone())
    }

    fn close(&self, number: u64) {
        self.0.lock().1.retain(|cursor| cursor.number != number);
    }
}

/// Where a page begins: the cursor, a block and a row in it.
fn parse(cursor: &str) -> Option<(u64, usize, usize)> {
    let mut parts = cursor.split('-');
    let place =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(place)
}

pub(in crate::http) async fn list(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
    caller: Caller,
) -> Result<Response, HttpError> {
    let limit = query.limit.unwrap_or(PAGE_ROWS);
    if !(1..=PAGE_ROWS_MAX).contains(&limit) {
        return Err(invalid(format!("limit must be between 1 and {PAGE_ROWS_MAX}")));
    }
    let now_us = shared.otus.dataset().clock().now_us();
    let snapshot = shared.otus.dataset().snapshot();
    let table = readable(&shared, &caller, &snapshot, &name)?;
    let (moment, number, block, row) = match &query.cursor {
        Some(cursor) => {
            let (number, block, row) =
                parse(cursor).ok_or_else(|| invalid(format!("{cursor:?} is no cursor")))?;
            let found = shared.pages.find(number, now_us).filter(|moment| moment.table == name);
            let moment = found.ok_or_else(|| {
                let message = format!("cursor {cursor:?} is closed: begin again without it");
                HttpError::new(StatusCode::GONE, "gone", message)
            })?;
            (moment, Some(number), block, row)
        }
        None => {
            let rows = snapshot.keyed(table.id).cloned();
            let rows = rows.ok_or_else(|| invalid(format!("table {name:?} is not in memory")))?;
            (Moment { table: name, rows, columns: shown(&table) }, None, 0, 0)
        }
    };
    let own = moment.clone();
    let (batches, next) = aside(move || page(&own, limit, block, row)).await?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(render::json_objects(batch)?);
    }
    let next = match next {
        Some((block, row)) => {
            let number = number.unwrap_or_else(|| shared.pages.open(moment, now_us));
            format!("\"{number}-{block}-{row}\"")
        }
        None => {
            number.into_iter().for_each(|number| shared.pages.close(number));
            "null".to_string()
        }
    };
    let body = format!("{{\"rows\":[{}],\"next\":{next}}}", rows.join(","));
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], body).into_response())
}

type Place = (usize, usize);

/// At most `limit` rows from a place on, and the place of the row after them.
fn page(
    moment: &Moment,
    limit: usize,
    from_block: usize,
    from_row: usize,
) -> otus_engine::Result<(Vec<RecordBatch>, Option<Place>)> {
    let (mut batches, mut left) = (Vec::new(), limit);
    let mut from_row = from_row;
    for block in moment.rows.blocks().into_iter().filter(|b| b.number() >= from_block) {
        let number = block.number();
        if number > from_block {
            from_row = 0;
        }
        if left == 0 {
            return Ok((batches, Some((number, 0))));
        }
        let start = from_row.min(block.rows());
        let count = left.min(block.rows() - start);
        batches.push(block.slice(&moment.columns, start, count)?);
        left -= count;
        if start + count < block.rows() {
            return Ok((batches, Some((number, start + count))));
        }
        from_row = 0;
    }
    Ok((batches, None))
}
