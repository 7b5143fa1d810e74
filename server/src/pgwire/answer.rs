//! Runs statements of a session and writes their outcomes; the simple protocol is just that.

use otus_sql::{Outcome, Report, Session};
use pgwire::messages::response::{CommandComplete, EmptyQueryResponse};
use pgwire::messages::startup::ParameterStatus;

use super::copy;
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
}

impl Answer {
    pub(super) fn new(session: Session, outbox: Outbox) -> Self {
        Self { session, outbox }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The zone in which instants are shown now.
    pub(super) fn zone(&self) -> Zone {
        Zone::new(&self.session.setting("TimeZone"))
    }

    /// All statements of a text, one after another, until one fails.
    pub(super) async fn simple(
        &mut self,
        extended: &mut Extended,
        sql: &str,
    ) -> Result<(), WireError> {
        let statements = self.session.parse(sql)?;
        if statements.is_empty() {
            return self.outbox.put(&EmptyQueryResponse::new());
        }
        for statement in &statements {
            check_transaction(self, statement)?;
            if extended.deallocate(statement.text()) {
                self.complete("DEALLOCATE".to_owned())?;
                continue;
            }
            match self.session.execute(statement, Vec::new()).await? {
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
                other => self.rowless(other).await?,
            }
        }
        Ok(())
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
            Outcome::Rows { .. } => Err(WireError::error("XX000", "rows took the wrong way")),
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
