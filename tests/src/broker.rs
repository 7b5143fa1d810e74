//! Apache Kafka itself: one broker per test run (KRaft, loopback), or one of a test's own that it may stop and
//! start, or one that wants its clients to log in. Topics, records and transactions go through rdkafka.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::executor::block_on;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Message, Offset};

use crate::leash;
use crate::paths;
use crate::process::{Process, free_port, until};
use crate::secured::Secured;

const WAIT: Duration = Duration::from_secs(60);

/// A Kafka broker.
#[derive(Debug)]
pub struct Broker {
    folder: PathBuf,
    jars: PathBuf,
    port: u16,
    secured: Option<Secured>,
    process: Option<Process>,
}

static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
static SECURED: OnceLock<Result<Broker, String>> = OnceLock::new();
static TOPICS: AtomicU64 = AtomicU64::new(0);

/// Where Kafka's jars are, or why there are none.
pub fn jars() -> Result<PathBuf, String> {
    let cache = paths::cache();
    let mut found: Vec<PathBuf> = std::fs::read_dir(&cache)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.join("complete").is_file() && p.join("lib").is_dir())
        .collect();
    found.sort();
    let home = found.pop().ok_or("Kafka is not installed (tests/run --install)")?;
    Command::new("java").arg("-version").output().map_err(|_| "there is no java".to_owned())?;
    Ok(home.join("lib"))
}

impl Broker {
    /// The broker of this run, started on first use; or why there is none.
    pub fn shared() -> Result<&'static Self, String> {
        let jars = jars()?;
        let start = || Self::start(&jars, false).map_err(|e| format!("{e:#}"));
        SHARED.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    /// The broker of this run that wants its clients to log in, started on first use; or why there is none.
    /// What this harness does itself goes through a listener without security.
    pub fn secured() -> Result<(&'static Self, &'static Secured), String> {
        let jars = jars()?;
        let start = || Self::start(&jars, true).map_err(|e| format!("{e:#}"));
        let broker = SECURED.get_or_init(start).as_ref().map_err(Clone::clone)?;
        let secured = broker.secured.as_ref().ok_or("the broker has no security")?;
        Ok((broker, secured))
    }

    /// A broker for one test alone, which may stop it; or why there is none.
    pub fn own() -> Result<Self, String> {
        Self::start(&jars()?, false).map_err(|e| format!("{e:#}"))
    }

    fn start(jars: &Path, is_secured: bool) -> Result<Self> {
        let folder = leash::fresh_folder("kafka")?;
        let secured = is_secured.then(|| Secured::new(&folder)).transpose()?;
        let (jars, port) = (jars.to_owned(), free_port()?);
        let mut this = Self { folder, jars, port, secured, process: None };
        let properties = this.properties(free_port()?);
        std::fs::write(this.folder.join("server.properties"), properties)?;
        let id = uuid_text();
        let arguments = ["format", "--standalone", "--ignore-formatted", "-t", &id];
        let formatted = this
            .java("kafka.tools.StorageTool")
            .args(arguments)
            .args(["-c", "server.properties"])
            .args(this.secured.iter().flat_map(Secured::format_arguments))
            .output()?;
        anyhow::ensure!(
            formatted.status.success(),
            "kafka storage: {}",
            String::from_utf8_lossy(&formatted.stderr)
        );
        this.launch()?;
        Ok(this)
    }

    fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        let logging = paths::checkout().join("tests/kafka/log4j2.properties");
        java.current_dir(&self.folder)
            .args(["-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class);
        java
    }

    /// Topics are made for whoever asks for them, as is Kafka's default: what must not make one is seen to.
    fn properties(&self, controller: u16) -> String {
        let (port, data) = (self.port, self.folder.join("data"));
        let listeners = self.secured.as_ref().map(Secured::listeners).unwrap_or_default();
        let security = self.secured.as_ref().map(Secured::properties).unwrap_or_default();
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}{listeners}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
             log.dirs={}\nauto.create.topics.enable=true\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             share.coordinator.state.topic.num.partitions=4\n\
             group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
             log.initial.task.delay.ms=500\nlog.retention.check.interval.ms=1000\n\
             log.segment.delete.delay.ms=100\nlog.cleaner.backoff.ms=500\n\
             log.cleaner.dedupe.buffer.size=16777216\n\
             transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n{security}",
            data.display()
        )
    }

    /// Starts the process (again, on the same data) and waits until it answers a metadata request.
    pub fn launch(&mut self) -> Result<()> {
        let output = self.folder.join("output");
        let mut java = self.java("kafka.Kafka");
        let process = Process::start(java.arg("server.properties"), &output)?;
        self.process = Some(process);
        let client: BaseConsumer = self.client().create()?;
        let ended = until("Kafka", WAIT + WAIT, || {
            if let Some(process) = &mut self.process
                && let Some(status) = process.ended()?
            {
                return Ok(Some(format!("{status}: {}", process.tail(20))));
            }
            client.fetch_metadata(None, Duration::from_secs(5))?;
            Ok(None)
        })?;
        match ended {
            Some(words) => bail!("the broker ended with {words}"),
            None => Ok(()),
        }
    }

    /// Stops the process as an operator would (`SIGTERM`).
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(WAIT)?;
        }
        Ok(())
    }

    /// Sends the process a signal by name.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.as_ref().context("not started")?.signal(name)
    }

    /// Kills the process (`SIGKILL`).
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("log_level", "3");
        config
    }

    fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        Ok(self.client().create()?)
    }

    /// A topic name no other test of this broker has.
    pub fn topic_name(&self, stem: &str) -> String {
        format!("{stem}-{}", TOPICS.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a topic under a name of its own and gives the name.
    pub fn topic(&self, stem: &str, partitions: i32, config: &[(&str, &str)]) -> Result<String> {
        let name = self.topic_name(stem);
        self.create_topic(&name, partitions, config)?;
        Ok(name)
    }

    /// Creates a topic of this name and waits until it can be written.
    pub fn create_topic(&self, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = config.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let done = block_on(self.admin()?.create_topics([&topic], &AdminOptions::new()))?;
        done.into_iter().try_for_each(|r| r.map(drop)).map_err(|(t, e)| failed(&t, e))?;
        self.wait_partitions(name, partitions)
    }

    fn wait_partitions(&self, name: &str, partitions: i32) -> Result<()> {
        let client: BaseConsumer = self.client().create()?;
        until(&format!("topic {name}"), WAIT, || {
            let metadata = client.fetch_metadata(Some(name), Duration::from_secs(5))?;
            let ready = metadata.topics().first().map_or(0, |t| {
                t.partitions().iter().filter(|p| p.error().is_none() && p.leader() >= 0).count()
            });
            anyhow::ensure!(i32::try_from(ready)? == partitions, "{ready} partitions are ready");
            Ok(())
        })
    }

    /// Whether there is a topic of this name.
    pub fn has_topic(&self, name: &str) -> Result<bool> {
        let client: BaseConsumer = self.client().create()?;
        let metadata = client.fetch_metadata(None, Duration::from_secs(10))?;
        Ok(metadata.topics().iter().any(|t| t.name() == name))
    }

    /// Raises the number of partitions.
    pub fn add_partitions(&self, name: &str, partitions: i32) -> Result<()> {
        let wanted = NewPartitions::new(name, usize::try_from(partitions)?);
        let done = block_on(self.admin()?.create_partitions([&wanted], &AdminOptions::new()))?;
        done.into_iter().try_for_each(|r| r.map(drop)).map_err(|(t, e)| failed(&t, e))?;
        self.wait_partitions(name, partitions)
    }

    /// Deletes a topic and waits until it is gone.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let done = block_on(self.admin()?.delete_topics(&[name], &AdminOptions::new()))?;
        done.into_iter().try_for_each(|r| r.map(drop)).map_err(|(t, e)| failed(&t, e))?;
        let client: BaseConsumer = self.client().create()?;
        until(&format!("deletion of {name}"), WAIT, || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(5))?;
            anyhow::ensure!(metadata.topics().iter().all(|t| t.name() != name), "still listed");
            Ok(())
        })
    }

    /// Deletes the records of a partition before `offset`.
    pub fn truncate(&self, name: &str, partition: i32, offset: i64) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Offset(offset))?;
        let done = block_on(self.admin()?.delete_records(&list, &AdminOptions::new()))?;
        for element in done.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// First and next offset of a partition.
    pub fn watermarks(&self, name: &str, partition: i32) -> Result<(i64, i64)> {
        let client: BaseConsumer = self.client().create()?;
        Ok(client.fetch_watermarks(name, partition, Duration::from_secs(10))?)
    }

    /// Offsets of all records a committed reader sees in a partition now.
    pub fn offsets(&self, name: &str, partition: i32) -> Result<Vec<i64>> {
        self.read(name, partition, |message| message.offset())
    }

    /// Keys of all records a committed reader sees in a partition now, in the order of the log.
    pub fn keys(&self, name: &str, partition: i32) -> Result<Vec<Vec<u8>>> {
        self.read(name, partition, |message| message.key().unwrap_or_default().to_vec())
    }

    fn read<T>(
        &self,
        name: &str,
        partition: i32,
        wanted: impl Fn(&BorrowedMessage<'_>) -> T,
    ) -> Result<Vec<T>> {
        let client: BaseConsumer = self
            .client()
            .set("group.id", "otus-test-reader")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(name, partition, Offset::Beginning)?;
        client.assign(&list)?;
        let mut found = Vec::new();
        loop {
            match client.poll(Duration::from_secs(20)).context("no answer from the broker")? {
                Ok(message) => found.push(wanted(&message)),
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return Ok(found),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Joins the only group there is under the name that its member has, "alone", and goes away.
    pub fn put_out_the_only_member(&self, topic: &str) -> Result<()> {
        let client: BaseConsumer = self.client().create()?;
        let groups = client.fetch_group_list(None, Duration::from_secs(10))?;
        let group = groups.groups().first().context("there is no group")?.name().to_owned();
        let member: BaseConsumer = self
            .client()
            .set("group.id", &group)
            .set("group.instance.id", "alone")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .create()?;
        member.subscribe(&[topic])?;
        until("a place in the group", WAIT, || {
            drop(member.poll(Duration::from_millis(100)));
            anyhow::ensure!(member.assignment()?.count() > 0, "none yet");
            Ok(())
        })
    }

    /// A producer with these further properties.
    pub fn producer(&self, properties: &[(&str, &str)]) -> Result<Records> {
        let mut config = self.client();
        config.set("linger.ms", "5").set("enable.idempotence", "true");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        Ok(Records { producer: config.create_with_context(Deliveries::default())? })
    }
}

fn failed(topic: &str, code: RDKafkaErrorCode) -> anyhow::Error {
    anyhow::anyhow!("topic {topic}: {code}")
}

fn uuid_text() -> String {
    // Kafka's ids are 16 bytes in URL-safe base64; 22 letters of a hexadecimal id are a legal one.
    let hex = uuid::Uuid::from_u128(u128::from(std::process::id()) << 64 | 0x4f54_5553).simple();
    hex.to_string().chars().take(21).chain(['A']).collect()
}

#[derive(Debug, Default)]
struct Deliveries {
    done: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.done } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A producer that counts what the broker acknowledged.
pub struct Records {
    producer: BaseProducer<Deliveries>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("acknowledged", &self.acknowledged()).finish()
    }
}

/// One record to produce.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    /// Partition; by key or at random when none is given.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Payload; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Timestamp, milliseconds since the epoch; the broker's now when none is given.
    pub timestamp_ms: Option<i64>,
    /// Headers.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl Records {
    /// Queues a record.
    pub fn send(&self, topic: &str, record: &Record<'_>) -> Result<()> {
        loop {
            let mut next = BaseRecord::<[u8], [u8]>::to(topic);
            next.partition = record.partition;
            next.key = record.key;
            next.payload = record.value;
            next.timestamp = record.timestamp_ms;
            if !record.headers.is_empty() {
                let headers =
                    record.headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
                        all.insert(rdkafka::message::Header { key, value: Some(*value) })
                    });
                next = next.headers(headers);
            }
            match self.producer.send(next) {
                Ok(()) => return Ok(()),
                Err((error, _)) if queue_is_full(&error) => {
                    self.producer.poll(Duration::from_millis(20));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Queues a payload without key.
    pub fn value(&self, topic: &str, partition: i32, value: &[u8]) -> Result<()> {
        let partition = Some(partition);
        self.send(topic, &Record { partition, value: Some(value), ..Record::default() })
    }

    /// Waits until the broker has everything, and fails if it refused a record.
    pub fn flush(&self) -> Result<()> {
        self.producer.flush(WAIT)?;
        let failed = self.producer.context().failed.load(Ordering::Relaxed);
        anyhow::ensure!(failed == 0, "the broker refused {failed} records");
        Ok(())
    }

    /// Lets acknowledgements in.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Records the broker acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.producer.context().done.load(Ordering::Relaxed)
    }

    /// Registers the transactional id; fences its earlier owner.
    pub fn init_transactions(&self) -> Result<()> {
        Ok(self.producer.init_transactions(WAIT)?)
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<()> {
        Ok(self.producer.begin_transaction()?)
    }

    /// Commits the transaction.
    pub fn commit(&self) -> Result<()> {
        Ok(self.producer.commit_transaction(WAIT)?)
    }

    /// Aborts the transaction, its records being in the log already.
    pub fn abort(&self) -> Result<()> {
        self.producer.flush(WAIT)?;
        Ok(self.producer.abort_transaction(WAIT)?)
    }
}

fn queue_is_full(error: &rdkafka::error::KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}
