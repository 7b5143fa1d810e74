//! What the broker says of a topic's settings. Only keyed tables ask.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use otus_engine::Result;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::config::KafkaConfig;
use super::{ASK, broker_error};
use crate::log::TopicPolicy;

/// Kafka's own default of `delete.retention.ms`.
const DELETE_RETENTION_MS: i64 = 86_400_000;

/// How long an answer is good for.
const KNOWN: Duration = Duration::from_secs(5);

/// See the module. The client is made with the first question.
pub(super) struct Admin {
    config: KafkaConfig,
    client: Option<AdminClient<DefaultClientContext>>,
    /// What was last answered, and when: all partitions of a topic ask at once.
    known: BTreeMap<String, (Instant, Option<TopicPolicy>)>,
}

impl Admin {
    pub(super) fn new(config: &KafkaConfig) -> Self {
        Self { config: config.clone(), client: None, known: BTreeMap::new() }
    }

    /// None if the broker refuses to tell.
    pub(super) fn policy(&mut self, topic: &str) -> Result<Option<TopicPolicy>> {
        if let Some((_, policy)) = self.known.get(topic).filter(|(at, _)| at.elapsed() < KNOWN) {
            return Ok(*policy);
        }
        let policy = self.ask(topic)?;
        self.known.insert(topic.to_string(), (Instant::now(), policy));
        Ok(policy)
    }

    fn ask(&mut self, topic: &str) -> Result<Option<TopicPolicy>> {
        let refused = |e| broker_error(&format!("the settings of topic {topic:?} are unknown"), e);
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(self.config.producer().create().map_err(refused)?),
        };
        // The request has a time limit of its own.
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = client.describe_configs(asked.iter(), &options);
        let answers = futures::executor::block_on(answer).map_err(refused)?;
        match answers.into_iter().next() {
            Some(Ok(resource)) => Ok(Some(policy(&resource))),
            Some(Err(code)) => {
                tracing::warn!(topic, %code, "the settings of a keyed topic cannot be seen");
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

fn policy(resource: &ConfigResource) -> TopicPolicy {
    let value = |name: &str| resource.get(name).and_then(|entry| entry.value.clone());
    let cleanup = value("cleanup.policy").unwrap_or_else(|| "delete".to_string());
    let has = |wanted: &str| cleanup.split(',').any(|policy| policy.trim() == wanted);
    let retention = value("delete.retention.ms").and_then(|ms| ms.parse::<i64>().ok());
    TopicPolicy {
        compacts: has("compact"),
        deletes: has("delete"),
        delete_retention_us: retention.unwrap_or(DELETE_RETENTION_MS).saturating_mul(1_000),
    }
}
