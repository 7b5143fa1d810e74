//! The few calls of librdkafka that its Rust wrapper lacks, made safe: errors and ends with their topic,
//! leader epochs, topic ids. Unsafe code of Otus stands here, where a thread stands back, and at the
//! allocator in `server/src/main.rs`.
#![expect(unsafe_code, reason = "the wrapper drops the topic of errors and knows no topic ids")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use otus_engine::position::TopicPartition;
use rdkafka::bindings as c;
use rdkafka::error::RDKafkaErrorCode;

/// Something that happened on the consumer's queue; borrowed until the next poll.
#[derive(Debug)]
pub(super) enum Polled<'a> {
    Message(RawMessage<'a>),
    /// An error of one partition (or of a topic: partition -1), or the end of a partition.
    Partition {
        topic: String,
        partition: i32,
        offset: i64,
        code: RDKafkaErrorCode,
        text: String,
    },
    /// An error of the client as a whole.
    Client {
        code: RDKafkaErrorCode,
        fatal: bool,
        text: String,
    },
    Rebalance {
        assign: bool,
        tps: Vec<TopicPartition>,
    },
    Log {
        level: c_int,
        facility: String,
        text: String,
    },
    Other,
}

/// A record as the client library holds it.
#[derive(Debug)]
pub(super) struct RawMessage<'a> {
    message: &'a c::rd_kafka_message_t,
}

/// The consumer's queue. Must go before its consumer does.
#[derive(Debug)]
pub(super) struct Queue {
    queue: NonNull<c::rd_kafka_queue_t>,
}

