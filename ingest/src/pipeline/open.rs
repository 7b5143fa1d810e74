//! Opening partitions: claim, compare position and log, resolve the first position, start reading. And the
//! status that comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use otus_engine::catalog::{Source, Start, TableDef, TableId};
use otus_engine::dataset::StartPosition;
use otus_engine::log::manifest::Manifest;
use otus_engine::position::TopicPartition;
use otus_engine::{Error, Result};

use super::partition::{Partition, Phase, TableReader, check_position};
use super::runner::{ResetTo, Runner};
use super::status::{PartitionState, PartitionStatus};
use crate::decode::decoder;
use crate::log::{Bounds, StartAt, whole_name};

/// Weight of the newest second in a rate.
const RATE_WEIGHT: f64 = 0.3;

/// Whether a table reads a topic.
pub(crate) fn reads(def: &TableDef, topic: &str) -> bool {
    match &def.source {
        Source::Topics(topics) => topics.iter().any(|t| t == topic),
        Source::Pattern(pattern) => whole_name(pattern).is_ok_and(|p| p.is_match(topic)),
        Source::File(path) => path == topic,
    }
}

impl Runner {
    /// Opens partitions that this process holds. An error leaves all of them to be tried again.
    pub(crate) fn open(&mut self, tps: &[TopicPartition]) -> Result<()> {
        let bounds: Vec<(TopicPartition, Bounds)> =
            tps.iter().map(|tp| Ok((tp.clone(), self.log.bounds(tp)?))).collect::<Result<_>>()?;
        let claimed = self.claims_for(tps)?;
        self.rebuild_if_needed(&bounds)?;
        let claims = self.ask(async { self.dataset.claim(&claimed).await })?;
        let epochs: BTreeMap<TopicPartition, u64> =
            claims.into_iter().map(|claim| (claim.tp, claim.epoch)).collect();
        let manifest = Arc::clone(self.dataset.snapshot().manifest());
        let mut starts = Vec::new();
        for tp in epochs.keys() {
            let own = bounds.iter().find(|(known, _)| known == tp).map(|(_, b)| b.clone());
            let bounds = match own {
                Some(bounds) => bounds,
                None => self.log.bounds(tp)?,
            };
            self.first_positions(&manifest, tp, epochs[tp], &bounds, &mut starts)?;
        }
        self.ask(async { self.dataset.start_positions(starts).await })?;
        let manifest = Arc::clone(self.dataset.snapshot().manifest());
        for (tp, bounds) in bounds {
            let epoch = epochs.get(&tp).copied().unwrap_or_default();
            let partition = self.build(&manifest, &tp, epoch, bounds)?;
            self.waiting.remove(&tp);
            let offset = partition.reader_position().filter(|_| partition.is_running());
            self.partitions.insert(tp.clone(), partition);
            match offset {
                Some(offset) => self.restart(&tp, offset)?,
                None => self.log.pause(std::slice::from_ref(&tp))?,
            }
        }
        for topic in tps.iter().map(|tp| &tp.topic).collect::<BTreeSet<_>>() {
            if let Err(error) = self.list(topic) {
                tracing::debug!(%topic, %error, "partitions cannot be listed");
            }
        }
        Ok(())
    }

    /// Makes the log give records of an open partition from `offset` on.
    pub(crate) fn restart(&mut self, tp: &TopicPartition, offset: i64) -> Result<()> {
        let leader_epoch = self.partitions.get(tp).and_then(|p| p.identity.leader_epoch);
        self.log.start(&[StartAt { tp: tp.clone(), offset, leader_epoch }])?;
        if self.pressure.is_some() {
            self.log.pause(std::slice::from_ref(tp))?;
        }
        Ok(())
    }

