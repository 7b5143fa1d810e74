//! Statements that nobody wrote, answered by PostgreSQL 15 and by Otus over the same rows: by an administrator and by one
//! whose rows are filtered, with values in the text and as parameters, by cursors and by COPY. Other ones come by
//! `OTUS_TEST_SEED`, more of them by `OTUS_TEST_STATEMENTS`.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::Result;
use bytes::BytesMut;
use futures::TryStreamExt;
use otus_tests::grammar::{Column, Grammar, Kind, Statement};
use otus_tests::need;
use otus_tests::otus::Setup;
use otus_tests::postgres::{Answer, Client, Rows, Shown, rows_of};
use otus_tests::reference::Reference;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::access_login::password;

const TABLE: &str = r#"
[tables.moves]
topic = "moves"
time = "at"
append = true
[tables.moves.columns]
id = "integer"
at = "timestamptz"
owner = "text"
team = "integer"
amount = "numeric(12,2)"
qty = "integer"
note = "text"
tags = "text[]"
doc = "jsonb"
big = "bigint"
flag = "boolean"
day = "date"
[tables.moves.measures]
n = "count(*)"
total = "sum(amount)"
pieces = "sum(qty)"
least = "min(qty)"
[tables.moves.rollups.by_owner]
granularity = ["hour", "day"]
dimensions = ["owner", "team"]
[roles.admin]
admin = true
[roles.own]
grants = [{ tables = ["moves"], filter = "owner = current_user" }]
"#;

/// Rows, the same for both.
const ROWS: &str = "insert into moves \
    select i, timestamptz '2026-01-01 00:00+00' + i * interval '7 minutes 13 seconds', \
    (array['ann', 'bob', 'carl', '../x'])[1 + i % 4], nullif(i % 3, 2), (i * 1.37 - 500)::numeric(12,2), i % 90, \
    case when i % 5 = 0 then 'secret' || i when i % 7 = 0 then null else 'n' || i % 40 end, \
    case when i % 11 = 0 then null else array['t' || i % 3, 'k' || i % 20] end, \
    ('{\"k\": ' || i % 9 || ', \"s\": \"v' || i % 30 || '\", \"a\": [1, 2, ' || i || ']}')::jsonb, \
    i * 1000000007::bigint, case i % 3 when 0 then true when 1 then false end, date '2026-01-01' + i % 15 \
    from generate_series(0, 1199) g(i)";

const CREATE: &str = "create table moves (id integer, at timestamptz, owner text, team integer, amount numeric(12,2), \
    qty integer, note text, tags text[], doc jsonb, big bigint, flag boolean, day date); \
    create schema ann; create view ann.moves as select * from public.moves where owner = 'ann'";

/// What PostgreSQL has no time for, and joins that it has no way to make.
const UNASKED: [&str; 2] = ["57014", "0A000"];
/// Statements of a run that asks for no other number.
const STATEMENTS: u64 = 900;
/// What docs/postgres.md lists as not supported, and joins of more rows than the memory of queries takes.
const REFUSALS: [&str; 2] = ["fails with 0A000", "fails with 53200"];
/// One of so many may be refused so.
const REFUSED_MAX: u64 = 150;
/// Least share of them that PostgreSQL answers, percent.
const ANSWERED_MIN: u64 = 90;

fn columns() -> Vec<Column> {
    let columns = [
        ("id", Kind::Int),
        ("at", Kind::Time),
        ("owner", Kind::Text),
        ("team", Kind::Int),
        ("amount", Kind::Num),
        ("qty", Kind::Int),
        ("note", Kind::Text),
        ("tags", Kind::Texts),
        ("doc", Kind::Json),
        ("big", Kind::Big),
        ("flag", Kind::Bool),
        ("day", Kind::Date),
    ];
    columns.into_iter().map(|(name, kind)| Column::new(name, kind)).collect()
}

fn variable(name: &str, default: u64) -> Result<u64> {
    Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?)
}

/// A parameter by its text, whatever its type.
#[derive(Debug)]
struct Text<'a>(&'a str);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

