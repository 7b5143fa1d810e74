//! A request: decoded, checked against the catalogue of one snapshot, run branch by branch, answered. What
//! is wrong with it is said before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;

use super::answer::{Encoding, Parts, write_answer, write_refusal};
use super::branch::{self, Branch, Outcome};
use super::data::{decode_form, read};
use super::eval::{CallError, Host, evaluate};
use super::named::{self, QUERIES};
use super::pattern::{Entry, KeyOption, Pattern, Target, refuse_watch};
use super::problem::{Path, Problem};
use super::shape::validate;
use super::source::TimeRanges;
use super::table::{event_tables, tree_name};
use super::text::ReadLimits;
use super::value::{Map, Value};
use super::{tag, tree};
use crate::error::SqlError;
use crate::named::{NamedQueries, NamedQuery};
use crate::session::{PinnedState, Session, Wanted};

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct PullResponse {
    /// HTTP status.
    pub status: u16,
    /// Content type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
    /// How old it is, if it was given before.
    pub age: Option<Duration>,
}

impl PullResponse {
    fn new(status: u16, encoding: Encoding, text: String) -> Self {
        Self { status, content_type: encoding.content_type(), body: Bytes::from(text), age: None }
    }
    pub(super) fn refusal(status: u16, encoding: Encoding, problems: &[Problem]) -> Self {
        Self::new(status, encoding, write_refusal(problems, encoding))
    }
}

/// Answers a request in the spelling in which it is written. One snapshot serves all of it.
pub async fn run(session: &Session, body: &[u8], encoding: Encoding) -> PullResponse {
    run_as(session, body, encoding, encoding).await
}

/// Answers a request written in `encoding`, in the spelling `accept`.
pub async fn run_as(
    session: &Session,
    body: &[u8],
    encoding: Encoding,
    accept: Encoding,
) -> PullResponse {
    let wanted = session.wanted_pattern(face(encoding, accept), body);
    if let Some((body, age)) = wanted.as_ref().and_then(|wanted| session.body_again(wanted)) {
        let content_type = accept.content_type();
        return PullResponse { status: 200, content_type, body, age: Some(age) };
    }
    let request = decode(body, encoding).and_then(|request| match refuse_watch(&request.pattern) {
        watched if watched.is_empty() => Ok(request),
        watched => Err((422, watched)),
    });
    match request {
        Ok(request) => answer(session, request, accept, wanted.as_ref()).await,
        Err((status, problems)) => PullResponse::refusal(status, accept, &problems),
    }
}

/// The spellings of a question and of its answer.
fn face(encoding: Encoding, accept: Encoding) -> &'static str {
    match (encoding, accept) {
        (Encoding::Edn, Encoding::Edn) => "pull edn",
        (Encoding::Edn, Encoding::Json) => "pull edn to json",
        (Encoding::Json, Encoding::Edn) => "pull json to edn",
        (Encoding::Json, Encoding::Json) => "pull json",
    }
}

/// A decoded request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) pattern: Pattern,
    parts: Parts,
    /// Names of the answers that the client has.
    known: BTreeSet<Arc<str>>,
}

/// Most answers that a client may say it has.
const KNOWN_MAX: usize = 256;

pub(super) type Refused = (u16, Vec<Problem>);