    /// The partitions to claim: those of `tps`, and all others of a topic whose first look this is for a table
    /// that begins at the end. "The end when first looked at" must be one moment for the whole topic, however
    /// its partitions are spread over processes.
    fn claims_for(&mut self, tps: &[TopicPartition]) -> Result<Vec<TopicPartition>> {
        let mut claims: BTreeSet<TopicPartition> = tps.iter().cloned().collect();
        let manifest = Arc::clone(self.dataset.snapshot().manifest());
        let topics: BTreeSet<Arc<str>> = tps.iter().map(|tp| Arc::clone(&tp.topic)).collect();
        for topic in topics {
            let first = self.tables.iter().any(|(id, def)| {
                def.start == Start::Latest && reads(def, &topic) && !knows(&manifest, *id, &topic)
            });
            if first {
                let all = self.log.partitions(&topic)?;
                claims.extend(all.into_iter().map(|p| TopicPartition::new(Arc::clone(&topic), p)));
            }
        }
        Ok(claims.into_iter().collect())
    }

    /// Resolves where tables without a position begin in `tp`.
    fn first_positions(
        &mut self,
        manifest: &Manifest,
        tp: &TopicPartition,
        epoch: u64,
        bounds: &Bounds,
        starts: &mut Vec<StartPosition>,
    ) -> Result<()> {
        for (id, def) in self.tables.iter().filter(|(_, def)| reads(def, &tp.topic)) {
            let state = manifest.tables.get(id);
            if state.is_some_and(|state| state.positions.contains_key(tp)) {
                continue;
            }
            let offset = match def.start {
                // A partition added later starts at its beginning.
                Start::Latest if !knows(manifest, *id, &tp.topic) => {
                    bounds.high.unwrap_or(bounds.low)
                }
                Start::Earliest | Start::Latest => bounds.low,
                Start::Time(us) => self.log.offset_at(tp, us)?,
            };
            let (table, mut identity) = (*id, bounds.identity.clone());
            if def.keyed().is_some() {
                // Nothing was read, so no deletion can be missed; a rebuild is not level yet.
                let began_us = def.rebuild().map(|r| r.started_us - 1);
                identity.as_of_us = Some(began_us.unwrap_or_else(|| self.dataset.clock().now_us()));
            }
            starts.push(StartPosition { table, tp: tp.clone(), epoch, offset, identity });
        }
        Ok(())
    }

    fn build(
        &mut self,
        manifest: &Manifest,
        tp: &TopicPartition,
        epoch: u64,
        bounds: Bounds,
    ) -> Result<Partition> {
        let mut tables = Vec::new();
        let mut phase = Phase::Running;
        let mut identity = bounds.identity.clone();
        let reading = self.tables.iter().filter(|(_, def)| reads(def, &tp.topic));
        for (id, def) in &reading.cloned().collect::<Vec<_>>() {
            let position =
                manifest.tables.get(id).and_then(|state| state.positions.get(tp)).ok_or_else(
                    || Error::busy(format!("the first position in {tp} is not set yet")),
                )?;
            let then = self.log.identity_as(tp, &position.identity)?;
            let looks = Bounds {
                identity: then.unwrap_or_else(|| bounds.identity.clone()),
                ..bounds.clone()
            };
            if let Err(reason) = check_position(tp, position, &looks) {
                let name = def.qualified_name();
                let text = format!("{reason} (set its position with `otus reset {name}`)");
                tracing::error!(table = name, partition = %tp, reason, "partition is stopped");
                phase = Phase::Stopped(text);
            }
            identity.leader_epoch = identity.leader_epoch.max(position.identity.leader_epoch);
            let decoder = decoder(def, tp, self.compiler.as_ref())?;
            let refused = match def.keyed() {
                Some(_) => self.refusal(&tp.topic)?,
                None => None,
            };
            let paused = self.paused_tables.contains(id) || refused.is_some();
            let def = Arc::clone(def);
            let mut reader = TableReader::new(*id, def, decoder, position, paused);
            reader.refused = refused;
            tables.push(reader);
        }
        let least = tables.iter().map(|t| t.next).min().unwrap_or(0);
        Ok(Partition {
            tp: tp.clone(),
            epoch,
            identity,
            tables,
            phase,
            goal: bounds.high,
            at_end: false,
            reached: bounds.high.is_some_and(|high| least >= high),
        })
    }

