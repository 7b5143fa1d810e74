//! Runs statements of a session and writes their outcomes; the simple protocol is just that.

use std::collections::VecDeque;

use otus_sql::{CopyIn, Outcome, Report, Session, Statement};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};
use pgwire::messages::startup::ParameterStatus;

use super::copy;
use super::copy_in::Receiving;
use super::encode::Zone;
use super::error::{WireError, notice};
use super::extended::{Extended, check_transaction};
use super::io::Outbox;
use super::rows::{Cursor, data_row};
use super::types::row_description;

/// A session and the way to its client.
pub(super) struct Answer {
    session: Session,
    outbox: Outbox,
    /// Statements of a text that are still to be run.
    waiting: VecDeque<Statement>,
    /// Whether they are an implicit transaction.
    holds: bool,
}

impl Answer {
    pub(super) fn new(session: Session, outbox: Outbox) -> Self {
        Self { session, outbox, waiting: VecDeque::new(), holds: false }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The zone and the styles in which values are shown now.
    pub(super) fn zone(&self) -> Zone {
        let setting = |name| self.session.setting(name);
        Zone::new(&setting("TimeZone"))
            .with_styles(&setting("IntervalStyle"), &setting("bytea_output"))
            .with_float_digits(&setting("extra_float_digits"))
    }

    /// All statements of a text, one after another, until one fails or takes data. Several are an implicit
    /// transaction.
    pub(super) async fn simple(
        &mut self,
        extended: &mut Extended,
        sql: &str,
    ) -> Result<Option<Receiving>, WireError> {
        let statements = self.session.parse(sql)?;
        if statements.is_empty() {
            self.outbox.put(&EmptyQueryResponse::new())?;
            return Ok(None);
        }
        self.holds = statements.len() > 1 && self.session.hold();
        self.waiting = statements.into();
        let result = self.go_on(extended).await;
        self.settle(result).await
    }

    /// The rest of the text after a COPY took its data.
    pub(super) async fn after_copy(
        &mut self,
        extended: &mut Extended,
    ) -> Result<Option<Receiving>, WireError> {
        let result = self.go_on(extended).await;
        self.settle(result).await
    }

    /// Forgets what was still to be run, and what that text would have written.
    pub(super) async fn give_up(&mut self) {
        self.waiting.clear();
        if std::mem::take(&mut self.holds) {
            let _nothing_is_written = self.session.let_go(false).await;
        }
    }

    async fn settle(
        &mut self,
        result: Result<Option<Receiving>, WireError>,
    ) -> Result<Option<Receiving>, WireError> {
        match result {
            Ok(None) => {
                if std::mem::take(&mut self.holds) {
                    self.session.let_go(true).await?;
                }
                Ok(None)
            }
            Ok(receiving) => Ok(receiving),
            Err(e) => {
                self.give_up().await;
                Err(e)
            }
        }
    }

    async fn go_on(&mut self, extended: &mut Extended) -> Result<Option<Receiving>, WireError> {
        while let Some(statement) = self.waiting.pop_front() {
            check_transaction(self, &statement)?;
            if extended.deallocate(statement.text()) {
                self.complete("DEALLOCATE".to_owned())?;
                continue;
            }
            if extended.travel(self, &statement, None).await? {
                continue;
            }
            match self.session.execute(&statement, Vec::new()).await? {
                Outcome::Rows { schema, stream, tag, .. } => {
                    self.outbox.put(&row_description(&schema, &[]))?;
                    let zone = self.zone();
                    let sent = Cursor::new(schema, stream)
                        .send(&mut self.outbox, usize::MAX, |columns, row, out| {
                            data_row(columns, row, &[], &zone, out)
                        })
                        .await?;
                    self.complete(tag.complete(sent.rows as u64))?;
                }
                Outcome::CopyIn(copy) => return self.receive(copy).await.map(Some),
                other => self.rowless(other).await?,
            }
        }
        Ok(None)
    }

    /// Asks for the data of a COPY.
    pub(super) async fn receive(&mut self, copy: Box<CopyIn>) -> Result<Receiving, WireError> {
        let receiving = Receiving::new(copy, self.zone());
        self.outbox.put(&receiving.response()?)?;
        self.outbox.flush().await?;
        Ok(receiving)
    }

    /// Writes an outcome that is the same in both protocols.
    pub(super) async fn rowless(&mut self, outcome: Outcome) -> Result<(), WireError> {
        match outcome {
            Outcome::CopyOut { schema, stream, format } => {
                let zone = self.zone();
                let cursor = Cursor::new(schema, stream);
                let rows = copy::send(cursor, &format, &zone, &mut self.outbox).await?;
                self.complete(format!("COPY {rows}"))
            }
            Outcome::Command { tag } => self.complete(tag),
            Outcome::Empty => self.outbox.put(&EmptyQueryResponse::new()),
            Outcome::Rows { .. } | Outcome::CopyIn(_) => {
                Err(WireError::error("XX000", "rows took the wrong way"))
            }
        }
    }

    /// Ends the answer to a statement, after what the session has to tell.
    pub(super) fn complete(&mut self, tag: String) -> Result<(), WireError> {
        self.reports()?;
        self.outbox.put(&CommandComplete::new(tag))
    }

    /// Tells of notices and changed settings.
    pub(super) fn reports(&mut self) -> Result<(), WireError> {
        for report in self.session.take_reports() {
            match report {
                Report::Parameter { name, value } => {
                    self.outbox.put(&ParameterStatus::new(name, value))?;
                }
                Report::Notice { severity, sqlstate, message } => {
                    self.outbox.put(&notice(sqlstate, severity, &message))?;
                }
            }
        }
        Ok(())
    }
}