pub(super) fn decode(body: &[u8], encoding: Encoding) -> Result<Request, Refused> {
    let limits = ReadLimits::REQUEST;
    if body.len() > limits.bytes {
        let reason = format!("a request is at most {} bytes", limits.bytes);
        return Err((413, vec![Problem::new("too-large", reason, &[])]));
    }
    let undecodable = |reason: String| (400, vec![Problem::new("undecodable", reason, &[])]);
    let text = std::str::from_utf8(body).map_err(|e| undecodable(format!("not UTF-8: {e}")))?;
    let form = read(text, encoding, limits).map_err(|e| undecodable(e.to_string()))?;
    let Value::Map(map) = form else {
        let reason = "a request is a map with :pattern, and :params and :opt if wanted";
        return Err((422, vec![Problem::new("bad-request", reason, &[])]));
    };
    let mut problems = Vec::new();
    for (key, _) in map.iter() {
        let known = ["pattern", "params", "opt", "known"];
        if !matches!(key, Value::Keyword(name) if known.contains(&&**name)) {
            let reason = "unknown key of a request; there is pattern, params, opt, known";
            problems.push(Problem::new("bad-request", reason, std::slice::from_ref(key)));
        }
    }
    let empty = Map::new();
    let params = match map.get_keyword("params") {
        None | Some(Value::Nil) => &empty,
        Some(Value::Map(params)) => params,
        Some(_) => {
            let path = [Value::keyword("params")];
            problems.push(Problem::new("bad-request", ":params is a map", &path));
            &empty
        }
    };
    let parts = match map.get_keyword("opt").map(Value::as_name) {
        None => Parts::All,
        Some(Some("data-only")) => Parts::Data,
        Some(Some("vars-only")) => Parts::Vars,
        Some(_) => {
            let path = [Value::keyword("opt")];
            problems.push(Problem::new("bad-request", ":opt is :data-only or :vars-only", &path));
            Parts::All
        }
    };
    let known = known(map.get_keyword("known"), &mut problems);
    let Some(form) = map.get_keyword("pattern") else {
        problems.push(Problem::new("bad-request", ":pattern is missing", &[]));
        return Err((422, problems));
    };
    match decode_form(form, encoding, params) {
        Ok(pattern) if problems.is_empty() => Ok(Request { pattern, parts, known }),
        Ok(_) => Err((422, problems)),
        Err(found) => {
            problems.extend(found);
            Err((422, problems))
        }
    }
}

/// The names of `:known`: a collection of them.
fn known(form: Option<&Value>, problems: &mut Vec<Problem>) -> BTreeSet<Arc<str>> {
    let path = [Value::keyword("known")];
    let names: Vec<&Value> = match form {
        None | Some(Value::Nil) => Vec::new(),
        Some(Value::Vector(names) | Value::List(names) | Value::Set(names)) => {
            names.iter().collect()
        }
        Some(_) => {
            let reason = ":known is a collection of the :etag of answers";
            problems.push(Problem::new("bad-request", reason, &path));
            return BTreeSet::new();
        }
    };
    if names.len() > KNOWN_MAX {
        let reason = format!(":known holds at most {KNOWN_MAX} names");
        problems.push(Problem::new("too-large", reason, &path));
    }
    let text = |value: &&Value| match value {
        Value::String(text) => Some(Arc::clone(text)),
        _ => None,
    };
    let texts: BTreeSet<_> = names.iter().take(KNOWN_MAX).filter_map(text).collect();
    if names.iter().any(|name| text(name).is_none()) {
        problems.push(Problem::new("bad-request", "an :etag is a string", &path));
    }
    texts
}

async fn answer(
    session: &Session,
    request: Request,
    accept: Encoding,
    wanted: Option<&Arc<Wanted>>,
) -> PullResponse {
    let known = request.known.clone();
    let mut prepared = match prepare(session, request, accept, wanted).await {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal,
    };
    let is_known = |branch: &Branch| branch.tag.as_deref().is_some_and(|t| known.contains(t));
    let have: Vec<bool> = prepared.branches.iter().map(is_known).collect();
    let runs: Vec<bool> =
        have.into_iter().enumerate().map(|(i, has)| !(has && prepared.leave_out(i))).collect();
    let outcomes = prepared.branches.iter().zip(&runs).map(|(branch, runs)| {
        let pinned = &prepared.pinned;
        async move {
            match runs {
                true => branch.run(session, pinned).await,
                false => Outcome::unchanged(),
            }
        }
    });
    let mut outcomes = join_all(outcomes).await;
    for (outcome, branch) in outcomes.iter_mut().zip(&prepared.branches) {
        outcome.name(branch.tag.as_deref());
    }
    let pinned = prepared.pinned.clone();
    let (response, whole) = prepared.write(session, outcomes).await;
    if whole && known.is_empty() {
        pinned.keep_body(&response.body);
    }
    response
}

