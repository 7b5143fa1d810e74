//! The configuration file: TOML in, definitions of the engine out. All problems are reported at once, each
//! with its place; unknown keys are errors. The shape of the file is in `docs/configuration.md`.

mod access;
mod column;
mod defaults;
mod limits;
mod names;
mod problem;
mod query;
mod rollup;
mod table;
mod tree;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use otus_engine::catalog::{Source, TableDef};
use otus_engine::dataset::FlushLimits;
use otus_engine::expr::ExpressionCompiler;
use otus_engine::store::StorageConfig;
use otus_engine::{Error, Result};
use otus_ingest::log::kafka::KafkaConfig;
use otus_ingest::log::local::LocalOptions;
use otus_sql::NamedQueryDef;
use otus_sql::access::RoleDef;

pub use problem::{Problem, Problems, Severity};
pub use tree::{Environment, SystemEnvironment};
pub use units::{human_bytes, parse_duration_us, parse_moment_us, parse_size_bytes};

use crate::auth::UserDef;
use table::PlacedTable;
use tree::{Section, Sink};

/// Where `serve` listens if the file says nothing.
const POSTGRES_DEFAULT: &str = "127.0.0.1:5433";
/// See [`POSTGRES_DEFAULT`].
const HTTP_DEFAULT: &str = "127.0.0.1:8080";
/// Each has a file handle.
const CONNECTIONS_MAX: usize = 100_000;
/// Sessions of the Postgres endpoint at a time, as Postgres has it.
const CONNECTIONS_DEFAULT: usize = 100;
/// Time that a stopping server gives to the last flush.
const SHUTDOWN_DEFAULT: Duration = Duration::from_secs(30);
/// Time without a request after which a signed-in session ends.
const SESSION_IDLE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// Time after which a signed-in session ends in any case.
const SESSION_LIFETIME_DEFAULT: Duration = Duration::from_secs(12 * 60 * 60);

/// Everything that one file declares.
#[derive(Clone)]
pub struct Config {
    /// Where the data lies.
    pub storage: StorageConfig,
    /// Properties of librdkafka; none = topics live in the embedded log.
    pub kafka: Option<BTreeMap<String, String>>,
    /// Where to listen.
    pub server: ServerConfig,
    /// The embedded log.
    pub local_log: LocalLogConfig,
    /// Bounds of queries.
    pub query: QueryConfig,
    /// What statements may declare.
    pub ddl: DdlConfig,
    /// When rows are written, when reading waits, and what is kept.
    pub limits: FlushLimits,
    /// Declared tables, in the order of the file.
    pub tables: Vec<TableDef>,
    /// Named queries, in the order of the file.
    pub queries: Vec<NamedQueryDef>,
    /// Who there is, and who may do what.
    pub access: AccessConfig,
    /// Problems that did not refuse the file.
    pub warnings: Vec<Problem>,
}

/// The `[server]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address of the Postgres endpoint.
    pub postgres: String,
    /// Address of the HTTP endpoint.
    pub http: String,
    /// Most sessions of the Postgres endpoint at a time.
    pub connections: usize,
    /// Host names under which HTTP may be asked, besides loopback and the address itself.
    pub hosts: Vec<String>,
    /// Time that a stopping server gives to the last flush.
    pub shutdown: Duration,
    /// With what connections are encrypted; none = they are not.
    pub tls: Option<TlsConfig>,
    /// Where the audit log goes: a file, or `stderr`; none = nowhere.
    pub audit: Option<String>,
    /// Time without a request after which a signed-in session ends.
    pub session_idle: Duration,
    /// Time after which a signed-in session ends in any case.
    pub session_lifetime: Duration,
}

/// The `[server.tls]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file of the certificate and those that lead to its authority.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
    /// Whose connections are refused if they are not encrypted.
    pub required: TlsRequired,
}

/// Who must encrypt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsRequired {
    /// Nobody; who can may.
    #[default]
    Nobody,
    /// Clients of other machines.
    Remote,
    /// Everybody.
    Everybody,
}

/// The `[users]` and `[roles]` sections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// Who may sign in; nobody = everybody is in, and may do everything.
    pub users: Vec<UserDef>,
    /// What users may be.
    pub roles: Vec<RoleDef>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            postgres: POSTGRES_DEFAULT.to_string(),
            http: HTTP_DEFAULT.to_string(),
            connections: CONNECTIONS_DEFAULT,
            hosts: Vec::new(),
            shutdown: SHUTDOWN_DEFAULT,
            tls: None,
            audit: None,
            session_idle: SESSION_IDLE_DEFAULT,
            session_lifetime: SESSION_LIFETIME_DEFAULT,
        }
    }
}

