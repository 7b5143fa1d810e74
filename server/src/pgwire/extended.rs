//! The extended protocol: statements parsed once, bound to parameters as portals, executed whole or some
//! rows at a time. A suspended portal keeps its stream; nothing is collected.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use otus_engine::snapshot::Snapshot;
use otus_sql::{Journey, Outcome, Parameter, RowTag, Statement, TransactionStatus, Travel};
use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::PortalSuspended;
use pgwire::messages::response::EmptyQueryResponse;
use tokio_postgres::types::Type;

use super::answer::Answer;
use super::copy_in::Receiving;
use super::encode::Zone;
use super::error::WireError;
use super::frame::{Bind, Format, Target};
use super::limits::{PORTALS_BYTES_MAX, PORTALS_MAX, STATEMENTS_BYTES_MAX, STATEMENTS_MAX};
use super::params;
use super::rows::{Cursor, Sent, data_row};
use super::types::{parameter_field, pg_type, row_description};

/// Prepared statements and portals of a connection, by name; the unnamed ones have the empty name.
#[derive(Default)]
pub(super) struct Extended {
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
}

/// A statement that has been planned once, to know its types.
struct Prepared {
    /// None for a text without a statement.
    statement: Option<Statement>,
    parameters: Vec<Type>,
    /// Columns of the answer; none if it has no rows.
    schema: Option<SchemaRef>,
    /// Length of its name and text.
    bytes: usize,
}

/// A statement with its parameters.
struct Portal {
    prepared: Arc<Prepared>,
    parameters: Vec<Parameter>,
    formats: Vec<Format>,
    state: PortalState,
    /// Length of its name and of its parameters as they came.
    bytes: usize,
}

enum PortalState {
    Ready,
    /// Some rows are sent, more may come.
    Suspended(Box<Suspended>),
    Done,
}

struct Suspended {
    cursor: Cursor,
    tag: RowTag,
    zone: Zone,
    snapshot: Option<Arc<Snapshot>>,
}

impl Extended {
    /// A simple query ends the life of what has no name.
    pub(super) fn forget_unnamed(&mut self) {
        self.statements.remove("");
        self.portals.remove("");
    }

    /// The end of a transaction ends the life of portals.
    pub(super) fn close_portals(&mut self) {
        self.portals.clear();
    }

