//! One connection: reads its requests in order, answers each under watch of everything that may stop it
//! (a cancel request, the client going away, the end of the server), and keeps the protocol's rules about
//! errors: after one, extended requests are skipped up to Sync.

use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{ReadyForQuery, TransactionStatus as WireStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use tokio_util::sync::CancellationToken;

use otus_sql::{Session, TransactionStatus};

use super::answer::Answer;
use super::cancel::Registered;
use super::error::WireError;
use super::extended::Extended;
use super::frame::{Request, Target};
use super::io::{Inbox, Outbox};

/// How the server asks its connections to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop {
    /// At the next pause between requests.
    pub(super) graceful: CancellationToken,
    /// Now, in the middle of a statement.
    pub(super) forced: CancellationToken,
}

/// A client after its startup dialogue.
pub(super) struct Connection {
    inbox: Inbox,
    registered: Registered,
    work: Work,
}

/// What answers requests, apart from what watches them.
struct Work {
    answer: Answer,
    extended: Extended,
}

/// Whether the conversation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

impl Connection {
    pub(super) fn new(
        inbox: Inbox,
        outbox: Outbox,
        session: Session,
        registered: Registered,
    ) -> Self {
        let work = Work { answer: Answer::new(session, outbox), extended: Extended::default() };
        Self { inbox, registered, work }
    }

    /// Answers requests until the client or the server ends the conversation.
    pub(super) async fn run(mut self, stop: &Stop) -> Result<(), WireError> {
        match Box::pin(self.converse(stop)).await {
            Err(e) => self.work.answer.outbox().farewell(e).await,
            Ok(()) => Ok(()),
        }
    }

    async fn converse(&mut self, stop: &Stop) -> Result<(), WireError> {
        self.greet().await?;
        let mut skipping = false;
        loop {
            let frame = tokio::select! {
                biased;
                () = stop.graceful.cancelled() => return Err(shut_down()),
                frame = self.inbox.frame() => frame?,
            };
            let Some((tag, body)) = frame else { return Ok(()) };
            let request = Request::decode(tag, body);
            let extended = match &request {
                Ok(request) => request.is_extended(),
                Err(_) => tag != b'Q',
            };
            match request {
                Ok(Request::Terminate) => return Ok(()),
                Ok(Request::Sync) => skipping = false,
                Ok(Request::CopyInput) => continue,
                _ if skipping => continue,
                _ => {}
            }
            match self.watched(stop, request).await {
                Ok(Next::Continue) => {}
                Ok(Next::End) => return Ok(()),
                Err(e) if e.is_fatal() => return Err(e),
                Err(e) => {
                    skipping = extended;
                    self.work.fail(&e, extended).await?;
                }
            }
        }
    }

    async fn greet(&mut self) -> Result<(), WireError> {
        let secret = self.registered.secret();
        let key = match <[u8; 4]>::try_from(&secret[..]) {
            Ok(short) => SecretKey::I32(i32::from_be_bytes(short)),
            Err(_) => SecretKey::Bytes(secret.clone()),
        };
        let answer = &mut self.work.answer;
        let settings = answer.session().reported_settings();
        let out = answer.outbox();
        out.put(&Authentication::Ok)?;
        for (name, value) in settings {
            out.put(&ParameterStatus::new(name, value))?;
        }
        out.put(&BackendKeyData::new(self.registered.pid(), key))?;
        answer.reports()?;
        self.work.ready().await
    }

    /// Answers one request, unless something stops it.
    async fn watched(
        &mut self,
        stop: &Stop,
        request: Result<Request, WireError>,
    ) -> Result<Next, WireError> {
        let request = request?;
        let running = self.registered.begin();
        tokio::select! {
            biased;
            () = running.cancelled() => {
                Err(WireError::error("57014", "canceling statement due to user request"))
            }
            () = stop.forced.cancelled() => Err(shut_down()),
            () = self.inbox.gone() => Ok(Next::End),
            result = self.work.handle(request) => result.map(|()| Next::Continue),
        }
    }
}

fn shut_down() -> WireError {
    WireError::fatal("57P01", "terminating connection due to administrator command")
}

impl Work {
    async fn handle(&mut self, request: Request) -> Result<(), WireError> {
        let Self { answer, extended } = self;
        match request {
            Request::Query(sql) => {
                extended.forget_unnamed();
                answer.simple(extended, &sql).await?;
                return self.ready().await;
            }
            Request::Parse { name, query, types } => {
                extended.parse(answer, name, &query, &types).await?;
                answer.outbox().put(&ParseComplete::new())?;
            }
            Request::Bind(bind) => {
                extended.bind(answer, bind)?;
                answer.outbox().put(&BindComplete::new())?;
            }
            Request::Describe(Target::Statement, name) => {
                extended.describe_statement(answer, &name)?;
            }
            Request::Describe(Target::Portal, name) => {
                extended.describe_portal(answer, &name).await?;
            }
            Request::Close(target, name) => {
                extended.close(target, &name);
                answer.outbox().put(&CloseComplete::new())?;
            }
            Request::Execute { portal, rows_max } => {
                extended.execute(answer, &portal, rows_max).await?;
            }
            Request::Flush => answer.outbox().flush().await?,
            Request::Sync => return self.ready().await,
            // Both are dealt with where requests are read.
            Request::Terminate | Request::CopyInput => {}
        }
        // A pipeline of requests must not pile up answers without bound.
        if self.answer.outbox().is_full() {
            self.answer.outbox().flush().await?;
        }
        Ok(())
    }

    /// Ends a cycle: the client may send again.
    async fn ready(&mut self) -> Result<(), WireError> {
        let status = match self.answer.session().transaction_status() {
            TransactionStatus::Idle => {
                // Portals live as long as their transaction.
                self.extended.close_portals();
                WireStatus::Idle
            }
            TransactionStatus::Open => WireStatus::Transaction,
            TransactionStatus::Failed => WireStatus::Error,
        };
        let out = self.answer.outbox();
        out.put(&ReadyForQuery::new(status))?;
        out.flush().await
    }

    /// Tells of an error that the connection survives.
    async fn fail(&mut self, e: &WireError, extended: bool) -> Result<(), WireError> {
        tracing::debug!(sqlstate = %e.sqlstate, message = %e.message, "statement failed");
        self.answer.session().fail();
        self.answer.reports()?;
        self.answer.outbox().put(&e.response())?;
        if extended {
            return self.answer.outbox().flush().await;
        }
        self.ready().await
    }
}
