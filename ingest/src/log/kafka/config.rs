//! Kafka settings: what Otus fixes and therefore refuses, what it chooses unless told otherwise, and what passes
//! through to the client library.

use std::collections::BTreeMap;

use otus_engine::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

/// Settings on which correctness rests: key, value, why.
const FIXED: [(&str, &str, &str); 9] = [
    ("auto.offset.reset", "error", "a position that is gone must stop the partition, not move"),
    ("enable.auto.commit", "false", "positions are committed with the rows"),
    ("enable.auto.offset.store", "false", "positions are committed with the rows"),
    ("enable.partition.eof", "true", "being caught up is an event, not a subtraction"),
    ("partition.assignment.strategy", "cooperative-sticky", "only what moves is handed over"),
    ("group.protocol", "classic", "rebalances must wait for the flush"),
    ("isolation.level", "read_committed", "aborted transactions must not be counted"),
    ("allow.auto.create.topics", "false", "a missing topic is waited for, never made"),
    ("group.id", "", "Otus names the group after the dataset"),
];

/// Settings of the consumer that a configuration may change.
const CONSUMER_DEFAULTS: [(&str, &str); 9] = [
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "200"),
    ("queued.max.messages.kbytes", "65536"),
    ("session.timeout.ms", "10000"),
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("client.id", "otus"),
];

/// Settings of the producer behind `append` that a configuration may change.
const PRODUCER_DEFAULTS: [(&str, &str); 5] = [
    ("linger.ms", "5"),
    ("message.timeout.ms", "30000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("partitioner", "murmur2_random"),
    ("client.id", "otus"),
];

/// Checked settings of the connection to Kafka.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    properties: BTreeMap<String, String>,
    group: String,
    is_alone: bool,
}

impl KafkaConfig {
    /// Checks what is configured. All problems are told at once.
    pub fn new(properties: &BTreeMap<String, String>, group: String) -> Result<Self> {
        let mut problems = Vec::new();
        for (key, _, why) in FIXED.iter().filter(|(key, ..)| properties.contains_key(*key)) {
            problems.push(format!("{key} is fixed by Otus: {why}"));
        }
        if !properties.contains_key("bootstrap.servers") {
            problems.push("bootstrap.servers is missing".to_string());
        }
        if !problems.is_empty() {
            return Err(Error::invalid(format!("[kafka]: {}", problems.join("; "))));
        }
        let config = Self { properties: properties.clone(), group, is_alone: false };
        let refused: Vec<String> =
            properties.iter().filter_map(|(key, value)| refused(key, value)).collect();
        if !refused.is_empty() {
            return Err(Error::invalid(format!("[kafka]: {}", refused.join("; "))));
        }
        Ok(config)
    }

    /// Why a property cannot be configured, if Otus fixes it.
    pub fn fixed_reason(property: &str) -> Option<&'static str> {
        FIXED.iter().find(|(key, ..)| *key == property).map(|(_, _, why)| *why)
    }

    /// Says that no other process can read for this dataset. The group then knows the process by a fixed name,
    /// and one that was killed and started again has its partitions back at once.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.fill(&mut config, &CONSUMER_DEFAULTS);
        for (key, value, _) in FIXED {
            config.set(key, value);
        }
        config.set("group.id", &self.group);
        if self.is_alone && !self.properties.contains_key("group.instance.id") {
            config.set("group.instance.id", "alone");
        }
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        self.fill(&mut config, &PRODUCER_DEFAULTS);
        for (key, value) in
            [("enable.idempotence", "true"), ("acks", "all"), ("allow.auto.create.topics", "false")]
        {
            config.set(key, value);
        }
        config
    }

    fn fill(&self, config: &mut ClientConfig, defaults: &[(&str, &str)]) {
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in &self.properties {
            config.set(key, value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
    }
}

/// Why the client library refuses a property, if it does. Its own words hold the value, which may be a secret.
fn refused(key: &str, value: &str) -> Option<String> {
    use rdkafka::error::KafkaError::ClientConfig as Refused;
    use rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
    let mut config = ClientConfig::new();
    config.set(key, value);
    match config.create_native_config().map(drop) {
        Ok(()) => None,
        Err(Refused(RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Some(format!("{key:?} is no property of the Kafka client"))
        }
        Err(_) => Some(format!("the Kafka client refuses the value of {key:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> std::result::Result<(), String> {
        let properties = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        KafkaConfig::new(&properties, "g".into()).map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn fixed_settings_are_refused_all_at_once() {
        let servers = ("bootstrap.servers", "127.0.0.1:1");
        assert_eq!(
            check(&[servers, ("sasl.mechanism", "PLAIN"), ("fetch.wait.max.ms", "9")]),
            Ok(())
        );
        for (key, ..) in FIXED {
            let message = check(&[servers, (key, "x")]).unwrap_err();
            assert!(message.starts_with(&format!("[kafka]: {key} is fixed by Otus")), "{message}");
        }
        let message = check(&[("group.id", "x"), ("enable.auto.commit", "true")]).unwrap_err();
        assert_eq!(message.matches("fixed by Otus").count(), 2);
        assert!(message.contains("bootstrap.servers is missing"));
    }

    #[test]
    fn refusals_name_the_property_and_never_its_value() {
        let servers = ("bootstrap.servers", "127.0.0.1:1");
        let message =
            check(&[servers, ("sasl.pasword", "hunter2"), ("fetch.wait.max.ms", "s3cret")]);
        let expected = "[kafka]: the Kafka client refuses the value of \"fetch.wait.max.ms\"; \
                        \"sasl.pasword\" is no property of the Kafka client";
        assert_eq!(message, Err(expected.to_string()));
    }
}