// SAFETY: librdkafka's queues may be used from any thread; this handle is used from one at a time.
unsafe impl Send for Queue {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is destroyed once.
        unsafe { c::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// Destroys an event when it goes.
struct Event(NonNull<c::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event came from a queue poll and is destroyed once.
        unsafe { c::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings end with a zero byte and live as long as what they were taken from.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

fn millis(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX)
}

impl Queue {
    /// The queue of a consumer. `client` must be a live consumer that outlives the queue.
    pub(super) fn of(client: *mut c::rd_kafka_t) -> Option<Self> {
        // SAFETY: the caller hands in a live client.
        let queue = unsafe { c::rd_kafka_queue_get_consumer(client) };
        NonNull::new(queue).map(|queue| Self { queue })
    }

    /// Waits for the next event and shows it to `visit`. False if there was none.
    pub(super) fn poll(&mut self, wait: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> bool {
        // SAFETY: the queue is live.
        let event = unsafe { c::rd_kafka_queue_poll(self.queue.as_ptr(), millis(wait)) };
        let Some(event) = NonNull::new(event).map(Event) else { return false };
        let pointer = event.0.as_ptr();
        // SAFETY: the event is live until `event` is dropped, after the visit.
        match unsafe { c::rd_kafka_event_type(pointer) } {
            c::RD_KAFKA_EVENT_FETCH => loop {
                // SAFETY: messages live as long as their event.
                let message = unsafe { c::rd_kafka_event_message_next(pointer).as_ref() };
                let Some(message) = message else { break };
                visit(shown(message));
            },
            c::RD_KAFKA_EVENT_ERROR => visit(error_of(pointer)),
            c::RD_KAFKA_EVENT_REBALANCE => visit(rebalance_of(pointer)),
            c::RD_KAFKA_EVENT_LOG => visit(log_of(pointer)),
            _ => visit(Polled::Other),
        }
        true
    }
}

fn shown(message: &c::rd_kafka_message_t) -> Polled<'_> {
    let message = RawMessage { message };
    if message.message.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Polled::Message(message);
    }
    // SAFETY: the message is live.
    let text = text(unsafe { c::rd_kafka_message_errstr(message.message) });
    Polled::Partition {
        topic: message.topic(),
        partition: message.message.partition,
        offset: message.message.offset,
        code: message.message.err.into(),
        text,
    }
}

fn error_of<'a>(event: *mut c::rd_kafka_event_t) -> Polled<'a> {
    // SAFETY: the event is live; a topic-partition taken from it is ours and destroyed once.
    unsafe {
        let code = c::rd_kafka_event_error(event).into();
        let message = text(c::rd_kafka_event_error_string(event));
        let place = c::rd_kafka_event_topic_partition(event);
        match place.as_ref() {
            Some(found) => {
                let (topic, partition, offset) = (text(found.topic), found.partition, found.offset);
                c::rd_kafka_topic_partition_destroy(place);
                Polled::Partition { topic, partition, offset, code, text: message }
            }
            None => {
                let fatal = c::rd_kafka_event_error_is_fatal(event) != 0;
                Polled::Client { code, fatal, text: message }
            }
        }
    }
}

fn rebalance_of<'a>(event: *mut c::rd_kafka_event_t) -> Polled<'a> {
    let assign = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    // SAFETY: the event is live and owns the list, whose elements are `cnt` in number.
    unsafe {
        let assign = c::rd_kafka_event_error(event) == assign;
        let list = c::rd_kafka_event_topic_partition_list(event);
        let tps = list.as_ref().map_or_else(Vec::new, |list| {
            let count = usize::try_from(list.cnt).unwrap_or(0);
            if count == 0 || list.elems.is_null() {
                return Vec::new();
            }
            let elements = slice::from_raw_parts(list.elems, count);
            elements.iter().map(|e| TopicPartition::new(text(e.topic), e.partition)).collect()
        });
        Polled::Rebalance { assign, tps }
    }
}

fn log_of<'a>(event: *mut c::rd_kafka_event_t) -> Polled<'a> {
    let (mut facility, mut message, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: the event is live and owns the strings.
    let result = unsafe { c::rd_kafka_event_log(event, &mut facility, &mut message, &mut level) };
    if result != 0 {
        return Polled::Other;
    }
    Polled::Log { level, facility: text(facility), text: text(message) }
}

impl<'a> RawMessage<'a> {
    /// Tells topics apart without reading their names; valid while the topic is assigned.
    pub(super) fn topic_handle(&self) -> usize {
        self.message.rkt.addr()
    }
    pub(super) fn topic(&self) -> String {
        // SAFETY: a fetched message holds its topic.
        text(unsafe { c::rd_kafka_topic_name(self.message.rkt) })
    }
    pub(super) fn partition(&self) -> i32 {
        self.message.partition
    }
    pub(super) fn offset(&self) -> i64 {
        self.message.offset
    }
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        bytes(self.message.key, self.message.key_len)
    }
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        bytes(self.message.payload, self.message.len)
    }
    /// Milliseconds since the epoch, if the broker keeps timestamps.
    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is live.
        let at = unsafe { c::rd_kafka_message_timestamp(self.message, &mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && at >= 0)
            .then_some(at)
    }
    pub(super) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is live.
        let epoch = unsafe { c::rd_kafka_message_leader_epoch(self.message) };
        (epoch >= 0).then_some(epoch)
    }
    /// Shows all headers in order.
    pub(super) fn headers(&self, visit: &mut dyn FnMut(&[u8], Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is live and owns its headers; names end with a zero byte.
        unsafe {
            let found = c::rd_kafka_message_headers(self.message, &mut headers);
            if found != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            for at in 0.. {
                let more =
                    c::rd_kafka_header_get_all(headers, at, &mut name, &mut value, &mut size);
                if more != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return;
                }
                visit(CStr::from_ptr(name).to_bytes(), bytes(value, size));
            }
        }
    }
}

fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the library gives the length of what it points to; both live as long as the message.
    Some(unsafe { slice::from_raw_parts(pointer.cast(), length) })
}