impl ServerConfig {
    /// The section of a file that can be read and is right; none otherwise. Expressions are not looked at.
    pub fn of_file(path: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(path).ok()?;
        let file = path.display().to_string();
        Config::parse(&file, &text, &SystemEnvironment, None).ok().map(|config| config.server)
    }
}

/// The `[query]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryConfig {
    /// Memory of all running queries together, bytes.
    pub memory_bytes: Option<u64>,
    /// Threads that run queries.
    pub threads: Option<usize>,
    /// A statement that runs longer is stopped.
    pub timeout: Option<Duration>,
    /// Memory for answers that may be given again, bytes.
    pub result_cache_bytes: Option<u64>,
    /// Memory for states of rollups that are kept decoded, bytes.
    pub states_cache_bytes: Option<u64>,
    /// Memory for raw rows that are kept decoded, bytes.
    pub rows_cache_bytes: Option<u64>,
}

/// The `[ddl]` section: what statements may declare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DdlConfig {
    /// Names of topics, or beginnings of names followed by `*`; none = statements declare nothing.
    pub topics: Vec<String>,
}

impl DdlConfig {
    /// Whether a statement may name this topic.
    pub fn allows(&self, topic: &str) -> bool {
        self.topics.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => allowed == topic,
        })
    }
}

/// The `[local_log]` section: the embedded log, for those without Kafka.
#[derive(Debug, Clone, Default)]
pub struct LocalLogConfig {
    /// Its folder; beside the data if they lie in a local folder.
    pub folder: Option<PathBuf>,
    /// How it keeps records.
    pub options: LocalOptions,
}

impl Config {
    /// A configuration without tables over this storage URL: for programs that embed Otus.
    pub fn new(storage_url: impl Into<String>) -> Self {
        Self {
            storage: StorageConfig { url: storage_url.into(), options: BTreeMap::new() },
            kafka: None,
            server: ServerConfig::default(),
            local_log: LocalLogConfig::default(),
            query: QueryConfig::default(),
            ddl: DdlConfig::default(),
            limits: FlushLimits::default(),
            tables: Vec::new(),
            queries: Vec::new(),
            access: AccessConfig::default(),
            warnings: Vec::new(),
        }
    }

    /// Reads a file. The error lists all problems.
    pub fn load(path: &Path, compiler: &dyn ExpressionCompiler) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            let error = Error::not_found(format!("configuration {:?} cannot be read: {e}", path));
            error.with_hint("`otus infer` prints a section to begin with; -c names another file")
        })?;
        let environment = SystemEnvironment;
        Self::parse(&path.display().to_string(), &text, &environment, Some(compiler))
            .map_err(Error::from)
    }

    /// Reads the text of a file. Without a compiler expressions are not looked at.
    pub fn parse(
        file: &str,
        text: &str,
        environment: &dyn Environment,
        compiler: Option<&dyn ExpressionCompiler>,
    ) -> Result<Self, Problems> {
        let sink = Sink::new(text, environment);
        let document = tree::parse(&sink, text);
        let mut config = read(&Section::root(&sink, &document), compiler);
        drop(document);
        let list = sink.into_problems();
        if list.iter().any(|p| p.severity == Severity::Error) {
            return Err(Problems { file: file.to_string(), list });
        }
        config.warnings = list;
        Ok(config)
    }

    /// Whether tables may read topics of the embedded log: one of the file does, or statements may declare one
    /// or have done so.
    pub fn uses_local_log(&self, stored: &[&TableDef]) -> bool {
        let mut tables = self.tables.iter().chain(stored.iter().copied());
        let reads = tables.any(|t| !matches!(t.source, Source::File(_)));
        self.kafka.is_none() && (reads || !self.ddl.topics.is_empty())
    }
}

/// Whether a column of this name would be refused, or need quotes in SQL.
pub(crate) fn is_awkward_name(name: &str) -> bool {
    names::column_refusal(name).is_some() || names::stumbling_block(name).is_some()
}

