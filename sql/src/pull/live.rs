//! A request that stays: answered once in full, and then, for the entries with `:watch`, again whenever their answers
//! may have changed.
//!
//! ```text
//!  request ─► first answer, all of it
//!     └─► something new is visible ─► names of the watched answers ─┬─ all as before ─► nothing
//!                                                                   └─ some differ ─► these run, and are sent
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::future::join_all;

use super::answer::Encoding;
use super::branch::Outcome;
use super::pattern::find_watch;
use super::problem::{Path, Problem};
use super::request::{Prepared, PullResponse, Request, decode, prepare};
use super::tag;
use super::value::Value;
use crate::session::Session;

/// What is called in the tree.
const CALLED: [&str; 4] = ["metrics", "records", "values", "queries"];

/// Names of answers by path; a batch has several.
type Names = BTreeMap<Path, Vec<String>>;

/// A live request of one session.
#[derive(Debug)]
pub struct Live {
    session: Session,
    request: Request,
    accept: Encoding,
    watched: BTreeSet<Path>,
    /// Of the watched answers that were sent; none before the first.
    sent: Option<Names>,
    /// What the client says it has, from a request before.
    resumed: Option<String>,
}

/// A part of the answer to a live request.
#[derive(Debug, Clone)]
pub struct Update {
    /// Names all that the client has, once it has this.
    pub id: String,
    /// An answer in the spelling that was asked for: the first is whole, each later one has what has changed.
    pub body: Bytes,
}

impl Live {
    /// A request as it is sent to `POST /api/live`; refused like one to `POST /api/pull`. A client that was cut off says
    /// the `id` of the last update that it has.
    pub fn open(
        session: Session,
        body: &[u8],
        (encoding, accept): (Encoding, Encoding),
        resumed: Option<String>,
    ) -> Result<Self, PullResponse> {
        let refused = |(status, problems): (u16, Vec<Problem>)| {
            PullResponse::refusal(status, accept, &problems)
        };
        let request = decode(body, encoding).map_err(refused)?;
        let (mut watched, mut problems) = (BTreeSet::new(), Vec::new());
        find_watch(&request.pattern, &Vec::new(), &mut |path, is_on| {
            let part = path.first().and_then(Value::as_name).unwrap_or_default();
            if path.len() != 2 || !CALLED.contains(&part) {
                let reason = format!(":watch stands on a call of {}", CALLED.join(", "));
                problems.push(Problem::bad_pattern(reason, path));
            } else if is_on {
                watched.insert(path.clone());
            }
        });
        if watched.is_empty() && problems.is_empty() {
            let reason = "nothing is watched: put :watch true on a call, or ask POST /api/pull";
            problems.push(Problem::new("bad-request", reason, &[]));
        }
        match problems.is_empty() {
            true => Ok(Self { session, request, accept, watched, sent: None, resumed }),
            false => Err(refused((422, problems))),
        }
    }

    /// What there is to send now; none if it is as it was.
    pub async fn next(&mut self) -> Result<Option<Update>, PullResponse> {
        let request = self.request.clone();
        let mut prepared = prepare(&self.session, request, self.accept, None).await?;
        let before = self.names(&prepared);
        if let Some(resumed) = self.resumed.take()
            && let Some(names) = before.clone().into_iter().map(|(p, n)| Some((p, n?))).collect()
            && self.id(&prepared, &names) == resumed
        {
            self.sent = Some(names);
            return Ok(None);
        }
        if let Some(sent) = &self.sent {
            let differs = |(path, names): &(&Path, &Option<Vec<String>>)| match names {
                Some(names) => sent.get(*path) != Some(names),
                // Only running tells.
                None => true,
            };
            let wanted = before.iter().filter(differs).map(|(path, _)| path.clone()).collect();
            prepared.keep(&wanted);
            if prepared.branches.is_empty() {
                return Ok(None);
            }
        }
        let pinned = prepared.pinned.clone();
        let work = prepared.branches.iter().map(|branch| branch.run(&self.session, &pinned));
        let mut outcomes = join_all(work).await;
        let now = self.told(&prepared, &mut outcomes);
        let is_first = self.sent.is_none();
        let sent = self.sent.get_or_insert_with(Names::new);
        if !is_first {
            let changed = now.iter().filter(|(path, names)| sent.get(*path) != Some(names));
            let changed: BTreeSet<Path> = changed.map(|(path, _)| path.clone()).collect();
            let stays = |path: &Path| changed.contains(path);
            let branches = prepared.branches.iter();
            outcomes = branches
                .zip(outcomes)
                .filter_map(|(branch, outcome)| stays(&branch.path).then_some(outcome))
                .collect();
            prepared.keep(&changed);
            if changed.is_empty() {
                return Ok(None);
            }
        }
        sent.extend(now);
        let sent = sent.clone();
        let id = self.id(&prepared, &sent);
        let (response, _) = prepared.write(&self.session, outcomes).await;
        match response.status {
            200 => Ok(Some(Update { id, body: response.body })),
            _ => Err(response),
        }
    }

    /// Names of the watched answers, as far as they can be told before anything runs.
    fn names(&self, prepared: &Prepared) -> BTreeMap<Path, Option<Vec<String>>> {
        let mut names = BTreeMap::new();
        for branch in prepared.branches.iter().filter(|b| self.watched.contains(&b.path)) {
            let all = names.entry(branch.path.clone()).or_insert_with(|| Some(Vec::new()));
            match (all.as_mut(), &branch.tag) {
                (Some(all), Some(name)) => all.push(name.clone()),
                _ => *all = None,
            }
        }
        names
    }

    /// Names of the watched answers that are there, put into their meta, too. What failed is named by its failure.
    fn told(&self, prepared: &Prepared, outcomes: &mut [Outcome]) -> Names {
        let (session, pinned) = (&self.session, &prepared.pinned);
        let mut names = Names::new();
        for (branch, outcome) in prepared.branches.iter().zip(outcomes) {
            let told = match &outcome.rows {
                Ok(rows) => branch.tag.clone().unwrap_or_else(|| {
                    let name = tag::of_value(session, pinned, rows);
                    name.map_or_else(String::new, |tag| tag.to_string())
                }),
                Err(error) => format!("{} {}", error.code, error.reason),
            };
            outcome.name(Some(&told));
            if self.watched.contains(&branch.path) {
                names.entry(branch.path.clone()).or_default().push(told);
            }
        }
        names
    }

    fn id(&self, prepared: &Prepared, names: &Names) -> String {
        let names = Value::text(format!("{names:?}"));
        let name = tag::of_value(&self.session, &prepared.pinned, &names);
        name.map_or_else(String::new, |tag| tag.to_string())
    }
}