/// A request whose calls are checked, over one snapshot.
pub(super) struct Prepared {
    pub(super) pinned: PinnedState,
    pub(super) pattern: Pattern,
    pub(super) branches: Vec<Branch>,
    ranges: TimeRanges,
    parts: Parts,
    accept: Encoding,
}

/// Checks a request against the catalogue of a new snapshot.
pub(super) async fn prepare(
    session: &Session,
    request: Request,
    accept: Encoding,
    wanted: Option<&Arc<Wanted>>,
) -> Result<Prepared, PullResponse> {
    let described = named::describe(session, &request.pattern).await;
    let pinned = session.pinned_for(wanted).map_err(|error| unavailable(&error, accept))?;
    let Request { mut pattern, parts, .. } = request;
    let queries = &pinned.named();
    let ranges = TimeRanges::of(session, &pinned, &pattern).await;
    let ranges = ranges.map_err(|error| unavailable(&error, accept))?;
    let offered = tree::shape(pinned.snapshot(), named::shape(queries, &described));
    let mut problems = validate(&pattern, &offered);
    let mut branches = branch::collect(&mut pattern, &pinned, &ranges, queries, &mut problems);
    for branch in &mut branches {
        branch.tag = tag::of_branch(branch, session, &pinned).map(|tag| tag.to_string());
    }
    match problems.is_empty() {
        true => Ok(Prepared { pinned, pattern, branches, ranges, parts, accept }),
        false => Err(PullResponse::refusal(422, accept, &problems)),
    }
}

impl Prepared {
    /// What stands in the tree besides the answers of calls.
    pub(super) fn facts(&self) -> Value {
        data(&self.pattern, &self.pinned, &self.ranges, &self.pinned.named())
    }

    /// Leaves these calls and nothing else.
    pub(super) fn keep(&mut self, paths: &BTreeSet<Path>) {
        self.branches.retain(|branch| paths.contains(&branch.path));
        let Pattern::Map(root) = &mut self.pattern else { return };
        root.entries.retain_mut(|part| {
            let name = part.name().clone();
            let Target::Into(Pattern::Map(calls)) = &mut part.target else { return false };
            calls.entries.retain(|call| paths.contains(&vec![name.clone(), call.name().clone()]));
            !calls.entries.is_empty()
        });
    }

    /// Puts `:unchanged` where the answer of a branch would stand; false if that cannot be: among those of a batch.
    fn leave_out(&mut self, branch: usize) -> bool {
        let Some(path) = self.branches.get(branch).map(|branch| branch.path.clone()) else {
            return false;
        };
        let Some(entry) = entry_at(&mut self.pattern, &path) else { return false };
        if entry.options.iter().any(|option| matches!(option, KeyOption::Batch(_))) {
            return false;
        }
        entry.target = Target::Keep;
        entry.options.retain(|option| matches!(option, KeyOption::With(_) | KeyOption::As(_)));
        true
    }

    /// The answer of what the branches gave, in their order, and whether nothing failed.
    pub(super) async fn write(
        self,
        session: &Session,
        outcomes: Vec<Outcome>,
    ) -> (PullResponse, bool) {
        let facts = self.facts();
        let Self { pinned, pattern, branches, parts, accept, .. } = self;
        let mut meta = Map::new();
        let sequence = i64::try_from(pinned.snapshot().sequence()).unwrap_or(i64::MAX);
        meta.insert(Value::keyword("snapshot"), Value::Int(sequence));
        let mut results = BTreeMap::new();
        for (branch, Outcome { rows, meta: about }) in branches.into_iter().zip(outcomes) {
            put(&mut meta, &branch.path, about);
            results.insert((branch.path, branch.call), rows);
        }
        let host = Results(Mutex::new(results));
        // A large answer takes a while to build: that is work for the query threads.
        let built = session.engine().spawn(async move {
            let answer = evaluate(&pattern, &facts, &host);
            let whole = answer.problems.is_empty();
            (write_answer(answer, Some(Value::Map(meta)), parts, accept), whole)
        });
        match built.await {
            Ok((text, whole)) => (PullResponse::new(200, accept, text), whole),
            Err(_) => {
                let problem = Problem::new("internal", "the answer could not be built", &[]);
                (PullResponse::refusal(500, accept, &[problem]), false)
            }
        }
    }
}

