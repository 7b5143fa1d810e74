//! Why no broker answers. The client says so in several places, each of which tells a part: a refused login or
//! certificate as an error, a connection that the broker closed only in its log, and that no broker is left as an
//! error without a word on why. What is told on is the most telling of them.

use std::time::{Duration, Instant};

use otus_engine::Error;
use rdkafka::error::RDKafkaErrorCode;

/// How long a cause explains what follows: the client repeats one that goes on every 30 s.
const CAUSE: Duration = Duration::from_secs(70);
/// What the client calls the log lines of lost connections.
const LOST_CONNECTION: &str = "FAIL";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outage {
    is_on: bool,
    cause: Option<Cause>,
}

#[derive(Debug)]
struct Cause {
    weight: Weight,
    heard: Instant,
    text: String,
    hint: Option<&'static str>,
}

/// How much a cause explains; more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    NoBroker,
    Connection,
    Refusal,
}

impl Outage {
    /// Whether the client has lost its brokers.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A broker has answered. Whether that ends an outage.
    pub(super) fn end(&mut self) -> bool {
        self.cause = None;
        std::mem::take(&mut self.is_on)
    }

    /// An error of the client as a whole; what there is to tell, if it matters.
    pub(super) fn error(
        &mut self,
        code: RDKafkaErrorCode,
        fatal: bool,
        text: String,
    ) -> Option<Error> {
        use RDKafkaErrorCode as Code;
        let hint = hint_for(code);
        let weight = match code {
            _ if fatal || hint.is_some() => Weight::Refusal,
            Code::BrokerTransportFailure => Weight::Connection,
            Code::AllBrokersDown => Weight::NoBroker,
            _ => {
                tracing::debug!(%code, text, "error of the Kafka client");
                return None;
            }
        };
        self.is_on = true;
        Some(self.hear(Cause { weight, heard: Instant::now(), text, hint }))
    }

    /// A line of the client's log; what there is to tell, if it explains an outage.
    pub(super) fn logged(&mut self, facility: &str, line: &str) -> Option<Error> {
        if facility != LOST_CONNECTION {
            return None;
        }
        // `[thrd:…]: what happened`
        let text = line.split_once("]: ").map_or(line, |(_, text)| text).to_string();
        let weight = Weight::Connection;
        // A listener that wants TLS or a login hangs up at the first plain word.
        let hung_up = text.contains("Disconnected") && text.contains("APIVERSION_QUERY");
        let hint = hung_up.then_some("check security.protocol in [kafka]");
        let told = self.hear(Cause { weight, heard: Instant::now(), text, hint });
        self.is_on.then_some(told)
    }

    /// Keeps the weightier of the new cause and the one that is known, and tells it.
    fn hear(&mut self, new: Cause) -> Error {
        let explains = |old: &Cause| old.weight > new.weight && old.heard.elapsed() < CAUSE;
        match self.cause.take_if(|old| explains(old)) {
            Some(old) => self.cause.insert(old).told(),
            None => self.cause.insert(new).told(),
        }
    }
}

impl Cause {
    fn told(&self) -> Error {
        let error = Error::unavailable(format!("Kafka: {}", self.text));
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// What to do about an error that the configuration or the broker's rights cause.
fn hint_for(code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "check sasl.mechanism, sasl.username and sasl.password in [kafka]"
        }
        Code::SSL => "check security.protocol and ssl.ca.location in [kafka]",
        Code::Resolve => "check bootstrap.servers in [kafka]",
        Code::GroupAuthorizationFailed => {
            "allow the user to read the consumer group, which is named after the dataset"
        }
        Code::ClusterAuthorizationFailed => "the user lacks rights in the cluster",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_telling_cause_is_told() {
        use RDKafkaErrorCode as Code;
        let mut outage = Outage::default();
        let error = |outage: &mut Outage, code, text: &str| {
            outage.error(code, false, text.to_string()).map(|e| e.to_string())
        };
        assert_eq!(error(&mut outage, Code::QueueFull, "no matter"), None);
        // A connection that comes and goes is no outage.
        assert!(outage.logged("FAIL", "[thrd:a]: a: closed").is_none());
        assert!(!outage.is_on());
        let told = error(&mut outage, Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(told.as_deref(), Some("Kafka: a: closed"));
        let told = error(&mut outage, Code::SSL, "not trusted");
        assert_eq!(told.as_deref(), Some("Kafka: not trusted"));
        for code in [Code::AllBrokersDown, Code::BrokerTransportFailure] {
            let told = outage.error(code, false, "down".into()).unwrap();
            assert_eq!(told.to_string(), "Kafka: not trusted");
            assert!(told.hint().is_some_and(|hint| hint.contains("ssl.ca.location")));
        }
        assert!(outage.logged("FAIL", "a: closed").is_some());
        assert!(outage.end() && !outage.end());
        let told = error(&mut outage, Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(told.as_deref(), Some("Kafka: 1/1 brokers are down"));
        assert!(outage.logged("CONFWARN", "x").is_none());
        let told = outage.logged("FAIL", "[thrd:a]: a: closed").unwrap();
        assert_eq!(told.to_string(), "Kafka: a: closed");
    }
}
