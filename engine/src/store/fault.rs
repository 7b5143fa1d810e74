//! For tests: an object store in front of another that loses answers, fails, hangs, does things twice
//! or late, and dies at a chosen call. What it does follows from a seed and from nothing else.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

const STORE: &str = "FaultStore";

/// A small generator of chance (splitmix64): the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A way in which a call goes wrong. Reads know only [`Refuse`](Fault::Refuse) and dying; for them any
/// other fault is a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and an error says so.
    Refuse,
    /// It is done, and the answer is an error.
    LoseAnswer,
    /// It is done, and no answer ever comes.
    Hang,
    /// It is done twice, as by a client that tries again; the second answer is given.
    Twice,
    /// The answer is an error; it is done at some later call.
    Late,
    /// Nothing is done, and every call from now on fails.
    DieBefore,
    /// It is done, and every answer from this one on is an error.
    DieAfter,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Refuse,
        Self::LoseAnswer,
        Self::Hang,
        Self::Twice,
        Self::Late,
        Self::DieBefore,
        Self::DieAfter,
    ];
}

/// What goes wrong when.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    /// Seed of all chance.
    pub seed: u64,
    /// Percentage of calls that go wrong.
    pub percent: u64,
    /// Ways from which one is drawn.
    pub faults: Vec<Fault>,
    /// One call, counted from 1, that goes wrong in one way, whatever the percentage.
    pub nth: Option<(u64, Fault)>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self { seed: 0, percent: 0, faults: Vec::new(), nth: None }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    plan: FaultPlan,
    dice: Dice,
    calls: u64,
    dead: bool,
    late: Vec<Change>,
}

/// A call that changes something.
#[derive(Debug, Clone)]
enum Change {
    Put(Path, PutPayload, PutOptions),
    Delete(Path),
}

impl FaultStore {
    /// In front of `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>, plan: FaultPlan) -> Self {
        let dice = Dice::new(plan.seed);
        let state = State { plan, dice, calls: 0, dead: false, late: Vec::new() };
        Self { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Whether it has died: the process that uses it would have.
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// As if the process were started again. What is on its way still arrives late.
    pub fn revive(&self) {
        self.state.lock().dead = false;
    }

    /// From now on nothing goes wrong, except that what is on its way still arrives.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.dead = false;
        state.plan.percent = 0;
        state.plan.nth = None;
    }

    /// From now on `percent` of the calls go wrong.
    pub fn ail(&self, percent: u64) {
        self.state.lock().plan.percent = percent;
    }

    /// Lets everything arrive that is on its way.
    pub async fn settle(&self) {
        loop {
            let Some(late) = self.state.lock().late.pop() else { return };
            // Nobody waits for the answer any more.
            self.make(&late).await.ok();
        }
    }

    async fn make(&self, change: &Change) -> Result<PutResult> {
        match change {
            Change::Put(path, payload, opts) => {
                self.inner.put_opts(path, payload.clone(), opts.clone()).await
            }
            Change::Delete(path) => {
                self.inner.delete(path).await?;
                Ok(PutResult { e_tag: None, version: None })
            }
        }
    }

    /// Counts a call and says what goes wrong with it.
    async fn next(&self) -> Result<Option<Fault>> {
        let (fault, arriving) = {
            let mut state = self.state.lock();
            if state.dead {
                return Err(failed("the process is dead"));
            }
            state.calls += 1;
            let arriving = if !state.late.is_empty() && state.dice.percent(30) {
                let waiting = state.late.len() as u64;
                let at = usize::try_from(state.dice.below(waiting)).unwrap_or(0);
                Some(state.late.swap_remove(at))
            } else {
                None
            };
            (state.draw(), arriving)
        };
        if let Some(late) = arriving {
            self.make(&late).await.ok();
        }
        if fault == Some(Fault::DieBefore) {
            self.state.lock().dead = true;
            return Err(failed("the process dies before a call"));
        }
        Ok(fault)
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next().await? {
            None => read.await,
            Some(Fault::DieAfter) => {
                self.state.lock().dead = true;
                Err(failed("the process dies while reading"))
            }
            Some(_) => Err(failed("refused")),
        }
    }

    async fn write(&self, change: Change) -> Result<PutResult> {
        match self.next().await? {
            None => self.make(&change).await,
            Some(Fault::Refuse | Fault::DieBefore) => Err(failed("refused")),
            Some(Fault::LoseAnswer) => {
                self.make(&change).await.ok();
                Err(failed("answer lost"))
            }
            Some(Fault::Hang) => {
                self.make(&change).await.ok();
                std::future::pending().await
            }
            Some(Fault::Twice) => {
                self.make(&change).await.ok();
                self.make(&change).await
            }
            Some(Fault::Late) => {
                self.state.lock().late.push(change);
                Err(failed("on its way"))
            }
            Some(Fault::DieAfter) => {
                self.make(&change).await.ok();
                self.state.lock().dead = true;
                Err(failed("the process dies after a call"))
            }
        }
    }
}

impl State {
    fn draw(&mut self) -> Option<Fault> {
        if let Some((n, fault)) = self.plan.nth
            && n == self.calls
        {
            return Some(fault);
        }
        if self.plan.faults.is_empty() || !self.dice.percent(self.plan.percent) {
            return None;
        }
        let drawn = self.dice.below(self.plan.faults.len() as u64);
        self.plan.faults.get(usize::try_from(drawn).unwrap_or(0)).copied()
    }
}

fn failed(why: &'static str) -> Error {
    Error::Generic { store: STORE, source: why.into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.write(Change::Put(location.clone(), payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.read(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(self.inner.get_opts(location, options)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deletes = locations.then(move |path| {
            let store = store.clone();
            async move {
                let path = path?;
                store.write(Change::Delete(path.clone())).await?;
                Ok(path)
            }
        });
        deletes.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let all = async { Ok(store.inner.list(prefix.as_ref())) };
            match store.read(all).await {
                Ok(objects) => objects,
                Err(e) => stream::once(async { Err(e) }).boxed(),
            }
        };
        stream::once(listed).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.read(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.read(self.inner.copy_opts(from, to, options)).await
    }
}
