//! Answers that are given again: to a session that says how old they may be, or that has the very answer.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use datafusion::physical_plan::SendableRecordBatchStream;
use otus_engine::snapshot::Snapshot;
use tokio::time::Instant;

use super::guard::Guard;
use super::run::Started;
use super::{Frame, Inner, PinnedState, Session};
use crate::cache::{self, Content, Keeping, Kept, Key, Seen, Tag};
use crate::error::SqlResult;
use crate::outcome::{Outcome, Parameter, RowTag};
use crate::queries::{self, Asked};
use crate::rewrite::Report;
use crate::statement::Plannable;

/// Setting that says how old an answer may be, milliseconds; 0 = none is given again.
pub(super) const MAX_AGE: &str = "otus.cache_max_age";

/// Where the answer to the latest query came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// How old it is, if it was given before.
    pub age: Option<Duration>,
    /// Names the answer, where the session asked for that: the same tag, the same rows. None where rows hang on
    /// more than data.
    pub tag: Option<String>,
    /// Whether the client has it already. Then no rows come.
    pub unchanged: bool,
}

/// Whether a session wants the tags of its answers.
#[derive(Debug, Default)]
pub(super) struct Tags {
    wanted: bool,
    known: Vec<String>,
}

/// What one question may be answered with besides by running it.
#[derive(Debug)]
pub(crate) struct Wanted {
    key: Arc<Key>,
    max_age: Duration,
    /// Tags of answers that the client has.
    known: Vec<String>,
    seen: Arc<Seen>,
}

impl Wanted {
    /// Whether a kept answer will do, and this one may be kept.
    fn keeps(&self) -> bool {
        !self.max_age.is_zero()
    }

    fn has(&self, tag: Option<Tag>) -> bool {
        tag.is_some_and(|tag| self.known.contains(&tag.to_string()))
    }
}

impl Session {
    /// From here on each answer has a tag where there can be one, and the client has those of `known`.
    pub fn tag_answers(&self, known: Vec<String>) {
        self.inner.lock().tags = Tags { wanted: true, known };
    }

    /// Where the answer to the latest query came from.
    pub fn provenance(&self) -> Provenance {
        self.inner.lock().provenance.clone()
    }

    /// What a query may be answered with; none if the session asks for nothing of that, or sees a moment of its
    /// own.
    pub(super) fn wanted(&self, query: &Plannable, params: &[Parameter]) -> Option<Arc<Wanted>> {
        let text = self.inner.lock().text.clone()?;
        // What clients know of the catalogue is never old.
        if query.names_catalog {
            return None;
        }
        self.wanted_as("sql", text, params)
    }

    /// The same for any question.
    fn wanted_as(
        &self,
        face: &'static str,
        text: Arc<str>,
        params: &[Parameter],
    ) -> Option<Arc<Wanted>> {
        let answers = self.engine.answers();
        let inner = self.inner.lock();
        let max_age = match answers.is_on() {
            true => inner.settings.value(MAX_AGE).parse().unwrap_or(0),
            false => 0,
        };
        if inner.transaction.is_some() || (max_age == 0 && !inner.tags.wanted) {
            return None;
        }
        let user = self.user.clone();
        let settings = inner.settings.of_answers();
        let identity = self.identity.clone();
        let key = Key { face, text, params: params.to_vec(), user, identity, settings };
        let known = inner.tags.known.clone();
        let seen = Arc::new(answers.seen());
        let max_age = Duration::from_millis(max_age);
        Some(Arc::new(Wanted { key: Arc::new(key), max_age, known, seen }))
    }

    /// The kept answer, if there is one that is young enough.
    fn young(&self, wanted: &Wanted) -> Option<(Kept, Duration)> {
        if !wanted.keeps() {
            return None;
        }
        let dataset = self.engine.dataset();
        let (snapshot, now_us) = (dataset.snapshot(), dataset.clock().now_us());
        let kept = self.engine.answers().young(&wanted.key, &snapshot, now_us, wanted.max_age)?;
        let age = kept.age(now_us)?;
        Some((kept, age))
    }

    /// The rows that are kept, if they are young enough.
    pub(super) fn given_again(&self, wanted: &Wanted) -> Option<Outcome> {
        let begun = Instant::now();
        let (kept, age) = self.young(wanted)?;
        let Content::Rows { schema, batches, report } = &kept.content else { return None };
        self.engine.answers().hit();
        let unchanged = wanted.has(kept.tag);
        let batches = if unchanged { &[] } else { &**batches };
        self.tell(report);
        let mut inner = self.inner.lock();
        let rows = if unchanged { 0 } else { kept.rows() };
        queries::given_again(self.asked(&inner), begun, rows, report);
        let tag = kept.tag.map(|tag| tag.to_string());
        inner.provenance = Provenance { age: Some(age), tag, unchanged };
        let guard = Guard::new(self.cancel.arm(), self.time_limit(&inner.settings));
        let stream = guard.watch(cache::stream_of(schema, batches));
        let schema = Arc::clone(schema);
        Some(Outcome::Rows { schema, stream, tag: RowTag::Select, snapshot: None })
    }

