//! One connection: reads its requests in order, answers each under watch of everything that may stop it
//! (a cancel request, the client going away, the end of the server), and keeps the protocol's rules about
//! errors: after one, extended requests are skipped up to Sync.

use pgwire::messages::extendedquery::{BindComplete, CloseComplete, ParseComplete};
use pgwire::messages::response::{ReadyForQuery, TransactionStatus as WireStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use bytes::Bytes;
use otus_sql::{Session, TransactionStatus};

use super::answer::Answer;
use super::cancel::Registered;
use super::copy_in::Receiving;
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
    /// A COPY that takes data.
    copying: Option<Copying>,
}

/// A COPY that takes data.
struct Copying {
    receiving: Receiving,
    /// Whether it came by the simple protocol.
    simple: bool,
    deadline: Option<Instant>,
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
        let work = Work {
            answer: Answer::new(session, outbox),
            extended: Extended::default(),
            copying: None,
        };
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
            let next = match &self.work.copying {
                Some(copying) => {
                    let (until, simple) = (copying.deadline, copying.simple);
                    match self.next_of_copy(stop, until).await {
                        Err(e) if !e.is_fatal() => {
                            skipping = !simple;
                            self.work.fail(&e, !simple).await?;
                            continue;
                        }
                        next => next?,
                    }
                }
                None => self.next(stop).await?,
            };
            let Some((tag, body)) = next else { return Ok(()) };
            let request = Request::decode(tag, body);
            let extended = match (&self.work.copying, &request) {
                (Some(copying), _) => !copying.simple,
                (None, Ok(request)) => request.is_extended(),
                (None, Err(_)) => tag != b'Q',
            };
            match request {
                Ok(Request::Terminate) => return Ok(()),
                Ok(Request::Sync) => skipping = false,
                Ok(Request::CopyData(_) | Request::CopyDone | Request::CopyFail(_))
                    if self.work.copying.is_none() =>
                {
                    continue;
                }
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

    /// The next message; none at the end of the conversation.
    async fn next(&mut self, stop: &Stop) -> Result<Option<(u8, Bytes)>, WireError> {
        let answer = &self.work.answer;
        let idle = answer.session().idle_timeout();
        let in_transaction = answer.session().transaction_status() != TransactionStatus::Idle;
        let frame = tokio::select! {
            biased;
            () = stop.graceful.cancelled() => return Err(shut_down()),
            () = self.registered.terminated() => return Err(shut_down()),
            frame = self.inbox.frame() => frame?,
            () = sleep_until(idle.map(|idle| Instant::now() + idle)) => {
                return Err(match in_transaction {
                    true => WireError::fatal(
                        "25P03",
                        "terminating connection due to idle-in-transaction timeout",
                    ),
                    false => WireError::fatal(
                        "57P05",
                        "terminating connection due to idle-session timeout",
                    ),
                });
            }
        };
        Ok(frame)
    }

    /// The next message while a COPY waits for data: that statement runs, and can be cancelled.
    async fn next_of_copy(
        &mut self,
        stop: &Stop,
        until: Option<Instant>,
    ) -> Result<Option<(u8, Bytes)>, WireError> {
        let running = self.registered.begin();
        tokio::select! {
            biased;
            () = running.cancelled() => Err(cancelled()),
            () = stop.forced.cancelled() => Err(shut_down()),
            () = self.registered.terminated() => Err(shut_down()),
            frame = self.inbox.frame() => frame,
            () = sleep_until(until) => {
                Err(WireError::error("57014", "canceling statement due to statement timeout"))
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
                Err(cancelled())
            }
            () = stop.forced.cancelled() => Err(shut_down()),
            () = self.registered.terminated() => Err(shut_down()),
            () = self.inbox.gone() => Ok(Next::End),
            result = self.work.handle(request) => result.map(|()| Next::Continue),
        }
    }
}

fn cancelled() -> WireError {
    WireError::error("57014", "canceling statement due to user request")
}

/// Sleeps for ever without a time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn shut_down() -> WireError {
    WireError::fatal("57P01", "terminating connection due to administrator command")
}

impl Work {
    async fn handle(&mut self, request: Request) -> Result<(), WireError> {
        if self.copying.is_some() {
            return self.copy(request).await;
        }
        let Self { answer, extended, .. } = self;
        match request {
            Request::Query(sql) => {
                extended.forget_unnamed();
                let receiving = answer.simple(extended, &sql).await?;
                return self.received(receiving, true).await;
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
                if let Some(receiving) = extended.execute(answer, &portal, rows_max).await? {
                    return self.received(Some(receiving), false).await;
                }
            }
            Request::Flush => answer.outbox().flush().await?,
            Request::Sync => return self.ready().await,
            // These are dealt with where requests are read.
            Request::Terminate
            | Request::CopyData(_)
            | Request::CopyDone
            | Request::CopyFail(_) => {}
        }
        // A pipeline of requests must not pile up answers without bound.
        if self.answer.outbox().is_full() {
            self.answer.outbox().flush().await?;
        }
        Ok(())
    }

    /// After statements that perhaps wait for data.
    async fn received(
        &mut self,
        receiving: Option<Receiving>,
        simple: bool,
    ) -> Result<(), WireError> {
        let timeout = self.answer.session().statement_timeout();
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        self.copying = receiving.map(|receiving| Copying { receiving, simple, deadline });
        if simple && self.copying.is_none() {
            return self.ready().await;
        }
        Ok(())
    }

    /// A message within a COPY.
    async fn copy(&mut self, request: Request) -> Result<(), WireError> {
        let Some(copying) = &mut self.copying else { return Ok(()) };
        let session = self.answer.session();
        match request {
            Request::CopyData(data) => copying.receiving.data(session, &data).await,
            // Clients may send them ahead.
            Request::Flush | Request::Sync => Ok(()),
            Request::CopyDone => {
                let Some(Copying { receiving, simple, .. }) = self.copying.take() else {
                    return Ok(());
                };
                let finished = receiving.finish(session).await;
                let tag = match finished {
                    Ok(tag) => tag,
                    Err(e) => {
                        self.answer.give_up().await;
                        return Err(e);
                    }
                };
                self.answer.complete(tag)?;
                if !simple {
                    return Ok(());
                }
                let receiving = self.answer.after_copy(&mut self.extended).await?;
                self.received(receiving, true).await
            }
            Request::CopyFail(reason) => {
                Err(WireError::error("57014", format!("COPY from stdin failed: {reason}")))
            }
            _ => Err(WireError::fatal("08P01", "unexpected message type during COPY from stdin")),
        }
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
        self.answer.session().rest();
        let out = self.answer.outbox();
        out.put(&ReadyForQuery::new(status))?;
        out.flush().await
    }

    /// Tells of an error that the connection survives.
    async fn fail(&mut self, e: &WireError, extended: bool) -> Result<(), WireError> {
        let e = match self.copying.take() {
            Some(mut copying) => &copying.receiving.failed(self.answer.session(), e.clone()),
            None => e,
        };
        tracing::debug!(sqlstate = %e.sqlstate, message = %e.message, "statement failed");
        self.answer.give_up().await;
        self.answer.session().fail();
        self.answer.reports()?;
        self.answer.outbox().put(&e.response())?;
        if extended {
            return self.answer.outbox().flush().await;
        }
        self.ready().await
    }
}