    /// Statements prepared by message and by SQL have one space of names: what SQL gives back is given
    /// back here too. Whether that was all there is to do.
    pub(super) fn deallocate(&mut self, statement: &str) -> bool {
        let mut words = statement.split_whitespace();
        let mut next = || words.next().unwrap_or_default();
        let (verb, mut name) = (next(), next());
        if verb.eq_ignore_ascii_case("discard") && name.eq_ignore_ascii_case("all") {
            self.statements.clear();
        }
        if !verb.eq_ignore_ascii_case("deallocate") {
            return false;
        }
        if name.eq_ignore_ascii_case("prepare") {
            name = next();
        }
        if name.eq_ignore_ascii_case("all") {
            self.statements.clear();
        }
        let name = match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => name.to_lowercase(),
        };
        self.statements.remove(&name).is_some()
    }

    pub(super) fn close(&mut self, target: Target, name: &str) {
        match target {
            Target::Statement => {
                if let Some(prepared) = self.statements.remove(name) {
                    self.portals.retain(|_, portal| !Arc::ptr_eq(&portal.prepared, &prepared));
                }
            }
            Target::Portal => drop(self.portals.remove(name)),
        }
    }

    pub(super) async fn parse(
        &mut self,
        answer: &Answer,
        name: String,
        sql: &str,
        oids: &[u32],
    ) -> Result<(), WireError> {
        if !name.is_empty() {
            if self.statements.contains_key(&name) {
                let message = format!("prepared statement {name:?} already exists");
                return Err(WireError::error("42P05", message));
            }
            if self.statements.len() >= STATEMENTS_MAX {
                return Err(too_many("prepared statements"));
            }
        }
        if name.is_empty() {
            self.statements.remove("");
        }
        let bytes = name.len() + sql.len();
        let held: usize = self.statements.values().map(|prepared| prepared.bytes).sum();
        if held + bytes > STATEMENTS_BYTES_MAX {
            return Err(too_many("bytes of prepared statements"));
        }
        let mut statements = answer.session().parse(sql)?;
        if statements.len() > 1 {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(WireError::error("42601", message));
        }
        let prepared = match statements.pop() {
            None => Prepared { statement: None, parameters: Vec::new(), schema: None, bytes: 0 },
            Some(statement) => match self.journey_of(&statement) {
                Some(prepared) => Prepared { statement: Some(statement), ..prepared },
                None => prepare(answer, statement, oids).await?,
            },
        };
        self.statements.insert(name, Arc::new(Prepared { bytes, ..prepared }));
        Ok(())
    }

    pub(super) fn bind(&mut self, answer: &Answer, bind: Bind) -> Result<(), WireError> {
        let prepared = Arc::clone(self.statement(&bind.statement)?);
        if let Some(statement) = &prepared.statement {
            check_transaction(answer, statement)?;
        }
        if !bind.portal.is_empty() {
            if self.portals.contains_key(&bind.portal) {
                let message = format!("cursor {:?} already exists", bind.portal);
                return Err(WireError::error("42P03", message));
            }
            if self.portals.len() >= PORTALS_MAX {
                return Err(too_many("portals"));
            }
        }
        if bind.portal.is_empty() {
            self.portals.remove("");
        }
        let values = bind.parameters.iter().flatten();
        let bytes = bind.portal.len() + values.map(|value| value.len()).sum::<usize>();
        let held: usize = self.portals.values().map(|portal| portal.bytes).sum();
        if held + bytes > PORTALS_BYTES_MAX {
            return Err(too_many("bytes of parameters"));
        }
        let (given, wanted) = (bind.parameters.len(), prepared.parameters.len());
        if given != wanted {
            let message = format!(
                "bind message supplies {given} parameters, but prepared statement {:?} requires {wanted}",
                bind.statement
            );
            return Err(WireError::error("08P01", message));
        }
        if bind.parameter_formats.len() > 1 && bind.parameter_formats.len() != given {
            let message = "bind message has not as many formats as parameters";
            return Err(WireError::error("08P01", message));
        }
        let columns = prepared.schema.as_ref().map_or(0, |schema| schema.fields().len());
        if bind.result_formats.len() > 1 && bind.result_formats.len() != columns {
            let message = "bind message has not as many result formats as the query has columns";
            return Err(WireError::error("08P01", message));
        }
        let zone = answer.zone();
        let mut parameters = Vec::with_capacity(given);
        for (index, value) in bind.parameters.iter().enumerate() {
            let format = Format::of(&bind.parameter_formats, index);
            let value =
                params::decode(&prepared.parameters[index], format, value.as_deref(), &zone);
            let value = value.map_err(|mut e| {
                e.context = Some(context(&bind.portal, index).into());
                e
            })?;
            parameters.push(match parameter_field(&prepared.parameters[index]) {
                Some(field) => Parameter::of(value, &field),
                None => value.into(),
            });
        }
        let portal = Portal {
            prepared,
            parameters,
            formats: bind.result_formats,
            state: PortalState::Ready,
            bytes,
        };
        self.portals.insert(bind.portal, portal);
        Ok(())
    }

    pub(super) fn describe_statement(
        &self,
        answer: &mut Answer,
        name: &str,
    ) -> Result<(), WireError> {
        let prepared = self.statement(name)?;
        let oids = prepared.parameters.iter().map(Type::oid).collect();
        answer.outbox().put(&ParameterDescription::new(oids))?;
        describe(answer, prepared.schema.as_ref(), &[])
    }

    pub(super) async fn describe_portal(
        &mut self,
        answer: &mut Answer,
        name: &str,
    ) -> Result<(), WireError> {
        if let Some(portal) = self.portals.get(name) {
            return describe(answer, portal.prepared.schema.as_ref(), &portal.formats);
        }
        // A cursor declared by SQL is a portal too.
        let fetch = format!("FETCH 1 FROM \"{}\"", name.replace('"', "\"\""));
        let statements = answer.session().parse(&fetch)?;
        let Some(fetch) = statements.first() else { return Err(no_portal(name)) };
        let described = answer.session().describe(fetch, &[]).await.map_err(|_| no_portal(name))?;
        describe(answer, described.schema.as_ref(), &[])
    }

    /// Runs a portal, or takes it up where it stopped.
    pub(super) async fn execute(
        &mut self,
        answer: &mut Answer,
        name: &str,
        rows_max: usize,
    ) -> Result<Option<Receiving>, WireError> {
        // Taken out: whatever goes wrong ends the portal, and being dropped ends its work.
        let Some(mut portal) = self.portals.remove(name) else { return Err(no_portal(name)) };
        let Some(statement) = &portal.prepared.statement else {
            answer.outbox().put(&EmptyQueryResponse::new())?;
            self.portals.insert(name.to_owned(), portal);
            return Ok(None);
        };
        check_transaction(answer, statement)?;
        let state = std::mem::replace(&mut portal.state, PortalState::Done);
        let mut rest = match state {
            PortalState::Suspended(rest) => {
                if let Some(snapshot) = &rest.snapshot {
                    answer.session().check_age(snapshot)?;
                }
                rest
            }
            PortalState::Done => {
                let Some(tag) = statement.row_tag() else {
                    let message = format!("portal {name:?} cannot be run again");
                    return Err(WireError::error("55000", message));
                };
                answer.complete(tag.complete(0))?;
                self.portals.insert(name.to_owned(), portal);
                return Ok(None);
            }
            PortalState::Ready => {
                let parameters = std::mem::take(&mut portal.parameters);
                let is_given_back = self.deallocate(statement.text());
                if is_given_back {
                    answer.complete("DEALLOCATE".to_owned())?;
                }
                if is_given_back || self.travel(answer, statement, Some(&portal.formats)).await? {
                    self.portals.insert(name.to_owned(), portal);
                    return Ok(None);
                }
                match answer.session().execute_with(statement, parameters).await? {
                    Outcome::Rows { schema, stream, tag, snapshot } => {
                        check_schema(portal.prepared.schema.as_ref(), &schema)?;
                        let (cursor, zone) = (Cursor::new(schema, stream), answer.zone());
                        Box::new(Suspended { cursor, tag, zone, snapshot })
                    }
                    Outcome::CopyIn(copy) => {
                        let receiving = answer.receive(copy).await?;
                        self.portals.insert(name.to_owned(), portal);
                        return Ok(Some(receiving));
                    }
                    other => {
                        answer.rowless(other).await?;
                        self.portals.insert(name.to_owned(), portal);
                        return Ok(None);
                    }
                }
            }
        };
        let Suspended { cursor, tag, zone, .. } = rest.as_mut();
        let sent = cursor
            .send(answer.outbox(), rows_max, |columns, row, out| {
                data_row(columns, row, &portal.formats, zone, out)
            })
            .await?;
        if sent.suspended {
            answer.reports()?;
            answer.outbox().put(&PortalSuspended::new())?;
            portal.state = PortalState::Suspended(rest);
        } else {
            answer.complete(tag.complete(sent.rows as u64))?;
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(None)
    }

    /// What FETCH, MOVE or CLOSE gives if it names a portal.
    fn journey_of(&self, statement: &Statement) -> Option<Prepared> {
        let (cursor, journey) = statement.journey()?;
        let portal = self.portals.get(cursor)?;
        let schema = match journey {
            Journey::Fetch(_) => portal.prepared.schema.clone(),
            Journey::Move(_) | Journey::Close => None,
        };
        Some(Prepared { statement: None, parameters: Vec::new(), schema, bytes: 0 })
    }

    /// Runs a FETCH, MOVE or CLOSE that names a portal, which to clients is a cursor; whether it was one. Without
    /// `formats` the rows are described first.
    pub(super) async fn travel(
        &mut self,
        answer: &mut Answer,
        statement: &Statement,
        formats: Option<&[Format]>,
    ) -> Result<bool, WireError> {
        let Some((name, journey)) = statement.journey() else { return Ok(false) };
        let Some(mut portal) = self.portals.remove(name) else { return Ok(false) };
        let (is_fetch, travel) = match journey {
            Journey::Fetch(travel) => (true, travel),
            Journey::Move(travel) => (false, travel),
            Journey::Close => {
                answer.complete("CLOSE CURSOR".to_owned())?;
                return Ok(true);
            }
        };
        let rows = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (skipped, rows_max) = match travel {
            Travel::Forward(n) => (0, n.map_or(usize::MAX, rows)),
            Travel::Relative(n) if n > 0 => (rows(n.unsigned_abs()) - 1, 1),
            _ => {
                return Err(WireError::error("55000", "cursor can only scan forward")
                    .with_hint("Declare it with SCROLL option to enable backward scan."));
            }
        };
        let verb = if is_fetch { "FETCH" } else { "MOVE" };
        if let (true, None, Some(schema)) = (is_fetch, formats, &portal.prepared.schema) {
            answer.outbox().put(&row_description(schema, &[]))?;
        }
        let Some(mut rest) = open(answer, &mut portal, name).await? else {
            self.portals.insert(name.to_owned(), portal);
            return answer.complete(format!("{verb} 0")).map(|()| true);
        };
        let Suspended { cursor, zone, .. } = rest.as_mut();
        let passed = cursor.send(answer.outbox(), skipped, |_, _, _| Ok(())).await?;
        let sent = match passed.suspended {
            false => Sent { rows: 0, ..passed },
            true if !is_fetch => cursor.send(answer.outbox(), rows_max, |_, _, _| Ok(())).await?,
            true => {
                let formats = formats.unwrap_or_default();
                let write =
                    |columns: &[_], row, out: &mut _| data_row(columns, row, formats, zone, out);
                cursor.send(answer.outbox(), rows_max, write).await?
            }
        };
        if sent.suspended {
            portal.state = PortalState::Suspended(rest);
        }
        self.portals.insert(name.to_owned(), portal);
        answer.complete(format!("{verb} {}", sent.rows)).map(|()| true)
    }

    fn statement(&self, name: &str) -> Result<&Arc<Prepared>, WireError> {
        self.statements.get(name).ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement {name:?} does not exist")
            };
            WireError::error("26000", message)
        })
    }
}

