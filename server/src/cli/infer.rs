//! `otus infer`: samples a file or a topic and prints a table section to begin with. What it prints is a
//! proposal: types are those of the sample.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use otus_engine::{Error, Result};
use otus_ingest::log::file::FileLog;
use otus_ingest::log::kafka::{KafkaConfig, KafkaLog};
use otus_ingest::log::{EventLog, LogEvent, Selection, StartAt};

use super::output;
use crate::infer::{Sample, quoted, section};

/// Longest wait for records of a topic.
const PATIENCE: Duration = Duration::from_secs(15);
/// One look at the log.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  otus infer events.ndjson.gz > otus.toml
  otus infer --topic clicks --kafka bootstrap.servers=localhost:9092")]
pub(crate) struct InferArgs {
    /// A file with one JSON object a line, plain, gzip or zstd
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    file: Option<PathBuf>,
    /// A Kafka topic instead
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
    /// A property of librdkafka; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    kafka: Vec<String>,
    /// Name of the table; the file's or topic's if not given
    #[arg(long)]
    name: Option<String>,
    /// Records to look at
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sample: u32,
}

pub(crate) async fn run(args: InferArgs) -> Result<ExitCode> {
    let limit = args.sample as usize;
    let work = tokio::task::spawn_blocking(move || infer(&args, limit));
    let text = work.await.map_err(|e| Error::internal("sampling ended").with_source(e))??;
    output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn infer(args: &InferArgs, limit: usize) -> Result<String> {
    let (mut log, source, subject): (Box<dyn EventLog>, String, String) =
        match (&args.file, &args.topic) {
            (Some(file), _) => {
                let path = file.display().to_string();
                if !file.is_file() {
                    return Err(Error::not_found(format!("there is no file {path:?}")));
                }
                (Box::new(FileLog::new(file, &path)), format!("file = {}", quoted(&path)), path)
            }
            (None, Some(topic)) => {
                let selection = Selection { names: vec![topic.clone()], patterns: Vec::new() };
                let group = format!("otus-infer-{}", std::process::id());
                let kafka = KafkaConfig::new(&properties(&args.kafka)?, group)?;
                let log = KafkaLog::new(&kafka, &selection)?;
                (Box::new(log), format!("topic = {}", quoted(topic)), topic.clone())
            }
            (None, None) => return Err(Error::invalid("give a file or a topic")),
        };
    let mut sample = Sample::default();
    let progress = output::spinner("records sampled");
    let read = read(log.as_mut(), &subject, limit, &mut sample, &|n| progress.set_position(n));
    progress.finish_and_clear();
    log.close();
    read?;
    if sample.records() == 0 {
        return Err(Error::not_found(format!("{subject:?} gave no JSON object")));
    }
    let name = args.name.clone().unwrap_or_else(|| crate::infer::table_name(&subject));
    Ok(section(&sample, &name, &source))
}

fn properties(given: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    let pair = |text: &String| {
        text.split_once('=')
            .map(|(key, value)| (key.trim().to_string(), value.trim().to_string()))
            .ok_or_else(|| Error::invalid(format!("{text:?} is not key=value")))
    };
    given.iter().map(pair).collect()
}

fn read(
    log: &mut dyn EventLog,
    subject: &str,
    limit: usize,
    sample: &mut Sample,
    progress: &dyn Fn(u64),
) -> Result<()> {
    let started = Instant::now();
    let mut events = Vec::new();
    let mut open = 0_usize;
    let mut ended = 0_usize;
    let mut trouble = None;
    while sample.records() < limit {
        if started.elapsed() > PATIENCE {
            if sample.records() > 0 {
                return Ok(());
            }
            let message = format!("no record of {subject:?} came in {} s", PATIENCE.as_secs());
            return Err(match trouble {
                Some(trouble) => Error::unavailable(message).with_source(trouble),
                None => Error::unavailable(message),
            });
        }
        log.poll(POLL, &mut events);
        for event in events.drain(..) {
            match event {
                LogEvent::Assigned(tps) => {
                    open += tps.len();
                    for tp in tps {
                        let offset = log.bounds(&tp)?.low;
                        log.start(&[StartAt { tp, offset, leader_epoch: None }])?;
                    }
                }
                LogEvent::Records(slice) => {
                    for record in slice.iter() {
                        if sample.records() < limit {
                            sample.add(record.value.unwrap_or_default());
                        }
                    }
                    progress(sample.records() as u64);
                }
                LogEvent::End { .. } => {
                    ended += 1;
                    if open > 0 && ended >= open {
                        return Ok(());
                    }
                }
                LogEvent::Finished(_) => return Ok(()),
                LogEvent::Missing { topic, reason } => {
                    return Err(Error::not_found(format!("{topic:?}: {reason}")));
                }
                LogEvent::Broken { error, .. } => return Err(error),
                LogEvent::Trouble(error) => {
                    if trouble.is_none() {
                        tracing::warn!(%error, "the log does not answer yet");
                    }
                    trouble = Some(error);
                }
                LogEvent::Healthy => trouble = None,
                LogEvent::Revoked(_) | LogEvent::Lost(_) => {}
            }
        }
    }
    Ok(())
}