/// A value as the bytes of its binary form.
struct Bytes<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What a statement answers by the extended protocol: types of its parameters, columns, and rows in binary form.
fn extended(client: &mut Client, statement: &Statement) -> Result<(Vec<u32>, Answer)> {
    client.with(async |client| {
        let prepared = match client.prepare(&statement.sql).await {
            Ok(prepared) => prepared,
            Err(error) => return Ok((Vec::new(), failure(error)?)),
        };
        let types = prepared.params().iter().map(Type::oid).collect();
        let texts: Vec<Text<'_>> = statement.parameters.iter().map(|p| Text(p)).collect();
        let values: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|t| t as _).collect();
        let rows = match client.query(&prepared, &values).await {
            Ok(rows) => rows,
            Err(error) => return Ok((types, failure(error)?)),
        };
        let shown = |c: &tokio_postgres::Column| Shown {
            name: c.name().to_owned(),
            oid: c.type_().oid(),
            modifier: c.type_modifier(),
        };
        let columns: Vec<Shown> = prepared.columns().iter().map(shown).collect();
        let cell = |row: &tokio_postgres::Row, n: usize| -> Result<Option<String>> {
            let bytes: Option<Bytes<'_>> = row.try_get(n)?;
            let numeric = columns[n].oid == Type::NUMERIC.oid();
            Ok(bytes.map(|b| if numeric { numeric_text(b.0) } else { format!("{:02x?}", b.0) }))
        };
        let row = |row| (0..columns.len()).map(|n| cell(row, n)).collect::<Result<_>>();
        let rows = rows.iter().map(row).collect::<Result<Rows>>()?;
        Ok((types, Answer::Rows(columns, rows)))
    })
}

/// The digits of a numeric's binary form, without how many of them are shown.
fn numeric_text(bytes: &[u8]) -> String {
    let words: Vec<u16> = bytes.chunks_exact(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect();
    let (head, digits) = words.split_at(words.len().min(4));
    let end = digits.iter().rposition(|d| *d != 0).map_or(0, |last| last + 1);
    format!("{:?} {:?}", head.get(1..3), &digits[..end])
}

fn failure(error: tokio_postgres::Error) -> Result<Answer> {
    match error.as_db_error() {
        Some(told) => Ok(Answer::Failure(told.code().code().into(), told.message().into())),
        None => Err(error.into()),
    }
}

/// Rows as they are compared: numbers without zeros at their end, for PostgreSQL's numerics keep as many digits as each
/// value came with.
fn comparable(rows: &Rows, ordered: bool) -> Rows {
    let value = |text: &String| match text.split_once('.') {
        Some(_) if text.parse::<f64>().is_ok() => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text.clone(),
    };
    let mut rows: Rows =
        rows.iter().map(|row| row.iter().map(|v| v.as_ref().map(value)).collect()).collect();
    if !ordered {
        rows.sort();
    }
    rows
}

/// What differs; nothing if the answers agree.
fn difference(statement: &Statement, postgres: &Answer, otus: &Answer) -> Option<String> {
    match (postgres, otus) {
        (Answer::Failure(wanted, told), Answer::Failure(state, message)) => (wanted != state)
            .then(|| format!("fails with {state} ({message}), not {wanted} ({told})")),
        (Answer::Rows(..), Answer::Failure(state, message)) => {
            Some(format!("fails with {state} ({message})"))
        }
        (Answer::Failure(state, message), Answer::Rows(..)) => {
            Some(format!("does not fail with {state} ({message})"))
        }
        (Answer::Rows(wanted, wanted_rows), Answer::Rows(columns, rows)) => {
            let same = |(a, b): (&Shown, &Shown)| a.name == b.name && a.oid == b.oid;
            if wanted.len() != columns.len() || !wanted.iter().zip(columns).all(same) {
                return Some(format!("columns are {columns:?}, not {wanted:?}"));
            }
            let wanted = comparable(wanted_rows, statement.ordered);
            let rows = comparable(rows, statement.ordered);
            let different = rows.iter().zip(&wanted).find(|(row, wanted)| row != wanted);
            match different {
                Some((row, wanted)) => Some(format!("a row is {row:?}, not {wanted:?}")),
                None => (rows.len() != wanted.len())
                    .then(|| format!("{} rows, not {}", rows.len(), wanted.len())),
            }
        }
    }
}

/// Both servers as one user.
struct Both {
    postgres: Client,
    otus: Client,
}

/// What a cursor gives in two pieces; types of columns are not told.
fn by_cursor(client: &mut Client, sql: &str) -> Result<Answer> {
    client.with(async |client| {
        let fetched = async {
            client.batch_execute(&format!("begin; declare c cursor for {sql}")).await?;
            let mut messages = client.simple_query("fetch 7 from c").await?;
            messages.extend(client.simple_query("fetch all from c").await?);
            Ok(messages)
        };
        let fetched: Result<_, tokio_postgres::Error> = fetched.await;
        client.batch_execute("rollback").await?;
        let messages = match fetched {
            Ok(messages) => messages,
            Err(error) => return failure(error),
        };
        let names = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::RowDescription(columns) => Some(Arc::clone(columns)),
            _ => None,
        });
        let shown = |name: &str| Shown { name: name.to_owned(), oid: 0, modifier: -1 };
        let columns = names.iter().flat_map(|columns| columns.iter()).map(|c| shown(c.name()));
        Ok(Answer::Rows(columns.collect(), rows_of(&messages)))
    })
}