/// The rows of a portal, from where they stopped; none if it has none to give.
async fn open(
    answer: &Answer,
    portal: &mut Portal,
    name: &str,
) -> Result<Option<Box<Suspended>>, WireError> {
    match std::mem::replace(&mut portal.state, PortalState::Done) {
        PortalState::Suspended(rest) => {
            if let Some(snapshot) = &rest.snapshot {
                answer.session().check_age(snapshot)?;
            }
            Ok(Some(rest))
        }
        PortalState::Ready => {
            let parameters = std::mem::take(&mut portal.parameters);
            let statement = portal.prepared.statement.as_ref();
            let Some(statement) = statement.filter(|s| s.row_tag().is_some()) else {
                return Err(WireError::error("55000", format!("portal {name:?} cannot be run")));
            };
            match answer.session().execute_with(statement, parameters).await? {
                Outcome::Rows { schema, stream, tag, snapshot } => {
                    check_schema(portal.prepared.schema.as_ref(), &schema)?;
                    let (cursor, zone) = (Cursor::new(schema, stream), answer.zone());
                    Ok(Some(Box::new(Suspended { cursor, tag, zone, snapshot })))
                }
                _ => Ok(None),
            }
        }
        PortalState::Done => Ok(None),
    }
}

/// Where a value of a parameter was wrong.
fn context(portal: &str, index: usize) -> String {
    let number = index + 1;
    match portal {
        "" => format!("unnamed portal parameter ${number}"),
        name => format!("portal \"{name}\" parameter ${number}"),
    }
}