    /// Sets positions of a table by an operator's word, and reads on from there: in one partition, or in all
    /// that the topic has. Nothing is set before all is known to be possible.
    pub(crate) fn reset(
        &mut self,
        table: TableId,
        topic: &str,
        partition: Option<i32>,
        to: ResetTo,
    ) -> Result<Vec<(i32, i64)>> {
        let Some((_, def)) = self.tables.iter().find(|(id, _)| *id == table) else {
            return Err(Error::not_found(format!("table {table:?} is not read")));
        };
        if !reads(def, topic) {
            let name = def.qualified_name();
            return Err(Error::not_found(format!(
                "table {name:?} reads nothing of topic {topic:?}"
            )));
        }
        let is_keyed = def.keyed().is_some();
        let topic: Arc<str> = topic.into();
        self.list(&topic)?;
        let there = self.listed.get(&topic).cloned().unwrap_or_default();
        if let Some(n) = partition.filter(|n| !there.contains(n)) {
            return Err(Error::not_found(format!("topic {topic:?} has no partition {n}")));
        }
        let wanted = there.iter().filter(|n| partition.is_none_or(|only| only == **n));
        self.publish();
        let mut resets = Vec::new();
        for number in wanted {
            let tp = TopicPartition::new(Arc::clone(&topic), *number);
            let bounds = self.log.bounds(&tp)?;
            resets.push((tp.clone(), reset_offset(&tp, &bounds, to)?, bounds.identity));
        }
        let set: Vec<_> = resets.iter().map(|(tp, to, _)| (tp.partition, *to)).collect();
        if is_keyed && to == ResetTo::Earliest {
            let start = self.dataset.start_rebuild(table, "reset by an operator");
            self.ask(start)?;
            self.adopt();
            return Ok(set);
        }
        let reason = format!("reset by an operator to {to:?}");
        self.ask(async { self.dataset.flush().await })?;
        self.ask(async { self.dataset.reset(table, resets, &reason).await })?;
        for (number, _) in &set {
            let tp = TopicPartition::new(Arc::clone(&topic), *number);
            self.partitions.remove(&tp);
            self.wait_for(tp, 0, "position was reset".into());
        }
        let gone = |tp: &&TopicPartition| tp.topic == topic && !there.contains(&tp.partition);
        let open = self.partitions.keys().chain(self.waiting.keys());
        let gone: Vec<TopicPartition> = open.filter(gone).cloned().collect();
        if !gone.is_empty() {
            self.forget(&gone);
        }
        Ok(set)
    }

    /// Asks which partitions a topic has.
    fn list(&mut self, topic: &Arc<str>) -> Result<()> {
        let there = self.log.partitions(topic)?.into_iter().collect();
        self.listed.insert(Arc::clone(topic), there);
        Ok(())
    }

    /// Positions of tables in partitions that their topics no longer have.
    fn gone(&self) -> Vec<PartitionStatus> {
        let snapshot = self.dataset.snapshot();
        let mut gone = Vec::new();
        for (id, def) in &self.tables {
            let Some(state) = snapshot.manifest().tables.get(id) else { continue };
            for (tp, position) in &state.positions {
                let left = |there: &BTreeSet<i32>| !there.contains(&tp.partition);
                let open = self.partitions.contains_key(tp) || self.waiting.contains_key(tp);
                if open || !self.listed.get(&tp.topic).is_some_and(left) || !reads(def, &tp.topic) {
                    continue;
                }
                gone.push(PartitionStatus {
                    table: *id,
                    table_name: def.qualified_name(),
                    topic: tp.topic.to_string(),
                    partition: Some(tp.partition),
                    state: PartitionState::Gone,
                    position: Some(position.offset),
                    end: None,
                    lag: Some(0),
                    rate: 0.0,
                });
            }
        }
        gone
    }