/// What COPY writes, each line cut at its commas.
fn by_copy(client: &mut Client, sql: &str) -> Result<Answer> {
    client.with(async |client| {
        let stream = match client.copy_out(&format!("copy ({sql}) to stdout (format csv)")).await {
            Ok(stream) => stream,
            Err(error) => return failure(error),
        };
        let written: Vec<bytes::Bytes> = match stream.try_collect().await {
            Ok(written) => written,
            Err(error) => return failure(error),
        };
        let text = String::from_utf8(written.concat())?;
        let cut = |line: &str| line.split(',').map(|part| Some(part.to_owned())).collect();
        Ok(Answer::Rows(Vec::new(), text.lines().map(cut).collect()))
    })
}

/// How a statement is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Prepared,
    Cursor,
    Copy,
}

impl Both {
    /// What differs, and whether PostgreSQL gave rows. Nothing is compared where it gives up.
    fn compare(&mut self, statement: &Statement, way: Way) -> Result<(Option<String>, bool)> {
        let (postgres, otus, sql) = (&mut self.postgres, &mut self.otus, &statement.sql);
        let (wanted, found) = match way {
            Way::Prepared => {
                let (wanted_types, wanted) = extended(postgres, statement)?;
                let (types, found) = extended(otus, statement)?;
                if wanted_types != types && matches!(wanted, Answer::Rows(..)) {
                    let words =
                        format!("parameters are {types:?}, not {wanted_types:?}; {found:?}");
                    return Ok((Some(words.chars().take(400).collect()), true));
                }
                (wanted, found)
            }
            Way::Plain => (postgres.answer(sql)?, otus.answer(sql)?),
            Way::Cursor => (by_cursor(postgres, sql)?, by_cursor(otus, sql)?),
            Way::Copy => (by_copy(postgres, sql)?, by_copy(otus, sql)?),
        };
        match &wanted {
            Answer::Failure(state, _) if UNASKED.contains(&state.as_str()) => Ok((None, false)),
            answer => {
                let given = matches!(answer, Answer::Rows(..));
                Ok((difference(statement, &wanted, &found), given))
            }
        }
    }
}

#[test]
fn statements_at_random_are_answered_as_by_postgres() -> Result<()> {
    let reference = need!(Reference::shared());
    reference.database("any")?;
    let (root, ann) = (password("eraser")?, password("pencil")?);
    let users =
        format!("[users.root]\n{root}roles = \"admin\"\n[users.ann]\n{ann}roles = \"own\"\n");
    let otus = Setup::tables(format!("{users}{TABLE}")).start()?;
    let connect = |user: &str, password: &str| {
        Client::connect_as(otus.postgres_port(), "otus", user, password)
    };
    let mut all = Both {
        postgres: Client::connect_to(reference.port(), "any")?,
        otus: connect("root", "eraser")?,
    };
    let mut own = Both {
        postgres: Client::connect_to(reference.port(), "any")?,
        otus: connect("ann", "pencil")?,
    };
    all.postgres.rows(CREATE)?;
    all.postgres.rows(ROWS)?;
    all.postgres.rows("analyze")?;
    own.postgres.rows("set search_path = ann")?;
    all.otus.rows("set otus.insert_wait = 'visible'; set timezone = 'UTC'")?;
    own.otus.rows("set timezone = 'UTC'")?;
    all.otus.rows(ROWS)?;
    for both in [&all, &own] {
        both.postgres.rows("set statement_timeout = '4s'")?;
        both.otus.rows("set statement_timeout = '30s'")?;
    }

    let (seed, number) =
        (variable("OTUS_TEST_SEED", 1)?, variable("OTUS_TEST_STATEMENTS", STATEMENTS)?);
    let mut grammar = Grammar::new(seed, "moves", columns());
    let (mut words, mut differing, mut answered, mut refused) = (String::new(), 0, 0, 0);
    for n in 0..number {
        let way = match n % 9 {
            2 | 5 | 8 => Way::Prepared,
            1 => Way::Cursor,
            4 => Way::Copy,
            _ => Way::Plain,
        };
        let statement = if way == Way::Prepared { grammar.prepared() } else { grammar.plain() };
        let both = if n % 4 == 1 { &mut own } else { &mut all };
        let (difference, given) = both.compare(&statement, way)?;
        answered += u64::from(given);
        if difference.as_ref().is_some_and(|told| REFUSALS.iter().any(|r| told.starts_with(r))) {
            refused += 1;
        } else if let Some(difference) = difference {
            differing += 1;
            let (sql, values) = (&statement.sql, &statement.parameters);
            writeln!(words, "{n} ({way:?}): {sql}\n    {values:?}\n    {difference}")?;
        }
    }
    anyhow::ensure!(differing == 0, "{differing} of {number} differ (seed {seed}):\n{words}");
    anyhow::ensure!(refused * REFUSED_MAX <= number, "{refused} of {number} are refused");
    anyhow::ensure!(answered * 100 >= number * ANSWERED_MIN, "PostgreSQL answers {answered} only");
    Ok(())
}