fn no_portal(name: &str) -> WireError {
    WireError::error("34000", format!("portal {name:?} does not exist"))
}

fn too_many(what: &str) -> WireError {
    WireError::error("53400", format!("too many {what} in this connection"))
        .with_hint("close those that are not needed any more")
}

/// Plans a statement to learn its types. The client's own types go before what the planner finds.
async fn prepare(
    answer: &Answer,
    statement: Statement,
    oids: &[u32],
) -> Result<Prepared, WireError> {
    check_transaction(answer, &statement)?;
    let given: Vec<Option<Type>> = oids
        .iter()
        .map(|oid| Type::from_oid(*oid).filter(|pg| *pg != Type::UNKNOWN && *oid != 0))
        .collect();
    let hints: Vec<_> = given.iter().map(|pg| pg.as_ref().and_then(parameter_field)).collect();
    let description = answer.session().describe(&statement, &hints).await?;
    let parameters = description
        .params
        .iter()
        .enumerate()
        .map(|(index, found)| match given.get(index) {
            Some(Some(pg)) => pg.clone(),
            _ => pg_type(found),
        })
        .collect();
    let schema = description.schema;
    Ok(Prepared { statement: Some(statement), parameters, schema, bytes: 0 })
}

fn describe(
    answer: &mut Answer,
    schema: Option<&SchemaRef>,
    formats: &[Format],
) -> Result<(), WireError> {
    match schema {
        Some(schema) => answer.outbox().put(&row_description(schema, formats)),
        None => answer.outbox().put(&NoData::new()),
    }
}

/// A failed transaction accepts only its end.
pub(super) fn check_transaction(answer: &Answer, statement: &Statement) -> Result<(), WireError> {
    let failed = answer.session().transaction_status() == TransactionStatus::Failed;
    if failed && !statement.ends_transaction() {
        let message =
            "current transaction is aborted, commands ignored until end of transaction block";
        return Err(WireError::error("25P02", message));
    }
    Ok(())
}

/// The rows must be those that were described: the catalogue may have changed in between.
fn check_schema(described: Option<&SchemaRef>, found: &Schema) -> Result<(), WireError> {
    let types = |schema: &Schema| schema.fields().iter().map(|f| pg_type(f)).collect::<Vec<_>>();
    if described.is_some_and(|described| types(described) == types(found)) {
        return Ok(());
    }
    Err(WireError::error("0A000", "cached plan must not change result type")
        .with_hint("prepare the statement again"))
}