impl fmt::Debug for Config {
    /// Values of `[kafka]` and of storage options may be secrets and are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("storage", &self.storage.url)
            .field("kafka", &self.kafka.as_ref().map(|k| k.keys().collect::<Vec<_>>()))
            .field("server", &self.server)
            .field("query", &self.query)
            .field("limits", &self.limits)
            .field("tables", &self.tables)
            .field("queries", &self.queries)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

fn read(root: &Section<'_>, compiler: Option<&dyn ExpressionCompiler>) -> Config {
    let mut config = Config::new("file:./otus-data");
    if let Some(section) = root.take("storage").and_then(|n| n.section()) {
        storage(section, &mut config.storage);
    }
    config.kafka = root.take("kafka").and_then(|n| n.section()).map(|s| kafka(&s));
    if let Some(section) = root.take("server").and_then(|n| n.section()) {
        server(section, &mut config.server);
    }
    if let Some(section) = root.take("local_log").and_then(|n| n.section()) {
        local_log(&section, &mut config.local_log);
    }
    if let Some(section) = root.take("query").and_then(|n| n.section()) {
        query(section, &mut config.query);
    }
    if let Some(section) = root.take("ddl").and_then(|n| n.section()) {
        ddl(&section, &mut config.ddl);
    }
    if let Some(section) = root.take("limits").and_then(|n| n.section()) {
        limits::limits(&section, &mut config.limits, &mut config.query);
    }
    if let Some(section) = root.take("tables").and_then(|n| n.section()) {
        let has_kafka = config.kafka.is_some();
        let entries = section.entries();
        let placed: Vec<PlacedTable<'_>> = entries
            .iter()
            .filter_map(|(name, node)| table::table(&section, name, node, has_kafka, compiler))
            .collect();
        check_collisions(&placed);
        config.tables = placed.into_iter().map(|p| p.def).collect();
    }
    if let Some(section) = root.take("queries").and_then(|n| n.section()) {
        let tables = (compiler.is_some() && root.is_sound()).then_some(config.tables.as_slice());
        config.queries = query::queries(&section, tables);
    }
    config.access = access::access(root, &config, compiler.is_some());
    root.finish();
    config
}

fn storage(section: Section<'_>, storage: &mut StorageConfig) {
    if let Some(node) = section.take("url")
        && let Some(url) = node.text()
    {
        let known = ["file:", "s3://", "memory:"].iter().any(|scheme| url.starts_with(scheme));
        if !known {
            node.error_hint(
                format!("unknown storage {url:?}"),
                "\"file:./otus-data\", \"s3://bucket/prefix\" or \"memory:\"",
            );
        }
        storage.url = url;
    }
    for (key, node) in section.entries() {
        if key == "url" {
            continue;
        }
        let Some((name, value)) = property(&key, &node) else { continue };
        match storage.check_option(&name) {
            Ok(()) => {
                storage.options.insert(name, value);
            }
            Err(e) => {
                let hint = e.hint().unwrap_or_default();
                section.report_key(&key, Severity::Error, e.to_string(), hint);
            }
        }
    }
}

/// A property, or one whose value lies in a file (`password_file`).
fn property(key: &str, node: &tree::Node<'_>) -> Option<(String, String)> {
    match key.strip_suffix("_file") {
        Some(key) => Some((key.to_string(), node.file_text()?)),
        None => Some((key.to_string(), node.scalar_text()?)),
    }
}

fn kafka(section: &Section<'_>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    collect_properties("", section, &mut properties);
    if !properties.contains_key("bootstrap.servers") {
        section.error_hint(
            "\"bootstrap.servers\" is missing",
            "for example bootstrap.servers = \"localhost:9092\"",
        );
    } else if let Err(error) = KafkaConfig::new(&properties, "otus".into()) {
        section.error_hint(error.to_string(), "librdkafka's CONFIGURATION.md lists its properties");
    }
    properties
}

/// `bootstrap.servers` without quotes is a table in a table to TOML; both spellings mean the property.
fn collect_properties(prefix: &str, section: &Section<'_>, into: &mut BTreeMap<String, String>) {
    for (key, node) in section.entries() {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        if node.is_table() {
            if let Some(section) = node.section() {
                collect_properties(&name, &section, into);
            }
            continue;
        }
        let Some((name, value)) = property(&name, &node) else { continue };
        if let Some(why) = KafkaConfig::fixed_reason(&name) {
            node.error_hint(format!("property {name:?} is fixed by Otus: {why}"), "remove it");
            continue;
        }
        into.insert(name, value);
    }
}

fn server(section: Section<'_>, server: &mut ServerConfig) {
    for (key, target) in [("postgres", &mut server.postgres), ("http", &mut server.http)] {
        if let Some(node) = section.take(key)
            && let Some(address) = node.text()
        {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_))) {
                node.error_hint(
                    format!("{address:?} is not an address with a port"),
                    "for example \"127.0.0.1:5433\"",
                );
            }
            *target = address;
        }
    }
    if let Some(node) = section.take("connections") {
        let connections = node.integer().and_then(|n| usize::try_from(n).ok());
        match connections.filter(|n| (1..=CONNECTIONS_MAX).contains(n)) {
            Some(connections) => server.connections = connections,
            None => node.error(format!("connections must be between 1 and {CONNECTIONS_MAX}")),
        }
    }
    if let Some(hosts) = section.take("hosts").and_then(|n| n.names()) {
        server.hosts = hosts.into_iter().map(|(host, _)| host).collect();
    }
    if let Some(shutdown) = section.take("shutdown").and_then(|n| duration(&n)) {
        server.shutdown = shutdown;
    }
    server.tls = section.take("tls").and_then(|n| n.section()).and_then(|s| access::tls(&s));
    server.audit = section.take("audit").and_then(|n| n.text());
    if let Some(idle) = section.take("session_idle").and_then(|n| duration(&n)) {
        server.session_idle = idle;
    }
    if let Some(lifetime) = section.take("session_lifetime").and_then(|n| duration(&n)) {
        server.session_lifetime = lifetime;
    }
    section.finish();
}