    /// What a pattern may be answered with, if the session takes kept answers.
    pub(crate) fn wanted_pattern(&self, face: &'static str, text: &[u8]) -> Option<Arc<Wanted>> {
        let text = std::str::from_utf8(text).ok()?;
        self.wanted_as(face, text.into(), &[]).filter(|wanted| wanted.keeps())
    }

    /// The kept body, if it is young enough, and its age.
    pub(crate) fn body_again(&self, wanted: &Wanted) -> Option<(Bytes, Duration)> {
        let begun = Instant::now();
        let (kept, age) = self.young(wanted)?;
        let Content::Body(body) = kept.content else { return None };
        self.engine.answers().hit();
        queries::given_again(self.asked(&self.inner.lock()), begun, 0, &Report::default());
        Some((body, age))
    }

    /// As [`Self::pinned_state`], for a question of which more is known.
    pub(crate) fn pinned_for(&self, wanted: Option<&Arc<Wanted>>) -> SqlResult<PinnedState> {
        let mut frame = self.frame()?;
        frame.want(wanted.map(Arc::clone));
        Ok(PinnedState(frame))
    }

    /// Notes where an answer came from.
    pub(super) fn came(&self, started: &Started) {
        let tag = started.tag.map(|tag| tag.to_string());
        let (age, unchanged) = match started.given {
            Given::Run => (None, false),
            Given::Again => (Some(Duration::ZERO), false),
            Given::Unchanged => (None, true),
        };
        self.inner.lock().provenance = Provenance { age, tag, unchanged };
    }

    /// Who asks what.
    pub(super) fn asked(&self, inner: &Inner) -> Asked {
        Asked {
            queries: Arc::clone(self.engine.queries()),
            clock: Arc::clone(self.engine.dataset().clock()),
            user: self.user.as_str().into(),
            text: inner.text.clone().unwrap_or_else(|| "pull".into()),
        }
    }
}

/// How an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// The query runs.
    Run,
    /// Its rows were kept, and are still those of this moment.
    Again,
    /// The client has them.
    Unchanged,
}

impl PinnedState {
    /// Keeps the body that answers the question of this moment.
    pub(crate) fn keep_body(&self, body: &Bytes) {
        let Self(frame) = self;
        if let Some(keeping) = frame.keeping(None) {
            keeping.body(body);
        }
    }
}

impl Frame {
    /// Looks, while it plans, at what the answer hangs on.
    pub(super) fn want(&mut self, wanted: Option<Arc<Wanted>>) {
        if let Some(wanted) = &wanted {
            let state = Arc::make_mut(&mut self.state);
            state.config_mut().set_extension(Arc::clone(&wanted.seen));
        }
        self.wanted = wanted;
    }

    /// Notes a plan as it was asked.
    pub(super) fn see(&self, plan: &datafusion::logical_expr::LogicalPlan) -> SqlResult<()> {
        match &self.wanted {
            Some(wanted) => wanted.seen.plan(plan).map_err(Into::into),
            None => Ok(()),
        }
    }

    /// What names the answer, once it is planned.
    pub(super) fn tag(&self) -> Option<Tag> {
        let wanted = self.wanted.as_ref()?;
        self.engine.answers().tag(&wanted.key, &self.snapshot, &wanted.seen)
    }

    /// The answer that the client has, or that is kept and was read from the same.
    pub(super) fn same(
        &self,
        tag: Tag,
        schema: &SchemaRef,
    ) -> Option<(Given, usize, SendableRecordBatchStream)> {
        let wanted = self.wanted.as_ref()?;
        if wanted.has(Some(tag)) {
            return Some((Given::Unchanged, 0, cache::stream_of(schema, &[])));
        }
        if !wanted.keeps() {
            return None;
        }
        let kept = self.engine.answers().same(&wanted.key, &self.snapshot, tag)?;
        let Content::Rows { schema, batches, .. } = &kept.content else { return None };
        self.engine.answers().hit();
        Some((Given::Again, kept.rows(), cache::stream_of(schema, batches)))
    }

    /// Begins to keep the answer, if it may be kept.
    pub(super) fn keeping(&self, tag: Option<Tag>) -> Option<Keeping> {
        let wanted = self.wanted.as_ref().filter(|wanted| wanted.keeps())?;
        self.engine.answers().missed();
        if !wanted.seen.may_keep() {
            return None;
        }
        let snapshot: &Arc<Snapshot> = &self.snapshot;
        Keeping::begin(self.engine.answers(), &wanted.key, snapshot, tag)
    }
}