/// The end of a partition as last heard by the client, without asking.
pub(super) fn cached_high(client: *mut c::rd_kafka_t, tp: &TopicPartition) -> Option<i64> {
    let topic = CString::new(&*tp.topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is live and copies the name.
    let result = unsafe {
        c::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), tp.partition, &mut low, &mut high)
    };
    (result == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// Sets the leader epoch of an element of a partition list, so that a cut log is noticed.
pub(super) fn set_leader_epoch(
    list: *mut c::rd_kafka_topic_partition_list_t,
    at: usize,
    epoch: i32,
) {
    // SAFETY: the list is live and the element is within its count.
    unsafe {
        let Some(list) = list.as_ref() else { return };
        if at < usize::try_from(list.cnt).unwrap_or(0) {
            c::rd_kafka_topic_partition_set_leader_epoch(list.elems.add(at), epoch);
        }
    }
}

/// Ids of topics, as the broker gives them; topics that are not there are left out. None if the broker does not
/// answer or knows no ids.
pub(super) fn topic_ids(
    client: *mut c::rd_kafka_t,
    topics: &[String],
    wait: Duration,
) -> Option<BTreeMap<String, String>> {
    let names: Vec<CString> =
        topics.iter().map(|t| CString::new(t.as_str())).collect::<Result<_, _>>().ok()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|n| n.as_ptr()).collect();
    // SAFETY: everything made here is destroyed here; the result is read before its event goes.
    unsafe {
        let api = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = c::rd_kafka_AdminOptions_new(client, api);
        let queue = c::rd_kafka_queue_new(client);
        let names =
            c::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let mut problem: [c_char; 128] = [0; 128];
        c::rd_kafka_AdminOptions_set_request_timeout(
            options,
            millis(wait),
            problem.as_mut_ptr(),
            problem.len(),
        );
        c::rd_kafka_DescribeTopics(client, names, options, queue);
        let event = NonNull::new(c::rd_kafka_queue_poll(queue, millis(wait) + 1_000)).map(Event);
        c::rd_kafka_TopicCollection_destroy(names);
        c::rd_kafka_AdminOptions_destroy(options);
        let ids = event.as_ref().and_then(|event| read_topic_ids(event.0.as_ptr()));
        drop(event);
        c::rd_kafka_queue_destroy(queue);
        ids
    }
}

fn read_topic_ids(event: *mut c::rd_kafka_event_t) -> Option<BTreeMap<String, String>> {
    // SAFETY: the event is live and owns all that is read of it.
    unsafe {
        let none = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if c::rd_kafka_event_error(event) != none {
            return None;
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut ids = BTreeMap::new();
        for at in 0..count {
            let topic = *topics.add(at);
            if c::rd_kafka_error_code(c::rd_kafka_TopicDescription_error(topic)) != none {
                continue;
            }
            let id = c::rd_kafka_TopicDescription_topic_id(topic);
            if !id.is_null() {
                let name = text(c::rd_kafka_TopicDescription_name(topic));
                ids.insert(name, text(c::rd_kafka_Uuid_base64str(id)));
            }
        }
        Some(ids)
    }
}

/// Whether the broker surely has not got a message: it was never sent, or it was refused.
pub(super) fn is_unwritten(message: &rdkafka::message::BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is live while it is borrowed.
    let status = unsafe { c::rd_kafka_message_status(message.ptr()) };
    status == c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

/// All properties of the client library with their scope: `C`, `P` or `*` for both.
#[cfg(test)]
pub(super) fn property_scopes() -> Vec<(String, String)> {
    unsafe extern "C" {
        fn fopen(path: *const c_char, mode: *const c_char) -> *mut c_void;
        fn fclose(file: *mut c_void) -> c_int;
    }
    let path = std::env::temp_dir().join(format!("otus-properties-{}", crate::log::unique()));
    let name = CString::new(path.display().to_string()).unwrap();
    // SAFETY: the file is open while the library writes to it and is closed once.
    unsafe {
        let file = fopen(name.as_ptr(), c"w".as_ptr());
        assert!(!file.is_null());
        c::rd_kafka_conf_properties_show(file.cast());
        fclose(file);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let cells = |line: &str| -> Option<(String, String)> {
        let mut cells = line.split('|').map(|cell| cell.trim().to_string());
        Some((cells.next()?, cells.next()?))
    };
    text.lines()
        .filter_map(cells)
        .filter(|(_, scope)| ["C", "P", "*"].contains(&&**scope))
        .collect()
}