fn local_log(section: &Section<'_>, local: &mut LocalLogConfig) {
    local.folder = section.take("folder").and_then(|n| n.text()).map(PathBuf::from);
    let options = &mut local.options;
    if let Some(us) = section.take("retention").and_then(|n| n.duration_us()) {
        options.retention_us = Some(us);
    }
    options.retention_bytes = section.take("retention_bytes").and_then(|n| n.size_bytes());
    if let Some(us) = section.take("delete_retention").and_then(|n| n.duration_us()) {
        options.delete_retention_us = us;
    }
    if let Some(node) = section.take("partitions") {
        let partitions = node.integer().and_then(|n| i32::try_from(n).ok());
        match partitions.filter(|n| (1..=1_024).contains(n)) {
            Some(partitions) => options.partitions = partitions,
            None => node.error("partitions must be between 1 and 1024"),
        }
    }
    section.finish();
}

fn query(section: Section<'_>, query: &mut QueryConfig) {
    query.memory_bytes = section.take("memory").and_then(|n| n.size_bytes());
    if let Some(node) = section.take("threads") {
        let threads = node.integer().and_then(|n| usize::try_from(n).ok());
        query.threads = threads.filter(|n| (1..=1024).contains(n));
        if query.threads.is_none() {
            node.error("threads must be between 1 and 1024");
        }
    }
    query.timeout = section.take("timeout").and_then(|n| duration(&n));
    section.finish();
}

fn ddl(section: &Section<'_>, ddl: &mut DdlConfig) {
    for (name, node) in section.take("topics").and_then(|n| n.names()).unwrap_or_default() {
        let fixed = name.strip_suffix('*').unwrap_or(&name);
        if !name.is_empty() && fixed.chars().all(table::is_of_topic) {
            ddl.topics.push(name);
        } else {
            node.error_hint(
                format!("{name:?} is neither a topic's name nor the beginning of some"),
                "for example \"clicks\", or \"team-*\"; \"*\" allows every topic",
            );
        }
    }
    section.finish();
}

fn duration(node: &tree::Node<'_>) -> Option<Duration> {
    node.duration_us().and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros)
}

/// Tables and the finished views of rollups share one name space per schema.
fn check_collisions(tables: &[PlacedTable<'_>]) {
    let mut owners: BTreeMap<(&str, String), String> = BTreeMap::new();
    for table in tables {
        let key = (table.def.schema.as_str(), table.def.name.clone());
        if owners.insert(key, format!("table {:?}", table.def.name)).is_some() {
            let name = table.def.qualified_name();
            table.node.error_hint(
                format!("there is another table {name:?}"),
                "give one of them another name or schema",
            );
        }
    }
    for table in tables {
        for (rollup, node) in table.def.rollups.iter().zip(&table.rollups) {
            for granularity in &rollup.granularities {
                let view = rollup.view_name(*granularity);
                let what = format!("the view of rollup {:?} of {:?}", rollup.name, table.def.name);
                let key = (table.def.schema.as_str(), view.clone());
                if let Some(other) = owners.insert(key, what) {
                    node.error_hint(
                        format!("its view {view:?} collides with {other}"),
                        "rename the rollup",
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
