//! `POST /api/live`: the answer to a pattern, and what changes of it, as server-sent events that are read with `fetch`.
//!
//! ```text
//!  request ─► first answer ─► event
//!     └─► feed, shared by all who ask the same as the same ─► at most one update a second ─► event
//! ```

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use otus_sql::access::Identity;
use otus_sql::pull::{Live, PullResponse, Update};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::caller::{Caller, Key};
use super::error::HttpError;
use super::pull::{Noted, spellings};
use super::{QUERY_BYTES_MAX, Shared, body_bytes};

/// Live requests of a process.
const LIVE_MAX: usize = 512;
/// Shortest time from one update to the next.
const APART: Duration = Duration::from_secs(1);
/// How often answers are looked at when nothing new is visible: the time goes on, too.
const LOOK: Duration = Duration::from_secs(5);
/// How often a client hears that the server is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Updates that a client may lag behind.
const BEHIND_MAX: usize = 16;
/// What a client that comes back sends.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The live requests of a process.
#[derive(Debug)]
pub(super) struct Feeds {
    list: Mutex<HashMap<Question, Weak<Feed>>>,
    places: Arc<Semaphore>,
    closing: CancellationToken,
}

/// What must be equal for two to share a feed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    user: String,
    identity: Option<Arc<Identity>>,
    body: Bytes,
    spellings: (&'static str, &'static str),
}

/// Updates of one question, as long as somebody listens.
#[derive(Debug)]
struct Feed {
    updates: broadcast::Sender<Sent>,
    _stop: DropGuard,
}

/// What is told to all who listen.
#[derive(Debug, Clone)]
enum Sent {
    Update(Arc<Update>),
    /// The question cannot be asked any longer.
    End(Bytes),
}

impl Feeds {
    /// None yet; all end when `closing` is cancelled.
    pub(super) fn new(closing: CancellationToken) -> Self {
        Self { list: Mutex::default(), places: Arc::new(Semaphore::new(LIVE_MAX)), closing }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, HttpError> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!("{LIVE_MAX} live requests are open already");
            let retry = HeaderValue::from_static("10");
            HttpError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
                .with("hint", "close pages that nobody looks at, or ask POST /api/pull")
                .with_header(header::RETRY_AFTER, retry)
        })
    }

    /// The feed of a question, if somebody listens to it.
    fn find(&self, question: &Question) -> Option<Arc<Feed>> {
        self.list.lock().get(question).and_then(Weak::upgrade)
    }

    /// Begins a feed with a request that has given its first answer.
    fn begin(&self, question: Question, live: Live, shared: &Shared) -> Arc<Feed> {
        let (updates, _) = broadcast::channel(BEHIND_MAX);
        let stop = self.closing.child_token();
        let run = follow(live, Arc::clone(shared), updates.clone(), stop.clone());
        tokio::spawn(run);
        let feed = Arc::new(Feed { updates, _stop: stop.drop_guard() });
        let mut list = self.list.lock();
        list.retain(|_, feed| feed.strong_count() > 0);
        list.insert(question, Arc::downgrade(&feed));
        feed
    }
}