/// The entry of a call, which stands below the root's entries.
fn entry_at<'p>(pattern: &'p mut Pattern, path: &[Value]) -> Option<&'p mut Entry> {
    let [part, call] = path else { return None };
    let Pattern::Map(root) = pattern else { return None };
    let part = root.entries.iter_mut().find(|entry| entry.name() == part)?;
    let Target::Into(Pattern::Map(calls)) = &mut part.target else { return None };
    calls.entries.iter_mut().find(|entry| entry.name() == call)
}

fn unavailable(error: &SqlError, accept: Encoding) -> PullResponse {
    let problem = Problem::new("unavailable", error.message.clone(), &[]);
    PullResponse::refusal(503, accept, &[problem])
}

/// Puts a branch's meta where the branch stands in the tree; calls of a batch follow one another.
fn put(map: &mut Map, path: &[Value], about: Value) {
    let Some((key, below)) = path.split_first() else { return };
    if below.is_empty() {
        let together = match map.get(key) {
            None => about,
            Some(Value::Vector(items)) => {
                Value::Vector(items.iter().cloned().chain([about]).collect())
            }
            Some(first) => Value::Vector(vec![first.clone(), about]),
        };
        map.insert(key.clone(), together);
        return;
    }
    let mut inner = match map.get(key) {
        Some(Value::Map(inner)) => inner.clone(),
        _ => Map::new(),
    };
    put(&mut inner, below, about);
    map.insert(key.clone(), Value::Map(inner));
}

/// The tree that the pattern runs over: endpoints whose results are there already, and facts.
fn data(
    pattern: &Pattern,
    pinned: &PinnedState,
    ranges: &TimeRanges,
    queries: &NamedQueries,
) -> Value {
    let snapshot = pinned.snapshot();
    let endpoint = || Value::symbol("endpoint");
    let mut root = Map::new();
    let Pattern::Map(map) = pattern else { return Value::Map(root) };
    let asked = |name: &str| {
        let key = Value::keyword(name);
        map.entries
            .iter()
            .filter(move |entry| entry.key == key)
            .any(|entry| matches!(entry.target, Target::Into(_)))
    };
    for name in ["metrics", "records", "values", "bounds"] {
        if !asked(name) {
            continue;
        }
        let mut tables = Map::new();
        for table in event_tables(snapshot) {
            let value =
                if name == "bounds" { tree::bounds(snapshot, ranges, table) } else { endpoint() };
            tables.insert(Value::keyword(tree_name(table)), value);
        }
        root.insert(Value::keyword(name), Value::Map(tables));
    }
    if asked(QUERIES) {
        let entry = |query: &Arc<NamedQuery>| (Value::keyword(&query.def.name), endpoint());
        let calls = Map::from_entries(queries.iter().map(entry).collect());
        root.insert(Value::keyword(QUERIES), calls.map_or(Value::Nil, Value::Map));
    }
    if asked("schema") {
        root.insert(Value::keyword("schema"), tree::schema(snapshot));
    }
    Value::Map(root)
}

/// Results by path and call. Each is asked for once.
struct Results(Mutex<BTreeMap<(Path, usize), Result<Value, CallError>>>);

impl Host for Results {
    fn is_callable(&self, value: &Value) -> bool {
        matches!(value, Value::Symbol(_))
    }
    fn call(
        &self,
        _: &Value,
        _: &[Value],
        path: &[Value],
        call: usize,
    ) -> Result<Value, CallError> {
        let missing =
            || CallError { code: "internal", reason: "no branch ran for this call".into() };
        self.0.lock().remove(&(path.to_vec(), call)).unwrap_or_else(|| Err(missing()))
    }
}