    /// What the world sees of this log.
    pub(crate) fn statuses(&mut self, now_us: i64) -> Vec<PartitionStatus> {
        self.update_rates(now_us);
        let mut statuses = Vec::new();
        let stuck = self.dataset.trouble();
        let trouble = self.trouble.as_deref().or(stuck.as_deref());
        for partition in self.partitions.values() {
            let end = self.log.end(&partition.tp);
            for table in &partition.tables {
                let state = match (table.state(&partition.phase, self.pressure.as_deref()), trouble)
                {
                    (PartitionState::Running, Some(trouble)) => {
                        PartitionState::Waiting { reason: trouble.to_string() }
                    }
                    (state, _) => state,
                };
                let lag = match end {
                    // What came meanwhile is not known.
                    _ if self.trouble.is_some() => None,
                    _ if partition.at_end && !table.paused => Some(0),
                    end => end.map(|end| end.saturating_sub(table.next).max(0)),
                };
                let rate = self.rates.get(&(table.id, partition.tp.clone()));
                statuses.push(PartitionStatus {
                    table: table.id,
                    table_name: table.def.qualified_name(),
                    topic: partition.tp.topic.to_string(),
                    partition: Some(partition.tp.partition),
                    state,
                    position: Some(table.published),
                    end,
                    lag,
                    rate: rate.map_or(0.0, |(_, rate)| *rate),
                });
            }
        }
        for (tp, waiting) in &self.waiting {
            let readers = self.tables.iter().filter(|(_, def)| reads(def, &tp.topic));
            statuses.extend(readers.map(|table| {
                waiting_status(table, &tp.topic, Some(tp.partition), &waiting.reason)
            }));
        }
        statuses.extend(self.gone());
        for (topic, reason) in &self.missing {
            let readers = self.tables.iter().filter(|(_, def)| source_names(def).contains(topic));
            statuses.extend(readers.map(|table| waiting_status(table, topic, None, reason)));
        }
        for table in trouble.iter().flat_map(|_| &self.tables) {
            if !statuses.iter().any(|status| status.table == table.0) {
                let names = source_names(&table.1).into_iter();
                let trouble = trouble.unwrap_or_default();
                statuses.extend(names.map(|topic| waiting_status(table, &topic, None, trouble)));
            }
        }
        statuses
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn update_rates(&mut self, now_us: i64) {
        let elapsed_us = now_us.saturating_sub(self.rated_at_us);
        if elapsed_us < 1_000_000 {
            return;
        }
        self.rated_at_us = now_us;
        let seconds = elapsed_us as f64 / 1e6;
        let mut rates = BTreeMap::new();
        for partition in self.partitions.values() {
            for table in &partition.tables {
                let key = (table.id, partition.tp.clone());
                let (before, rate) = self.rates.get(&key).copied().unwrap_or((0, 0.0));
                let newest = table.read.saturating_sub(before) as f64 / seconds;
                let rate = rate * (1.0 - RATE_WEIGHT) + newest * RATE_WEIGHT;
                rates.insert(key, (table.read, rate));
            }
        }
        self.rates = rates;
    }
}

/// The offset that an operator means.
fn reset_offset(tp: &TopicPartition, bounds: &Bounds, to: ResetTo) -> Result<i64> {
    match (to, bounds.high) {
        (ResetTo::Earliest, _) => Ok(bounds.low),
        (ResetTo::Latest, Some(high)) => Ok(high),
        (ResetTo::Latest, None) => Err(Error::invalid(format!("the end of {tp} is not known"))),
        (ResetTo::Offset(offset), high) => {
            let high = high.unwrap_or(i64::MAX);
            if (bounds.low..=high).contains(&offset) {
                return Ok(offset);
            }
            let low = bounds.low;
            Err(Error::invalid(format!(
                "offset {offset} is outside {tp}, which has {low} to {high}"
            )))
        }
    }
}

/// What is said of a topic or partition that a table cannot read yet.
fn waiting_status(
    (id, def): &(TableId, Arc<TableDef>),
    topic: &str,
    partition: Option<i32>,
    reason: &str,
) -> PartitionStatus {
    PartitionStatus {
        table: *id,
        table_name: def.qualified_name(),
        topic: topic.to_string(),
        partition,
        state: PartitionState::Waiting { reason: reason.to_string() },
        position: None,
        end: None,
        lag: None,
        rate: 0.0,
    }
}

/// Whether the table has a position anywhere in the topic.
fn knows(manifest: &Manifest, table: TableId, topic: &str) -> bool {
    manifest
        .tables
        .get(&table)
        .is_some_and(|state| state.positions.keys().any(|tp| &*tp.topic == topic))
}

/// What a table reads, as declared.
pub(crate) fn source_names(def: &TableDef) -> Vec<String> {
    match &def.source {
        Source::Topics(topics) => topics.clone(),
        Source::Pattern(name) | Source::File(name) => vec![name.clone()],
    }
}