/// Looks whenever something new is visible, or some time has passed, and tells what has changed.
async fn follow(
    mut live: Live,
    shared: Shared,
    updates: broadcast::Sender<Sent>,
    stop: CancellationToken,
) {
    let mut changes = shared.otus.dataset().watch();
    let work = async {
        loop {
            let looked = Instant::now();
            // A dataset that closes ends everything else, too.
            let is_over = match tokio::time::timeout(LOOK, changes.changed()).await {
                Ok(changed) => changed.is_err(),
                Err(_) => false,
            };
            if is_over {
                return;
            }
            tokio::time::sleep_until(looked + APART).await;
            changes.mark_unchanged();
            let sent = match live.next().await {
                Ok(None) => continue,
                Ok(Some(update)) => Sent::Update(Arc::new(update)),
                Err(refusal) => Sent::End(refusal.body),
            };
            let is_end = matches!(sent, Sent::End(_));
            // Nobody listens: whoever does next begins anew.
            if updates.send(sent).is_err() || is_end {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// See the module.
pub(super) async fn live(
    State(shared): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let (encoding, accept) = spellings(&headers)?;
    let resumed = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = body_bytes(body, QUERY_BYTES_MAX).await?;
    let place = shared.feeds.place()?;
    let key = Key::of(&caller, &headers);
    let noted = Noted::begin(&shared, &caller, &body);
    let opened = Live::open(caller.session(&shared), &body, (encoding, accept), resumed);
    let mut live = match opened {
        Ok(live) => live,
        Err(refusal) => return Ok(refused(refusal, noted)),
    };
    let mut waiting = Vec::new();
    match live.next().await {
        Ok(first) => waiting.extend(first),
        Err(refusal) => return Ok(refused(refusal, noted)),
    }
    let question = Question {
        user: caller.user().to_owned(),
        identity: caller.identity.clone(),
        body,
        spellings: (encoding.content_type(), accept.content_type()),
    };
    let (feed, updates) = match shared.feeds.find(&question) {
        Some(feed) => {
            let updates = feed.updates.subscribe();
            // What came after the first answer, and before listening.
            match live.next().await {
                Ok(more) => waiting.extend(more),
                Err(refusal) => return Ok(refused(refusal, noted)),
            }
            (feed, updates)
        }
        None => {
            let feed = shared.feeds.begin(question, live, &shared);
            let updates = feed.updates.subscribe();
            (feed, updates)
        }
    };
    waiting.reverse();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let closing = shared.feeds.closing.clone();
    let listener =
        Listener { shared, key, waiting, updates, look, closing, noted, _held: (place, feed) };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let mut response = Sse::new(events(listener)).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn refused(refusal: PullResponse, noted: Option<Noted>) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(noted) = noted {
        noted.end(status);
    }
    (status, [(header::CONTENT_TYPE, refusal.content_type)], refusal.body).into_response()
}

/// A client that listens.
struct Listener {
    shared: Shared,
    key: Key,
    /// Answers that it gets first, the next one last.
    waiting: Vec<Update>,
    updates: broadcast::Receiver<Sent>,
    look: tokio::time::Interval,
    closing: CancellationToken,
    noted: Option<Noted>,
    _held: (OwnedSemaphorePermit, Arc<Feed>),
}

impl Listener {
    /// What the client is told next, and whether that is the last.
    async fn next(&mut self) -> Option<(Event, bool)> {
        if let Some(update) = self.waiting.pop() {
            return Some((event(&update), false));
        }
        loop {
            tokio::select! {
                // The client comes back, and is then answered by another process or told who it is not.
                () = self.closing.cancelled() => return None,
                _ = self.look.tick() => {
                    if !self.key.fits(&self.shared) {
                        return None;
                    }
                }
                sent = self.updates.recv() => return match sent {
                    Ok(Sent::Update(_)) if !self.key.fits(&self.shared) => None,
                    Ok(Sent::Update(update)) => Some((event(&update), false)),
                    Ok(Sent::End(body)) => Some((Event::default().event("error").data(text(&body)), true)),
                    // It reads too slowly, or its feed has ended: when it comes back it gets all that it lacks.
                    Err(_) => None,
                },
            }
        }
    }
}

fn event(update: &Update) -> Event {
    Event::default().event("answer").id(&update.id).data(text(&update.body))
}

fn text(body: &Bytes) -> String {
    String::from_utf8_lossy(body).into_owned()
}

fn events(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    futures::stream::unfold(Some(listener), |listener| async move {
        let mut listener = listener?;
        match listener.next().await {
            Some((event, false)) => Some((Ok(event), Some(listener))),
            Some((event, true)) => Some((Ok(event), None)),
            None => {
                if let Some(noted) = listener.noted.take() {
                    noted.end(StatusCode::OK);
                }
                None
            }
        }
    })
}
